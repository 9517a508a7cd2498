//! The host pipeline, in order. A new stage is one file beside this one and one line in [`STAGES`].

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

use assay_model::Judgement;

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

/// The stage with this name.
pub fn stage(name: &str) -> Option<&'static dyn HostStage> {
    STAGES.into_iter().find(|s| s.plan().name == name)
}
