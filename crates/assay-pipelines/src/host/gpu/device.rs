//! What one GPU's numbers mean.
//!
//! Thresholds: the board's own where it tells one (slowdown temperature, link, clocks). Counters count since the driver
//! was loaded, which on the machine under test is since it booted for this run; what grows during the stage is blamed
//! on it. Repeated transfers: up to 80 are tolerated, as NVIDIA's own diagnostics do. Retired pages: 60 are NVIDIA's
//! limit for replacing a board; what waits to be retired, or could not be, fails at once.

use std::time::Duration;

use assay_model::host::gpu::{GpuDevice, GpuReading, GpuWork, ThrottleReason, WorkEnd};
use assay_model::host::spec::GpuLimits;
use assay_model::text::clean;
use assay_model::{Check, Finding, Severity, Verdict};

use crate::host::lasted;

/// A floor that the spec does not set is reported below this share and fails nothing, in percent.
const USUAL_PERCENT: u32 = 50;
/// A reason for low clocks that was seen once may be a change of clocks and nothing else.
const REPEATED: u64 = 2;

const REPLACE: &str = "Replace the GPU.";
const COOL: &str =
    "Check fans, airflow, dust and thermal paste, and whether the slot beside it blocks its air.";
const RESEAT: &str =
    "Reseat the card, try another slot or riser, and look at the slot's settings in the firmware.";

/// The outcome for one GPU.
pub(super) struct DeviceReport {
    /// `GPU 0000:01:00.0 (serial 1560)` or, without a serial number, `GPU 0000:01:00.0`.
    pub(super) label: String,
    address: String,
    serial: Option<String>,
    pub(super) checks: Vec<Check>,
    pub(super) findings: Vec<Finding>,
    pub(super) unverified: Vec<String>,
    /// Whether enough work was done and verified, whatever came of it.
    pub(super) verified: bool,
    /// Device memory that was written and read back.
    pub(super) verified_bytes: u64,
    /// Why no work could be verified, where the GPU is not to blame.
    pub(super) untested: Option<String>,
}

impl DeviceReport {
    /// Judges one GPU that was to work for as long as `asked`.
    pub(super) fn of(gpu: &GpuDevice, limits: &GpuLimits, asked: Duration) -> Self {
        let (address, serial) = (clean(&gpu.address), gpu.serial.as_deref().map(clean));
        let label = match &serial {
            Some(serial) => format!("GPU {address} (serial {serial})"),
            None => format!("GPU {address}"),
        };
        let mut report = Self {
            label,
            address,
            serial,
            checks: Vec::new(),
            findings: Vec::new(),
            unverified: Vec::new(),
            verified: false,
            verified_bytes: 0,
            untested: None,
        };
        report.work(gpu, limits, asked);
        report.memory_errors(gpu, limits);
        report.retired(gpu, limits);
        report.temperature(gpu, limits);
        report.throttling(gpu);
        report.link(gpu, limits);
        report
            .unverified
            .extend(gpu.problems.iter().map(|problem| format!("GPU {}: {}", report.address, clean(problem))));
        report
    }

    fn work(&mut self, gpu: &GpuDevice, limits: &GpuLimits, asked: Duration) {
        let Some(work) = &gpu.work else {
            self.untested = Some("the driver's compute library could not be used".to_owned());
            return;
        };
        let why = || work.problem.as_deref().map_or_else(|| "no reason was told".to_owned(), clean);
        self.results(work);
        match work.end {
            WorkEnd::NotStarted => self.untested = Some(format!("the work could not be started: {}", why())),
            WorkEnd::Failed => {
                let seen = why();
                let message = format!("{} failed at work: {seen}", self.label);
                self.fail(
                    "work",
                    "finished",
                    seen,
                    "GpuComputeFailed",
                    message,
                    "Replace the GPU; if another fails alike, suspect power, slot or driver.",
                );
            }
            WorkEnd::Hung => {
                let seen = why();
                let message = format!("{} stopped answering at work: {seen}", self.label);
                self.fail("work", "answers", seen, "GpuHung", message, "Cut the machine's power fully, check the GPU's power cables, and replace the GPU if it hangs again.");
            }
            WorkEnd::Finished => self.finished(gpu, work, limits, asked),
        }
    }

