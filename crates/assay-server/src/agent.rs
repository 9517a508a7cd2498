//! The agent protocol's endpoints; `assay_api::agent` is the contract.

use assay_api::agent::{
    Ack, ArtifactQuery, Checkpoint, Command, Heartbeat, HeartbeatAck, Hello, LogChunk, MAX_ARTIFACT,
    MAX_JSON, PROTOCOL, PostMortem, ResultAck, Sensors, StageResult, Welcome,
};
use assay_engine::agents::{Applicant, Todo, todo};
use assay_model::{RunId, RunView, text};
use assay_store::LogLine;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use futures::TryStreamExt as _;

use crate::auth::bearer;
use crate::error::ApiError;
use crate::state::App;
use crate::wire::{JsonBody, Wait, wait_for_news};

/// Read the sensors this often, in seconds (design: hwmon every 5 s).
const SENSOR_S: u32 = 5;
/// Heartbeat period, in seconds: two may get lost before an agent is suspect.
const HEARTBEAT_S: u32 = 5;
/// Longest log line kept, in characters.
const MAX_LINE: usize = 4096;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/agent/v1/hello", post(hello))
        .route("/agent/v1/next", get(next))
        .route("/agent/v1/heartbeat", post(heartbeat))
        .route("/agent/v1/sensor", post(sensor))
        .route("/agent/v1/log", post(log))
        .route("/agent/v1/checkpoint", put(checkpoint))
        .route("/agent/v1/post-mortem", post(post_mortem))
        .route("/agent/v1/result", post(result))
        .route("/agent/v1/off", post(off))
        .merge(crate::shell::machine_routes())
        .layer(DefaultBodyLimit::max(MAX_JSON))
        .route("/agent/v1/artifact", put(artifact).layer(DefaultBodyLimit::disable()))
}

/// The run whose agent sends this.
pub(crate) struct Agent(pub(crate) RunId);

impl FromRequestParts<App> for Agent {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let void = || ApiError::unauthorized("this credential is not, or no longer, good");
        let credential = bearer(&parts.headers).ok_or_else(void)?;
        app.engine.agent(credential).await?.map(Self).ok_or_else(void)
    }
}

async fn hello(State(app): State<App>, JsonBody(hello): JsonBody<Hello>) -> Result<Json<Welcome>, ApiError> {
    if hello.protocol != PROTOCOL {
        return Err(ApiError::invalid(format!(
            "this server speaks protocol {PROTOCOL}, the agent {}; rebuild the live image",
            hello.protocol
        )));
    }
    let applicant = Applicant {
        token: hello.token,
        credential: hello.credential,
        macs: hello.macs,
        system_uuid: hello.system_uuid,
        agent: hello.agent,
        clock: hello.clock,
    };
    let (run, boot) = app.engine.hello(&applicant).await?;
    Ok(Json(Welcome { boot, ..welcome(&app, &run) }))
}

/// What the agent that is enrolled now is told.
pub(crate) fn welcome(app: &App, run: &RunView) -> Welcome {
    Welcome {
        run: run.id,
        number: run.created.number,
        host: run.created.target.name.clone(),
        boot: run.enrolled.as_ref().map_or(0, |e| e.boot),
        generation: run.enrolled.as_ref().map_or(run.generation, |e| e.generation),
        server_time: app.engine.now(),
        heartbeat_s: HEARTBEAT_S,
        sensor_s: SENSOR_S,
        // An agent on a machine is told what the machine should be; a runner that works itself, what the image should do.
        spec: run.created.host_spec().unwrap_or(&run.created.spec).clone(),
        verify_key: app.shared.key.public().to_hex(),
    }
}

async fn next(
    State(app): State<App>,
    Agent(run): Agent,
    Query(wait): Query<Wait>,
) -> Result<Json<Command>, ApiError> {
    let mut changes = app.engine.store().subscribe();
    let mut shells = app.shared.shells.subscribe();
    let deadline = wait.deadline();
    loop {
        shells.mark_unchanged();
        let view = app.engine.view(run).await?;
        let (command, is_news) = match todo(&view) {
            Todo::Stage { stage, attempt, generation, timeout_s } => {
                let input = Box::new(app.engine.stage_input(&view, &stage, generation).await?);
                (Command::Stage { stage, attempt, generation, timeout_s, input }, true)
            }
            Todo::Shutdown { reason } => (Command::Shutdown { reason }, true),
            Todo::Hold { message } => {
                let (shell, is_news) = app.shared.shells.wanted(run).unzip();
                (Command::Hold { message, shell }, is_news.unwrap_or(false))
            }
            Todo::Wait => (Command::Wait, false),
        };
        if is_news || tokio::time::Instant::now() >= deadline {
            return Ok(Json(command));
        }
        tokio::select! {
            () = wait_for_news(&mut changes, run, deadline) => {}
            // The registry lives as long as the server.
            _ = shells.changed() => {}
        }
    }
}

