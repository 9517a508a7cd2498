//! Tries to get past each defence of `Storage`, on real block devices with real file systems on them. Where the stage
//! must not write, the digest of every byte says that it did not.
//!
//! Needs root, loop devices, and the tools that make file systems; so it stands with the other tests of real things.

mod bench;
mod contents;
mod permits;

use std::path::PathBuf;

use assay_model::Verdict;
use assay_model::host::order::Profile;
use assay_model::host::spec::LeaveOnDisks;
use assay_model::host::storage::{Left, RefusalKind, SurfacePlan};

use bench::{Bench, Disk, SIZE, tool};

#[tokio::test]
async fn an_empty_disk_is_written_read_back_measured_and_left_empty() {
    let mut bench = Bench::new().with_real_tools();
    let disk = Disk::new(bench.root.path(), "image").await;
    bench.plug("sda", "S1", &disk);
    bench.expect("s1");
    bench.allow(&["S1"], &[]);
    // A loop device is no disk of any class.
    bench.spec.limits.storage.hdd = bench.spec.limits.storage.virtual_disk;
    let outcome = bench.run().await;
    assert_eq!(
        (outcome.judgement.verdict, outcome.codes()),
        (Verdict::Pass, vec![]),
        "{:#?}",
        outcome.judgement
    );
    let told = &outcome.evidence.disks[0];
    let surface = told.surface.as_ref().expect("scanned");
    assert_eq!((surface.plan, surface.stopped), (SurfacePlan::Sampled, None));
    assert!(surface.covered_bytes > 0 && surface.covered_bytes == surface.planned_bytes);
    let speed = told.speed.as_ref().expect("measured");
    assert!(speed.errors.is_empty() && speed.read.is_some_and(|read| read.iops > 0.0), "{speed:?}");
    assert_eq!(told.left, Some(Left::ZeroedWhereTested));
    assert!(disk.is_zero(), "what fio wrote were zeros");
    assert_eq!(outcome.artifacts, ["surface-s1.json", "fio-s1.json"]);
}

#[tokio::test]
async fn the_standard_profile_covers_every_byte_and_zeroes_it_again() {
    let mut bench = Bench::new();
    bench.input.profile = Profile::Standard;
    let disk = Disk::new(bench.root.path(), "image").await;
    bench.plug("sda", "S1", &disk);
    bench.expect("S1");
    bench.allow(&["S1"], &[]);
    bench.spec.limits.storage.hdd = bench.spec.limits.storage.virtual_disk;
    let outcome = bench.run().await;
    assert_eq!(
        (outcome.judgement.verdict, outcome.codes()),
        (Verdict::Pass, vec![]),
        "{:#?}",
        outcome.judgement
    );
    assert_eq!((outcome.judgement.coverage[0].covered, outcome.judgement.coverage[0].total), (SIZE, SIZE));
    assert_eq!(outcome.evidence.disks[0].left, Some(Left::Zeroed));
    assert!(disk.is_zero());
}

#[tokio::test]
async fn what_a_scan_left_is_known_again_and_what_somebody_put_there_since_is_not() {
    let mut bench = Bench::new();
    bench.input.profile = Profile::Standard;
    bench.spec.limits.storage.leave = LeaveOnDisks::Pattern;
    bench.spec.limits.storage.hdd = bench.spec.limits.storage.virtual_disk;
    let disk = Disk::new(bench.root.path(), "image").await;
    bench.plug("sda", "S1", &disk);
    bench.expect("S1");
    bench.allow(&["S1"], &[]);
    assert_eq!(bench.run().await.judgement.verdict, Verdict::Pass);
    assert!(!disk.is_zero());

    bench.allow(&["S1"], &[]);
    let again = bench.run().await;
    assert_eq!((again.judgement.verdict, again.codes()), (Verdict::Pass, vec![]), "{:#?}", again.judgement);
    assert_eq!(again.evidence.disks[0].probe.as_ref().expect("probed").own_bytes, SIZE);

    disk.put(SIZE / 2 + 512, b"somebody's thesis");
    let before = disk.digest();
    bench.allow(&["S1"], &[]);
    let halted = bench.run().await;
    assert_eq!((halted.judgement.verdict, halted.codes()), (Verdict::Fail, vec!["UnexpectedData"]));
    assert!(
        halted.judgement.message.contains(&format!("byte {}", SIZE / 2 + 512)),
        "{}",
        halted.judgement.message
    );
    assert_eq!(disk.digest(), before);
}

