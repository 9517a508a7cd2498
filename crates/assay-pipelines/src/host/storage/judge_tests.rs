//! The judge of `Storage`, green once and red for every rule.

use assay_model::host::order::{PartKind, Replacement};
use assay_model::host::permit::GuardAnswer;
use assay_model::host::spec::{ClusterSpec, DiskClass, ProxmoxMember};
use assay_model::host::storage::{
    BadSpot, PermitOutcome, RandomRate, RandomSpeed, RawData, Signature, WipeProbe, ZoneRate, ZoneSpeed,
};

use super::*;

const SIZE: u64 = 64 << 30;

fn spec() -> HostSpec {
    let disk = |serial: &str, bay: &str| DiskSpec {
        serial: Some(serial.to_owned()),
        class: Some(DiskClass::Hdd),
        bay: Some(bay.to_owned()),
        ..DiskSpec::default()
    };
    HostSpec {
        cluster: Some(ClusterSpec::None),
        disks: vec![disk("S1", "1"), disk("S2", "2")],
        ..HostSpec::default()
    }
}

fn surface() -> Surface {
    let rate = ZoneRate {
        bytes: SIZE / 64,
        bytes_per_second: 180_000_000,
        p50_us: 80_000,
        max_us: 200_000,
        requests: 1024,
    };
    let zone = |number: u64| ZoneSpeed {
        offset: number * (SIZE / 64),
        length: SIZE / 64,
        read: Some(rate),
        write: Some(rate),
    };
    Surface {
        plan: SurfacePlan::Full,
        device_bytes: SIZE,
        planned_bytes: SIZE,
        covered_bytes: SIZE,
        written_bytes: SIZE,
        verified_bytes: SIZE,
        zones: (0..64).map(zone).collect(),
        longest_request_s: 0.3,
        seconds: 700.0,
        ..Surface::default()
    }
}

fn disk(serial: &str, name: &str) -> StorageDisk {
    let random = RandomRate { iops: 200.0, p99_us: 900_000, requests: 3000, seconds: 15.0 };
    StorageDisk {
        wanted: serial.to_owned(),
        name: name.to_owned(),
        serial: Some(serial.to_owned()),
        model: Some("ST1".to_owned()),
        size_bytes: Some(SIZE),
        class: Some(DiskClass::Hdd),
        probe: Some(WipeProbe { device_bytes: SIZE, ..WipeProbe::default() }),
        surface: Some(surface()),
        speed: Some(RandomSpeed { read: Some(random), write: Some(random), errors: Vec::new() }),
        left: Some(Left::Zeroed),
        artifacts: vec![format!("surface-{serial}.json")],
        ..StorageDisk::default()
    }
}

fn evidence() -> StorageEvidence {
    StorageEvidence {
        format: 1,
        profile: Profile::Standard,
        permit: PermitOutcome::Valid { guard: GuardAnswer::NoCluster },
        disks: vec![disk("S1", "sda"), disk("S2", "sdb")],
        written: true,
        problems: Vec::new(),
    }
}

fn judged(evidence: &StorageEvidence, spec: &HostSpec) -> Judgement {
    let value = serde_json::to_value(evidence).expect("plain");
    judge(evidence, &JudgeInput::new(spec, &value))
}

fn codes(judgement: &Judgement) -> Vec<&str> {
    judgement.findings.iter().map(|finding| finding.code.as_str()).collect()
}

/// The judgement after one change to the first disk.
fn with(change: impl FnOnce(&mut StorageDisk)) -> Judgement {
    let mut evidence = evidence();
    change(&mut evidence.disks[0]);
    judged(&evidence, &spec())
}

fn with_surface(change: impl FnOnce(&mut Surface)) -> Judgement {
    with(|disk| change(disk.surface.as_mut().expect("there")))
}

