//! Why a stand-in could not do what its owner asked, worded so that the owner knows what to do.

use std::{io, path::PathBuf, time::Duration};

use assay_process::ProcessError;

/// What keeps a stand-in from starting, or an operation from being done.
#[derive(Debug, thiserror::Error)]
pub enum StandInError {
    /// A setting cannot work.
    #[error("stand-in setting `{field}` = `{value}`: {problem}")]
    BadConfig {
        /// The field of the configuration.
        field: &'static str,
        /// What it was set to.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The private folder cannot be made or used.
    #[error("the stand-in cannot use its private folder {folder}: {source}; name another with `folder`", folder = folder.display())]
    Folder {
        /// Where it was.
        folder: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The folder does not let programs run, so the hook that protects the default branch would be passed over.
    #[error("files in {folder} cannot be executed (is it mounted `noexec`?), so pushes could not be refused: name another folder with `folder`: {source}", folder = folder.display())]
    NoExec {
        /// Where it was.
        folder: PathBuf,
        /// What running the hook said.
        source: ProcessError,
    },
    /// The place to listen is taken or not permitted.
    #[error("the stand-in cannot listen on {place}: {source}; free it, or choose another")]
    Listen {
        /// The address or path.
        place: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Certificates could not be made.
    #[error("the stand-in cannot make its certificates from `tls_names`: {problem}")]
    Tls {
        /// What was said.
        problem: String,
    },
    /// `git` is missing, failed, or did not end in time.
    #[error("{doing} failed: {source}")]
    Git {
        /// What was being done.
        doing: &'static str,
        /// What happened.
        source: ProcessError,
    },
    /// `git` said something that this version does not understand.
    #[error(
        "{doing}: `git` answered with something unexpected: {said}; `git --version` should say at least 2.38"
    )]
    GitSaid {
        /// What was being done.
        doing: &'static str,
        /// The beginning of what it said.
        said: String,
    },
    /// There is no such branch or commit.
    #[error("the repository has no branch or commit `{name}`; `ledger().pushes` says what was pushed")]
    NoSuchRef {
        /// What was asked for.
        name: String,
    },
    /// A file is larger than [`Limits::file_bytes`](crate::Limits).
    #[error("{path} is larger than {limit} bytes, the most that is read; raise `limits.file_bytes`")]
    TooLarge {
        /// The file's path in the tree.
        path: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The operation is possible, but not on what is there.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What was waited for did not happen.
    #[error(
        "what was waited for did not happen within {limit:?}; the ledger has {requests} requests and {pushes} pushes by now"
    )]
    Waited {
        /// How long it was waited for.
        limit: Duration,
        /// How many requests there are.
        requests: usize,
        /// How many pushes there are.
        pushes: usize,
    },
    /// The ledger is as large as it may get ([`Limits::ledger_bytes`](crate::Limits)), so nothing more is taken.
    #[error("the ledger has reached its limit, so nothing more can be recorded: raise `limits.ledger_bytes`")]
    LedgerFull,
    /// The stand-in was stopped.
    #[error("the stand-in was stopped")]
    Stopped,
}

/// Why a branch is not merged or a node not taken out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody has asked for it to be merged.
    #[error("branch `{branch}` has no open pull request, and only pull requests are merged")]
    NoPull {
        /// The branch.
        branch: String,
    },
    /// The branch was deleted since.
    #[error("branch `{branch}` does not exist any more")]
    NoBranch {
        /// The branch.
        branch: String,
    },
    /// Both sides changed the same thing.
    #[error("branch `{branch}` conflicts with the default branch in {}", paths.join(", "))]
    Conflict {
        /// The branch.
        branch: String,
        /// The files.
        paths: Vec<String>,
    },
    /// The tree has no such node.
    #[error(
        "the default branch has nothing below {path}: the node is not registered there, or its name differs"
    )]
    NotRegistered {
        /// The folder that was looked for.
        path: String,
    },
    /// The maintainer's or the node's name is none.
    #[error("`{name}` cannot be a part of a path: use letters, digits, `-`, `_` and `.`")]
    BadName {
        /// The name.
        name: String,
    },
}
