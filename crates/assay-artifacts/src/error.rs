//! What can go wrong with artifacts, told apart by what to do about it.

use std::error::Error;
use std::io;

use assay_model::Sha256;

/// An artifact was not stored or not read.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// No room is left.
    #[error(
        "could not {operation}: the disk that holds the artifacts is full; free some space and try again"
    )]
    DiskFull {
        /// What was being done.
        operation: &'static str,
        /// What the system says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// There is no such blob.
    #[error("artifact {digest} is not stored here; was it removed by retention?")]
    Missing {
        /// Which.
        digest: Sha256,
    },
    /// The stored bytes are not those that were stored.
    #[error(
        "artifact {digest} was altered on disk: its bytes do not match its name; restore it from a backup"
    )]
    Altered {
        /// Which.
        digest: Sha256,
    },
    /// The body was not what its sender said it is.
    #[error(
        "the body is not what was announced: expected SHA-256 {expected}, got {digest} ({size} bytes); send it again"
    )]
    Mismatch {
        /// What was announced.
        expected: Sha256,
        /// What came.
        digest: Sha256,
        /// How much came.
        size: u64,
    },
    /// The body is larger than allowed.
    #[error("the body is larger than the {max_bytes} bytes allowed")]
    TooLarge {
        /// The limit.
        max_bytes: u64,
    },
    /// The body broke off.
    #[error("the body broke off; send it again")]
    Body {
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Not a file name.
    #[error(
        "`{0}` cannot name an artifact: use letters, digits, `.`, `_` and `-`, at most 128, not beginning with `.`"
    )]
    Name(String),
    /// Anything else.
    #[error("could not {operation}: {source}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// What the system says.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl ArtifactError {
    pub(crate) fn io(operation: &'static str, error: io::Error) -> Self {
        if is_full(&error) {
            Self::DiskFull { operation, source: error.into() }
        } else {
            Self::Io { operation, source: error.into() }
        }
    }

    pub(crate) fn store(operation: &'static str, error: object_store::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(inner) = cause {
            if inner.downcast_ref::<io::Error>().is_some_and(is_full) {
                return Self::DiskFull { operation, source: error.into() };
            }
            cause = inner.source();
        }
        Self::Io { operation, source: error.into() }
    }

    pub(crate) fn of(operation: &'static str, digest: Sha256, error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::Missing { digest },
            error => Self::store(operation, error),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_however_deep_it_is_buried() {
        const ENOSPC: i32 = 28;
        let full = || io::Error::from_raw_os_error(ENOSPC);
        let buried = object_store::Error::Generic { store: "LocalFileSystem", source: full().into() };
        assert!(matches!(ArtifactError::store("x", buried), ArtifactError::DiskFull { .. }));
        assert!(matches!(ArtifactError::io("x", full()), ArtifactError::DiskFull { .. }));
        let other = object_store::Error::Generic { store: "x", source: io::Error::other("x").into() };
        assert!(matches!(ArtifactError::store("x", other), ArtifactError::Io { .. }));
    }
}
