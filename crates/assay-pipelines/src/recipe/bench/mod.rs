//! The bench: where the runner collects what the recipe pipeline judges.
//!
//! One [`RecipeBench`] serves one run. It keeps what lives from stage to stage: the checkouts, the Docker daemon, the app's
//! secrets, and the stack. A bench that is new in the middle of a run (the runner was restarted, or failed) goes through the
//! stages before it once more; their evidence was judged already.

mod ask;
mod browser;
mod bundle;
mod custom;
mod data;
mod deaths;
mod dependencies;
mod deploy;
mod dev;
mod executables;
mod front;
mod further;
mod images;
mod keep;
mod machine;
mod meanwhile;
mod missing;
mod outcome;
mod sandbox;
mod screenshot;
mod shared;
mod sources;
mod stand;
mod teardown;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use assay_model::{RunId, StageName};
use assay_process::{Sandbox, find_program};
use assay_recipe::Stack;
use assay_recipe::customise::{Customisation, OperationName, Placement};
use assay_recipe::secrets::SecretValue;
use assay_registry::ImageCache;
use assay_swarm::{Daemon, DaemonConfig, Mark, Swept};
use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Mutex;

use self::data::{Data, NewStore};
use self::dependencies::Dependencies;
use self::missing::Missing;
use self::sources::Sources;
use self::stand::Stand;
use super::evidence::{
    Died, ImageFetched, ImageSeen, Leak, Phase, Reached, ServiceSeen, TornDown, VersionSeen,
};
use super::kept::RecipeKept;
use super::{RecipeSpec, STAGES, declared_not_applicable};

pub use self::bundle::Bundles;
pub use self::dependencies::Warm;
pub use self::dev::Dev;
pub(crate) use self::meanwhile::Meanwhile;

pub use self::machine::{
    BOOT, CPUS, DISK_MIB, MEMORY_MIB, MachineBench, MachineSettings, WantedImage, serve_inside,
    sweep as sweep_machines,
};
pub use self::shared::{check as check_shared, sweep as sweep_shared};
pub use crate::image::bench::Brought;
pub use assay_swarm::whole_name;

/// What a bench needs of the runner.
#[derive(Clone, Debug)]
pub struct RecipeBenchSettings {
    /// Where it keeps its work; a folder of its own is made and removed there. A short path: a socket lies below it.
    pub folder: PathBuf,
    /// Folders with images as archives, beside those that a run names.
    pub images: Vec<PathBuf>,
    /// Where images come from that no archive has; none where no registry is to be asked.
    pub cache: Option<ImageCache>,
    /// What it keeps running between runs; the same for all of them.
    pub warm: Warm,
    /// The socket of a swarm's manager on this machine, which others use, too: runs are deployed into that. None for a daemon of each
    /// run's own.
    pub shared_swarm: Option<PathBuf>,
    /// In a machine of the run's own, the runner outside of it, which has the images. None on a runner.
    pub outside: Option<Arc<dyn ImageGiver>>,
}

/// Gives images to a bench that has no way to any.
pub trait ImageGiver: std::fmt::Debug + Send + Sync {
    /// Brings one. The inner error is the recipe's: there is no such image.
    fn image<'a>(
        &'a self,
        wanted: &'a WantedImage,
    ) -> BoxFuture<'a, Result<Result<GivenImage, String>, String>>;
}

/// An image that was given.
#[derive(Clone, Debug)]
pub struct GivenImage {
    /// As `docker save` writes it; of no use any more once the daemon has it.
    pub archive: PathBuf,
    /// Where it was found, in words.
    pub from: String,
    /// Its digests at its registry, where it came from one.
    pub digests: Vec<String>,
    /// What it took to get it from there.
    pub fetched: Option<ImageFetched>,
}

/// Serves one run.
pub struct RecipeBench {
    settings: RecipeBenchSettings,
    /// Who brings recipes that come as bundles.
    bundles: Option<Arc<dyn Bundles>>,
    held: Mutex<Held>,
    /// Where the test works that was begun last. It outlives the test: work that is broken off takes nothing away.
    at: std::sync::Mutex<Option<PathBuf>>,
}

/// What stands on a bench.
#[derive(Default)]
struct Held {
    test: Option<Test>,
    /// The stage in which the runner failed last, by its place, and why.
    failed: Option<(usize, String)>,
}

impl RecipeBench {
    /// A bench on which nothing stands yet.
    pub fn new(settings: RecipeBenchSettings) -> Self {
        Self { settings, bundles: None, held: Mutex::default(), at: std::sync::Mutex::default() }
    }

