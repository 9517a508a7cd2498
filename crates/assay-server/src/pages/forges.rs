//! `/forges`: which repositories are listened to, what does not work, and what was asked in pull requests.

use askama::Template;
use assay_api::forges::{Asked, Forge, Forges};
use assay_model::Micros;
use assay_model::text::plural;
use axum::extract::State;
use axum::response::Response;

use super::format::When;
use super::shell::{PageError, Shell, Signed, page as finished};
use crate::forges;
use crate::state::App;

#[derive(Template)]
#[template(path = "forges.html", blocks = ["state"])]
struct ForgesPage {
    shell: Shell,
    forges: Vec<ForgeCard>,
    asked: Vec<AskedLine>,
}

struct ForgeCard {
    name: String,
    address: String,
    facts: Vec<(&'static str, String)>,
    repositories: Vec<String>,
    troubles: Vec<(String, When)>,
}

struct AskedLine {
    place: String,
    page: Option<String>,
    author: String,
    said: String,
    when: When,
    outcome: String,
    run: Option<i64>,
}

pub(super) async fn page(State(app): State<App>, Signed(operator): Signed) -> Result<Response, PageError> {
    finished(&draw(Shell::new(&operator, "forges"), forges::overview(&app).await?, app.engine.now()))
}

/// The part that changes, alone.
pub(super) async fn fragment(
    State(app): State<App>,
    Signed(operator): Signed,
) -> Result<Response, PageError> {
    let whole = draw(Shell::new(&operator, "forges"), forges::overview(&app).await?, app.engine.now());
    finished(&whole.as_state())
}

fn draw(shell: Shell, all: Forges, now: Micros) -> ForgesPage {
    ForgesPage {
        shell,
        forges: all.forges.into_iter().map(|forge| card(forge, now)).collect(),
        asked: all.asked.into_iter().map(|asked| line(asked, now)).collect(),
    }
}

fn card(forge: Forge, now: Micros) -> ForgeCard {
    let (hot, quiet) = forge.every_s;
    let (calls, budget) = forge.calls_per_hour;
    let (asked, counted) = forge.asked_last_hour;
    let mut facts = vec![
        ("Who may ask", forge.who_may),
        ("Tests from", forge.trusted.unwrap_or_else(|| "each repository's first branch".to_owned())),
        ("Asked every", format!("{hot} s where something was said lately, {quiet} s elsewhere")),
        (
            "Questions",
            format!("{calls} an hour of {budget}; {asked} in the last hour, {counted} of them counted there"),
        ),
        ("Webhooks", forge.webhooks),
    ];
    if !forge.images.is_empty() {
        facts.push(("Images asked for by a push", forge.images.join(", ")));
    }
    let troubles = forge.troubles.into_iter().map(|trouble| (trouble.message, When::new(trouble.since, now)));
    ForgeCard {
        name: forge.name,
        address: forge.address,
        facts,
        repositories: forge.repositories,
        troubles: troubles.collect(),
    }
}

fn line(asked: Asked, now: Micros) -> AskedLine {
    let outcome = match (asked.outcome, asked.tries) {
        (Some(outcome), 0) => outcome,
        (Some(outcome), tries) => format!("{outcome} ({})", plural(tries as usize, "try")),
        (None, _) => "being looked at".to_owned(),
    };
    AskedLine {
        place: format!("{}#{}", asked.repository, asked.pull),
        page: asked.page,
        author: asked.author.unwrap_or_else(|| "somebody who is gone".to_owned()),
        said: asked.said,
        when: When::new(asked.heard_at, now),
        outcome,
        run: asked.run,
    }
}
