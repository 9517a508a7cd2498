//! Images: into the run's daemon, which begins with none and has no way out. Archives on this machine come first; what no archive
//! has comes from registries through the runner's cache.
//!
//! A registry that says "there is none" speaks of the recipe. One that is not reached, has had enough of us or does not answer in
//! time does not, and neither does a full disk: those are errors of the runner.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use assay_recipe::compose::model::Compose;
use assay_registry::{Brought, Freshness, ImageCache, Reference, Session, Window};
use assay_swarm::{Archives, Images, NeededImage, whole_name};

use super::{GivenImage, Test, WantedImage};
use crate::recipe::evidence::{ImageFetched, ImageSeen};

/// What one image may take from its registry, and then into the daemon.
pub(super) const LIMIT: Duration = Duration::from_mins(30);

/// The images of a stack, in the daemon.
pub(super) struct StackImages {
    pub(super) seen: Vec<ImageSeen>,
    /// What images are called in the daemon that cannot be called as the files say: those with a digest.
    instead: BTreeMap<String, String>,
}

/// The runner's cache, open for a run's daemon.
struct Source {
    session: Session,
    window: Window,
    /// Where the daemon finds the window: `10.77.0.1:40001`.
    address: String,
}

impl Test {
    /// Brings the images that a stack needs into the daemon. The inner error is the recipe's: images that there are not.
    pub(super) async fn bring_images(
        &mut self,
        needed: &[NeededImage],
    ) -> Result<Result<StackImages, Vec<String>>, String> {
        let mut source = None;
        let brought = self.bring_all(needed, &mut source).await;
        if let Some(Source { session, window, .. }) = source {
            drop(window);
            session.close().await;
        }
        brought
    }

    async fn bring_all(
        &mut self,
        needed: &[NeededImage],
        source: &mut Option<Source>,
    ) -> Result<Result<StackImages, Vec<String>>, String> {
        let folders: Vec<_> = self.spec.asked.images.iter().chain(&self.settings.images).cloned().collect();
        let archives =
            Archives::of(&folders).map_err(|(path, error)| format!("images: {}: {error}", path.display()))?;
        let Some(stand) = &self.stand else { return Err("there is no daemon".to_owned()) };
        let images = stand.swarm().images();
        let failed = |error: assay_swarm::SwarmError| error.to_string();
        let mut brought = StackImages { seen: Vec::new(), instead: BTreeMap::new() };
        let mut missing = Vec::new();
        for image in needed {
            let reference = &image.reference;
            let called = name_in_daemon(reference);
            let began = Instant::now();
            let mut seen = self.images.get(reference).cloned().unwrap_or_else(|| ImageSeen {
                reference: reference.clone(),
                id: String::new(),
                digests: Vec::new(),
                from: String::new(),
                fetched: None,
            });
            seen.fetched = None;
            let pinned = self.spec.asked.pinned.get(reference);
            // A run deploys the same bytes from its beginning to its end, wherever the tag goes meanwhile; and one that is done again
            // those that it had.
            let digest = seen.digests.first().or(pinned.and_then(|pinned| pinned.digest.as_ref())).cloned();
            let is_another = |id: Option<String>| {
                let wanted = pinned.filter(|pinned| pinned.digest.is_some()).map(|pinned| &pinned.id);
                wanted.zip(id).is_some_and(|(wanted, id)| *wanted != id)
            };
            let as_then = |why: String| match (pinned, &digest) {
                (Some(_), Some(digest)) => format!("{why} (the run that is done again had {digest})"),
                _ => why,
            };
            if let Some(there) = images.identity(&called).await.map_err(failed)? {
                stand.is_as_archived(&there, archives.id(reference).as_deref())?;
                "there already".clone_into(&mut seen.from);
            } else if let Some(archive) =
                archives.find(reference).filter(|_| !is_another(archives.id(reference)))
            {
                images.load_archive(archive).await.map_err(failed)?;
                "archive".clone_into(&mut seen.from);
            } else if let Some(outside) = &self.settings.outside {
                let name = digest.clone().unwrap_or_else(|| whole_name(reference));
                let wanted = WantedImage { reference: reference.clone(), name, called: called.clone() };
                match outside.image(&wanted).await? {
                    Ok(given) => {
                        let loaded = images.load_archive(&given.archive).await;
                        // It lies on the disk that the containers have, too.
                        let _ = std::fs::remove_file(&given.archive);
                        loaded.map_err(failed)?;
                        note_given(given, began, &mut seen);
                    }
                    Err(why) => {
                        let why = as_then(why);
                        missing.push(format!("{reference} (for {}): {why}", image.services.join(", ")));
                        continue;
                    }
                }
            } else if let Some(cache) = &self.settings.cache {
                let source = match source {
                    Some(source) => source,
                    None => source.insert(Source::open(cache, stand, reference).await?),
                };
                let name = digest.clone().unwrap_or_else(|| whole_name(reference));
                match source.bring(&name, &called, images).await? {
                    Ok(found) => note(&found, began, &mut seen),
                    Err(why) => {
                        let why = as_then(why);
                        missing.push(format!("{reference} (for {}): {why}", image.services.join(", ")));
                        continue;
                    }
                }
            } else {
                let services = image.services.join(", ");
                let why = as_then("no archive has it, and no registry is asked".to_owned());
                missing.push(format!("{reference} (for {services}): {why}"));
                continue;
            }
            let Some(found) = images.identity(&called).await.map_err(failed)? else {
                missing.push(format!("{reference}: the archive that names it does not have it"));
                continue;
            };
            seen.id = found.id;
            if seen.from != "there already" {
                self.brought.insert(called.clone());
            }
            if called != *reference {
                brought.instead.insert(reference.clone(), called);
            }
            self.images.insert(reference.clone(), seen.clone());
            brought.seen.push(seen);
        }
        Ok(if missing.is_empty() { Ok(brought) } else { Err(missing) })
    }
}

