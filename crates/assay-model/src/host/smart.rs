//! What disks say about their own health: the evidence of the stage `SMART`.
//!
//! Numbers only, as `smartctl` told them, before and after a self-test. What they mean (which of them fail a
//! disk) is decided by the judge in `assay-pipelines`, so that the same evidence can be judged again under other
//! limits. A number that was not told is `None`, never 0: the difference is what keeps a silent disk from passing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The evidence of one attempt of the stage `SMART`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SmartEvidence {
    /// Version of the `smartctl` that was used, such as `7.4`.
    #[serde(default)]
    pub smartctl_version: Option<String>,
    /// Every disk that the kernel knows, in the order of their names.
    pub disks: Vec<SmartDisk>,
    /// Serial numbers or WWNs that were expected and seen on no disk.
    #[serde(default)]
    pub expected_but_absent: Vec<String>,
    /// What went wrong and belongs to no disk.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SmartDisk {
    /// The kernel's name (`sda`, `nvme0n1`): a location, not an identity.
    pub name: String,
    /// Serial number.
    #[serde(default)]
    pub serial: Option<String>,
    /// World-wide name, as the kernel or the disk spells it.
    #[serde(default)]
    pub wwn: Option<String>,
    /// Model.
    #[serde(default)]
    pub model: Option<String>,
    /// Which command set it speaks.
    pub class: DiskClass,
    /// Whether there is anything to read.
    pub support: SmartSupport,
    /// The reading before the self-test.
    #[serde(default)]
    pub before: Option<SmartReading>,
    /// The reading after the self-test.
    #[serde(default)]
    pub after: Option<SmartReading>,
    /// The self-test.
    pub self_test: SelfTest,
    /// Names of the artifacts with the raw output.
    #[serde(default)]
    pub artifacts: Vec<String>,
    /// What went wrong with this disk.
    #[serde(default)]
    pub problems: Vec<String>,
}

impl SmartDisk {
    /// The latest reading.
    pub fn latest(&self) -> Option<&SmartReading> {
        self.after.as_ref().or(self.before.as_ref())
    }
}

/// The command set that a disk speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskClass {
    /// NVM Express.
    Nvme,
    /// ATA and SATA, also behind a SAS controller.
    Ata,
    /// SCSI and SAS.
    Scsi,
    /// It did not tell.
    Unknown,
}

/// Whether a disk has health data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SmartSupport {
    /// It has, and it was read.
    Available,
    /// It is a virtual disk: there is nothing to read, by construction.
    Virtual,
    /// The disk, or the controller in front of it, says that it has none.
    Unsupported,
    /// It may have, and could not be read.
    Unreadable,
}

/// The exit status of `smartctl`: a mask of eight facts, not one code.
#[expect(clippy::struct_excessive_bools, reason = "eight independent bits of one byte, named")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SmartctlExit {
    /// The byte itself.
    pub status: u8,
    /// Bit 0: the command line was not understood, or the device type could not be found out.
    pub command_line: bool,
    /// Bit 1: the device could not be opened, did not identify itself, or sleeps.
    pub device_open: bool,
    /// Bit 2: a command to the disk failed, or a checksum in its data was wrong.
    pub command_failed: bool,
    /// Bit 3: the disk says of itself that it is failing.
    pub disk_failing: bool,
    /// Bit 4: a pre-failure attribute is at or below its threshold now.
    pub prefail_now: bool,
    /// Bit 5: an attribute was at or below its threshold some time in the past, or a usage attribute is now.
    pub attribute_before: bool,
    /// Bit 6: the error log has entries.
    pub error_log: bool,
    /// Bit 7: the self-test log has failures.
    pub self_test_log: bool,
}

impl SmartctlExit {
    /// Names the bits of an exit status.
    pub const fn of(status: u8) -> Self {
        Self {
            status,
            command_line: status & 1 != 0,
            device_open: status & 1 << 1 != 0,
            command_failed: status & 1 << 2 != 0,
            disk_failing: status & 1 << 3 != 0,
            prefail_now: status & 1 << 4 != 0,
            attribute_before: status & 1 << 5 != 0,
            error_log: status & 1 << 6 != 0,
            self_test_log: status & 1 << 7 != 0,
        }
    }
}