    /// One for which somebody brings recipes that come as bundles.
    #[must_use]
    pub fn with_bundles(self, bundles: Arc<dyn Bundles>) -> Self {
        Self { bundles: Some(bundles), ..self }
    }

    /// Collects a stage's evidence.
    ///
    /// # Errors
    /// Why the work could not be done at all, for people: a fault of the runner. The next try begins anew; stages after one that was
    /// given up are not reached.
    pub async fn collect(
        &self,
        run: RunId,
        stage: &StageName,
        spec: &RecipeSpec,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Brought, String> {
        let mut held = self.held.lock().await;
        let names: Vec<StageName> = STAGES.iter().map(|stage| stage.plan().name).collect();
        let Some(place) = names.iter().position(|name| name == stage) else {
            return Err(format!("this runner knows no stage {stage}"));
        };
        if let Some((at, why)) = held.failed.as_ref().filter(|(at, _)| *at < place) {
            return Ok(given_up(names[*at].as_str(), why, stage.as_str()));
        }
        let mut test = if let Some(test) = held.test.take().filter(|test| test.run == run) {
            test
        } else {
            self.sweep_last().await?;
            let mut test = Test::new(run, spec, &self.settings)?;
            test.bundles.clone_from(&self.bundles);
            *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(test.folder.path().to_owned());
            test
        };
        for (place, earlier) in names.iter().enumerate().take(place).skip(test.done) {
            // Stages that are left out of the run are not made up for, and neither is the end.
            if !test.is_planned(earlier.as_str()) {
                continue;
            }
            progress(&format!("once more {earlier}, from the beginning"));
            if let Err(why) = test.stage(earlier.as_str(), progress).await {
                held.failed = Some((place, why.clone()));
                test.put_away().await;
                return Err(why);
            }
        }
        match test.stage(stage.as_str(), progress).await {
            Ok(brought) => {
                test.done = place + 1;
                *held = Held { test: Some(test), failed: None };
                Ok(brought)
            }
            Err(why) => {
                held.failed = Some((place, why.clone()));
                test.put_away().await;
                Err(why)
            }
        }
    }

    /// Takes down what still stands: of a run that was kept up, or that ended before its end.
    ///
    /// # Errors
    /// What stays, and why.
    pub async fn clear(&self) -> Result<(), String> {
        if let Some(mut test) = self.held.lock().await.test.take() {
            test.put_away().await;
        }
        self.sweep_last().await
    }

    /// Takes away what is left of the test before, of which nobody holds anything any more.
    async fn sweep_last(&self) -> Result<(), String> {
        let last = self.at.lock().unwrap_or_else(PoisonError::into_inner).take();
        match last {
            Some(run) => sweep_one(&run).await.map(drop),
            None => Ok(()),
        }
    }

    /// Whether a stack is up, to be looked at.
    pub async fn is_up(&self) -> bool {
        self.held.lock().await.test.as_ref().is_some_and(|test| test.up.is_some())
    }
}

/// Whether a daemon of a run's own could be started here: root, Docker's programs, the kernel; and what hooks and tests run in.
///
/// # Errors
/// The first thing that is missing, and what to do about it.
pub fn check() -> Result<(), String> {
    Daemon::check().map_err(|error| error.to_string())?;
    find_program("bwrap").map(drop).map_err(|error| error.to_string())
}

/// Starts a daemon with a swarm, and a program in a sandbox beside it, and ends them again: whether its kernel can balance loads (IPVS).
///
/// # Errors
/// Why it did not start or end, for people.
pub async fn try_daemon() -> Result<bool, String> {
    let folder =
        tempfile::Builder::new().prefix("assay-try-").tempdir().map_err(|error| error.to_string())?;
    let config = DaemonConfig { folder: folder.path().join("d"), log: folder.path().join("dockerd.log") };
    let daemon = Daemon::start(&config).await.map_err(|error| error.to_string())?;
    let ipvs = daemon.ipvs();
    let programs = daemon.programs(sandbox::LIMITS).await.map_err(|error| error.to_string())?;
    let tried = programs.command(&Sandbox::new(), "true").timeout(SANDBOX).run_ok().await;
    // It holds the daemon's namespaces open.
    drop(programs);
    tried.map_err(|error| format!("hooks and tests have no sandbox: {error}"))?;
    daemon.stop().await.map_err(|error| error.to_string())?;
    Ok(ipvs)
}

/// Takes away what runs left in a folder of benches whose runner was killed: each folder that went, or why it did not.
pub async fn sweep(folder: &Path) -> Vec<Result<PathBuf, String>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut told = Vec::new();
    for run in entries.filter_map(Result::ok) {
        if !run.file_name().to_string_lossy().starts_with(RUN) {
            continue;
        }
        match sweep_one(&run.path()).await {
            Ok(true) => told.push(Ok(run.path())),
            Ok(false) => {}
            Err(why) => told.push(Err(why)),
        }
    }
    told
}

