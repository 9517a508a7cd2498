//! What the opt-in stage `Memtest86` concludes from the console of memtest86+.
//!
//! Not yet a stage of the pipeline: the machine runs no agent meanwhile, so its console is read by the runner and the
//! control plane has to boot it there and back. The judge is whole; it takes no exit code and no silence for a pass,
//! only a completed pass over all memory without an error, drawn on the screen.

#[cfg(test)]
mod tests;

use assay_model::host::memtest::{MemtestEvidence, MemtestFault};
use assay_model::text::clean;
use assay_model::{Check, Coverage, Finding, Judgement, Severity, Verdict};
use serde_json::Value;

/// The stage's name.
pub const NAME: &str = "Memtest86";

/// Words that are described one by one.
const MAX_DESCRIBED: usize = 3;

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
    let failed = errors > 0 || status.to_lowercase().starts_with("fail");
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
    if failed {
        findings.push(bit_error(evidence, errors));
    } else if !whole {
        unverified.push(match (&evidence.version, evidence.listened_s) {
            (None, listened) => format!(
                "memtest86+ drew nothing on the serial console within {listened:.0} s: is the console redirected to the controller?"
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
    .evidence("memtest-console.txt")
}

fn describe(fault: &MemtestFault) -> String {
    format!(
        "physical address {:#x} (wrote {:#018x}, read {:#018x}, test {})",
        fault.address, fault.expected, fault.found, fault.test
    )
}
