//! `/api/v1/schedules` and `/api/v1/batches`: what is tested again, by itself or on somebody's word.

use assay_api::again::{
    At, Batch, BatchRule, Counts, NewBatch, NewSchedule, Paused, Plan, Planned, Schedule, ScheduleRule,
    Target, Time,
};
use assay_engine::again::{Batch as Kept, Progress, Schedule as KeptSchedule, Stand, Written};
use assay_model::schedule::{Again, CATCH_UP_S, Limits, SPREAD_S, STOP_AFTER, Timing};
use assay_model::{RunState, text};
use assay_store::{BatchItemRow, BatchState};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use crate::auth::Operator;
use crate::error::ApiError;
use crate::state::App;
use crate::wire::JsonBody;

/// Times to come that are told of a schedule.
const NEXT: usize = 5;
/// Times that were, of a schedule alone and in a list.
const TIMES: (u32, u32) = (20, 1);
/// Batches in one answer.
const BATCHES: u32 = 30;
/// Most of them.
const MAX_BATCHES: u32 = 200;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/schedules", get(list_schedules).post(add))
        .route("/api/v1/schedules/{name}", get(show).put(replace).post(rule).delete(remove))
        .route("/api/v1/batches", get(list_batches).post(begin))
        .route("/api/v1/batches/plan", post(planned))
        .route("/api/v1/batches/{number}", get(show_batch).post(rule_batch_of))
}

/// Every schedule, by name.
pub(crate) async fn schedules(app: &App) -> Result<Vec<Schedule>, ApiError> {
    let mut out = Vec::new();
    for schedule in app.engine.schedules().await? {
        out.push(shown(app, schedule, TIMES.1).await?);
    }
    Ok(out)
}

/// One schedule.
pub(crate) async fn schedule(app: &App, name: &str) -> Result<Schedule, ApiError> {
    let schedule = app.engine.schedule(name).await?;
    shown(app, schedule, TIMES.0).await
}

/// Writes a schedule.
pub(crate) async fn put_schedule(
    app: &App,
    operator: &Operator,
    new: NewSchedule,
    replace: bool,
) -> Result<Schedule, ApiError> {
    let written = Written {
        timing: Timing {
            cron: new.cron.trim().to_owned(),
            zone: new.zone.unwrap_or_else(|| "UTC".to_owned()),
            catch_up_s: new.catch_up_s.unwrap_or(CATCH_UP_S),
            spread_s: new.spread_s.unwrap_or(SPREAD_S),
        },
        limits: new.limits.unwrap_or_else(|| usual(&new.again)),
        again: new.again,
    };
    let schedule = app.engine.put_schedule(&new.name, &written, &operator.name, replace).await?;
    shown(app, schedule, TIMES.0).await
}

/// Rules a schedule; what is to be said of it.
pub(crate) async fn rule_schedule(
    app: &App,
    operator: &Operator,
    name: &str,
    rule: &ScheduleRule,
) -> Result<Option<i64>, ApiError> {
    let by = &operator.name;
    match rule {
        ScheduleRule::Pause => drop(app.engine.pause_schedule(name, Some(by)).await?),
        ScheduleRule::Resume => drop(app.engine.pause_schedule(name, None).await?),
        ScheduleRule::Run => return Ok(app.engine.run_schedule(name, by).await?.0),
    }
    Ok(None)
}

/// Forgets a schedule.
pub(crate) async fn remove_schedule(app: &App, name: &str) -> Result<(), ApiError> {
    Ok(app.engine.remove_schedule(name).await?)
}

/// The batches with a smaller number, the newest first, without their targets.
pub(crate) async fn batches(
    app: &App,
    before: Option<i64>,
    limit: Option<u32>,
) -> Result<Vec<Batch>, ApiError> {
    let limit = limit.unwrap_or(BATCHES).clamp(1, MAX_BATCHES);
    let kept = app.engine.batches(before, limit).await?;
    Ok(kept.into_iter().map(|batch| head(batch).0).collect())
}

/// One batch.
pub(crate) async fn batch(app: &App, number: i64) -> Result<Batch, ApiError> {
    told(app, app.engine.batch(number).await?).await
}

