//! Manifests: what an image is made of, and the lists that have one for each kind of machine. Pure.

use serde::Deserialize;

use crate::reference::Digest;

/// The kinds that are asked for, the ones of registries' own standard last.
pub(crate) const ACCEPT: &str = "application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";

/// The most layers that an image may have.
const LAYERS: usize = 512;

/// A manifest, as far as it has to be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Manifest {
    /// One image: what it is made of, its configuration first.
    Image(Vec<Part>),
    /// A list, one image for each kind of machine.
    List(Vec<Listed>),
}

/// A part of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) digest: Digest,
    /// In bytes.
    pub(crate) size: u64,
}

/// An image in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) digest: Digest,
    pub(crate) platform: Platform,
}

/// A kind of machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) variant: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    #[serde(default)]
    config: Option<RawPart>,
    #[serde(default)]
    layers: Vec<RawPart>,
    #[serde(default)]
    manifests: Vec<RawPart>,
}

#[derive(Deserialize)]
struct RawPart {
    digest: String,
    size: u64,
    #[serde(default)]
    platform: Option<Platform>,
}

impl Manifest {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it, as half a sentence.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let raw: Raw =
            serde_json::from_slice(bytes).map_err(|error| format!("it does not read ({error})"))?;
        if raw.schema_version != 2 {
            return Err(format!(
                "it is of the old schema {}, which registries have given up",
                raw.schema_version
            ));
        }
        let digest =
            |text: &str| Digest::parse(text).ok_or_else(|| format!("`{}` is no sha256", shown(text)));
        if let Some(config) = raw.config {
            if raw.layers.len() > LAYERS {
                return Err(format!("it has {} layers; {LAYERS} are the most", raw.layers.len()));
            }
            let parts = [config].into_iter().chain(raw.layers);
            let parts = parts.map(|part| Ok(Part { digest: digest(&part.digest)?, size: part.size }));
            return Ok(Self::Image(parts.collect::<Result<_, String>>()?));
        }
        let listed = raw.manifests.into_iter().map(|part| {
            Ok(Listed { digest: digest(&part.digest)?, platform: part.platform.unwrap_or_default() })
        });
        let listed: Vec<Listed> = listed.collect::<Result<_, String>>()?;
        if listed.is_empty() {
            Err("it is neither an image nor a list".to_owned())
        } else {
            Ok(Self::List(listed))
        }
    }
}

impl Platform {
    /// This machine's.
    pub(crate) fn here() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", "v8"),
            other => (other, ""),
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// The image for this kind of machine: the one of just its variant, or else the first that says nothing of one.
    pub(crate) fn choose<'a>(&self, listed: &'a [Listed]) -> Option<&'a Listed> {
        let fits = |listed: &&Listed| {
            listed.platform.os == self.os && listed.platform.architecture == self.architecture
        };
        let of_variant =
            |wanted: &str| listed.iter().filter(fits).find(|listed| listed.platform.variant == wanted);
        of_variant(&self.variant).or_else(|| of_variant(""))
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Manifest, Platform};

    fn digest(digit: char) -> String {
        format!("sha256:{}", digit.to_string().repeat(64))
    }

    #[test]
    fn an_image_is_its_configuration_and_its_layers() {
        let text = json!({
            "schemaVersion": 2,
            "config": {"digest": digest('a'), "size": 7},
            "layers": [{"digest": digest('b'), "size": 8}],
        });
        let Ok(Manifest::Image(parts)) = Manifest::read(text.to_string().as_bytes()) else {
            panic!("no image")
        };
        let told: Vec<_> = parts.iter().map(|part| (&part.digest.as_str()[7..8], part.size)).collect();
        assert_eq!(told, [("a", 7), ("b", 8)]);
    }

    #[test]
    fn of_a_list_the_one_for_this_machine_is_taken() {
        let entry = |digit, architecture: &str, variant: &str| {
            json!({"digest": digest(digit), "size": 1,
                   "platform": {"os": "linux", "architecture": architecture, "variant": variant}})
        };
        let text = json!({"schemaVersion": 2, "manifests": [
            // What a builder says of an image stands in the list as well, for no machine at all.
            {"digest": digest('9'), "size": 1, "platform": {"os": "unknown", "architecture": "unknown"}},
            entry('1', "arm", "v6"), entry('2', "arm", "v7"), entry('3', "arm64", "v8"), entry('4', "amd64", ""),
        ]});
        let Ok(Manifest::List(listed)) = Manifest::read(text.to_string().as_bytes()) else {
            panic!("no list")
        };
        for (architecture, variant, expected) in [
            ("amd64", "", Some('4')),
            ("arm64", "v8", Some('3')),
            ("arm", "v7", Some('2')),
            ("s390x", "", None),
        ] {
            let platform = Platform {
                os: "linux".to_owned(),
                architecture: architecture.to_owned(),
                variant: variant.to_owned(),
            };
            let chosen = platform.choose(&listed).map(|listed| listed.digest.as_str().to_owned());
            assert_eq!(chosen, expected.map(digest), "{architecture}");
        }
    }

    #[test]
    fn what_is_none_is_told() {
        for (text, part) in [
            ("<html>", "does not read"),
            (r#"{"schemaVersion":1}"#, "old schema 1"),
            (r#"{"schemaVersion":2}"#, "neither"),
            (r#"{"schemaVersion":2,"config":{"digest":"sha256:../../x","size":1}}"#, "no sha256"),
        ] {
            let error = Manifest::read(text.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
