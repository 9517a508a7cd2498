//! More runs than slots: they go one after the other, and each says why it waits.

use assay_engine::line::Rule;
use assay_engine::live::Offer;
use assay_engine::queue::Cause;
use assay_engine::recipes::RecipeRequest;
use assay_model::{Asked, DecisionKind, HostId, Mac, Pipeline, Priority, RunId, RunState};
use assay_pipelines::recipe::{Isolation, RecipeSpec};
use assay_recipe::customise::{Customisation, Manifest, Redactor};
use assay_recipe::settings::Settings;
use assay_store::HostRow;
use assay_testkit::Bench;
use serde_json::{Value, json};

async fn another(bench: &Bench, n: u8) -> RunId {
    let host = HostRow {
        id: HostId(uuid::Uuid::now_v7()),
        name: format!("db-{n}"),
        macs: vec![Mac([2, 0, 0, 0, 1, n])],
        spec_yaml: String::new(),
        power: json!({ "method": "manual" }),
        created_at: bench.engine.now(),
    };
    bench.engine.store().host_put(&host).await.expect("stored");
    bench.engine.vet(&host, Bench::options()).await.expect("queued").id
}

#[tokio::test]
async fn runs_take_their_turn() {
    let mut bench = Bench::new().await;
    bench.runner_present(false);
    let offer = Offer { power: ["manual".to_owned()].into(), capacity: [("netboot".to_owned(), 1)].into() };
    let _runner = bench.engine.offering("small", offer);
    let first = bench.vet().await;
    let (second, third) = (another(&bench, 1).await, another(&bench, 2).await);
    bench.turn().await;
    assert_eq!(bench.view(first).await.state(), RunState::Booting);
    let why = async |run| bench.engine.waits_for(&*bench.view(run).await);
    assert_eq!(why(first).await, None);
    assert_eq!(
        why(second).await.as_deref(),
        Some("1st in line; needs 1 netboot, 0 free; behind run 1 (web-3, booting, 0 s); about 6 h")
    );
    assert_eq!(
        why(third).await.as_deref(),
        Some("2nd in line; needs 1 netboot, 0 free; behind run 2 (db-1, waits, too); about 12 h")
    );
    // A held machine keeps no slot: nobody waits behind a decision.
    bench.power(first, false).await;
    assert_eq!(bench.view(first).await.state(), RunState::FailedHolding);
    bench.turn().await;
    assert_eq!(bench.view(second).await.state(), RunState::Booting);
    assert_eq!(bench.view(third).await.state(), RunState::Queued);
    bench.decide(second, DecisionKind::Cancel, "").await.expect("booting");
    bench.power(second, true).await;
    bench.turn().await;
    assert_eq!(bench.view(third).await.state(), RunState::Booting);
    assert_eq!(why(third).await, None);
}

#[tokio::test]
async fn operators_stop_the_queue_and_a_restart_does_not_start_it_again() {
    let mut bench = Bench::new().await;
    let first = bench.vet().await;
    let pause = Rule::Pause { why: "new switch".to_owned() };
    bench.engine.rule_queue(pause, "mara").await.expect("ruled");
    let second = another(&bench, 1).await;
    bench.turn().await;
    bench.restart().await;
    bench.turn().await;
    assert_eq!(bench.view(first).await.state(), RunState::Booting, "what runs goes on");
    let view = bench.view(second).await;
    let told = "the queue is paused by mara (new switch); 1st in line; behind run 1 (web-3, booting, 0 s)";
    assert_eq!(bench.engine.waits_for(&view).as_deref(), Some(told));
    let place = bench.engine.place(&view).expect("it waits");
    assert_eq!((place.cause, place.position, place.starts_in), (Cause::Paused, Some(1), None));

    // Paused and drained since the same moment; the rules outlive each other.
    bench.clock.advance(assay_model::Micros::seconds(60));
    let limit = Rule::Limit { pipeline: Pipeline::Host, at_once: Some(1) };
    bench.engine.rule_queue(limit, "mara").await.expect("ruled");
    let drain = Rule::Drain { why: String::new() };
    let policy = bench.engine.rule_queue(drain, "ole").await.expect("ruled");
    let stop = policy.mode.stop().expect("stopped");
    assert_eq!((stop.by.as_str(), policy.limits[&Pipeline::Host]), ("ole", 1));
    assert_eq!(bench.engine.now().since(stop.since), assay_model::Micros::seconds(60));
    let queue = bench.engine.queue().await.expect("read");
    assert_eq!((queue.active(), queue.waiting.len()), (1, 1));

    bench.engine.rule_queue(Rule::Resume, "mara").await.expect("ruled");
    bench.turn().await;
    let why = bench.engine.waits_for(&*bench.view(second).await).expect("it waits");
    assert!(why.starts_with("1st in line for 1 host run at once, as operators have limited them"), "{why}");
    let more = Rule::Limit { pipeline: Pipeline::Host, at_once: None };
    bench.engine.rule_queue(more, "mara").await.expect("ruled");
    bench.turn().await;
    assert_eq!(bench.view(second).await.state(), RunState::Booting);
    let none = Rule::Limit { pipeline: Pipeline::Host, at_once: Some(0) };
    let refused = bench.engine.rule_queue(none, "mara").await.expect_err("that is a pause");
    assert!(refused.to_string().contains("assay queue pause"), "{refused}");
    let trail = bench.engine.store().audit_after(0, 50).await.expect("read");
    let read = |entry: &assay_model::journal::StoredEvent| -> Value {
        serde_json::from_slice(&entry.body).expect("plain data")
    };
    let deeds: Vec<_> = trail.iter().map(|entry| read(entry)["what"].clone()).collect();
    assert_eq!(
        deeds,
        ["queue paused", "queue: limit", "queue is to be drained", "queue resumed", "queue: limit"]
    );
}

