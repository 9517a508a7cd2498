//! An image of the cache as one file, as `docker save` would write it: for a daemon that has no way to a [`crate::Window`].
//!
//! Layers stay compressed as the registry gave them; Docker takes them so. They are read from where the store keeps them, under
//! their digests, and a daemon holds them against those of the image's own configuration.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::CacheError;
use crate::bring::Brought;
use crate::cache::Session;
use crate::reference::Digest;
use crate::store::storage_in;

impl Session {
    /// Writes an image that was brought into `archive`, under the name that a daemon is to call it by. Says how many bytes it has.
    ///
    /// # Errors
    /// [`CacheError`]: the archive cannot be written, or a part is not where the store keeps it.
    pub async fn write_archive(
        &self,
        image: &Brought,
        called: &str,
        archive: &Path,
    ) -> Result<u64, CacheError> {
        let store = storage_in(&self.inner.settings.folder);
        let parts: Vec<(String, PathBuf)> =
            image.parts.iter().map(|part| (hex_of(part), blob_in(&store, part))).collect();
        let (called, archive) = (called.to_owned(), archive.to_owned());
        let failed = CacheError::folder("writing", archive.clone());
        let written = tokio::task::spawn_blocking(move || write(&parts, &called, &archive)).await;
        written.map_err(io::Error::other).and_then(|written| written).map_err(failed)
    }
}

/// The configuration comes first among the parts, then the layers in their order.
fn write(parts: &[(String, PathBuf)], called: &str, archive: &Path) -> io::Result<u64> {
    let Some(((config, at), layers)) = parts.split_first() else {
        return Err(io::Error::other("the image has no configuration"));
    };
    let mut builder = tar::Builder::new(File::create(archive)?);
    let config = format!("{config}.json");
    builder.append_path_with_name(at, &config)?;
    let mut names = Vec::new();
    for (layer, at) in layers {
        let name = format!("{layer}.tar");
        // An image may have one layer twice.
        if !names.contains(&name) {
            builder.append_path_with_name(at, &name)?;
        }
        names.push(name);
    }
    let table = json!([{ "Config": config, "RepoTags": [called], "Layers": names }]).to_string();
    let mut header = tar::Header::new_gnu();
    header.set_size(table.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "manifest.json", table.as_bytes())?;
    let mut file = builder.into_inner()?;
    file.flush()?;
    Ok(file.metadata()?.len())
}

fn hex_of(digest: &Digest) -> String {
    digest.as_str().rsplit(':').next().unwrap_or_default().to_owned()
}

/// Where the store (`docker-registry`, its driver for file systems) keeps a blob.
fn blob_in(store: &Path, digest: &Digest) -> PathBuf {
    let hex = hex_of(digest);
    let begin = hex.get(..2).unwrap_or_default();
    store.join("docker/registry/v2/blobs/sha256").join(begin).join(&hex).join("data")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn an_archive_has_a_table_and_every_layer_once() {
        let folder = tempfile::tempdir().unwrap();
        let part = |content: &str| {
            let digest = Digest::of(content.as_bytes());
            let at = blob_in(folder.path(), &digest);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::fs::write(&at, content).unwrap();
            (hex_of(&digest), at)
        };
        let (config, one, two) = (part("{}"), part("one"), part("two"));
        let archive = folder.path().join("image.tar");
        let parts = [config.clone(), one.clone(), two.clone(), one.clone()];
        let bytes = write(&parts, "docker.io/shop/web:1.0", &archive).unwrap();
        assert_eq!(bytes, std::fs::metadata(&archive).unwrap().len());
        let mut read = tar::Archive::new(File::open(&archive).unwrap());
        let mut names = Vec::new();
        let mut table = String::new();
        for entry in read.entries().unwrap() {
            let mut entry = entry.unwrap();
            names.push(entry.path().unwrap().display().to_string());
            if names.last().unwrap() == "manifest.json" {
                entry.read_to_string(&mut table).unwrap();
            }
        }
        let (one, two) = (format!("{}.tar", one.0), format!("{}.tar", two.0));
        let config = format!("{}.json", config.0);
        assert_eq!(names, [config.clone(), one.clone(), two.clone(), "manifest.json".to_owned()]);
        let table: serde_json::Value = serde_json::from_str(&table).unwrap();
        assert_eq!(
            table,
            json!([{ "Config": config, "RepoTags": ["docker.io/shop/web:1.0"], "Layers": [one, two, one] }])
        );
        let gone = [config_of("gone"), part("x")];
        assert!(write(&gone, "x", &archive).is_err());
    }

    fn config_of(content: &str) -> (String, PathBuf) {
        (hex_of(&Digest::of(content.as_bytes())), PathBuf::from("/no/such/blob"))
    }
}
