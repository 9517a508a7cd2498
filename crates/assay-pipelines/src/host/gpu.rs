//! The stage `GPU`: every accelerator is asked for its health before, during and after work whose results are verified.
//!
//! What can fail a machine here: a wrong result, memory that forgets, an error that was not corrected, clocks that the
//! hardware held down, a link below what it could be, a GPU that is gone, hung, or expected and not verified. What must
//! never pass here: a GPU that did no verified work. Without one on the bus and none expected there is nothing to do.

mod device;
#[cfg(test)]
mod driven_tests;
#[cfg(test)]
mod tests;
mod xid;

use std::collections::HashSet;
use std::time::Duration;

use assay_model::host::gpu::{BusGpu, GpuBurn, GpuDevice, GpuEvidence};
use assay_model::host::order::Profile;
use assay_model::host::spec::HostSpec;
use assay_model::text::clean;
use assay_model::{Check, Coverage, Finding, Judgement, Owner, Severity, StageName, StagePlan, Verdict};

use self::device::DeviceReport;
use crate::{HostStage, JudgeInput};

/// The stage's name.
pub(crate) const NAME: &str = "GPU";

/// The kernel driver that the libraries belong to.
const DRIVER: &str = "nvidia";
/// Loading the driver, readings, `gpu-burn`, and a GPU that hangs until it is given up on.
const AIR_S: u64 = 1500;

/// Accelerators under load.
pub(crate) struct Gpu;

impl HostStage for Gpu {
    fn plan(&self) -> StagePlan {
        // Not required: most machines have no GPU. One that the spec expects fails the stage unless it is verified.
        let timeout_s = seconds(Profile::Standard);
        StagePlan { name: StageName::from(NAME), owner: Owner::Agent, required: false, timeout_s }
    }

    fn limit_s(&self, _spec: &HostSpec, profile: Profile) -> u32 {
        seconds(profile)
    }

    fn judge(&self, input: &JudgeInput<'_>) -> Judgement {
        super::judged(NAME, input, |evidence: &GpuEvidence| {
            judge(evidence, input.spec, duration(input.profile))
        })
    }

    #[cfg(feature = "collect")]
    fn collect<'a>(
        &'a self,
        context: &'a crate::CollectContext<'a>,
    ) -> futures::future::BoxFuture<'a, Result<crate::Collected, crate::CollectError>> {
        Box::pin(collect(context))
    }
}

#[cfg(feature = "collect")]
async fn collect(context: &crate::CollectContext<'_>) -> Result<crate::Collected, crate::CollectError> {
    use assay_probes::gpu::{GpuOptions, gpu};

    let options = GpuOptions::lasting(duration(context.input.profile));
    let probe = gpu(context.machine, context.progress, options).await;
    let evidence = serde_json::to_value(&probe.evidence).map_err(|problem| crate::CollectError {
        stage: StageName::from(NAME),
        problem: problem.to_string(),
    })?;
    Ok(crate::Collected { evidence, artifacts: probe.artifacts })
}

/// How long the load lasts.
const fn duration(profile: Profile) -> Duration {
    match profile {
        Profile::Quick => Duration::from_secs(20),
        Profile::Standard => Duration::from_mins(2),
        Profile::Burnin => Duration::from_mins(30),
    }
}

fn seconds(profile: Profile) -> u32 {
    u32::try_from(duration(profile).as_secs() + AIR_S).unwrap_or(u32::MAX)
}

/// `asked`: for how long each GPU was to work.
fn judge(evidence: &GpuEvidence, spec: &HostSpec, asked: Duration) -> Judgement {
    let mut totals = Totals { lasting: asked, ..Totals::default() };
    totals.absent(evidence, spec);
    for gpu in &evidence.bus {
        let expected = spec.gpus.iter().any(|wanted| same_id(&wanted.id, &gpu.vendor_device));
        totals.on_the_bus(gpu, expected, evidence, spec);
    }
    // The driver lists what the bus no longer shows, or shows elsewhere: judged, and never covered twice.
    let known: HashSet<&str> = evidence.bus.iter().map(|gpu| gpu.address.as_str()).collect();
    for device in evidence.gpus.iter().filter(|device| !known.contains(device.address.as_str())) {
        totals.device(device, None, spec);
    }
    let (findings, checks) = xid::judge(evidence);
    totals.findings.extend(findings);
    totals.checks.extend(checks);
    if let Some(burn) = &evidence.burn {
        totals.burn(burn, &evidence.gpus);
    }
    if evidence.bus.iter().any(BusGpu::is_nvidia) && !evidence.kernel_log_read {
        totals
            .unverified
            .push("the kernel's log was not read: error reports of the driver are not known".to_owned());
    }
    totals.unverified.extend(evidence.problems.iter().map(|problem| clean(problem)));
    totals.judgement(evidence)
}

fn same_id(one: &str, other: &str) -> bool {
    one.trim().eq_ignore_ascii_case(other.trim())
}

