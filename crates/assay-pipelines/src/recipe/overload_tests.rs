//! A stack that does not converge in time: whose fault that is.

use assay_model::{Severity, Verdict};
use serde_json::{Value, json};

use super::evidence::{Deployed, Died, Outcome, Ran, Reached, TornDown};
use super::{RecipeInput, RecipeSpec, RecipeStage, install, teardown};

fn deployed(outcome: Outcome, ran: Vec<Ran>) -> Value {
    let version = super::evidence::VersionSeen::default();
    let deployed = Deployed {
        version,
        domain: "web.test".to_owned(),
        stack: "web_test".to_owned(),
        outcome,
        services: Vec::new(),
        version_label: None,
        commit_label: None,
        substituted: Vec::new(),
        remarks: Vec::new(),
        images: Vec::new(),
        answered: None,
        ran,
        phases: Vec::new(),
    };
    serde_json::to_value(Reached::Done(deployed)).expect("JSON")
}

fn late() -> Outcome {
    Outcome::TimedOut { waiting: vec!["app: 0 of 1 tasks run".to_owned()], limit_s: 60.0 }
}

/// Processor time that was waited for, in seconds of a minute.
fn with_load(mut evidence: Value, lost_s: f64) -> Value {
    let lost = json!({ "avg10": 90.0, "total_s": lost_s });
    evidence["pressure"] = json!({ "seconds": 60.0, "cpu": { "some": lost, "full": lost } });
    evidence
}

/// Evidence from somewhere.
fn on(ground: &str, mut evidence: Value) -> Value {
    let harness = super::harness::Harness::running();
    evidence["runner"] = json!({ "harness": harness, "ground": ground });
    evidence
}

fn judge(evidence: &Value) -> assay_model::Judgement {
    install::Install.judge(&RecipeInput::new(&spec(), evidence, &[]))
}

fn spec() -> RecipeSpec {
    let spec = json!({
        "name": "web", "folder": "/recipes/web", "settings": {}, "seed": 1,
        "manifest": { "format": 1, "settings": {}, "overlay": null, "hooks": {}, "tests": {}, "not_asked_for": [],
            "ignored": [], "switches": [], "warnings": [] },
    });
    RecipeSpec::of(&spec).expect("a spec")
}

#[test]
fn who_is_ended_from_outside_on_an_overloaded_runner_did_not_die() {
    let torn = |codes: &[i64]| {
        let died = codes.iter().map(|code| Died {
            service: "app".to_owned(),
            during: "Upgrade".to_owned(),
            exit_code: Some(*code),
            oom_killed: false,
            error: String::new(),
            last_words: String::new(),
        });
        let torn = TornDown { died: died.collect(), ..TornDown::default() };
        serde_json::to_value(Reached::Done(torn)).expect("JSON")
    };
    let judge_on = |ground: &str, codes: &[i64], lost_s: f64| {
        let earlier = [("Upgrade".into(), with_load(json!({}), lost_s))];
        teardown::Teardown.judge(&RecipeInput::new(&spec(), &on(ground, torn(codes)), &earlier))
    };
    let judge = |codes: &[i64], lost_s: f64| judge_on("machine", codes, lost_s);
    assert_eq!(judge_on("own", &[143], 59.0).verdict, Verdict::Fail, "only where it may be emulated");
    let starved = judge(&[143, 137], 59.0);
    assert_eq!(starved.verdict, Verdict::Error);
    assert!(starved.message.starts_with("the runner was overloaded: "), "{}", starved.message);
    for (codes, lost_s) in [(&[143][..], 30.0), (&[143, 1], 59.0), (&[1], 59.0)] {
        assert_eq!(judge(codes, lost_s).verdict, Verdict::Fail, "{codes:?} after {lost_s} s");
    }
    assert_eq!(judge(&[0], 59.0).verdict, Verdict::Pass);
}

#[test]
fn only_a_time_limit_on_an_overloaded_runner_is_the_runner_s_fault() {
    let crash = super::evidence::ServiceFailure {
        service: "app".to_owned(),
        class: "crash_loop".to_owned(),
        message: "it ended 3 times".to_owned(),
        last_words: String::new(),
    };
    let failed = Ran {
        name: "install_steps.sh".to_owned(),
        exit_code: Some(1),
        problem: None,
        seconds: 1.0,
        last_words: String::new(),
        log: "log.txt".to_owned(),
    };
    let well = Outcome::Converged { still_running: Vec::new() };
    let cases = [
        ("late, a busy runner", with_load(deployed(late(), vec![]), 54.0), Verdict::Error),
        ("late, a runner with time left", with_load(deployed(late(), vec![]), 53.0), Verdict::Fail),
        ("late, a kernel that tells nothing", deployed(late(), vec![]), Verdict::Fail),
        ("late, and a hook failed", with_load(deployed(late(), vec![failed]), 60.0), Verdict::Fail),
        (
            "a crash loop",
            with_load(deployed(Outcome::Failed { failures: vec![crash] }, vec![]), 60.0),
            Verdict::Fail,
        ),
        ("in time, a busy runner", with_load(deployed(well, vec![]), 60.0), Verdict::Pass),
    ];
    for (what, evidence, verdict) in cases {
        assert_eq!(judge(&evidence).verdict, verdict, "{what}");
    }
}

#[test]
fn what_was_waited_for_is_still_told() {
    let told = judge(&with_load(deployed(late(), vec![]), 60.0));
    let codes: Vec<(&str, Severity)> =
        told.findings.iter().map(|finding| (finding.code.as_str(), finding.severity)).collect();
    assert_eq!(codes, [("RunnerOverloaded", Severity::Warning), ("NotConverged", Severity::Warning)]);
    insta::assert_snapshot!(told.message, @"the runner was overloaded: tasks waited for a processor in 100 % of the time (from 90 % on it is too much); so it says nothing that after 60 s: app: 0 of 1 tasks run");
}
