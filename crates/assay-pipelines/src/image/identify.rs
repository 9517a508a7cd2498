//! The stage `Identify`: who the installed machine is, and whether what the profile wants is on its disks.

use std::collections::BTreeSet;

use assay_model::{
    Check, Coverage, Finding, Judgement, Owner, Severity, StageName, StagePlan, Verdict, text,
};
use regex::Regex;

use super::evidence::{DiskAfter, Identified, Installed, OtherMachine, Outcome, Rebooted, Watched};
use super::outcome::{outcome, runner_fault};
use super::profile::{ContentSpec, IdentifySpec, InstallExpect, Profile};
use super::{ImageInput, ImageSpec, ImageStage, judged, power};

/// Who the machine is.
pub(crate) struct Identify;

impl ImageStage for Identify {
    fn plan(&self) -> StagePlan {
        StagePlan { name: StageName::from("Identify"), owner: Owner::Agent, required: true, timeout_s: 60 }
    }

    fn asked_for(&self, spec: &ImageSpec) -> Result<(), &'static str> {
        if spec.profile.install.expect == InstallExpect::Refused {
            return Err("the installation is to be refused");
        }
        spec.profile
            .identify
            .as_ref()
            .map(drop)
            .ok_or("the profile says nothing of who the machine is ([identify])")
    }

    fn limit_s(&self, profile: &Profile) -> u64 {
        let Some(identify) = &profile.identify else { return 60 };
        // Each further machine is a whole installation.
        let further = u64::from(identify.machines.saturating_sub(1) + u32::from(identify.stable_on_repair));
        let one = profile.boot.timeout.0.as_secs()
            + profile.install.timeout.0.as_secs()
            + profile.reboot.timeout.0.as_secs()
            + profile.phases.iter().map(|phase| phase.timeout.0.as_secs()).sum::<u64>();
        60 + further * one
    }

    fn judge(&self, input: &ImageInput<'_>) -> Judgement {
        power::refused_before(input)
            .unwrap_or_else(|| judged(self, input, |evidence: &Identified| judge(input, evidence)))
    }
}

#[derive(Default)]
struct Told {
    checks: Vec<Check>,
    findings: Vec<Finding>,
    unverified: Vec<String>,
}

impl Told {
    fn check(&mut self, name: &str, ok: bool, expected: &str, seen: &str) {
        let verdict = if ok { Verdict::Pass } else { Verdict::Fail };
        let (name, expected, seen) = (name.to_owned(), text::clean(expected), text::clean(seen));
        self.checks.push(Check { name, verdict, expected, seen });
    }

    fn find(&mut self, code: &str, message: String, next: &str) {
        self.findings.push(Finding::new(code, Severity::Critical, message, next));
    }
}

fn judge(input: &ImageInput<'_>, evidence: &Identified) -> Judgement {
    let profile = input.profile();
    let Some(identify) = &profile.identify else {
        return Judgement::error("the profile has no [identify]");
    };
    let machines = || evidence.others.iter().chain(&evidence.repaired);
    let watched = machines().flat_map(|m| std::iter::once(&m.install).chain(&m.reboot));
    if let Some(why) = watched.clone().find_map(runner_fault) {
        return Judgement::error(why);
    }
    let installed: Option<Installed> = input.earlier("Install");
    let rebooted: Option<Rebooted> = input.earlier("Reboot");
    let mut told = Told::default();
    // The first machine's were told by the stages that watched it.
    for leak in watched.flat_map(|watched| &watched.leaks) {
        told.findings.push(super::outcome::leaked(leak));
    }
    let first = installed.as_ref().zip(rebooted.as_ref());
    let name = first.and_then(|(i, r)| one_machine(&mut told, identify, "", &i.watched, Some(&r.watched)));
    if first.is_none() {
        told.unverified.push("the host name: the evidence of Install and Reboot is not there".to_owned());
    }
    unique(&mut told, identify, evidence, name.as_deref());
    repaired(&mut told, identify, evidence, name.as_deref());
    let mut wanted = 0;
    if let Some(installed) = &installed {
        for content in &identify.contents {
            if input.is_of_metal() {
                let what = format!(
                    "`{}`: nobody reads the disks of a registered machine from outside",
                    text::clean(&content.label)
                );
                told.unverified.push(what);
                continue;
            }
            wanted += contents(&mut told, profile, content, &installed.disks, name.as_deref());
        }
    }
    let message = match (told.findings.first(), &name) {
        (Some(finding), _) => finding.message.clone(),
        (None, Some(name)) => format!("it is {}", text::clean(name)),
        (None, None) => "no host name was seen".to_owned(),
    };
    let coverage = [
        Coverage {
            what: "machines installed from the medium".to_owned(),
            covered: 1 + evidence.others.len() as u64,
            total: u64::from(identify.machines),
        },
        Coverage {
            what: "volumes looked into".to_owned(),
            covered: wanted,
            total: identify.contents.len() as u64,
        },
    ];
    let coverage =
        coverage.into_iter().filter(|c| c.total > 1 || c.what.starts_with("volumes") && c.total > 0);
    let judgement =
        Judgement::from_evidence(told.checks, told.findings, coverage.collect(), told.unverified, message);
    // Each of these the profile asks for: what was not seen is no pass because the rest was.
    match judgement.verdict {
        Verdict::Pass if !judgement.unverified.is_empty() => {
            Judgement { verdict: Verdict::Unverified, message: judgement.unverified[0].clone(), ..judgement }
        }
        _ => judgement,
    }
}

