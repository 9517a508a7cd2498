//! Images that pull requests ask for: by what a push touches (`pushes`), or by the word of somebody who may.
//!
//! A run needs the commit's medium, and Assay builds none: a build runs the pull request's own code, and whoever pushes has CI
//! for that. So an image that is asked for waits, without a place in the line, until its medium lies where the settings say; then
//! the run has its digest. The profile decides over the verdict, so it is the trusted branch's.

use std::collections::{BTreeSet, HashMap};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use assay_engine::EngineError;
use assay_engine::images::ImageRequest;
use assay_forge::command::{Command, Wanted};
use assay_forge::comment::{Refused, note};
use assay_forge::{ImageTrigger, Login, Pull, PullState, RepoName};
use assay_model::{Asked, Micros, Priority, RunId, RunView, Sha256, text};
use assay_pipelines::image::profile::{Case, Selection};
use assay_pipelines::image::{ImageSource, ImageSpec, Profile};
use assay_store::{ForgeCommand, ForgeImage, ForgeImageState as State, NewForgeImage, PullKey};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use tokio::sync::watch;
use tracing::{info, warn};

use super::Known;
use super::answer::{self, Instead, Unanswered};
use super::mirror::{Mirror, Trusted};
use crate::state::App;

/// What asks where nobody has said anything.
pub(super) const PUSH: &str = "a push";
/// What makes a repository one of a recipe, too.
const RECIPE: &str = "compose.yml";
/// How often it is looked for images that are due, beside being told.
const LOOK: Duration = Duration::from_secs(2);
/// A medium that is not there is looked for again after this; one that has just come is looked at once more after that.
const NOT_THERE: Micros = Micros::seconds(5);
const JUST_CAME: Micros = Micros::seconds(1);
/// Images read at once, and those of one pull request that are looked through.
const PAGE: u32 = 32;
pub(super) const LATEST: u32 = 200;

/// What a pull request is told of an image while there is no run, as it is stored. An empty text: nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Meanwhile {
    /// It is about to be looked at.
    Soon,
    /// Whoever pushed may not ask.
    Word {
        /// Who it was.
        who: Option<Login>,
        /// Who may, in words.
        who_may: String,
    },
    /// Its medium is not there.
    Medium {
        /// The file's name.
        file: String,
    },
    /// Somebody did not want it any more.
    Cancelled {
        /// Who.
        by: Login,
    },
    /// It was not taken up, or could not be.
    Instead(Instead),
}

impl Meanwhile {
    /// As it is stored.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What becomes of an image that was asked for.
enum Became {
    Run(Arc<RunView>),
    Waits { file: String, again: Micros },
    Told { outcome: String, instead: Instead },
}

/// What a comment asks for in a repository with images.
pub(super) struct Word {
    /// Whether there is a recipe, too.
    pub(super) is_recipe: bool,
    /// The images that are asked for now.
    pub(super) images: Vec<String>,
}

/// Answers until it is told to stop.
pub(super) async fn run(app: &App, known: &Known, mut stopped: watch::Receiver<bool>) {
    let mut media = Media::default();
    while !*stopped.borrow() {
        match app.engine.store().forge_images_due(&known.settings.name, app.engine.now(), PAGE).await {
            Ok(due) => {
                for image in due {
                    if *stopped.borrow() {
                        return;
                    }
                    one(app, known, &mut media, &image).await;
                }
            }
            Err(problem) => {
                warn!(forge = known.settings.name, error = %problem, "images that were asked for cannot be read; trying again");
            }
        }
        tokio::select! {
            () = known.asked_images.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
            _ = stopped.changed() => {}
        }
    }
}

async fn one(app: &App, known: &Known, media: &mut Media, image: &ForgeImage) {
    let (store, forge) = (app.engine.store(), known.settings.name.as_str());
    let place =
        format!("{} ({})", known.pull_name(&image.pull.repo, image.pull.pull.unsigned_abs()), image.image);
    let became = answer(app, known, media, image).await;
    let now = app.engine.now();
    let close = |outcome: String, instead: Instead| async move {
        let standing = Meanwhile::Instead(instead).text();
        store.forge_image_answered(image, State::Closed, &standing, &outcome, now).await.map(drop)
    };
    let stored = match became {
        Ok(Became::Run(run)) => {
            let outcome = format!("run {}", run.created.number);
            info!(forge, "{place}: {outcome}");
            store.forge_image_answered(image, State::Run, "", &outcome, now).await.map(drop)
        }
        Ok(Became::Waits { file, again }) => {
            let outcome = format!("waits for its medium {file}");
            let standing = Meanwhile::Medium { file }.text();
            store.forge_image_later(image, &standing, &outcome, false, (now.plus(again), now)).await
        }
        Ok(Became::Told { outcome, instead }) => {
            info!(forge, "{place}: {outcome}");
            close(outcome, instead).await
        }
        Err(problem) if answer::gives_up(&problem, image.attempts) => {
            warn!(forge, "{place}: given up: {problem}");
            let what = known.settings.scrub(&problem.to_string());
            close(what.clone(), Instead::Error { what, next_step: next_step(&problem).to_owned() }).await
        }
        Err(problem) => {
            let at = now.plus(answer::pause(&problem, image.attempts));
            warn!(forge, "{place}: {problem}; trying again at {}", at.rfc3339());
            let why = known.settings.scrub(&problem.to_string());
            store.forge_image_later(image, &image.standing, &why, true, (at, now)).await
        }
    };
    if let Err(problem) = stored {
        // It is answered again at the next look; a run that was made for it is found again.
        warn!(forge, error = %problem, "{place}: what became of it was not stored");
    }
    known.answered.notify_one();
}

fn next_step(problem: &Unanswered) -> &'static str {
    match problem {
        Unanswered::Wrong(_) => "Correct that on the trusted branch, or in forges.toml.",
        _ => "Whoever runs this Assay finds more in its log.",
    }
}

