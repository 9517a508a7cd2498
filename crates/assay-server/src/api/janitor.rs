//! `/api/v1/janitor`: what is thrown away, and when. For admins alone (`auth::guard`).

use assay_engine::janitor::{Cleaned, Retention};
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use crate::auth::Operator;
use crate::error::ApiError;
use crate::state::App;
use crate::wire::JsonBody;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/janitor", get(settings).put(change))
        .route("/api/v1/janitor/clean", post(clean))
}

async fn settings(State(app): State<App>, _: Operator) -> Result<Json<Retention>, ApiError> {
    Ok(Json(app.engine.retention().await?))
}

async fn change(
    State(app): State<App>,
    _: Operator,
    JsonBody(retention): JsonBody<Retention>,
) -> Result<Json<Retention>, ApiError> {
    app.engine.set_retention(retention).await?;
    Ok(Json(retention))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clean {
    dry_run: bool,
}

async fn clean(
    State(app): State<App>,
    _: Operator,
    JsonBody(clean): JsonBody<Clean>,
) -> Result<Json<Cleaned>, ApiError> {
    Ok(Json(app.engine.clean(clean.dry_run).await?))
}
