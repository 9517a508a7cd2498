//! A machine's life: on, frozen, cycled, killed, gone; and all that a machine file can say.

use std::{fs, path::PathBuf, time::Duration};

use crate::bench::{Bench, open_lab, shipped_machines};
use assay_process::{Cmd, Signal};
use assay_qemu::{DiskFault, Fault, NicFault, QemuError, Status, tap_name};
use serde_json::json;

const SOON: Duration = Duration::from_secs(20);

fn pid_of(status: &Status) -> u32 {
    match status {
        Status::Running { pid, .. } => *pid,
        other => panic!("not running: {other:?}"),
    }
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().expect("small")).expect("not 0");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
}

fn runs(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|arguments| !arguments.is_empty())
}

#[tokio::test]
async fn a_machine_lives_and_leaves_nothing_behind() {
    let bench = Bench::new("aq1-");
    let lab = bench.lab();
    let name = "healthy-bios";
    assert_eq!(lab.status(name).await.expect("a status"), Status::Off);
    lab.power_off(name).await.expect("off is off");
    assert!(matches!(lab.qmp(name).await, Err(QemuError::WrongState { .. })));

    let pid = pid_of(&lab.power_on(name).await.expect("switched on"));
    assert_eq!(pid_of(&lab.power_on(name).await.expect("already on")), pid);
    let links = bench.links().await;
    for nic in lab.machine(name).expect("a machine").actual.nics {
        assert!(links.contains(&tap_name(&nic.mac)), "{links}");
    }
    assert!(matches!(lab.reset_disks(name).await, Err(QemuError::WrongState { .. })));

    // Another program finds it, and the monitor in use does not stand in the way.
    let monitor = lab.qmp(name).await.expect("a monitor");
    let other = bench.lab();
    assert_eq!(pid_of(&other.status(name).await.expect("a status")), pid);
    let image = bench.state.path().join("screen.png");
    other.screenshot(name, &image).await.expect("an image");
    assert!(fs::metadata(&image).expect("a file").len() > 100);

    // Freeze, thaw, reset; the events tell.
    let mut events = monitor.events();
    monitor.stop().await.expect("frozen");
    assert!(matches!(other.status(name).await, Ok(Status::Paused { .. })));
    monitor.cont().await.expect("thawed");
    monitor.system_reset().await.expect("reset");
    monitor.set_link("lan0", false).await.expect("unplugged");
    monitor
        .qom_set("/machine/peripheral/nvme0", "smart_critical_warning", json!(4))
        .await
        .expect("a warning");
    assert!(monitor.human_monitor_command("info version").await.expect("text").starts_with(char::is_numeric));
    let mut seen = Vec::new();
    while !seen.contains(&"RESET".to_owned()) {
        seen.push(tokio::time::timeout(SOON, events.recv()).await.expect("in time").expect("an event").name);
    }
    assert_eq!(seen[..2], ["STOP", "RESUME"], "{seen:?}");
    let refused = monitor.device_del("nothing").await.expect_err("no such device");
    assert!(
        matches!(&refused, QemuError::QmpRefused { class, .. } if class == "DeviceNotFound"),
        "{refused}"
    );

    // Disks outlive a power cycle, and go when they are reset.
    let disk = lab.folder(name).expect("a folder").disk("sata0");
    let pid_after = pid_of(&lab.power_cycle(name).await.expect("cycled"));
    assert_ne!(pid_after, pid);
    assert!(!runs(pid));
    assert!(matches!(monitor.query_status().await, Err(QemuError::QmpClosed { .. })));
    assert_eq!(fs::metadata(&disk).expect("a disk").len(), 256 << 20);
    lab.power_off(name).await.expect("switched off");
    assert_eq!(other.status(name).await.expect("a status"), Status::Off);
    assert!(disk.exists());
    lab.reset_disks(name).await.expect("reset");
    assert!(!disk.exists());

    other.power_on(name).await.expect("switched on");
    let pid = pid_of(&lab.status(name).await.expect("a status"));
    lab.down().await.expect("down");
    lab.down().await.expect("down is down");
    assert!(!runs(pid));
    assert!(!bench.netns_exists());
    assert_eq!(lab.status(name).await.expect("a status"), Status::Off);
}

