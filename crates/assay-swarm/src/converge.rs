//! Whether a stack is what it is to be. Read from its tasks: "1/1" is true half of the time for a service that lives six seconds
//! and is dead for six, and true of the old task in the first moments of an update.
//!
//! [`judge`] is pure, over a [`History`]. A service is *settled* when its newest tasks are where they should be, and the stack has
//! converged when every service has been settled, with the same tasks, for long enough.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{Failure, History, ObservedService, Restart, TaskState, UpdateState, Wants, crash::failures};

/// What "long enough" and "too often" mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// For how long everything must have been as it is. Longer than Swarm's own 5 s, which a slow flap survives.
    pub stable_for: Duration,
    /// The same for a service whose tasks were all there before: long enough for the swarm to replace them if it wants to.
    pub unchanged_for: Duration,
    /// The most that is asked of a service that has a slow health check or has died before.
    pub stable_most: Duration,
    /// So many equal failures of one slot make a crash loop.
    pub restarts: usize,
    /// So many failures of one slot make one, equal or not.
    pub most_restarts: usize,
    /// How long a task may find no node that would have it.
    pub unschedulable_for: Duration,
    /// An attempt that lived for at least so long flaps; one that did not, crashes.
    pub slow_life: Duration,
    /// Services that are known to fail for a while, by their names in the files: how often they may.
    pub tolerated: BTreeMap<String, usize>,
    /// Of those, who waits for whom: once that one has been ready, nothing is tolerated any more.
    pub tolerated_until: BTreeMap<String, String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            stable_for: Duration::from_secs(8),
            unchanged_for: Duration::from_secs(2),
            stable_most: Duration::from_mins(1),
            restarts: 3,
            most_restarts: 8,
            unschedulable_for: Duration::from_secs(8),
            slow_life: Duration::from_secs(3),
            tolerated: BTreeMap::new(),
            tolerated_until: BTreeMap::new(),
        }
    }
}

/// What a history comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// Not yet: what is waited for, service by service.
    Converging(Vec<Waiting>),
    /// It is what it is to be.
    Converged {
        /// Services that are to end some day and still run, which is as good as can be told.
        still_running: Vec<String>,
    },
    /// It will not become what it is to be.
    Failed(Vec<Failure>),
}

/// A service that is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Its full name.
    pub service: String,
    /// For what.
    pub reason: String,
    /// For how long it has to stay as it is, if that is all.
    pub stable_in: Option<Duration>,
}

/// Judges what was seen so far.
pub fn judge(history: &History, rules: &Rules) -> Judgement {
    let failures = failures(history, rules);
    if !failures.is_empty() {
        return Judgement::Failed(failures);
    }
    let mut waiting = Vec::new();
    let mut still_running = Vec::new();
    for service in history.services() {
        let wait = |reason: String, stable_in| Waiting { service: service.name.clone(), reason, stable_in };
        match settled(history, service) {
            Settled::Not(reason) => waiting.push(wait(reason, None)),
            Settled::Done => {}
            Settled::Running => {
                let asked = stable_for(history, service, rules);
                let steady = history.steady_for(service);
                if steady < asked {
                    let reason = format!("it has been as it is for {steady:.1?} of {asked:.1?}");
                    waiting.push(wait(reason, Some(asked.saturating_sub(steady))));
                } else if service.restart == Restart::None {
                    still_running.push(service.name.clone());
                }
            }
        }
    }
    // Somebody took it away, or nothing was looked at yet.
    waiting.extend(history.gone().map(|service| Waiting {
        service: service.to_owned(),
        reason: "it is not there".to_owned(),
        stable_in: None,
    }));
    if waiting.is_empty() { Judgement::Converged { still_running } } else { Judgement::Converging(waiting) }
}

/// Whether a service is where it should be.
enum Settled {
    /// It is not: why.
    Not(String),
    /// All that it is to have runs.
    Running,
    /// All that it had to do is done, or there is nothing.
    Done,
}

fn settled(history: &History, service: &ObservedService) -> Settled {
    // `paused` and what follows a rollback are outcomes: of this deploy they are failures, of an earlier one nothing to wait for.
    let moving = service.update.as_ref().map(|update| update.state);
    if matches!(moving, Some(UpdateState::Updating | UpdateState::RollbackStarted)) {
        return Settled::Not("its update is under way".to_owned());
    }
    let newest = history.newest(service);
    match service.wants {
        Wants::Running(0) => Settled::Done,
        Wants::Running(count) => {
            let runs = newest.values().filter(|seen| {
                seen.task.state == TaskState::Running && seen.task.desired == TaskState::Running
            });
            let (runs, may_end) = (runs.count() as u64, service.restart != Restart::Any);
            let ended = newest.values().filter(|seen| may_end && seen.task.state == TaskState::Complete);
            let ended = ended.count() as u64;
            if ended >= count {
                Settled::Done
            } else if runs + ended >= count {
                Settled::Running
            } else {
                let states = newest.values().map(|seen| state_words(seen.task.state, &seen.task.error));
                let states: Vec<String> = states.collect();
                Settled::Not(format!("{runs} of {count} run ({})", or_none(&states)))
            }
        }
        Wants::Completed { tasks, iteration } => {
            let ended = newest
                .values()
                .filter(|seen| seen.task.state == TaskState::Complete && seen.task.iteration == iteration);
            let ended = ended.count() as u64;
            if ended >= tasks {
                Settled::Done
            } else {
                Settled::Not(format!("{ended} of {tasks} have completed"))
            }
        }
    }
}

/// A service that has died before has to outlive its deaths, and one with a slow health check two of its checks.
fn stable_for(history: &History, service: &ObservedService, rules: &Rules) -> Duration {
    if history.is_untouched(service) {
        return rules.unchanged_for.min(rules.stable_for);
    }
    let attempts = history.attempts(service);
    let longest_life = attempts.values().flatten().map(crate::Attempt::lived).max().unwrap_or_default();
    let checks = service.health_interval.unwrap_or_default();
    let asked = (longest_life * 3).max(checks * 2).min(rules.stable_most);
    asked.max(rules.stable_for)
}

fn state_words(state: TaskState, error: &str) -> String {
    let state = format!("{state:?}").to_lowercase();
    if error.is_empty() { state } else { format!("{state}: {error}") }
}

fn or_none(states: &[String]) -> String {
    if states.is_empty() { "no task yet".to_owned() } else { states.join(", ") }
}
