//! Brings the locked package files into the cache and verifies each by its SHA-256. What the mirror says about a
//! file is not believed; only the lock is.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use super::Paths;
use super::command::tool;
use super::config::Image;
use super::lock::{Lock, Package};

/// Where apt keeps its download helper; it is no public command, hence the path.
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";
/// Files for one call of the helper.
const BATCH: usize = 40;

/// Fetches what is missing; returns the packages that could not be had, for people to read.
pub(crate) fn fetch(paths: &Paths, image: &Image, lock: &Lock) -> Result<Vec<String>> {
    let folder = folder(paths);
    fs::create_dir_all(&folder)?;
    let mut wanted = Vec::new();
    for package in &lock.packages {
        if !verified(&folder.join(package.file()), package)? {
            wanted.push(package);
        }
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    eprintln!("live-image: fetching {} of {} packages", wanted.len(), lock.packages.len());
    let mut said = String::new();
    for batch in wanted.chunks(BATCH) {
        let mut helper = tool(APT_HELPER);
        helper.args(["-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=3", "download-file"]);
        for package in batch {
            let url = format!("{}/{}", image.debian.mirror_of(&package.archive)?, package.path);
            helper.arg(url).arg(folder.join(package.file())).arg(format!("SHA256:{}", package.sha256));
        }
        let done = helper.output().with_context(|| format!("cannot start {APT_HELPER}; install apt"))?;
        if !done.status.success() {
            String::from_utf8_lossy(&done.stderr).trim().clone_into(&mut said);
        }
    }
    let mut missing = Vec::new();
    for package in wanted {
        if !verified(&folder.join(package.file()), package)? {
            missing.push(format!("{} {} ({})", package.name, package.version, package.path));
        }
    }
    if !missing.is_empty() && !said.is_empty() {
        eprintln!("{said}");
    }
    Ok(missing)
}

/// The folder of verified package files.
pub(crate) fn folder(paths: &Paths) -> PathBuf {
    paths.cache.join("debs")
}

/// SHA-256 of a file, in hex.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))?;
        if read == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

/// Whether the file is there and is the locked one; a wrong one is removed.
fn verified(path: &Path, package: &Package) -> Result<bool> {
    if !path.exists() {
        return Ok(false);
    }
    if sha256(path)? == package.sha256 {
        return Ok(true);
    }
    fs::remove_file(path).with_context(|| format!("cannot remove the damaged {}", path.display()))?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::super::lock::tests::package;
    use super::*;

    #[test]
    fn a_wrong_file_in_the_cache_is_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.deb");
        let mut locked = package("a");
        assert!(!verified(&path, &locked).unwrap());
        fs::write(&path, "content").unwrap();
        assert!(!verified(&path, &locked).unwrap());
        assert!(!path.exists());
        fs::write(&path, "content").unwrap();
        locked.sha256 = hex::encode(Sha256::digest("content"));
        assert!(verified(&path, &locked).unwrap());
    }

    #[test]
    fn only_what_the_lock_names_is_accepted_from_a_mirror() {
        let folder = tempfile::tempdir().unwrap();
        let mirror = folder.path().join("mirror");
        fs::create_dir_all(mirror.join("pool")).unwrap();
        let mut packages = Vec::new();
        for (name, served) in [("good", Some("good")), ("tampered", Some("evil")), ("gone", None)] {
            let mut locked = package(name);
            locked.path = format!("pool/{name}.deb");
            locked.sha256 = hex::encode(Sha256::digest(name));
            if let Some(content) = served {
                fs::write(mirror.join(&locked.path), content).unwrap();
            }
            packages.push(locked);
        }
        let declared = include_str!("../../../live-image/image.toml");
        let elsewhere = format!("mirror = \"copy:{}\"", mirror.display());
        let declared = declared.replacen("mirror = \"http://deb.debian.org/debian\"", &elsewhere, 1);
        let image: Image = toml::from_str(&declared).unwrap();
        let lock = Lock::new("d".into(), packages).unwrap();
        let out = folder.path().join("out");
        let paths = Paths { source: out.clone(), cache: out.join("cache"), work: out.join("work"), out };
        let missing = fetch(&paths, &image, &lock).unwrap();
        assert_eq!(missing, ["gone 1.0-1 (pool/gone.deb)", "tampered 1.0-1 (pool/tampered.deb)"]);
        let cached = super::folder(&paths).join(lock.packages[1].file());
        assert_eq!(fs::read_to_string(cached).unwrap(), "good");
    }
}