async fn answer(
    app: &App,
    known: &Known,
    media: &mut Media,
    image: &ForgeImage,
) -> Result<Became, Unanswered> {
    // Created before a crash: then that is the answer.
    if let Some(run) = app.engine.store().view(image.run).await? {
        return Ok(Became::Run(run));
    }
    let number = image.pull.pull.unsigned_abs();
    let trigger = known
        .settings
        .images
        .iter()
        .find(|trigger| trigger.name == image.image && trigger.repository.to_string() == image.pull.repo);
    let trigger = trigger.ok_or_else(|| {
        Unanswered::Wrong(format!("forges.toml names no image `{}` of this repository any more", image.image))
    })?;
    let medium = trigger.medium(&image.head);
    let file = medium.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let waited = app.engine.now().since(image.heard_at);
    let sha256 = match media.look(image.run, &medium).await {
        Ok(Medium::Whole(sha256)) => sha256,
        Ok(Medium::JustCame) => return Ok(Became::Waits { file, again: JUST_CAME }),
        Ok(Medium::NotThere) if waited < trigger.within => {
            let left = Micros(trigger.within.0 - waited.0);
            return Ok(Became::Waits { file, again: NOT_THERE.min(left) });
        }
        Err(why) if waited < trigger.within => return Err(Unanswered::Here(why)),
        looked => {
            let minutes = text::plural(usize::try_from(trigger.within.0 / 60_000_000).unwrap_or(0), "minute");
            let what = format!("no medium of this commit came within {minutes}: {file}");
            let next_step = if let Err(why) = looked {
                warn!(forge = known.settings.name, "{}: {why}", image.image);
                "It cannot be read here; whoever runs this Assay finds more in its log."
            } else {
                "Look at what builds it and puts it there."
            };
            let instead = Instead::Error { what: what.clone(), next_step: next_step.to_owned() };
            return Ok(Became::Told { outcome: what, instead });
        }
    };
    let pull = known.client.pull(&trigger.repository, number).await?;
    if pull.state != PullState::Open {
        let by = image.author.as_deref().and_then(|author| author.parse().ok());
        let outcome = note(&Refused::NotOpen);
        return Ok(Became::Told { outcome, instead: Instead::Refused { refused: Refused::NotOpen, by } });
    }
    let mirror = known.mirror(&trigger.repository);
    mirror.fetch(number).await?;
    let trusted = mirror.trusted(known.settings.trusted.as_deref()).await?;
    let case = case(trigger, &mirror, &trusted).await?;
    let of = known.pull_name(&image.pull.repo, number);
    let spec = ImageSpec {
        image: medium,
        sha256: Some(sha256),
        cell: case.cell(),
        folder: trigger.folder.clone().unwrap_or_else(|| PathBuf::from("/")),
        on: None,
        main: false,
        from_phase: None,
        seed: uuid::Uuid::new_v4().as_fields().0,
        source: Some(ImageSource {
            commit: image.head.clone(),
            of: of.clone(),
            not_taken: not_taken(trigger, &case.profile, &mirror, &trusted, &image.head).await?,
            trusted: trusted.commit,
            trusted_ref: trusted.name,
        }),
        profile: case.profile,
    };
    let request = ImageRequest {
        spec,
        runner: trigger.runner.clone().or_else(|| known.settings.runner.clone()),
        muted: Vec::new(),
        by: match &image.author {
            Some(author) => format!("{author}@{}", known.settings.name),
            None => known.settings.name.clone(),
        },
    };
    let asked = Asked { priority: Priority::PullRequest, pull_request: Some(of) };
    Ok(Became::Run(app.engine.test_image_as(image.run, request, asked).await?))
}

