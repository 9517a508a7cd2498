//! After a power cut: a new system that is whole, the old one, or a refusal in plain words. Anything else is half a
//! system, and the worst half is the one that looks well.

use assay_model::{Check, Finding, Judgement, Severity, Verdict, text};

use super::ImageInput;
use super::evidence::{DiskAfter, Installed, Outcome, PowerCut, Watched};
use super::profile::Profile;

/// How a refusal that the profile names is called, as an outcome.
pub(crate) const REFUSED: &str = "Refused";
/// How the old system is called, as an outcome.
pub(crate) const OLD: &str = "OldSystem";

/// What a machine came to after its power was cut in the middle of an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// It installed, from the beginning or from where it was, to the end.
    Installed,
    /// It refused, by a line that the profile names.
    Refused(String),
    /// The old system came up.
    Old(String),
    /// A system came up that the installer never called done.
    CameUp,
    /// None of these.
    Lost,
}

/// What it came to.
pub(super) fn after(profile: &Profile, watched: &Watched) -> After {
    match &watched.outcome {
        Outcome::Failed { code, line, .. } if code == REFUSED => After::Refused(super::outcome::line(line)),
        Outcome::Failed { code, line, .. } if code == OLD => After::Old(super::outcome::line(line)),
        Outcome::Reached => {
            let success = profile.success_phase().map(|phase| &phase.name);
            let done = watched.phases.iter().any(|phase| Some(&phase.name) == success);
            if done { After::Installed } else { After::CameUp }
        }
        _ => After::Lost,
    }
}

/// Whether it refused, or went back to the old system: then nothing new is installed.
pub(super) fn is_refusal(watched: &Watched) -> bool {
    matches!(&watched.outcome, Outcome::Failed { code, .. } if code == REFUSED || code == OLD)
}

/// What a stage after the installation has to say where a power cut left nothing installed, and that was right.
pub(super) fn refused_before(input: &ImageInput<'_>) -> Option<Judgement> {
    let installed: Installed = input.earlier("Install")?;
    if installed.cut.is_none() || !is_refusal(&installed.watched) {
        return None;
    }
    let said = match after(input.profile(), &installed.watched) {
        After::Refused(line) => format!("refused: {line}"),
        After::Old(line) => format!("the old system: {line}"),
        _ => return None,
    };
    let checks = vec![check("after the power cut", true, "nothing new is installed", &said)];
    let message = "nothing is installed, and the machine said so after its power was cut";
    Some(Judgement::from_evidence(checks, Vec::new(), Vec::new(), Vec::new(), message))
}

/// What the cut itself shows.
pub(super) fn told(cut: &PowerCut, checks: &mut Vec<Check>) {
    let changed = cut.disks.iter().filter(|disk| disk.changed).count();
    let last = cut.before.phases.last().map_or("the beginning", |phase| phase.name.as_str());
    let drawn = cut.drawn_s.map_or_else(
        || "with the marker".to_owned(),
        |drawn| format!("{drawn:.3} s were drawn from seed {}", cut.seed),
    );
    let written: u64 = cut.disks.iter().map(|disk| disk.written).sum();
    let seen = format!(
        "after {:.1} s, after {last} ({drawn}); {changed} of {} changed, {} written",
        cut.at_s,
        text::plural(cut.disks.len(), "disk"),
        assay_model::check::bytes(written),
    );
    checks.push(check("power cut", true, "in the middle of the installation", &seen));
}

/// A system that came up, and that nobody called done: whether it is whole.
pub(super) fn came_up(
    profile: &Profile,
    disks: &[DiskAfter],
    checks: &mut Vec<Check>,
    findings: &mut Vec<Finding>,
) -> Option<String> {
    let wanted = profile.identify.as_ref().map_or(0, |identify| identify.contents.len());
    if wanted == 0 {
        return Some(
            "whether the system that came up after the power cut is whole: the profile names nothing that must be on its \
             disks (identify.content)"
                .to_owned(),
        );
    }
    let missing = missing(profile, disks);
    let seen = if missing.is_empty() {
        "all of it".to_owned()
    } else {
        format!("not there: {}", missing.join(", "))
    };
    checks.push(check(
        "system after the power cut",
        missing.is_empty(),
        "all that the profile names is on its disks",
        &seen,
    ));
    if !missing.is_empty() {
        findings.push(half(&format!("a system came up after the power cut that is not whole: {seen}")));
    }
    None
}

/// The finding of half a system.
pub(super) fn half(message: &str) -> Finding {
    Finding::new(
        "HalfInstalled",
        Severity::Critical,
        text::clean_to(message, 400),
        "Make the disk bootable last, after everything else is written and synced; until then the machine must find \
         nothing to boot, or the installer must start over or refuse.",
    )
}

/// What the profile wants on the disks and is not there.
pub(crate) fn missing(profile: &Profile, disks: &[DiskAfter]) -> Vec<String> {
    let specs = profile.machine.all_disks();
    let mut missing = Vec::new();
    for content in profile.identify.iter().flat_map(|identify| &identify.contents) {
        for spec in specs.iter().filter(|spec| spec.expect == content.disk) {
            let volumes = disks.iter().filter(|disk| disk.name == spec.name).flat_map(|disk| &disk.volumes);
            let labelled = |label: &String| *label == content.label;
            let volume = volumes.clone().find(|v| labelled(&v.label) || labelled(&v.fs_label));
            let Some(volume) = volume else {
                missing.push(format!("{} on {}", content.label, spec.name));
                continue;
            };
            if content.fs.as_ref().is_some_and(|fs| *fs != volume.fs) {
                missing.push(format!("{} in {}", content.fs.clone().unwrap_or_default(), content.label));
            }
            // A file that is there and empty was on its way when the power went.
            let there = |path: &&String| {
                volume.files.get(*path).is_some_and(|file| file.bytes.is_some_and(|bytes| bytes > 0))
            };
            let wanted = content.files.iter().chain(&content.hostname_in);
            missing.extend(
                wanted.filter(|path| !there(path)).map(|path| format!("{path} in {}", content.label)),
            );
        }
    }
    missing
}

fn check(name: &str, ok: bool, expected: &str, seen: &str) -> Check {
    let verdict = if ok { Verdict::Pass } else { Verdict::Fail };
    Check { name: name.to_owned(), verdict, expected: expected.to_owned(), seen: text::clean(seen) }
}
