//! What a recipe could be upgraded to, and what a good upgrade of it needs: data for bots, and for whoever writes the next
//! release by hand. Nothing is written to a repository, and no registry is asked here: tags are given.

mod checklist;
mod tags;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use checklist::{Item, State, Task};
pub use tags::{Newer, Step, newer};

use crate::labels::CoopLabels;
use crate::lint::facts::{self, Facts};
use crate::recipe::Recipe;
use crate::versions::Version;

/// The service whose image is the app.
const APP: &str = "app";

/// What a recipe could be upgraded to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Proposals {
    /// The version of this format.
    pub format: u32,
    /// The recipe.
    pub recipe: String,
    /// The version that its label says; none where it says none.
    pub version: Option<String>,
    /// Its last release; none where there is none, or no checkout.
    pub last_release: Option<String>,
    /// Releases that are newer than the version that its label says, the oldest first: what is checked out is behind them.
    #[serde(default)]
    pub newer_releases: Vec<String>,
    /// Its images.
    pub images: Vec<ImageProposal>,
    /// What the next release needs, and what of it is done.
    pub checklist: Vec<Item>,
}

/// An image that a recipe pins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageProposal {
    /// Its name as the files have it, without the tag.
    pub image: String,
    /// The tag that is pinned; empty for one without.
    pub tag: String,
    /// The digest that stands beside the tag, or in place of it: another tag needs another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The services that run it.
    pub services: Vec<String>,
    /// The compose files that pin it.
    pub files: Vec<String>,
    /// The newest tag of each step that follows it.
    pub newer: Vec<Newer>,
    /// The recipe's version with each of them, in the same order; empty where the recipe has no version to go on from.
    pub next_versions: Vec<String>,
    /// Why nothing is known of newer ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// An image that a recipe pins, before anybody was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// Its name as the files have it, without the tag.
    pub image: String,
    /// The tag; empty for one without.
    pub tag: String,
    digest: Option<String>,
    services: Vec<String>,
    files: Vec<String>,
}

impl Pinned {
    /// Why no registry need be asked: it is not pinned by a tag.
    pub fn untagged(&self) -> Option<String> {
        match (self.tag.as_str(), &self.digest) {
            ("", Some(_)) => Some(
                "it is pinned by its digest alone, which says no version; write name:tag@digest".to_owned(),
            ),
            ("", None) => Some("it has no tag, so it is another one every time; pin one".to_owned()),
            _ => None,
        }
    }
}

/// Everything about a recipe that is known without asking registries.
#[derive(Debug)]
pub struct Known {
    recipe: String,
    version: Option<Version>,
    last_release: Option<Version>,
    newer_releases: Vec<Version>,
    /// Its images.
    pub pinned: Vec<Pinned>,
    checklist: Vec<Item>,
}

impl Known {
    /// Reads a recipe, with its tags where it is a checkout.
    pub async fn of(recipe: &Recipe) -> Self {
        let facts = Facts::gather(recipe, facts::history(recipe).await);
        let labels = facts.views.iter().find_map(|view| {
            let stack = facts::longest_stack();
            CoopLabels::read(&view.loaded.compose, &stack).version
        });
        let version = labels.as_deref().and_then(|label| Version::parse(label).ok());
        let releases = facts.history.releases.as_ref();
        let last_release =
            releases.ok().and_then(|found| found.releases.last()).map(|last| last.version.clone());
        let all = releases.ok().into_iter().flat_map(|found| &found.releases).map(|found| &found.version);
        let newer = all.filter(|release| version.as_ref().is_some_and(|version| *release > version));
        let newer_releases = newer.cloned().collect();
        let checklist = checklist::of(&facts, version.as_ref(), last_release.as_ref());
        let (recipe, pinned) = (recipe.name.clone(), pinned(&facts));
        Self { recipe, version, last_release, newer_releases, pinned, checklist }
    }

