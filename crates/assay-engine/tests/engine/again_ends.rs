//! Batches of schedules and of operators, each to the end of its last run: machines, recipes, an image.

use assay_engine::again::{Scheduler, Written};
use assay_engine::agents::Todo;
use assay_engine::images::ImageRequest;
use assay_engine::live::Offer;
use assay_engine::recipes::RecipeRequest;
use assay_model::host::order::Profile;
use assay_model::schedule::{Again, Limits, Timing};
use assay_model::{Asked, DecisionKind, HostId, Mac, RunId, RunState, Sha256, StageName, TargetId};
use assay_pipelines::image::ImageSpec;
use assay_pipelines::recipe::{Isolation, RecipeSpec};
use assay_recipe::customise::{Customisation, Manifest, Redactor};
use assay_recipe::settings::Settings;
use assay_store::HostRow;
use assay_testkit::{Bench, ScriptedAgent};
use serde_json::{Value, json};

const RUNNER: &str = "bench1";

/// A look of the scheduler, as a new process would take it, and a turn of the dispatcher.
async fn look(bench: &Bench) {
    Scheduler::new(bench.engine.clone()).turn().await;
    bench.turn().await;
}

async fn told(bench: &Bench, number: i64) -> String {
    let batch = bench.engine.batch(number).await.expect("there");
    let lines = batch.items.iter().map(|(item, stand)| format!("\n{} {}", item.target, stand.as_str()));
    format!("{}: {}{}", batch.row.state.as_str(), batch.progress().told(), lines.collect::<String>())
}

/// The runner takes up what is next for it, and brings for each stage what `brings` has for it, or says why it has nothing.
async fn works(bench: &Bench, brings: impl Fn(&str) -> Result<Value, String>) -> RunId {
    bench.turn().await;
    let given = bench.engine.grant(RUNNER, &[]).await.expect("an answer").expect("a run");
    bench.turn().await;
    let credential = given.agent.expect("it does the work itself");
    let agent = ScriptedAgent { run: given.run.id, credential, token: given.token };
    while let Todo::Stage { stage, attempt, generation, .. } = bench.todo(&agent).await {
        let (bytes, problem) = match brings(stage.as_str()) {
            Ok(evidence) => (serde_json::to_vec(&evidence).expect("plain data"), None),
            Err(why) => (b"null".to_vec(), Some(why)),
        };
        let stage = StageName::from(stage.as_str());
        bench.engine.result(agent.run, stage, attempt, generation, bytes, problem).await.expect("taken");
        bench.turn().await;
    }
    bench.turn().await;
    assert!(bench.check(agent.run).await.state().is_terminal(), "it has come to its end");
    agent.run
}

#[tokio::test]
async fn a_fleet_is_vetted_to_its_last_machine() {
    let mut bench = Bench::new().await;
    let second = Mac([2, 0, 0, 0, 1, 7]);
    let host = HostRow {
        id: HostId(uuid::Uuid::now_v7()),
        name: "web-4".to_owned(),
        macs: vec![second],
        spec_yaml: "format: 1\ncluster: none\n".to_owned(),
        power: json!({ "method": "manual" }),
        created_at: bench.engine.now(),
    };
    bench.engine.store().host_put(&host).await.expect("stored");
    let (names, labels, kinds) = (Vec::new(), Vec::new(), Vec::new());
    let all = Again::Hosts { names, labels, kinds, profile: Profile::Quick };
    let limits = Limits { at_most: Some(1), stop_after: Some(2) };
    bench.engine.begin_batch(&all, limits, "mara").await.expect("begun");
    look(&bench).await;
    assert_eq!(told(&bench, 1).await, "running: 0 of 2, 1 under way\nweb-3 under_way\nweb-4 waits");
    for (target, mac) in [("web-3", bench.host.macs[0]), ("web-4", second)] {
        let batch = bench.engine.batch(1).await.expect("there");
        let item = batch.items.into_iter().find(|(item, _)| item.target == target).expect("there").0;
        let run = item.run.expect("its turn has come").id;
        bench.power(run, true).await;
        bench.after(60).await;
        let agent = bench.enrol_as(mac).await;
        bench.rest(&agent).await;
        bench.restart().await;
        look(&bench).await;
    }
    // The second machine shows the first one's serial numbers: it is held until somebody has looked.
    assert_eq!(told(&bench, 1).await, "running: 1 of 2, 1 held\nweb-3 passed\nweb-4 held");
    let batch = bench.engine.batch(1).await.expect("there");
    let held = batch.items[1].0.run.as_ref().expect("its turn has come").id;
    bench.decide(held, DecisionKind::Abandon, "a twin").await.expect("held");
    look(&bench).await;
    assert_eq!(told(&bench, 1).await, "ended: 2 of 2, 1 failed\nweb-3 passed\nweb-4 failed");
}

