//! `/api/v1/queue`: what runs, what waits and why; and what operators rule for it.

use assay_api::queue::{Pool, Queue, Rule, RunnerRoom, Running, Stopped, Waiting};
use assay_engine::line::{Overview, Rule as Ruled};
use assay_engine::queue::{Holding, Place, Waiting as InLine, history};
use assay_model::{Micros, text};
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};

use crate::auth::Operator;
use crate::error::ApiError;
use crate::state::App;
use crate::wire::JsonBody;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/api/v1/queue", get(show).post(change))
}

async fn show(State(app): State<App>, _: Operator) -> Result<Json<Queue>, ApiError> {
    queue(&app).await.map(Json)
}

async fn change(
    State(app): State<App>,
    operator: Operator,
    JsonBody(asked): JsonBody<Rule>,
) -> Result<Json<Queue>, ApiError> {
    rule(&app, &operator, asked).await?;
    queue(&app).await.map(Json)
}

/// The queue as it is now.
pub(crate) async fn queue(app: &App) -> Result<Queue, ApiError> {
    Ok(shown(app.engine.queue().await?, app.engine.now()))
}

/// Rules the queue.
pub(crate) async fn rule(app: &App, operator: &Operator, asked: Rule) -> Result<(), ApiError> {
    let ruled = match asked {
        Rule::Pause { why } => Ruled::Pause { why },
        Rule::Drain { why } => Ruled::Drain { why },
        Rule::Resume => Ruled::Resume,
        Rule::Limit { pipeline, at_once } => Ruled::Limit { pipeline, at_once },
        Rule::Weigh { requester, weight } => Ruled::Weigh { requester: text::clean(&requester), weight },
    };
    app.engine.rule_queue(ruled, &operator.name).await?;
    Ok(())
}

fn shown(queue: Overview, now: Micros) -> Queue {
    let active = queue.active();
    let stopped = queue.policy.mode.stop().cloned();
    Queue {
        state: queue.policy.mode.as_str().to_owned(),
        stopped: stopped.map(|stop| Stopped { by: stop.by, why: stop.why, since: stop.since }),
        limits: queue.policy.limits,
        weights: queue.policy.weights,
        active,
        runners: queue
            .runners
            .into_iter()
            .map(|room| RunnerRoom {
                name: room.name,
                connected: room.connected,
                pools: room
                    .pools
                    .into_iter()
                    .map(|(pool, (used, capacity))| (pool, Pool { used, capacity }))
                    .collect(),
            })
            .collect(),
        running: queue.running.into_iter().map(|run| running(run, now)).collect(),
        waiting: queue.waiting.into_iter().map(|(run, place)| waiting(run, place)).collect(),
    }
}

fn running(run: Holding, now: Micros) -> Running {
    let ends = history::ends(run.started_at, run.expected, now).since(now);
    Running {
        number: run.number,
        target: run.target,
        pipeline: run.pipeline,
        runner: run.runner,
        doing: run.doing,
        since: run.since,
        started_at: run.started_at,
        ends_in_s: (!run.needs.is_empty()).then(|| whole_seconds(ends)),
        needs: run.needs,
        requester: run.requester,
    }
}

fn waiting(run: InLine, place: Place) -> Waiting {
    let (cause, reason, position, starts_in) = match place {
        Place::Admit { runner } => {
            ("none", format!("about to start on {runner}"), None, Some(Micros::default()))
        }
        Place::Wait(wait) => (wait.cause.as_str(), wait.reason, wait.position, wait.starts_in),
    };
    Waiting {
        number: run.number,
        target: run.target,
        pipeline: run.pipeline,
        priority: run.priority,
        requester: run.requester,
        asked_at: run.asked_at,
        needs: run.needs,
        cause: cause.to_owned(),
        reason,
        position,
        starts_in_s: starts_in.map(whole_seconds),
    }
}

pub(super) const fn whole_seconds(span: Micros) -> i64 {
    span.0 / 1_000_000
}
