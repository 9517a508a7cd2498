//! Sticks of real ISOs, judged by sgdisk, mtools, fsck and blkid.

use std::path::Path;

use assay_media::stage::{BackupGpt, BackupPlace, EspPlace, Stick, append_esp, stage_files};
use assay_media::{Disk, Iso, MediaError, Scheme};
use assay_process::Cmd;

use crate::tools::{Bench, IPXE, MEMTEST, MIB, output, run, text};

const FILES: [(&str, &[u8]); 3] = [
    ("/zeta-hostname.txt", b"node-123abc\n"),
    ("/zeta-firstboot.conf", b"ROLE=join\n"),
    ("/keys/operator authorized keys.pub", b"ssh-ed25519 AAAA somebody\n"),
];

/// What mtools reads from the file system at this byte.
fn mtype(image: &Path, start: u64, path: &str) -> String {
    run("mtype", &["-i", &format!("{}@@{start}", text(image)), &format!("::{path}")])
}

fn fsck(bench: &Bench, image: &Path, start: u64, bytes: u64) {
    let whole = std::fs::read(image).expect("read");
    let part = bench.path("esp");
    std::fs::write(&part, &whole[start as usize..(start + bytes) as usize]).expect("written");
    run("fsck.vfat", &["-n", text(&part)]);
}

#[test]
fn files_go_onto_the_esp_of_grubs_rescue_image_and_the_gpt_moves_to_the_end() {
    let bench = Bench::new();
    let iso = bench.grub_rescue("rescue.iso");
    let stick = Stick::write(&iso, &bench.path("stick"), 64 * MIB, BackupPlace::Move).expect("written");
    assert_eq!(stick.written().backup, BackupGpt::Moved { to: 64 * MIB / 512 - 1 });
    assert!(run("sgdisk", &["-v", text(stick.path())]).contains("No problems found"));
    // GRUB leaves some room in its image; enough for these.
    let staged = stick.stage_files(&FILES).expect("staged");
    assert_eq!(staged.place, EspPlace::Partition { number: 2, table: Scheme::Gpt });
    for (path, bytes) in FILES {
        assert_eq!(mtype(stick.path(), staged.start, path).as_bytes(), bytes);
    }
    fsck(&bench, stick.path(), staged.start, staged.bytes);
    assert!(Iso::open(stick.path()).expect("it opens").booting().expect("judged").stick_uefi.works);
    let sums: Vec<_> = staged.files.iter().map(|file| file.sha256.len()).collect();
    assert_eq!(sums, [64; 3]);
    // Once more with other contents: replaced, not doubled.
    let again = stick.stage_files(&[("/ZETA-HOSTNAME.TXT", b"other\n")]).expect("staged");
    assert_eq!(mtype(stick.path(), again.start, "/zeta-hostname.txt"), "other\n");

    let kept = Stick::write(&iso, &bench.path("kept"), 64 * MIB, BackupPlace::Leave).expect("written");
    assert!(matches!(&kept.written().backup, BackupGpt::Left { .. }));
    let front = std::fs::read(&iso).expect("read");
    assert_eq!(std::fs::read(kept.path()).expect("read")[..front.len()], front, "as dd would");
}