/// A recipe's run as a comment on a pull request asks for it.
async fn for_pull_request(bench: &Bench, name: &str, pull_request: &str) -> RunId {
    for_pull_request_in(bench, name, pull_request, Isolation::Namespaces).await
}

/// The same, of somebody who is or is not known.
async fn for_pull_request_in(bench: &Bench, name: &str, pull_request: &str, isolation: Isolation) -> RunId {
    let spec = RecipeSpec {
        name: name.to_owned(),
        folder: format!("/recipes/{name}").into(),
        commit: None,
        source: None,
        tests: None,
        settings: Settings::default(),
        manifest: Manifest::of(&Customisation::default(), &Redactor::default()),
        asked: assay_pipelines::recipe::Asked::default(),
        isolation,
        stages: Vec::new(),
        seed: 7,
        invocation: Vec::new(),
        harness: None,
    };
    let asked = Asked { priority: Priority::PullRequest, pull_request: Some(pull_request.to_owned()) };
    let (only, muted) = (Vec::new(), Vec::new());
    let request = RecipeRequest { spec, only, runner: None, muted, by: "ole".to_owned(), asked };
    bench.engine.test_recipe(request).await.expect("queued").id
}

#[tokio::test]
async fn what_strangers_send_goes_to_a_runner_with_machines_alone() {
    let bench = Bench::new().await;
    let slots = |mem_mib: u64| [("swarm".to_owned(), 2), ("mem_mib".to_owned(), mem_mib)].into();
    let offer = |power: &[&str], mem_mib| Offer {
        power: power.iter().map(|method| (*method).to_owned()).collect(),
        capacity: slots(mem_mib),
    };
    let run = for_pull_request_in(&bench, "wiki", "apps/wiki#12", Isolation::Machine).await;
    let _swarms = bench.engine.offering("swarms", offer(&["swarm"], 8192));
    bench.turn().await;
    assert!(bench.engine.grant("swarms", &[]).await.expect("an answer").is_none());
    let why = bench.engine.waits_for(&*bench.view(run).await).expect("it waits");
    assert!(why.starts_with("no connected runner tests what strangers send"), "{why}");
    {
        let _small = bench.engine.offering("small", offer(&["swarm", "machine"], 2048));
        bench.turn().await;
        let why = bench.engine.waits_for(&*bench.view(run).await).expect("it waits");
        assert!(why.starts_with("it can never start: needs 3072 MiB of mem"), "{why}");
    }
    let _machines = bench.engine.offering("machines", offer(&["swarm", "machine"], 8192));
    bench.turn().await;
    let given = bench.engine.grant("machines", &[]).await.expect("an answer").expect("the run");
    assert_eq!(given.run.id, run);
    let switches = &bench.view(run).await.created.spec["manifest"]["switches"];
    assert_eq!(switches, &json!(["in_vm"]));
}

