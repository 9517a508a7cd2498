//! Schedules and batches: what becomes of their times, how machines go out of use one by one, and that a kill changes nothing.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assay_artifacts::Artifacts;
use assay_engine::again::{Batch, Schedule, Scheduler, Written};
use assay_engine::images::ImageRequest;
use assay_engine::permits::{Asked as Answer, ClusterGuard};
use assay_engine::recipes::RecipeRequest;
use assay_engine::{Engine, Tuning};
use assay_model::host::order::Profile;
use assay_model::host::permit::GuardAnswer;
use assay_model::host::spec::ProxmoxMember;
use assay_model::schedule::{Again, Limits, Timing};
use assay_model::{Asked, Clock as _, DecisionKind, HostId, Mac, Micros, Priority, RunId, RunState, Sha256};
use assay_pipelines::image::ImageSpec;
use assay_pipelines::recipe::RecipeSpec;
use assay_process::Cmd;
use assay_recipe::customise::{Customisation, Manifest, Redactor};
use assay_recipe::settings::Settings;
use assay_store::{HostRow, RunFilter, Store, TickKind};
use assay_testkit::{Bench, SimClock, TestSealer};
use serde_json::{Value, json};

const NO_CLUSTER: &str = "format: 1\ncluster: none\n";
const MEMBER: &str = "format: 1\ncluster: {proxmox: {url: 'https://pve1:8006', node: pve3}}\n";
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn all_hosts() -> Again {
    hosts(&[], &[], &[])
}

fn hosts(names: &[&str], labels: &[&str], kinds: &[&str]) -> Again {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let (names, labels, kinds) = (owned(names), owned(labels), owned(kinds));
    Again::Hosts { names, labels, kinds, profile: Profile::Standard }
}

/// Every day at ten, half an hour after a bench's clock begins; not spread.
fn daily(again: Again, limits: Limits) -> Written {
    let timing =
        Timing { cron: "0 10 * * *".to_owned(), zone: "UTC".to_owned(), catch_up_s: 12 * 3600, spread_s: 0 };
    Written { timing, again, limits }
}

const fn limits(at_most: u32, stop_after: u32) -> Limits {
    Limits { at_most: Some(at_most), stop_after: Some(stop_after) }
}

async fn host(engine: &Engine, name: &str, n: u8, spec_yaml: &str) -> HostRow {
    let host = HostRow {
        id: HostId(uuid::Uuid::now_v7()),
        name: name.to_owned(),
        macs: vec![Mac([2, 0, 0, 0, 1, n])],
        spec_yaml: spec_yaml.to_owned(),
        power: json!({ "method": "manual" }),
        created_at: engine.now(),
    };
    engine.store().host_put(&host).await.expect("stored");
    host
}

/// A look of the scheduler, as a new process would take it, and a turn of the dispatcher.
async fn look(bench: &Bench) {
    Scheduler::new(bench.engine.clone()).turn().await;
    bench.turn().await;
}

/// How a batch stands, a line a target.
async fn stands(bench: &Bench, number: i64) -> String {
    told(&bench.engine.batch(number).await.expect("there"))
}

fn told(batch: &Batch) -> String {
    let mut lines = vec![format!("{}: {}", batch.row.state.as_str(), batch.progress().told())];
    for (item, stand) in &batch.items {
        let run = item.run.as_ref().map(|run| format!(" run {}", run.number)).unwrap_or_default();
        let why = item.left_out.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        lines.push(format!("{} {}{run}{why}", item.target, stand.as_str()));
    }
    lines.join("\n")
}

async fn run_of(bench: &Bench, batch: i64, target: &str) -> RunId {
    let batch = bench.engine.batch(batch).await.expect("there");
    let item = batch.items.into_iter().find(|(item, _)| item.target == target).expect("there").0;
    item.run.expect("it has begun").id
}

