//! Keeps each pull request's one comment, and the statuses of its commits, as they should be.
//!
//! What a comment should say is computed anew at every look and compared with what it says; only what has changed is written,
//! and a forge that is away is told later. So a restart in any moment costs a look and never a second comment.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use assay_forge::comment::{About, Standing, marker, render, render_all};
use assay_forge::{Advice, ForgeError, Login, RepoName, put, status};
use assay_model::{Micros, RunId, RunResult, RunView, Sha256};
use assay_store::{CommandKey, ForgeCommand, ForgeImage, ForgePull, PullKey, RunFilter, StoreError};
use tokio::sync::watch;
use tracing::{info, warn};

use super::about::{Around, commit, of_run};
use super::answer::Instead;
use super::{Known, Said, images, sections};
use crate::state::App;

/// How often everything that is not settled is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A comment is edited no more often than this, unless its run is over.
const BETWEEN_EDITS: Micros = Micros::seconds(5);
/// Pull requests that are looked at in one go: all that are not settled. One of which nothing has changed stays due, so with fewer the
/// later ones would never be looked at.
const PAGE: u32 = 10_000;
/// So often a comment is tried that the forge does not take; a token may be given its right meanwhile.
const TRIES: u32 = 50;
/// Pauses after a failure double from the first to the last.
const FIRST_PAUSE: Micros = Micros::seconds(5);
const LAST_PAUSE: Micros = Micros::seconds(900);
/// Commands of a pull request among which the newer ones of a commit are looked for.
const LATEST: u32 = 20;

/// When a commit's status may be tried again, and after how many failures.
type Patience = HashMap<RunId, (Micros, u32)>;

/// Tells until it is told to stop.
pub(super) async fn run(app: &App, known: &Known, mut stopped: watch::Receiver<bool>) {
    let mut patience = Patience::new();
    while !*stopped.borrow() {
        if let Err(problem) = look(app, known, &mut patience).await {
            warn!(forge = known.settings.name, error = %problem, "what pull requests are to be told cannot be read; trying again");
        }
        tokio::select! {
            () = known.answered.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
            _ = stopped.changed() => {}
        }
    }
}

async fn look(app: &App, known: &Known, patience: &mut Patience) -> Result<(), StoreError> {
    let (store, name, now) = (app.engine.store(), &known.settings.name, app.engine.now());
    for pull in store.forge_pulls_due(name, now, PAGE).await? {
        tell(app, known, &pull).await?;
    }
    let running = store.forge_commands_running(name).await?;
    let of_images = store.forge_images_running(name).await?;
    let open = running.iter().map(|command| command.run).chain(of_images.iter().map(|image| image.run));
    let open: HashSet<RunId> = open.collect();
    patience.retain(|run, _| open.contains(run));
    for command in running {
        set_status(app, known, &command, patience).await?;
    }
    for image in of_images {
        set_image_status(app, known, &image, patience).await?;
    }
    Ok(())
}

/// Brings one pull request's comment up to date.
async fn tell(app: &App, known: &Known, pull: &ForgePull) -> Result<(), StoreError> {
    let (store, now) = (app.engine.store(), app.engine.now());
    let Some((about, is_over)) = about(app, known, pull).await? else {
        return store.forge_tell_later(pull, false, None).await;
    };
    let shown = digest(&about);
    let after = (!is_over).then_some(now);
    if pull.shown == Some(shown) {
        // Nothing is written while nothing changes.
        return if is_over { store.forge_tell_later(pull, false, None).await } else { Ok(()) };
    }
    if !is_over && pull.shown.is_some() && now.since(pull.shown_at) < BETWEEN_EDITS {
        return Ok(());
    }
    let (Ok(repo), number) = (pull.key.repo.parse::<RepoName>(), pull.key.pull.unsigned_abs()) else {
        return store.forge_tell_later(pull, false, None).await;
    };
    match put_comment(app, known, pull, &repo, number, &about).await {
        Ok(id) => store.forge_told(pull, id, shown, after, now).await,
        Err(problem) => {
            let place = known.pull_name(&pull.key.repo, number);
            let never = problem.advice() == Advice::Never;
            let pause = if never { LAST_PAUSE } else { pause(&problem, pull.attempts) };
            let due = (pull.attempts < TRIES).then(|| now.plus(pause));
            warn!(forge = known.settings.name, "{place} was not told: {problem}");
            store.forge_tell_later(pull, true, due).await
        }
    }
}

