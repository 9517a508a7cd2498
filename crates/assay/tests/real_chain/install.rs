//! An installer image on a registered machine: cleared in the live image, inserted by its management controller, read
//! off its console, and up from its disk. And what must stop it: data on a disk that nobody has given up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_process::Cmd;
use assay_qemu::Status;
use assay_testkit::ProxmoxCluster;
use serde_json::{Value, json};

use crate::stack::{BOOT_S, STAGES_S, Stack, judged};

/// The longest stage of an installation in software emulation, on a machine that is busy with other tests.
const INSTALL_S: u64 = 1200;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository").to_owned()
}

/// The reference installer; one that is built already is named in `ASSAY_REFERENCE_ISO`.
async fn reference(folder: &Path) -> PathBuf {
    if let Some(built) = std::env::var_os("ASSAY_REFERENCE_ISO") {
        return PathBuf::from(built);
    }
    let iso = folder.join("reference.iso");
    let build = Cmd::new(repository().join("examples/images/reference/build")).arg(&iso);
    build.timeout(Duration::from_mins(12)).run_ok().await.expect("the reference installer is built");
    iso
}

fn profile() -> PathBuf {
    repository().join("examples/images/reference-machine.toml")
}

/// Asks for the run as programs do, so that its journal can be followed from the beginning.
async fn asked(stack: &Stack, iso: &Path, host: &str) -> i64 {
    let body = asking(iso, host);
    let answer: Value =
        stack.api().insist("POST", "/api/v1/images/runs", Some(&body)).await.expect(200).json();
    answer["number"].as_i64().expect("a number")
}

