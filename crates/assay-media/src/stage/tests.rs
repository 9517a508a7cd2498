use super::{BackupGpt, BackupPlace, EspPlace, Stick, append_esp, stage_files};
use crate::samples::{Bench, MIB, Sample, flip, in_many_ways, open, peek, poke};
use crate::{Disk, MediaError, Scheme, TableProblem};

/// The sample ISO with a GPT around it, as a hybrid image has it.
fn hybrid(bench: &Bench) -> std::path::PathBuf {
    let mut bytes = Sample::new().bytes;
    bytes.resize(bytes.len().next_multiple_of(4096) + 64 * 1024, 0);
    let path = bench.file("hybrid.iso", &bytes);
    let efi = Sample::EFI * 4;
    let part = crate::table::NewPartition {
        kind: crate::TYPE_ESP,
        guid: uuid::Uuid::from_u128(1),
        label: "EFI".to_owned(),
        first: efi,
        last: efi + 2047,
    };
    crate::table::write_gpt(&open(&path), crate::Sector::B512, uuid::Uuid::from_u128(2), &[part])
        .expect("written");
    path
}

#[test]
fn a_stick_is_the_iso_and_its_gpt_reaches_the_end() {
    let bench = Bench::new();
    let iso = hybrid(&bench);
    let stick = Stick::write(&iso, &bench.path("stick"), 16 * MIB, BackupPlace::Move).expect("written");
    assert_eq!(stick.written().backup, BackupGpt::Moved { to: 16 * MIB / 512 - 1 });
    let (one, other) = (std::fs::read(&iso).expect("read"), std::fs::read(stick.path()).expect("read"));
    assert_eq!(other.len() as u64, 16 * MIB);
    let changed: Vec<_> = (0..one.len()).filter(|at| one[*at] != other[*at]).collect();
    assert!(changed.iter().all(|at| (512..1024).contains(at)), "only the header: {changed:?}");
    assert_eq!(Disk::open(stick.path()).expect("it opens").table().problems, []);

    let left = Stick::write(&iso, &bench.path("left"), 16 * MIB, BackupPlace::Leave).expect("written");
    assert!(matches!(left.written().backup, BackupGpt::Left { .. }));
    let problems = Disk::open(left.path()).expect("it opens").table().problems.clone();
    assert!(matches!(problems[..], [TableProblem::BackupNotAtEnd { .. }]));
    let exact =
        Stick::write(&iso, &bench.path("exact"), one.len() as u64, BackupPlace::Move).expect("written");
    assert_eq!(exact.written().backup, BackupGpt::InPlace);

    // A header that cannot be trusted is not made the model of another.
    flip(&iso, 512 + 60);
    let damaged = Stick::write(&iso, &bench.path("damaged"), 16 * MIB, BackupPlace::Move).expect("written");
    assert!(matches!(&damaged.written().backup, BackupGpt::Left { why } if why.contains("damaged")));
}

#[test]
fn files_are_staged_on_the_partition_and_without_one_on_the_boot_image() {
    let bench = Bench::new();
    let stick =
        Stick::write(&hybrid(&bench), &bench.path("stick"), 16 * MIB, BackupPlace::Move).expect("written");
    let staged = stick.stage_files(&[("/zeta-hostname.txt", b"node\n")]).expect("staged");
    assert_eq!(staged.place, EspPlace::Partition { number: 1, table: Scheme::Gpt });
    assert_eq!(staged.files[0].sha256.len(), 64);
    let disk = Disk::open(stick.path()).expect("it opens");
    let tree = disk.tree(&disk.partitions()[0]).expect("a tree");
    assert_eq!(tree.read("/zeta-hostname.txt", 99).expect("read"), b"node\n");
    assert!(tree.exists("/EFI/BOOT/BOOTX64.EFI").expect("looked"), "what was there is there");

    let plain = bench.file("plain.iso", &Sample::new().bytes);
    let stick = Stick::write(&plain, &bench.path("plain"), 16 * MIB, BackupPlace::Move).expect("written");
    assert_eq!(stick.written().backup, BackupGpt::None);
    let staged = stick.stage_files(&[("/a", b"b")]).expect("staged");
    assert_eq!(staged.place, EspPlace::ElTorito { block: Sample::EFI as u32 });
}

#[test]
fn either_all_is_written_or_nothing() {
    let bench = Bench::new();
    let disk = bench.gpt("disk", 16 * MIB);
    let before = std::fs::read(&disk).expect("read");
    let big = vec![1; 5 << 20];
    let refusals = [
        stage_files(&disk, &[("/fits", b"x"), ("/big", &big)]),
        stage_files(&disk, &[("/fits", b"x"), ("/bad|name", b"x")]),
        stage_files(&disk, &[("/fits", b"x"), ("/EFI", b"x")]),
        stage_files(&disk, &[("/fits", b"x"), ("/empty/below", b"x")]),
    ];
    for refused in refusals {
        assert!(refused.is_err(), "{refused:?}");
        assert!(std::fs::read(&disk).expect("read") == before, "{refused:?}");
    }
    match stage_files(&disk, &[("/big", &big)]) {
        Err(MediaError::Full { needed, free }) => {
            assert!(needed >= 5 * MIB && free > 3 * MIB && free < 5 * MIB);
        }
        other => panic!("{other:?}"),
    }
    // A damaged file system is left alone.
    poke(&disk, MIB + 512, &[0xff; 64]);
    assert!(stage_files(&disk, &[("/fits", b"x")]).is_err());
}