    /// Wrong results count however the work ended.
    fn results(&mut self, work: &GpuWork) {
        let told = work.mismatches.first().map(|told| format!(": {}", clean(told))).unwrap_or_default();
        if work.memory_errors > 0 {
            let message =
                format!("{}: {} words of its memory came back wrong{told}", self.label, work.memory_errors);
            self.fail(
                "memory",
                "0 wrong words",
                work.memory_errors.to_string(),
                "GpuMemoryMismatch",
                message,
                REPLACE,
            );
        }
        if work.compute_errors > 0 {
            let message = format!("{} calculated wrongly {} times{told}", self.label, work.compute_errors);
            self.fail(
                "results",
                "0 wrong results",
                work.compute_errors.to_string(),
                "GpuComputeMismatch",
                message,
                REPLACE,
            );
        }
    }

    fn finished(&mut self, gpu: &GpuDevice, work: &GpuWork, limits: &GpuLimits, asked: Duration) {
        if !work.control || work.passes == 0 || work.compute_launches == 0 || work.host_samples == 0 {
            self.untested = Some(
                "the work proved nothing: its own checks were not checked, or nothing was compared"
                    .to_owned(),
            );
            return;
        }
        // Neither heat nor power supply is tried by a short burst.
        if !lasted(work.seconds, asked.as_secs_f64()) {
            let asked = asked.as_secs();
            self.untested = Some(format!("the work lasted {:.0} s; {asked} s were asked for", work.seconds));
            return;
        }
        let Some(total) = gpu.memory_bytes.filter(|&total| total > 0) else {
            self.untested = Some("the driver does not tell how much memory it has".to_owned());
            return;
        };
        self.verified_bytes = work.verified_bytes.min(total);
        let percent = percent(self.verified_bytes as f64, total as f64);
        if percent < f64::from(limits.memory_percent_min) {
            self.untested = Some(format!(
                "only {percent:.0} % of its {} MiB memory were verified, {} % are asked for",
                total >> 20,
                limits.memory_percent_min
            ));
            return;
        }
        self.verified = true;
        if work.memory_errors == 0 {
            self.pass(
                "memory",
                "0 wrong words",
                format!("0 in {} MiB, {} passes", self.verified_bytes >> 20, work.passes),
            );
        }
        if work.compute_errors == 0 {
            self.pass("results", "0 wrong results", format!("0 in {} launches", work.compute_launches));
        }
        // Two operations a cycle and core; two transfers a cycle and line.
        let gflops = gpu
            .cores
            .zip(gpu.sm_clock_max_mhz)
            .map(|(cores, mhz)| f64::from(cores) * f64::from(mhz) * 2.0 / 1e3);
        self.speed("arithmetic", "GFLOP/s", work.gflops, gflops, limits.compute_percent_min);
        let gb_s = gpu
            .memory_bus_bits
            .zip(gpu.memory_clock_max_mhz)
            .map(|(bits, mhz)| f64::from(bits) / 8.0 * f64::from(mhz) * 2.0 / 1e3);
        self.speed("memory throughput", "GB/s", work.memory_gb_s, gb_s, limits.bandwidth_percent_min);
    }

