//! The stage `Reporting`: is the run's own record complete, and what do its temperatures say?
//!
//! A report is worth as much as what it is made from. So the last stage judges the record: an unbroken chain of
//! events, every artifact there and unaltered. The orchestrator holds the record and collects this evidence; the
//! temperatures were gathered by the thermal sidecar from boot on.

use assay_model::text::clean;
use assay_model::{Check, Coverage, Finding, Judgement, Owner, Severity, StageName, StagePlan, Verdict};
use serde::Deserialize;

use super::thermal::judge_thermal;
use crate::{HostStage, JudgeInput};

/// The stage's name.
const NAME: &str = "Reporting";
/// Most artifacts that are named one by one.
const MAX_NAMED: usize = 20;

/// The record and the temperatures of a run.
pub(crate) struct Reporting;

/// The state of the run's record, as the orchestrator found it.
#[derive(Debug, Deserialize)]
struct Integrity {
    chain_ok: bool,
    events: u64,
    artifacts: u64,
    missing_artifacts: Vec<String>,
    altered_artifacts: Vec<String>,
}

impl HostStage for Reporting {
    fn plan(&self) -> StagePlan {
        StagePlan { name: StageName::from(NAME), owner: Owner::Orchestrator, required: true, timeout_s: 300 }
    }

    fn judge(&self, input: &JudgeInput<'_>) -> Judgement {
        let integrity = match serde_json::from_value::<Integrity>(input.evidence.clone()) {
            Ok(integrity) => integrity,
            Err(problem) => {
                return Judgement::error(format!("the state of the run's record cannot be read: {problem}"));
            }
        };
        let thermal = judge_thermal(input.sensors, input.spec);
        let (mut checks, mut findings) = record(&integrity);
        checks.extend(thermal.checks);
        findings.extend(thermal.findings);
        for finding in &mut findings {
            finding.stage = Some(StageName::from(NAME));
        }
        let broken = integrity.missing_artifacts.len() + integrity.altered_artifacts.len();
        let intact = integrity.artifacts.saturating_sub(broken as u64);
        let mut coverage =
            vec![Coverage { what: "artifacts".to_owned(), covered: intact, total: integrity.artifacts }];
        coverage.extend(thermal.coverage);
        let message = match findings.iter().find(|finding| finding.severity == Severity::Critical) {
            Some(finding) => finding.message.clone(),
            None => format!(
                "{} events in an unbroken chain, {} artifacts intact",
                integrity.events, integrity.artifacts
            ),
        };
        Judgement::from_evidence(checks, findings, coverage, thermal.unverified, message)
    }

    #[cfg(feature = "collect")]
    fn collect<'a>(
        &'a self,
        _context: &'a crate::CollectContext<'a>,
    ) -> futures::future::BoxFuture<'a, Result<crate::Collected, crate::CollectError>> {
        let problem =
            "the orchestrator collects this stage's evidence; an agent that is told to has an outdated plan";
        let refused = crate::CollectError { stage: StageName::from(NAME), problem: problem.to_owned() };
        Box::pin(std::future::ready(Err(refused)))
    }
}

