//! Keeps each pull request's one comment, and the statuses of its commits, as they should be.
//!
//! What a comment should say is computed anew at every look and compared with what it says; only what has changed is written,
//! and a forge that is away is told later. So a restart in any moment costs a look and never a second comment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use assay_forge::comment::{About, Standing, marker, render};
use assay_forge::{Advice, ForgeError, Login, RepoName, put, status};
use assay_model::{Micros, RunResult, RunView, Sha256};
use assay_store::{CommandKey, ForgeCommand, ForgePull, PullKey, RunFilter, StoreError};
use tokio::sync::watch;
use tracing::{info, warn};

use super::about::{Around, commit, of_run};
use super::answer::Instead;
use super::{Known, Said};
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
type Patience = HashMap<CommandKey, (Micros, u32)>;

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
    patience.retain(|key, _| running.iter().any(|command| command.key == *key));
    for command in running {
        set_status(app, known, &command, patience).await?;
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
    about: &About,
) -> Result<Option<i64>, ForgeError> {
    let us = known.us().await?;
    let marker = marker(&app.shared.forges.instance, number);
    let ours = pull.comment.map(i64::unsigned_abs);
    let body = render(about);
    let put = put::comment(&*known.client, us, repo, number, ours, &marker, &body).await?;
    if !matches!(put, put::Put::Edited(_)) {
        info!(forge = known.settings.name, "{}: {put:?}", known.pull_name(&pull.key.repo, number));
    }
    Ok(i64::try_from(put.id()).ok())
}

/// What a comment says, without what the time alone changes.
fn digest(about: &About) -> Sha256 {
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
    Sha256::of(render(&still).as_bytes())
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

/// What a pull request's comment should say, and whether that is the end of it. None where there is nothing to say.
async fn about(app: &App, known: &Known, pull: &ForgePull) -> Result<Option<(About, bool)>, StoreError> {
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
    let mut notes = pull.notes.clone();
    if let Ok(repo) = pull.key.repo.parse() {
        notes.extend(known.memory.permission().note(&repo));
    }
    let about = of_command(app, &command, &run, &notes).await?;
    Ok(Some((about, is_over(&run))))
}

/// Whether nothing more comes of a run: it is over, and sealed where it has a verdict.
fn is_over(run: &RunView) -> bool {
    run.state().is_terminal() && (run.seal.is_some() || run.result.is_none())
}

async fn of_command(
    app: &App,
    command: &ForgeCommand,
    run: &RunView,
    notes: &[String],
) -> Result<About, StoreError> {
    let asked_by: Option<Login> = command.author.as_deref().and_then(|author| author.parse().ok());
    let asked = match serde_json::from_str(&command.said) {
        Ok(Said::Command(command)) => command.line(),
        _ => String::new(),
    };
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
        pull: command.pull.unsigned_abs(),
        asked_by: asked_by.as_ref(),
        asked: &asked,
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
    let (store, now) = (app.engine.store(), app.engine.now());
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
    let text = format!("{} {}", wanted_status.state.as_str(), wanted_status.description);
    if command.status.as_deref() == Some(&text) {
        return if over { settle(None, true).await } else { Ok(()) };
    }
    // What a newer run says of the same commit is not written over by the end of this one.
    if run.result.is_none() && over && has_newer(app, command, &about.commit, &context).await? {
        return settle(None, true).await;
    }
    if patience.get(&command.key).is_some_and(|(until, _)| *until > now) {
        return Ok(());
    }
    let may_try = known.memory.permission().may_try(&repo, now);
    if !may_try {
        return if over { settle(None, true).await } else { Ok(()) };
    }
    let outcome = known.client.set_status(&repo, &about.commit, &wanted_status).await;
    let is_first_refusal = known.memory.permission().tried(&repo, &outcome, now);
    if is_first_refusal {
        known.keep_memory(app).await;
    }
    match outcome {
        Ok(()) => {
            patience.remove(&command.key);
            settle(Some(text), over).await
        }
        Err(problem) => {
            if is_first_refusal {
                info!(forge = known.settings.name, %repo, "commit statuses may not be set: {problem}");
                return if over { settle(None, true).await } else { Ok(()) };
            }
            let attempts = patience.get(&command.key).map_or(0, |(_, attempts)| *attempts);
            warn!(forge = known.settings.name, %repo, "a commit's status was not set: {problem}");
            if problem.advice() == Advice::Never && !problem.is_of_the_forge() {
                return settle(None, true).await;
            }
            patience.insert(command.key.clone(), (now.plus(pause(&problem, attempts)), attempts + 1));
            Ok(())
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
            asked_by: None,
            asked: String::new(),
            stage: Standing::Queued { position: Some(2), why: why.to_owned(), in_seconds: Some(in_seconds) },
            at: Micros::seconds(at),
            notes: Vec::new(),
        };
        let first = digest(&about(130, "behind run 4 (2 m 10 s)", 5));
        assert_eq!(first, digest(&about(121, "behind run 4 (2 m 1 s)", 99)));
        assert_ne!(first, digest(&about(59, "behind run 4 (2 m 1 s)", 99)));
        assert_ne!(first, digest(&about(130, "the queue is paused", 5)));
    }

    #[test]
    fn pauses_grow_and_end() {
        let away = ForgeError::Unreachable { host: "h".to_owned(), why: "gone".to_owned() };
        assert_eq!(pause(&away, 0), FIRST_PAUSE);
        assert_eq!(pause(&away, 1), Micros::seconds(10));
        assert_eq!(pause(&away, 99), LAST_PAUSE);
    }
}