    fn speed(
        &mut self,
        what: &str,
        unit: &str,
        achieved: Option<f64>,
        possible: Option<f64>,
        floor: Option<u32>,
    ) {
        let told = achieved.zip(possible.filter(|&possible| possible > 0.0));
        let Some((achieved, possible)) =
            told.filter(|(achieved, _)| achieved.is_finite() && *achieved >= 0.0)
        else {
            self.unknown(what, "achieved and possible rate");
            return;
        };
        let percent = percent(achieved, possible);
        let seen = format!("{achieved:.0} {unit}, {percent:.0} % of {possible:.0}");
        let least = floor.unwrap_or(USUAL_PERCENT);
        if percent >= f64::from(least) {
            self.pass(what, format!("at least {least} %"), seen);
            return;
        }
        let message = format!("{}: {what} of {seen}; at least {least} % are expected", self.label);
        let next = "Look at clocks, throttling and power limit in the evidence; replace the GPU if none explains it.";
        if floor.is_some() {
            self.fail(what, format!("at least {least} %"), seen, "GpuSlow", message, next);
        } else {
            // Nobody set this floor, and boards differ: told, not failed.
            self.unverified.push(message.clone());
            self.warn("GpuSlow", message, next);
        }
    }

    fn memory_errors(&mut self, gpu: &GpuDevice, limits: &GpuLimits) {
        let Some(now) = gpu.latest() else {
            self.unknown("memory errors", "counters");
            return;
        };
        match now.ecc {
            // A board without error correction has no counters; what its memory does was seen at work.
            None => return,
            Some(false) => {
                let message = format!("{}: error correction of its memory is switched off", self.label);
                let next =
                    "Switch it on with nvidia-smi --ecc-config=1 and restart, unless it is off on purpose.";
                self.warn("GpuEccOff", message, next);
                return;
            }
            Some(true) => {}
        }
        match now.ecc_uncorrected {
            None => self.unknown("uncorrected memory errors", "counter"),
            Some(0) => self.pass("uncorrected memory errors", "0 since boot", "0"),
            Some(count) => {
                let grew = growth(gpu, |reading| reading.ecc_uncorrected).unwrap_or(0);
                let message = format!(
                    "{}: {count} memory errors since boot were not corrected, {grew} of them during this stage",
                    self.label
                );
                self.fail(
                    "uncorrected memory errors",
                    "0 since boot",
                    count.to_string(),
                    "GpuEccUncorrected",
                    message,
                    REPLACE,
                );
            }
        }
        match growth(gpu, |reading| reading.ecc_corrected) {
            None => self.unknown("corrected memory errors", "counter"),
            Some(grew) if grew <= limits.ecc_corrected_max => {
                self.pass(
                    "corrected memory errors",
                    format!("at most {}", limits.ecc_corrected_max),
                    grew.to_string(),
                );
            }
            Some(grew) => {
                let message =
                    format!("{}: {grew} memory errors were corrected during this stage", self.label);
                self.warn("GpuEccCorrected", message, "Watch the GPU; replace it when the number grows.");
            }
        }
        let ever = now.ecc_uncorrected_ever.unwrap_or(0);
        if ever > 0 && now.ecc_uncorrected == Some(0) {
            let message = format!("{}: {ever} memory errors in its life were not corrected", self.label);
            self.warn("GpuEccHistory", message, "Watch the GPU; replace it when the number grows.");
        }
    }

    fn retired(&mut self, gpu: &GpuDevice, limits: &GpuLimits) {
        let Some(now) = gpu.latest() else { return };
        if now.pages_pending == Some(true) || now.rows_pending == Some(true) {
            let message = format!("{}: memory waits for a restart to be taken out of use", self.label);
            let next =
                "Restart the machine and run the stage again; replace the GPU if more memory waits then.";
            self.fail("memory waiting to be retired", "none", "some", "GpuPagesPending", message, next);
        } else if now.pages_pending.is_some() || now.rows_pending.is_some() {
            self.pass("memory waiting to be retired", "none", "none");
        }
        match now.row_remap_failed {
            Some(true) => {
                let message = format!("{}: bad memory could not be replaced by spare rows", self.label);
                self.fail("spare rows", "no failure", "failed", "GpuRemapFailed", message, REPLACE);
            }
            Some(false) => self.pass("spare rows", "no failure", "no failure"),
            None => {}
        }
        let Some(count) = out_of_use(now) else {
            if now.ecc == Some(true) {
                self.unknown("memory taken out of use", "retired pages and remapped rows");
            }
            return;
        };
        let grew = growth(gpu, out_of_use).unwrap_or(0);
        let message = format!(
            "{}: {count} pages or rows of its memory are out of use, {grew} of them since this stage began",
            self.label
        );
        if count > limits.retired_max || grew > 0 {
            let expected = format!("at most {}, none new", limits.retired_max);
            self.fail(
                "memory taken out of use",
                expected,
                count.to_string(),
                "GpuPagesRetired",
                message,
                REPLACE,
            );
            return;
        }
        self.pass(
            "memory taken out of use",
            format!("at most {}, none new", limits.retired_max),
            count.to_string(),
        );
        if count > 0 {
            self.warn("GpuPagesRetired", message, "Watch the GPU; replace it when the number grows.");
        }
    }

