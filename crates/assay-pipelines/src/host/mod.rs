//! The host pipeline, in order. A new stage is one file beside this one and one line in [`STAGES`].

pub mod clearance;
mod consent;
mod counters;
mod cpu_stress;
mod gpu;
mod inventory;
pub mod memtest;
mod network;
mod psu;
mod repair;
mod reporting;
mod smart;
mod spec_validate;
mod storage;
pub mod thermal;

use assay_model::host::permit::GuardAnswer;
use assay_model::host::spec::HostSpec;
use assay_model::host::storage::PermitOutcome;
use assay_model::{Finding, Judgement};
use serde::de::DeserializeOwned;

use crate::{HostStage, JudgeInput};

/// The stages in the order in which they run.
pub static STAGES: [&dyn HostStage; 10] = [
    &inventory::Inventory,
    &spec_validate::SpecValidate,
    &smart::Smart,
    &cpu_stress::CpuStress,
    &memtest::Memtest86,
    &storage::Storage,
    &network::Network,
    &gpu::Gpu,
    &psu::Psu,
    &reporting::Reporting,
];

/// Judges a stage's evidence: what the stage itself says, and what the machine's counters say of the time in which it
/// ran.
pub fn judge(stage: &dyn HostStage, input: &JudgeInput<'_>) -> Judgement {
    let mut judgement = stage.judge(input);
    counters::merge(&mut judgement, &stage.plan(), input);
    judgement
}

/// Reads the evidence of `stage` and has it judged. What cannot be read is a fault of ours and not of the machine.
pub(crate) fn judged<E: DeserializeOwned>(
    stage: &str,
    input: &JudgeInput<'_>,
    judge: impl FnOnce(&E) -> Judgement,
) -> Judgement {
    match serde_json::from_value(input.evidence.clone()) {
        Ok(evidence) => judge(&evidence),
        Err(problem) => Judgement::error(format!(
            "the evidence of {stage} cannot be read ({problem}); are agent and server of the same version?"
        )),
    }
}

/// Whether something was kept up for as long as it was asked for, both in seconds. Tools end a little earlier than they
/// are told to, by clocks of their own.
pub(crate) fn lasted(seconds: f64, asked_s: f64) -> bool {
    const SHARE: f64 = 0.9;
    seconds.is_finite() && seconds >= asked_s * SHARE
}

/// What stands against writing to the disks of a machine, by its spec and by what its cluster says now.
pub fn stands_against(spec: &HostSpec, guard: &GuardAnswer) -> Option<Finding> {
    let permit = PermitOutcome::Valid { guard: guard.clone() };
    consent::refusal(&permit, spec).map(|refused| refused.finding)
}

/// What a machine's agent can be asked for beside [`STAGES`]: stages of runs that are no vets.
static BESIDE: [&dyn HostStage; 1] = [&clearance::Clearance];

/// The stage that an agent collects under this name, whatever pipeline asks for it.
pub fn collected(name: &str) -> Option<&'static dyn HostStage> {
    STAGES.into_iter().chain(BESIDE).find(|s| s.plan().name == name)
}

/// The stage of a vet with this name.
pub fn stage(name: &str) -> Option<&'static dyn HostStage> {
    STAGES.into_iter().find(|s| s.plan().name == name)
}