fn record(integrity: &Integrity) -> (Vec<Check>, Vec<Finding>) {
    let (mut checks, mut findings) = (Vec::new(), Vec::new());
    let mut check = |name: &str, ok: bool, expected: &str, seen: String| {
        let verdict = if ok { Verdict::Pass } else { Verdict::Fail };
        checks.push(Check { name: name.to_owned(), verdict, expected: expected.to_owned(), seen });
    };
    // A run that reached its last stage has events; a chain of none is not a chain.
    let whole = integrity.chain_ok && integrity.events > 0;
    let seen = if whole { "unbroken" } else { "broken" };
    check("event chain", whole, "unbroken, with events", format!("{seen}, {} events", integrity.events));
    if !whole {
        findings.push(Finding::new(
            "ChainBroken",
            Severity::Critical,
            format!("the chain of the run's {} events is broken: an event was altered, removed or added", integrity.events),
            "Do not rely on this run; find out who can write to the store, restore it from a backup, and run again.",
        ));
    }
    let lists = [
        ("ArtifactMissing", "missing", &integrity.missing_artifacts),
        ("ArtifactAltered", "altered", &integrity.altered_artifacts),
    ];
    for (code, what, names) in lists {
        check(&format!("{what} artifacts"), names.is_empty(), "none", names.len().to_string());
        for name in names.iter().take(MAX_NAMED) {
            let message = format!(
                "artifact {} is {what}: it was recorded with its digest and is not there as it was",
                clean(name)
            );
            let next_step = "Look at the artifact store's disk and permissions, then run again.";
            findings.push(Finding::new(code, Severity::Critical, message, next_step));
        }
        if names.len() > MAX_NAMED {
            let message = format!("{} more artifacts are {what}", names.len() - MAX_NAMED);
            let next_step = "Look at the artifact store's disk and permissions, then run again.";
            findings.push(Finding::new(code, Severity::Critical, message, next_step));
        }
    }
    (checks, findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SensorSummary;
    use assay_model::host::spec::HostSpec;
    use assay_model::sensor::SensorInfo;
    use serde_json::{Value, json};

    fn judge(evidence: &Value, sensors: &[SensorSummary]) -> Judgement {
        Reporting.judge(&JudgeInput { sensors, ..JudgeInput::new(&HostSpec::default(), evidence) })
    }

    fn evidence(chain_ok: bool, events: u64, missing: &[&str], altered: &[&str]) -> Value {
        json!({"chain_ok": chain_ok, "events": events, "artifacts": 7, "missing_artifacts": missing, "altered_artifacts": altered})
    }

    fn sensor(max: f64) -> SensorSummary {
        let sensor = SensorInfo {
            name: "nvme/Composite@0000:01:00.0".into(),
            kind: "thermal".into(),
            unit: "°C".into(),
            max: None,
            critical: Some(85.0),
        };
        SensorSummary { sensor, samples: 10, missing: 0, min: 20.0, max }
    }

    #[test]
    fn an_intact_record_passes_and_says_what_it_speaks_for() {
        let judgement = judge(&evidence(true, 41, &[], &[]), &[sensor(50.0)]);
        assert_eq!(judgement.verdict, Verdict::Pass);
        assert_eq!(judgement.message, "41 events in an unbroken chain, 7 artifacts intact");
        assert!(judgement.unverified.is_empty() && judgement.findings.is_empty());
        let without = judge(&evidence(true, 41, &[], &[]), &[]);
        assert_eq!(without.verdict, Verdict::Pass, "sensors are not what this stage is required for");
        assert_eq!(without.unverified.len(), 1, "and that they are missing is said");
    }

    #[test]
    fn each_defect_fails_alone_and_muting_it_lets_the_rest_decide() {
        let cases = [
            ("ChainBroken", evidence(false, 41, &[], &[]), sensor(50.0)),
            ("ChainBroken", evidence(true, 0, &[], &[]), sensor(50.0)),
            ("ArtifactMissing", evidence(true, 41, &["inventory.json"], &[]), sensor(50.0)),
            ("ArtifactAltered", evidence(true, 41, &[], &["smart-A.txt"]), sensor(50.0)),
            ("TemperatureLimit", evidence(true, 41, &[], &[]), sensor(97.0)),
        ];
        for (code, evidence, sensor) in cases {
            let judgement = judge(&evidence, &[sensor]);
            assert_eq!(judgement.verdict, Verdict::Fail, "{code}");
            let codes: Vec<_> = judgement.findings.iter().map(|f| f.code.as_str()).collect();
            assert_eq!(codes, [code]);
            assert!(judgement.findings.iter().all(|f| f.stage.as_ref().is_some_and(|stage| stage == NAME)));
            assert_eq!(judgement.mute(&[code.to_owned()]).verdict, Verdict::Pass, "{code} muted");
        }
    }

    #[test]
    fn many_defects_are_counted_not_listed_without_end() {
        let names: Vec<String> = (0..50).map(|n| format!("a{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let judgement = judge(&evidence(true, 41, &names, &[]), &[]);
        assert_eq!(judgement.findings.len(), MAX_NAMED + 1);
        assert!(judgement.findings[MAX_NAMED].message.starts_with("30 more"));
    }

    #[test]
    fn evidence_that_does_not_fit_is_the_runner_s_failure() {
        for evidence in [json!({}), json!(null), json!({"chain_ok": "yes"}), json!([])] {
            assert_eq!(judge(&evidence, &[]).verdict, Verdict::Error, "{evidence}");
        }
    }
}
