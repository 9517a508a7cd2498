//! What a simulation came to, in figures.

use std::collections::BTreeMap;

use assay_model::{Micros, Pipeline, Priority};

use super::load::{GREEDY, SWEEP};
use super::{Job, Load, Outcome};

/// A run shorter than this is not called slow for having waited as long: ten minutes.
const SHORT: f64 = 600.0;
const HOUR: Micros = Micros::seconds(3600);

/// Waits in seconds, and how much longer than they take runs took for having waited.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// How many runs.
    pub runs: usize,
    /// Half of them waited at most this long.
    pub p50: f64,
    /// Nineteen of twenty.
    pub p95: f64,
    /// All.
    pub max: f64,
    /// (Waiting + running) / running, nineteen of twenty; runs below ten minutes count as ten.
    pub slowdown: f64,
}

/// All figures of a simulation.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    /// All runs.
    pub all: Figures,
    /// By who asked and for what; only those that there are.
    pub groups: BTreeMap<&'static str, Figures>,
    /// From the first run to the end of the last, in seconds.
    pub lasted: f64,
    /// Share of the recipes' slots in use until the last run was asked for, of 1.
    pub used: f64,
    /// Jain's index over requesters of what they got of an equal share, in the hours in which there was too little: 1 when all
    /// are served alike.
    pub fairness: f64,
    /// Half of the runs that were told when they would start were told wrong by at most so many seconds.
    pub estimate: f64,
}

impl Tally {
    /// Counts a simulation up.
    pub fn of(load: &Load, outcomes: &[Outcome]) -> Self {
        let each = |wanted: Wanted<'_>| {
            let those = outcomes.iter().filter(|o| wanted(&load.jobs[o.job]));
            those.map(|o| Sample::of(&load.jobs[o.job], o)).collect::<Vec<_>>()
        };
        let person = |job: &Job| ![GREEDY, SWEEP, "wedged"].contains(&job.requester.as_str());
        let large = |job: &Job| job.needs.get("mem_mib").is_some_and(|m| *m >= 16_384);
        let groups: [(&'static str, Wanted<'_>); 7] = [
            ("people, as operators", &|j| person(j) && j.priority == Priority::Operator),
            ("people, for pull requests", &|j| person(j) && j.priority == Priority::PullRequest),
            ("people, quick", &|j| person(j) && j.quick),
            ("people, large runs", &|j| person(j) && large(j)),
            ("nightly sweep", &|j| j.requester == SWEEP),
            ("the greedy one", &|j| j.requester == GREEDY),
            ("machines", &|j| j.pipeline == Pipeline::Host),
        ];
        let groups = groups.into_iter().filter_map(|(name, wanted)| Some((name, figures(&each(wanted))?)));
        let groups = groups.collect();
        let all = figures(&each(&|_| true)).unwrap_or(Figures {
            runs: 0,
            p50: 0.0,
            p95: 0.0,
            max: 0.0,
            slowdown: 0.0,
        });
        let begin = load.jobs.first().map_or(Micros(0), |job| job.asked_at);
        let last_asked = load.jobs.last().map_or(begin, |job| job.asked_at);
        let end = outcomes.iter().map(|o| o.ended_at).max().unwrap_or(begin);
        Self {
            all,
            groups,
            lasted: end.since(begin).as_seconds(),
            used: used(load, outcomes, begin, last_asked),
            fairness: fairness(load, outcomes),
            estimate: estimate(load, outcomes),
        }
    }
}

/// Which runs are counted.
type Wanted<'a> = &'a dyn Fn(&Job) -> bool;

struct Sample {
    wait: f64,
    slowdown: f64,
}

impl Sample {
    fn of(job: &Job, outcome: &Outcome) -> Self {
        let wait = outcome.started_at.since(job.asked_at).as_seconds();
        let takes = job.takes.as_seconds();
        Self { wait, slowdown: (wait + takes).max(SHORT) / takes.max(SHORT) }
    }
}