    fn temperature(&mut self, gpu: &GpuDevice, limits: &GpuLimits) {
        let now = gpu.latest();
        let hottest = gpu.load.temperature_max_c.max(now.and_then(|reading| reading.temperature_c));
        let own = now.and_then(|reading| reading.slowdown_c).map(|slowdown| slowdown.saturating_sub(1));
        let told = hottest.filter(|_| gpu.load.samples > 0).zip(limits.temperature_max_c.or(own));
        let Some((hottest, most)) = told else {
            self.unknown("temperature under load", "temperature and limit");
            return;
        };
        let (expected, seen) = (format!("at most {most} °C"), format!("{hottest} °C"));
        if hottest <= most {
            self.pass("temperature under load", expected, seen);
        } else {
            let message = format!("{} became {hottest} °C hot; at most {most} °C are allowed", self.label);
            self.fail("temperature under load", expected, seen, "GpuTooHot", message, COOL);
        }
    }

    fn throttling(&mut self, gpu: &GpuDevice) {
        let samples = gpu.load.samples;
        if samples == 0 {
            self.unknown("throttling", "samples under load");
            return;
        }
        let mut held = Vec::new();
        // The general reason is told along with the particular ones: then those say it all.
        let particular = |reason| matches!(reason, ThrottleReason::HwThermal | ThrottleReason::HwPowerBrake);
        let explained: u64 =
            gpu.load.throttle.iter().filter(|seen| particular(seen.reason)).map(|seen| seen.samples).sum();
        for throttle in &gpu.load.throttle {
            if throttle.reason == ThrottleReason::HwSlowdown && throttle.samples <= explained {
                continue;
            }
            let (reason, count) = (throttle.reason.words(), throttle.samples);
            let message =
                format!("{}: clocks were lowered by {reason} in {count} of {samples} samples", self.label);
            let next = match throttle.reason {
                ThrottleReason::HwPowerBrake => {
                    "Check the power supply, its cables to the GPU, and the power budget of the machine."
                }
                ThrottleReason::HwSlowdown => "Check cooling, power cables and power supply.",
                ThrottleReason::HwThermal | ThrottleReason::SwThermal => COOL,
                // What a power limit is for.
                ThrottleReason::SwPowerCap => continue,
            };
            if throttle.reason == ThrottleReason::SwThermal || count < REPEATED {
                self.warn("GpuThrottled", message, next);
            } else {
                self.blame("GpuThrottled", message, next);
                held.push(format!("{reason} in {count}"));
            }
        }
        self.checks.push(Check {
            name: format!("{}: clocks held down by the hardware", self.label),
            verdict: if held.is_empty() { Verdict::Pass } else { Verdict::Fail },
            expected: "not repeatedly".to_owned(),
            seen: if held.is_empty() {
                format!("not in {samples} samples")
            } else {
                format!("{} of {samples} samples", held.join(", "))
            },
        });
    }

