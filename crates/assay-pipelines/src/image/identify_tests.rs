//! `Identify`: the machine is called what it was named, on its console and on its disks, and no other is called the same.

use assay_model::{StageName, Verdict};

use super::super::evidence::{NameSeen, OtherMachine, Outcome};
use super::super::fixtures::{
    HOST, Row, Seen, a_guest_s_words_are_shown_clean, each_raises_its_own_code, nothing_is_missed_in_silence,
    the_page_has_them_all,
};
use super::super::profile::DiskRole;

const ROWS: &[Row] = &[
    ("HostnameNotAnnounced", |seen| seen.identified.others[0].install.names.clear()),
    ("HostnameNotShown", |seen| shown(&mut seen.identified.others[0]).clear()),
    ("HostnameWrong", |seen| renamed(&mut seen.identified.others[0], "localhost")),
    ("HostnameChanged", |seen| shown(&mut seen.identified.others[0])[0].name = "node-00a1b4".into()),
    ("HostnameNotUnique", |seen| renamed(&mut seen.identified.others[0], HOST)),
    ("HostnameLostOnRepair", |seen| renamed(repaired(seen), "node-00a1b4")),
    ("InstallNotRepeatable", |seen| seen.identified.others[0].reboot = None),
    ("VolumeMissing", |seen| drop(seen.disk("NV0").volumes.pop())),
    ("FileSystemWrong", |seen| seen.disk("NV0").volumes[1].fs = "xfs".into()),
    ("FileMissing", |seen| file(seen, "/boot/vmlinuz").bytes = None),
    ("HostnameOnDiskWrong", |seen| file(seen, "/etc/hostname").first_line = Some("localhost".into())),
];

fn shown(machine: &mut OtherMachine) -> &mut Vec<NameSeen> {
    &mut machine.reboot.as_mut().expect("its first boot").names
}

fn repaired(seen: &mut Seen) -> &mut OtherMachine {
    seen.identified.repaired.as_mut().expect("the second installation")
}

fn renamed(machine: &mut OtherMachine, name: &str) {
    machine.install.names[0].name = name.into();
    shown(machine)[0].name = name.into();
}

fn file<'a>(seen: &'a mut Seen, path: &str) -> &'a mut super::super::evidence::FileSeen {
    seen.disk("NV0").volumes[1].files.get_mut(path).expect("a file of the fixture")
}

#[test]
fn each_fault_of_an_identity_has_its_code() {
    each_raises_its_own_code("Identify", ROWS);
    the_page_has_them_all("Identify", ROWS);
}

#[test]
fn who_it_is_is_told_in_one_sentence() {
    let judgement = Seen::good().judged("Identify");
    assert_eq!(judgement.message, "it is node-00a1b2");
    let coverage: Vec<_> = judgement.coverage.iter().map(ToString::to_string).collect();
    assert_eq!(coverage, ["2 of 2 machines installed from the medium", "1 of 1 volumes looked into"]);
}

#[test]
fn a_name_fits_as_a_whole_or_not_at_all() {
    for (wanted, verdict) in
        [("node-[0-9a-f]{6}", Verdict::Pass), ("node", Verdict::Fail), ("[0-9a-f]+", Verdict::Fail)]
    {
        let mut seen = Seen::good();
        seen.profile.identify.as_mut().expect("identify").hostname = wanted.into();
        assert_eq!(seen.judged("Identify").verdict, verdict, "{wanted}");
    }
}

#[test]
fn the_second_machine_is_named_in_what_is_said_of_it() {
    let mut seen = Seen::good();
    renamed(&mut seen.identified.others[0], HOST);
    assert_eq!(
        seen.judged("Identify").message,
        "machines installed from one medium call themselves node-00a1b2, node-00a1b2"
    );
    seen.identified.others[0].install.outcome =
        Outcome::Ended { code: "UnexpectedReset".into(), detail: "waiting for phase installed".into() };
    let judgement = seen.judged("Identify");
    assert!(
        judgement.message.starts_with("machine 2: the same medium did not install"),
        "{}",
        judgement.message
    );
}

