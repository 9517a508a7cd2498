//! Where forges deliver: `POST /hooks/forge/NAME`. A delivery is believed for its signature; whatever is wrong with one, polling
//! finds what it was about.

use assay_forge::hook::{self, Headers, HookError, MAX_BODY, Told};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use tracing::{debug, warn};

use super::listen;
use crate::error::ApiError;
use crate::state::App;

/// Where a forge's deliveries go.
pub(super) fn path(forge: &str) -> String {
    format!("/hooks/forge/{forge}")
}

pub(crate) fn routes() -> Router<App> {
    // One byte more than is taken, so that too large is told apart from cut off.
    Router::new().route("/hooks/forge/{name}", post(deliver)).layer(DefaultBodyLimit::max(MAX_BODY + 1))
}

async fn deliver(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let nobody = || ApiError::not_found("webhook".to_owned());
    let known = app.shared.forges.named(&name).ok_or_else(nobody)?;
    let settings = known.settings.webhook.as_ref().ok_or_else(nobody)?;
    let headers =
        Headers::pick(known.settings.kind, |name| headers.get(name).map(axum::http::HeaderValue::as_bytes));
    let told = match hook::read(&headers, &body, &settings.secret) {
        Ok(told) => told,
        Err(problem) => {
            warn!(forge = name, "a delivery is not taken: {problem}");
            return Err(match problem {
                HookError::Unsigned | HookError::WrongSignature => {
                    ApiError::unauthorized(&problem.to_string())
                }
                _ => ApiError::invalid(problem.to_string()),
            });
        }
    };
    let now = app.engine.now();
    if let Some(id) = headers.delivery()
        && known.memory.deliveries().meet(id, now)
    {
        debug!(forge = name, delivery = id, "came before");
        return Ok(StatusCode::NO_CONTENT);
    }
    match told {
        Told::Comment { repo, comment } if hook::is_timely(&comment, now) => {
            listen::hooked(&app, known, &repo, *comment).await?;
        }
        Told::Pull { .. } => known.pushed.notify_one(),
        // A recording, or a clock that is far off: polling knows better.
        Told::Comment { .. } | Told::Ping | Told::Nothing => {}
    }
    Ok(StatusCode::NO_CONTENT)
}
