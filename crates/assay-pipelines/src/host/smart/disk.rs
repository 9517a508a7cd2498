//! What one disk's numbers mean.
//!
//! Thresholds: ATA attributes 5, 187, 197 and 198 predict failure once above 0 (Backblaze, 2014 and 2016); the NVMe
//! spare is compared with the disk's own threshold (a fixed one is wrong: some report 0 of 0); log entries and
//! self-test failures from before this run are history, and what grows while we look is not.

use assay_model::host::smart::{
    AtaCounters, DiskClass, DiskCounters, NvmeCounters, ScsiCounters, SelfTestOutcome, SmartDisk,
    SmartReading, SmartSupport, SmartctlExit,
};
use assay_model::host::spec::{DiskSpec, SmartLimits};
use assay_model::text::clean;
use assay_model::{Check, Finding, Severity, Verdict};

/// Informational exception: failure prediction threshold exceeded.
const FAILURE_PREDICTION: u8 = 0x5d;
/// A disk without limits of its own, in °C: spinning, and everything else.
const CRITICAL_C: (i64, i64) = (60, 70);
/// Warned about this far below the critical limit, where the disk has no warning limit.
const WARN_BELOW_C: i64 = 10;
/// Limits outside of this are not limits.
const PLAUSIBLE_C: std::ops::RangeInclusive<i64> = 30..=120;

const REPLACE: &str = "Replace the disk.";
const LOOK_CLOSER: &str = "Watch the disk; replace it when the number grows.";

/// The outcome for one disk.
pub(super) struct DiskReport {
    /// `disk AB12` or, without a serial number, `disk sda`.
    pub(super) label: String,
    location: Option<String>,
    serial: Option<String>,
    artifacts: Vec<String>,
    pub(super) checks: Vec<Check>,
    pub(super) findings: Vec<Finding>,
    pub(super) unverified: Vec<String>,
    /// Whether its health was read: its overall verdict or at least one counter.
    pub(super) read: bool,
}

impl DiskReport {
    /// Judges one disk.
    pub(super) fn of(disk: &SmartDisk, meant: Option<&DiskSpec>, limits: &SmartLimits) -> Self {
        let serial = disk.serial.as_deref().map(clean);
        let name = clean(&disk.name);
        let mut report = Self {
            label: format!("disk {}", serial.as_deref().unwrap_or(&name)),
            location: Some(meant.and_then(|wanted| wanted.bay.clone()).unwrap_or(name)),
            serial,
            artifacts: disk
                .artifacts
                .iter()
                .filter(|file| !file.contains("-before"))
                .map(|file| clean(file))
                .collect(),
            checks: Vec::new(),
            findings: Vec::new(),
            unverified: Vec::new(),
            read: false,
        };
        match disk.support {
            SmartSupport::Virtual => {
                report.check(
                    "health",
                    Verdict::Skip,
                    "a physical disk",
                    "a virtual disk without health data",
                );
            }
            SmartSupport::Available => report.available(disk, limits),
            SmartSupport::Unsupported | SmartSupport::Unreadable => {
                // It can have told that it fails before it fell silent; that it was well then proves nothing.
                let failing = |reading: &&SmartReading| {
                    let exit = SmartctlExit::of(reading.exit.status);
                    reading.passed == Some(false) || exit.disk_failing || exit.prefail_now
                };
                if let Some(reading) = [&disk.after, &disk.before].into_iter().flatten().find(failing) {
                    report.overall(disk, reading);
                    report.checks.retain(|check| check.verdict == Verdict::Fail);
                }
            }
        }
        report
    }

    /// Blames this disk.
    pub(super) fn blame(&self, finding: Finding) -> Finding {
        let blamed = finding.part("disk", self.location.as_deref(), self.serial.as_deref());
        self.artifacts.iter().fold(blamed, Finding::evidence)
    }

