//! The queue on a simulated fleet: the engine's own `decide`, thousands of made-up runs, and no time of its own.
//!
//! Shows what no single test can: that nobody starves, how long who waits, how much of the fleet is used, and how that
//! compares with first in, first out on the very same load. `docs/reference/scheduler.md` is written from it. Everything is
//! drawn from a seed, so the same program always tells the same.

mod fifo;
mod load;
pub mod page;
mod tally;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use assay_engine::live::Offer;
use assay_engine::queue::history::{self, Past};
use assay_engine::queue::{self, Holding, Place, Policy, Snapshot, Used, Waiting};
use assay_model::{Micros, RunId, TargetId};

pub use fifo::first_in_first_out;
pub use load::{Job, Load};
pub use tally::{Figures, Tally};

/// When simulations begin.
pub const START: Micros = Micros::seconds(1_700_000_000);

/// How often the queue is looked at, if anything happened. The engine looks at once; twenty thousand looks would take a test
/// minutes and change no figure.
const LOOKS_EVERY: Micros = Micros::seconds(30);
/// How often it is counted what was used lately: it halves in an hour.
const COUNTED_EVERY: Micros = Micros::seconds(60);

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The engine's queue.
    Fair,
    /// First in, first out on every set of runners; nobody overtakes.
    Fifo,
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which run, by its place in the load.
    pub job: usize,
    /// Where it ran.
    pub runner: String,
    /// When it began.
    pub started_at: Micros,
    /// When it ended.
    pub ended_at: Micros,
    /// What the queue said when it was asked for: in about how long it starts.
    pub told: Option<Micros>,
}

/// Runs a whole load until its last run is over.
pub fn simulate(load: &Load, rule: Rule) -> Vec<Outcome> {
    let mut world = World::new(load, rule);
    while world.turn() {}
    world.outcomes
}

struct World<'a> {
    load: &'a Load,
    rule: Rule,
    now: Micros,
    next: usize,
    waiting: Vec<Waiting>,
    holding: Vec<Holding>,
    ends: BTreeSet<(Micros, usize)>,
    past: Vec<Past>,
    used: Used,
    used_at: Micros,
    took: HashMap<(TargetId, bool), Vec<Micros>>,
    started: HashMap<usize, (Micros, String)>,
    told: HashMap<usize, Micros>,
    outcomes: Vec<Outcome>,
}

impl<'a> World<'a> {
    fn new(load: &'a Load, rule: Rule) -> Self {
        Self {
            load,
            rule,
            now: START,
            next: 0,
            waiting: Vec::new(),
            holding: Vec::new(),
            ends: BTreeSet::new(),
            past: Vec::new(),
            used: Used::default(),
            used_at: Micros(0),
            took: HashMap::new(),
            started: HashMap::new(),
            told: HashMap::new(),
            outcomes: Vec::with_capacity(load.jobs.len()),
        }
    }

    /// To the next moment in which something happens; false when nothing is left to happen.
    fn turn(&mut self) -> bool {
        let arrives = self.load.jobs.get(self.next).map(|job| job.asked_at);
        let ends = self.ends.first().map(|(at, _)| *at);
        let changes =
            self.load.silences.iter().flat_map(|s| [s.from, s.until]).filter(|at| *at > self.now).min();
        let changes = changes.filter(|_| !self.waiting.is_empty());
        let Some(next) = [arrives, ends, changes].into_iter().flatten().min() else { return false };
        let now = Micros((next.0 + LOOKS_EVERY.0 - 1) / LOOKS_EVERY.0 * LOOKS_EVERY.0).max(self.now);
        self.now = now;
        while let Some((at, job)) = self.ends.first().copied().filter(|(at, _)| *at <= now) {
            self.ends.pop_first();
            self.end(at, job);
        }
        let first_new = self.next;
        while let Some(job) = self.load.jobs.get(self.next).filter(|job| job.asked_at <= now) {
            let expected = self.expected(job);
            self.waiting.push(job.waiting(self.next, expected));
            self.next += 1;
        }
        let offers = self.offers();
        let places = match self.rule {
            Rule::Fair => {
                if now.since(self.used_at) >= COUNTED_EVERY {
                    let since = Micros(now.0 - history::FORGOTTEN_AFTER.0);
                    self.past.retain(|past| past.ended_at > since);
                    (self.used, self.used_at) = (Used::of(&self.past, now), now);
                }
                let snapshot = Snapshot {
                    offers: &offers,
                    holding: &self.holding,
                    waiting: &self.waiting,
                    used: &self.used,
                    policy: &Policy::default(),
                };
                queue::decide(&snapshot, now)
            }
            Rule::Fifo => first_in_first_out(&offers, &self.holding, &self.waiting),
        };
        let mut admitted: HashMap<RunId, String> = HashMap::new();
        for (id, place) in places {
            match place {
                Place::Admit { runner } => drop(admitted.insert(id, runner)),
                Place::Wait(wait) => {
                    let job = number_of(id);
                    if job >= first_new
                        && let Some(span) = wait.starts_in
                    {
                        self.told.insert(job, span);
                    }
                }
            }
        }
        self.admit(&admitted);
        true
    }

    fn admit(&mut self, admitted: &HashMap<RunId, String>) {
        let mut begun: Vec<Waiting> = Vec::new();
        self.waiting.retain(|run| {
            let waits = !admitted.contains_key(&run.id);
            if !waits {
                begun.push(run.clone());
            }
            waits
        });
        begun.sort_by_key(|run| run.number);
        for run in begun {
            let index = number_of(run.id);
            let job = &self.load.jobs[index];
            self.started.insert(index, (self.now, admitted[&run.id].clone()));
            self.ends.insert((self.now.plus(job.takes), index));
            self.holding.push(job.holding(&run, &admitted[&run.id], self.now));
        }
    }

    fn end(&mut self, at: Micros, index: usize) {
        let job = &self.load.jobs[index];
        let number = job.number(index);
        self.holding.retain(|run| run.number != number);
        let (started_at, runner) = self.started[&index].clone();
        let took = self.took.entry((job.target_id, job.quick)).or_default();
        took.insert(0, at.since(started_at));
        took.truncate(history::LATEST);
        self.past.push(Past {
            requester: job.requester.clone(),
            target_id: job.target_id,
            needs: job.needs.clone(),
            started_at,
            ended_at: at,
        });
        let told = self.told.get(&index).copied();
        self.outcomes.push(Outcome { job: index, runner, started_at, ended_at: at, told });
    }

    fn expected(&self, job: &Job) -> Micros {
        let took = self.took.get(&(job.target_id, job.quick)).map_or(&[][..], Vec::as_slice);
        history::expected(took, job.pipeline, if job.quick { "quick" } else { "standard" })
    }

    /// The runners that are not silent.
    fn offers(&self) -> BTreeMap<String, Offer> {
        let silent = |name: &str| {
            self.load.silences.iter().any(|s| s.runner == name && s.from <= self.now && self.now < s.until)
        };
        let heard = self.load.offers.iter().filter(|(name, _)| !silent(name));
        heard.map(|(name, offer)| (name.clone(), offer.clone())).collect()
    }
}

/// A job's run, by its place in the load.
fn id_of(index: usize) -> RunId {
    RunId(uuid::Uuid::from_u128(index as u128 + 1))
}

fn number_of(id: RunId) -> usize {
    usize::try_from(id.0.as_u128() - 1).unwrap_or(usize::MAX)
}