/// The name that one machine announced and shows; said what is wrong with it.
fn one_machine(
    told: &mut Told,
    identify: &IdentifySpec,
    which: &str,
    install: &Watched,
    reboot: Option<&Watched>,
) -> Option<String> {
    let by = |watched: &Watched, by: &str| {
        watched.names.iter().rev().find(|seen| seen.by == by).map(|seen| seen.name.clone())
    };
    let announced = by(install, "announced");
    let shown = reboot.and_then(|reboot| by(reboot, "banner"));
    if identify.announced.is_some() {
        let seen = announced.as_deref().unwrap_or("nothing");
        told.check(&format!("{which}host name announced"), announced.is_some(), "by the installer", seen);
        if announced.is_none() {
            told.find(
                "HostnameNotAnnounced",
                format!("{which}the installer announced no host name"),
                "Look for the line that identify.announced is to match.",
            );
        }
    }
    let seen = shown.as_deref().unwrap_or("nothing");
    told.check(&format!("{which}host name shown"), shown.is_some(), "by the installed system", seen);
    let Some(shown) = shown else {
        told.find(
            "HostnameNotShown",
            format!("{which}the installed system shows no host name"),
            "Look for the line that identify.banner is to match.",
        );
        return announced;
    };
    let fits =
        Regex::new(&format!("^(?:{})$", identify.hostname)).is_ok_and(|wanted| wanted.is_match(&shown));
    told.check(&format!("{which}host name"), fits, &format!("`{}`", identify.hostname), &shown);
    if !fits {
        told.find(
            "HostnameWrong",
            format!("{which}the machine calls itself `{}`", text::clean(&shown)),
            "Look at how the installer makes the name, and whether the installed system takes it over.",
        );
    }
    if let Some(announced) = &announced {
        let same = *announced == shown;
        told.check(&format!("{which}announced and shown"), same, announced, &shown);
        if !same {
            told.find(
                "HostnameChanged",
                format!(
                    "{which}the installer announced `{}`, and the installed system shows `{}`",
                    text::clean(announced),
                    text::clean(&shown)
                ),
                "The generated name does not reach the installed system: it boots with a built-in one.",
            );
        }
    }
    Some(shown)
}

/// Each further machine gets a name of its own.
fn unique(told: &mut Told, identify: &IdentifySpec, evidence: &Identified, first: Option<&str>) {
    if identify.machines < 2 {
        return;
    }
    let mut names: Vec<String> = first.map(str::to_owned).into_iter().collect();
    for (place, other) in evidence.others.iter().enumerate() {
        let which = format!("machine {}: ", place + 2);
        if got_there(told, &which, other) {
            names.extend(one_machine(told, identify, &which, &other.install, other.reboot.as_ref()));
        }
    }
    let distinct: BTreeSet<&String> = names.iter().collect();
    let wanted = identify.machines as usize;
    if names.len() < wanted {
        told.unverified
            .push(format!("unique host names: only {} of {wanted} machines told one", names.len()));
    }
    let ok = distinct.len() == names.len();
    told.check("host names of all machines", ok, "each its own", &names.join(", "));
    if !ok {
        told.find(
            "HostnameNotUnique",
            format!("machines installed from one medium call themselves {}", text::clean(&names.join(", "))),
            "The name must be made at each installation, not once for the image.",
        );
    }
}

