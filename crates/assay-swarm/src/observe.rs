//! What a stack's services and tasks are seen to be: Docker's answers in this crate's own words, so that judging is pure.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use assay_model::{Micros, text::clean_to};
use bollard::{
    models::{
        Service, ServiceSpec, ServiceUpdateStatusStateEnum, Task, TaskSpecRestartPolicyConditionEnum,
        TaskState as DockerTaskState,
    },
    query_parameters::{ListTasksOptions, ListTasksOptionsBuilder},
};
use serde::Serialize;

use crate::{NAMESPACE_LABEL, Swarm, SwarmError, moment::moment};

/// Docker's own time between two health checks.
const HEALTH_INTERVAL: Duration = Duration::from_secs(30);

/// Characters kept of what the swarm says of a task.
const ERROR: usize = 1024;

/// One look at a stack.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Observation {
    /// Its services.
    pub services: Vec<ObservedService>,
    /// Their tasks, as far as the swarm remembers them.
    pub tasks: Vec<ObservedTask>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ObservedService {
    /// Its full name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// What it is to have.
    pub wants: Wants,
    /// When a task is started again.
    pub restart: Restart,
    /// How often at most; zero is for ever.
    pub max_attempts: u64,
    /// Between two health checks, where it has any.
    pub health_interval: Option<Duration>,
    /// How its last update went, or goes.
    pub update: Option<ObservedUpdate>,
}

/// What a service is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wants {
    /// So many tasks that run (one for each node, for a global service).
    Running(u64),
    /// So many tasks that have ended well, of the job's current iteration.
    Completed {
        /// How many.
        tasks: u64,
        /// Which.
        iteration: u64,
    },
}

/// When a task is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Never.
    None,
    /// When it failed.
    OnFailure,
    /// Whenever it ends.
    #[default]
    Any,
}

/// An update of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObservedUpdate {
    /// Where it is.
    pub state: UpdateState,
    /// When it began.
    pub started: Option<Micros>,
    /// What the swarm says of it.
    pub message: String,
}

/// Where an update is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateState {
    /// On its way.
    Updating,
    /// Stopped, since new tasks failed. It stays so until the next one.
    Paused,
    /// Done.
    Completed,
    /// On its way back.
    RollbackStarted,
    /// Stopped on its way back.
    RollbackPaused,
    /// Back.
    RollbackCompleted,
}

/// A task: one attempt to run a service's container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObservedTask {
    /// Its id.
    pub id: String,
    /// The id of its service.
    pub service: String,
    /// Its place in the service: a number, or a node's id for global services.
    pub slot: String,
    /// When it was made. It may wait for its turn for a while.
    pub created: Micros,
    /// Where it is.
    pub state: TaskState,
    /// Since when, by the swarm's clock.
    pub since: Micros,
    /// Where it is to be.
    pub desired: TaskState,
    /// Whether it is what the service now asks for.
    pub up_to_date: bool,
    /// What went wrong; empty when nothing did.
    pub error: String,
    /// How its process ended.
    pub exit_code: Option<i64>,
    /// Its container.
    pub container: Option<String>,
    /// Which iteration of a job it belongs to.
    pub iteration: u64,
}

/// Where a task is, in the order in which it gets there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Just made.
    New,
    /// It has its addresses.
    Allocated,
    /// It waits for a node.
    Pending,
    /// A node was chosen.
    Assigned,
    /// The node took it.
    Accepted,
    /// Its image is pulled, its container made.
    Preparing,
    /// It waits for its turn: after a failure, for the restart delay.
    Ready,
    /// It is started; with a health check, until that passes.
    Starting,
    /// It runs.
    Running,
    /// It ended well.
    Complete,
    /// It was asked to end.
    Shutdown,
    /// It ended badly.
    Failed,
    /// Its node could not run it.
    Rejected,
    /// Its node is gone.
    Orphaned,
    /// It is about to be forgotten.
    Remove,
}

impl TaskState {
    /// Whether it has ended by itself.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Complete | Self::Failed | Self::Rejected | Self::Orphaned)
    }

    /// Whether it is on its way to run.
    pub fn is_coming(self) -> bool {
        self < Self::Running
    }
}

impl Swarm {
    /// Looks at a stack.
    ///
    /// # Errors
    /// [`SwarmError::Docker`].
    pub async fn observe(&self, stack: &str) -> Result<Observation, SwarmError> {
        let services = self.services_of(stack).await?;
        let of_stack = ("label", format!("{NAMESPACE_LABEL}={stack}"));
        // The filter that `docker service` itself goes by, though it is not in the documentation.
        let current = self.tasks_by(&[of_stack.clone(), ("_up-to-date", "true".to_owned())]).await?;
        let current: BTreeSet<String> = current.into_iter().filter_map(|task| task.id).collect();
        let tasks = self.tasks_by(&[of_stack]).await?;
        Ok(Observation {
            services: services.into_iter().map(observed_service).collect(),
            tasks: tasks.into_iter().map(|task| observed_task(task, &current)).collect(),
        })
    }

    /// The ids of all tasks of the swarm.
    pub(crate) async fn task_ids(&self) -> Result<BTreeSet<String>, SwarmError> {
        Ok(self.tasks_by(&[]).await?.into_iter().filter_map(|task| task.id).collect())
    }

    pub(crate) async fn tasks_by(&self, filters: &[(&str, String)]) -> Result<Vec<Task>, SwarmError> {
        let filters: HashMap<&str, Vec<String>> =
            filters.iter().map(|(name, value)| (*name, vec![value.clone()])).collect();
        let options: ListTasksOptions = ListTasksOptionsBuilder::default().filters(&filters).build();
        self.docker.list_tasks(Some(options)).await.map_err(SwarmError::docker("listing tasks"))
    }
}

