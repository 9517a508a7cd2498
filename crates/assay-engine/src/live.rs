//! What is known right now and not worth a journal entry: who was heard when, who waits for work.
//!
//! Lost on a restart, on purpose: after one, every agent counts as heard at the moment of the
//! start, so no attempt is given up within one lease time of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use assay_model::{Micros, RunId};

/// An agent silent for this long is no longer remembered; every lease has ended long before.
const FORGET_AFTER: Micros = Micros::seconds(3600);

/// The shared picture.
#[derive(Clone)]
pub struct Live {
    inner: Arc<Mutex<Inner>>,
    started: Micros,
}

struct Inner {
    agents: BTreeMap<RunId, Agent>,
    waiting_runners: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Clone, Default)]
struct Agent {
    last_seen: Option<Micros>,
    step: Option<String>,
    off: bool,
    bound_at: Option<Micros>,
}

impl Live {
    pub(crate) fn new(started: Micros) -> Self {
        let inner = Inner { agents: BTreeMap::new(), waiting_runners: BTreeMap::new() };
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

    /// The runners that wait for work, with the power methods each can do.
    pub fn waiting_runners(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.lock().waiting_runners.clone()
    }

    pub(crate) fn heard(&self, run: RunId, now: Micros) {
        self.lock().agents.entry(run).or_default().last_seen = Some(now);
    }

    pub(crate) fn set_step(&self, run: RunId, step: Option<String>) {
        self.lock().agents.entry(run).or_default().step = step;
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

    pub(crate) fn runner_waits(&self, name: &str, power: &[String]) {
        self.lock().waiting_runners.insert(name.to_owned(), power.iter().cloned().collect());
    }

    pub(crate) fn runner_left(&self, name: &str) {
        self.lock().waiting_runners.remove(name);
    }

    /// Forgets agents that have not been heard for long: their runs are over.
    pub(crate) fn prune(&self, now: Micros) {
        self.lock().agents.retain(|_, agent| now.since(agent.last_seen.unwrap_or(now)) < FORGET_AFTER);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
