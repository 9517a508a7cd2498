//! Signing in and out, and the first password.

use askama::Template;
use axum::Form;
use axum::extract::{Query, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::format::sentence;
use super::shell::{PageError, Shell, Signed, page, page_with, see_other};
use crate::auth::{self, COOKIE_NAME};
use crate::error::ApiError;
use crate::state::App;

/// As long as a session lasts on the server.
const COOKIE_SECONDS: u32 = 12 * 3600;

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    shell: Shell,
    next: String,
    name: String,
    error: Option<String>,
}

#[derive(Template)]
#[template(path = "setup.html")]
struct SetupPage {
    shell: Shell,
    error: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Next {
    next: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    name: String,
    password: String,
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub(super) struct FirstPassword {
    code: String,
    password: String,
    again: String,
}

pub(super) async fn login(State(app): State<App>, Query(query): Query<Next>) -> Result<Response, PageError> {
    if app.shared.setup_code.read().await.is_some() {
        return Ok(see_other("/setup"));
    }
    let next = local(query.next.as_deref().unwrap_or("/"));
    page(&LoginPage { shell: Shell::bare(), next, name: "operator".to_owned(), error: None })
}

pub(super) async fn sign_in(
    State(app): State<App>,
    headers: HeaderMap,
    Form(form): Form<Credentials>,
) -> Result<Response, PageError> {
    same_site(&headers)?;
    let next = local(&form.next);
    match auth::sign_in(&app, form.name.trim(), &form.password).await {
        Ok(secret) => Ok(signed_in(&secret, &next)),
        Err(error) if error.status().is_server_error() => Err(error.into()),
        Err(error) => {
            let again = LoginPage {
                shell: Shell::bare(),
                next,
                name: form.name,
                error: Some(sentence(error.message())),
            };
            page_with(error.status(), &again)
        }
    }
}

pub(super) async fn setup(State(app): State<App>) -> Result<Response, PageError> {
    if app.shared.setup_code.read().await.is_none() {
        return Ok(see_other("/login"));
    }
    page(&SetupPage { shell: Shell::bare(), error: None })
}

pub(super) async fn first_password(
    State(app): State<App>,
    headers: HeaderMap,
    Form(form): Form<FirstPassword>,
) -> Result<Response, PageError> {
    same_site(&headers)?;
    let outcome = if form.password == form.again {
        auth::first_password(&app, &form.code, &form.password).await
    } else {
        Err(ApiError::invalid("the two passwords differ; type the same one twice"))
    };
    match outcome {
        Ok(secret) => Ok(signed_in(&secret, "/")),
        Err(error) if error.status().is_server_error() => Err(error.into()),
        Err(error) => {
            let again = SetupPage { shell: Shell::bare(), error: Some(sentence(error.message())) };
            page_with(error.status(), &again)
        }
    }
}

/// A link from elsewhere arrives without the strict cookie; the sign-in page asks here, from our own site.
pub(super) async fn whether(State(app): State<App>, headers: HeaderMap) -> Result<&'static str, ApiError> {
    let known = auth::identify(&app, &headers).await?;
    Ok(if known.is_some() { "yes" } else { "no" })
}

pub(super) async fn sign_out(
    State(app): State<App>,
    _: Signed,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    auth::sign_out(&app, &headers).await?;
    let gone = format!("{COOKIE_NAME}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0");
    Ok(([(SET_COOKIE, gone)], see_other("/login")).into_response())
}

fn signed_in(secret: &str, next: &str) -> Response {
    let cookie =
        format!("{COOKIE_NAME}={secret}; HttpOnly; SameSite=Strict; Path=/; Max-Age={COOKIE_SECONDS}");
    ([(SET_COOKIE, cookie)], see_other(next)).into_response()
}

/// Only ever back to a page of ours: never to another site, and not round in a circle.
fn local(next: &str) -> String {
    let ours = next.starts_with('/')
        && !next.starts_with("//")
        && !next.contains('\\')
        && next.bytes().all(|b| b.is_ascii_graphic());
    let circle = ["/login", "/setup", "/logout"].iter().any(|p| next.starts_with(p));
    if ours && !circle { next.to_owned() } else { "/".to_owned() }
}

/// There is no session yet that could carry a token; browsers say by themselves where a form came from.
fn same_site(headers: &HeaderMap) -> Result<(), ApiError> {
    let from = headers.get("sec-fetch-site").and_then(|v| v.to_str().ok());
    match from {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) => {
            Err(ApiError::new(StatusCode::FORBIDDEN, "cross_site", "this form was sent by another site")
                .hint("open the sign-in page itself and try again"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_never_leads_elsewhere() {
        assert_eq!(local("/runs/12?x=1"), "/runs/12?x=1");
        for bad in [
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "",
            "runs",
            "/a\r\nb",
            "/login?next=/",
        ] {
            assert_eq!(local(bad), "/", "{bad:?}");
        }
    }

    #[test]
    fn a_sign_in_form_from_another_site_is_refused() {
        let mut headers = HeaderMap::new();
        assert!(same_site(&headers).is_ok(), "programs do not send it");
        for (from, good) in
            [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false)]
        {
            headers.insert("sec-fetch-site", from.parse().expect("valid"));
            assert_eq!(same_site(&headers).is_ok(), good, "{from}");
        }
    }
}
