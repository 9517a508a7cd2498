//! From a request that was read to its answer. Each part speaks in the words of the service that it stands in for.

mod device;
mod forges;
mod gitside;
mod nodes;

use std::collections::HashMap;

use assay_model::Micros;
use bytes::Bytes;
use hyper::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use url::form_urlencoded;

pub(crate) use device::Devices;

use crate::{
    StandInError, Who,
    reply::Reply,
    route::{Ask, Dialect, Route},
    state::State,
};

/// A request, read to its end.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) id: u64,
    pub(crate) at: Micros,
    pub(crate) route: Route,
    pub(crate) query: Option<String>,
    pub(crate) who: Who,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    pub(crate) tls: bool,
}

/// A request's body.
#[derive(Debug)]
pub(crate) enum Body {
    Memory(Bytes),
    File(NamedTempFile, u64),
}

impl Body {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, len) => *len,
        }
    }
}

impl Asked {
    fn bytes(&self) -> &[u8] {
        match &self.body {
            Body::Memory(bytes) => bytes,
            Body::File(..) => &[],
        }
    }

    fn header(&self, name: impl header::AsHeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn problem(&self, state: &State, status: u16, message: &str) -> Reply {
        problem(state, self.route.dialect, status, message)
    }

    /// The body's fields, whether it is a form or JSON.
    fn fields(&self) -> HashMap<String, String> {
        if self.header(header::CONTENT_TYPE).contains("json") {
            let read: Option<HashMap<String, Value>> = serde_json::from_slice(self.bytes()).ok();
            let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            return read.unwrap_or_default().into_iter().map(|(key, value)| (key, text(value))).collect();
        }
        form_urlencoded::parse(self.bytes()).into_owned().collect()
    }

    /// The query's value of a name.
    fn asked_for(&self, name: &str) -> Option<String> {
        let query = self.query.as_deref().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }
}

/// Carries a request out.
pub(crate) async fn answer(state: &State, asked: Asked) -> Reply {
    let dialect = asked.route.dialect;
    let answered = match asked.route.ask.clone() {
        Ask::GitRefs(service) => gitside::refs(state, &asked, service).await,
        Ask::GitCall(service) => gitside::call(state, asked, service).await,
        Ask::GitOther => Ok(Reply::text(403, "Only the smart protocol is served; use Git 1.6.6 or later.\n")),
        Ask::Root => Ok(forges::root(state)),
        Ask::User => Ok(forges::user(state, dialect)),
        Ask::Emails => Ok(forges::emails(state)),
        Ask::Repository => Ok(forges::repository(state, &asked)),
        Ask::Pulls => Ok(forges::pulls(state, &asked)),
        Ask::OnePull(number) => Ok(forges::one_pull(state, &asked, number)),
        Ask::OpenPull => forges::open_pull(state, &asked).await,
        Ask::DeleteBranch(branch) => forges::delete_branch(state, &asked, &branch).await,
        Ask::Version => Ok(forges::version()),
        Ask::DeviceCode => Ok(device::code(state, &asked)),
        Ask::AccessToken => Ok(device::token(state, &asked)),
        Ask::Nodes => Ok(nodes::list(state)),
        Ask::Register => Ok(nodes::register(state, &asked, None)),
        Ask::Replace(name) => Ok(nodes::register(state, &asked, Some(&name))),
        Ask::Deregister(name) => Ok(nodes::deregister(state, &asked, &name)),
        Ask::Joined(name) => Ok(nodes::joined(state, &asked, &name)),
        Ask::Unknown => Ok(problem(state, dialect, 404, "Not Found")),
    };
    answered.unwrap_or_else(|error| failed(state, dialect, &error))
}

/// The stand-in's own trouble; the client is told that there is some, the ledger which.
fn failed(state: &State, dialect: Dialect, error: &StandInError) -> Reply {
    let status = if matches!(error, StandInError::LedgerFull) { 503 } else { 500 };
    tracing::warn!(%error, "a stand-in could not carry a request out");
    problem(state, dialect, status, "The stand-in could not do this").note(error.to_string())
}

/// An error in the words of whoever is stood in for.
pub(crate) fn problem(state: &State, dialect: Dialect, status: u16, message: &str) -> Reply {
    let reply = match dialect {
        Dialect::Git => Reply::text(status, format!("{message}\n")),
        Dialect::Github => Reply::json(
            status,
            &json!({
                "message": message,
                "documentation_url": "https://docs.github.com/rest",
                "status": status.to_string(),
            }),
        ),
        Dialect::Gitea => Reply::json(
            status,
            &json!({"message": message, "url": format!("https://{}/api/swagger", state.config.host)}),
        ),
        Dialect::Plain => Reply::json(status, &json!({"error": message})),
    };
    match (status, dialect) {
        (401, Dialect::Git) => {
            reply.header("www-authenticate", "Basic realm=\"stand-in\", charset=\"UTF-8\"")
        }
        (401, Dialect::Plain) => reply.header("www-authenticate", "Bearer realm=\"stand-in\""),
        (429 | 503, _) => reply.header("retry-after", "1"),
        _ => reply,
    }
}

/// The answer to a request without an accepted credential.
pub(crate) fn not_let_in(state: &State, dialect: Dialect, who: &Who) -> Reply {
    let message = match (dialect, who) {
        (Dialect::Github, Who::Nobody) => "Requires authentication",
        (Dialect::Github, _) => "Bad credentials",
        (Dialect::Gitea, Who::Nobody) => "token is required",
        (Dialect::Gitea, _) => "invalid username, password or token",
        (Dialect::Git, Who::Nobody) => "Authentication required",
        (Dialect::Git, _) => "Invalid username or token",
        (Dialect::Plain, Who::Nobody) => "a token is needed: Authorization: Bearer TOKEN",
        (Dialect::Plain, _) => "this token is not accepted",
    };
    problem(state, dialect, 401, message)
}

/// The answer that a fault asks for.
pub(crate) fn told_to(state: &State, dialect: Dialect, code: u16) -> Reply {
    let reason = StatusCode::from_u16(code).ok().and_then(|status| status.canonical_reason());
    problem(state, dialect, code, reason.unwrap_or("Something is wrong"))
}
