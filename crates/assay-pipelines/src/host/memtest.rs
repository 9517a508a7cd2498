//! What the opt-in stage `Memtest86` concludes from the console of memtest86+.
//!
//! The machine runs no agent meanwhile: the control plane boots it into memtest86+ and back again, and the runner reads
//! its console. The judge takes no exit code and no silence for a pass, only as many completed passes over all memory
//! as were asked for, without an error, drawn on the screen.

#[cfg(test)]
mod tests;

use assay_model::host::memtest::{MemtestEvidence, MemtestFault};
use assay_model::host::order::Profile;
use assay_model::host::spec::HostSpec;
use assay_model::text::clean;
use assay_model::{Check, Coverage, Finding, Judgement, Owner, Severity, StageName, StagePlan, Verdict};
use serde_json::Value;

use crate::{HostStage, JudgeInput};

/// The stage's name.
pub const NAME: &str = "Memtest86";
/// The artifact with what the console said.
pub const CONSOLE: &str = "memtest-console.txt";

/// Words that are described one by one.
const MAX_DESCRIBED: usize = 3;
/// Firmware and network boot take this long at most, and the parts of a pass that wait, not work, as well.
const AIR_S: u64 = 40 * 60;
/// A pass over a GiB, on one slow channel.
const SECONDS_PER_GIB: u64 = 60;
/// Where the spec does not say how much memory there is: a large server's.
const UNKNOWN_GIB: u64 = 1024;
/// Two weeks.
const LONGEST_S: u64 = 14 * 86_400;

/// Memory without an operating system around it.
pub(crate) struct Memtest86;

impl HostStage for Memtest86 {
    fn plan(&self) -> StagePlan {
        let timeout_s = self.limit_s(&HostSpec::default(), Profile::Standard);
        StagePlan { name: StageName::from(NAME), owner: Owner::Runner, required: true, timeout_s }
    }

    fn limit_s(&self, spec: &HostSpec, profile: Profile) -> u32 {
        let limits = &spec.limits.memory;
        let seconds = limits.memtest_minutes.map_or_else(
            || {
                let gib = spec.memory.total_mib.map_or(UNKNOWN_GIB, |mib| mib.div_ceil(1024));
                gib.saturating_mul(SECONDS_PER_GIB).saturating_mul(passes(spec, profile).into()) + AIR_S
            },
            |minutes| u64::from(minutes) * 60,
        );
        u32::try_from(seconds.min(LONGEST_S)).unwrap_or(u32::MAX)
    }

    fn opt_in(&self) -> bool {
        true
    }

    fn judge(&self, input: &JudgeInput<'_>) -> Judgement {
        judge_memtest(input.evidence)
    }

    #[cfg(feature = "collect")]
    fn collect<'a>(
        &'a self,
        _context: &'a crate::CollectContext<'a>,
    ) -> futures::future::BoxFuture<'a, Result<crate::Collected, crate::CollectError>> {
        let problem =
            "the runner collects this stage's evidence; an agent that is told to has an outdated plan";
        let refused = crate::CollectError { stage: StageName::from(NAME), problem: problem.to_owned() };
        Box::pin(std::future::ready(Err(refused)))
    }
}

/// How many passes are asked for.
pub fn passes(spec: &HostSpec, profile: Profile) -> u32 {
    spec.limits.memory.memtest_passes.unwrap_or(match profile {
        Profile::Quick | Profile::Standard => 1,
        Profile::Burnin => 4,
    })
}

/// Judges what the console showed. Pure.
pub fn judge_memtest(evidence: &Value) -> Judgement {
    match serde_json::from_value::<MemtestEvidence>(evidence.clone()) {
        Ok(evidence) => judge(&evidence),
        Err(problem) => Judgement::error(format!(
            "the evidence of {NAME} cannot be read ({problem}); are runner and server of the same version?"
        )),
    }
}

