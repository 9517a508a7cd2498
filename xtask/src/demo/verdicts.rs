//! What the two machines must come out as, and what is said about it.

use std::fmt;

use anyhow::{Result, bail};
use assay_api::operator::RunDetail;
use assay_model::{Finding, RunResult, RunState, Severity};

/// The machine in good order.
pub(super) const GOOD: &str = "healthy-bios";
/// The machine with two faults.
pub(super) const BROKEN: &str = "missing-dimm-swapped-disk";
/// What must be found on the broken one: the code, and what its finding must name.
const FAULTS: [(&str, &str); 2] = [("DimmMissing", "DIMM_B1"), ("DiskMissing", "SA21137702")];
/// Where it must be found.
const STAGE: &str = "SpecValidate";

/// Both runs at their ends.
pub(super) struct Verdicts {
    pub(super) good: RunDetail,
    pub(super) broken: RunDetail,
}

impl Verdicts {
    /// An error that says everything that came out differently.
    pub(super) fn check(&self) -> Result<()> {
        let problems: Vec<String> =
            problems_of_good(&self.good).into_iter().chain(problems_of_broken(&self.broken)).collect();
        if problems.is_empty() {
            return Ok(());
        }
        bail!("the demo did not come out as it must:\n  {}", problems.join("\n  "))
    }
}

fn problems_of_good(run: &RunDetail) -> Vec<String> {
    let summary = &run.summary;
    let mut problems = Vec::new();
    if summary.state != RunState::Completed || summary.result != Some(RunResult::Pass) || summary.overridden {
        problems.push(format!("{GOOD} must pass; it is {}", words(run)));
    }
    problems.extend(
        critical(run)
            .map(|finding| format!("{GOOD} has nothing wrong, yet: {}: {}", finding.code, finding.message)),
    );
    problems
}

fn problems_of_broken(run: &RunDetail) -> Vec<String> {
    let summary = &run.summary;
    let mut problems = Vec::new();
    if summary.state != RunState::FailedHolding || summary.failed_stage.as_deref() != Some(STAGE) {
        problems.push(format!("{BROKEN} must be held at {STAGE}; it is {}", words(run)));
    }
    for (code, names) in FAULTS {
        let found = critical(run).any(|finding| {
            let part = finding.part.as_ref().map(ToString::to_string).unwrap_or_default();
            finding.code == code && (part.contains(names) || finding.message.contains(names))
        });
        if !found {
            problems.push(format!("{BROKEN} must have a critical finding {code} that names {names}"));
        }
    }
    problems
}

fn critical(run: &RunDetail) -> impl Iterator<Item = &Finding> {
    run.report.findings.iter().filter(|finding| finding.severity == Severity::Critical)
}

fn words(run: &RunDetail) -> String {
    let summary = &run.summary;
    match (summary.result, &summary.failed_stage) {
        (Some(result), None) => format!("{} ({})", summary.state, result.as_str()),
        // A held run has no result yet: an operator may still decide otherwise.
        (_, Some(stage)) => format!("{} (failed at {stage})", summary.state),
        (None, None) => format!("{} (no result)", summary.state),
    }
}

