//! The edge: what went wrong becomes a status, a code, a sentence and a hint.

use assay_api::Problem;
use assay_artifacts::ArtifactError;
use assay_engine::EngineError;
use assay_store::StoreError;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tracing::error;

/// A refusal on its way out.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    problem: Problem,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let problem = Problem { code: code.to_owned(), message: message.into(), hint: None };
        Self { status, problem }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.problem.hint = Some(hint.into());
        self
    }

    pub(crate) fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no {what}"))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
    }

    pub(crate) fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub(crate) fn message(&self) -> &str {
        &self.problem.message
    }

    pub(crate) fn hint_text(&self) -> Option<&str> {
        self.problem.hint.as_deref()
    }

    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            error!(http.status = self.status.as_u16(), "{}", self.problem.message);
        }
        (self.status, Json(self.problem)).into_response()
    }
}

impl From<EngineError> for ApiError {
    fn from(e: EngineError) -> Self {
        match e {
            EngineError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "not_found", e.to_string()),
            EngineError::Refused(_) | EngineError::Illegal(_) => {
                Self::new(StatusCode::CONFLICT, "refused", e.to_string())
            }
            EngineError::Invalid(_) => Self::invalid(e.to_string()),
            EngineError::Store(store) => store.into(),
            EngineError::Artifact(artifact) => artifact.into(),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(e: StoreError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "store", e.to_string())
    }
}

impl From<ArtifactError> for ApiError {
    fn from(e: ArtifactError) -> Self {
        let (status, code) = match e {
            ArtifactError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            ArtifactError::Mismatch { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "digest_mismatch"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "artifacts"),
        };
        Self::new(status, code, e.to_string())
    }
}
