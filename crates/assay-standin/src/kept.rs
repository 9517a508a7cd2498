//! A stand-in in a folder: what another one needs to go on as if it were the same.
//!
//! ```text
//! repository/      objects, refs, packed-refs and HEAD of the bare repository
//! ledger.json      everything that has happened
//! authority.json   the certificate authority with its key; only where TLS is spoken
//! ```
//!
//! Tokens that the device flow has given out, requests for them that are still open, and how often a fault has struck
//! are not kept.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Ledger, StandIn, StandInError, tls::Authority};

/// What of a bare repository is its content; the rest is made anew.
const CONTENT: [&str; 4] = ["objects", "refs", "packed-refs", "HEAD"];

impl StandIn {
    /// Writes what the stand-in is now into a folder, which is made: see [`Config::kept`](crate::Config::kept). Whoever
    /// pushes meanwhile waits. The key of its certificate authority is in it: only this user may enter.
    ///
    /// # Errors
    /// [`StandInError::Folder`] when it cannot be written.
    pub async fn keep(&self, folder: &Path) -> Result<(), StandInError> {
        let _change = self.state.repository.change().await;
        let failed = |source| StandInError::Folder { folder: folder.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        copy_content(self.state.repository.git_dir(), &folder.join("repository")).map_err(failed)?;
        write(&folder.join("ledger.json"), &self.ledger()).map_err(failed)?;
        if let Some(tls) = &self.state.tls {
            write(&folder.join("authority.json"), tls.authority()).map_err(failed)?;
        }
        Ok(())
    }
}

/// A folder that a stand-in was kept in.
pub(crate) struct Kept {
    folder: PathBuf,
}

impl Kept {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub(crate) fn ledger(&self) -> Result<Ledger, StandInError> {
        self.read("ledger.json")
    }

    pub(crate) fn authority(&self) -> Result<Authority, StandInError> {
        self.read("authority.json")
    }

    /// Puts the repository's content into a bare one.
    pub(crate) fn fill(&self, git_dir: &Path) -> Result<(), StandInError> {
        copy_content(&self.folder.join("repository"), git_dir).map_err(|source| self.failed(source))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<T, StandInError> {
        let text = fs::read(self.folder.join(name)).map_err(|source| self.failed(source))?;
        serde_json::from_slice(&text).map_err(|problem| self.failed(io::Error::other(problem)))
    }

    fn failed(&self, source: io::Error) -> StandInError {
        StandInError::Folder { folder: self.folder.clone(), source }
    }
}

fn write(path: &Path, content: &impl Serialize) -> io::Result<()> {
    fs::write(path, serde_json::to_vec(content).map_err(io::Error::other)?)
}

/// Copies what is a repository's content, and nothing that Git would run.
fn copy_content(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for name in CONTENT {
        let (from, to) = (from.join(name), to.join(name));
        match fs::symlink_metadata(&from) {
            Ok(kind) if kind.is_dir() => copy_folder(&from, &to)?,
            Ok(_) => drop(fs::copy(&from, &to)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else if !target.exists() {
            // An object that is there already has the same name because it has the same content.
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
