//! Faults that are made while a machine runs, seen from inside it.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use assay_qemu::{DiskRule, Injection, Lab, VmFolder, serve_disk};

use crate::{
    bench::Bench,
    guest::{Guest, pack_initrd, shell_lab},
};

const NAME: &str = "healthy-bench";

/// This test program as the one that serves disks.
pub(crate) fn disk_server() -> Vec<OsString> {
    let mut words = vec![std::env::current_exe().expect("this test").into_os_string()];
    words.extend(
        ["--ignored", "--exact", "--nocapture", "faults::the_program_that_serves_a_disk"].map(OsString::from),
    );
    words
}

/// Another program, for the tests below. Its last two arguments are the folder and the disk.
#[test]
#[ignore = "the lab starts it in a process of its own"]
fn the_program_that_serves_a_disk() {
    let arguments: Vec<_> = std::env::args_os().collect();
    let [.., folder, disk] = &arguments[..] else { panic!("two arguments") };
    serve_disk(&VmFolder::new(PathBuf::from(folder)), &disk.to_string_lossy()).expect("served");
}

async fn inject(lab: &Lab, injection: Injection) -> assay_qemu::Injected {
    lab.inject(NAME, &injection).await.unwrap_or_else(|error| panic!("{injection:?}: {error}"))
}

fn rules(disk: &str, rules: Vec<DiskRule>) -> Injection {
    Injection::Disk { disk: disk.to_owned(), rules }
}

/// The name of a disk in the guest, by its serial number.
async fn device(guest: &mut Guest, serial: &str) -> String {
    let find = format!("lsblk -dnro NAME,SERIAL | sed -n 's/ {serial}.*//p' | head -1");
    let name = guest.ok(&find).await.trim().to_owned();
    assert!(!name.is_empty(), "{serial} is not there: {}", guest.ok("lsblk -dnro NAME,SERIAL").await);
    format!("/dev/{name}")
}

/// One machine for all of them: most of the time is its boot.
#[tokio::test]
async fn what_is_done_to_a_machine_is_seen_in_it() {
    let bench = Bench::new("aqf-");
    pack_initrd(bench.state.path()).await;
    let lab = shell_lab(bench.state.path(), &bench.netns, disk_server());
    lab.power_on(NAME).await.expect("switched on");
    let mut guest = Guest::of(&lab, NAME).await;
    for serial in ["SC11205802", "SA11207703", "NV11204401"] {
        disks(&lab, &mut guest, serial).await;
    }
    sensors(&lab, &mut guest).await;
    links(&lab, &mut guest).await;
    bus_and_processor(&lab, &mut guest).await;
    memory(&lab, &mut guest).await;
    pulled(&lab, &mut guest).await;
    crash(&lab, &mut guest).await;
    lab.down().await.expect("down");
}

