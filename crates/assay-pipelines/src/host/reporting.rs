//! The stage `Reporting`: is the run's own record complete, and what do its temperatures say?
//!
//! A report is worth as much as what it is made from. So the last stage judges the record: an unbroken chain of
//! events, every artifact there and unaltered. The orchestrator holds the record and collects this evidence; the
//! temperatures were gathered by the thermal sidecar from boot on.

use assay_model::{Judgement, Owner, Severity, StageName, StagePlan};

use super::thermal::judge_thermal;
use crate::integrity::Integrity;
use crate::{HostStage, JudgeInput};

/// The stage's name.
const NAME: &str = "Reporting";
/// The record and the temperatures of a run.
pub(crate) struct Reporting;

impl HostStage for Reporting {
    fn plan(&self) -> StagePlan {
        StagePlan { name: StageName::from(NAME), owner: Owner::Orchestrator, required: true, timeout_s: 300 }
    }

    fn judge(&self, input: &JudgeInput<'_>) -> Judgement {
        let integrity = match Integrity::of(input.evidence) {
            Ok(integrity) => integrity,
            Err(problem) => return Judgement::error(problem),
        };
        let thermal = judge_thermal(input.sensors, input.spec);
        let (mut checks, mut findings) = integrity.checks();
        checks.extend(thermal.checks);
        findings.extend(thermal.findings);
        for finding in &mut findings {
            finding.stage = Some(StageName::from(NAME));
        }
        let mut coverage = vec![integrity.coverage()];
        coverage.extend(thermal.coverage);
        let message = match findings.iter().find(|finding| finding.severity == Severity::Critical) {
            Some(finding) => finding.message.clone(),
            None => integrity.message(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SensorSummary;
    use crate::integrity::MAX_NAMED;
    use assay_model::Verdict;
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
