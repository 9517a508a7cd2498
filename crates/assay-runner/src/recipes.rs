//! Testing recipes, each in a Docker daemon of the runner's own.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assay_agent::{Collector, Evidence, Identity, Readings, Task};
use assay_api::runner::{AgentGrant, Grant};
use assay_model::Clock;
use assay_pipelines::recipe::bench::{
    Bundles, MachineBench, MachineSettings, RecipeBench, RecipeBenchSettings, check_shared, sweep,
    sweep_machines, sweep_shared,
};
use assay_pipelines::recipe::{Isolation, RecipeSpec, Source};
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{info, warn};

use crate::client::{Client, ClientError};
use crate::{Settings, as_agent};

/// The method by which a runner is known that can do it.
pub(crate) const METHOD: &str = "swarm";
/// The method by which one is known that can do it in a virtual machine, for what strangers send.
pub(crate) const MACHINE: &str = "machine";

/// What a runner tests recipes with. Clones share it.
#[derive(Clone)]
pub struct Recipes {
    settings: RecipeBenchSettings,
    /// For strangers' recipes; none where there is no image for them.
    machines: Option<MachineSettings>,
    clock: Arc<dyn Clock>,
    /// Benches with a stack that was left up for a look at it.
    kept: Arc<Mutex<Vec<Arc<RecipeBench>>>>,
    /// One permit of it for every run that is worked on, until nothing of that work is left.
    busy: Arc<Semaphore>,
}

/// How often a recipe is asked for, and the pause between.
const TRIES: u32 = 20;
const AGAIN: Duration = Duration::from_secs(3);
/// More than there are ever runs at once.
const BUSY: u32 = 1 << 16;
/// How long work that was broken off may take to let go.
const LETS_GO: Duration = Duration::from_secs(30);

impl std::fmt::Debug for Recipes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recipes")
            .field("settings", &self.settings)
            .field("machines", &self.machines)
            .finish_non_exhaustive()
    }
}

/// Whether a runner on this machine could test recipes.
///
/// # Errors
/// The first thing that is missing, and what to do about it.
pub fn can_test_recipes() -> Result<(), String> {
    assay_pipelines::recipe::bench::check()
}

/// Starts a Docker daemon as a run would and ends it again: whether the kernel can balance loads (IPVS).
///
/// # Errors
/// Why it did not, for people.
pub async fn try_recipes() -> Result<bool, String> {
    assay_pipelines::recipe::bench::try_daemon().await
}

/// Whether a runner on this machine could test recipes in the swarm behind a socket, which others use, too; whether its kernel can
/// balance loads (IPVS).
///
/// # Errors
/// The first thing that is missing, and what to do about it.
pub async fn can_share(socket: &Path) -> Result<bool, String> {
    check_shared(socket).await
}

impl Recipes {
    /// With these benches, and nothing on them.
    pub fn new(settings: RecipeBenchSettings, clock: Arc<dyn Clock>) -> Self {
        let busy = Arc::new(Semaphore::new(BUSY as usize));
        Self { settings, machines: None, clock, kept: Arc::default(), busy }
    }

    /// With machines for strangers' recipes.
    #[must_use]
    pub fn with_machines(self, machines: Option<MachineSettings>) -> Self {
        Self { machines, ..self }
    }

    /// Whether it takes strangers' recipes.
    pub(crate) fn has_machines(&self) -> bool {
        self.machines.is_some()
    }

    /// The folder of its benches.
    pub fn folder(&self) -> &Path {
        &self.settings.folder
    }

    /// Takes down what was left up, and what a runner that was killed left behind.
    pub(crate) async fn clear(&self) {
        // Work that was broken off is dropped by its tasks, one after the other; before that there is somebody in its folder.
        if tokio::time::timeout(LETS_GO, self.busy.acquire_many(BUSY)).await.is_err() {
            warn!("work on a recipe that was broken off has not let go of its folder after {LETS_GO:?}");
        }
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        for bench in kept {
            cleared(&bench).await;
        }
        for told in sweep(&self.settings.folder).await {
            match told {
                Ok(folder) => info!("took away what an earlier run had left: {}", folder.display()),
                Err(why) => warn!("an earlier run's daemon cannot be taken away: {why}"),
            }
        }
        for told in self.machines.iter().flat_map(|machines| sweep_machines(&machines.folder)) {
            match told {
                Ok(folder) => info!("took away an earlier run's machine: {}", folder.display()),
                Err(why) => warn!("an earlier run's machine cannot be taken away: {why}"),
            }
        }
        let Some(socket) = &self.settings.shared_swarm else { return };
        match sweep_shared(socket).await {
            Ok(swept) => {
                for told in swept {
                    match told {
                        Ok(run) => info!("took away from the shared swarm what {run} had left"),
                        Err(why) => warn!("{why}"),
                    }
                }
            }
            Err(why) => warn!("what earlier runs left in the shared swarm cannot be looked for: {why}"),
        }
    }
}