async fn disks(lab: &Lab, guest: &mut Guest, serial: &str) {
    let disk = match &serial[..2] {
        "NV" => "nvme0",
        "SC" => "scsi0",
        _ => "sata0",
    };
    let device = device(guest, serial).await;
    let read = format!("dd if={device} of=/tmp/read bs=4096 skip=2048 count=1 iflag=direct status=none");
    let write = format!("dd if=/tmp/data of={device} bs=4096 seek=2048 count=1 oflag=direct status=none");
    guest.ok("head -c 4096 /dev/urandom >/tmp/data").await;
    guest.ok(&write).await;
    guest.ok(&format!("{read} && cmp /tmp/data /tmp/read")).await;

    inject(lab, rules(disk, vec![DiskRule::Unreadable { sector: 16385, count: 1 }])).await;
    assert_ne!(guest.run(&read).await.status, 0, "{serial}: an unreadable sector");
    inject(lab, rules(disk, vec![DiskRule::Unwritable { sector: 16385, count: 1 }])).await;
    assert_ne!(guest.run(&write).await.status, 0, "{serial}: an unwritable sector");
    guest.ok(&read).await;

    inject(lab, rules(disk, vec![DiskRule::Corrupt { sector: 16385, count: 1 }])).await;
    let said = guest.run(&format!("{read} && cmp /tmp/data /tmp/read")).await;
    assert!(said.status == 1 && said.text.contains(" 770,"), "{serial}: {}", said.text);

    inject(lab, rules(disk, vec![DiskRule::Aliased { capacity_mib: 16 }])).await;
    let behind = format!("dd if={device} of=/tmp/read bs=4096 skip=6144 count=1 iflag=direct status=none");
    guest.ok(&format!("{behind} && cmp /tmp/data /tmp/read")).await;

    inject(lab, rules(disk, vec![DiskRule::Lost { sector: 16384, count: 8 }])).await;
    guest.ok(&format!("cp /tmp/data /tmp/old; head -c 4096 /dev/urandom >/tmp/data; {write}")).await;
    guest.ok(&format!("{read} && cmp /tmp/old /tmp/read")).await;

    let timed = format!("t=$(date +%s%N); {read}; echo took $(( ($(date +%s%N) - t) / 1000000 ))");
    let took = |text: String| text.split_once("took ").and_then(|(_, ms)| ms.trim().parse::<u64>().ok());
    inject(lab, rules(disk, vec![DiskRule::Slow { sector: 16384, count: Some(2048), ms: 1500 }])).await;
    let ms = took(guest.ok(&timed).await).expect("a time");
    assert!(ms >= 1500, "{serial}: the slow zone took {ms} ms");
    inject(lab, rules(disk, vec![DiskRule::Stall { ms: 2000 }])).await;
    let ms = took(guest.ok(&timed).await).expect("a time");
    assert!(ms >= 1900, "{serial}: the stall took {ms} ms");
    inject(lab, rules(disk, Vec::new())).await;
    guest.ok(&format!("{write} && {read} && cmp /tmp/data /tmp/read")).await;
}

async fn sensors(lab: &Lab, guest: &mut Guest) {
    let temperature = "cat /sys/class/thermal/thermal_zone0/temp";
    assert_eq!(guest.ok(temperature).await.trim(), "45000");
    inject(lab, Injection::Sensors { celsius: 97, watts: 950 }).await;
    assert_eq!(guest.ok(temperature).await.trim(), "97000");
    // The driver keeps a reading for a second.
    let power = "sleep 1.2; cat /sys/class/hwmon/hwmon*/device/power1_average";
    assert_eq!(guest.ok(power).await.trim(), "950000000");
}

async fn links(lab: &Lab, guest: &mut Guest) {
    // networkd has it up; carrier_changes counts both ways.
    let port = guest.ok("grep -l 52:54:00:a5:20:01 /sys/class/net/*/address").await;
    let port = port.trim().trim_end_matches("/address").to_owned();
    guest.ok(&format!("ip link set {} up", port.trim_start_matches("/sys/class/net/"))).await;
    let changes = format!("cat {port}/carrier_changes");
    let before: u32 = guest.ok(&changes).await.trim().parse().expect("a number");
    inject(lab, Injection::Link { nic: "lan1".into(), up: false }).await;
    guest.ok(&format!("for i in $(seq 600); do [ $(cat {port}/carrier) = 0 ] && break; sleep .1; done; [ $(cat {port}/carrier) = 0 ]")).await;
    inject(lab, Injection::Link { nic: "lan1".into(), up: true }).await;
    let flap = inject(lab, Injection::Flap { nic: "lan1".into(), times: 2, ms: 300 }).await;
    let enough = before + 5;
    guest.ok(&format!("for i in $(seq 600); do [ $({changes}) -ge {enough} ] && break; sleep .1; done; [ $({changes}) -ge {enough} ]")).await;
    drop(flap);
    inject(lab, Injection::Impair { nic: "lan1".into(), rate_mbit: Some(10), loses_one_in: None }).await;
    inject(lab, Injection::Impair { nic: "lan1".into(), rate_mbit: None, loses_one_in: Some(64) }).await;
}