/// Another program, for the test below: it switches a machine on and stays until it is killed.
#[tokio::test]
#[ignore = "the next test starts it in a process of its own"]
async fn the_program_that_will_be_killed() {
    let variable = |name| std::env::var(name).expect("set by the test that starts this one");
    let state = PathBuf::from(variable("ASSAY_TEST_STATE"));
    let lab = open_lab(&state, &shipped_machines(), &variable("ASSAY_TEST_NETNS"));
    let status = lab.power_on("healthy-bios").await.expect("switched on");
    println!("\nprocess {} is on", pid_of(&status));
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_machine_survives_the_program_that_started_it() {
    let bench = Bench::new("aqa-");
    let mut program = Cmd::new(std::env::current_exe().expect("this test"))
        .args(["--ignored", "--exact", "--nocapture"])
        .arg("life::the_program_that_will_be_killed")
        .env("ASSAY_TEST_STATE", bench.state.path())
        .env("ASSAY_TEST_NETNS", &bench.netns)
        .spawn()
        .await
        .expect("started");
    let pid: u32 = loop {
        let line = tokio::time::timeout(SOON, program.next_line()).await;
        let line = line.expect("in time").expect("it says that it is on").text;
        let words: Vec<_> = line.split(' ').collect();
        if let ["process", pid, "is", "on"] = words[..] {
            break pid.parse().expect("a number");
        }
    };
    program.signal(Signal::KILL).expect("killed, with its process group");
    assert!(!program.wait().await.expect("ended").success());
    let lab = bench.lab();
    let status = lab.status("healthy-bios").await.expect("a status");
    assert_eq!(pid_of(&status), pid);
    lab.down().await.expect("down");
    assert!(!runs(pid));
}

#[tokio::test]
async fn a_killed_machine_has_crashed_and_can_be_switched_on_again() {
    let bench = Bench::new("aq2-");
    let lab = bench.lab();
    let name = "failing-nvme";
    let pid = pid_of(&lab.power_on(name).await.expect("switched on"));
    kill(pid);
    assert!(lab.wait_off(name, SOON).await.expect("waited"));
    let crashed = lab.status(name).await.expect("a status");
    assert!(matches!(crashed, Status::Crashed { pid: None, .. }), "{crashed:?}");
    let again = pid_of(&lab.power_on(name).await.expect("switched on"));
    assert_ne!(again, pid);
    assert!(!lab.wait_off(name, Duration::ZERO).await.expect("waited"));
    kill(again);
    assert!(lab.wait_off(name, SOON).await.expect("waited"));
    lab.power_off(name).await.expect("cleared");
    assert_eq!(lab.status(name).await.expect("a status"), Status::Off);
}

#[tokio::test]
async fn a_machine_that_quits_by_itself_is_off() {
    let bench = Bench::new("aq3-");
    let lab = bench.lab();
    lab.power_on("healthy-uefi").await.expect("switched on");
    lab.qmp("healthy-uefi").await.expect("a monitor").quit().await.expect("quit");
    assert!(lab.wait_off("healthy-uefi", SOON).await.expect("waited"));
    assert_eq!(lab.status("healthy-uefi").await.expect("a status"), Status::Off);
}

#[tokio::test]
async fn what_qemu_refuses_is_said() {
    let bench = Bench::new("aq4-");
    let lab = bench.lab();
    lab.power_on("healthy-bios").await.expect("switched on");
    lab.power_off("healthy-bios").await.expect("switched off");
    let folder = lab.folder("healthy-bios").expect("a folder");
    let image = folder.disk("vd0");
    fs::write(&image, vec![0; 512]).expect("written");
    let error = lab.power_on("healthy-bios").await.expect_err("another size");
    assert!(matches!(error, QemuError::DiskSize { .. }), "{error}");
    fs::remove_file(&image).expect("removed");
    fs::remove_file(folder.console()).expect("removed");
    // QEMU cannot open a folder as its console.
    fs::create_dir(folder.console()).expect("made");
    let error = lab.power_on("healthy-bios").await.expect_err("no console");
    assert!(matches!(error, QemuError::StartFailed { .. }), "{error}");
    assert!(error.to_string().contains("console.log"), "{error}");
    assert_eq!(lab.status("healthy-bios").await.expect("a status"), Status::Off);
}

/// Broken disks, slow disks, missing cards, SCSI, igb, world-wide names: QEMU must take all that can be written.
#[tokio::test]
async fn qemu_accepts_everything_that_a_file_can_say() {
    let bench = Bench::new("aq5-");
    let machines = tempfile::tempdir().expect("a folder");
    let base = fs::read_to_string(shipped_machines().join("healthy-bios.toml")).expect("read");
    let more = r#"
[[disks]]
id = "scsi0"
bus = "scsi"
size_mib = 64
serial = "SC, with comma"
wwn = "0x5000c50000000001"
model = "FAST SSD"

[[disks]]
id = "nvme1"
bus = "nvme"
size_mib = 64
serial = "NV2"
wwn = "0x0025385a91b00001"
smart_critical_warning = 1

[[nics]]
id = "lan2"
mac = "52:54:00:a5:{unit}:02"
model = "igb"
"#;
    fs::write(machines.path().join("all.toml"), base + more).expect("written");
    let lab = bench.lab_of(machines.path());
    let broken =
        DiskFault { unreadable_sectors: Some(vec![1, 2]), iops_limit: Some(100), ..DiskFault::default() };
    let fault = Fault {
        disks: ["nvme0", "sata0", "vd0", "scsi0", "nvme1"].map(|id| (id.to_owned(), broken.clone())).into(),
        nics: [("lan1".to_owned(), NicFault { missing: true, ..NicFault::default() })].into(),
        ..Fault::default()
    };
    lab.power_on_with("all", fault).await.expect("switched on");
    let block =
        lab.qmp("all").await.expect("a monitor").human_monitor_command("info block").await.expect("text");
    assert_eq!(block.matches("(throttle)").count(), 5, "{block}");
}
