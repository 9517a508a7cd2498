//! The stage `Install`: does it come up from nothing, stay up, and answer? At the release before the commit under test, where
//! there is one, so that the upgrade begins where operators are.

use assay_model::recipe::Rung;
use assay_model::{Judgement, StagePlan};

use super::deployed;
use super::evidence::Deployed;
use super::told::Told;
use super::{RecipeInput, RecipeStage, by_runner, judged};

/// The only deployment of a new stack in a run, but for a restore's.
pub(super) struct Install;

impl RecipeStage for Install {
    fn plan(&self) -> StagePlan {
        by_runner("Install", true)
    }

    fn rung(&self) -> Option<Rung> {
        Some(Rung::Install)
    }

    fn judge(&self, input: &RecipeInput<'_>) -> Judgement {
        judged(self, input, |seen: &Deployed| {
            let mut told = Told::default();
            deployed::deployed(&mut told, seen, &input.spec.settings);
            told.judgement(|| format!("{}: {}", seen.version.name(), summary(seen)))
        })
    }
}

/// A deployment that went well, in a few words.
pub(super) fn summary(seen: &Deployed) -> String {
    let converged = seen.phases.iter().find(|phase| phase.name == "converge");
    let took = converged.map(|phase| format!(" in {:.1} s", phase.seconds)).unwrap_or_default();
    let services = seen.services.len();
    let services = if services == 1 { "1 service".to_owned() } else { format!("{services} services") };
    let answer = seen.answered.as_ref().and_then(|answered| Some((answered.status?, answered.after_s)));
    let answer =
        answer.map(|(status, after)| format!(", answers {status} {after:.1} s later")).unwrap_or_default();
    format!("{services} up{took}{answer}")
}