fn halted(why: RefusalKind, detail: &str) -> Judgement {
    let mut evidence = evidence();
    evidence.written = false;
    for disk in &mut evidence.disks {
        (disk.surface, disk.speed, disk.left) = (None, None, None);
    }
    evidence.disks[0].refusals.push(Refusal { why, detail: detail.to_owned() });
    judged(&evidence, &spec())
}

#[test]
fn healthy_disks_pass_with_every_byte_covered() {
    let judgement = judged(&evidence(), &spec());
    assert_eq!((judgement.verdict, codes(&judgement)), (Verdict::Pass, vec![]), "{judgement:#?}");
    assert_eq!((judgement.coverage[0].covered, judgement.coverage[0].total), (2 * SIZE, 2 * SIZE));
    assert!(judgement.unverified.is_empty(), "{:?}", judgement.unverified);
    assert_eq!(judgement.message, "2 disks written and read back, 128 GiB in all");
}

#[test]
fn without_a_declared_cluster_nothing_passes() {
    let spec = HostSpec { cluster: None, ..spec() };
    let judgement = judged(&evidence(), &spec);
    assert_eq!((judgement.verdict, codes(&judgement)), (Verdict::Unverified, vec!["ClusterUndeclared"]));
    assert!(judgement.findings[0].next_step.contains("cluster: none"));
}

#[test]
fn what_the_cluster_says_counts() {
    let member =
        ProxmoxMember { url: "https://pve1:8006".to_owned(), node: "pve3".to_owned(), fingerprint: None };
    let spec = HostSpec { cluster: Some(ClusterSpec::Proxmox(member)), ..spec() };
    let node = || "pve3".to_owned();
    let said = |guard: GuardAnswer| {
        let evidence = StorageEvidence { permit: PermitOutcome::Valid { guard }, ..evidence() };
        let judgement = judged(&evidence, &spec);
        let codes: Vec<String> = judgement.findings.iter().map(|finding| finding.code.clone()).collect();
        (judgement.verdict, codes)
    };
    assert_eq!(said(GuardAnswer::Offline { node: node() }), (Verdict::Pass, vec![]));
    assert_eq!(said(GuardAnswer::NotMember { node: node() }), (Verdict::Pass, vec![]));
    assert_eq!(
        said(GuardAnswer::Live { node: node() }),
        (Verdict::Fail, vec!["NodeIsLiveMember".to_owned()])
    );
    let unreachable = GuardAnswer::Unreachable { node: node(), why: "timed out".to_owned() };
    assert_eq!(said(unreachable), (Verdict::Unverified, vec!["ClusterGuardUnreachable".to_owned()]));
    // A permit that was made for a spec without a cluster is none for this one.
    assert_eq!(said(GuardAnswer::NoCluster), (Verdict::Fail, vec!["PermitInvalid".to_owned()]));
    assert_eq!(said(GuardAnswer::Undeclared), (Verdict::Fail, vec!["PermitInvalid".to_owned()]));
}

#[test]
fn without_a_permit_that_holds_the_stage_fails() {
    for permit in [PermitOutcome::Missing, PermitOutcome::Invalid { why: "it was used before".to_owned() }] {
        let judgement = judged(&StorageEvidence { permit, ..evidence() }, &spec());
        assert_eq!((judgement.verdict, codes(&judgement)), (Verdict::Fail, vec!["PermitInvalid"]));
        assert!(judgement.message.ends_with("nothing was written"), "{}", judgement.message);
    }
    let nothing = judged(&StorageEvidence::default(), &spec());
    assert_eq!(nothing.verdict, Verdict::Fail, "evidence of nothing is no pass");
}