#[tokio::test]
async fn a_checkpoint_is_gone_on_with_on_its_own_disk_and_on_no_other() {
    let mut bench = Bench::new();
    bench.input.profile = Profile::Standard;
    bench.spec.limits.storage.hdd = bench.spec.limits.storage.virtual_disk;
    let disk = Disk::new(bench.root.path(), "image").await;
    bench.plug("sda", "S1", &disk);
    bench.expect("S1");
    bench.allow(&["S1"], &[]);
    assert_eq!(bench.run().await.judgement.verdict, Verdict::Pass);
    let state = bench.saved.lock().expect("no panic").last().cloned().expect("a checkpoint was saved");

    // The same disk under another name: the scan was done, and is not done again.
    std::fs::remove_dir_all(bench.root.path().join("sys/block/sda")).expect("unplugged");
    bench.plug("sdq", "S1", &disk);
    bench.input.checkpoint = Some(state.clone());
    bench.allow(&["S1"], &[]);
    let resumed = bench.run().await;
    let surface = resumed.evidence.disks[0].surface.clone().expect("scanned");
    assert_eq!((surface.resumed, resumed.judgement.verdict), (1, Verdict::Pass), "{:#?}", resumed.judgement);

    // Another disk that the spec calls the same: begun anew.
    let other = Disk::new(bench.root.path(), "other").await;
    std::fs::remove_dir_all(bench.root.path().join("sys/block/sdq")).expect("unplugged");
    bench.plug("sda", "S9", &other);
    bench.spec.disks.clear();
    bench.expect("S9");
    let moved = state.to_string().replace("\"S1\":", "\"S9\":");
    bench.input.checkpoint = Some(serde_json::from_str(&moved).expect("JSON"));
    bench.allow(&["S9"], &[]);
    let anew = bench.run().await;
    let surface = anew.evidence.disks[0].surface.clone().expect("scanned");
    assert_eq!((surface.resumed, surface.covered_bytes), (0, SIZE));
}

#[tokio::test]
async fn disks_that_changed_their_names_are_known_by_what_they_say() {
    let mut bench = Bench::new();
    let (meant, bystander) =
        (Disk::new(bench.root.path(), "meant").await, Disk::new(bench.root.path(), "bystander").await);
    bystander.put(SIZE / 2, b"not yours");
    let before = bystander.digest();
    bench.plug("sda", "S2", &bystander);
    bench.plug("sdb", "S1", &meant);
    bench.expect("S1");
    bench.allow(&["S1"], &[]);
    bench.spec.limits.storage.leave = LeaveOnDisks::Pattern;
    let outcome = bench.run().await;
    assert!(outcome.evidence.written && !meant.is_zero(), "{:#?}", outcome.judgement);
    assert_eq!(bystander.digest(), before);
}

/// A bench with one empty disk that may be written, and the disk.
async fn ready() -> (Bench, Disk) {
    let mut bench = Bench::new();
    let disk = Disk::new(bench.root.path(), "image").await;
    bench.plug("sda", "S1", &disk);
    bench.expect("S1");
    bench.allow(&["S1"], &[]);
    (bench, disk)
}

/// Runs the stage, which must refuse for this reason and write nothing.
async fn refuses(bench: &Bench, disk: &Disk, why: RefusalKind, code: &str) {
    let before = disk.digest();
    let outcome = bench.run().await;
    assert_eq!(outcome.judgement.verdict, Verdict::Fail, "{:#?}", outcome.judgement);
    assert!(outcome.refusals().contains(&why), "{:?}", outcome.evidence.disks);
    assert!(outcome.codes().contains(&code), "{:?}", outcome.codes());
    assert!(!outcome.evidence.written);
    assert_eq!(disk.digest(), before, "not one byte may change");
}

#[tokio::test]
async fn a_disk_that_was_exchanged_after_it_was_found_is_not_written() {
    // The name leads to another disk than the one that was found under it.
    let (bench, disk) = ready().await;
    let other = Disk::new(bench.root.path(), "other").await;
    bench.plug("sdb", "S2", &other);
    let node = bench.root.path().join("dev/sda");
    std::fs::remove_file(&node).expect("removed");
    std::os::unix::fs::symlink(&other.node, &node).expect("a link");
    let before = other.digest();
    refuses(&bench, &disk, RefusalKind::Swapped, "DiskSwapped").await;
    assert_eq!(other.digest(), before);

    // Even if it says that it is the same one.
    bench.number("sda", &other);
    refuses(&bench, &disk, RefusalKind::Swapped, "DiskSwapped").await;
    assert_eq!(other.digest(), before);
}

