//! Images: which ones a stack needs, and how they come into a daemon that has none.
//!
//! A run's daemon starts empty and without a way out. Images are loaded from archives, made of a folder, or pulled where there is
//! a registry; pulling is a step of its own, with a time and an error of its own, so that a registry's trouble is never taken for
//! a recipe's.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    time::{Duration, Instant},
};

use assay_recipe::compose::model::Compose;
use bollard::{
    body_try_stream,
    query_parameters::{
        CreateImageOptionsBuilder, ImportImageOptionsBuilder, RemoveImageOptionsBuilder,
        TagImageOptionsBuilder,
    },
};
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use tokio_util::io::ReaderStream;

use crate::{PlanError, Swarm, SwarmError};

/// An image that a stack needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NeededImage {
    /// As it is written.
    pub reference: String,
    /// The services that run it, as in the files.
    pub services: Vec<String>,
}

/// What an image is, whatever it is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageIdentity {
    /// As it was asked for.
    pub reference: String,
    /// The digest of its configuration: the same bytes, the same id.
    pub id: String,
    /// Its digests in registries: empty for one that was imported.
    pub digests: Vec<String>,
}

/// An image that was pulled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pulled {
    /// What it is.
    pub image: ImageIdentity,
    /// How long it took.
    pub took: Duration,
}

/// Why an image could not be pulled.
#[derive(Debug, thiserror::Error)]
#[error("`{reference}` could not be pulled ({class:?}): {message}")]
pub struct PullError {
    /// The image.
    pub reference: String,
    /// Whose trouble it is.
    pub class: PullFailure,
    /// What Docker said.
    pub message: String,
}

/// Whose trouble a pull met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PullFailure {
    /// The registry has no such image: the recipe's.
    NotFound,
    /// The registry wants to know who asks: the recipe's, or whose credentials are missing.
    Denied,
    /// The registry has had enough of us.
    RateLimited,
    /// The registry was not reached.
    Unreachable,
    /// There is no room for it.
    NoSpace,
    /// It was not done in time.
    TimedOut,
    /// Something else.
    Other,
}

/// How an imported tree is run, where a service does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSettings {
    /// Its command.
    pub command: Vec<String>,
    /// Its variables.
    pub environment: Vec<(String, String)>,
}

/// The images that a stack needs, in the order in which they are first named.
///
/// # Errors
/// [`PlanError::NoImage`] for a service without one.
pub fn needed_images(compose: &Compose) -> Result<Vec<NeededImage>, PlanError> {
    let mut needed: Vec<NeededImage> = Vec::new();
    for (name, service) in &compose.services {
        let reference = service.image.clone().ok_or_else(|| PlanError::NoImage { service: name.clone() })?;
        match needed.iter_mut().find(|image| image.reference == reference) {
            Some(image) => image.services.push(name.clone()),
            None => needed.push(NeededImage { reference, services: vec![name.clone()] }),
        }
    }
    Ok(needed)
}

/// The images of a daemon; from [`Swarm::images`].
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    swarm: &'a Swarm,
}

impl Swarm {
    /// Its images.
    pub fn images(&self) -> Images<'_> {
        Images { swarm: self }
    }
}

