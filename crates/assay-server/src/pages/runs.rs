//! `/runs`: all runs, newest first.

use askama::Template;
use assay_api::operator::RunSummary;
use assay_model::{Micros, Pipeline, RunState};
use assay_store::RunFilter;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;

use super::format::{self, When};
use super::run_model;
use super::shell::{Badge, PageError, Shell, Signed, page as finished};
use crate::api::{detail, summary};
use crate::state::App;

/// Runs on one page.
const PAGE: u32 = 50;

#[derive(Template)]
#[template(path = "runs.html")]
struct RunsPage {
    shell: Shell,
    rows: Vec<RunLine>,
    states: Vec<(&'static str, bool)>,
    kinds: [(&'static str, &'static str, bool); 4],
    /// Where the next page begins.
    next: Option<String>,
    filtered: bool,
}

/// A run in a list.
pub(super) struct RunLine {
    pub(super) number: i64,
    pub(super) target: String,
    /// Its own page.
    pub(super) target_page: String,
    pub(super) badge: Badge,
    pub(super) profile: String,
    pub(super) when: When,
    pub(super) took: String,
    /// Where it failed, or what it waits for.
    pub(super) detail: String,
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    state: Option<String>,
    kind: Option<String>,
    before: Option<String>,
}

pub(super) async fn page(
    State(app): State<App>,
    Signed(operator): Signed,
    Query(wanted): Query<Wanted>,
) -> Result<Response, PageError> {
    // Anything else than a state or a number is as good as nothing: the list is shown whole.
    let state: Option<RunState> = wanted.state.as_deref().and_then(|s| s.parse().ok());
    let before: Option<i64> = wanted.before.as_deref().and_then(|n| n.parse().ok());
    let pipeline: Option<Pipeline> = wanted.kind.as_deref().and_then(|k| k.parse().ok());
    let filter = RunFilter { state, pipeline, limit: PAGE, before_number: before, ..RunFilter::default() };
    let rows = lines(&app, filter).await?;
    let next = (rows.len() == PAGE as usize).then(|| rows.last()).flatten().map(|last| {
        let state = state.map_or_else(String::new, |s| format!("&state={s}"));
        let kind = pipeline.map_or_else(String::new, |k| format!("&kind={k}"));
        format!("/runs?before={}{state}{kind}", last.number)
    });
    finished(&RunsPage {
        shell: Shell::new(&operator, "runs"),
        rows,
        states: RunState::ALL.into_iter().map(|s| (s.as_str(), state == Some(s))).collect(),
        kinds: [
            ("", "all", pipeline.is_none()),
            ("host", "machines", pipeline == Some(Pipeline::Host)),
            ("image", "images", pipeline == Some(Pipeline::Image)),
            ("recipe", "recipes", pipeline == Some(Pipeline::Recipe)),
        ],
        next,
        filtered: state.is_some() || pipeline.is_some() || before.is_some(),
    })
}

/// The runs that a filter lets through, ready for a list.
pub(super) async fn lines(app: &App, filter: RunFilter) -> Result<Vec<RunLine>, PageError> {
    let now = app.engine.now();
    let mut out = Vec::new();
    for row in app.engine.store().list_runs(filter).await? {
        let run = detail(app, row.number).await?;
        out.push(line(&summary(app, &run), Badge::run(&run_model::facts(&run)), run.started_at, now));
    }
    Ok(out)
}

fn line(run: &RunSummary, badge: Badge, started: Option<Micros>, now: Micros) -> RunLine {
    let detail = match (&run.waiting, &run.failed_stage) {
        (Some(why), _) => why.clone(),
        (None, Some(stage)) => format!("at {stage}"),
        (None, None) => String::new(),
    };
    let took = started.map_or_else(String::new, |at| {
        format::duration(run.completed_at.unwrap_or(now).since(at).as_seconds())
    });
    RunLine {
        number: run.number,
        target: run.target.clone(),
        target_page: format::target_page(run.on_host, run.pipeline, &run.target),
        badge,
        profile: run.profile.clone(),
        when: When::new(run.created_at, now),
        took,
        detail,
    }
}
