//! What the agents', the runners' and the operators' endpoints have in common: bodies, and waiting.

use std::time::Duration;

use assay_api::agent::MAX_JSON;
use assay_model::RunId;
use assay_store::Changed;
use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::time::Instant;

use crate::error::ApiError;
use crate::state::App;

/// JSON whose refusals have our shape.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: serde::de::DeserializeOwned> FromRequest<App> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        match Json::<T>::from_request(request, app).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                format!("the body is larger than {} MiB", MAX_JSON >> 20),
            )),
            Err(rejection) => Err(ApiError::invalid(rejection.body_text())),
        }
    }
}

/// Longest long poll, in seconds.
const MAX_WAIT_S: u64 = 30;

/// How long a long poll may be kept open.
#[derive(Deserialize)]
pub(crate) struct Wait {
    #[serde(default)]
    wait_s: u64,
}

impl Wait {
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.wait_s.min(MAX_WAIT_S))
    }
}

/// Until something was committed for the run, or the deadline.
pub(crate) async fn wait_for_news(changes: &mut Receiver<Changed>, run: RunId, deadline: Instant) {
    let news = async {
        loop {
            match changes.recv().await {
                Ok(other) if other.run != run => {}
                // A lagging receiver has missed something: look again.
                Ok(_) | Err(_) => return,
            }
        }
    };
    let _ = tokio::time::timeout_at(deadline, news).await;
}
