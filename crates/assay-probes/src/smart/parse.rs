//! Reads the JSON of `smartctl`: three different trees for ATA, NVMe and SCSI, and text where JSON is silent.
//!
//! Nothing is guessed: a key that is missing gives `None`. smartctl 7.3 (Debian 12) leaves some facts out of its
//! JSON that it prints as text (NVMe temperature limits and optional commands, SCSI non-medium errors); they are
//! taken from the text that `--json=o` keeps beside the tree.

use assay_model::host::smart::{
    AtaCounters, DiskClass, DiskCounters, DiskTemperature, NvmeCounters, ScsiCounters, SmartReading,
    SmartSupport, SmartctlExit,
};
use assay_model::text::clean;
use serde_json::Value;

/// Most messages kept of one call.
const MAX_MESSAGES: usize = 16;

/// One `smartctl -x`, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Which command set.
    pub class: DiskClass,
    /// Serial number as the disk tells it.
    pub serial: Option<String>,
    /// World-wide name: `0x5000c500a1b2c3d4`.
    pub wwn: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Whether there was health data.
    pub support: SmartSupport,
    /// Whether it can test itself.
    pub self_test_supported: Option<bool>,
    /// How long the disk says that its short self-test takes.
    pub self_test_minutes: Option<u64>,
    /// Its numbers.
    pub reading: SmartReading,
}

/// Reads the output of `smartctl --json=o -x`, which exited with `status`.
pub fn parse(json: &Value, status: u8) -> Parsed {
    let class = class_of(json);
    let exit = SmartctlExit::of(status);
    let text = Text(json);
    let counters = match class {
        DiskClass::Ata => ata(json).map(DiskCounters::Ata),
        DiskClass::Nvme => nvme(json).map(DiskCounters::Nvme),
        DiskClass::Scsi => scsi(json, &text).map(DiskCounters::Scsi),
        DiskClass::Unknown => None,
    };
    let passed = json.pointer("/smart_status/passed").and_then(Value::as_bool);
    let told_something = passed.is_some() || counters.is_some();
    let support = if exit.command_line || exit.device_open {
        SmartSupport::Unreadable
    } else if json.pointer("/smart_support/available") == Some(&Value::Bool(false)) {
        SmartSupport::Unsupported
    } else if told_something {
        SmartSupport::Available
    } else {
        SmartSupport::Unreadable
    };
    Parsed {
        class,
        serial: string(json, "/serial_number"),
        wwn: wwn(json),
        model: string(json, "/model_name").or_else(|| string(json, "/scsi_model_name")),
        support,
        self_test_supported: self_test_supported(json, class, &text),
        self_test_minutes: number(json, "/ata_smart_data/self_test/polling_minutes/short"),
        reading: SmartReading {
            exit,
            passed,
            temperature: temperature(json, &text),
            power_on_hours: number(json, "/power_on_time/hours")
                .or_else(|| number(json, "/nvme_smart_health_information_log/power_on_hours")),
            percentage_used: percentage_used(json, &text),
            solid_state: match class {
                DiskClass::Nvme => Some(true),
                _ => number(json, "/rotation_rate").map(|rpm| rpm == 0),
            },
            error_log_entries: number(json, "/nvme_smart_health_information_log/num_err_log_entries")
                .or_else(|| number(json, "/ata_smart_error_log/extended/count"))
                .or_else(|| number(json, "/ata_smart_error_log/summary/count")),
            self_test_failures: number(json, "/ata_smart_self_test_log/extended/error_count_total")
                .or_else(|| number(json, "/ata_smart_self_test_log/standard/error_count_total")),
            counters,
            messages: messages(json),
        },
    }
}

/// The version of the `smartctl` that wrote this.
pub fn version(json: &Value) -> Option<String> {
    let parts = json.pointer("/smartctl/version")?.as_array()?;
    let parts: Option<Vec<String>> =
        parts.iter().take(4).map(|part| part.as_u64().map(|n| n.to_string())).collect();
    parts.filter(|parts| !parts.is_empty()).map(|parts| parts.join("."))
}

