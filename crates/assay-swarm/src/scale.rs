//! Stops a service and brings it back as it was: files that a running program has open must not be changed below it.

use std::time::{Duration, Instant};

use bollard::{
    models::{Service, ServiceSpec, ServiceSpecMode, TaskSpecPlacement},
    query_parameters::{InspectServiceOptions, UpdateServiceOptionsBuilder, WaitContainerOptionsBuilder},
};
use futures::StreamExt;

use crate::{ObservedTask, Swarm, SwarmError, TaskState};

/// A constraint that no node meets, for services that have no count to be put to zero.
const NOWHERE: &str = "node.labels.assay.stopped==true";
/// Between two looks at tasks that have no container yet or no longer: Docker has no events for tasks.
const LOOK: Duration = Duration::from_millis(200);

/// A service that was stopped, and how it was before. [`Swarm::start_again`] brings it back.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "the service stays stopped until it is started again"]
pub struct StoppedService {
    /// Its full name.
    pub name: String,
    /// How many tasks it was to have; `None` for one a node.
    pub replicas: Option<u64>,
    mode: Option<ServiceSpecMode>,
    placement: Option<TaskSpecPlacement>,
}

impl Swarm {
    /// Stops a service and waits until none of its containers runs; one that does not is left as it was. A replicated one is put to zero, a global one where no
    /// node is. Jobs end by themselves and are refused.
    ///
    /// # Errors
    /// [`SwarmError::Missing`] when there is no such service, or it is a job; [`SwarmError::Timeout`] when something of it still
    /// runs after `limit`; [`SwarmError::Docker`].
    pub async fn stop_service(
        &self,
        stack: &str,
        service: &str,
        limit: Duration,
    ) -> Result<StoppedService, SwarmError> {
        // A service's settings are large, and callers should not have to carry them about.
        Box::pin(self.stopped(stack, service, limit)).await
    }

    async fn stopped(
        &self,
        stack: &str,
        service: &str,
        limit: Duration,
    ) -> Result<StoppedService, SwarmError> {
        let (current, mut spec) = self.service_spec(service).await?;
        let mode = spec.mode.clone();
        let placement = spec.task_template.as_ref().and_then(|task| task.placement.clone());
        let wanted = mode.clone().unwrap_or_default();
        let replicas = if wanted.replicated_job.is_some() || wanted.global_job.is_some() {
            return Err(SwarmError::Missing {
                kind: "service that can be stopped called",
                name: service.to_owned(),
                hint: "it is a job, which ends by itself: wait for that",
            });
        } else if wanted.global.is_some() {
            let task = spec.task_template.get_or_insert_default();
            let placement = task.placement.get_or_insert_default();
            placement.constraints.get_or_insert_default().push(NOWHERE.to_owned());
            None
        } else {
            let replicated = spec.mode.get_or_insert_default().replicated.get_or_insert_default();
            Some(replicated.replicas.replace(0).map_or(1, i64::unsigned_abs))
        };
        self.put_spec(&current, spec).await?;
        let stopped = StoppedService { name: service.to_owned(), replicas, mode, placement };
        let id = current.id.unwrap_or_default();
        if let Err(error) = self.until_stopped(stack, service, &id, limit).await {
            // Nobody would bring it back. Why it did not stop matters more than that it could not be.
            let _ = self.start_again(&stopped).await;
            return Err(error);
        }
        Ok(stopped)
    }

    /// Gives a service back what it was to have. Whoever wants to know that it runs waits for it.
    ///
    /// # Errors
    /// [`SwarmError::Missing`] when it is gone; [`SwarmError::Docker`].
    pub async fn start_again(&self, stopped: &StoppedService) -> Result<(), SwarmError> {
        let (current, mut spec) = self.service_spec(&stopped.name).await?;
        spec.mode.clone_from(&stopped.mode);
        if let Some(task) = &mut spec.task_template {
            task.placement.clone_from(&stopped.placement);
        }
        self.put_spec(&current, spec).await
    }

    async fn service_spec(&self, service: &str) -> Result<(Service, ServiceSpec), SwarmError> {
        let found = self.docker.inspect_service(service, None::<InspectServiceOptions>).await;
        let found = match found.map_err(SwarmError::docker(format!("reading service `{service}`"))) {
            Err(error) if error.is_not_found() => {
                return Err(SwarmError::Missing {
                    kind: "service",
                    name: service.to_owned(),
                    hint: "it has to be deployed first",
                });
            }
            other => other?,
        };
        let spec = found.spec.clone().unwrap_or_default();
        Ok((found, spec))
    }

    async fn put_spec(&self, current: &Service, spec: ServiceSpec) -> Result<(), SwarmError> {
        let name = spec.name.clone().unwrap_or_default();
        let id = current.id.clone().unwrap_or_default();
        let version = current.version.as_ref().and_then(|version| version.index).unwrap_or_default();
        let options = UpdateServiceOptionsBuilder::default().version(version as i32).build();
        let put = self.docker.update_service(&id, spec, options, None).await;
        put.map(drop).map_err(SwarmError::docker(format!("changing how many run of service `{name}`")))
    }

    async fn until_stopped(
        &self,
        stack: &str,
        service: &str,
        id: &str,
        limit: Duration,
    ) -> Result<(), SwarmError> {
        let started = Instant::now();
        let slow = || SwarmError::Timeout { doing: format!("stopping service `{service}`"), limit };
        loop {
            let seen = self.observe(stack).await?;
            let alive: Vec<&ObservedTask> =
                seen.tasks.iter().filter(|task| task.service == id && may_run(task)).collect();
            if alive.is_empty() {
                return Ok(());
            }
            let left = limit.checked_sub(started.elapsed()).ok_or_else(slow)?;
            let mut waited = false;
            for container in alive.iter().filter_map(|task| task.container.as_deref()) {
                let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
                let mut ended = Box::pin(self.docker.wait_container(container, Some(options)));
                // How it ended, or that it is gone already, is not asked here: the next look decides.
                let _ = tokio::time::timeout(left, ended.next()).await.map_err(|_| slow())?;
                waited = true;
            }
            // A task follows its container a moment later, and some have no container.
            tokio::time::sleep(if waited { LOOK / 4 } else { LOOK }).await;
        }
    }
}

/// Whether a task has, or may yet have, a container that runs. What no node has got yet and is to end, ends by itself.
fn may_run(task: &ObservedTask) -> bool {
    let given = task.state >= TaskState::Assigned || task.desired <= TaskState::Running;
    task.state <= TaskState::Running && given
}
