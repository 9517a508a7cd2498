//! The judge of `Clearance`, green once and red for every rule.

use assay_model::host::clearance::HiddenDisks;
use assay_model::host::inventory::{Disk, PciDevice};
use assay_model::host::permit::GuardAnswer;
use assay_model::host::spec::{ClusterSpec, HostSpec, ProxmoxMember};
use assay_model::host::storage::{PermitOutcome, RawData, Refusal, Signature, WipeProbe};
use serde_json::Value;

use super::*;

const SIZE: u64 = 64 << 30;

fn probe() -> WipeProbe {
    WipeProbe { read_bytes: 32 << 20, device_bytes: SIZE, samples: 4096, ..WipeProbe::default() }
}

fn disk(serial: &str, name: &str) -> ClearanceDisk {
    ClearanceDisk {
        name: name.to_owned(),
        serial: Some(serial.to_owned()),
        size_bytes: Some(SIZE),
        probe: Some(probe()),
        named: true,
        ..ClearanceDisk::default()
    }
}

fn evidence() -> ClearanceEvidence {
    ClearanceEvidence {
        format: 1,
        permit: PermitOutcome::Valid { guard: GuardAnswer::NoCluster },
        disks: vec![disk("S1", "sda"), disk("S2", "sdb")],
        ..ClearanceEvidence::default()
    }
}

/// An inventory in which the same two disks stand.
fn facts() -> Inventory {
    let of = |serial: &str, name: &str| Disk {
        name: name.to_owned(),
        serial: Some(serial.to_owned()),
        ..Disk::default()
    };
    Inventory { disks: vec![of("S1", "sda"), of("S2", "sdb")], ..Inventory::default() }
}

fn spec() -> HostSpec {
    HostSpec { cluster: Some(ClusterSpec::None), ..HostSpec::default() }
}

fn judged_with(evidence: &ClearanceEvidence, spec: &HostSpec, facts: Option<&Inventory>) -> Judgement {
    let value = serde_json::to_value(evidence).expect("plain");
    let earlier: Vec<(StageName, Value)> = facts
        .into_iter()
        .map(|facts| (StageName::from("Inventory"), serde_json::to_value(facts).expect("plain")))
        .collect();
    judge(evidence, &JudgeInput { earlier: &earlier, ..JudgeInput::new(spec, &value) })
}

fn judged(evidence: &ClearanceEvidence) -> Judgement {
    judged_with(evidence, &spec(), Some(&facts()))
}

/// With one thing changed: what is found, and of which disk. It must be refused.
fn refused_when(change: impl FnOnce(&mut ClearanceEvidence)) -> Vec<(String, Option<String>)> {
    let mut evidence = evidence();
    change(&mut evidence);
    told(&judged(&evidence))
}

fn told(judgement: &Judgement) -> Vec<(String, Option<String>)> {
    assert_eq!(judgement.verdict, Verdict::Fail, "{judgement:?}");
    let of = |finding: &Finding| {
        (finding.code.clone(), finding.part.as_ref().and_then(|part| part.serial.clone()))
    };
    judgement.findings.iter().map(of).collect()
}

fn found(code: &str, serial: &str) -> Vec<(String, Option<String>)> {
    vec![(code.to_owned(), Some(serial.to_owned()))]
}

fn of_the_machine(code: &str) -> Vec<(String, Option<String>)> {
    vec![(code.to_owned(), None)]
}

fn ext4() -> Signature {
    Signature { what: "ext4 file system".to_owned(), offset: 1 << 20, label: Some("photos".to_owned()) }
}

#[test]
fn empty_disks_that_the_spec_names_are_cleared() {
    let judgement = judged(&evidence());
    assert_eq!(judgement.verdict, Verdict::Pass, "{judgement:?}");
    assert_eq!(judgement.message, "2 disks may be erased by the installer");
    assert_eq!((judgement.coverage[0].covered, judgement.coverage[0].total), (2, 2));
}

#[test]
fn a_disk_that_nobody_spoke_for_stops_the_run_and_its_serial_is_told() {
    assert_eq!(refused_when(|e| e.disks[1].named = false), found("EraseNotPermitted", "S2"));
}