/// Works on a run until it is over or was given to somebody else.
pub(crate) async fn work(settings: &Settings, client: &Client, grant: &Grant, agent: &AgentGrant) {
    let Some(recipes) = &settings.recipes else {
        warn!(run.number = grant.number, "the run needs Docker, and this runner has none");
        return;
    };
    let bundles = FromControlPlane { client: client.clone(), token: grant.token.clone() };
    let bundles: Arc<dyn Bundles> = Arc::new(bundles);
    let bench = RecipeBench::new(recipes.settings.clone()).with_bundles(Arc::clone(&bundles));
    let bench = Arc::new(bench);
    let Ok(busy) = Arc::clone(&recipes.busy).acquire_owned().await else {
        warn!(run.number = grant.number, "this runner is about to end");
        return;
    };
    let machine = recipes.machines.clone();
    let machine = machine
        .map(|machines| Arc::new(MachineBench::new(machines, recipes.settings.clone(), Some(bundles))));
    let collector = Arc::new(AppRecipes { bench: Arc::clone(&bench), machine: machine.clone(), _busy: busy });
    as_agent::work(settings, &recipes.clock, grant, agent, collector).await;
    if let Some(machine) = machine {
        machine.clear().await;
    }
    if bench.is_up().await {
        recipes.kept.lock().unwrap_or_else(PoisonError::into_inner).push(bench);
    } else {
        cleared(&bench).await;
    }
}

async fn cleared(bench: &RecipeBench) {
    if let Err(why) = bench.clear().await {
        warn!("something of a run stays: {why}");
    }
}

/// Brings a run's bundle with that run's token.
struct FromControlPlane {
    client: Client,
    token: String,
}

impl Bundles for FromControlPlane {
    fn fetch<'a>(&'a self, source: &'a Source, to: &'a Path) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let expected = (source.bundle, source.bytes);
            let mut brought = self.client.source(&self.token, expected, to).await;
            for _ in 1..TRIES {
                if !matches!(brought, Err(ClientError::Away(_))) {
                    break;
                }
                // It was away for a moment, or the connection broke.
                tokio::time::sleep(AGAIN).await;
                let _ = std::fs::remove_file(to);
                brought = self.client.source(&self.token, expected, to).await;
            }
            brought.map_err(|why| format!("the recipe cannot be brought from the control plane: {why}"))
        })
    }
}

struct AppRecipes {
    bench: Arc<RecipeBench>,
    machine: Option<Arc<MachineBench>>,
    /// Given back when the last of the work is dropped.
    _busy: OwnedSemaphorePermit,
}

impl Collector for AppRecipes {
    fn identity(&self) -> BoxFuture<'_, Identity> {
        Box::pin(std::future::ready(Identity::default()))
    }

    fn sensors(&self) -> BoxFuture<'_, Readings> {
        Box::pin(std::future::ready(Readings::default()))
    }

    fn collect<'a>(&'a self, task: Task<'a>) -> BoxFuture<'a, Result<Evidence, String>> {
        Box::pin(async move {
            let spec = RecipeSpec::of(task.spec)?;
            let (run, stage) = (task.place.run, task.stage);
            let brought = match (spec.isolation, &self.machine) {
                (Isolation::Namespaces, _) => self.bench.collect(run, stage, &spec, &task.progress).await?,
                (Isolation::Machine, Some(machine)) => {
                    machine.collect(run, stage, &spec, &task.progress).await?
                }
                // It never gets one that it has not asked for; nothing of a stranger's runs because of a mistake.
                (Isolation::Machine, None) => {
                    return Err(
                        "this is to be tested in a virtual machine, and this runner has no guest image"
                            .to_owned(),
                    );
                }
            };
            Ok(Evidence { evidence: brought.evidence, artifacts: brought.artifacts })
        })
    }
}
