//! Runs that the runner does by itself: what it could not do is taken up again, and is never the image's fault.

use assay_engine::agents::Todo;
use assay_engine::images::ImageRequest;
use assay_engine::live::Offer;
use assay_engine::runners::Waiting;
use assay_model::{RunId, RunState, StageName, Verdict};
use assay_pipelines::image::ImageSpec;
use assay_testkit::{Bench, ScriptedAgent};
use serde_json::json;

const RUNNER: &str = "vm-host";
const PROFILE: &str = "name = \"mine\"\n[machine]\nmemory = \"1GiB\"\n[boot]\nrung = \"bootloader\"\n";

/// A run over an image, and the runner that has taken it up.
async fn taken_up(bench: &Bench) -> (ScriptedAgent, Waiting) {
    let capacity = [("vm".to_owned(), 1), ("mem_mib".to_owned(), 4096)].into();
    let waiting = bench.engine.offering(RUNNER, Offer { power: ["vm".to_owned()].into(), capacity });
    let profile = assay_pipelines::image::Profile::from_toml(PROFILE).expect("a profile");
    let spec = json!({ "image": "/images/my.iso", "profile": profile, "folder": "/images", "seed": 7 });
    let spec = ImageSpec::of(&spec).expect("plain data");
    let request = ImageRequest { spec, runner: None, muted: Vec::new(), by: "ada".to_owned() };
    let run = bench.engine.test_image(request).await.expect("queued").id;
    bench.turn().await;
    let given = bench.engine.grant(RUNNER, &[]).await.expect("an answer").expect("the run");
    assert_eq!(given.run.id, run);
    bench.turn().await;
    let credential = given.agent.expect("it does the work itself");
    (ScriptedAgent { run, credential, token: given.token }, waiting)
}

/// The runner cannot do what it is told to; a turn follows. Which try that was.
async fn cannot(bench: &Bench, agent: &ScriptedAgent, why: &str) -> u32 {
    let Todo::Stage { stage, attempt, generation, .. } = bench.todo(agent).await else {
        panic!("nothing to do: {:?}", bench.todo(agent).await)
    };
    assert_eq!(stage, "Prepare");
    let problem = Some(why.to_owned());
    let null = b"null".to_vec();
    bench
        .engine
        .result(agent.run, StageName::from("Prepare"), attempt, generation, null, problem)
        .await
        .expect("taken");
    bench.turn().await;
    attempt
}

async fn lost(bench: &Bench, run: RunId) -> Vec<String> {
    let lines = bench.lines(run).await;
    lines.into_iter().filter(|line| line.contains("the disk is full")).collect()
}

#[tokio::test]
async fn what_the_runner_cannot_do_is_taken_up_twice_and_then_an_error() {
    let bench = Bench::new().await;
    let (agent, _waiting) = taken_up(&bench).await;
    for tried in 1..=2 {
        assert_eq!(cannot(&bench, &agent, "the disk is full").await, tried);
        let view = bench.check(agent.run).await;
        assert_eq!((view.state(), view.stages[0].verdict()), (RunState::Running, None), "tried again");
    }
    assert_eq!(cannot(&bench, &agent, "the disk is full").await, 3);
    let view = bench.check(agent.run).await;
    let judged = view.stages[0].judgement().expect("the last try is judged");
    assert_eq!((judged.verdict, judged.message.as_str()), (Verdict::Error, "the disk is full"));
    assert!(lost(&bench, agent.run).await.len() >= 3, "each try is told");
}

#[tokio::test]
async fn a_try_that_comes_through_counts_and_the_lost_one_is_shown() {
    let bench = Bench::new().await;
    let (agent, _waiting) = taken_up(&bench).await;
    cannot(&bench, &agent, "the disk is full").await;
    let Todo::Stage { attempt, generation, .. } = bench.todo(&agent).await else { panic!("the same stage") };
    let prepared = json!({
        "bytes": 4096, "sha256": assay_model::Sha256::of(b"image"), "medium": "as a CD", "staged": [],
        "accel": "kvm", "disks": [],
    });
    bench.result(&agent, "Prepare", attempt, generation, &prepared).await.expect("taken");
    bench.turn().await;
    let view = bench.check(agent.run).await;
    assert_eq!(view.stages[0].verdict(), Some(Verdict::Pass), "{:?}", view.stages[0].judgement());
    assert!(!lost(&bench, agent.run).await.is_empty(), "it is told");
}
