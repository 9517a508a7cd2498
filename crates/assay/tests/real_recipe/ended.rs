//! Runs that are ended before their end.

use assay_process::Signal;

use crate::traces::Traces;
use crate::world::World;

#[tokio::test]
async fn ctrl_c_in_the_middle_leaves_nothing() {
    let world = World::new().await;
    let recipe = world.checkout("static-site").await;
    let mut running = world.start(&recipe, &[]).await;
    running.says("Upgrade began").await;
    let traces = world.traces();
    assert!(!traces.processes.is_empty() && !traces.control_groups.is_empty(), "{traces:#?}");
    running.signal(Signal::INT);
    assert_eq!(running.ended().await, Some(4), "there is no verdict: {:#?}", running.said);
    assert_eq!(traces.still_there(), [""; 0]);
    world.is_clean();
}

/// What is asked for, and what the run says when it is killed. `cargo xtask bench --only recipes` does it at moments that nobody
/// chose.
const MOMENTS: [(&str, &str); 5] = [
    ("Lint", "starting a Docker daemon"),
    ("Upgrade", "Upgrade began"),
    ("Backup", "planting witnesses"),
    ("Backup,Restore", "Restore began"),
    ("Lint", "Teardown began"),
];

#[tokio::test]
async fn what_a_killed_runner_leaves_the_next_one_takes_away() {
    let world = World::new().await;
    let recipe = world.checkout("static-site").await;
    let data = world.path("data");
    let swarms = data.join("runner/swarms");
    let data = data.display().to_string();
    let mut before = None;
    for (stages, word) in MOMENTS {
        let mut running = world.start(&recipe, &["--data", &data, "--stages", stages]).await;
        running.says(word).await;
        // It is at work on its own, and what was left is gone.
        if let Some(traces) = before.take() {
            assert_none_left(&traces);
        }
        let traces = world.traces();
        assert!(!traces.processes.is_empty(), "{word}: {:#?}", running.said);
        running.signal(Signal::KILL);
        assert_eq!(running.ended().await, None, "{word}");
        before = Some(traces);
    }
    let last = world.test_with(&recipe, |command| command.args(["--quick", "--data", &data])).await;
    assert_eq!(last.code, Some(0), "{}", last.said);
    if let Some(traces) = before {
        assert_none_left(&traces);
    }
    let left: Vec<_> = std::fs::read_dir(&swarms).expect("a folder").collect();
    assert!(left.is_empty(), "{left:?}");
    let traces = world.traces();
    assert!(traces.is_none(), "{traces:#?}");
}

fn assert_none_left(traces: &Traces) {
    assert_eq!(traces.still_there(), [""; 0]);
}
