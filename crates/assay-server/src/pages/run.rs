//! `/runs/{number}`: one run, live.

use std::fmt::Write as _;

use askama::Template;
use assay_api::operator::Decide;
use assay_model::host::spec::Limits;
use assay_model::{DecisionKind, Pipeline, RunView, text};
use axum::Form;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;

use super::image_model::ImageParts;
use super::run_model::{Now, RunModel};
use super::shell::{PageError, Shell, Signed, page as finished, see_other};
use crate::api::{decided, detail};
use crate::error::ApiError;
use crate::state::App;

/// Most journal lines on the page; the bundle has them all.
const JOURNAL_LINES: u32 = 300;
/// How many chunks of the log come along with a page; `log.txt` has them all.
const LOG_CHUNKS: i64 = 400;
/// Chunks read from the database at once.
const LOG_PAGE: u32 = 200;

#[derive(Template)]
#[template(path = "run.html", blocks = ["state"])]
struct RunPage {
    shell: Shell,
    run: RunModel,
    /// What only a run of an image has.
    image: Option<ImageParts>,
    /// Where the live stream goes on from what is on the page.
    cursor: String,
    /// The temperature that the host may not exceed, for the chart.
    max_temp_c: u32,
    now_ms: i64,
}

#[derive(Deserialize)]
pub(super) struct DecideForm {
    kind: String,
    #[serde(default)]
    why: String,
    /// For a permit: serial numbers as they were typed, one a line.
    #[serde(default)]
    disks: String,
}

pub(super) async fn page(
    State(app): State<App>,
    Signed(operator): Signed,
    Path(number): Path<String>,
) -> Result<Response, PageError> {
    let page = drawn(&app, Shell::new(&operator, "runs"), &number).await?;
    finished(&page)
}

/// The part that changes, alone; a page that is open asks for it whenever the journal grows.
pub(super) async fn fragment(
    State(app): State<App>,
    Signed(operator): Signed,
    Path(number): Path<String>,
) -> Result<Response, PageError> {
    let whole = drawn(&app, Shell::new(&operator, "runs"), &number).await?;
    finished(&whole.as_state())
}

pub(super) async fn decide(
    State(app): State<App>,
    Signed(operator): Signed,
    Path(number): Path<String>,
    Form(form): Form<DecideForm>,
) -> Result<Response, PageError> {
    let run = find(&app, &number).await?;
    let kind: DecisionKind = form
        .kind
        .parse()
        .map_err(|e: assay_model::decision::UnknownDecision| ApiError::invalid(e.to_string()))?;
    let serials =
        form.disks.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    decided(&app, run.id, &operator, Decide { kind, why: form.why, serials }).await?;
    Ok(see_other(&format!("/runs/{}", run.created.number)))
}

/// The report is one file, complete in itself; no frame of ours around it.
pub(super) async fn report(
    State(app): State<App>,
    _: Signed,
    Path(number): Path<String>,
) -> Result<Response, PageError> {
    let run = find(&app, &number).await?;
    Ok(see_other(&format!("/api/v1/runs/{}/report.html?linked=true", run.created.number)))
}

/// The whole log as text, straight from the store.
pub(super) async fn log(
    State(app): State<App>,
    _: Signed,
    Path(number): Path<String>,
) -> Result<Response, PageError> {
    let run = find(&app, &number).await?;
    let id = run.id;
    let chunks = futures::stream::try_unfold((app, 0_i64), move |(app, after)| async move {
        let chunks = app.engine.store().log_after(id, after, LOG_PAGE).await?;
        let Some(last) = chunks.last() else { return Ok(None) };
        let next = last.cursor;
        let mut out = String::new();
        for line in chunks.iter().flat_map(|chunk| &chunk.lines) {
            let _ = writeln!(out, "{} {} {}", line.at.rfc3339(), line.source, line.text);
        }
        Ok::<_, assay_store::StoreError>(Some((Bytes::from(out), (app, next))))
    });
    // Text a machine chose: a browser shows it as text and nothing else.
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from_stream(chunks)).into_response())
}

async fn drawn(app: &App, shell: Shell, number: &str) -> Result<RunPage, PageError> {
    let run = find(app, number).await?;
    let now = Now {
        at: app.engine.now(),
        step: app.engine.live().step(run.id).filter(|_| run.status.open),
        waiting: app.engine.waits_for(&run),
    };
    let from = run.seq.saturating_sub(i64::from(JOURNAL_LINES)).max(0);
    let mut events = app.engine.store().events_after(run.id, from, JOURNAL_LINES).await?;
    // What came in since the run was read belongs to the next picture.
    events.retain(|e| e.seq <= run.seq);
    let image = match run.created.pipeline {
        Pipeline::Image => Some(ImageParts::of(&run, &app.engine.evidence(&run).await)),
        Pipeline::Host | Pipeline::Recipe => None,
    };
    Ok(RunPage {
        shell,
        image,
        cursor: cursor(&run),
        max_temp_c: max_temp(&run),
        now_ms: now.at.0 / 1000,
        run: RunModel::of(&run, &now, &events),
    })
}

/// The journal goes on where the page stands; the chart and the log are filled by the stream: the
/// chart from the beginning, the log from a little before its end.
fn cursor(run: &RunView) -> String {
    let sealed = run.bulk.iter().filter(|b| b.what == "log").map(|b| b.to).max().unwrap_or(0);
    format!("j{}.l{}.s0-0", run.seq, (sealed - LOG_CHUNKS).max(0))
}

fn max_temp(run: &RunView) -> u32 {
    let spec = run.created.host_spec().unwrap_or(&run.created.spec);
    let told = spec.pointer("/limits/max_temp_c").and_then(serde_json::Value::as_u64);
    told.and_then(|t| u32::try_from(t).ok()).unwrap_or_else(|| Limits::default().max_temp_c)
}

pub(super) async fn find(app: &App, number: &str) -> Result<std::sync::Arc<RunView>, ApiError> {
    let number = number.parse().map_err(|_| {
        ApiError::not_found(format!("run `{}`", text::clean(number)))
            .hint("runs have whole numbers: /runs/12")
    })?;
    detail(app, number).await
}
