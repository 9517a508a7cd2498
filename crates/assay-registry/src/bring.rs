//! Bringing an image into the cache: ask what its name means today, fetch what is not there.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;

use crate::cache::Session;
use crate::manifest::{Manifest, Part, Platform};
use crate::reference::{Digest, Reference, Which};
use crate::remembered::Kept;
use crate::upstream::{Fetched, RawManifest, Trouble, Upstream};
use crate::{BringError, BringFailure, CacheError};

/// Layers that are fetched at once.
const AT_ONCE: usize = 3;

/// An image that is in the cache.
#[derive(Clone, Debug)]
pub struct Brought {
    /// Its whole name.
    pub reference: Reference,
    /// What the registry says that it is: the digest of its manifest, or of the list of those.
    pub digest: Digest,
    /// Whether the registry was asked.
    pub freshness: Freshness,
    /// Everything that it is made of, in bytes.
    pub bytes: u64,
    /// What came from outside for it.
    pub fetched: Fetched,
    /// How long it took.
    pub took: Duration,
    pub(crate) repository: String,
    pub(crate) manifest: Digest,
    pub(crate) parts: Vec<Digest>,
}

/// How much is known of whether a name still means this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The registry said so just now.
    Asked,
    /// A digest never means another.
    Fixed,
    /// The registry could not be asked; it meant this when it was last asked.
    NotAsked {
        /// Why, as one sentence.
        why: String,
    },
}

impl Brought {
    /// What a daemon pulls at a [`crate::Window`]: a repository and the digest of the manifest for this machine.
    pub fn pull_as(&self) -> String {
        format!("{}@{}", self.repository, self.manifest)
    }

    /// As Docker writes an image's digest in a registry.
    pub fn repository_digest(&self) -> String {
        self.reference.at(&self.digest).to_string()
    }
}

impl Session {
    /// Brings an image, as far as it is not there.
    ///
    /// A tag is asked for again each time. Where the registry cannot be asked, what the tag meant last is taken, and
    /// [`Freshness`] says so. A registry that says that there is no such image is believed, whatever the cache has.
    ///
    /// # Errors
    /// [`BringError`], by whose trouble it is.
    pub async fn bring(&self, reference: &Reference, limit: Duration) -> Result<Brought, BringError> {
        let started = Instant::now();
        let in_time = tokio::time::timeout(limit, self.bring_now(reference)).await;
        let brought = in_time.unwrap_or_else(|_| {
            Err(Trouble { class: BringFailure::TimedOut, message: format!("not done within {limit:?}") })
        });
        match brought {
            Ok(brought) => Ok(Brought { took: started.elapsed(), ..brought }),
            Err(Trouble { class, message }) => {
                Err(BringError { reference: reference.to_string(), class, message })
            }
        }
    }

    async fn bring_now(&self, reference: &Reference) -> Result<Brought, Trouble> {
        let settings = &self.inner.settings;
        let upstream =
            Upstream::of(reference, &settings.registries, &settings.credentials, &self.inner.http)?;
        let brought = self.bring_from(reference, &upstream).await;
        // What came in vain came as well.
        *self.fetched.lock().unwrap_or_else(PoisonError::into_inner) += upstream.fetched();
        brought
    }

    async fn bring_from(&self, reference: &Reference, upstream: &Upstream<'_>) -> Result<Brought, Trouble> {
        let (digest, freshness, list) = self.meaning(reference, upstream).await?;
        let fixed = reference.at(&digest);
        let brought = |kept: &Kept, manifest: Digest, parts: Vec<Part>| Brought {
            reference: reference.clone(),
            digest: digest.clone(),
            freshness: freshness.clone(),
            bytes: kept.bytes,
            fetched: upstream.fetched(),
            took: Duration::ZERO,
            repository: kept.repository.clone(),
            manifest,
            parts: parts.into_iter().map(|part| part.digest).collect(),
        };
        if let Some(kept) = self.inner.remembered.get(&fixed)
            && let Some((manifest, parts)) = self.complete(&kept).await?
        {
            self.remember(reference, &fixed, &kept)?;
            return Ok(brought(&kept, manifest, parts));
        }
        let raw = match list {
            Some(raw) => raw,
            None => upstream.manifest(Some(&digest)).await?,
        };
        let (raw, parts) = for_this_machine(raw, upstream).await?;
        let repository = reference.kept_as();
        self.fill(&repository, &parts, upstream).await?;
        self.store
            .put_manifest(&repository, &raw.digest, &raw.media_type, &raw.bytes)
            .await
            .map_err(of_cache)?;
        let kept = Kept {
            reference: fixed.to_string(),
            digest: digest.to_string(),
            repository,
            manifest: raw.digest.to_string(),
            bytes: raw.bytes.len() as u64 + parts.iter().map(|part| part.size).sum::<u64>(),
        };
        self.remember(reference, &fixed, &kept)?;
        Ok(brought(&kept, raw.digest, parts))
    }

