//! `live-image/image.toml`: what the image contains. Unknown keys are refused, so that a typing mistake cannot
//! quietly drop a driver.

use std::env;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Image {
    format: u32,
    pub(crate) debian: Debian,
    pub(crate) packages: Packages,
    pub(crate) modules: ModuleRules,
    pub(crate) firmware: FirmwareRules,
    pub(crate) root: RootRules,
    pub(crate) squashfs: Squashfs,
}

/// Where packages come from.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Debian {
    pub(crate) components: Vec<String>,
    #[serde(skip_serializing)]
    mirror: String,
    #[serde(skip_serializing)]
    security_mirror: String,
    pub(crate) suites: Vec<String>,
    pub(crate) security_suites: Vec<String>,
    #[serde(skip_serializing)]
    pub(crate) keyring: String,
}

/// Which packages, and what happens to them.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Packages {
    /// Installed with dependencies; `name` or `name/suite`.
    pub(crate) install: Vec<String>,
    /// Only unpacked; dependencies are not followed.
    pub(crate) unpack: Vec<String>,
    /// The kernel's metapackage; what it depends on is unpacked.
    pub(crate) kernel: String,
    /// Replaced by empty packages.
    pub(crate) placeholders: Vec<String>,
}

/// Which kernel modules stay.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModuleRules {
    pub(crate) keep: Vec<String>,
    pub(crate) drop: Vec<String>,
    pub(crate) initrd: Vec<String>,
}

/// Firmware that no module names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FirmwareRules {
    pub(crate) also: Vec<String>,
}

/// What is taken away from the installed root.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RootRules {
    pub(crate) drop: Vec<String>,
    pub(crate) mask: Vec<String>,
}

/// How hard to compress.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Squashfs {
    pub(crate) level: u32,
    pub(crate) block_kib: u32,
}

impl Image {
    /// Reads `image.toml` from the folder of declarations.
    pub(crate) fn load(source: &Path) -> Result<Self> {
        let path = source.join("image.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not right", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let image: Self = toml::from_str(text)?;
        if image.format != 1 {
            bail!("format {} is unknown here; this builder reads format 1", image.format);
        }
        Ok(image)
    }

    /// The digest that ties a lock to what it was resolved from. The mirror is left out: another mirror of the
    /// same archive gives the same packages.
    pub(crate) fn packages_digest(&self) -> String {
        let declared = serde_json::json!({ "debian": self.debian, "packages": self.packages });
        hex::encode(Sha256::digest(declared.to_string()))
    }
}

impl Debian {
    /// The mirror of an archive (`main` or `security`), the environment first.
    pub(crate) fn mirror_of(&self, archive: &str) -> Result<String> {
        let (variable, declared) = match archive {
            "main" => ("ASSAY_DEBIAN_MIRROR", &self.mirror),
            "security" => ("ASSAY_DEBIAN_SECURITY_MIRROR", &self.security_mirror),
            other => bail!("{other:?} is not an archive; it is main or security"),
        };
        let url = env::var(variable).ok().filter(|url| !url.is_empty()).unwrap_or_else(|| declared.clone());
        Ok(url.trim_end_matches('/').to_owned())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const DECLARED: &str = include_str!("../../../live-image/image.toml");
    const GUEST: &str = include_str!("../../../guest-image/image.toml");

    #[test]
    fn the_declared_image_parses_and_a_typing_mistake_does_not() {
        Image::parse(DECLARED).unwrap();
        Image::parse(GUEST).unwrap();
        let mistyped = DECLARED.replace("[squashfs]", "[squashfs]\nlevle = 3");
        assert!(format!("{:#}", Image::parse(&mistyped).unwrap_err()).contains("levle"));
        let newer = DECLARED.replace("format = 1", "format = 2");
        assert!(Image::parse(&newer).unwrap_err().to_string().contains("format 2"));
    }

    #[test]
    fn the_lock_depends_on_packages_but_not_on_the_mirror() {
        let declared = Image::parse(DECLARED).unwrap().packages_digest();
        let more = DECLARED.replace("\"lshw\"", "\"lshw\", \"hdparm\"");
        assert_ne!(Image::parse(&more).unwrap().packages_digest(), declared);
        let elsewhere = DECLARED.replace("http://deb.debian.org/debian\"", "http://mirror.example/debian\"");
        assert_ne!(elsewhere, DECLARED);
        assert_eq!(Image::parse(&elsewhere).unwrap().packages_digest(), declared);
    }
}
