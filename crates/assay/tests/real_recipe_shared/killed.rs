//! Runs that are ended before their end. After SIGKILL a stack lives on, and whoever comes next takes it away.

use assay_process::Signal;

use crate::world::{World, stack_of};

/// What the run says when it is killed.
const MOMENTS: [&str; 3] = ["Upgrade began", "planting witnesses", "Restore began"];

#[tokio::test]
async fn ctrl_c_in_the_middle_leaves_nothing() {
    let world = World::new().await;
    let mut running = world.start("static-site", &["--seed", "1"]).await;
    running.says("Upgrade began").await;
    let stack = stack_of("static-site", 1);
    assert!(!world.left_of_runs(&[&stack]).await.is_empty());
    running.signal(Signal::INT);
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(4), "there is no verdict: {}", ended.said);
    assert_eq!(world.left_of_runs(&[&stack]).await, [""; 0]);
    let scratch: Vec<_> = std::fs::read_dir(world.temporary()).expect("a folder").collect();
    assert!(scratch.is_empty(), "{scratch:?}");
    world.end().await;
}

#[tokio::test]
async fn what_a_killed_runner_left_is_taken_away_and_nothing_else() {
    let world = World::new().await;
    world.neighbour("shop").await;
    let before = world.things_of("shop").await;
    for (seed, word) in (1_u32..).zip(MOMENTS) {
        let mut running = world.start("static-site", &["--seed", &seed.to_string()]).await;
        running.says(word).await;
        running.signal(Signal::KILL);
        assert_eq!(running.ended().await.code, None, "{word}");
        let stack = stack_of("static-site", seed);
        let left = world.left_of_runs(&[&stack]).await;
        assert!(left.contains(&format!("config assay-run-{stack}")), "{word}: {left:#?}");
        if seed > 1 {
            // Those before it were taken away when this one began.
            let earlier = world.left_of_runs(&[&stack_of("static-site", seed - 1)]).await;
            let of_this = |thing: &String| thing.contains(&stack) || left.contains(thing);
            assert!(earlier.iter().all(of_this), "{word}: {earlier:#?}");
        }
    }
    let stacks: Vec<String> = (1..=4).map(|seed| stack_of("static-site", seed)).collect();
    let stacks: Vec<&str> = stacks.iter().map(String::as_str).collect();
    assert!(!world.left_of_runs(&stacks).await.is_empty());
    let last = world.test("static-site", &["--seed", "4", "--quick"]).await;
    assert_eq!(last.code, Some(0), "{}", last.said);
    assert_eq!(last.seen("what stays"), "nothing");
    assert_eq!(world.left_of_runs(&stacks).await, [""; 0]);
    assert_eq!(world.things_of("shop").await, before);
    // Nor do the folders stay of runs that nobody works on.
    let scratch = std::fs::read_dir(world.temporary()).expect("a folder").filter_map(Result::ok);
    let swarms = scratch.map(|entry| entry.path().join("runner/swarms"));
    let runs: Vec<_> = swarms.filter_map(|swarms| std::fs::read_dir(swarms).ok()).flatten().collect();
    assert!(runs.is_empty(), "{runs:?}");
    world.end().await;
}
