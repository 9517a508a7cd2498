//! The whole scan against real block devices: loop devices over files, as root.
//!
//! What the kernel does with an exclusive claim, a changed size, an error from below and a killed process is not
//! imitated here. Devices that alias or forget are in the engine's own tests and in the lab's machines.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use assay_process::{Cmd, Signal};
use assay_scan::{
    Checkpoint, CheckpointError, Class, Event, ExpectedIdentity, IdentityError, Job, Leave, OpenError,
    PassKind, Plan, Reread, ScanError, ScanResult, Scannable, Seed, Stop, Target, Work, limit_probe, scan,
    scan_all,
};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const SYSFS: &str = "/sys";

/// A loop device over a file of its own.
struct Loop {
    device: PathBuf,
    file: PathBuf,
    _folder: TempDir,
}

impl Loop {
    fn new(bytes: u64) -> Self {
        Self::of(TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder"), bytes, "on")
    }

    fn of(folder: TempDir, bytes: u64, direct: &str) -> Self {
        let file = folder.path().join("disk");
        File::create(&file).expect("a file").set_len(bytes).expect("a size");
        let direct = format!("--direct-io={direct}");
        let said = run("losetup", &["--find", "--show", &direct, &file.display().to_string()]);
        Self { device: PathBuf::from(said.trim()), file, _folder: folder }
    }

    fn serial(&self) -> String {
        format!("loop:{}", self.file.display())
    }

    fn bytes(&self) -> u64 {
        fs::metadata(&self.file).expect("it is there").size()
    }

    fn expected(&self) -> ExpectedIdentity {
        ExpectedIdentity { serial: Some(self.serial()), wwn: None, bytes: self.bytes() }
    }

    fn open(&self) -> Scannable {
        Target::open(&self.device, Path::new(SYSFS))
            .expect("it opens")
            .admit(&self.expected())
            .expect("it is ours")
    }

    /// Changes one byte below the device.
    fn spoil(&self, at: u64) {
        let file = File::options().read(true).write(true).open(&self.file).expect("it opens");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("read");
        file.write_all_at(&[byte[0] ^ 0x20], at).expect("written");
        file.sync_all().expect("synced");
    }

    fn resize(&self, bytes: u64) {
        File::options().write(true).open(&self.file).expect("it opens").set_len(bytes).expect("a size");
        run("losetup", &["--set-capacity", &self.device.display().to_string()]);
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        #[expect(clippy::disallowed_methods, reason = "a destructor cannot wait for an async command")]
        let detached = std::process::Command::new("losetup").arg("--detach").arg(&self.device).status();
        if !detached.is_ok_and(|status| status.success()) {
            eprintln!("{} stays behind", self.device.display());
        }
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

fn run(program: &str, args: &[&str]) -> String {
    let output = block_on(Cmd::new(program).args(args.iter().copied()).run_ok()).expect("it succeeds");
    output.stdout_text().into_owned()
}

fn two_pass() -> Job {
    Job::new(Plan::TwoPass, Leave::Pattern, Seed(0x5eed))
}

/// Scans, and does something once the writing is done.
fn scan_while(target: &Scannable, job: &Job, after_writing: impl FnOnce()) -> ScanResult {
    let mut once = Some(after_writing);
    let mut on_event = |event: Event<'_>| {
        if let Event::Checkpoint(checkpoint) = event
            && checkpoint.done() == target.identity().bytes
            && let Some(act) = once.take()
        {
            act();
        }
    };
    scan(target, job, None, &mut on_event, &AtomicBool::new(false)).expect("the scan is possible")
}

fn bad(result: &ScanResult) -> Vec<(Class, u64, u64)> {
    result.bad.iter().map(|range| (range.class, range.offset, range.length)).collect()
}

#[test]
fn a_sound_disk_is_written_verified_and_left_zeroed() {
    let size = 40 * MIB + 7 * 512;
    let disk = Loop::new(size);
    let job = Job::new(Plan::TwoPass, Leave::Zeroed, Seed(1));
    let result = scan_while(&disk.open(), &job, || ());
    assert!(result.is_clean(), "{result:?}");
    assert_eq!((result.bytes_written, result.bytes_verified, result.bytes_zeroed), (size, size, size));
    assert_eq!((result.covered_bytes(), result.device_bytes), (size, size));
    assert!(result.zones.iter().all(|zone| {
        [zone.write, zone.verify].iter().flatten().all(|speed| speed.bytes_per_second > 0 && speed.max_us > 0)
    }));
    assert!(result.seconds > 0.0 && result.cpu_seconds > 0.0);
    assert!(fs::read(&disk.file).expect("readable").iter().all(|byte| *byte == 0));
    let kept: ScanResult =
        serde_json::from_str(&serde_json::to_string(&result).expect("plain")).expect("the same");
    assert_eq!(kept, result);
}

#[test]
fn a_byte_changed_below_the_disk_is_found_in_its_sector() {
    let disk = Loop::new(24 * MIB);
    let places = [0, 9 * MIB + 3 * 512, 24 * MIB - 512];
    let result = scan_while(&disk.open(), &two_pass(), || places.iter().for_each(|at| disk.spoil(at + 100)));
    assert_eq!(bad(&result), places.map(|at| (Class::Corrupt, at, 512)));
    assert!(result.bad.iter().all(|range| range.wrong_bits == 1 && range.reread == Some(Reread::Same)));
    assert_eq!((result.bytes_verified, result.stopped), (24 * MIB - 3 * 512, None));
    assert!(!result.is_clean());
}

#[test]
fn the_burn_in_finds_what_it_would_find_and_ends_in_zeros() {
    let disk = Loop::new(8 * MIB);
    let job = Job::new(Plan::BurnIn, Leave::Zeroed, Seed(2));
    let result = scan_while(&disk.open(), &job, || disk.spoil(5 * MIB));
    assert_eq!(bad(&result), [(Class::Corrupt, 5 * MIB, 512)]);
    assert_eq!((result.passes.len(), result.bytes_verified), (12, 6 * 8 * MIB - 512));
    assert!(fs::read(&disk.file).expect("readable").iter().all(|byte| *byte == 0));
}

#[test]
fn sectors_that_cannot_be_read_are_named() {
    let disk = Loop::new(16 * MIB);
    let missing = 16 * MIB - 8192;
    // The file ends before the device does: the kernel reports real errors for the rest.
    let result = scan_while(&disk.open(), &two_pass(), || {
        File::options().write(true).open(&disk.file).expect("it opens").set_len(missing).expect("shorter");
    });
    assert_eq!(bad(&result), [(Class::Unreadable, missing, 8192)]);
    assert_eq!((result.bad[0].errno, result.bytes_verified), (Some(5), missing));
}

/// A small file system that goes with the test.
struct Mount(TempDir);

impl Drop for Mount {
    fn drop(&mut self) {
        #[expect(clippy::disallowed_methods, reason = "a destructor cannot wait for an async command")]
        let unmounted = std::process::Command::new("umount").arg(self.0.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.0.path().display());
        }
    }
}

#[test]
fn blocks_that_cannot_be_written_are_named() {
    let mount = Mount(TempDir::new().expect("a folder"));
    let path = mount.0.path().display().to_string();
    run("mount", &["-t", "tmpfs", "-o", "size=3m", "tmpfs", &path]);
    // The file below has no room for all of the device: the kernel reports real errors for writing.
    let disk = Loop::of(TempDir::new_in(mount.0.path()).expect("a folder"), 4 * MIB, "off");
    let mut job = two_pass();
    job.options.max_error_bytes = 4 * MIB;
    job.options.write_depth = 1;
    let result = scan_while(&disk.open(), &job, || ());
    let of = |class: Class| -> Vec<(u64, u64)> {
        let ranges = result.bad.iter().filter(|range| range.class == class);
        ranges.map(|range| (range.offset, range.length)).collect()
    };
    assert!((MIB..2 * MIB).contains(&result.counts.unwritable), "{result:?}");
    assert_eq!(of(Class::Unwritable), of(Class::Corrupt), "what was not written reads as zeros");
    assert!(result.bad.iter().all(|range| range.errno == Some(28) || range.filled == Some(0)));
    let written = 4 * MIB - result.counts.unwritable;
    assert_eq!((result.bytes_written, result.bytes_verified, result.stopped), (written, written, None));
}

#[test]
fn only_the_demanded_disk_can_be_written() {
    let disk = Loop::new(4 * MIB);
    let numbers = fs::metadata(&disk.device).expect("it is there").rdev();
    // Loop devices have no serial number: sysfs is given one, as a disk's would be.
    let sysroot = TempDir::new().expect("a folder");
    let folder = sysroot.path().join(format!("dev/block/7:{}", numbers & 0xff));
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("serial"), "WD-77\n").expect("written");
    fs::write(folder.join("wwid"), "naa.50014ee2b1\n").expect("written");
    let admit = |serial: Option<&str>, wwn: Option<&str>, bytes: u64| {
        let opened = Target::open(&disk.device, sysroot.path()).expect("it opens");
        let own = |text: Option<&str>| text.map(str::to_owned);
        opened.admit(&ExpectedIdentity { serial: own(serial), wwn: own(wwn), bytes })
    };
    let another = |what| matches!(what, Err(IdentityError::Another { .. }));
    assert!(another(admit(Some("WD-78"), None, 4 * MIB)));
    assert!(another(admit(Some("WD-77"), Some("naa.5"), 4 * MIB)));
    assert!(another(admit(Some(&disk.serial()), None, 4 * MIB)));
    assert!(matches!(admit(Some("WD-77"), None, 4 * MIB + 512), Err(IdentityError::Size { .. })));
    assert!(matches!(admit(None, None, 4 * MIB), Err(IdentityError::NothingDemanded { .. })));
    let target = admit(Some("WD-77"), Some("naa.50014ee2b1"), 4 * MIB).expect("the demanded one");
    assert!(scan_while(&target, &two_pass(), || ()).is_clean());

