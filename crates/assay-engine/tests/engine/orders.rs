//! What a run is asked for: permits to erase, replaced parts, stages left out; and where long stages stand.

use assay_engine::EngineError;
use assay_engine::requests::VetOptions;
use assay_model::host::order::{PartKind, Replacement, RunOptions};
use assay_model::{Decision, DecisionKind, RunState, StageName, Verdict};
use assay_testkit::{Bench, canned};
use serde_json::json;

fn replaced(old: &str, new: &str) -> VetOptions {
    let replaced = vec![Replacement { kind: PartKind::Disk, old: old.to_owned(), new: new.to_owned() }];
    VetOptions { options: RunOptions { replaced, ..RunOptions::default() }, ..Bench::options() }
}

#[tokio::test]
async fn a_checkpoint_is_kept_for_the_next_try_and_fenced() {
    let mut bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    let stage = StageName::from("Inventory");
    let input = async |bench: &Bench, generation| {
        let view = bench.view(run).await;
        bench
            .engine
            .stage_input(&view, &StageName::from("Inventory"), generation)
            .await
            .expect("given")
            .checkpoint
    };
    let save = async |bench: &Bench, attempt, generation, n: i64| {
        bench
            .engine
            .checkpoint(run, &StageName::from("Inventory"), attempt, generation, json!({ "at": n }))
            .await
    };
    assert_eq!(input(&bench, 2).await, None);
    for n in 1..=3 {
        save(&bench, 1, 2, n).await.expect("the open try");
    }
    for (attempt, generation) in [(1, 1), (2, 2), (1, 3)] {
        let refused = save(&bench, attempt, generation, 9).await.expect_err("another try");
        assert!(matches!(refused, EngineError::Refused(_)), "{refused:?}");
    }
    bench.restart().await;
    // Its time runs out, and the next try goes on where it was.
    for _ in 0..30 {
        bench.after(10).await;
        assert!(bench.heard(&agent).await);
    }
    let view = bench.view(run).await;
    let next = view.stages[0].attempts[1].generation;
    assert_eq!(input(&bench, next).await, Some(json!({ "at": 3 })));
    let late = save(&bench, 1, 2, 4).await.expect_err("closed");
    assert!(matches!(late, EngineError::Refused(_)), "{late:?}");
    // What was judged is behind the run: a try after that begins anew.
    bench.collect(&agent, "Inventory", &json!({ "format": 1 })).await;
    assert_eq!(bench.view(run).await.state(), RunState::FailedHolding);
    assert!(bench.heard(&agent).await);
    bench.decide(run, DecisionKind::Retry, "").await.expect("held");
    let view = bench.view(run).await;
    let again = view.stages[0].attempts.last().expect("open").generation;
    assert_eq!(bench.engine.stage_input(&view, &stage, again).await.expect("given").checkpoint, None);
}

#[tokio::test]
async fn nothing_is_permitted_where_no_data_was_found() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.up_to(&agent, "SpecValidate").await;
    bench.collect(&agent, "SpecValidate", &crate::wrong_disk()).await;
    let permit = async |serials: &[&str], why: &str| {
        let serials = serials.iter().map(|s| (*s).to_owned()).collect();
        let kind = DecisionKind::Permit;
        bench
            .engine
            .decide(run, Decision { kind, by: "jonas".to_owned(), why: why.to_owned(), serials })
            .await
    };
    let refused = permit(&["S1"], "old data").await.expect_err("no disk with data");
    assert!(refused.to_string().contains("did not stop at a disk with data"), "{refused}");
    let reasonless = permit(&["S1"], " ").await.expect_err("a reason is needed");
    assert!(reasonless.to_string().contains("needs a reason"), "{reasonless}");
    let retry = Decision {
        kind: DecisionKind::Retry,
        by: "jonas".to_owned(),
        why: String::new(),
        serials: vec!["S1".to_owned()],
    };
    let refused = bench.engine.decide(run, retry).await.expect_err("a retry erases nothing more");
    assert_eq!(refused.to_string(), "only a permit names disks");
    assert_eq!(bench.check(run).await.decisions.len(), 0);
}

