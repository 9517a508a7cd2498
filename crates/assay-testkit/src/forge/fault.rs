//! Trouble on demand, and the record of what was asked.

use std::time::Instant;

/// Which requests go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// `GET`, `POST` …; empty for any.
    pub method: String,
    /// What the path has in it; empty for any.
    pub path: String,
}

impl Match {
    /// Requests of this method with this in their path.
    pub fn of(method: &str, path: &str) -> Self {
        Self { method: method.to_owned(), path: path.to_owned() }
    }

    /// Every request.
    pub fn any() -> Self {
        Self::of("", "")
    }

    pub(super) fn fits(&self, method: &str, path: &str) -> bool {
        (self.method.is_empty() || self.method == method) && path.contains(&self.path)
    }
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An answer with this status, these headers and this text; nothing is carried out.
    Answer {
        /// The status.
        status: u16,
        /// Headers beside the usual ones.
        headers: Vec<(String, String)>,
        /// The whole body.
        body: String,
    },
    /// Never answers, and carries nothing out.
    Hang,
    /// Carries it out, and answers once [`super::ForgeDouble::let_go`] is called.
    Slow,
    /// Carries it out, and never answers.
    HangAfter,
    /// Closes the connection, and carries nothing out.
    Cut,
    /// Carries it out, and closes the connection.
    CutAfter,
}

impl Fault {
    /// An answer with this status, in the forge's words.
    pub fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: r#"{"message":"told to"}"#.to_owned() }
    }

    /// Too many requests, for so many seconds.
    pub fn too_many(seconds: u64) -> Self {
        let headers = vec![("retry-after".to_owned(), seconds.to_string())];
        Self::Answer { status: 429, headers, body: r#"{"message":"slow down"}"#.to_owned() }
    }
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// The path without the API's own, with the query.
    pub path: String,
    /// What was answered; `None` where nothing was.
    pub status: Option<u16>,
    /// Whose token it was.
    pub login: Option<String>,
    /// When it came.
    pub at: Instant,
}