#[tokio::test]
async fn a_newer_commit_takes_the_older_ones_place_and_another_pull_request_waits() {
    let bench = Bench::new().await;
    let capacity = [("swarm".to_owned(), 2), ("mem_mib".to_owned(), 8192)].into();
    let _runner = bench.engine.offering("swarms", Offer { power: ["swarm".to_owned()].into(), capacity });
    let old = for_pull_request(&bench, "wiki", "apps/wiki#12").await;
    bench.turn().await;
    let given = bench.engine.grant("swarms", &[]).await.expect("an answer").expect("the run");
    bench.turn().await;
    assert_eq!((given.run.id, bench.view(old).await.state()), (old, RunState::Running));

    // Another pull request of the same recipe waits for it: no second run of a target.
    let other = for_pull_request(&bench, "wiki", "apps/wiki#13").await;
    let newer = for_pull_request(&bench, "wiki", "apps/wiki#12").await;
    bench.turn().await;
    assert_eq!(
        bench.view(old).await.state(),
        RunState::Cancelling,
        "its target is its own until it has stopped"
    );
    let why = bench.engine.waits_for(&*bench.view(other).await).expect("it waits");
    assert!(why.starts_with("one run of a target at a time; behind run 1 (wiki, "), "{why}");

    // One that still waits is over at once.
    let newest = for_pull_request(&bench, "wiki", "apps/wiki#12").await;
    bench.turn().await;
    let view = bench.view(newer).await;
    assert_eq!((view.state(), view.superseded_by, view.started_at), (RunState::Superseded, Some(4), None));
    // The runner is silent for so long that nobody is left who could do anything in it.
    bench.after(600).await;
    let view = bench.view(old).await;
    assert_eq!((view.state(), view.superseded_by), (RunState::Superseded, Some(4)));
    let decision = view.decisions.last().expect("it was stopped");
    assert_eq!(decision.decision.by, "assay");
    assert_eq!(decision.decision.why, "run 3 tests a newer commit of the same pull request");
    bench.turn().await;
    assert_eq!(bench.view(other).await.state(), RunState::Booting, "first asked for, first served");
    assert_eq!(bench.view(newest).await.state(), RunState::Queued);
}

#[tokio::test]
async fn what_was_used_lately_and_how_long_runs_take_is_known_after_a_restart() {
    let mut bench = Bench::new().await;
    let first = bench.vet().await;
    bench.power(first, false).await;
    bench.clock.advance(assay_model::Micros::seconds(1200));
    bench.decide(first, DecisionKind::Abandon, "").await.expect("held");
    let second = another(&bench, 1).await;
    bench.runner_present(false);
    bench.turn().await;
    let before = bench.engine.queue().await.expect("read");
    bench.restart().await;
    bench.runner_present(false);
    let after = bench.engine.queue().await.expect("read");
    assert_eq!(before.waiting, after.waiting);
    assert_eq!(after.waiting[0].0.id, second);
}

#[tokio::test]
async fn a_hold_is_told_of_before_it_ends_and_a_stuck_run_too_each_once() {
    let mut bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.up_to(&agent, "SpecValidate").await;
    bench.collect(&agent, "SpecValidate", &crate::wrong_disk()).await;
    bench.after(86_400 - 3601).await;
    assert!(!bench.news(run).await.contains(&"HoldExpiring".to_owned()));
    for _ in 0..3 {
        bench.after(1).await;
    }
    bench.restart().await;
    bench.after(20).await;
    let news = bench.news(run).await;
    assert_eq!(news.iter().filter(|n| *n == "HoldExpiring").count(), 1, "{news:?}");

    let mut bench = Bench::new().await;
    bench.runner_present(false);
    let run = bench.vet().await;
    bench.after(3600).await;
    bench.restart().await;
    bench.runner_present(false);
    bench.after(3600).await;
    assert_eq!(bench.news(run).await, ["RunStale"]);
}

#[tokio::test]
async fn a_part_in_two_machines_is_found() {
    use assay_model::{RunId, StageName};
    use assay_testkit::canned;

    let bench = Bench::new().await;
    let (_, agent) = bench.running().await;
    bench.up_to(&agent, "SMART").await;
    let second = another(&bench, 1).await;
    bench.turn().await;
    bench.power(second, true).await;
    bench.clock.advance(assay_model::Micros::seconds(60));
    let agent = bench.enrol_as(Mac([2, 0, 0, 0, 1, 1])).await;
    let open = async |run: RunId| {
        let view = bench.view(run).await;
        view.open_attempt()
            .map(|(stage, a)| (stage.plan.name.clone(), a.attempt, a.generation))
            .expect("open")
    };
    let (stage, attempt, generation) = open(second).await;
    assert_eq!(stage, StageName::from("Inventory"));
    let mut inventory = canned::inventory();
    inventory.disks[0].serial = Some("OTHER".to_owned());
    inventory.nics[0].mac = Some("02:00:00:00:01:01".to_owned());
    let evidence = serde_json::to_value(inventory).expect("plain");
    bench.result(&agent, "Inventory", attempt, generation, &evidence).await.expect("taken");
    bench.turn().await;
    let view = bench.check(second).await;
    let found: Vec<_> = view.findings().into_iter().filter(|f| f.code == "PartSeenTwice").collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].message, "disk S2 was found in web-3 as well (run 1)");
}
