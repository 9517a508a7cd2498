//! Everything that was seen of a stack since it was deployed. The swarm itself forgets: of each slot it keeps a few tasks.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use assay_model::Micros;
use serde::Serialize;

use crate::{Deployed, Observation, ObservedService, ObservedTask, Restart, TaskState, Wants};

/// How long after its start a task may be at work on it.
const WARM_UP: Micros = Micros::seconds(120);

/// What was seen, look by look. Fed by the watcher, or by a table in a test.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Tasks that were there before; see [`Deployed::tasks_before`].
    before: BTreeSet<String>,
    /// The services that were deployed, by name.
    deployed: Vec<String>,
    /// When the last update of each service before this deploy began, by name.
    updates_before: BTreeMap<String, Micros>,
    /// The last look at the services.
    services: Vec<ObservedService>,
    /// Every task that was seen, by its id.
    tasks: BTreeMap<String, SeenTask>,
    /// What each service came to, by its id.
    courses: BTreeMap<String, Course>,
    /// Tasks whose health check had failed when they were ended for it.
    unhealthy: BTreeSet<String>,
    /// When the last look was, from the start.
    at: Duration,
}

/// A task, as far as it was seen.
#[derive(Clone, Debug)]
pub(crate) struct SeenTask {
    pub(crate) task: ObservedTask,
    /// Since when it ran, by the swarm's clock, where it was seen to run.
    pub(crate) running: Option<Micros>,
    /// Since when it waits for a node that would have it, from the start.
    pub(crate) no_node: Option<Duration>,
    /// The last thing it said.
    pub(crate) last_words: Option<String>,
    /// When it was last seen at work on its own start, by the swarm's clock.
    worked: Option<Micros>,
}

/// What a service came to.
#[derive(Clone, Debug, Default)]
struct Course {
    /// What it looked like at the last look.
    looks: Vec<(String, TaskState)>,
    /// Since when it looks like that, from the start.
    steady_since: Duration,
    /// When it was first all there, and when it first had done its work, by the swarm's clock.
    ready: Option<Micros>,
    done: Option<Micros>,
}

/// An attempt that ended by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// The task.
    pub task: String,
    /// How it ended.
    pub state: TaskState,
    /// With which code, if a process ran.
    pub exit_code: Option<i64>,
    /// What the swarm says of it.
    pub error: String,
    /// When it began, by the swarm's clock: to run, where it was seen to; otherwise it began and ended at once.
    pub began: Micros,
    /// When it ended, by the swarm's clock.
    pub ended: Micros,
    /// The last thing it said.
    pub last_words: Option<String>,
}

impl Attempt {
    /// For how long it ran.
    pub fn lived(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.ended.since(self.began).0).unwrap_or_default())
    }
}

impl History {
    /// Nothing was seen yet of what was deployed.
    pub fn new(deployed: &Deployed) -> Self {
        let updates = deployed
            .services
            .iter()
            .filter_map(|service| Some((service.name.clone(), service.update_before?)));
        let names = deployed.services.iter().map(|service| service.name.clone());
        Self {
            before: deployed.tasks_before.clone(),
            deployed: names.collect(),
            updates_before: updates.collect(),
            ..Self::default()
        }
    }

    /// Takes a look, `at` after the start.
    pub fn see(&mut self, observation: Observation, at: Duration) {
        self.at = at;
        self.services = observation.services;
        // What the swarm has forgotten is not what a service consists of.
        for seen in self.tasks.values_mut() {
            seen.task.up_to_date = false;
        }
        for task in observation.tasks {
            let seen = self.tasks.entry(task.id.clone()).or_insert_with(|| SeenTask {
                task: task.clone(),
                running: None,
                no_node: None,
                last_words: None,
                worked: None,
            });
            if task.state == TaskState::Running {
                seen.running.get_or_insert(task.since);
            }
            let no_node = task.state == TaskState::Pending && task.error.contains("no suitable node");
            seen.no_node = no_node.then(|| seen.no_node.unwrap_or(at));
            seen.task = task;
            if self.unhealthy.contains(&seen.task.id) {
                ended_for_its_health(&mut seen.task);
            }
        }
        for service in self.services.clone() {
            self.follow(&service);
        }
    }

