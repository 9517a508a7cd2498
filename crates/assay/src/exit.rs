//! Exit codes, documented in `docs/reference/exit-codes.md`.

use std::process::ExitCode;

use crate::client::ClientError;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; a watched run passed.
    Ok = 0,
    /// The verdict is `fail`, a run is held, a bundle does not verify, a proof did not come out.
    Fail = 1,
    /// The command line does not read (clap's own code) or the request is not valid.
    Usage = 2,
    /// A run passed, but only because an operator waived something.
    Overridden = 3,
    /// There is no verdict: cancelled, superseded, or the runner failed and not the target.
    NoResult = 4,
    /// Something went wrong on our side: server not reachable, files, permissions.
    Error = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
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
