//! What the queue looks at, gathered from rows, and what operators rule for it.
//!
//! [`crate::queue`] decides; here is what it needs to know. What is kept between turns is a copy of rows that do not change
//! any more (finished runs), so a restart loses nothing but the reading of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use assay_model::{Micros, Pipeline, Priority, RunId, RunState, RunView, TargetId, text};
use assay_store::RunFilter;

use crate::queue::history::{self, Past};
use crate::queue::{
    self, Holding, Mode, Place, Policy, Slots, Snapshot, Stop, Used, Wait, Waiting, supersede,
};
use crate::{Engine, EngineError};

/// The setting with the rules.
const SETTING: &str = "queue";
/// Finished runs that are counted at most.
const MOST_PAST: u32 = 5000;
/// Runs of a target among which its latest finished ones are looked for.
const LOOKED_AT: u32 = 20;
/// Longest reason that operators may give.
const MAX_WHY: usize = 300;
/// Most runs of a pipeline at once, and most that a requester may count for.
const MOST: u32 = 10_000;

/// What an operator rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nobody is admitted.
    Pause {
        /// Why.
        why: String,
    },
    /// Nobody is admitted, until nothing runs.
    Drain {
        /// Why.
        why: String,
    },
    /// Runs start again.
    Resume,
    /// So many runs of a pipeline at once; no limit with none.
    Limit {
        /// Which.
        pipeline: Pipeline,
        /// How many.
        at_once: Option<u32>,
    },
    /// What a requester counts for; as everybody with none.
    Weigh {
        /// Who.
        requester: String,
        /// How much.
        weight: Option<u32>,
    },
}

impl Rule {
    /// How it stands in the audit trail.
    const fn name(&self) -> &'static str {
        match self {
            Self::Pause { .. } => "queue paused",
            Self::Drain { .. } => "queue is to be drained",
            Self::Resume => "queue resumed",
            Self::Limit { .. } => "queue: limit",
            Self::Weigh { .. } => "queue: weight",
        }
    }
}

/// The queue as operators see it.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The rules in force.
    pub policy: Policy,
    /// The connected runners.
    pub runners: Vec<RunnerRoom>,
    /// What has begun and is not over, oldest first.
    pub running: Vec<Holding>,
    /// What waits, the first one first.
    pub waiting: Vec<(Waiting, Place)>,
}

/// A runner's slots.
#[derive(Clone, Debug)]
pub struct RunnerRoom {
    /// Its name.
    pub name: String,
    /// Whether it asks for work. Otherwise runs are on it, and nothing is heard from it.
    pub connected: bool,
    /// By pool: in use, and in all; the latter is not known of one that is not connected.
    pub pools: BTreeMap<String, (u64, Option<u64>)>,
}

/// What a turn of the dispatcher needs of the queue.
pub(crate) struct Line {
    pub(crate) places: BTreeMap<RunId, Place>,
    /// Runs whose pull request has a newer one, with that one's number.
    pub(crate) superseded: BTreeMap<RunId, i64>,
}

/// Finished runs, as far as they were read.
#[derive(Default)]
pub(crate) struct Remembered {
    open: BTreeSet<RunId>,
    past: HashMap<RunId, Past>,
    /// How long a target's next run is expected to take in a profile.
    expected: HashMap<(TargetId, String), Micros>,
}

/// What runs and what waits.
struct Known {
    holding: Vec<Holding>,
    waiting: Vec<Waiting>,
    used: Used,
    policy: Policy,
}

impl Engine {
    /// The rules in force.
    pub async fn queue_policy(&self) -> Result<Policy, EngineError> {
        let Some(stored) = self.store.setting(SETTING).await? else { return Ok(Policy::default()) };
        serde_json::from_value(stored).map_err(|problem| {
            EngineError::Invalid(format!(
                "the queue's rules do not read ({problem}); has a newer version of Assay written them?"
            ))
        })
    }