async fn heartbeat(
    State(app): State<App>,
    Agent(run): Agent,
    JsonBody(beat): JsonBody<Heartbeat>,
) -> Result<Json<HeartbeatAck>, ApiError> {
    app.engine.heartbeat(run, beat.step.as_deref());
    Ok(Json(HeartbeatAck { server_time: app.engine.now() }))
}

async fn sensor(
    State(app): State<App>,
    Agent(run): Agent,
    JsonBody(sensors): JsonBody<Sensors>,
) -> Result<Json<Ack>, ApiError> {
    let mut batch = sensors.batch;
    let width = batch.sensors.len();
    if width > 4096 || batch.samples.len() > 4096 || batch.samples.iter().any(|s| s.values.len() != width) {
        return Err(ApiError::invalid("a sample does not have one value per sensor, or there are too many"));
    }
    for sensor in &mut batch.sensors {
        sensor.name = text::clean(&sensor.name);
        sensor.unit = text::clean(&sensor.unit);
    }
    app.engine.sensors(run, sensors.seq, batch).await?;
    Ok(Json(Ack { seq: sensors.seq }))
}

async fn log(
    State(app): State<App>,
    Agent(run): Agent,
    JsonBody(chunk): JsonBody<LogChunk>,
) -> Result<Json<Ack>, ApiError> {
    let clean = |line: assay_api::agent::LogLine| LogLine {
        at: line.at,
        source: text::clean(&line.source),
        text: text::clean_to(&line.text, MAX_LINE),
    };
    let lines: Vec<_> = chunk.lines.into_iter().map(clean).collect();
    app.engine.log(run, chunk.seq, &lines).await?;
    Ok(Json(Ack { seq: chunk.seq }))
}

async fn result(
    State(app): State<App>,
    Agent(run): Agent,
    JsonBody(result): JsonBody<StageResult>,
) -> Result<Json<ResultAck>, ApiError> {
    let evidence = serde_json::to_vec(&result.evidence).map_err(|e| ApiError::invalid(e.to_string()))?;
    let late = app
        .engine
        .result(run, result.stage, result.attempt, result.generation, evidence, result.problem)
        .await?;
    Ok(Json(ResultAck { late }))
}

async fn checkpoint(
    State(app): State<App>,
    Agent(run): Agent,
    JsonBody(saved): JsonBody<Checkpoint>,
) -> Result<StatusCode, ApiError> {
    let Checkpoint { stage, attempt, generation, state } = saved;
    app.engine.checkpoint(run, &stage, attempt, generation, state).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn post_mortem(
    State(app): State<App>,
    Agent(run): Agent,
    JsonBody(told): JsonBody<PostMortem>,
) -> Result<StatusCode, ApiError> {
    let records = told.records.into_iter().map(|record| (record.name, record.text)).collect();
    app.engine.post_mortem(run, records).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn artifact(
    State(app): State<App>,
    Agent(run): Agent,
    Query(query): Query<ArtifactQuery>,
    body: Body,
) -> Result<Json<Ack>, ApiError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if query.name.is_empty()
        || query.name.len() > 128
        || query.name.starts_with('.')
        || !query.name.bytes().all(plain)
    {
        return Err(ApiError::invalid(
            "an artifact's name has letters, digits, `.`, `_` and `-`, at most 128",
        ));
    }
    let view = app.engine.view(run).await?;
    if !view
        .stages
        .iter()
        .any(|s| s.plan.name == query.stage && s.attempts.iter().any(|a| a.attempt == query.attempt))
    {
        return Err(ApiError::invalid(format!(
            "the run has no attempt {} of {}",
            query.attempt, query.stage
        )));
    }
    let stream = body.into_data_stream().map_err(std::io::Error::other);
    let stored = app.engine.artifacts().put_stream(stream, MAX_ARTIFACT, Some(query.sha256)).await?;
    let (digest, bytes) = stored;
    app.engine.artifact(run, query.stage, query.attempt, query.name, digest, bytes).await?;
    Ok(Json(Ack { seq: 0 }))
}

async fn off(State(app): State<App>, Agent(run): Agent) -> StatusCode {
    app.engine.off(run);
    StatusCode::NO_CONTENT
}