/// What all GPUs add up to.
#[derive(Default)]
struct Totals {
    checks: Vec<Check>,
    findings: Vec<Finding>,
    unverified: Vec<String>,
    /// For how long each was to work.
    lasting: Duration,
    /// GPUs that should be verified, and those that were.
    asked: u64,
    verified: u64,
    /// Bytes of device memory, and those that were written and read back.
    memory: u64,
    memory_verified: u64,
    /// GPUs of makers whose driver is not spoken to here, and that nobody expects.
    foreign: u64,
}

impl Totals {
    /// Fewer of a kind than the spec says.
    fn absent(&mut self, evidence: &GpuEvidence, spec: &HostSpec) {
        for wanted in &spec.gpus {
            let id = clean(&wanted.id);
            let seen = evidence.bus.iter().filter(|gpu| same_id(&wanted.id, &gpu.vendor_device)).count();
            let missing = u64::from(wanted.count).saturating_sub(seen as u64);
            self.checks.push(Check {
                name: format!("GPUs {id} on the bus"),
                verdict: if missing > 0 { Verdict::Fail } else { Verdict::Pass },
                expected: format!("at least {}", wanted.count),
                seen: seen.to_string(),
            });
            if missing > 0 {
                self.asked += missing;
                let finding = Finding::new(
                    "GpuAbsent",
                    Severity::Critical,
                    format!("at least {} GPUs {id} are expected and {seen} are on the PCI bus", wanted.count),
                    "Reseat the card and its power cables, look at the slot in the firmware's setup, or correct the expected spec.",
                );
                self.findings.push(finding.part("gpu", None, None));
            }
        }
    }

    fn on_the_bus(&mut self, gpu: &BusGpu, expected: bool, evidence: &GpuEvidence, spec: &HostSpec) {
        let address = clean(&gpu.address);
        let id = clean(&gpu.vendor_device);
        if !gpu.is_nvidia() {
            let why = "there is no test for GPUs of this maker";
            self.unverified.push(format!("GPU {address} ({id}): {why}"));
            if expected {
                self.asked += 1;
                self.untested(&address, why, true);
            } else {
                self.foreign += 1;
            }
            return;
        }
        self.asked += 1;
        if !gpu.there_after {
            let message = format!("GPU {address} ({id}) is no longer on the PCI bus after the load");
            let next = "Check its power cables and cooling, reseat it, and replace it if it happens again.";
            self.blame("GpuLost", &address, message, next);
        }
        let device = evidence.gpus.iter().find(|device| device.address == gpu.address);
        match (gpu.driver.as_deref(), device) {
            (_, Some(device)) => self.device(device, Some(expected), spec),
            (Some(DRIVER), None) if evidence.driver.nvml => {
                let message = format!(
                    "GPU {address} ({id}) has its driver, which does not list it: it cannot be initialised"
                );
                let next = "Read the kernel's log for NVRM lines, reseat the card and its power cables, and replace it if that does not help.";
                self.blame("GpuUnusable", &address, message, next);
            }
            (driver, None) => self.driverless(&address, &id, driver, expected, evidence),
        }
    }

    fn driverless(
        &mut self,
        address: &str,
        id: &str,
        driver: Option<&str>,
        expected: bool,
        evidence: &GpuEvidence,
    ) {
        let why = match driver {
            None => "no kernel driver is bound to it".to_owned(),
            Some(DRIVER) => evidence
                .driver
                .nvml_problem
                .as_deref()
                .map_or_else(|| "the driver's management library did not answer".to_owned(), clean),
            Some(other) => format!("the kernel driver {} is bound to it", clean(other)),
        };
        let message = format!("GPU {address} ({id}) cannot be tested without its driver: {why}");
        let severity = if expected { Severity::Critical } else { Severity::Warning };
        let next = "Add the driver's overlay (kernel module and libraries of one version) to the live image for this host.";
        self.findings.push(Finding::new("GpuDriverMissing", severity, message.clone(), next).part(
            "gpu",
            Some(address),
            None,
        ));
        self.checks.push(Check {
            name: format!("GPU {address}: driver"),
            verdict: if expected { Verdict::Fail } else { Verdict::Unverified },
            expected: DRIVER.to_owned(),
            seen: why,
        });
        self.unverified.push(message);
    }

    /// `expected` is `None` for a GPU that is not on the bus.
    fn device(&mut self, device: &GpuDevice, expected: Option<bool>, spec: &HostSpec) {
        let report = DeviceReport::of(device, &spec.limits.gpu, self.lasting);
        if expected.is_some() {
            self.verified += u64::from(report.verified);
        }
        self.memory += device.memory_bytes.unwrap_or(0);
        self.memory_verified += report.verified_bytes.min(device.memory_bytes.unwrap_or(0));
        self.checks.extend(report.checks);
        self.findings.extend(report.findings);
        self.unverified.extend(report.unverified);
        if let Some(why) = report.untested {
            self.unverified.push(format!("{}: {why}", report.label));
            self.untested(&clean(&device.address), &why, expected == Some(true));
        }
    }

