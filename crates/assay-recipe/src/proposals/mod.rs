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
    /// The tag that is pinned.
    pub tag: String,
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
    /// The tag.
    pub tag: String,
    services: Vec<String>,
    files: Vec<String>,
}

/// Everything about a recipe that is known without asking registries.
#[derive(Debug)]
pub struct Known {
    recipe: String,
    version: Option<Version>,
    last_release: Option<Version>,
    /// The images that are pinned by a tag.
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
        let checklist = checklist::of(&facts, version.as_ref(), last_release.as_ref());
        Self { recipe: recipe.name.clone(), version, last_release, pinned: pinned(&facts), checklist }
    }

    /// Puts together what registries have told: for each of [`Known::pinned`], in its order, its tags or why they are not known.
    pub fn proposals(self, told: Vec<Result<Vec<String>, String>>) -> Proposals {
        let (version, last_release) = (self.version, self.last_release);
        let from = last_release.as_ref().or(version.as_ref());
        let images = self.pinned.into_iter().zip(told).map(|(pinned, tags)| {
            let (newer, problem) = match tags {
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
            let Pinned { image, tag, services, files } = pinned;
            ImageProposal { image, tag, services, files, newer, next_versions, problem }
        });
        let images = images.collect();
        Proposals {
            format: 1,
            recipe: self.recipe,
            version: version.as_ref().map(ToString::to_string),
            last_release: last_release.as_ref().map(ToString::to_string),
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
    let mut found: BTreeMap<(String, String), Pinned> = BTreeMap::new();
    for view in &facts.views {
        for (service, settings) in &view.loaded.compose.services {
            let Some((image, tag)) = settings.image.as_deref().and_then(split) else { continue };
            let key = (image.to_owned(), tag.to_owned());
            let pinned = found.entry(key).or_insert_with(|| Pinned {
                image: image.to_owned(),
                tag: tag.to_owned(),
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

/// Name and tag of an image; none where it is pinned by its digest alone, or not at all.
fn split(image: &str) -> Option<(&str, &str)> {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let (name, tag) = name.rsplit_once(':')?;
    (!tag.is_empty() && !tag.contains('/')).then_some((name, tag))
}
