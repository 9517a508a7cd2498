//! `/api/v1/hosts/{name}/shell` and `/api/v1/shells`: an operator's side of a terminal on a held machine.

use std::sync::Arc;

use assay_api::shell::{Bytes, MAX_COMMAND, OpenShell, ShellOpened, Shown, Taken, Typed};
use assay_model::{Micros, RunState, text};
use assay_store::Role;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use super::hosts::find;
use crate::auth::Operator;
use crate::error::ApiError;
use crate::shell::{NotOpened, Opening, Session, check_size, look_after, now};
use crate::state::App;
use crate::wire::{JsonBody, Wait};

/// A machine silent for longer is not asked for a terminal.
const SILENT: Micros = Micros::seconds(30);
/// Longest reason, in characters.
const MAX_REASON: usize = 1000;
/// Longest `TERM`.
const MAX_TERM: usize = 64;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/hosts/{name}/shell", post(open))
        .route("/api/v1/shells/{id}", delete(close))
        .route("/api/v1/shells/{id}/input", post(input))
        .route("/api/v1/shells/{id}/output", get(output))
}

async fn open(
    State(app): State<App>,
    operator: Operator,
    Path(name): Path<String>,
    JsonBody(wanted): JsonBody<OpenShell>,
) -> Result<(StatusCode, Json<ShellOpened>), ApiError> {
    let reason = text::clean_to(wanted.reason.trim(), MAX_REASON);
    if reason.is_empty() {
        return Err(ApiError::invalid(
            "a terminal needs a reason: it stands in the audit trail and in the transcript",
        ));
    }
    check_size(wanted.size)?;
    let command = wanted.command.filter(|command| !command.trim().is_empty());
    if command.as_ref().is_some_and(|command| command.len() > MAX_COMMAND || command.contains('\0')) {
        return Err(ApiError::invalid(format!(
            "a command has at most {MAX_COMMAND} bytes, and no zero byte"
        )));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
    // Of what cannot be a terminal's name, nothing is passed on.
    let term =
        wanted.term.filter(|term| term.len() <= MAX_TERM && !term.is_empty() && term.bytes().all(plain));
    let row = find(&app, &name).await?;
    let refused = |why: String| ApiError::new(StatusCode::CONFLICT, "refused", why);
    let not_held = |is: &str| {
        refused(format!("{name} is not held: {is}"))
            .hint("a terminal can be opened while a failed run keeps its machine; see `assay run list`")
    };
    let Some(id) = app.engine.open_run_of(row.id).await? else { return Err(not_held("it has no open run")) };
    let run = app.engine.view(id).await?;
    if run.state() != RunState::FailedHolding {
        return Err(not_held(&format!("run {} is {}", run.created.number, run.state())));
    }
    let silent = app.engine.now().since(app.engine.live().last_seen(id));
    if run.enrolled.is_none() || app.engine.live().is_off(id) || silent > SILENT {
        return Err(refused(format!(
            "nothing was heard from {name} lately, so nothing there can open a terminal"
        ))
        .hint("see whether it is on; `assay run retry` boots it again, and it can be held again"));
    }
    let session = crate::auth::secret()[..16].to_owned();
    let detail = json!({
        "run": run.created.number, "host": name, "session": session, "why": reason, "command": command,
    });
    // Before it is there: what is not written down does not happen.
    app.engine.store().audit(app.engine.now(), &operator.name, "shell opened", &detail).await?;
    let opening = Opening {
        id: session,
        by: operator.name,
        reason,
        command,
        size: wanted.size,
        term: term.unwrap_or_else(|| "vt100".to_owned()),
    };
    let session = app.shared.shells.open(&run, now(&app), opening).map_err(|no| match no {
        NotOpened::Taken { by } => refused(format!("{by} has a terminal on {name}"))
            .hint("one at a time: wait until it is closed, or have an admin close it"),
        NotOpened::Transcript(problem) => ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "transcript",
            format!("its transcript cannot be written, so there is no terminal: {problem}"),
        ),
    })?;
    tokio::spawn(look_after(app.clone(), Arc::clone(&session)));
    let opened =
        ShellOpened { id: session.id.clone(), run: session.number, transcript: session.transcript.clone() };
    Ok((StatusCode::CREATED, Json(opened)))
}

async fn input(
    State(app): State<App>,
    operator: Operator,
    Path(id): Path<String>,
    JsonBody(typed): JsonBody<Typed>,
) -> Result<Json<Taken>, ApiError> {
    let session = own(&app, &operator, &id)?;
    let next = session.with(|state| state.type_in(now(&app), typed.at, &typed.data.0, typed.size))?;
    Ok(Json(Taken { next }))
}

#[derive(Deserialize)]
struct OutputQuery {
    #[serde(default)]
    after: u64,
}

async fn output(
    State(app): State<App>,
    operator: Operator,
    Path(id): Path<String>,
    Query(query): Query<OutputQuery>,
    Query(wait): Query<Wait>,
) -> Result<Json<Shown>, ApiError> {
    let session = own(&app, &operator, &id)?;
    // Whoever asks has what is before that: the machine may go on while we wait.
    session.with(|state| {
        state.operator_asks(now(&app));
        state.output(query.after).map(drop)
    })?;
    session.until(wait.deadline(), |state| state.has_output(query.after)).await;
    let (data, next, ended) = session.with(|state| {
        state.operator_asks(now(&app));
        state.output(query.after)
    })?;
    Ok(Json(Shown { data: Bytes(data), next, ended }))
}

/// Ends a session: its operator's right, and every admin's.
async fn close(
    State(app): State<App>,
    operator: Operator,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let session =
        app.shared.shells.get(&id).ok_or_else(|| ApiError::not_found("terminal session like that"))?;
    if session.by != operator.name && operator.role < Role::Admin {
        return Err(not_yours(&session));
    }
    session.with(|state| state.end(now(&app), &format!("{} closed it", operator.name)));
    Ok(StatusCode::NO_CONTENT)
}

/// The session, if it is this operator's: what a machine shows one person is not for another.
fn own(app: &App, operator: &Operator, id: &str) -> Result<Arc<Session>, ApiError> {
    let over =
        || ApiError::new(StatusCode::GONE, "session_over", "there is no such terminal session any more");
    let session = app.shared.shells.get(id).ok_or_else(over)?;
    if session.by != operator.name || operator.role < Role::Operator {
        return Err(not_yours(&session));
    }
    Ok(session)
}

fn not_yours(session: &Session) -> ApiError {
    let message = format!("this terminal session is {}'s", session.by);
    ApiError::new(StatusCode::FORBIDDEN, "forbidden", message)
        .hint("its transcript is among the run's files once it has ended")
}
