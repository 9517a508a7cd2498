//! What kept a backup from being made or restored that is not the recipe's doing, worded so that the reader knows what to do next.

use std::{io, path::PathBuf, time::Duration};

/// This machine's trouble, or Docker's. Never a statement about a recipe.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A program is missing (the message names the package), or could not be run.
    #[error(transparent)]
    Process(#[from] assay_process::ProcessError),
    /// Docker refused, or could not be spoken to.
    #[error(transparent)]
    Swarm(#[from] assay_swarm::SwarmError),
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
    /// Restic failed in a way that has no name here.
    #[error("restic {doing} failed ({how}): {said}")]
    Restic {
        /// What was being done: `backup`.
        doing: &'static str,
        /// Its exit code or signal.
        how: String,
        /// Its last words.
        said: String,
    },
    /// Restic did not end in time.
    #[error(
        "restic {doing} did not end within {limit:?}: give it more time, or look for what is so large in the volumes"
    )]
    Slow {
        /// What was being done.
        doing: &'static str,
        /// How long it was given.
        limit: Duration,
    },
    /// The disk is full.
    #[error("restic {doing} found no room on the disk of {folder}: free some, or use a folder on a larger disk ({said})", folder = folder.display())]
    NoSpace {
        /// What was being done.
        doing: &'static str,
        /// The store's folder.
        folder: PathBuf,
        /// Its last words.
        said: String,
    },
    /// The password does not open the repository.
    #[error("the password of the repository in {folder} is wrong: use the password file that was made with it, or a new folder", folder = folder.display())]
    WrongPassword {
        /// The store's folder.
        folder: PathBuf,
    },
    /// Somebody else works on the repository.
    #[error("the repository in {folder} is locked by somebody else ({said}): wait until they are done, or use another folder", folder = folder.display())]
    Locked {
        /// The store's folder.
        folder: PathBuf,
        /// Who, as far as restic says.
        said: String,
    },
    /// The folder holds no repository, or already does.
    #[error("{folder} {what}", folder = folder.display())]
    Repository {
        /// The store's folder.
        folder: PathBuf,
        /// What is wrong with it, and what to do.
        what: &'static str,
    },
    /// Restic said something that this reader does not understand.
    #[error(
        "restic {doing} said nothing that can be read ({what}): its version may be too new or too old; 0.14 and later are known to work"
    )]
    Unreadable {
        /// What was being done.
        doing: &'static str,
        /// What was missing.
        what: String,
    },
    /// The evidence belongs to another stack, or none.
    #[error("{what}")]
    Mismatch {
        /// What does not fit, and what to do.
        what: String,
    },
}

impl BackupError {
    /// For `map_err`.
    pub(crate) fn folder(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Folder { doing, path, source }
    }

    /// The same for the answers of system calls.
    pub(crate) fn system(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.into();
        move |source| Self::Folder { doing, path, source: source.into() }
    }
}