impl Images<'_> {
    /// What an image is; `None` if it is not there.
    ///
    /// # Errors
    /// [`SwarmError::Docker`].
    pub async fn identity(&self, reference: &str) -> Result<Option<ImageIdentity>, SwarmError> {
        let inspected = self.swarm.docker.inspect_image(reference).await;
        match inspected.map_err(SwarmError::docker(format!("asking for image `{reference}`"))) {
            Ok(image) => Ok(Some(ImageIdentity {
                reference: reference.to_owned(),
                id: image.id.unwrap_or_default(),
                digests: image.repo_digests.unwrap_or_default(),
            })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Those of the needed images that are not there.
    ///
    /// # Errors
    /// [`SwarmError::Docker`].
    pub async fn missing(&self, needed: &[NeededImage]) -> Result<Vec<NeededImage>, SwarmError> {
        let mut missing = Vec::new();
        for image in needed {
            if self.identity(&image.reference).await?.is_none() {
                missing.push(image.clone());
            }
        }
        Ok(missing)
    }

    /// Loads an archive as `docker save` writes it. The tags are those in it; they are returned.
    ///
    /// # Errors
    /// [`SwarmError::Folder`] when it cannot be read; [`SwarmError::Docker`] when it is none.
    pub async fn load_archive(&self, archive: &Path) -> Result<Vec<String>, SwarmError> {
        let file = tokio::fs::File::open(archive).await.map_err(SwarmError::folder("reading", archive))?;
        let options = ImportImageOptionsBuilder::default().build();
        let doing = format!("loading {}", archive.display());
        let told = self.swarm.docker.import_image_stream(options, ReaderStream::new(file), None);
        let told: Vec<_> = told.try_collect().await.map_err(SwarmError::docker(doing))?;
        let said = told.iter().filter_map(|told| told.stream.as_deref());
        let loaded = said.filter_map(|line| line.trim().strip_prefix("Loaded image: "));
        Ok(loaded.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// Makes an image of a folder that holds a root file system. Owners and permissions are the folder's; links stay links.
    ///
    /// # Errors
    /// [`SwarmError::Folder`] when it cannot be read; [`SwarmError::Docker`].
    pub async fn import_tree(
        &self,
        root: &Path,
        reference: &str,
        settings: &ImageSettings,
    ) -> Result<ImageIdentity, SwarmError> {
        let archive = archive_of(root).await?;
        let (repository, tag) = split_tag(reference);
        let options = CreateImageOptionsBuilder::default()
            .from_src("-")
            .repo(repository)
            .tag(tag)
            .changes(settings.instructions())
            .build();
        let doing = format!("importing {} as `{reference}`", root.display());
        let body = body_try_stream(ReaderStream::new(archive));
        let told = self.swarm.docker.create_image(Some(options), Some(body), None);
        told.try_collect::<Vec<_>>().await.map_err(SwarmError::docker(doing))?;
        self.identity(reference).await?.ok_or_else(|| SwarmError::Missing {
            kind: "image",
            name: reference.to_owned(),
            hint: "Docker took it and does not have it; see the daemon's log",
        })
    }

    /// Pulls an image from its registry.
    ///
    /// # Errors
    /// [`PullError`], by whose trouble it is.
    pub async fn pull(&self, reference: &str, limit: Duration) -> Result<Pulled, PullError> {
        let started = Instant::now();
        let failed = |class, message: String| PullError { reference: reference.to_owned(), class, message };
        let of_error =
            |error: &bollard::errors::Error| failed(pull_failure(&error.to_string()), error.to_string());
        let (repository, tag) = split_tag(reference);
        let options = CreateImageOptionsBuilder::default().from_image(repository).tag(tag).build();
        let mut told = self.swarm.docker.create_image(Some(options), None, None).boxed();
        let all = async {
            while let Some(step) = told.next().await {
                step.map_err(|error| of_error(&error))?;
            }
            Ok(())
        };
        let in_time = tokio::time::timeout(limit, all).await;
        in_time
            .unwrap_or_else(|_| Err(failed(PullFailure::TimedOut, format!("not done within {limit:?}"))))?;
        let image = self.identity(reference).await;
        let image = image.map_err(|error| failed(PullFailure::Other, error.to_string()))?;
        let image = image.ok_or_else(|| failed(PullFailure::Other, "Docker does not have it".to_owned()))?;
        Ok(Pulled { image, took: started.elapsed() })
    }

    /// Gives an image another name and takes this one away. A name is a repository with a tag: Docker gives none with a digest.
    ///
    /// # Errors
    /// [`SwarmError::Docker`]; where there is no such image, as well.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), SwarmError> {
        let doing = || format!("calling image `{from}` `{to}`");
        let (repository, tag) = split_tag(to);
        let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
        let tagged = self.swarm.docker.tag_image(from, Some(options)).await;
        tagged.map_err(SwarmError::docker(doing()))?;
        let options = RemoveImageOptionsBuilder::default().noprune(true).build();
        let removed = self.swarm.docker.remove_image(from, Some(options), None).await;
        removed.map(drop).map_err(SwarmError::docker(doing()))
    }
}

impl ImageSettings {
    /// As the lines of a Dockerfile.
    fn instructions(&self) -> Vec<String> {
        let json = |words: &[String]| serde_json::Value::from(words.to_vec()).to_string();
        let command = (!self.command.is_empty()).then(|| format!("CMD {}", json(&self.command)));
        let variables = self
            .environment
            .iter()
            .map(|(name, value)| format!("ENV {name}={}", serde_json::Value::from(value.as_str())));
        variables.chain(command).collect()
    }
}

/// The repository and the tag, `latest` without one. A digest is part of what is asked for, as a tag is.
fn split_tag(reference: &str) -> (&str, &str) {
    if let Some((repository, digest)) = reference.split_once('@') {
        return (repository, digest);
    }
    match reference.rsplit_once(':') {
        // A registry's port is followed by a path.
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (reference, "latest"),
    }
}

fn pull_failure(message: &str) -> PullFailure {
    let known: [(&[&str], PullFailure); 5] = [
        (&["toomanyrequests", "rate limit", "429"], PullFailure::RateLimited),
        (&["no space left", "disk quota"], PullFailure::NoSpace),
        (&["denied", "unauthorized", "authentication required", "forbidden"], PullFailure::Denied),
        (&["manifest unknown", "not found", "no such image", "does not exist"], PullFailure::NotFound),
        (
            &[
                "dial tcp",
                "no such host",
                "lookup",
                "timeout",
                "deadline",
                "connection refused",
                "unreachable",
                "eof",
                "reset by peer",
                "bad gateway",
                "service unavailable",
                "certificate",
            ],
            PullFailure::Unreachable,
        ),
    ];
    let message = message.to_lowercase();
    let of = known.iter().find(|(parts, _)| parts.iter().any(|part| message.contains(part)));
    of.map_or(PullFailure::Other, |(_, class)| *class)
}

/// The folder as an archive, in a file without a name.
async fn archive_of(root: &Path) -> Result<tokio::fs::File, SwarmError> {
    let owned = root.to_owned();
    let packed = tokio::task::spawn_blocking(move || {
        let mut builder = tar::Builder::new(tempfile::tempfile()?);
        builder.follow_symlinks(false);
        // Docker takes no entries with holes, and a log of logins has one.
        builder.sparse(false);
        builder.append_dir_all(".", &owned)?;
        let mut file = builder.into_inner()?;
        io::Seek::rewind(&mut file)?;
        Ok(file)
    });
    let packed = packed.await.unwrap_or_else(|panic| Err(io::Error::other(panic.to_string())));
    packed.map(tokio::fs::File::from_std).map_err(SwarmError::folder("packing", root))
}

#[cfg(test)]
mod tests {
    use assay_recipe::compose::model::{Compose, Service};

    use super::{ImageSettings, PullFailure, needed_images, pull_failure, split_tag};

    #[test]
    fn an_image_is_needed_once_and_a_service_without_one_is_an_error() {
        let service = |image: Option<&str>| Service { image: image.map(str::to_owned), ..Service::default() };
        let mut compose = Compose::default();
        for (name, image) in [("app", "web:1"), ("db", "pg:15"), ("worker", "web:1")] {
            compose.services.insert(name.to_owned(), service(Some(image)));
        }
        let needed = needed_images(&compose).unwrap();
        let told: Vec<String> =
            needed.iter().map(|image| format!("{}: {}", image.reference, image.services.join(" "))).collect();
        assert_eq!(told, ["web:1: app worker", "pg:15: db"]);
        compose.services.insert("built".to_owned(), service(None));
        let error = needed_images(&compose).unwrap_err().to_string();
        assert_eq!(error, "service `built` has no image: Swarm builds none, so give it `image:`");
    }

    #[test]
    fn a_port_is_no_tag() {
        assert_eq!(split_tag("nginx"), ("nginx", "latest"));
        assert_eq!(split_tag("localhost:5000/nginx"), ("localhost:5000/nginx", "latest"));
        assert_eq!(split_tag("localhost:5000/nginx:1.25"), ("localhost:5000/nginx", "1.25"));
        assert_eq!(split_tag("nginx@sha256:aa"), ("nginx", "sha256:aa"));
    }

    #[test]
    fn a_pull_s_failure_is_told_by_whose_trouble_it_is() {
        let cases = [
            ("manifest for web:9 not found: manifest unknown", PullFailure::NotFound),
            ("pull access denied for web, repository does not exist", PullFailure::Denied),
            ("toomanyrequests: You have reached your pull rate limit", PullFailure::RateLimited),
            (
                "Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host",
                PullFailure::Unreachable,
            ),
            ("write /var/lib/docker/tmp/x: no space left on device", PullFailure::NoSpace),
            ("the moon is full", PullFailure::Other),
        ];
        for (message, class) in cases {
            assert_eq!(pull_failure(message), class, "{message}");
        }
    }

    #[test]
    fn settings_are_told_as_a_dockerfile_would() {
        let settings = ImageSettings {
            command: ["sh", "-c", "echo \"hi\""].map(str::to_owned).to_vec(),
            environment: vec![("GREETING".to_owned(), "two words".to_owned())],
        };
        let lines = settings.instructions();
        assert_eq!(lines, [r#"ENV GREETING="two words""#, r#"CMD ["sh","-c","echo \"hi\""]"#]);
    }
}