    /// Notes the last thing that an ended task said.
    pub fn hear(&mut self, task: &str, last_words: &str) {
        if let Some(seen) = self.tasks.get_mut(task) {
            seen.last_words = Some(last_words.to_owned());
        }
    }

    /// Notes that the health check of a task's container has failed. The swarm ends it for that, and books one that ends politely
    /// as complete.
    pub fn sicken(&mut self, task: &str) {
        self.unhealthy.insert(task.to_owned());
        if let Some(seen) = self.tasks.get_mut(task) {
            ended_for_its_health(&mut seen.task);
        }
    }

    /// Notes that a task was seen at work. Only while it is young: what works all its life is not starting.
    pub fn work(&mut self, task: &str, at: Micros) {
        if let Some(seen) = self.tasks.get_mut(task)
            && seen.running.is_some_and(|running| at.since(running) <= WARM_UP)
        {
            seen.worked = Some(at);
        }
    }

    /// Tasks that run and are young enough to be still at work on their own start.
    pub(crate) fn warming_up(&self) -> impl Iterator<Item = &ObservedTask> {
        let running: Vec<Micros> = self.tasks.values().filter_map(|seen| seen.running).collect();
        let ended =
            self.tasks.values().filter(|seen| seen.task.state.has_ended()).map(|seen| seen.task.since);
        // The latest thing that is known to have happened is as near to now as the swarm's clock is known here.
        let now = ended.chain(running).max().unwrap_or_default();
        let young = self
            .tasks
            .values()
            .filter(move |seen| seen.running.is_some_and(|running| now.since(running) <= WARM_UP));
        young.map(|seen| &seen.task).filter(|task| task.state == TaskState::Running)
    }

    /// The services at the last look.
    pub fn services(&self) -> &[ObservedService] {
        &self.services
    }

    /// Services that were deployed and were not there at the last look.
    pub fn gone(&self) -> impl Iterator<Item = &str> {
        let there = |name: &str| self.services.iter().any(|service| service.name == name);
        self.deployed.iter().map(String::as_str).filter(move |name| !there(name))
    }

    /// Every task that was seen, the oldest first.
    pub fn tasks(&self) -> Vec<&ObservedTask> {
        let mut tasks: Vec<&ObservedTask> = self.tasks.values().map(|seen| &seen.task).collect();
        tasks.sort_by_key(|task| (task.created, task.id.clone()));
        tasks
    }

    /// Ended tasks since the deploy.
    pub fn ended(&self) -> impl Iterator<Item = &ObservedTask> {
        let seen = self.tasks.values().map(|seen| &seen.task);
        seen.filter(|task| task.state.has_ended() && !self.before.contains(&task.id))
    }

    /// When the last look was, from the start.
    pub fn at(&self) -> Duration {
        self.at
    }

    /// Whether the status of a service's update is that of one before this deploy.
    pub(crate) fn is_old_update(&self, service: &ObservedService) -> bool {
        let started = service.update.as_ref().and_then(|update| update.started);
        started.is_some() && started == self.updates_before.get(&service.name).copied()
    }

    /// For how long a service has looked as it does.
    pub(crate) fn steady_for(&self, service: &ObservedService) -> Duration {
        let since = self.courses.get(&service.id).map_or(self.at, |course| course.steady_since);
        self.at.saturating_sub(since)
    }

    /// Whether a service was ever all there, or had done its work.
    pub(crate) fn was_ready(&self, service: &ObservedService) -> bool {
        self.courses.get(&service.id).is_some_and(|course| course.ready.or(course.done).is_some())
    }

