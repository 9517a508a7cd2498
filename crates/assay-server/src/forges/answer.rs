//! Makes runs of commands, or says why not. Every command is answered once: what was decided is stored with what its pull
//! request is told. A run that was created before a crash is found again by its id, which was drawn with the command.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use assay_engine::EngineError;
use assay_engine::recipes::RecipeRequest;
use assay_forge::authors;
use assay_forge::command::{Command, Wanted};
use assay_forge::comment::{Refused, note};
use assay_forge::{Advice, ForgeError, Forks, Login, Pull, PullState, RepoName};
use assay_model::{Asked as OnBehalf, Decision, DecisionKind, Micros, Priority, RunView, text};
use assay_pipelines::recipe::{self, Asked, Isolation, RecipeSpec, Source};
use assay_recipe::customise::{Customisation, Manifest, Options, Redactor};
use assay_recipe::versions::Checkout;
use assay_store::{Answer, ForgeCommand, PullKey, StoreError, Subject};
use futures::stream::FuturesUnordered;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::io::ReaderStream;
use tracing::{info, warn};

use super::mirror::{Mirror, MirrorError, Trusted};
use super::{AWAY, Known, Said, about, images};
use crate::state::App;

/// How often it is looked for commands that are due, beside being told.
const LOOK: Duration = Duration::from_secs(2);
/// Commands read at once.
const PAGE: u32 = 256;
/// Repositories whose commands are being answered at once: a repository that takes minutes to fetch, or a question that is not
/// answered, holds up no other. Commands of one repository are answered one after the other, in their order.
const AT_ONCE: usize = 4;
/// Tries before a pull request is told that it does not work.
const TRIES: u32 = 8;
/// Pauses between tries double from the first to the last.
const FIRST_PAUSE: Micros = Micros::seconds(5);
const LAST_PAUSE: Micros = Micros::seconds(600);
/// Runs of one pull request that are looked through.
const LATEST: u32 = 20;
/// The largest bundle, in bytes.
const LARGEST: u64 = 1 << 30;

/// What a pull request is told where there is no run, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Instead {
    /// The command was not taken up.
    Refused {
        /// Why.
        refused: Refused,
        /// Who asked.
        by: Option<Login>,
    },
    /// It could not be.
    Error {
        /// What happened.
        what: String,
        /// What to do.
        next_step: String,
    },
}

/// Why a command was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    #[error(transparent)]
    Forge(#[from] ForgeError),
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The trusted branch's settings do not read, or the like: somebody has to change something first.
    #[error("{0}")]
    Wrong(String),
    /// A folder or file of ours.
    #[error("{0}")]
    Here(String),
}

/// What becomes of a command.
enum Answered {
    /// A run of its own.
    Run(Arc<RunView>),
    /// Something else, in words for operators.
    Told { outcome: String, instead: Option<Instead> },
    /// A run that there is already.
    Joined { number: i64 },
    /// Images, each of which tells for itself.
    Images { outcome: String },
}

/// Answers until it is told to stop.
pub(super) async fn run(app: &App, known: &Known, mut stopped: watch::Receiver<bool>) {
    let (mut answering, mut busy) = (FuturesUnordered::new(), BTreeSet::new());
    while !*stopped.borrow() {
        let due = if busy.len() < AT_ONCE {
            app.engine.store().forge_commands_due(&known.settings.name, app.engine.now(), PAGE).await
        } else {
            Ok(Vec::new())
        };
        let due = due.unwrap_or_else(|problem| {
            warn!(forge = known.settings.name, error = %problem, "commands cannot be read; trying again");
            Vec::new()
        });
        for command in due {
            if busy.len() < AT_ONCE && busy.insert(command.key.repo.clone()) {
                answering.push(async move {
                    let is_stored = one(app, known, &command).await;
                    (command.key.repo, is_stored)
                });
            }
        }
        tokio::select! {
            Some((repo, is_stored)) = answering.next(), if !answering.is_empty() => {
                busy.remove(&repo);
                // It is due as before.
                if !is_stored && super::pause(&mut stopped, AWAY).await {
                    break;
                }
            }
            () = known.heard.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
            _ = stopped.changed() => {}
        }
    }
    // What was begun is brought to its end.
    while answering.next().await.is_some() {}
}