async fn put_comment(
    app: &App,
    known: &Known,
    pull: &ForgePull,
    repo: &RepoName,
    number: u64,
    about: &[About],
) -> Result<Option<i64>, ForgeError> {
    let us = known.us().await?;
    let marker = marker(&app.shared.forges.instance, number);
    let ours = pull.comment.map(i64::unsigned_abs);
    let body = render_all(about);
    let put = put::comment(&*known.client, us, repo, number, ours, &marker, &body).await?;
    if !matches!(put, put::Put::Edited(_)) {
        info!(forge = known.settings.name, "{}: {put:?}", known.pull_name(&pull.key.repo, number));
    }
    Ok(i64::try_from(put.id()).ok())
}

/// What a comment says, without what the time alone changes.
fn digest(all: &[About]) -> Sha256 {
    let still: Vec<String> = all.iter().map(still).collect();
    Sha256::of(still.join("\0").as_bytes())
}

fn still(about: &About) -> String {
    let mut still = About { at: Micros(0), ..about.clone() };
    match &mut still.stage {
        Standing::Running { for_seconds, .. } => *for_seconds = 0,
        Standing::Queued { in_seconds, why, .. } => {
            // "about 3 min": a comment is not edited for seconds.
            *in_seconds = in_seconds.map(|seconds| seconds / 60);
            why.retain(|c| !c.is_ascii_digit());
        }
        _ => {}
    }
    render(&still)
}

fn pause(problem: &ForgeError, attempts: u32) -> Micros {
    let usual = Micros(FIRST_PAUSE.0.saturating_mul(1 << attempts.min(16))).min(LAST_PAUSE);
    match problem.advice() {
        Advice::Later { after: Some(after) } => {
            usual.max(Micros(i64::try_from(after.as_micros()).unwrap_or(i64::MAX)))
        }
        _ => usual,
    }
}

/// What a pull request's comment should say of its recipe and of its images, and whether that is the end of it. None where there
/// is nothing to say.
async fn about(app: &App, known: &Known, pull: &ForgePull) -> Result<Option<(Vec<About>, bool)>, StoreError> {
    let first = of_subject(app, known, pull).await?;
    let (mut all, over): (Vec<About>, Vec<bool>) =
        first.into_iter().chain(sections::of_pull(app, pull).await?).unzip();
    let Some(first) = all.first_mut() else { return Ok(None) };
    if first.run.is_some()
        && let Ok(repo) = pull.key.repo.parse()
    {
        first.notes.extend(known.memory.permission().note(&repo));
    }
    Ok(Some((all, over.into_iter().all(|over| over))))
}

/// What the latest command came to.
async fn of_subject(app: &App, known: &Known, pull: &ForgePull) -> Result<Option<(About, bool)>, StoreError> {
    let number = pull.key.pull.unsigned_abs();
    let Some(comment) = pull.subject else {
        let Ok(instead) = serde_json::from_str::<Instead>(&pull.standing) else { return Ok(None) };
        let (stage, by) = match instead {
            Instead::Refused { refused, by } => (Standing::Refused(refused), by),
            Instead::Error { what, next_step } => {
                (Standing::Error { what, next_step, is_retried: false }, None)
            }
        };
        let about = About {
            instance: app.shared.forges.instance.clone(),
            number,
            commit: String::new(),
            run: None,
            of: String::new(),
            asked_by: by,
            asked: String::new(),
            stage,
            at: app.engine.now(),
            notes: Vec::new(),
        };
        return Ok(Some((about, true)));
    };
    let (forge, repo) = (pull.key.forge.clone(), pull.key.repo.clone());
    let key = CommandKey { forge, repo, comment };
    let Some(command) = app.engine.store().forge_command(&key).await? else { return Ok(None) };
    let Some(run) = app.engine.store().view(command.run).await? else { return Ok(None) };
    let mut about = of_command(app, &command, &run, &pull.notes).await?;
    if known.settings.images.iter().any(|image| image.repository.to_string() == pull.key.repo) {
        about.of = format!("{} {}", run.created.pipeline.as_str(), run.created.target.name);
    }
    Ok(Some((about, is_over(&run))))
}

/// Whether nothing more comes of a run: it is over, and sealed where it has a verdict.
pub(super) fn is_over(run: &RunView) -> bool {
    run.state().is_terminal() && (run.seal.is_some() || run.result.is_none())
}

async fn of_command(
    app: &App,
    command: &ForgeCommand,
    run: &RunView,
    notes: &[String],
) -> Result<About, StoreError> {
    let author: Option<Login> = command.author.as_deref().and_then(|author| author.parse().ok());
    let asked = match serde_json::from_str(&command.said) {
        Ok(Said::Command(command)) => command.line(),
        _ => String::new(),
    };
    let who = Asker { pull: command.pull.unsigned_abs(), author: author.as_ref(), asked: &asked };
    of_view(app, &who, run, notes).await
}