/// What one call of `smartctl -x` said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SmartReading {
    /// How `smartctl` exited.
    pub exit: SmartctlExit,
    /// The disk's own overall verdict; `None` when it gave none.
    #[serde(default)]
    pub passed: Option<bool>,
    /// Temperature and the disk's own limits.
    #[serde(default)]
    pub temperature: DiskTemperature,
    /// Hours powered on.
    #[serde(default)]
    pub power_on_hours: Option<u64>,
    /// Endurance used, percent of what the maker promises; can exceed 100. Solid-state disks only.
    #[serde(default)]
    pub percentage_used: Option<u64>,
    /// Whether it has no moving parts; `None` when it did not tell.
    #[serde(default)]
    pub solid_state: Option<bool>,
    /// Entries ever made in its error log.
    #[serde(default)]
    pub error_log_entries: Option<u64>,
    /// Failures in its self-test log.
    #[serde(default)]
    pub self_test_failures: Option<u64>,
    /// The counters of its class; `None` when there were none to read.
    #[serde(default)]
    pub counters: Option<DiskCounters>,
    /// Messages of `smartctl` itself.
    #[serde(default)]
    pub messages: Vec<String>,
}

/// A disk's temperature, in degrees Celsius.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskTemperature {
    /// Now.
    #[serde(default)]
    pub current_c: Option<i64>,
    /// The disk's own warning limit (NVMe WCTEMP; highest recommended operating temperature of ATA).
    #[serde(default)]
    pub warning_c: Option<i64>,
    /// The disk's own critical limit (NVMe CCTEMP; ATA limit; SCSI trip temperature).
    #[serde(default)]
    pub critical_c: Option<i64>,
}

/// Counters by class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "class", rename_all = "lowercase")]
pub enum DiskCounters {
    /// ATA attributes.
    Ata(AtaCounters),
    /// NVMe health log.
    Nvme(NvmeCounters),
    /// SCSI log pages.
    Scsi(ScsiCounters),
}

/// Raw values of the ATA attributes that matter. The number is the attribute's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AtaCounters {
    /// 5: sectors replaced by spares.
    #[serde(default)]
    pub reallocated: Option<u64>,
    /// 10: attempts to spin up again.
    #[serde(default)]
    pub spin_retry: Option<u64>,
    /// 184: data that changed on its way through the disk.
    #[serde(default)]
    pub end_to_end: Option<u64>,
    /// 187: errors that its ECC could not repair.
    #[serde(default)]
    pub reported_uncorrect: Option<u64>,
    /// 188: commands that took too long.
    #[serde(default)]
    pub command_timeout: Option<u64>,
    /// 197: sectors waiting to be replaced.
    #[serde(default)]
    pub pending: Option<u64>,
    /// 198: sectors that cannot be read.
    #[serde(default)]
    pub offline_uncorrectable: Option<u64>,
    /// 199: transfers with a wrong checksum: cable, backplane or connector.
    #[serde(default)]
    pub crc: Option<u64>,
    /// Names of attributes that are at or below their threshold now.
    #[serde(default)]
    pub failing_now: Vec<String>,
    /// Names of attributes that were at or below their threshold in the past.
    #[serde(default)]
    pub failed_before: Vec<String>,
}

/// The NVMe health log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NvmeCounters {
    /// The critical warning byte; its bits have names in [`NvmeCounters::warnings`].
    #[serde(default)]
    pub critical_warning: Option<u8>,
    /// Spare blocks left, percent.
    #[serde(default)]
    pub available_spare: Option<u64>,
    /// The disk's own threshold for them, percent.
    #[serde(default)]
    pub available_spare_threshold: Option<u64>,
    /// Data that could not be repaired.
    #[serde(default)]
    pub media_errors: Option<u64>,
    /// Power lost without notice.
    #[serde(default)]
    pub unsafe_shutdowns: Option<u64>,
    /// Minutes above the warning temperature.
    #[serde(default)]
    pub warning_temp_minutes: Option<u64>,
    /// Minutes above the critical temperature.
    #[serde(default)]
    pub critical_temp_minutes: Option<u64>,
}

impl NvmeCounters {
    /// The critical warnings that are set, in words. A bit without a name is named by its number.
    pub fn warnings(&self) -> Vec<String> {
        const NAMES: [&str; 6] = [
            "spare below threshold",
            "temperature beyond a threshold",
            "reliability degraded",
            "read-only",
            "volatile memory backup failed",
            "persistent memory region read-only or unreliable",
        ];
        let byte = self.critical_warning.unwrap_or(0);
        (0..8)
            .filter(|bit| byte & 1 << bit != 0)
            .map(|bit| NAMES.get(bit).map_or_else(|| format!("bit {bit}"), |name| (*name).to_owned()))
            .collect()
    }
}

/// What SCSI log pages say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScsiCounters {
    /// Sectors that became defective after manufacture.
    #[serde(default)]
    pub grown_defects: Option<u64>,
    /// Reads that could not be corrected.
    #[serde(default)]
    pub uncorrected_read: Option<u64>,
    /// Writes that could not be corrected.
    #[serde(default)]
    pub uncorrected_write: Option<u64>,
    /// Verifications that could not be corrected.
    #[serde(default)]
    pub uncorrected_verify: Option<u64>,
    /// Errors that are not of the medium: cable, expander, buffer.
    #[serde(default)]
    pub non_medium: Option<u64>,
    /// Additional sense code of the informational exception; 0x5d is a failure prediction.
    #[serde(default)]
    pub ie_asc: Option<u8>,
    /// Its qualifier.
    #[serde(default)]
    pub ie_ascq: Option<u8>,
}

