//! `Install`: what the installer says counts for little; what it did to the disks is looked at.

use assay_model::Verdict;
use serde_json::json;

use super::super::evidence::{FaultSeen, Outcome, PowerCut};
use super::super::fixtures::{
    Row, Seen, a_guest_s_words_are_shown_clean, each_raises_its_own_code, hostile,
    nothing_is_missed_in_silence, the_page_has_them_all,
};
use super::super::profile::{DiskFault, DiskHolds, DiskRole, Ends, InstallExpect, Size};

const ROWS: &[Row] = &[
    ("InstallEndedOtherwise", |seen| seen.installed.ended = "stayed-on".into()),
    ("NothingInstalled", nothing_asked_of_the_disks),
    ("SuccessBeforeWork", |seen| seen.installed.watched.phases[1].written = Some(2 << 20)),
    ("OccupiedDiskWritten", |seen| seen.disk("USB0").changed = true),
    ("WrongDiskWritten", |seen| seen.disk("SMALL0").changed = true),
    ("DiskUnreadable", |seen| seen.disk("SSD0").problem = Some("the backup GPT is damaged".into())),
    ("NoBootloader", |seen| seen.disk("NV0").bootable = false),
    ("DiskNotTaken", |seen| seen.disk("SSD0").changed = false),
    ("DiskLabelWrong", |seen| seen.disk("SSD0").volumes[0].fs_label = "data2".into()),
    ("TypedInto", |seen| seen.installed.watched.input = 3),
    ("StagedFileIgnored", |seen| seen.installed.watched.staged_read.clear()),
    ("SuccessAfterDiskError", success_on_a_disk_that_failed),
    ("InstalledInSpite", |seen| seen.profile.install.expect = InstallExpect::Refused),
    ("HalfInstalled", half_a_system_after_a_power_cut),
];

fn success_on_a_disk_that_failed(seen: &mut Seen) {
    seen.profile.machine.disks[1].fault = Some(DiskFault::WriteError { at: Size(350 << 20) });
    seen.installed.faults = vec![FaultSeen { disk: "SSD0".into(), answered: 3, told: 3, gone: false }];
    seen.installed.disk_errors = 3;
}

/// Its power was cut, and then a system came up that no installer had called done.
fn half_a_system_after_a_power_cut(seen: &mut Seen) {
    cut(seen);
    seen.installed.watched.phases.clear();
    seen.disk("NV0").volumes[1].files.remove("/boot/vmlinuz");
}

/// The power was cut in the middle; what is watched is the time after it.
fn cut(seen: &mut Seen) {
    seen.profile.power_cut.after = Some("partitioned".into());
    let mut before = seen.installed.watched.clone();
    before.outcome = Outcome::PowerCut;
    let disks = seen.installed.disks.clone();
    seen.installed.cut = Some(PowerCut { seed: 7, drawn_s: Some(0.0), at_s: 12.0, before, disks });
}

fn refused(seen: &mut Seen, code: &str) {
    seen.installed.watched.outcome = Outcome::Failed {
        code: code.into(),
        line: "REFUSED: the disk does not take its data".into(),
        meaning: "The profile names this line.".into(),
    };
    seen.installed.watched.phases.pop();
    seen.installed.ended = "failed".into();
}

