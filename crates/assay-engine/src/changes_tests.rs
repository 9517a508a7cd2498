//! What changed between two runs, told as an operator reads it.

use assay_model::event::{RunCreated, Target};
use assay_model::{
    Check, Event, EventBody, Judgement, Micros, Owner, Pipeline, RunId, Sha256, StagePlan, TargetId,
};
use serde_json::json;

use super::*;

fn seen(content: &[u8], size: u64, volume: &str) -> ImageSeen {
    ImageSeen { digest: Sha256::of(content), bytes: size, volume: Some(volume.to_owned()), whole: true }
}

/// A run of one stage that took so long and came out so.
fn run(runner: &str, memory: &str, seconds: i64, checks: &[(&str, Verdict)]) -> RunView {
    let plan = StagePlan { name: "Boot".into(), owner: Owner::Agent, required: true, timeout_s: 60 };
    let created = RunCreated {
        number: 1,
        pipeline: Pipeline::Image,
        profile: "standard".into(),
        target: Target { id: TargetId::named(Pipeline::Image, "x"), name: "x".into() },
        stages: vec![plan],
        spec: json!({ "profile": { "name": "x", "machine": { "memory": memory } } }),
        macs: vec![],
        power: json!({ "method": "vm" }),
        holds: false,
        hold_s: 0,
        boot_timeout_s: 0,
        requested_by: "ada".into(),
        machine: None,
        harness: "0".into(),
        muted: vec![],
        options: assay_model::host::order::RunOptions::default(),
    };
    let check = |(name, verdict): &(&str, Verdict)| Check {
        name: (*name).to_owned(),
        verdict: *verdict,
        expected: "e".into(),
        seen: "s".into(),
    };
    let judgement =
        Judgement::from_evidence(checks.iter().map(check).collect(), vec![], vec![], vec![], "told");
    let enrolled = EventBody::Enrolled {
        boot: 1,
        mac: None,
        system_uuid: None,
        agent: "runner".into(),
        clock_skew_us: 0,
        generation: 1,
    };
    let bodies = [
        (0, EventBody::RunCreated(Box::new(created))),
        (0, EventBody::Admitted { runner: runner.to_owned() }),
        (0, enrolled),
        (0, EventBody::StageStarted { stage: "Boot".into(), index: 0, attempt: 1, generation: 2 }),
        (
            seconds,
            EventBody::StageJudged { stage: "Boot".into(), index: 0, attempt: 1, required: true, judgement },
        ),
    ];
    let events: Vec<Event> =
        (1..).zip(bodies).map(|(seq, (at, body))| Event { seq, at: Micros::seconds(at), body }).collect();
    RunView::fold(RunId(uuid::Uuid::nil()), &events).expect("legal").expect("not empty")
}

#[test]
fn the_same_image_on_the_same_runner_differs_in_nothing() {
    let one = run("r1", "2GiB", 20, &[("rung", Verdict::Pass)]);
    let other = run("r1", "2GiB", 24, &[("rung", Verdict::Pass)]);
    let image = seen(b"a", 100, "A");
    assert_eq!(differences((&one, Some(&image)), (&other, Some(&image))), Vec::<String>::new());
    assert_eq!(differences((&one, None), (&other, Some(&image))), Vec::<String>::new());
}

#[test]
fn what_may_be_the_reason_comes_first_and_then_what_came_of_it() {
    let before = run("r1", "2GiB", 20, &[("rung", Verdict::Pass), ("console", Verdict::Pass)]);
    let after = run("r2", "4GiB", 20, &[("rung", Verdict::Fail), ("secrets", Verdict::Pass)]);
    let told =
        differences((&before, Some(&seen(b"a", 3 << 20, "A"))), (&after, Some(&seen(b"b", 5 << 20, "B"))));
    assert_eq!(
        told,
        [
            "size: 5.0 MiB, was 3.0 MiB (2.0 MiB larger)",
            "volume id: B, was A",
            "the profile is another one: machine",
            "runner: r2, was r1; times of different runners do not compare",
            "Boot: fail, was pass",
            "Boot: rung: fail, was pass (seen s)",
            "Boot: new check secrets: pass",
            "Boot: check console is gone; it was pass",
        ]
    );
}

#[test]
fn only_what_is_much_slower_is_slower() {
    let told =
        |before, after| differences((&run("r", "1", before, &[]), None), (&run("r", "1", after, &[]), None));
    let checks = [("rung", Verdict::Pass)];
    let pass = |seconds| run("r", "1", seconds, &checks);
    assert_eq!(differences((&pass(20), None), (&pass(31), None)), ["Boot: slower: 31 s, was 20 s"]);
    assert_eq!(differences((&pass(31), None), (&pass(20), None)), ["Boot: faster: 20 s, was 31 s"]);
    assert!(differences((&pass(2), None), (&pass(6), None)).is_empty(), "a few seconds are nothing");
    assert!(told(20, 40).is_empty(), "a stage that did not pass ended when it did");
}
