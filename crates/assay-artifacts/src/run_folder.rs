//! `run-<N>/inventory.json`: a run's artifacts under the names that people look for.
//!
//! A file there is a hard link to its blob, or a copy where the file system has no hard links. It
//! is a convenience: nothing reads it back, and losing it loses nothing.

use std::io;
use std::path::{Path, PathBuf};

use assay_model::Sha256;

use crate::{ArtifactError, Artifacts};

const LINK: &str = "link an artifact into its run's folder";
const LONGEST_NAME: usize = 128;

impl Artifacts {
    /// Makes a stored blob reachable as `run-<number>/<name>`; replaces an older one of that name.
    /// Returns where it is.
    pub async fn link_run(&self, number: i64, name: &str, digest: Sha256) -> Result<PathBuf, ArtifactError> {
        check_name(name)?;
        let blob = self.path(digest);
        let folder = self.run_folder(number);
        let target = folder.join(name);
        // Begins with a dot, which no artifact's name does.
        let fresh = folder.join(format!(".{}", uuid::Uuid::new_v4()));
        let link = {
            let target = target.clone();
            move || link(&folder, &blob, &fresh, &target)
        };
        match tokio::task::spawn_blocking(link).await {
            Ok(Ok(())) => Ok(target),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                Err(ArtifactError::Missing { digest })
            }
            Ok(Err(error)) => Err(ArtifactError::io(LINK, error)),
            Err(error) => Err(ArtifactError::io(LINK, io::Error::other(error))),
        }
    }

    /// Removes a run's folder; false when there was none. Blobs stay.
    pub async fn unlink_run(&self, number: i64) -> Result<bool, ArtifactError> {
        match tokio::fs::remove_dir_all(self.run_folder(number)).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(ArtifactError::io("remove a run's folder", error)),
        }
    }

    /// Where a run's files are.
    pub fn run_folder(&self, number: i64) -> PathBuf {
        self.folder.join(format!("run-{number}"))
    }
}

/// The name may come from the machine under test: it must stay one plain file in one folder.
fn check_name(name: &str) -> Result<(), ArtifactError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let fits =
        !name.is_empty() && name.len() <= LONGEST_NAME && !name.starts_with('.') && name.bytes().all(plain);
    if fits { Ok(()) } else { Err(ArtifactError::Name(name.chars().take(LONGEST_NAME).collect())) }
}

fn link(folder: &Path, blob: &Path, fresh: &Path, target: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    // Under a new name first, so that replacing an older file is one step. Renaming one link of a
    // file over another link of it does nothing and leaves both, hence the removal after it.
    if let Err(error) = std::fs::hard_link(blob, fresh) {
        if error.kind() == io::ErrorKind::NotFound {
            return Err(error);
        }
        std::fs::copy(blob, fresh)?;
    }
    let renamed = std::fs::rename(fresh, target);
    match std::fs::remove_file(fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => renamed.and(Err(error)),
        _ => renamed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_the_folder() {
        for good in ["inventory.json", "smart-S3Z9NB0K_1.txt", "a"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = "x".repeat(129);
        for bad in ["", ".", "..", ".hidden", "../x", "a/b", "a\\b", "a b", "ä", "x\0", &long] {
            assert!(matches!(check_name(bad), Err(ArtifactError::Name(_))), "{bad:?}");
        }
    }
}