fn figures(samples: &[Sample]) -> Option<Figures> {
    let sorted = |of: fn(&Sample) -> f64| {
        let mut all: Vec<f64> = samples.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let (waits, slowdowns) = (sorted(|s| s.wait), sorted(|s| s.slowdown));
    Some(Figures {
        runs: samples.len(),
        p50: part(&waits, 0.5)?,
        p95: part(&waits, 0.95)?,
        max: *waits.last()?,
        slowdown: part(&slowdowns, 0.95)?,
    })
}

/// The value that this part of all is at most.
fn part(sorted: &[f64], part: f64) -> Option<f64> {
    let place = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied()
}

fn used(load: &Load, outcomes: &[Outcome], begin: Micros, end: Micros) -> f64 {
    let slots: u64 = load.offers.values().filter_map(|offer| offer.capacity.get("swarm")).sum();
    let busy = outcomes.iter().filter(|o| load.jobs[o.job].pipeline == Pipeline::Recipe);
    let busy = busy.map(|o| o.ended_at.min(end).since(o.started_at.min(end)).as_seconds()).sum::<f64>();
    busy / (slots as f64 * end.since(begin).as_seconds().max(1.0))
}

/// Over every hour in which more was wanted than there was: what each requester got, of what an equal share would have
/// been (nobody counts for more than they wanted), as Jain's index; on average. Machines have a rack of their own and are
/// left out.
fn fairness(load: &Load, outcomes: &[Outcome]) -> f64 {
    let benches: Vec<(&Job, &Outcome)> = outcomes
        .iter()
        .map(|outcome| (&load.jobs[outcome.job], outcome))
        .filter(|(job, _)| job.pipeline != Pipeline::Host)
        .collect();
    let share = |job: &Job| {
        let all = |pool: &str| load.offers.values().filter_map(|o| o.capacity.get(pool)).sum::<u64>() as f64;
        job.needs.iter().map(|(pool, n)| *n as f64 / all(pool)).fold(0.0, f64::max)
    };
    let mut hours: BTreeMap<i64, BTreeMap<&str, (f64, f64)>> = BTreeMap::new();
    for (job, outcome) in benches {
        let share = share(job);
        for hour in job.asked_at.0 / HOUR.0..=outcome.ended_at.0 / HOUR.0 {
            let (begins, ends) = (Micros(hour * HOUR.0), Micros((hour + 1) * HOUR.0));
            let there = ends.since(begins.max(job.asked_at)).as_seconds();
            let left = outcome.ended_at.since(begins.max(outcome.started_at)).as_seconds();
            let ran = outcome.ended_at.min(ends).since(outcome.started_at.max(begins)).as_seconds();
            let (got, wanted) = hours.entry(hour).or_default().entry(&job.requester).or_default();
            *got += ran.max(0.0) * share;
            *wanted += left.min(there).max(0.0) * share;
        }
    }
    let indices: Vec<f64> = hours.values().filter_map(hour_index).collect();
    indices.iter().sum::<f64>() / (indices.len() as f64).max(1.0)
}

/// Jain's index of one hour; none where everybody got nearly all that they wanted.
fn hour_index(requesters: &BTreeMap<&str, (f64, f64)>) -> Option<f64> {
    let got: f64 = requesters.values().map(|(got, _)| got).sum();
    let wanted: f64 = requesters.values().map(|(_, wanted)| wanted).sum();
    if requesters.len() < 3 || wanted < got * 1.2 {
        return None;
    }
    // Equal shares, filled up from below: who wants less than that leaves it to the others.
    let mut by_want: Vec<(f64, f64)> = requesters.values().copied().collect();
    by_want.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (mut left, mut sum, mut squares, mut counted) = (got, 0.0, 0.0, 0.0);
    for (place, (got, wanted)) in by_want.iter().enumerate() {
        let due = wanted.min(left / (by_want.len() - place) as f64);
        left -= due;
        if due > 0.0 {
            let part = got / due;
            (sum, squares, counted) = (sum + part, squares + part * part, counted + 1.0);
        }
    }
    Some(sum * sum / (counted * squares).max(f64::MIN_POSITIVE))
}

fn estimate(load: &Load, outcomes: &[Outcome]) -> f64 {
    let wrong = outcomes.iter().filter_map(|o| {
        let waited = o.started_at.since(load.jobs[o.job].asked_at);
        Some((waited.as_seconds() - o.told?.as_seconds()).abs())
    });
    let mut wrong: Vec<f64> = wrong.collect();
    wrong.sort_by(f64::total_cmp);
    part(&wrong, 0.5).unwrap_or(0.0)
}