#[test]
fn a_refusal_is_right_where_it_is_expected_and_its_reason_was_delivered() {
    let mut seen = Seen::good();
    success_on_a_disk_that_failed(&mut seen);
    seen.profile.install.expect = InstallExpect::Refused;
    refused(&mut seen, "FailMarker");
    let judgement = seen.judged("Install");
    assert_eq!((judgement.verdict, &judgement.findings), (Verdict::Pass, &Vec::new()), "{judgement:#?}");
    assert_eq!(judgement.message, "refused, as it should be: REFUSED: the disk does not take its data");

    for (struck, told) in [(0, 0), (3, 0), (0, 3)] {
        let mut missed = seen.clone();
        missed.installed.faults[0] = FaultSeen { disk: "SSD0".into(), answered: struck, told, gone: false };
        let judgement = missed.judged("Install");
        assert_eq!(judgement.verdict, Verdict::Unverified, "{struck} {told}: {judgement:#?}");
        assert!(judgement.message.contains("no request came to it"), "{}", judgement.message);
    }
    let mut gone = seen.clone();
    gone.installed.faults[0] = FaultSeen { disk: "SSD0".into(), answered: 0, told: 0, gone: true };
    assert_eq!(gone.judged("Install").verdict, Verdict::Pass, "a disk that is not there is asked nothing");
    let mut silent = seen.clone();
    silent.installed.faults.clear();
    assert_eq!(silent.judged("Install").verdict, Verdict::Unverified, "the runner did not say");
    let mut wrong = seen.clone();
    wrong.disk("USB0").changed = true;
    assert_eq!(wrong.judged("Install").findings[0].code, "OccupiedDiskWritten", "a refusal excuses nothing");
    let mut hangs = seen.clone();
    refused(&mut hangs, "KernelPanic");
    assert_eq!(hangs.judged("Install").verdict, Verdict::Fail, "a panic is no refusal");
    seen.installed.watched.phases = Seen::good().installed.watched.phases;
    assert_eq!(seen.judged("Install").verdict, Verdict::Fail, "a refusal after the success marker is none");
}

#[test]
fn a_fault_that_never_struck_is_no_pass() {
    let mut seen = Seen::good();
    success_on_a_disk_that_failed(&mut seen);
    seen.installed.faults[0].answered = 0;
    let judgement = seen.judged("Install");
    assert_eq!(judgement.verdict, Verdict::Unverified, "{judgement:#?}");
    assert!(judgement.unverified[0].contains("SSD0 that is not writable at 350MiB"), "{judgement:#?}");
    seen.profile.install.expect = InstallExpect::Refused;
    let judgement = seen.judged("Install");
    assert_eq!(judgement.verdict, Verdict::Unverified, "there was nothing to refuse: {judgement:#?}");
    assert_eq!(judgement.findings, Vec::new());
}

#[test]
fn a_disk_that_is_pulled_after_the_success_is_held_to_nothing() {
    let mut seen = Seen::good();
    success_on_a_disk_that_failed(&mut seen);
    for (after, verdict) in [("partitioned", Verdict::Fail), ("installed", Verdict::Pass)] {
        seen.profile.machine.disks[1].fault = Some(DiskFault::Pulled { after: after.into() });
        assert_eq!(seen.judged("Install").verdict, verdict, "{after}");
    }
}

#[test]
fn requests_that_fail_without_a_fault_are_told() {
    let mut seen = Seen::good();
    seen.installed.disk_errors = 2;
    let judgement = seen.judged("Install");
    assert_eq!(
        judgement.unverified,
        ["2 requests to disks failed, and no fault was ordered: has this host room?"]
    );
}

#[test]
fn after_a_power_cut_a_whole_system_or_a_refusal_in_plain_words_is_right() {
    let mut again = Seen::good();
    cut(&mut again);
    let judgement = again.judged("Install");
    assert_eq!((judgement.verdict, &judgement.findings), (Verdict::Pass, &Vec::new()), "{judgement:#?}");
    let seen = &judgement.checks.iter().find(|check| check.name == "power cut").expect("told").seen;
    assert!(
        seen.starts_with("after 12.0 s, after installed (0.000 s were drawn from seed 7); 2 of 4 disks"),
        "{seen}"
    );

    let mut said = again.clone();
    refused(&mut said, "Refused");
    assert_eq!(said.judged("Install").verdict, Verdict::Pass);
    for stage in ["Reboot", "Identify", "Join"] {
        let judgement = said.judged_on(stage, &serde_json::Value::Null);
        assert_eq!(judgement.verdict, Verdict::Pass, "{stage}: {judgement:#?}");
        assert!(judgement.message.starts_with("nothing is installed"), "{}", judgement.message);
    }
    let mut lost = again.clone();
    refused(&mut lost, "FailMarker");
    assert_eq!(
        lost.judged("Install").verdict,
        Verdict::Fail,
        "a failure that power-cut.refuses does not name"
    );
    assert_eq!(lost.judged_on("Reboot", &serde_json::Value::Null).verdict, Verdict::Error);

    let mut whole = again.clone();
    whole.installed.watched.phases.clear();
    assert_eq!(whole.judged("Install").verdict, Verdict::Pass, "it came up by itself, and all is there");
    whole.disk("NV0").volumes[1].files.get_mut("/boot/vmlinuz").expect("there").bytes = Some(0);
    assert_eq!(whole.judged("Install").findings[0].code, "HalfInstalled", "an empty file is not there");

    again.installed.cut = None;
    let judgement = again.judged("Install");
    assert_eq!(judgement.verdict, Verdict::Unverified, "the power was never cut: {judgement:#?}");
}