    fn link(&mut self, gpu: &GpuDevice, limits: &GpuLimits) {
        let Some(now) = gpu.latest() else {
            self.unknown("link", "width and generation");
            return;
        };
        let width = gpu.load.link_width.max(now.link_width);
        self.link_part("link width", "lanes", width, limits.link_width_min.or(now.link_width_max));
        // An idle GPU lowers its generation: only what was seen under load says anything.
        let generation = gpu.load.link_generation.filter(|_| gpu.load.samples > 0 && gpu.work.is_some());
        self.link_part(
            "link generation",
            "PCI Express generation",
            generation,
            limits.link_generation_min.or(now.link_generation_max),
        );
        match growth(gpu, |reading| reading.link_replays) {
            None => self.unknown("link replays", "counter"),
            Some(grew) if grew <= limits.link_replays_max => {
                self.pass("link replays", format!("at most {}", limits.link_replays_max), grew.to_string());
            }
            Some(grew) => {
                let message = format!(
                    "{}: {grew} transfers on its link were repeated during this stage; at most {} are allowed",
                    self.label, limits.link_replays_max
                );
                let expected = format!("at most {}", limits.link_replays_max);
                self.fail("link replays", expected, grew.to_string(), "GpuLinkReplays", message, RESEAT);
            }
        }
    }

    fn link_part(&mut self, what: &str, unit: &str, seen: Option<u32>, least: Option<u32>) {
        let Some((seen, least)) = seen.zip(least) else {
            self.unknown(what, unit);
            return;
        };
        if seen >= least {
            self.pass(what, format!("at least {least}"), seen.to_string());
        } else {
            let message = format!("{}: {what} {seen}; at least {least} is expected", self.label);
            self.fail(
                what,
                format!("at least {least}"),
                seen.to_string(),
                "GpuLinkDegraded",
                message,
                RESEAT,
            );
        }
    }

    fn pass(&mut self, what: &str, expected: impl Into<String>, seen: impl Into<String>) {
        self.check(what, Verdict::Pass, expected.into(), seen.into());
    }

    fn fail(
        &mut self,
        what: &str,
        expected: impl Into<String>,
        seen: impl Into<String>,
        code: &str,
        message: String,
        next: &str,
    ) {
        self.check(what, Verdict::Fail, expected.into(), seen.into());
        self.blame(code, message, next);
    }

    fn blame(&mut self, code: &str, message: String, next: &str) {
        self.find(Finding::new(code, Severity::Critical, message, next));
    }

    fn warn(&mut self, code: &str, message: String, next: &str) {
        self.find(Finding::new(code, Severity::Warning, message, next));
    }

    fn find(&mut self, finding: Finding) {
        self.findings.push(finding.part("gpu", Some(&self.address), self.serial.as_deref()));
    }

    fn unknown(&mut self, what: &str, needed: &str) {
        self.check(what, Verdict::Unverified, format!("{needed} told"), "not told".to_owned());
        self.unverified.push(format!("{}: {what} could not be judged", self.label));
    }

    fn check(&mut self, what: &str, verdict: Verdict, expected: String, seen: String) {
        self.checks.push(Check { name: format!("{}: {what}", self.label), verdict, expected, seen });
    }
}

/// What a counter grew by during the stage. One that went back was reset, and all of it is new.
fn growth(gpu: &GpuDevice, counter: impl Fn(&GpuReading) -> Option<u64>) -> Option<u64> {
    let before = counter(gpu.before.as_ref()?)?;
    let after = counter(gpu.after.as_ref()?)?;
    Some(after.checked_sub(before).unwrap_or(after))
}

/// Pages retired and rows remapped, whichever of them the board has.
fn out_of_use(reading: &GpuReading) -> Option<u64> {
    let told = [reading.pages_retired, reading.rows_remapped_corrected, reading.rows_remapped_uncorrected];
    told.into_iter().flatten().reduce(u64::saturating_add)
}

fn percent(part: f64, whole: f64) -> f64 {
    part / whole * 100.0
}