/// Who asked for a run, where, and how.
pub(super) struct Asker<'a> {
    /// The pull request.
    pub(super) pull: u64,
    /// Who.
    pub(super) author: Option<&'a Login>,
    /// The command, or what stands for it.
    pub(super) asked: &'a str,
}

/// What a pull request is told of a run.
pub(super) async fn of_view(
    app: &App,
    asker: &Asker<'_>,
    run: &RunView,
    notes: &[String],
) -> Result<About, StoreError> {
    let newer = match run.superseded_by {
        Some(number) => newer(app, number).await?,
        None => None,
    };
    let since_green = match run.result {
        Some(RunResult::Fail) => app.engine.recipe_results(run).await.ok().and_then(|told| told.since_green),
        _ => None,
    };
    let place = app.engine.place(run);
    let around = Around {
        instance: &app.shared.forges.instance,
        base_url: app.shared.forges.base_url.as_deref(),
        pull: asker.pull,
        asked_by: asker.author,
        asked: asker.asked,
        place: place.as_ref(),
        since_green: since_green.as_ref(),
        newer: newer.as_ref().map(|(number, commit)| (*number, commit.as_str())),
        notes,
        at: app.engine.now(),
    };
    Ok(of_run(run, &around))
}

async fn newer(app: &App, number: i64) -> Result<Option<(i64, String)>, StoreError> {
    let filter = RunFilter { before_number: Some(number + 1), limit: 1, ..RunFilter::default() };
    let row = app.engine.store().list_runs(filter).await?.into_iter().next();
    let Some(row) = row.filter(|row| row.number == number) else { return Ok(None) };
    let view: Option<Arc<RunView>> = app.engine.store().view(row.id).await?;
    Ok(view.and_then(|run| Some((number, commit(&run)?))))
}

/// Sees to it that a run's commit has the status that it should have, where the token may set one.
async fn set_status(
    app: &App,
    known: &Known,
    command: &ForgeCommand,
    patience: &mut Patience,
) -> Result<(), StoreError> {
    let store = app.engine.store();
    let settle = |status: Option<String>, over: bool| async move {
        store.forge_status_told(&command.key, status.as_deref(), over).await
    };
    let Some(run) = store.view(command.run).await? else { return settle(None, true).await };
    let over = is_over(&run);
    let (Ok(repo), Ok(Said::Command(assay_forge::command::Command::Test(wanted)))) =
        (command.key.repo.parse::<RepoName>(), serde_json::from_str(&command.said))
    else {
        return settle(None, true).await;
    };
    let context = status::context(run.created.pipeline.as_str(), &wanted);
    let about = of_command(app, command, &run, &[]).await?;
    let Some(wanted_status) = status::of(&about, &context) else { return settle(None, true).await };
    // What a newer run says of the same commit is not written over by the end of this one.
    if run.result.is_none() && over && has_newer(app, command, &about.commit, &context).await? {
        return settle(None, true).await;
    }
    let telling =
        Telling { run: run.id, repo: &repo, commit: &about.commit, told: command.status.as_deref(), over };
    match put_status(app, known, &telling, &wanted_status, patience).await {
        Put::Not => Ok(()),
        Put::Told(text) => settle(Some(text), over).await,
        Put::Never => settle(None, true).await,
    }
}

/// The same for an image's run.
async fn set_image_status(
    app: &App,
    known: &Known,
    image: &ForgeImage,
    patience: &mut Patience,
) -> Result<(), StoreError> {
    let store = app.engine.store();
    let settle = |status: Option<String>, over: bool| async move {
        store.forge_image_status(image.run, status.as_deref(), over).await
    };
    let (Some((about, over)), Ok(repo)) =
        (sections::of_image(app, image).await?, image.pull.repo.parse::<RepoName>())
    else {
        return settle(None, true).await;
    };
    let context = status::image_context(&image.image);
    let Some(wanted_status) = status::of(&about, &context) else { return settle(None, true).await };
    if over && !matches!(about.stage, Standing::Finished(_)) {
        let all = store.forge_images_of(&image.pull, images::LATEST).await?;
        let same = |other: &&ForgeImage| other.image == image.image && other.head == image.head;
        if all.iter().find(same).is_some_and(|newest| newest.run != image.run) {
            return settle(None, true).await;
        }
    }
    let telling =
        Telling { run: image.run, repo: &repo, commit: &image.head, told: image.status.as_deref(), over };
    match put_status(app, known, &telling, &wanted_status, patience).await {
        Put::Not => Ok(()),
        Put::Told(text) => settle(Some(text), over).await,
        Put::Never => settle(None, true).await,
    }
}

