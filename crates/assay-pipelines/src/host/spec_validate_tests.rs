//! Verdicts over comparisons; the comparing itself is tested with the spec.

use assay_model::host::inventory::{Dimm, Disk, Nic, System};
use assay_model::host::order::{PartKind, Replacement};
use assay_model::host::spec::HostSpec;
use serde_json::{Value, json};

use super::*;

fn machine() -> Inventory {
    let disk = |name: &str, serial: &str| Disk {
        name: name.into(),
        serial: Some(serial.into()),
        model: Some("MZQL2960".into()),
        size_bytes: Some(960_197_124_096),
        ..Disk::default()
    };
    Inventory {
        system: System {
            product: Some("R650".into()),
            asset_tag: Some("rack-7".into()),
            ..System::default()
        },
        disks: vec![disk("nvme0n1", "S1"), disk("nvme1n1", "S2")],
        ..Inventory::default()
    }
}

fn judged(spec: &str, evidence: &Value) -> Judgement {
    let spec = HostSpec::from_yaml(spec).expect("a spec");
    SpecValidate.judge(&JudgeInput::new(&spec, evidence))
}

fn against(spec: &str) -> Judgement {
    judged(spec, &serde_json::to_value(machine()).expect("serialises"))
}

#[test]
fn a_machine_as_expected_passes_and_says_how_much_was_compared() {
    let judgement = against("format: 1\nsystem: {product: R650}\ndisks: [{serial: S1}, {serial: S2}]\n");
    assert_eq!(judgement.verdict, Verdict::Pass, "{judgement:?}");
    assert_eq!(judgement.message, "4 of 4 spec fields compared, all as expected");
    assert_eq!(judgement.coverage, [Coverage { what: "spec fields".into(), covered: 4, total: 4 }]);
}

