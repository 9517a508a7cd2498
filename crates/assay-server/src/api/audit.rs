//! `/api/v1/audit`: who asked for which change, in a chain of its own.

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::auth::Operator;
use crate::error::ApiError;
use crate::state::App;

/// Most entries in one answer.
const PAGE: u32 = 500;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/api/v1/audit", get(list))
}

#[derive(Deserialize)]
struct AuditQuery {
    #[serde(default)]
    after: i64,
}

async fn list(
    State(app): State<App>,
    _: Operator,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Value>, ApiError> {
    let entries = app.engine.store().audit_after(query.after, PAGE).await?;
    let shown = entries.into_iter().map(|e| {
        let entry: Value = serde_json::from_slice(&e.body).unwrap_or(Value::Null);
        json!({ "seq": e.seq, "at": e.at, "entry": entry, "hash": e.hash })
    });
    Ok(Json(shown.collect()))
}
