//! `/api/v1/digest/feed`: the address of the weekly digest's feed that a feed reader can use, which sends neither session nor
//! token. It has a secret of its own, which opens the feed and nothing else; a new address makes the one before it void.

use assay_model::Sha256;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use crate::auth::{self, Operator};
use crate::error::ApiError;
use crate::state::App;

/// The setting with the secret's digest.
const KEY: &str = "digest.feed";

pub(super) fn routes() -> Router<App> {
    Router::new().route("/api/v1/digest/feed", post(make).delete(revoke))
}

/// Whether this is the secret of the feed's address.
pub(crate) async fn opens(app: &App, secret: &str) -> Result<bool, ApiError> {
    let known = app.engine.store().setting(KEY).await?;
    let Some(known) = known.as_ref().and_then(|known| known["sha256"].as_str()) else { return Ok(false) };
    let given = Sha256::of(secret.as_bytes()).to_string();
    Ok(bool::from(given.as_bytes().ct_eq(known.as_bytes())))
}

async fn make(State(app): State<App>, operator: Operator) -> Result<(StatusCode, Json<Value>), ApiError> {
    let secret = auth::secret();
    let digest = Sha256::of(secret.as_bytes()).to_string();
    let kept = json!({ "sha256": digest, "by": operator.name, "at": app.engine.now() });
    app.engine.store().set_setting(KEY, &kept).await?;
    Ok((StatusCode::CREATED, Json(json!({ "path": format!("/digest.atom?key={secret}") }))))
}

async fn revoke(State(app): State<App>, _: Operator) -> Result<StatusCode, ApiError> {
    app.engine.store().set_setting(KEY, &Value::Null).await?;
    Ok(StatusCode::NO_CONTENT)
}