#[test]
fn a_swapped_disk_is_named_by_both_serial_numbers() {
    let judgement = against("format: 1\ndisks: [{serial: S1}, {serial: OLD9, model: MZQL2960, bay: '3'}]\n");
    assert_eq!(judgement.verdict, Verdict::Fail);
    let found: Vec<String> = judgement
        .findings
        .iter()
        .map(|f| format!("{} {}\n  {}\n  {}", f.severity, f.code, f.message, f.next_step))
        .collect();
    insta::assert_snapshot!(found.join("\n"), @r"
    critical DiskMissing
      disk serial OLD9 (MZQL2960, bay 3) is gone; disk serial S2 (MZQL2960, 960 GB, nvme1n1) is there instead, which the spec does not list
      If the disk was swapped on purpose, replace serial OLD9 by serial S2 in the spec; otherwise put the old disk back in bay 3.
    warning DiskUnexpected
      disk serial S2 (MZQL2960, 960 GB, nvme1n1) is there and the spec does not list it
      Add the disk to the spec if it is meant to stay, otherwise take it out; it is not tested and never written to until then.
    ");
    assert_eq!(
        judgement.findings[0].part.as_ref().map(ToString::to_string).as_deref(),
        Some("disk 3 (serial OLD9)")
    );
    assert_eq!(judgement.findings[0].evidence, [ARTIFACT]);
    assert_eq!(judgement.message, judgement.findings[0].message);
}

#[test]
fn lesser_differences_pass_and_stay_visible() {
    let judgement = against("format: 1\nsystem: {product: R650, asset_tag: rack-9}\n");
    assert_eq!(judgement.verdict, Verdict::Pass);
    assert_eq!(judgement.message, "2 of 2 spec fields compared, 1 differ without being critical");
    let check = judgement.checks.iter().find(|check| check.name == "system.asset_tag").expect("checked");
    assert_eq!((check.verdict, check.seen.as_str()), (Verdict::Skip, "rack-7 (differs; counts as info)"));
}

#[test]
fn severity_decides() {
    let spec = |severity: &str| {
        format!(
            "format: 1\nsystem: {{product: R650, asset_tag: rack-9}}\nseverity: {{system.asset_tag: {severity}}}\n"
        )
    };
    assert_eq!(against(&spec("critical")).verdict, Verdict::Fail);
    let ignored = against(&spec("ignore"));
    assert_eq!((ignored.verdict, ignored.findings.len(), ignored.coverage[0].total), (Verdict::Pass, 0, 1));
}

#[test]
fn a_critical_field_that_the_machine_does_not_tell_is_never_a_pass() {
    let spec = "format: 1\nsystem: {product: R650, serial: 7XK2M33}\n";
    let judgement = against(spec);
    assert_eq!(judgement.verdict, Verdict::Unverified);
    insta::assert_snapshot!(format!("{}\n{}", judgement.message, judgement.unverified.join("\n")), @r#"
    1 of 2 spec fields compared, critical ones not told by the machine: system.serial
    system.serial: expected 7XK2M33, the machine does not tell; check it by eye, then set `severity: {"system.serial": warning}` or take it out of the spec
    "#);
    // The way out that the sentence names works.
    let accepted = against(&format!("{spec}severity: {{\"system.serial\": warning}}\n"));
    assert_eq!((accepted.verdict, accepted.unverified.len()), (Verdict::Pass, 1));
    assert_eq!(accepted.coverage[0], Coverage { what: "spec fields".into(), covered: 1, total: 2 });
}

#[test]
fn an_empty_spec_proves_nothing() {
    let judgement = against("format: 1\n");
    assert_eq!(judgement.verdict, Verdict::Unverified);
    assert!(judgement.message.contains("declares nothing"), "{}", judgement.message);
    assert_eq!(
        against("format: 1\nsystem: {product: X}\nseverity: {system: ignore}\n").verdict,
        Verdict::Unverified
    );
}

#[test]
fn an_empty_machine_fails_a_spec_with_parts() {
    let judgement = judged("format: 1\ndisks: [{serial: S1}]\n", &json!({"format": 1}));
    assert_eq!(judgement.verdict, Verdict::Fail);
    assert_eq!(judgement.findings[0].code, "DiskMissing");
}

#[test]
fn evidence_of_another_shape_is_the_runners_fault() {
    for evidence in [json!(null), json!({}), json!({"format": 1, "disks": [7]}), json!([1])] {
        assert_eq!(
            judged("format: 1\nsystem: {product: R650}\n", &evidence).verdict,
            Verdict::Error,
            "{evidence}"
        );
    }
}

/// A machine with disks S1 and S2, two modules and a port, judged after a repair.
fn repaired(replaced: &[Replacement], before: Option<&Inventory>, now: &Inventory) -> Judgement {
    let spec = HostSpec::from_yaml("format: 1\nsystem: {product: R650}\n").expect("a spec");
    let evidence = serde_json::to_value(now).expect("serialises");
    let before = before.map(|inventory| serde_json::to_value(inventory).expect("serialises"));
    let before = before.as_ref().map(|value| (7, value));
    SpecValidate.judge(&JudgeInput { replaced, before, ..JudgeInput::new(&spec, &evidence) })
}

fn with_parts(disks: [&str; 2], dimms: [&str; 2], mac: &str) -> Inventory {
    let mut machine = machine();
    for (disk, serial) in machine.disks.iter_mut().zip(disks) {
        disk.serial = Some(serial.into());
    }
    machine.memory.dimms = dimms
        .iter()
        .zip(["DIMM_A1", "DIMM_B1"])
        .map(|(serial, slot)| Dimm {
            locator: Some(slot.into()),
            serial: Some((*serial).into()),
            size_mib: Some(8192),
            ..Dimm::default()
        })
        .collect();
    machine.nics = vec![Nic { name: "eno1".into(), mac: Some(mac.into()), ..Nic::default() }];
    machine
}

const PORT: &str = "02:00:00:00:00:01";

fn swap(kind: PartKind, old: &str, new: &str) -> Replacement {
    Replacement { kind, old: old.into(), new: new.into() }
}

#[test]
fn exactly_the_parts_that_were_replaced_may_have_changed() {
    let before = with_parts(["S1", "S2"], ["M1", "M2"], PORT);
    let codes = |replaced: &[Replacement], now: &Inventory| -> Vec<String> {
        let judgement = repaired(replaced, Some(&before), now);
        let verdict = if judgement.findings.is_empty() { Verdict::Pass } else { Verdict::Fail };
        assert_eq!(judgement.verdict, verdict, "{judgement:?}");
        judgement
            .findings
            .iter()
            .map(|f| format!("{} {}", f.code, f.part.as_ref().expect("a part")))
            .collect()
    };
    let disk = [swap(PartKind::Disk, "S2", "S9")];
    assert_eq!(codes(&disk, &with_parts(["S1", "S9"], ["M1", "M2"], PORT)), Vec::<String>::new());
    assert_eq!(
        codes(&disk, &before),
        ["ReplacedPartMissing disk (serial S9)", "OldPartPresent disk nvme1n1 (serial S2)"],
        "nothing was done"
    );
    assert_eq!(
        codes(&disk, &with_parts(["S2", "S9"], ["M1", "M2"], PORT)),
        ["OldPartPresent disk nvme0n1 (serial S2)", "PartChanged disk nvme0n1 (serial S1)"],
        "the wrong one was taken out"
    );
    assert_eq!(
        codes(&disk, &with_parts(["S1", "S9"], ["M1", "MX"], PORT)),
        ["PartChanged dimm DIMM_B1 (serial M2)", "PartChanged dimm DIMM_B1 (serial MX)"],
        "somebody borrowed a module"
    );
    let both = [disk[0].clone(), swap(PartKind::Dimm, "M2", "MX")];
    assert_eq!(codes(&both, &with_parts(["S1", "S9"], ["M1", "MX"], PORT)), Vec::<String>::new());
    let port = [swap(PartKind::Nic, PORT, "02:00:00:00:00:99")];
    assert_eq!(
        codes(&port, &with_parts(["S1", "S2"], ["M1", "M2"], "02:00:00:00:00:99")),
        Vec::<String>::new()
    );
    assert_eq!(
        codes(&[], &with_parts(["S1", "X"], ["M1", "Y"], PORT)),
        Vec::<String>::new(),
        "nobody spoke of a repair"
    );
}

#[test]
fn what_cannot_be_compared_after_a_repair_is_said() {
    let now = with_parts(["S1", "S9"], ["M1", "M2"], PORT);
    let first = repaired(&[swap(PartKind::Disk, "S2", "S9")], None, &now);
    assert_eq!(first.verdict, Verdict::Pass);
    assert!(
        first.unverified[0].starts_with("that no other part has changed: this machine has passed no run"),
        "{first:?}"
    );
    let supply = repaired(&[swap(PartKind::Psu, "P1", "P2")], Some(&now), &now);
    assert_eq!(supply.verdict, Verdict::Unverified, "power supplies tell nothing here, and that is no pass");
    assert!(supply.unverified[0].contains("compare the label by eye"), "{supply:?}");
}

#[cfg(feature = "collect")]
#[test]
fn a_retry_sees_the_machine_as_it_is_then() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |path: &str, content: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, content).expect("written");
    };
    std::fs::create_dir(folder.path().join("tools")).expect("a folder for tools");
    write("sys/class/dmi/id/product_name", "R650");
    let machine = assay_probes::Machine::captured(folder.path(), Some(folder.path().join("tools")));
    let spec =
        HostSpec::from_yaml("format: 1\nsystem: {product: R650}\ndisks: [{serial: S1}]\n").expect("a spec");
    let attempt = || {
        let context = crate::testing::context(&machine, &spec);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let collected = runtime.block_on(SpecValidate.collect(&context)).expect("collected");
        assert_eq!(collected.artifacts[0].0, ARTIFACT);
        SpecValidate.judge(&JudgeInput::new(&spec, &collected.evidence))
    };
    let before = attempt();
    assert_eq!((before.verdict, before.message.as_str()), (Verdict::Fail, "disk serial S1 is gone"));

    write("sys/block/vda/serial", "S1\n");
    write("sys/block/vda/size", "2048\n");
    assert_eq!(attempt().verdict, Verdict::Pass);
}
