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
use assay_store::{ApiToken, Operator as OperatorRow, Role, Session, StoreError};
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use tracing::error;

use crate::error::ApiError;
use crate::state::App;

/// How long a session lasts.
const SESSION: Micros = Micros::seconds(12 * 3600);
/// The cookie.
pub(crate) const COOKIE_NAME: &str = "assay_session";
/// Shortest password taken.
const MIN_PASSWORD: usize = 10;
/// Longest form taken: a host's spec is the longest thing in one.
const MAX_FORM: usize = 1 << 20;
/// Most sign-in attempts a minute, over all clients: a person needs few, a guesser many.
const ATTEMPTS_A_MINUTE: usize = 10;

/// What only admins may even look at: people, tokens, and what is thrown away.
const ADMINS_ONLY: [&str; 3] = ["/api/v1/tokens", "/api/v1/operators", "/api/v1/janitor"];
/// The one change that everyone may make.
const SIGN_OUT: &str = "/logout";

/// Someone who may look and decide.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    /// The operator's or the API token's name; stands in the journal beside decisions.
    pub(crate) name: String,
    /// The CSRF token of a browser's session.
    pub(crate) csrf: Option<String>,
    /// What they may do; [`guard`] has looked at it before any handler.
    pub(crate) role: Role,
}

/// A runner with the join token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JoinedRunner;

/// The name of the first operator.
pub(crate) const FIRST_OPERATOR: &str = "operator";

/// A random secret for a token, 64 hex digits.
pub(crate) fn secret() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

/// The setting with the digest of the runners' join token.
const JOIN_TOKEN: &str = "runner.join_token";

/// Sets the first operator's password: who sets a machine up may do everything.
pub(crate) async fn set_password(app: &App, name: &str, password: &str) -> Result<(), ApiError> {
    put_operator(app, name, password, Role::Admin).await
}

/// Stores an operator, or changes password and role of the one of this name.
pub(crate) async fn put_operator(app: &App, name: &str, password: &str, role: Role) -> Result<(), ApiError> {
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
    let row = OperatorRow { name: name.to_owned(), password_hash: hash, role };
    app.engine.store().operator_put(&row).await?;
    *app.shared.setup_code.write().await = None;
    Ok(())
}

/// Sets the first operator's password and signs them in, for whoever has the code from the terminal.
pub(crate) async fn first_password(app: &App, code: &str, password: &str) -> Result<String, ApiError> {
    if !app.shared.attempts.take(app.engine.now()) {
        return Err(too_many());
    }
    // Taken out before the password is set: the code works once, even for two at the same time.
    let mut slot = app.shared.setup_code.write().await;
    let right = slot.as_ref().is_some_and(|right| bool::from(right.as_bytes().ct_eq(code.trim().as_bytes())));
    if !right {
        return Err(ApiError::unauthorized(
            "that is not the setup code; it stands where `assay serve` was started",
        ));
    }
    let taken = slot.take();
    drop(slot);
    if let Err(error) = set_password(app, FIRST_OPERATOR, password).await {
        *app.shared.setup_code.write().await = taken;
        return Err(error);
    }
    sign_in(app, FIRST_OPERATOR, password).await
}

/// Signs an operator in; returns the session's secret.
pub(crate) async fn sign_in(app: &App, name: &str, password: &str) -> Result<String, ApiError> {
    let now = app.engine.now();
    if !app.shared.attempts.take(now) {
        return Err(too_many());
    }
    let wrong = || ApiError::unauthorized("name or password is wrong");
    let row = app.engine.store().operator(name).await?.ok_or_else(wrong)?;
    let password = password.to_owned();
    let good = tokio::task::spawn_blocking(move || {
        PasswordHash::new(&row.password_hash)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    })
    .await
    .map_err(|e| internal(&e))?;
    if !good {
        audit(app, name, "sign-in refused", &Value::Null).await;
        return Err(wrong());
    }
    audit(app, name, "sign-in", &Value::Null).await;
    let secret = secret();
    let session = Session {
        hash: Sha256::of(secret.as_bytes()),
        operator: name.to_owned(),
        csrf: self::secret(),
        expires: now.plus(SESSION),
    };
    app.engine.store().session_put(&session).await?;
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
pub(crate) async fn mint_token(app: &App, name: &str, role: Role) -> Result<String, StoreError> {
    let secret = secret();
    let row = ApiToken {
        hash: Sha256::of(secret.as_bytes()),
        name: name.to_owned(),
        role,
        created_at: app.engine.now(),
        revoked_at: None,
    };
    app.engine.store().api_token_put(&row).await?;
    Ok(secret)
}

/// Makes the runners' join token and returns it in clear, once.
pub(crate) async fn mint_join_token(app: &App) -> Result<String, StoreError> {
    let secret = secret();
    let hash = Sha256::of(secret.as_bytes()).to_string();
    app.engine.store().set_setting(JOIN_TOKEN, &hash.into()).await?;
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
        let token = bearer(&parts.headers)
            .ok_or_else(|| ApiError::unauthorized("a runner's join token is needed"))?;
        let hash = Sha256::of(token.as_bytes()).to_string();
        match app.engine.store().setting(JOIN_TOKEN).await? {
            Some(known) if known.as_str() == Some(hash.as_str()) => Ok(Self),
            _ => Err(ApiError::unauthorized("this is no runner's join token")),
        }
    }
}

