//! Hears what is said in a forge's repositories, and stores what asks for something together with how far it was heard.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use assay_forge::command::{self, Parsed};
use assay_forge::poll::{Action, RepoState};
use assay_forge::{Comment, ForgeError, Heard, RepoName, Since};
use assay_model::{Micros, RunId};
use assay_pipelines::recipe;
use assay_store::{Heard as Stored, NewCommand, StoreError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::{AWAY, Known, Said};
use crate::state::App;

/// Questions that are under way at once: one slow answer holds up no other repository.
const AT_ONCE: usize = 4;
/// Longest time between two looks at what is to be done.
const LOOK: Duration = Duration::from_secs(30);

type Asked = (RepoName, Since, Result<Heard, ForgeError>);

/// Listens until it is told to stop.
pub(super) async fn run(app: &App, known: &Arc<Known>, mut stopped: watch::Receiver<bool>) {
    let mut asking: JoinSet<Asked> = JoinSet::new();
    let mut busy = BTreeSet::new();
    while !*stopped.borrow() {
        let action = if busy.len() < AT_ONCE {
            known.poll.lock().await.next(app.engine.now(), &busy)
        } else {
            Action::Wait { until: app.engine.now().plus(Micros::seconds(30)) }
        };
        match action {
            Action::Ask { repo, since } => {
                busy.insert(repo.clone());
                let client = Arc::clone(&known.client);
                asking.spawn(async move {
                    let heard = client.comments(&repo, &since).await;
                    (repo, since, heard)
                });
            }
            Action::Nothing => return,
            Action::Wait { until } => {
                let left = u64::try_from(until.since(app.engine.now()).0).unwrap_or(0);
                let left = Duration::from_micros(left).clamp(Duration::from_millis(10), LOOK);
                tokio::select! {
                    Some(Ok((repo, since, heard))) = asking.join_next(), if !asking.is_empty() => {
                        busy.remove(&repo);
                        if !take(app, known, &repo, &since, heard).await && super::pause(&mut stopped, AWAY).await {
                            return;
                        }
                    }
                    () = tokio::time::sleep(left) => {}
                    _ = stopped.changed() => {}
                }
            }
        }
    }
}

/// Takes an answer; whether what came of it could be stored.
async fn take(
    app: &App,
    known: &Known,
    repo: &RepoName,
    since: &Since,
    heard: Result<Heard, ForgeError>,
) -> bool {
    let now = app.engine.now();
    let mut poll = known.poll.lock().await;
    let heard = match heard {
        Ok(heard) => heard,
        Err(error) => {
            if let Some(trouble) = poll.failed(repo, &error, now) {
                warn!(forge = known.settings.name, "{}", trouble.message);
                known.troubles().insert(trouble.repo, (trouble.message, now));
            }
            return true;
        }
    };
    known.troubles().retain(|of, _| of.as_ref().is_some_and(|of| of != repo));
    let before = poll.part(repo).cloned();
    let news = poll.heard(repo, since, heard, known.client.meter().rate, now);
    if news.too_large > 0 {
        warn!(forge = known.settings.name, %repo, "{} comments are too large to be read", news.too_large);
    }
    if !news.must_keep {
        return true;
    }
    let commands = commands(&news.fresh);
    let stored = store(app, known, repo, poll.part(repo), commands).await;
    if let (Err(problem), Some(before)) = (&stored, before) {
        warn!(forge = known.settings.name, %repo, error = %problem, "what was said could not be stored; it is heard again");
        poll.put(repo.clone(), before);
    }
    stored.is_ok()
}

/// Takes a comment that a webhook brought; whether it was new.
pub(super) async fn hooked(
    app: &App,
    known: &Known,
    repo: &RepoName,
    comment: Comment,
) -> Result<bool, StoreError> {
    let mut poll = known.poll.lock().await;
    let before = poll.part(repo).cloned();
    let novelty = poll.hooked(repo, &comment, app.engine.now());
    if novelty != Some(assay_forge::Novelty::Fresh) {
        return Ok(false);
    }
    let stored = store(app, known, repo, poll.part(repo), commands(&[comment])).await;
    if let (Err(_), Some(before)) = (&stored, before) {
        poll.put(repo.clone(), before);
    }
    stored.map(|()| true)
}

async fn store(
    app: &App,
    known: &Known,
    repo: &RepoName,
    part: Option<&RepoState>,
    commands: Vec<NewCommand>,
) -> Result<(), StoreError> {
    // A repository that is not watched any more has no part, and nothing is asked there.
    let Some(part) = part.and_then(|part| serde_json::to_string(part).ok()) else { return Ok(()) };
    let asked = commands.len();
    let heard = Stored { forge: known.settings.name.clone(), repo: repo.to_string(), part, commands };
    app.engine.store().forge_heard(&heard, app.engine.now()).await?;
    if asked > 0 {
        info!(forge = known.settings.name, %repo, "heard {asked} commands");
        known.heard.notify_one();
    }
    Ok(())
}

/// The comments that ask for something.
fn commands(fresh: &[Comment]) -> Vec<NewCommand> {
    let stages = stages();
    let stages: Vec<&str> = stages.iter().map(String::as_str).collect();
    let asked = fresh.iter().filter(|comment| comment.on_pull).filter_map(|comment| {
        let said = match command::parse(&comment.body, &stages) {
            Parsed::Nothing => return None,
            Parsed::Command(command) => Said::Command(command),
            Parsed::Misunderstood(misunderstood) => Said::Misunderstood { why: misunderstood.why },
        };
        Some(NewCommand {
            comment: i64::try_from(comment.id).ok()?,
            pull: i64::try_from(comment.number).ok()?,
            author: comment.author.as_ref().map(ToString::to_string),
            said: serde_json::to_string(&said).ok()?,
            run: RunId(uuid::Uuid::now_v7()),
        })
    });
    asked.collect()
}

/// The stages that a command may name, as people write them there.
pub(super) fn stages() -> Vec<String> {
    recipe::STAGES.iter().map(|stage| stage.plan().name.0.to_ascii_lowercase()).collect()
}

/// Sees to it that deliveries come, where the settings ask for it. Nobody waits for it: of hundreds of repositories it takes
/// minutes, and longer at a slow forge.
pub(super) async fn keep_hooks(app: &App, known: &Known, stopped: watch::Receiver<bool>) {
    let Some(webhook) = known.settings.webhook.as_ref().filter(|webhook| webhook.register) else { return };
    let Some(base_url) = app.shared.forges.base_url.as_deref() else { return };
    let wanted = assay_forge::HookWanted {
        url: format!("{base_url}{}", super::hook::path(&known.settings.name)),
        secret: webhook.secret.clone(),
    };
    for repo in &known.settings.repositories {
        if *stopped.borrow() {
            return;
        }
        match known.client.keep_hook(repo, &wanted).await {
            Ok(kept) => info!(forge = known.settings.name, %repo, "webhook: {kept:?}"),
            Err(problem) => {
                warn!(forge = known.settings.name, %repo, "no webhook; polling goes on without: {problem}");
            }
        }
    }
}
