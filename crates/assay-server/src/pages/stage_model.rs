//! One stage of a run as its page shows it. Pure.

use assay_model::text::plural;
use assay_model::view::{AttemptOutcome, AttemptView, StageView};
use assay_model::{Check, Coverage, Micros, Verdict};

use super::format;
use super::shell::Badge;

/// A stage of the timeline.
pub(super) struct StageModel {
    pub(super) name: String,
    pub(super) badge: Badge,
    /// `optional`, where it is.
    pub(super) optional: bool,
    /// One sentence: what it concluded, or why it waits.
    pub(super) message: String,
    /// What the agent says it is doing.
    pub(super) step: Option<String>,
    /// Since when the open try runs, in milliseconds of the epoch; script counts on.
    pub(super) since_ms: Option<i64>,
    /// How long the open or the latest try took.
    pub(super) took: Option<String>,
    /// Longest time a try may take.
    pub(super) limit: String,
    pub(super) coverage: Vec<CoverageModel>,
    pub(super) checks: Vec<CheckModel>,
    /// `11 of 12 checks passed`.
    pub(super) checks_summary: String,
    /// Names the list of checks; another verdict is another list.
    pub(super) checks_id: String,
    pub(super) checks_open: bool,
    /// Tries before the latest, oldest first.
    pub(super) earlier: Vec<String>,
}

pub(super) struct CheckModel {
    pub(super) badge: Badge,
    pub(super) name: String,
    pub(super) expected: String,
    pub(super) seen: String,
}

pub(super) struct CoverageModel {
    /// `12 of 12 sensors`.
    pub(super) text: String,
    pub(super) covered: u64,
    pub(super) total: u64,
    pub(super) whole: bool,
}

/// What a stage's row depends on besides the stage.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) now: Micros,
    /// Whether the run can still reach it.
    pub(super) open_run: bool,
    pub(super) step: Option<&'a str>,
}

impl StageModel {
    pub(super) fn of(stage: &StageView, around: Around<'_>) -> Self {
        let latest = stage.latest();
        let open = latest.filter(|a| is_open(a) && around.open_run);
        let judged = stage.judgement().filter(|_| stage.verdict().is_some());
        let checks: Vec<Check> = judged.map(|j| j.checks.clone()).unwrap_or_default();
        let failed = judged.is_some_and(|j| matches!(j.verdict, Verdict::Fail | Verdict::Error));
        let attempt = latest.map_or(0, |a| a.attempt);
        Self {
            name: stage.plan.name.0.clone(),
            badge: badge(stage, around.open_run),
            optional: !stage.plan.required,
            message: message(stage, around.open_run),
            step: open.and(around.step).map(str::to_owned),
            since_ms: open.map(|a| a.started_at.0 / 1000),
            took: match open {
                Some(a) => Some(format::duration(around.now.since(a.started_at).as_seconds())),
                None => stage.seconds().map(format::duration),
            },
            limit: format::duration(f64::from(stage.plan.timeout_s)),
            coverage: judged
                .map(|j| j.coverage.iter().filter(|c| c.total > 0).map(coverage).collect())
                .unwrap_or_default(),
            checks_summary: summary(&checks),
            checks_id: format!(
                "checks-{}-{attempt}-{}",
                stage.plan.name,
                if failed { "failed" } else { "fine" }
            ),
            checks_open: failed && !stage.waived,
            checks: by_badness(&checks),
            earlier: earlier(stage),
        }
    }
}

const fn is_open(attempt: &AttemptView) -> bool {
    matches!(attempt.outcome, AttemptOutcome::Open)
}

fn badge(stage: &StageView, open_run: bool) -> Badge {
    match (stage.latest(), stage.verdict()) {
        _ if stage.waived => Badge::warning("Waived"),
        (_, Some(verdict)) => Badge::verdict(verdict),
        (Some(a), None) if is_open(a) && !open_run => Badge::idle("Broken off"),
        (Some(a), None) if is_open(a) && a.evidence.is_some() => Badge::active("Judging"),
        (Some(a), None) if is_open(a) => Badge::active("Running"),
        (Some(_), None) => Badge::warning("Lost"),
        (None, None) if open_run => Badge::idle("Waiting"),
        (None, None) => Badge::idle("Not reached"),
    }
}

fn message(stage: &StageView, open_run: bool) -> String {
    let Some(latest) = stage.latest() else { return String::new() };
    match &latest.outcome {
        AttemptOutcome::Judged(judgement) => judgement.message.clone(),
        AttemptOutcome::Lost(why) if open_run => {
            format!("try {} was lost: {why}; it is tried again", latest.attempt)
        }
        AttemptOutcome::Lost(why) => format!("try {} was lost: {why}", latest.attempt),
        AttemptOutcome::Open => String::new(),
    }
}

