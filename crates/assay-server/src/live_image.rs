//! The live image as it lies on disk: which files there are, with their digests.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The kernel.
const KERNEL: &str = "vmlinuz";
/// The system itself; the first initrd, because the processors' microcode is at its front.
const BASE: &str = "base.initrd";
/// The agent, laid over the system.
const AGENT: &str = "agent.initrd";

/// A live image, or why there is none.
#[derive(Clone, Debug)]
pub struct LiveImage {
    dir: PathBuf,
    files: Result<Vec<String>, String>,
}

/// What `cargo xtask live-image` writes beside the files.
#[derive(Deserialize)]
struct Manifest {
    format: u32,
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    name: String,
}

impl LiveImage {
    /// Looks at a folder. A missing image is not an error until a machine wants it.
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

    /// The kernel's name and the initrds' names, in boot order: each overlay goes on top of those
    /// before it.
    pub(crate) fn boot_files(&self) -> Result<(&str, Vec<&str>), &str> {
        let files = self.files.as_ref().map_err(String::as_str)?;
        Ok((KERNEL, files.iter().map(String::as_str).filter(|n| *n != KERNEL).collect()))
    }

    /// Where a file of the image lies; `None` for anything that is not part of it.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        let file = self.files.as_ref().ok()?.iter().find(|file| *file == name)?;
        Some(self.dir.join(file))
    }
}

/// The kernel, the base, the agent, and after them the driver overlays of the folder by name.
fn read(dir: &Path) -> Result<Vec<String>, String> {
    let path = dir.join("manifest.json");
    let text = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    if manifest.format != 1 {
        return Err(format!("{}: format {} is unknown here", path.display(), manifest.format));
    }
    for name in [KERNEL, BASE] {
        if !manifest.files.iter().any(|f| f.name == name) {
            return Err(format!("{}: {name} is not listed", path.display()));
        }
    }
    let entries = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut overlays: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".initrd") && name != BASE && name != AGENT)
        .collect();
    overlays.sort();
    let files: Vec<_> = [KERNEL, BASE, AGENT].map(str::to_owned).into_iter().chain(overlays).collect();
    match files.iter().find(|name| !dir.join(name).is_file()) {
        Some(missing) => Err(format!("{}: {missing} is missing", dir.display())),
        None => Ok(files),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_manifest_are_served() {
        let dir = tempfile::tempdir().expect("tempdir");
        let missing = LiveImage::open(dir.path());
        assert!(missing.problem().expect("no image").contains("cargo xtask live-image"));

        let manifest = serde_json::json!({"format": 1, "files": [
            {"name": "vmlinuz", "sha256": "00", "bytes": 1},
            {"name": "base.initrd", "sha256": "00", "bytes": 1},
        ]});
        std::fs::write(dir.path().join("manifest.json"), manifest.to_string()).expect("written");
        for name in ["vmlinuz", "base.initrd", "nvidia.initrd", "secret"] {
            std::fs::write(dir.path().join(name), name).expect("written");
        }
        let without_agent = LiveImage::open(dir.path());
        assert!(without_agent.problem().expect("no agent").contains("agent.initrd"));

        std::fs::write(dir.path().join("agent.initrd"), "agent").expect("written");
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