/// What the image is held to, by the trusted branch.
async fn case(trigger: &ImageTrigger, mirror: &Mirror, trusted: &Trusted) -> Result<Case, Unanswered> {
    let (path, branch) = (&trigger.profile, &trusted.name);
    let wrong = |why: &dyn std::fmt::Display| Unanswered::Wrong(format!("{path} of {branch}: {why}"));
    let text = mirror.file(&trusted.commit, path).await?;
    let text = text.ok_or_else(|| wrong(&"there is no such file; bring the profile in by itself first"))?;
    let profile = Profile::from_toml(&text).map_err(|why| wrong(&why))?;
    let case = trigger.case.as_ref().map(|case| case.parse::<Selection>()).transpose();
    let wanted: Vec<Selection> = case.map_err(|why| wrong(&why))?.into_iter().collect();
    let mut cases = profile.selected(&wanted).map_err(|why| wrong(&why))?;
    let (Some(case), true) = (cases.pop(), cases.is_empty()) else {
        let why = "it has a matrix, and each image in forges.toml is one machine; name the case there: case = \"axis=value\"";
        return Err(wrong(&why));
    };
    case.profile.checked().map_err(|why| wrong(&why))?;
    let named = case.profile.named_files();
    if trigger.folder.is_none() && (!named.is_empty() || !case.profile.medium.flash.is_empty()) {
        let what = named.first().map_or_else(|| "medium.flash".to_owned(), |(place, _)| place.clone());
        let why =
            format!("{what} names files; say in forges.toml where they lie on the runner: folder = \"/…\"");
        return Err(wrong(&why));
    }
    Ok(case)
}

/// Of the files that decide over the verdict those that the commit changes: they are the trusted branch's and the runner's.
async fn not_taken(
    trigger: &ImageTrigger,
    profile: &Profile,
    mirror: &Mirror,
    trusted: &Trusted,
    head: &str,
) -> Result<Vec<String>, Unanswered> {
    let folder = Path::new(&trigger.profile).parent().unwrap_or_else(|| Path::new(""));
    let beside = profile.named_files().into_iter().map(|(_, name)| folder.join(name));
    let files: BTreeSet<String> =
        beside.map(|path| path.display().to_string()).chain([trigger.profile.clone()]).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    Ok(mirror.changed(&trusted.commit, head, &files).await?)
}

/// Asks for the images that a pull request touches, since somebody who may has said so.
pub(super) async fn by_word(
    app: &App,
    known: &Known,
    command: &ForgeCommand,
    (repo, who, pull): (&RepoName, &Login, &Pull),
    wanted: &Wanted,
) -> Result<Word, Unanswered> {
    if !known.settings.images.iter().any(|image| image.repository == *repo) {
        return Ok(Word { is_recipe: true, images: Vec::new() });
    }
    let mirror = known.mirror(repo);
    mirror.fetch(pull.number).await?;
    let head = mirror.head(pull.number).await?;
    let is_recipe = mirror.file(&head, RECIPE).await?.is_some();
    if !is_whole(wanted) {
        return Ok(Word { is_recipe, images: Vec::new() });
    }
    let touched = super::pushes::touched(known, repo, &mirror, pull, &head).await?;
    let key = pull_of(command);
    let before = app.engine.store().forge_images_of(&key, LATEST).await?;
    let (mut images, mut fresh) = (Vec::new(), Vec::new());
    for image in touched {
        images.push(image.name.clone());
        let same = before.iter().filter(|asked| asked.image == image.name && asked.head == head);
        let mut is_under_way = false;
        for asked in same {
            is_under_way |= match asked.state {
                State::Open => true,
                State::Run => is_open(app, asked).await?.is_some(),
                State::Waits | State::Settled | State::Closed => false,
            };
        }
        if !is_under_way {
            fresh.push(NewForgeImage {
                run: run_of(command.run, &image.name),
                pull: command.pull,
                image: image.name.clone(),
                head: head.clone(),
                author: Some(who.to_string()),
                said: Command::Test(wanted.clone()).line(),
                state: State::Open,
                standing: Meanwhile::Soon.text(),
            });
        }
    }
    if !fresh.is_empty() {
        app.engine.store().forge_images_asked(&key, &head, &fresh, app.engine.now()).await?;
        known.asked_images.notify_one();
    }
    Ok(Word { is_recipe, images })
}

/// An image is tested as a whole or not at all: parts of a run are a recipe's.
pub(super) const fn is_whole(wanted: &Wanted) -> bool {
    !wanted.quick && wanted.stages.is_empty()
}