#[test]
fn each_reason_not_to_write_has_its_code_and_names_the_disk() {
    let cases = [
        (RefusalKind::Absent, "DiskAbsent"),
        (RefusalKind::InUse, "DiskInUse"),
        (RefusalKind::BootMedium, "BootMedium"),
        (RefusalKind::Removable, "DiskRemovable"),
        (RefusalKind::ReadOnly, "DiskReadOnly"),
        (RefusalKind::Shared, "DiskShared"),
        (RefusalKind::Swapped, "DiskSwapped"),
        (RefusalKind::NotPermitted, "PermitInvalid"),
        (RefusalKind::HoldsData, "UnexpectedData"),
        (RefusalKind::Unreadable, "SurfaceUnreadable"),
        (RefusalKind::Vanished, "DiskVanished"),
    ];
    for (why, code) in cases {
        let judgement = halted(why, "seen \u{1b}[2J");
        assert_eq!((judgement.verdict, codes(&judgement)), (Verdict::Fail, vec![code]));
        let finding = &judgement.findings[0];
        let part = finding.part.as_ref().expect("a part");
        assert_eq!((part.location.as_deref(), part.serial.as_deref()), (Some("1"), Some("S1")));
        assert!(finding.message.starts_with("disk S1 (sda, bay 1): ") && !finding.message.contains('\u{1b}'));
        assert!(
            judgement.unverified.iter().any(|said| said.contains("disk S2")),
            "the other was not tested either"
        );
        assert_eq!(judgement.coverage[0].covered, 0);
    }
}

#[test]
fn unexpected_data_says_what_lies_where() {
    let probe = WipeProbe {
        signatures: vec![Signature { what: "LVM2 physical volume".to_owned(), offset: 512, label: None }],
        data: Some(RawData { offset: 1 << 20, bytes: 512 }),
        ..WipeProbe::default()
    };
    let detail = super::super::what_it_holds(&probe);
    let judgement = halted(RefusalKind::HoldsData, &detail);
    assert_eq!(
        judgement.message,
        "disk S1 (sda, bay 1): it holds data: LVM2 physical volume at byte 512; data that is not zero, first seen at byte 1048576; nothing was written"
    );
}

#[test]
fn a_stall_while_it_is_looked_at_counts_as_any_other() {
    let slowest = |slowest_ms| with(|disk| disk.probe.as_mut().expect("there").slowest_ms = slowest_ms);
    assert_eq!(slowest(10_000).verdict, Verdict::Pass, "10 s are allowed");
    let judgement = slowest(25_300);
    assert_eq!((judgement.verdict, codes(&judgement)), (Verdict::Fail, vec!["DiskStalled"]));
    assert!(judgement.message.contains("25.3 s"), "{}", judgement.message);
}

#[test]
fn bad_sectors_have_their_codes() {
    type Change = fn(&mut Surface);
    let cases: [(&str, BadClass, Change); 5] = [
        ("SurfaceUnreadable", BadClass::Unreadable, |surface| surface.unreadable_bytes = 512),
        ("SurfaceUnwritable", BadClass::Unwritable, |surface| surface.unwritable_bytes = 512),
        ("SurfaceCorrupt", BadClass::Corrupt, |surface| surface.corrupt_bytes = 512),
        ("SurfaceAliased", BadClass::Aliased, |surface| surface.aliased_bytes = 512),
        ("SurfaceStale", BadClass::Stale, |surface| surface.stale_bytes = 512),
    ];
    for (code, class, change) in cases {
        let judgement = with_surface(|surface| {
            change(surface);
            surface.covered_bytes -= 512;
            surface.capacity_hint = Some(16 << 30);
            surface.bad.push(BadSpot { offset: 51_200_000, length: 512, class, other: Some(4096) });
        });
        assert_eq!((judgement.verdict, codes(&judgement)), (Verdict::Fail, vec![code]));
        assert!(judgement.message.contains("byte 51200000"), "{}", judgement.message);
        assert_eq!(judgement.message.contains("room for 16 GiB"), class == BadClass::Aliased);
        assert_eq!(judgement.findings[0].evidence, ["surface-S1.json"]);
    }
}