    /// Puts together what registries have told: for each of [`Known::pinned`], in its order, its tags or why they are not known.
    pub fn proposals(self, told: Vec<Result<Vec<String>, String>>) -> Proposals {
        let (version, last_release) = (self.version, self.last_release);
        let from = last_release.as_ref().or(version.as_ref());
        let images = self.pinned.into_iter().zip(told).map(|(pinned, tags)| {
            let (newer, problem) = match pinned.untagged().map_or(tags, Err) {
                Err(problem) => (Vec::new(), Some(problem)),
                Ok(tags) => match newer(&pinned.tag, tags.iter().map(String::as_str)) {
                    Some(newer) => (newer, None),
                    None => {
                        (Vec::new(), Some(format!("the tag `{}` has no numbers to go on from", pinned.tag)))
                    }
                },
            };
            let is_app = pinned.services.iter().any(|service| service == APP);
            let next = |newer: &Newer| from.map(|from| next_version(from, newer, is_app).to_string());
            let next_versions = newer.iter().filter_map(next).collect();
            let Pinned { image, tag, digest, services, files } = pinned;
            ImageProposal { image, tag, digest, services, files, newer, next_versions, problem }
        });
        let images = images.collect();
        Proposals {
            format: 1,
            recipe: self.recipe,
            version: version.as_ref().map(ToString::to_string),
            last_release: last_release.as_ref().map(ToString::to_string),
            newer_releases: self.newer_releases.iter().map(ToString::to_string).collect(),
            images,
            checklist: self.checklist,
        }
    }
}

/// By Co-op Cloud's convention: major where an operator has to do something, minor for a new image. An image's major version is
/// taken for the former; who knows better says less.
fn next_version(from: &Version, newer: &Newer, is_app: bool) -> Version {
    let upstream = if is_app {
        Some(newer.tag.strip_prefix('v').unwrap_or(&newer.tag).to_owned())
    } else {
        from.upstream.clone()
    };
    match newer.step {
        Step::Major => Version { major: from.major + 1, minor: 0, patch: 0, upstream },
        Step::Minor | Step::Patch => Version { minor: from.minor + 1, patch: 0, upstream, ..from.clone() },
        Step::Rebuild => Version { patch: from.patch + 1, upstream, ..from.clone() },
    }
}

/// The images of every combination of files, once each.
fn pinned(facts: &Facts<'_>) -> Vec<Pinned> {
    let mut found: BTreeMap<&str, Pinned> = BTreeMap::new();
    for view in &facts.views {
        for (service, settings) in &view.loaded.compose.services {
            let Some(written) = settings.image.as_deref() else { continue };
            let (image, tag, digest) = split(written);
            let pinned = found.entry(written).or_insert_with(|| Pinned {
                image: image.to_owned(),
                tag: tag.to_owned(),
                digest: digest.map(str::to_owned),
                services: Vec::new(),
                files: Vec::new(),
            });
            // The file in which it is written, and not every one that is read with it.
            let path = format!("services.{service}.image");
            let file = view.loaded.problem(&path, String::new()).file;
            for (list, value) in [(&mut pinned.services, service.clone()), (&mut pinned.files, file)] {
                if !list.contains(&value) {
                    list.push(value);
                }
            }
        }
    }
    found.into_values().collect()
}

/// Name, tag and digest of an image; the tag is empty where there is none.
fn split(image: &str) -> (&str, &str, Option<&str>) {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag, digest),
        _ => (name, "", digest),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn images_are_taken_apart_as_they_are_written() {
        assert_eq!(split("nginx:1.25"), ("nginx", "1.25", None));
        assert_eq!(split("nginx"), ("nginx", "", None));
        assert_eq!(split("reg.example:5000/a/b"), ("reg.example:5000/a/b", "", None));
        assert_eq!(split("reg.example:5000/b:1@sha256:ab"), ("reg.example:5000/b", "1", Some("sha256:ab")));
        assert_eq!(split("b@sha256:ab"), ("b", "", Some("sha256:ab")));
    }
}