    fn available(&mut self, disk: &SmartDisk, limits: &SmartLimits) {
        let Some(now) = disk.latest() else { return };
        let exit = SmartctlExit::of(now.exit.status);
        if exit.command_line || exit.device_open {
            return;
        }
        self.overall(disk, now);
        match (&now.counters, disk.before.as_ref().and_then(|before| before.counters.as_ref())) {
            (Some(DiskCounters::Ata(now)), before) => {
                let before = if let Some(DiskCounters::Ata(before)) = before { before } else { now };
                self.ata(now, before, limits);
            }
            (Some(DiskCounters::Nvme(now)), before) => {
                let before = if let Some(DiskCounters::Nvme(before)) = before { before } else { now };
                self.nvme(now, before, limits);
            }
            (Some(DiskCounters::Scsi(now)), before) => {
                let before = if let Some(DiskCounters::Scsi(before)) = before { before } else { now };
                self.scsi(now, before, limits);
            }
            (None, _) => {}
        }
        self.read = self.checks.iter().any(|check| matches!(check.verdict, Verdict::Pass | Verdict::Fail));
        self.wear(now, limits);
        self.temperature(disk, limits);
        self.history(now, disk.before.as_ref().unwrap_or(now), exit);
        self.self_test(disk, limits);
    }

    fn overall(&mut self, disk: &SmartDisk, now: &SmartReading) {
        let exit = SmartctlExit::of(now.exit.status);
        // smartctl concludes an NVMe disk's overall verdict from the critical warnings, which are judged by name.
        let named_elsewhere = disk.support == SmartSupport::Available
            && matches!(&now.counters, Some(DiskCounters::Nvme(nvme)) if nvme.critical_warning.is_some_and(|byte| byte != 0));
        let predicted = matches!(&now.counters, Some(DiskCounters::Scsi(scsi)) if scsi.ie_asc == Some(FAILURE_PREDICTION));
        let failing = now.passed == Some(false) || exit.disk_failing || predicted;
        let sense = match &now.counters {
            Some(DiskCounters::Scsi(ScsiCounters { ie_asc: Some(asc), ie_ascq, .. })) => {
                format!(" (sense code {asc:02x}/{:02x})", ie_ascq.unwrap_or(0))
            }
            _ => String::new(),
        };
        if failing && !named_elsewhere {
            self.check("overall health", Verdict::Fail, "passed", &format!("failed{sense}"));
            let message = format!("{} says of itself that it is failing{sense}", self.label);
            self.find("SmartHealthFailed", Severity::Critical, message, REPLACE);
        } else if now.passed == Some(true) {
            self.check("overall health", Verdict::Pass, "passed", "passed");
        } else if now.passed.is_none() && disk.support == SmartSupport::Available {
            self.unverified.push(format!("{}: it gives no overall verdict on its health", self.label));
        }
        if exit.prefail_now {
            let names = match &now.counters {
                Some(DiskCounters::Ata(ata)) if !ata.failing_now.is_empty() => listed(&ata.failing_now),
                _ => "at least one".to_owned(),
            };
            self.check("pre-failure attributes", Verdict::Fail, "above their thresholds", &names);
            let message =
                format!("{}: pre-failure attributes at or below their threshold: {names}", self.label);
            self.find("SmartPrefailAttribute", Severity::Critical, message, REPLACE);
        } else if disk.class == DiskClass::Ata && now.passed.is_some() && now.counters.is_some() {
            self.check("pre-failure attributes", Verdict::Pass, "above their thresholds", "above");
        }
    }

