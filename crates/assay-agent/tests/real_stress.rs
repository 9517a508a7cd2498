//! The real tools and the real memory test, for a few seconds: what they write is what is read.

use std::os::unix::fs::symlink;
use std::sync::Mutex;
use std::time::Duration;

use assay_model::host::cpu_stress::{Ended, MemoryTest, ToolRun};
use assay_probes::Machine;
use assay_probes::stress::memory::{MemoryOrder, MemoryPattern};
use assay_probes::stress::{self, Load};

const LOAD: Load = Load { seconds: 5, bytes: 64 << 20, memory_workers: 1 };

#[tokio::test]
async fn the_agents_own_program_is_the_memory_test() {
    let tools = tempfile::tempdir().expect("folder");
    symlink(env!("CARGO_BIN_EXE_assay-agent"), tools.path().join("assay-agent")).expect("linked");
    let machine = Machine::captured("/", Some(tools.path().to_owned()));
    let order = MemoryOrder { percent: 1, patterns: MemoryPattern::ALL.to_vec(), rounds: 1, at_most: None };
    let (test, told) = (Mutex::<MemoryTest>::default(), Mutex::new(Vec::new()));
    let progress = |step: &str| told.lock().expect("alive").push(step.to_owned());
    stress::memory::test(&machine, &order, Duration::from_mins(5), &progress, &test).await;
    let test = test.into_inner().expect("alive");
    assert_eq!((test.ended, test.detail.as_str()), (Ended::Finished, ""), "{test:?}");
    // One part in a hundred of what there is, in whole pieces.
    let asked = test.usable() / 100;
    assert!(
        test.asked.abs_diff(asked) <= 1 && test.region <= asked && test.region + (1 << 20) > asked,
        "{test:?}"
    );
    assert_eq!((test.passes, test.written, test.verified), (5, test.region * 5, test.region * 5));
    assert_eq!((test.mismatches, test.flips.len(), test.covered()), (0, 0, test.region));
    assert_eq!(told.into_inner().expect("alive").last().map(String::as_str), Some("memory: 100 %, 0 s left"));
}

#[tokio::test]
async fn stress_ng_works_for_as_long_as_it_was_asked_to() {
    let run = Mutex::<ToolRun>::default();
    let said = stress::stress_ng(&Machine::this(), LOAD, &|_| (), &run).await;
    let run = run.into_inner().expect("alive");
    assert_eq!((run.ended, run.exit, run.complaints.len()), (Ended::Finished, Some(0), 0), "{run:?}");
    let done: Vec<_> = run.work.iter().map(|work| (work.name.as_str(), work.done > 0.0)).collect();
    assert_eq!(done, [("cpu", true), ("vm", true)]);
    assert!(run.seconds >= 4.5, "{run:?}");
    assert!(String::from_utf8_lossy(&said).contains("successful run completed"));
}

#[tokio::test]
async fn stressapptest_says_that_all_is_well() {
    let run = Mutex::<ToolRun>::default();
    stress::stressapptest(&Machine::this(), Load { seconds: 2, ..LOAD }, &|_| (), &run).await;
    let run = run.into_inner().expect("alive");
    assert_eq!((run.ended, run.passed, run.errors), (Ended::Finished, Some(true), Some(0)), "{run:?}");
    assert!(run.work.first().is_some_and(|work| work.done > 0.0 && work.per_second > 0.0), "{run:?}");
}
