//! Evidence of a machine of metal, before the judges: what its console told passes or fails, what it cannot tell does
//! neither.

use assay_console::Rung;
use assay_model::{Judgement, StageName, Verdict};

use crate::image::evidence::{Identified, Outcome, RungSeen};
use crate::image::fixtures::Seen;
use crate::image::{ImageInput, stage};

/// The fixture's test, as the console of a registered machine tells it.
fn on_metal() -> Seen {
    let mut seen = Seen::good();
    let installed = &mut seen.installed;
    (installed.disks, installed.egress, installed.faults) = (Vec::new(), Vec::new(), Vec::new());
    (installed.written, installed.disk_errors) = (0, 0);
    for stage in ["Boot", "Install", "Reboot"] {
        let watched = seen.watched(stage);
        watched.shots.clear();
        watched.events.clear();
        watched.phases.iter_mut().for_each(|phase| phase.written = None);
    }
    let kernel = RungSeen { rung: Rung::Kernel, at_s: 1.0, line: "Linux version 6.1".to_owned() };
    seen.watched("Reboot").rungs.insert(0, kernel);
    seen.identified = Identified::default();
    seen
}

fn judged(seen: &Seen, name: &str) -> Judgement {
    let mut spec = seen.spec();
    spec.on = Some("rack1-07".to_owned());
    let evidence = seen.evidence(name);
    let earlier: Vec<_> = ["Prepare", "Inspect", "Boot", "Install", "Reboot"]
        .into_iter()
        .take_while(|earlier| *earlier != name)
        .map(|earlier| (StageName::from(earlier), seen.evidence(earlier)))
        .collect();
    stage(name).expect("a stage").judge(&ImageInput::new(&spec, &evidence, &earlier))
}

fn open(judgement: &Judgement, words: &str) -> bool {
    judgement.unverified.iter().any(|open| open.contains(words))
}

#[test]
fn a_healthy_machine_boots_and_its_installation_is_unverified() {
    let seen = on_metal();
    for name in ["Boot", "Reboot"] {
        let judgement = judged(&seen, name);
        assert_eq!(
            (judgement.verdict, judgement.unverified.len()),
            (Verdict::Pass, 0),
            "{name}: {judgement:#?}"
        );
    }
    assert!(judged(&seen, "Reboot").message.ends_with("its medium ejected"));
    let installed = judged(&seen, "Install");
    assert_eq!(installed.verdict, Verdict::Unverified, "{installed:#?}");
    assert!(installed.findings.is_empty(), "{installed:#?}");
    assert!(
        open(&installed, "what became of its disks") && open(&installed, "that nobody typed"),
        "{installed:#?}"
    );
    assert!(installed.checks.iter().all(|check| !check.name.starts_with("disk ") && check.name != "typing"));
    assert!(installed.message.ends_with("its disks were not read"), "{installed:#?}");
    let named = judged(&seen, "Identify");
    assert_eq!(named.verdict, Verdict::Unverified, "{named:#?}");
    assert!(open(&named, "`root`: nobody reads the disks"), "{named:#?}");
    assert!(open(&named, "unique host names") && open(&named, "after a repair"), "{named:#?}");
}

#[test]
fn the_same_evidence_of_a_virtual_machine_is_an_error_of_the_runner() {
    // Whoever leaves out what a virtual machine can tell is not believed the rest.
    let judgement = on_metal().judged("Install");
    assert_eq!(judgement.verdict, Verdict::Error, "{judgement:#?}");
}

#[test]
fn nothing_that_a_console_cannot_tell_makes_a_pass() {
    // As if disks had been read all the same: on a registered machine nobody can have.
    let whole = Seen::good();
    let judgement = judged(&whole, "Install");
    assert_eq!(judgement.verdict, Verdict::Unverified, "{judgement:#?}");
    let judgement = judged(&whole, "Identify");
    assert_eq!(judgement.verdict, Verdict::Unverified, "{judgement:#?}");
}

#[test]
fn what_the_console_tells_fails_a_stage() {
    let failed = || Outcome::Failed {
        code: "KernelPanic".to_owned(),
        line: "Kernel panic - not syncing".to_owned(),
        meaning: "It panicked.".to_owned(),
    };
    for name in ["Boot", "Install", "Reboot"] {
        let mut seen = on_metal();
        seen.watched(name).outcome = failed();
        let judgement = judged(&seen, name);
        assert_eq!(judgement.verdict, Verdict::Fail, "{name}: {judgement:#?}");
        assert_eq!(judgement.findings[0].code, "KernelPanic", "{name}");
        let mut seen = on_metal();
        seen.watched(name).outcome = Outcome::RunnerFault { why: "the console was gone".to_owned() };
        assert_eq!(judged(&seen, name).verdict, Verdict::Error, "{name}");
        let mut seen = on_metal();
        seen.watched(name).phases.clear();
        assert_eq!(judged(&seen, name).verdict, Verdict::Fail, "{name}: a phase that was not heard");
    }
    let mut other = on_metal();
    other.rebooted.watched.names.iter_mut().for_each(|seen| seen.name = "localhost".to_owned());
    assert_eq!(judged(&other, "Identify").verdict, Verdict::Fail);
}

#[test]
fn how_it_ended_is_held_to_the_profile_where_the_console_tells_it() {
    let mut seen = on_metal();
    seen.installed.ended = "unknown".to_owned();
    let judgement = judged(&seen, "Install");
    assert_eq!(judgement.verdict, Verdict::Unverified, "{judgement:#?}");
    assert!(open(&judgement, "how the machine ended its installation"), "{judgement:#?}");
    let mut seen = on_metal();
    seen.profile.install.ends = super::Ends::PowerOff;
    let judgement = judged(&seen, "Install");
    assert_eq!(judgement.findings[0].code, "InstallEndedOtherwise", "{judgement:#?}");
}

#[test]
fn a_boot_that_nobody_heard_begin_is_unverified() {
    let mut seen = on_metal();
    seen.watched("Reboot").rungs.retain(|seen| seen.rung >= Rung::Userspace);
    let judgement = judged(&seen, "Reboot");
    assert_eq!(judgement.verdict, Verdict::Unverified, "{judgement:#?}");
    assert!(open(&judgement, "whether the machine restarted"), "{judgement:#?}");
    // A boot loader may be the network's.
    let mut seen = on_metal();
    seen.profile.boot.rung = Rung::Bootloader;
    seen.profile.phases.retain(|phase| phase.name != "menu");
    seen.watched("Boot").phases.clear();
    let judgement = judged(&seen, "Boot");
    assert_eq!(judgement.verdict, Verdict::Unverified, "{judgement:#?}");
    assert!(open(&judgement, "and not the network's"), "{judgement:#?}");
}