#[test]
fn a_fault_of_the_runner_on_a_further_machine_is_an_error() {
    let mut seen = Seen::good();
    seen.identified.others[0].install.outcome =
        Outcome::RunnerFault { why: "no memory for a machine".into() };
    let judgement = seen.judged("Identify");
    assert_eq!((judgement.verdict, judgement.message.as_str()), (Verdict::Error, "no memory for a machine"));
    assert!(judgement.findings.is_empty());
}

#[test]
fn what_was_to_be_seen_and_was_not_is_unverified() {
    let bends: [Row; 3] = [
        ("the further machine", |seen| seen.identified.others.clear()),
        ("the second installation", |seen| seen.identified.repaired = None),
        ("a disk of that role", |seen| {
            for content in &mut seen.profile.identify.as_mut().expect("identify").contents {
                content.disk = DiskRole::Any;
            }
        }),
    ];
    for (what, bend) in bends {
        let mut seen = Seen::good();
        bend(&mut seen);
        let judgement = seen.judged("Identify");
        assert_eq!(judgement.verdict, Verdict::Unverified, "{what}: {judgement:#?}");
        assert!(!judgement.unverified.is_empty(), "{what}");
    }
}

#[test]
fn without_the_stages_that_saw_the_machine_there_is_nothing_to_pass_on() {
    let seen = Seen::good();
    let evidence = seen.evidence("Identify");
    let install = (StageName::from("Install"), seen.evidence("Install"));
    let reboot = (StageName::from("Reboot"), seen.evidence("Reboot"));
    for earlier in [vec![], vec![install.clone()], vec![reboot.clone()]] {
        let judgement = seen.judged_after("Identify", &evidence, &earlier);
        assert_ne!(judgement.verdict, Verdict::Pass, "{judgement:#?}");
        assert!(judgement.unverified[0].starts_with("the host name: "), "{judgement:#?}");
    }
    assert_eq!(seen.judged_after("Identify", &evidence, &[install, reboot]).verdict, Verdict::Pass);
}

#[test]
fn a_file_system_that_cannot_be_read_has_no_missing_files() {
    let mut seen = Seen::good();
    seen.profile.identify.as_mut().expect("identify").contents[0].fs = Some("xfs".into());
    let root = &mut seen.disk("NV0").volumes[1];
    root.fs = "xfs".into();
    root.files.clear();
    let judgement = seen.judged("Identify");
    assert_eq!(judgement.verdict, Verdict::Unverified, "{judgement:#?}");
    assert_eq!(judgement.message, "disk NV0, `root`: /boot/vmlinuz: xfs cannot be read from outside");
}

#[test]
fn a_second_installation_that_failed_says_how() {
    let mut seen = Seen::good();
    seen.identified.others[0].reboot.as_mut().expect("its first boot").outcome =
        Outcome::Ended { code: "UnexpectedReset".into(), detail: "waiting for rung login".into() };
    assert_eq!(
        seen.judged("Identify").message,
        "machine 2: the same medium did not install a second time: after phase welcome the machine ended by itself: \
         waiting for rung login"
    );
}

#[test]
fn nothing_of_the_evidence_is_missed_in_silence() {
    let for_people =
        ["/rungs/*", "/written", "/lines/serial", "/phases/*", "/staged_read", "/staged_read/~1join-token"];
    nothing_is_missed_in_silence("Identify", &for_people);
}

#[test]
fn names_and_lines_are_shown_clean() {
    a_guest_s_words_are_shown_clean("Identify", |_| ());
    a_guest_s_words_are_shown_clean("Identify", |seen| {
        seen.identified.others[0].install.outcome = Outcome::Failed {
            code: "KernelPanic".into(),
            line: "panic".into(),
            meaning: "It stopped.".into(),
        };
    });
    let mut seen = Seen::good();
    file(&mut seen, "/etc/hostname").first_line = Some(super::super::fixtures::hostile());
    let judgement = seen.judged("Identify");
    assert!(!judgement.message.contains(char::is_control) && judgement.message.chars().count() < 1000);
}