    fn ata(&mut self, now: &AtaCounters, before: &AtaCounters, limits: &SmartLimits) {
        let uncorrectable = limits.uncorrectable_max;
        let rules = [
            (
                "ReallocatedSectors",
                "reallocated sectors",
                now.reallocated,
                before.reallocated,
                limits.reallocated_max,
            ),
            (
                "PendingSectors",
                "sectors waiting to be reallocated",
                now.pending,
                before.pending,
                limits.pending_max,
            ),
            (
                "UncorrectableSectors",
                "reported uncorrectable errors",
                now.reported_uncorrect,
                before.reported_uncorrect,
                uncorrectable,
            ),
            (
                "UncorrectableSectors",
                "sectors that cannot be read",
                now.offline_uncorrectable,
                before.offline_uncorrectable,
                uncorrectable,
            ),
            ("EndToEndErrors", "end-to-end errors", now.end_to_end, before.end_to_end, 0),
        ];
        for (code, what, now, before, max) in rules {
            self.count(code, what, now, before, max);
        }
        let cable = "Reseat or replace its cable, then its bay in the backplane; the disk itself is rarely the cause.";
        self.notice(
            "CrcErrors",
            "transfers with a wrong checksum",
            now.crc,
            before.crc,
            Severity::Warning,
            cable,
        );
        self.notice(
            "SpinRetries",
            "attempts to spin up again",
            now.spin_retry,
            before.spin_retry,
            Severity::Warning,
            LOOK_CLOSER,
        );
        let timeouts = (now.command_timeout, before.command_timeout);
        self.notice(
            "CommandTimeouts",
            "commands that timed out",
            timeouts.0,
            timeouts.1,
            Severity::Info,
            LOOK_CLOSER,
        );
    }

    fn nvme(&mut self, now: &NvmeCounters, before: &NvmeCounters, limits: &SmartLimits) {
        match now.critical_warning {
            Some(0) => self.check("critical warnings", Verdict::Pass, "none", "none"),
            Some(byte) => {
                let names = listed(&now.warnings());
                self.check("critical warnings", Verdict::Fail, "none", &names);
                let message = format!("{} warns: {names} (critical warning {byte:#04x})", self.label);
                let next_step =
                    if byte & !0b10 == 0 { "Improve its cooling, then test again." } else { REPLACE };
                self.find("NvmeCriticalWarning", Severity::Critical, message, next_step);
            }
            None => self.unverified.push(format!("{}: it does not tell its critical warnings", self.label)),
        }
        if let (Some(spare), Some(threshold)) = (now.available_spare, now.available_spare_threshold) {
            let (expected, seen) =
                (format!("at least {threshold} %, its own threshold"), format!("{spare} %"));
            if spare < threshold {
                self.check("spare blocks", Verdict::Fail, &expected, &seen);
                let message = format!(
                    "{} has {spare} % of its spare blocks left, below its threshold of {threshold} %",
                    self.label
                );
                self.find("SpareBelowThreshold", Severity::Critical, message, REPLACE);
            } else {
                self.check("spare blocks", Verdict::Pass, &expected, &seen);
            }
        }
        self.count(
            "MediaErrors",
            "media errors",
            now.media_errors,
            before.media_errors,
            limits.media_errors_max,
        );
    }

    fn scsi(&mut self, now: &ScsiCounters, before: &ScsiCounters, limits: &SmartLimits) {
        self.count(
            "GrownDefects",
            "grown defects",
            now.grown_defects,
            before.grown_defects,
            limits.reallocated_max,
        );
        let uncorrected = [
            ("uncorrected read errors", now.uncorrected_read, before.uncorrected_read),
            ("uncorrected write errors", now.uncorrected_write, before.uncorrected_write),
            ("uncorrected verify errors", now.uncorrected_verify, before.uncorrected_verify),
        ];
        for (what, now, before) in uncorrected {
            self.count("UncorrectableSectors", what, now, before, limits.uncorrectable_max);
        }
        let cable = "Reseat or replace its cable; look at the expander and the other disks behind it.";
        self.notice(
            "NonMediumErrors",
            "errors outside of its medium",
            now.non_medium,
            before.non_medium,
            Severity::Info,
            cable,
        );
    }