#[tokio::test]
async fn a_mounted_disk_is_not_written() {
    let (bench, disk) = ready().await;
    tool("mkfs.ext4", &["-q", "-F"], &disk.node).await;
    let point = bench.root.path().join("point");
    std::fs::create_dir(&point).expect("a folder");
    let mount = Mount::new(&disk, &point).await;
    refuses(&bench, &disk, RefusalKind::InUse, "DiskInUse").await;
    // Mounted where a system runs from, it is that system's disk.
    std::fs::remove_file(bench.root.path().join("proc")).expect("removed");
    bench.write("proc/swaps", "Filename\n");
    bench.write("proc/self/mountinfo", &format!("22 1 {} / / rw - ext4 /dev/root rw\n", disk.number));
    refuses(&bench, &disk, RefusalKind::BootMedium, "BootMedium").await;
    // Hidden from the table (another mount namespace), it is still claimed.
    bench.write("proc/self/mountinfo", "22 1 0:20 / /proc rw - proc proc rw\n");
    refuses(&bench, &disk, RefusalKind::InUse, "DiskInUse").await;
    drop(mount);
}

/// A mount that ends with the test, however that ends.
struct Mount(PathBuf);

impl Mount {
    async fn new(disk: &Disk, point: &std::path::Path) -> Self {
        let node = disk.node.display().to_string();
        tool("mount", &["-t", "ext4", &node], point).await;
        Self(point.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let ended = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
        assert!(ended.is_ok() || std::thread::panicking(), "it cannot be unmounted: {ended:?}");
    }
}

#[tokio::test]
async fn a_disk_that_somebody_holds_is_not_written() {
    let (bench, disk) = ready().await;
    let held = assay_scan::Target::open(&disk.node, &bench.machine.path("sys")).expect("claimed");
    refuses(&bench, &disk, RefusalKind::InUse, "DiskInUse").await;
    drop(held);
    for holder in ["md127", "dm-0", "bcache0"] {
        bench.write(&format!("sys/block/sda/holders/{holder}/x"), "");
        refuses(&bench, &disk, RefusalKind::InUse, "DiskInUse").await;
        std::fs::remove_dir_all(bench.root.path().join("sys/block/sda/holders")).expect("released");
    }
    bench.write("sys/block/sda/sda1/partition", "1");
    bench.write("sys/block/sda/sda1/holders/dm-0/dm/name", "vg-root");
    refuses(&bench, &disk, RefusalKind::InUse, "DiskInUse").await;
}

#[tokio::test]
async fn a_disk_that_is_there_twice_or_removable_or_read_only_is_not_written() {
    let (bench, disk) = ready().await;
    let twin = Disk::new(bench.root.path(), "twin").await;
    bench.plug("sdb", "S1", &twin);
    let before = twin.digest();
    refuses(&bench, &disk, RefusalKind::Shared, "DiskShared").await;
    assert_eq!(twin.digest(), before);
    std::fs::remove_dir_all(bench.root.path().join("sys/block/sdb")).expect("unplugged");

    bench.write("sys/block/sda/removable", "1");
    refuses(&bench, &disk, RefusalKind::Removable, "DiskRemovable").await;
    bench.write("sys/block/sda/removable", "0");
    bench.write("sys/block/sda/ro", "1");
    refuses(&bench, &disk, RefusalKind::ReadOnly, "DiskReadOnly").await;
}

#[tokio::test]
async fn a_disk_that_goes_away_after_its_surface_was_tested_is_missed() {
    let (mut bench, _disk) = ready().await;
    bench.spec.limits.storage.hdd = bench.spec.limits.storage.virtual_disk;
    let known = bench.root.path().join("sys/block/sda");
    bench.fio(&format!("#!/bin/sh\nrm -r {}\nexit 1\n", known.display()));
    let outcome = bench.run().await;
    assert_eq!(outcome.judgement.verdict, Verdict::Fail, "{:#?}", outcome.judgement);
    assert!(outcome.codes().contains(&"DiskVanished"), "{:?}", outcome.codes());
    assert_eq!(outcome.evidence.disks[0].left, Some(Left::Unknown));
}

#[tokio::test]
async fn one_disk_in_the_way_keeps_all_from_being_written() {
    let (mut bench, disk) = ready().await;
    let other = Disk::new(bench.root.path(), "other").await;
    other.put(4096, b"data");
    bench.plug("sdb", "S2", &other);
    bench.expect("S2");
    bench.allow(&["S1", "S2"], &[]);
    let before = other.digest();
    refuses(&bench, &disk, RefusalKind::HoldsData, "UnexpectedData").await;
    assert_eq!(other.digest(), before);
}

#[tokio::test]
async fn a_disk_that_the_spec_does_not_name_is_not_written_whatever_the_permit_says() {
    let (mut bench, disk) = ready().await;
    bench.spec.disks.clear();
    bench.expect("S9");
    bench.allow(&["S1", "S9"], &["S1"]);
    let before = disk.digest();
    let outcome = bench.run().await;
    assert_eq!((outcome.judgement.verdict, outcome.codes()), (Verdict::Fail, vec!["DiskAbsent"]));
    assert_eq!((disk.digest(), outcome.evidence.written), (before, false));
}
