//! The stage `Install`: the installation runs, ends, and what it did to the disks is read from outside.
//!
//! The installer's own word counts for little here: a success that no disk shows, or that comes before the work, is
//! none, and a disk that was to stay as it was is compared byte for byte.

use assay_console::Rung;
use assay_model::check::bytes;
use assay_model::{
    Check, Coverage, Finding, Judgement, Owner, Severity, StageName, StagePlan, Verdict, text,
};

use super::evidence::{DiskAfter, Installed, Outcome};
use super::outcome::{runner_fault, told};
use super::power::{self, After};
use super::profile::{DiskHolds, DiskRole, DiskSpec, Ends, InstallExpect, Profile, Within};
use super::{ImageInput, ImageSpec, ImageStage, faults, judged, metal};

/// What an installer may still write after it has said that it is done: journals, logs, unmounting.
const AFTERTHOUGHT: u64 = 16 << 20;

/// The installation.
pub(crate) struct Install;

impl ImageStage for Install {
    fn plan(&self) -> StagePlan {
        StagePlan { name: StageName::from("Install"), owner: Owner::Agent, required: true, timeout_s: 60 }
    }

    fn asked_for(&self, spec: &ImageSpec) -> Result<(), &'static str> {
        let asked = spec.profile.phases.iter().any(|phase| phase.stage == Within::Install);
        if asked { Ok(()) } else { Err("the profile names no phase of an installation") }
    }

    fn limit_s(&self, profile: &Profile) -> u64 {
        let phases = profile.phases.iter().filter(|phase| phase.stage == Within::Install);
        let phases: u64 = phases.map(|phase| phase.timeout.0.as_secs()).sum();
        phases + profile.install.timeout.0.as_secs() + 300
    }

    fn judge(&self, input: &ImageInput<'_>) -> Judgement {
        judged(self, input, |evidence: &Installed| judge(input, evidence))
    }
}

