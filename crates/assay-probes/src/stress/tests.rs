//! Tools that end oddly, say odd things or hang, and a memory test that does the same.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::memory::MemoryOrder;
use super::*;
use assay_model::host::cpu_stress::MemoryTest;
use assay_scan::memory::MemoryPattern;

const LOAD: Load = Load { seconds: 1, bytes: 64 << 20, memory_workers: 2 };

fn tool(folder: &Path, name: &str, script: &str) -> Machine {
    let file = folder.join(name);
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("executable");
    Machine::captured(folder, Some(folder.to_owned()))
}

async fn stressed(script: &str) -> ToolRun {
    let folder = tempfile::tempdir().expect("folder");
    let machine = tool(folder.path(), "stress-ng", script);
    let run = Mutex::default();
    stress_ng(&machine, LOAD, &|_| (), &run).await;
    run.into_inner().expect("alive")
}

/// What the real one writes: version 0.15.06.
const METRICS: &str = "---
system-info:
      cpus: 2

metrics:
    - stressor: cpu
      bogo-ops: 3092
      bogo-ops-per-second-usr-sys-time: 2211.470034
      bogo-ops-per-second-real-time: 616.425685

    - stressor: vm
      bogo-ops: 2872
      bogo-ops-per-second-real-time: 573.160020
...
";

#[tokio::test]
async fn what_stress_ng_did_is_read_from_its_metrics() {
    let script = format!(
        r#"while [ "$1" != --yaml ]; do shift; done; cat > "$2" <<'END'
{METRICS}END
echo "stress-ng: info:  [1] successful run completed" >&2"#
    );
    let run = stressed(&script).await;
    assert_eq!((run.ended, run.exit, run.signal), (Ended::Finished, Some(0), None));
    let work: Vec<_> = run.work.iter().map(|work| (work.name.as_str(), work.done as u64)).collect();
    assert_eq!(work, [("cpu", 3092), ("vm", 2872)]);
    assert!((run.work[1].per_second - 573.16002).abs() < 1e-9);
    assert!(run.complaints.is_empty() && !run.out_of_memory, "{run:?}");
    assert!(
        run.command.contains("--vm-bytes 67108864") && run.command.contains("--verify"),
        "{}",
        run.command
    );
}