/// What a batch would be.
pub(crate) async fn plan(app: &App, new: &NewBatch) -> Result<Plan, ApiError> {
    let limits = new.limits.unwrap_or_else(|| usual(&new.again));
    let chosen = app.engine.plan_batch(&new.again, limits).await?;
    let targets =
        chosen.into_iter().map(|one| Planned { name: one.name, last: one.last, against: one.against });
    Ok(Plan { does: new.again.told(), limits, targets: targets.collect() })
}

/// Begins a batch.
pub(crate) async fn begin_batch(app: &App, operator: &Operator, new: &NewBatch) -> Result<Batch, ApiError> {
    let limits = new.limits.unwrap_or_else(|| usual(&new.again));
    let batch = app.engine.begin_batch(&new.again, limits, &operator.name).await?;
    told(app, batch).await
}

/// Rules a batch.
pub(crate) async fn rule_batch(
    app: &App,
    operator: &Operator,
    number: i64,
    rule: BatchRule,
) -> Result<Batch, ApiError> {
    let batch = match rule {
        BatchRule::Stop { why } => app.engine.stop_batch(number, &operator.name, &why).await?,
        BatchRule::Resume => app.engine.resume_batch(number).await?,
    };
    told(app, batch).await
}

/// Machines go out of use one by one unless somebody says otherwise; everything else is the queue's business.
fn usual(again: &Again) -> Limits {
    if again.is_hosts() {
        Limits { at_most: Some(1), stop_after: Some(STOP_AFTER) }
    } else {
        Limits::default()
    }
}

async fn shown(app: &App, schedule: KeptSchedule, times: u32) -> Result<Schedule, ApiError> {
    let next = schedule.next(app.engine.now(), NEXT);
    let KeptSchedule { row, written } = schedule;
    let mut told = Vec::new();
    for tick in app.engine.store().schedule_ticks(&row.name, times).await? {
        let progress = match tick.batch {
            Some(number) => Some(app.engine.batch(number).await?.progress().told()),
            None => None,
        };
        told.push(Time {
            due: tick.due,
            at: tick.at,
            kind: tick.kind.as_str().to_owned(),
            missed: tick.missed,
            batch: tick.batch,
            progress,
            note: tick.note,
        });
    }
    let (written, zone, problem) = match written {
        Ok((written, zone)) => (Some(written), Some(zone), None),
        Err(why) => (None, None, Some(why)),
    };
    let at = |at| At { at, shown: zone.as_ref().map(|zone| zone.shown(at)).unwrap_or_default() };
    let next = next.into_iter().map(at).collect();
    let timing = written.as_ref().map(|written| written.timing.clone());
    let (cron, zone, catch_up_s, spread_s) =
        timing.map(|t| (t.cron, t.zone, t.catch_up_s, t.spread_s)).unwrap_or_default();
    Ok(Schedule {
        problem,
        cron,
        zone,
        catch_up_s,
        spread_s,
        does: written.as_ref().map(|written| written.again.told()).unwrap_or_default(),
        limits: written.as_ref().map(|written| written.limits).unwrap_or_default(),
        again: written.map(|written| written.again),
        paused: row.paused.map(|pause| Paused { by: pause.by, since: pause.at }),
        created_by: row.created_by,
        created_at: row.created_at,
        next,
        times: told,
        name: row.name,
    })
}

async fn told(app: &App, batch: Kept) -> Result<Batch, ApiError> {
    let (mut batch, items) = head(batch);
    for (item, stand) in items {
        batch.targets.push(target(app, item, stand).await?);
    }
    Ok(batch)
}

/// A batch without its targets, and those.
fn head(batch: Kept) -> (Batch, Vec<(BatchItemRow, Stand)>) {
    let progress = batch.progress();
    let Kept { row, again, limits, items } = batch;
    let state = row.state.as_str().to_owned();
    let (stopped_by, why) = match row.state {
        BatchState::Stopped { by, why } => (Some(by), Some(why)),
        BatchState::Running | BatchState::Ended => (None, None),
    };
    let batch = Batch {
        number: row.number,
        does: again.told(),
        again,
        limits,
        asked_by: row.asked_by,
        schedule: row.schedule,
        created_at: row.created_at,
        state,
        stopped_by,
        why,
        since: row.since,
        progress: progress.told(),
        counts: counts(progress),
        targets: Vec::new(),
    };
    (batch, items)
}

