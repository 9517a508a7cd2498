use uuid::Uuid;

use super::{Content, Kind, probe};
use crate::SliceReader;
use crate::occupy::{Occupant, occupy};
use crate::samples::{Bench, MIB, in_many_ways, open, poke};

fn content(path: &std::path::Path) -> Content {
    probe(&SliceReader::open(path).expect("it opens")).expect("read")
}

#[test]
fn blank_is_proven_and_one_byte_is_found_anywhere() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 256 * MIB);
    assert_eq!(content(&disk), Content::Blank { bytes: 256 * MIB, read: 0 }, "all of it is a hole");
    poke(&disk, 100 * MIB, &vec![0; 3 * MIB as usize]);
    match content(&disk) {
        Content::Blank { read, .. } => assert!(read >= 3 * MIB, "written zeros are read: {read}"),
        other => panic!("{other:?}"),
    }
    for at in [0, 511, 1 << 20, 200 * MIB + 77, 256 * MIB - 1] {
        let disk = bench.blank("disk", 256 * MIB);
        poke(&disk, at, &[1]);
        assert!(matches!(content(&disk), Content::Unexplained { first, .. } if first == at), "{at}");
    }
    assert!(content(&bench.blank("empty", 0)).is_blank());
}

#[test]
fn what_no_tool_here_can_make_is_known_by_its_mark() {
    let bench = Bench::new();
    let bcachefs =
        [0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef];
    let cases: [(Kind, u64, &[u8]); 5] = [
        (Kind::Vmfs, 2 * MIB, &[0x5e, 0xf1, 0xab, 0x2f]),
        (Kind::VmfsVolume, MIB, &[0x0d, 0xd0, 0x01, 0xc0]),
        (Kind::Bcachefs, 0x1018, &bcachefs),
        (Kind::Hibernation, 4086, b"S1SUSPEND\0"),
        (Kind::BitLocker, 3, b"-FVE-FS-"),
    ];
    for (kind, at, magic) in cases {
        let disk = bench.blank("disk", 16 * MIB);
        poke(&disk, at, magic);
        let content = content(&disk);
        assert_eq!(content.found().iter().map(|found| found.kind).collect::<Vec<_>>(), [kind]);
        assert!(content.to_string().contains(kind.name()));
        // Half a mark is none.
        poke(&disk, at, &[0]);
        assert!(matches!(self::content(&disk), Content::Unexplained { .. }), "{kind:?}");
    }
}

#[test]
fn two_bytes_alone_are_no_ext_file_system() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 16 * MIB);
    poke(&disk, 1024 + 56, &[0x53, 0xef]);
    assert!(matches!(content(&disk), Content::Unexplained { .. }));
}

#[test]
fn several_things_at_once_are_all_named() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 64 * MIB);
    occupy(&disk, Occupant::MdMember).expect("occupied");
    // An old file system's mark that nobody wiped, and a table.
    poke(&disk, 64 * 1024 + 64, b"_BHRfS_M");
    crate::table::write_gpt(
        &open(&disk).slice(0, 64 * MIB).expect("all"),
        crate::Sector::B512,
        Uuid::nil(),
        &[],
    )
    .expect("written");
    let content = content(&disk);
    for kind in [Kind::Btrfs, Kind::Gpt, Kind::GptBackup, Kind::ProtectiveMbr] {
        assert!(content.of_kind(kind).is_some(), "{kind:?} in {content}");
    }
}

#[test]
fn damaged_disks_never_panic() {
    let bench = Bench::new();
    for occupant in Occupant::ALL {
        let disk = bench.blank("disk", occupant.smallest());
        occupy(&disk, occupant).expect("occupied");
        in_many_ways(&disk, 150, |path| drop(content(path)));
    }
}