impl StackImages {
    /// The stack with the images as they are called in the daemon.
    pub(super) fn renamed(&self, compose: &Compose) -> Compose {
        let mut compose = compose.clone();
        for service in compose.services.values_mut() {
            if let Some(name) = service.image.as_ref().and_then(|image| self.instead.get(image)) {
                service.image = Some(name.clone());
            }
        }
        compose
    }

    /// Which images are called otherwise than written, and why.
    pub(super) fn told(&self) -> impl Iterator<Item = String> {
        self.instead.iter().map(|(written, called)| {
            format!("image {written} is called {called} in the run's daemon, which cannot name one by a digest; it is those bytes")
        })
    }
}

impl Source {
    async fn open(cache: &ImageCache, stand: &super::stand::Stand, reference: &str) -> Result<Self, String> {
        ImageCache::check().map_err(|error| {
            format!("no archive has the image {reference}, and registries are asked through a cache that is not installed: {error}; or give the image as an archive (--images)")
        })?;
        let session = cache.open().await.map_err(|error| format!("the cache of images: {error}"))?;
        let failed = |error: std::io::Error| format!("listening for the run's daemon: {error}");
        let reach = stand.reach_for_images()?;
        // Any port that the app has not taken.
        let listener = reach.listen(0).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?.to_string();
        let window = session.window(listener);
        Ok(Self { session, window, address })
    }

    /// Brings an image through the cache into the daemon, under a name. The inner error is the recipe's.
    async fn bring(
        &self,
        name: &str,
        called: &str,
        images: Images<'_>,
    ) -> Result<Result<Brought, String>, String> {
        let reference: Reference = match name.parse() {
            Ok(reference) => reference,
            Err(bad) => return Ok(Err(bad.to_string())),
        };
        let brought = match self.session.bring(&reference, LIMIT).await {
            Ok(brought) => brought,
            Err(error) if error.class.is_of_who_named_it() => return Ok(Err(error.message)),
            Err(error) => return Err(format!("image {error}")),
        };
        self.window.show(&brought);
        let pulled = format!("{}/{}", self.address, brought.pull_as());
        images.pull(&pulled, LIMIT).await.map_err(|error| format!("image {reference}: {error}"))?;
        images.rename(&pulled, called).await.map_err(|error| error.to_string())?;
        Ok(Ok(brought))
    }
}

/// Writes down what is told of an image that came from a registry.
fn note(brought: &Brought, began: Instant, seen: &mut ImageSeen) {
    let (from, fetched) = told_of(brought);
    seen.digests = vec![brought.repository_digest()];
    seen.from = from;
    seen.fetched = Some(ImageFetched { all_ms: began.elapsed().as_millis() as u64, ..fetched });
}

/// Writes down what is told of an image that was given from outside of the machine.
fn note_given(given: GivenImage, began: Instant, seen: &mut ImageSeen) {
    seen.from = given.from;
    if !given.digests.is_empty() {
        seen.digests = given.digests;
    }
    let all_ms = began.elapsed().as_millis() as u64;
    seen.fetched = given.fetched.map(|fetched| ImageFetched { all_ms, ..fetched });
}

/// Where an image came from, in words, and what that took; how long until a daemon had it is not known here.
pub(super) fn told_of(brought: &Brought) -> (String, ImageFetched) {
    let from = match &brought.freshness {
        Freshness::Asked | Freshness::Fixed => "registry".to_owned(),
        Freshness::NotAsked { why } => {
            format!("cache, as the registry had it when it was last asked ({why})")
        }
    };
    let fetched = ImageFetched {
        bytes: brought.bytes,
        blob_bytes: brought.fetched.blob_bytes,
        manifest_bytes: brought.fetched.manifest_bytes,
        requests: brought.fetched.requests,
        registry_ms: brought.took.as_millis() as u64,
        all_ms: 0,
    };
    (from, fetched)
}

/// What an image is called in the daemon: as written, or by a tag that is made of its digest.
fn name_in_daemon(reference: &str) -> String {
    let Some((name, digest)) = reference.split_once('@') else { return reference.to_owned() };
    let repository = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    };
    let digits = digest.split_once(':').map_or(digest, |(_, digits)| digits);
    let digits: String = digits.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    format!("{repository}:sha256-{digits}")
}

#[cfg(test)]
mod tests {
    use super::name_in_daemon;

    #[test]
    fn a_name_with_a_digest_becomes_one_with_a_tag() {
        for (written, called) in [
            ("nginx:1.25", "nginx:1.25"),
            ("nginx@sha256:0123456789abcdef0123", "nginx:sha256-0123456789abcdef"),
            (
                "reg.example:5000/a/b:1@sha256:0123456789abcdef0123",
                "reg.example:5000/a/b:sha256-0123456789abcdef",
            ),
        ] {
            assert_eq!(name_in_daemon(written), called);
        }
    }
}
