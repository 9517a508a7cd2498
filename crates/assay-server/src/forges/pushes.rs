//! Looks for commits that pull requests have got since, and stores which images they ask for.
//!
//! Which commits there are is asked of Git (`ls-remote`), and which files one changes of the copy of the repository: neither is a
//! call that a forge counts. Only of a commit that was not looked at the forge is asked whose it is. That it was looked at is stored
//! with what it asks for, so each asks once. What is there when a repository is looked at first asks for nothing.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use assay_forge::{ForgeError, Forks, ImageTrigger, Pull, PullState, RepoName};
use assay_model::{Micros, RunId};
use assay_store::{ForgeImageState, NewForgeImage, Pushed};
use tokio::sync::watch;
use tracing::{info, warn};

use super::Known;
use super::answer::{self, Instead, Unanswered};
use super::images::{Meanwhile, PUSH};
use super::mirror::Mirror;
use crate::state::App;

/// After a commit that could not be looked at; doubled each time, up to the last.
const FIRST_PAUSE: Micros = Micros::seconds(10);
const LAST_PAUSE: Micros = Micros::seconds(900);

/// Commits that could not be looked at: when again, and after how many failures.
type Patience = HashMap<(RepoName, u64), (Micros, u32)>;

/// Looks until it is told to stop.
pub(super) async fn run(app: &App, known: &Arc<Known>, mut stopped: watch::Receiver<bool>) {
    let repos: BTreeSet<&RepoName> = known.settings.images.iter().map(|image| &image.repository).collect();
    if repos.is_empty() {
        return;
    }
    let every = u64::try_from(known.settings.budget.shortest.0).unwrap_or(0);
    let mut patience = Patience::new();
    while !*stopped.borrow() {
        for repo in &repos {
            let looked = look(app, known, repo, &mut patience).await;
            let mut troubles = known.push_troubles();
            match looked {
                Ok(true) => drop(troubles.remove(&Some((*repo).clone()))),
                // What went wrong with one is not tried again yet.
                Ok(false) => {}
                Err(problem) => {
                    let message = known.settings.scrub(&format!("new commits of {repo}: {problem}"));
                    match troubles.entry(Some((*repo).clone())) {
                        // Said once, and shown since it began.
                        Entry::Occupied(mut known) => known.get_mut().0 = message,
                        Entry::Vacant(new) => {
                            warn!(forge = known.settings.name, %repo, "{message}; trying again");
                            new.insert((message, app.engine.now()));
                        }
                    }
                }
            }
        }
        tokio::select! {
            () = known.pushed.notified() => {}
            () = tokio::time::sleep(Duration::from_micros(every)) => {}
            _ = stopped.changed() => {}
        }
    }
}

/// Looks at a repository once; whether every commit was looked at. The error is that of the first that could not be; the others are
/// all the same.
async fn look(
    app: &App,
    known: &Known,
    repo: &RepoName,
    patience: &mut Patience,
) -> Result<bool, Unanswered> {
    let (store, name) = (app.engine.store(), known.settings.name.as_str());
    let seen: BTreeMap<i64, String> = store.forge_heads(name, &repo.to_string()).await?.into_iter().collect();
    let mirror = known.mirror(repo);
    let heads = mirror.heads().await?;
    let number = |pull: u64| i64::try_from(pull).unwrap_or(i64::MAX);
    let stored = |heads: Vec<(i64, String)>, images: Vec<NewForgeImage>| Pushed {
        forge: name.to_owned(),
        repo: repo.to_string(),
        heads,
        images,
    };
    if seen.is_empty() {
        let known_now = heads.into_iter().map(|(pull, head)| (number(pull), head)).collect();
        store.forge_pushed(&stored(known_now, Vec::new()), app.engine.now()).await?;
        return Ok(true);
    }
    let (mut first_problem, mut all) = (None, true);
    for (pull, head) in heads {
        if seen.get(&number(pull)) == Some(&head) {
            continue;
        }
        let key = (repo.clone(), pull);
        let now = app.engine.now();
        if patience.get(&key).is_some_and(|(until, _)| *until > now) {
            all = false;
            continue;
        }
        match asks(app, known, repo, &mirror, pull).await {
            Ok((looked_at, images)) => {
                patience.remove(&key);
                let asked = images.len();
                // What has come since the list was read is looked at next time.
                let head = looked_at.unwrap_or(head);
                let pushed = stored(vec![(number(pull), head)], images);
                store.forge_pushed(&pushed, app.engine.now()).await?;
                if asked > 0 {
                    let place = known.pull_name(&repo.to_string(), pull);
                    info!(forge = name, "{place}: a push asks for {asked} images");
                    known.asked_images.notify_one();
                    known.answered.notify_one();
                }
            }
            Err(problem) => {
                let failures = patience.get(&key).map_or(0, |(_, failures)| *failures);
                let pause = Micros(FIRST_PAUSE.0.saturating_mul(1 << failures.min(16))).min(LAST_PAUSE);
                patience.insert(key, (now.plus(pause), failures + 1));
                first_problem.get_or_insert(problem);
            }
        }
    }
    first_problem.map_or(Ok(all), Err)
}

