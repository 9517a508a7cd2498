//! What counts as having read a machine.

use assay_model::host::inventory::{Cpu, Disk, Memory, Nic, PciDevice, System};
use assay_model::host::spec::HostSpec;
use serde_json::{Value, json};

use super::*;

fn machine() -> Facts {
    Facts {
        system: System { product: Some("R650".into()), serial: Some("7XK2M33".into()), ..System::default() },
        cpus: vec![Cpu { cores: Some(16), threads: Some(32), ..Cpu::default() }],
        memory: Memory { total_mib: Some(64193), dimms: Vec::new() },
        disks: vec![Disk {
            name: "sda".into(),
            serial: Some("S1".into()),
            size_bytes: Some(1 << 40),
            ..Disk::default()
        }],
        nics: vec![Nic { name: "eno1".into(), mac: Some("3c:fd:fe:00:00:01".into()), ..Nic::default() }],
        ..Facts::default()
    }
}

fn judged(evidence: &Value) -> Judgement {
    let spec = HostSpec::default();
    Inventory.judge(&JudgeInput::new(&spec, evidence))
}

fn judged_facts(facts: &Facts) -> Judgement {
    judged(&serde_json::to_value(facts).expect("serialises"))
}

#[test]
fn a_machine_that_was_read_passes_and_says_what_it_is() {
    let judgement = judged_facts(&machine());
    assert_eq!(judgement.verdict, Verdict::Pass);
    assert_eq!(judgement.message, "R650: 1 CPU, 62.7 GiB, 1 disk, 1 network port");
    assert!(judgement.findings.is_empty() && judgement.unverified.is_empty(), "{judgement:?}");
}

/// A part of the picture, and how to lose it.
type Loss = (&'static str, fn(&mut Facts));

#[test]
fn each_missing_part_of_the_picture_keeps_it_from_passing() {
    let cases: [Loss; 4] = [
        ("identity of the machine", |facts| {
            facts.system = System { manufacturer: Some("ACME".into()), ..System::default() }
        }),
        ("processors", |facts| facts.cpus.clear()),
        ("memory", |facts| facts.memory.total_mib = Some(0)),
        ("disks and network ports", |facts| {
            facts.disks.clear();
            facts.nics.clear();
        }),
    ];
    for (name, break_it) in cases {
        let mut facts = machine();
        break_it(&mut facts);
        let judgement = judged_facts(&facts);
        assert_eq!(judgement.verdict, Verdict::Unverified, "{name}");
        assert_eq!(judgement.message, format!("could not be read: {name}"));
        assert_eq!(judgement.unverified.len(), 1);
    }
}

#[test]
fn what_is_odd_is_found_and_does_not_fail() {
    let mut facts = machine();
    facts.driverless.push(PciDevice {
        address: "0000:04:00.0".into(),
        vendor_device: "14e4:1750".into(),
        class: "020000".into(),
        ..PciDevice::default()
    });
    facts.disks.push(Disk { name: "sdb".into(), size_bytes: Some(0), ..Disk::default() });
    facts.memory.dimms =
        vec![assay_model::host::inventory::Dimm { size_mib: Some(131_072), ..Default::default() }];
    facts.tools_missing = vec!["lshw".into(), "lspci".into()];
    facts.problems = vec!["the SMBIOS tables are cut short".into()];
    let judgement = judged_facts(&facts);
    assert_eq!(judgement.verdict, Verdict::Pass);
    let found: Vec<String> =
        judgement.findings.iter().map(|f| format!("{} {}: {}", f.severity, f.code, f.message)).collect();
    assert_eq!(
        found,
        [
            "warning DriverMissing: PCI device 14e4:1750 at 0000:04:00.0 (class 020000) has no driver",
            "warning SizeImplausible: disk sdb says that it has no sectors",
            "warning SizeImplausible: 131072 MiB of memory are installed, 64193 MiB are usable",
            "info ToolMissing: optional tools are not there: lshw, lspci",
            "info ProbeProblem: the SMBIOS tables are cut short",
        ]
    );
}

#[test]
fn evidence_of_another_shape_is_the_runners_fault() {
    for evidence in [json!(null), json!({}), json!({"format": 9}), json!({"format": 1, "cpus": "many"})] {
        let judgement = judged(&evidence);
        assert_eq!(judgement.verdict, Verdict::Error, "{evidence}");
        assert!(judgement.message.contains("inventory"), "{}", judgement.message);
    }
}
