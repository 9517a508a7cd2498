//! Counters that grew, and counters that did not: each with the verdict that follows.

use assay_model::host::counters::*;
use assay_model::host::inventory::{Dimm, Inventory};
use assay_model::host::order::{PartKind, Replacement};
use assay_model::host::spec::HostSpec;
use assay_model::{Check, Finding, Judgement, Owner, Severity, StageName, StagePlan, Verdict};
use serde_json::{Value, json};

use super::merge;
use crate::JudgeInput;

fn healthy() -> Counters {
    Counters {
        memory: Some(vec![MemoryErrors {
            id: "mc0/dimm0".into(),
            label: Some("DIMM_A1".into()),
            ..MemoryErrors::default()
        }]),
        machine_checks: Some(0),
        pcie: vec![PcieErrors { address: "0000:00:1c.0".into(), ..PcieErrors::default() }],
        throttled: Some(3),
        nics: vec![NicCounters {
            name: "eno1".into(),
            mac: Some("3c:ec:ef:12:34:56".into()),
            up: true,
            carrier: Some(true),
            carrier_changes: Some(2),
            errors: [("rx_crc_errors".to_owned(), 7)].into(),
            ..NicCounters::default()
        }],
        bmc: Some(BmcLog { last: Some("1".into()), ..BmcLog::default() }),
        kernel: Some(KernelLog { last: 100, ..KernelLog::default() }),
        problems: Vec::new(),
    }
}

fn judged(change: impl FnOnce(&mut Counters)) -> Judgement {
    judged_with("CPUStress", change, &[], &HostSpec::default())
}

fn judged_with(
    stage: &str,
    change: impl FnOnce(&mut Counters),
    replaced: &[Replacement],
    spec: &HostSpec,
) -> Judgement {
    let mut after = healthy();
    change(&mut after);
    let pair = CounterPair { before: healthy(), after, seconds: 60 };
    let evidence = json!({ KEY: serde_json::to_value(pair).expect("plain data") });
    let mut inventory = Inventory::default();
    inventory.memory.dimms =
        vec![Dimm { locator: Some("DIMM_A1".into()), serial: Some("NEW1".into()), ..Dimm::default() }];
    let earlier = [(StageName::from("Inventory"), serde_json::to_value(inventory).expect("plain data"))];
    let input = JudgeInput { earlier: &earlier, replaced, ..JudgeInput::new(spec, &evidence) };
    let mut judgement = passed();
    merge(&mut judgement, &plan(stage), &input);
    judgement
}

fn passed() -> Judgement {
    let check = Check { name: "c".into(), verdict: Verdict::Pass, expected: "e".into(), seen: "s".into() };
    Judgement::from_evidence(vec![check], vec![], vec![], vec![], "all well")
}

fn plan(stage: &str) -> StagePlan {
    StagePlan { name: StageName::from(stage), owner: Owner::Agent, required: true, timeout_s: 1 }
}

fn told(judgement: &Judgement) -> Vec<(&str, Severity)> {
    judgement.findings.iter().map(|finding: &Finding| (finding.code.as_str(), finding.severity)).collect()
}

#[test]
fn a_machine_whose_counters_stood_still_passes_with_nothing_said() {
    let judgement = judged(|_| ());
    assert_eq!(judgement.verdict, Verdict::Pass);
    assert!(judgement.findings.is_empty() && judgement.unverified.is_empty(), "{judgement:?}");
}

