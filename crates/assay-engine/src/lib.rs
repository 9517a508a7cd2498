//! The engine: it moves runs through their lives.
//!
//! Reading order: [`decide`] is the heart, one pure function from what is known about a run to the
//! one thing to do next. [`act`] does that one thing, so that doing it twice is harmless.
//! [`dispatcher`] is the single loop that alternates the two; it re-reads the store on every turn,
//! so a restart is nothing special. [`agents`], [`runners`] and [`requests`] are the intake: what
//! agents, runners and operators say becomes evidence or a request in the journal, never a
//! change of state behind the dispatcher's back.
//!
//! What it is not: it knows no HTTP, no HTML, and no signature algorithm (a [`Sealer`] is given).

pub mod act;
pub mod again;
pub mod agents;
pub mod changes;
pub mod clock;
pub mod compat;
mod deaths;
pub mod decide;
mod digest;
pub mod dispatcher;
pub mod gate;
pub mod images;
mod indoors;
pub mod install;
pub mod janitor;
pub mod line;
pub mod live;
pub mod outside;
pub mod permits;
pub mod queue;
mod recipe_history;
pub mod recipes;
pub mod requests;
pub mod runners;
mod shells;

use std::sync::Arc;

use assay_artifacts::{ArtifactError, Artifacts};
use assay_model::event::Sealed;
use assay_model::host::permit::GuardAnswer;
use assay_model::host::spec::ProxmoxMember;
use assay_model::{Clock, Event, IllegalEvent, Micros, RunId, RunView, Sha256};
use assay_pipelines::recipe::over_time::SinceGreen;
use assay_store::{Changes, Committed, SensorRow, Store, StoreError, TransactError};
use serde_json::Value;
use tokio::sync::Notify;

use crate::live::Live;
use crate::permits::{Asked, ClusterGuard};

/// Signs verdicts and renders reports: what the engine needs done to a finished run and does not
/// know how to do.
pub trait Sealer: Send + Sync {
    /// The signed seal over the verdict and the journal's head.
    fn seal(&self, run: &RunView, head: Sha256) -> Sealed;

    /// Whether a sealed run's signature is ours and says what its journal says; what is wrong otherwise. A run that is
    /// not sealed has nothing to check.
    fn check(&self, run: &RunView) -> Result<(), String>;

    /// The signature of a permit to erase disks, over a message that begins with
    /// [`CONTEXT`](assay_model::host::permit::CONTEXT).
    fn sign_permit(&self, message: &[u8]) -> [u8; 64];

    /// The files of the final report, by name.
    fn reports(&self, facts: &ReportFacts) -> Vec<(String, Vec<u8>)>;
}

/// All that a report shows.
#[derive(Clone, Debug)]
pub struct ReportFacts {
    /// The run, folded.
    pub run: Arc<RunView>,
    /// Its journal.
    pub events: Vec<Event>,
    /// Its sensor readings, oldest first.
    pub sensors: Vec<SensorRow>,
    /// The latest inventory's evidence.
    pub inventory: Option<Value>,
    /// Pictures of screens, by the artifacts' names, in their order.
    pub pictures: Vec<(String, Vec<u8>)>,
    /// How a red run over a recipe differs from the last green one.
    pub since_green: Option<SinceGreen>,
}

/// Everything that moving runs needs.
#[derive(Clone)]
pub struct Engine {
    pub(crate) store: Store,
    pub(crate) artifacts: Artifacts,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sealer: Arc<dyn Sealer>,
    pub(crate) guard: Arc<dyn ClusterGuard>,
    pub(crate) live: Live,
    pub(crate) wake: Arc<Notify>,
    pub(crate) tuning: Tuning,
    pub(crate) remembered: Arc<tokio::sync::Mutex<line::Remembered>>,
}