/// The commit that a pull request has now, and what it asks for.
async fn asks(
    app: &App,
    known: &Known,
    repo: &RepoName,
    mirror: &Mirror,
    number: u64,
) -> Result<(Option<String>, Vec<NewForgeImage>), Unanswered> {
    let pull = match known.client.pull(repo, number).await {
        Ok(pull) if pull.state == PullState::Open => pull,
        // Forges keep the commits of pull requests that are over, and of some that are none.
        Ok(_) | Err(ForgeError::NotFound { .. }) => return Ok((None, Vec::new())),
        Err(problem) => return Err(problem.into()),
    };
    mirror.fetch(number).await?;
    let head = mirror.head(number).await?;
    let touched = touched(known, repo, mirror, &pull, &head).await?;
    if touched.is_empty() {
        return Ok((Some(head), Vec::new()));
    }
    let (state, standing) = if pull.is_fork && known.settings.forks == Forks::Refuse {
        let refused = assay_forge::comment::Refused::FromFork;
        let instead = Instead::Refused { refused, by: pull.author.clone() };
        (ForgeImageState::Closed, Meanwhile::Instead(instead))
    } else if may_start(app, known, repo, &pull).await? {
        (ForgeImageState::Open, Meanwhile::Soon)
    } else {
        let who_may = known.settings.authors.who_may(repo);
        (ForgeImageState::Waits, Meanwhile::Word { who: pull.author.clone(), who_may })
    };
    let images = touched.into_iter().map(|image| NewForgeImage {
        run: RunId(uuid::Uuid::now_v7()),
        pull: i64::try_from(number).unwrap_or(i64::MAX),
        image: image.name.clone(),
        head: head.clone(),
        author: pull.author.as_ref().map(ToString::to_string),
        said: PUSH.to_owned(),
        state,
        standing: standing.text(),
    });
    let images = images.collect();
    Ok((Some(head), images))
}

/// The images whose sources a pull request's commit changes, against the branch that it is to go into.
pub(super) async fn touched<'a>(
    known: &'a Known,
    repo: &RepoName,
    mirror: &Mirror,
    pull: &Pull,
    head: &str,
) -> Result<Vec<&'a ImageTrigger>, Unanswered> {
    let changed = mirror.changed(&format!("refs/heads/{}", pull.base_ref), head, &[]).await?;
    let images = known.settings.images.iter().filter(|image| image.repository == *repo);
    Ok(images.filter(|image| image.is_touched_by(&changed)).collect())
}

/// Whether a push starts anything by itself: the pull request is of somebody who may ask, and of nobody else's fork.
async fn may_start(app: &App, known: &Known, repo: &RepoName, pull: &Pull) -> Result<bool, ForgeError> {
    let Some(author) = &pull.author else { return Ok(false) };
    let owner = pull.head_repo.as_ref().map(|from| from.owner().as_str());
    if pull.is_fork && !owner.is_some_and(|owner| owner.eq_ignore_ascii_case(author.as_str())) {
        return Ok(false);
    }
    answer::may_ask(app, known, repo, author).await
}