    /// Changes the rules. What it was ruled already changes nothing.
    pub async fn rule_queue(&self, rule: Rule, by: &str) -> Result<Policy, EngineError> {
        let mut policy = self.queue_policy().await?;
        let stop = |why: String, now: &Mode| Stop {
            by: by.to_owned(),
            why: text::clean_to(&why, MAX_WHY),
            // A queue that was paused and is drained now has stood still since it was paused.
            since: now.stop().map_or(self.now(), |stop| stop.since),
        };
        let what = rule.name();
        match rule {
            Rule::Pause { why } => policy.mode = Mode::Paused(stop(why, &policy.mode)),
            Rule::Drain { why } => policy.mode = Mode::Draining(stop(why, &policy.mode)),
            Rule::Resume => policy.mode = Mode::Open,
            Rule::Limit { at_once: Some(0), .. } => {
                let why = "at least one run at once; `assay queue pause` keeps all of them from starting";
                return Err(EngineError::Invalid(why.to_owned()));
            }
            Rule::Limit { at_once: Some(n), .. } | Rule::Weigh { weight: Some(n), .. } if n > MOST => {
                return Err(EngineError::Invalid(format!("{n} is too many; at most {MOST}")));
            }
            Rule::Limit { pipeline, at_once: Some(n) } => drop(policy.limits.insert(pipeline, n)),
            Rule::Limit { pipeline, at_once: None } => drop(policy.limits.remove(&pipeline)),
            Rule::Weigh { weight: Some(0), .. } => {
                return Err(EngineError::Invalid("a requester counts for at least 1".to_owned()));
            }
            Rule::Weigh { requester, weight: Some(n) } => drop(policy.weights.insert(requester, n)),
            Rule::Weigh { requester, weight: None } => drop(policy.weights.remove(&requester)),
        }
        let stored = serde_json::to_value(&policy)
            .map_err(|problem| EngineError::Invalid(format!("the rules do not serialise: {problem}")))?;
        self.store.set_setting(SETTING, &stored).await?;
        self.store.audit(self.now(), by, what, &stored).await?;
        self.wake.notify_one();
        Ok(policy)
    }

    /// The queue as it is now.
    pub async fn queue(&self) -> Result<Overview, EngineError> {
        let open = self.store.open_views().await?;
        let Known { holding, waiting, used, policy } = self.known(&open).await?;
        let offers = self.live.waiting_runners();
        let snapshot =
            Snapshot { offers: &offers, holding: &holding, waiting: &waiting, used: &used, policy: &policy };
        let places = queue::decide(&snapshot, self.now());
        let mut runners: BTreeMap<&str, RunnerRoom> = BTreeMap::new();
        for (name, offer) in &offers {
            let pools = offer.capacity.iter().map(|(pool, n)| (pool.clone(), (0, Some(*n)))).collect();
            runners.insert(name, RunnerRoom { name: name.clone(), connected: true, pools });
        }
        for run in &holding {
            let room = runners.entry(&run.runner).or_insert_with(|| RunnerRoom {
                name: run.runner.clone(),
                connected: false,
                pools: BTreeMap::new(),
            });
            for (pool, n) in &run.needs {
                room.pools.entry(pool.clone()).or_insert((0, None)).0 += n;
            }
        }
        let runners = runners.into_values().collect();
        let mut by_id: HashMap<RunId, Waiting> = waiting.into_iter().map(|run| (run.id, run)).collect();
        let waiting =
            places.into_iter().filter_map(|(id, place)| Some((by_id.remove(&id)?, place))).collect();
        Ok(Overview { policy, runners, running: holding, waiting })
    }

    /// What becomes of every queued run, and what those that wait are told.
    pub(crate) async fn line_up(&self, open: &[Arc<RunView>]) -> Result<Line, EngineError> {
        let Known { holding, waiting, used, policy } = self.known(open).await?;
        let offers = self.live.waiting_runners();
        let snapshot =
            Snapshot { offers: &offers, holding: &holding, waiting: &waiting, used: &used, policy: &policy };
        let places: BTreeMap<RunId, Place> = queue::decide(&snapshot, self.now()).into_iter().collect();
        let told = |(id, place): (&RunId, &Place)| match place {
            Place::Wait(wait) => Some((*id, wait.clone())),
            Place::Admit { .. } => None,
        };
        self.live.set_places(places.iter().filter_map(told).collect());
        Ok(Line { places, superseded: supersede::superseded(open) })
    }

