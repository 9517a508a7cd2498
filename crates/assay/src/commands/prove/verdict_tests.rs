//! Tables: what counts as proven, and what as a loss that was noticed.

use assay_api::operator::RunSummary;
use assay_model::report::{Report, ReportRun, ReportStage};
use assay_model::{Finding, Micros, RunState, StageName, Verdict};

use super::*;

fn entry(name: &str, expected: Expected, control: Option<&str>) -> Proof {
    Proof {
        name: name.into(),
        description: String::new(),
        pipeline: Pipeline::Host,
        kind: if control.is_some() { Kind::Fault } else { Kind::Healthy },
        made_by: MadeBy::Device,
        control: control.map(str::to_owned),
        smoke: false,
        expected,
    }
}

fn pass() -> Expected {
    Expected { verdict: Conclusion::Pass, stage: None, code: None, beside: Vec::new(), parts: Vec::new() }
}

fn fail(stage: &str, code: &str, beside: &[&str]) -> Expected {
    Expected {
        verdict: Conclusion::Fail,
        stage: Some(stage.into()),
        code: Some(code.into()),
        beside: beside.iter().map(|code| (*code).to_owned()).collect(),
        parts: Vec::new(),
    }
}

/// A finished run: its result, the stages judged with the failed one last, and its findings.
fn run(result: Option<RunResult>, judged: &[&str], findings: &[(&str, &str, Severity)]) -> RunDetail {
    let failed_stage =
        (result == Some(RunResult::Fail)).then(|| judged.last().map(|s| (*s).to_owned())).flatten();
    let state = if result.is_some() { RunState::Completed } else { RunState::Cancelled };
    let row = |name: &str| {
        let is_failed = failed_stage.as_deref() == Some(name);
        ReportStage {
            name: name.into(),
            verdict: judged.contains(&name).then_some(if is_failed { Verdict::Fail } else { Verdict::Pass }),
            attempt: 1,
            seconds: Some(1.0),
            coverage: vec![],
            required: true,
            waived: false,
            message: format!("what {name} said"),
            checks: vec![],
            lost_attempts: vec![],
        }
    };
    RunDetail {
        summary: RunSummary {
            number: 7,
            id: "01900000-0000-7000-8000-000000000001".into(),
            target: "x".into(),
            pipeline: assay_model::Pipeline::Host,
            on_host: true,
            profile: "standard".into(),
            state,
            result,
            overridden: false,
            stage: None,
            failed_stage: failed_stage.clone(),
            created_at: Micros(0),
            completed_at: Some(Micros(1)),
            waiting: None,
            position: None,
            starts_in_s: None,
        },
        report: Report {
            format: 1,
            run: ReportRun {
                id: String::new(),
                number: 7,
                pipeline: assay_model::Pipeline::Host,
                profile: "standard".into(),
                target: "x".into(),
                state,
                result,
                overridden: false,
                failed_stage: failed_stage.clone(),
                started_at: None,
                completed_at: None,
            },
            stages: ["Inventory", "SpecValidate", "SMART", "Reporting"].map(row).into(),
            ladder: None,
            findings: findings
                .iter()
                .map(|(at, code, severity)| {
                    let finding = Finding::new(code, *severity, format!("{code}!"), "act");
                    if at.is_empty() { finding } else { finding.stage(&StageName::from(*at)) }
                })
                .collect(),
            unverified: vec![],
            decisions: vec![],
            artifacts: vec![],
            seal: None,
        },
        seq: 9,
        hold_until: None,
        step: None,
    }
}

const PASSED: [&str; 4] = ["Inventory", "SpecValidate", "SMART", "Reporting"];
use Severity::{Critical, Info, Warning};

