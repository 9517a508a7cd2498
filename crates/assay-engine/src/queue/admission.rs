//! Who starts now: the line is gone through once, the first one first.
//!
//! A run that does not fit has what it waits for reserved on the runner that is expected to have it first: one promise
//! per runner. Whoever comes after it may still start on that runner if it is expected to be over by then, or takes only
//! what will be left over (backfill). So the machines are not idle while a large run waits, and small ones cannot hold it
//! up for ever.

use std::collections::{BTreeMap, HashMap};

use assay_model::{Micros, Pipeline, RunId, TargetId};

use super::fleet::{Fleet, Needs, short};
use super::order::Turn;
use super::reasons::{self, Behind};
use super::{Cause, Place, Snapshot, Wait, Waiting, history};

/// Places all that wait, in their order.
pub(super) fn admit(
    snapshot: &Snapshot<'_>,
    fleet: Fleet<'_>,
    turns: &[Turn],
    now: Micros,
) -> Vec<(RunId, Place)> {
    let mut line = Line::new(snapshot, fleet, now);
    let place = |turn: &Turn| {
        let run = &snapshot.waiting[turn.index];
        (run.id, line.place(run, turn.index))
    };
    turns.iter().map(place).collect()
}

/// The line as far as it has been gone through.
struct Line<'a> {
    snapshot: Snapshot<'a>,
    fleet: Fleet<'a>,
    now: Micros,
    paused: Option<String>,
    /// The targets that somebody has, or waits for at an earlier place.
    targets: HashMap<TargetId, Taken<'a>>,
    /// Runs of each pipeline that run.
    running: BTreeMap<Pipeline, u32>,
    /// Runs of each pipeline that wait for others of it to end.
    limited: BTreeMap<Pipeline, u32>,
    /// How many stand in the line so far.
    stood: u32,
    /// What is known of each set of runners.
    reaches: Vec<Reach<'a>>,
}

/// Who has a target.
#[derive(Clone, Copy)]
struct Taken<'a> {
    by: Behind<'a>,
    /// When it is expected to give it back; none where nobody can tell.
    until: Option<Micros>,
}

/// A set of runners that some runs can be done by.
struct Reach<'a> {
    /// The sets that have a runner with it in common, itself included.
    meets: Vec<usize>,
    /// Slots, by pool.
    capacity: Vec<f64>,
    /// Slot-seconds that are to be worked off before the next run, by pool.
    load: Vec<f64>,
    /// How many wait.
    waiting: u32,
    /// The last of them.
    last: Option<(u32, &'a Waiting)>,
    /// Of those that hold its slots, the first one that is expected to end.
    first_to_end: Option<Behind<'a>>,
}

impl<'a> Line<'a> {
    fn new(snapshot: &Snapshot<'a>, fleet: Fleet<'a>, now: Micros) -> Self {
        let snapshot = *snapshot;
        let mut targets = HashMap::new();
        let mut running = BTreeMap::new();
        for (run, needs) in snapshot.holding.iter().zip(&fleet.held) {
            // What is held for an operator takes no slot, and ends when somebody decides.
            let until = (!needs.is_empty()).then(|| history::ends(run.started_at, run.expected, now));
            targets.insert(run.target_id, Taken { by: Behind::Running(run), until });
            if until.is_some() {
                *running.entry(run.pipeline).or_insert(0) += 1;
            }
        }
        let mut line = Self {
            reaches: Vec::new(),
            stood: 0,
            paused: snapshot.policy.mode.told(),
            limited: BTreeMap::new(),
            snapshot,
            fleet,
            now,
            targets,
            running,
        };
        line.reaches = (0..line.fleet.reaches.len()).map(|place| line.reach(place)).collect();
        line
    }