#[test]
fn a_scan_that_ended_early_is_never_a_pass() {
    let cases = [
        (SurfaceStop::Gone, Verdict::Fail, Some("DiskVanished")),
        (SurfaceStop::Hung, Verdict::Fail, Some("DiskStalled")),
        (SurfaceStop::FlushFailed, Verdict::Fail, Some("SurfaceUnwritable")),
        (SurfaceStop::Cancelled, Verdict::Unverified, None),
        (SurfaceStop::TooManyErrors, Verdict::Unverified, None),
        (SurfaceStop::TooMuchWrong, Verdict::Unverified, None),
    ];
    for (stop, verdict, code) in cases {
        // Even if it claims to have covered everything.
        let judgement = with_surface(|surface| surface.stopped = Some(stop));
        assert_eq!((judgement.verdict, codes(&judgement)), (verdict, Vec::from_iter(code)), "{stop:?}");
    }
    let impossible = with_surface(|surface| {
        *surface = Surface { impossible: Some("no io_uring".to_owned()), ..Surface::default() };
    });
    assert_eq!(impossible.verdict, Verdict::Unverified);
    assert!(
        impossible.unverified.iter().any(|said| said.contains("no io_uring")),
        "{:?}",
        impossible.unverified
    );
}

#[test]
fn less_than_all_is_not_all() {
    let short = with_surface(|surface| surface.covered_bytes -= 4096);
    assert_eq!((short.verdict, codes(&short)), (Verdict::Unverified, vec![]));
    // An agent that planned less than the profile asks for.
    let planned_less = with_surface(|surface| {
        (surface.plan, surface.planned_bytes, surface.covered_bytes) =
            (SurfacePlan::Sampled, 1 << 29, 1 << 29);
    });
    assert_eq!(planned_less.verdict, Verdict::Unverified);
    // A disk that claims to be smaller in the scan than in the inventory.
    let smaller =
        with_surface(|surface| (surface.device_bytes, surface.covered_bytes) = (SIZE / 2, SIZE / 2));
    assert_eq!(smaller.verdict, Verdict::Unverified);
    let nothing = with_surface(|surface| *surface = Surface::default());
    assert_eq!(nothing.verdict, Verdict::Unverified);
}

#[test]
fn the_quick_profile_says_that_it_took_samples() {
    let mut evidence = evidence();
    evidence.profile = Profile::Quick;
    for surface in evidence.disks.iter_mut().filter_map(|disk| disk.surface.as_mut()) {
        (surface.plan, surface.planned_bytes, surface.covered_bytes) =
            (SurfacePlan::Sampled, 1 << 29, 1 << 29);
    }
    let (spec, value) = (spec(), serde_json::Value::Null);
    let input = JudgeInput { profile: Profile::Quick, ..JudgeInput::new(&spec, &value) };
    let judgement = judge(&evidence, &input);
    assert_eq!(judgement.verdict, Verdict::Pass, "{judgement:#?}");
    assert_eq!((judgement.coverage[0].covered, judgement.coverage[0].total), (1 << 30, 2 * SIZE));
    assert!(judgement.coverage[0].what.contains("quick: samples"));

    // An agent that planned next to nothing, and did all of it.
    for surface in evidence.disks.iter_mut().filter_map(|disk| disk.surface.as_mut()) {
        (surface.planned_bytes, surface.covered_bytes) = (1 << 20, 1 << 20);
    }
    let judgement = judge(&evidence, &input);
    assert_eq!(judgement.verdict, Verdict::Unverified, "{judgement:#?}");
}

