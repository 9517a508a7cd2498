//! Nobody gets in unasked: operators by session or API token, runners by join token.
//!
//! Sessions are random tokens in a strict cookie, kept as hashes. What a browser sends to change
//! something must carry the session's CSRF token; bearer tokens need none, since no browser sends
//! them by itself.

use std::collections::VecDeque;
use std::sync::Mutex;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use assay_model::{Micros, Sha256};
use assay_store::{ApiTokenRow, OperatorRow, SessionRow};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq as _;

use crate::error::ApiError;
use crate::state::App;

/// How long a session lasts.
const SESSION: Micros = Micros::seconds(12 * 3600);
/// The cookie.
pub(crate) const COOKIE_NAME: &str = "assay_session";
/// Shortest password taken.
const MIN_PASSWORD: usize = 10;
/// Most sign-in attempts a minute, over all clients: a person needs few, a guesser many.
const ATTEMPTS_A_MINUTE: usize = 10;

/// Someone who may look and decide.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    /// The operator's or the API token's name; stands in the journal beside decisions.
    pub(crate) name: String,
    /// The CSRF token of a browser's session.
    pub(crate) csrf: Option<String>,
}

/// A runner with the join token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JoinedRunner;

/// A random secret for a token, 64 hex digits.
pub(crate) fn secret() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

/// The role of an API token.
pub(crate) const ROLE_OPERATOR: &str = "operator";
/// The role of a runner's join token.
pub(crate) const ROLE_RUNNER: &str = "runner";

/// Sets an operator's password.
pub(crate) async fn set_password(app: &App, name: &str, password: &str) -> Result<(), ApiError> {
    if password.chars().count() < MIN_PASSWORD {
        return Err(ApiError::invalid(format!("choose a password of at least {MIN_PASSWORD} characters")));
    }
    let password = password.to_owned();
    let hash = tokio::task::spawn_blocking(move || {
        Argon2::default().hash_password(password.as_bytes()).map(|h| h.to_string())
    })
    .await
    .map_err(|e| internal(&e))?
    .map_err(|e| internal(&e))?;
    let row = OperatorRow { name: name.to_owned(), hash, role: "admin".to_owned(), created_at: app.engine.now() };
    app.engine.store().operator_put(row).await?;
    *app.shared.setup_code.write().await = None;
    Ok(())
}

/// Signs an operator in; returns the session's secret.
pub(crate) async fn sign_in(app: &App, name: &str, password: &str) -> Result<String, ApiError> {
    let now = app.engine.now();
    if !app.shared.attempts.take(now) {
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "slow_down", "too many sign-in attempts")
            .hint("wait a minute and try again"));
    }
    let wrong = || ApiError::unauthorized("name or password is wrong");
    let row = app.engine.store().operator(name).await?.ok_or_else(wrong)?;
    let password = password.to_owned();
    let good = tokio::task::spawn_blocking(move || {
        PasswordHash::new(&row.hash)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    })
    .await
    .map_err(|e| internal(&e))?;
    if !good {
        return Err(wrong());
    }
    let secret = secret();
    let session = SessionRow {
        hash: Sha256::of(secret.as_bytes()),
        operator: name.to_owned(),
        csrf: self::secret(),
        expires: now.plus(SESSION),
    };
    app.engine.store().session_put(session).await?;
    Ok(secret)
}

/// Ends a session.
pub(crate) async fn sign_out(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    if let Some(secret) = cookie(headers) {
        app.engine.store().session_remove(Sha256::of(secret.as_bytes())).await?;
    }
    Ok(())
}

/// Registers an API token and returns it in clear, once.
pub async fn mint_token(app: &App, name: &str, role: &str) -> Result<String, assay_store::StoreError> {
    let secret = secret();
    let row = ApiTokenRow {
        hash: Sha256::of(secret.as_bytes()),
        name: name.to_owned(),
        role: role.to_owned(),
        created_at: app.engine.now(),
        revoked: false,
    };
    app.engine.store().api_token_put(row).await?;
    Ok(secret)
}

impl FromRequestParts<App> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        if let Some(operator) = parts.extensions.get::<Self>() {
            return Ok(operator.clone());
        }
        identify(app, &parts.headers).await?.ok_or_else(|| {
            ApiError::unauthorized("sign in, or send an API token")
                .hint("the command line reads the token from ASSAY_TOKEN or the data folder")
        })
    }
}

impl FromRequestParts<App> for JoinedRunner {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let token = bearer(&parts.headers).ok_or_else(|| ApiError::unauthorized("a runner's join token is needed"))?;
        match app.engine.store().api_token(Sha256::of(token.as_bytes())).await? {
            Some(row) if row.role == ROLE_RUNNER && !row.revoked => Ok(Self),
            _ => Err(ApiError::unauthorized("this is no runner's join token")),
        }
    }
}

/// Who sends this, if anyone we know.
pub(crate) async fn identify(app: &App, headers: &HeaderMap) -> Result<Option<Operator>, ApiError> {
    if let Some(token) = bearer(headers) {
        let row = app.engine.store().api_token(Sha256::of(token.as_bytes())).await?;
        return Ok(row
            .filter(|row| row.role == ROLE_OPERATOR && !row.revoked)
            .map(|row| Operator { name: format!("token {}", row.name), csrf: None }));
    }
    let Some(secret) = cookie(headers) else { return Ok(None) };
    let session = app.engine.store().session(Sha256::of(secret.as_bytes())).await?;
    Ok(session
        .filter(|s| s.expires > app.engine.now())
        .map(|s| Operator { name: s.operator, csrf: Some(s.csrf) }))
}

/// Refuses changes from a browser that do not carry the session's CSRF token, either in the
/// header `x-csrf-token` or as the form field `csrf` (which the handler checks).
pub(crate) async fn guard_csrf(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if let Some(operator) = identify(&app, request.headers()).await? {
        if changes && let Some(csrf) = &operator.csrf {
            let sent = request.headers().get("x-csrf-token").map(|v| v.as_bytes().to_vec());
            if !bool::from(sent.unwrap_or_default().as_slice().ct_eq(csrf.as_bytes())) {
                return Err(ApiError::new(StatusCode::FORBIDDEN, "csrf", "this form is out of date")
                    .hint("reload the page and try again"));
            }
        }
        request.extensions_mut().insert(operator);
    }
    Ok(next.run(request).await)
}

/// The bearer token of a request.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='))
}

fn internal(e: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", e.to_string())
}

/// A sliding minute of sign-in attempts.
#[derive(Default)]
pub(crate) struct Attempts(Mutex<VecDeque<Micros>>);

impl Attempts {
    fn take(&self, now: Micros) -> bool {
        let mut recent = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while recent.front().is_some_and(|at| now.since(*at) > Micros::seconds(60)) {
            recent.pop_front();
        }
        if recent.len() >= ATTEMPTS_A_MINUTE {
            return false;
        }
        recent.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guesser_is_slowed_and_time_heals() {
        let attempts = Attempts::default();
        let start = Micros::seconds(1000);
        assert!((0..ATTEMPTS_A_MINUTE).all(|_| attempts.take(start)));
        assert!(!attempts.take(start));
        assert!(attempts.take(start.plus(Micros::seconds(61))));
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, "a=1; assay_session=abc; b=2".parse().expect("valid"));
        assert_eq!(cookie(&headers), Some("abc"));
        headers.insert(COOKIE, "assay_sessionx=abc".parse().expect("valid"));
        assert_eq!(cookie(&headers), None);
    }
}
