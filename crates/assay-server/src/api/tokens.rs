//! `/api/v1/tokens`: API tokens for scripts. Shown in clear once, kept as digests.

use assay_store::{Role, UnknownRole};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::auth::{self, Operator};
use crate::error::ApiError;
use crate::state::App;
use crate::wire::JsonBody;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/tokens", get(list).post(create))
        .route("/api/v1/tokens/{name}", delete(revoke))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    name: String,
    /// `viewer`, `operator` (without it) or `admin`.
    #[serde(default)]
    role: Option<String>,
}

async fn list(State(app): State<App>, _: Operator) -> Result<Json<Value>, ApiError> {
    let tokens = app.engine.store().api_tokens().await?;
    let shown = tokens.into_iter().map(|t| {
        json!({ "name": t.name, "role": t.role.as_str(), "created_at": t.created_at, "revoked_at": t.revoked_at })
    });
    Ok(Json(shown.collect()))
}

async fn create(
    State(app): State<App>,
    _: Operator,
    JsonBody(new): JsonBody<NewToken>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if new.name.is_empty() || new.name.len() > 64 || !new.name.bytes().all(plain) {
        return Err(ApiError::invalid("a token's name has letters, digits, `.`, `_` and `-`, at most 64"));
    }
    if app.engine.store().api_tokens().await?.iter().any(|t| t.name == new.name && t.revoked_at.is_none()) {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "exists",
            format!("there is a token `{}` already", new.name),
        ));
    }
    let role = new.role.as_deref().map_or(Ok(Role::Operator), str::parse);
    let role = role.map_err(|e: UnknownRole| ApiError::invalid(e.to_string()))?;
    let token = auth::mint_token(&app, &new.name, role).await?;
    Ok((StatusCode::CREATED, Json(json!({ "name": new.name, "role": role.as_str(), "token": token }))))
}

async fn revoke(
    State(app): State<App>,
    _: Operator,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let now = app.engine.now();
    if app.engine.store().api_token_revoke(&name, now).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::not_found(format!("token `{name}`")))
    }
}
