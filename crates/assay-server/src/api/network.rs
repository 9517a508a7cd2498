//! `/api/v1/unknown` and `/api/v1/runners`: what is on the provisioning network, and who serves it.

use assay_api::operator::{Runner, UnknownMac};
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};

use crate::auth::Operator;
use crate::error::ApiError;
use crate::state::App;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/api/v1/unknown", get(unknown)).route("/api/v1/runners", get(runners))
}

async fn unknown(State(app): State<App>, _: Operator) -> Result<Json<Vec<UnknownMac>>, ApiError> {
    let rows = app.engine.store().unknown_list().await?;
    let out = rows.into_iter().map(|r| UnknownMac {
        mac: r.mac,
        first_seen: r.first_seen,
        last_seen: r.last_seen,
        count: i64::try_from(r.times).unwrap_or(i64::MAX),
        runner: r.runner,
    });
    Ok(Json(out.collect()))
}

async fn runners(State(app): State<App>, _: Operator) -> Result<Json<Vec<Runner>>, ApiError> {
    let rows = app.engine.store().runners().await?;
    let out = rows.into_iter().map(|r| Runner {
        name: r.name,
        version: r.version,
        last_seen: r.last_seen,
        netboot_problem: r.problem,
    });
    Ok(Json(out.collect()))
}