/// The text that `--json=o` keeps, one line per item, as a file.
pub fn text_of(json: &Value) -> Option<String> {
    let lines: Vec<&str> = Text(json).lines().collect();
    if lines.is_empty() { None } else { Some(lines.join("\n") + "\n") }
}

struct Text<'a>(&'a Value);

impl<'a> Text<'a> {
    fn lines(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0
            .pointer("/smartctl/output")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
    }

    /// What follows `label` on its line.
    fn after(&self, label: &str) -> Option<&'a str> {
        self.lines().find_map(|line| line.trim_start().strip_prefix(label)).map(str::trim)
    }

    /// The number that follows `label`; `70 Celsius`, `3%` and `1,024` are numbers.
    fn number(&self, label: &str) -> Option<u64> {
        let digits: String =
            self.after(label)?.chars().filter(|c| *c != ',').take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    }
}

fn number(json: &Value, pointer: &str) -> Option<u64> {
    json.pointer(pointer).and_then(Value::as_u64)
}

fn string(json: &Value, pointer: &str) -> Option<String> {
    json.pointer(pointer).and_then(Value::as_str).map(clean).filter(|text| !text.is_empty())
}

fn class_of(json: &Value) -> DiskClass {
    match json.pointer("/device/protocol").and_then(Value::as_str) {
        Some("ATA") => DiskClass::Ata,
        Some("NVMe") => DiskClass::Nvme,
        Some("SCSI") => DiskClass::Scsi,
        _ => DiskClass::Unknown,
    }
}

fn wwn(json: &Value) -> Option<String> {
    let part = |name: &str| number(json, &format!("/wwn/{name}"));
    match (part("naa"), part("oui"), part("id")) {
        (Some(naa @ 0..=0xf), Some(oui @ 0..=0xff_ffff), Some(id @ 0..=0xf_ffff_ffff)) => {
            Some(format!("0x{naa:x}{oui:06x}{id:09x}"))
        }
        _ => string(json, "/logical_unit_id"),
    }
}

fn temperature(json: &Value, text: &Text<'_>) -> DiskTemperature {
    let celsius = |name: &str| json.pointer(&format!("/temperature/{name}")).and_then(Value::as_i64);
    let named = |name: &str| {
        json.pointer(&format!("/nvme_composite_temperature_threshold/{name}")).and_then(Value::as_i64)
    };
    let printed = |label: &str| text.number(label).and_then(|n| i64::try_from(n).ok());
    // A limit of 0 means that there is none.
    let limit = |value: Option<i64>| value.filter(|celsius| *celsius > 0);
    DiskTemperature {
        current_c: celsius("current"),
        warning_c: limit(
            celsius("op_limit_max")
                .or_else(|| named("warning"))
                .or_else(|| printed("Warning  Comp. Temp. Threshold:")),
        ),
        critical_c: limit(
            celsius("critical_limit_max")
                .or_else(|| celsius("limit_max"))
                .or_else(|| celsius("drive_trip"))
                // Until 7.3.
                .or_else(|| json.pointer("/scsi_temperature/drive_trip").and_then(Value::as_i64))
                .or_else(|| named("critical"))
                .or_else(|| printed("Critical Comp. Temp. Threshold:")),
        ),
    }
}

fn percentage_used(json: &Value, text: &Text<'_>) -> Option<u64> {
    let statistic = || {
        let pages = json.pointer("/ata_device_statistics/pages")?.as_array()?;
        let rows = pages.iter().filter_map(|page| page["table"].as_array()).flatten();
        let row = rows.into_iter().find(|row| row["name"] == "Percentage Used Endurance Indicator")?;
        // The flag says whether the disk keeps this number at all.
        let valid = row.pointer("/flags/valid").and_then(Value::as_bool).unwrap_or(true);
        row["value"].as_u64().filter(|_| valid)
    };
    number(json, "/nvme_smart_health_information_log/percentage_used")
        .or_else(|| number(json, "/endurance_used/current_percent"))
        .or_else(|| number(json, "/scsi_percentage_used_endurance_indicator"))
        .or_else(statistic)
        .or_else(|| text.number("Percentage used endurance indicator:"))
}