/// Answers a command; whether what became of it could be stored.
async fn one(app: &App, known: &Known, command: &ForgeCommand) -> bool {
    let place = known.pull_name(&command.key.repo, command.pull.unsigned_abs());
    let stored = match answer(app, known, command).await {
        Ok(answered) => {
            let answer = stored(command, &answered);
            info!(forge = known.settings.name, "{place}: {}", answer.outcome);
            app.engine.store().forge_answered(command, &answer, app.engine.now()).await
        }
        Err(problem) if gives_up(&problem, command.attempts) => {
            warn!(forge = known.settings.name, "{place}: given up: {problem}");
            let next_step = if matches!(problem, Unanswered::Wrong(_)) {
                "Correct that on the trusted branch."
            } else {
                "Whoever runs this Assay finds more in its log."
            };
            let what = known.settings.scrub(&problem.to_string());
            let instead = Instead::Error { what: what.clone(), next_step: next_step.to_owned() };
            let answer = stored(command, &Answered::Told { outcome: what, instead: Some(instead) });
            app.engine.store().forge_answered(command, &answer, app.engine.now()).await
        }
        Err(problem) => {
            let at = app.engine.now().plus(pause(&problem, command.attempts));
            warn!(forge = known.settings.name, "{place}: {problem}; trying again at {}", at.rfc3339());
            let why = known.settings.scrub(&problem.to_string());
            app.engine.store().forge_command_later(&command.key, at, &why).await
        }
    };
    if let Err(problem) = &stored {
        // It is answered again at the next look; a run that was made for it is found again.
        warn!(forge = known.settings.name, error = %problem, "{place}: what became of a command was not stored");
    }
    known.answered.notify_one();
    stored.is_ok()
}

/// What is stored of an answer.
pub(super) fn stored_refusal(outcome: String, instead: Option<&Instead>) -> Answer {
    let standing = instead.and_then(|instead| serde_json::to_string(instead).ok()).unwrap_or_default();
    let note = instead.map(|instead| match instead {
        Instead::Refused { refused, .. } => note(refused),
        Instead::Error { what, .. } => format!("a command could not be taken up: {what}"),
    });
    let subject = instead.map(|_| Subject::Kept);
    Answer { outcome, has_run: false, subject, standing, note }
}

fn stored(command: &ForgeCommand, answered: &Answered) -> Answer {
    match answered {
        Answered::Told { outcome, instead } => stored_refusal(outcome.clone(), instead.as_ref()),
        Answered::Run(run) => Answer {
            outcome: format!("run {}", run.created.number),
            has_run: true,
            subject: Some(Subject::Run { comment: command.key.comment }),
            standing: String::new(),
            note: None,
        },
        Answered::Joined { number } => Answer {
            outcome: format!("run {number} tests that commit already"),
            has_run: false,
            subject: None,
            standing: String::new(),
            note: None,
        },
        // What was refused before is over with it.
        Answered::Images { outcome } => Answer {
            outcome: outcome.clone(),
            has_run: false,
            subject: Some(Subject::Kept),
            standing: String::new(),
            note: None,
        },
    }
}

/// Whether trying again is in vain.
pub(super) fn gives_up(problem: &Unanswered, attempts: u32) -> bool {
    let never = match problem {
        Unanswered::Forge(error) => error.advice() == Advice::Never,
        Unanswered::Mirror(MirrorError::NoTrusted(_)) | Unanswered::Wrong(_) => true,
        Unanswered::Engine(error) => {
            matches!(error, EngineError::Invalid(_) | EngineError::Refused(_) | EngineError::NotFound(_))
        }
        // A full disk is emptied some day, and what was asked is not forgotten until then.
        Unanswered::Store(_) | Unanswered::Here(_) => return false,
        Unanswered::Mirror(_) => false,
    };
    never || attempts + 1 >= TRIES
}