#[tokio::test]
async fn every_odd_end_is_told_apart() {
    let failed = stressed(
        "echo 'stress-ng: fail:  [9] vm: detected 1053 bit errors while stressing memory' >&2; exit 2",
    )
    .await;
    assert_eq!((failed.ended, failed.exit), (Ended::Finished, Some(2)));
    assert!(failed.complaints[0].contains("1053 bit errors"), "{failed:?}");

    let usage = stressed("echo \"aborting: temp-path '.' must be readable and writeable\" >&2; exit 1").await;
    assert_eq!((usage.ended, usage.exit, usage.complaints.len()), (Ended::Finished, Some(1), 1));

    let starved = stressed("echo 'stress-ng: warn: [7] killed by the OOM killer' >&2; exit 2").await;
    assert!(starved.out_of_memory);

    let killed = stressed("kill -9 $$").await;
    assert_eq!((killed.ended, killed.exit, killed.signal), (Ended::Finished, None, Some(9)));

    let garbage =
        stressed(r#"while [ "$1" != --yaml ]; do shift; done; head -c 3000 /dev/urandom > "$2""#).await;
    assert_eq!((garbage.exit, garbage.work.len()), (Some(0), 0));

    let folder = tempfile::tempdir().expect("folder");
    let run = Mutex::default();
    stress_ng(&Machine::captured(folder.path(), Some(folder.path().to_owned())), LOAD, &|_| (), &run).await;
    assert_eq!(run.into_inner().expect("alive").ended, Ended::Missing);
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_stopped_and_how_far_it_is_was_told() {
    let folder = tempfile::tempdir().expect("folder");
    let machine = tool(folder.path(), "stress-ng", "exec sleep 100000");
    let (run, told) = (Mutex::default(), Mutex::new(Vec::new()));
    let load = Load { seconds: 600, ..LOAD };
    stress_ng(&machine, load, &|step| told.lock().expect("alive").push(step.to_owned()), &run).await;
    assert_eq!(run.into_inner().expect("alive").ended, Ended::Hung);
    let told = told.into_inner().expect("alive");
    assert_eq!(told.first().map(String::as_str), Some("stress-ng: 10 min left"));
    assert!(told.len() > 50, "{told:?}");
}

#[test]
fn the_time_that_is_left_reads_well() {
    for (seconds, words) in [(-1.0, "0 s"), (40.2, "40 s"), (180.0, "3 min"), (25_200.0, "7 h")] {
        assert_eq!(time_left(seconds), words);
    }
}

#[test]
fn stressapptest_is_read_and_its_exit_code_is_not_trusted() {
    let read = |said: &str| {
        let mut run = ToolRun::default();
        stressapptest_said(said, &mut run);
        run
    };
    let good = read(
        "Stats: Found 0 hardware incidents\nStats: Completed: 57884.00M in 5.04s 11484.20MB/s, with 0 hardware incidents, 0 errors\n\nStatus: PASS - please verify no corrected errors\n",
    );
    assert_eq!((good.passed, good.errors, good.complaints.len()), (Some(true), Some(0), 0));
    assert!((good.work[0].done - 57884.0).abs() < 1e-9 && (good.work[0].per_second - 11484.2).abs() < 1e-9);

    let bad = read(
        "Report Error: miscompare : DIMM Unknown : 1 : 5s\nHardware Error: miscompare on CPU 1 at 0x7f10(0x5e10:DIMM Unknown): read:0x1, reread:0x1 expected:0x0\nStats: Completed: 100.00M in 5.00s 20.00MB/s, with 3 hardware incidents, 3 errors\nStatus: FAIL - test discovered HW problems\n",
    );
    assert_eq!((bad.passed, bad.errors), (Some(false), Some(3)));
    assert!(bad.complaints[1].contains("miscompare on CPU 1"), "{bad:?}");

    let tool = read(
        "Process Error: Sat::Initialize() failed\n\nStatus: FAIL - test encountered procedural errors\n",
    );
    assert_eq!((tool.passed, tool.errors), (Some(false), None));
    assert_eq!(read("nonsense"), ToolRun::default());
}

async fn tested(script: &str) -> MemoryTest {
    let folder = tempfile::tempdir().expect("folder");
    let machine = tool(folder.path(), "assay-agent", script);
    let order =
        MemoryOrder { percent: 75, patterns: MemoryPattern::BASIC.to_vec(), rounds: 2, at_most: None };
    let test = Mutex::default();
    memory::test(&machine, &order, Duration::from_mins(1), &|_| (), &test).await;
    test.into_inner().expect("alive")
}

const BEGUN: &str = r#"{"begun":{"total":1000,"available":800,"reserve":100,"threads":2}}"#;
const FLIP: &str = r#"{"flip":{"offset":64,"physical":4660,"expected":1,"seen":3,"again":3,"pass":1}}"#;
const REPORT: &str = r#"{"report":{"asked":700,"region":690,"locked":true,"written":690,"verified":690,"passes":1,"mismatches":1,"flips":[],"seconds":1.5,"stopped":false}}"#;

#[tokio::test]
async fn the_memory_test_is_believed_only_with_its_report_and_a_clean_end() {
    let whole = tested(&format!("echo '{BEGUN}'; echo '{FLIP}'; echo '{REPORT}'")).await;
    assert_eq!((whole.ended, whole.detail.as_str()), (Ended::Finished, ""));
    assert_eq!((whole.usable(), whole.covered(), whole.mismatches), (700, 690, 1));
    assert_eq!((whole.flips[0].physical, whole.flips[0].seen), (Some(0x1234), 3));
    assert_eq!(whole.patterns, ["address", "inverse", "address", "inverse"]);

    let killed = tested(&format!("echo '{BEGUN}'; kill -9 $$")).await;
    assert_eq!((killed.ended, killed.covered()), (Ended::Broken, 0));
    assert!(killed.detail.contains("signal: 9"), "{}", killed.detail);

    let late = tested(&format!("echo '{BEGUN}'; echo '{REPORT}'; exit 3")).await;
    assert_eq!(late.ended, Ended::Broken);

    let garbage = tested("echo hello; exit 0").await;
    assert!(garbage.ended == Ended::Broken && garbage.detail.contains("no word of its own"), "{garbage:?}");

    let refused = tested(r#"echo '{"problem":"no memory to test"}'; exit 1"#).await;
    assert!(refused.ended == Ended::Broken && refused.detail == "no memory to test", "{refused:?}");
}

#[test]
fn the_process_tests_real_memory_and_says_so_in_its_own_words() {
    let order = MemoryOrder { percent: 0, patterns: MemoryPattern::BASIC.to_vec(), rounds: 1, at_most: None };
    let out = Mutex::new(Vec::new());
    // Nothing at all was asked for: that is a problem, and not a report of good memory.
    assert_eq!(memory::child(&serde_json::to_string(&order).expect("plain"), &out), 1);
    let said = String::from_utf8(out.into_inner().expect("alive")).expect("text");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with(r#"{"begun":{"total":"#), "{said}");
    assert!(lines[1].starts_with(r#"{"problem":"no memory to test"#), "{said}");
    let out = Mutex::new(Vec::new());
    assert_eq!(memory::child("{", &out), 1);
}