#[test]
fn an_appended_partition_lies_behind_everything_in_zeros() {
    let bench = Bench::new();
    let disk = bench.gpt("disk", 16 * MIB);
    let staged = append_esp(&disk, 3 * MIB - 1, "MORE", &[("/file", b"content")]).expect("appended");
    assert_eq!(staged.place, EspPlace::Partition { number: 3, table: Scheme::Gpt });
    assert_eq!((staged.start, staged.bytes), (6 * MIB, 3 * MIB));
    let opened = Disk::open(&disk).expect("it opens");
    assert_eq!(opened.table().problems, []);
    let part = opened.labelled("MORE").expect("by its label");
    assert_eq!(opened.tree(part).expect("a tree").read("/file", 99).expect("read"), b"content");
    // Files go to the first one still; it is the one with the boot loader.
    let first = stage_files(&disk, &[("/file", b"content")]).expect("staged");
    assert_eq!(first.start, MIB);
    let again = append_esp(&disk, 2 * MIB, "MORE", &[]).expect("appended");
    assert_eq!(again.start, 9 * MIB);
    let refused = append_esp(&disk, 8 * MIB, "MORE", &[]);
    assert!(
        matches!(&refused, Err(MediaError::NoRoom { why }) if why.contains("the last that may be used")),
        "{refused:?}"
    );
    poke(&disk, 12 * MIB + 5, &[1]);
    let before = std::fs::read(&disk).expect("read");
    let refused = append_esp(&disk, 2 * MIB, "MORE", &[]);
    assert!(
        matches!(&refused, Err(MediaError::NoRoom { why }) if why.contains("byte 12582917")),
        "{refused:?}"
    );
    assert!(std::fs::read(&disk).expect("read") == before);
    assert!(matches!(
        append_esp(&disk, 2 * MIB, "TOO LONG A LABEL", &[]),
        Err(MediaError::BadName { .. } | MediaError::NoRoom { .. })
    ));
}

#[test]
fn an_mbr_has_four_entries_and_no_table_has_none() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 32 * MIB);
    let none = append_esp(&disk, 2 * MIB, "ESP", &[]);
    assert!(matches!(none, Err(MediaError::NoRoom { .. })));
    let mut sector = peek(&disk, 0, 512);
    let slot = crate::table::MbrSlot { active: true, kind: 0x83, start: 2048, count: 2048 };
    crate::table::write_slot(&mut sector, 0, slot);
    poke(&disk, 0, &sector);
    for number in 2..=4 {
        let staged = append_esp(&disk, 2 * MIB, "ESP", &[("/number", &[number])]).expect("appended");
        assert_eq!(staged.place, EspPlace::Partition { number: u32::from(number), table: Scheme::Mbr });
    }
    let full = append_esp(&disk, 2 * MIB, "ESP", &[]);
    assert!(matches!(&full, Err(MediaError::NoRoom { why }) if why.contains("all four")), "{full:?}");
    assert_eq!(Disk::open(&disk).expect("it opens").table().problems, []);
}

#[test]
fn sectors_of_4096_bytes_are_kept() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 64 * MIB);
    crate::table::write_gpt(&open(&disk), crate::Sector::B4096, uuid::Uuid::from_u128(2), &[])
        .expect("written");
    let staged = append_esp(&disk, 20 * MIB, "LARGE", &[("/a/b", b"c")]).expect("appended");
    assert_eq!(staged.start % 4096, 0);
    let opened = Disk::open(&disk).expect("it opens");
    assert_eq!((opened.table().sector, opened.table().problems.len()), (crate::Sector::B4096, 0));
    let boot = peek(&disk, staged.start, 512);
    assert_eq!(u16::from_le_bytes([boot[11], boot[12]]), 4096);
    assert_eq!(opened.tree(&opened.partitions()[0]).expect("a tree").read("/a/b", 9).expect("read"), b"c");
}

#[test]
fn staging_onto_damaged_images_never_panics() {
    let bench = Bench::new();
    let disk = bench.gpt("disk", 9 * MIB);
    let whole = std::fs::read(&disk).expect("read");
    in_many_ways(&disk, 80, |path| {
        drop(stage_files(path, &[("/folder/file", &[1; 5000])]));
        drop(append_esp(path, 2 * MIB, "MORE", &[("/file", b"x")]));
        // What was staged is not to be damaged in the next round.
        std::fs::write(path, &whole).expect("restored");
    });
}
