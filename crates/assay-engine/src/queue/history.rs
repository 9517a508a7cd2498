//! What finished runs tell the queue: how long the next run of a target will take, and who used how much lately.
//!
//! Both follow from rows, so they are the same after a restart.

use std::collections::BTreeMap;

use assay_model::{Micros, Pipeline, TargetId};

use super::Slots;

/// What was used counts half as much after this long.
pub const HALF_LIFE: Micros = Micros::seconds(3600);
/// What ended longer ago than this is not counted any more: it would count for a two-hundredth.
pub const FORGOTTEN_AFTER: Micros = Micros::seconds(8 * 3600);
/// Runs of a target whose median is the estimate for the next one.
pub const LATEST: usize = 5;

/// A run that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Who asked for it.
    pub requester: String,
    /// What was tested.
    pub target_id: TargetId,
    /// What it held.
    pub needs: Slots,
    /// When it began.
    pub started_at: Micros,
    /// When it ended.
    pub ended_at: Micros,
}

/// Slots by pool, each times the seconds that it was held; what is long ago counts for less.
pub type SlotSeconds = BTreeMap<String, f64>;

/// What was used lately.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Used {
    /// By who asked.
    pub requesters: BTreeMap<String, SlotSeconds>,
    /// By what was tested.
    pub targets: BTreeMap<TargetId, SlotSeconds>,
}

impl Used {
    /// What these runs used, as it counts at `now`.
    pub fn of<'a>(past: impl IntoIterator<Item = &'a Past>, now: Micros) -> Self {
        let mut used = Self::default();
        for run in past {
            let age = now.since(run.ended_at);
            if age > FORGOTTEN_AFTER {
                continue;
            }
            let counts = (-age.as_seconds().max(0.0) / HALF_LIFE.as_seconds()).exp2();
            let seconds = run.ended_at.since(run.started_at).as_seconds().max(0.0) * counts;
            if let Some(requester) = used.requesters.get_mut(&run.requester) {
                add(requester, &run.needs, seconds);
            } else {
                add(used.requesters.entry(run.requester.clone()).or_default(), &run.needs, seconds);
            }
            add(used.targets.entry(run.target_id).or_default(), &run.needs, seconds);
        }
        used
    }
}

fn add(to: &mut SlotSeconds, needs: &Slots, seconds: f64) {
    for (pool, n) in needs {
        let more = *n as f64 * seconds;
        match to.get_mut(pool) {
            Some(used) => *used += more,
            None => drop(to.insert(pool.clone(), more)),
        }
    }
}

/// How long a run of a target is expected to take: the median of its latest runs in the same profile, newest first;
/// what is usual where it has none.
pub fn expected(latest: &[Micros], pipeline: Pipeline, profile: &str) -> Micros {
    let mut latest: Vec<Micros> = latest.iter().copied().take(LATEST).collect();
    latest.sort_unstable();
    // Of an even number the longer one: who expects too little delays others.
    latest.get(latest.len() / 2).copied().unwrap_or_else(|| usual(pipeline, profile))
}

/// How long a run takes of which nothing is known.
const fn usual(pipeline: Pipeline, profile: &str) -> Micros {
    let minutes = match (pipeline, profile.as_bytes()) {
        (Pipeline::Host, b"quick") | (Pipeline::Image, _) => 20,
        (Pipeline::Host, b"burnin") => 26 * 60,
        (Pipeline::Host, _) => 6 * 60,
        (Pipeline::Recipe, b"quick") => 4,
        (Pipeline::Recipe, _) => 10,
    };
    Micros::seconds(minutes * 60)
}

/// When a run that began is expected to end. One that overstays is given a quarter of what it has taken, and at least a
/// minute: the longer it has been longer than expected, the longer it will.
pub fn ends(started_at: Micros, expected: Micros, now: Micros) -> Micros {
    let told = started_at.plus(expected);
    let minute = Micros::seconds(60);
    if told > now {
        return told;
    }
    let more = Micros(now.since(started_at).0 / 4);
    now.plus(more.max(minute))
}