pub(super) fn pause(problem: &Unanswered, attempts: u32) -> Micros {
    let usual = Micros(FIRST_PAUSE.0.saturating_mul(1 << attempts.min(16))).min(LAST_PAUSE);
    match problem {
        Unanswered::Forge(error) => match error.advice() {
            Advice::Later { after: Some(after) } => {
                usual.max(Micros(i64::try_from(after.as_micros()).unwrap_or(i64::MAX)))
            }
            _ => usual,
        },
        _ => usual,
    }
}

async fn answer(app: &App, known: &Known, command: &ForgeCommand) -> Result<Answered, Unanswered> {
    // Created before a crash: then that is the answer.
    if let Some(run) = app.engine.store().view(command.run).await? {
        return Ok(Answered::Run(run));
    }
    let wrong =
        |what: &str| Unanswered::Wrong(format!("what is stored of the command does not read: {what}"));
    let said: Said = serde_json::from_str(&command.said).map_err(|e| wrong(&e.to_string()))?;
    let repo: RepoName = command.key.repo.parse().map_err(|_| wrong("the repository's name"))?;
    let Some(who) = command.author.as_deref().and_then(|author| author.parse::<Login>().ok()) else {
        return Ok(told("its author is gone", None));
    };
    if !may_ask(app, known, &repo, &who).await? {
        return Ok(refuse(app, known, &repo, command, who).await);
    }
    let refused = |refused: Refused| {
        let outcome = note(&refused);
        told(&outcome, Some(Instead::Refused { refused, by: Some(who.clone()) }))
    };
    match said {
        Said::Misunderstood { why } => Ok(refused(Refused::NotUnderstood { why })),
        Said::Command(Command::Cancel) => {
            let mut cancelled = cancel(app, known, command, &who).await?;
            let (of_images, any) = images::cancel(app, known, command, &who).await?;
            cancelled.extend(of_images);
            if cancelled.is_empty() && any {
                return Ok(Answered::Images { outcome: "withdrew what was asked for".to_owned() });
            }
            if cancelled.is_empty() {
                return Ok(refused(Refused::NothingToCancel));
            }
            let numbers: Vec<String> = cancelled.iter().map(ToString::to_string).collect();
            Ok(told(&format!("cancelled run {}", numbers.join(", ")), None))
        }
        Said::Command(Command::Test(wanted)) => {
            let pull = known.client.pull(&repo, command.pull.unsigned_abs()).await?;
            if pull.state != PullState::Open {
                return Ok(refused(Refused::NotOpen));
            }
            if pull.is_fork && known.settings.forks == Forks::Refuse {
                return Ok(refused(Refused::FromFork));
            }
            let word = images::by_word(app, known, command, (&repo, &who, &pull), &wanted).await?;
            if word.is_recipe {
                return Box::pin(test(app, known, command, &repo, &who, &pull, &wanted)).await;
            }
            if !images::is_whole(&wanted) {
                let why = "there is no recipe in this repository, and an image is tested as a whole: `!testme` alone";
                return Ok(refused(Refused::NotUnderstood { why: why.to_owned() }));
            }
            if word.images.is_empty() {
                return Ok(refused(Refused::NothingTouched));
            }
            Ok(Answered::Images { outcome: format!("asked for {}", word.images.join(", ")) })
        }
    }
}

fn told(outcome: &str, instead: Option<Instead>) -> Answered {
    Answered::Told { outcome: outcome.to_owned(), instead }
}

pub(super) async fn may_ask(
    app: &App,
    known: &Known,
    repo: &RepoName,
    who: &Login,
) -> Result<bool, ForgeError> {
    let (rules, now) = (&known.settings.authors, app.engine.now());
    authors::may_ask(&*known.client, &known.memory.authors, rules, repo, who, now).await
}

