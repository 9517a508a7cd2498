//! What lies in the folder, whoever speaks of it: blobs, and what interrupted writing has left.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use assay_model::{Micros, Sha256};

use crate::{ArtifactError, Artifacts};

const LIST: &str = "list the artifacts";
const REMOVE: &str = "remove an artifact";

/// A file in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// What it holds; `None` for one that was never finished.
    pub digest: Option<Sha256>,
    /// Its size.
    pub bytes: u64,
    path: PathBuf,
}

impl Artifacts {
    /// The files that nobody has written since `before`. Storing the same bytes again writes a blob anew.
    pub async fn files(&self, before: Micros) -> Result<Vec<StoredFile>, ArtifactError> {
        let folder = self.folder.clone();
        blocking(LIST, move || {
            let mut files = Vec::new();
            for group in entries(&folder.join("sha256"))? {
                for path in entries(&group)? {
                    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    files.push((name.parse().ok(), path));
                }
            }
            files.extend(entries(&folder.join("incoming"))?.into_iter().map(|path| (None, path)));
            let old = files.into_iter().filter_map(|(digest, path)| {
                let metadata = fs::symlink_metadata(&path).ok()?;
                is_old(&metadata, before).then_some(StoredFile { digest, bytes: metadata.len(), path })
            });
            Ok(old.collect())
        })
        .await
    }

    /// Removes a file unless it was written since `before`; says whether it did.
    pub async fn discard(&self, file: &StoredFile, before: Micros) -> Result<bool, ArtifactError> {
        let path = file.path.clone();
        blocking(REMOVE, move || match fs::symlink_metadata(&path) {
            Ok(metadata) if is_old(&metadata, before) => fs::remove_file(&path).map(|()| true),
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        })
        .await
    }
}

/// Only plain files: nothing else was put here by this program.
fn is_old(metadata: &Metadata, before: Micros) -> bool {
    let before = u64::try_from(before.0)
        .map_or(SystemTime::UNIX_EPOCH, |micros| SystemTime::UNIX_EPOCH + Duration::from_micros(micros));
    metadata.is_file() && metadata.modified().is_ok_and(|written| written < before)
}

/// A folder that is not there has nothing in it.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ArtifactError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).and_then(|done| done);
    done.map_err(|error| ArtifactError::io(operation, error))
}