fn observed_service(service: Service) -> ObservedService {
    let Service { id, spec, update_status, service_status, job_status, .. } = service;
    let spec = spec.unwrap_or_default();
    let iteration = job_status.and_then(|job| job.job_iteration?.index).unwrap_or_default();
    let desired = service_status.and_then(|status| status.desired_tasks).unwrap_or(1);
    let policy = spec.task_template.as_ref().and_then(|task| task.restart_policy.as_ref());
    let restart = match policy.and_then(|policy| policy.condition) {
        Some(TaskSpecRestartPolicyConditionEnum::NONE) => Restart::None,
        Some(TaskSpecRestartPolicyConditionEnum::ON_FAILURE) => Restart::OnFailure,
        _ => Restart::Any,
    };
    let max_attempts = policy.and_then(|policy| policy.max_attempts).unwrap_or_default();
    let update = update_status.and_then(|status| {
        let state = match status.state? {
            ServiceUpdateStatusStateEnum::EMPTY => return None,
            ServiceUpdateStatusStateEnum::UPDATING => UpdateState::Updating,
            ServiceUpdateStatusStateEnum::PAUSED => UpdateState::Paused,
            ServiceUpdateStatusStateEnum::COMPLETED => UpdateState::Completed,
            ServiceUpdateStatusStateEnum::ROLLBACK_STARTED => UpdateState::RollbackStarted,
            ServiceUpdateStatusStateEnum::ROLLBACK_PAUSED => UpdateState::RollbackPaused,
            ServiceUpdateStatusStateEnum::ROLLBACK_COMPLETED => UpdateState::RollbackCompleted,
        };
        let started = moment(status.started_at.as_ref());
        Some(ObservedUpdate { state, started, message: clean_to(&status.message.unwrap_or_default(), ERROR) })
    });
    ObservedService {
        wants: wants(&spec, desired, iteration),
        restart,
        max_attempts: u64::try_from(max_attempts).unwrap_or_default(),
        health_interval: health_interval(&spec),
        update,
        name: spec.name.unwrap_or_default(),
        id: id.unwrap_or_default(),
    }
}

fn wants(spec: &ServiceSpec, desired: u64, iteration: u64) -> Wants {
    let Some(mode) = &spec.mode else { return Wants::Running(desired) };
    if let Some(replicated) = &mode.replicated {
        return Wants::Running(replicated.replicas.map_or(1, i64::unsigned_abs));
    }
    if let Some(job) = &mode.replicated_job {
        let tasks = job.total_completions.or(job.max_concurrent).map_or(1, i64::unsigned_abs);
        return Wants::Completed { tasks, iteration };
    }
    if mode.global_job.is_some() {
        return Wants::Completed { tasks: desired, iteration };
    }
    Wants::Running(desired)
}

/// That of the service; one that its image brings is not seen from here.
fn health_interval(spec: &ServiceSpec) -> Option<Duration> {
    let health = spec.task_template.as_ref()?.container_spec.as_ref()?.health_check.as_ref()?;
    if health.test.as_ref().is_some_and(|test| test.first().is_some_and(|word| word == "NONE")) {
        return None;
    }
    let interval = health.interval.filter(|interval| *interval > 0);
    Some(interval.map_or(HEALTH_INTERVAL, |interval| Duration::from_nanos(interval.unsigned_abs())))
}

fn observed_task(task: Task, current: &BTreeSet<String>) -> ObservedTask {
    let Task { id, service_id, slot, node_id, created_at, status, desired_state, job_iteration, .. } = task;
    let status = status.unwrap_or_default();
    let container = status.container_status.unwrap_or_default();
    let id = id.unwrap_or_default();
    ObservedTask {
        up_to_date: current.contains(&id),
        service: service_id.unwrap_or_default(),
        slot: slot.filter(|slot| *slot > 0).map_or(node_id.unwrap_or_default(), |slot| slot.to_string()),
        created: moment(created_at.as_ref()).unwrap_or_default(),
        state: status.state.map_or(TaskState::New, task_state),
        since: moment(status.timestamp.as_ref()).unwrap_or_default(),
        desired: desired_state.map_or(TaskState::New, task_state),
        error: clean_to(&status.err.unwrap_or_default(), ERROR),
        exit_code: container.exit_code,
        container: container.container_id.filter(|container| !container.is_empty()),
        iteration: job_iteration.and_then(|iteration| iteration.index).unwrap_or_default(),
        id,
    }
}

fn task_state(state: DockerTaskState) -> TaskState {
    match state {
        DockerTaskState::NEW => TaskState::New,
        DockerTaskState::ALLOCATED => TaskState::Allocated,
        DockerTaskState::PENDING => TaskState::Pending,
        DockerTaskState::ASSIGNED => TaskState::Assigned,
        DockerTaskState::ACCEPTED => TaskState::Accepted,
        DockerTaskState::PREPARING => TaskState::Preparing,
        DockerTaskState::READY => TaskState::Ready,
        DockerTaskState::STARTING => TaskState::Starting,
        DockerTaskState::RUNNING => TaskState::Running,
        DockerTaskState::COMPLETE => TaskState::Complete,
        DockerTaskState::SHUTDOWN => TaskState::Shutdown,
        DockerTaskState::FAILED => TaskState::Failed,
        DockerTaskState::REJECTED => TaskState::Rejected,
        DockerTaskState::ORPHANED => TaskState::Orphaned,
        DockerTaskState::REMOVE => TaskState::Remove,
    }
}
