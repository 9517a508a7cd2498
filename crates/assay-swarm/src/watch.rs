//! Waits until a stack has converged or failed: events to be quick, looks to be right.
//!
//! Docker has events for containers and none for tasks, and a task's state follows its container's a moment later. So an event
//! causes a look, and another one shortly after; without events there is a look each second.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use assay_model::Micros;
use bollard::query_parameters::{EventsOptionsBuilder, StatsOptionsBuilder};
use futures::{Stream, StreamExt};
use serde::Serialize;

use crate::{
    Deployed, Evidence, Failure, History, Judgement, Rules, StackEvent, Swarm, SwarmError, TaskState,
    Waiting,
    evidence::{AttemptEvidence, stack_event},
    judge,
    moment::moment,
};

/// Between two looks when nothing happens.
const LOOK: Duration = Duration::from_secs(1);
/// After an event, until tasks have followed.
const FOLLOWED: Duration = Duration::from_millis(150);
/// Events come in bursts: so long after the first one.
const BURST: Duration = Duration::from_millis(20);

/// A task that uses more than this share of one processor is at work. A server that waits for requests uses a hundredth.
const BUSY: f64 = 0.03;

/// What Docker calls the event of a health check that has failed for good.
const UNHEALTHY: &str = "health_status: unhealthy";

/// How waiting for a stack ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Convergence {
    /// What it came to.
    pub outcome: Outcome,
    /// How long that took.
    pub took: Duration,
    /// When every service was where it should be for the first time; the rest was making sure.
    pub settled: Option<Duration>,
    /// What is known of it; frozen before anything was taken down.
    pub evidence: Evidence,
}

/// What waiting for a stack came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is what it is to be.
    Converged {
        /// Services that are to end some day and still run.
        still_running: Vec<String>,
    },
    /// It will not become that.
    Failed(Vec<Failure>),
    /// Neither in the time that it was given.
    TimedOut(Vec<Waiting>),
}

impl Swarm {
    /// Waits until what was deployed has converged or failed, at most for `limit`.
    ///
    /// # Errors
    /// [`SwarmError::Docker`]. That a stack fails is an outcome, not an error.
    pub async fn converge(
        &self,
        deployed: &Deployed,
        rules: &Rules,
        limit: Duration,
    ) -> Result<Convergence, SwarmError> {
        let started = Instant::now();
        let mut history = History::new(deployed);
        let mut events: Vec<StackEvent> = Vec::new();
        let mut attempts: Vec<AttemptEvidence> = Vec::new();
        let mut stream = Box::pin(self.stack_events(&deployed.stack));
        let mut processors = Processors::default();
        let mut settled = None;
        let mut just_happened = true;
        loop {
            history.see(self.observe(&deployed.stack).await?, started.elapsed());
            for sick in events.iter().filter(|event| event.action.starts_with(UNHEALTHY)) {
                sick.task.iter().for_each(|task| history.sicken(task));
            }
            self.hear_the_ended(&mut history, &mut attempts).await;
            self.see_the_working(&mut history, &mut processors).await;
            let judgement = judge(&history, rules);
            let waiting = match judgement {
                Judgement::Converging(waiting) => waiting,
                Judgement::Converged { still_running } => {
                    let outcome = Outcome::Converged { still_running };
                    return Ok(self.ended(outcome, started, settled, &history, attempts, events).await);
                }
                Judgement::Failed(failures) => {
                    let outcome = Outcome::Failed(failures);
                    return Ok(self.ended(outcome, started, settled, &history, attempts, events).await);
                }
            };
            let only_stability = waiting.iter().all(|waiting| waiting.stable_in.is_some());
            settled = only_stability.then(|| settled.unwrap_or(started.elapsed()));
            let left = limit.saturating_sub(started.elapsed());
            if left.is_zero() {
                let outcome = Outcome::TimedOut(waiting);
                return Ok(self.ended(outcome, started, settled, &history, attempts, events).await);
            }
            let stable_in = waiting.iter().filter_map(|waiting| waiting.stable_in).max();
            let pause = if just_happened { FOLLOWED } else { LOOK };
            let pause =
                if only_stability { stable_in.map_or(pause, |stable| pause.min(stable)) } else { pause };
            just_happened = next_burst(&mut stream, &mut events, pause.min(left)).await;
        }
    }

    /// Events of a stack's containers and services from now on. A stream that breaks off ends; looks go on without it.
    fn stack_events(&self, stack: &str) -> impl Stream<Item = StackEvent> + use<> {
        let filters = std::collections::HashMap::from([("type", vec!["container", "service"])]);
        let options = EventsOptionsBuilder::default().filters(&filters).build();
        let stack = stack.to_owned();
        let events = self.docker.events(Some(options));
        events
            .filter_map(move |event| {
                let event = event
                    .inspect_err(|error| tracing::debug!(%error, "Docker's events broke off"))
                    .ok()
                    .and_then(|event| stack_event(event, &stack));
                async move { event }
            })
            // Never the end of waiting: without events there are still the looks.
            .chain(futures::stream::pending())
    }

