//! Where snapshots are: files by their content, and a list of them for each snapshot.
//!
//! ```text
//! snapshots/lock           held by whoever reads or writes here
//! snapshots/KEY.json       what a snapshot is made of; KEY is what it depends on
//! snapshots/objects/DIGEST a file, by its content: the same stick or disk is there once
//! ```
//!
//! A list is written last and under a temporary name, so one that is there is whole. Files are looked at again when they
//! are used: what does not have its digest any more is no snapshot.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use assay_media::prove::Fingerprint;
use assay_model::Sha256;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::image::bench::disks::sparse_copy;

/// Snapshots that are kept; the oldest goes first.
const MOST: usize = 8;

/// The snapshots of a runner.
#[derive(Clone, Debug)]
pub(super) struct Store {
    folder: PathBuf,
}

/// A snapshot's list.
#[derive(Serialize, Deserialize)]
struct List<S> {
    state: S,
    files: Vec<Entry>,
}

/// A file of a snapshot.
#[derive(Serialize, Deserialize)]
struct Entry {
    /// Its path in the run's folder.
    path: PathBuf,
    /// The object that it is.
    object: String,
}

impl Store {
    pub(super) fn open(cache: &Path) -> Result<Self, String> {
        let folder = cache.join("snapshots");
        fs::DirBuilder::new()
            .recursive(true)
            // Disks and keys of machines are nobody else's business.
            .mode(0o700)
            .create(folder.join("objects"))
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self { folder })
    }

    /// Lays a snapshot's files into a folder, each looked at; its state, or none where there is no such snapshot.
    ///
    /// # Errors
    /// Why the snapshot cannot be used: it is damaged, or of another version.
    pub(super) fn lay<S: DeserializeOwned>(&self, key: Sha256, into: &Path) -> Result<Option<S>, String> {
        let _lock = self.lock(File::lock_shared)?;
        let path = self.list(key);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        let list: List<S> =
            serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        for entry in &list.files {
            let to = into.join(&entry.path);
            let told = |error: io::Error| format!("{}: {error}", entry.path.display());
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent).map_err(told)?;
            }
            sparse_copy(&self.object(&entry.object), &to).map_err(told)?;
            if digest(&to)? != entry.object {
                return Err(format!("{} is not any more what it was when it was kept", entry.path.display()));
            }
        }
        Ok(Some(list.state))
    }

    /// Takes a folder's files in, as the snapshot of this key; says how many bytes they take.
    ///
    /// # Errors
    /// What cannot be read or written. There is no such snapshot then, or the one from before.
    pub(super) fn put(&self, key: Sha256, from: &Path, state: &impl Serialize) -> Result<u64, String> {
        let _lock = self.lock(File::lock)?;
        let mut files = Vec::new();
        let mut bytes = 0;
        for path in files_of(from).map_err(|error| format!("{}: {error}", from.display()))? {
            let file = from.join(&path);
            let told = |error: io::Error| format!("{}: {error}", path.display());
            let object = digest(&file)?;
            bytes += allocated(&file).map_err(told)?;
            let place = self.object(&object);
            if !place.exists() {
                let half = self.folder.join("half");
                sparse_copy(&file, &half).map_err(told)?;
                fs::rename(&half, &place).map_err(told)?;
            }
            files.push(Entry { path, object });
        }
        let list = serde_json::to_vec(&List { state, files }).map_err(|error| error.to_string())?;
        let (half, place) = (self.folder.join("half"), self.list(key));
        let told = |error: io::Error| format!("{}: {error}", place.display());
        fs::write(&half, list).map_err(told)?;
        fs::rename(&half, &place).map_err(told)?;
        self.forget_old().map_err(told)?;
        Ok(bytes)
    }

    /// There is no such snapshot any more.
    pub(super) fn forget(&self, key: Sha256) -> Result<(), String> {
        let _lock = self.lock(File::lock)?;
        let path = self.list(key);
        fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Keeps the newest, and what they are made of.
    fn forget_old(&self) -> io::Result<()> {
        let mut lists: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                lists.push((entry.metadata()?.modified()?, path));
            }
        }
        lists.sort();
        let old = lists.len().saturating_sub(MOST);
        for (_, path) in lists.drain(..old) {
            fs::remove_file(path)?;
        }
        let mut wanted = BTreeSet::new();
        for (_, path) in &lists {
            // One that does not read is of no use, and neither is what it is made of.
            let list = serde_json::from_slice::<List<serde_json::Value>>(&fs::read(path)?);
            wanted.extend(list.into_iter().flat_map(|list| list.files).map(|entry| entry.object));
        }
        for entry in fs::read_dir(self.folder.join("objects"))? {
            let entry = entry?;
            if !wanted.contains(entry.file_name().to_string_lossy().as_ref()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn lock(&self, how: fn(&File) -> io::Result<()>) -> Result<File, String> {
        let path = self.folder.join("lock");
        let file = File::create(&path).and_then(|file| how(&file).map(|()| file));
        file.map_err(|error| format!("{}: {error}", path.display()))
    }

    fn list(&self, key: Sha256) -> PathBuf {
        self.folder.join(format!("{key}.json"))
    }

    fn object(&self, digest: &str) -> PathBuf {
        self.folder.join("objects").join(digest)
    }
}

/// A digest of size and content that does not read holes.
fn digest(file: &Path) -> Result<String, String> {
    Fingerprint::quick(file).map(|print| print.content).map_err(|error| error.to_string())
}

fn allocated(file: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::metadata(file)?.blocks() * 512)
}