#[tokio::test]
async fn a_repair_is_vetted_against_what_the_machine_was() {
    let bench = Bench::new().await;
    let (_, agent) = bench.running().await;
    bench.up_to(&agent, "the end").await;
    bench.clock.advance(assay_model::Micros::seconds(3600));

    // The registered spec still names S2, and the run reads it as OTHER.
    let (run, agent) = bench.running_with(replaced("S2", "OTHER")).await;
    bench.up_to(&agent, "SpecValidate").await;
    bench.collect(&agent, "SpecValidate", &crate::wrong_disk()).await;
    let view = bench.check(run).await;
    assert_eq!(view.stages[1].verdict(), Some(Verdict::Pass), "{:?}", view.stages[1].judgement());
    assert!(!view.unverified().iter().any(|u| u.contains("no other part")), "{:?}", view.unverified());
    let told: Vec<_> = view.run_findings.iter().map(|f| (f.code.as_str(), f.next_step.as_str())).collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].0 == "SpecOutdated" && told[0].1.contains("assay host adopt web-3"), "{told:?}");
    bench.decide(run, DecisionKind::Cancel, "").await.expect("running");
    bench.power(run, true).await;

    // Nothing was done to the machine at all.
    bench.clock.advance(assay_model::Micros::seconds(3600));
    let (run, agent) = bench.running_with(replaced("S2", "OTHER")).await;
    bench.up_to(&agent, "SpecValidate").await;
    bench.collect(&agent, "SpecValidate", &canned::evidence("SpecValidate")).await;
    let view = bench.check(run).await;
    let codes: Vec<_> =
        view.stages[1].judgement().expect("judged").findings.iter().map(|f| f.code.clone()).collect();
    assert_eq!(codes[..2], ["ReplacedPartMissing", "OldPartPresent"]);
    assert_eq!(view.state(), RunState::FailedHolding);
}

#[tokio::test]
async fn orders_that_make_no_sense_are_refused() {
    let bench = Bench::new().await;
    let refused = async |options: VetOptions| match bench.engine.vet(&bench.host, options).await {
        Err(EngineError::Invalid(why)) => why,
        other => panic!("{other:?}"),
    };
    let names = |names: &[&str]| names.iter().map(|n| StageName::from(*n)).collect::<Vec<_>>();
    let without = |list: &[&str]| {
        let options = RunOptions { left_out: names(list), ..RunOptions::default() };
        VetOptions { options, ..Bench::options() }
    };
    let only = |list: &[&str]| VetOptions { only: names(list), ..Bench::options() };
    assert!(
        refused(without(&["Telepathy"]))
            .await
            .starts_with("there is no stage `Telepathy`; there are Inventory, ")
    );
    assert!(refused(only(&["smart"])).await.contains("`smart`"));
    assert!(refused(without(&["Reporting"])).await.contains("makes the verdict"));
    assert!(refused(only(&["Reporting"])).await.contains("no stage is left"));
    assert!(refused(replaced("S1", "s1 ")).await.contains("cannot replace itself"));
    assert!(refused(replaced("", "S2")).await.contains("old and the new serial number"));
    let late = RunOptions { from_phase: Some("welcome".to_owned()), ..RunOptions::default() };
    let late = VetOptions { options: late, ..Bench::options() };
    assert!(refused(late).await.contains("a host has no phases"));

    let run = bench.vet_with(only(&["SMART"])).await;
    let view = bench.check(run).await;
    let planned: Vec<_> = view.stages.iter().map(|s| s.plan.name.as_str()).collect();
    assert_eq!(planned, ["SMART", "Reporting"]);
    assert!(view.created.options.left_out.contains(&"SpecValidate".into()), "{:?}", view.created.options);
    assert!(view.unverified()[0].contains("stages left out by request: Inventory, SpecValidate"));
}

#[tokio::test]
async fn a_run_without_all_of_its_stages_is_no_plain_pass() {
    let bench = Bench::new().await;
    let options = RunOptions { left_out: vec!["SMART".into()], ..RunOptions::default() };
    let (run, agent) = bench.running_with(VetOptions { options, ..Bench::options() }).await;
    bench.collect(&agent, "Inventory", &canned::evidence("Inventory")).await;
    bench.collect(&agent, "SpecValidate", &canned::evidence("SpecValidate")).await;
    bench.rest(&agent).await;
    let (_, signed) = bench.sealed(run).await;
    assert_eq!(signed, "WARNED");
}