/// A stranger is told once per pull request, and then no more.
async fn refuse(app: &App, known: &Known, repo: &RepoName, command: &ForgeCommand, who: Login) -> Answered {
    let is_first = known.memory.authors().tell(repo, command.pull.unsigned_abs(), &who, app.engine.now());
    known.keep_memory(app).await;
    let outcome = format!("{who} may not ask");
    let who_may = known.settings.authors.who_may(repo);
    let refused = Refused::NotAllowed { who: who.clone(), who_may };
    told(&outcome, is_first.then_some(Instead::Refused { refused, by: Some(who) }))
}

/// The runs of the command's pull request that are not over, the latest first.
async fn open_runs(
    app: &App,
    command: &ForgeCommand,
) -> Result<Vec<(ForgeCommand, Arc<RunView>)>, Unanswered> {
    let (forge, repo) = (command.key.forge.clone(), command.key.repo.clone());
    let pull = PullKey { forge, repo, pull: command.pull };
    let mut open = Vec::new();
    for asked in app.engine.store().forge_commands_of(&pull, LATEST).await? {
        if let Some(run) = app.engine.store().view(asked.run).await?
            && !run.state().is_terminal()
        {
            open.push((asked, run));
        }
    }
    Ok(open)
}

async fn cancel(
    app: &App,
    known: &Known,
    command: &ForgeCommand,
    who: &Login,
) -> Result<Vec<i64>, Unanswered> {
    let mut cancelled = Vec::new();
    for (_, run) in open_runs(app, command).await? {
        cancel_run(app, known, &run, who).await?;
        cancelled.push(run.created.number);
    }
    Ok(cancelled)
}

/// Cancels a run in the name of somebody who has asked for it in its pull request.
pub(super) async fn cancel_run(
    app: &App,
    known: &Known,
    run: &RunView,
    who: &Login,
) -> Result<(), EngineError> {
    let decision = Decision {
        kind: DecisionKind::Cancel,
        by: requester(known, who),
        why: "asked for in the pull request".to_owned(),
        serials: Vec::new(),
    };
    match app.engine.decide(run.id, decision).await {
        // One that is being cancelled, or has ended this moment.
        Err(EngineError::Illegal(_)) => Ok(()),
        other => other.map(drop),
    }
}

/// Who asked, as runs name people of forges.
fn requester(known: &Known, who: &Login) -> String {
    format!("{who}@{}", known.settings.name)
}

async fn test(
    app: &App,
    known: &Known,
    command: &ForgeCommand,
    repo: &RepoName,
    who: &Login,
    pull: &Pull,
    wanted: &Wanted,
) -> Result<Answered, Unanswered> {
    let mirror = known.mirror(repo);
    mirror.fetch(pull.number).await?;
    let head = mirror.head(pull.number).await?;
    // Two people who ask for the same get the same.
    for (asked, run) in open_runs(app, command).await? {
        let same = serde_json::from_str(&asked.said)
            .is_ok_and(|said: Said| matches!(said, Said::Command(Command::Test(other)) if other == *wanted));
        if same && about::commit(&run).as_deref() == Some(&head) {
            return Ok(Answered::Joined { number: run.created.number });
        }
    }
    let trusted = mirror.trusted(known.settings.trusted.as_deref()).await?;
    let (spec, source) = spec(app, known, repo, pull, wanted, &mirror, &head, &trusted).await?;
    let request = RecipeRequest {
        spec,
        only: staged(&wanted.stages),
        runner: known.settings.runner.clone(),
        muted: Vec::new(),
        by: requester(known, who),
        asked: OnBehalf {
            priority: Priority::PullRequest,
            pull_request: Some(known.pull_name(&repo.to_string(), pull.number)),
        },
    };
    let run = app.engine.test_recipe_as(command.run, request).await?;
    app.engine.keep_source(run.id, &source).await?;
    Ok(Answered::Run(run))
}

