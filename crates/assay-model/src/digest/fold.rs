//! From rows to the digest. Pure: the same rows and the same week give the same digest, whenever and wherever.

use std::collections::{BTreeMap, BTreeSet};

use super::{Digest, Drift, Flaky, Green, Proven, Red, SCHEMA, Slower, Waits, Week, instant};
use crate::{Micros, Pipeline, RunResult, TargetId};

/// How long before the week runs are looked at, to know what is usual.
pub const LOOK_BACK: Micros = Micros::seconds(28 * 24 * 3600);
/// A target is said to have become slower from this factor on …
const FACTOR: f64 = 1.2;
/// … and from so many seconds on: short runs differ by half from one to the next.
const SECONDS: f64 = 5.0;
/// Runs that it takes to know what is usual.
const USUAL: usize = 2;
/// Most targets that are told to have become slower.
const MOST_SLOWER: usize = 10;

/// What a target is known by.
pub type TargetKey = (Pipeline, TargetId);

/// A run that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What was tested.
    pub key: TargetKey,
    /// Its name at the time.
    pub target: String,
    /// The run's number.
    pub run: i64,
    /// In which profile.
    pub profile: String,
    /// The result; none where it came to no verdict or was broken off.
    pub result: Option<RunResult>,
    /// Whether it was cancelled, or another run took its place.
    pub broken_off: bool,
    /// Whether nothing was waived, left out or switched off.
    pub whole: bool,
    /// Whether it is of a pull request: that says nothing of the target.
    pub of_pull_request: bool,
    /// When it left the queue.
    pub started_at: Option<Micros>,
    /// When it ended.
    pub ended_at: Micros,
}

/// How a target stood at a moment: its last run that failed, or that passed as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub key: TargetKey,
    /// Its name.
    pub target: String,
    /// The run.
    pub run: i64,
    /// When that ended.
    pub ended_at: Micros,
    /// Whether and how it failed; none where it passed.
    pub failure: Option<Failure>,
}

/// How a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where.
    pub stage: Option<String>,
    /// The code that says most about why.
    pub code: Option<String>,
    /// The first run that failed since the target was green.
    pub since_run: i64,
    /// When that ended.
    pub since: Micros,
}

/// What a digest is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Of which week.
    pub week: Week,
    /// The moment up to which everything is known: the week's end, or before it now.
    pub to: Micros,
    /// The runs that ended in the week or so long before ([`LOOK_BACK`]), in the order of their numbers.
    pub ended: Vec<Ended>,
    /// How every target stood at the week's beginning.
    pub before: Vec<Standing>,
    /// And at its end.
    pub after: Vec<Standing>,
    /// Tags that were moved in this week.
    pub drifted: Vec<Drift>,
    /// What is flaky, and failed in this week.
    pub flaky: Vec<Flaky>,
    /// What waits for an operator at the end.
    pub waiting: Vec<Waits>,
}

impl Digest {
    /// Makes it.
    pub fn of(input: Input) -> Self {
        let Input { week, to, ended, before, after, drifted, flaky, waiting } = input;
        let to = to.min(week.end());
        let (earlier, ended): (Vec<Ended>, Vec<Ended>) =
            ended.into_iter().filter(|run| run.ended_at < to).partition(|run| run.ended_at < week.start());
        let was_red: BTreeMap<TargetKey, i64> = before
            .iter()
            .filter(|standing| standing.failure.is_some())
            .map(|standing| (standing.key, standing.run))
            .collect();
        let (mut went_red, mut still_red, mut became_green) = (Vec::new(), Vec::new(), Vec::new());
        for standing in after {
            match &standing.failure {
                Some(failure) if failure.since >= week.start() => went_red.push(red(&standing, failure)),
                Some(failure) => still_red.push(red(&standing, failure)),
                None => became_green.extend(green(&standing, &was_red, &ended)),
            }
        }
        // What is red for the longest time comes last: it has been told before.
        still_red.sort_by(|a: &Red, b: &Red| (&b.since, &a.target).cmp(&(&a.since, &b.target)));
        Self {
            schema: SCHEMA,
            week,
            from: instant(week.start()),
            to: instant(to),
            unfinished: to < week.end(),
            proven: Pipeline::ALL.into_iter().filter_map(|pipeline| proven(pipeline, &ended)).collect(),
            went_red,
            still_red,
            became_green,
            drifted,
            flaky,
            waiting,
            slower: slower(&earlier, &ended),
        }
    }
}

