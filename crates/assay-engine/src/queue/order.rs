//! Who comes first: classes, fair shares inside them, and aging so that everybody's turn comes.
//!
//! A run is *due* at the time at which it was asked for, plus what its requester has used lately, runs now and has in the
//! queue before it, in seconds of the whole fleet, times the number of requesters that share it. The same is reckoned for
//! its target, and the later of the two counts. That is the time by which it would have been served had each got an equal
//! share, so whoever asks for little is due at once, and the thousandth run of one requester long after.
//!
//! A due time depends on nobody who asks later (but through their number), so a run that waits long enough is due before
//! whoever comes. [`LATE_AFTER`] past its due time it stands before everybody who is due later, whatever their class.

use std::collections::HashMap;
use std::hash::Hash;

use assay_model::{Micros, Priority};

use super::Snapshot;
use super::fleet::{Fleet, Needs};

/// How far past its due time a run rises by one class.
const STEP: Micros = Micros::seconds(3600);
/// Past its due time by so much, a run of any class stands before all that are due later: it has risen through all.
pub const LATE_AFTER: Micros = Micros(STEP.0 * Priority::ALL.len() as i64);
/// How far back what was used lately may put a run.
pub const MOST_DEBT: Micros = Micros::seconds(4 * 3600);
/// The part of every pool up to which quick runs have right of way: one in so many slots.
const QUICK_PART: f64 = 4.0;
/// Runs in the quick lane stand behind those that are late, and before all others.
const QUICK_LEVEL: usize = 1;

/// A waiting run's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Its place in the snapshot.
    pub(super) index: usize,
    /// 0 is late, 1 the quick lane, then the classes.
    pub(super) level: usize,
    /// When it is due.
    pub(super) due: Micros,
}

/// All that wait, the first one first.
pub(super) fn turns(snapshot: &Snapshot<'_>, fleet: &Fleet<'_>, now: Micros) -> Vec<Turn> {
    let waiting = snapshot.waiting;
    let mut requesters = Flows::new(fleet.pools.len());
    let mut targets = Flows::new(fleet.pools.len());
    for (run, needs) in snapshot.holding.iter().zip(&fleet.held) {
        let took = now.since(run.started_at).max(run.expected).as_seconds();
        requesters.joins(run.requester.as_str(), run.priority).ahead(needs, took);
        targets.joins(run.target_id, run.priority).ahead(needs, took);
    }
    for run in waiting {
        requesters.joins(run.requester.as_str(), run.priority);
        targets.joins(run.target_id, run.priority);
    }
    for flow in &mut requesters.all {
        flow.weight = snapshot.policy.weight(flow.key);
        flow.debt = fleet.share(&slot_seconds(fleet, snapshot.used.requesters.get(flow.key)));
    }
    for flow in &mut targets.all {
        flow.debt = fleet.share(&slot_seconds(fleet, snapshot.used.targets.get(&flow.key)));
    }
    let (among_requesters, among_targets) = (requesters.sharing(), targets.sharing());

    let mut order: Vec<usize> = (0..waiting.len()).collect();
    order.sort_unstable_by_key(|n| (waiting[*n].priority, waiting[*n].number));
    let mut turns = Vec::with_capacity(order.len());
    for index in order {
        let run = &waiting[index];
        let needs = &fleet.shapes[fleet.shape_of[index]].needs;
        let class = run.priority as usize;
        let requester = requesters.of(&run.requester.as_str());
        let by_requester = requester.behind(fleet, among_requesters[class]);
        requester.ahead(needs, run.expected.as_seconds());
        let target = targets.of(&run.target_id);
        let by_target = target.behind(fleet, among_targets[class]);
        target.ahead(needs, run.expected.as_seconds());
        let due = run.asked_at.plus(micros(by_requester.max(by_target)));
        let risen = now.since(due).0.max(0) / STEP.0;
        let class = class + 1;
        let level = class.saturating_sub(usize::try_from(risen).unwrap_or(class));
        let level = if level == 0 { 0 } else { QUICK_LEVEL + level };
        turns.push(Turn { index, level, due });
    }
    let key = |turn: &Turn| (turn.level, turn.due, waiting[turn.index].number);
    turns.sort_unstable_by_key(key);
    if right_of_way(snapshot, fleet, &mut turns) {
        turns.sort_unstable_by_key(key);
    }
    turns
}

