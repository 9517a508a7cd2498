//! Whether the machine is cleared: every disk that can be written has somebody's word, and every disk was seen.
//!
//! What is not known here is a "no": an installer that is let loose by mistake cannot be taken back.

use assay_model::host::clearance::{ClearanceDisk, ClearanceEvidence, MAX_DISKS};
use assay_model::host::inventory::Inventory;
use assay_model::host::smart::same_identity;
use assay_model::host::storage::{RefusalKind, WipeProbe};
use assay_model::text::{clean, clean_to, plural};
use assay_model::{Check, Coverage, Finding, Judgement, Severity, StageName, Verdict};

use super::NAME;
use crate::JudgeInput;
use crate::host::{consent, inventory, storage};

/// Longest part of a sentence that the machine chose.
const MAX_DETAIL: usize = 400;
/// PCI class of everything that disks hang on.
const STORAGE_CLASS: &str = "01";
const SAFE: &str = "nothing was written, and no installer was started";

pub(super) fn judge(evidence: &ClearanceEvidence, input: &JudgeInput<'_>) -> Judgement {
    if evidence.disks.len() > MAX_DISKS || evidence.hidden.len() > MAX_DISKS {
        return Judgement::error("the evidence of Clearance lists more disks than any machine has");
    }
    let mut cleared = Cleared::default();
    cleared.unverified.extend(evidence.problems.iter().map(|problem| clean_to(problem, MAX_DETAIL)));
    if let Some(refused) = consent::refusal(&evidence.permit, input.spec) {
        let (what, expected, seen) =
            refused.answered.unwrap_or(("cluster", "lets the machine go", "not known".to_owned()));
        cleared.check(what, Verdict::Fail, expected, &seen);
        cleared.findings.push(refused.finding);
    } else {
        cleared.all_seen(evidence, input);
        for disk in &evidence.disks {
            cleared.disk(disk, evidence);
        }
    }
    cleared.judgement(evidence)
}

#[derive(Default)]
struct Cleared {
    checks: Vec<Check>,
    findings: Vec<Finding>,
    unverified: Vec<String>,
    spoken_for: usize,
}

impl Cleared {
    fn check(&mut self, name: &str, verdict: Verdict, expected: &str, seen: &str) {
        let (expected, seen) = (expected.to_owned(), clean_to(seen, MAX_DETAIL));
        self.checks.push(Check { name: name.to_owned(), verdict, expected, seen });
    }

    /// Refuses the machine as a whole.
    fn refuse(&mut self, code: &str, asked: &str, says: &str, next_step: &str) {
        self.check(asked, Verdict::Fail, "yes", says);
        let message = format!("{}; {SAFE}", clean_to(says, MAX_DETAIL));
        self.findings
            .push(Finding::new(code, Severity::Critical, message, next_step).part("system", None, None));
    }

    /// Whether the disks that were looked at are all that an installer can find.
    fn all_seen(&mut self, evidence: &ClearanceEvidence, input: &JudgeInput<'_>) {
        const ALL: &str = "every disk was seen";
        let before = self.findings.len();
        let facts = input.evidence_of(inventory::NAME).map(Inventory::from_evidence);
        let Some(Ok(facts)) = facts else {
            let next_step = "Retry the run: its inventory is read again.";
            return self.refuse(
                "DisksHidden",
                ALL,
                "there is no inventory to compare the disks with",
                next_step,
            );
        };
        for controller in facts.driverless.iter().filter(|device| device.class.starts_with(STORAGE_CLASS)) {
            let says = format!(
                "the controller at {} ({}) has no driver in the live image, so its disks were not seen",
                clean(&controller.address),
                clean(&controller.vendor_device)
            );
            let next_step =
                "Add its driver or firmware to the live image, or switch the controller off in the firmware.";
            self.refuse("DisksHidden", ALL, &says, next_step);
        }
        for hidden in &evidence.hidden {
            let says = format!(
                "the controller at {} keeps {} to itself",
                clean(&hidden.address),
                plural(hidden.disks as usize, "disk")
            );
            let next_step =
                "Set the controller to AHCI in the firmware, so that every system sees the same disks.";
            self.refuse("DisksHidden", ALL, &says, next_step);
        }
        for disk in facts.disks.iter().filter(|disk| !evidence.disks.iter().any(|seen| seen.is(disk))) {
            let name = disk.serial.as_deref().or(disk.wwn.as_deref()).unwrap_or(&disk.name);
            let says = format!("disk {} was in the inventory and was not seen again", clean(name));
            let next_step =
                "Reseat the disk and its cable; a disk that comes and goes may be there for the installer.";
            self.refuse("DiskVanished", ALL, &says, next_step);
        }
        if evidence.disks.is_empty() {
            let next_step =
                "See whether the firmware lists the disks, and whether their controller is switched on.";
            self.refuse("DisksHidden", ALL, "not a single disk was seen", next_step);
        }
        if self.findings.len() == before {
            self.check(ALL, Verdict::Pass, "yes", &plural(evidence.disks.len(), "disk"));
        }
    }

