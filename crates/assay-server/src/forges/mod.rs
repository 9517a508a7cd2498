//! Forges: pull requests ask for runs, and are told what came of them.
//!
//! Per forge there are five tasks, each a loop that can be stopped anywhere and goes on from what is stored: `listen` hears
//! comments and stores those that ask for something; `answer` makes runs of them, or says why not; `pushes` looks which images new
//! commits touch, and `images` makes runs of those once their media are there; `tell` keeps each pull request's one comment, and
//! its commits' statuses, as they should be. They meet in the store and nowhere else. Webhooks (`hook`) only make `listen` and
//! `pushes` hear earlier.
//!
//! The control plane alone has the forges' tokens. It keeps a copy of each repository (`mirror`) and hands runners a bundle of
//! two commits; settings, tests and hooks come from the trusted one.

mod about;
mod answer;
mod hook;
mod images;
mod listen;
mod memory;
mod mirror;
mod pushes;
mod sections;
mod shown;
mod tell;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use assay_forge::command::Command;
use assay_forge::poll::{PollState, RepoState};
use assay_forge::{Forge, ForgeError, ForgeSettings, Login, RepoName, Settings, SettingsError};
use assay_store::StoreError;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify, OnceCell, watch};
use tokio::task::JoinSet;
use tracing::warn;

use crate::state::App;
use memory::Memory;

use self::mirror::Mirror;

pub(crate) use hook::routes;
pub(crate) use shown::{check, overview};

/// The file in the data folder.
const FILE: &str = "forges.toml";
/// The folder in it with copies of repositories.
const MIRRORS: &str = "forges";
/// After the store could not be used.
const AWAY: Duration = Duration::from_secs(5);

/// All forges.
#[derive(Debug, Default)]
pub(crate) struct Forges {
    /// What links begin with.
    base_url: Option<String>,
    /// Which Assay this is, in comments.
    instance: String,
    all: Vec<Arc<Known>>,
}

/// A forge, and what is remembered of it.
#[derive(Debug)]
pub(crate) struct Known {
    settings: ForgeSettings,
    client: Arc<dyn Forge>,
    /// Where copies of repositories are kept.
    mirrors: PathBuf,
    /// Held while what it becomes is stored, so that what is stored is never older than what was stored before.
    poll: Mutex<PollState>,
    memory: Memory,
    /// Whose token this is.
    us: OnceCell<Login>,
    /// Somebody has asked for something.
    heard: Notify,
    /// There is something to tell.
    answered: Notify,
    /// A pull request has new commits.
    pushed: Notify,
    /// Images were asked for.
    asked_images: Notify,
    /// What does not work at present: with comments, and with new commits.
    troubles: std::sync::Mutex<shown::Troubles>,
    push_troubles: std::sync::Mutex<shown::Troubles>,
    /// One fetch of a repository at a time: Git refuses a second one.
    fetching: std::sync::Mutex<HashMap<RepoName, Arc<Mutex<()>>>>,
}

/// What a comment asks for, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    /// A command.
    Command(Command),
    /// It was meant for us, and was not understood.
    Misunderstood {
        /// Why not.
        why: String,
    },
}

/// The settings were not taken, or what is stored of a forge cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ForgesError {
    /// The settings file.
    #[error("settings of forges: {0}")]
    Settings(#[from] SettingsError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something in the data folder.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Forges {
    /// Reads the settings, which need not be there. A file that is wrong stops the start.
    pub(crate) fn load(data: &Path, instance: &str) -> Result<Self, ForgesError> {
        let file = data.join(FILE);
        if !file.exists() {
            return Ok(Self::default());
        }
        let Settings { base_url, forges } = Settings::load(&file)?;
        let mirrors = data.join(MIRRORS);
        let mut all = Vec::new();
        for settings in forges {
            if let Some(pem) = settings.certificates() {
                let path = mirror::certificates(&mirrors, &settings);
                let failed = |source| ForgesError::File { path: path.clone(), source };
                std::fs::create_dir_all(mirrors.join(&settings.name)).map_err(failed)?;
                std::fs::write(&path, pem).map_err(failed)?;
            }
            all.push(Arc::new(Known::new(settings, mirrors.clone())));
        }
        Ok(Self { base_url, instance: instance.to_owned(), all })
    }

    /// The forge of this name.
    fn named(&self, name: &str) -> Option<&Arc<Known>> {
        self.all.iter().find(|known| known.settings.name == name)
    }
}

