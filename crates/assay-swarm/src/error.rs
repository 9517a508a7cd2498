//! Why Docker did not do what it was asked to, worded so that the reader knows what to do next.

use std::{io, path::PathBuf, time::Duration};

/// Why something with a daemon or its swarm failed. Never a statement about what runs in it.
#[derive(Debug, thiserror::Error)]
pub enum SwarmError {
    /// A daemon of a run's own needs root.
    #[error(
        "a Docker daemon can only be started by root, and this process runs as user {uid}: start the runner as root"
    )]
    NotRoot {
        /// Who it runs as.
        uid: u32,
    },
    /// The kernel cannot stack file systems.
    #[error(
        "the kernel has no overlay file system (/proc/filesystems does not name it): load it with `modprobe overlay`, or use a kernel that has it"
    )]
    NoOverlay,
    /// A program is missing, or could not be run.
    #[error(transparent)]
    Process(#[from] assay_process::ProcessError),
    /// A file or folder cannot be used.
    #[error("{doing} {path} failed: {source}", path = path.display())]
    Folder {
        /// What was being done: `writing`.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The folder is a living daemon's.
    #[error("{folder} belongs to a daemon whose owner is alive: give each daemon a folder of its own", folder = folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder's path does not fit into a socket's address.
    #[error("{folder} is too long a path for a socket ({length} bytes; {most} fit): choose a folder with a shorter path", folder = folder.display())]
    LongPath {
        /// The folder.
        folder: PathBuf,
        /// The length of the socket's path.
        length: usize,
        /// The longest that fits.
        most: usize,
    },
    /// The daemon ended, or did not serve in time.
    #[error("the Docker daemon {how}; its last words (all of them are in {log}):\n{last_words}", log = log.display())]
    Start {
        /// What happened.
        how: String,
        /// Everything that it wrote.
        log: PathBuf,
        /// The end of it.
        last_words: String,
    },
    /// Something of the daemon is still there although it was killed.
    #[error("{what} of the daemon in {folder} is still there: {why}", folder = folder.display())]
    Residue {
        /// What is left.
        what: String,
        /// Whose it is.
        folder: PathBuf,
        /// Why it could not be removed.
        why: String,
    },
    /// The daemon refused, or could not be spoken to.
    #[error("{doing} failed: Docker says: {message}{hint}")]
    Docker {
        /// What was being done.
        doing: String,
        /// The status of its answer, where it gave one.
        status: Option<u16>,
        /// What it said.
        message: String,
        /// What to do about it, where that is known; with what stands before it.
        hint: &'static str,
    },
    /// What came could not be written where it was to go.
    #[error("{doing} failed, since what came could not be written: {source}")]
    Write {
        /// What was being done.
        doing: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// It took too long.
    #[error("{doing} was not done within {limit:?}")]
    Timeout {
        /// What was being done.
        doing: String,
        /// How long it was given.
        limit: Duration,
    },
    /// Something that must be there is not.
    #[error("there is no {kind} `{name}`: {hint}")]
    Missing {
        /// What it would be: `network`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The compose file cannot become a stack.
    #[error(transparent)]
    Plan(#[from] crate::PlanError),
}

impl SwarmError {
    /// The status that Docker answered with, if this is an answer of Docker's.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Docker { status, .. } => *status,
            _ => None,
        }
    }

    /// Whether Docker said that it does not know what it was asked for.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    pub(crate) fn docker(doing: impl Into<String>) -> impl FnOnce(bollard::errors::Error) -> Self {
        move |error| {
            let (status, message) = match error {
                bollard::errors::Error::DockerResponseServerError { status_code, message } => {
                    (Some(status_code), message)
                }
                bollard::errors::Error::DockerStreamError { error } => (None, error),
                other => (None, other.to_string()),
            };
            let hint = hint(&message);
            Self::Docker { doing: doing.into(), status, message: message.trim().to_owned(), hint }
        }
    }

    pub(crate) fn folder(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Folder { doing, path: path.into(), source }
    }
}

/// What to do about an answer that operators meet again and again.
fn hint(message: &str) -> &'static str {
    let known = [
        (
            "only updates to Labels are allowed",
            " (secrets and configs cannot change: give the changed one a new version in its name)",
        ),
        ("This node is not a swarm manager", " (run it against a daemon that is a swarm's manager)"),
        ("update out of sequence", " (somebody else changed the service at the same time: try again)"),
        (
            "port is already allocated",
            " (a published port is taken on this node: free it or publish another)",
        ),
    ];
    known.iter().find(|(part, _)| message.contains(part)).map_or("", |(_, hint)| hint)
}

#[cfg(test)]
mod tests {
    use super::SwarmError;

    #[test]
    fn an_answer_that_is_known_comes_with_its_remedy() {
        let answer = bollard::errors::Error::DockerResponseServerError {
            status_code: 400,
            message: "rpc error: code = InvalidArgument desc = only updates to Labels are allowed\n"
                .to_owned(),
        };
        let error = SwarmError::docker("updating config `web_conf_v1`")(answer);
        assert_eq!(error.status(), Some(400));
        assert_eq!(
            error.to_string(),
            "updating config `web_conf_v1` failed: Docker says: rpc error: code = InvalidArgument desc = \
             only updates to Labels are allowed (secrets and configs cannot change: give the changed one a \
             new version in its name)"
        );
    }
}
