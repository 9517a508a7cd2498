//! `/api/v1/forges`: what is listened to, what was asked, and whether the tokens do.

use assay_api::forges::{Checked, Forges};
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};

use crate::auth::Operator;
use crate::error::ApiError;
use crate::forges;
use crate::state::App;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/api/v1/forges", get(show)).route("/api/v1/forges/{name}/check", post(check))
}

async fn show(State(app): State<App>, _: Operator) -> Result<Json<Forges>, ApiError> {
    Ok(Json(forges::overview(&app).await?))
}

async fn check(
    State(app): State<App>,
    _: Operator,
    Path(name): Path<String>,
) -> Result<Json<Checked>, ApiError> {
    Ok(Json(forges::check(&app, &name).await?))
}
