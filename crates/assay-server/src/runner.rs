//! The runner protocol's endpoints; `assay_api::runner` is the contract.

use assay_api::agent::MAX_JSON;
use assay_api::runner::{
    AgentGrant, Claim, ConsoleOrder, ConsoleRead, Done, Grant, InstallOrder, LookOrder, Medium, Order,
    SOURCE, Seen, Services, StageRead, Step, Try,
};
use assay_engine::install::{self, Brought, Following, Open};
use assay_engine::live::Offer;
use assay_engine::outside::{Console, Reading};
use assay_engine::runners::{Given, order, speed_servers};
use assay_model::event::PowerAction;
use assay_model::{Micros, RunId, RunView, text};
use assay_pipelines::recipe::RecipeSpec;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use crate::auth::{JoinedRunner, bearer};
use crate::error::ApiError;
use crate::state::App;
use crate::wire::{JsonBody, Wait, wait_for_news};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/runner/v1/claim", post(claim))
        .route("/runner/v1/seen", post(seen))
        .route("/runner/v1/next", get(next))
        .route("/runner/v1/done", post(done))
        .route("/runner/v1/console", post(console))
        .route("/runner/v1/evidence", post(evidence).layer(DefaultBodyLimit::max(MAX_JSON)))
        .route("/runner/v1/step", post(step))
        .route("/runner/v1/services", post(services))
        .route(SOURCE, get(source))
}

/// The run whose token a runner sends.
struct RunToken(RunId);

impl FromRequestParts<App> for RunToken {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let void = || ApiError::unauthorized("this run token is not, or no longer, good");
        let token = bearer(&parts.headers).ok_or_else(void)?;
        app.engine.runner(token).await?.map(Self).ok_or_else(void)
    }
}

