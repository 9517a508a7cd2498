//! `/api/v1/runs`: runs, decisions, reports, evidence.

use std::collections::BTreeMap;
use std::sync::Arc;

use assay_api::operator::{Decide, RunDetail, RunSummary};
use assay_model::report::Report;
use assay_model::{Decision, DecisionKind, Pipeline, RunId, RunState, RunView, Sha256, TargetId, text};
use assay_store::{RunFilter, RunRow};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use super::queue::whole_seconds;
use crate::auth::Operator;
use crate::error::ApiError;
use crate::state::App;
use crate::wire::JsonBody;

/// Most disks in one permit.
const MAX_DISKS: usize = 256;
/// How a picture begins.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Most runs in one answer.
const MAX_LIST: u32 = 500;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/runs", get(list))
        .route("/api/v1/runs/{number}", get(show))
        .route("/api/v1/runs/{number}/decisions", post(decide))
        .route("/api/v1/runs/{number}/pin", put(pin).delete(unpin))
        .route("/api/v1/runs/{number}/report.json", get(report_json))
        .route("/api/v1/runs/{number}/report.html", get(report_html))
        .route("/api/v1/runs/{number}/results.json", get(results_json))
        .route("/api/v1/runs/{number}/bundle", get(bundle))
        .route("/api/v1/runs/{number}/artifacts/{name}", get(artifact))
}

#[derive(Deserialize)]
struct ListQuery {
    host: Option<String>,
    image: Option<String>,
    recipe: Option<String>,
    pipeline: Option<Pipeline>,
    state: Option<RunState>,
    limit: Option<u32>,
    before: Option<i64>,
}