/// The engine's time limits. The defaults are the documented contract; tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Silence after which an agent is suspect: two beats are missing. Below the 15 s that are promised by as much as
    /// it takes to notice, to commit and to show it.
    pub suspect_after: Micros,
    /// Silence after which its attempt is given up.
    pub lease: Micros,
    /// Tries of one stage before the runner, not the target, is said to have failed.
    pub attempts: u32,
    /// How often bulk rows are bound to the chain while a stage runs.
    pub bind_every: Micros,
    /// How long a boot token is good.
    pub boot_token: Micros,
    /// How long an agent's credential is good after its run.
    pub credential: Micros,
    /// How long a boot that came back may take to tell what the machine kept of its last moments.
    pub post_mortem: Micros,
    /// Time without progress after which people are told.
    pub stale_after: Micros,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            suspect_after: Micros::seconds(13),
            lease: Micros::seconds(120),
            attempts: 3,
            bind_every: Micros::seconds(60),
            boot_token: Micros::seconds(900),
            credential: Micros::seconds(3600),
            post_mortem: Micros::seconds(10),
            stale_after: Micros::seconds(3600),
        }
    }
}

/// Why the engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No such run, host or token.
    #[error("there is no {0}")]
    NotFound(String),
    /// The request does not fit the run's state.
    #[error("{0}")]
    Refused(String),
    /// What was sent does not read or is too large.
    #[error("{0}")]
    Invalid(String),
    /// The transition function says no.
    #[error(transparent)]
    Illegal(#[from] IllegalEvent),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The artifact store failed.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
}

impl Engine {
    /// An engine over a store. Nothing moves until [`dispatcher::run`] is started.
    pub fn new(
        store: Store,
        artifacts: Artifacts,
        clock: Arc<dyn Clock>,
        sealer: Arc<dyn Sealer>,
        tuning: Tuning,
    ) -> Self {
        let live = Live::new(clock.now());
        let guard = Arc::new(NobodyAsks);
        let (wake, remembered) = (Arc::new(Notify::new()), Arc::default());
        Self { store, artifacts, clock, sealer, guard, live, wake, tuning, remembered }
    }

    /// The same with somebody to ask clusters about their members. Without, no disk of a member is ever erased.
    #[must_use]
    pub fn with_guard(self, guard: Arc<dyn ClusterGuard>) -> Self {
        Self { guard, ..self }
    }

    /// The store, for reading.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The artifact store, for reading.
    pub const fn artifacts(&self) -> &Artifacts {
        &self.artifacts
    }

    /// What is known of agents and runners right now.
    pub const fn live(&self) -> &Live {
        &self.live
    }

    /// The current time.
    pub fn now(&self) -> Micros {
        self.clock.now()
    }

    /// A run, folded.
    pub async fn view(&self, run: RunId) -> Result<Arc<RunView>, EngineError> {
        self.store.view(run).await?.ok_or_else(|| EngineError::NotFound(format!("run {run}")))
    }

    /// Appends what `change` makes of the freshly read run, and wakes the dispatcher.
    pub(crate) async fn transact(
        &self,
        run: RunId,
        change: impl FnOnce(&RunView) -> Result<Changes, EngineError> + Send,
    ) -> Result<Committed, EngineError> {
        let committed = self.store.transact(run, self.now(), change).await.map_err(|e| match e {
            TransactError::Refused(refused) => refused,
            TransactError::Illegal(illegal) => EngineError::Illegal(illegal),
            TransactError::NoSuchRun => EngineError::NotFound(format!("run {run}")),
            TransactError::Store(store) => EngineError::Store(store),
        })?;
        self.wake.notify_one();
        Ok(committed)
    }
}

/// In place of a cluster's answer where nothing can ask.
struct NobodyAsks;

impl ClusterGuard for NobodyAsks {
    fn ask<'a>(&'a self, member: &'a ProxmoxMember) -> Asked<'a> {
        let why = "this control plane is not set up to ask clusters".to_owned();
        let answer = GuardAnswer::Unreachable { node: member.node.clone(), why };
        Box::pin(std::future::ready(answer))
    }
}

/// 32 random bytes as hex: a secret for a token.
pub(crate) fn secret() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}