    fn wear(&mut self, now: &SmartReading, limits: &SmartLimits) {
        let Some(used) = now.percentage_used else { return };
        let (fail, warn) = (u64::from(limits.percentage_used_fail), u64::from(limits.percentage_used_warn));
        let expected = format!("below {fail} %");
        if used >= fail {
            self.check("endurance used", Verdict::Fail, &expected, &format!("{used} %"));
            let message = format!("{} has used {used} % of its rated endurance (limit {fail} %)", self.label);
            self.find("WearExceeded", Severity::Critical, message, REPLACE);
            return;
        }
        self.check("endurance used", Verdict::Pass, &expected, &format!("{used} %"));
        if used >= warn {
            let message = format!(
                "{} has used {used} % of its rated endurance (warned about from {warn} %)",
                self.label
            );
            self.find("WearHigh", Severity::Warning, message, "Plan its replacement.");
        }
    }

    fn temperature(&mut self, disk: &SmartDisk, limits: &SmartLimits) {
        let readings = [disk.before.as_ref(), disk.after.as_ref()];
        let hottest =
            readings.into_iter().flatten().filter_map(|reading| reading.temperature.current_c).max();
        let (Some(hottest), Some(now)) = (hottest, disk.latest()) else { return };
        let own = |limit: Option<i64>| limit.filter(|celsius| PLAUSIBLE_C.contains(celsius));
        let by_default = if now.solid_state == Some(false) { CRITICAL_C.0 } else { CRITICAL_C.1 };
        // The owner's limit is the hottest allowed; a disk's own critical limit is where it stops being allowed.
        let (limit, whose) = match (limits.temperature_max_c, own(now.temperature.critical_c)) {
            (Some(max), _) => (i64::from(max) + 1, "the spec's limit"),
            (None, Some(critical)) => (critical, "its own critical limit"),
            (None, None) => (by_default, "the limit for its kind"),
        };
        let warn =
            own(now.temperature.warning_c).filter(|warn| *warn < limit).unwrap_or(limit - WARN_BELOW_C);
        let expected = format!("below {limit} °C, {whose}");
        let cool = "Check fans and airflow at its bay, then test again.";
        if hottest >= limit {
            self.check("temperature", Verdict::Fail, &expected, &format!("{hottest} °C"));
            let message =
                format!("{} is at {hottest} °C; it must stay below {limit} °C ({whose})", self.label);
            self.find("DiskTooHot", Severity::Critical, message, cool);
            return;
        }
        self.check("temperature", Verdict::Pass, &expected, &format!("{hottest} °C"));
        if hottest >= warn {
            let message =
                format!("{} is at {hottest} °C, near its limit (warned about from {warn} °C)", self.label);
            self.find("DiskTooHot", Severity::Warning, message, cool);
        }
    }

    /// What its logs say about the time before this run, and what was added to them while we looked.
    fn history(&mut self, now: &SmartReading, before: &SmartReading, exit: SmartctlExit) {
        let label = self.label.clone();
        if exit.command_failed {
            let message = format!("{label}: a SMART command failed or its data had a wrong checksum");
            self.find(
                "SmartCommandFailed",
                Severity::Warning,
                message,
                "Read the raw output; update the disk's firmware if it repeats.",
            );
        }
        if exit.attribute_before {
            let names = match &now.counters {
                Some(DiskCounters::Ata(ata)) if !ata.failed_before.is_empty() => {
                    format!(": {}", listed(&ata.failed_before))
                }
                _ => String::new(),
            };
            let message = format!("{label}: attributes were at or below their threshold in the past{names}");
            self.find("SmartAttributeBefore", Severity::Warning, message, LOOK_CLOSER);
        }
        match (now.error_log_entries, before.error_log_entries) {
            (Some(now), Some(before)) if now > before => {
                let message =
                    format!("{label}: {} new entries in its error log during this stage", now - before);
                self.find(
                    "ErrorLogGrew",
                    Severity::Warning,
                    message,
                    "Read the new entries in the raw output.",
                );
            }
            (entries, _) if exit.error_log || entries.is_some_and(|count| count > 0) => {
                let count = entries.map_or_else(|| "some".to_owned(), |count| count.to_string());
                let message = format!("{label}: {count} entries in its error log from before this run");
                self.find(
                    "ErrorLogHistory",
                    Severity::Info,
                    message,
                    "None; the entries are in the raw output.",
                );
            }
            _ => {}
        }
        if exit.self_test_log || now.self_test_failures.is_some_and(|count| count > 0) {
            let message = format!("{label}: its self-test log holds failures");
            self.find(
                "SelfTestFailedBefore",
                Severity::Warning,
                message,
                "Run an extended self-test (smartctl -t long) before trusting it.",
            );
        }
    }

