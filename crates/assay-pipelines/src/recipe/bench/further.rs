//! Upgrades from further releases: where the settings name several, the first is the one that the run goes on with, and each other
//! one is installed in a stack of its own, in a daemon of its own, upgraded, and taken away again. It is a test within the test, so
//! hooks, dependencies, witnesses and secrets are what they are for the first.

use std::path::Path;
use std::time::Instant;

use super::sources::{Sources, Version};
use super::{Tell, Test, json};
use crate::recipe::evidence::{Outcome, Reached, UpgradedFrom};

/// Where in a run's folder such a test works, one at a time. A short name: there is a socket below it.
pub(super) const FOLDER: &str = "u";

impl Test {
    /// From each further release to the version under test.
    pub(super) async fn further_upgrades(&mut self, tell: Tell<'_>) -> Result<Vec<UpgradedFrom>, String> {
        let bases = self.sources.as_ref().map(|sources| sources.further.clone()).unwrap_or_default();
        let mut all = Vec::new();
        for (base, place) in bases.iter().zip(1..) {
            let name = base.seen.name();
            let told = |words: &str| tell(&format!("upgrade from {name}: {words}"));
            all.push(Box::pin(self.upgrade_from(base, place, &told)).await?);
        }
        Ok(all)
    }

    async fn upgrade_from(
        &mut self,
        base: &Version,
        place: u32,
        tell: Tell<'_>,
    ) -> Result<UpgradedFrom, String> {
        let began = Instant::now();
        let mut test = self.beside(base, place)?;
        let seen = test.installed_and_upgraded(base, tell).await;
        // Whatever came of it, nothing of it stands beside what comes next.
        let residue = test.put_away().await;
        let folder = test.folder.path().to_owned();
        std::fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut seen = seen?;
        seen.residue = residue;
        seen.seconds = began.elapsed().as_secs_f64();
        self.take_over(&seen, test)
    }

    /// A test of the same versions from another release on, in a folder within this one's.
    fn beside(&self, base: &Version, place: u32) -> Result<Self, String> {
        let sources = self.sources.as_ref().ok_or("the recipe was not read")?;
        let folder = tempfile::Builder::new().prefix(FOLDER).rand_bytes(0).tempdir_in(self.folder.path());
        let folder = folder.map_err(|error| format!("{}: {error}", self.folder.path().display()))?;
        let mut spec = self.spec.clone();
        spec.stages = ["Install", "Upgrade"].map(str::to_owned).to_vec();
        // Another domain, so that nothing of the two is ever taken for the other's.
        spec.seed = self.spec.seed.wrapping_add(place);
        let mut test = Self::within(folder, self.run, &spec, &self.settings);
        test.further = place;
        test.during = format!("Upgrade from {}", base.seen.name());
        test.customisation = self.customisation.clone();
        test.sources = Some(Sources {
            head: sources.head.clone(),
            base: Some(base.clone()),
            no_base: String::new(),
            further: Vec::new(),
        });
        Ok(test)
    }

    async fn installed_and_upgraded(
        &mut self,
        base: &Version,
        tell: Tell<'_>,
    ) -> Result<UpgradedFrom, String> {
        let Reached::Done(installed) = self.install(tell).await? else {
            return Err("an installation is always done".to_owned());
        };
        let upgraded = match installed.outcome {
            Outcome::Converged { .. } => match self.upgrade_in_place(tell).await? {
                Reached::Done(upgraded) => Some(upgraded),
                Reached::NotReached { .. } | Reached::DoesNotApply { .. } => None,
            },
            _ => None,
        };
        let mut seen = UpgradedFrom {
            from: base.seen.clone(),
            installed,
            upgraded,
            left: Vec::new(),
            residue: Vec::new(),
            seconds: 0.0,
        };
        if self.stand.is_some() {
            self.read_logs().await?;
            tell("taking the stack down");
            seen.left = self.destroy().await?.1;
            seen.left.extend(self.destroy_dependencies().await?.1);
        }
        Ok(seen)
    }

    /// Its evidence without its secrets, its artifacts under its name, and what is counted over the whole run.
    fn take_over(&mut self, seen: &UpgradedFrom, mut test: Self) -> Result<UpgradedFrom, String> {
        self.deploys += test.deploys;
        self.deploys_expected += test.deploys_expected;
        let name = seen.from.name();
        self.leaks.extend(std::mem::take(&mut test.leaks).into_iter().map(|mut leak| {
            leak.place = format!("{} (upgrade from {name})", leak.place);
            leak
        }));
        self.died.append(&mut test.died);
        let prefix = format!("from-{}-", name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-"));
        let brought = test.without_secrets(json(seen));
        let named = brought.artifacts.into_iter().map(|(name, bytes)| (format!("{prefix}{name}"), bytes));
        self.artifacts.extend(named);
        let mut seen: UpgradedFrom =
            serde_json::from_value(brought.evidence).map_err(|error| error.to_string())?;
        let upgraded = seen.upgraded.iter_mut().flat_map(|upgraded| &mut upgraded.deployed.ran);
        for ran in seen.installed.ran.iter_mut().chain(upgraded) {
            ran.log = format!("{prefix}{}", ran.log);
        }
        Ok(seen)
    }
}

/// Where the daemon of such a test is in a run's folder.
pub(super) fn daemon_beside(run: &Path) -> std::path::PathBuf {
    super::stand::daemon_in(&run.join(FOLDER))
}
