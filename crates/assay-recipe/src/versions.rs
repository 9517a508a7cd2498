//! Releases of a recipe: its Git tags, and files as they were in one.
//!
//! A release is a tag `X.Y.Z+upstream`, annotated, as `abra` wants it. Only plumbing commands of `git` are used, which run
//! neither hooks nor filters of the checkout.

use std::{
    cmp::Ordering,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use assay_process::{Cmd, ProcessError};
use serde::{Serialize, Serializer};

use crate::problem::shown;

/// No command here takes long on a recipe.
const LIMIT: Duration = Duration::from_mins(1);

/// The version of a recipe: its own, and that of the app in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// Raised when an operator has to do something.
    pub major: u64,
    /// Raised for a new image.
    pub minor: u64,
    /// Raised for a change of the recipe alone.
    pub patch: u64,
    /// What is behind the `+`: the app's version, as its authors write it.
    pub upstream: Option<String>,
}

/// A text that is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not the version of a recipe; write `X.Y.Z+upstream`, such as `1.4.0+2.5.1`", shown(.0))]
pub struct VersionError(pub String);

impl Version {
    /// Reads `X.Y.Z+upstream`; the part behind the `+` may be missing.
    ///
    /// # Errors
    /// [`VersionError`].
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        let refused = || VersionError(text.to_owned());
        let (own, upstream) = match text.split_once('+') {
            Some((_, "")) => return Err(refused()),
            Some((own, upstream)) => (own, Some(upstream.to_owned())),
            None => (text, None),
        };
        let mut numbers = own.split('.').map(|part| {
            let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if plain { part.parse::<u64>().ok() } else { None }
        });
        let mut next = || numbers.next().flatten().ok_or_else(refused);
        let (major, minor, patch) = (next()?, next()?, next()?);
        if numbers.next().is_some() { Err(refused()) } else { Ok(Self { major, minor, patch, upstream }) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if let Some(upstream) = &self.upstream {
            write!(out, "+{upstream}")?;
        }
        Ok(())
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Ord for Version {
    /// By the recipe's own version; then by the app's, its numbers as numbers.
    fn cmp(&self, other: &Self) -> Ordering {
        let own = |version: &Self| (version.major, version.minor, version.patch);
        own(self)
            .cmp(&own(other))
            .then_with(|| naturally(self.upstream.as_deref(), other.upstream.as_deref()))
            .then_with(|| self.upstream.cmp(&other.upstream))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A tag that is a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Release {
    /// The version that the tag says.
    pub version: Version,
    /// The tag itself.
    pub tag: String,
    /// Whether it is annotated; `abra` releases nothing else.
    pub annotated: bool,
    /// The commit that it names.
    pub commit: String,
}

/// What the tags of a checkout say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Releases {
    /// Releases, the oldest version first.
    pub releases: Vec<Release>,
    /// Tags that are no version.
    pub other_tags: Vec<String>,
}

/// A question to `git` that has no answer.
#[derive(Debug, thiserror::Error)]
pub enum VersionsError {
    /// The folder is not the top of a checkout.
    #[error("{} is not the top folder of a Git checkout ({said}); clone the recipe, with its tags", folder.display())]
    NoRepository {
        /// The folder.
        folder: PathBuf,
        /// What `git` said.
        said: String,
    },
    /// `git` could not be run, or did not end.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// `git` refused.
    #[error("`git {command}` failed: {said}")]
    Refused {
        /// What was asked.
        command: String,
        /// What it said.
        said: String,
    },
}

/// A recipe's checkout.
#[derive(Clone, Debug)]
pub struct Checkout {
    folder: PathBuf,
}

impl Checkout {
    /// Opens a checkout at its top folder.
    ///
    /// # Errors
    /// [`VersionsError::NoRepository`] where it is none, or only within another one.
    pub async fn open(folder: &Path) -> Result<Self, VersionsError> {
        let checkout = Self { folder: folder.to_owned() };
        let output = checkout.git(&["rev-parse", "--git-dir"]).run().await?;
        if output.success() {
            return Ok(checkout);
        }
        let said = shown(output.last_words().lines().next().unwrap_or_default());
        Err(VersionsError::NoRepository { folder: folder.to_owned(), said })
    }

    /// Unpacks a bundle with its tags into a folder that does not exist yet; no file of it is checked out.
    pub async fn of_bundle(bundle: &Path, folder: &Path) -> Result<Self, VersionsError> {
        let beside = bundle.parent().unwrap_or(Path::new("/"));
        let (from, to) = (bundle.display().to_string(), folder.display().to_string());
        // A link to a folder, or a remote, stands in no bundle; what is unpacked is objects and names.
        let cloned = ["clone", "--quiet", "--bare", "--template=", "--", &from, &to];
        Self { folder: beside.to_owned() }.answered(&cloned).await?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Makes a checkout of a commit from a bundle with its tags, in a folder that is empty. Commits of which the parents are not in the
    /// bundle are named.
    pub(crate) async fn of_history(
        bundle: &Path,
        commit: &str,
        shallow: &[String],
        folder: &Path,
    ) -> Result<Self, VersionsError> {
        let is_commit = |name: &str| {
            [40, 64].contains(&name.len()) && name.bytes().all(|digit| digit.is_ascii_hexdigit())
        };
        if let Some(other) = shallow.iter().map(String::as_str).chain([commit]).find(|name| !is_commit(name))
        {
            let said = format!("`{}` is no commit", shown(other));
            return Err(VersionsError::Refused { command: "checkout".to_owned(), said });
        }
        let made = Self { folder: folder.to_owned() };
        made.answered(&["init", "--quiet", "--template="]).await?;
        if !shallow.is_empty() {
            let path = folder.join(".git/shallow");
            std::fs::write(&path, shallow.join("\n") + "\n").map_err(|error| VersionsError::Refused {
                command: "init".to_owned(),
                said: format!("{}: {error}", path.display()),
            })?;
        }
        let from = bundle.display().to_string();
        let fetch = ["fetch", "--quiet", "--no-write-fetch-head", "--no-recurse-submodules", "--", &from];
        made.answered(&[&fetch[..], &["HEAD:refs/heads/kept", "+refs/tags/*:refs/tags/*"]].concat()).await?;
        made.answered(&["checkout", "--quiet", "--detach", commit]).await?;
        Ok(made)
    }

    /// Writes a bundle of what is checked out and of all tags.
    pub(crate) async fn bundle_with_tags(&self, to: &Path) -> Result<(), VersionsError> {
        let to = to.display().to_string();
        // More threads than one find other deltas every time.
        let bundle = ["-c", "pack.threads=1", "bundle", "create", "--quiet", &to, "HEAD", "--tags"];
        self.answered(&bundle).await.map(drop)
    }

    /// What its history and tags take in the repository, in bytes.
    pub(crate) async fn size_with_tags(&self) -> Result<u64, VersionsError> {
        let command = ["rev-list", "--disk-usage", "--objects", "HEAD", "--tags"];
        let said = self.line(&command).await?;
        said.parse().map_err(|_| VersionsError::Refused { command: command.join(" "), said: shown(&said) })
    }

    /// Commits whose parents are not there: of a checkout that was cut short.
    pub(crate) async fn shallow(&self) -> Result<Vec<String>, VersionsError> {
        let named = self.line(&["rev-parse", "--git-path", "shallow"]).await?;
        match std::fs::read_to_string(self.folder.join(named)) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// The commit that is checked out, in full.
    pub async fn head(&self) -> Result<String, VersionsError> {
        self.commit("HEAD").await
    }

    /// The full name of the commit that something names.
    pub async fn commit(&self, revision: &str) -> Result<String, VersionsError> {
        self.line(&["rev-parse", "--verify", "--end-of-options", &format!("{revision}^{{commit}}")]).await
    }

    /// All releases.
    pub async fn releases(&self) -> Result<Releases, VersionsError> {
        self.tags(&[]).await
    }

    /// The release before a commit: the highest version among the tags in its history, without those of the commit itself.
    pub async fn previous(&self, revision: &str) -> Result<Option<Release>, VersionsError> {
        let commit = self.commit(revision).await?;
        let merged = format!("--merged={commit}");
        let releases = self.tags(&[&merged]).await?.releases;
        Ok(releases.into_iter().rfind(|release| release.commit != commit))
    }

    /// A file as it was in a commit; `None` where there was none.
    pub async fn file(&self, revision: &str, path: &str) -> Result<Option<Vec<u8>>, VersionsError> {
        let commit = self.commit(revision).await?;
        if !self.files(&commit).await?.iter().any(|known| known == path) {
            return Ok(None);
        }
        self.blob(&commit, path).await.map(Some)
    }

    /// A file that is known to be in a commit.
    pub(crate) async fn blob(&self, commit: &str, path: &str) -> Result<Vec<u8>, VersionsError> {
        self.answered(&["cat-file", "blob", &format!("{commit}:{path}")]).await
    }

    /// Paths of the files of a commit; links and submodules are none.
    pub async fn files(&self, revision: &str) -> Result<Vec<String>, VersionsError> {
        let commit = self.commit(revision).await?;
        let output = self.answered(&["ls-tree", "-r", "-z", &commit]).await?;
        let mut files = Vec::new();
        for entry in String::from_utf8_lossy(&output).split('\0') {
            // `100644 blob <id>\t<path>`
            if let Some((facts, path)) = entry.split_once('\t')
                && facts.starts_with("100")
            {
                files.push(path.to_owned());
            }
        }
        Ok(files)
    }

    /// The notes of a release, `release/<version>`, as they are in a commit.
    pub async fn release_notes(
        &self,
        revision: &str,
        version: &Version,
    ) -> Result<Option<String>, VersionsError> {
        let notes = self.file(revision, &format!("release/{version}")).await?;
        Ok(notes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// What differs between the commit that is checked out and the files that are there, ignored ones aside; relative paths.
    pub async fn changed_files(&self) -> Result<Vec<String>, VersionsError> {
        let output = self
            .answered(&["status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all"])
            .await?;
        // `XY path`
        let entries = String::from_utf8_lossy(&output);
        Ok(entries.split('\0').filter_map(|entry| entry.get(3..)).map(str::to_owned).collect())
    }

    /// A checkout of a commit, with all tags, in a folder that does not exist yet. Nothing of this one is changed.
    pub async fn clone_at(&self, revision: &str, folder: &Path) -> Result<Self, VersionsError> {
        let commit = self.commit(revision).await?;
        let (from, to) = (self.folder.display().to_string(), folder.display().to_string());
        self.answered(&["clone", "--quiet", "--no-checkout", "--template=", "--", &from, &to]).await?;
        let clone = Self { folder: folder.to_owned() };
        clone.answered(&["checkout", "--quiet", "--detach", &commit]).await?;
        Ok(clone)
    }

    async fn tags(&self, more: &[&str]) -> Result<Releases, VersionsError> {
        let format = "--format=%(refname:strip=2)%00%(objecttype)%00%(*objectname)%00%(objectname)";
        let mut arguments = vec!["for-each-ref", format];
        arguments.extend(more);
        arguments.push("refs/tags");
        let output = self.answered(&arguments).await?;
        let mut found = Releases::default();
        for line in String::from_utf8_lossy(&output).lines() {
            let fields: Vec<&str> = line.split('\0').collect();
            let [tag, kind, target, object] = fields.as_slice() else { continue };
            let tag = (*tag).to_owned();
            match Version::parse(&tag) {
                Ok(version) => {
                    let annotated = *kind == "tag";
                    let commit = if annotated { (*target).to_owned() } else { (*object).to_owned() };
                    found.releases.push(Release { version, tag, annotated, commit });
                }
                Err(_) => found.other_tags.push(tag),
            }
        }
        found.releases.sort_by(|a, b| a.version.cmp(&b.version));
        Ok(found)
    }

    async fn line(&self, arguments: &[&str]) -> Result<String, VersionsError> {
        let output = self.answered(arguments).await?;
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    }

    async fn answered(&self, arguments: &[&str]) -> Result<Vec<u8>, VersionsError> {
        let output = self.git(arguments).run().await?;
        if output.stdout_truncated {
            let said = "it said more than is read; is there a very large file in the recipe?".to_owned();
            return Err(VersionsError::Refused { command: arguments.join(" "), said });
        }
        if output.success() {
            return Ok(output.stdout);
        }
        let said = shown(output.last_words().lines().next().unwrap_or_default());
        Err(VersionsError::Refused { command: arguments.join(" ").replace('\0', " "), said })
    }

    fn git(&self, arguments: &[&str]) -> Cmd {
        git(&self.folder, true).args(arguments.iter().copied())
    }
}

/// `git` in a folder. Where `alone`, a repository that the folder is only within is none of its own.
pub(crate) fn git(folder: &Path, alone: bool) -> Cmd {
    let command = Cmd::new("git")
        .args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"])
        // A runner is root and a recipe is its author's; nothing that the checkout configures is run here.
        .args(["-c", "safe.directory=*"])
        .cwd(folder)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .timeout(LIMIT);
    if !alone {
        return command;
    }
    let ceiling = folder.canonicalize().ok().and_then(|folder| folder.parent().map(Path::to_owned));
    command.env("GIT_CEILING_DIRECTORIES", ceiling.unwrap_or_default())
}

/// Compares two texts, runs of digits in them as numbers. A text is higher than none.
pub(crate) fn naturally(one: Option<&str>, other: Option<&str>) -> Ordering {
    let (Some(one), Some(other)) = (one, other) else { return one.is_some().cmp(&other.is_some()) };
    let (mut one, mut other) = (parts(one).into_iter(), parts(other).into_iter());
    loop {
        match (one.next(), other.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => {
                let order = match (a.parse::<u128>(), b.parse::<u128>()) {
                    (Ok(a), Ok(b)) => a.cmp(&b),
                    _ => a.cmp(b),
                };
                if order != Ordering::Equal {
                    return order;
                }
            }
        }
    }
}

/// Runs of digits and of others.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut from = 0;
    let bytes = text.as_bytes();
    for index in 1..=bytes.len() {
        if index == bytes.len() || bytes[index].is_ascii_digit() != bytes[index - 1].is_ascii_digit() {
            // A change between digit and other is always at a character's boundary, as digits are ASCII.
            parts.extend(text.get(from..index));
            from = index;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_ordered() {
        let texts = [
            "0.9.9",
            "1.0.0",
            "1.0.0+1.9",
            "1.0.0+1.10",
            "1.0.0+2.5.1-alpine",
            "1.2.0+1",
            "1.10.0+1",
            "2.0.0+v1",
        ];
        let mut versions: Vec<Version> =
            texts.iter().rev().map(|text| Version::parse(text).unwrap()).collect();
        versions.sort();
        assert_eq!(versions.iter().map(ToString::to_string).collect::<Vec<_>>(), texts);
    }

    #[test]
    fn what_is_no_version() {
        for text in [
            "",
            "1.0",
            "v1.0.0",
            "1.0.0.0",
            "1.0.x+1",
            "1.0.0+",
            "1..0",
            "+1.0.0",
            "99999999999999999999.0.0",
        ] {
            assert!(Version::parse(text).is_err(), "{text}");
        }
        insta::assert_snapshot!(Version::parse("latest").unwrap_err(), @"`latest` is not the version of a recipe; write `X.Y.Z+upstream`, such as `1.4.0+2.5.1`");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), other in any::<String>()) {
            let _ = Version::parse(&text);
            let order = naturally(Some(&text), Some(&other));
            prop_assert_eq!(order.reverse(), naturally(Some(&other), Some(&text)));
        }

        #[test]
        fn a_version_is_written_as_it_was_read(text in "(0|[1-9][0-9]{0,3})\\.(0|[1-9][0-9]?)\\.[1-9](\\+[a-z0-9.-]{1,9})?") {
            prop_assert_eq!(Version::parse(&text).unwrap().to_string(), text);
        }
    }
}