#[test]
fn a_replaced_disk_must_have_been_burnt_in() {
    let swap = Replacement { kind: PartKind::Disk, old: "S1".to_owned(), new: "N1".to_owned() };
    let (spec, value) = (spec(), serde_json::Value::Null);
    let input = JudgeInput { replaced: std::slice::from_ref(&swap), ..JudgeInput::new(&spec, &value) };
    let mut evidence = evidence();
    evidence.disks[0] = StorageDisk { replaced: true, ..disk("N1", "sda") };
    assert_eq!(judge(&evidence, &input).verdict, Verdict::Unverified, "two passes are too few");
    if let Some(surface) = evidence.disks[0].surface.as_mut() {
        surface.plan = SurfacePlan::BurnIn;
    }
    assert_eq!(judge(&evidence, &input).verdict, Verdict::Pass);
    evidence.disks[0].wanted = "S1".to_owned();
    assert_eq!(judge(&evidence, &input).verdict, Verdict::Unverified, "the old one is not the new one");
}

#[test]
fn stalls_slowness_and_retries_have_their_codes() {
    let stalled = with_surface(|surface| (surface.stalls, surface.longest_request_s) = (1, 30.2));
    assert_eq!((stalled.verdict, codes(&stalled)), (Verdict::Fail, vec!["DiskStalled"]));
    let slow = with(|disk| {
        let read = disk.speed.as_mut().and_then(|speed| speed.read.as_mut()).expect("there");
        read.iops = 12.0;
    });
    assert_eq!((slow.verdict, codes(&slow)), (Verdict::Fail, vec!["DiskSlow"]));
    assert!(
        slow.message.contains("random reads: 12.0 per second, at least 60 per second expected"),
        "{}",
        slow.message
    );
    let zone = with_surface(|surface| {
        let zone = &mut surface.zones[7];
        for rate in [zone.read.as_mut(), zone.write.as_mut()].into_iter().flatten() {
            (rate.bytes_per_second, rate.p50_us) = (40_000_000, 400_000);
        }
    });
    assert_eq!((zone.verdict, codes(&zone)), (Verdict::Fail, vec!["ZoneSlow"]));
    assert!(zone.message.contains("reads at 40.0 MB/s, those around it at 180.0 MB/s"), "{}", zone.message);
    let retried = with_surface(|surface| surface.recovered = 3);
    assert_eq!((retried.verdict, codes(&retried)), (Verdict::Pass, vec!["DiskUnstable"]));
}

#[test]
fn random_access_that_was_not_measured_is_unverified() {
    let absent = with(|disk| disk.speed = None);
    assert_eq!(absent.verdict, Verdict::Unverified);
    let failed = with(|disk| {
        disk.speed =
            Some(RandomSpeed { errors: vec!["fio: no such tool".to_owned()], ..RandomSpeed::default() });
    });
    assert_eq!(failed.verdict, Verdict::Unverified);
    assert!(failed.unverified.iter().any(|said| said.contains("no such tool")));
}

#[test]
fn a_disk_of_which_the_evidence_says_nothing_is_unverified() {
    let mut evidence = evidence();
    evidence.disks.pop();
    let judgement = judged(&evidence, &spec());
    assert_eq!(judgement.verdict, Verdict::Unverified);
    assert!(judgement.unverified.iter().any(|said| said.contains("disk S2")));
}

#[test]
fn disks_without_a_name_are_never_written_and_never_pass() {
    let mut spec = spec();
    spec.disks.push(DiskSpec { class: Some(DiskClass::Hdd), ..DiskSpec::default() });
    assert_eq!(judged(&evidence(), &spec).verdict, Verdict::Unverified);
    spec.disks.drain(..2);
    let judgement = judged(&evidence(), &spec);
    assert_eq!((judgement.verdict, judgement.findings.len()), (Verdict::Unverified, 0));
    spec.disks.clear();
    let none = judged(&StorageEvidence::default(), &spec);
    assert_eq!(
        (none.verdict, none.message.as_str()),
        (Verdict::Skip, "the spec lists no disks, so none was written to")
    );
}

#[test]
fn what_was_left_is_said() {
    let unknown = with(|disk| disk.left = Some(Left::Unknown));
    assert_eq!(unknown.verdict, Verdict::Pass);
    assert!(unknown.unverified.iter().any(|said| said.contains("what is on it now is not known")));
}
