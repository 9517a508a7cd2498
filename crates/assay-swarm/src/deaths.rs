//! Tasks that ended by themselves while nobody waited for their stack.
//!
//! [`Swarm::converge`] watches a stack for seconds after something was done to it. An app that dies later, when the first
//! visitor comes or the first job is due, is up again by the next look: only its tasks tell.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{Observation, ObservedTask, Restart, Swarm, SwarmError, Wants};

/// A stack at a moment: what has ended by then is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    stack: String,
    ended: BTreeSet<String>,
}

/// A task that ended by itself and should not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Death {
    /// The service's full name.
    pub service: String,
    /// With which code its process ended, if one ran.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed it for its memory.
    pub oom_killed: bool,
    /// What the swarm says of it.
    pub error: String,
    /// The last line that it wrote; empty if it wrote none.
    pub last_words: String,
}

impl Swarm {
    /// Notes what has ended of a stack until now.
    ///
    /// # Errors
    /// [`SwarmError::Docker`].
    pub async fn mark(&self, stack: &str) -> Result<Mark, SwarmError> {
        let seen = self.observe(stack).await?;
        let ended = seen.tasks.iter().filter(|task| task.state.has_ended()).map(|task| task.id.clone());
        Ok(Mark { stack: stack.to_owned(), ended: ended.collect() })
    }

    /// The tasks that have ended by themselves since, the oldest first. Nothing may have been done to the stack meanwhile that ends
    /// tasks. Those whose end belongs to their service (jobs, one-shots) are not among them.
    ///
    /// # Errors
    /// [`SwarmError::Docker`].
    pub async fn died_since(&self, mark: &Mark) -> Result<Vec<Death>, SwarmError> {
        let seen = self.observe(&mark.stack).await?;
        let mut deaths = Vec::new();
        for (service, task) in died(&seen, &mark.ended) {
            let evidence = self.attempt_evidence(task).await;
            deaths.push(Death {
                service: service.to_owned(),
                exit_code: evidence.exit_code,
                oom_killed: evidence.oom_killed,
                error: task.error.clone(),
                last_words: evidence.last_words(),
            });
        }
        Ok(deaths)
    }
}

/// Those of a look's tasks that have ended since and should not have, with the names of their services.
fn died<'a>(seen: &'a Observation, ended: &BTreeSet<String>) -> Vec<(&'a str, &'a ObservedTask)> {
    let mut died: Vec<(&str, &ObservedTask)> = Vec::new();
    for service in &seen.services {
        let may_complete =
            matches!(service.wants, Wants::Completed { .. }) || service.restart != Restart::Any;
        let tasks = seen.tasks.iter().filter(|task| task.service == service.id);
        let tasks = tasks.filter(|task| task.state.has_ended() && !ended.contains(&task.id));
        let tasks = tasks.filter(|task| !(may_complete && task.state == crate::TaskState::Complete));
        died.extend(tasks.map(|task| (service.name.as_str(), task)));
    }
    died.sort_by(|(_, one), (_, other)| (one.since, &one.id).cmp(&(other.since, &other.id)));
    died
}

#[cfg(test)]
mod tests {
    use assay_model::Micros;

    use super::*;
    use crate::{ObservedService, TaskState};

    fn service(name: &str, restart: Restart) -> ObservedService {
        ObservedService {
            name: format!("shop_{name}"),
            id: name.to_owned(),
            wants: Wants::Running(1),
            restart,
            max_attempts: 0,
            health_interval: None,
            update: None,
        }
    }

    fn task(id: &str, service: &str, state: TaskState, since: i64) -> ObservedTask {
        ObservedTask {
            id: id.to_owned(),
            service: service.to_owned(),
            slot: "1".to_owned(),
            created: Micros(0),
            state,
            since: Micros(since),
            desired: TaskState::Running,
            up_to_date: true,
            error: String::new(),
            exit_code: None,
            container: None,
            iteration: 0,
        }
    }

    #[test]
    fn who_ended_since_and_should_not_have_has_died() {
        let seen = Observation {
            services: vec![
                service("app", Restart::Any),
                service("migrate", Restart::None),
                service("worker", Restart::OnFailure),
            ],
            tasks: vec![
                task("app.before", "app", TaskState::Failed, 1),
                task("app.late", "app", TaskState::Failed, 9),
                task("app.polite", "app", TaskState::Complete, 8),
                task("app.replaced", "app", TaskState::Shutdown, 7),
                task("app.now", "app", TaskState::Running, 10),
                task("migrate.done", "migrate", TaskState::Complete, 6),
                task("worker.done", "worker", TaskState::Complete, 6),
                task("worker.dead", "worker", TaskState::Failed, 5),
                task("other.dead", "other", TaskState::Failed, 5),
            ],
        };
        let told: Vec<_> = died(&seen, &BTreeSet::from(["app.before".to_owned()]))
            .into_iter()
            .map(|(service, task)| format!("{service}: {}", task.id))
            .collect();
        assert_eq!(
            told,
            ["shop_worker: worker.dead", "shop_app: app.polite", "shop_app: app.late"],
            "the oldest first; what was asked to end, or is to end some day, has not died"
        );
    }
}
