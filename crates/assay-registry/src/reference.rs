//! Names of images, with everything that may be left out: `docker.io/library/nginx:1.25`.
//!
//! A name comes out of a recipe, which nobody trusts, and becomes an address and a path. So it is taken apart strictly.

use std::fmt;
use std::str::FromStr;

/// The longest repository, in bytes: what a registry takes.
const REPOSITORY: usize = 200;
/// The longest tag, in bytes.
const TAG: usize = 128;

/// An image's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The registry's name, in small letters, with its port: `docker.io`.
    pub registry: String,
    /// The path in it: `library/nginx`.
    pub repository: String,
    /// What of it.
    pub which: Which,
}

/// What of a repository is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Which {
    /// What the tag points to today.
    Tag(String),
    /// These bytes.
    Digest(Digest),
}

/// The digest of something in a registry: `sha256:` and 64 digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

/// A name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no image's name ({why}); a whole one is like docker.io/library/nginx:1.25")]
pub struct BadReference {
    /// The name.
    pub name: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl FromStr for Reference {
    type Err = BadReference;

    /// Reads a whole name: with a registry, and with a tag, a digest, or both (then the digest counts).
    fn from_str(name: &str) -> Result<Self, BadReference> {
        let bad = |why| BadReference { name: name.chars().take(REPOSITORY).collect(), why };
        let (registry, rest) = name.split_once('/').ok_or_else(|| bad("it names no registry"))?;
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => {
                let digest = Digest::parse(digest).ok_or_else(|| bad("its digest is no sha256"))?;
                (rest, Some(digest))
            }
            None => (rest, None),
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (rest, None),
        };
        if !is_registry(registry) {
            return Err(bad("its registry is no host"));
        }
        if repository.len() > REPOSITORY || !repository.split('/').all(is_component) {
            return Err(bad("its path has letters that none has"));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(bad("its tag has letters that none has"));
        }
        let which = match (digest, tag) {
            (Some(digest), _) => Which::Digest(digest),
            (None, Some(tag)) => Which::Tag(tag.to_owned()),
            (None, None) => return Err(bad("it has neither tag nor digest")),
        };
        Ok(Self { registry: registry.to_ascii_lowercase(), repository: repository.to_owned(), which })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, repository, which } = self;
        match which {
            Which::Tag(tag) => write!(f, "{registry}/{repository}:{tag}"),
            Which::Digest(digest) => write!(f, "{registry}/{repository}@{digest}"),
        }
    }
}

impl Reference {
    /// The same repository, these bytes.
    #[must_use]
    pub fn at(&self, digest: &Digest) -> Self {
        Self { which: Which::Digest(digest.clone()), ..self.clone() }
    }

    /// Its repository in the cache. A colon is not allowed there, and an underscore is in no host's name.
    pub(crate) fn kept_as(&self) -> String {
        format!("{}/{}", self.registry.replace(':', "_"), self.repository)
    }
}

impl Which {
    /// As it stands in a registry's paths.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Tag(tag) => tag,
            Self::Digest(digest) => digest.as_str(),
        }
    }
}

impl Digest {
    /// Reads one.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("sha256:")?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (digits.len() == 64 && digits.bytes().all(is_hex)).then(|| Self(text.to_owned()))
    }

    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::{Digest as _, Sha256};
        Self(format!("sha256:{}", hex::encode(Sha256::digest(bytes))))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "443"));
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= 253 && port.parse::<u16>().is_ok_and(|port| port > 0) && host.split('.').all(label)
}

/// Small letters and digits, with single separators between them.
fn is_component(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(plain) && text.bytes().next_back().is_some_and(plain);
    ends && !text.contains("..") && text.bytes().all(|byte| plain(byte) || b"._-".contains(&byte))
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || b".-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::Reference;

    #[test]
    fn a_name_is_taken_apart_and_put_together() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (name, whole, kept) in [
            ("docker.io/library/nginx:1.25", "docker.io/library/nginx:1.25", "docker.io/library/nginx"),
            ("GHCR.io/x/y:v1", "ghcr.io/x/y:v1", "ghcr.io/x/y"),
            ("reg.example:5000/a:1", "reg.example:5000/a:1", "reg.example_5000/a"),
            (&format!("docker.io/a/b:1@{digest}"), &format!("docker.io/a/b@{digest}"), "docker.io/a/b"),
        ] {
            let reference: Reference = name.parse().unwrap();
            assert_eq!((reference.to_string().as_str(), reference.kept_as().as_str()), (whole, kept));
        }
    }

    #[test]
    fn what_could_become_another_path_or_address_is_no_name() {
        let names = [
            "nginx:1",
            "docker.io/library/nginx",
            "docker.io/../../v2:1",
            "docker.io/a/../b:1",
            "docker.io/a//b:1",
            "docker.io/A:1",
            "docker.io/a:1/2?x",
            "docker.io/a:%2e",
            "docker.io/a@sha256:00",
            "docker.io/a@sha512:00",
            "user@host/a:1",
            "host:99999/a:1",
            "[::1]:5000/a:1",
            "ho st/a:1",
            "/a:1",
        ];
        let told: Vec<String> =
            names.iter().map(|name| name.parse::<Reference>().unwrap_err().why.to_owned()).collect();
        insta::assert_snapshot!(told.join("\n"), @"
        it names no registry
        it has neither tag nor digest
        its path has letters that none has
        its path has letters that none has
        its path has letters that none has
        its path has letters that none has
        its path has letters that none has
        its tag has letters that none has
        its digest is no sha256
        its digest is no sha256
        its registry is no host
        its registry is no host
        its registry is no host
        its registry is no host
        its registry is no host
        ");
    }
}