/// Withdraws what a pull request asks for; the runs that are cancelled, and whether there was anything.
pub(super) async fn cancel(
    app: &App,
    known: &Known,
    command: &ForgeCommand,
    who: &Login,
) -> Result<(Vec<i64>, bool), Unanswered> {
    let (mut cancelled, mut any) = (Vec::new(), false);
    for image in app.engine.store().forge_images_of(&pull_of(command), LATEST).await? {
        match image.state {
            State::Waits | State::Open => {
                let standing = Meanwhile::Cancelled { by: who.clone() }.text();
                let (outcome, now) = (format!("cancelled by {who}"), app.engine.now());
                let store = app.engine.store();
                any |= store.forge_image_answered(&image, State::Closed, &standing, &outcome, now).await?;
            }
            State::Run => {
                let Some(run) = is_open(app, &image).await? else { continue };
                answer::cancel_run(app, known, &run, who).await?;
                cancelled.push(run.created.number);
                any = true;
            }
            State::Settled | State::Closed => {}
        }
    }
    Ok((cancelled, any))
}

async fn is_open(app: &App, image: &ForgeImage) -> Result<Option<Arc<RunView>>, EngineError> {
    Ok(app.engine.store().view(image.run).await?.filter(|run| !run.state().is_terminal()))
}

fn pull_of(command: &ForgeCommand) -> PullKey {
    let (forge, repo) = (command.key.forge.clone(), command.key.repo.clone());
    PullKey { forge, repo, pull: command.pull }
}

/// The run of an image that a command asks for: the same one however often that command is answered.
fn run_of(command: RunId, image: &str) -> RunId {
    let drawn = Sha256::of(format!("{command} {image}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&drawn.0[..16]);
    RunId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// Media that were seen and may still be being written.
#[derive(Default)]
struct Media(HashMap<RunId, Mark>);

/// What changes while a file is written.
type Mark = (u64, SystemTime);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Medium {
    NotThere,
    JustCame,
    Whole(Sha256),
}

impl Media {
    /// Looks for a medium. It is whole when it was the same at two looks and while it was read.
    async fn look(&mut self, run: RunId, path: &Path) -> Result<Medium, String> {
        let Some(mark) = mark(path)? else {
            self.0.remove(&run);
            return Ok(Medium::NotThere);
        };
        if self.0.insert(run, mark) != Some(mark) {
            return Ok(Medium::JustCame);
        }
        let file = path.to_owned();
        let read = tokio::task::spawn_blocking(move || digest(&file)).await;
        let sha256 = read.map_err(|problem| format!("reading the medium: {problem}"))??;
        if self::mark(path)? != Some(mark) {
            return Ok(Medium::JustCame);
        }
        self.0.remove(&run);
        Ok(Medium::Whole(sha256))
    }
}

fn mark(path: &Path) -> Result<Option<Mark>, String> {
    let told = |problem: std::io::Error| {
        format!(
            "{}: {problem}; the control plane has to see the medium, too",
            text::clean_to(&path.display().to_string(), 200)
        )
    };
    match std::fs::metadata(path) {
        Ok(file) if file.is_file() && file.len() > 0 => {
            Ok(Some((file.len(), file.modified().map_err(told)?)))
        }
        Ok(_) => Ok(None),
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(problem) => Err(told(problem)),
    }
}

fn digest(path: &Path) -> Result<Sha256, String> {
    let told = |problem: std::io::Error| format!("{}: {problem}", path.display());
    let mut file = std::fs::File::open(path).map_err(told)?;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(told)? {
            0 => return Ok(Sha256(hasher.finalize().into())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_medium_is_taken_once_nobody_writes_it_any_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("node.iso");
        let (mut media, run) = (Media::default(), RunId(uuid::Uuid::from_u128(1)));
        assert_eq!(media.look(run, &path).await, Ok(Medium::NotThere));
        std::fs::write(&path, "").expect("written");
        assert_eq!(media.look(run, &path).await, Ok(Medium::NotThere), "nothing in it yet");
        std::fs::write(&path, "half").expect("written");
        assert_eq!(media.look(run, &path).await, Ok(Medium::JustCame));
        std::fs::write(&path, "half and half").expect("written");
        assert_eq!(media.look(run, &path).await, Ok(Medium::JustCame));
        assert_eq!(media.look(run, &path).await, Ok(Medium::Whole(Sha256::of(b"half and half"))));
        let elsewhere = path.join("below-a-file");
        let told = media.look(run, &elsewhere).await.expect_err("a file is no folder");
        assert!(told.contains("has to see the medium"), "{told}");
    }

    #[test]
    fn a_command_gives_each_image_one_run() {
        let command = RunId(uuid::Uuid::from_u128(7));
        assert_eq!(run_of(command, "node"), run_of(command, "node"));
        assert_ne!(run_of(command, "node"), run_of(command, "edge"));
        assert_ne!(run_of(command, "node"), run_of(RunId(uuid::Uuid::from_u128(8)), "node"));
    }
}