fn asking(iso: &Path, host: &str) -> Value {
    let profile = std::fs::read_to_string(profile()).expect("a profile");
    let profile = assay_pipelines::image::Profile::from_toml(&profile).expect("it reads");
    let spec = json!({ "image": iso, "folder": repository(), "seed": 1, "profile": profile });
    json!({ "spec": spec, "on": { "host": host, "boot_timeout_s": 300 } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cleared_machine_is_installed_and_comes_up_from_its_disk() {
    const MACHINE: &str = "installs";
    let stack = Stack::up().await;
    stack.register(MACHINE).await;
    let folder = tempfile::tempdir().expect("a folder");
    let iso = reference(folder.path()).await;
    let number = asked(&stack, &iso, MACHINE).await;
    let mut journal = stack.journal(number);

    journal.started("Clearance", BOOT_S + STAGES_S).await;
    journal.kind("MediumServed", BOOT_S + STAGES_S).await;
    journal.started("Install", INSTALL_S).await;
    journal.started("Reboot", INSTALL_S).await;
    journal.sealed(INSTALL_S).await;
    let seen = judged(&journal.events);
    let expected = [
        "Prepare 1 pass",
        "Inspect 1 pass",
        "Inventory 1 pass",
        "Clearance 1 pass",
        "Boot 1 pass",
        "Install 1 unverified",
        "Reboot 1 pass",
        "Identify 1 pass",
        "Join 1 skip",
        "Reconcile 1 skip",
        "Reporting 1 pass",
    ];
    assert_eq!(seen, expected, "{}", journal.text());
    assert_eq!(journal.count("BootServed"), 1, "the live image once, and never again: {}", journal.text());
    let report = stack.report(number).await;
    assert_eq!(report["run"]["result"], json!("pass"), "{report:#}");
    let names: Vec<_> = report["artifacts"].as_array().expect("a list").iter().map(|a| &a["name"]).collect();
    for transcript in ["boot-serial.txt", "install-serial.txt", "reboot-serial.txt"] {
        assert!(names.contains(&&json!(transcript)), "{names:?}");
    }
    let verified = stack.verify(number).await;
    assert_eq!(verified.code(), Some(0), "{}", verified.stdout_text());
    stack.off(MACHINE).await;
    assert_eq!(stack.lab().medium(MACHINE).expect("known"), None, "the medium was ejected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_with_data_stops_it_before_anything_is_inserted() {
    const MACHINE: &str = "installs-occupied";
    let stack = Stack::up().await;
    stack.register(MACHINE).await;
    let folder = tempfile::tempdir().expect("a folder");
    let iso = reference(folder.path()).await;
    let number = asked(&stack, &iso, MACHINE).await;
    let n = number.to_string();
    let mut journal = stack.journal(number);
    journal.kind("Held", BOOT_S + STAGES_S).await;
    let seen = judged(&journal.events);
    assert_eq!(seen.last().map(String::as_str), Some("Clearance 1 fail"), "{}", journal.text());
    let report = stack.report(number).await;
    let codes: Vec<_> = report["findings"].as_array().expect("a list").iter().map(|f| &f["code"]).collect();
    assert!(codes.contains(&&json!("UnexpectedData")), "{report:#}");
    assert_eq!(stack.lab().medium(MACHINE).expect("known"), None);

    let waived = stack.try_assay(&["run", "waive", &n, "--why", "it will be fine"]).await;
    assert_ne!(waived.code(), Some(0), "a waiver starts no installer: {}", waived.stdout_text());
    // Permitted by its serial number, the machine is let go; this installer looks for itself, and refuses that disk.
    let permit = ["run", "permit", &n, "--disk", "SA12737703", "--reason", "an old backup"];
    stack.assay(&permit).await;
    journal.kind("MediumServed", BOOT_S + STAGES_S).await;
    journal.kind("Held", INSTALL_S).await;
    assert_eq!(
        judged(&journal.events).last().map(String::as_str),
        Some("Install 1 fail"),
        "{}",
        journal.text()
    );
    stack.assay(&["run", "abandon", &n]).await;
    journal.sealed(STAGES_S).await;
    stack.off(MACHINE).await;
    assert_eq!(stack.lab().medium(MACHINE).expect("known"), None, "a failed installation is ejected, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_member_of_a_cluster_is_not_installed() {
    const MACHINE: &str = "installs";
    let cluster = ProxmoxCluster::start("pve3").await;
    let stack = Stack::up_beside(&cluster).await;
    stack.register_member(MACHINE, &cluster).await;
    let folder = tempfile::tempdir().expect("a folder");
    let iso = reference(folder.path()).await;

    // Its power is not even cut: whoever asks afterwards would see it offline.
    cluster.set_online(true);
    let asked_for = asking(&iso, MACHINE);
    let refused = stack.api().insist("POST", "/api/v1/images/runs", Some(&asked_for)).await;
    let why = refused.expect(409).json::<Value>().to_string();
    assert!(why.contains("NodeIsLiveMember") && why.contains("pve3"), "{why}");
    let status = stack.lab().status(MACHINE).await.expect("known");
    assert!(matches!(status, Status::Off), "{status:?}");

    // It comes back while the live image looks at it: a node that was repaired under another name, or another machine.
    cluster.set_online(false);
    let number = asked(&stack, &iso, MACHINE).await;
    let mut journal = stack.journal(number);
    journal.started("Inventory", BOOT_S + STAGES_S).await;
    cluster.set_online(true);
    journal.kind("Held", STAGES_S).await;
    let seen = judged(&journal.events);
    assert_eq!(seen.last().map(String::as_str), Some("Clearance 1 fail"), "{}", journal.text());
    let report = stack.report(number).await;
    let codes: Vec<_> = report["findings"].as_array().expect("a list").iter().map(|f| &f["code"]).collect();
    assert!(codes.contains(&&json!("NodeIsLiveMember")), "{report:#}");
    assert_eq!(journal.count("MediumServed"), 0, "{}", journal.text());
    stack.assay(&["run", "abandon", &number.to_string()]).await;
    journal.sealed(STAGES_S).await;
    stack.off(MACHINE).await;
    assert_eq!(stack.lab().medium(MACHINE).expect("known"), None, "nothing was ever inserted");
}
