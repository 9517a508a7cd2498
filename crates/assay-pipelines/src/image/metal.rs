//! What the console of a registered machine can prove and what it cannot: a judge that knows no more than that passes
//! nothing that would have to be seen on disks, on a screen, or on a network.

use assay_console::Rung;
use assay_model::{Coverage, Finding, Judgement, Severity, Verdict};

use super::evidence::{Installed, Outcome, Watched};
use super::outcome::told;
use super::profile::{Ends, InstallExpect, Within};
use super::{ImageInput, install};

/// An installation of which nothing is known but what the machine said. It can fail, and not pass.
pub(super) fn installed(input: &ImageInput<'_>, evidence: &Installed) -> Judgement {
    let (profile, watched) = (input.profile(), &evidence.watched);
    let mut told = told(watched, profile, Within::Install, Rung::Userspace);
    let reached = watched.outcome == Outcome::Reached;
    let disks = profile.machine.all_disks();
    let mut unverified = vec![
        "what became of its disks, and of those that were to stay as they were: nobody reads the disks of a registered \
         machine from outside"
            .to_owned(),
    ];
    if reached && evidence.ended != "unknown" {
        install::ending(profile, evidence, &mut told.checks, &mut told.findings);
    } else if reached && profile.install.ends != Ends::Any {
        unverified.push("how the machine ended its installation: its console did not tell".to_owned());
    }
    if profile.install.expect == InstallExpect::Refused && reached {
        unverified
            .push("that the installation is refused: what it is to be refused for was not there".to_owned());
    }
    if disks.iter().any(|disk| disk.fault.is_some()) {
        unverified.push("what becomes of disks that fail: none was made to".to_owned());
    }
    if profile.power_cut.cuts() {
        unverified.push("what becomes of a machine whose power is cut: it was not".to_owned());
    }
    if profile.medium.zero_typing {
        unverified.push("that nobody typed: the runner did not, and sees nobody else who does".to_owned());
    }
    unverified.extend(install::staged(profile, evidence, reached, &mut told.checks, &mut told.findings));
    let total = disks.len() as u64;
    told.coverage.push(Coverage { what: "disks read from outside".to_owned(), covered: 0, total });
    let message = first(&told.findings).unwrap_or_else(|| {
        format!("by its console, it installed in {:.1} s; its disks were not read", watched.seconds)
    });
    let (checks, findings, coverage) = (told.checks, told.findings, told.coverage);
    not_whole(Judgement::from_evidence(checks, findings, coverage, unverified, message))
}

/// What the console leaves open of a boot that is to get to this rung.
pub(super) fn booted(input: &ImageInput<'_>, rung: Rung, watched: &Watched) -> Vec<String> {
    let open = input.is_of_metal() && rung < Rung::Kernel && watched.phases.is_empty();
    // The machine asks its network first, and what answers there has a boot loader, too.
    open.then(|| "whether it was the medium's boot loader that was heard, and not the network's".to_owned())
        .into_iter()
        .collect()
}

/// What the console leaves open of the first boot from the disks.
pub(super) fn rebooted(input: &ImageInput<'_>, watched: &Watched) -> Vec<String> {
    let began = watched.rungs.iter().any(|seen| seen.rung < Rung::Userspace);
    let open = input.is_of_metal() && !began && watched.outcome == Outcome::Reached;
    // Without that, it may be the installer that is still heard.
    open.then(|| {
        "whether the machine restarted: neither firmware nor boot loader nor kernel was heard on its console"
            .to_owned()
    })
    .into_iter()
    .collect()
}

/// A pass that leaves something open is none.
pub(super) fn not_whole(judgement: Judgement) -> Judgement {
    match judgement.verdict {
        Verdict::Pass if !judgement.unverified.is_empty() => {
            Judgement { verdict: Verdict::Unverified, ..judgement }
        }
        _ => judgement,
    }
}

fn first(findings: &[Finding]) -> Option<String> {
    findings
        .iter()
        .find(|finding| finding.severity == Severity::Critical)
        .map(|finding| finding.message.clone())
}

#[cfg(test)]
#[path = "metal_tests.rs"]
mod tests;
