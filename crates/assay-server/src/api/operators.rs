//! `/api/v1/operators`: the people who may sign in, and what each may do. For admins alone (`auth::guard`).

use assay_api::operator::{NewOperator, OperatorInfo};
use assay_store::{Role, UnknownRole};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};

use crate::auth::{self, Operator};
use crate::error::ApiError;
use crate::state::App;
use crate::wire::JsonBody;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/operators", get(list).post(add))
        .route("/api/v1/operators/{name}", delete(remove))
}

async fn list(State(app): State<App>, _: Operator) -> Result<Json<Vec<OperatorInfo>>, ApiError> {
    let info = |row: assay_store::Operator| OperatorInfo {
        name: row.name,
        role: row.role.as_str().to_owned(),
        password: None,
    };
    Ok(Json(app.engine.store().operators().await?.into_iter().map(info).collect()))
}

async fn add(
    State(app): State<App>,
    _: Operator,
    JsonBody(new): JsonBody<NewOperator>,
) -> Result<(StatusCode, Json<OperatorInfo>), ApiError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if new.name.is_empty() || new.name.len() > 64 || !new.name.bytes().all(plain) {
        return Err(ApiError::invalid(
            "an operator's name has letters, digits, `.`, `_` and `-`, at most 64",
        ));
    }
    let role: Role = new.role.parse().map_err(|e: UnknownRole| ApiError::invalid(e.to_string()))?;
    if role < Role::Admin {
        not_the_last(&app, &new.name).await?;
    }
    let made = new.password.is_none().then(|| auth::secret()[..20].to_owned());
    let password = new.password.or_else(|| made.clone()).unwrap_or_default();
    auth::put_operator(&app, &new.name, &password, role).await?;
    let info = OperatorInfo { name: new.name, role: role.as_str().to_owned(), password: made };
    Ok((StatusCode::CREATED, Json(info)))
}

async fn remove(
    State(app): State<App>,
    _: Operator,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    not_the_last(&app, &name).await?;
    if !app.engine.store().operator_remove(&name).await? {
        return Err(ApiError::not_found(format!("operator `{name}`")).hint("see `assay operator list`"));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Without an admin nobody could add one again.
async fn not_the_last(app: &App, name: &str) -> Result<(), ApiError> {
    let admins = app.engine.store().operators().await?.into_iter().filter(|row| row.role == Role::Admin);
    let names: Vec<String> = admins.map(|row| row.name).collect();
    if names == [name] {
        let message = format!("{name} is the only admin; add another one first");
        return Err(ApiError::new(StatusCode::CONFLICT, "last_admin", message));
    }
    Ok(())
}
