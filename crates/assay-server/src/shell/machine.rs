//! The agent's side of a terminal session (`assay_api::shell`).

use std::sync::Arc;

use assay_api::shell::{Attach, Bytes, Input, Output, ShellOrder, Taken, TermSize};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::session::No;
use super::{Session, now};
use crate::agent::Agent;
use crate::error::ApiError;
use crate::state::App;
use crate::wire::{JsonBody, Wait};

/// Longest name of a process of an agent.
const MAX_WORKER: usize = 64;
/// Output that has no room waits for it this long, in seconds, before the agent is answered.
const ROOM_WAIT_S: u64 = 10;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/agent/v1/shell/{id}/attach", post(attach))
        .route("/agent/v1/shell/{id}/output", post(output))
        .route("/agent/v1/shell/{id}/input", get(input))
}

async fn attach(
    State(app): State<App>,
    agent: Agent,
    Path(id): Path<String>,
    JsonBody(attach): JsonBody<Attach>,
) -> Result<Json<ShellOrder>, ApiError> {
    let session = session_of(&app, &agent, &id)?;
    if attach.worker.is_empty() || attach.worker.len() > MAX_WORKER {
        return Err(ApiError::invalid(format!("a worker's name has 1 to {MAX_WORKER} letters")));
    }
    let size = session.with(|state| state.attach(now(&app), &attach.worker))?;
    Ok(Json(ShellOrder { command: session.command.clone(), size, term: session.term.clone() }))
}

async fn output(
    State(app): State<App>,
    agent: Agent,
    Path(id): Path<String>,
    JsonBody(said): JsonBody<Output>,
) -> Result<Json<Taken>, ApiError> {
    let session = session_of(&app, &agent, &id)?;
    if !said.data.0.is_empty() {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(ROOM_WAIT_S);
        session.until(deadline, |state| state.has_room() || state.is_over()).await;
    }
    let Output { worker, at, data, exit } = said;
    let next = session.with(|state| state.show(now(&app), &worker, at, &data.0, exit))?;
    Ok(Json(Taken { next }))
}

#[derive(Deserialize)]
struct InputQuery {
    worker: String,
    after: u64,
    cols: u16,
    rows: u16,
}

async fn input(
    State(app): State<App>,
    agent: Agent,
    Path(id): Path<String>,
    Query(query): Query<InputQuery>,
    Query(wait): Query<Wait>,
) -> Result<Json<Input>, ApiError> {
    let session = session_of(&app, &agent, &id)?;
    let known = TermSize { cols: query.cols, rows: query.rows };
    // What it has is not sent again, also if this question breaks off.
    session.with(|state| state.input(&query.worker, query.after))?;
    {
        let _asking = Asking::new(&session);
        session.until(wait.deadline(), |state| state.has_input(query.after, known)).await;
    }
    let (data, size) = session.with(|state| state.input(&query.worker, query.after))?;
    Ok(Json(Input { data: Bytes(data), size }))
}

/// The session, if it is this agent's.
fn session_of(app: &App, agent: &Agent, id: &str) -> Result<Arc<Session>, ApiError> {
    let session = app.shared.shells.get(id).filter(|session| session.run == agent.0);
    session.ok_or_else(|| No::Over("there is no such terminal session any more".to_owned()).into())
}

/// An agent waits for input: as long as this lives, also if its connection breaks.
struct Asking<'a>(&'a Session);

impl<'a> Asking<'a> {
    fn new(session: &'a Session) -> Self {
        session.with(|state| state.agent_asks(true));
        Self(session)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.with(|state| state.agent_asks(false));
    }
}

impl From<No> for ApiError {
    fn from(no: No) -> Self {
        match no {
            No::Over(why) => Self::new(StatusCode::GONE, "session_over", why),
            No::Invalid(why) => Self::invalid(why),
        }
    }
}
