//! The recipe's versions as folders of their own: what is tested is taken from history, and nothing in the recipe's folder is
//! changed.

use std::path::{Component, Path, PathBuf};

use assay_recipe::Recipe;
use assay_recipe::customise::{Customisation, Options};
use assay_recipe::lint;
use assay_recipe::versions::{Checkout, Releases};

use super::{Tell, Test};
use crate::recipe::evidence::{Linted, VersionSeen};

/// The versions of a run.
pub(super) struct Sources {
    /// What is under test.
    pub(super) head: Version,
    /// What it is upgraded from; none where there is nothing before it.
    pub(super) base: Option<Version>,
    /// Why there is none.
    pub(super) no_base: String,
    /// Further releases that an upgrade is tested from.
    pub(super) further: Vec<Version>,
}

/// A version in a folder.
#[derive(Clone)]
pub(super) struct Version {
    pub(super) seen: VersionSeen,
    pub(super) folder: PathBuf,
}

impl Test {
    /// Takes the versions from the recipe's folder.
    pub(super) async fn fetch_sources(&mut self, tell: Tell<'_>) -> Result<(), String> {
        self.unpack_source(tell).await?;
        tell("reading the recipe");
        let from = self.spec.folder.clone();
        self.fetched += 1;
        let to = self.folder.path().join(format!("head-{}", self.fetched));
        let tests = self.spec.tests.clone();
        let options = Options {
            extra: self.spec.asked.extra,
            skip_generic: self.spec.asked.skip_generic,
            required: tests.is_some(),
        };
        let sources = match Checkout::open(&from).await {
            Ok(checkout) => self.versions_of(&checkout, to).await?,
            Err(error) => {
                copy_folder(&from, &to).map_err(|error| format!("copying {}: {error}", from.display()))?;
                let head = Version { seen: VersionSeen::default(), folder: to };
                let no_base = format!("there is no release before it: {error}");
                Sources { head, base: None, no_base, further: Vec::new() }
            }
        };
        // Tests come from the folder that was named, or from the recipe as it is there now: it is its owner who asks. A bundle has
        // none there.
        let tests = tests.unwrap_or_else(|| from.join(assay_recipe::customise::FOLDER));
        self.customisation = Customisation::discover(&tests, options).map_err(|error| error.to_string())?;
        self.sources = Some(sources);
        Ok(())
    }

    async fn versions_of(&self, checkout: &Checkout, to: PathBuf) -> Result<Sources, String> {
        let failed = |error: assay_recipe::versions::VersionsError| error.to_string();
        let commit = match &self.spec.commit {
            Some(commit) => checkout.commit(commit).await.map_err(failed)?,
            None => checkout.head().await.map_err(failed)?,
        };
        // A commit that was named is tested as it is in history; without one, the folder as it is.
        let changed = match &self.spec.commit {
            Some(_) => Vec::new(),
            None => checkout.changed_files().await.map_err(failed)?,
        };
        let head = checkout.clone_at(&commit, &to).await.map_err(failed)?;
        for file in &changed {
            copy_changed(&self.spec.folder, &to, file).map_err(|error| format!("copying {file}: {error}"))?;
        }
        let releases = head.releases().await.map_err(failed)?;
        let release = release_at(&releases, &commit).filter(|_| changed.is_empty());
        let wanted = &self.spec.settings.upgrade.from;
        let mut bases = Vec::new();
        for (place, version) in wanted.iter().enumerate() {
            let Some(release) = releases.releases.iter().find(|release| release.tag == *version) else {
                return Err(format!("upgrade.from names {version}, and the recipe has no such release"));
            };
            if wanted[..place].contains(version) {
                return Err(format!("upgrade.from names {version} twice; once is enough"));
            }
            bases.push(release.clone());
        }
        if wanted.is_empty() {
            bases.extend(head.previous(&commit).await.map_err(failed)?);
        }
        let seen = VersionSeen { release, commit: Some(commit), changed };
        let mut versions = Vec::new();
        for (place, release) in bases.into_iter().enumerate() {
            let folder = self.folder.path().join(format!("base-{}-{place}", self.fetched));
            head.clone_at(&release.commit, &folder).await.map_err(failed)?;
            let seen =
                VersionSeen { release: Some(release.tag), commit: Some(release.commit), changed: Vec::new() };
            versions.push(Version { seen, folder });
        }
        let further = versions.split_off(versions.len().min(1));
        let base = versions.pop();
        let no_base = "the recipe has no release before this commit".to_owned();
        Ok(Sources { head: Version { seen, folder: to }, base, no_base, further })
    }