/// Every disk may be whatever it likes, and every one is as it was.
fn nothing_asked_of_the_disks(seen: &mut Seen) {
    for disk in &mut seen.profile.machine.disks {
        (disk.expect, disk.labels) = (DiskRole::Any, Vec::new());
    }
    for disk in &mut seen.installed.disks {
        disk.changed = false;
    }
}

#[test]
fn each_fault_of_an_installation_has_its_code() {
    each_raises_its_own_code("Install", ROWS);
    the_page_has_them_all("Install", ROWS);
}

#[test]
fn an_installation_is_told_in_one_sentence() {
    let judgement = Seen::good().judged("Install");
    assert_eq!(judgement.message, "installed in 30.0 s onto 2 of 4 disks, 301.0 MiB written; rebooted");
    let coverage: Vec<_> = judgement.coverage.iter().map(ToString::to_string).collect();
    assert_eq!(coverage, ["2 of 2 phases", "4 of 4 disks read from outside"]);
}

#[test]
fn what_the_machine_does_at_its_end_is_held_to_the_profile() {
    let rows = [
        (Ends::Any, "stayed-on", Verdict::Pass),
        (Ends::Any, "rebooted", Verdict::Pass),
        (Ends::Reboot, "rebooted", Verdict::Pass),
        (Ends::Reboot, "powered-off", Verdict::Fail),
        (Ends::PowerOff, "powered-off", Verdict::Pass),
        (Ends::PowerOff, "rebooted", Verdict::Fail),
        (Ends::StaysOn, "stayed-on", Verdict::Pass),
        (Ends::StaysOn, "rebooted", Verdict::Fail),
    ];
    for (ends, ended, verdict) in rows {
        let mut seen = Seen::good();
        seen.profile.install.ends = ends;
        seen.installed.ended = ended.into();
        assert_eq!(seen.judged("Install").verdict, verdict, "{ends:?}, {ended}");
    }
}

#[test]
fn a_failed_installation_is_held_to_the_disks_that_it_must_not_touch() {
    let mut seen = Seen::good();
    seen.installed.watched.outcome =
        Outcome::TimedOut { waited_for: "phase installed".into(), limit_s: 180.0, line: "copying".into() };
    seen.installed.watched.phases.pop();
    seen.disk("SSD0").changed = false;
    seen.disk("USB0").changed = true;
    let codes: Vec<_> = seen.judged("Install").findings.into_iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["PhaseTimedOut", "OccupiedDiskWritten"], "what it did not come to is no finding");
}

#[test]
fn a_finding_about_a_disk_names_its_serial_number() {
    let mut seen = Seen::good();
    seen.disk("USB0").changed = true;
    seen.disk("USB0").first_change = Some(1_048_576);
    seen.disk("USB0").changed_blocks = 3;
    let judgement = seen.judged("Install");
    let finding = &judgement.findings[0];
    assert_eq!(finding.part.as_ref().expect("a part").to_string(), "disk (serial USB0)");
    assert_eq!(
        finding.message,
        "disk USB0 held data (Vfat) and was written to: 3 blocks of 4 KiB differ, the first at byte 1048576"
    );
}

#[test]
fn a_disk_that_was_bootable_before_was_not_taken_by_that() {
    let mut seen = Seen::good();
    seen.profile.machine.disks[0].holds = DiskHolds::PriorInstall;
    seen.disk("NV0").changed = false;
    let judgement = seen.judged("Install");
    assert_eq!(judgement.verdict, Verdict::Fail, "{judgement:#?}");
    assert_eq!(judgement.findings[0].code, "DiskNotTaken");
}