    fn reach(&self, place: usize) -> Reach<'a> {
        let runners = &self.fleet.reaches[place];
        let touches = |other: &usize| self.fleet.reaches[*other].iter().any(|r| runners.contains(r));
        let pools = self.fleet.pools.len();
        let (mut capacity, mut load) = (vec![0.0; pools], vec![0.0; pools]);
        for runner in runners.iter().map(|runner| &self.fleet.runners[*runner]) {
            for (all, slots) in capacity.iter_mut().zip(&runner.capacity) {
                *all += *slots as f64;
            }
            for (ends, needs) in &runner.held {
                add(&mut load, needs, ends.since(self.now).as_seconds());
            }
        }
        let names: Vec<&str> = runners.iter().map(|runner| self.fleet.runners[*runner].name).collect();
        let there = self.snapshot.holding.iter().zip(&self.fleet.held);
        let there = there.filter(|(run, needs)| !needs.is_empty() && names.contains(&run.runner.as_str()));
        let first =
            there.min_by_key(|(run, _)| (history::ends(run.started_at, run.expected, self.now), run.number));
        Reach {
            meets: (0..self.fleet.reaches.len()).filter(touches).collect(),
            capacity,
            load,
            waiting: 0,
            last: None,
            first_to_end: first.map(|(run, _)| Behind::Running(run)),
        }
    }

    fn place(&mut self, run: &'a Waiting, index: usize) -> Place {
        let shape = self.fleet.shape_of[index];
        let reach = match &self.fleet.shapes[shape].reach {
            Ok(reach) => *reach,
            Err(reason) => {
                let reason = reason.clone();
                return Place::Wait(Wait { cause: Cause::Runner, reason, position: None, starts_in: None });
            }
        };
        if let Some(taken) = self.targets.get(&run.target_id) {
            let starts_in = taken.until.map(|until| until.since(self.now)).filter(|_| self.paused.is_none());
            let reason = self.unless_paused(reasons::same_target(taken.by, starts_in, self.now));
            return Place::Wait(Wait { cause: Cause::Target, reason, position: None, starts_in });
        }
        if self.paused.is_none()
            && let Some(limit) = self.snapshot.policy.limits.get(&run.pipeline)
            && self.running.get(&run.pipeline).copied().unwrap_or(0) >= *limit
        {
            return self.over_the_limit(run, *limit);
        }
        let ends = self.now.plus(run.expected);
        if self.paused.is_none()
            && let Some(runner) = self.room(shape, reach, ends)
        {
            return self.start(run, shape, reach, runner, ends);
        }
        self.wait(run, shape, reach)
    }

    /// The runner that a run starts on now: of those with room the one with the most, and rather one that is promised to
    /// nobody.
    fn room(&self, shape: usize, reach: usize, ends: Micros) -> Option<usize> {
        let needs = &self.fleet.shapes[shape].needs;
        let mut best: Option<(usize, bool, f64)> = None;
        for place in &self.fleet.reaches[reach] {
            let runner = &self.fleet.runners[*place];
            if !runner.fits(needs) || !runner.lets_by(needs, ends) {
                continue;
            }
            let (open, room) = (runner.reserved.is_none(), runner.room(needs));
            if best.is_none_or(|(_, was_open, most)| (open, room) > (was_open, most)) {
                best = Some((*place, open, room));
            }
        }
        best.map(|(place, ..)| place)
    }

    fn start(&mut self, run: &'a Waiting, shape: usize, reach: usize, runner: usize, ends: Micros) -> Place {
        let needs = &self.fleet.shapes[shape].needs;
        let station = &mut self.fleet.runners[runner];
        station.take(ends, needs);
        station.let_by(needs, ends);
        let name = station.name.to_owned();
        for place in self.reaches[reach].meets.clone() {
            let other = &mut self.reaches[place];
            add(&mut other.load, needs, run.expected.as_seconds());
            if other.first_to_end.is_none() {
                other.first_to_end = Some(Behind::Starting(run));
            }
        }
        *self.running.entry(run.pipeline).or_insert(0) += 1;
        self.targets.insert(run.target_id, Taken { by: Behind::Starting(run), until: Some(ends) });
        Place::Admit { runner: name }
    }

    fn wait(&mut self, run: &'a Waiting, shape: usize, reach: usize) -> Place {
        let known = &self.reaches[reach];
        let met = known.meets.iter().map(|place| &self.reaches[*place]);
        let position = 1 + met.clone().map(|reach| reach.waiting).sum::<u32>();
        let before = met.filter_map(|reach| reach.last).max_by_key(|(place, _)| *place);
        let behind = before.map(|(_, run)| Behind::Waiting(run)).or(known.first_to_end);

        let paused = self.paused.is_some();
        let starts_in = if paused { None } else { Some(self.starts_in(shape, reach)) };
        let lacks = if paused { String::new() } else { self.lacks(shape, reach) };
        let reason = self.unless_paused(reasons::in_line(position, &lacks, behind, starts_in, self.now));
        let cause = if paused { Cause::Paused } else { Cause::Slots };

        let needs = &self.fleet.shapes[shape].needs;
        for place in self.reaches[reach].meets.clone() {
            add(&mut self.reaches[place].load, needs, run.expected.as_seconds());
        }
        self.stood += 1;
        self.reaches[reach].waiting += 1;
        self.reaches[reach].last = Some((self.stood, run));
        let until = starts_in.map(|span| self.now.plus(span).plus(run.expected));
        self.targets.insert(run.target_id, Taken { by: Behind::Waiting(run), until });
        Place::Wait(Wait { cause, reason, position: Some(position), starts_in })
    }

    /// In about how long a run starts. The first one in line of a runner is promised that; for the others it is reckoned
    /// from the work before them.
    fn starts_in(&mut self, shape: usize, reach: usize) -> Micros {
        if let Some(at) = self.promise(shape, reach) {
            return at.since(self.now);
        }
        let known = &self.reaches[reach];
        let each = |(pool, _): &(usize, u64)| known.load[*pool] / known.capacity[*pool].max(1.0);
        let longest = self.fleet.shapes[shape].needs.iter().map(each).fold(0.0, f64::max);
        Micros((longest * 1e6) as i64)
    }

    /// Promises a run what it needs on the runner that is expected to have it first, unless all are promised to others.
    fn promise(&mut self, shape: usize, reach: usize) -> Option<Micros> {
        let needs = &self.fleet.shapes[shape].needs;
        let (runners, now) = (&self.fleet.runners, self.now);
        let free = self.fleet.reaches[reach].iter().filter(|runner| runners[**runner].reserved.is_none());
        let (runner, promise) = free
            .filter_map(|runner| Some((*runner, runners[*runner].expects(needs, now)?)))
            .min_by_key(|(_, promise)| promise.at)?;
        let at = promise.at;
        self.fleet.runners[runner].reserved = Some(promise);
        Some(at)
    }

    /// What is missing where least is missing; nothing where there is room that somebody else is promised.
    fn lacks(&self, shape: usize, reach: usize) -> String {
        let needs = &self.fleet.shapes[shape].needs;
        let missing = |runner: &usize| {
            let free = &self.fleet.runners[*runner].free;
            needs.iter().filter(|(pool, n)| free[*pool] < *n).count()
        };
        let best = self.fleet.reaches[reach].iter().min_by_key(|runner| missing(runner));
        best.map_or_else(String::new, |runner| {
            reasons::lacking(&short(&self.fleet.runners[*runner].free, needs), &self.fleet.pools, "free")
        })
    }

    /// As many of its pipeline run as may.
    fn over_the_limit(&mut self, run: &'a Waiting, limit: u32) -> Place {
        let place = self.limited.entry(run.pipeline).or_insert(0);
        *place += 1;
        let position = *place;
        let of_pipeline = self.snapshot.holding.iter().filter(|h| h.pipeline == run.pipeline);
        let ends = of_pipeline.filter(|h| !h.needs.is_empty());
        let first = ends.map(|h| history::ends(h.started_at, h.expected, self.now)).min();
        let starts_in = first.map(|at| at.since(self.now)).filter(|_| position == 1);
        let reason = reasons::over_the_limit(position, run.pipeline, limit, starts_in);
        self.targets.entry(run.target_id).or_insert(Taken { by: Behind::Waiting(run), until: None });
        Place::Wait(Wait { cause: Cause::Limit, reason, position: Some(position), starts_in })
    }

    fn unless_paused(&self, reason: String) -> String {
        match &self.paused {
            Some(paused) => format!("{paused}; {reason}"),
            None => reason,
        }
    }
}

fn add(to: &mut [f64], needs: &Needs, seconds: f64) {
    for (pool, n) in needs {
        to[*pool] += *n as f64 * seconds.max(0.0);
    }
}
