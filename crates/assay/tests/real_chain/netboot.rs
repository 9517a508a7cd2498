//! A machine with a dead CMOS battery boots while its DHCP server keeps dying. Two misfortunes in one boot: neither
//! is a reason to fail, and both are said.

use std::path::Path;
use std::time::Duration;

use assay_model::{EventBody, Micros};
use assay_process::{Detached, Signal};
use rustix::process::{Pid, kill_process};
use serde_json::json;

use crate::stack::{BOOT_S, SHORT, STAGES_S, Stack, judged};

const MACHINE: &str = "clock-1970";
/// Clocks of one machine may disagree by seconds; a clock that lost its battery is off by years.
const TOLERANCE: Micros = Micros::seconds(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_without_a_clock_boots_while_dnsmasq_keeps_dying() {
    let mut stack = Stack::up().await;
    stack.register(MACHINE).await;
    let (number, mut journal) = stack.vet(MACHINE, &SHORT).await;

    journal.until("power on", 60, |body| matches!(body, EventBody::PowerDone { ok: true, .. })).await;
    kill_dnsmasq_until_it_shows(&stack).await;
    let problem = |runners: &serde_json::Value| Some(runners[0]["netboot_problem"].clone());
    stack.until("/api/v1/runners", 60, |runners| problem(runners)?.is_null().then_some(())).await;
    assert_eq!(journal.count("BootServed"), 0, "the machine was faster than the mishap:\n{}", journal.text());
    journal.sealed(BOOT_S + STAGES_S).await;

    assert!(judged(&journal.events).iter().all(|stage| stage.ends_with(" 1 pass")), "{}", journal.text());
    let report = stack.report(number).await;
    assert_eq!(report["run"]["result"], json!("pass"));
    let skewed = report["findings"].as_array().expect("a list").iter().find(|f| f["code"] == "ClockSkewed");
    let skewed = skewed.unwrap_or_else(|| panic!("nobody noticed the clock: {report:#}"));
    assert_eq!(skewed["severity"], json!("warning"));
    stack.off(MACHINE).await;

    // What the machine's own clock says is evidence and dates nothing.
    let (begin, end) = (journal.events[0].at, journal.events[journal.events.len() - 1].at);
    let sane = |at: Micros| at.since(begin) > Micros(-TOLERANCE.0) && at.since(end) < TOLERANCE;
    assert!(journal.events.iter().all(|e| sane(e.at)), "{:#?}", journal.events);
    let run = stack.run_id(number).await;
    stack.server.stop().await;
    let store = stack.store().await;
    let batches = store.sensor_batches(run, None, 100_000).await.expect("read");
    let samples: Vec<_> = batches.iter().flat_map(|row| &row.batch.samples).map(|sample| sample.at).collect();
    assert!(!samples.is_empty() && samples.iter().all(|at| sane(*at)), "{samples:?}");
    let chunks = store.log_after(run, 0, 100_000).await.expect("read");
    let lines: Vec<_> = chunks.iter().flat_map(|chunk| &chunk.lines).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| sane(line.at)), "{lines:#?}");
}

/// Kills every dnsmasq that the runner starts until the control plane shows that netboot is in trouble. A single
/// death is mended within a second, before anybody is told.
async fn kill_dnsmasq_until_it_shows(stack: &Stack) {
    let pid_file = stack.runner_state().join("netboot/dnsmasq.pid");
    let mut killed = 0;
    while stack.until("/api/v1/runners", 5, |runners| Some(runners[0]["netboot_problem"].is_null())).await {
        if let Some(process) = running(&pid_file) {
            let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).expect("a process id");
            kill_process(pid, Signal::KILL).expect("killed");
            killed += 1;
        }
        assert!(killed < 20, "dnsmasq was killed {killed} times, and nobody says so");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(killed > 0, "there was trouble before dnsmasq was killed");
}

/// The process that the file names, if it runs.
fn running(pid_file: &Path) -> Option<Detached> {
    let pid = std::fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    Detached::of(pid).ok().filter(Detached::is_alive)
}