async fn target(app: &App, item: BatchItemRow, stand: Stand) -> Result<Target, ApiError> {
    let waits = match &item.run {
        Some(run) if stand == Stand::UnderWay => {
            let view = app.engine.view(run.id).await?;
            app.engine.waits_for(&view)
        }
        _ => None,
    };
    Ok(Target {
        name: item.target,
        stand: stand.as_str().to_owned(),
        run: item.run.as_ref().map(|run| run.number),
        state: item.run.as_ref().map(|run| run.state),
        stage: item.run.filter(|run| run.state == RunState::Running).and_then(|run| run.stage_name),
        note: item.left_out.or(waits).map(|note| text::clean_to(&note, 400)),
    })
}

const fn counts(progress: Progress) -> Counts {
    let Progress { all, waiting, under_way, held, passed, failed, no_verdict, cancelled, left_out } =
        progress;
    Counts { all, waiting, under_way, held, passed, failed, no_verdict, cancelled, left_out }
}

async fn list_schedules(State(app): State<App>, _: Operator) -> Result<Json<Vec<Schedule>>, ApiError> {
    Ok(Json(schedules(&app).await?))
}

async fn add(
    State(app): State<App>,
    operator: Operator,
    JsonBody(new): JsonBody<NewSchedule>,
) -> Result<(StatusCode, Json<Schedule>), ApiError> {
    Ok((StatusCode::CREATED, Json(put_schedule(&app, &operator, new, false).await?)))
}

async fn replace(
    State(app): State<App>,
    operator: Operator,
    Path(name): Path<String>,
    JsonBody(new): JsonBody<NewSchedule>,
) -> Result<Json<Schedule>, ApiError> {
    Ok(Json(put_schedule(&app, &operator, NewSchedule { name, ..new }, true).await?))
}

async fn show(
    State(app): State<App>,
    _: Operator,
    Path(name): Path<String>,
) -> Result<Json<Schedule>, ApiError> {
    Ok(Json(schedule(&app, &name).await?))
}

async fn rule(
    State(app): State<App>,
    operator: Operator,
    Path(name): Path<String>,
    JsonBody(asked): JsonBody<ScheduleRule>,
) -> Result<Json<Schedule>, ApiError> {
    rule_schedule(&app, &operator, &name, &asked).await?;
    Ok(Json(schedule(&app, &name).await?))
}

async fn remove(
    State(app): State<App>,
    _: Operator,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    remove_schedule(&app, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Page {
    before: Option<i64>,
    limit: Option<u32>,
}

async fn list_batches(
    State(app): State<App>,
    _: Operator,
    Query(page): Query<Page>,
) -> Result<Json<Vec<Batch>>, ApiError> {
    Ok(Json(batches(&app, page.before, page.limit).await?))
}

async fn begin(
    State(app): State<App>,
    operator: Operator,
    JsonBody(new): JsonBody<NewBatch>,
) -> Result<(StatusCode, Json<Batch>), ApiError> {
    Ok((StatusCode::CREATED, Json(begin_batch(&app, &operator, &new).await?)))
}

async fn planned(
    State(app): State<App>,
    _: Operator,
    JsonBody(new): JsonBody<NewBatch>,
) -> Result<Json<Plan>, ApiError> {
    Ok(Json(plan(&app, &new).await?))
}

async fn show_batch(
    State(app): State<App>,
    _: Operator,
    Path(number): Path<i64>,
) -> Result<Json<Batch>, ApiError> {
    Ok(Json(batch(&app, number).await?))
}

async fn rule_batch_of(
    State(app): State<App>,
    operator: Operator,
    Path(number): Path<i64>,
    JsonBody(asked): JsonBody<BatchRule>,
) -> Result<Json<Batch>, ApiError> {
    Ok(Json(rule_batch(&app, &operator, number, asked).await?))
}