    // The entry of another disk under the same number.
    fs::write(folder.join("diskseq"), "1\n").expect("written");
    drop(target);
    let exchanged = Target::open(&disk.device, sysroot.path());
    assert!(matches!(exchanged, Err(OpenError::Exchanged { .. })), "{exchanged:?}");
}

#[test]
fn what_is_in_use_or_no_whole_disk_is_refused() {
    let disk = Loop::new(32 * MIB);
    let open = |path: &Path| Target::open(path, Path::new(SYSFS)).map(|opened| opened.identity().clone());
    let claimed = disk.open();
    assert!(matches!(open(&disk.device), Err(OpenError::Busy { .. })), "two scans of one disk");
    drop(claimed);

    let device = disk.device.display().to_string();
    run("mkfs.ext4", &["-q", &device]);
    let folder = TempDir::new().expect("a folder");
    let mounted = folder.path().display().to_string();
    run("mount", &[&device, &mounted]);
    let refused = open(&disk.device);
    run("umount", &[&mounted]);
    assert!(matches!(refused, Err(OpenError::Busy { .. })), "{refused:?}");
    // Whoever looked at the file system in passing may keep it for a moment longer than the mount.
    let free = (0..100).find_map(|_| match open(&disk.device) {
        Err(OpenError::Busy { .. }) => {
            std::thread::sleep(std::time::Duration::from_millis(100));
            None
        }
        other => Some(other),
    });
    assert_eq!(free.expect("free again").expect("opens").serial, Some(disk.serial()));

    run("blockdev", &["--setro", &device]);
    let refused = open(&disk.device);
    run("blockdev", &["--setrw", &device]);
    assert!(matches!(&refused, Err(OpenError::ReadOnly { .. } | OpenError::Io { .. })), "{refused:?}");

    assert!(matches!(open(Path::new("/dev/null")), Err(OpenError::NotADevice { .. })));
    assert!(matches!(open(Path::new(SYSFS)), Err(OpenError::NotADevice { .. })));
    assert!(matches!(open(Path::new("/dev/no-such-disk")), Err(OpenError::Io { .. })));
}