fn judge(input: &ImageInput<'_>, evidence: &Installed) -> Judgement {
    if let Some(why) = runner_fault(&evidence.watched) {
        return Judgement::error(why);
    }
    if input.is_of_metal() {
        return metal::installed(input, evidence);
    }
    let profile = input.profile();
    let specs = profile.machine.all_disks();
    if let Some(unread) = specs.iter().find(|spec| evidence.disks.iter().all(|disk| disk.name != spec.name)) {
        return Judgement::error(format!("the runner did not read disk {}", unread.name));
    }
    let mut told = told(&evidence.watched, profile, Within::Install, Rung::Userspace);
    let reached = evidence.watched.outcome == Outcome::Reached;
    let after_cut = evidence.cut.as_ref().map(|_| power::after(profile, &evidence.watched));
    // A system that came up by itself after a power cut was not installed by what was watched.
    let succeeded = reached && after_cut.as_ref().is_none_or(|after| *after == After::Installed);
    let mut coverage = std::mem::take(&mut told.coverage);
    let mut unverified = Vec::new();
    let mut faults = faults::faults(profile, evidence, &specs);
    told.checks.append(&mut faults.checks);
    told.findings.append(&mut faults.findings);
    unverified.append(&mut faults.unverified);
    let refusal = refusal(profile, evidence, after_cut.as_ref());
    if let Some(line) = &refusal {
        // What comes after a refusal is not expected, and the refusal is no failure.
        told.checks.retain(|check| check.verdict != Verdict::Fail);
        told.findings.retain(|f| f.severity != Severity::Critical || f.code == "SecretOnConsole");
        told.checks.push(check("refusal", true, "a line that the profile names", line));
    } else if profile.install.expect == InstallExpect::Refused && reached && faults.missed.is_empty() {
        // A machine on which nothing went wrong is rightly installed onto.
        told.checks.push(check(
            "refusal",
            false,
            "a line that the profile names",
            "the installation went through",
        ));
        if !told.findings.iter().any(|finding| finding.code == "SuccessAfterDiskError") {
            told.findings.push(Finding::new(
                "InstalledInSpite",
                Severity::Critical,
                "the installation was to be refused on this machine, and it succeeded".to_owned(),
                "Look at what is wrong with the machine (its disks, what they hold): the installer has to look first.",
            ));
        }
    }
    if let Some(cut) = &evidence.cut {
        power::told(cut, &mut told.checks);
        if after_cut == Some(After::CameUp) {
            told.checks.retain(|check| !check.name.starts_with("phase "));
            unverified.extend(power::came_up(profile, &evidence.disks, &mut told.checks, &mut told.findings));
        }
    } else if profile.power_cut.cuts() && reached {
        faults.missed.push("what becomes of a machine whose power is cut: it was not".to_owned());
    }
    if succeeded {
        ending(profile, evidence, &mut told.checks, &mut told.findings);
        unverified.extend(work(profile, evidence, &mut told.checks, &mut told.findings));
    }
    let mut proven = 0;
    for disk in &evidence.disks {
        let Some(spec) = specs.iter().find(|spec| spec.name == disk.name) else { continue };
        // A disk that must not change is held to that however the installation went; the others only after a success.
        if spec.expect == DiskRole::Untouched || succeeded {
            held_to(spec, disk, &mut told.checks, &mut told.findings);
            proven += 1;
        }
    }
    typing(profile, evidence.watched.input, &mut told.checks, &mut told.findings);
    unverified.extend(staged(profile, evidence, succeeded, &mut told.checks, &mut told.findings));
    coverage.push(Coverage {
        what: "disks read from outside".to_owned(),
        covered: proven,
        total: specs.len() as u64,
    });
    let message = if let Some(finding) = told.findings.iter().find(|f| f.severity == Severity::Critical) {
        finding.message.clone()
    } else if let Some(missed) = faults.missed.first() {
        format!("not seen: {missed}")
    } else if let Some(line) = refusal {
        let after = if evidence.cut.is_some() { " after the power cut" } else { "" };
        format!("refused{after}, as it should be: {line}")
    } else {
        let taken = evidence.disks.iter().filter(|disk| disk.changed).count();
        format!(
            "{}installed in {:.1} s onto {taken} of {}, {} written; {}",
            if evidence.cut.is_some() { "its power was cut, and then it " } else { "" },
            evidence.watched.seconds,
            text::plural(evidence.disks.len(), "disk"),
            bytes(evidence.written),
            evidence.ended
        )
    };
    let missed = !faults.missed.is_empty();
    unverified.append(&mut faults.missed);
    let mut judgement = Judgement::from_evidence(told.checks, told.findings, coverage, unverified, message);
    if missed && judgement.verdict == Verdict::Pass {
        judgement.verdict = Verdict::Unverified;
    }
    judgement
}

/// The line by which the machine refused, where a refusal is right: on a machine with something wrong, or after a power
/// cut. One that came without the fault that it is about, or after a success, is none.
fn refusal(profile: &Profile, evidence: &Installed, after_cut: Option<&After>) -> Option<String> {
    if let Some(After::Refused(line) | After::Old(line)) = after_cut {
        return Some(line.clone());
    }
    if profile.install.expect != InstallExpect::Refused {
        return None;
    }
    let Outcome::Failed { code, line, .. } = &evidence.watched.outcome else { return None };
    let success = profile.success_phase().map(|phase| &phase.name);
    let told = evidence.watched.phases.iter().any(|phase| Some(&phase.name) == success);
    (code == "FailMarker" && !told).then(|| super::outcome::line(line))
}

/// Whether the machine did at the end what the profile says.
pub(super) fn ending(
    profile: &Profile,
    evidence: &Installed,
    checks: &mut Vec<Check>,
    findings: &mut Vec<Finding>,
) {
    let wanted = match profile.install.ends {
        Ends::Any => return,
        Ends::Reboot => "rebooted",
        Ends::PowerOff => "powered-off",
        Ends::StaysOn => "stayed-on",
    };
    let ok = evidence.ended == wanted;
    checks.push(check("end of the installation", ok, wanted, &evidence.ended));
    if !ok {
        findings.push(Finding::new(
            "InstallEndedOtherwise",
            Severity::Critical,
            format!("the machine {} after its installation, and should have {wanted}", evidence.ended),
            "Look at the end of the console: what did the installer do after its last phase?",
        ));
    }
}

