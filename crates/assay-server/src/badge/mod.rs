//! `/badge/recipe/NAME.svg`: how far a recipe can be trusted, as a picture for its README.
//!
//! Badges are embedded by pages that nobody signs in to, so the operator may let everybody see them (`assay serve
//! --public-badges`). Then a badge tells a recipe's level, its version and the run's number and day, and nothing else; without, it
//! wants a session or a token like everything else, whether there is such a recipe or not.

mod metrics;
mod svg;

use assay_model::recipe::Rung;
use assay_model::{Micros, Pipeline, Sha256, TargetId, text};
use assay_store::RecipeRef;
use axum::Router;
use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH,
};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;

use crate::api::{board_run, standing};
use crate::auth::Operator;
use crate::error::ApiError;
use crate::state::App;
use svg::Face;

/// Runs among which the one that decides is looked for.
const LOOKED_AT: u32 = 30;
/// Longest name that is shown, in characters.
const LONGEST: usize = 64;
/// The fewest digits that name a commit.
const FEWEST: usize = 7;
/// The digits of a whole commit; 64 where the repository has SHA-256.
const MOST: usize = 64;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/badge/recipe/{file}", get(recipe))
}

#[derive(Deserialize)]
struct Wanted {
    r#ref: Option<String>,
}

async fn recipe(
    State(app): State<App>,
    Path(file): Path<String>,
    Query(wanted): Query<Wanted>,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut parts, _) = request.into_parts();
    let public = app.shared.public_badges;
    if !public {
        Operator::from_request_parts(&mut parts, &app).await?;
    }
    let Some(name) = file.strip_suffix(".svg") else {
        return Err(ApiError::not_found("such badge").hint("its address ends in .svg"));
    };
    let face = face(&app, name, wanted.r#ref.as_deref().filter(|wanted| !wanted.is_empty())).await?;
    Ok(answer(&parts.headers, face.svg(), public))
}

async fn face(app: &App, name: &str, wanted: Option<&str>) -> Result<Face, ApiError> {
    let shown = text::clean_to(name, LONGEST);
    // A release's `+` arrives as a space where nobody has written it as %2B, and no release has a space.
    let wanted = wanted.map(|wanted| wanted.replace(' ', "+"));
    let of = wanted.as_deref().map(reference);
    let id = TargetId::named(Pipeline::Recipe, name);
    let rows = app.engine.store().recipe_runs_of(id, of, LOOKED_AT).await?;
    let runs: Vec<_> = rows.into_iter().map(board_run).collect();
    let found = standing(&runs).and_then(|run| Some((run, run.level?)));
    let Some((run, level)) = found else {
        let of = wanted.map(|wanted| format!(" {}", text::clean_to(&wanted, LONGEST))).unwrap_or_default();
        return Ok(Face::unknown(format!("{shown}{of}: no whole run of it came to a verdict")));
    };
    let version = run.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
    let told: Vec<String> =
        Rung::ALL.iter().zip(&run.rungs).map(|(rung, status)| format!("{rung} {status}")).collect();
    let day = run.completed_at.map(Micros::rfc3339).unwrap_or_default();
    let title = format!(
        "{shown}{version}: level {level} of {} ({}), run {}, {}",
        Rung::ALL.len(),
        told.join(", "),
        run.run,
        day.get(..10).unwrap_or_default()
    );
    Ok(Face::level(level, title))
}

/// A version, or the beginning of a commit.
fn reference(wanted: &str) -> RecipeRef<'_> {
    let is_hex = wanted.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex && (FEWEST..=MOST).contains(&wanted.len()) {
        RecipeRef::Commit(wanted)
    } else {
        RecipeRef::Release(wanted)
    }
}

/// Kept for minutes, and asked for again by its digest: a README is looked at more often than a recipe is tested.
fn answer(asked: &HeaderMap, svg: String, public: bool) -> Response {
    let digest = Sha256::of(svg.as_bytes()).to_string();
    let tag = format!("\"{}\"", digest.get(..20).unwrap_or(&digest));
    let keep = if public { "public, max-age=300" } else { "private, max-age=60" };
    let known = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut known = known.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
    let fresh = known.any(|known| known == tag || known == "*");
    let headers: [(HeaderName, String); 4] = [
        (CONTENT_TYPE, "image/svg+xml; charset=utf-8".to_owned()),
        (CACHE_CONTROL, keep.to_owned()),
        (ETAG, tag),
        // Opened by itself it is a document: nothing in it may run or load.
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'".to_owned()),
    ];
    if fresh { (StatusCode::NOT_MODIFIED, headers).into_response() } else { (headers, svg).into_response() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_a_commit_where_it_looks_like_one() {
        for commit in ["abcdef0", "0123456", &"a".repeat(40)] {
            assert_eq!(reference(commit), RecipeRef::Commit(commit));
        }
        for release in ["1.1.0+1.27", "abcdef", "ABCDEF0", "v1", &"a".repeat(65)] {
            assert_eq!(reference(release), RecipeRef::Release(release));
        }
    }

    #[test]
    fn what_is_known_already_is_not_sent_again() {
        let first = answer(&HeaderMap::new(), "<svg/>".to_owned(), true);
        assert_eq!(first.headers()[CACHE_CONTROL], "public, max-age=300");
        let tag = first.headers()[ETAG].clone();
        for known in
            [tag.to_str().expect("text").to_owned(), format!("\"x\", W/{}", tag.to_str().expect("text"))]
        {
            let mut asked = HeaderMap::new();
            asked.insert(IF_NONE_MATCH, known.parse().expect("a header"));
            assert_eq!(answer(&asked, "<svg/>".to_owned(), true).status(), StatusCode::NOT_MODIFIED);
            assert_eq!(answer(&asked, "<svg />".to_owned(), true).status(), StatusCode::OK);
        }
    }
}
