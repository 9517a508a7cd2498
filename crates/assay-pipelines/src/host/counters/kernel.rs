//! Reads machine checks out of the kernel's messages, and weighs records of the management controller's log.

use assay_model::Severity;
use assay_model::text::clean;

/// What the kernel's messages say of machine checks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MachineChecks {
    pub(super) corrected: u64,
    pub(super) uncorrected: u64,
    /// The processor of the first one.
    pub(super) cpu: Option<String>,
    /// The first line that names a bank.
    pub(super) example: Option<String>,
}

/// Bit 61 of a bank's status: not corrected.
const UNCORRECTED: u64 = 1 << 61;
/// Bit 62 of a bank's status: it was hit again before anybody had read it. A bank holds one error, so without this bit
/// ten errors between two looks would pass for one.
const OVERFLOW: u64 = 1 << 62;

/// Counts them, at least. Where a driver decodes them, their own lines are missing and only their announcements remain.
pub(super) fn machine_checks(lines: &[String]) -> MachineChecks {
    let mut found = MachineChecks::default();
    let mut announced = 0;
    for line in lines {
        if line.contains("Machine check events logged") {
            announced += 1;
        }
        let Some(status) = status(line) else { continue };
        if status & UNCORRECTED == 0 {
            found.corrected += if status & OVERFLOW == 0 { 1 } else { 2 };
        } else {
            found.uncorrected += 1;
        }
        if found.example.is_none() {
            found.example = Some(clean(line));
            found.cpu = line
                .split_once("CPU ")
                .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next())
                .filter(|number| !number.is_empty())
                .map(str::to_owned);
        }
    }
    if found.uncorrected == 0 {
        found.corrected = found.corrected.max(announced);
    }
    found
}

/// Whether a line belongs to a machine check.
pub(super) fn is_machine_check(line: &str) -> bool {
    let lower = line.to_lowercase();
    lower.contains("mce: [hardware error]")
        || lower.contains("machine check")
        || lower.contains("[hardware error]: ")
}

/// `mce: [Hardware Error]: CPU 0: Machine Check: 0 Bank 4: 8c00004000010091`.
fn status(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("Machine Check")?;
    let (_, rest) = rest.split_once("Bank ")?;
    let (_, status) = rest.split_once(": ")?;
    u64::from_str_radix(status.split_whitespace().next()?, 16).ok()
}

/// How bad a record of the management controller's log is; that something ended is worth knowing.
pub(super) fn event_severity(text: &str) -> Severity {
    let lower = text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if has(&["deasserted"]) {
        return Severity::Info;
    }
    if has(&[
        "log area reset",
        "timestamp clock sync",
        "presence detected",
        "drive present",
        "acpi power state",
        "system acpi",
        "oem boot event",
        "system boot initiated",
        "power up",
        "fully redundant",
        "device enabled",
        "session audit",
        "watchdog",
    ]) {
        return Severity::Info;
    }
    // "Upper Non-critical" holds the word as well.
    let without = lower.replace("non-critical", "").replace("noncritical", "");
    let critical = [
        "critical",
        "non-recoverable",
        "uncorrectable",
        "failure detected",
        "predictive failure",
        "ac lost",
        "power off/down",
        "ierr",
        "thermal trip",
        "redundancy lost",
        "non-redundant",
        "fatal",
        "machine check",
        "config error",
        "transition to critical",
        "drive fault",
        "internal error",
    ];
    let bad = critical.iter().any(|word| without.contains(word));
    if bad { Severity::Critical } else { Severity::Warning }
}