async fn bus_and_processor(lab: &Lab, guest: &mut Guest) {
    inject(lab, Injection::PcieError { part: "lan1".into(), corrected: true, times: 3 }).await;
    let corrected = "for i in $(seq 100); do cat /sys/bus/pci/devices/*/aer_dev_correctable | grep -q '^RxErr [1-9]' && break; sleep .1; done; cat /sys/bus/pci/devices/*/aer_dev_correctable | grep -c '^RxErr [1-9]'";
    assert_eq!(guest.ok(corrected).await.trim().lines().last(), Some("1"), "one port counts");
    inject(lab, Injection::PcieError { part: "nvme0".into(), corrected: false, times: 1 }).await;
    guest.ok("for i in $(seq 100); do cat /sys/bus/pci/devices/*/aer_dev_nonfatal | grep -q '^CmpltTO 1' && break; sleep .1; done; cat /sys/bus/pci/devices/*/aer_dev_nonfatal | grep '^CmpltTO 1'").await;
    inject(lab, Injection::NvmeWarning { disk: "nvme0".into(), bits: 5 }).await;
    let health = "smartctl -j -H /dev/nvme0 | grep -o '\"passed\": *[a-z]*'";
    assert!(guest.ok(health).await.contains("false"));
    guest
        .ok("for cpu in /sys/devices/system/machinecheck/machinecheck*; do echo 1 >$cpu/check_interval; done")
        .await;
    inject(lab, Injection::MachineCheck { fatal: false, times: 1 }).await;
    let logged = "for i in $(seq 300); do dmesg | grep -q 'Machine Check: 0 Bank 4' && break; sleep .2; done; dmesg | grep 'Machine Check: 0 Bank 4'";
    guest.ok(logged).await;
}

async fn memory(lab: &Lab, guest: &mut Guest) {
    let stuck = inject(lab, Injection::StuckBits { bits: 2 }).await;
    assert!(!stuck.happened(), "nobody fills the memory yet");
    let test = "stress-ng --temp-path /tmp --vm 1 --vm-bytes 80% --vm-method flip --verify -t 25s --metrics-brief 2>&1 | tail -20; (exit ${PIPESTATUS[0]})";
    // On a busy host the guest may not get round to filling its memory in one go.
    let mut said = String::new();
    for _ in 0..4 {
        said += &guest.run(test).await.text;
        if stuck.happened() {
            break;
        }
    }
    assert!(stuck.happened(), "{said}");
    println!("{said}");
}

async fn pulled(lab: &Lab, guest: &mut Guest) {
    inject(lab, Injection::Pull { part: "scsi0".into() }).await;
    guest.ok("for i in $(seq 300); do lsblk -dnro SERIAL | grep -q SC11205802 || break; sleep .2; done; ! lsblk -dnro SERIAL | grep SC11205802").await;
    inject(lab, Injection::Pull { part: "nvme0".into() }).await;
    guest.ok("for i in $(seq 300); do lsblk -dnro SERIAL | grep -q NV11204401 || break; sleep .2; done; ! lsblk -dnro SERIAL | grep NV11204401").await;
}

async fn crash(lab: &Lab, guest: &mut Guest) {
    inject(lab, Injection::MachineCheck { fatal: true, times: 1 }).await;
    guest.until("Kernel panic").await;
    inject(lab, Injection::Reset).await;
    guest.until("shell: ready\n").await;
    let records = guest.ok("mount -t pstore pstore /sys/fs/pstore 2>/dev/null; ls /sys/fs/pstore").await;
    assert!(records.contains("erst"), "the records of the crash are there: {records}");
    inject(lab, Injection::Freeze).await;
    let paused = lab.status(NAME).await.expect("a status");
    assert!(matches!(paused, assay_qemu::Status::Paused { .. }), "{paused:?}");
    inject(lab, Injection::PowerCut).await;
    assert_eq!(lab.status(NAME).await.expect("a status"), assay_qemu::Status::Off);
    let folder = lab.folder(NAME).expect("a folder");
    for disk in ["nvme0", "scsi0", "sata0"] {
        assert!(!folder.disk_socket(disk).exists(), "the process behind {disk} is gone");
    }
    assert!(lab.wait_off(NAME, Duration::ZERO).await.expect("waited"));
}