#[test]
fn a_fault_is_proven_by_its_result_its_stage_and_its_code() {
    let expected = fail("SpecValidate", "DiskMissing", &["DiskUnexpected"]);
    let (failed, at_spec) = (Some(RunResult::Fail), ["Inventory", "SpecValidate"]);
    let missing = ("SpecValidate", "DiskMissing", Critical);
    let beside = ("SpecValidate", "DiskUnexpected", Warning);
    let cases = [
        ("as expected", run(failed, &at_spec, &[missing, beside]), ""),
        (
            "among others",
            run(failed, &at_spec, &[("SpecValidate", "MemoryTotal", Critical), missing, beside]),
            "",
        ),
        ("passed", run(Some(RunResult::Pass), &PASSED, &[]), "expected fail, seen pass"),
        ("no result", run(None, &["Inventory"], &[]), "seen error"),
        ("never booted", run(failed, &[], &[("", "MachineNeverBooted", Critical)]), "failed at no stage"),
        (
            "another stage",
            run(failed, &["Inventory"], &[("Inventory", "DiskMissing", Critical), beside]),
            "failed at Inventory",
        ),
        (
            "another code",
            run(failed, &at_spec, &[("SpecValidate", "MemoryTotal", Critical), beside]),
            "critical codes: MemoryTotal",
        ),
        (
            "only a warning",
            run(failed, &at_spec, &[("SpecValidate", "DiskMissing", Warning), beside]),
            "not raised as critical",
        ),
        (
            "another stage's code",
            run(failed, &at_spec, &[("Inventory", "DiskMissing", Critical), beside]),
            "not raised as critical",
        ),
        ("nothing beside", run(failed, &at_spec, &[missing]), "`DiskUnexpected` was not raised"),
    ];
    for (case, detail, says) in cases {
        let seen = Seen::of(&detail, Some("DiskMissing"));
        let differences = expected.differences(&seen).join("; ");
        assert_eq!(differences.is_empty(), says.is_empty(), "{case}: {differences}");
        assert!(differences.contains(says), "{case}: {differences}");
    }
}

#[test]
fn every_part_that_is_named_must_be_blamed() {
    let mut expected = fail("Storage", "UnexpectedData", &[]);
    expected.parts = vec!["SC1".into(), "SA2".into()];
    let mut detail = run(Some(RunResult::Fail), &["Inventory", "Storage"], &[]);
    let blame = |serial: &str, severity| {
        let finding = Finding::new("UnexpectedData", severity, "data!", "look");
        finding.stage(&StageName::from("Storage")).part("disk", None, Some(serial))
    };
    detail.report.findings = vec![blame("SC1", Critical), blame("SA2", Warning)];
    let differences = expected.differences(&Seen::of(&detail, Some("UnexpectedData")));
    assert_eq!(differences, ["no critical `UnexpectedData` blames SA2"]);
    detail.report.findings.push(blame("SA2 ", Critical));
    assert!(expected.differences(&Seen::of(&detail, Some("UnexpectedData"))).is_empty());
}

#[test]
fn a_fault_that_was_not_made_proves_nothing() {
    let seen = Seen::of(&run(Some(RunResult::Fail), &AT_SPEC, &[MISSING]), Some("DimmMissing"));
    let seen = Seen { not_made: vec!["the run ended before the fault was made".into()], ..seen };
    let entry = entry("dimm", fail("SpecValidate", "DimmMissing", &[]), Some("healthy"));
    let line = Line::of(&entry, seen, 60.0, Some(&healthy()));
    assert_eq!(
        (line.ok, &line.problems[..]),
        (false, &["the run ended before the fault was made".to_owned()][..])
    );
}

#[test]
fn a_healthy_machine_is_proven_by_a_pass_without_anything_critical() {
    let of = |detail: &RunDetail| pass().differences(&Seen::of(detail, None)).join("; ");
    assert_eq!(
        of(&run(
            Some(RunResult::Pass),
            &PASSED,
            &[("SMART", "WearHigh", Warning), ("Inventory", "ToolMissing", Info)]
        )),
        ""
    );
    let failed = run(
        Some(RunResult::Fail),
        &["Inventory", "SpecValidate"],
        &[("SpecValidate", "NicMismatch", Critical)],
    );
    assert!(
        of(&failed)
            .starts_with("expected pass, seen fail at SpecValidate: NicMismatch: what SpecValidate said")
    );
    let odd = run(Some(RunResult::Pass), &PASSED, &[("SMART", "MediaErrors", Critical)]);
    assert!(of(&odd).contains("on a machine in good order: MediaErrors"));
    assert!(!pass().differences(&Seen::error("the server is gone".into())).is_empty());
}

#[test]
fn a_waiver_or_an_error_is_no_pass() {
    assert_eq!(Seen::of(&run(None, &[], &[]), None).verdict, "error");
    assert_eq!(Seen::error("away".into()).words(), "error");
}

fn healthy() -> Line {
    let seen = Seen::of(&run(Some(RunResult::Pass), &PASSED, &[]), None);
    Line::of(&entry("healthy", pass(), None), seen, 60.0, None)
}