    /// What a name means today, and its manifest where that had to be read to know.
    async fn meaning(
        &self,
        reference: &Reference,
        upstream: &Upstream<'_>,
    ) -> Result<(Digest, Freshness, Option<RawManifest>), Trouble> {
        if let Which::Digest(digest) = &reference.which {
            return Ok((digest.clone(), Freshness::Fixed, None));
        }
        match upstream.meaning().await {
            Ok(Some(digest)) => Ok((digest, Freshness::Asked, None)),
            Ok(None) => {
                let raw = upstream.manifest(None).await?;
                Ok((raw.digest.clone(), Freshness::Asked, Some(raw)))
            }
            Err(trouble) => {
                let passes = matches!(
                    trouble.class,
                    BringFailure::Unreachable | BringFailure::RateLimited | BringFailure::TimedOut
                );
                let last = self.inner.remembered.get(reference).and_then(|kept| Digest::parse(&kept.digest));
                match last.filter(|_| passes) {
                    Some(digest) => Ok((digest, Freshness::NotAsked { why: trouble.message }, None)),
                    None => Err(trouble),
                }
            }
        }
    }

    /// The manifest and the parts of an image that is wholly there.
    async fn complete(&self, kept: &Kept) -> Result<Option<(Digest, Vec<Part>)>, Trouble> {
        let Some(digest) = Digest::parse(&kept.manifest) else { return Ok(None) };
        let Some(bytes) = self.store.manifest(&kept.repository, &digest).await.map_err(of_cache)? else {
            return Ok(None);
        };
        let Ok(Manifest::Image(parts)) = Manifest::read(&bytes) else { return Ok(None) };
        for part in &parts {
            if !self.store.has_blob(&kept.repository, &part.digest).await.map_err(of_cache)? {
                return Ok(None);
            }
        }
        Ok(Some((digest, parts)))
    }

    /// Fetches the parts that are not there.
    async fn fill(&self, repository: &str, parts: &[Part], upstream: &Upstream<'_>) -> Result<(), Trouble> {
        // An image may have one layer twice.
        let digests: BTreeSet<&Digest> = parts.iter().map(|part| &part.digest).collect();
        futures::stream::iter(digests.into_iter().map(Ok))
            .try_for_each_concurrent(AT_ONCE, |digest| async move {
                if self.store.has_blob(repository, digest).await.map_err(of_cache)? {
                    return Ok(());
                }
                let broken = Arc::new(Mutex::new(None));
                let body = upstream.blob(digest, Arc::clone(&broken)).await?;
                let kept = self.store.put_blob(repository, digest, body).await;
                let broken = broken.lock().unwrap_or_else(PoisonError::into_inner).take();
                match (kept, broken) {
                    (_, Some(broken)) => Err(broken),
                    (kept, None) => kept.map_err(of_cache),
                }
            })
            .await
    }

    fn remember(&self, reference: &Reference, fixed: &Reference, kept: &Kept) -> Result<(), Trouble> {
        for name in [reference, fixed] {
            let kept = Kept { reference: name.to_string(), ..kept.clone() };
            self.inner.remembered.put(&kept).map_err(of_cache)?;
        }
        Ok(())
    }
}

/// The manifest for this machine, and what it names.
async fn for_this_machine(
    raw: RawManifest,
    upstream: &Upstream<'_>,
) -> Result<(RawManifest, Vec<Part>), Trouble> {
    let listed = match read(&raw)? {
        Manifest::Image(parts) => return Ok((raw, parts)),
        Manifest::List(listed) => listed,
    };
    let here = Platform::here();
    let Some(chosen) = here.choose(&listed) else {
        return Err(Trouble {
            class: BringFailure::NotFound,
            message: format!(
                "there is none for {here} among the {} kinds of machine that it is for",
                listed.len()
            ),
        });
    };
    let raw = upstream.manifest(Some(&chosen.digest)).await?;
    match read(&raw)? {
        Manifest::Image(parts) => Ok((raw, parts)),
        Manifest::List(_) => {
            Err(Trouble { class: BringFailure::Other, message: "its list names another list".to_owned() })
        }
    }
}

fn read(raw: &RawManifest) -> Result<Manifest, Trouble> {
    Manifest::read(&raw.bytes).map_err(|why| Trouble {
        class: BringFailure::Other,
        message: format!("its manifest {} is not understood: {why}", raw.digest),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` calls")]
fn of_cache(error: CacheError) -> Trouble {
    let class = if error.is_full() { BringFailure::NoSpace } else { BringFailure::Cache };
    Trouble { class, message: error.to_string() }
}
