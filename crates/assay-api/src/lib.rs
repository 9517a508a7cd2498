//! What goes over the wire, and nothing else.
//!
//! Three audiences, three versioned protocols: the [`agent`] on the machine under test, the
//! [`runner`] with the privileges, and [`operator`]s (the CLI, scripts, bots). All are JSON over
//! HTTP; the agent's and the runner's are long-polled. Wire types are not storage types.

pub mod again;
pub mod agent;
pub mod compat;
pub mod dashboard;
pub mod forges;
pub mod images;
pub mod notify;
pub mod operator;
pub mod queue;
pub mod recipes;
pub mod runner;
pub mod shell;

use serde::{Deserialize, Serialize};

/// Every refusal has this body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable, in snake_case: `not_found`, `token_reused`, `too_large` …
    pub code: String,
    /// What is wrong, in a sentence.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