/// Whether the success that was told is one: there was work, and it came before. Returns what cannot be said.
fn work(
    profile: &Profile,
    evidence: &Installed,
    checks: &mut Vec<Check>,
    findings: &mut Vec<Finding>,
) -> Option<String> {
    let written = evidence.written;
    let any = evidence.disks.iter().any(|disk| disk.changed);
    checks.push(check("work", any, "some disk was changed", &format!("{} written", bytes(written))));
    if !any {
        findings.push(Finding::new(
            "NothingInstalled",
            Severity::Critical,
            "the installer says that it is done, and no disk was changed".to_owned(),
            "Its success marker does not stand behind the work that it tells of.",
        ));
        return None;
    }
    let success = profile.success_phase().map(|phase| &phase.name);
    let seen = evidence.watched.phases.iter().find(|phase| Some(&phase.name) == success);
    let Some(before) = seen.and_then(|phase| phase.written) else {
        return Some(
            "whether success came after the work: what was written by then was not counted".to_owned(),
        );
    };
    let after = written.saturating_sub(before);
    // A small installation is no afterthought of nothing.
    let ok = before > 0 && after <= AFTERTHOUGHT.max(written / 20);
    let seen = format!("{} of {} written after it", bytes(after), bytes(written));
    checks.push(check("success after the work", ok, "next to nothing is written after it", &seen));
    if !ok {
        findings.push(Finding::new(
            "SuccessBeforeWork",
            Severity::Critical,
            format!("the success marker came too early: {seen}"),
            "Print it after everything is written, synced and read back; a cut in power after it must find a whole system.",
        ));
    }
    None
}

/// Whether a disk became what it was to become.
fn held_to(spec: &DiskSpec, disk: &DiskAfter, checks: &mut Vec<Check>, findings: &mut Vec<Finding>) {
    let name = format!("disk {}", spec.name);
    let mut find = |code: &str, message: String, next: &str| {
        let finding = Finding::new(code, Severity::Critical, message, next);
        findings.push(finding.part("disk", None, Some(&spec.name)));
    };
    let changed = || {
        let at = disk.first_change.map_or_else(String::new, |at| format!(", the first at byte {at}"));
        format!("{} blocks of 4 KiB differ{at}", disk.changed_blocks)
    };
    // What was not written to is as the profile laid it out, and its faults are no installer's.
    if let Some(problem) = &disk.problem
        && spec.expect != DiskRole::Untouched
        && disk.changed
    {
        checks.push(check(&name, false, "readable", problem));
        find(
            "DiskUnreadable",
            format!("disk {} cannot be read after the installation: {}", spec.name, text::clean(problem)),
            "Look at what the installer wrote there: a partition table or a file system is broken.",
        );
        return;
    }
    match spec.expect {
        DiskRole::Any => {}
        DiskRole::Untouched => {
            let seen = if disk.changed { changed() } else { "the same, byte for byte".to_owned() };
            checks.push(check(&name, !disk.changed, "untouched", &seen));
            if disk.changed && spec.holds != DiskHolds::Blank {
                find(
                    "OccupiedDiskWritten",
                    format!(
                        "disk {} held data ({:?}) and was written to: {}",
                        spec.name,
                        spec.holds,
                        changed()
                    ),
                    "An installer that does this destroys what people forgot on a disk. It has to look first and refuse.",
                );
            } else if disk.changed {
                find(
                    "WrongDiskWritten",
                    format!("disk {} was to stay as it was, and was written to: {}", spec.name, changed()),
                    "Look at how the installer chooses its disks: removable, read-only, too small, or its own medium.",
                );
            }
        }
        DiskRole::Boot => {
            // An earlier installation may have left something to boot on a disk that was not taken.
            let ok = disk.changed && disk.bootable;
            let seen = match (disk.changed, disk.bootable) {
                (false, _) => "not taken",
                (true, true) => "something to boot",
                (true, false) => "nothing to boot",
            };
            checks.push(check(&name, ok, "the disk to boot from", seen));
            if !ok {
                let what = if disk.changed {
                    "was written to, and the firmware finds nothing to start on it"
                } else {
                    "was not taken"
                };
                find(
                    if disk.changed { "NoBootloader" } else { "DiskNotTaken" },
                    format!("disk {} was to become the one to boot from, and {what}", spec.name),
                    "Look at the order in which the installer prefers disks, and at what it says of its boot loader.",
                );
            }
        }
        DiskRole::Data => {
            checks.push(check(
                &name,
                disk.changed,
                "a data disk",
                if disk.changed { "taken" } else { "not taken" },
            ));
            if !disk.changed {
                find(
                    "DiskNotTaken",
                    format!("disk {} was to become a data disk, and was not touched", spec.name),
                    "Look at the list of disks that the installer prints: why is this one not among them?",
                );
            }
        }
    }
    for label in &spec.labels {
        let there = disk.volumes.iter().any(|volume| volume.label == *label || volume.fs_label == *label);
        let seen: Vec<_> = disk
            .volumes
            .iter()
            .map(|v| text::clean(if v.fs_label.is_empty() { &v.label } else { &v.fs_label }))
            .collect();
        let seen = text::clean_to(&seen.join(", "), 400);
        checks.push(check(&name, there, &format!("label `{label}`"), &seen));
        if !there {
            find(
                "DiskLabelWrong",
                format!("disk {} has no volume labelled `{label}`; there are: {seen}", spec.name),
                "Disks were taken in another order than expected, or partitioned otherwise.",
            );
        }
    }
}

