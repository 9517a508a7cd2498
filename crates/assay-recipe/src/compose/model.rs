//! What a recipe's compose files come to: merged in their order, interpolated, typed.
//!
//! Only what Docker Swarm heeds has a field. Everything else that was written is a [`Note`]: nothing is dropped in silence.
//! Names are those of the files, not yet those of the stack; nothing here is a default of the engine's.

use std::time::Duration;

use indexmap::IndexMap;
use serde::Serialize;

/// All files together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Compose {
    /// `version:`, as written.
    pub version: Option<String>,
    /// Services by name, in the order in which they are written.
    pub services: IndexMap<String, Service>,
    /// Networks by name.
    pub networks: IndexMap<String, Network>,
    /// Named volumes by name.
    pub volumes: IndexMap<String, Volume>,
    /// Secrets by name.
    pub secrets: IndexMap<String, Object>,
    /// Configs by name.
    pub configs: IndexMap<String, Object>,
    /// What was written and has no effect, or none that this reader knows.
    pub notes: Vec<Note>,
}

/// Something that was written and is not heeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Where: `services.app.depends_on`.
    pub path: String,
    /// The file, as the recipe names it; the last of several that say it.
    pub file: String,
    /// What becomes of it.
    pub kind: NoteKind,
    /// One sentence for an operator.
    pub message: String,
}

/// What becomes of something that is not heeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// Compose has it and Swarm ignores it: `depends_on`, `container_name`, `build`.
    IgnoredBySwarm,
    /// This reader does not know it; what `docker stack deploy` makes of it is not known either.
    Unsupported,
    /// It has another name now.
    Deprecated,
}

/// One service.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Service {
    /// The image, with its tag.
    pub image: Option<String>,
    /// Replaces the image's entry point.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Variables; without a value it is taken from the environment of whoever deploys. Files of `env_file` are in it.
    pub environment: IndexMap<String, Option<String>>,
    /// Labels of its containers.
    pub labels: IndexMap<String, String>,
    /// How it is run.
    pub deploy: Deploy,
    /// `restart:`, of the old format; a policy in `deploy` wins.
    pub restart: Option<String>,
    /// How its health is seen.
    pub healthcheck: Option<Healthcheck>,
    /// Networks that it is in; empty is the stack's `default`.
    pub networks: IndexMap<String, Attachment>,
    /// Published ports.
    pub ports: Vec<Port>,
    /// What is mounted into it.
    pub mounts: Vec<Mount>,
    /// Secrets that it reads.
    pub secrets: Vec<ObjectUse>,
    /// Configs that it reads.
    pub configs: Vec<ObjectUse>,
    /// `name` and address, in the order written.
    pub extra_hosts: Vec<(String, String)>,
    /// Its host name.
    pub hostname: Option<String>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Resolver options.
    pub dns_opt: Vec<String>,
    /// `user[:group]`.
    pub user: Option<String>,
    /// Further groups.
    pub group_add: Vec<String>,
    /// Where its command starts.
    pub working_dir: Option<String>,
    /// How it is asked to stop.
    pub stop_signal: Option<String>,
    /// How long it may take to.
    pub stop_grace_period: Option<Duration>,
    /// Whether its root is read-only.
    pub read_only: bool,
    /// Whether an init is put before its command; the engine's default without one.
    pub init: Option<bool>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its input is kept open.
    pub stdin_open: bool,
    /// Capabilities added.
    pub cap_add: Vec<String>,
    /// Capabilities taken away.
    pub cap_drop: Vec<String>,
    /// Kernel settings of its namespaces.
    pub sysctls: IndexMap<String, String>,
    /// Limits by name, soft and hard.
    pub ulimits: IndexMap<String, (i64, i64)>,
    /// Where its output goes.
    pub logging: Option<Logging>,
    /// What reaches out of the container although Swarm ignores it, as written: `privileged`, `network_mode: host`, `pid`,
    /// `ipc`, `devices`, `cgroup_parent`, `security_opt`, `userns_mode`. By key, for the check that refuses them.
    pub host_reach: IndexMap<String, String>,
}

/// `deploy:`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Deploy {
    /// How many, and of what kind.
    pub mode: Mode,
    /// How many; one without.
    pub replicas: Option<u64>,
    /// Labels of the service.
    pub labels: IndexMap<String, String>,
    /// How an update goes.
    pub update: Option<UpdatePolicy>,
    /// How a rollback goes.
    pub rollback: Option<UpdatePolicy>,
    /// When a task is started again.
    pub restart_policy: Option<RestartPolicy>,
    /// Where tasks may run.
    pub placement: Placement,
    /// What it may take at most.
    pub limits: Resources,
    /// What is kept for it.
    pub reservations: Resources,
    /// How it is found in a network: `vip` or `dnsrr`, in lower case.
    pub endpoint_mode: Option<String>,
}

/// Kinds of services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// So many tasks, kept running.
    #[default]
    Replicated,
    /// One a node, kept running.
    Global,
    /// So many tasks that end.
    ReplicatedJob,
    /// One a node, that ends.
    GlobalJob,
}

