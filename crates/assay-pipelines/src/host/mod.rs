//! The host pipeline, in order. A new stage is one file beside this one and one line in [`STAGES`].

mod inventory;
mod reporting;
mod smart;
mod spec_validate;
pub mod thermal;

use crate::HostStage;

/// The stages in the order in which they run.
pub static STAGES: [&dyn HostStage; 4] =
    [&inventory::Inventory, &spec_validate::SpecValidate, &smart::Smart, &reporting::Reporting];

/// The stage with this name.
pub fn stage(name: &str) -> Option<&'static dyn HostStage> {
    STAGES.into_iter().find(|s| s.plan().name == name)
}