/// Which commit's status it is.
struct Telling<'a> {
    run: RunId,
    repo: &'a RepoName,
    commit: &'a str,
    /// What it was told last.
    told: Option<&'a str>,
    /// Whether nothing more comes of the run.
    over: bool,
}

/// What became of a status.
enum Put {
    /// It stands as it is, or is tried again.
    Not,
    /// It says this now.
    Told(String),
    /// It says what it should, or never will, and that is the end of it.
    Never,
}

/// Sets a commit's status where it says something else and the token may.
async fn put_status(
    app: &App,
    known: &Known,
    telling: &Telling<'_>,
    wanted: &status::CommitStatus,
    patience: &mut Patience,
) -> Put {
    let now = app.engine.now();
    let nothing = || if telling.over { Put::Never } else { Put::Not };
    let text = format!("{} {}", wanted.state.as_str(), wanted.description);
    if telling.told == Some(&text) {
        return nothing();
    }
    if patience.get(&telling.run).is_some_and(|(until, _)| *until > now) {
        return Put::Not;
    }
    let repo = telling.repo;
    let may_try = known.memory.permission().may_try(repo, now);
    if !may_try {
        return nothing();
    }
    let outcome = known.client.set_status(repo, telling.commit, wanted).await;
    let is_first_refusal = known.memory.permission().tried(repo, &outcome, now);
    if is_first_refusal {
        known.keep_memory(app).await;
    }
    match outcome {
        Ok(()) => {
            patience.remove(&telling.run);
            Put::Told(text)
        }
        Err(problem) => {
            if is_first_refusal {
                info!(forge = known.settings.name, %repo, "commit statuses may not be set: {problem}");
                return nothing();
            }
            let attempts = patience.get(&telling.run).map_or(0, |(_, attempts)| *attempts);
            warn!(forge = known.settings.name, %repo, "a commit's status was not set: {problem}");
            if problem.advice() == Advice::Never && !problem.is_of_the_forge() {
                return Put::Never;
            }
            patience.insert(telling.run, (now.plus(pause(&problem, attempts)), attempts + 1));
            Put::Not
        }
    }
}

/// Whether a later command of the pull request has a run of the same commit, in the same context.
async fn has_newer(app: &App, command: &ForgeCommand, of: &str, context: &str) -> Result<bool, StoreError> {
    let (forge, repo) = (command.key.forge.clone(), command.key.repo.clone());
    let pull = PullKey { forge, repo, pull: command.pull };
    for other in app.engine.store().forge_commands_of(&pull, LATEST).await? {
        if other.key == command.key {
            return Ok(false);
        }
        let Some(run) = app.engine.store().view(other.run).await? else { continue };
        let Ok(Said::Command(assay_forge::command::Command::Test(wanted))) =
            serde_json::from_str(&other.said)
        else {
            continue;
        };
        if commit(&run).as_deref() == Some(of)
            && status::context(run.created.pipeline.as_str(), &wanted) == context
        {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_not_edited_because_time_goes_by() {
        let about = |in_seconds, why: &str, at| About {
            instance: "i".to_owned(),
            number: 1,
            commit: "a".repeat(40),
            run: None,
            of: String::new(),
            asked_by: None,
            asked: String::new(),
            stage: Standing::Queued { position: Some(2), why: why.to_owned(), in_seconds: Some(in_seconds) },
            at: Micros::seconds(at),
            notes: Vec::new(),
        };
        let first = digest(&[about(130, "behind run 4 (2 m 10 s)", 5)]);
        assert_eq!(first, digest(&[about(121, "behind run 4 (2 m 1 s)", 99)]));
        assert_ne!(first, digest(&[about(59, "behind run 4 (2 m 1 s)", 99)]));
        assert_ne!(first, digest(&[about(130, "the queue is paused", 5)]));
    }

    #[test]
    fn pauses_grow_and_end() {
        let away = ForgeError::Unreachable { host: "h".to_owned(), why: "gone".to_owned() };
        assert_eq!(pause(&away, 0), FIRST_PAUSE);
        assert_eq!(pause(&away, 1), Micros::seconds(10));
        assert_eq!(pause(&away, 99), LAST_PAUSE);
    }
}