/// Stages as the pipeline spells them.
fn staged(wanted: &[String]) -> Vec<String> {
    let all = recipe::STAGES.iter().map(|stage| stage.plan().name.0);
    all.filter(|name| wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))).collect()
}

#[expect(clippy::too_many_arguments, reason = "all that a recipe's run is made of")]
async fn spec(
    app: &App,
    known: &Known,
    repo: &RepoName,
    pull: &Pull,
    wanted: &Wanted,
    mirror: &Mirror,
    head: &str,
    trusted: &Trusted,
) -> Result<(RecipeSpec, Source), Unanswered> {
    let name = repo.name().to_string();
    let here = |what: &str, problem: &dyn std::fmt::Display| Unanswered::Here(format!("{what}: {problem}"));
    let scratch = tempfile::Builder::new()
        .prefix("assay-pull-")
        .tempdir_in(&known.mirrors)
        .map_err(|problem| here("a folder for the bundle", &problem))?;
    // Settings are the trusted branch's.
    let checkout = scratch.path().join(&name);
    let opened = Checkout::open(mirror.folder()).await;
    let opened = opened.map_err(|problem| here("the copy of the repository", &problem))?;
    let cloned = opened.clone_at(&trusted.commit, &checkout).await;
    cloned.map_err(|problem| here("a checkout of the trusted branch", &problem))?;
    let options = Options { extra: wanted.extra, skip_generic: false, required: false };
    let read = tokio::task::spawn_blocking(move || Customisation::of_recipe(&checkout, options)).await;
    let customisation = read
        .map_err(|problem| here("reading the settings", &problem))?
        .map_err(|problem| Unanswered::Wrong(format!("tests of {}: {problem}", trusted.name)))?;
    let bundle = scratch.path().join("source.bundle");
    mirror.bundle(head, &trusted.commit, &bundle).await?;
    let file = tokio::fs::File::open(&bundle).await.map_err(|problem| here("the bundle", &problem))?;
    let stream = ReaderStream::new(file).map_err(|problem| Box::new(problem) as Box<_>);
    let stream: futures::stream::BoxStream<
        'static,
        Result<bytes::Bytes, Box<dyn std::error::Error + Send + Sync>>,
    > = Box::pin(stream);
    let (digest, bytes) = app
        .engine
        .artifacts()
        .put_stream(stream, LARGEST, None)
        .await
        .map_err(|problem| here("storing the bundle", &problem))?;
    let source = Source {
        bundle: digest,
        bytes,
        of: known.pull_name(&repo.to_string(), pull.number),
        trusted: trusted.commit.clone(),
        trusted_ref: trusted.name.clone(),
        not_taken: mirror.not_taken(&trusted.commit, head).await?,
        fork: pull.is_fork.then(|| {
            pull.head_repo.as_ref().map_or_else(|| "one that is gone".to_owned(), ToString::to_string)
        }),
    };
    let mut manifest = Manifest::of(&customisation, &Redactor::default());
    let isolation = if pull.is_fork && known.settings.forks == Forks::Machine {
        manifest.switches.push("in_vm".to_owned());
        Isolation::Machine
    } else {
        Isolation::Namespaces
    };
    let spec = RecipeSpec {
        folder: name.clone().into(),
        commit: Some(head.to_owned()),
        source: Some(source.clone()),
        tests: None,
        settings: customisation.settings.settings.clone(),
        manifest,
        isolation,
        asked: Asked {
            quick: wanted.quick,
            extra: wanted.extra,
            allowed: known.settings.allow.get(&name).cloned().unwrap_or_default(),
            ..Asked::default()
        },
        stages: Vec::new(),
        seed: uuid::Uuid::new_v4().as_fields().0 & 0x00ff_ffff,
        invocation: vec![text::clean_to(&Command::Test(wanted.clone()).line(), 200)],
        harness: None,
        name,
    };
    Ok((spec, source))
}
