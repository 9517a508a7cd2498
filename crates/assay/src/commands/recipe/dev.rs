//! `assay recipe dev`: a recipe that is being written, deployed again with every change. Nothing of it is a result.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use assay_pipelines::recipe::bench::{Dev as Session, sweep};
use assay_pipelines::recipe::evidence::{Deployed, Outcome};
use assay_runner::{RecipeBenchSettings, Warm};
use clap::Args;
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::sync::mpsc;

use super::spec::Where;
use crate::commands::registries::RegistryArgs;
use crate::commands::told_to_stop;
use crate::exit::Exit;
use crate::ui;

/// After the last change: an editor writes more than one file.
const QUIET: Duration = Duration::from_millis(400);
/// Between two looks at what the services say: Docker's own way to follow does not survive a replaced container.
const LISTEN: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(crate) struct Dev {
    #[command(flatten)]
    recipe: Where,
    #[command(flatten)]
    registries: RegistryArgs,
}

impl Dev {
    pub(crate) async fn run(self) -> Result<Exit> {
        assay_runner::can_test_recipes().map_err(|why| anyhow::anyhow!("{why}"))?;
        let spec = self.recipe.spec().await?;
        let scratch = tempfile::Builder::new().prefix("assay-dev-").tempdir().context("a scratch folder")?;
        let settings = RecipeBenchSettings {
            folder: scratch.path().to_owned(),
            images: Vec::new(),
            cache: self.registries.cache()?,
            warm: Warm::default(),
            shared_swarm: None,
            outside: None,
        };
        let mut session = Session::new(spec, &settings).map_err(anyhow::Error::msg)?;
        let worked = work(&mut session).await;
        ui::say("taking the stack down");
        for left in session.stop().await {
            ui::say(&left);
        }
        for told in sweep(scratch.path()).await {
            if let Err(why) = told {
                ui::say(&why);
            }
        }
        worked.map(|()| Exit::NoResult)
    }
}

/// Deploys and listens, until we are told to stop.
async fn work(session: &mut Session) -> Result<()> {
    let mut stop = std::pin::pin!(told_to_stop());
    let mut changes = Changes::new()?;
    loop {
        // Watched before it is read, so that a change in between is not lost.
        changes.cover(&session.folder())?;
        tokio::select! {
            deployed = session.deploy(&|step| ui::say(&format!("  {step}"))) => {
                match deployed {
                    Ok(seen) => show(&seen, session.how_to_reach().as_deref()),
                    Err(why) => ui::say(&format!("not deployed: {why}")),
                }
            }
            () = &mut stop => return Ok(()),
        }
        ui::say("waiting for a change; Ctrl-C ends it");
        let mut quiet = std::pin::pin!(changes.until_quiet());
        loop {
            tokio::select! {
                seen = &mut quiet => {
                    seen?;
                    break;
                }
                () = &mut stop => return Ok(()),
                () = tokio::time::sleep(LISTEN) => {
                    for line in session.said().await.map_err(anyhow::Error::msg)? {
                        ui::line(&format!("{} | {}", line.service, line.text));
                    }
                }
            }
        }
        ui::say("changed; deploying it again");
    }
}

fn show(seen: &Deployed, reach: Option<&str>) {
    match &seen.outcome {
        Outcome::Converged { .. } => {
            let answer = seen.answered.as_ref().map(|answered| match (&answered.status, &answered.problem) {
                (Some(status), _) => format!(", answers {status}"),
                (None, Some(problem)) => format!(", no answer: {problem}"),
                (None, None) => String::new(),
            });
            ui::say(&format!("{} is up{}", seen.version.name(), answer.unwrap_or_default()));
            for line in reach.into_iter().flat_map(str::lines) {
                ui::say(&format!("  {line}"));
            }
        }
        Outcome::Failed { failures } => {
            for failure in failures {
                ui::say(&format!("{}: {} ({})", failure.service, failure.message, failure.class));
            }
        }
        Outcome::Invalid { problems } => problems.iter().for_each(|problem| ui::say(problem)),
        Outcome::Refused { escapes } => escapes.iter().for_each(|escape| ui::say(escape)),
        Outcome::NoImages { images } => images.iter().for_each(|image| ui::say(image)),
        Outcome::DependencyFailed { dependency, message } => {
            ui::say(&format!("dependency {dependency}: {message}"));
        }
        Outcome::HookFailed { hook } => ui::say(&format!("{hook} failed")),
        Outcome::Rejected { message } => ui::say(message),
        Outcome::TimedOut { waiting, limit_s } => {
            for waiting in waiting {
                ui::say(&format!("after {limit_s:.0} s: {waiting}"));
            }
        }
    }
    for ran in seen.ran.iter().filter(|ran| !ran.succeeded()) {
        ui::say(&format!("{} failed: {}", ran.name, ran.last_words));
    }
}

/// Changes of files below a folder.
struct Changes {
    watch: Arc<OwnedFd>,
    told: mpsc::Receiver<()>,
}

impl Changes {
    fn new() -> Result<Self> {
        let watch = Arc::new(inotify::init(CreateFlags::CLOEXEC).context("watching for changes")?);
        let (tell, told) = mpsc::channel(1);
        let waiting = Arc::clone(&watch);
        // It waits in the kernel for as long as this program runs.
        std::thread::Builder::new().name("changes".to_owned()).spawn(move || wait(&waiting, &tell))?;
        Ok(Self { watch, told })
    }

    /// Watches a folder and all below it as they are now; what is watched already stays so.
    fn cover(&self, folder: &Path) -> Result<()> {
        let wanted = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO;
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            inotify::add_watch(&*self.watch, &folder, wanted)
                .with_context(|| folder.display().to_string())?;
            folders.extend(below(&folder)?);
        }
        Ok(())
    }

    /// Resolves some time after the last of one or more changes.
    async fn until_quiet(&mut self) -> Result<()> {
        self.told.recv().await.context("nobody watches for changes any more")?;
        while let Ok(more) = tokio::time::timeout(QUIET, self.told.recv()).await {
            more.context("nobody watches for changes any more")?;
        }
        Ok(())
    }
}

/// Tells of every change until nobody listens.
fn wait(watch: &OwnedFd, tell: &mpsc::Sender<()>) {
    let mut space = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(watch, &mut space);
    while reader.next().is_ok() {
        // One that was not heard yet stands for this one as well.
        if let Err(mpsc::error::TrySendError::Closed(())) = tell.try_send(()) {
            return;
        }
    }
}

/// Folders in a folder, without its history.
fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && entry.file_name() != ".git" {
            found.push(entry.path());
        }
    }
    Ok(found)
}
