//! What a judge returns: checks with thresholds, the coverage behind them, and a verdict.

use std::fmt;

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

/// As a person reads it: `2 of 3 disks`, `1.2 GiB of 1.9 GiB of memory written and verified`.
impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what.strip_prefix("bytes ") {
            Some(what) => write!(f, "{} of {} {what}", bytes(self.covered), bytes(self.total)),
            None => write!(f, "{} of {} {}", self.covered, self.total, self.what),
        }
    }
}

/// A number of bytes in the largest unit of which there is at least one: `1.5 GiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
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
    #[test]
    fn coverage_is_told_in_units_that_people_read() {
        let told = |what: &str, covered, total| Coverage { what: what.into(), covered, total }.to_string();
        assert_eq!(told("disks", 2, 3), "2 of 3 disks");
        assert_eq!(told("bytes of memory", 1_258_291, 3 << 30), "1.2 MiB of 3.0 GiB of memory");
        assert_eq!(told("bytes of disks", 12, 5 << 40), "12 B of 5.0 TiB of disks");
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
