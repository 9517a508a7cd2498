//! What all pages share: the frame, badges, the way errors look, and who is asking.

use askama::Template;
use assay_model::compat::CellState;
use assay_model::{RunResult, RunState, Severity, Verdict};
use axum::extract::FromRequestParts;
use axum::http::header::{HeaderName, HeaderValue, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};

use super::assets;
use super::format::sentence;
use crate::auth::Operator;
use crate::error::ApiError;
use crate::state::App;

const HX_REQUEST: &str = "hx-request";
const HX_REDIRECT: HeaderName = HeaderName::from_static("hx-redirect");

/// The frame around every page.
#[derive(Clone, Debug, Default)]
pub(super) struct Shell {
    /// Who is signed in; empty where nobody is.
    pub(super) operator: String,
    /// Goes along with every form.
    pub(super) csrf: String,
    /// Which entry of the navigation is current.
    pub(super) section: &'static str,
}

impl Shell {
    pub(super) fn new(operator: &Operator, section: &'static str) -> Self {
        let csrf = operator.csrf.clone().unwrap_or_default();
        Self { operator: operator.name.clone(), csrf, section }
    }

    pub(super) const fn bare() -> Self {
        Self { operator: String::new(), csrf: String::new(), section: "" }
    }

    #[expect(clippy::unused_self, reason = "templates call it through the shell that they have")]
    pub(super) fn asset(&self, name: &str) -> String {
        assets::url(name)
    }
}

/// A state or verdict: icon and word, so that colour never carries meaning alone.
#[derive(Clone, Debug, PartialEq, Eq, Template)]
#[template(path = "badge.html")]
pub(super) struct Badge {
    /// `pass`, `fail`, `warn`, `active` or `idle`.
    pub(super) tone: &'static str,
    /// Names the icon.
    pub(super) icon: &'static str,
    /// What it says.
    pub(super) word: String,
}

/// Its template escapes; escaped again it would be shown as text.
impl askama::filters::HtmlSafe for Badge {}

impl Badge {
    fn new(tone: &'static str, icon: &'static str, word: impl Into<String>) -> Self {
        Self { tone, icon, word: word.into() }
    }

    pub(super) fn idle(word: &str) -> Self {
        Self::new("idle", "idle", word)
    }

    pub(super) fn warning(word: impl Into<String>) -> Self {
        Self::new("warn", "warn", word)
    }

    pub(super) fn good(word: impl Into<String>) -> Self {
        Self::new("pass", "pass", word)
    }

    pub(super) fn bad(word: impl Into<String>) -> Self {
        Self::new("fail", "fail", word)
    }

    pub(super) fn active(word: impl Into<String>) -> Self {
        Self::new("active", "active", word)
    }

    /// Where a run stands. A pass is green only when nothing was waived and nothing spared.
    pub(super) fn run(run: &RunFacts<'_>) -> Self {
        match (run.state, run.result) {
            (RunState::Queued, _) => Self::new("idle", "wait", "Queued"),
            (RunState::Booting, _) => Self::active("Booting"),
            (RunState::Running, _) => match run.stage {
                Some(stage) => Self::active(format!("Running {stage}")),
                None => Self::active("Running"),
            },
            (RunState::FailedHolding, _) => Self::new("fail", "held", "Failed, held"),
            (RunState::Completed, Some(RunResult::Pass)) => run.passed(),
            (RunState::Failed, _) | (RunState::Completed, Some(RunResult::Fail)) => {
                Self::new("fail", "fail", "Failed")
            }
            (RunState::Completed, None) => Self::warning("No verdict"),
            (RunState::Released, _) => Self::new("fail", "fail", "Failed, released"),
            (RunState::Cancelling, _) => Self::new("warn", "wait", "Cancelling"),
            (RunState::Cancelled, _) => Self::idle("Cancelled"),
            (RunState::Superseded, _) => Self::idle("Superseded"),
        }
    }