#[test]
fn a_success_before_the_first_byte_is_none_however_small_the_installation() {
    let mut seen = Seen::good();
    seen.installed.written = 9 << 20;
    seen.installed.watched.phases[1].written = Some(0);
    let judgement = seen.judged("Install");
    assert_eq!(
        judgement.findings.first().map(|f| f.code.as_str()),
        Some("SuccessBeforeWork"),
        "{judgement:#?}"
    );
    seen.installed.watched.phases[1].written = Some(8 << 20);
    assert_eq!(seen.judged("Install").verdict, Verdict::Pass, "a journal and the unmounting come after it");
}

#[test]
fn what_was_broken_before_is_no_fault_of_the_installer() {
    let mut seen = Seen::good();
    seen.profile.machine.disks[3].expect = DiskRole::Any;
    seen.disk("SMALL0").problem = Some("the partition table ends beyond the disk".into());
    assert_eq!(seen.judged("Install").verdict, Verdict::Pass, "the disk was not written to");
    seen.disk("SMALL0").changed = true;
    assert_eq!(seen.judged("Install").findings[0].code, "DiskUnreadable");
}

#[test]
fn a_disk_that_the_runner_did_not_read_is_no_pass() {
    for name in ["NV0", "SSD0", "USB0", "SMALL0"] {
        let mut seen = Seen::good();
        seen.installed.disks.retain(|disk| disk.name != name);
        let judgement = seen.judged("Install");
        assert_eq!(judgement.verdict, Verdict::Error, "{name}: {judgement:#?}");
        assert!(judgement.message.contains(name), "{}", judgement.message);
    }
}

#[test]
fn a_staged_file_that_nobody_can_see_being_read_is_unverified() {
    let mut seen = Seen::good();
    seen.profile.medium.files[0].read = None;
    seen.installed.watched.staged_read.clear();
    let judgement = seen.judged("Install");
    assert_eq!(judgement.verdict, Verdict::Pass);
    assert_eq!(
        judgement.unverified,
        ["whether /join-token was read: the profile names no line that says so"]
    );
}

#[test]
fn typing_counts_only_where_the_profile_promises_that_there_is_none() {
    let mut seen = Seen::good();
    seen.profile.medium.zero_typing = false;
    seen.installed.watched.input = 3;
    assert_eq!(seen.judged("Install").verdict, Verdict::Pass);
}

#[test]
fn nothing_of_the_evidence_is_missed_in_silence() {
    // Names and files are what `Identify` looks at, and volumes count where a label is asked for.
    let of_identify = ["/names", "/names/*", "/files", "/~1boot~1vmlinuz", "/~1etc~1hostname"];
    let for_people = ["/rungs/*", "/lines/serial", "/first_change", "/disk_errors", "/phases/0/written"];
    let of_nobody = ["/0/volumes/0", "/2/volumes/0"];
    let fields = ["/bytes", "/first_line"];
    nothing_is_missed_in_silence("Install", &[&of_identify[..], &for_people, &of_nobody, &fields].concat());
}

#[test]
fn a_guest_s_words_and_labels_are_shown_clean() {
    a_guest_s_words_are_shown_clean("Install", |_| ());
    a_guest_s_words_are_shown_clean("Install", |seen| seen.disk("SSD0").problem = Some("damaged".into()));
    let mut seen = Seen::good();
    let one = seen.disk("SSD0").volumes[0].clone();
    seen.disk("SSD0").volumes = vec![one; 128];
    for volume in &mut seen.disk("SSD0").volumes {
        volume.fs_label = hostile();
    }
    let judgement = seen.judged("Install");
    let message = &judgement.findings[0].message;
    assert!(message.chars().count() < 1000 && !message.contains(char::is_control), "{} long", message.len());
}

#[test]
fn evidence_of_another_version_is_an_error() {
    let mut evidence = Seen::good().evidence("Install");
    evidence["written"] = json!("301 MiB");
    let judgement = Seen::good().judged_on("Install", &evidence);
    assert_eq!(judgement.verdict, Verdict::Error);
    assert!(
        judgement.message.contains("are runner and server of the same version?"),
        "{}",
        judgement.message
    );
}
