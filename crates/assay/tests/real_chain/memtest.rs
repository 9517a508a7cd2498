//! A machine that is taken out of the live image for memtest86+ and brought back: held with its failing memory, waived,
//! and on with the next stage. None of the reboots is taken for the machine's own. Its BMC switches it, and carries its
//! console (serial over LAN).

use assay_qemu::Injection;
use serde_json::json;

use crate::stack::{BOOT_S, STAGES_S, Stack, judged};

/// It has a BMC, and its memory can be reached from outside.
const MACHINE: &str = "healthy-bmc";
const STAGES: [&str; 4] = ["--profile", "quick", "--only-stages", "Inventory,Memtest86,GPU,Reporting"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memtest86_runs_in_between_and_the_machine_comes_back_for_what_follows() {
    let stack = Stack::up().await;
    stack.register(MACHINE).await;
    let (number, mut journal) = stack.vet(MACHINE, &STAGES).await;
    let n = number.to_string();

    journal.started("Memtest86", BOOT_S + STAGES_S).await;
    journal.kind("MemtestServed", BOOT_S).await;
    // They stick from when the memory is first filled.
    let bits = stack.lab().inject(MACHINE, &Injection::StuckBits { bits: 2 }).await.expect("made");
    journal.kind("Held", STAGES_S).await;
    drop(bits);
    assert_eq!(judged(&journal.events), ["Inventory 1 pass", "Memtest86 1 fail"], "{}", journal.text());
    let report = stack.report(number).await;
    assert_eq!(report["findings"][0]["code"], json!("MemoryBitError"), "{report:#}");
    assert!(journal.count("MemtestServed") == 1 && journal.count("BootServed") == 1, "{}", journal.text());

    stack.assay(&["run", "waive", &n, "--why", "the module is on its way"]).await;
    journal.started("GPU", BOOT_S + STAGES_S).await;
    journal.sealed(STAGES_S).await;
    let seen = judged(&journal.events);
    assert_eq!(seen[1..3], ["Memtest86 1 fail", "GPU 1 skip"], "{}", journal.text());
    assert_eq!((journal.count("PowerRequested"), journal.count("Enrolled")), (3, 2), "there and back");
    assert_eq!(journal.findings(), Vec::<&str>::new(), "nothing is said of reboots");
    let verified = stack.verify(number).await;
    assert_eq!(verified.code(), Some(0), "{}", verified.stdout_text());
    stack.off(MACHINE).await;
}
