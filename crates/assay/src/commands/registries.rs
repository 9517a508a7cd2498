//! What a command says of registries: where they are, who we are to them, and where what they gave is kept.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use assay_registry::{CacheSettings, Credentials, ImageCache, Registries};
use clap::Args;

use super::local;

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct RegistryArgs {
    /// Where a registry is that is not found by its name: a mirror, one on this machine, one without TLS
    /// (docker.io=http://127.0.0.1:5000); may be given more than once.
    #[arg(
        long = "registry",
        value_name = "NAME=URL",
        value_delimiter = ',',
        conflicts_with = "no_registries"
    )]
    registries: Vec<String>,
    /// Logins of registries, in the format of Docker's config.json; readable by its owner alone.
    #[arg(long, value_name = "FILE", conflicts_with = "no_registries")]
    registry_auth: Option<PathBuf>,
    /// Where images from registries are kept [default: assay/images in the user's cache folder]
    #[arg(long, value_name = "FOLDER", conflicts_with = "no_registries")]
    image_cache: Option<PathBuf>,
    /// Ask no registry: an image that is in no archive is missing.
    #[arg(long)]
    no_registries: bool,
}

impl RegistryArgs {
    /// Whether anything was said.
    pub(crate) fn are_given(&self) -> bool {
        let Self { registries, registry_auth, image_cache, no_registries } = self;
        !registries.is_empty() || registry_auth.is_some() || image_cache.is_some() || *no_registries
    }

    /// The cache that images come through; none where no registry is to be asked. Nothing is started or made yet.
    pub(crate) fn cache(&self) -> Result<Option<ImageCache>> {
        if self.no_registries {
            return Ok(None);
        }
        let mut registries = Registries::default();
        for named in &self.registries {
            registries.add(named).map_err(|why| anyhow::anyhow!("--registry: {why}"))?;
        }
        let credentials = match &self.registry_auth {
            None => Credentials::default(),
            Some(path) => Credentials::read(path).context("--registry-auth")?,
        };
        cache(self.image_cache.clone(), registries, credentials).map(Some)
    }
}

/// The cache in a folder, or in the one that is used where nobody names one.
pub(crate) fn cache(
    folder: Option<PathBuf>,
    registries: Registries,
    credentials: Credentials,
) -> Result<ImageCache> {
    let folder = folder.map_or_else(|| local::cache().map(|cache| cache.join("images")), Ok)?;
    let folder = std::path::absolute(&folder).with_context(|| folder.display().to_string())?;
    Ok(ImageCache::new(CacheSettings { folder, registries, credentials })?)
}
