//! The management controller's sensors, supplies and event log, asked in-band through `ipmitool`.
//!
//! The tool prints warnings beside data and sometimes exits with a failure after printing everything, so its output
//! is read line by line and what does not read is left out; an answer without one usable line is a problem.

use std::time::Duration;

use assay_model::host::counters::{BmcEvent, BmcLog};
use assay_model::host::psu::{RailKind, RailLimits};
use assay_model::text::{clean, clean_to};
use assay_process::{Cmd, ProcessError};

use crate::Machine;

/// A controller with hundreds of sensors needs most of this over its slow port.
const LIMIT: Duration = Duration::from_mins(1);
/// Records of the log that are looked at after a stage.
const MAX_EVENTS: usize = 64;
/// More sensors than a controller can have.
const MAX_SENSORS: usize = 1024;

/// One reading of one sensor.
#[derive(Clone, Debug, PartialEq)]
pub struct BmcSensor {
    /// Its name.
    pub name: String,
    /// What it measures.
    pub kind: RailKind,
    /// `V`, `RPM`, `W` …
    pub unit: String,
    /// `None` when the controller has no reading now.
    pub value: Option<f64>,
    /// Its own thresholds.
    pub limits: RailLimits,
}

/// Whether the kernel has a device for a management controller.
pub fn present(machine: &Machine) -> bool {
    ["dev/ipmi0", "dev/ipmi/0", "dev/ipmidev/0"].iter().any(|path| machine.path(path).exists())
}

/// All threshold sensors, each with its reading.
///
/// # Errors
/// A sentence for the evidence.
pub async fn sensors(machine: &Machine) -> Result<Vec<BmcSensor>, String> {
    let output = ask(machine, &["sensor"]).await?;
    let sensors: Vec<_> = output.lines().filter_map(sensor).take(MAX_SENSORS).collect();
    if sensors.is_empty() {
        return Err("the management controller lists no sensor with a reading (ipmitool sensor)".to_owned());
    }
    Ok(sensors)
}

/// The state of each power supply, and of their redundancy: name and what the controller says.
///
/// # Errors
/// A sentence for the evidence.
pub async fn supplies(machine: &Machine) -> Result<Vec<(String, String)>, String> {
    let output = ask(machine, &["sdr", "type", "Power Supply"]).await?;
    Ok(output.lines().filter_map(supply).take(MAX_SENSORS).collect())
}

/// The event log: where it ends, and with `since` what came after that.
///
/// # Errors
/// A sentence for the evidence. A machine without a controller is `Ok(None)`.
pub(crate) async fn log(machine: &Machine, since: Option<&BmcLog>) -> Result<Option<BmcLog>, String> {
    if !present(machine) {
        return Ok(None);
    }
    let count = if since.is_some() { MAX_EVENTS.to_string() } else { "1".to_owned() };
    let output = ask(machine, &["sel", "elist", "last", &count]).await?;
    let events: Vec<BmcEvent> = output.lines().filter_map(event).collect();
    let last = events.last().map(|event| event.id.clone());
    let Some(since) = since else {
        return Ok(Some(BmcLog { last, new: Vec::new(), restarted: false }));
    };
    let known = since.last.as_ref().map(|last| events.iter().position(|event| event.id == *last));
    let (new, restarted) = match known {
        // The log was empty before: all of it is new.
        None => (events, false),
        Some(Some(at)) => (events[at + 1..].to_vec(), false),
        // More than fit since then, or a log that begins anew: what there is now is what is known.
        Some(None) => (events, true),
    };
    Ok(Some(BmcLog { last, new, restarted }))
}

async fn ask(machine: &Machine, args: &[&str]) -> Result<String, String> {
    let asked = args.join(" ");
    let output = Cmd::new(machine.tool("ipmitool"))
        .args(args.iter().copied())
        .timeout(LIMIT)
        .max_output(4 << 20)
        .run()
        .await
        .map_err(|problem| match problem {
            ProcessError::Timeout { after, .. } => {
                format!(
                    "ipmitool {asked} did not end within {} s; the management controller hangs",
                    after.as_secs()
                )
            }
            other => clean_to(&format!("ipmitool {asked}: {other}"), 400),
        })?;
    let text = output.stdout_text().into_owned();
    if text.trim().is_empty() && !output.success() {
        return Err(clean_to(&format!("ipmitool {asked} failed: {}", output.last_words()), 400));
    }
    Ok(text)
}

