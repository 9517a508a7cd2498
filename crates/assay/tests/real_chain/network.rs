//! The cable is pulled in the middle of a stage, on a machine with UEFI firmware: the agent is missed, comes back,
//! and everything that it saw meanwhile arrives, once.

use std::collections::BTreeMap;
use std::time::Duration;

use assay_qemu::tap_name;
use serde_json::json;

use crate::stack::{BOOT_S, SHORT, STAGES_S, Stack, judged};

const MACHINE: &str = "healthy-uefi";
/// How long the cable is out: longer than an agent may be silent (15 s), shorter than its lease (120 s).
const OUTAGE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_without_network_costs_nothing() {
    let mut stack = Stack::up().await;
    stack.register(MACHINE).await;
    let (number, mut journal) = stack.vet(MACHINE, &SHORT).await;
    let tap = tap_name(&stack.boot_mac(MACHINE));

    journal.started("SMART", BOOT_S).await;
    stack.ip(&["link", "set", &tap, "down"]).await;
    // Nothing is waited for here: this is the outage itself, and its length is the point.
    let outage = tokio::time::sleep(OUTAGE);
    journal.kind("AgentSuspect", 60).await;
    outage.await;
    stack.ip(&["link", "set", &tap, "up"]).await;
    journal.kind("AgentReturned", 60).await;
    journal.sealed(STAGES_S).await;

    assert_eq!(journal.count("AttemptLost"), 0, "{}", journal.text());
    assert_eq!((journal.count("AgentSuspect"), journal.count("AgentReturned")), (1, 1), "{}", journal.text());
    assert!(judged(&journal.events).iter().all(|stage| stage.ends_with(" 1 pass")), "{}", journal.text());
    assert_eq!(stack.report(number).await["run"]["result"], json!("pass"));
    stack.off(MACHINE).await;

    let run = stack.run_id(number).await;
    stack.server.stop().await;
    let store = stack.store().await;
    let sensors = store.sensor_batches(run, None, 100_000).await.expect("read");
    whole("sensors", sensors.iter().map(|row| (row.boot, row.seq)));
    let log = store.log_after(run, 0, 100_000).await.expect("read");
    whole("log", log.iter().map(|chunk| (chunk.boot, chunk.seq)));
}

/// From 1 on, without gaps, each once: for the only boot that there was.
fn whole(what: &str, places: impl Iterator<Item = (u32, i64)>) {
    let mut by_boot: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
    for (boot, seq) in places {
        by_boot.entry(boot).or_default().push(seq);
    }
    assert_eq!(by_boot.keys().copied().collect::<Vec<_>>(), [1], "{what} of other boots");
    let seqs = by_boot.entry(1).or_default();
    seqs.sort_unstable();
    assert_eq!(*seqs, (1..=seqs.len() as i64).collect::<Vec<_>>(), "{what} with a gap or a double");
}
