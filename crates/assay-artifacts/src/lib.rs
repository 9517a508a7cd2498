//! Evidence as files: immutable blobs named by their SHA-256.
//!
//! A blob is either there, whole and on disk, or not there at all: it is written under another
//! name, checked, synced and only then given its own. Storing the same bytes twice is storing them
//! once. What a blob means, and which run it belongs to, is in the journal; for people, each run has
//! a folder `run-<N>` whose files are links to its blobs.

mod error;
mod files;
mod run_folder;

use std::path::PathBuf;
use std::sync::Arc;

use assay_model::Sha256;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, WriteMultipart};
use sha2::Digest as _;

pub use error::ArtifactError;
pub use files::StoredFile;

/// Written at once; also what one stream holds in memory, times [`PARTS_IN_FLIGHT`].
const PART: usize = 1 << 20;
const PARTS_IN_FLIGHT: usize = 2;

/// The blobs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Artifacts {
    store: Arc<dyn ObjectStore>,
    folder: PathBuf,
}

/// What checking a stored blob found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// Its bytes are those that were stored.
    Ok,
    /// Its bytes are others.
    Altered,
    /// It is not there: pruned by retention, or lost.
    Missing,
}

impl Artifacts {
    /// Blobs in a folder, which is made if there is none. Blocks shortly.
    pub fn folder(path: impl Into<PathBuf>) -> Result<Self, ArtifactError> {
        let folder: PathBuf = path.into();
        std::fs::create_dir_all(&folder).map_err(|e| ArtifactError::io("make the artifact folder", e))?;
        let store = LocalFileSystem::new_with_prefix(&folder)
            .map_err(|e| ArtifactError::store("open the artifact folder", e))?
            .with_fsync(true);
        // Paths are shown and linked from elsewhere: make them hold wherever the process goes.
        let folder = folder.canonicalize().map_err(|e| ArtifactError::io("open the artifact folder", e))?;
        Ok(Self { store: Arc::new(store), folder })
    }

    /// Stores bytes; returns their digest once they are on disk.
    pub async fn put(&self, bytes: impl Into<Bytes>) -> Result<Sha256, ArtifactError> {
        let bytes = bytes.into();
        let digest = Sha256::of(&bytes);
        let put = self.store.put(&blob(digest), bytes.into()).await;
        put.map_err(|e| ArtifactError::store("store an artifact", e))?;
        self.protect(digest).await?;
        Ok(digest)
    }

