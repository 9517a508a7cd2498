//! `/api/v1/images`: images and their runs.

use assay_api::operator::{RunSummary, TestImage};
use assay_engine::images::ImageRequest;
use assay_pipelines::image::ImageSpec;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};

use crate::auth::Operator;
use crate::error::ApiError;
use crate::state::App;
use crate::wire::JsonBody;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/api/v1/images/runs", post(test))
}

async fn test(
    State(app): State<App>,
    operator: Operator,
    JsonBody(asked): JsonBody<TestImage>,
) -> Result<Json<RunSummary>, ApiError> {
    let spec = ImageSpec::of(&asked.spec).map_err(ApiError::invalid)?;
    // What a client calls valid is checked again: it may be older than this server.
    spec.profile.checked().map_err(|e| ApiError::invalid(e.to_string()))?;
    let request = ImageRequest { spec, runner: asked.runner, muted: asked.muted, by: operator.name };
    let run = app.engine.test_image(request).await?;
    Ok(Json(super::summary(&app, &run)))
}
