//! The judge of `CPUStress`, red and green.

use assay_model::host::cpu_stress::{BitError, MemoryTest, ToolRun, Work};
use assay_model::host::inventory::{Dimm, Memory};
use assay_model::host::order::{PartKind, Replacement};
use serde_json::{Value, json};

use super::*;

const MIB: u64 = 1 << 20;

fn memory() -> MemoryTest {
    MemoryTest {
        ended: Ended::Finished,
        total: 64_000 * MIB,
        available: 63_000 * MIB,
        reserve: 704 * MIB,
        asked: 62_296 * MIB,
        region: 62_200 * MIB,
        locked: true,
        threads: 32,
        patterns: vec!["address".to_owned(), "inverse".to_owned()],
        passes: 2,
        written: 124_400 * MIB,
        verified: 124_400 * MIB,
        seconds: 13.0,
        ..MemoryTest::default()
    }
}

fn stress_ng() -> ToolRun {
    let work = |name: &str| Work { name: name.to_owned(), done: 3092.0, per_second: 5.0 };
    ToolRun {
        ended: Ended::Finished,
        asked_s: 600,
        seconds: 601.2,
        exit: Some(0),
        work: vec![work("cpu"), work("vm")],
        ..ToolRun::default()
    }
}

fn stressapptest() -> ToolRun {
    let copied = Work { name: "memory copied, MiB".to_owned(), done: 57_884.0, per_second: 11_484.2 };
    ToolRun {
        ended: Ended::Finished,
        asked_s: 60,
        seconds: 60.3,
        exit: Some(0),
        work: vec![copied],
        passed: Some(true),
        errors: Some(0),
        ..ToolRun::default()
    }
}

fn warm(max: f64) -> Temperature {
    Temperature {
        sensor: "coretemp/Package id 0@coretemp.0".to_owned(),
        samples: 660,
        max: Some(max),
        sustained: Some(max),
        ..Temperature::default()
    }
}

fn healthy() -> CpuStressEvidence {
    CpuStressEvidence {
        processors: 32,
        memory: memory(),
        stress_ng: stress_ng(),
        stressapptest: stressapptest(),
        temperatures: vec![warm(78.0)],
        throttled: Some(Vec::new()),
        stopped: None,
        seconds: 680.0,
    }
}

fn judged(evidence: &CpuStressEvidence, change: impl FnOnce(&mut HostSpec)) -> Judgement {
    let mut spec = HostSpec::default();
    change(&mut spec);
    let value = serde_json::to_value(evidence).expect("plain");
    CpuStress.judge(&JudgeInput::new(&spec, &value))
}

fn codes(judgement: &Judgement) -> Vec<&str> {
    judgement.findings.iter().map(|finding| finding.code.as_str()).collect()
}

#[test]
fn a_healthy_machine_passes_and_says_for_how_much() {
    let judgement = judged(&healthy(), |_| ());
    assert_eq!(judgement.verdict, Verdict::Pass, "{judgement:#?}");
    assert!(judgement.findings.is_empty() && judgement.unverified.is_empty(), "{judgement:#?}");
    assert_eq!(
        judgement.message,
        "60.7 GiB of 62.5 GiB of memory written and verified in 2 passes (20.1 GB/s), 601 s under load"
    );
    let bytes = &judgement.coverage[0];
    assert_eq!((bytes.covered, bytes.total), (62_200 * MIB, 64_000 * MIB));
}

