//! A recipe comes to its verdict in a machine, and a machine's troubles are never the recipe's.

use assay_model::Verdict;
use assay_process::{Cmd, Signal};

use crate::world::{World, put, qemu_of, qemu_pid, stage};

#[tokio::test]
async fn a_stranger_s_recipe_comes_to_its_verdict_in_a_machine_and_one_that_dies_is_begun_anew() {
    let world = World::new().await;
    let recipe = world.checkout().await;
    // Nobody has put a browser or Node.js into a machine.
    for (name, line) in [("browser/login", "/usr/bin/env python3"), ("functional/page", "/usr/bin/env node")]
    {
        put(&recipe, name, &format!("#!{line}\nthis does not run\n"));
    }
    let mut running = world.start(&recipe, &[]).await;
    running.says("booting the machine (").await;
    // It is killed in the middle of its boot.
    let traces = world.traces();
    let kill = Cmd::new("kill").arg("-KILL").arg(qemu_pid(&traces).to_string());
    kill.run_ok().await.expect("it runs");
    let tested = running.ended().await;
    assert_eq!(tested.code, Some(0), "{}", tested.said);
    let report = tested.report();
    let lint = stage(&report, "Lint");
    assert_eq!((lint.verdict, lint.attempt), (Some(Verdict::Pass), 2), "{}", tested.said);
    let lost = &lint.lost_attempts[0];
    assert!(
        lost.contains("the virtual machine failed: it ended by itself: QEMU ended with status 137"),
        "{lost}"
    );
    // The whole of it, with a release before and a backup.
    for name in ["Install", "Upgrade", "Backup", "Restore", "Teardown"] {
        assert_eq!(stage(&report, name).verdict, Some(Verdict::Pass), "{}", tested.said);
    }
    let custom = stage(&report, "Custom");
    assert_eq!(custom.verdict, Some(Verdict::Unverified), "{}", tested.said);
    assert_eq!(custom.message, "1 of 3 tests passed, 2 could not be run here");
    let early =
        |words: &str| tested.said.split("Install began").next().is_some_and(|said| said.contains(words));
    assert!(early("functional/page cannot be run: `node` runs it"), "{}", tested.said);
    assert!(early("tests in browser/ cannot be run: machines for strangers' recipes have no browser"));
    assert!(tested.said.contains("in_vm"), "the manifest says it: {}", tested.said);
    assert!(tested.said.contains("the machine is up ("), "{}", tested.said);
    let results = std::fs::read_to_string(tested.out.join("results.json")).expect("results");
    assert!(results.contains(r#""ground": "machine""#), "{results}");
    assert!(tested.artifact("machine-console.log").contains("assay: guest up after"));
    assert!(tested.artifact("functional-feed.log").contains("the feed is served as what it is"));
    world.is_clean();
    assert_eq!(traces.still_there(), [""; 0]);
}

#[tokio::test]
async fn a_machine_ends_with_its_runner_however_that_ends() {
    let world = World::new().await;
    let recipe = world.checkout().await;
    for signal in [Signal::INT, Signal::KILL] {
        let mut running = world.start(&recipe, &["--quick"]).await;
        running.says("booting the machine (").await;
        let traces = world.traces();
        let qemu = qemu_of(&traces);
        running.child.signal(signal).expect("it runs");
        let ended = running.ended().await;
        assert_eq!(ended.code, if signal == Signal::INT { Some(4) } else { None }, "{}", ended.said);
        assert_eq!(traces.still_there(), [""; 0]);
        assert!(!qemu.is_alive());
        if signal == Signal::INT {
            world.is_clean();
        }
    }
}