    /// How a check or a stage came out.
    pub(super) fn verdict(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::new("pass", "pass", "Passed"),
            Verdict::Fail => Self::new("fail", "fail", "Failed"),
            Verdict::Skip => Self::idle("Skipped"),
            Verdict::Unverified => Self::new("warn", "unknown", "Not verified"),
            Verdict::Error => Self::warning("Runner error"),
        }
    }

    /// What is known of an image on a component. That it was never tried is a word of its own, and so is being old.
    pub(super) fn cell(known: CellState, stale: bool) -> Self {
        let (tone, icon, word) = match known {
            CellState::Works if stale => ("warn", "wait", "Works"),
            CellState::Works => ("pass", "pass", "Works"),
            CellState::Fails => ("fail", "fail", "Fails"),
            CellState::Mixed => ("warn", "warn", "Mixed"),
            CellState::Unverified => ("warn", "unknown", "Not verified"),
            CellState::Unknown => ("idle", "idle", "Unknown"),
        };
        Self::new(tone, icon, if stale { format!("{word}, stale") } else { word.to_owned() })
    }

    pub(super) fn severity(severity: Severity) -> Self {
        match severity {
            Severity::Critical => Self::new("fail", "fail", "Critical"),
            Severity::Warning => Self::new("warn", "warn", "Warning"),
            Severity::Info => Self::new("idle", "info", "Info"),
        }
    }

    /// In front of a page's title, where there are no colours at all.
    pub(super) fn mark(&self) -> &'static str {
        match self.tone {
            "pass" => "✓",
            "fail" => "✕",
            "warn" => "!",
            "active" => "▸",
            _ => "·",
        }
    }
}

/// What a run's badge depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunFacts<'a> {
    pub(super) state: RunState,
    pub(super) result: Option<RunResult>,
    pub(super) overridden: bool,
    pub(super) spared: Spared,
    pub(super) profile: &'a str,
    pub(super) stage: Option<&'a str>,
}

/// What a run was spared by request, so that a pass of it says less.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spared {
    pub(super) muted: bool,
    pub(super) left_out: bool,
    pub(super) begun_late: bool,
}

impl RunFacts<'_> {
    fn passed(&self) -> Badge {
        // A profile lower than standard carries its name in the verdict.
        let lower = if self.profile == "quick" { " (quick)" } else { "" };
        let reservations = [
            (self.overridden, "waived"),
            (self.spared.muted, "checks off"),
            (self.spared.left_out, "stages left out"),
            (self.spared.begun_late, "from a phase"),
        ];
        let told: Vec<&str> = reservations.into_iter().filter_map(|(is, word)| is.then_some(word)).collect();
        if told.is_empty() {
            return Badge::good(format!("Passed{lower}"));
        }
        Badge::warning(format!("Passed{lower}, {}", told.join(", ")))
    }
}

/// Someone who has signed in. Everyone else is sent to the sign-in and comes back afterwards.
pub(super) struct Signed(pub(super) Operator);

impl FromRequestParts<App> for Signed {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Response> {
        if let Some(operator) = parts.extensions.get::<Operator>() {
            return Ok(Self(operator.clone()));
        }
        if parts.headers.contains_key(HX_REQUEST) {
            return Err(send_to_login(&parts.headers));
        }
        let next = parts.uri.path_and_query().map_or("/", |p| p.as_str());
        Err(see_other(&login_for(if parts.method == axum::http::Method::GET { next } else { "/" })))
    }
}

/// A fragment cannot be redirected, its page can: the session ended while it was open.
fn send_to_login(headers: &HeaderMap) -> Response {
    let current = headers.get("hx-current-url").and_then(|v| v.to_str().ok());
    let path =
        current.and_then(|u| url::Url::parse(u).ok()).map_or_else(|| "/".to_owned(), |u| u.path().to_owned());
    let value = HeaderValue::from_str(&login_for(&path)).unwrap_or(HeaderValue::from_static("/login"));
    (StatusCode::OK, [(HX_REDIRECT, value)]).into_response()
}

fn login_for(next: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("next", next);
    format!("/login?{}", query.finish())
}

/// On to another page after a form was taken.
pub(super) fn see_other(to: &str) -> Response {
    match HeaderValue::from_str(to) {
        Ok(to) => (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response(),
        Err(_) => (StatusCode::SEE_OTHER, [(LOCATION, HeaderValue::from_static("/"))]).into_response(),
    }
}

/// A finished page.
pub(super) fn page(template: &impl Template) -> Result<Response, PageError> {
    page_with(StatusCode::OK, template)
}

/// A finished page that says no.
pub(super) fn page_with(status: StatusCode, template: &impl Template) -> Result<Response, PageError> {
    let html = template.render().map_err(|e| {
        PageError(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "page",
            format!("this page cannot be drawn: {e}"),
        ))
    })?;
    Ok((status, Html(html)).into_response())
}

