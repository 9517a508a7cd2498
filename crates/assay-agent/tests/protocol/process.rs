//! The program itself, as the live image starts it: killed at will, started again, and through at the end.

use std::fs;
use std::path::Path;

use assay_process::{Child, Cmd, Signal};

use crate::machine::boot_line;
use crate::plane::Plane;
use crate::{shutdown, stage};

const PROGRAM: &str = env!("CARGO_BIN_EXE_assay-agent");

fn command(dir: &Path) -> Cmd {
    let path = |name: &str| dir.join(name).display().to_string();
    Cmd::new(PROGRAM)
        .args(["--root", &path("machine"), "--cmdline", &path("cmdline")])
        .args(["--spool", &path("spool"), "--run-dir", &path("run")])
        .args(["--poweroff-command", &format!("touch {}", path("off"))])
}

fn write(file: &Path, content: &str) {
    fs::create_dir_all(file.parent().expect("has a parent")).expect("folder");
    fs::write(file, content).expect("written");
}

async fn start(dir: &Path) -> Child {
    command(dir).spawn().await.expect("starts")
}

#[tokio::test]
async fn a_killed_program_is_started_again_and_finishes_the_run() {
    let plane = Plane::start().await;
    let dir = tempfile::tempdir().expect("folder");
    let machine = dir.path().join("machine");
    write(&dir.path().join("cmdline"), &boot_line(&plane));
    write(&machine.join("sys/class/net/eno1/type"), "1\n");
    write(&machine.join("sys/class/net/eno1/address"), "52:54:00:00:00:01\n");
    write(&machine.join("dev/kmsg"), "6,1,100,-;Linux version 6.1\n6,2,200,-;Command line: …\n");

    let mut first = start(dir.path()).await;
    plane.until("enrolled", |state| !state.beats.is_empty()).await;
    plane.until("kernel messages", |state| state.lines().contains(&"Linux version 6.1")).await;
    first.signal(Signal::KILL).expect("sent");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&first.wait().await.expect("ended")), Some(9));

    let mut second = start(dir.path()).await;
    plane.command(stage("Telepathy", 1));
    plane.until("the result", |state| state.results.len() == 1).await;
    plane.command(stage("Inventory", 1));
    plane.until("the next result", |state| state.results.len() == 2).await;
    plane.command(shutdown());
    assert!(second.wait_beside_lines().await.expect("ended").success());
    assert!(dir.path().join("off").exists());
    let state = plane.state();
    assert_eq!((state.hellos.len(), state.offs), (1, 1));
    assert_eq!(state.hellos[0].macs, ["52:54:00:00:00:01".parse().expect("an address")]);
    assert!(
        state.results[0]
            .problem
            .as_deref()
            .is_some_and(|why| why.contains("does not know the stage Telepathy"))
    );
    assert_eq!(state.results[1].problem, None);
    assert!(state.results[1].evidence.is_object(), "{:?}", state.results[1].evidence);
    let kernel: Vec<&str> = state
        .logs
        .iter()
        .flat_map(|chunk| &chunk.lines)
        .filter(|line| line.source == "kernel")
        .map(|line| line.text.as_str())
        .collect();
    assert_eq!(kernel, ["Linux version 6.1", "Command line: …"], "told once over both lives");
}

#[tokio::test]
async fn a_machine_that_was_not_booted_by_a_control_plane_is_told_so() {
    let dir = tempfile::tempdir().expect("folder");
    write(&dir.path().join("cmdline"), "quiet splash\n");
    let output = command(dir.path()).run().await.expect("runs");
    assert_eq!(output.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.starts_with("assay: the kernel command line has no `assay.url=`"), "{said}");

    let output = Cmd::new(PROGRAM).arg("--rot").run().await.expect("runs");
    assert_eq!(output.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`--rot` is not an option"));
}