#[test]
fn a_file_replaced_after_it_was_looked_at_is_refused() {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let (path, other) = (folder.path().join("disk"), folder.path().join("other"));
    for file in [&path, &other] {
        File::create(file).expect("a file").set_len(4 * MIB).expect("a size");
    }
    let open = || Target::open(&path, Path::new(SYSFS)).expect("it opens");
    let seen = open().identity().clone();
    let expected = ExpectedIdentity { serial: seen.serial, wwn: None, bytes: seen.bytes };
    let admitted = open().admit(&expected).expect("the same file");
    // Replaced while it is open: what was opened stays what it was.
    fs::rename(&other, &path).expect("replaced");
    assert!(scan_while(&admitted, &two_pass(), || ()).is_clean());
    assert!(fs::read(&path).expect("readable").iter().all(|byte| *byte == 0), "the new file is untouched");
    let refused = open().admit(&expected);
    assert!(matches!(refused, Err(IdentityError::Another { .. })), "{refused:?}");

    let odd = folder.path().join("odd");
    File::create(&odd).expect("a file").set_len(4 * MIB + 512).expect("a size");
    assert!(matches!(Target::open(&odd, Path::new(SYSFS)), Err(OpenError::Size { .. })));
}

#[test]
fn a_scan_killed_in_the_middle_goes_on_and_finds_the_error() {
    let size = 256 * MIB;
    let disk = Loop::new(size);
    let saved = disk.file.with_file_name("checkpoint.json");
    let device = disk.device.display().to_string();
    let args = [device, "two_pass".into(), "pattern".into(), saved.display().to_string()];
    let program = std::env::current_exe()
        .ok()
        .and_then(|here| Some(here.parent()?.with_file_name("examples").join("bench_scan")))
        .expect("a place for examples");
    assert!(program.exists(), "`cargo build -p assay-scan --examples` builds {}", program.display());

    // Killed without warning, once while it writes and once while it verifies.
    for kill_at in [size / 3, size + size / 2] {
        block_on(async {
            let mut child = Cmd::new(&program).args(args.clone()).spawn().await.expect("it starts");
            loop {
                let line = child.next_line().await.expect("it tells its checkpoints").text;
                if line.trim().parse::<u64>().expect("bytes done") >= kill_at {
                    break;
                }
            }
            child.signal(Signal::KILL).expect("killed");
            assert!(!child.wait().await.expect("it ends").success());
        });
    }
    let checkpoint: Checkpoint =
        serde_json::from_slice(&fs::read(&saved).expect("saved")).expect("whole, though it was killed");
    let done = checkpoint.done();
    assert!(done >= size + size / 2 && done < 2 * size, "{done}");
    // One error where it was not yet, one where it has been.
    disk.spoil(size - 4096);
    disk.spoil(4096);
    let mut job = Job::of(&checkpoint);
    job.options.checkpoint_every = Duration::from_hours(1);
    let target = disk.open();
    let result =
        scan(&target, &job, Some(checkpoint), &mut |_| (), &AtomicBool::new(false)).expect("it goes on");
    assert_eq!(bad(&result), [(Class::Corrupt, size - 4096, 512)]);
    assert_eq!((result.bytes_written, result.bytes_verified, result.resumed), (size, size - 512, 2));
    let verify = result.passes.iter().find(|pass| pass.kind == PassKind::Verify).expect("it was verified");
    assert_eq!((verify.done, verify.good), (size, size - 512));
}