fn earlier(stage: &StageView) -> Vec<String> {
    let before = stage.attempts.len().saturating_sub(1);
    let tell = |a: &AttemptView| match &a.outcome {
        AttemptOutcome::Judged(j) => format!("try {}: {}: {}", a.attempt, j.verdict, j.message),
        AttemptOutcome::Lost(why) => format!("try {}: lost: {why}", a.attempt),
        AttemptOutcome::Open => format!("try {}: never closed", a.attempt),
    };
    stage.attempts.iter().take(before).map(tell).collect()
}

fn coverage(c: &Coverage) -> CoverageModel {
    CoverageModel { text: c.to_string(), covered: c.covered, total: c.total, whole: c.covered >= c.total }
}

/// What needs eyes comes first; what passed comes last.
fn by_badness(checks: &[Check]) -> Vec<CheckModel> {
    let rank = |v: Verdict| match v {
        Verdict::Fail => 0,
        Verdict::Error => 1,
        Verdict::Unverified => 2,
        Verdict::Skip => 3,
        Verdict::Pass => 4,
    };
    let mut sorted: Vec<&Check> = checks.iter().collect();
    sorted.sort_by_key(|c| rank(c.verdict));
    sorted
        .into_iter()
        .map(|c| CheckModel {
            badge: Badge::verdict(c.verdict),
            name: c.name.clone(),
            expected: c.expected.clone(),
            seen: c.seen.clone(),
        })
        .collect()
}

fn summary(checks: &[Check]) -> String {
    let passed = checks.iter().filter(|c| c.verdict == Verdict::Pass).count();
    if passed == checks.len() {
        return format!("{} passed", plural(passed, "check"));
    }
    format!("{passed} of {} passed", plural(checks.len(), "check"))
}

#[cfg(test)]
mod tests {
    use assay_model::{Judgement, Owner, StagePlan};

    use super::*;

    fn stage(attempts: Vec<AttemptOutcome>) -> StageView {
        let plan = StagePlan { name: "SMART".into(), owner: Owner::Agent, required: true, timeout_s: 600 };
        let attempt = |(n, outcome): (u32, AttemptOutcome)| AttemptView {
            attempt: n,
            generation: i64::from(n),
            started_at: Micros::seconds(100 * i64::from(n)),
            ended_at: (!matches!(outcome, AttemptOutcome::Open))
                .then(|| Micros::seconds(100 * i64::from(n) + 42)),
            outcome,
            evidence: None,
        };
        StageView { plan, attempts: (1..).zip(attempts).map(attempt).collect(), waived: false }
    }

    fn judged(verdict: Verdict) -> AttemptOutcome {
        let check = |name: &str, verdict| Check {
            name: name.into(),
            verdict,
            expected: "e".into(),
            seen: "s".into(),
        };
        AttemptOutcome::Judged(Judgement {
            verdict,
            message: "told".into(),
            checks: vec![check("good", Verdict::Pass), check("bad", verdict)],
            findings: vec![],
            coverage: vec![Coverage { what: "disks".into(), covered: 1, total: 2 }],
            unverified: vec![],
        })
    }

    fn around(open_run: bool) -> Around<'static> {
        Around { now: Micros::seconds(330), open_run, step: Some("disk 1") }
    }

    #[test]
    fn a_running_stage_tells_step_and_time() {
        let model = StageModel::of(&stage(vec![AttemptOutcome::Open]), around(true));
        assert_eq!((model.badge.word.as_str(), model.step.as_deref()), ("Running", Some("disk 1")));
        assert_eq!(model.took.as_deref(), Some("3 m 50 s"));
        let model = StageModel::of(&stage(vec![AttemptOutcome::Open]), around(false));
        assert_eq!((model.badge.word.as_str(), model.step), ("Broken off", None));
    }

    #[test]
    fn the_failed_check_stands_first_and_open() {
        let model = StageModel::of(&stage(vec![judged(Verdict::Fail)]), around(true));
        assert_eq!(model.checks[0].name, "bad");
        assert!(model.checks_open && !model.coverage[0].whole);
        assert_eq!(model.checks_summary, "1 of 2 checks passed");
        assert_eq!(model.took.as_deref(), Some("42 s"));
    }

    #[test]
    fn an_old_verdict_is_not_shown_as_the_present_one() {
        let again = stage(vec![judged(Verdict::Fail), AttemptOutcome::Open]);
        let model = StageModel::of(&again, around(true));
        assert_eq!(model.badge.word, "Running");
        assert!(model.checks.is_empty(), "those of the first try are history");
        assert_eq!(model.earlier, ["try 1: fail: told"]);
    }

    #[test]
    fn waived_lost_and_unreached_are_never_green() {
        let waived = StageView { waived: true, ..stage(vec![judged(Verdict::Fail)]) };
        for (stage, word) in [
            (waived, "Waived"),
            (stage(vec![AttemptOutcome::Lost("silent".into())]), "Lost"),
            (stage(vec![]), "Not reached"),
            (stage(vec![judged(Verdict::Unverified)]), "Not verified"),
        ] {
            let model = StageModel::of(&stage, around(false));
            assert_eq!(model.badge.word, word);
            assert_ne!(model.badge.tone, "pass");
        }
    }
}