async fn claim(
    State(app): State<App>,
    _: JoinedRunner,
    Query(wait): Query<Wait>,
    JsonBody(claim): JsonBody<Claim>,
) -> Result<Response, ApiError> {
    let name = text::clean(&claim.name);
    let store = app.engine.store();
    // What it last said of its netboot service stands until it says otherwise, over our restarts too.
    let known = store.runners().await?.into_iter().find(|runner| runner.name == name);
    let problem = known.and_then(|runner| runner.problem);
    store.runner_seen(&name, &text::clean(&claim.version), problem.as_deref(), app.engine.now()).await?;
    let mut changes = store.subscribe();
    let deadline = wait.deadline();
    let power = claim.power.iter().cloned().collect();
    let _waiting = app.engine.offering(&name, Offer { power, capacity: claim.capacity });
    loop {
        if let Some(Given { run, token, agent }) = app.engine.grant(&name, &claim.holding).await? {
            let agent = agent.map(|credential| {
                let welcome = crate::agent::welcome(&app, &run);
                AgentGrant { credential, fingerprint: app.shared.fingerprint, welcome }
            });
            return Ok(Json(Grant {
                pipeline: run.created.pipeline,
                agent,
                run: run.id,
                number: run.created.number,
                host: run.created.target.name.clone(),
                token,
                macs: run.created.macs.clone(),
                power: run.created.power.clone(),
                speed_servers: speed_servers(&run.created),
            })
            .into_response());
        }
        if tokio::time::Instant::now() >= deadline {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        let _ = tokio::time::timeout_at(deadline, changes.recv()).await;
    }
}

async fn next(
    State(app): State<App>,
    RunToken(run): RunToken,
    Query(wait): Query<Wait>,
) -> Result<Json<Order>, ApiError> {
    use assay_engine::runners::Order as Todo;
    let mut changes = app.engine.store().subscribe();
    let deadline = wait.deadline();
    loop {
        let view = app.engine.view(run).await?;
        let answer = match order(&view) {
            Todo::Power { job, action } => {
                Order::Power { job, action, medium: inserted(&app, &view, action).await? }
            }
            Todo::Read(reading) => Order::Read(console_order(reading, app.engine.now())),
            Todo::Look(open) => Order::Look(LookOrder {
                open: a_try(open, app.engine.now()),
                spec: view.created.spec.clone(),
            }),
            Todo::Install(following) => {
                let medium = medium(&app, &view).await?;
                Order::Install(install_order(following, medium, &view, app.engine.now()))
            }
            Todo::End => Order::End,
            Todo::Wait => Order::Wait,
        };
        if answer != Order::Wait || tokio::time::Instant::now() >= deadline {
            return Ok(Json(answer));
        }
        wait_for_news(&mut changes, run, deadline).await;
    }
}

async fn done(
    State(app): State<App>,
    RunToken(run): RunToken,
    JsonBody(done): JsonBody<Done>,
) -> Result<StatusCode, ApiError> {
    app.engine.power_done(run, done.job, done.ok, &done.message).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The runner's clock may differ from ours, so it is told what is left, in seconds.
fn left(until: Micros, now: Micros) -> u64 {
    u64::try_from(until.since(now).0 / 1_000_000).unwrap_or(0)
}

/// What is inserted before the machine is switched on, where something is.
async fn inserted(app: &App, run: &RunView, action: PowerAction) -> Result<Option<Medium>, ApiError> {
    if action == PowerAction::Medium { medium(app, run).await.map(Some) } else { Ok(None) }
}

async fn medium(app: &App, run: &RunView) -> Result<Medium, ApiError> {
    let install::Medium { image, sha256, bytes } = app.engine.medium(run).await?;
    Ok(Medium { image, sha256, bytes })
}

fn a_try(open: Open, now: Micros) -> Try {
    let Open { stage, attempt, generation, until } = open;
    Try { stage, attempt, generation, left_s: left(until, now) }
}

fn install_order(following: Following, medium: Medium, run: &RunView, now: Micros) -> InstallOrder {
    let Following { job, stages, open } = following;
    let open = open.map(|open| a_try(open, now));
    let boot_s = u64::from(run.created.boot_timeout_s);
    InstallOrder { job, spec: run.created.spec.clone(), stages, open, medium, boot_s }
}

async fn evidence(
    State(app): State<App>,
    RunToken(run): RunToken,
    JsonBody(read): JsonBody<StageRead>,
) -> Result<StatusCode, ApiError> {
    let StageRead { stage, attempt, generation, evidence, problem, texts } = read;
    app.engine.brought(run, Brought { stage, attempt, generation, evidence, problem, texts }).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn console_order(reading: Reading, now: Micros) -> ConsoleOrder {
    let left = |until: Micros| left(until, now);
    let Reading { stage, attempt, generation, job, passes, boot_until, until } = reading;
    ConsoleOrder { stage, attempt, generation, job, passes, boot_s: left(boot_until), listen_s: left(until) }
}

async fn console(
    State(app): State<App>,
    RunToken(run): RunToken,
    JsonBody(read): JsonBody<ConsoleRead>,
) -> Result<StatusCode, ApiError> {
    let ConsoleRead { stage, attempt, generation, evidence, text } = read;
    app.engine.console(run, Console { stage, attempt, generation, evidence, text }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn step(
    State(app): State<App>,
    RunToken(run): RunToken,
    JsonBody(said): JsonBody<Step>,
) -> Result<StatusCode, ApiError> {
    app.engine.console_step(run, &said.step).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn services(
    State(app): State<App>,
    RunToken(run): RunToken,
    JsonBody(services): JsonBody<Services>,
) -> Result<StatusCode, ApiError> {
    app.engine.services_ready(run, services.iperf).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn seen(
    State(app): State<App>,
    _: JoinedRunner,
    JsonBody(seen): JsonBody<Seen>,
) -> Result<StatusCode, ApiError> {
    let now = app.engine.now();
    let store = app.engine.store();
    let runner = text::clean(&seen.runner);
    let mut unknown = Vec::new();
    for mac in seen.macs.into_iter().take(1024) {
        if store.host_by_mac(mac).await?.is_none() {
            unknown.push(mac);
        }
    }
    store.unknown_seen(&unknown, &runner, now).await?;
    let problem = seen.netboot_problem.map(|p| text::clean_to(&p, 500));
    store.runner_problem(&runner, problem.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The bundle that the run's recipe comes as, for that run's runner alone.
async fn source(State(app): State<App>, RunToken(run): RunToken) -> Result<Response, ApiError> {
    let view = app.engine.view(run).await?;
    let source = RecipeSpec::of(&view.created.spec).ok().and_then(|spec| spec.source);
    let source = source.ok_or_else(|| ApiError::not_found("bundle of this run's recipe".to_owned()))?;
    let (bytes, stream) = app.engine.artifacts().get_stream(source.bundle).await?;
    let headers =
        [(CONTENT_TYPE, "application/octet-stream".to_owned()), (CONTENT_LENGTH, bytes.to_string())];
    Ok((headers, Body::from_stream(stream)).into_response())
}