    fn disk(&mut self, disk: &ClearanceDisk, evidence: &ClearanceEvidence) {
        let named = Named::of(disk);
        self.unverified
            .extend(disk.problems.iter().map(|problem| format!("{}: {}", named.label, clean(problem))));
        match word_for(disk, evidence) {
            Word::Given(seen) => {
                self.spoken_for += 1;
                self.check(&format!("{}: may be erased", named.label), Verdict::Pass, "yes", &seen);
            }
            Word::Unwritable(why) => {
                self.unverified.push(format!("{}: left out, as {why}", named.label));
            }
            Word::Refused(refusals) => {
                for (code, says, next_step) in refusals {
                    self.check(&format!("{}: may be erased", named.label), Verdict::Fail, "yes", &says);
                    let message = format!("{}: {}; {SAFE}", named.label, clean_to(&says, MAX_DETAIL));
                    let finding = Finding::new(code, Severity::Critical, message, next_step);
                    self.findings.push(finding.part("disk", None, named.serial.as_deref()));
                }
            }
        }
    }

    fn judgement(mut self, evidence: &ClearanceEvidence) -> Judgement {
        for finding in &mut self.findings {
            finding.stage = Some(StageName::from(NAME));
        }
        let total = evidence.disks.len() as u64;
        let covered = self.spoken_for as u64;
        let coverage = vec![Coverage { what: "disks that somebody has given up".to_owned(), covered, total }];
        let message = match self.findings.as_slice() {
            [] => format!("{} may be erased by the installer", plural(self.spoken_for, "disk")),
            [only] => only.message.clone(),
            [first, rest @ ..] => format!("{} (and {} more)", first.message, rest.len()),
        };
        let none = self.findings.is_empty() && self.spoken_for == 0;
        let mut judgement =
            Judgement::from_evidence(self.checks, self.findings, coverage, self.unverified, message);
        if none && judgement.verdict == Verdict::Pass {
            judgement.verdict = Verdict::Unverified;
            "no disk of the machine can be written, so there is nothing to install to"
                .clone_into(&mut judgement.message);
        }
        judgement
    }
}

/// The disk in findings.
struct Named {
    label: String,
    /// As a permit names it.
    serial: Option<String>,
}

impl Named {
    fn of(disk: &ClearanceDisk) -> Self {
        let (name, serial) = (clean(&disk.name), disk.label().map(clean));
        let label = match &serial {
            Some(serial) => format!("disk {serial} ({name})"),
            None => format!("disk {name}"),
        };
        Self { label, serial }
    }
}

/// A code, what was seen, and the next step.
type Refusal = (&'static str, String, &'static str);

