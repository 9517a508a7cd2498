//! The image pipeline, in order: an installer image is written to a medium, booted, installed, rebooted, and held to
//! what its profile says. A new stage is one file beside this one and one line in [`STAGES`].
//!
//! The runner collects (feature `bench`), with a virtual machine that lives through several stages; the judges are
//! here, pure, and see evidence only.

#[cfg(feature = "bench")]
pub mod bench;
mod boot;
#[cfg(feature = "bench")]
mod cuts;
pub mod evidence;
mod faults;
#[cfg(test)]
mod fixtures;
pub mod hardware;
mod identify;
mod inspect;
mod install;
mod join;
mod metal;
mod outcome;
mod power;
mod prepare;
pub mod profile;
mod reboot;
mod reconcile;
mod reporting;
mod spec;

use assay_model::{Judgement, Owner, StageName, StagePlan, Verdict};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use profile::{Profile, ProfileError};
pub use spec::{ImageSource, ImageSpec};

/// The stage without which there is no verdict.
pub const LAST: &str = "Reporting";

/// The stages in the order in which they run.
pub static STAGES: [&dyn ImageStage; 9] = [
    &prepare::Prepare,
    &inspect::Inspect,
    &boot::Boot,
    &install::Install,
    &reboot::Reboot,
    &identify::Identify,
    &join::Join,
    &reconcile::Reconcile,
    &reporting::Reporting,
];

/// A stage of the image pipeline.
pub trait ImageStage: Sync {
    /// Its name, owner, whether it is required by default, and its time limit.
    fn plan(&self) -> StagePlan;

    /// Whether the profile asks for anything here; a stage that has nothing to do is skipped, and says why.
    fn asked_for(&self, _spec: &ImageSpec) -> Result<(), &'static str> {
        Ok(())
    }

    /// Whether a run cannot pass without it, where it is asked for.
    fn required(&self, _profile: &Profile) -> bool {
        self.plan().required
    }

    /// How long one try may take with this profile, in seconds, on a runner on which times are taken literally.
    fn limit_s(&self, _profile: &Profile) -> u64 {
        u64::from(self.plan().timeout_s)
    }

    /// Evidence in, verdict out. Pure.
    fn judge(&self, input: &ImageInput<'_>) -> Judgement;
}

/// All that a judge may look at.
pub struct ImageInput<'a> {
    /// The image and its profile.
    pub spec: &'a ImageSpec,
    /// The evidence of the attempt being judged.
    pub evidence: &'a Value,
    /// The evidence of earlier stages of this run (their latest attempts).
    pub earlier: &'a [(StageName, Value)],
}

impl<'a> ImageInput<'a> {
    /// What is judged, and what came before.
    pub const fn new(spec: &'a ImageSpec, evidence: &'a Value, earlier: &'a [(StageName, Value)]) -> Self {
        Self { spec, evidence, earlier }
    }

    /// The profile.
    pub const fn profile(&self) -> &'a Profile {
        &self.spec.profile
    }

    /// Whether it is about a registered machine: then all that is known of it is what its console said.
    pub const fn is_of_metal(&self) -> bool {
        self.spec.on.is_some()
    }

    /// The latest evidence of an earlier stage; none when it was not reached, or does not read.
    pub fn earlier<E: DeserializeOwned>(&self, stage: &str) -> Option<E> {
        let (_, value) = self.earlier.iter().rev().find(|(name, _)| name == stage)?;
        serde_json::from_value(value.clone()).ok()
    }
}

/// Says so where a stage's evidence is an earlier run's.
fn not_done_again(stage: &dyn ImageStage, input: &ImageInput<'_>, mut judgement: Judgement) -> Judgement {
    let name = stage.plan().name;
    let prepared = if name == "Prepare" {
        serde_json::from_value(input.evidence.clone()).ok()
    } else {
        input.earlier::<evidence::Prepared>("Prepare")
    };
    let from = prepared.and_then(|prepared| prepared.taken_up);
    let Some(from) = from else { return judgement };
    let at = assay_model::text::clean(&from.at);
    let words = if from.stages.iter().any(|done| name == done.as_str()) {
        format!("not done again: snapshot of {at}")
    } else if from.rest_of.as_ref().is_some_and(|stage| name == stage.as_str()) {
        format!("from phase {} on: snapshot of {at}", assay_model::text::clean(&from.phase))
    } else {
        return judgement;
    };
    judgement.message = format!("{} ({words})", judgement.message);
    judgement.unverified.push(words);
    judgement
}

/// The stage with this name.
pub fn stage(name: &str) -> Option<&'static dyn ImageStage> {
    STAGES.into_iter().find(|s| s.plan().name == name)
}

/// Has a stage judge its evidence.
pub fn judge(stage: &dyn ImageStage, input: &ImageInput<'_>) -> Judgement {
    hardware::unverifiable(stage, input).unwrap_or_else(|| stage.judge(input))
}

/// A stage's place in a run over this image, on a virtual machine.
pub fn planned(stage: &dyn ImageStage, spec: &ImageSpec) -> StagePlan {
    /// The most that limits are stretched on a slow runner, and what a stage needs beside its phases.
    const SLOWEST: u64 = 20;
    let plan = stage.plan();
    let profile = &spec.profile;
    let required = stage.required(profile) && stage.asked_for(spec).is_ok();
    let limit = match plan.owner {
        Owner::Orchestrator => u64::from(plan.timeout_s),
        _ => stage.limit_s(profile).saturating_mul(SLOWEST).saturating_add(600),
    };
    StagePlan { required, timeout_s: u32::try_from(limit).unwrap_or(u32::MAX), ..plan }
}

/// The code of a machine that was still at a phase when its time was over.
const TIMED_OUT: &str = "PhaseTimedOut";

/// Reads the evidence of a stage and has it judged; or skips it, where the profile asks for nothing.
pub(crate) fn judged<E: DeserializeOwned>(
    stage: &dyn ImageStage,
    input: &ImageInput<'_>,
    judge: impl FnOnce(&E) -> Judgement,
) -> Judgement {
    if let Err(why) = stage.asked_for(input.spec) {
        return Judgement { verdict: Verdict::Skip, ..Judgement::error(why) };
    }
    match serde_json::from_value(input.evidence.clone()) {
        Ok(evidence) => {
            let judgement = not_done_again(stage, input, judge(&evidence));
            crate::recipe::unless_overloaded(judgement, input.evidence, |code| code == TIMED_OUT)
        }
        Err(problem) => Judgement::error(format!(
            "the evidence of {} cannot be read ({}); are runner and server of the same version?",
            stage.plan().name,
            assay_model::text::clean(&problem.to_string())
        )),
    }
}
