//! `/api/v1/key`: the public half of the key that signs verdicts, for whoever checks them offline.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::auth::Operator;
use crate::state::App;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/api/v1/key", get(key))
}

async fn key(State(app): State<App>, _: Operator) -> Json<Value> {
    let public = app.shared.key.public();
    Json(json!({ "key_id": public.key_id(), "pem": public.to_pem() }))
}
