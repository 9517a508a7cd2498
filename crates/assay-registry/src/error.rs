//! Why an image did not come, and why the cache does not run; worded so that the reader knows what to do next.

use std::io;
use std::path::PathBuf;

/// Why an image could not be brought into the cache.
#[derive(Debug, thiserror::Error)]
#[error("`{reference}`: {message}")]
pub struct BringError {
    /// The image, with its whole name.
    pub reference: String,
    /// Whose trouble it is.
    pub class: BringFailure,
    /// One sentence. Never a credential, and no signed address.
    pub message: String,
}

/// Whose trouble it is that an image does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BringFailure {
    /// The registry answered that it has no such image, or none for this machine.
    NotFound,
    /// The registry does not give it to us, or nobody named the registry who should have.
    Denied,
    /// The registry has had enough of us.
    RateLimited,
    /// The registry was not reached, or is out of order.
    Unreachable,
    /// There is no room for it here.
    NoSpace,
    /// It was not done in time.
    TimedOut,
    /// The cache itself does not work.
    Cache,
    /// Something else: an image of a kind that is not understood, bytes that are not those that were promised.
    Other,
}

impl BringFailure {
    /// Whether a recipe that names the image is to blame. Everything else is the runner's trouble, or the network's.
    pub const fn is_of_who_named_it(self) -> bool {
        matches!(self, Self::NotFound | Self::Denied)
    }
}

/// Why the cache does not run.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
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
    /// The folder's path does not fit into a socket's address.
    #[error("{path} is too long a path for a socket ({length} bytes; {most} fit): choose a folder with a shorter path", path = path.display())]
    LongPath {
        /// The socket.
        path: PathBuf,
        /// Its length.
        length: usize,
        /// The longest that fits.
        most: usize,
    },
    /// The registry behind the cache ended, or did not begin to serve.
    #[error("docker-registry {how}; its last words:\n{last_words}")]
    Store {
        /// What happened.
        how: String,
        /// The end of what it wrote.
        last_words: String,
    },
    /// It answered what it must not.
    #[error("the store of the cache: {doing} failed: {why}")]
    Answer {
        /// What was being done.
        doing: String,
        /// What it said.
        why: String,
    },
}

impl CacheError {
    pub(crate) fn folder(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Folder { doing, path: path.into(), source }
    }

    /// Whether there is no room left.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Folder { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Answer { why: said, .. } | Self::Store { last_words: said, .. } => {
                said.contains("no space left") || said.contains("disk quota")
            }
            Self::Process(_) | Self::LongPath { .. } => false,
        }
    }
}
