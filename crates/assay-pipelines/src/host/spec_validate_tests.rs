//! Verdicts over comparisons; the comparing itself is tested with the spec.

use assay_model::host::inventory::{Disk, System};
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
    SpecValidate.judge(&JudgeInput { spec: &spec, evidence, earlier: &[], sensors: &[] })
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
        let context = crate::CollectContext { machine: &machine, spec: &spec, progress: &|_| () };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let collected = runtime.block_on(SpecValidate.collect(&context)).expect("collected");
        assert_eq!(collected.artifacts[0].0, ARTIFACT);
        SpecValidate.judge(&JudgeInput {
            spec: &spec,
            evidence: &collected.evidence,
            earlier: &[],
            sensors: &[],
        })
    };
    let before = attempt();
    assert_eq!((before.verdict, before.message.as_str()), (Verdict::Fail, "disk serial S1 is gone"));

    write("sys/block/vda/serial", "S1\n");
    write("sys/block/vda/size", "2048\n");
    assert_eq!(attempt().verdict, Verdict::Pass);
}