fn self_test_supported(json: &Value, class: DiskClass, text: &Text<'_>) -> Option<bool> {
    match class {
        DiskClass::Ata => {
            json.pointer("/ata_smart_data/capabilities/self_tests_supported").and_then(Value::as_bool)
        }
        DiskClass::Nvme => json
            .pointer("/nvme_optional_admin_commands/self_test")
            .and_then(Value::as_bool)
            .or_else(|| json.get("nvme_self_test_log").map(|_| true))
            .or_else(|| text.after("Optional Admin Commands").map(|list| list.contains("Self_Test"))),
        DiskClass::Scsi => {
            let can = json.get("scsi_self_test_0").is_some()
                || json.get("scsi_extended_self_test_seconds").is_some();
            let cannot = text.lines().any(|line| line.contains("does not support Self Test logging"));
            if can {
                Some(true)
            } else if cannot {
                Some(false)
            } else {
                None
            }
        }
        DiskClass::Unknown => None,
    }
}

fn ata(json: &Value) -> Option<AtaCounters> {
    let table = json.pointer("/ata_smart_attributes/table")?.as_array()?;
    let raw = |id: u64| {
        table
            .iter()
            .find(|row| row["id"].as_u64() == Some(id))
            .and_then(|row| row.pointer("/raw/value")?.as_u64())
    };
    let failed = |when: &str| {
        let rows = table.iter().filter(|row| row["when_failed"] == when);
        rows.filter_map(|row| row["name"].as_str()).map(clean).collect()
    };
    Some(AtaCounters {
        reallocated: raw(5),
        spin_retry: raw(10),
        end_to_end: raw(184),
        reported_uncorrect: raw(187),
        // Some makers pack three 16-bit counters into it; the lowest is the total.
        command_timeout: raw(188).map(|packed| packed & 0xffff),
        pending: raw(197),
        offline_uncorrectable: raw(198),
        crc: raw(199),
        failing_now: failed("now"),
        failed_before: failed("past"),
    })
}

fn nvme(json: &Value) -> Option<NvmeCounters> {
    let log = json.get("nvme_smart_health_information_log")?;
    let field = |name: &str| log.get(name).and_then(Value::as_u64);
    Some(NvmeCounters {
        critical_warning: field("critical_warning").and_then(|byte| u8::try_from(byte).ok()),
        available_spare: field("available_spare"),
        available_spare_threshold: field("available_spare_threshold"),
        media_errors: field("media_errors"),
        unsafe_shutdowns: field("unsafe_shutdowns"),
        warning_temp_minutes: field("warning_temp_time"),
        critical_temp_minutes: field("critical_comp_time"),
    })
}

fn scsi(json: &Value, text: &Text<'_>) -> Option<ScsiCounters> {
    let uncorrected =
        |kind: &str| number(json, &format!("/scsi_error_counter_log/{kind}/total_uncorrected_errors"));
    let code =
        |name: &str| number(json, &format!("/smart_status/scsi/{name}")).and_then(|n| u8::try_from(n).ok());
    let counters = ScsiCounters {
        grown_defects: number(json, "/scsi_grown_defect_list"),
        uncorrected_read: uncorrected("read"),
        uncorrected_write: uncorrected("write"),
        uncorrected_verify: uncorrected("verify"),
        non_medium: text.number("Non-medium error count:"),
        ie_asc: code("asc"),
        ie_ascq: code("ascq"),
    };
    (counters != ScsiCounters::default()).then_some(counters)
}

fn messages(json: &Value) -> Vec<String> {
    let list = json.pointer("/smartctl/messages").and_then(Value::as_array);
    let texts = list.into_iter().flatten().filter_map(|message| message["string"].as_str());
    texts.map(clean).take(MAX_MESSAGES).collect()
}
