//! What a judge returns: checks with thresholds, the coverage behind them, and a verdict.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Finding, Severity, Verdict};

/// One criterion: what was expected, what was seen, and how it came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// What was looked at, for people: `disk AB12: critical warning`.
    pub name: String,
    /// How it came out.
    pub verdict: Verdict,
    /// The threshold or expected value, with unit.
    pub expected: String,
    /// What was seen, with unit.
    pub seen: String,
}

/// How much of the thing a verdict speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// What is counted: `disks`, `sensors`, `spec fields`, `bytes written and verified` …
    pub what: String,
    /// How many were covered.
    pub covered: u64,
    /// How many there are.
    pub total: u64,
}

/// The outcome of judging one attempt of one stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Judgement {
    /// What it concluded.
    pub verdict: Verdict,
    /// One sentence for the stage list.
    pub message: String,
    /// Every criterion that was applied.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Every observation.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// What the verdict speaks for.
    #[serde(default)]
    pub coverage: Vec<Coverage>,
    /// What should have been verified and was not, one sentence each; printed beside the verdict.
    #[serde(default)]
    pub unverified: Vec<String>,
}

impl Judgement {
    /// Draws the verdict from what is there: any critical finding or failed check fails; nothing
    /// checked at all is `unverified`, never a pass.
    pub fn from_evidence(
        checks: Vec<Check>,
        findings: Vec<Finding>,
        coverage: Vec<Coverage>,
        unverified: Vec<String>,
        message: impl Into<String>,
    ) -> Self {
        let failed = is_critical(&findings) || checks.iter().any(|c| c.verdict == Verdict::Fail);
        let verdict = if failed {
            Verdict::Fail
        } else if checks.iter().any(|c| c.verdict == Verdict::Pass) {
            Verdict::Pass
        } else {
            Verdict::Unverified
        };
        Self { verdict, message: message.into(), checks, findings, coverage, unverified }
    }

    /// The judgement as it would be if the checks behind these codes did not exist: their findings
    /// are gone, and what remains decides. Used by `assay prove --mute`, to show that a proof
    /// would notice the loss of a check.
    ///
    /// A failed check always has a finding beside it, so the findings that remain are enough.
    #[must_use]
    pub fn mute(mut self, codes: &[String]) -> Self {
        let before = self.findings.len();
        self.findings.retain(|f| !codes.contains(&f.code));
        if self.findings.len() < before && self.verdict == Verdict::Fail && !is_critical(&self.findings) {
            self.verdict = Verdict::Pass;
        }
        self
    }

    /// A judgement that says only that the runner, not the target, failed.
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Error,
            message: message.into(),
            checks: Vec::new(),
            findings: Vec::new(),
            coverage: Vec::new(),
            unverified: Vec::new(),
        }
    }
}

fn is_critical(findings: &[Finding]) -> bool {
    findings.iter().any(|f| f.severity == Severity::Critical)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(verdict: Verdict) -> Check {
        Check { name: "n".into(), verdict, expected: "e".into(), seen: "s".into() }
    }
    fn finding(code: &str, severity: Severity) -> Finding {
        Finding::new(code, severity, "m", "n")
    }
    fn judge(checks: Vec<Check>, findings: Vec<Finding>) -> Judgement {
        Judgement::from_evidence(checks, findings, vec![], vec![], "m")
    }

    #[test]
    fn nothing_checked_is_never_a_pass() {
        assert_eq!(judge(vec![], vec![]).verdict, Verdict::Unverified);
        assert_eq!(judge(vec![check(Verdict::Skip)], vec![]).verdict, Verdict::Unverified);
        assert_eq!(judge(vec![check(Verdict::Pass)], vec![]).verdict, Verdict::Pass);
    }

    #[test]
    fn a_failed_check_or_a_critical_finding_fails() {
        let pass = || check(Verdict::Pass);
        assert_eq!(judge(vec![pass(), check(Verdict::Fail)], vec![]).verdict, Verdict::Fail);
        let critical = vec![finding("A", Severity::Critical)];
        assert_eq!(judge(vec![pass()], critical).verdict, Verdict::Fail);
        let warning = vec![finding("A", Severity::Warning)];
        assert_eq!(judge(vec![pass()], warning).verdict, Verdict::Pass);
    }

    #[test]
    fn muting_takes_away_exactly_its_own_code() {
        let both = || {
            judge(
                vec![check(Verdict::Fail)],
                vec![finding("A", Severity::Critical), finding("B", Severity::Critical)],
            )
        };
        let mute = |codes: &[&str]| both().mute(&codes.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>());
        assert_eq!(mute(&["A"]).verdict, Verdict::Fail, "B still fails it");
        assert_eq!(mute(&["A", "B"]).verdict, Verdict::Pass);
        assert_eq!(mute(&["C"]), both());
    }
}
