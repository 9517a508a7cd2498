//! Who does not belong to the run: a machine with another address than the registered one, switched on beside it.
//! It gets nothing, is listed, and the run says that its own machine never came.

use assay_model::EventBody;
use serde_json::{Value, json};

use crate::stack::Stack;

/// On the runner's network with an address that nobody registered.
const STRANGER: &str = "healthy-bios";
/// Registered, and no machine has it.
const WRONG_MAC: &str = "52:54:00:a5:ee:01";
/// Shorter than any machine's boot.
const BOOT_TIMEOUT_S: &str = "20";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_with_another_address_is_a_stranger_and_the_run_fails_at_boot() {
    let stack = Stack::up().await;
    stack
        .assay(&["host", "add", "mistyped", "--mac", WRONG_MAC, "--power", &format!("lab:{STRANGER}")])
        .await;
    let (number, mut journal) = stack.vet("mistyped", &["--boot-timeout", BOOT_TIMEOUT_S]).await;
    let n = number.to_string();
    let mac = stack.boot_mac(STRANGER).to_string();

    journal.until("power on", 60, |body| matches!(body, EventBody::PowerDone { ok: true, .. })).await;
    // Its firmware asks for an address: that is how it comes to be known.
    stack
        .until("/api/v1/unknown", 60, |unknown| {
            unknown.as_array()?.iter().find(|u| u["mac"] == *mac).map(drop)
        })
        .await;
    assert!(is_unknown(&stack, &mac).await, "the command line lists it too");
    let script = boot_script(&stack, &mac).await;
    assert!(script.contains("booting locally") && !script.contains("assay.token"), "{script}");

    journal.kind("Held", 120).await;
    assert_eq!(journal.findings(), ["MachineNeverBooted"], "{}", journal.text());
    assert_eq!(journal.count("BootServed"), 0, "nobody was given a boot script: {}", journal.text());
    let report = stack.report(number).await;
    assert_eq!(report["run"]["state"], json!("FailedHolding"));
    assert_eq!(report["run"]["failed_stage"], json!("Boot"));
    let message = report["findings"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("never asked for its boot script"), "{message}");
    // Nothing ever answered, so it is still as it was switched on.
    stack.running(STRANGER).await;

    stack.assay(&["host", "add", "newcomer", "--mac", &mac, "--power", "manual"]).await;
    assert!(!is_unknown(&stack, &mac).await, "a registered machine is no stranger");
    let script = boot_script(&stack, &mac).await;
    assert!(script.contains("booting locally"), "registered, and still without a run: {script}");

    stack.assay(&["run", "abandon", &n, "--why", "the label was misread"]).await;
    journal.sealed(60).await;
    let report = stack.report(number).await;
    assert_eq!((&report["run"]["state"], &report["run"]["result"]), (&json!("Released"), &json!("fail")));
    stack.off(STRANGER).await;
}

async fn is_unknown(stack: &Stack, mac: &str) -> bool {
    let listed = stack.assay_json(&["host", "list", "--unknown", "--json"]).await;
    listed.as_array().expect("a list").iter().any(|u: &Value| u["mac"] == *mac)
}

/// What the machine's firmware would be answered.
async fn boot_script(stack: &Stack, mac: &str) -> String {
    let url = format!("http://127.0.0.1:{}/boot/{mac}.ipxe", stack.ports.boot);
    let answer = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client")
        .get(url)
        .send()
        .await
        .expect("answered");
    assert!(answer.status().is_success(), "{}", answer.status());
    answer.text().await.expect("text")
}
