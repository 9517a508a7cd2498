//! The few files that pages load, embedded. `cargo xtask assets` makes them.
//!
//! Their address carries the digest of their content, so a browser keeps them for good and a new version of
//! Assay is never shown with an old style.

use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use rust_embed::{Embed, EmbeddedFile};
use serde::Deserialize;

#[derive(Embed)]
#[folder = "../../assets/dist"]
struct Dist;

#[derive(Deserialize)]
pub(super) struct Version {
    v: Option<String>,
}

/// Where a page finds a file.
pub(super) fn url(name: &str) -> String {
    match Dist::get(name) {
        Some(file) => format!("/static/{name}?v={}", version(&file)),
        None => format!("/static/{name}"),
    }
}

pub(super) async fn file(Path(name): Path<String>, Query(asked): Query<Version>) -> Response {
    // Hidden files are the build's own notes.
    let Some(file) = Dist::get(&name).filter(|_| !name.starts_with('.')) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let keep = if asked.v.as_deref() == Some(version(&file).as_str()) {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let headers = [(CONTENT_TYPE, file.metadata.mimetype().to_owned()), (CACHE_CONTROL, keep.to_owned())];
    (headers, file.data).into_response()
}

/// Browsers ask for it unasked; the pages carry theirs inline.
pub(super) async fn favicon() -> StatusCode {
    StatusCode::NO_CONTENT
}

fn version(file: &EmbeddedFile) -> String {
    hex::encode(&file.metadata.sha256_hash()[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_a_page_loads_is_there_and_has_a_version() {
        for name in ["app.css", "app.js", "htmx.js", "uplot.js", "uplot.css"] {
            assert!(
                Dist::get(name).is_some_and(|f| !f.data.is_empty()),
                "{name} is missing: run `cargo xtask assets`"
            );
            assert!(url(name).contains("?v="), "{name}");
        }
    }
}