/// A refusal, as a page.
#[derive(Debug)]
pub(super) struct PageError(ApiError);

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    shell: Shell,
    title: &'static str,
    message: String,
    hint: Option<String>,
    status: u16,
}

impl<E: Into<ApiError>> From<E> for PageError {
    fn from(e: E) -> Self {
        Self(e.into())
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let status = self.0.status();
        if status.is_server_error() {
            tracing::error!(http.status = status.as_u16(), "{}", self.0.message());
        }
        let page = ErrorPage {
            shell: Shell::bare(),
            title: match status {
                StatusCode::NOT_FOUND => "Not here",
                StatusCode::CONFLICT => "Not now",
                StatusCode::FORBIDDEN => "Not allowed",
                _ if status.is_server_error() => "Something broke",
                _ => "That did not work",
            },
            message: sentence(self.0.message()),
            hint: self.0.hint_text().map(sentence),
            status: status.as_u16(),
        };
        match page.render() {
            Ok(html) => (status, Html(html)).into_response(),
            Err(_) => self.0.into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(state: RunState, result: Option<RunResult>) -> RunFacts<'static> {
        RunFacts {
            state,
            result,
            overridden: false,
            spared: Spared::default(),
            profile: "standard",
            stage: None,
        }
    }

    #[test]
    fn only_a_whole_pass_is_green() {
        let pass = facts(RunState::Completed, Some(RunResult::Pass));
        assert_eq!(Badge::run(&pass).tone, "pass");
        assert_eq!(Badge::run(&RunFacts { overridden: true, ..pass }).tone, "warn");
        let all = Spared { muted: true, left_out: true, begun_late: true };
        for (spared, word) in [
            (Spared { muted: true, ..Spared::default() }, "Passed, checks off"),
            (Spared { left_out: true, ..Spared::default() }, "Passed, stages left out"),
            (Spared { begun_late: true, ..Spared::default() }, "Passed, from a phase"),
            (all, "Passed, checks off, stages left out, from a phase"),
        ] {
            let badge = Badge::run(&RunFacts { spared, ..pass });
            assert_eq!((badge.tone, badge.word.as_str()), ("warn", word));
        }
        let all = Badge::run(&RunFacts { overridden: true, spared: all, profile: "quick", ..pass });
        assert_eq!(all.word, "Passed (quick), waived, checks off, stages left out, from a phase");
        assert_eq!(Badge::run(&RunFacts { profile: "quick", ..pass }).word, "Passed (quick)");
        assert_ne!(Badge::run(&facts(RunState::Completed, None)).tone, "pass");
        for state in RunState::ALL {
            for result in [None, Some(RunResult::Pass), Some(RunResult::Fail)] {
                let green = Badge::run(&facts(state, result)).tone == "pass";
                assert_eq!(
                    green,
                    state == RunState::Completed && result == Some(RunResult::Pass),
                    "{state} {result:?}"
                );
            }
        }
    }

    #[test]
    fn only_what_was_seen_to_work_lately_is_green_in_the_matrix() {
        use CellState::{Fails, Mixed, Unknown, Unverified, Works};
        let told = |known, stale| {
            let badge = Badge::cell(known, stale);
            (badge.tone, badge.word)
        };
        let cases = [
            (Works, false, "pass", "Works"),
            (Works, true, "warn", "Works, stale"),
            (Fails, false, "fail", "Fails"),
            (Fails, true, "fail", "Fails, stale"),
            (Mixed, false, "warn", "Mixed"),
            (Unverified, false, "warn", "Not verified"),
            (Unknown, false, "idle", "Unknown"),
        ];
        for (known, stale, tone, word) in cases {
            assert_eq!(told(known, stale), (tone, word.to_owned()), "{known} {stale}");
        }
    }

    #[test]
    fn a_badge_has_icon_and_word_and_escapes() {
        let html = Badge::warning("<b>").render().expect("renders");
        assert!(html.contains("&#60;b&#62;") && html.contains("<svg"), "{html}");
        assert!(!html.contains("<b>"));
    }

    #[test]
    fn the_way_back_is_kept_and_encoded() {
        assert_eq!(login_for("/runs/1?a=b&c"), "/login?next=%2Fruns%2F1%3Fa%3Db%26c");
    }
}