/// Installing over an installation keeps the name.
fn repaired(told: &mut Told, identify: &IdentifySpec, evidence: &Identified, first: Option<&str>) {
    if !identify.stable_on_repair {
        return;
    }
    let (Some(again), Some(first)) = (&evidence.repaired, first) else {
        told.unverified.push("the host name after a repair: no second installation was seen".to_owned());
        return;
    };
    if !got_there(told, "repaired: ", again) {
        return;
    }
    let Some(name) = one_machine(told, identify, "repaired: ", &again.install, again.reboot.as_ref()) else {
        return;
    };
    let ok = name == first;
    told.check("host name after a repair", ok, first, &name);
    if !ok {
        told.find(
            "HostnameLostOnRepair",
            format!("{} became {} when it was installed anew", text::clean(first), text::clean(&name)),
            "A repaired machine that comes back under another name is a stranger to its cluster. Read the old identity first.",
        );
    }
}

/// Whether a further machine came as far as the first.
fn got_there(told: &mut Told, which: &str, machine: &OtherMachine) -> bool {
    let reached = |watched: &Watched| watched.outcome == Outcome::Reached;
    let ok = reached(&machine.install) && machine.reboot.as_ref().is_some_and(reached);
    told.check(&format!("{which}installation"), ok, "as the first one", if ok { "done" } else { "not done" });
    if !ok {
        let watched = std::iter::once(&machine.install).chain(&machine.reboot);
        let why = watched.filter_map(outcome).map(|finding| finding.message).next();
        let why = why.unwrap_or_else(|| "what was installed did not come up".to_owned());
        told.find(
            "InstallNotRepeatable",
            format!("{which}the same medium did not install a second time: {why}"),
            "Look at its console: what is different from the first installation?",
        );
    }
    ok
}

/// What must be on the disks of a role; returns 1 if there was anything to look into.
fn contents(
    told: &mut Told,
    profile: &Profile,
    wanted: &ContentSpec,
    disks: &[DiskAfter],
    name: Option<&str>,
) -> u64 {
    let specs = profile.machine.all_disks();
    let role =
        |disk: &&DiskAfter| specs.iter().any(|spec| spec.name == disk.name && spec.expect == wanted.disk);
    let held: Vec<_> = disks.iter().filter(role).collect();
    if held.is_empty() {
        told.unverified.push(format!("`{}`: no disk of the machine has that role", wanted.label));
        return 0;
    }
    for disk in held {
        let volume = disk
            .volumes
            .iter()
            .find(|volume| volume.label == wanted.label || volume.fs_label == wanted.label);
        let at = format!("disk {}, `{}`", disk.name, wanted.label);
        told.check(&at, volume.is_some(), "there", if volume.is_some() { "there" } else { "not there" });
        let Some(volume) = volume else {
            told.find(
                "VolumeMissing",
                format!("{at}: there is no such volume"),
                "Compare with the partitions in the report's Install stage.",
            );
            continue;
        };
        if let Some(fs) = &wanted.fs {
            let ok = volume.fs == *fs;
            told.check(&at, ok, fs, &volume.fs);
            if !ok {
                told.find(
                    "FileSystemWrong",
                    format!("{at}: {} in place of {fs}", volume.fs),
                    "Look at what made it.",
                );
            }
        }
        // A file system that cannot be read from outside (XFS, Btrfs, an encrypted one) says nothing of its files.
        let mut paths = wanted.files.iter().chain(&wanted.hostname_in);
        if let Some(path) = paths.find(|path| !volume.files.contains_key(*path)) {
            let path = text::clean(path);
            told.unverified
                .push(format!("{at}: {path}: {} cannot be read from outside", text::clean(&volume.fs)));
            continue;
        }
        for path in &wanted.files {
            let there = volume.files.get(path).is_some_and(|file| file.bytes.is_some());
            told.check(&format!("{at}: {path}"), there, "there", if there { "there" } else { "not there" });
            if !there {
                told.find(
                    "FileMissing",
                    format!("{at}: {} is not there", text::clean(path)),
                    "The installer said that it was done without having written it.",
                );
            }
        }
        if let Some(path) = &wanted.hostname_in {
            let line = volume.files.get(path).and_then(|file| file.first_line.as_deref()).unwrap_or("");
            let ok = name.is_some_and(|name| name == line.trim());
            told.check(&format!("{at}: {path}"), ok, name.unwrap_or("the host name"), line);
            if !ok {
                told.find(
                    "HostnameOnDiskWrong",
                    format!("{at}: {} says `{}`", text::clean(path), text::clean(line)),
                    "The machine shows one name and keeps another: after the next update it may use that.",
                );
            }
        }
    }
    1
}

#[cfg(test)]
#[path = "identify_tests.rs"]
mod tests;
