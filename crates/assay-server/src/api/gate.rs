//! `/api/v1/hosts/{name}/gate`: may the machine go back to work? The answer and every reason.

use assay_api::operator::{Gate, GateReason};
use assay_engine::gate::GateRule;
use assay_model::Micros;
use assay_model::host::order::Profile;
use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use super::hosts::find;
use crate::auth::Operator;
use crate::error::ApiError;
use crate::state::App;

/// How old a verdict may be unless the question says otherwise: a week.
const MAX_AGE_S: u32 = 7 * 24 * 3600;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/api/v1/hosts/{name}/gate", get(gate))
}

#[derive(Deserialize)]
struct GateQuery {
    #[serde(default)]
    max_age_s: Option<u32>,
    #[serde(default)]
    allow_waived: bool,
    #[serde(default)]
    profile: Profile,
}

async fn gate(
    State(app): State<App>,
    _: Operator,
    Path(name): Path<String>,
    Query(query): Query<GateQuery>,
) -> Result<Json<Gate>, ApiError> {
    let host = find(&app, &name).await?;
    let max_age = Micros::seconds(i64::from(query.max_age_s.unwrap_or(MAX_AGE_S)));
    let rule = GateRule { max_age, allow_waived: query.allow_waived, least: query.profile };
    let answer = app.engine.gate(&host, rule).await?;
    let told = |reason: assay_engine::gate::GateReason| GateReason {
        code: reason.code.to_owned(),
        message: reason.message,
    };
    Ok(Json(Gate {
        host: host.name,
        open: answer.reasons.is_empty(),
        run: answer.run,
        profile: answer.profile,
        completed_at: answer.completed_at,
        reasons: answer.reasons.into_iter().map(told).collect(),
    }))
}
