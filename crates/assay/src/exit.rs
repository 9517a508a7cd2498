//! Exit codes, documented in `docs/reference/exit-codes.md`.

use std::process::ExitCode;

use crate::client::ClientError;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; a watched run passed.
    Ok,
    /// The verdict is `fail`, a run is held, a bundle does not verify, a proof did not come out.
    Fail,
    /// The command line does not read (clap's own code) or the request is not valid.
    Usage,
    /// A run passed, but only because an operator waived something.
    Overridden,
    /// There is no verdict: cancelled, superseded, or the runner failed and not the target.
    NoResult,
    /// Something went wrong on our side: server not reachable, files, permissions.
    Error,
    /// A case of a matrix passed, but only after a try that did not.
    Flaky,
    /// What a command on a held machine ended with (`assay host shell --command`).
    Command(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Fail => 1,
            Exit::Usage => 2,
            Exit::Overridden => 3,
            Exit::NoResult => 4,
            Exit::Error => 5,
            Exit::Flaky => 6,
            Exit::Command(code) => code,
        })
    }
}

/// The code for an error that reached the edge.
pub(crate) fn of(problem: &anyhow::Error) -> Exit {
    match problem.downcast_ref::<ClientError>() {
        Some(ClientError::Refused { status, .. }) if status.is_client_error() && status.as_u16() != 401 => {
            Exit::Usage
        }
        _ => Exit::Error,
    }
}