impl fmt::Display for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "VERDICTS")?;
        for (name, run) in [(GOOD, &self.good), (BROKEN, &self.broken)] {
            writeln!(f, "  run {}  {name}: {}", run.summary.number, words(run))?;
            for finding in &run.report.findings {
                writeln!(f, "         {} {}: {}", finding.severity, finding.code, finding.message)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn run(
        name: &str,
        state: &str,
        result: Option<&str>,
        failed_stage: Option<&str>,
        findings: &[Value],
    ) -> RunDetail {
        let id = "0192d3a4-0000-7000-8000-000000000001";
        serde_json::from_value(json!({
            "summary": {
                "number": 1, "id": id, "target": name, "pipeline": "host", "profile": "standard", "state": state, "result": result,
                "overridden": false, "stage": null, "failed_stage": failed_stage, "created_at": 0, "completed_at": null, "waiting": null,
            },
            "report": {
                "format": 1,
                "run": {
                    "id": id, "number": 1, "pipeline": "host", "profile": "standard", "target": name, "state": state, "result": result,
                    "overridden": false, "failed_stage": failed_stage, "started_at": null, "completed_at": null,
                },
                "stages": [], "findings": findings, "unverified": [], "decisions": [], "artifacts": [], "seal": null,
            },
            "seq": 1, "hold_until": null, "step": null,
        }))
        .expect("a run")
    }

    fn finding(code: &str, severity: &str, location: Option<&str>, message: &str) -> Value {
        json!({
            "code": code, "severity": severity, "stage": STAGE, "part": { "kind": "part", "location": location },
            "message": message, "next_step": "look",
        })
    }

    fn as_it_must_be() -> Verdicts {
        let findings = [
            finding("DimmMissing", "critical", Some("DIMM_B1"), "memory module 1024 MiB is missing"),
            finding("DiskMissing", "critical", None, "disk serial SA21137702 is gone"),
        ];
        Verdicts {
            good: run(
                GOOD,
                "Completed",
                Some("pass"),
                None,
                &[finding("FirmwareDiffers", "warning", None, "newer")],
            ),
            broken: run(BROKEN, "FailedHolding", None, Some(STAGE), &findings),
        }
    }

    #[test]
    fn both_verdicts_as_they_must_be() {
        let verdicts = as_it_must_be();
        verdicts.check().expect("as it must be");
        let said = verdicts.to_string();
        assert!(said.contains("run 1  healthy-bios: Completed (pass)"), "{said}");
        assert!(said.contains("missing-dimm-swapped-disk: FailedHolding (failed at SpecValidate)"), "{said}");
        assert!(said.contains("critical DiskMissing: disk serial SA21137702 is gone"), "{said}");
    }

    #[test]
    fn every_other_outcome_is_an_error_that_says_what_differs() {
        let problem = |change: &dyn Fn(&mut Verdicts)| {
            let mut verdicts = as_it_must_be();
            change(&mut verdicts);
            verdicts.check().expect_err("it must not pass").to_string()
        };
        assert!(
            problem(&|v| v.good.summary.result = Some(RunResult::Fail)).contains("healthy-bios must pass")
        );
        assert!(problem(&|v| v.good.summary.overridden = true).contains("healthy-bios must pass"));
        assert!(problem(&|v| v.good.summary.state = RunState::Cancelled).contains("healthy-bios must pass"));
        assert!(
            problem(&|v| v.good.report.findings[0].severity = Severity::Critical)
                .contains("nothing wrong, yet: FirmwareDiffers")
        );
        assert!(
            problem(&|v| v.broken.summary.state = RunState::Completed)
                .contains("must be held at SpecValidate")
        );
        assert!(
            problem(&|v| v.broken.summary.failed_stage = Some("SMART".into()))
                .contains("must be held at SpecValidate")
        );
        assert!(
            problem(&|v| drop(v.broken.report.findings.remove(0))).contains("DimmMissing that names DIMM_B1")
        );
        assert!(
            problem(&|v| drop(v.broken.report.findings.remove(1)))
                .contains("DiskMissing that names SA21137702")
        );
        assert!(
            problem(&|v| v.broken.report.findings[1].message = "another disk".into()).contains("DiskMissing")
        );
        assert!(
            problem(&|v| v.broken.report.findings[0].severity = Severity::Warning).contains("DimmMissing")
        );
    }

    #[test]
    fn the_machine_files_are_broken_in_the_way_that_is_looked_for() {
        let read = |name: &str| {
            std::fs::read_to_string(crate::place::repository().join(format!("lab/machines/{name}.toml")))
                .expect("a machine")
        };
        let (good, broken) = (read(GOOD), read(BROKEN));
        assert!(broken.contains("unit = \"13\"") && broken.contains("[fault.dimms.DIMM_B1]"), "{broken}");
        assert!(
            broken.contains("[fault.disks.sata0]") && good.contains("serial = \"SA21{unit}7702\""),
            "{good}"
        );
    }
}
