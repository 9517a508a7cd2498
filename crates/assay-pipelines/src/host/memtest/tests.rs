//! The judge of `Memtest86`, red and green.

use assay_model::host::memtest::{MemtestEvidence, MemtestFault, MemtestReader};
use serde_json::json;

use super::*;

fn sound() -> MemtestEvidence {
    MemtestEvidence {
        version: Some("Memtest86+ v6.10".to_owned()),
        memory: Some("47MB".to_owned()),
        passes: 1,
        status: Some("Pass".to_owned()),
        time: Some("0:06:20".to_owned()),
        listened_s: 390.0,
        passes_asked: 1,
        ..MemtestEvidence::default()
    }
}

fn fault() -> MemtestFault {
    MemtestFault { pass: 0, test: 2, address: 0x150_0000, expected: 0x150_0000, found: 0x1150_0000 }
}

type Case = (&'static str, fn(&mut MemtestEvidence), Verdict);

#[test]
fn only_a_whole_pass_without_an_error_passes() {
    let cases: &[Case] = &[
        ("sound", |_| (), Verdict::Pass),
        ("more passes than were asked for", |e| e.passes = 3, Verdict::Pass),
        ("errors", |e| e.errors = 10, Verdict::Fail),
        ("errors, before the end of a pass", |e| (e.passes, e.errors) = (0, 1), Verdict::Fail),
        ("an address alone", |e| e.faults = vec![fault()], Verdict::Fail),
        ("the word alone", |e| e.status = Some("Failed!".to_owned()), Verdict::Fail),
        ("not to its end", |e| (e.passes, e.percent) = (0, 99), Verdict::Unverified),
        ("fewer passes than were asked for", |e| e.passes_asked = 4, Verdict::Unverified),
        ("a console without a memory test", |e| e.version = None, Verdict::Unverified),
        ("it never ran", |e| (e.version, e.served) = (None, Some(false)), Verdict::Unverified),
        ("a reset under it", |e| e.restarts = 1, Verdict::Fail),
        ("nothing at all", |e| *e = MemtestEvidence::default(), Verdict::Unverified),
    ];
    for (name, change, verdict) in cases {
        let mut evidence = sound();
        change(&mut evidence);
        let judgement = judge_memtest(&serde_json::to_value(&evidence).expect("plain"));
        assert_eq!(judgement.verdict, *verdict, "{name}: {judgement:#?}");
        let codes: Vec<_> = judgement.findings.iter().map(|finding| finding.code.as_str()).collect();
        let expected: &[&str] = match verdict {
            Verdict::Fail if evidence.restarts > 0 => &["MemtestRestarted"],
            Verdict::Fail => &["MemoryBitError"],
            _ => &[],
        };
        assert_eq!(codes, expected, "{name}");
        assert_eq!(judgement.unverified.is_empty(), *verdict != Verdict::Unverified, "{name}: it says why");
    }
    assert_eq!(judge_memtest(&json!(null)).verdict, Verdict::Error);
    assert_eq!(judge_memtest(&json!({"passes": "many"})).verdict, Verdict::Error);
}

#[test]
fn the_recorded_consoles_are_judged_as_they_were() {
    let judged = |console: &[u8]| {
        let mut reader = MemtestReader::default();
        reader.push(console);
        reader.push(b"\x1b[1;1H");
        judge_memtest(&serde_json::to_value(reader.evidence()).expect("plain"))
    };
    let green = judged(include_bytes!("../../../../assay-model/src/host/memtest/console-pass.txt"));
    assert_eq!(green.verdict, Verdict::Pass);
    let red = judged(include_bytes!("../../../../assay-model/src/host/memtest/console-fail.txt"));
    assert_eq!(red.verdict, Verdict::Fail);
    assert_eq!(
        red.message,
        "memtest86+ counted 10 errors: physical address 0x1500000 (wrote 0x0000000001500000, read 0x0000000011500000, test 2); physical address 0x1a00040 (wrote 0x0000000001a00040, read 0x0000100001a00040, test 2); it does not say which module that is"
    );
    let part = red.findings[0].part.clone().expect("blamed");
    assert_eq!((part.kind.as_str(), part.location.as_deref()), ("memory", Some("0x1500000")));
}

#[test]
fn time_and_passes_follow_spec_and_profile() {
    let spec = |yaml: &str| HostSpec::from_yaml(&format!("format: 1\n{yaml}")).expect("valid");
    for (yaml, profile, asked, limit_s) in [
        ("memory: {total_mib: 65536}", Profile::Quick, 1, 2400 + 64 * 60),
        ("memory: {total_mib: 65536}", Profile::Burnin, 4, 2400 + 4 * 64 * 60),
        ("", Profile::Standard, 1, 2400 + 1024 * 60),
        ("memory: {total_mib: 64}\nlimits: {memory: {memtest_passes: 2}}", Profile::Standard, 2, 2520),
        ("limits: {memory: {memtest_minutes: 3}}", Profile::Burnin, 4, 180),
        ("memory: {total_mib: 99999999999}", Profile::Burnin, 4, 14 * 86_400),
    ] {
        let spec = spec(yaml);
        assert_eq!(passes(&spec, profile), asked, "{yaml}");
        assert_eq!(Memtest86.limit_s(&spec, profile), limit_s, "{yaml}");
    }
    assert!(Memtest86.opt_in() && Memtest86.plan().owner == Owner::Runner);
}
