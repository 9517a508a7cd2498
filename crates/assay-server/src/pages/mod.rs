//! What operators see in a browser: server-rendered pages, plain forms, and fragments that refresh themselves.
//!
//! Every page is a fold of the same data that the API gives, drawn up by pure functions and escaped by the
//! template engine. Every change is a plain form that works without script; script only makes a page live.

mod assets;
mod batches;
mod compat;
mod dashboard;
mod digest;
mod fleet;
mod forges;
mod format;
mod hosts;
mod image_model;
mod images;
mod notify;
mod queue;
mod recipes;
mod run;
mod run_model;
mod runs;
mod schedules;
mod session;
mod shell;
mod stage_model;
mod transcript;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::error::ApiError;
use crate::state::App;

/// Pages for those who have signed in; everyone else is sent to the sign-in.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(fleet::page))
        .route("/fleet", get(fleet::fragment))
        .route("/hosts", post(hosts::add))
        .route("/hosts/new", get(hosts::form))
        .route("/hosts/{name}", get(hosts::page).post(hosts::replace))
        .route("/hosts/{name}/edit", get(hosts::edit))
        .route("/hosts/{name}/remove", post(hosts::remove))
        .route("/hosts/{name}/vet", post(hosts::vet))
        .route("/images", get(images::page))
        .route("/images/state", get(images::fragment))
        .route("/images/{name}", get(images::one))
        .route("/recipes", get(recipes::page))
        .route("/recipes/state", get(recipes::fragment))
        .route("/recipes/{name}", get(recipes::one))
        .route("/dashboard", get(dashboard::page))
        .route("/dashboard/state", get(dashboard::fragment))
        .route("/digest", get(digest::page))
        .route("/digest.md", get(digest::markdown))
        .route("/digest.atom", get(digest::feed))
        .route("/matrix", get(compat::page))
        .route("/queue", get(queue::page))
        .route("/queue/state", get(queue::fragment))
        .route("/queue/rule", post(queue::rule))
        .route("/forges", get(forges::page))
        .route("/forges/state", get(forges::fragment))
        .route("/schedules", get(schedules::page).post(schedules::add))
        .route("/schedules/{name}", get(schedules::one))
        .route("/schedules/{name}/rule", post(schedules::rule))
        .route("/batches", get(batches::page).post(batches::begin))
        .route("/batches/plan", get(batches::plan))
        .route("/batches/{number}", get(batches::one))
        .route("/batches/{number}/state", get(batches::fragment))
        .route("/batches/{number}/rule", post(batches::rule))
        .route("/runs", get(runs::page))
        .route("/runs/{number}", get(run::page))
        .route("/runs/{number}/state", get(run::fragment))
        .route("/runs/{number}/decide", post(run::decide))
        .route("/runs/{number}/report", get(run::report))
        .route("/runs/{number}/log.txt", get(run::log))
        .route("/runs/{number}/files/{name}", get(transcript::page))
        .route("/notifications", get(notify::page))
        .route("/notifications/test", post(notify::test))
        .route("/logout", post(session::sign_out))
        .fallback(nowhere)
}

/// What needs no session: signing in, the first password, and the files that pages load.
pub(crate) fn open_routes() -> Router<App> {
    Router::new()
        .route("/login", get(session::login).post(session::sign_in))
        .route("/setup", get(session::setup).post(session::first_password))
        .route("/session", get(session::whether))
        .route("/static/{name}", get(assets::file))
        .route("/favicon.ico", get(assets::favicon))
}

/// A refusal on its way to whoever asked: a page for people, JSON for programs.
pub(crate) fn refusal(path: &str, error: ApiError) -> Response {
    if is_for_programs(path) { error.into_response() } else { shell::PageError::from(error).into_response() }
}

async fn nowhere(request: Request) -> Response {
    let path = request.uri().path();
    let error = ApiError::not_found("such page")
        .hint("the address may be mistyped, or the page is from another version");
    refusal(path, error)
}

fn is_for_programs(path: &str) -> bool {
    ["/api/", "/agent/", "/runner/"].iter().any(|prefix| path.starts_with(prefix))
}
