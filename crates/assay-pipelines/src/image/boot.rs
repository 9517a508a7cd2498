//! The stage `Boot`: the medium comes up on the profile's machine.

use assay_model::{Judgement, Owner, Severity, StageName, StagePlan};

use super::evidence::Booted;
use super::outcome::{runner_fault, told};
use super::profile::{Profile, Within};
use super::{ImageInput, ImageStage, judged, metal};

/// The medium comes up.
pub(crate) struct Boot;

impl ImageStage for Boot {
    fn plan(&self) -> StagePlan {
        StagePlan { name: StageName::from("Boot"), owner: Owner::Agent, required: true, timeout_s: 60 }
    }

    fn limit_s(&self, profile: &Profile) -> u64 {
        let phases = profile.phases.iter().filter(|phase| phase.stage == Within::Boot);
        let phases: u64 = phases.map(|phase| phase.timeout.0.as_secs()).sum();
        profile.boot.timeout.0.as_secs() + phases
    }

    fn judge(&self, input: &ImageInput<'_>) -> Judgement {
        judged(self, input, |evidence: &Booted| {
            if let Some(why) = runner_fault(&evidence.watched) {
                return Judgement::error(why);
            }
            let rung = input.profile().boot.rung;
            let told = told(&evidence.watched, input.profile(), Within::Boot, rung);
            let message = match told.findings.iter().find(|f| f.severity == Severity::Critical) {
                Some(finding) => finding.message.clone(),
                None => format!("up after {:.1} s", evidence.watched.seconds),
            };
            let open = metal::booted(input, rung, &evidence.watched);
            let judgement =
                Judgement::from_evidence(told.checks, told.findings, told.coverage, open, message);
            metal::not_whole(judgement)
        })
    }
}

#[cfg(test)]
#[path = "boot_tests.rs"]
mod tests;