    fn self_test(&mut self, disk: &SmartDisk, limits: &SmartLimits) {
        let test = &disk.self_test;
        let detail = clean(&test.detail);
        match test.outcome {
            SelfTestOutcome::Passed => {
                self.check("short self-test", Verdict::Pass, "completed without error", &detail);
            }
            SelfTestOutcome::Failed => {
                self.check("short self-test", Verdict::Fail, "completed without error", &detail);
                let message = format!("{} failed its self-test: {detail}", self.label);
                self.find("SelfTestFailed", Severity::Critical, message, REPLACE);
            }
            SelfTestOutcome::NotRun if test.supported == Some(false) || !limits.self_test => {
                let message = format!("{}: no self-test was run: {detail}", self.label);
                self.find(
                    "SelfTestNotRun",
                    Severity::Info,
                    message,
                    "Nothing to do: the disk cannot test itself, and what it tells of its health was read.",
                );
            }
            SelfTestOutcome::NotRun
            | SelfTestOutcome::NotStarted
            | SelfTestOutcome::Aborted
            | SelfTestOutcome::TimedOut => {
                let message = format!("{}: its self-test was not completed: {detail}", self.label);
                self.check("short self-test", Verdict::Unverified, "completed without error", &detail);
                self.unverified.push(message.clone());
                let next_step =
                    "Run smartctl -t short by hand and read its log (NVMe needs smartctl 7.4 or later).";
                self.find("SelfTestNotRun", Severity::Warning, message, next_step);
            }
        }
    }

    /// A counter that fails the disk above its limit, or when it grows while we look.
    fn count(&mut self, code: &str, what: &str, now: Option<u64>, before: Option<u64>, max: u64) {
        let Some(now) = now else { return };
        let grown = now.saturating_sub(before.unwrap_or(now));
        let seen =
            if grown > 0 { format!("{now}, {grown} of them during this stage") } else { now.to_string() };
        let expected = format!("at most {max}, and not growing");
        if now <= max && grown == 0 {
            self.check(what, Verdict::Pass, &expected, &seen);
            return;
        }
        self.check(what, Verdict::Fail, &expected, &seen);
        let message = format!("{}: {what}: {seen} (at most {max} allowed)", self.label);
        self.find(code, Severity::Critical, message, REPLACE);
    }

    /// A counter that fails nothing: what it counted in the past is told, and a growth is a warning.
    fn notice(
        &mut self,
        code: &str,
        what: &str,
        now: Option<u64>,
        before: Option<u64>,
        past: Severity,
        next_step: &str,
    ) {
        let Some(now) = now.filter(|count| *count > 0) else { return };
        let grown = now.saturating_sub(before.unwrap_or(now));
        let (severity, seen) = if grown > 0 {
            (Severity::Warning, format!("{now}, {grown} of them during this stage"))
        } else {
            (past, now.to_string())
        };
        let message = format!("{}: {what}: {seen}", self.label);
        self.find(code, severity, message, next_step);
    }

    fn check(&mut self, what: &str, verdict: Verdict, expected: &str, seen: &str) {
        let name = format!("{}: {what}", self.label);
        self.checks.push(Check { name, verdict, expected: expected.to_owned(), seen: seen.to_owned() });
    }

    fn find(&mut self, code: &str, severity: Severity, message: String, next_step: &str) {
        let finding = self.blame(Finding::new(code, severity, message, next_step));
        self.findings.push(finding);
    }
}

fn listed(names: &[String]) -> String {
    names.iter().take(16).map(|name| clean(name)).collect::<Vec<_>>().join(", ")
}