#[test]
fn data_stops_the_run_unless_an_operator_permitted_that_disk() {
    let mut with_data = evidence();
    with_data.disks[1].probe = Some(WipeProbe { signatures: vec![ext4()], ..probe() });
    let judgement = judged(&with_data);
    assert_eq!(told(&judgement), found("UnexpectedData", "S2"));
    assert_eq!(
        judgement.message,
        "disk S2 (sdb): it holds data: ext4 file system `photos` at byte 1048576; nothing was written, and no \
         installer was started"
    );
    with_data.disks[1].data_permitted = true;
    assert_eq!(judged(&with_data).verdict, Verdict::Pass);

    let raw = RawData { offset: 0, bytes: 512 };
    let unexplained =
        |e: &mut ClearanceEvidence| e.disks[0].probe = Some(WipeProbe { data: Some(raw), ..probe() });
    assert_eq!(refused_when(unexplained), found("UnexpectedData", "S1"));
}

#[test]
fn a_disk_that_was_not_looked_at_is_not_empty() {
    assert_eq!(refused_when(|e| e.disks[0].probe = None), found("SurfaceUnreadable", "S1"));
    let blind = |e: &mut ClearanceEvidence| e.disks[0].probe = Some(WipeProbe::default());
    assert_eq!(refused_when(blind), found("SurfaceUnreadable", "S1"));
    let half = |e: &mut ClearanceEvidence| {
        e.disks[0].probe = Some(WipeProbe { unreadable_bytes: 4096, ..probe() });
    };
    assert_eq!(refused_when(half), found("SurfaceUnreadable", "S1"));
}

#[test]
fn what_stands_in_the_way_of_a_disk_stands_even_with_a_permit() {
    let rows = [
        (RefusalKind::InUse, "DiskInUse"),
        (RefusalKind::BootMedium, "DiskInUse"),
        (RefusalKind::Removable, "DiskRemovable"),
        (RefusalKind::Shared, "DiskShared"),
        (RefusalKind::Swapped, "DiskSwapped"),
        (RefusalKind::Vanished, "DiskVanished"),
        (RefusalKind::Absent, "DiskVanished"),
        (RefusalKind::NotPermitted, "EraseNotPermitted"),
        (RefusalKind::HoldsData, "EraseNotPermitted"),
        (RefusalKind::Unreadable, "SurfaceUnreadable"),
    ];
    for (why, code) in rows {
        for probe in [None, Some(probe())] {
            let stands = |e: &mut ClearanceEvidence| {
                let refusals = vec![Refusal { why, detail: "as it was seen".to_owned() }];
                let known = e.disks[0].clone();
                e.disks[0] = ClearanceDisk { refusals, probe, data_permitted: true, ..known };
            };
            assert_eq!(refused_when(stands), found(code, "S1"), "{why:?}");
        }
    }
}

#[test]
fn what_cannot_be_written_needs_no_word_and_is_told() {
    let mut read_only = evidence();
    read_only.disks[1].refusals =
        vec![Refusal { why: RefusalKind::ReadOnly, detail: "write-protected".to_owned() }];
    (read_only.disks[1].named, read_only.disks[1].probe) = (false, None);
    let judgement = judged(&read_only);
    assert_eq!(judgement.verdict, Verdict::Pass);
    assert_eq!(judgement.unverified, ["disk S2 (sdb): left out, as it cannot be written"]);

    let mut no_card = evidence();
    (no_card.disks[1].size_bytes, no_card.disks[1].serial, no_card.disks[1].probe) = (Some(0), None, None);
    assert_eq!(judged(&no_card).verdict, Verdict::Pass, "an empty card reader");

    // Nothing at all can be written: no disk is in the way, and none is there for the installer.
    let mut nothing = evidence();
    for disk in &mut nothing.disks {
        disk.size_bytes = Some(0);
    }
    assert_eq!(judged(&nothing).verdict, Verdict::Unverified);
}

