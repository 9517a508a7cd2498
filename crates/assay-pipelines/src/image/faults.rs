//! Disks that fail on purpose: whether the fault was delivered, and whether the installer noticed.
//!
//! A fault that never struck proves nothing, and a success that is told after a disk has failed is none: both are said
//! here, whatever else the installation came to.

use assay_model::{Check, Finding, Severity, Verdict, text};

use super::evidence::{FaultSeen, Installed, Outcome};
use super::profile::{DiskFault, DiskSpec, Phase, Profile, Within};

/// What came of the faults that were ordered.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) checks: Vec<Check>,
    pub(super) findings: Vec<Finding>,
    /// Faults that were ordered and did not strike: with one of them there is no pass.
    pub(super) missed: Vec<String>,
    /// What else cannot be said.
    pub(super) unverified: Vec<String>,
}

/// Holds an installation to the faults that its disks had.
pub(super) fn faults(profile: &Profile, evidence: &Installed, specs: &[DiskSpec]) -> Faults {
    let mut out = Faults::default();
    let succeeded = evidence.watched.outcome == Outcome::Reached;
    let mut ordered = 0;
    for spec in specs {
        let Some(fault) = &spec.fault else { continue };
        ordered += 1;
        let words = words(fault);
        let seen = evidence.faults.iter().find(|seen| seen.disk == spec.name);
        let Some(seen) = seen.filter(|seen| delivered(seen)) else {
            out.missed
                .push(format!("what becomes of disk {} that is {words}: no request came to it", spec.name));
            continue;
        };
        let told = format!(
            "{} answered with an error, {} told to the guest{}",
            text::plural(count(seen.answered), "request"),
            seen.told,
            if seen.gone { ", and the disk was gone" } else { "" }
        );
        out.checks.push(check(&format!("fault of disk {}", spec.name), true, &words, &told));
        if !succeeded {
            continue;
        }
        if pulled_after_success(profile, fault) {
            out.unverified.push(format!(
                "disk {} was pulled after the success marker: nothing is held to that",
                spec.name
            ));
            continue;
        }
        out.checks.push(check(
            "success after a failed disk",
            false,
            "none",
            "the success marker was printed",
        ));
        let finding = Finding::new(
            "SuccessAfterDiskError",
            Severity::Critical,
            format!("the installer says that it is done, and disk {} was {words}: {told}", spec.name),
            "Look at the command that wrote there: its exit code, and that of the sync after it, has to end the installation.",
        );
        out.findings.push(finding.part("disk", None, Some(&spec.name)));
    }
    if ordered == 0 && evidence.disk_errors > 0 {
        let requests = text::plural(count(evidence.disk_errors), "request");
        out.unverified
            .push(format!("{requests} to disks failed, and no fault was ordered: has this host room?"));
    }
    out
}

/// Whether the guest met the fault.
fn delivered(seen: &FaultSeen) -> bool {
    seen.gone || (seen.answered > 0 && seen.told > 0)
}

/// Whether a disk is pulled when there is nothing left to be said about the installation.
fn pulled_after_success(profile: &Profile, fault: &DiskFault) -> bool {
    let DiskFault::Pulled { after } = fault else { return false };
    let place = |wanted: &dyn Fn(&Phase) -> bool| {
        profile.phases.iter().filter(|phase| phase.stage == Within::Install).position(wanted)
    };
    let success = profile.success_phase().map(|phase| phase.name.clone());
    let done = place(&|phase| Some(&phase.name) == success.as_ref());
    place(&|phase| phase.name == *after).zip(done).is_some_and(|(pulled, done)| pulled >= done)
}

fn words(fault: &DiskFault) -> String {
    match fault {
        DiskFault::WriteError { at } => format!("not writable at {at}"),
        DiskFault::ReadError { at } => format!("not readable at {at}"),
        DiskFault::Full { at } => format!("full from {at} on"),
        DiskFault::Pulled { after } => format!("pulled after phase {after}"),
    }
}

fn count(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn check(name: &str, ok: bool, expected: &str, seen: &str) -> Check {
    let verdict = if ok { Verdict::Pass } else { Verdict::Fail };
    Check { name: name.to_owned(), verdict, expected: expected.to_owned(), seen: text::clean(seen) }
}