/// A disk's short self-test during this stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SelfTest {
    /// Whether the disk can; `None` when it did not tell.
    #[serde(default)]
    pub supported: Option<bool>,
    /// How it ended.
    pub outcome: SelfTestOutcome,
    /// How long it took, in seconds.
    #[serde(default)]
    pub seconds: Option<u64>,
    /// The disk's own words, or why it did not run.
    #[serde(default)]
    pub detail: String,
}

impl SelfTest {
    /// A self-test that was not tried, and why.
    pub fn not_run(supported: Option<bool>, detail: impl Into<String>) -> Self {
        Self { supported, outcome: SelfTestOutcome::NotRun, seconds: None, detail: detail.into() }
    }
}

/// How a self-test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SelfTestOutcome {
    /// A new entry in the disk's log says that it completed without error.
    Passed,
    /// A new entry in the disk's log says that it failed.
    Failed,
    /// It was interrupted by a reset, another command or another test.
    Aborted,
    /// It was still running when the time limit came.
    TimedOut,
    /// It was asked for, and the disk's log shows no sign of it.
    NotStarted,
    /// It was not asked for.
    NotRun,
}

/// Whether two spellings name the same disk: serial numbers differ in case and padding, WWNs in their prefix
/// (`0x5000…`, `naa.5000…`, `eui.…`, `nvme.…`). Empty text names nothing.
pub fn same_identity(one: &str, other: &str) -> bool {
    let one = plain_identity(one);
    !one.is_empty() && one == plain_identity(other)
}

fn plain_identity(raw: &str) -> String {
    let lower = raw.trim().to_ascii_lowercase();
    let bare = ["0x", "naa.", "eui.", "wwn-0x"].iter().find_map(|prefix| lower.strip_prefix(prefix));
    bare.unwrap_or(&lower).chars().filter(|c| !c.is_whitespace()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_disk_is_known_by_its_spellings() {
        assert!(same_identity("naa.5000C500A1B2C3D4", "0x5000c500a1b2c3d4"));
        assert!(same_identity("NV1                 ", "nv1"));
        assert!(same_identity("WD-WX1", " wd-wx1"));
        assert!(!same_identity("", " "), "nothing is nobody");
        assert!(!same_identity("SN1", "SN11"));
    }

    #[test]
    fn every_exit_bit_has_its_own_name() {
        let named = |exit: SmartctlExit| {
            [
                exit.command_line,
                exit.device_open,
                exit.command_failed,
                exit.disk_failing,
                exit.prefail_now,
                exit.attribute_before,
                exit.error_log,
                exit.self_test_log,
            ]
        };
        assert_eq!(named(SmartctlExit::of(0)), [false; 8]);
        for bit in 0..8_usize {
            let mut expected = [false; 8];
            expected[bit] = true;
            assert_eq!(named(SmartctlExit::of(1 << bit)), expected, "bit {bit}");
        }
        assert_eq!(named(SmartctlExit::of(255)), [true; 8]);
    }

    #[test]
    fn nvme_warnings_are_named_and_unknown_bits_are_not_lost() {
        let warnings = |byte| NvmeCounters { critical_warning: byte, ..NvmeCounters::default() }.warnings();
        assert_eq!(warnings(Some(5)), ["spare below threshold", "reliability degraded"]);
        assert_eq!(warnings(Some(0x80)), ["bit 7"]);
        assert!(warnings(Some(0)).is_empty());
        assert!(warnings(None).is_empty());
    }

    #[test]
    fn the_stored_spelling_stays() {
        let disk = SmartDisk {
            name: "sda".into(),
            serial: Some("SN".into()),
            wwn: None,
            model: None,
            class: DiskClass::Nvme,
            support: SmartSupport::Virtual,
            before: None,
            after: None,
            self_test: SelfTest {
                supported: None,
                outcome: SelfTestOutcome::TimedOut,
                seconds: Some(3),
                detail: String::new(),
            },
            artifacts: Vec::new(),
            problems: Vec::new(),
        };
        let json = serde_json::to_value(&disk).expect("plain data");
        assert_eq!(json["class"], "nvme");
        assert_eq!(json["support"], "virtual");
        assert_eq!(json["self_test"]["outcome"], "timed_out");
        assert_eq!(serde_json::from_value::<SmartDisk>(json).expect("what was written"), disk);
    }
}