/// Takes away a run's folder with the daemon in it; whether it went. It stays where somebody is at work in it.
async fn sweep_one(run: &Path) -> Result<bool, String> {
    if Daemon::sweep(&further::daemon_beside(run)).await.map_err(|error| error.to_string())? == Swept::Alive
        || !shared::sweep_recorded(&run.join(further::FOLDER)).await?
        || !shared::sweep_recorded(run).await?
    {
        return Ok(false);
    }
    match Daemon::sweep(&stand::daemon_in(run)).await.map_err(|error| error.to_string())? {
        Swept::Alive => Ok(false),
        Swept::Nothing | Swept::Removed { .. } => match std::fs::remove_dir_all(run) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("{}: {error}", run.display()))
            }
            _ => Ok(true),
        },
    }
}

/// How long a program that does nothing may take in a sandbox.
const SANDBOX: Duration = Duration::from_secs(30);
/// How a run's folder begins.
const RUN: &str = "run-";

/// One run's things.
struct Test {
    run: RunId,
    spec: RecipeSpec,
    settings: RecipeBenchSettings,
    bundles: Option<Arc<dyn Bundles>>,
    /// The stages that are behind, by their place in the pipeline.
    done: usize,
    domain: String,
    /// Declared before the folder, so that it goes first.
    stand: Option<Stand>,
    folder: tempfile::TempDir,
    sources: Option<Sources>,
    /// How often they were taken from the recipe's folder.
    fetched: u32,
    /// Which of the further upgrades of a run it serves; 0 for the run itself.
    further: u32,
    customisation: Customisation,
    /// What it would need and this machine has not.
    missing: Missing,
    /// By their names at the engine.
    secrets: BTreeMap<String, (String, SecretValue)>,
    /// The images that were brought, by what the files call them.
    images: BTreeMap<String, ImageSeen>,
    up: Option<Up>,
    /// Why nothing is up.
    down_because: String,
    dependencies: Dependencies,
    /// For the tests that drive one, while they run.
    browser: Option<browser::Browser>,
    data: Option<Data>,
    /// The backup's repository, while it is being made.
    store: Option<NewStore>,
    /// What images are called that this run brought into the daemon.
    brought: BTreeSet<String>,
    leaks: Vec<Leak>,
    /// What had ended of the stack when it was last seen to be up.
    mark: Option<Mark>,
    /// The stage at hand.
    during: String,
    /// Tasks that died while the stack was up.
    died: Vec<Died>,
    deploys: u32,
    deploys_expected: u32,
    /// Whether the kernel has IPVS, once a daemon was started.
    ipvs: Option<bool>,
    /// Everything that was written down in the stage at hand.
    artifacts: Vec<(String, Vec<u8>)>,
    /// The recipe as it was put away, until it is brought.
    kept: Option<(RecipeKept, Option<Vec<u8>>)>,
}

/// What is deployed.
pub(crate) struct Up {
    version: VersionSeen,
    /// The checkout that it was deployed from.
    checkout: PathBuf,
    stack: Stack,
    services: Vec<ServiceSeen>,
    version_label: Option<String>,
    /// Whether the settings of upgraded apps hold.
    upgraded: bool,
}

/// Times the parts of a stage.
#[derive(Default)]
pub(crate) struct Phases(Vec<Phase>);

impl Phases {
    /// Times one part.
    pub(crate) async fn time<T>(&mut self, name: &str, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let done = Box::pin(work).await;
        self.0.push(Phase { name: name.to_owned(), seconds: began.elapsed().as_secs_f64() });
        done
    }
}

/// The wait budget of one operation: what was waited for in vain is not waited for again.
#[derive(Clone, Copy)]
pub(crate) struct Budget {
    until: Instant,
}

impl Budget {
    fn of(limit: Duration) -> Self {
        Self { until: Instant::now() + limit }
    }