    /// When a service other than this one last made a step forward that it had not made before, or was last at work on its start.
    /// The work of one that has failed itself does not count.
    pub(crate) fn last_step_of_others(&self, service: &ObservedService) -> Option<Micros> {
        let others = self.courses.iter().filter(|(id, _)| **id != service.id);
        let steps = others.flat_map(|(_, course)| [course.ready, course.done]).flatten();
        let well =
            self.services.iter().filter(|other| other.id != service.id && self.attempts(other).is_empty());
        let work = well.flat_map(|other| self.newest(other).into_values().filter_map(|seen| seen.worked));
        steps.chain(work).max()
    }

    /// Whether all that a service consists of was there before the deploy, and nothing of it has failed since.
    pub(crate) fn is_untouched(&self, service: &ObservedService) -> bool {
        let newest = self.newest(service);
        !newest.is_empty()
            && newest.values().all(|seen| self.before.contains(&seen.task.id))
            && self.attempts(service).is_empty()
    }

    /// The newest task that is as the service now asks for, of each slot.
    pub(crate) fn newest(&self, service: &ObservedService) -> BTreeMap<&str, &SeenTask> {
        let mut newest: BTreeMap<&str, &SeenTask> = BTreeMap::new();
        let current =
            self.tasks.values().filter(|seen| seen.task.service == service.id && seen.task.up_to_date);
        for seen in current {
            let slot = newest.entry(seen.task.slot.as_str()).or_insert(seen);
            if (seen.task.created, &seen.task.id) > (slot.task.created, &slot.task.id) {
                *slot = seen;
            }
        }
        newest
    }

    /// The attempts since the deploy that ended by themselves and should not have, of each slot, the oldest first.
    pub(crate) fn attempts(&self, service: &ObservedService) -> BTreeMap<String, Vec<Attempt>> {
        let may_complete =
            matches!(service.wants, Wants::Completed { .. }) || service.restart != Restart::Any;
        let mut slots: BTreeMap<String, Vec<Attempt>> = BTreeMap::new();
        for seen in self.tasks.values() {
            let task = &seen.task;
            let ours = task.service == service.id && !self.before.contains(&task.id);
            if !ours || !task.state.has_ended() || (may_complete && task.state == TaskState::Complete) {
                continue;
            }
            slots.entry(task.slot.clone()).or_default().push(Attempt {
                task: task.id.clone(),
                state: task.state,
                exit_code: task.exit_code,
                error: task.error.clone(),
                began: seen.running.unwrap_or(task.since),
                ended: task.since,
                last_words: seen.last_words.clone(),
            });
        }
        for attempts in slots.values_mut() {
            attempts.sort_by(|one, other| (one.ended, &one.task).cmp(&(other.ended, &other.task)));
        }
        slots
    }

    /// Notes whether a service looks as before, and whether it made a step.
    fn follow(&mut self, service: &ObservedService) {
        let newest = self.newest(service);
        let looks: Vec<(String, TaskState)> =
            newest.values().map(|seen| (seen.task.id.clone(), seen.task.state)).collect();
        let all_there = |state: TaskState, wanted: u64| {
            let there = newest.values().filter(|seen| seen.task.state == state);
            let since: Vec<Micros> = there.map(|seen| seen.task.since).collect();
            if wanted == 0 || (since.len() as u64) < wanted { None } else { since.into_iter().max() }
        };
        let (ready, done) = match service.wants {
            Wants::Running(count) => {
                (all_there(TaskState::Running, count), all_there(TaskState::Complete, count))
            }
            Wants::Completed { tasks, .. } => (None, all_there(TaskState::Complete, tasks)),
        };
        let at = self.at;
        let course = self
            .courses
            .entry(service.id.clone())
            .or_insert_with(|| Course { steady_since: at, ..Course::default() });
        if course.looks != looks {
            (course.looks, course.steady_since) = (looks, at);
        }
        course.ready = course.ready.or(ready);
        course.done = course.done.or(done);
    }
}

/// Has a task that was ended for its health, and ended well, be what the swarm would call it had it not.
fn ended_for_its_health(task: &mut ObservedTask) {
    if task.state == TaskState::Complete {
        task.state = TaskState::Failed;
        "task: unhealthy container".clone_into(&mut task.error);
    }
}
