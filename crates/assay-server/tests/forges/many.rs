//! More pull requests at once than are looked at in one go anywhere: each is told how it went, also the one whose comment the
//! forge does not take for a while, and that one holds up no other.

use assay_engine::Engine;
use assay_forge::command::{Command, Wanted};
use assay_model::event::{EventBody, RunCreated, Target};
use assay_model::host::order::RunOptions;
use assay_model::{Judgement, Micros, Owner, Pipeline, RunId, RunResult, StagePlan, TargetId};
use assay_store::{Changes, Heard, NewCommand};
use assay_testkit::ForgeDouble;
use assay_testkit::forge::{Dialect, Fault, Match};
use serde_json::json;

use crate::site::{REPO, Site};

const MANY: usize = 210;
const HEAD: &str = "1111111111111111111111111111111111111111";
const BASE: &str = "2222222222222222222222222222222222222222";
/// Longer than the longest pause before something is tried again.
const LATER: Micros = Micros::seconds(3600);

/// A queued run of one stage. Each tests something else, so that none takes another's place.
async fn queued(engine: &Engine, pull: u64) -> RunId {
    let name = format!("recipe-{pull}");
    let stage = |name: &str| StagePlan {
        name: name.into(),
        owner: if name == "Reporting" { Owner::Orchestrator } else { Owner::Runner },
        required: true,
        timeout_s: 60,
    };
    let created = RunCreated {
        number: 0,
        pipeline: Pipeline::Recipe,
        profile: "standard".into(),
        target: Target { id: TargetId::named(Pipeline::Recipe, &name), name },
        stages: ["Lint", "Reporting"].into_iter().map(stage).collect(),
        spec: json!({ "commit": HEAD }),
        machine: None,
        macs: Vec::new(),
        power: json!({ "method": "swarm" }),
        holds: false,
        hold_s: 0,
        boot_timeout_s: 0,
        requested_by: "alice@coop".into(),
        harness: "0.1.0".into(),
        muted: Vec::new(),
        options: RunOptions::default(),
    };
    let id = RunId(uuid::Uuid::now_v7());
    engine.store().create_run(id, engine.now(), created).await.expect("created");
    id
}

/// It runs and passes.
async fn passes(engine: &Engine, run: RunId) {
    let mut events = vec![EventBody::Admitted { runner: "bench1".into() }];
    for (index, stage) in ["Lint", "Reporting"].into_iter().enumerate() {
        let stage: assay_model::StageName = stage.into();
        events.push(EventBody::StageStarted { stage: stage.clone(), index, attempt: 1, generation: 1 });
        let judgement = Judgement::from_evidence(vec![], vec![], vec![], vec![], "good");
        events.push(EventBody::StageJudged { stage, index, attempt: 1, required: true, judgement });
    }
    events.push(EventBody::RunCompleted { result: Some(RunResult::Pass) });
    let changes = Changes { events, writes: Vec::new() };
    engine.store().transact(run, engine.now(), |_| Ok::<_, String>(changes)).await.expect("may happen");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_is_told_its_verdict_and_a_comment_that_was_refused_comes_later() {
    let site = Site::start_still(Dialect::Forgejo).await;
    let (engine, forge) = (site.engine(), &site.forge);
    let pulls: Vec<u64> = (0..MANY).map(|_| forge.open_pull(REPO, "alice", HEAD, BASE, &[])).collect();
    // The forge does not take a comment there for a while.
    let refused = pulls[MANY / 2];
    let comment = format!("/repos/{REPO}/issues/{refused}/comments");
    forge.inject(Match::of("POST", &comment), Fault::status(403), 2);

    // As if each had been asked for, and the run created: what answering begins with is tested elsewhere.
    let mut runs = Vec::new();
    for pull in &pulls {
        runs.push(queued(engine, *pull).await);
    }
    let said = json!({ "command": Command::Test(Wanted::default()) }).to_string();
    let command = |(pull, run): (&u64, &RunId)| NewCommand {
        comment: 10_000 + pull.cast_signed(),
        pull: pull.cast_signed(),
        author: Some("alice".to_owned()),
        said: said.clone(),
        run: *run,
    };
    let commands = pulls.iter().zip(&runs).map(command).collect();
    let (forge_name, repo, part) = ("coop".to_owned(), REPO.to_owned(), "{}".to_owned());
    let heard = Heard { forge: forge_name, repo, part, commands };
    engine.store().forge_heard(&heard, engine.now()).await.expect("stored");

    let others = || pulls.iter().filter(|pull| **pull != refused);
    for pull in others() {
        site.told(*pull, "queued").await;
    }
    for run in &runs {
        passes(engine, *run).await;
    }
    for (pull, number) in pulls.iter().zip(1..).filter(|(pull, _)| **pull != refused) {
        let told = site.told(*pull, "✅ pass").await;
        assert!(told.contains(&format!("[run {number}]")), "its own: {told}");
    }
    // Those that are told take nothing from the one that was refused: it is tried again, and again.
    for times in 1..=2 {
        let tried = |forge: &ForgeDouble| forge.count("POST", &comment) >= times;
        forge.until("it was tried", tried).await;
        assert_eq!(site.ours(refused), Vec::<String>::new());
        forge.clock().advance(LATER);
    }
    site.told(refused, "✅ pass").await;
    assert_eq!(forge.count("POST", &comment), 3);
}