impl Known {
    fn new(settings: ForgeSettings, mirrors: PathBuf) -> Self {
        // It was made once when the settings were read, so it can be made.
        let client =
            settings.client().unwrap_or_else(|why| unreachable!("a client of checked settings: {why}"));
        let poll = Mutex::new(PollState::new(settings.budget.clone()));
        Self {
            settings,
            client,
            mirrors,
            poll,
            memory: Memory::default(),
            us: OnceCell::new(),
            heard: Notify::new(),
            answered: Notify::new(),
            pushed: Notify::new(),
            asked_images: Notify::new(),
            troubles: std::sync::Mutex::default(),
            push_troubles: std::sync::Mutex::default(),
            fetching: std::sync::Mutex::default(),
        }
    }

    /// Brings back what was stored.
    async fn recall(&self, app: &App) -> Result<(), StoreError> {
        let store = app.engine.store();
        let mut poll = self.poll.lock().await;
        for (repo, part) in store.forge_parts(&self.settings.name).await? {
            let (Ok(repo), Ok(part)) = (repo.parse::<RepoName>(), serde_json::from_str::<RepoState>(&part))
            else {
                warn!(
                    forge = self.settings.name,
                    repo, "what was heard of it does not read; it is listened to anew"
                );
                continue;
            };
            poll.put(repo, part);
        }
        poll.watch(&self.settings.repositories, app.engine.now());
        if let Some(memory) = store.setting(&memory::key(&self.settings.name)).await? {
            self.memory.recall(memory);
        }
        Ok(())
    }

    /// Stores what is remembered beside the repositories.
    async fn keep_memory(&self, app: &App) {
        self.memory.keep(app, &self.settings.name).await;
    }

    /// Whose token this is.
    async fn us(&self) -> Result<&Login, ForgeError> {
        self.us.get_or_try_init(|| self.client.who_am_i()).await
    }

    fn troubles(&self) -> std::sync::MutexGuard<'_, shown::Troubles> {
        self.troubles.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn push_troubles(&self) -> std::sync::MutexGuard<'_, shown::Troubles> {
        self.push_troubles.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The copy of a repository.
    fn mirror(&self, repo: &RepoName) -> Mirror {
        let mut fetching = self.fetching.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let alone = Arc::clone(fetching.entry(repo.clone()).or_default());
        drop(fetching);
        Mirror::new(&self.mirrors, &self.settings, repo, alone)
    }

    /// A pull request's name for people, and for the queue: `git.example.org/apps/wiki#12`.
    fn pull_name(&self, repo: &str, pull: u64) -> String {
        format!("{}/{repo}#{pull}", self.settings.host())
    }
}

/// The tasks of all forges. Dropped, they stop at once; nothing is lost by that.
pub(crate) struct Working {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Working {
    /// Starts them.
    pub(crate) fn start(app: &App) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for known in &app.shared.forges.all {
            let (app, known, mut stopped) = (app.clone(), Arc::clone(known), stopped.clone());
            tasks.spawn(async move {
                while let Err(problem) = known.recall(&app).await {
                    warn!(forge = known.settings.name, error = %problem, "what is known of it cannot be read; trying again");
                    if pause(&mut stopped, AWAY).await {
                        return;
                    }
                }
                tokio::join!(
                    listen::keep_hooks(&app, &known, stopped.clone()),
                    listen::run(&app, &known, stopped.clone()),
                    answer::run(&app, &known, stopped.clone()),
                    pushes::run(&app, &known, stopped.clone()),
                    images::run(&app, &known, stopped.clone()),
                    tell::run(&app, &known, stopped.clone()),
                );
            });
        }
        Self { stop, tasks }
    }

    /// Begins nothing more and waits a while for what is being written to a forge.
    pub(crate) async fn stop(mut self, grace: Duration) {
        self.stop.send_replace(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(grace, ended).await;
    }
}

/// Waits; whether it is time to stop.
async fn pause(stopped: &mut watch::Receiver<bool>, span: Duration) -> bool {
    tokio::select! {
        () = tokio::time::sleep(span) => {}
        _ = stopped.changed() => {}
    }
    *stopped.borrow()
}