/// Whether anybody has given a disk up.
enum Word {
    Given(String),
    Unwritable(&'static str),
    Refused(Vec<Refusal>),
}

fn word_for(disk: &ClearanceDisk, evidence: &ClearanceEvidence) -> Word {
    if disk.size_bytes == Some(0) {
        return Word::Unwritable("there is no medium in it");
    }
    if disk.refusals.iter().any(|refusal| refusal.why == RefusalKind::ReadOnly) {
        return Word::Unwritable("it cannot be written");
    }
    let mut refusals: Vec<Refusal> = disk
        .refusals
        .iter()
        .map(|refusal| {
            let (code, next_step) = refused(refusal.why);
            (code, clean(&refusal.detail), next_step)
        })
        .collect();
    let Some(label) = disk.label() else {
        refusals.push((
            "DiskNameless",
            "it tells neither serial number nor WWN, so no permit can name it".to_owned(),
            "Take the disk out of the machine for this run.",
        ));
        return Word::Refused(refusals);
    };
    let same = |other: &&ClearanceDisk| other.label().is_some_and(|other| same_identity(other, label));
    if evidence.disks.iter().filter(same).count() > 1 {
        refusals.push((
            "DiskShared",
            "another disk of this machine goes by the same name, so a permit for the one would be for both"
                .to_owned(),
            "Take one of them out, or see that its serial number is read right.",
        ));
    }
    match &disk.probe {
        Some(probe) => refusals.extend(unspoken(disk, probe)),
        // A disk that was not claimed is not read; why not stands there already.
        None if refusals.is_empty() => refusals.push(unread("nothing was read of it")),
        None => {}
    }
    match &disk.probe {
        Some(probe) if refusals.is_empty() && disk.data_permitted => {
            let holds = if probe.holds_data() { storage::what_it_holds(probe) } else { "nothing".to_owned() };
            Word::Given(format!("an operator permitted it; it held {holds}"))
        }
        _ if refusals.is_empty() => Word::Given("named by the spec, and empty".to_owned()),
        _ => Word::Refused(refusals),
    }
}

/// What was seen on a disk that nobody has said may go.
fn unspoken(disk: &ClearanceDisk, probe: &WipeProbe) -> Option<Refusal> {
    if disk.data_permitted {
        return None;
    }
    if probe.holds_data() {
        let says = format!("it holds data: {}", storage::what_it_holds(probe));
        let next_step = "Save what is needed; if it may be erased, permit it with the disk's serial number, and the stage runs again.";
        return Some(("UnexpectedData", says, next_step));
    }
    if probe.unreadable_bytes > 0 {
        return Some(unread(&format!("{} bytes of it could not be read", probe.unreadable_bytes)));
    }
    if probe.read_bytes == 0 {
        return Some(unread("nothing was read of it"));
    }
    (!disk.named).then(|| {
        let says = "it seems to be empty, but nobody has said that it may be erased".to_owned();
        let next_step =
            "Permit it with its serial number, name it in the host's spec, or take it out of the machine.";
        ("EraseNotPermitted", says, next_step)
    })
}

fn unread(says: &str) -> Refusal {
    let next_step = "Reseat the disk and its cable, and retry; replace it if it cannot be read again.";
    ("SurfaceUnreadable", format!("{says}, so nobody knows what it holds"), next_step)
}

const fn refused(why: RefusalKind) -> (&'static str, &'static str) {
    match why {
        RefusalKind::InUse | RefusalKind::BootMedium => (
            "DiskInUse",
            "Find out what uses it and release it: the live image must not hold a disk that an installer may erase.",
        ),
        RefusalKind::Removable => {
            ("DiskRemovable", "Take the medium out, or unmap it in the management controller.")
        }
        RefusalKind::Shared => {
            ("DiskShared", "Unmap it from this machine: other machines may have a way to it.")
        }
        RefusalKind::Swapped => {
            ("DiskSwapped", "Find out who changed disks meanwhile, then retry with a fresh inventory.")
        }
        RefusalKind::Vanished | RefusalKind::Absent => (
            "DiskVanished",
            "Reseat the disk and its cable; a disk that comes and goes may be there for the installer.",
        ),
        // The agent says these of no disk here; should it, that is no word for the disk.
        RefusalKind::NotPermitted | RefusalKind::HoldsData => {
            ("EraseNotPermitted", "Permit it with its serial number, or take it out of the machine.")
        }
        RefusalKind::Unreadable | RefusalKind::ReadOnly => (
            "SurfaceUnreadable",
            "Reseat the disk and its cable, and retry; replace it if it cannot be read again.",
        ),
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