/// `P12V | 11.280 | Volts | cr | lnr | lcr | lnc | unc | ucr | unr`.
fn sensor(line: &str) -> Option<BmcSensor> {
    let columns: Vec<&str> = line.split('|').map(str::trim).collect();
    let [name, value, unit, _, lnr, lcr, lnc, unc, ucr, unr] = columns[..] else { return None };
    let (kind, unit) = match unit {
        "Volts" => (RailKind::Voltage, "V"),
        "RPM" => (RailKind::Fan, "RPM"),
        // Fans of some controllers count in percent; other percentages are not fans.
        "percent" if name.to_lowercase().contains("fan") => (RailKind::Fan, "%"),
        "Watts" => (RailKind::Power, "W"),
        "Amps" => (RailKind::Other, "A"),
        _ => return None,
    };
    let number = |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite());
    Some(BmcSensor {
        name: clean(name),
        kind,
        unit: unit.to_owned(),
        value: number(value),
        limits: RailLimits {
            // Where only the outermost is set, it is the critical one.
            low_critical: number(lcr).or(number(lnr)),
            low_warning: number(lnc),
            high_warning: number(unc),
            high_critical: number(ucr).or(number(unr)),
        },
    })
}

/// `PSU2 | 09h | ok | 10.2 | Presence detected, Failure detected`.
fn supply(line: &str) -> Option<(String, String)> {
    let columns: Vec<&str> = line.split('|').map(str::trim).collect();
    let [name, number, status, _, said] = columns[..] else { return None };
    number.strip_suffix('h').filter(|hex| hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
    // `ns`: disabled or not there; the controller then says `Disabled` or `No Reading`.
    let said = if said.is_empty() { status } else { said };
    (!name.is_empty()).then(|| (clean(name), clean(said)))
}

/// ` 2a | 11/21/2026 | 11:39:00 | Voltage P12V | Lower Critical going low | Asserted | …`.
fn event(line: &str) -> Option<BmcEvent> {
    let mut columns = line.split('|').map(str::trim);
    let id = columns.next().filter(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let rest: Vec<&str> = columns.collect();
    // Its time stands in front: date and time in two columns, or `Pre-Init` in one. The record is what comes after.
    let from = if rest.first()?.contains('/') { 2 } else { 1 };
    let text = rest.get(from..).filter(|rest| !rest.is_empty())?.join(" | ");
    Some(BmcEvent { id: id.to_lowercase(), text: clean(&text) })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    const SENSORS: &str = "Unable to Get Channel Cipher Suites\n\
        P12V             | 11.280     | Volts      | cr    | 10.800    | 11.400    | 11.580    | 12.420    | 12.600    | 13.200    \n\
        FAN1             | 6000.000   | RPM        | ok    | 600.000   | 900.000   | 1200.000  | 12000.000 | 12600.000 | 13200.000 \n\
        FAN3             | na         | RPM        | na    | na        | na        | na        | na        | na        | na        \n\
        CPU              | 41.000     | degrees C  | ok    | 1.000     | 2.000     | 3.000     | 75.000    | 85.000    | 95.000    \n\
        PSU2             | 0x0        | discrete   | 0x0380| na        | na        | na        | na        | na        | na        \n\
        Pwr Consumption  | 182.000    | Watts      | ok    | na        | na        | na        | 400.000   | na        | 480.000   \n";

    /// A folder of tools with an `ipmitool` that answers from files, and a machine with a controller.
    pub(crate) fn machine_with_bmc(root: &Path, script: &str) -> Machine {
        let tools = root.join("tools");
        fs::create_dir_all(&tools).expect("folder");
        fs::create_dir_all(root.join("dev")).expect("folder");
        fs::write(root.join("dev/ipmi0"), "").expect("written");
        let tool = tools.join("ipmitool");
        fs::write(&tool, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("executable");
        Machine::captured(root, Some(tools))
    }

    #[tokio::test]
    async fn thresholds_are_the_sensors_own_and_no_reading_is_none() {
        let root = tempfile::tempdir().expect("folder");
        fs::write(root.path().join("out"), SENSORS).expect("written");
        let machine =
            machine_with_bmc(root.path(), &format!("cat {}; exit 1", root.path().join("out").display()));
        let read = sensors(&machine).await.expect("sensors");
        let names: Vec<_> = read.iter().map(|sensor| sensor.name.as_str()).collect();
        assert_eq!(names, ["P12V", "FAN1", "FAN3", "Pwr Consumption"]);
        assert_eq!(read[0].value, Some(11.28));
        assert_eq!(read[0].limits.low_critical, Some(11.4));
        assert_eq!(read[0].limits.high_critical, Some(12.6));
        assert_eq!(read[2].value, None);
        assert_eq!((read[3].limits.high_warning, read[3].limits.high_critical), (Some(400.0), Some(480.0)));
    }

    #[tokio::test]
    async fn a_controller_that_fails_is_a_problem_and_one_that_is_not_there_is_none() {
        let root = tempfile::tempdir().expect("folder");
        let machine = machine_with_bmc(root.path(), "echo 'Could not open device' >&2; exit 1");
        let problem = sensors(&machine).await.expect_err("no sensors");
        assert!(problem.contains("Could not open device"), "{problem}");
        assert!(log(&machine, None).await.is_err());
        let bare = tempfile::tempdir().expect("folder");
        assert_eq!(log(&Machine::captured(bare.path(), None), None).await, Ok(None));
    }

    #[tokio::test]
    async fn a_missing_tool_and_odd_answers_are_problems_that_say_so() {
        let root = tempfile::tempdir().expect("folder");
        for (script, said) in [
            ("exit 0", "lists no sensor"),
            ("exit 77", "ipmitool sensor failed"),
            ("head -c 3000 /dev/urandom; exit 0", "lists no sensor"),
            ("echo '| | | | | | | | |'; exit 1", "lists no sensor"),
            ("kill -9 $$", "ipmitool sensor failed"),
        ] {
            let machine = machine_with_bmc(root.path(), script);
            let problem = sensors(&machine).await.expect_err(script);
            assert!(problem.contains(said), "{script}: {problem}");
        }
        let machine = machine_with_bmc(root.path(), "head -c 3000 /dev/urandom");
        assert_eq!(supplies(&machine).await, Ok(Vec::new()), "what does not read is no supply");
        fs::remove_file(root.path().join("tools/ipmitool")).expect("removed");
        for problem in
            [sensors(&machine).await.expect_err("none"), log(&machine, None).await.expect_err("none")]
        {
            assert!(problem.contains("ipmitool"), "{problem}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_is_given_up() {
        let root = tempfile::tempdir().expect("folder");
        let machine = machine_with_bmc(root.path(), "exec sleep 100000");
        let problem = sensors(&machine).await.expect_err("it hangs");
        assert_eq!(problem, "ipmitool sensor did not end within 60 s; the management controller hangs");
    }

    #[tokio::test]
    async fn only_records_after_the_last_reading_are_new() {
        let root = tempfile::tempdir().expect("folder");
        let file = root.path().join("sel");
        let machine = machine_with_bmc(root.path(), &format!("cat {}", file.display()));
        fs::write(&file, "").expect("written");
        let empty = log(&machine, None).await.expect("read").expect("there");
        assert_eq!(empty, BmcLog::default());
        fs::write(&file, "   1 | 11/21/2026 | 11:39:00 | Fan FAN2 | Lower Critical going low  | Asserted | Reading 0 < Threshold 900 RPM\n   9 |  Pre-Init  |0000000012| Power Supply PSU2 | Failure detected | Asserted\n").expect("written");
        let first = log(&machine, Some(&empty)).await.expect("read").expect("there");
        assert_eq!(first.new.len(), 2);
        assert!(first.new[0].text.starts_with("Fan FAN2 | Lower Critical going low | Asserted"), "{first:?}");
        assert_eq!(first.last.as_deref(), Some("9"));
        let again = log(&machine, Some(&first)).await.expect("read").expect("there");
        assert!(again.new.is_empty() && !again.restarted);
        fs::write(
            &file,
            "   1 | 11/21/2026 | 12:00:00 | Event Logging Disabled SEL | Log area reset/cleared | Asserted\n",
        )
        .expect("written");
        let cleared = log(&machine, Some(&again)).await.expect("read").expect("there");
        assert!(cleared.restarted && cleared.new.len() == 1);
    }

    #[test]
    fn supplies_say_what_they_are() {
        assert_eq!(
            supply("PSU2             | 09h | ok  | 10.2 | Presence detected, Failure detected"),
            Some(("PSU2".to_owned(), "Presence detected, Failure detected".to_owned()))
        );
        assert_eq!(supply("PSU3 | 0Ah | ns  | 10.3 | "), Some(("PSU3".to_owned(), "ns".to_owned())));
        assert_eq!(supply("Unable to Get Channel Cipher Suites"), None);
    }
}
