//! The same image on a registered machine in place of a virtual one: which stages there are, who collects them, and
//! what each wants of the machine.
//!
//! Prepare and Inspect come first, against the sketch: they need no machine, so a broken image costs no boot, and
//! [`Clearance`](crate::host::clearance) stands as near to the first write as it can. Boot inserts the medium; Install
//! and Reboot go on with that boot. What only a virtual machine can tell (its disks from outside, its screen, its
//! network) nobody knows here, and a stage that is about nothing else is `unverified`.

use assay_model::host::order::Profile as Thoroughness;
use assay_model::host::spec::HostSpec;
use assay_model::{Judgement, Owner, StageName, StagePlan, Verdict};

use super::profile::{Channel, InstallExpect, MediumAs, Profile};
use super::{ImageInput, ImageSpec, ImageStage, LAST};
use crate::host::{self, clearance};

/// What a stage needs beside its phases, in seconds: a runner that was restarted, evidence on its way.
const AIR_S: u64 = 600;

/// What a stage that the runner collects wants of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// Nothing: it is about the image, or about what was seen before.
    Nothing,
    /// That it boots from the medium.
    Medium,
    /// That the boot of an earlier stage goes on. Half an installation cannot be repeated, so neither can this.
    GoesOn,
}

/// Why a profile cannot be asked of a machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be had on a registered machine: {why}")]
pub struct Unsuitable {
    /// What the profile asks for.
    pub what: String,
    /// Why not, and what to do.
    pub why: &'static str,
}

/// What a stage wants of the machine; none for one that the runner does not collect.
pub fn wants(stage: &str) -> Option<Wants> {
    match stage {
        "Prepare" | "Inspect" | "Identify" | "Join" | "Reconcile" => Some(Wants::Nothing),
        "Boot" => Some(Wants::Medium),
        "Install" | "Reboot" => Some(Wants::GoesOn),
        _ => None,
    }
}

/// The plan of such a run, and the stages of the whole pipeline that the profile leaves out. `boot_s` is how long the
/// machine may take from power-on to its medium.
///
/// # Errors
/// That there is no such stage as the one at which the profile wants to stop.
pub fn plan(
    spec: &ImageSpec,
    host_spec: &HostSpec,
    boot_s: u32,
) -> Result<(Vec<StagePlan>, Vec<StageName>), String> {
    let mut all: Vec<StagePlan> =
        super::STAGES.iter().map(|stage| planned(*stage, spec, u64::from(boot_s))).collect();
    let before_boot = all.iter().position(|stage| stage.name == "Boot").unwrap_or(0);
    let live =
        ["Inventory", clearance::NAME].into_iter().filter_map(host::collected).map(|stage| StagePlan {
            timeout_s: stage.limit_s(host_spec, Thoroughness::default()),
            // Whatever the host's spec makes of its stages: this is not about a vet.
            required: true,
            ..stage.plan()
        });
    all.splice(before_boot..before_boot, live);
    let Some(until) = &spec.profile.until else { return Ok((all, Vec::new())) };
    let Some(last) = all.iter().position(|stage| stage.name == until.as_str()) else {
        return Err(format!("there is no stage `{until}`"));
    };
    let (mut stages, mut left_out) = (Vec::new(), Vec::new());
    for (place, stage) in all.into_iter().enumerate() {
        // Without the last one there is no verdict.
        if place <= last || stage.name == LAST {
            stages.push(stage);
        } else {
            left_out.push(stage.name);
        }
    }
    Ok((stages, left_out))
}

/// Refuses what would have to be left out silently: a run that passed without it would say that it was there.
///
/// # Errors
/// The first thing that the profile asks for and a machine cannot give.
pub fn suits(profile: &Profile) -> Result<(), Unsuitable> {
    let unsuitable = |what: String, why| Err(Unsuitable { what, why });
    let medium = &profile.medium;
    if let Some(file) = medium.files.first() {
        let why = "its management controller shows the image as it is. Leave the file away, or build it into the image";
        return unsuitable(format!("the staged file {}", assay_model::text::clean_to(&file.path, 100)), why);
    }
    if !medium.flash.is_empty() || medium.kind == MediumAs::Usb {
        let why = "its management controller shows the image as a CD. Set `[medium] as = \"cd\"`, or test the stick in \
                   a virtual machine";
        return unsuitable("a USB stick".to_owned(), why);
    }
    for phase in &profile.phases {
        if matches!(phase.channel, Channel::Screen | Channel::Progress) {
            let why = "its serial console is all that is read. Look for the marker there";
            return unsuitable(format!("the channel of phase {}", phase.name), why);
        }
        if !phase.replies.is_empty() {
            let why = "nobody types on it. Use an installer that asks nothing";
            return unsuitable(format!("a reply in phase {}", phase.name), why);
        }
    }
    if profile.power_cut.cuts() {
        let why = "its disks would be left half written. Cut the power of a virtual machine";
        return unsuitable("a power cut".to_owned(), why);
    }
    if profile.install.expect == InstallExpect::Refused {
        let why = "what is to be refused is laid out for a virtual machine. Use a profile that installs";
        return unsuitable("a refusal".to_owned(), why);
    }
    Ok(())
}

/// What a stage comes to that cannot be asked of a machine at all, where the profile asks for it.
pub(super) fn unverifiable(stage: &dyn ImageStage, input: &ImageInput<'_>) -> Option<Judgement> {
    let why = match stage.plan().name.as_str() {
        "Join" => {
            "whether it joins: a registered machine needs a control plane that it can reach, and the one that Assay \
             stands in for is on a network of virtual machines"
        }
        "Reconcile" => "what becomes of it in a cluster: that it joins was not seen",
        _ => return None,
    };
    input.spec.on.as_ref()?;
    stage.asked_for(input.spec).ok()?;
    let mut judgement = Judgement::error(why);
    judgement.verdict = Verdict::Unverified;
    judgement.unverified.push(why.to_owned());
    Some(judgement)
}

fn planned(stage: &dyn ImageStage, spec: &ImageSpec, boot_s: u64) -> StagePlan {
    let plan = stage.plan();
    if plan.owner == Owner::Orchestrator {
        return plan;
    }
    let profile = &spec.profile;
    let asked = stage.asked_for(spec).is_ok();
    // What these are about stands on the disks, too, and nobody reads those here: they can fail, and not pass whole.
    let in_part = ["Install", "Identify", "Join", "Reconcile"].contains(&plan.name.as_str());
    let boot = if wants(plan.name.as_str()) == Some(Wants::Medium) { boot_s } else { 0 };
    let limit = stage.limit_s(profile).saturating_add(boot).saturating_add(AIR_S);
    StagePlan {
        owner: Owner::Runner,
        required: asked && !in_part && stage.required(profile),
        timeout_s: u32::try_from(limit).unwrap_or(u32::MAX),
        ..plan
    }
}

#[cfg(test)]
#[path = "hardware_tests.rs"]
mod tests;