fn judge(evidence: &MemtestEvidence) -> Judgement {
    let (mut checks, mut findings, mut unverified) = (Vec::new(), Vec::new(), Vec::new());
    let asked = evidence.passes_asked.max(1);
    let errors = evidence.errors.max(evidence.faults.len() as u64);
    let status = evidence.status.as_deref().map(clean).unwrap_or_default();
    // It says so itself even where the number was not read.
    let broken = errors > 0 || status.to_lowercase().starts_with("fail");
    let failed = broken || evidence.restarts > 0;
    let whole = evidence.version.is_some() && evidence.passes >= asked;
    let ran = evidence.time.as_deref().map_or_else(|| "an unknown time".to_owned(), clean);
    let memory = evidence.memory.as_deref().map_or_else(|| "an unknown amount".to_owned(), clean);
    let verdict = match (failed, whole) {
        (true, _) => Verdict::Fail,
        (false, true) => Verdict::Pass,
        (false, false) => Verdict::Unverified,
    };
    checks.push(Check {
        name: "memtest86+".to_owned(),
        verdict,
        expected: format!("{asked} whole passes, no error"),
        seen: format!("{} passes over {memory} in {ran}, {errors} errors, status {status}", evidence.passes),
    });
    if broken {
        findings.push(bit_error(evidence, errors));
    }
    if evidence.restarts > 0 {
        findings.push(restarted(evidence));
    }
    if !failed && !whole {
        unverified.push(match (&evidence.version, evidence.listened_s) {
            (None, _) if evidence.served == Some(false) => "the machine never asked for its boot script, so \
                memtest86+ did not run: look at its console whether it boots from the network first"
                .to_owned(),
            (None, listened) => format!(
                "memtest86+ drew nothing on the serial console within {listened:.0} s: is the console redirected to the controller, at the port and speed that the host's `power` setting names?"
            ),
            (Some(_), listened) => format!(
                "memtest86+ completed {} of {asked} passes in {listened:.0} s; the last showed {} %",
                evidence.passes,
                evidence.percent.min(100)
            ),
        });
    }
    unverified.extend(evidence.problems.iter().take(16).map(|problem| clean(problem)));
    let coverage = Coverage {
        what: "whole passes of memtest86+".to_owned(),
        covered: evidence.passes.min(asked),
        total: asked,
    };
    let message = findings.first().map_or_else(
        || format!("memtest86+: {} passes over {memory} in {ran}, {errors} errors", evidence.passes),
        |finding: &Finding| finding.message.clone(),
    );
    Judgement::from_evidence(checks, findings, vec![coverage], unverified, message)
}

fn bit_error(evidence: &MemtestEvidence, errors: u64) -> Finding {
    let described: Vec<String> = evidence.faults.iter().take(MAX_DESCRIBED).map(describe).collect();
    let described =
        if described.is_empty() { "it names no address".to_owned() } else { described.join("; ") };
    let first = evidence.faults.first().map(|fault| format!("{:#x}", fault.address));
    Finding::new(
        "MemoryBitError",
        Severity::Critical,
        format!("memtest86+ counted {errors} errors: {described}; it does not say which module that is"),
        "Take out half of the modules and retry; go on with the half that fails until one is left, and replace that.",
    )
    .part("memory", first.as_deref(), None)
    .evidence(CONSOLE)
}

fn restarted(evidence: &MemtestEvidence) -> Finding {
    Finding::new(
        "MemtestRestarted",
        Severity::Critical,
        format!("the machine reset {} times while memtest86+ ran", evidence.restarts),
        "If nobody reset it, suspect power supply, overheating or memory, and repair it before it is vetted again.",
    )
    .part("system", None, None)
    .evidence(CONSOLE)
}

fn describe(fault: &MemtestFault) -> String {
    format!(
        "physical address {:#x} (wrote {:#018x}, read {:#018x}, test {})",
        fault.address, fault.expected, fault.found, fault.test
    )
}
