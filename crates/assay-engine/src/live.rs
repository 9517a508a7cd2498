//! What is known right now and not worth a journal entry: who was heard when, who waits for work.
//!
//! Lost on a restart, on purpose: after one, every agent counts as heard at the moment of the
//! start, so no attempt is given up within one lease time of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use assay_model::host::parts::PartId;
use assay_model::{Micros, RunId, Sha256};

use crate::queue::Wait;

/// An agent silent for this long is no longer remembered; every lease has ended long before.
const FORGET_AFTER: Micros = Micros::seconds(3600);

/// Beyond so many inventories it is cheaper to forget all than to keep track of which are of open runs.
const KNOWN_INVENTORIES: usize = 8192;

/// The shared picture.
#[derive(Clone)]
pub struct Live {
    inner: Arc<Mutex<Inner>>,
    started: Micros,
}

struct Inner {
    agents: BTreeMap<RunId, Agent>,
    waiting_runners: BTreeMap<String, Offer>,
    /// What people were told about runs and no event of the journal says.
    told: BTreeMap<RunId, BTreeSet<String>>,
    /// What runs wait for that have begun.
    waits: BTreeMap<RunId, String>,
    /// What queued runs wait for.
    places: BTreeMap<RunId, Wait>,
    /// The parts in inventories that were read lately, by the evidence's digest: never stale.
    parts: HashMap<Sha256, Arc<Vec<PartId>>>,
}

/// What a runner that waits for work offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The power methods it can do.
    pub power: BTreeSet<String>,
    /// The capacity it has declared, by pool.
    pub capacity: BTreeMap<String, u64>,
}

#[derive(Clone, Default)]
struct Agent {
    last_seen: Option<Micros>,
    step: Option<String>,
    step_since: Option<Micros>,
    off: bool,
    bound_at: Option<Micros>,
}

impl Live {
    pub(crate) fn new(started: Micros) -> Self {
        let inner = Inner {
            agents: BTreeMap::new(),
            waiting_runners: BTreeMap::new(),
            told: BTreeMap::new(),
            waits: BTreeMap::new(),
            places: BTreeMap::new(),
            parts: HashMap::new(),
        };
        Self { inner: Arc::new(Mutex::new(inner)), started }
    }

    /// When this process began to listen.
    pub const fn started(&self) -> Micros {
        self.started
    }

    /// When the run's agent was last heard; the start of the server if not since.
    pub fn last_seen(&self, run: RunId) -> Micros {
        self.lock().agents.get(&run).and_then(|a| a.last_seen).unwrap_or(self.started)
    }

    /// Whether the run's agent was heard since the start of the server.
    pub fn was_heard(&self, run: RunId) -> bool {
        self.lock().agents.get(&run).is_some_and(|a| a.last_seen.is_some())
    }

    /// What the agent said it is doing.
    pub fn step(&self, run: RunId) -> Option<String> {
        self.lock().agents.get(&run).and_then(|a| a.step.clone())
    }

    /// Whether the agent has said that it is switching its machine off.
    pub fn is_off(&self, run: RunId) -> bool {
        self.lock().agents.get(&run).is_some_and(|a| a.off)
    }

    /// The runners that wait for work, with what each offers.
    pub fn waiting_runners(&self) -> BTreeMap<String, Offer> {
        self.lock().waiting_runners.clone()
    }

    /// What a run that has begun waits for and that is not its machine: the wire.
    pub fn waits_for(&self, run: RunId) -> Option<String> {
        self.lock().waits.get(&run).cloned()
    }

    pub(crate) fn set_waits(&self, waits: BTreeMap<RunId, String>) {
        self.lock().waits = waits;
    }

    /// What a queued run waits for, as of the dispatcher's last turn.
    pub(crate) fn place(&self, run: RunId) -> Option<Wait> {
        self.lock().places.get(&run).cloned()
    }

    pub(crate) fn set_places(&self, places: BTreeMap<RunId, Wait>) {
        self.lock().places = places;
    }

    /// Since when the agent has been saying the same about what it does; the start of the server at the earliest.
    pub(crate) fn step_since(&self, run: RunId) -> Micros {
        self.lock().agents.get(&run).and_then(|a| a.step_since).unwrap_or(self.started)
    }

    pub(crate) fn told(&self, run: RunId) -> BTreeSet<String> {
        self.lock().told.get(&run).cloned().unwrap_or_default()
    }

    pub(crate) fn set_told(&self, run: RunId, key: String) {
        self.lock().told.entry(run).or_default().insert(key);
    }

    pub(crate) fn heard(&self, run: RunId, now: Micros) {
        self.lock().agents.entry(run).or_default().last_seen = Some(now);
    }

    pub(crate) fn set_step(&self, run: RunId, step: Option<String>, now: Micros) {
        let mut inner = self.lock();
        let agent = inner.agents.entry(run).or_default();
        if agent.step != step {
            agent.step = step;
            agent.step_since = Some(now);
        }
    }

    pub(crate) fn set_off(&self, run: RunId, off: bool) {
        self.lock().agents.entry(run).or_default().off = off;
    }

    pub(crate) fn bound_at(&self, run: RunId) -> Option<Micros> {
        self.lock().agents.get(&run).and_then(|a| a.bound_at)
    }

    pub(crate) fn set_bound(&self, run: RunId, at: Micros) {
        self.lock().agents.entry(run).or_default().bound_at = Some(at);
    }

    /// The parts in an inventory, if it was read lately.
    pub(crate) fn parts(&self, inventory: Sha256) -> Option<Arc<Vec<PartId>>> {
        self.lock().parts.get(&inventory).cloned()
    }

    pub(crate) fn set_parts(&self, inventory: Sha256, parts: Arc<Vec<PartId>>) {
        let mut inner = self.lock();
        if inner.parts.len() >= KNOWN_INVENTORIES {
            inner.parts.clear();
        }
        inner.parts.insert(inventory, parts);
    }

    pub(crate) fn runner_waits(&self, name: &str, offer: Offer) {
        self.lock().waiting_runners.insert(name.to_owned(), offer);
    }

    pub(crate) fn runner_left(&self, name: &str) {
        self.lock().waiting_runners.remove(name);
    }

    /// Forgets agents that have not been heard for long: their runs are over.
    pub(crate) fn prune(&self, now: Micros, open: &[RunId]) {
        let mut inner = self.lock();
        inner.agents.retain(|_, agent| now.since(agent.last_seen.unwrap_or(now)) < FORGET_AFTER);
        inner.told.retain(|run, _| open.contains(run));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
