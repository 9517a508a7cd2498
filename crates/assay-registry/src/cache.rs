//! The cache itself: a folder that outlives runs, opened for as long as images are needed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, Weak};

use assay_process::find_program;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use walkdir::WalkDir;

use crate::credentials::Credentials;
use crate::reference::Digest;
use crate::remembered::{Kept, Remembered};
use crate::store::{Store, collect_garbage, storage_in};
use crate::upstream::{Fetched, Registries, client};
use crate::{CacheError, Window};

/// How a cache is.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// Its folder, its owner's alone; short enough for a socket in it (about 90 bytes).
    pub folder: PathBuf,
    /// Where registries are.
    pub registries: Registries,
    /// Who we are to them.
    pub credentials: Credentials,
}

/// A cache of images. Clones are the same one. Nothing runs until it is opened.
#[derive(Clone, Debug)]
pub struct ImageCache {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: CacheSettings,
    pub(crate) http: reqwest::Client,
    pub(crate) remembered: Remembered,
    /// The store, while somebody uses it.
    store: Mutex<Weak<Store>>,
}

/// The cache in use. The store ends with the last of its sessions.
#[derive(Clone, Debug)]
pub struct Session {
    pub(crate) inner: Arc<Inner>,
    pub(crate) store: Arc<Store>,
    pub(crate) fetched: Arc<std::sync::Mutex<Fetched>>,
}

impl ImageCache {
    /// A cache in a folder; made when it is opened.
    ///
    /// # Errors
    /// [`CacheError::Answer`] where this machine has no certificates to know registries by.
    pub fn new(settings: CacheSettings) -> Result<Self, CacheError> {
        let http = client().map_err(|error| CacheError::Answer {
            doing: "making a client for registries".to_owned(),
            why: crate::upstream::words(error),
        })?;
        let remembered = Remembered::in_cache(&settings.folder);
        Ok(Self { inner: Arc::new(Inner { settings, http, remembered, store: Mutex::default() }) })
    }

    /// Whether it could be opened here.
    ///
    /// # Errors
    /// The program that is missing, with the package to install.
    pub fn check() -> Result<(), CacheError> {
        for program in ["docker-registry", "flock", "sh"] {
            find_program(program)?;
        }
        Ok(())
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.inner.settings.folder
    }

    /// Opens it. Whoever else in this process has it open shares it; another process that has it is waited for.
    ///
    /// # Errors
    /// [`CacheError`].
    pub async fn open(&self) -> Result<Session, CacheError> {
        let mut known = self.inner.store.lock().await;
        let running = known.upgrade().filter(|store| !store.has_ended());
        let store = if let Some(store) = running {
            store
        } else {
            let store = Arc::new(Store::start(&self.inner.settings.folder).await?);
            *known = Arc::downgrade(&store);
            store
        };
        drop(known);
        store.serving().await?;
        Ok(Session { inner: Arc::clone(&self.inner), store, fetched: Arc::default() })
    }

    /// What it keeps, the longest unused first.
    pub fn kept(&self) -> Vec<Kept> {
        self.inner.remembered.all()
    }

    /// What it takes of its disk, in bytes.
    pub fn bytes(&self) -> u64 {
        let files = WalkDir::new(storage_in(self.folder())).into_iter().filter_map(Result::ok);
        files
            .filter_map(|entry| entry.metadata().ok())
            .filter(std::fs::Metadata::is_file)
            .map(|meta| meta.len())
            .sum()
    }

    /// Lets go of the longest unused images until it takes no more than `most` bytes. Returns the names that went.
    ///
    /// # Errors
    /// [`CacheError`].
    pub async fn prune(&self, most: u64) -> Result<Vec<String>, CacheError> {
        let mut gone = Vec::new();
        loop {
            let over = self.bytes().saturating_sub(most);
            let kept = self.kept();
            if over == 0 || kept.is_empty() {
                return Ok(gone);
            }
            let session = self.open().await?;
            let mut freed = 0;
            let mut manifests = Vec::new();
            for image in &kept {
                if freed >= over {
                    break;
                }
                if !manifests.contains(&(&image.repository, &image.manifest)) {
                    freed += image.bytes;
                    manifests.push((&image.repository, &image.manifest));
                }
            }
            for (repository, manifest) in &manifests {
                if let Some(digest) = Digest::parse(manifest) {
                    session.store.delete_manifest(repository, &digest).await?;
                }
            }
            // Every name that leads to one of them.
            for image in kept.iter().filter(|image| manifests.contains(&(&image.repository, &image.manifest)))
            {
                self.inner.remembered.forget(image)?;
                gone.push(image.reference.clone());
            }
            session.close().await;
            collect_garbage(self.folder()).await?;
        }
    }
}

impl Session {
    /// What this session had to fetch from outside so far.
    pub fn fetched(&self) -> Fetched {
        *self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a daemon pull through a listener, in whatever network that is: what it is shown and nothing else.
    pub fn window(&self, listener: TcpListener) -> Window {
        Window::open(listener, Arc::clone(&self.store))
    }

    /// Closes it. Where it was the last one, this waits until the store has ended.
    pub async fn close(self) {
        let Self { store, .. } = self;
        if let Some(store) = Arc::into_inner(store) {
            store.stop().await;
        }
    }
}
