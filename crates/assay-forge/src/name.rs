//! Names of repositories and people. They go into addresses and come from outside, so they are checked once, here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name that either forge gives out, with room.
const MAX_NAME: usize = 100;

/// A name that no forge gives out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is no name {of}; {hint}")]
pub struct WrongName {
    shown: String,
    of: &'static str,
    hint: &'static str,
}

/// One segment of a forge's address: an owner, an organisation, a team, a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Somebody's login. Compared without regard to case, as forges do; kept as it was written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Login(String);

/// `OWNER/REPOSITORY`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepoName {
    owner: Name,
    name: Name,
}

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Login {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it is compared by.
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Login {}

impl RepoName {
    /// The owner: a person or an organisation.
    pub fn owner(&self) -> &Name {
        &self.owner
    }

    /// The repository's own name.
    pub fn name(&self) -> &Name {
        &self.name
    }
}

impl FromStr for Name {
    type Err = WrongName;

    fn from_str(text: &str) -> Result<Self, WrongName> {
        if is_segment(text) { Ok(Self(text.to_owned())) } else { Err(wrong(text, "on a forge")) }
    }
}

impl FromStr for Login {
    type Err = WrongName;

    fn from_str(text: &str) -> Result<Self, WrongName> {
        // GitHub's programs: `renovate[bot]`.
        if is_segment(text.strip_suffix("[bot]").unwrap_or(text)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(wrong(text, "of a person"))
        }
    }
}

impl FromStr for RepoName {
    type Err = WrongName;

    fn from_str(text: &str) -> Result<Self, WrongName> {
        let parts =
            text.split_once('/').and_then(|(owner, name)| Some((owner.parse().ok()?, name.parse().ok()?)));
        let (owner, name) = parts.ok_or_else(|| WrongName {
            shown: shown(text),
            of: "of a repository",
            hint: "write OWNER/REPOSITORY, as in its address",
        })?;
        Ok(Self { owner, name })
    }
}

/// Letters, digits, `-`, `_` and `.`, and not only dots: `..` would climb in an address.
fn is_segment(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NAME
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && text.bytes().any(|b| b != b'.')
}

fn wrong(text: &str, of: &'static str) -> WrongName {
    WrongName { shown: shown(text), of, hint: "letters, digits, `-`, `_` and `.` make a name" }
}

fn shown(text: &str) -> String {
    assay_model::text::clean_to(text, 60)
}

macro_rules! as_text {
    ($name:ident, |$this:ident, $f:ident| $show:expr) => {
        impl fmt::Display for $name {
            fn fmt(&self, $f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let $this = self;
                $show
            }
        }
        impl TryFrom<String> for $name {
            type Error = WrongName;
            fn try_from(text: String) -> Result<Self, WrongName> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.to_string()
            }
        }
    };
}

as_text!(Name, |this, f| f.pad(&this.0));
as_text!(Login, |this, f| f.pad(&this.0));
as_text!(RepoName, |this, f| write!(f, "{}/{}", this.owner, this.name));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_climb_or_break_out_are_refused() {
        for good in ["coop/plausible", "a/b.c", "A-1/x_y", "o/.github"] {
            assert_eq!(good.parse::<RepoName>().expect(good).to_string(), good);
        }
        for bad in ["", "a", "a/", "/b", "a/..", "../b", "a/b/c", "a/b?x", "a/b#1", "ä/b", "a/b c", "a/%2e"]
        {
            assert!(bad.parse::<RepoName>().is_err(), "{bad}");
        }
        assert!("renovate[bot]".parse::<Login>().is_ok());
        assert!("[bot]".parse::<Login>().is_err());
        assert_eq!("Alice".parse::<Login>(), "alice".parse::<Login>());
    }

    #[test]
    fn the_error_says_what_to_write() {
        let wrong = "plausible".parse::<RepoName>().expect_err("no owner");
        assert_eq!(
            wrong.to_string(),
            "`plausible` is no name of a repository; write OWNER/REPOSITORY, as in its address"
        );
    }
}