#[test]
fn a_disk_that_changes_its_size_is_another_disk() {
    let disk = Loop::new(16 * MIB);
    let (mut last, cancel) = (None, AtomicBool::new(false));
    let mut on_event = |event: Event<'_>| match event {
        Event::Checkpoint(checkpoint) => last = Some(checkpoint.clone()),
        _ => cancel.store(true, Ordering::Relaxed),
    };
    let mut job = two_pass();
    job.options.progress_every = Duration::ZERO;
    let result = scan(&disk.open(), &job, None, &mut on_event, &cancel).expect("possible");
    assert_eq!(result.stopped, Some(Stop::Cancelled));
    assert!(result.covered_bytes() == 0 && !result.is_clean());
    let checkpoint = last.expect("a last checkpoint");

    disk.resize(12 * MIB);
    let refused = scan(&disk.open(), &job, Some(checkpoint), &mut |_| (), &AtomicBool::new(false));
    let refused = refused.expect_err("another size");
    assert!(matches!(refused, ScanError::Checkpoint(CheckpointError::Device { .. })), "{refused}");

    let result = scan_while(&disk.open(), &job, || disk.resize(8 * MIB));
    assert!(matches!(result.stopped, Some(Stop::Gone { .. })), "{result:?}");
    assert!(!result.is_clean());
}

