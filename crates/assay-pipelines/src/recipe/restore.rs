//! The stage `Restore`: the stack is destroyed with all its volumes, deployed anew, and restored. What was put into its stores
//! before the backup has to be there again, exactly.

use assay_model::recipe::Rung;
use assay_model::{Judgement, StagePlan, text};

use super::evidence::{Outcome, RestoreDone, WitnessState};
use super::told::Told;
use super::{RecipeInput, RecipeStage, backup, by_runner, deployed, judged};

/// A disaster, and the way back.
pub(super) struct Restore;

impl RecipeStage for Restore {
    fn plan(&self) -> StagePlan {
        by_runner("Restore", false)
    }

    fn rung(&self) -> Option<Rung> {
        Some(Rung::Backup)
    }

    fn is_long(&self) -> bool {
        true
    }

    fn judge(&self, input: &RecipeInput<'_>) -> Judgement {
        judged(self, input, |seen: &RestoreDone| {
            let mut told = Told::default();
            fresh(&mut told, seen);
            backup::hooks(&mut told, &seen.hooks);
            backup::troubles(&mut told, &seen.troubles);
            if let Some(outcome) = &seen.outcome {
                deployed::outcome(&mut told, outcome);
            }
            if let Some(answered) = &seen.answered {
                deployed::answered(&mut told, answered, &input.spec.settings);
            }
            let unproven = seen
                .unproven
                .iter()
                .map(|what| format!("not known to be empty before: {}", text::clean(what)));
            told.unverified.extend(unproven);
            backup::compared(&mut told, &seen.compared, "the backup", "RestoreLostData");
            told.ran(&seen.ran, "hook or test", "HookFailed");
            for differing in &seen.differing {
                told.info(
                    "RestoredFileDiffers",
                    format!("{} is not as it was at the backup", text::clean(differing)),
                    "Apps change their files; it matters only where this one should not have changed.",
                );
            }
            let same = seen.compared.iter().filter(|seen| seen.state == WitnessState::Same).count();
            told.judgement(|| {
                format!("{same} of {} witnesses came back into a fresh stack", seen.compared.len())
            })
        })
    }
}

/// Whether the stack that was restored into had nothing of the old one.
fn fresh(told: &mut Told, seen: &RestoreDone) {
    let empty = seen.survived.is_empty() && seen.there_before.is_empty();
    let words = if empty { "nothing of the old one" } else { "something of the old one" };
    told.check("the stack that is restored into", empty, "nothing of the old one", words);
    for thing in &seen.survived {
        told.critical(
            "LeftBehind",
            format!("{} was still there after the stack had been destroyed", text::clean(thing)),
            "A restore over what is left proves nothing.",
        );
    }
    for witness in &seen.there_before {
        told.critical(
            "RestoreNotFresh",
            format!("{} had its witness before anything was restored", text::clean(witness)),
            "A restore over what is left proves nothing.",
        );
    }
    if !matches!(seen.fresh.outcome, Outcome::Converged { .. }) {
        deployed::outcome(told, &seen.fresh.outcome);
    }
}