    fn left(self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

type Tell<'a> = &'a (dyn Fn(&str) + Sync);

impl Test {
    fn new(run: RunId, spec: &RecipeSpec, settings: &RecipeBenchSettings) -> Result<Self, String> {
        let failed = |error| format!("{}: {error}", settings.folder.display());
        std::fs::create_dir_all(&settings.folder).map_err(failed)?;
        let folder = tempfile::Builder::new().prefix(RUN).tempdir_in(&settings.folder).map_err(failed)?;
        Ok(Self::within(folder, run, spec, settings))
    }

    /// One in a folder.
    fn within(
        mut folder: tempfile::TempDir,
        run: RunId,
        spec: &RecipeSpec,
        settings: &RecipeBenchSettings,
    ) -> Self {
        // A daemon may still be ending in it when this test is dropped: whoever sweeps waits for that.
        folder.disable_cleanup(true);
        Self {
            run,
            spec: spec.clone(),
            settings: settings.clone(),
            bundles: None,
            done: 0,
            domain: spec.domain(),
            stand: None,
            folder,
            sources: None,
            fetched: 0,
            further: 0,
            customisation: Customisation::default(),
            missing: Missing::default(),
            secrets: BTreeMap::new(),
            images: BTreeMap::new(),
            up: None,
            down_because: "nothing was installed".to_owned(),
            dependencies: Dependencies::default(),
            browser: None,
            data: None,
            store: None,
            brought: BTreeSet::new(),
            leaks: Vec::new(),
            mark: None,
            during: String::new(),
            died: Vec::new(),
            deploys: 0,
            deploys_expected: 0,
            ipvs: None,
            artifacts: Vec::new(),
            kept: None,
        }
    }

    fn is_planned(&self, stage: &str) -> bool {
        self.spec.stages.iter().any(|planned| planned == stage)
    }

    async fn stage(&mut self, stage: &str, tell: Tell<'_>) -> Result<Brought, String> {
        let known = super::stage(stage).ok_or_else(|| format!("this runner knows no stage {stage}"))?;
        self.artifacts.clear();
        stage.clone_into(&mut self.during);
        let meanwhile = meanwhile::Meanwhile::begin();
        // The sources are wanted whether or not anybody wants to hear of the lint.
        if self.sources.is_none() {
            self.fetch_sources(tell).await?;
            self.look_for_programs(tell).await;
            self.keep_recipe(tell).await;
        }
        let evidence = match (declared_not_applicable(known, &self.spec), self.missing.of_stage(stage)) {
            (Some(why), _) => json(&Reached::<()>::DoesNotApply { why }),
            // Without it there is no verdict; that it cannot be done here is not the recipe's fault.
            (None, Some(because)) if known.plan().required => {
                return Err(format!("{stage} cannot be done here: {because}"));
            }
            (None, Some(because)) => json(&Reached::<()>::NotReached { because }),
            (None, None) => match stage {
                "Lint" => json(&Reached::Done(self.lint().await)),
                "Install" => json(&self.install(tell).await?),
                "Upgrade" => json(&self.upgrade(tell).await?),
                "Idempotence" => json(&self.again(tell).await?),
                "Backup" => json(&self.backup(tell).await?),
                "Restore" => json(&self.restore(tell).await?),
                "Custom" => json(&self.custom(tell).await?),
                "Rollback" => json(&self.roll_back(tell).await?),
                "Teardown" => json(&Reached::Done(self.teardown(tell).await?)),
                other => return Err(format!("{other} is not collected by a runner")),
            },
        };
        self.note_deaths().await;
        let mut evidence = meanwhile.beside(evidence, self.ipvs, self.ground()).await;
        let kept = self.take_kept(&mut evidence);
        let mut brought = self.without_secrets(evidence);
        // As it was read: it was there before any secret of the run's.
        brought.artifacts.extend(kept);
        Ok(brought)
    }

    /// What stands and is up, or why nothing is.
    fn standing(&self) -> Result<(&Stand, &Up), String> {
        self.stand.as_ref().zip(self.up.as_ref()).ok_or_else(|| self.down_because.clone())
    }

    /// The overlay tests of an operation.
    async fn tests_after(&mut self, name: OperationName) -> Result<Vec<super::evidence::Ran>, String> {
        let mut ran = Vec::new();
        for test in self.customisation.tests_at(Placement::After(name)).to_vec() {
            ran.push(self.run_executable(&test, Some(executables::done(name))).await?);
        }
        Ok(ran)
    }
}

/// The evidence of a stage after one that the runner could not do: nothing stands, so nothing was left either.
fn given_up(failed: &str, why: &str, stage: &str) -> Brought {
    let because = format!("the runner failed in {failed}: {why}");
    let evidence = match stage {
        "Teardown" => json(&Reached::Done(TornDown::default())),
        _ => json(&Reached::<()>::NotReached { because }),
    };
    Brought { evidence, artifacts: Vec::new() }
}

fn json<T: Serialize>(evidence: &T) -> Value {
    serde_json::to_value(evidence).unwrap_or_default()
}