async fn list(
    State(app): State<App>,
    _: Operator,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<RunSummary>>, ApiError> {
    let store = app.engine.store();
    let target = if let Some(name) = query.host {
        let row = store.host_by_name(&name).await?;
        Some(row.ok_or_else(|| ApiError::not_found(format!("host `{name}`")))?.id.into())
    } else {
        let image = query.image.map(|name| TargetId::named(Pipeline::Image, &name));
        image.or_else(|| query.recipe.map(|name| TargetId::named(Pipeline::Recipe, &name)))
    };
    let filter = RunFilter {
        target,
        pipeline: query.pipeline,
        state: query.state,
        limit: query.limit.unwrap_or(50).min(MAX_LIST),
        before_number: query.before,
    };
    let mut out = Vec::new();
    for row in store.list_runs(filter).await? {
        out.push(match row.state {
            RunState::Queued => summary(&app, &*app.engine.view(row.id).await?),
            _ => row_summary(row, None),
        });
    }
    Ok(Json(out))
}

async fn show(
    State(app): State<App>,
    _: Operator,
    Path(number): Path<i64>,
) -> Result<Json<RunDetail>, ApiError> {
    let run = detail(&app, number).await?;
    Ok(Json(RunDetail {
        summary: summary(&app, &run),
        report: Report::of(&run),
        seq: run.seq,
        hold_until: run.hold_until,
        step: app.engine.live().step(run.id),
    }))
}

async fn decide(
    State(app): State<App>,
    operator: Operator,
    Path(number): Path<i64>,
    JsonBody(decide): JsonBody<Decide>,
) -> Result<Json<RunSummary>, ApiError> {
    let run = detail(&app, number).await?;
    let view = decided(&app, run.id, &operator, decide).await?;
    Ok(Json(summary(&app, &view)))
}

/// Keeps the run's files whatever retention says.
async fn pin(
    State(app): State<App>,
    operator: Operator,
    Path(number): Path<i64>,
) -> Result<StatusCode, ApiError> {
    let run = detail(&app, number).await?;
    app.engine.pin(run.id, Some(&operator.name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn unpin(State(app): State<App>, _: Operator, Path(number): Path<i64>) -> Result<StatusCode, ApiError> {
    let run = detail(&app, number).await?;
    app.engine.pin(run.id, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Records a decision; one that names disks stands in the audit trail with their serial numbers.
pub(crate) async fn decided(
    app: &App,
    run: RunId,
    operator: &Operator,
    decide: Decide,
) -> Result<Arc<RunView>, ApiError> {
    if decide.serials.len() > MAX_DISKS || decide.serials.iter().any(|serial| serial.len() > 128) {
        return Err(ApiError::invalid(format!(
            "a permit names at most {MAX_DISKS} disks, each with at most 128 letters"
        )));
    }
    let why = text::clean_to(&decide.why, 1000);
    let decision = Decision { kind: decide.kind, by: operator.name.clone(), why, serials: decide.serials };
    let view = app.engine.decide(run, decision).await?;
    if decide.kind == DecisionKind::Permit
        && let Some(made) = view.decisions.last()
    {
        let Decision { by, why, serials, .. } = &made.decision;
        let detail = json!({ "run": view.created.number, "host": view.created.target.name, "disks": serials, "why": why });
        app.engine.store().audit(app.engine.now(), by, "permit to erase", &detail).await?;
    }
    Ok(view)
}

async fn report_json(
    State(app): State<App>,
    _: Operator,
    Path(number): Path<i64>,
) -> Result<Response, ApiError> {
    let run = detail(&app, number).await?;
    let text = assay_report::json(&Report::of(&run));
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

/// What a recipe's run came to; `schemas/recipe-results.schema.json`.
async fn results_json(
    State(app): State<App>,
    _: Operator,
    Path(number): Path<i64>,
) -> Result<Response, ApiError> {
    let run = detail(&app, number).await?;
    if run.created.pipeline != Pipeline::Recipe {
        return Err(ApiError::not_found(format!("results of run {number}"))
            .hint("only runs of recipes have results.json; every run has report.json"));
    }
    let results = app.engine.recipe_results(&run).await?;
    let mut text = serde_json::to_string_pretty(&results).map_err(|e| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "results", format!("results do not serialise: {e}"))
    })?;
    text.push('\n');
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

async fn report_html(
    State(app): State<App>,
    _: Operator,
    Path(number): Path<i64>,
    Query(Shown { linked }): Query<Shown>,
) -> Result<Html<String>, ApiError> {
    let run = detail(&app, number).await?;
    Ok(Html(crate::sealer::render_html(&app.engine.report_facts(&run).await?, linked)))
}

/// How a report is to be shown.
#[derive(Deserialize)]
struct Shown {
    /// With links to other pages; a file that is kept has none.
    #[serde(default)]
    linked: bool,
}

async fn bundle(State(app): State<App>, _: Operator, Path(number): Path<i64>) -> Result<Response, ApiError> {
    let run = detail(&app, number).await?;
    let tar = evidence_bundle(&app, &run).await?;
    let name = format!("attachment; filename=\"assay-run-{number}.tar\"");
    Ok(([(CONTENT_TYPE, "application/x-tar".to_owned()), (CONTENT_DISPOSITION, name)], tar).into_response())
}

async fn artifact(
    State(app): State<App>,
    _: Operator,
    Path((number, name)): Path<(i64, String)>,
) -> Result<Response, ApiError> {
    let run = detail(&app, number).await?;
    let digest = match run.artifacts.iter().rfind(|a| a.name == name) {
        Some(found) => Some(found.digest),
        None => app.engine.late_transcript_digest(run.id, &name).await?,
    };
    let digest = digest.ok_or_else(|| ApiError::not_found(format!("artifact `{name}` in run {number}")))?;
    let bytes = app.engine.artifacts().get(digest).await?;
    // Text a machine chose: never let a browser take it for a page. A picture is drawn, not run.
    let ends =
        |end: &str| std::path::Path::new(&name).extension().is_some_and(|e| e.eq_ignore_ascii_case(end));
    let (shown, kind) = match () {
        () if ends("png") && bytes.starts_with(PNG) => ("inline", "image/png"),
        () if ends("json") => ("attachment", "application/json"),
        () if ends("bundle") || ends("tar") => ("attachment", "application/octet-stream"),
        () => ("attachment", "text/plain; charset=utf-8"),
    };
    let disposition = format!("{shown}; filename=\"{name}\"");
    Ok(([(CONTENT_TYPE, kind.to_owned()), (CONTENT_DISPOSITION, disposition)], bytes).into_response())
}

/// Everything that `assay verify` needs, as a tar.
async fn evidence_bundle(app: &App, run: &Arc<RunView>) -> Result<Vec<u8>, ApiError> {
    let store = app.engine.store();
    let evidence =
        run.stages.iter().flat_map(|s| &s.attempts).filter_map(|a| Some(a.evidence.as_ref()?.digest));
    let mut blobs = BTreeMap::new();
    for digest in run.artifacts.iter().map(|a| a.digest).chain(evidence) {
        // A blob that is gone is left out; `assay verify` names it.
        if let Ok(bytes) = app.engine.artifacts().get(digest).await {
            blobs.insert(digest, bytes);
        }
    }
    let facts = app.engine.report_facts(run).await?;
    let journal = store.journal(run.id).await?;
    let addenda = store.addenda(run.id).await?;
    let mut source = |digest: &Sha256| Ok(blobs.get(digest).map(|bytes| bytes.to_vec()));
    crate::sealer::bundle(&facts, &journal, &addenda, &mut source, &app.shared.key)
        .map_err(|e| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "bundle", e))
}

/// A run by its number, folded.
pub(crate) async fn detail(app: &App, number: i64) -> Result<Arc<RunView>, ApiError> {
    let id = app.engine.store().run_id(number).await?;
    let id = id.ok_or_else(|| ApiError::not_found(format!("run {number}")).hint("see `assay run list`"))?;
    Ok(app.engine.view(id).await?)
}

/// A run as it stands in lists.
pub(crate) fn summary(app: &App, run: &RunView) -> RunSummary {
    let running = run.state() == RunState::Running;
    let place = app.engine.place(run);
    RunSummary {
        number: run.created.number,
        id: run.id.to_string(),
        target: run.created.target.name.clone(),
        pipeline: run.created.pipeline,
        on_host: run.created.has_machine(),
        profile: run.created.profile.clone(),
        state: run.state(),
        result: run.result,
        overridden: run.overridden,
        stage: running.then(|| run.current_stage().map(|s| s.plan.name.0.clone())).flatten(),
        failed_stage: run.failed_stage().map(str::to_owned),
        created_at: run.created_at,
        completed_at: run.completed_at,
        waiting: app.engine.waits_for(run),
        position: place.as_ref().and_then(|wait| wait.position),
        starts_in_s: place.and_then(|wait| wait.starts_in).map(whole_seconds),
    }
}

/// The same from a row.
pub(super) fn row_summary(row: RunRow, waiting: Option<String>) -> RunSummary {
    RunSummary {
        number: row.number,
        id: row.id.to_string(),
        // An image or a recipe goes by its name; a host has an id of its own.
        on_host: row.target_id != TargetId::named(row.pipeline, &row.target),
        target: row.target,
        pipeline: row.pipeline,
        profile: row.profile,
        state: row.state,
        result: row.result,
        overridden: row.overridden,
        stage: if row.state == RunState::Running { row.stage_name } else { None },
        failed_stage: row.failed_stage,
        created_at: row.created_at,
        completed_at: row.completed_at,
        waiting,
        position: None,
        starts_in_s: None,
    }
}