    /// Takes down what every task that has ended since the last look had to say, before the swarm forgets it.
    async fn hear_the_ended(&self, history: &mut History, attempts: &mut Vec<AttemptEvidence>) {
        let known = |id: &str| attempts.iter().any(|attempt| attempt.task == id);
        let fresh: Vec<_> = history.ended().filter(|task| !known(&task.id)).cloned().collect();
        for task in fresh {
            let evidence = self.attempt_evidence(&task).await;
            history.hear(&task.id, &evidence.last_words());
            attempts.push(evidence);
        }
    }

    /// Notes which tasks are at work on their own start. It matters only to services that fail meanwhile.
    async fn see_the_working(&self, history: &mut History, processors: &mut Processors) {
        if history.ended().next().is_none() {
            return;
        }
        let young: Vec<_> = history
            .warming_up()
            .filter_map(|task| Some((task.id.clone(), task.container.clone()?)))
            .collect();
        for (task, container) in young {
            let Some((at, used)) = self.processor_time(&container).await else { continue };
            if processors.is_busy(&task, at, used) {
                history.work(&task, at);
            }
        }
    }

    /// What a container has used so far, and when that was, by Docker's clock. One that has just ended has nothing to tell.
    async fn processor_time(&self, container: &str) -> Option<(Micros, Duration)> {
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let mut stats = Box::pin(self.docker.stats(container, Some(options)));
        let told = tokio::time::timeout(LOOK, stats.next()).await.ok()??.ok()?;
        let used = told.cpu_stats?.cpu_usage?.total_usage?;
        Some((moment(told.read.as_ref())?, Duration::from_nanos(used)))
    }

    async fn ended(
        &self,
        outcome: Outcome,
        started: Instant,
        settled: Option<Duration>,
        history: &History,
        mut attempts: Vec<AttemptEvidence>,
        events: Vec<StackEvent>,
    ) -> Convergence {
        let took = started.elapsed();
        if !matches!(outcome, Outcome::Converged { .. }) {
            // What still lives speaks for itself as well: what the failing one waits for, above all.
            let living: Vec<_> = history
                .tasks()
                .into_iter()
                .filter(|task| matches!(task.state, TaskState::Starting | TaskState::Running))
                .cloned()
                .collect();
            for task in living {
                attempts.push(self.attempt_evidence(&task).await);
            }
        }
        let tasks = history.tasks().into_iter().cloned().collect();
        let services = history.services().to_vec();
        Convergence { outcome, took, settled, evidence: Evidence { services, tasks, attempts, events } }
    }
}

/// What each task's container had used of the processors when it was last asked.
#[derive(Default)]
struct Processors {
    asked: BTreeMap<String, (Micros, Duration)>,
}

impl Processors {
    /// Whether a task has worked since it was asked last, half a second before at least.
    fn is_busy(&mut self, task: &str, at: Micros, used: Duration) -> bool {
        let Some((before, used_before)) = self.asked.get(task).copied() else {
            self.asked.insert(task.to_owned(), (at, used));
            return false;
        };
        let passed = at.since(before).as_seconds();
        if passed < 0.5 {
            return false;
        }
        self.asked.insert(task.to_owned(), (at, used));
        used.saturating_sub(used_before).as_secs_f64() / passed >= BUSY
    }
}

/// Waits for an event, or for `pause`; takes in what comes with it. Whether there was one.
async fn next_burst(
    stream: &mut (impl Stream<Item = StackEvent> + Unpin),
    events: &mut Vec<StackEvent>,
    pause: Duration,
) -> bool {
    let Ok(Some(first)) = tokio::time::timeout(pause, stream.next()).await else { return false };
    events.push(first);
    let burst = tokio::time::sleep(BURST);
    tokio::pin!(burst);
    loop {
        tokio::select! {
            biased;
            () = &mut burst => return true,
            Some(event) = stream.next() => events.push(event),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Micros, Processors};

    #[test]
    fn who_uses_a_processor_is_at_work_and_who_was_asked_just_now_is_not_asked_again() {
        let mut processors = Processors::default();
        let mut busy =
            |at: i64, used: u64| processors.is_busy("db1", Micros(at * 1000), Duration::from_millis(used));
        assert!(!busy(0, 900), "what it used before is not known to be recent");
        assert!(!busy(100, 1000), "too soon to tell");
        assert!(busy(1000, 1000));
        assert!(!busy(2000, 1010));
        assert!(busy(3000, 1060));
    }
}