/// `update_config` and `rollback_config`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct UpdatePolicy {
    /// Tasks at once; zero is all.
    pub parallelism: Option<u64>,
    /// Between two batches.
    pub delay: Option<Duration>,
    /// `pause`, `continue` or `rollback`.
    pub failure_action: Option<String>,
    /// How long a new task is watched.
    pub monitor: Option<Duration>,
    /// Which share may fail, from 0 to 1.
    pub max_failure_ratio: Option<f64>,
    /// `stop-first` or `start-first`.
    pub order: Option<String>,
}

/// `restart_policy`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RestartPolicy {
    /// `none`, `on-failure` or `any`.
    pub condition: Option<String>,
    /// Before each.
    pub delay: Option<Duration>,
    /// How many at most.
    pub max_attempts: Option<u64>,
    /// In which time those are counted.
    pub window: Option<Duration>,
}

/// `placement`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// `node.role == manager`.
    pub constraints: Vec<String>,
    /// Labels over which tasks are spread.
    pub spread: Vec<String>,
    /// At most so many on one node; zero is any number.
    pub max_replicas_per_node: u64,
}

/// An amount of what a node has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Resources {
    /// Processors, in billionths of one.
    pub nano_cpus: Option<i64>,
    /// Memory, in bytes.
    pub memory: Option<i64>,
    /// Processes.
    pub pids: Option<i64>,
}

/// `healthcheck`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Healthcheck {
    /// As Docker takes it: `["CMD", …]`, `["CMD-SHELL", …]`, or `["NONE"]` where it is switched off. Empty is the image's.
    pub test: Vec<String>,
    /// Between two.
    pub interval: Option<Duration>,
    /// How long one may take.
    pub timeout: Option<Duration>,
    /// While it may fail without counting.
    pub start_period: Option<Duration>,
    /// How many in a row make it unhealthy.
    pub retries: Option<i64>,
}

/// A service in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// Further names for it there.
    pub aliases: Vec<String>,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Port {
    /// Inside.
    pub target: u16,
    /// Outside; any free one without.
    pub published: Option<u16>,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// `ingress` or `host`.
    pub mode: String,
}

/// Something that is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// What it is.
    pub source: MountSource,
    /// Where in the container.
    pub target: String,
    /// Whether it cannot be written there.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A volume of the stack, by its name in the files.
    Volume {
        /// Its name.
        name: String,
        /// Whether what the image has there is not copied into it when it is new.
        nocopy: bool,
    },
    /// A volume without a name.
    Anonymous,
    /// A path of the node: it reaches out of the container.
    Bind {
        /// The path, absolute, or relative to the recipe as written.
        path: String,
        /// How mounts are passed on.
        propagation: Option<String>,
    },
    /// Memory.
    Tmpfs {
        /// At most so many bytes.
        size: Option<i64>,
    },
}

/// A network of the stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Its own name, where it is given; otherwise that of the stack goes before the key.
    pub name: Option<String>,
    /// Whether it is somebody else's and must be there.
    pub external: bool,
    /// `overlay` without one.
    pub driver: Option<String>,
    /// Settings of the driver.
    pub driver_opts: IndexMap<String, String>,
    /// Whether nothing outside is reached from it.
    pub internal: bool,
    /// Whether containers outside of the stack may join.
    pub attachable: bool,
    /// Its labels.
    pub labels: IndexMap<String, String>,
    /// Subnets of its address management.
    pub subnets: Vec<String>,
}

/// A named volume of the stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// Its own name, where it is given; otherwise that of the stack goes before the key.
    pub name: Option<String>,
    /// Whether it is somebody else's and must be there.
    pub external: bool,
    /// `local` without one.
    pub driver: Option<String>,
    /// Settings of the driver.
    pub driver_opts: IndexMap<String, String>,
    /// Its labels.
    pub labels: IndexMap<String, String>,
}

/// A secret or a config of the stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Object {
    /// Its own name, where it is given; otherwise that of the stack goes before the key.
    pub name: Option<String>,
    /// Whether it is made by somebody else and must be there.
    pub external: bool,
    /// The file with its content, relative to the recipe.
    pub file: Option<String>,
    /// What fills in its content: `golang`.
    pub template_driver: Option<String>,
    /// Its labels.
    pub labels: IndexMap<String, String>,
}

/// A secret or a config as a service reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObjectUse {
    /// Its key among the stack's.
    pub source: String,
    /// Where it is seen: a path, or a name in `/run/secrets`. The source's name without one.
    pub target: Option<String>,
    /// Its owner; `0` without.
    pub uid: Option<String>,
    /// Its group; `0` without.
    pub gid: Option<String>,
    /// Its permissions; 0444 without.
    pub mode: Option<u32>,
}

/// `logging`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Logging {
    /// The driver.
    pub driver: Option<String>,
    /// Its settings.
    pub options: IndexMap<String, String>,
}