fn broken(judged: &[&str], findings: &[(&str, &str, Severity)], control: Option<&Line>) -> Line {
    let result = if judged.len() == PASSED.len() { RunResult::Pass } else { RunResult::Fail };
    let seen = Seen::of(&run(Some(result), judged, findings), Some("DimmMissing"));
    Line::of(&entry("dimm", fail("SpecValidate", "DimmMissing", &[]), Some("healthy")), seen, 60.0, control)
}

const AT_SPEC: [&str; 2] = ["Inventory", "SpecValidate"];
const MISSING: (&str, &str, Severity) = ("SpecValidate", "DimmMissing", Critical);

#[test]
fn an_entry_is_worth_nothing_without_its_control() {
    let good = broken(&AT_SPEC, &[MISSING], Some(&healthy()));
    assert!(good.ok, "{:?}", good.problems);

    let absent = broken(&AT_SPEC, &[MISSING], None);
    assert!(!absent.ok);
    let mut red = healthy();
    red.ok = false;
    let red = broken(&AT_SPEC, &[MISSING], Some(&red));
    assert_eq!(red.problems, ["its control healthy did not pass, so this proves nothing"]);
    assert_eq!(red.seen.control, Some(Control { name: "healthy".into(), ok: false }));
}

#[test]
fn a_loss_is_noticed_when_exactly_its_entries_fail_for_want_of_it() {
    let control = healthy();
    let other = |ok: bool| {
        let mut line = healthy();
        line.name = "other".into();
        line.ok = ok;
        line.problems = if ok { vec![] } else { vec!["something".into()] };
        line
    };
    let total = ("SpecValidate", "MemoryTotal", Critical);
    let cases = [
        ("passes without it", broken(&PASSED, &[], Some(&control)), true, ""),
        ("another code at the same stage", broken(&AT_SPEC, &[total], Some(&control)), true, ""),
        (
            "a later stage fails",
            broken(
                &["Inventory", "SpecValidate", "SMART"],
                &[("SMART", "DiskAbsent", Critical)],
                Some(&control),
            ),
            true,
            "",
        ),
        (
            "still green",
            broken(&AT_SPEC, &[MISSING], Some(&control)),
            true,
            "although DimmMissing was switched off",
        ),
        (
            "still raised elsewhere",
            broken(&["Inventory"], &[("Inventory", "DimmMissing", Critical)], Some(&control)),
            true,
            "although DimmMissing",
        ),
        (
            "never booted",
            broken(&[], &[("", "MachineNeverBooted", Critical)], Some(&control)),
            true,
            "another reason",
        ),
        ("no control", broken(&PASSED, &[], None), true, "another reason"),
        (
            "another entry is red",
            broken(&PASSED, &[], Some(&control)),
            false,
            "other does not need DimmMissing and is not ok: something",
        ),
    ];
    for (case, line, other_ok, says) in cases {
        let problems = unnoticed(&[healthy(), line, other(other_ok)], "DimmMissing").join("; ");
        assert_eq!(problems.is_empty(), says.is_empty(), "{case}: {problems}");
        assert!(problems.contains(says), "{case}: {problems}");
    }
    assert_eq!(unnoticed(&[healthy()], "DimmMissing"), ["no entry that was run expects DimmMissing"]);
}

#[test]
fn a_line_is_the_documented_one() {
    let line = broken(&AT_SPEC, &[("SpecValidate", "MemoryTotal", Critical), MISSING], Some(&healthy()));
    insta::assert_snapshot!(serde_json::to_string(&line).expect("serialises").replace(",\"", ",\n\""), @r#"
    {"name":"dimm",
    "pipeline":"host",
    "kind":"fault",
    "made_by":"device",
    "expected":{"verdict":"fail",
    "stage":"SpecValidate",
    "code":"DimmMissing"},
    "seen":{"verdict":"fail",
    "stage":"SpecValidate",
    "code":"DimmMissing",
    "codes":["MemoryTotal",
    "DimmMissing"],
    "lesser":[],
    "run":7,
    "message":"what SpecValidate said",
    "judged":["Inventory",
    "SpecValidate"],
    "control":{"name":"healthy",
    "ok":true}},
    "ok":true,
    "seconds":60.0}
    "#);
    let keys: Vec<_> = serde_json::to_value(healthy())
        .expect("serialises")
        .as_object()
        .expect("an object")
        .keys()
        .cloned()
        .collect();
    assert_eq!(keys, ["name", "pipeline", "kind", "made_by", "expected", "seen", "ok", "seconds"]);
}