/// What became of a schedule's times, the latest first.
async fn times(bench: &Bench, name: &str) -> Vec<(&'static str, u32, String)> {
    let ticks = bench.engine.store().schedule_ticks(name, 10).await.expect("read");
    ticks.into_iter().map(|tick| (tick.kind.as_str(), tick.missed, tick.note)).collect()
}

#[tokio::test]
async fn a_schedules_time_becomes_runs_once_whoever_is_restarted() {
    let mut bench = Bench::new().await;
    host(&bench.engine, "db-1", 1, NO_CLUSTER).await;
    host(&bench.engine, "db-2", 2, NO_CLUSTER).await;
    let written = daily(all_hosts(), limits(1, 2));
    let schedule = bench.engine.put_schedule("nightly", &written, "mara", false).await.expect("written");
    let begins = SimClock::START.plus(Micros::seconds(HOUR / 2));
    assert_eq!(schedule.next(bench.engine.now(), 2), [begins, begins.plus(Micros::seconds(DAY))]);
    look(&bench).await;
    assert!(bench.engine.batches(None, 10).await.expect("read").is_empty());

    bench.clock.advance(Micros::seconds(HOUR / 2));
    for _ in 0..3 {
        look(&bench).await;
        bench.restart().await;
    }
    look(&bench).await;
    insta::assert_snapshot!(stands(&bench, 1).await, @"
    running: 0 of 3, 1 under way
    db-1 under_way run 1
    db-2 waits
    web-3 waits
    ");
    let first = run_of(&bench, 1, "db-1").await;
    let view = bench.view(first).await;
    let options = &view.created.options;
    assert_eq!(
        (view.created.requested_by.as_str(), options.asked.priority),
        ("schedule nightly", Priority::Schedule)
    );
    assert_eq!(view.state(), RunState::Booting);
    assert_eq!(bench.engine.batches(None, 10).await.expect("read").len(), 1);
    assert_eq!(times(&bench, "nightly").await, [("due", 0, "3 targets".to_owned())]);

    // It fails and is held: nobody else is switched off while it is out.
    bench.power(first, false).await;
    look(&bench).await;
    insta::assert_snapshot!(stands(&bench, 1).await, @"
    running: 0 of 3, 1 held
    db-1 held run 1
    db-2 waits
    web-3 waits
    ");

    // The next day nothing of it is asked for a second time.
    bench.clock.advance(Micros::seconds(DAY));
    look(&bench).await;
    look(&bench).await;
    insta::assert_snapshot!(stands(&bench, 2).await, @"
    ended: 0 of 0, 3 left out
    db-1 left_out: run 1 of the same schedule has not ended (FailedHolding)
    db-2 left_out: it still waits in batch 1 of the same schedule
    web-3 left_out: it still waits in batch 1 of the same schedule
    ");
    assert_eq!(times(&bench, "nightly").await[0], ("due", 0, "0 targets; 3 left out".to_owned()));

    bench.decide(first, DecisionKind::Abandon, "").await.expect("held");
    look(&bench).await;
    assert!(
        stands(&bench, 1).await.starts_with("running: 1 of 3, 1 under way, 1 failed\n"),
        "{}",
        stands(&bench, 1).await
    );
}

#[tokio::test]
async fn a_batch_stops_itself_and_goes_on_when_somebody_says_so() {
    let bench = Bench::new().await;
    for (n, name) in (1_u8..).zip(["db-1", "db-2", "db-3", "db-4"]) {
        host(&bench.engine, name, n, NO_CLUSTER).await;
    }
    let batch = bench.engine.begin_batch(&all_hosts(), limits(2, 2), "mara").await.expect("begun");
    assert_eq!(batch.row.number, 1);
    look(&bench).await;
    for target in ["db-1", "db-2"] {
        bench.power(run_of(&bench, 1, target).await, false).await;
    }
    look(&bench).await;
    insta::assert_snapshot!(stands(&bench, 1).await, @"
    stopped: 0 of 5, 2 held
    db-1 held run 1
    db-2 held run 2
    db-3 waits
    db-4 waits
    web-3 waits
    ");
    let stopped = bench.engine.batch(1).await.expect("there").row.state;
    insta::assert_debug_snapshot!(stopped, @r#"
    Stopped {
        by: "assay",
        why: "2 failed: db-1 (run 1), db-2 (run 2)",
    }
    "#);
    let trail = bench.engine.store().audit_after(0, 50).await.expect("read");
    let read = |body: &[u8]| serde_json::from_slice::<Value>(body).expect("plain data");
    assert!(trail.iter().any(|entry| read(&entry.body)["what"] == "batch stopped"));

    // Stopped it stays, also when the machines are back.
    for target in ["db-1", "db-2"] {
        bench.decide(run_of(&bench, 1, target).await, DecisionKind::Abandon, "").await.expect("held");
    }
    look(&bench).await;
    assert!(stands(&bench, 1).await.starts_with("stopped: 2 of 5, 2 failed\n"));
    let refused = bench.engine.stop_batch(1, "mara", "").await.expect_err("it is stopped");
    assert_eq!(refused.to_string(), "batch 1 is stopped; only one that is running can be stopped");

    bench.engine.resume_batch(1).await.expect("stopped");
    look(&bench).await;
    insta::assert_snapshot!(stands(&bench, 1).await, @"
    running: 2 of 5, 2 under way, 2 failed
    db-1 failed run 1
    db-2 failed run 2
    db-3 under_way run 3
    db-4 under_way run 4
    web-3 waits
    ");
    // A third failure is one since somebody looked. The others are cancelled, and then nothing is left.
    bench.power(run_of(&bench, 1, "db-3").await, false).await;
    look(&bench).await;
    assert!(stands(&bench, 1).await.starts_with("running: 2 of 5, 1 under way, 1 held, 2 failed\n"));
    bench.decide(run_of(&bench, 1, "db-3").await, DecisionKind::Abandon, "").await.expect("held");
    look(&bench).await;
    for target in ["db-4", "web-3"] {
        let run = run_of(&bench, 1, target).await;
        bench.decide(run, DecisionKind::Cancel, "").await.expect("booting");
        bench.power(run, true).await;
    }
    look(&bench).await;
    insta::assert_snapshot!(stands(&bench, 1).await, @"
    ended: 5 of 5, 3 failed, 2 cancelled
    db-1 failed run 1
    db-2 failed run 2
    db-3 failed run 3
    db-4 cancelled run 4
    web-3 cancelled run 5
    ");
    let refused = bench.engine.resume_batch(1).await.expect_err("it has ended");
    assert!(refused.to_string().contains("batch 1 is ended"), "{refused}");

    let stopped =
        bench.engine.begin_batch(&all_hosts(), limits(2, 2), "mara").await.expect("begun").row.number;
    bench.engine.stop_batch(stopped, "mara", "the power is going").await.expect("running");
    look(&bench).await;
    assert!(stands(&bench, stopped).await.starts_with("stopped: 0 of 5\n"));
}

/// A cluster that says what the test has it say.
struct Cluster(Mutex<GuardAnswer>);

impl Cluster {
    fn says(&self, answer: GuardAnswer) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }
}

impl ClusterGuard for Cluster {
    fn ask<'a>(&'a self, _: &'a ProxmoxMember) -> Answer<'a> {
        let answer = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(std::future::ready(answer))
    }
}

#[tokio::test]
async fn machines_that_a_cluster_counts_on_are_named_before_anything_begins_and_asked_about_again() {
    let mut bench = Bench::new().await;
    let live = GuardAnswer::Live { node: "pve3".to_owned() };
    let cluster = Arc::new(Cluster(Mutex::new(live.clone())));
    bench.engine = bench.engine.clone().with_guard(Arc::clone(&cluster) as _);
    host(&bench.engine, "member", 1, MEMBER).await;
    host(&bench.engine, "undeclared", 2, "format: 1\n").await;
    host(&bench.engine, "broken", 3, "format: 9\n").await;
    let busy = bench.vet().await;
    bench.clock.advance(Micros::seconds(60));
    host(&bench.engine, "db-1", 4, NO_CLUSTER).await;

    let plan = bench.engine.plan_batch(&all_hosts(), limits(1, 2)).await.expect("planned");
    let lines: Vec<String> = plan
        .iter()
        .map(|one| format!("{}: {}", one.name, one.against.as_deref().unwrap_or("would be vetted")))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @"
    broken: its spec does not read: spec, line 1, column 9: format 9 is not known here; write `format: 1`
    db-1: would be vetted
    member: the cluster sees the node pve3 online (NodeIsLiveMember). Take the node out of the cluster, or shut its system down and see that the cluster shows it offline, then retry.
    undeclared: the spec says nothing of a cluster (ClusterUndeclared). Add `cluster: none` to the spec if nobody counts on its disks, or the cluster's address, and vet the host again.
    web-3: it is in run 1 (Booting)
    ");
    assert_eq!(bench.engine.batches(None, 10).await.expect("read").len(), 0, "a plan begins nothing");

    // The cluster lets the machine go, and has it back by the time its turn has come.
    cluster.says(GuardAnswer::Offline { node: "pve3".to_owned() });
    let two = hosts(&["member", "db-1"], &[], &[]);
    bench.engine.begin_batch(&two, limits(1, 2), "mara").await.expect("begun");
    cluster.says(live);
    look(&bench).await;
    look(&bench).await;
    let shown = stands(&bench, 1).await;
    assert!(shown.contains("db-1 under_way run 2"), "{shown}");
    bench.decide(run_of(&bench, 1, "db-1").await, DecisionKind::Cancel, "").await.expect("booting");
    bench.power(run_of(&bench, 1, "db-1").await, true).await;
    look(&bench).await;
    let shown = stands(&bench, 1).await;
    assert!(
        shown.contains("member left_out: the cluster sees the node pve3 online (NodeIsLiveMember)"),
        "{shown}"
    );
    assert!(shown.starts_with("ended: 1 of 1, 1 cancelled, 1 left out\n"), "{shown}");
    assert_eq!(bench.view(busy).await.created.number, 1);

    // Where nothing may be vetted, nothing begins.
    let refused = bench.engine.begin_batch(&hosts(&["undeclared"], &[], &[]), limits(1, 2), "mara").await;
    let refused = refused.expect_err("nothing to do").to_string();
    assert!(refused.starts_with("nothing to test: none may be tested now; undeclared: "), "{refused}");
    let wrong = [
        (hosts(&["db-7"], &[], &[]), "there is no host `db-7`; did you mean `db-1`?"),
        (hosts(&[], &["rack7"], &[]), "there is no label `rack7`; give it to hosts with `assay host label`"),
        (hosts(&[], &[], &["X11"]), "there is no kind of machine `X11`"),
        (Again::Recipes { names: vec!["wiki".to_owned()], folder: None }, "there is no recipe `wiki`"),
        (Again::Image { name: "node".to_owned() }, "there is no image `node`"),
        (hosts(&[" "], &[], &[]), "a name, a label or a kind is empty"),
    ];
    for (again, why) in wrong {
        let refused =
            bench.engine.begin_batch(&again, Limits::default(), "mara").await.expect_err(why).to_string();
        assert!(refused.contains(why), "{refused}");
    }
    let none = Limits { at_most: Some(0), stop_after: None };
    let refused =
        bench.engine.begin_batch(&all_hosts(), none, "mara").await.expect_err("no room").to_string();
    assert!(refused.contains("from 1"), "{refused}");
}

#[tokio::test]
async fn labels_choose_hosts_and_what_was_not_tested_for_longest_comes_first() {
    let bench = Bench::new().await;
    let (b, a) =
        (host(&bench.engine, "b", 1, NO_CLUSTER).await, host(&bench.engine, "a", 2, NO_CLUSTER).await);
    host(&bench.engine, "c", 3, NO_CLUSTER).await;
    let label = async |host: &HostRow, labels: &[&str]| {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        bench.engine.label_host(host.id, &labels).await
    };
    label(&a, &["rack7", "db"]).await.expect("labelled");
    label(&b, &["rack7"]).await.expect("labelled");
    assert!(label(&b, &["rack 8"]).await.expect_err("a space").to_string().contains("`rack 8` is no label"));
    let names = async |again: &Again| {
        let plan = bench.engine.plan_batch(again, Limits::default()).await.expect("planned");
        plan.into_iter().map(|one| one.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&hosts(&[], &["rack7"], &[])).await, ["a", "b"]);
    assert_eq!(names(&hosts(&["c"], &["db"], &[])).await, ["a", "c"]);
    label(&a, &["db"]).await.expect("labelled anew");
    assert_eq!(names(&hosts(&[], &["rack7"], &[])).await, ["b"]);
    bench.engine.store().host_remove("a").await.expect("removed");
    assert!(bench.engine.store().host_labels().await.expect("read").len() == 1, "its labels go with it");

    // `web-3` passes in a batch of its own: from then on it is the last, whatever the names of the others.
    host(&bench.engine, "zz", 9, NO_CLUSTER).await;
    let own = hosts(&["web-3"], &[], &[]);
    bench.engine.begin_batch(&own, limits(1, 2), "mara").await.expect("begun");
    look(&bench).await;
    bench.power(run_of(&bench, 1, "web-3").await, true).await;
    let agent = bench.enrol().await;
    for stage in ["Inventory", "SpecValidate"] {
        bench.collect(&agent, stage, &assay_testkit::canned::evidence(stage)).await;
    }
    bench.rest(&agent).await;
    look(&bench).await;
    assert_eq!(stands(&bench, 1).await, "ended: 1 of 1\nweb-3 passed run 1");
    assert_eq!(names(&all_hosts()).await, ["b", "c", "zz", "web-3"]);
}

#[tokio::test]
async fn after_days_without_anybody_one_time_is_caught_up_with_and_a_rest_is_not() {
    let mut bench = Bench::new().await;
    let written = daily(all_hosts(), limits(1, 2));
    bench.engine.put_schedule("nightly", &written, "mara", false).await.expect("written");
    bench.clock.advance(Micros::seconds(3 * DAY + HOUR));
    bench.restart().await;
    look(&bench).await;
    look(&bench).await;
    assert_eq!(bench.engine.batches(None, 10).await.expect("read").len(), 1);
    assert_eq!(times(&bench, "nightly").await, [("caught_up", 3, "1 target".to_owned())]);

    // Thirteen hours are too late, and that is said.
    bench.clock.advance(Micros::seconds(DAY + 12 * HOUR + HOUR / 2 + 60));
    look(&bench).await;
    let late = times(&bench, "nightly").await;
    assert_eq!((late.len(), late[0].0, late[0].1), (2, "missed", 0), "{late:?}");
    assert!(late[0].2.contains("nobody was there"), "{late:?}");
    assert_eq!(bench.engine.batches(None, 10).await.expect("read").len(), 1);

    // While it rests nothing comes, and nothing is made up for.
    bench.engine.pause_schedule("nightly", Some("ole")).await.expect("there");
    bench.clock.advance(Micros::seconds(2 * DAY));
    look(&bench).await;
    let resting = bench.engine.schedule("nightly").await.expect("there");
    assert!(resting.next(bench.engine.now(), 5).is_empty());
    assert_eq!(resting.row.paused.as_ref().map(|pause| pause.by.as_str()), Some("ole"));
    bench.engine.pause_schedule("nightly", None).await.expect("there");
    look(&bench).await;
    assert_eq!(times(&bench, "nightly").await.len(), 2);
    bench.clock.advance(Micros::seconds(DAY));
    look(&bench).await;
    assert_eq!(times(&bench, "nightly").await.len(), 3);

    // Written anew, it begins anew; forgotten, it is gone, and its batches are not.
    let hourly =
        Written { timing: Timing { cron: "0 * * * *".to_owned(), ..written.timing.clone() }, ..written };
    let refused =
        bench.engine.put_schedule("nightly", &hourly, "mara", false).await.expect_err("it is there");
    assert!(refused.to_string().contains("--replace"), "{refused}");
    bench.engine.put_schedule("nightly", &hourly, "mara", true).await.expect("changed");
    look(&bench).await;
    assert_eq!(times(&bench, "nightly").await.len(), 3, "what it was to do before is not made up for");
    bench.clock.advance(Micros::seconds(HOUR));
    look(&bench).await;
    assert_eq!(times(&bench, "nightly").await.len(), 4);
    bench.engine.remove_schedule("nightly").await.expect("there");
    assert!(bench.engine.schedule("nightly").await.is_err());
    assert_eq!(bench.engine.batches(None, 10).await.expect("read").len(), 2, "its batches stay");
    let bad = Timing { cron: "0 3 30 2 *".to_owned(), ..hourly.timing.clone() };
    let refused =
        bench.engine.put_schedule("x", &Written { timing: bad, ..hourly.clone() }, "mara", false).await;
    assert!(refused.expect_err("never").to_string().contains("never comes"));
    let refused = bench.engine.put_schedule("../x", &hourly, "mara", false).await.expect_err("no name");
    assert!(refused.to_string().contains("a schedule's name"), "{refused}");
}

#[tokio::test]
async fn what_this_version_cannot_read_does_nothing_and_holds_up_nobody() {
    let bench = Bench::new().await;
    bench
        .engine
        .put_schedule("good", &daily(all_hosts(), limits(1, 2)), "mara", false)
        .await
        .expect("written");
    let row = bench.engine.schedule("good").await.expect("there").row;
    let newer = json!({ "timing": { "cron": "0 10 * * *" }, "moon": "full" });
    let row = assay_store::ScheduleRow { name: "a-newer-one".to_owned(), body: newer, ..row };
    bench.engine.store().schedule_put(&row).await.expect("stored");
    bench.clock.advance(Micros::seconds(HOUR));
    look(&bench).await;
    let all = bench.engine.schedules().await.expect("read");
    let problems: Vec<bool> = all.iter().map(|schedule: &Schedule| schedule.written.is_err()).collect();
    assert_eq!(problems, [true, false]);
    assert_eq!(times(&bench, "good").await.len(), 1);
    let refused = bench.engine.run_schedule("a-newer-one", "mara").await.expect_err("unreadable").to_string();
    assert!(refused.contains("has a newer version of Assay written it?"), "{refused}");
}

fn recipe(name: &str, commit: Option<&str>) -> RecipeSpec {
    RecipeSpec {
        source: None,
        isolation: assay_pipelines::recipe::Isolation::default(),
        name: name.to_owned(),
        folder: format!("/recipes/{name}").into(),
        commit: commit.map(str::to_owned),
        tests: None,
        settings: Settings::default(),
        manifest: Manifest::of(&Customisation::default(), &Redactor::default()),
        asked: assay_pipelines::recipe::Asked { extra: true, ..assay_pipelines::recipe::Asked::default() },
        stages: Vec::new(),
        seed: 7,
        invocation: vec!["assay".to_owned()],
        harness: None,
    }
}

async fn test_recipe(bench: &Bench, spec: RecipeSpec, pull_request: Option<&str>) -> RunId {
    let asked = match pull_request {
        Some(name) => Asked { priority: Priority::PullRequest, pull_request: Some(name.to_owned()) },
        None => Asked { priority: Priority::Schedule, pull_request: None },
    };
    let runner = Some("r1".to_owned());
    let request =
        RecipeRequest { spec, only: Vec::new(), runner, muted: Vec::new(), by: "ole".to_owned(), asked };
    bench.engine.test_recipe(request).await.expect("queued").id
}

#[tokio::test]
async fn recipes_and_images_are_tested_as_they_were_last_asked_for_and_never_as_a_pull_request_has_it() {
    let bench = Bench::new().await;
    test_recipe(&bench, recipe("wiki", Some("c0ffee")), None).await;
    test_recipe(
        &bench,
        RecipeSpec { folder: "/tmp/evil".into(), ..recipe("wiki", None) },
        Some("apps/wiki#1"),
    )
    .await;
    let quick = assay_pipelines::recipe::Asked { quick: true, ..assay_pipelines::recipe::Asked::default() };
    test_recipe(
        &bench,
        RecipeSpec { asked: quick, folder: "/tmp/quick".into(), ..recipe("wiki", None) },
        None,
    )
    .await;
    test_recipe(&bench, RecipeSpec { folder: "/elsewhere/blog".into(), ..recipe("blog", None) }, None).await;
    test_recipe(&bench, recipe("stranger", None), Some("apps/stranger#1")).await;

    let all = Again::Recipes { names: Vec::new(), folder: None };
    bench.engine.put_schedule("sweep", &daily(all, Limits::default()), "mara", false).await.expect("written");
    let (batch, note) = bench.engine.run_schedule("sweep", "ole").await.expect("begun");
    assert_eq!((batch, note.as_str()), (Some(1), "asked for by ole; 2 targets; 1 left out"));
    look(&bench).await;
    insta::assert_snapshot!(stands(&bench, 1).await, @"
    running: 0 of 2, 2 under way, 1 left out
    blog under_way run 6
    stranger left_out: all that is known of it are runs for pull requests; have it tested once by yourself
    wiki under_way run 7
    ");
    let wiki = bench.view(run_of(&bench, 1, "wiki").await).await;
    let spec = RecipeSpec::of(&wiki.created.spec).expect("reads");
    assert_eq!((spec.folder.to_str(), spec.commit, spec.asked.extra), (Some("/recipes/wiki"), None, true));
    assert!(wiki.created.is_whole() && spec.invocation.is_empty());
    assert_eq!(
        (wiki.created.requested_by.as_str(), &wiki.created.power["runner"]),
        ("schedule sweep", &json!("r1"))
    );

    bench.clock.advance(Micros::seconds(60));
    // Out of turn once more: what has not ended is not asked for a second time.
    let (_, note) = bench.engine.run_schedule("sweep", "ole").await.expect("begun");
    assert_eq!(note, "asked for by ole; 0 targets; 3 left out");
    look(&bench).await;
    assert!(
        stands(&bench, 2).await.contains("wiki left_out: run 7 of the same schedule has not ended (Queued)")
    );
    let in_folder = Again::Recipes { names: Vec::new(), folder: Some("/elsewhere".into()) };
    let plan = bench.engine.plan_batch(&in_folder, Limits::default()).await.expect("planned");
    assert_eq!(plan.into_iter().map(|one| one.name).collect::<Vec<_>>(), ["blog"]);

    let profile =
        assay_pipelines::image::Profile::from_toml("name = \"node\"\n[machine]\nmemory = \"1GiB\"\n");
    let spec = json!({ "image": "/images/node.iso", "profile": profile.expect("a profile"), "folder": "/images",
        "seed": 7, "sha256": Sha256::of(b"old") });
    let spec = ImageSpec::of(&spec).expect("plain data");
    let request = ImageRequest { spec, runner: None, muted: Vec::new(), by: "ada".to_owned() };
    let first = bench.engine.test_image(request).await.expect("queued").id;
    let image = Again::Image { name: "node".to_owned() };
    bench.engine.begin_batch(&image, Limits::default(), "mara").await.expect("begun");
    look(&bench).await;
    let again = bench.view(run_of(&bench, 3, "node").await).await;
    let (spec, before) = (ImageSpec::of(&again.created.spec).expect("reads"), bench.view(first).await);
    assert_eq!((spec.sha256, spec.image.to_str()), (None, Some("/images/node.iso")));
    assert_eq!(again.created.target, before.created.target);
    assert_eq!(
        (again.created.requested_by.as_str(), again.created.options.asked.priority),
        ("mara", Priority::Schedule)
    );
}

const FOLDER: &str = "ASSAY_TEST_AGAIN_FOLDER";
const THIS_TEST: &str = "again::killed_around_every_commit_each_target_has_one_run";
const TARGETS: usize = 3;

async fn open(folder: &std::path::Path, clock: &SimClock) -> Engine {
    let store = Store::open(&format!("sqlite://{}/assay.db", folder.display())).await.expect("opens");
    let artifacts = Artifacts::folder(folder.join("artifacts")).expect("opens");
    let sealer = Arc::new(TestSealer::generate());
    Engine::new(store, artifacts, Arc::new(clock.clone()), sealer, Tuning::default())
}

/// A child of this test does the schedule's time and is killed with SIGKILL before or after one of its commits; the next process
/// finds whatever that left.
#[tokio::test]
async fn killed_around_every_commit_each_target_has_one_run() {
    let due = SimClock::at(SimClock::START.plus(Micros::seconds(HOUR / 2 + 5)));
    if let Some(folder) = std::env::var_os(FOLDER) {
        let engine = open(folder.as_ref(), &due).await;
        Scheduler::new(engine.clone()).turn().await;
        engine.store().close().await.expect("closes");
        return;
    }
    let mut killed = 0;
    for moment in ["before", "after"] {
        for commit in 1.. {
            let folder = tempfile::tempdir().expect("a folder");
            let engine = open(folder.path(), &SimClock::default()).await;
            for (n, name) in (1_u8..).zip(["db-1", "db-2", "db-3"]) {
                host(&engine, name, n, NO_CLUSTER).await;
            }
            let written = daily(all_hosts(), Limits::default());
            engine.put_schedule("nightly", &written, "mara", false).await.expect("written");
            engine.store().close().await.expect("closes");

            let child = Cmd::new(std::env::current_exe().expect("this test"))
                .args([THIS_TEST, "--exact", "--nocapture"])
                .env(FOLDER, folder.path())
                .env("ASSAY_KILL_AT", format!("{moment}:{commit}"))
                .timeout(Duration::from_mins(1));
            let output = child.run().await.expect("ran");
            let died = output.signal() == Some(9);
            assert!(died || output.code() == Some(0), "{moment}:{commit}: {}", output.last_words());

            let engine = open(folder.path(), &due).await;
            for _ in 0..2 {
                Scheduler::new(engine.clone()).turn().await;
            }
            let what = format!("{moment}:{commit}");
            let batches = engine.batches(None, 10).await.expect("read");
            assert_eq!(batches.len(), 1, "{what}");
            let ticks = engine.store().schedule_ticks("nightly", 10).await.expect("read");
            assert_eq!(ticks.iter().map(|tick| tick.kind).collect::<Vec<_>>(), [TickKind::Due], "{what}");
            let runs = engine.store().list_runs(RunFilter::default()).await.expect("read");
            let targets: BTreeSet<&str> = runs.iter().map(|run| run.target.as_str()).collect();
            assert_eq!((runs.len(), targets.len()), (TARGETS, TARGETS), "{what}: each once");
            let numbers: Vec<i64> = runs.iter().map(|run| run.number).collect();
            assert_eq!(numbers, [3, 2, 1], "{what}");
            assert_eq!(batches[0].progress().under_way, TARGETS, "{what}: {}", told(&batches[0]));
            engine.store().close().await.expect("closes");
            if !died {
                break;
            }
            killed += 1;
        }
    }
    // The schedule's time, and each of its runs, before and after.
    assert_eq!(killed, 2 * (1 + TARGETS));
    assert_eq!(due.now().since(SimClock::START), Micros::seconds(HOUR / 2 + 5));
}