fn recipe(name: &str) -> RecipeRequest {
    let spec = RecipeSpec {
        source: None,
        isolation: Isolation::default(),
        name: name.to_owned(),
        folder: format!("/recipes/{name}").into(),
        commit: None,
        tests: None,
        settings: Settings::default(),
        manifest: Manifest::of(&Customisation::default(), &Redactor::default()),
        asked: assay_pipelines::recipe::Asked::default(),
        stages: Vec::new(),
        seed: 7,
        invocation: Vec::new(),
        harness: None,
    };
    let asked = Asked::default();
    RecipeRequest { spec, only: Vec::new(), runner: None, muted: Vec::new(), by: "ole".to_owned(), asked }
}

#[tokio::test]
async fn a_sweep_of_recipes_ends_with_its_runs_and_stops_where_the_runner_is_broken() {
    let bench = Bench::new().await;
    let capacity = [("swarm".to_owned(), 1), ("cpu".to_owned(), 64), ("mem_mib".to_owned(), 65_536)].into();
    let _waiting = bench.engine.offering(RUNNER, Offer { power: ["swarm".to_owned()].into(), capacity });
    let broken = |_: &str| Err("the disk is full".to_owned());
    for name in ["blog", "shop", "wiki"] {
        bench.engine.test_recipe(recipe(name)).await.expect("queued");
        works(&bench, broken).await;
    }
    let timing =
        Timing { cron: "0 10 * * *".to_owned(), zone: "UTC".to_owned(), catch_up_s: 12 * 3600, spread_s: 0 };
    let again = Again::Recipes { names: Vec::new(), folder: None };
    let limits = Limits { at_most: Some(1), stop_after: Some(2) };
    let written = Written { timing, again, limits };
    bench.engine.put_schedule("sweep", &written, "mara", false).await.expect("written");
    bench.after(1800).await;
    look(&bench).await;
    assert!(told(&bench, 1).await.starts_with("running: 0 of 3, 1 under way"), "{}", told(&bench, 1).await);
    works(&bench, broken).await;
    look(&bench).await;
    let last = works(&bench, broken).await;
    look(&bench).await;
    let stopped = told(&bench, 1).await;
    assert!(stopped.starts_with("stopped: 2 of 3, 2 without a verdict\n"), "{stopped}");
    let news = bench.outbox(last).await;
    let news: Vec<_> = news.iter().filter(|news| news.outgoing.event == "BatchStopped").collect();
    let [news] = news[..] else { panic!("people are told once: {news:?}") };
    let payload = &news.outgoing.payload;
    assert_eq!((&payload["batch"], &payload["waiting"]), (&json!(1), &json!(1)));
    assert_eq!(payload["what"], "test all known recipes");
    assert_eq!(payload["why"], "2 failed: blog (run 4), shop (run 5)");

    // Somebody makes room on that disk; what failed so far does not count any more.
    bench.engine.resume_batch(1).await.expect("stopped");
    look(&bench).await;
    works(&bench, broken).await;
    look(&bench).await;
    assert!(
        told(&bench, 1).await.starts_with("ended: 3 of 3, 3 without a verdict\n"),
        "{}",
        told(&bench, 1).await
    );
}

#[tokio::test]
async fn an_image_is_tested_again_to_its_verdict() {
    let bench = Bench::new().await;
    let capacity = [("vm".to_owned(), 1), ("mem_mib".to_owned(), 4096)].into();
    let _waiting = bench.engine.offering(RUNNER, Offer { power: ["vm".to_owned()].into(), capacity });
    let profile = "name = \"node\"\nuntil = \"Prepare\"\n[machine]\nmemory = \"1GiB\"\n";
    let profile = assay_pipelines::image::Profile::from_toml(profile).expect("a profile");
    let spec = json!({ "image": "/images/node.iso", "profile": profile, "folder": "/images", "seed": 7 });
    let spec = ImageSpec::of(&spec).expect("plain data");
    let request = ImageRequest { spec, runner: None, muted: Vec::new(), by: "ada".to_owned() };
    bench.engine.test_image(request).await.expect("queued");
    let brings = |_: &str| {
        Ok(json!({ "bytes": 4096, "sha256": Sha256::of(b"image"), "medium": "as a CD", "staged": [],
            "accel": "kvm", "disks": [] }))
    };
    works(&bench, brings).await;
    let image = Again::Image { name: "node".to_owned() };
    bench.engine.begin_batch(&image, Limits::default(), "mara").await.expect("begun");
    look(&bench).await;
    let run = works(&bench, brings).await;
    look(&bench).await;
    assert_eq!(told(&bench, 1).await, "ended: 1 of 1\nnode passed");
    let view = bench.view(run).await;
    assert_eq!((view.state(), view.created.requested_by.as_str()), (RunState::Completed, "mara"));
    assert_eq!(view.created.target.id, TargetId::named(assay_model::Pipeline::Image, "node"));
}
