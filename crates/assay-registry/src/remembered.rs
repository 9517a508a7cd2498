//! What names meant when they were last asked for: one small file for each name, beside the store.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::CacheError;
use crate::reference::{Digest, Reference};

/// An image that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its whole name.
    pub reference: String,
    /// What the registry said that it is: the digest of its manifest, or of the list of those.
    pub digest: String,
    /// The repository that it has in the store.
    pub(crate) repository: String,
    /// The digest of the manifest for this machine.
    pub(crate) manifest: String,
    /// Everything that it is made of, in bytes; images that share layers both count them.
    pub bytes: u64,
}

/// What is remembered in a folder.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    folder: PathBuf,
}

impl Remembered {
    pub(crate) fn in_cache(folder: &Path) -> Self {
        Self { folder: folder.join("names") }
    }

    /// What a name meant. A file that does not read is as good as none.
    pub(crate) fn get(&self, reference: &Reference) -> Option<Kept> {
        read(&self.path(&reference.to_string())).filter(|kept| kept.reference == reference.to_string())
    }

    /// Remembers; the time of the file says when it was last used.
    pub(crate) fn put(&self, kept: &Kept) -> Result<(), CacheError> {
        let path = self.path(&kept.reference);
        let failed = |source| CacheError::Folder { doing: "writing", path: path.clone(), source };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let text = serde_json::to_vec_pretty(kept).map_err(|error| failed(io::Error::other(error)))?;
        let part = path.with_extension(format!("{}.part", std::process::id()));
        fs::write(&part, text).and_then(|()| fs::rename(&part, &path)).map_err(failed)
    }

    pub(crate) fn forget(&self, kept: &Kept) -> Result<(), CacheError> {
        let path = self.path(&kept.reference);
        fs::remove_file(&path).map_err(CacheError::folder("removing", path))
    }

    /// Everything, the longest unused first.
    pub(crate) fn all(&self) -> Vec<Kept> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().filter_map(Result::ok);
        let mut all: Vec<_> = entries
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "json"))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, read(&entry.path())?)))
            .collect();
        all.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.reference.cmp(&other.reference)));
        all.into_iter().map(|(_, kept)| kept).collect()
    }

    fn path(&self, reference: &str) -> PathBuf {
        let name = Digest::of(reference.as_bytes());
        self.folder.join(name.as_str().trim_start_matches("sha256:")).with_extension("json")
    }
}

fn read(path: &Path) -> Option<Kept> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::{Kept, Remembered};

    #[test]
    fn a_name_is_remembered_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let remembered = Remembered::in_cache(folder.path());
        let reference = "docker.io/library/a:1".parse().unwrap();
        assert_eq!(remembered.get(&reference), None);
        let kept = Kept {
            reference: reference.to_string(),
            digest: "sha256:1".to_owned(),
            repository: reference.kept_as(),
            manifest: "sha256:2".to_owned(),
            bytes: 7,
        };
        remembered.put(&kept).unwrap();
        assert_eq!(remembered.get(&reference), Some(kept.clone()));
        assert_eq!(remembered.all(), std::slice::from_ref(&kept));
        remembered.forget(&kept).unwrap();
        assert_eq!(remembered.all(), []);
    }
}
