//! `/digest`, `/digest.md` and `/digest.atom`: a week as a page, as Markdown, and finished weeks as a feed. All three are drawn from
//! one [`Digest`].

use askama::Template;
use assay_model::Sha256;
use assay_model::digest::{Digest, Proven, Section, Week, Word};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HOST, HeaderMap};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::shell::{PageError, Shell, Signed, page as finished};
use crate::api::{self, WantedWeek};
use crate::auth::Operator;
use crate::error::ApiError;
use crate::state::App;

/// Finished weeks in the feed.
const WEEKS: usize = 8;

#[derive(Template)]
#[template(path = "digest.html", blocks = ["digest"])]
struct DigestPage {
    shell: Shell,
    title: String,
    week: String,
    unfinished: Option<String>,
    summary: String,
    proven: Vec<Proven>,
    sections: Vec<Section>,
    before: String,
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "digest.xml")]
struct Feed {
    id: String,
    base: String,
    updated: String,
    entries: Vec<Entry>,
}

struct Entry {
    id: String,
    title: String,
    week: String,
    updated: String,
    summary: String,
    /// HTML; the template escapes it once more, as the format wants it.
    content: String,
}

pub(super) async fn page(
    State(app): State<App>,
    Signed(operator): Signed,
    Query(wanted): Query<WantedWeek>,
) -> Result<Response, PageError> {
    let digest = api::digest(&app, &wanted).await?;
    finished(&draw(Shell::new(&operator, "digest"), &digest))
}

pub(super) async fn markdown(
    State(app): State<App>,
    _: Operator,
    Query(wanted): Query<WantedWeek>,
) -> Result<Response, ApiError> {
    let text = api::digest(&app, &wanted).await?.markdown();
    Ok(([(CONTENT_TYPE, "text/markdown; charset=utf-8")], text).into_response())
}

/// What the feed's address may carry.
#[derive(Default, Deserialize)]
pub(super) struct FeedKey {
    key: Option<String>,
}

/// The current week is not in it: what is told there still changes. Who has the address with its secret needs no session.
pub(super) async fn feed(
    State(app): State<App>,
    Query(FeedKey { key }): Query<FeedKey>,
    operator: Result<Operator, ApiError>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    match key {
        Some(key) if api::opens_feed(&app, &key).await? => {}
        _ => drop(operator?),
    }
    let mut digests = Vec::new();
    let mut week = Week::of(app.engine.now());
    for _ in 0..WEEKS {
        week = week.before();
        digests.push(app.engine.digest(Some(week)).await?);
    }
    let text = atom(&digests, &app.shared.key.key_id(), &base(&headers));
    let text = text.render().map_err(|e| {
        let why = format!("the feed cannot be drawn: {e}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "page", why)
    })?;
    Ok(([(CONTENT_TYPE, "application/atom+xml; charset=utf-8")], text).into_response())
}

fn draw(shell: Shell, digest: &Digest) -> DigestPage {
    let moment = digest.to.get(..16).unwrap_or_default().replace('T', " at ");
    DigestPage {
        shell,
        title: digest.title(),
        week: digest.week.to_string(),
        unfinished: digest.unfinished.then(|| format!("{moment} UTC")),
        summary: digest.summary(),
        proven: digest.proven.clone(),
        sections: digest.sections(),
        before: digest.week.before().to_string(),
        after: (!digest.unfinished).then(|| digest.week.after().to_string()),
    }
}

/// Newest first. Weeks in which nothing happened are left out; the first ones of a new server are all like that.
fn atom(digests: &[Digest], server: &str, base: &str) -> Feed {
    let entry = |digest: &Digest| Entry {
        id: urn(&format!("{server} {}", digest.week)),
        title: digest.title(),
        week: digest.week.to_string(),
        updated: digest.to.clone(),
        summary: digest.summary(),
        // A template that could be drawn as a page can be drawn here.
        content: draw(Shell::bare(), digest).as_digest().render().unwrap_or_default(),
    };
    Feed {
        id: urn(server),
        base: base.to_owned(),
        // The moment in which the newest of them was complete, whether there is anything to tell of it or not.
        updated: digests.first().map(|digest| digest.to.clone()).unwrap_or_default(),
        entries: digests.iter().filter(|digest| !digest.is_empty()).map(entry).collect(),
    }
}

/// An address that is this server's and this thing's for good, wherever it moves to: made of the key that it signs with.
fn urn(of: &str) -> String {
    let digest = Sha256::of(format!("assay digest {of}").as_bytes()).0;
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    // Version 8 says that it was made in a way of one's own (RFC 9562).
    format!("urn:uuid:{}", uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// The address that was asked, for readers that follow links from elsewhere; nothing where it is none.
fn base(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let proto = headers.get("x-forwarded-proto").and_then(|proto| proto.to_str().ok());
    let scheme = if proto == Some("https") { "https" } else { "http" };
    match url::Url::parse(&format!("{scheme}://{host}/")) {
        Ok(url) if url.path() == "/" && url.query().is_none() && url.username().is_empty() => url.to_string(),
        _ => "/".to_owned(),
    }
}

#[cfg(test)]
#[path = "digest_tests.rs"]
mod tests;
