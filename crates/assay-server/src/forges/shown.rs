//! What operators see of forges.

use std::collections::BTreeMap;

use assay_api::forges::{Asked, Checked, Forge, Forges, Tried, Trouble};
use assay_forge::comment::note;
use assay_forge::{ForgeError, ForgeKind, ImageTrigger, RepoName, Since};
use assay_model::{Micros, text};
use assay_store::{ForgeCommand, ForgeImage};

use super::{Known, Said};
use crate::error::ApiError;
use crate::state::App;

/// Commands that are shown.
const LATEST: u32 = 50;

/// What does not work at present: by repository, or of the whole forge.
pub(super) type Troubles = BTreeMap<Option<RepoName>, (String, Micros)>;

/// What is listened to, and what was asked lately.
pub(crate) async fn overview(app: &App) -> Result<Forges, ApiError> {
    let mut forges = Vec::new();
    for known in &app.shared.forges.all {
        forges.push(known.shown(app.engine.now()).await);
    }
    let mut asked = Vec::new();
    for image in app.engine.store().forge_images_latest(LATEST).await? {
        let run = app.engine.store().view(image.run).await?.map(|run| run.created.number);
        asked.push(image_of(app, image, run));
    }
    for command in app.engine.store().forge_commands_latest(LATEST).await? {
        let run = app.engine.store().view(command.run).await?.map(|run| run.created.number);
        asked.push(asked_of(app, command, run));
    }
    asked.sort_by_key(|asked| std::cmp::Reverse(asked.heard_at));
    asked.truncate(LATEST as usize);
    Ok(Forges { forges, asked })
}

/// Asks a forge what our token may do. Nothing is written there.
pub(crate) async fn check(app: &App, name: &str) -> Result<Checked, ApiError> {
    let known = app.shared.forges.named(name).ok_or_else(|| {
        ApiError::not_found(format!("forge `{}`", text::clean_to(name, 60)))
            .hint("forges stand in forges.toml in the data folder: `assay forge list`")
    })?;
    let mut tried = Vec::new();
    let us = known.us().await;
    let told = match &us {
        Ok(us) => (true, format!("it belongs to {us}, who will write the comments")),
        Err(problem) => (false, problem.to_string()),
    };
    tried.push(Tried { what: "the token".to_owned(), ok: told.0, message: told.1 });
    let now = app.engine.now();
    for repo in &known.settings.repositories {
        let since = Since { at: now, page: 1, etag: None };
        let heard = known.client.comments(repo, &since).await.map(|_| "it can be read".to_owned());
        tried.push(of(format!("comments of {repo}"), heard));
    }
    if let (Ok(us), Some(repo)) = (&us, known.settings.repositories.first()) {
        let (rules, authors) = (&known.settings.authors, &known.memory.authors);
        let asked = assay_forge::authors::may_ask(&*known.client, authors, rules, repo, us, now).await;
        let answered = asked.map(|_| format!("can be asked: {}", rules.who_may(repo)));
        tried.push(of("who may ask".to_owned(), answered));
    }
    for repo in &known.settings.repositories {
        if let Some(note) = known.memory.permission().note(repo) {
            tried.push(Tried { what: format!("statuses in {repo}"), ok: false, message: note });
        }
    }
    Ok(Checked { token_of: us.ok().map(ToString::to_string), tried })
}

fn of(what: String, outcome: Result<String, ForgeError>) -> Tried {
    match outcome {
        Ok(message) => Tried { what, ok: true, message },
        Err(problem) => Tried { what, ok: false, message: problem.to_string() },
    }
}

impl Known {
    async fn shown(&self, now: Micros) -> Forge {
        let plan = self.poll.lock().await.plan(now);
        let settings = &self.settings;
        let (heard, pushed) = (self.troubles(), self.push_troubles());
        let troubles = heard.iter().chain(pushed.iter()).map(|(repo, (message, since))| Trouble {
            repository: repo.as_ref().map(ToString::to_string),
            message: message.clone(),
            since: *since,
        });
        let troubles = troubles.collect();
        drop((heard, pushed));
        let image = |image: &ImageTrigger| format!("{} of {}", image.name, image.repository);
        Forge {
            name: settings.name.clone(),
            kind: settings.kind.as_str().to_owned(),
            address: settings.address.clone(),
            repositories: settings.repositories.iter().map(ToString::to_string).collect(),
            who_may: settings
                .repositories
                .first()
                .map(|repo| settings.authors.who_may(repo))
                .unwrap_or_default(),
            trusted: settings.trusted.clone(),
            webhooks: match &settings.webhook {
                None => "none",
                Some(webhook) if webhook.register => "registered",
                Some(_) => "taken",
            }
            .to_owned(),
            every_s: (plan.hot_every_s, plan.quiet_every_s),
            calls_per_hour: (plan.calls_per_hour, plan.budget_per_hour),
            asked_last_hour: (plan.asked_last_hour, plan.counted_last_hour),
            troubles,
            images: settings.images.iter().map(image).collect(),
        }
    }
}

fn asked_of(app: &App, command: ForgeCommand, run: Option<i64>) -> Asked {
    let said = match serde_json::from_str(&command.said) {
        Ok(Said::Command(said)) => said.line(),
        Ok(Said::Misunderstood { why }) => note(&assay_forge::comment::Refused::NotUnderstood { why }),
        Err(_) => "does not read".to_owned(),
    };
    let page = page(app, &command.key.forge, &command.key.repo, command.pull);
    Asked {
        forge: command.key.forge,
        repository: command.key.repo,
        pull: command.pull,
        page,
        author: command.author.map(|author| text::clean_to(&author, 100)),
        said: text::clean_to(&said, 300),
        heard_at: command.heard_at,
        outcome: command.outcome.map(|outcome| text::clean_to(&outcome, 300)),
        tries: command.attempts,
        run,
    }
}

fn image_of(app: &App, image: ForgeImage, run: Option<i64>) -> Asked {
    let said = format!("{}: image {}", image.said, image.image);
    let outcome = image.outcome.unwrap_or_else(|| "waits for the word of somebody who may ask".to_owned());
    Asked {
        page: page(app, &image.pull.forge, &image.pull.repo, image.pull.pull),
        forge: image.pull.forge,
        repository: image.pull.repo,
        pull: image.pull.pull,
        author: image.author.map(|author| text::clean_to(&author, 100)),
        said: text::clean_to(&said, 300),
        heard_at: image.heard_at,
        outcome: Some(text::clean_to(&outcome, 300)),
        tries: image.attempts,
        run,
    }
}

/// Where people find a pull request.
fn page(app: &App, forge: &str, repo: &str, pull: i64) -> Option<String> {
    let settings = &app.shared.forges.named(forge)?.settings;
    let kind = match settings.kind {
        ForgeKind::Forgejo => "pulls",
        ForgeKind::GitHub => "pull",
    };
    Some(format!("{}/{repo}/{kind}/{pull}", settings.address))
}