fn proven(pipeline: Pipeline, ended: &[Ended]) -> Option<Proven> {
    let runs: Vec<&Ended> = ended.iter().filter(|run| run.key.0 == pipeline).collect();
    if runs.is_empty() {
        return None;
    }
    let targets: BTreeSet<TargetKey> = runs.iter().map(|run| run.key).collect();
    let count = |is: &dyn Fn(&Ended) -> bool| as_count(runs.iter().filter(|run| is(run)).count());
    Some(Proven {
        pipeline,
        targets: as_count(targets.len()),
        passed: count(&|run| run.result == Some(RunResult::Pass) && run.whole),
        passed_in_part: count(&|run| run.result == Some(RunResult::Pass) && !run.whole),
        failed: count(&|run| run.result == Some(RunResult::Fail)),
        no_verdict: count(&|run| run.result.is_none() && !run.broken_off),
        broken_off: count(&|run| run.result.is_none() && run.broken_off),
    })
}

fn red(standing: &Standing, failure: &Failure) -> Red {
    Red {
        pipeline: standing.key.0,
        target: standing.target.clone(),
        run: standing.run,
        stage: failure.stage.clone(),
        code: failure.code.clone(),
        since: instant(failure.since),
        since_run: failure.since_run,
    }
}

/// Of something that is green at the end: whether it was red meanwhile or before, and since when it is not.
fn green(standing: &Standing, was_red: &BTreeMap<TargetKey, i64>, ended: &[Ended]) -> Option<Green> {
    let own: Vec<&Ended> =
        ended.iter().filter(|run| run.key == standing.key && !run.of_pull_request).collect();
    let failed = own.iter().filter(|run| run.result == Some(RunResult::Fail)).map(|run| run.run).max();
    let red_run = failed.or_else(|| was_red.get(&standing.key).copied())?;
    let first = own.iter().find(|run| run.run > red_run && run.result == Some(RunResult::Pass) && run.whole);
    let (run, at) = first.map_or((standing.run, standing.ended_at), |run| (run.run, run.ended_at));
    Some(Green { pipeline: standing.key.0, target: standing.target.clone(), run, at: instant(at), red_run })
}

/// Green runs of the whole alone: one that fails early is quick.
fn slower(earlier: &[Ended], ended: &[Ended]) -> Vec<Slower> {
    let mut usual: BTreeMap<(TargetKey, &str), Vec<f64>> = BTreeMap::new();
    for run in earlier.iter().filter(|run| tells_time(run)) {
        usual.entry((run.key, &run.profile)).or_default().extend(seconds(run));
    }
    let mut now: BTreeMap<(TargetKey, &str), Vec<&Ended>> = BTreeMap::new();
    for run in ended.iter().filter(|run| tells_time(run)) {
        now.entry((run.key, &run.profile)).or_default().push(run);
    }
    let mut found = Vec::new();
    for (of, runs) in now {
        let Some(before) = usual.get_mut(&of).filter(|usual| usual.len() >= USUAL) else { continue };
        let (Some(before), Some(after)) =
            (median(before), median(&mut runs.iter().filter_map(|run| seconds(run)).collect::<Vec<_>>()))
        else {
            continue;
        };
        let Some(latest) = runs.last() else { continue };
        if after >= before * FACTOR && after - before >= SECONDS {
            found.push(Slower {
                pipeline: of.0.0,
                target: latest.target.clone(),
                profile: of.1.to_owned(),
                seconds: after,
                before_seconds: before,
                runs: as_count(runs.len()),
                run: latest.run,
            });
        }
    }
    let growth = |slower: &Slower| slower.seconds / slower.before_seconds.max(0.1);
    found.sort_by(|a, b| growth(b).total_cmp(&growth(a)).then_with(|| a.target.cmp(&b.target)));
    found.truncate(MOST_SLOWER);
    found
}

fn tells_time(run: &Ended) -> bool {
    run.result == Some(RunResult::Pass) && run.whole && !run.of_pull_request && run.started_at.is_some()
}

fn seconds(run: &Ended) -> Option<f64> {
    Some(run.ended_at.since(run.started_at?).as_seconds())
}

/// The lower one of the two in the middle, where there are two.
fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

fn as_count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
