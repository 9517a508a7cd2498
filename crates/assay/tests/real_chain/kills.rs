//! SIGKILL at every turn of a run: it goes on where it was, and nothing is done twice.

use std::collections::{BTreeMap, BTreeSet};

use assay_model::EventBody;
use assay_store::OutboxState;
use serde_json::json;

use crate::journal::Journal;
use crate::stack::{BOOT_S, STAGES_S, Stack, judged};

const MACHINE: &str = "healthy-bios";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_survives_the_death_of_either_side_at_every_turn() {
    let mut stack = Stack::up().await;
    stack.register(MACHINE).await;
    let (number, mut journal) = stack.vet(MACHINE, &["--profile", "quick"]).await;

    journal.kind("Admitted", 30).await;
    restart_server(&mut stack).await;
    journal.kind("PowerDone", 60).await;
    let switched_on = stack.running(MACHINE).await;
    stack.runner.kill().await;
    stack.runner.start().await;
    journal.kind("BootServed", BOOT_S).await;
    restart_server(&mut stack).await;
    journal.kind("Enrolled", BOOT_S).await;
    restart_server(&mut stack).await;
    for stage in plan(&journal) {
        journal.started(&stage, STAGES_S).await;
        restart_server(&mut stack).await;
        if stage == "SMART" {
            journal
                .until(
                    "SMART's evidence",
                    STAGES_S,
                    |body| matches!(body, EventBody::EvidenceReceived { stage, .. } if *stage == *"SMART"),
                )
                .await;
            assert_eq!(stack.running(MACHINE).await, switched_on, "the machine was switched in between");
            restart_server(&mut stack).await;
        }
    }
    journal.kind("RunCompleted", STAGES_S).await;
    restart_server(&mut stack).await;
    journal.sealed(30).await;

    // It has no accelerator, and nothing that tells of its power.
    let verdict = |stage: &str| match stage {
        "GPU" => "skip",
        "PSU" => "unverified",
        _ => "pass",
    };
    let every_stage_once: Vec<_> =
        plan(&journal).iter().map(|stage| format!("{stage} 1 {}", verdict(stage))).collect();
    assert_eq!(judged(&journal.events), every_stage_once, "{}", journal.text());
    for (kind, times) in
        [("PowerRequested", 1), ("PowerDone", 1), ("BootServed", 1), ("Enrolled", 1), ("AttemptLost", 0)]
    {
        assert_eq!(journal.count(kind), times, "{kind}:\n{}", journal.text());
    }
    assert_eq!(stack.runner.times_said("a lab machine was switched on"), 1, "{:#?}", stack.runner.said());
    let places: Vec<_> = journal.events.iter().map(|e| e.seq).collect();
    assert_eq!(
        places,
        (1..=journal.events.len() as i64).collect::<Vec<_>>(),
        "nobody missed an event or saw it twice"
    );

    let report = stack.report(number).await;
    assert_eq!(report["run"]["state"], json!("Completed"));
    assert_eq!(report["run"]["result"], json!("pass"));
    let watched = stack.try_assay(&["run", "watch", &number.to_string()]).await;
    assert_eq!(watched.code(), Some(0), "{}", watched.stdout_text());
    let verified = stack.verify(number).await;
    assert_eq!(verified.code(), Some(0), "{}", verified.stdout_text());
    stack.off(MACHINE).await;
    notified_at_most_once(&stack, number).await;
}

async fn restart_server(stack: &mut Stack) {
    stack.server.kill().await;
    stack.server.start().await;
}

/// The stages as the run was created with.
fn plan(journal: &Journal) -> Vec<String> {
    let created = journal.events.iter().find_map(|e| match &e.body {
        EventBody::RunCreated(created) => Some(created),
        _ => None,
    });
    created.expect("the first event").stages.iter().map(|plan| plan.name.to_string()).collect()
}

/// What arrived is what the outbox has, nothing came twice, and what it calls sent did come.
async fn notified_at_most_once(stack: &Stack, number: i64) {
    let mut arrived = BTreeMap::new();
    for received in stack.hook.received() {
        *arrived.entry(received.key).or_insert(0) += 1;
    }
    let run = stack.run_id(number).await;
    let outbox = stack.store().await.outbox_of(run).await.expect("read");
    let events: BTreeSet<_> = outbox.iter().map(|row| row.outgoing.event.as_str()).collect();
    assert!(events.is_superset(&["RunStarted", "RunCompleted"].into()), "{outbox:#?}");
    for row in &outbox {
        let times = arrived.remove(&row.outgoing.id).unwrap_or(0);
        let right = match row.state {
            OutboxState::Sent => times == 1,
            // Whether it had gone out when the server was killed is not known; it must not go out again.
            OutboxState::Unknown => times <= 1,
            OutboxState::Pending | OutboxState::Sending | OutboxState::Failed => false,
        };
        assert!(right, "it arrived {times} times: {row:#?}");
    }
    assert!(arrived.is_empty(), "nobody asked for these: {arrived:?}");
}
