//! A test's own machine, real: GRUB in it says when it is where, and that is heard, seen, frozen, woken and switched off.

use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_process::Cmd;
use assay_qemu::{
    Accel, Arch, MediumKind, ShutdownLimits, ShutdownRung, Vm, VmBus, VmDisk, VmEvent, VmFiles, VmFirmware,
    VmImage, VmMedium, VmSpec,
};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_mins(2);

fn emulated() -> Accel {
    Accel::Tcg { reason: "tests are the same everywhere".to_owned() }
}

/// An ISO whose GRUB does what `script` says, on the serial port.
async fn grub(folder: &Path, script: &str) -> PathBuf {
    let tree = folder.join("tree");
    std::fs::create_dir_all(tree.join("boot/grub")).expect("a folder");
    let config =
        format!("serial --unit=0 --speed=115200\nterminal_output serial\nterminal_input serial\n{script}");
    std::fs::write(tree.join("boot/grub/grub.cfg"), config).expect("written");
    let iso = folder.join("grub.iso");
    let make = Cmd::new("grub-mkrescue").arg("-o").arg(&iso).arg(&tree);
    make.timeout(LIMIT)
        .run_ok()
        .await
        .expect("grub-mkrescue, from grub-common, grub-pc-bin, xorriso and mtools");
    iso
}

fn spec(iso: PathBuf, disks: Vec<VmDisk>) -> VmSpec {
    VmSpec {
        name: "test".to_owned(),
        arch: Arch::X86_64,
        firmware: VmFirmware::Bios,
        tpm: false,
        cpus: 1,
        memory_mib: 256,
        clock: None,
        system_uuid: uuid::Uuid::from_u128(7),
        medium: Some(VmMedium { image: iso, kind: MediumKind::Cd, serial: String::new() }),
        disks,
        nics: Vec::new(),
        watchdog: false,
    }
}

/// What the machine says on its serial port until it has said `word`.
async fn heard(vm: &mut Vm, word: &str) -> String {
    let mut text = String::new();
    let hear = async {
        while !text.contains(word) {
            match vm.next_event().await.1 {
                VmEvent::Serial(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
                VmEvent::Ended { said, .. } => panic!("QEMU ended before `{word}`: {said}; heard {text}"),
                _ => {}
            }
        }
    };
    assert!(timeout(LIMIT, hear).await.is_ok(), "`{word}` did not come");
    text
}

/// Why the machine went off.
async fn off(vm: &mut Vm) -> String {
    let wait = async {
        loop {
            if let VmEvent::Monitor(event) = vm.next_event().await.1
                && event.name == "SHUTDOWN"
            {
                return event.data["reason"].as_str().unwrap_or_default().to_owned();
            }
        }
    };
    timeout(LIMIT, wait).await.expect("it goes off")
}

#[tokio::test]
async fn nothing_is_missed_and_the_end_has_its_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let iso = grub(folder.path(), "echo the first word\nhalt\n").await;
    let files = VmFiles { folder: folder.path().join("vm") };
    let mut vm = Vm::start(&spec(iso.clone(), Vec::new()), &files, &emulated()).await.expect("it starts");
    vm.go().await.expect("it goes");
    let text = heard(&mut vm, "the first word").await;
    assert!(!text.contains("second"), "{text}");
    assert_eq!(off(&mut vm).await, "guest-shutdown");
    let rung = vm.shut_down(ShutdownLimits::default(), |_, _| ()).await.expect("gone");
    assert_eq!(rung, ShutdownRung::Already);
    assert!(!vm.is_alive() && vm.typed() == 0);

    // The same machine resets itself: a pause with another reason, never a loop.
    let again = grub(folder.path(), "echo round\nreboot\n").await;
    let mut vm = Vm::start(&spec(again, Vec::new()), &files, &emulated()).await.expect("it starts");
    vm.go().await.expect("it goes");
    assert_eq!(off(&mut vm).await, "guest-reset");
}