#[test]
fn too_much_for_the_esp_changes_nothing_and_another_one_takes_it() {
    let bench = Bench::new();
    let iso = bench.grub_rescue("rescue.iso");
    let stick = Stick::write(&iso, &bench.path("stick"), 96 * MIB, BackupPlace::Move).expect("written");
    let before = std::fs::read(stick.path()).expect("read");
    let big = vec![b'x'; 8 << 20];
    let files: [(&str, &[u8]); 2] = [("/small", b"fits"), ("/big", &big)];
    match stick.stage_files(&files) {
        Err(error @ MediaError::Full { needed, free }) => {
            assert!(needed >= 8 * MIB && free < 8 * MIB, "{error}");
            assert!(error.to_string().contains("append_esp"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert!(std::fs::read(stick.path()).expect("read") == before, "not a byte was written");
    let staged = stick.append_esp(16 * MIB, "STAGED", &files).expect("appended");
    let said = run("sgdisk", &["-v", "-p", text(stick.path())]);
    assert!(said.contains("No problems found") && said.contains("EF00"), "{said}");
    assert_eq!(mtype(stick.path(), staged.start, "/small"), "fits");
    fsck(&bench, stick.path(), staged.start, staged.bytes);
    // Everything that the ISO brought, but for its partition table, is as it was.
    let after = std::fs::read(stick.path()).expect("read");
    let iso_bytes = stick.written().iso_bytes as usize;
    let changed = (40 * 512..iso_bytes).find(|at| before[*at] != after[*at]);
    assert_eq!(changed, None);
    let disk = Disk::open(stick.path()).expect("it opens");
    assert!(disk.labelled("STAGED").is_some());
    let booting = Iso::open(stick.path()).expect("it opens").booting().expect("judged");
    assert!(booting.stick_bios.works && booting.stick_uefi.works && booting.cd_uefi.works, "{booting:#?}");
}

#[test]
fn memtests_esp_behind_the_volume_and_ipxes_boot_image() {
    let bench = Bench::new();
    let stick =
        Stick::write(MEMTEST.as_ref(), &bench.path("stick"), 32 * MIB, BackupPlace::Move).expect("written");
    assert_eq!(stick.written().backup, BackupGpt::None);
    let staged = stick.stage_files(&FILES).expect("staged");
    assert_eq!(staged.place, EspPlace::Partition { number: 2, table: Scheme::Mbr });
    assert_eq!(mtype(stick.path(), staged.start, "/zeta-hostname.txt"), "node-123abc\n");
    fsck(&bench, stick.path(), staged.start, staged.bytes);
    let staged = append_esp(stick.path(), 4 * MIB, "STAGED", &FILES).expect("appended");
    assert_eq!(staged.place, EspPlace::Partition { number: 3, table: Scheme::Mbr });
    let dump = run("sfdisk", &["-d", text(stick.path())]);
    assert!(
        dump.contains("stick3") && dump.lines().last().is_some_and(|line| line.contains("type=ef")),
        "{dump}"
    );
    assert_eq!(
        mtype(stick.path(), staged.start, "/keys/operator authorized keys.pub"),
        "ssh-ed25519 AAAA somebody\n"
    );

    // No partition points to iPXE's EFI image, which is nearly full.
    let stick =
        Stick::write(IPXE.as_ref(), &bench.path("ipxe"), 16 * MIB, BackupPlace::Move).expect("written");
    match stick.stage_files(&[("/a", b"b")]) {
        Ok(staged) => assert_eq!(staged.place, EspPlace::ElTorito { block: 34 }),
        Err(error) => assert!(matches!(error, MediaError::Full { .. }), "{error}"),
    }
    let staged = stick.append_esp(2 * MIB, "STAGED", &FILES).expect("appended");
    assert_eq!(mtype(stick.path(), staged.start, "/zeta-firstboot.conf"), "ROLE=join\n");
    assert!(Iso::open(stick.path()).expect("it opens").booting().expect("judged").stick_bios.works);
}

#[test]
fn file_systems_of_mkfs_are_filled_to_the_last_cluster() {
    let bench = Bench::new();
    for (bits, size) in [("12", 2 * MIB - 64 * 1024), ("16", 32 * MIB), ("32", 64 * MIB)] {
        let disk = bench.blank("disk", size + 4 * MIB);
        run("sgdisk", &["-n", &format!("1:2048:+{}K", size / 1024), "-t", "1:ef00", text(&disk)]);
        let blocks = (size / 1024).to_string();
        let options = ["-F", bits, "--offset", "2048", "-s", "1", text(&disk), &blocks];
        run("mkfs.vfat", &options);
        let staged = stage_files(&disk, &FILES).expect("staged");
        // All that is left, but for what the folder may need to grow.
        let rest = vec![b'r'; (staged.free - 4096) as usize];
        let full = stage_files(&disk, &[("/rest", &rest)]).expect("staged");
        assert!(full.free <= 4096, "FAT{bits}: {}", full.free);
        assert!(matches!(stage_files(&disk, &[("/more", &rest[..8192])]), Err(MediaError::Full { .. })));
        // Room that a replaced file gives back counts.
        stage_files(&disk, &[("/rest", &rest[..rest.len() / 2])]).expect("staged");
        fsck(&bench, &disk, staged.start, size);
        assert_eq!(mtype(&disk, staged.start, "/zeta-firstboot.conf"), "ROLE=join\n", "FAT{bits}");
    }
}

#[test]
fn the_root_folder_of_fat16_has_an_end() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 36 * MIB);
    run("sgdisk", &["-n", "1:2048:+32M", "-t", "1:ef00", text(&disk)]);
    run("mkfs.vfat", &["-F", "16", "--offset", "2048", "-r", "64", text(&disk), "32768"]);
    let names: Vec<_> = (0..40).map(|number| format!("/a name that is long {number}.txt")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    let before = std::fs::read(&disk).expect("read");
    let refused = stage_files(&disk, &files);
    assert!(matches!(refused, Err(MediaError::FolderFull { entries: 64 })), "{refused:?}");
    assert!(std::fs::read(&disk).expect("read") == before, "not a byte was written");
    let below: Vec<_> = names.iter().map(|name| format!("/folder{name}")).collect();
    let files: Vec<(&str, &[u8])> = below.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    stage_files(&disk, &files).expect("a folder grows");
}

#[test]
fn what_has_no_esp_or_bad_names_is_refused_with_words() {
    let bench = Bench::new();
    let tree = bench.path("tree");
    std::fs::create_dir_all(&tree).expect("a folder");
    let iso = bench.path("data.iso");
    run("xorriso", &["-as", "mkisofs", "-quiet", "-R", "-V", "DATA", "-o", text(&iso), text(&tree)]);
    let stick = Stick::write(&iso, &bench.path("stick"), 16 * MIB, BackupPlace::Move).expect("written");
    let refused = stick.stage_files(&FILES).expect_err("nowhere");
    assert!(matches!(refused, MediaError::NoEsp { .. }));
    assert!(refused.to_string().contains("there is no partition table"), "{refused}");
    let refused = stick.append_esp(2 * MIB, "STAGED", &FILES).expect_err("no table");
    assert!(matches!(refused, MediaError::NoRoom { .. }), "{refused}");

    let stick =
        Stick::write(MEMTEST.as_ref(), &bench.path("stick"), 16 * MIB, BackupPlace::Move).expect("written");
    for bad in [
        "/a:b",
        "/a/../b",
        "",
        "/",
        "/ends.",
        "/emoji-\u{1f600}",
        "/tab\t",
        "/a//b",
        &format!("/{}", "n".repeat(256)),
    ] {
        let refused = stick.stage_files(&[(bad, b"x")]);
        assert!(matches!(refused, Err(MediaError::BadName { .. })), "{bad:?}: {refused:?}");
    }
    assert!(matches!(stick.stage_files(&[("/EFI", b"x")]), Err(MediaError::WrongKind { .. })));
    assert!(matches!(
        stick.stage_files(&[("/EFI/BOOT/BOOTX64.EFI/x", b"x")]),
        Err(MediaError::WrongKind { .. })
    ));
    stick.stage_files(&[("/grün und länger", b"x")]).expect("other alphabets are names");

    let small = Stick::write(MEMTEST.as_ref(), &bench.path("small"), 4 * MIB, BackupPlace::Move);
    assert!(matches!(small, Err(MediaError::TooSmall { .. })));
    let odd = Stick::write(MEMTEST.as_ref(), &bench.path("odd"), 16 * MIB + 1, BackupPlace::Move);
    assert!(matches!(odd, Err(MediaError::Unsupported { .. })));
    let itself = Stick::write(&iso, &iso, 16 * MIB, BackupPlace::Move);
    assert!(matches!(itself, Err(MediaError::Unsupported { .. })), "the ISO itself");
    assert!(Iso::open(&iso).is_ok(), "and it is still whole");
    let exact = std::fs::metadata(MEMTEST).expect("there").len();
    let stick =
        Stick::write(MEMTEST.as_ref(), &bench.path("exact"), exact, BackupPlace::Move).expect("written");
    let refused = stick.append_esp(2 * MIB, "STAGED", &FILES).expect_err("no room");
    assert!(matches!(refused, MediaError::NoRoom { .. }), "{refused}");
    // Somebody's data where the new partition would be.
    let stick =
        Stick::write(MEMTEST.as_ref(), &bench.path("used"), 16 * MIB, BackupPlace::Move).expect("written");
    let said = output(&Cmd::new("dd").args([
        "if=/dev/urandom",
        &format!("of={}", text(stick.path())),
        "bs=1",
        "seek=7000000",
        "count=9",
        "conv=notrunc",
    ]));
    assert!(said.success());
    let refused = stick.append_esp(2 * MIB, "STAGED", &FILES).expect_err("occupied");
    assert!(refused.to_string().contains("byte 7000000"), "{refused}");
}
