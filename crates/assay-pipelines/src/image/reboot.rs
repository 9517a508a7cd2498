//! The stage `Reboot`: the installed system comes up from its disks alone.

use assay_model::{Judgement, Owner, Severity, StageName, StagePlan};

use super::evidence::Rebooted;
use super::outcome::{runner_fault, told};
use super::profile::{InstallExpect, Profile, Within};
use super::{ImageInput, ImageSpec, ImageStage, install, judged, metal, power};

/// The first boot of the installed system.
pub(crate) struct Reboot;

impl ImageStage for Reboot {
    fn plan(&self) -> StagePlan {
        StagePlan { name: StageName::from("Reboot"), owner: Owner::Agent, required: true, timeout_s: 60 }
    }

    fn asked_for(&self, spec: &ImageSpec) -> Result<(), &'static str> {
        if spec.profile.install.expect == InstallExpect::Refused {
            return Err("the installation is to be refused, so there is nothing to boot");
        }
        install::Install.asked_for(spec).map_err(|_| "nothing is installed that could be booted")
    }

    fn limit_s(&self, profile: &Profile) -> u64 {
        let phases = profile.phases.iter().filter(|phase| phase.stage == Within::Reboot);
        let phases: u64 = phases.map(|phase| phase.timeout.0.as_secs()).sum();
        let join = profile.join.as_ref().map_or(0, |join| join.within.0.as_secs());
        profile.reboot.timeout.0.as_secs() + phases + join
    }

    fn judge(&self, input: &ImageInput<'_>) -> Judgement {
        if let Some(nothing) = power::refused_before(input) {
            return nothing;
        }
        judged(self, input, |evidence: &Rebooted| {
            if let Some(why) = runner_fault(&evidence.watched) {
                return Judgement::error(why);
            }
            let told = told(&evidence.watched, input.profile(), Within::Reboot, input.profile().reboot.rung);
            let message = match told.findings.iter().find(|f| f.severity == Severity::Critical) {
                Some(finding) => finding.message.clone(),
                None if input.is_of_metal() => {
                    format!("up after {:.1} s, its medium ejected", evidence.watched.seconds)
                }
                None => format!("up after {:.1} s, from its disks alone", evidence.watched.seconds),
            };
            let open = metal::rebooted(input, &evidence.watched);
            let judgement =
                Judgement::from_evidence(told.checks, told.findings, told.coverage, open, message);
            metal::not_whole(judgement)
        })
    }
}
