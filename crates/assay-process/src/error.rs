//! What can go wrong with a child process, worded so that the reader knows what to do next.

use std::{io, path::PathBuf, time::Duration};

/// Why a child process could not be started, did not end in time, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program is not installed, or not where it was looked for.
    #[error("`{program}` was not found: {hint}")]
    NotFound {
        /// The program as it was asked for.
        program: String,
        /// What to install or correct.
        hint: String,
    },
    /// The network namespace that the program was to run in does not exist.
    #[error(
        "network namespace `{name}` does not exist, so `{program}` cannot run in it: create it with `ip netns add {name}`"
    )]
    NoNamespace {
        /// The program that was to run.
        program: String,
        /// The missing namespace.
        name: String,
    },
    /// The operating system refused to start the program.
    #[error("`{program}` ({path}) could not be started; check its permissions, the working directory and the process limits: {source}", path = path.display())]
    Spawn {
        /// The program as it was asked for.
        program: String,
        /// The file that was executed.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The program ran longer than it was given and its process group was stopped.
    #[error(
        "`{program}` did not end within {after:?} and was stopped; its last words: {}",
        or_nothing(stderr_tail)
    )]
    Timeout {
        /// The program as it was asked for.
        program: String,
        /// The limit it was given.
        after: Duration,
        /// The end of its standard error.
        stderr_tail: String,
    },
    /// The program ended with a status other than 0. `code` is `None` when a signal ended it.
    #[error("`{program}` failed with {}; its last words: {}", status_words(*code, *signal), or_nothing(stderr_tail))]
    Failed {
        /// The program as it was asked for.
        program: String,
        /// Its exit code, if it exited.
        code: Option<i32>,
        /// The signal that ended it, if one did.
        signal: Option<i32>,
        /// The end of its standard error (of its standard output where that was empty).
        stderr_tail: String,
    },
    /// Waiting for, signalling or watching a child failed.
    #[error("`{program}`: {doing} failed: {source}")]
    Io {
        /// The program as it was asked for.
        program: String,
        /// What was being done.
        doing: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

fn status_words(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

fn or_nothing(text: &str) -> &str {
    if text.is_empty() { "(nothing)" } else { text }
}
