//! `/api/v1/images`: images, their history, and new runs over them.

use std::sync::Arc;

use assay_api::images::{Image, ImageChange, ImageFile, ImageHistory, ImageStage, ImageTest};
use assay_api::operator::{RunSummary, TestImage};
use assay_engine::changes::differences;
use assay_engine::images::{ImageRequest, OnHost};
use assay_engine::requests::{BOOT_TIMEOUT_S, HOLD_S};
use assay_model::{Micros, Pipeline, RunView, Severity, TargetId, text};
use assay_pipelines::image::ImageSpec;
use assay_store::{ImageRun, ImageSeen};
use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use crate::auth::Operator;
use crate::error::ApiError;
use crate::state::App;
use crate::wire::JsonBody;

/// Runs of each image in the list of images.
const EACH: u32 = 12;
/// Runs of one image in one answer.
const HISTORY: u32 = 30;
/// Most of them.
const MAX_HISTORY: u32 = 200;
/// Most changes of the image that are told with its history.
const MAX_CHANGES: usize = 5;
/// Most axes of a matrix, and the longest name or value of one.
const MAX_CELL: (usize, usize) = (16, 64);

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/images", get(list))
        .route("/api/v1/images/runs", post(test))
        .route("/api/v1/images/{name}", get(show))
}

/// Every image, those with the newest runs first.
pub(crate) async fn images(app: &App) -> Result<Vec<Image>, ApiError> {
    let mut out: Vec<Image> = Vec::new();
    for row in app.engine.store().images(EACH).await? {
        let (test, view) = test_of(app, row).await?;
        // What was installed on a host stands with that host: its name is no image's.
        if view.created.has_machine() {
            continue;
        }
        let name = &view.created.target.name;
        match out.iter_mut().find(|image| image.name == *name) {
            Some(image) => image.tests.push(test),
            None => out.push(Image { name: name.clone(), tests: vec![test] }),
        }
    }
    Ok(out)
}

/// One image and its runs, newest first.
pub(crate) async fn history(
    app: &App,
    name: &str,
    before: Option<i64>,
    limit: Option<u32>,
) -> Result<ImageHistory, ApiError> {
    let id = TargetId::named(Pipeline::Image, name);
    let limit = limit.unwrap_or(HISTORY).clamp(1, MAX_HISTORY);
    let rows = app.engine.store().image_runs(id, before, limit + 1).await?;
    if rows.is_empty() && before.is_none() {
        return Err(ApiError::not_found(format!("image `{}`", text::clean_to(name, 100))).hint(
            "images are known by the name in their profile once they were tested: `assay image list`",
        ));
    }
    let mut tests = Vec::new();
    let mut views: Vec<(Arc<RunView>, ImageSeen)> = Vec::new();
    for row in rows {
        let seen = row.image.clone();
        let (test, view) = test_of(app, row).await?;
        if let Some(seen) = seen.filter(|_| view.result.is_some()) {
            views.push((view, seen));
        }
        tests.push(test);
    }
    let more = tests.len() > limit as usize;
    // What the first run of this page is compared with may stand on the next one: it was read above.
    let changes = changes(&views);
    tests.truncate(limit as usize);
    let next = tests.last().filter(|_| more).map(|last| last.run.number);
    Ok(ImageHistory { name: name.to_owned(), tests, next, changes })
}

fn changes(newest_first: &[(Arc<RunView>, ImageSeen)]) -> Vec<ImageChange> {
    let pairs = newest_first.windows(2).filter(|pair| pair[0].1.digest != pair[1].1.digest);
    let told = pairs.take(MAX_CHANGES).map(|pair| {
        let ((after, new), (before, old)) = (&pair[0], &pair[1]);
        ImageChange {
            from: before.created.number,
            to: after.created.number,
            differences: differences((before, Some(old)), (after, Some(new))),
        }
    });
    told.collect()
}

async fn test_of(app: &App, row: ImageRun) -> Result<(ImageTest, Arc<RunView>), ApiError> {
    let view = app.engine.view(row.run.id).await?;
    let open = !view.state().is_terminal();
    let end = view.completed_at.unwrap_or_else(|| app.engine.now());
    let stage = |stage: &assay_model::view::StageView| ImageStage {
        name: stage.plan.name.0.clone(),
        verdict: stage.verdict(),
        seconds: stage.seconds(),
    };
    let test = ImageTest {
        run: super::summary(app, &view),
        image: row.image.map(|seen| ImageFile {
            sha256: seen.digest,
            bytes: seen.bytes,
            volume: seen.volume,
        }),
        checks_off: !view.created.muted.is_empty(),
        stages_left_out: !view.created.options.left_out.is_empty(),
        from_phase: view.created.options.from_phase.clone(),
        pull_request: view.created.options.asked.pull_request.clone(),
        code: code(&view),
        step: app.engine.live().step(view.id).filter(|_| open),
        seconds: view.started_at.map(|at: Micros| end.since(at).as_seconds()),
        stages: view.stages.iter().map(stage).collect(),
    };
    Ok((test, view))
}

/// Of the findings of the stage that failed the gravest; of several the first, which is the one that ended it.
pub(super) fn code(run: &RunView) -> Option<String> {
    let failed = run.failed_stage()?;
    let mut findings = run.findings();
    findings.retain(|f| f.severity >= Severity::Warning && f.stage.as_ref().is_none_or(|s| s == failed));
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    findings.into_iter().next().map(|f| f.code)
}

async fn list(State(app): State<App>, _: Operator) -> Result<Json<Vec<Image>>, ApiError> {
    Ok(Json(images(&app).await?))
}

#[derive(Deserialize)]
struct Page {
    before: Option<i64>,
    limit: Option<u32>,
}

async fn show(
    State(app): State<App>,
    _: Operator,
    Path(name): Path<String>,
    Query(page): Query<Page>,
) -> Result<Json<ImageHistory>, ApiError> {
    Ok(Json(history(&app, &name, page.before, page.limit).await?))
}

async fn test(
    State(app): State<App>,
    operator: Operator,
    JsonBody(asked): JsonBody<TestImage>,
) -> Result<Json<RunSummary>, ApiError> {
    let spec = ImageSpec::of(&asked.spec).map_err(ApiError::invalid)?;
    // What a client calls valid is checked again: it may be older than this server.
    spec.profile.checked().map_err(|e| ApiError::invalid(e.to_string()))?;
    check_cell(&spec)?;
    let request = ImageRequest { spec, runner: asked.runner, muted: asked.muted, by: operator.name };
    let run = match asked.on {
        None => app.engine.test_image(request).await?,
        Some(on) => {
            let host = super::hosts::find(&app, &on.host).await?;
            let how = OnHost {
                boot_timeout_s: on.boot_timeout_s.unwrap_or(BOOT_TIMEOUT_S),
                hold_s: on.hold_s.unwrap_or(HOLD_S),
                holds: !on.no_hold,
            };
            app.engine.test_image_on(&host, request, how).await?
        }
    };
    Ok(Json(super::summary(&app, &run)))
}

/// A cell becomes part of the image's name, which stands in addresses and in lists.
fn check_cell(spec: &ImageSpec) -> Result<(), ApiError> {
    let (axes, longest) = MAX_CELL;
    let plain = |word: &String| {
        let fits = !word.is_empty() && word.len() <= longest;
        fits && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
    };
    let good = spec.cell.len() <= axes && spec.cell.iter().all(|(axis, value)| plain(axis) && plain(value));
    if good {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "a cell of a matrix has at most {axes} axes; names and values are letters, digits, `.`, `_`, `+` and `-`, at \
         most {longest}"
    )))
}