/// What it is called, what changes, and what is found.
type Case = (&'static str, Box<dyn FnOnce(&mut Counters)>, &'static [(&'static str, Severity)]);

#[test]
fn each_counter_that_grew_has_its_verdict() {
    use Severity::{Critical, Info, Warning};
    let mce = |count: usize, status: &str| {
        let line = format!("mce: [Hardware Error]: CPU 3: Machine Check: 0 Bank 4: {status}");
        move |c: &mut Counters| c.kernel.as_mut().expect("a log").lines = vec![line; count]
    };
    let event = |text: &'static str| {
        move |c: &mut Counters| {
            c.bmc.as_mut().expect("a log").new = vec![BmcEvent { id: "2".into(), text: text.into() }];
        }
    };
    let cases: Vec<Case> = vec![
        (
            "ue",
            Box::new(|c| c.memory.as_mut().expect("m")[0].uncorrected = 1),
            &[("MemoryUncorrected", Critical)],
        ),
        (
            "ce 1",
            Box::new(|c| c.memory.as_mut().expect("m")[0].corrected = 1),
            &[("MemoryCorrected", Warning)],
        ),
        (
            "ce 2",
            Box::new(|c| c.memory.as_mut().expect("m")[0].corrected = 2),
            &[("MemoryCorrected", Critical)],
        ),
        ("mce 1", Box::new(mce(1, "8c00004000010091")), &[("MachineCheckCorrected", Warning)]),
        ("mce 2", Box::new(mce(2, "8c00004000010091")), &[("MachineCheckCorrected", Critical)]),
        ("mce overflow", Box::new(mce(1, "cc00004000010091")), &[("MachineCheckCorrected", Critical)]),
        ("mce uc", Box::new(mce(1, "bd000000000000c0")), &[("MachineCheckUncorrected", Critical)]),
        ("#MC", Box::new(|c| c.machine_checks = Some(2)), &[("MachineCheckUncorrected", Critical)]),
        ("aer ce", Box::new(|c| c.pcie[0].correctable = 9), &[("PcieErrors", Warning)]),
        ("aer nonfatal", Box::new(|c| c.pcie[0].nonfatal = 1), &[("PcieErrors", Critical)]),
        ("aer fatal", Box::new(|c| c.pcie[0].fatal = 1), &[("PcieErrors", Critical)]),
        ("throttled", Box::new(|c| c.throttled = Some(4)), &[("CpuThrottled", Warning)]),
        ("flap", Box::new(|c| c.nics[0].carrier_changes = Some(4)), &[("LinkFlapped", Critical)]),
        (
            "lost",
            Box::new(|c| {
                c.nics[0].carrier_changes = Some(3);
                c.nics[0].carrier = Some(false);
            }),
            &[("LinkFlapped", Critical)],
        ),
        (
            "crc",
            Box::new(|c| {
                c.nics[0].errors.insert("rx_crc_errors".into(), 8);
            }),
            &[("NicErrors", Warning)],
        ),
        (
            "drops",
            Box::new(|c| {
                c.nics[0].drops.insert("rx_dropped".into(), 8);
            }),
            &[],
        ),
        (
            "sel",
            Box::new(event("Fan FAN2 | Lower Critical going low | Asserted")),
            &[("BmcEventLogged", Critical)],
        ),
        (
            "sel noncritical",
            Box::new(event("Voltage P12V | Upper Non-critical going high | Asserted")),
            &[("BmcEventLogged", Warning)],
        ),
        (
            "sel noise",
            Box::new(event("System Event | Timestamp Clock Sync | Asserted")),
            &[("BmcEventLogged", Info)],
        ),
        (
            "kernel",
            Box::new(|c| {
                c.kernel.as_mut().expect("a log").lines = vec!["I/O error, dev sda, sector 8".into()];
            }),
            &[("KernelErrors", Warning)],
        ),
    ];
    for (name, change, expected) in cases {
        let judgement = judged(change);
        assert_eq!(told(&judgement), expected, "{name}");
        let critical = expected.iter().any(|(_, severity)| *severity == Critical);
        assert_eq!(judgement.verdict == Verdict::Fail, critical, "{name}");
    }
}

#[test]
fn a_port_that_the_stage_switched_itself_did_not_flap() {
    let off_before_and_after = judged(|c| {
        c.nics[0].up = false;
        c.nics[0].carrier_changes = Some(4);
    });
    assert_eq!(told(&off_before_and_after), []);
}

#[test]
fn no_corrected_error_is_allowed_on_memory_that_was_just_replaced() {
    let replaced = [Replacement { kind: PartKind::Dimm, old: "OLD1".into(), new: "NEW1".into() }];
    let one = |c: &mut Counters| c.memory.as_mut().expect("m")[0].corrected = 1;
    let judgement = judged_with("CPUStress", one, &replaced, &HostSpec::default());
    assert_eq!(told(&judgement), [("MemoryCorrected", Severity::Critical)]);
    let part = judgement.findings[0].part.as_ref().expect("a part");
    assert_eq!((part.location.as_deref(), part.serial.as_deref()), (Some("DIMM_A1"), Some("NEW1")));
}

#[test]
fn limits_of_the_spec_count() {
    let mut spec = HostSpec::default();
    spec.limits.counters.pcie_correctable_max = Some(8);
    let judgement = judged_with("CPUStress", |c| c.pcie[0].correctable = 9, &[], &spec);
    assert_eq!(judgement.verdict, Verdict::Fail);
    let judgement = judged_with("CPUStress", |c| c.pcie[0].correctable = 8, &[], &spec);
    assert_eq!(judgement.verdict, Verdict::Pass);
}

#[test]
fn what_is_not_counted_is_said_once_and_never_taken_for_zero() {
    let none = |c: &mut Counters| c.memory = None;
    let first = judged_with("Inventory", none, &[], &HostSpec::default());
    assert_eq!(first.unverified.len(), 1);
    assert!(first.unverified[0].contains("EDAC"), "{first:?}");
    assert_eq!((first.coverage[0].covered, first.coverage[0].total), (4, 5));
    assert!(judged(none).unverified.is_empty(), "said with the first stage already");
}

#[test]
fn evidence_without_counters_or_with_odd_ones_passes_nothing_silently() {
    let of = |evidence: Value| {
        let (spec, mut judgement) = (HostSpec::default(), passed());
        merge(&mut judgement, &plan("Inventory"), &JudgeInput::new(&spec, &evidence));
        judgement
    };
    assert_eq!(of(json!({})).unverified.len(), 1);
    assert_eq!(of(json!({ KEY: "many" })).unverified.len(), 1);
    assert_eq!(of(json!({ KEY: {} })).unverified.len(), 5);
}

#[test]
fn a_stage_that_could_not_run_stays_an_error_with_the_findings_beside_it() {
    let pair = CounterPair {
        before: healthy(),
        after: Counters { machine_checks: Some(1), ..healthy() },
        seconds: 1,
    };
    let evidence = json!({ KEY: serde_json::to_value(pair).expect("plain data") });
    let (spec, mut judgement) = (HostSpec::default(), Judgement::error("no tool"));
    merge(&mut judgement, &plan("CPUStress"), &JudgeInput::new(&spec, &evidence));
    assert_eq!(judgement.verdict, Verdict::Error);
    assert_eq!(told(&judgement), [("MachineCheckUncorrected", Severity::Critical)]);
}

#[test]
fn as_many_errors_of_a_port_as_the_spec_tolerates_are_none() {
    let mut spec = HostSpec::default();
    spec.limits.network.errors_max = 8;
    let grown = |by: u64| {
        let change = |c: &mut Counters| {
            c.nics[0].errors.insert("rx_crc_errors".into(), 7 + by);
        };
        let judgement = judged_with("Network", change, &[], &spec);
        judgement.findings.iter().map(|finding| finding.code.clone()).collect::<Vec<_>>()
    };
    assert_eq!(grown(8), [""; 0]);
    assert_eq!(grown(9), ["NicErrors"]);
}
