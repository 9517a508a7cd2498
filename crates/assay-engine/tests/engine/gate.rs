//! The gate: open for a fresh, signed pass of everything for exactly this machine, closed for each reason by name.

use assay_engine::gate::GateRule;
use assay_engine::requests::VetOptions;
use assay_model::host::order::{Profile, RunOptions};
use assay_model::{DecisionKind, Micros, RunResult, Verdict};
use assay_testkit::{Bench, ScriptedAgent, canned};
use serde_json::Value;

const WEEK: GateRule = GateRule::standard(Micros::seconds(7 * 86_400));

async fn closed_for(bench: &Bench, rule: GateRule) -> Vec<&'static str> {
    let answer = bench.engine.gate(&bench.host, rule).await.expect("an answer");
    answer.reasons.into_iter().map(|reason| reason.code).collect()
}

/// A whole run with these options; SpecValidate brings this.
async fn vetted(bench: &Bench, options: VetOptions, evidence: &Value) -> ScriptedAgent {
    bench.clock.advance(Micros::seconds(60));
    let (_, agent) = bench.running_with(options).await;
    bench.collect(&agent, "Inventory", &canned::evidence("Inventory")).await;
    bench.collect(&agent, "SpecValidate", evidence).await;
    agent
}

async fn passed(bench: &Bench, options: VetOptions) {
    let agent = vetted(bench, options, &canned::evidence("SpecValidate")).await;
    bench.rest(&agent).await;
}

#[tokio::test]
async fn a_fresh_pass_opens_it_and_age_closes_it() {
    let bench = Bench::new().await;
    assert_eq!(closed_for(&bench, WEEK).await, ["NeverVetted"]);
    passed(&bench, Bench::options()).await;
    let answer = bench.engine.gate(&bench.host, WEEK).await.expect("an answer");
    assert_eq!((answer.run, answer.reasons), (Some(1), vec![]));
    bench.clock.advance(Micros::seconds(7 * 86_400));
    assert_eq!(closed_for(&bench, WEEK).await, [""; 0], "to the second");
    bench.clock.advance(Micros::seconds(1));
    assert_eq!(closed_for(&bench, WEEK).await, ["TooOld"]);
}

#[tokio::test]
async fn a_machine_under_test_or_failed_since_is_kept_out() {
    let bench = Bench::new().await;
    passed(&bench, Bench::options()).await;
    let wrong = serde_json::to_value(canned::swapped_disk()).expect("plain");
    vetted(&bench, Bench::options(), &wrong).await;
    assert_eq!(closed_for(&bench, WEEK).await, ["BeingTested"]);
    let run = bench.engine.store().run_id(2).await.expect("read").expect("there");
    bench.decide(run, DecisionKind::Abandon, "").await.expect("held");
    assert_eq!(closed_for(&bench, WEEK).await, ["Failed", "NotCompared"]);
}

#[tokio::test]
async fn a_cancelled_run_says_nothing_but_what_it_saw_counts() {
    let bench = Bench::new().await;
    passed(&bench, Bench::options()).await;
    let cancel = async |evidence: &Value| {
        let agent = vetted(&bench, Bench::options(), evidence).await;
        bench.decide(agent.run, DecisionKind::Cancel, "").await.expect("open");
        bench.power(agent.run, true).await;
    };
    cancel(&canned::evidence("SpecValidate")).await;
    assert_eq!(closed_for(&bench, WEEK).await, [""; 0]);
    cancel(&serde_json::to_value(canned::swapped_disk()).expect("plain")).await;
    let answer = bench.engine.gate(&bench.host, WEEK).await.expect("an answer");
    assert_eq!(answer.reasons.len(), 1);
    assert_eq!(answer.reasons[0].code, "PartsChanged");
    assert_eq!(
        answer.reasons[0].message,
        "since run 1 the machine was seen with other parts (run 3): disk S2 is gone, disk OTHER is new"
    );
}

#[tokio::test]
async fn less_than_everything_does_not_open_it() {
    let bench = Bench::new().await;
    passed(&bench, VetOptions { profile: "quick".to_owned(), ..Bench::options() }).await;
    assert_eq!(closed_for(&bench, WEEK).await, ["ProfileTooLow"]);
    assert_eq!(closed_for(&bench, GateRule { least: Profile::Quick, ..WEEK }).await, [""; 0], "asked for");
    passed(&bench, VetOptions { muted: vec!["DiskMissing".to_owned()], ..Bench::options() }).await;
    assert_eq!(closed_for(&bench, WEEK).await, ["ChecksOff"]);
    let options = RunOptions { left_out: vec!["SMART".into()], ..RunOptions::default() };
    passed(&bench, VetOptions { options, ..Bench::options() }).await;
    assert_eq!(closed_for(&bench, WEEK).await, ["StagesLeftOut"]);
    passed(&bench, Bench::options()).await;
    assert_eq!(closed_for(&bench, WEEK).await, [""; 0]);
    let burnt_in = GateRule { least: Profile::Burnin, ..WEEK };
    let answer = bench.engine.gate(&bench.host, burnt_in).await.expect("an answer");
    assert_eq!(answer.reasons.len(), 1);
    assert_eq!(answer.reasons[0].code, "ProfileTooLow");
    assert_eq!(answer.reasons[0].message, "run 4 was `standard`; what counts is burnin");
}

