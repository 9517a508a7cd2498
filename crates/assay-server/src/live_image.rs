//! The live image as it lies on disk: which files there are, with their digests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The files that the firmware fetches, in boot order.
const KERNEL: &str = "vmlinuz";
/// The order of the initrds matters: overlays go on top of the base.
const INITRDS: [&str; 2] = ["base.initrd", "agent.initrd"];

/// A live image, or why there is none.
#[derive(Clone, Debug)]
pub struct LiveImage {
    dir: PathBuf,
    files: Result<BTreeMap<String, File>, String>,
}

/// One file of the image.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) sha256: String,
    #[expect(dead_code, reason = "part of the manifest; shown by doctor")]
    bytes: u64,
}

#[derive(Deserialize)]
struct Manifest {
    files: Vec<File>,
}

impl LiveImage {
    /// Reads the manifest in a folder. A missing image is not an error until a machine wants it.
    pub fn open(dir: &Path) -> Self {
        let files = read(dir).map_err(|why| {
            format!("{why}; build the live image with `cargo xtask live-image` or name its folder with --live-image")
        });
        Self { dir: dir.to_owned(), files }
    }

    /// Why no machine can be booted, if so.
    pub fn problem(&self) -> Option<&str> {
        self.files.as_ref().err().map(String::as_str)
    }

    /// The kernel's name and the initrds' names, in order.
    pub(crate) fn boot_files(&self) -> Result<(&str, Vec<&str>), &str> {
        let files = self.files.as_ref().map_err(String::as_str)?;
        let extra = files.keys().map(String::as_str).filter(|n| {
            n.ends_with(".initrd") && !INITRDS.contains(n)
        });
        Ok((KERNEL, INITRDS.into_iter().chain(extra).collect()))
    }

    /// Where a file of the image lies; `None` for anything that is not part of it.
    pub(crate) fn path(&self, name: &str) -> Option<(PathBuf, &str)> {
        let file = self.files.as_ref().ok()?.get(name)?;
        Some((self.dir.join(&file.name), &file.sha256))
    }
}

fn read(dir: &Path) -> Result<BTreeMap<String, File>, String> {
    let path = dir.join("manifest.json");
    let text = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let files: BTreeMap<_, _> = manifest.files.into_iter().map(|f| (f.name.clone(), f)).collect();
    for name in INITRDS.into_iter().chain([KERNEL]) {
        if !files.contains_key(name) || !dir.join(name).is_file() {
            return Err(format!("{}: {name} is missing", dir.display()));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_manifest_are_served() {
        let dir = tempfile::tempdir().expect("tempdir");
        let missing = LiveImage::open(dir.path());
        assert!(missing.problem().expect("no image").contains("cargo xtask live-image"));

        let files: Vec<_> = ["vmlinuz", "base.initrd", "agent.initrd", "nvidia.initrd"]
            .into_iter()
            .map(|name| {
                std::fs::write(dir.path().join(name), name).expect("written");
                serde_json::json!({"name": name, "sha256": "00", "bytes": 1})
            })
            .collect();
        let manifest = serde_json::json!({"format": 1, "files": files}).to_string();
        std::fs::write(dir.path().join("manifest.json"), manifest).expect("written");
        std::fs::write(dir.path().join("secret"), "x").expect("written");

        let image = LiveImage::open(dir.path());
        assert_eq!(image.problem(), None);
        assert_eq!(
            image.boot_files().expect("there"),
            ("vmlinuz", vec!["base.initrd", "agent.initrd", "nvidia.initrd"])
        );
        assert!(image.path("vmlinuz").is_some());
        assert!(image.path("secret").is_none());
        assert!(image.path("../secret").is_none());
    }
}
