//! Reads a bundle's files, from a folder or a tar, into digests (all) and bytes (the small ones).
//!
//! A bundle comes from a stranger: nothing is extracted, no link is followed, and blobs are hashed
//! as a stream.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path};

use assay_model::Sha256;
use sha2::Digest as _;

use super::{ARTIFACTS, ReadError};

/// Largest file that is kept in memory: longer than any journal.
const MAX_KEPT: u64 = 256 << 20;

/// The files of a bundle.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// By name, with `/`.
    pub(super) files: BTreeMap<String, FileContent>,
    /// What is there and is no file of a bundle, one sentence each.
    pub(super) problems: Vec<String>,
}

/// One file.
#[derive(Debug)]
pub(super) struct FileContent {
    /// Of its bytes.
    pub(super) digest: Sha256,
    /// Its size.
    pub(super) len: u64,
    /// Its bytes, unless it is a blob.
    pub(super) bytes: Vec<u8>,
}

/// A blob of a bundle, of at most `most` bytes, that is what its name says; none where there is no such one.
pub fn read_blob(path: &Path, digest: Sha256, most: u64) -> Result<Option<Vec<u8>>, ReadError> {
    let failed = |source| ReadError::Io { path: path.to_owned(), source };
    let name = format!("{ARTIFACTS}{digest}");
    if fs::metadata(path).map_err(failed)?.is_dir() {
        return match File::open(path.join(&name)) {
            Ok(file) => Ok(blob(file, digest, most).map_err(failed)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        };
    }
    let mut archive = tar::Archive::new(io::BufReader::new(File::open(path).map_err(failed)?));
    for entry in archive.entries().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_it = entry
            .path()
            .ok()
            .and_then(|path| plain_name(&path))
            .is_some_and(|found| below_root(&found) == name && entry.header().entry_type().is_file());
        if is_it {
            return blob(entry, digest, most).map_err(failed);
        }
    }
    Ok(None)
}

fn blob(from: impl Read, digest: Sha256, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    from.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most && Sha256::of(&bytes) == digest).then_some(bytes))
}

impl Contents {
    /// Reads a folder or a tar.
    pub(super) fn read(path: &Path) -> Result<Self, ReadError> {
        let failed = |source| ReadError::Io { path: path.to_owned(), source };
        if fs::metadata(path).map_err(failed)?.is_dir() {
            Self::folder(path).map_err(failed)
        } else {
            Ok(Self::tar(File::open(path).map_err(failed)?))
        }
    }

    fn folder(root: &Path) -> io::Result<Self> {
        let mut contents = Self::default();
        for entry in walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name() {
            let entry = entry?;
            if entry.file_type().is_dir() {
                continue;
            }
            let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
            let Some(name) = plain_name(relative) else {
                contents.problems.push(format!("{} has a name that no bundle has", relative.display()));
                continue;
            };
            if entry.file_type().is_file() {
                contents.add(name, File::open(entry.path())?)?;
            } else {
                contents.problems.push(format!("{name} is a link or a device, not a file"));
            }
        }
        Ok(contents)
    }

    fn tar(file: File) -> Self {
        let mut contents = Self::default();
        let mut archive = tar::Archive::new(io::BufReader::new(file));
        if let Err(e) = contents.entries(&mut archive) {
            contents.problems.push(format!("the tar does not read to its end: {e}"));
        }
        if contents.files.is_empty() {
            contents.problems.push("there is no bundle in the tar".to_owned());
        }
        contents
    }

    fn entries<R: Read>(&mut self, archive: &mut tar::Archive<R>) -> io::Result<()> {
        for entry in archive.entries()? {
            let entry = entry?;
            let path = entry.path()?.into_owned();
            let kind = entry.header().entry_type();
            if kind.is_dir() {
                continue;
            }
            let Some(name) = plain_name(&path) else {
                self.problems.push(format!("{} has a name that no bundle has", path.display()));
                continue;
            };
            let name = below_root(&name).to_owned();
            if kind.is_file() {
                self.add(name, entry)?;
            } else {
                self.problems.push(format!("{name} is a link or a device, not a file"));
            }
        }
        Ok(())
    }

    fn add(&mut self, name: String, mut from: impl Read) -> io::Result<()> {
        if self.files.contains_key(&name) {
            // Which of the two another program would show is anyone's guess.
            self.problems.push(format!("{name} is there twice"));
            return Ok(());
        }
        let keep = !name.starts_with(ARTIFACTS);
        let mut hash = sha2::Sha256::new();
        let (mut len, mut bytes, mut buffer) = (0_u64, Vec::new(), vec![0; 64 << 10]);
        loop {
            let n = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            hash.update(&buffer[..n]);
            len += n as u64;
            if keep {
                if len > MAX_KEPT {
                    return Err(io::Error::other(format!("{name} is larger than any bundle's")));
                }
                bytes.extend_from_slice(&buffer[..n]);
            }
        }
        self.files.insert(name, FileContent { digest: Sha256(hash.finalize().into()), len, bytes });
        Ok(())
    }
}

/// The name with `/`, when it is relative and has only ordinary parts.
fn plain_name(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// Without the folder that a tar puts everything in.
fn below_root(name: &str) -> &str {
    match name.split_once('/') {
        Some((root, rest)) if root.starts_with("assay-run-") => rest,
        _ => name,
    }
}