/// Every file below a folder, by its path from there.
fn files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut open) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(below) = open.pop() {
        for entry in fs::read_dir(folder.join(&below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            match entry.file_type()? {
                kind if kind.is_dir() => open.push(path),
                kind if kind.is_file() => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use assay_model::Sha256;

    use super::{MOST, Store};

    fn key(number: usize) -> Sha256 {
        Sha256::of(number.to_string().as_bytes())
    }

    fn write(path: &Path, content: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn objects(cache: &Path) -> usize {
        std::fs::read_dir(cache.join("snapshots/objects")).unwrap().count()
    }

    #[test]
    fn what_is_put_is_laid_again_and_the_same_file_is_there_once() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, from, into) =
            (folder.path().join("cache"), folder.path().join("from"), folder.path().join("into"));
        write(&from.join("disks/a.raw"), "the disk");
        write(&from.join("memory"), "the memory");
        let store = Store::open(&cache).unwrap();
        assert_eq!(store.lay::<String>(key(1), &into).unwrap(), None, "nothing was put there");
        store.put(key(1), &from, &"first").unwrap();
        write(&from.join("memory"), "another one");
        store.put(key(2), &from, &"second").unwrap();
        assert_eq!(objects(&cache), 3, "one disk, two memories");
        assert_eq!(store.lay::<String>(key(1), &into).unwrap().as_deref(), Some("first"));
        assert_eq!(std::fs::read_to_string(into.join("disks/a.raw")).unwrap(), "the disk");
        assert_eq!(std::fs::read_to_string(into.join("memory")).unwrap(), "the memory");
    }

    #[test]
    fn a_snapshot_that_is_damaged_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        write(&from.join("memory"), "the memory");
        let store = Store::open(folder.path()).unwrap();
        store.put(key(1), &from, &"state").unwrap();
        let objects = folder.path().join("snapshots/objects");
        let object = std::fs::read_dir(&objects).unwrap().next().unwrap().unwrap().path();
        write(&object, "the memorx");
        let problem = store.lay::<String>(key(1), &folder.path().join("into")).unwrap_err();
        assert!(problem.contains("memory is not any more what it was"), "{problem}");
        std::fs::remove_file(&object).unwrap();
        assert!(store.lay::<String>(key(1), &folder.path().join("into")).is_err(), "a file is missing");
    }

    #[test]
    fn the_oldest_go_with_what_nobody_else_needs() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        write(&from.join("stick"), "the same for all");
        let store = Store::open(folder.path()).unwrap();
        for number in 0..MOST + 2 {
            write(&from.join("memory"), &number.to_string());
            store.put(key(number), &from, &number).unwrap();
            // Times of files need not be finer than a clock's tick.
            let list = store.list(key(number));
            let at = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number as u64);
            std::fs::File::options().append(true).open(list).unwrap().set_modified(at).unwrap();
        }
        write(&from.join("memory"), "last");
        store.put(key(99), &from, &99).unwrap();
        let into = folder.path().join("into");
        assert_eq!(store.lay::<usize>(key(0), &into).unwrap(), None);
        assert_eq!(store.lay::<usize>(key(MOST + 1), &into).unwrap(), Some(MOST + 1));
        assert_eq!(objects(folder.path()), MOST + 1, "a memory each, and the stick");
    }
}