    /// Puts the tests' own overlay beside the recipe's files; it is read last.
    pub(super) fn copy_overlay(&self, folder: &Path) -> Result<(), String> {
        let Some(overlay) = &self.customisation.overlay else { return Ok(()) };
        let to = folder.join(assay_recipe::customise::OVERLAY);
        // Nothing is written through a link that a recipe has put there.
        if to.symlink_metadata().is_ok() {
            std::fs::remove_file(&to).map_err(|error| format!("{}: {error}", to.display()))?;
        }
        std::fs::write(&to, &overlay.text).map_err(|error| format!("{}: {error}", to.display()))
    }

    /// What the rules say of the version under test.
    pub(super) async fn lint(&mut self) -> Linted {
        let Some(sources) = &self.sources else {
            return Linted {
                version: VersionSeen::default(),
                bases: Vec::new(),
                report: None,
                problem: Some("the recipe was not read".to_owned()),
                tests_digest: None,
            };
        };
        let recipe = Recipe::open(&sources.head.folder);
        let (report, problem) = match recipe {
            Ok(recipe) => {
                let mut report = lint::lint(&recipe).await;
                report.recipe.clone_from(&self.spec.name);
                (Some(report), None)
            }
            Err(error) => (None, Some(error.to_string())),
        };
        let bases = sources.base.iter().chain(&sources.further).map(|base| base.seen.clone()).collect();
        if let Some(report) = &report {
            let text = serde_json::to_vec_pretty(report).unwrap_or_default();
            self.artifacts.push(("lint.json".to_owned(), text));
        }
        Linted { version: sources.head.seen.clone(), bases, report, problem, tests_digest: None }
    }
}

fn release_at(releases: &Releases, commit: &str) -> Option<String> {
    releases.releases.iter().rfind(|release| release.commit == commit).map(|release| release.tag.clone())
}

/// Brings one file that differs from the commit over, or takes it away where it is gone.
fn copy_changed(from: &Path, to: &Path, file: &str) -> std::io::Result<()> {
    let relative = Path::new(file);
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(());
    }
    let (source, target) = (from.join(relative), to.join(relative));
    match source.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => match std::fs::remove_file(&target) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => copy_folder(&source, &target),
        Ok(found) => {
            if let Some(parent) = target.parent() {
                std::fs::create_dir_all(parent)?;
            }
            copy_entry(&source, &target, &found)
        }
    }
}

/// A folder with its files and links, without its history.
fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name() == ".git" {
            continue;
        }
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let found = source.symlink_metadata()?;
        if found.is_dir() {
            copy_folder(&source, &target)?;
        } else {
            copy_entry(&source, &target, &found)?;
        }
    }
    Ok(())
}

fn copy_entry(source: &Path, target: &Path, found: &std::fs::Metadata) -> std::io::Result<()> {
    if target.symlink_metadata().is_ok() {
        std::fs::remove_file(target)?;
    }
    if found.is_symlink() {
        // As it is: whoever reads the recipe follows no link that leads out of it.
        std::os::unix::fs::symlink(std::fs::read_link(source)?, target)
    } else if found.is_file() {
        std::fs::copy(source, target).map(drop)
    } else {
        Ok(())
    }
}