/// An image that promises that nobody types is held to it.
fn typing(profile: &Profile, input: u64, checks: &mut Vec<Check>, findings: &mut Vec<Finding>) {
    if !profile.medium.zero_typing {
        return;
    }
    checks.push(check("typing", input == 0, "nothing was typed", &format!("{input} bytes and keys")));
    if input > 0 {
        findings.push(Finding::new(
            "TypedInto",
            Severity::Critical,
            format!("{input} bytes or keys were put into a machine that needs none"),
            "This is a fault of the test: report it.",
        ));
    }
}

/// Whether the machine said that it has read what was staged: what was not read cannot have counted.
pub(super) fn staged(
    profile: &Profile,
    evidence: &Installed,
    succeeded: bool,
    checks: &mut Vec<Check>,
    findings: &mut Vec<Finding>,
) -> Vec<String> {
    let mut unverified = Vec::new();
    for file in &profile.medium.files {
        let path = text::clean(&file.path);
        if file.read.is_none() {
            unverified.push(format!("whether {path} was read: the profile names no line that says so"));
            continue;
        }
        let line = evidence.watched.staged_read.get(&file.path);
        if line.is_none() && !succeeded {
            unverified.push(format!("whether {path} was read: the installation did not get to its end"));
            continue;
        }
        let seen = line.map_or_else(|| "no line says so".to_owned(), |line| super::outcome::line(line));
        checks.push(check(
            &format!("staged {path}"),
            line.is_some(),
            "the machine says that it has read it",
            &seen,
        ));
        if line.is_none() {
            findings.push(Finding::new(
                "StagedFileIgnored",
                Severity::Critical,
                format!("nothing shows that the machine has read the staged {path}"),
                "Whatever passed, passed without it. Look at where the installer looks for staged files.",
            ));
        }
    }
    unverified
}

fn check(name: &str, ok: bool, expected: &str, seen: &str) -> Check {
    let verdict = if ok { Verdict::Pass } else { Verdict::Fail };
    Check { name: name.to_owned(), verdict, expected: expected.to_owned(), seen: text::clean(seen) }
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