/// Who sends this, if anyone we know.
pub(crate) async fn identify(app: &App, headers: &HeaderMap) -> Result<Option<Operator>, ApiError> {
    if let Some(token) = bearer(headers) {
        let row = app.engine.store().api_token(Sha256::of(token.as_bytes())).await?;
        return Ok(row.filter(|row| row.revoked_at.is_none()).map(|row| Operator {
            name: format!("token {}", row.name),
            csrf: None,
            role: row.role,
        }));
    }
    let Some(secret) = cookie(headers) else { return Ok(None) };
    let session = app.engine.store().session(Sha256::of(secret.as_bytes())).await?;
    let Some(session) = session.filter(|s| s.expires > app.engine.now()) else { return Ok(None) };
    let row = app.engine.store().operator(&session.operator).await?;
    Ok(row.map(|row| Operator { name: row.name, csrf: Some(session.csrf), role: row.role }))
}

/// Refuses what the operator's role does not allow, and changes from a browser that do not carry the session's CSRF token, in the header
/// `x-csrf-token` or as the form field `csrf`, and writes every change that an operator asks for
/// into the audit trail. It stands before every handler, so none can forget.
pub(crate) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let is_deed = is_change(request.method()) && !has_its_own_record(&path);
    let what = is_deed.then(|| format!("{} {path}", request.method()));
    let request = match checked(&app, request).await {
        Ok(request) => request,
        Err(Refused { who, error }) => {
            if let (Some(who), Some(what)) = (who, what) {
                let status = error.status().as_u16();
                audit(&app, &who, &what, &json!({ "status": status, "refused": error.message() })).await;
            }
            return crate::pages::refusal(&path, error);
        }
    };
    let who = request.extensions().get::<Operator>().map(|operator| operator.name.clone());
    let response = next.run(request).await;
    if let (Some(who), Some(what)) = (who, what) {
        audit(&app, &who, &what, &json!({ "status": response.status().as_u16() })).await;
    }
    response
}

/// Appends to the audit trail. The deed is done: that it could not be written down is logged.
async fn audit(app: &App, who: &str, what: &str, detail: &Value) {
    if let Err(problem) = app.engine.store().audit(app.engine.now(), who, what, detail).await {
        error!(operator.name = who, error = %problem, "`{what}` could not be written to the audit trail");
    }
}

fn is_change(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// What is typed on a held machine's terminal is in the session's transcript, letter by letter; the session stands in
/// the audit trail.
fn has_its_own_record(path: &str) -> bool {
    path.starts_with("/api/v1/shells/") && path.ends_with("/input")
}

/// A request that does not reach its handler.
struct Refused {
    /// Whose it is, where that is known.
    who: Option<String>,
    error: ApiError,
}

/// The request with its operator, if it has one and may go on.
async fn checked(app: &App, request: Request) -> Result<Request, Refused> {
    let known = identify(app, request.headers()).await.map_err(|error| Refused { who: None, error })?;
    let Some(operator) = known else { return Ok(request) };
    let who = operator.name.clone();
    permitted(operator, request).await.map_err(|error| Refused { who: Some(who), error })
}

/// The request with its operator in it, if that operator may ask for this.
async fn permitted(operator: Operator, mut request: Request) -> Result<Request, ApiError> {
    if is_change(request.method())
        && let Some(csrf) = &operator.csrf
    {
        let header = request.headers().get("x-csrf-token").map(|header| header.as_bytes().to_vec());
        let sent = if let Some(header) = header {
            header
        } else {
            let (token, whole) = form_token(request).await?;
            request = whole;
            token
        };
        if !bool::from(sent.as_slice().ct_eq(csrf.as_bytes())) {
            return Err(ApiError::new(StatusCode::FORBIDDEN, "csrf", "this form is out of date")
                .hint("go back, reload the page and try again"));
        }
    }
    may(&operator, request.method(), request.uri().path())?;
    request.extensions_mut().insert(operator);
    Ok(request)
}

/// Viewers look, operators start runs and decide about them, admins say who may do what.
fn may(operator: &Operator, method: &Method, path: &str) -> Result<(), ApiError> {
    let needed = if ADMINS_ONLY.iter().any(|part| path.starts_with(part)) {
        Role::Admin
    } else if is_change(method) && path != SIGN_OUT {
        Role::Operator
    } else {
        Role::Viewer
    };
    if operator.role >= needed {
        return Ok(());
    }
    let message = format!("{} is {}; this needs {needed}", operator.name, operator.role);
    Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", message)
        .hint("ask an admin: `assay operator add NAME --role ROLE`"))
}

/// The field `csrf` of a plain form, and the request as it was. Empty where there is none.
async fn form_token(request: Request) -> Result<(Vec<u8>, Request), ApiError> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/x-www-form-urlencoded") {
        return Ok((Vec::new(), request));
    }
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, MAX_FORM).await.map_err(|_| {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("the form is larger than {} KiB", MAX_FORM >> 10),
        )
    })?;
    let token = url::form_urlencoded::parse(&bytes).find(|(name, _)| name == "csrf");
    let token = token.map(|(_, value)| value.into_owned().into_bytes()).unwrap_or_default();
    Ok((token, Request::from_parts(parts, Body::from(bytes))))
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

fn too_many() -> ApiError {
    ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "slow_down",
        "too many attempts; wait a minute and try again",
    )
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