#[test]
fn samples_of_a_disk_beyond_16_tib() {
    // Only memory holds a file of that size here; what is not written takes no room.
    let disk = Loop::of(TempDir::new_in("/dev/shm").expect("a folder"), 20 << 40, "off");
    let target = disk.open();
    let mut job = Job::new(Plan::Sampled { regions: 4 }, Leave::Zeroed, Seed(3));
    let end = (20_u64 << 40) - 512;
    let mut spoiled = false;
    let mut on_event = |event: Event<'_>| {
        if matches!(event, Event::Checkpoint(_)) && !spoiled {
            spoiled = true;
            disk.spoil(end);
        }
    };
    job.options.checkpoint_every = Duration::from_hours(1);
    let result = scan(&target, &job, None, &mut on_event, &AtomicBool::new(false)).expect("possible");
    assert_eq!(bad(&result), [(Class::Corrupt, end, 512)]);
    assert_eq!(result.device_bytes, 20 << 40);
    assert_eq!(result.bytes_verified, result.bytes_written - 512);
    assert!(result.covered_bytes() < 100 * MIB, "samples prove no more than samples");
}

#[test]
fn several_disks_at_once_each_for_itself() {
    let (sound, broken) = (Loop::new(16 * MIB), Loop::new(24 * MIB));
    let targets = [sound.open(), broken.open()];
    let work = targets.iter().map(|target| Work { target, job: two_pass(), resume: None }).collect();
    let spoiled = Mutex::new(false);
    let on_event = |number: usize, event: Event<'_>| {
        if let (1, Event::Checkpoint(_)) = (number, event) {
            let mut spoiled = spoiled.lock().expect("not poisoned");
            if !std::mem::replace(&mut *spoiled, true) {
                broken.spoil(7 * MIB);
            }
        }
    };
    let results = scan_all(work, &on_event, &AtomicBool::new(false));
    let results: Vec<ScanResult> = results.into_iter().map(|result| result.expect("possible")).collect();
    assert!(results[0].is_clean() && results[0].covered_bytes() == 16 * MIB, "{:?}", results[0]);
    assert_eq!(bad(&results[1]), [(Class::Corrupt, 7 * MIB, 512)]);
}

#[test]
fn a_device_says_how_fast_it_can_be() {
    let disk = Loop::new(64 * MIB);
    let limit =
        limit_probe(&disk.open(), Duration::from_millis(50), &AtomicBool::new(false)).expect("possible");
    for rates in [&limit.read, &limit.write] {
        assert_eq!(rates.iter().map(|rate| rate.depth).collect::<Vec<_>>(), [1, 4, 8, 16, 32]);
        assert!(rates.iter().all(|rate| rate.bytes_per_second > 0), "{rates:?}");
    }
    let best = limit.best_read().expect("there are rates");
    assert!(limit.read.iter().all(|rate| rate.bytes_per_second <= best.bytes_per_second));
}