#[tokio::test]
async fn burnin_has_floors_of_its_own_and_is_more_than_standard() {
    let bench = Bench::new().await;
    let options = || VetOptions { profile: "burnin".to_owned(), holds: false, ..Bench::options() };
    let burnt_in = GateRule { least: Profile::Burnin, ..WEEK };
    // Evidence that is good enough for a standard run.
    let (run, agent) = bench.running_with(options()).await;
    bench.rest(&agent).await;
    let view = bench.view(run).await;
    assert_eq!(view.failed_stage(), Some("CPUStress"));
    let stage = view.stages.iter().find(|stage| stage.plan.name == "CPUStress").expect("planned");
    assert_eq!(stage.verdict(), Some(Verdict::Unverified), "ten minutes are not a day");
    assert_eq!(closed_for(&bench, burnt_in).await[0], "Failed");

    let mut day = canned::cpu_stress();
    (day.stress_ng.asked_s, day.stress_ng.seconds) = (86_400, 86_400.4);
    (day.stressapptest.asked_s, day.stressapptest.seconds) = (3600, 3600.4);
    (day.memory.passes, day.memory.written) = (40, 20 * day.memory.written);
    day.memory.verified = day.memory.written;
    let (run, agent) = bench.running_with(options()).await;
    bench.up_to(&agent, "CPUStress").await;
    bench.collect(&agent, "CPUStress", &canned::with_counters(&day)).await;
    let mut network = canned::network();
    for nic in &mut network.nics {
        for way in [&mut nic.sent, &mut nic.received].into_iter().flatten() {
            way.seconds = 600.0;
        }
    }
    bench.up_to(&agent, "Network").await;
    bench.collect(&agent, "Network", &canned::with_counters(&network)).await;
    bench.rest(&agent).await;
    let view = bench.view(run).await;
    assert_eq!((view.result, view.created.profile.as_str()), (Some(RunResult::Pass), "burnin"));
    for rule in [burnt_in, WEEK] {
        let answer = bench.engine.gate(&bench.host, rule).await.expect("an answer");
        assert_eq!((answer.reasons, answer.profile.as_deref()), (vec![], Some("burnin")));
    }
}

#[tokio::test]
async fn a_waiver_opens_it_only_where_that_is_allowed() {
    let bench = Bench::new().await;
    let wrong = serde_json::to_value(canned::swapped_disk()).expect("plain");
    let agent = vetted(&bench, Bench::options(), &wrong).await;
    bench.decide(agent.run, DecisionKind::Waive, "it is the spare").await.expect("held");
    bench.rest(&agent).await;
    assert_eq!(closed_for(&bench, WEEK).await, ["Waived"]);
    assert_eq!(closed_for(&bench, GateRule { allow_waived: true, ..WEEK }).await, [""; 0]);
}

#[tokio::test]
async fn a_pass_that_was_tampered_with_does_not_open_it() {
    let bench = Bench::new().await;
    passed(&bench, Bench::options()).await;
    let other = bench.with_another_key();
    let answer = other.gate(&bench.host, WEEK).await.expect("an answer");
    assert_eq!(answer.reasons.len(), 1);
    assert_eq!(answer.reasons[0].code, "NotGenuine");
}

#[tokio::test]
async fn what_a_machine_is_becomes_its_spec_and_what_people_wrote_is_kept() {
    let spec = format!(
        "{}limits: {{max_temp_c: 70}}\n",
        canned::SPEC.replace("{serial: S1}", "{serial: S1, bay: '3'}")
    );
    let bench = Bench::with_spec(&spec).await;
    let refused = bench.engine.capture(&bench.host).await.expect_err("never seen");
    assert!(refused.to_string().contains("vet it first"), "{refused}");
    let wrong = serde_json::to_value(canned::swapped_disk()).expect("plain");
    vetted(&bench, Bench::options(), &wrong).await;
    let (run, yaml) = bench.engine.capture(&bench.host).await.expect("seen");
    let spec = assay_model::host::spec::HostSpec::from_yaml(&yaml).expect("it reads back");
    let disks: Vec<_> = spec.disks.iter().map(|d| (d.serial.as_deref(), d.bay.as_deref())).collect();
    assert_eq!(run, 1);
    assert_eq!(disks, [(Some("S1"), Some("3")), (Some("OTHER"), None)]);
    assert_eq!(spec.limits.max_temp_c, 70);
}
