//! `live-image/packages.lock`: every package of the image with its exact version and the SHA-256 of its file.
//! It names no mirror, so that any mirror of the archive can serve it, and the digest is what is trusted.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

const HEADER: &str = "# Every package in the live image. Written by `cargo xtask live-image --update-lock`; not edited by hand.\n\n";

/// The whole lock.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lock {
    format: u32,
    /// Digest of the declarations that it was resolved from.
    pub(crate) declared: String,
    #[serde(rename = "package")]
    pub(crate) packages: Vec<Package>,
}

/// One package file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Path below the archive's root, as in its index.
    pub(crate) path: String,
    /// `main` or `security`.
    pub(crate) archive: String,
    #[serde(rename = "use")]
    pub(crate) usage: Usage,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// What happens to a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Usage {
    /// Installed by mmdebstrap.
    Install,
    /// Unpacked; parts are taken.
    Unpack,
}

impl Lock {
    /// A lock of these packages, in the order of the file.
    pub(crate) fn new(declared: String, mut packages: Vec<Package>) -> Result<Self> {
        packages.sort();
        let lock = Self { format: 1, declared, packages };
        lock.validate()?;
        Ok(lock)
    }

    /// Reads and validates.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| {
            format!("{} is damaged; run `cargo xtask live-image --update-lock`", path.display())
        })
    }

    /// Writes it whole.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let text = format!("{HEADER}{}", toml::to_string(self)?);
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Packages of one kind.
    pub(crate) fn used(&self, usage: Usage) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(move |package| package.usage == usage)
    }

    fn parse(text: &str) -> Result<Self> {
        let lock: Self = toml::from_str(text)?;
        lock.validate()?;
        Ok(lock)
    }

    fn validate(&self) -> Result<()> {
        if self.format != 1 {
            bail!("format {} is unknown here; this builder reads format 1", self.format);
        }
        let mut names = BTreeSet::new();
        for package in &self.packages {
            let Package { name, path, sha256, .. } = package;
            if !names.insert(name) {
                bail!("{name} is locked twice");
            }
            if name.is_empty()
                || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
            {
                bail!("{name:?} is not a package name");
            }
            if sha256.len() != 64 || hex::decode(sha256).is_err() {
                bail!("{name}: {sha256:?} is not a SHA-256");
            }
            if path.starts_with('/') || path.split('/').any(|part| part == "..") {
                bail!("{name}: {path:?} is not a path below an archive");
            }
        }
        if self.packages.is_empty() {
            bail!("no packages");
        }
        Ok(())
    }
}

impl Package {
    /// The name of its file in the cache; the digest makes it unique.
    pub(crate) fn file(&self) -> String {
        format!("{}_{}.deb", self.name, &self.sha256[..16])
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn package(name: &str) -> Package {
        Package {
            name: name.into(),
            version: "1.0-1".into(),
            path: format!("pool/main/x/{name}_1.0-1_amd64.deb"),
            archive: "main".into(),
            usage: Usage::Install,
            bytes: 10,
            sha256: "ab".repeat(32),
        }
    }

    #[test]
    fn what_is_saved_is_read_back_sorted() {
        let lock = Lock::new("d".into(), vec![package("zlib1g"), package("bash")]).unwrap();
        let text = toml::to_string(&lock).unwrap();
        assert_eq!(Lock::parse(&text).unwrap(), lock);
        assert_eq!(lock.packages[0].name, "bash");
        assert_eq!(lock.packages[0].file(), "bash_abababababababab.deb");
    }

    #[test]
    fn damage_is_refused() {
        let good = Lock::new("d".into(), vec![package("bash")]).unwrap();
        let text = toml::to_string(&good).unwrap();
        for (from, to, said) in [
            ("abab", "xyab", "not a SHA-256"),
            ("pool/", "../pool/", "not a path"),
            ("\"bash\"", "\"ba/sh\"", "not a package name"),
            ("format = 1", "format = 9", "format 9"),
            ("\"install\"", "\"sprinkle\"", "sprinkle"),
        ] {
            let bad = text.replacen(from, to, 1);
            assert_ne!(bad, text);
            assert!(format!("{:#}", Lock::parse(&bad).unwrap_err()).contains(said), "{to}");
        }
        assert!(Lock::new("d".into(), vec![package("bash"), package("bash")]).is_err());
        assert!(Lock::new("d".into(), vec![]).is_err());
    }
}