    fn untested(&mut self, address: &str, why: &str, expected: bool) {
        let severity = if expected { Severity::Critical } else { Severity::Warning };
        let message = format!("GPU {address} did no work that could be verified: {why}");
        let next = "Remove the obstacle that the message names and run the stage again.";
        self.findings.push(Finding::new("GpuUntested", severity, message, next).part(
            "gpu",
            Some(address),
            None,
        ));
        self.checks.push(Check {
            name: format!("GPU {address}: verified work"),
            verdict: if expected { Verdict::Fail } else { Verdict::Unverified },
            expected: "done".to_owned(),
            seen: why.to_owned(),
        });
    }

    fn blame(&mut self, code: &str, address: &str, message: String, next: &str) {
        self.checks.push(Check {
            name: format!("GPU {address}: present and usable"),
            verdict: Verdict::Fail,
            expected: "usable".to_owned(),
            seen: message.clone(),
        });
        self.findings.push(Finding::new(code, Severity::Critical, message, next).part(
            "gpu",
            Some(address),
            None,
        ));
    }

    fn burn(&mut self, burn: &GpuBurn, devices: &[GpuDevice]) {
        for gpu in &burn.gpus {
            // It numbers GPUs in an order of its own; only where there is one is it known which is meant.
            let only = match devices {
                [only] => Some(only),
                _ => None,
            };
            let bad = !gpu.ok || gpu.errors > 0;
            self.checks.push(Check {
                name: format!("gpu-burn: its GPU {}", gpu.number),
                verdict: if bad {
                    Verdict::Fail
                } else if burn.finished {
                    Verdict::Pass
                } else {
                    Verdict::Unverified
                },
                expected: "OK, 0 errors".to_owned(),
                seen: format!("{}, {} errors", if gpu.ok { "OK" } else { "not OK" }, gpu.errors),
            });
            if bad {
                let message = format!("gpu-burn calls its GPU {} faulty ({} errors)", gpu.number, gpu.errors);
                let next =
                    "Read gpu-burn.txt for which GPU that is, check its cooling and power, and replace it.";
                let finding =
                    Finding::new("GpuBurnFaulty", Severity::Critical, message, next).evidence("gpu-burn.txt");
                let (address, serial) = (
                    only.map(|gpu| clean(&gpu.address)),
                    only.and_then(|gpu| gpu.serial.as_deref().map(clean)),
                );
                self.findings.push(finding.part("gpu", address.as_deref(), serial.as_deref()));
            }
        }
        if !burn.finished {
            let why =
                burn.problems.first().map_or_else(|| "it said no final word".to_owned(), |why| clean(why));
            let message = format!("gpu-burn did not run to its end: {why}");
            self.unverified.push(message.clone());
            let next = "Read gpu-burn.txt, or leave gpu-burn out of the live image: the built-in work does not need it.";
            let finding = Finding::new("GpuBurnUnfinished", Severity::Warning, message, next);
            self.findings.push(finding.part("gpu", None, None));
        }
    }

    fn judgement(mut self, evidence: &GpuEvidence) -> Judgement {
        for finding in &mut self.findings {
            finding.stage = Some(StageName::from(NAME));
        }
        let message = self.message(evidence);
        let mut coverage = Vec::new();
        if self.asked > 0 {
            coverage.push(Coverage { what: "GPUs".to_owned(), covered: self.verified, total: self.asked });
        }
        if self.memory > 0 {
            coverage.push(Coverage {
                what: "bytes of GPU memory written and verified".to_owned(),
                covered: self.memory_verified,
                total: self.memory,
            });
        }
        let mut judgement =
            Judgement::from_evidence(self.checks, self.findings, coverage, self.unverified, message);
        if judgement.verdict != Verdict::Fail {
            // The verdict drawn from what is there can only be lowered by what is not.
            judgement.verdict = match (self.asked, self.verified) {
                // A bus that cannot be read shows no GPU either.
                (0, _) if evidence.bus.is_empty() && !evidence.problems.is_empty() => Verdict::Unverified,
                (0, _) => Verdict::Skip,
                (asked, verified) if verified < asked => Verdict::Unverified,
                _ => judgement.verdict,
            };
        }
        judgement
    }

    fn message(&self, evidence: &GpuEvidence) -> String {
        let critical: Vec<&Finding> =
            self.findings.iter().filter(|finding| finding.severity == Severity::Critical).collect();
        match critical.as_slice() {
            [first] => return first.message.clone(),
            [first, rest @ ..] => return format!("{} (and {} more)", first.message, rest.len()),
            [] => {}
        }
        let gib = self.memory_verified as f64 / f64::from(1 << 30);
        match (self.asked, self.verified) {
            (0, _) if self.foreign > 0 => {
                format!("{} GPUs of makers without a test here, none expected", self.foreign)
            }
            (0, _) if evidence.problems.is_empty() => "no GPU is here and none is expected".to_owned(),
            (0, _) => "whether a GPU is here could not be read".to_owned(),
            (asked, verified) if verified == asked => {
                format!(
                    "{verified} of {asked} GPUs verified over {gib:.1} GiB of their memory, none is failing"
                )
            }
            (asked, verified) => format!("{verified} of {asked} GPUs verified; the rest could not be"),
        }
    }
}
