//! Digests of images, each computed once: the cases of a matrix are tested on one image of gigabytes.
//!
//! A file is known by its place, size and times, so one that was changed in between is read again.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use assay_media::prove::Fingerprint;
use assay_model::Sha256;
use tokio::sync::OnceCell;

/// Digests of images, shared by all benches of a runner.
#[derive(Clone, Default)]
pub struct Digests(Arc<Mutex<BTreeMap<Key, Known>>>);

/// An image's size and digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageDigest {
    /// Bytes.
    pub bytes: u64,
    /// Of all of them.
    pub sha256: Sha256,
}

type Known = Arc<OnceCell<ImageDigest>>;

/// Path, device, inode, size, and when content and inode were changed (seconds, nanoseconds).
type Key = (PathBuf, [u64; 3], [i64; 4]);

impl Digests {
    /// The digest of an image; whoever asks while it is computed waits for it.
    ///
    /// # Errors
    /// Why the file cannot be read, for people.
    pub async fn of(&self, image: &Path) -> Result<ImageDigest, String> {
        let at = |error: &dyn std::fmt::Display| format!("{}: {error}", image.display());
        let file = std::fs::metadata(image).map_err(|error| at(&error))?;
        let key = (
            image.to_owned(),
            [file.dev(), file.ino(), file.len()],
            [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()],
        );
        let known = Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        let path = image.to_owned();
        let read = async move {
            let fingerprint =
                super::blocking(move || Fingerprint::of(&path)).await?.map_err(|error| error.to_string())?;
            let sha256 = fingerprint.sha256.as_deref().unwrap_or_default().parse();
            let sha256 = sha256.map_err(|error| format!("the image's digest: {error}"))?;
            Ok(ImageDigest { bytes: fingerprint.bytes, sha256 })
        };
        known.get_or_try_init(|| read).await.copied()
    }
}

/// The digest of a file, or of the names and digests of all that is in a folder.
///
/// # Errors
/// What cannot be read.
pub fn content_of(path: &Path) -> std::io::Result<Sha256> {
    if !std::fs::metadata(path)?.is_dir() {
        return Ok(Sha256::of(&std::fs::read(path)?));
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.push(entry?.file_name());
    }
    names.sort();
    let mut all = Vec::new();
    for name in names {
        let content = content_of(&path.join(&name))?;
        // A name has no NUL byte, so no name can pass for another one and a digest.
        all.extend_from_slice(name.as_encoded_bytes());
        all.extend_from_slice(format!("\0{content}\n").as_bytes());
    }
    Ok(Sha256::of(&all))
}

#[cfg(test)]
mod tests {
    use super::Digests;
    use assay_model::Sha256;

    #[tokio::test]
    async fn an_image_that_was_changed_is_another_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.iso");
        let digests = Digests::default();
        std::fs::write(&path, b"one").expect("written");
        let first = digests.of(&path).await.expect("read");
        assert_eq!((first.bytes, first.sha256), (3, Sha256::of(b"one")));
        assert_eq!(digests.of(&path).await, Ok(first));
        std::fs::write(&path, b"two.").expect("written");
        assert_eq!(digests.of(&path).await.expect("read").sha256, Sha256::of(b"two."));
        let gone = digests.of(&folder.path().join("b.iso")).await.expect_err("there is none");
        assert!(gone.contains("b.iso"), "{gone}");
    }
}