    /// A queued run's place in the line; none for one whose turn has come, or that is not queued.
    pub fn place(&self, run: &RunView) -> Option<Wait> {
        if run.state() != RunState::Queued {
            return None;
        }
        let known = self.live.place(run.id);
        known.or_else(|| {
            let waiting =
                [Waiting::of(run, history::expected(&[], run.created.pipeline, &run.created.profile))];
            let offers = self.live.waiting_runners();
            let (used, policy) = (Used::default(), Policy::default());
            let alone =
                Snapshot { offers: &offers, holding: &[], waiting: &waiting, used: &used, policy: &policy };
            match queue::decide(&alone, self.now()).pop() {
                Some((_, Place::Wait(wait))) => Some(wait),
                _ => None,
            }
        })
    }

    async fn known(&self, open: &[Arc<RunView>]) -> Result<Known, EngineError> {
        let policy = self.queue_policy().await?;
        let mut remembered = self.remembered.lock().await;
        self.remember(&mut remembered, open).await?;
        let (mut holding, mut waiting) = (Vec::new(), Vec::new());
        for run in open.iter().filter(|run| !run.state().is_terminal()) {
            let expected = self.expected(&mut remembered, run).await?;
            if run.state() == RunState::Queued {
                waiting.push(Waiting::of(run, expected));
            }
            holding.extend(Holding::of(run, expected));
        }
        let used = Used::of(remembered.past.values(), self.now());
        Ok(Known { holding, waiting, used, policy })
    }

    /// Reads the runs that have ended since the last look; after a start, all that still count.
    async fn remember(&self, known: &mut Remembered, open: &[Arc<RunView>]) -> Result<(), EngineError> {
        let now: BTreeSet<RunId> =
            open.iter().filter(|run| !run.state().is_terminal()).map(|run| run.id).collect();
        let ended = known.open.iter().any(|run| !now.contains(run));
        if !ended && !known.open.is_empty() {
            known.open = now;
            return Ok(());
        }
        let since = Micros(self.now().0 - history::FORGOTTEN_AFTER.0);
        let rows = self.store.runs_ended_since(since, MOST_PAST).await?;
        let counts: BTreeSet<RunId> = rows.iter().map(|row| row.id).collect();
        known.past.retain(|id, _| counts.contains(id));
        for row in rows {
            // One that never began has used nothing.
            let (Some(started_at), Some(ended_at)) = (row.started_at, row.completed_at) else { continue };
            if known.past.contains_key(&row.id) {
                continue;
            }
            known.expected.remove(&(row.target_id, row.profile));
            let created = &self.view(row.id).await?.created;
            let past = Past {
                requester: created.requested_by.clone(),
                target_id: row.target_id,
                needs: queue::waiting::needs(created),
                started_at,
                ended_at,
            };
            known.past.insert(row.id, past);
        }
        known.open = now;
        Ok(())
    }

    /// How long a run is expected to take.
    async fn expected(&self, known: &mut Remembered, run: &RunView) -> Result<Micros, EngineError> {
        let (pipeline, profile) = (run.created.pipeline, &run.created.profile);
        let key = (run.created.target.id, profile.clone());
        if let Some(expected) = known.expected.get(&key) {
            return Ok(*expected);
        }
        let filter = RunFilter { target: Some(key.0), limit: LOOKED_AT, ..RunFilter::default() };
        let rows = self.store.list_runs(filter).await?;
        // A run that was stopped, or held for days, says nothing of how long one takes.
        let whole = rows.iter().filter(|row| row.state == RunState::Completed && row.profile == *profile);
        let took = |row: &assay_store::RunRow| Some(row.completed_at?.since(row.started_at?));
        let latest: Vec<Micros> = whole.filter_map(took).collect();
        let expected = history::expected(&latest, pipeline, profile);
        known.expected.insert(key, expected);
        Ok(expected)
    }
}

impl Overview {
    /// How many hold slots: nothing else keeps a drained control plane from being stopped.
    pub fn active(&self) -> usize {
        self.running.iter().filter(|run| !run.needs.is_empty()).count()
    }

    /// What a class has waiting.
    pub fn waiting_of(&self, priority: Priority) -> usize {
        self.waiting.iter().filter(|(run, _)| run.priority == priority).count()
    }
}

impl RunnerRoom {
    /// What is in use, as slots.
    pub fn in_use(&self) -> Slots {
        self.pools.iter().map(|(pool, (used, _))| (pool.clone(), *used)).collect()
    }
}
