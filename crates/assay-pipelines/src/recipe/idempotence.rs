//! The stage `Idempotence` (opt-in): a second deployment of the same commit changes nothing. What it replaces, every operator's
//! next deployment replaces as well, without a reason.

use assay_model::{Judgement, StagePlan, text};

use super::deployed;
use super::evidence::Upgraded;
use super::told::Told;
use super::{RecipeInput, RecipeStage, by_runner, judged};

/// The same again.
pub(super) struct Idempotence;

impl RecipeStage for Idempotence {
    fn plan(&self) -> StagePlan {
        by_runner("Idempotence", false)
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
            deployed::outcome(&mut told, &seen.deployed.outcome);
            for before in &seen.before {
                let name = text::clean(&before.service);
                let after = seen.deployed.services.iter().find(|after| after.service == before.service);
                let kept = after.is_some_and(|after| after.tasks == before.tasks);
                let words = if kept { "the same tasks run" } else { "its tasks were replaced" };
                told.check(format!("service {name}"), kept, "the same tasks run", words);
                if !kept {
                    told.critical(
                        "RedeployChanges",
                        format!("{name}: a second deployment of the same commit replaced its tasks"),
                        "Look for what differs each time: a time or a random value in the files, an image without a fixed tag.",
                    );
                }
            }
            told.judgement(|| "deployed again, and no task was replaced".to_owned())
        })
    }
}
