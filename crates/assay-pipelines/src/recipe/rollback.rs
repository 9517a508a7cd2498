//! The stage `Rollback` (opt-in): back to the release before, in place, with what was stored. Not every recipe can: whose
//! database moves on with a version declares it by leaving this stage out.

use assay_model::{Judgement, StagePlan};

use super::evidence::Upgraded;
use super::told::Told;
use super::{RecipeInput, RecipeStage, backup, by_runner, deployed, install, judged};

/// The way back.
pub(super) struct Rollback;

impl RecipeStage for Rollback {
    fn plan(&self) -> StagePlan {
        by_runner("Rollback", false)
    }

    fn opt_in(&self) -> bool {
        true
    }

    fn is_long(&self) -> bool {
        true
    }

    fn judge(&self, input: &RecipeInput<'_>) -> Judgement {
        judged(self, input, |seen: &Upgraded| {
            let mut told = Told::default();
            deployed::deployed(&mut told, &seen.deployed, &input.spec.settings);
            backup::compared(&mut told, &seen.compared, "the rollback", "RollbackLostData");
            backup::not_witnessed(&mut told, &seen.witnesses);
            let (from, to) = (seen.from.name(), seen.deployed.version.name());
            told.judgement(|| format!("{from} → {to}: {}", install::summary(&seen.deployed)))
        })
    }
}
