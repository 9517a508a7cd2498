//! The private folder, and its end.
//!
//! A process that was killed a moment ago may still finish the system call it is in, and so add a file to a folder that is
//! being removed. Removal is therefore tried again for a moment.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::StandInError;

const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(5);

/// A folder that only this user can enter, removed with this value.
#[derive(Debug)]
pub(crate) struct Workspace {
    path: PathBuf,
}

impl Workspace {
    pub(crate) fn new(parent: Option<&Path>) -> Result<Self, StandInError> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        // `tempfile` makes it with mode 0700.
        let made = tempfile::Builder::new().prefix("assay-standin-").tempdir_in(&parent);
        let made = made.map_err(|source| StandInError::Folder { folder: parent, source })?;
        let workspace = Self { path: TempDir::keep(made) };
        for name in ["spool", "home"] {
            fs::create_dir(workspace.join(name)).map_err(|source| workspace.failed(source))?;
        }
        Ok(workspace)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn failed(&self, source: io::Error) -> StandInError {
        StandInError::Folder { folder: self.path.clone(), source }
    }

    /// Removes it. Nothing happens the second time.
    pub(crate) fn remove(&self) {
        for left in (0..TRIES).rev() {
            match fs::remove_dir_all(&self.path) {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.path.exists() => return,
                Err(error) if left == 0 => {
                    tracing::warn!(folder = %self.path.display(), %error, "a private folder could not be removed");
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        self.remove();
    }
}