/// Quick runs go first for as long as quick runs together hold no more than their part of each pool. What they do not use
/// of it is everybody's, and who is late goes before them: the main lane never starves.
fn right_of_way(snapshot: &Snapshot<'_>, fleet: &Fleet<'_>, turns: &mut [Turn]) -> bool {
    if !snapshot.waiting.iter().any(|run| run.quick) {
        return false;
    }
    let mut left: Vec<f64> = fleet.totals.iter().map(|total| (total / QUICK_PART).floor()).collect();
    for (run, needs) in snapshot.holding.iter().zip(&fleet.held) {
        for (pool, n) in needs.iter().filter(|_| run.quick) {
            left[*pool] -= *n as f64;
        }
    }
    let mut changed = false;
    for turn in turns.iter_mut().filter(|turn| turn.level > QUICK_LEVEL && snapshot.waiting[turn.index].quick)
    {
        let needs = &fleet.shapes[fleet.shape_of[turn.index]].needs;
        if needs.iter().all(|(pool, n)| left[*pool] >= *n as f64) {
            for (pool, n) in needs {
                left[*pool] -= *n as f64;
            }
            turn.level = QUICK_LEVEL;
            changed = true;
        }
    }
    changed
}

/// Those that share the fleet: requesters, or targets.
struct Flows<K> {
    all: Vec<Flow<K>>,
    places: HashMap<K, usize>,
    pools: usize,
}

/// One of those that share.
struct Flow<K> {
    key: K,
    weight: f64,
    /// The most urgent class that it has a run in.
    class: Priority,
    /// Used lately, in seconds of the whole fleet.
    debt: f64,
    /// Slot-seconds that run or stand before the next one, by pool.
    ahead: Vec<f64>,
}

impl<K: Copy + Eq + Hash> Flows<K> {
    fn new(pools: usize) -> Self {
        Self { all: Vec::new(), places: HashMap::new(), pools }
    }

    fn joins(&mut self, key: K, class: Priority) -> &mut Flow<K> {
        let place = *self.places.entry(key).or_insert_with(|| {
            let ahead = vec![0.0; self.pools];
            self.all.push(Flow { key, weight: 1.0, class, debt: 0.0, ahead });
            self.all.len() - 1
        });
        let flow = &mut self.all[place];
        flow.class = flow.class.min(class);
        flow
    }

    fn of(&mut self, key: &K) -> &mut Flow<K> {
        &mut self.all[self.places[key]]
    }

    /// By class, what all weigh together that have a run in it or in a more urgent one: a sweep of a thousand targets
    /// dilutes nobody's share but a sweep's.
    fn sharing(&self) -> [f64; Priority::ALL.len()] {
        let up_to = |class: Priority| self.all.iter().filter(|f| f.class <= class).map(|f| f.weight).sum();
        Priority::ALL.map(up_to)
    }
}

impl<K> Flow<K> {
    /// A run of this many seconds stands before the next.
    fn ahead(&mut self, needs: &Needs, seconds: f64) {
        for (pool, n) in needs {
            self.ahead[*pool] += *n as f64 * seconds;
        }
    }

    /// How far behind its asking time the next run is due, in seconds.
    fn behind(&self, fleet: &Fleet<'_>, sharing: f64) -> f64 {
        let stretch = (sharing / self.weight).max(1.0);
        (self.debt * stretch).min(MOST_DEBT.as_seconds()) + fleet.share(&self.ahead) * stretch
    }
}

fn slot_seconds(fleet: &Fleet<'_>, used: Option<&super::history::SlotSeconds>) -> Vec<f64> {
    let mut seconds = vec![0.0; fleet.pools.len()];
    for (pool, used) in used.into_iter().flatten() {
        if let Some(pool) = fleet.pool(pool) {
            seconds[pool] = *used;
        }
    }
    seconds
}

fn micros(seconds: f64) -> Micros {
    Micros((seconds * 1e6) as i64)
}