/// One thing is other than on the healthy machine, and the verdict with the codes that follow from it.
type Case = (&'static str, fn(&mut CpuStressEvidence), Verdict, &'static [&'static str]);

#[test]
fn each_thing_that_is_wrong_has_its_verdict() {
    let cases: &[Case] = &[
        (
            "a flipped bit",
            |e| (e.memory.mismatches, e.memory.flips) = (1, vec![flip()]),
            Verdict::Fail,
            &["MemoryBitError"],
        ),
        (
            "bits that were told before the test was killed",
            |e| {
                e.memory = MemoryTest { ended: Ended::Broken, mismatches: 3, ..MemoryTest::default() };
            },
            Verdict::Fail,
            &["MemoryBitError"],
        ),
        (
            "the memory test was killed",
            |e| {
                let detail = "signal: 9".to_owned();
                e.memory = MemoryTest { ended: Ended::Broken, detail, ..MemoryTest::default() };
            },
            Verdict::Error,
            &[],
        ),
        (
            "too little was tested",
            |e| e.memory.region = 59_000 * MIB,
            Verdict::Unverified,
            &["MemoryCoverageLow"],
        ),
        (
            "more was written than verified",
            |e| e.memory.verified = 50_000 * MIB,
            Verdict::Unverified,
            &["MemoryCoverageLow"],
        ),
        (
            "nearly all was taken by others",
            |e| {
                e.memory.available = 20_000 * MIB;
                (e.memory.region, e.memory.verified) = (19_296 * MIB, 38_592 * MIB);
            },
            Verdict::Unverified,
            &["MemoryCoverageLow"],
        ),
        (
            "a reserve that hides memory",
            |e| e.memory.reserve = 30_000 * MIB,
            Verdict::Unverified,
            &["MemoryCoverageLow"],
        ),
        ("no memory was tested", |e| e.memory = MemoryTest::default(), Verdict::Unverified, &[]),
        ("stress-ng found a wrong result", |e| e.stress_ng.exit = Some(2), Verdict::Fail, &["StressFailed"]),
        ("stress-ng had no room", |e| e.stress_ng.exit = Some(3), Verdict::Error, &[]),
        ("stress-ng was used wrongly", |e| e.stress_ng.exit = Some(1), Verdict::Error, &[]),
        (
            "stress-ng was killed",
            |e| (e.stress_ng.exit, e.stress_ng.signal) = (None, Some(9)),
            Verdict::Error,
            &[],
        ),
        (
            "stress-ng failed because memory was taken away",
            |e| (e.stress_ng.exit, e.stress_ng.out_of_memory) = (Some(2), true),
            Verdict::Error,
            &[],
        ),
        (
            "both at once",
            |e| {
                (e.stress_ng.exit, e.stress_ng.out_of_memory) = (Some(2), true);
                e.stress_ng.complaints = vec!["stress-ng: fail: vm: detected 3 bit errors".to_owned()];
            },
            Verdict::Fail,
            &["StressFailed"],
        ),
        (
            "a complaint with a good end",
            |e| e.stress_ng.complaints = vec!["stress-ng: fail: odd".to_owned()],
            Verdict::Pass,
            &["StressFailed"],
        ),
        ("stress-ng hangs", |e| e.stress_ng.ended = Ended::Hung, Verdict::Error, &[]),
        ("stress-ng is missing", |e| e.stress_ng.ended = Ended::Missing, Verdict::Unverified, &[]),
        ("stress-ng ended early", |e| e.stress_ng.seconds = 300.0, Verdict::Unverified, &[]),
        ("stress-ng was asked for less", |e| e.stress_ng.asked_s = 10, Verdict::Unverified, &[]),
        ("no work on memory", |e| e.stress_ng.work.truncate(1), Verdict::Unverified, &[]),
        ("no work that counts", |e| e.stress_ng.work[0].done = 0.0, Verdict::Unverified, &[]),
        (
            "stressapptest found errors and ended well",
            |e| e.stressapptest.errors = Some(3),
            Verdict::Fail,
            &["StressFailed"],
        ),
        (
            "stressapptest could not work",
            |e| (e.stressapptest.passed, e.stressapptest.errors) = (Some(false), None),
            Verdict::Pass,
            &[],
        ),
        ("stressapptest is missing", |e| e.stressapptest.ended = Ended::Missing, Verdict::Pass, &[]),
        ("too hot", |e| e.temperatures = vec![warm(90.5)], Verdict::Fail, &["TemperatureLimit"]),
        ("at the limit", |e| e.temperatures = vec![warm(90.0)], Verdict::Pass, &[]),
        ("one odd reading", |e| e.temperatures[0].max = Some(127.0), Verdict::Pass, &[]),
        ("no sensor", |e| e.temperatures.clear(), Verdict::Pass, &[]),
        (
            "stopped without a reason that shows",
            |e| e.stopped = Some("sensor x reached 97 °C".to_owned()),
            Verdict::Unverified,
            &[],
        ),
        ("slowed down", |e| e.throttled = Some(vec![slow(4)]), Verdict::Pass, &["CpuThrottled"]),
        ("nobody counts", |e| e.throttled = None, Verdict::Pass, &[]),
    ];
    for (name, change, verdict, expected) in cases {
        let mut evidence = healthy();
        change(&mut evidence);
        let judgement = judged(&evidence, |_| ());
        assert_eq!(
            (judgement.verdict, codes(&judgement)),
            (*verdict, expected.to_vec()),
            "{name}: {judgement:#?}"
        );
        if !matches!(verdict, Verdict::Pass | Verdict::Fail) {
            assert!(!judgement.unverified.is_empty(), "{name}: it says why");
        }
    }
}

fn flip() -> BitError {
    BitError { offset: 64, physical: Some(0x1_2340), expected: 0b1000, seen: 0, again: 0, pass: 2 }
}

fn slow(times: u64) -> Throttled {
    Throttled { what: "processor 0".to_owned(), times }
}

#[test]
fn a_bit_error_says_where_and_which_module() {
    let mut evidence = healthy();
    (evidence.memory.mismatches, evidence.memory.flips) = (7, vec![flip()]);
    let value = serde_json::to_value(&evidence).expect("plain");
    let with = |slots: &[(&str, &str)], replaced: &[Replacement]| {
        let dimm = |(slot, serial): &(&str, &str)| Dimm {
            locator: Some((*slot).to_owned()),
            serial: Some((*serial).to_owned()),
            size_mib: Some(32_768),
            ..Dimm::default()
        };
        let empty = Dimm { size_mib: Some(0), ..Dimm::default() };
        let dimms = slots.iter().map(dimm).chain([empty]).collect();
        let inventory = Inventory { memory: Memory { total_mib: None, dimms }, ..Inventory::default() };
        let inventory = serde_json::to_value(inventory).expect("plain");
        let spec = HostSpec::default();
        let earlier = [(StageName::from("Inventory"), inventory)];
        let mut judgement =
            CpuStress.judge(&JudgeInput { earlier: &earlier, replaced, ..JudgeInput::new(&spec, &value) });
        judgement.findings.remove(0)
    };
    let one = with(&[("DIMM_A1", "F1")], &[]);
    let part = one.part.clone().expect("blamed");
    assert_eq!(
        (part.kind.as_str(), part.location.as_deref(), part.serial.as_deref()),
        ("dimm", Some("DIMM_A1"), Some("F1"))
    );
    assert_eq!(
        one.message,
        "7 words of memory do not hold what is written to them: physical address 0x12340 (wrote 0x0000000000000008, read 0x0000000000000000, bit 3, pass 2)"
    );
    let many = with(&[("DIMM_A1", "F1"), ("DIMM_B1", "F2")], &[]);
    let part = many.part.clone().expect("blamed");
    assert_eq!(
        (part.kind.as_str(), part.location.as_deref(), part.serial),
        ("memory", Some("0x12340"), None)
    );
    assert!(many.message.ends_with("neither board nor kernel says which module that is"), "{}", many.message);
    let new = Replacement { kind: PartKind::Dimm, old: "F0".to_owned(), new: "F2".to_owned() };
    let repaired = with(&[("DIMM_A1", "F1"), ("DIMM_B1", "F2")], &[new]);
    assert!(repaired.next_step.contains("just replaced (serial F2)"), "{}", repaired.next_step);
}

#[test]
fn limits_of_the_spec_count() {
    let mut evidence = healthy();
    evidence.throttled = Some(vec![slow(4)]);
    let strict = |most| move |spec: &mut HostSpec| spec.limits.cpu.throttled_max = Some(most);
    assert_eq!(judged(&evidence, strict(4)).verdict, Verdict::Pass);
    assert_eq!(judged(&evidence, strict(3)).verdict, Verdict::Fail);

    let needed = |spec: &mut HostSpec| spec.limits.cpu.stressapptest_required = true;
    assert_eq!(judged(&healthy(), needed).verdict, Verdict::Pass);
    evidence.stressapptest.ended = Ended::Missing;
    assert_eq!(judged(&evidence, needed).verdict, Verdict::Unverified);

    let mut half = healthy();
    half.memory.region = 40_000 * MIB;
    assert_eq!(judged(&half, |spec| spec.limits.memory.percent_min = Some(60)).verdict, Verdict::Pass);
    assert_eq!(judged(&half, |spec| spec.limits.memory.percent_min = Some(70)).verdict, Verdict::Unverified);
    let longer = |spec: &mut HostSpec| spec.limits.cpu.load_seconds = Some(601);
    assert_eq!(judged(&healthy(), longer).verdict, Verdict::Unverified, "it ran for 600");
    let cooler = |spec: &mut HostSpec| spec.limits.max_temp_c = 75;
    assert_eq!(judged(&healthy(), cooler).verdict, Verdict::Fail);
}

#[test]
fn a_quick_run_is_content_with_half_and_says_what_it_had_no_time_for() {
    let mut evidence = healthy();
    (evidence.stress_ng.asked_s, evidence.stress_ng.seconds) = (10, 10.1);
    evidence.stressapptest = ToolRun::default();
    let test = &mut evidence.memory;
    (test.passes, test.region, test.written, test.verified) = (1, 32_000 * MIB, 32_000 * MIB, 32_000 * MIB);
    let value = serde_json::to_value(&evidence).expect("plain");
    let spec = HostSpec::default();
    let judgement =
        CpuStress.judge(&JudgeInput { profile: Profile::Quick, ..JudgeInput::new(&spec, &value) });
    assert_eq!(judgement.verdict, Verdict::Pass, "{judgement:#?}");
    assert_eq!(
        judgement.unverified,
        ["1 of 2 passes over memory fitted into their time: not every bit was seen in both states"]
    );
    // The same is far too little in any other profile.
    assert_eq!(CpuStress.judge(&JudgeInput::new(&spec, &value)).verdict, Verdict::Unverified);
}

#[test]
fn what_is_no_evidence_passes_nothing() {
    let spec = HostSpec::default();
    let judged = |value: &Value| CpuStress.judge(&JudgeInput::new(&spec, value));
    assert_eq!(judged(&Value::Null).verdict, Verdict::Error);
    assert_eq!(judged(&json!({"memory": 5})).verdict, Verdict::Error);
    let empty = judged(&json!({"counters": {}, "invented_later": 1}));
    assert_eq!(empty.verdict, Verdict::Unverified);
    assert!(empty.unverified.len() >= 3, "{empty:#?}");
    // Numbers from a machine that is out of its mind.
    let mad = json!({"memory": {"ended": "finished", "total": u64::MAX, "available": u64::MAX, "reserve": u64::MAX,
        "region": u64::MAX, "written": u64::MAX, "verified": u64::MAX, "passes": 1, "seconds": -1.0}});
    assert_ne!(judged(&mad).verdict, Verdict::Pass);
}

#[test]
fn the_time_limit_leaves_room_for_what_is_asked() {
    let spec = HostSpec::default();
    for profile in Profile::ALL {
        let amount = Amount::of(&spec, profile);
        let least = amount.load_s + amount.copy_s + amount.memory_limit_s;
        assert!(CpuStress.limit_s(&spec, profile) > least, "{profile}");
    }
    let mut spec = HostSpec::default();
    spec.limits.cpu.load_seconds = Some(u32::MAX);
    assert_eq!(Amount::of(&spec, Profile::Quick).load_s, 604_800);
    spec.limits.memory.percent_min = Some(100);
    assert_eq!(Amount::of(&spec, Profile::Quick).ask_percent, 100);
}