    /// Stores a stream of at most `max_bytes`; returns digest and size once it is on disk. One that
    /// is larger, breaks off, or is not what `expected` says, leaves nothing behind.
    pub async fn put_stream<S, E>(
        &self,
        mut stream: S,
        max_bytes: u64,
        expected: Option<Sha256>,
    ) -> Result<(Sha256, u64), ArtifactError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        const WRITE: &str = "write an artifact";
        let incoming = Path::from(format!("incoming/{}", uuid::Uuid::new_v4()));
        let upload = self.store.put_multipart(&incoming).await.map_err(|e| ArtifactError::store(WRITE, e))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
        let received = receive(&mut stream, &mut upload, max_bytes, expected).await;
        let (digest, bytes) = match received {
            Ok(received) => received,
            Err(error) => {
                // The reason to stop is the error that counts; a file that stays is under no blob's name.
                let _ = upload.abort().await;
                return Err(error);
            }
        };
        upload.finish().await.map_err(|e| ArtifactError::store(WRITE, e))?;
        if let Err(error) = self.store.rename(&incoming, &blob(digest)).await {
            let _ = self.store.delete(&incoming).await;
            return Err(ArtifactError::store("give an artifact its name", error));
        }
        self.protect(digest).await?;
        Ok((digest, bytes))
    }

    /// A whole blob. [`ArtifactError::Altered`] when its bytes are not those that were stored.
    pub async fn get(&self, digest: Sha256) -> Result<Bytes, ArtifactError> {
        const READ: &str = "read an artifact";
        let found = self.store.get(&blob(digest)).await.map_err(|e| ArtifactError::of(READ, digest, e))?;
        let bytes = found.bytes().await.map_err(|e| ArtifactError::of(READ, digest, e))?;
        if Sha256::of(&bytes) == digest { Ok(bytes) } else { Err(ArtifactError::Altered { digest }) }
    }

    /// A blob as a stream, with its size. Not checked against its digest: use it for showing, and
    /// [`Self::get`] or [`Self::verify`] where the content decides something.
    pub async fn get_stream(
        &self,
        digest: Sha256,
    ) -> Result<(u64, BoxStream<'static, Result<Bytes, ArtifactError>>), ArtifactError> {
        const READ: &str = "read an artifact";
        let found = self.store.get(&blob(digest)).await.map_err(|e| ArtifactError::of(READ, digest, e))?;
        let size = found.meta.size;
        Ok((size, found.into_stream().map_err(move |e| ArtifactError::of(READ, digest, e)).boxed()))
    }

    /// Whether a blob is there.
    pub async fn exists(&self, digest: Sha256) -> Result<bool, ArtifactError> {
        match self.store.head(&blob(digest)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(ArtifactError::store("look for an artifact", error)),
        }
    }

    /// Reads a blob and compares its bytes with its name.
    pub async fn verify(&self, digest: Sha256) -> Result<Verified, ArtifactError> {
        let mut stream = match self.get_stream(digest).await {
            Ok((_, stream)) => stream,
            Err(ArtifactError::Missing { .. }) => return Ok(Verified::Missing),
            Err(error) => return Err(error),
        };
        let mut hash = sha2::Sha256::new();
        while let Some(chunk) = stream.try_next().await? {
            hash.update(&chunk);
        }
        let same = Sha256(hash.finalize().into()) == digest;
        Ok(if same { Verified::Ok } else { Verified::Altered })
    }

    /// Removes a blob; false when there was none. Links from run folders keep the bytes until they
    /// are removed too ([`Self::unlink_run`]).
    pub async fn remove(&self, digest: Sha256) -> Result<bool, ArtifactError> {
        // Deleting what is not there succeeds on some stores, so ask first.
        if !self.exists(digest).await? {
            return Ok(false);
        }
        match self.store.delete(&blob(digest)).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(ArtifactError::store("remove an artifact", error)),
        }
    }

    /// Where a blob lies on disk.
    fn path(&self, digest: Sha256) -> PathBuf {
        self.folder.join(blob(digest).as_ref())
    }

    /// Takes the write permission away: a run folder's file is the blob, and editing it would
    /// change the evidence.
    async fn protect(&self, digest: Sha256) -> Result<(), ArtifactError> {
        use std::os::unix::fs::PermissionsExt as _;
        let read_only = std::fs::Permissions::from_mode(0o440);
        let done = tokio::fs::set_permissions(self.path(digest), read_only).await;
        done.map_err(|e| ArtifactError::io("protect an artifact", e))
    }
}

/// A blob's name; the first two digits keep folders small.
fn blob(digest: Sha256) -> Path {
    let hex = digest.to_string();
    Path::from(format!("sha256/{}/{hex}", &hex[..2]))
}

async fn receive<S, E>(
    stream: &mut S,
    upload: &mut WriteMultipart,
    max_bytes: u64,
    expected: Option<Sha256>,
) -> Result<(Sha256, u64), ArtifactError>
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut hash = sha2::Sha256::new();
    let mut size = 0_u64;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| ArtifactError::Body { source: e.into() })?;
        size = size.saturating_add(chunk.len() as u64);
        if size > max_bytes {
            return Err(ArtifactError::TooLarge { max_bytes });
        }
        hash.update(&chunk);
        upload
            .wait_for_capacity(PARTS_IN_FLIGHT)
            .await
            .map_err(|e| ArtifactError::store("write an artifact", e))?;
        upload.put(chunk);
    }
    let digest = Sha256(hash.finalize().into());
    match expected {
        Some(expected) if expected != digest => Err(ArtifactError::Mismatch { expected, digest, size }),
        _ => Ok((digest, size)),
    }
}
