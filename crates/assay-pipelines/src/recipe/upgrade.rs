//! The stage `Upgrade`: from the release before, in place, to the commit under test. It must come up again, it must have moved,
//! and what was stored must still be there. The settings may name further releases to begin at, for operators who skip some: the
//! same holds for each, told with its name.

use assay_model::recipe::Rung;
use assay_model::{Judgement, StagePlan, text};
use assay_recipe::settings::Settings;

use super::evidence::{Outcome, TornDown, Upgraded, UpgradedFrom, Upgrades};
use super::told::Told;
use super::{RecipeInput, RecipeStage, by_runner, install, judged};
use super::{backup, deployed, teardown};

/// An upgrade in place.
pub(super) struct Upgrade;

impl RecipeStage for Upgrade {
    fn plan(&self) -> StagePlan {
        by_runner("Upgrade", false)
    }

    fn rung(&self) -> Option<Rung> {
        Some(Rung::Upgrade)
    }

    fn is_long(&self) -> bool {
        true
    }

    fn judge(&self, input: &RecipeInput<'_>) -> Judgement {
        judged(self, input, |seen: &Upgrades| {
            let settings = &input.spec.settings;
            let mut told = proofs(&seen.first, settings);
            for further in &seen.further {
                also(&mut told, further, settings);
            }
            let (from, to) = (seen.first.from.name(), seen.first.deployed.version.name());
            let names: Vec<String> =
                seen.further.iter().map(|further| text::clean(&further.from.name())).collect();
            let beside = match names.as_slice() {
                [] => String::new(),
                names => format!("; from {} as well", names.join(", ")),
            };
            told.judgement(|| format!("{from} → {to}: {}{beside}", install::summary(&seen.first.deployed)))
        })
    }
}

/// What an upgrade has to show, whatever it began at.
fn proofs(seen: &Upgraded, settings: &Settings) -> Told {
    let mut told = Told::default();
    deployed::deployed(&mut told, &seen.deployed, settings);
    if matches!(seen.deployed.outcome, Outcome::Converged { .. }) {
        moved(&mut told, seen);
    }
    backup::compared(&mut told, &seen.compared, "the upgrade", "UpgradeLostData");
    backup::not_witnessed(&mut told, &seen.witnesses);
    told
}

/// The same from a further release, told with its name.
fn also(told: &mut Told, seen: &UpgradedFrom, settings: &Settings) {
    let name = text::clean(&seen.from.name());
    let mut installed = Told::default();
    deployed::deployed(&mut installed, &seen.installed, settings);
    told.part(&format!("{name} as it was released"), installed);
    let mut upgraded = match &seen.upgraded {
        Some(upgraded) => proofs(upgraded, settings),
        None => Told {
            unverified: vec!["not tried, since that release did not come up".to_owned()],
            ..Told::default()
        },
    };
    let torn = TornDown { left: seen.left.clone(), residue: seen.residue.clone(), ..TornDown::default() };
    teardown::left(&mut upgraded, &torn);
    told.part(&format!("upgrade from {name}"), upgraded);
}

/// Whether what runs is what was deployed, and not what was there before.
fn moved(told: &mut Told, seen: &Upgraded) {
    let wanted = seen.deployed.version.commit.clone();
    let said = seen.deployed.commit_label.clone();
    if let Some(wanted) = wanted {
        // The label is read back from the swarm; an update that was taken back has the old one.
        let ok = said.as_deref().is_some_and(|said| wanted.starts_with(said.trim_end_matches("+U")));
        let seen_words = text::clean(said.as_deref().unwrap_or("no label"));
        told.check("the running app's commit", ok, wanted.clone(), seen_words.clone());
        if !ok {
            told.critical(
                "UpgradeDidNotMove",
                format!("the swarm says that {seen_words} runs, and {} was deployed", seen.deployed.version.name()),
                "The update was taken back, or never took place. Look at the service's update_config (failure_action: rollback) and \
                 at the log of the tasks that failed.",
            );
        }
    }
    let mut same = true;
    for before in &seen.before {
        let Some(after) = seen.deployed.services.iter().find(|after| after.service == before.service) else {
            same = false;
            continue;
        };
        if before.digest == after.digest {
            continue;
        }
        same = false;
        let replaced = after.tasks.is_empty() || after.tasks != before.tasks;
        let name = text::clean(&before.service);
        let words = if replaced { "replaced" } else { "the old tasks run" };
        told.check(format!("tasks of {name}"), replaced, "replaced, since the files differ", words);
        if !replaced {
            told.critical(
                "UpgradeDidNotMove",
                format!("{name}: the files differ, and the old tasks still run"),
                "Look at what the swarm says of its last update.",
            );
        }
    }
    if same && seen.before.len() == seen.deployed.services.len() {
        told.unverified.push("the stack of both versions is the same: nothing had to move".to_owned());
    } else if seen.label_before.is_some() && seen.label_before == seen.deployed.version_label {
        told.warning(
            "VersionNotRaised",
            format!(
                "the stack differs, and both say that they are {}",
                text::clean(seen.label_before.as_deref().unwrap_or_default())
            ),
            "Raise the version in the label of `app` before it is released (abra recipe sync): operators see no upgrade otherwise.",
        );
    }
}
