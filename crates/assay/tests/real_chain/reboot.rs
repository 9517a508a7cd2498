//! Somebody power-cycles the machine in the middle of a stage: the stage has failed and says so, for nobody here asked
//! for that; told that it was a person, it is run again and passes; and the boot before has no say any more.

use assay_api::agent::{Hello, PROTOCOL};
use assay_model::event::Refusal;
use assay_model::{EventBody, Micros};
use serde_json::json;

use crate::stack::{BOOT_S, SHORT, STAGES_S, Stack, judged};

const MACHINE: &str = "healthy-bios";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_is_power_cycled_has_failed_until_somebody_says_that_it_was_them() {
    let stack = Stack::up().await;
    stack.register(MACHINE).await;
    let (number, mut journal) = stack.vet(MACHINE, &SHORT).await;

    journal.started("SMART", BOOT_S).await;
    stack.lab().power_cycle(MACHINE).await.expect("cycled");
    journal
        .until("second enrolment", BOOT_S, |body| matches!(body, EventBody::Enrolled { boot: 2, .. }))
        .await;

    // Whoever has read the first boot's kernel command line knows its token.
    let token = first_token(&stack);
    let status = hello(&stack, &token).await;
    assert_eq!(status, 409, "a spent token must not enrol anyone");
    journal.kind("Held", STAGES_S).await;
    assert_eq!(
        judged(&journal.events),
        ["Inventory 1 pass", "SpecValidate 1 pass", "SMART 1 fail"],
        "no silent second try: {}",
        journal.text()
    );
    let held = stack.report(number).await;
    let codes: Vec<_> =
        held["findings"].as_array().expect("a list").iter().map(|f| f["code"].clone()).collect();
    assert!(codes.contains(&json!("MachineRebooted")), "{codes:?}");

    stack.assay(&["run", "retry", &number.to_string(), "--why", "I pressed the wrong button"]).await;
    journal.sealed(STAGES_S).await;
    assert_eq!((journal.count("AttemptLost"), journal.count("Enrolled")), (0, 2), "{}", journal.text());
    assert_eq!(journal.count("PowerRequested"), 1, "it was somebody else: {}", journal.text());
    assert!(judged(&journal.events).contains(&"SMART 2 pass".to_owned()), "{}", journal.text());
    let refused = journal.events.iter().find_map(|e| match &e.body {
        EventBody::EnrolmentRefused { reason, detail } => Some((*reason, detail.as_str())),
        _ => None,
    });
    let (reason, detail) =
        refused.unwrap_or_else(|| panic!("the refusal is not in the journal:\n{}", journal.text()));
    assert_eq!(reason, Refusal::TokenReused);
    assert!(detail.contains("impostor"), "{detail}");

    let report = stack.report(number).await;
    assert_eq!(report["run"]["result"], json!("pass"));
    let smart =
        report["stages"].as_array().expect("a list").iter().find(|s| s["name"] == "SMART").expect("it ran");
    assert_eq!((&smart["attempt"], &smart["verdict"]), (&json!(2), &json!("pass")), "{smart:#}");
    stack.off(MACHINE).await;
}

/// The token on the first kernel command line that the machine's console shows.
fn first_token(stack: &Stack) -> String {
    let log = stack.lab().console_log(MACHINE).expect("a path");
    let said = String::from_utf8_lossy(&std::fs::read(log).expect("it said something")).into_owned();
    let (_, rest) = said.split_once("assay.token=").expect("the kernel says its command line");
    let token: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
    assert!(token.len() >= 32, "not a token: {token}");
    token
}

/// Tries to enrol with a token and a secret of its own; returns the HTTP status.
async fn hello(stack: &Stack, token: &str) -> u16 {
    let http = reqwest::Client::builder()
        .no_proxy()
        // The agent pins the fingerprint; an impostor does not care whom it talks to.
        .danger_accept_invalid_certs(true)
        .build()
        .expect("a client");
    let hello = Hello {
        protocol: PROTOCOL,
        token: token.to_owned(),
        credential: "0123456789abcdef".repeat(4),
        macs: vec![stack.boot_mac(MACHINE)],
        system_uuid: None,
        agent: "impostor".to_owned(),
        clock: Micros(0),
    };
    let url = format!("https://127.0.0.1:{}/agent/v1/hello", stack.ports.agents);
    http.post(url).json(&hello).send().await.expect("answered").status().as_u16()
}