#[test]
fn a_disk_that_cannot_be_named_cannot_be_permitted() {
    let nameless = |e: &mut ClearanceEvidence| {
        (e.disks[1].serial, e.disks[1].data_permitted) = (Some(" ".to_owned()), true);
    };
    let mut facts = facts();
    facts.disks[1].serial = None;
    let mut changed = evidence();
    nameless(&mut changed);
    assert_eq!(told(&judged_with(&changed, &spec(), Some(&facts))), of_the_machine("DiskNameless"));

    let twins = refused_when(|e| e.disks[1].serial = Some("s1".to_owned()));
    assert!(twins.contains(&("DiskShared".to_owned(), Some("S1".to_owned()))), "{twins:?}");
    assert!(twins.contains(&("DiskShared".to_owned(), Some("s1".to_owned()))), "{twins:?}");
}

#[test]
fn a_disk_that_the_live_image_may_not_see_stops_the_run() {
    let hidden = |e: &mut ClearanceEvidence| {
        e.hidden.push(HiddenDisks { address: "0000:00:17.0".to_owned(), disks: 2 });
    };
    assert_eq!(refused_when(hidden), of_the_machine("DisksHidden"));
    assert_eq!(refused_when(|e| e.disks.clear()).last(), of_the_machine("DisksHidden").last());
    assert_eq!(refused_when(|e| e.disks.truncate(1)), of_the_machine("DiskVanished"));

    let driverless = |class: &str| {
        let device = PciDevice { class: class.to_owned(), ..PciDevice::default() };
        Inventory { driverless: vec![device], ..facts() }
    };
    let raid = judged_with(&evidence(), &spec(), Some(&driverless("010400")));
    assert_eq!(told(&raid), of_the_machine("DisksHidden"));
    let display = judged_with(&evidence(), &spec(), Some(&driverless("030000")));
    assert_eq!(display.verdict, Verdict::Pass, "a display without a driver hides no disk");
    assert_eq!(told(&judged_with(&evidence(), &spec(), None)), of_the_machine("DisksHidden"));
}

#[test]
fn without_a_yes_of_the_cluster_and_a_permit_that_holds_nothing_is_cleared() {
    let member =
        ProxmoxMember { url: "https://pve1:8006".to_owned(), node: "pve3".to_owned(), fingerprint: None };
    let clustered = HostSpec { cluster: Some(ClusterSpec::Proxmox(member)), ..HostSpec::default() };
    let undeclared = HostSpec::default();
    let node = || "pve3".to_owned();
    let valid = |guard| PermitOutcome::Valid { guard };
    let rows = [
        (PermitOutcome::Missing, spec(), "PermitInvalid"),
        (PermitOutcome::Invalid { why: "it ended".to_owned() }, spec(), "PermitInvalid"),
        (valid(GuardAnswer::NoCluster), undeclared, "ClusterUndeclared"),
        (valid(GuardAnswer::NoCluster), clustered.clone(), "PermitInvalid"),
        (valid(GuardAnswer::Live { node: node() }), clustered.clone(), "NodeIsLiveMember"),
        (
            valid(GuardAnswer::Unreachable { node: node(), why: "no route".to_owned() }),
            clustered.clone(),
            "ClusterGuardUnreachable",
        ),
    ];
    for (permit, spec, code) in rows {
        let judgement = judged_with(&ClearanceEvidence { permit, ..evidence() }, &spec, Some(&facts()));
        assert_eq!(told(&judgement), of_the_machine(code));
    }
    let offline = ClearanceEvidence { permit: valid(GuardAnswer::Offline { node: node() }), ..evidence() };
    assert_eq!(judged_with(&offline, &clustered, Some(&facts())).verdict, Verdict::Pass);
}

#[test]
fn what_the_agent_says_is_cleaned_and_bounded() {
    let mut shouting = evidence();
    shouting.disks[0].named = false;
    shouting.disks[0].serial = Some("S\u{1b}[2J1".to_owned());
    let judgement = judged_with(&shouting, &spec(), Some(&facts()));
    assert!(judgement.findings.iter().all(|finding| !finding.message.contains('\u{1b}')));
    let many = ClearanceEvidence { disks: vec![ClearanceDisk::default(); MAX_DISKS + 1], ..evidence() };
    assert_eq!(judged(&many).verdict, Verdict::Error);
}