#[tokio::test]
async fn what_is_typed_arrives_and_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let iso = grub(folder.path(), "echo ready\nread answer\necho heard=$answer.\nhalt\n").await;
    let files = VmFiles { folder: folder.path().join("vm") };
    let mut vm = Vm::start(&spec(iso, Vec::new()), &files, &emulated()).await.expect("it starts");
    vm.go().await.expect("it goes");
    heard(&mut vm, "ready").await;
    vm.type_serial("yes\r").await.expect("typed");
    heard(&mut vm, "heard=yes.").await;
    assert_eq!(vm.typed(), 4);
}

#[tokio::test]
async fn the_screen_tells_of_its_changes_and_is_a_picture() {
    let folder = tempfile::tempdir().expect("a folder");
    let iso = PathBuf::from("/usr/lib/ipxe/ipxe.iso");
    let files = VmFiles { folder: folder.path().join("vm") };
    let mut vm = Vm::start(&spec(iso, Vec::new()), &files, &emulated()).await.expect("it starts");
    vm.go().await.expect("it goes");
    let drawn = async {
        loop {
            if vm.next_event().await.1 == VmEvent::Screen {
                let screen = vm.screen().await.expect("a picture");
                // Text mode, and letters on it: before the BIOS has set it, QEMU draws a notice of its own.
                let text_mode = (screen.width, screen.height) == (720, 400);
                if text_mode && screen.rgb.chunks(3).any(|pixel| pixel != [0, 0, 0]) {
                    return screen;
                }
            }
        }
    };
    let screen = timeout(LIMIT, drawn).await.expect("something is drawn");
    assert_eq!(screen.rgb.len(), screen.width * screen.height * 3);
    assert!(vm.picture().await.expect("a PNG").starts_with(b"\x89PNG"));
    assert_eq!(assay_qemu::vga_font().expect("QEMU's own video BIOS").len(), 4096);
}

#[tokio::test]
async fn a_machine_sleeps_in_a_file_and_wakes_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let iso = grub(folder.path(), "echo before\nread answer\necho after=$answer.\nhalt\n").await;
    let image = folder.path().join("disk.raw");
    std::fs::File::create(&image).and_then(|file| file.set_len(64 << 20)).expect("a disk");
    let disk = VmDisk {
        id: "d0".to_owned(),
        image: VmImage::File(image),
        bus: VmBus::Virtio,
        serial: "D0".to_owned(),
        sector: 512,
        rotates: false,
        removable: false,
        read_only: false,
        bytes_per_second: None,
        write_log: None,
    };
    let spec = spec(iso, vec![disk]);
    assert!(spec.can_sleep());
    let files = VmFiles { folder: folder.path().join("vm") };
    let saved = folder.path().join("saved");
    let mut vm = Vm::start(&spec, &files, &emulated()).await.expect("it starts");
    vm.go().await.expect("it goes");
    heard(&mut vm, "before").await;
    let age = vm.age();
    vm.save(&saved).await.expect("it falls asleep");
    vm.go_on().await.expect("it goes on as if nothing had been");
    vm.type_serial("none\r").await.expect("typed");
    heard(&mut vm, "after=none.").await;
    vm.cut_power().await.expect("gone");
    // Twice from the same file: each wakes at the same place.
    for answer in ["one", "two"] {
        let (mut woken, took) = Vm::wake(&spec, &files, &emulated(), &saved, age).await.expect("it wakes");
        assert!(woken.age() >= age, "its time goes on");
        woken.type_serial(&format!("{answer}\r")).await.expect("typed");
        let text = heard(&mut woken, &format!("after={answer}.")).await;
        assert!(!text.contains("before"), "it does not begin anew: {text}");
        eprintln!("awake after {:?}", took.took);
        // Dropped, it would be killed at some moment, and until then nobody else may write to its disk.
        woken.cut_power().await.expect("gone");
    }
}

#[tokio::test]
async fn qemu_s_own_words_say_why_it_does_not_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = VmFiles { folder: folder.path().join("vm") };
    let broken = spec(folder.path().join("there is none.iso"), Vec::new());
    let error = Vm::start(&broken, &files, &emulated()).await.expect_err("no medium");
    let words = error.to_string();
    assert!(words.contains("there is none.iso") && words.contains("No such file"), "{words}");
}
