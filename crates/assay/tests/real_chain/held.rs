//! A machine that is not what was ordered: held for an operator, retried in vain, and waived by name.

use assay_model::EventBody;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::stack::{BOOT_S, SHORT, STAGES_S, Stack, judged};

const MACHINE: &str = "missing-dimm-swapped-disk";
/// What is critical about it: the module, the disk, and what the module takes from the sum.
const MISSING: [&str; 3] = ["DimmMissing", "DiskMissing", "MemoryTotal"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_machine_is_retried_as_it_stands_and_a_waiver_stays_on_the_record() {
    let stack = Stack::up().await;
    stack.register(MACHINE).await;
    let (number, mut journal) = stack.vet(MACHINE, &SHORT).await;
    let n = number.to_string();

    journal.kind("Held", BOOT_S + STAGES_S).await;
    let report = stack.report(number).await;
    assert_eq!(report["run"]["state"], json!("FailedHolding"));
    assert_eq!(report["run"]["failed_stage"], json!("SpecValidate"));
    assert_eq!(codes(&report, "critical"), MISSING, "{report:#}");
    let watched = stack.try_assay(&["run", "watch", &n]).await;
    assert_eq!(watched.code(), Some(1), "{}", watched.stdout_text());
    let machine = stack.running(MACHINE).await;

    stack.assay(&["run", "retry", &n, "--why", "looked at it"]).await;
    journal.kind("Held", STAGES_S).await;
    assert_eq!(judged(&journal.events), ["Inventory 1 pass", "SpecValidate 1 fail", "SpecValidate 2 fail"]);
    assert_eq!(stack.running(MACHINE).await, machine, "a retry is about the machine as it stands");
    assert_eq!((journal.count("PowerRequested"), journal.count("Enrolled")), (1, 1), "{}", journal.text());

    let nothing_said = stack.try_assay(&["run", "waive", &n]).await;
    assert_eq!(nothing_said.code(), Some(2), "a waiver without a reason: {}", nothing_said.stderr_text());
    stack.assay(&["run", "waive", &n, "--why", "spare parts arrive on Monday"]).await;
    // A waiver is for one stage: the disk that is not there is not healthy either.
    journal.kind("Held", STAGES_S).await;
    assert_eq!(stack.report(number).await["run"]["failed_stage"], json!("SMART"));
    stack.assay(&["run", "waive", &n, "--why", "the disk comes with them"]).await;
    let sealed = journal.sealed(STAGES_S).await;
    let watched = stack.try_assay(&["run", "watch", &n]).await;
    assert_eq!(watched.code(), Some(3), "{}", watched.stdout_text());

    let report = stack.report(number).await;
    assert_eq!(report["run"]["result"], json!("pass"));
    assert_eq!(report["run"]["overridden"], json!(true));
    let decisions: Vec<_> = report["decisions"].as_array().expect("a list").iter().map(words).collect();
    let said = [
        "retry at SpecValidate by token cli: looked at it",
        "waive at SpecValidate by token cli: spare parts arrive on Monday",
        "waive at SMART by token cli: the disk comes with them",
    ];
    assert_eq!(decisions, said);
    let critical = codes(&report, "critical");
    assert!(
        MISSING.iter().all(|code| critical.iter().any(|c| c == code)),
        "a waiver hides nothing: {critical:?}"
    );
    assert_eq!(statement(&sealed.body)["predicate"]["result"], json!("WARNED"));
    let html = stack.assay(&["report", &n, "--format", "html", "--output", "-"]).await;
    assert!(html.contains("spare parts arrive on Monday"), "the reason stands on the report");

    let verified = stack.verify(number).await;
    assert_eq!(verified.code(), Some(0), "{}", verified.stdout_text());
    stack.off(MACHINE).await;
    let told: Vec<_> = stack.hook.received().into_iter().map(|r| r.event).collect();
    let failed_twice = ["RunStarted", "SpecMismatch", "RunHeld", "Decided", "SpecMismatch", "RunHeld"];
    let waived_twice = ["Decided", "StageFailed", "RunHeld", "Decided", "RunCompleted"];
    assert_eq!(told, [&failed_twice[..], &waived_twice[..]].concat());
}

/// The codes of the findings of this severity, sorted.
fn codes(report: &Value, severity: &str) -> Vec<String> {
    let findings = report["findings"].as_array().expect("a list").iter();
    let mut codes: Vec<_> = findings
        .filter(|f| f["severity"] == severity)
        .filter_map(|f| Some(f["code"].as_str()?.to_owned()))
        .collect();
    codes.sort();
    codes.dedup();
    codes
}

fn words(decision: &Value) -> String {
    let word = |key: &str| decision[key].as_str().unwrap_or("?").to_owned();
    format!("{} at {} by {}: {}", word("kind"), word("stage"), word("by"), word("why"))
}

/// What was signed.
fn statement(sealed: &EventBody) -> Value {
    let EventBody::Sealed(sealed) = sealed else { panic!("not a seal: {sealed:?}") };
    let payload = sealed.envelope["payload"].as_str().expect("a payload");
    serde_json::from_slice(&STANDARD.decode(payload).expect("base64")).expect("a statement")
}
