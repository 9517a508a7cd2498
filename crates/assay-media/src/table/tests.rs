use uuid::Uuid;

use super::{
    EntryKind, HeaderState, Layout, MbrSlot, NewPartition, Scheme, Sector, TYPE_ESP, TYPE_LINUX, Table,
    TableProblem, write_gpt, write_slot,
};
use crate::SliceReader;
use crate::bytes::put;
use crate::samples::{Bench, MIB, flip, in_many_ways, open, peek, poke};

fn read(path: &std::path::Path) -> Table {
    Table::detect(&SliceReader::open(path).expect("it opens")).expect("read")
}

#[test]
fn what_is_written_is_what_is_read_in_both_sector_sizes() {
    let bench = Bench::new();
    for sector in [Sector::B512, Sector::B4096] {
        let disk = bench.blank("disk", 64 * MIB);
        let unit = sector.bytes();
        let partition = NewPartition {
            kind: TYPE_LINUX,
            guid: Uuid::from_u128(5),
            label: "Wörk".to_owned(),
            first: MIB / unit,
            last: 2 * MIB / unit - 1,
        };
        write_gpt(&open(&disk), sector, Uuid::from_u128(9), &[partition]).expect("written");
        let table = read(&disk);
        assert_eq!((table.scheme, table.sector, table.problems.as_slice()), (Scheme::Gpt, sector, &[][..]));
        assert_eq!(table.identity().as_deref(), Some("00000000-0000-0000-0000-000000000009"));
        let entry = table.partitions()[0];
        assert_eq!((entry.number, entry.start, entry.size), (1, MIB, MIB));
        assert_eq!((entry.kind, entry.label.as_deref()), (EntryKind::Gpt(TYPE_LINUX), Some("Wörk")));
        assert_eq!(entry.kind.name(), "Linux file system");
        let gpt = table.gpt.as_ref().expect("a GPT");
        assert_eq!(gpt.backup, HeaderState::Sound { sector: 64 * MIB / unit - 1 });
    }
}

#[test]
fn each_damage_has_its_own_name_and_the_backup_serves() {
    let bench = Bench::new();
    let disk = bench.gpt("disk", 32 * MIB);
    let last = 32 * MIB / 512 - 1;
    // What to spoil, and what is said then.
    let named = |at: u64| {
        flip(&disk, at);
        let table = read(&disk);
        flip(&disk, at);
        (table.partitions().len(), table.problems)
    };
    let (count, problems) = named(512 + 40);
    assert!(
        matches!(&problems[..], [TableProblem::PrimaryDamaged { why }] if why == "the header's checksum does not fit")
    );
    assert_eq!(count, 2, "from the backup");
    let (count, problems) = named(1024 + 10);
    assert!(
        matches!(&problems[..], [TableProblem::PrimaryDamaged { why }] if why.contains("over the entries"))
    );
    assert_eq!(count, 2);
    assert_eq!(named(512), (2, vec![TableProblem::PrimaryMissing]), "the mark itself");
    let (_, problems) = named(last * 512 + 40);
    assert!(matches!(&problems[..], [TableProblem::BackupDamaged { .. }]), "{problems:?}");
    assert_eq!(named(last * 512), (2, vec![TableProblem::BackupMissing]));
    assert_eq!(named(510), (2, vec![TableProblem::NotAnnounced]), "the protective MBR is none");
    assert_eq!(read(&disk).problems, []);
}

#[test]
fn a_header_that_lies_is_not_believed_even_with_its_checksum() {
    let bench = Bench::new();
    let disk = bench.gpt("disk", 32 * MIB);
    let lie = |at: usize, value: &[u8]| {
        let mut header = peek(&disk, 512, 512);
        let kept = header.clone();
        put(&mut header, at, value);
        put(&mut header, 16, &[0; 4]);
        let crc = crc32fast::hash(&header[..92]);
        put(&mut header, 16, &crc.to_le_bytes());
        poke(&disk, 512, &header);
        let table = read(&disk);
        poke(&disk, 512, &kept);
        match &table.problems[..] {
            [TableProblem::PrimaryDamaged { why }, ..] => why.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(lie(80, &u32::MAX.to_le_bytes()), "the header says 4294967295 entries of 128 bytes");
    assert_eq!(lie(84, &u32::MAX.to_le_bytes()), "the header says 128 entries of 4294967295 bytes");
    assert_eq!(lie(84, &0_u32.to_le_bytes()), "the header says 128 entries of 0 bytes");
    assert_eq!(lie(24, &5_u64.to_le_bytes()), "the header stands in sector 1 and says 5");
    assert!(lie(72, &u64::MAX.to_le_bytes()).contains("behind the disk's end"));
    assert!(lie(72, &(1_u64 << 50).to_le_bytes()).contains("behind the disk's end"));
}

#[test]
fn a_disk_that_grew_has_its_backup_moved() {
    let bench = Bench::new();
    let disk = bench.gpt("disk", 32 * MIB);
    std::fs::File::options().write(true).open(&disk).expect("it opens").set_len(48 * MIB).expect("grown");
    let (found, last) = (32 * MIB / 512 - 1, 48 * MIB / 512 - 1);
    assert_eq!(read(&disk).problems, [TableProblem::BackupNotAtEnd { found, last }]);
    let file = open(&disk);
    let mut layout = Layout::of(&file, Sector::B512).expect("sound");
    assert!(!layout.reaches_the_end());
    layout.reach_to_the_end();
    for (at, bytes) in layout.pieces() {
        file.write_all_at(&bytes, at).expect("written");
    }
    let table = read(&disk);
    assert_eq!((table.problems.as_slice(), table.partitions().len()), (&[][..], 2));
    assert_eq!(table.gpt.expect("a GPT").last_usable, last - 33);
}

#[test]
fn overlapping_reaching_out_and_upside_down() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 32 * MIB);
    let part = |first: u64, last: u64| NewPartition {
        kind: TYPE_ESP,
        guid: Uuid::from_u128(u128::from(first)),
        label: String::new(),
        first,
        last,
    };
    let parts = [part(2048, 8191), part(4096, 5000), part(60_000, 70_000), part(9000, 8000)];
    write_gpt(&open(&disk), Sector::B512, Uuid::nil(), &parts).expect("written");
    let table = read(&disk);
    let beyond = 70_001 * 512 - 32 * MIB;
    assert_eq!(
        table.problems,
        [
            TableProblem::Inverted { number: 4 },
            TableProblem::BeyondEnd { number: 3, beyond },
            TableProblem::Overlap { first: 1, second: 2 },
        ]
    );
    assert_eq!(table.partitions()[0].label, None);
}

fn mbr(slots: &[(usize, u8, u32, u32)]) -> Vec<u8> {
    let mut sector = vec![0; 512];
    put(&mut sector, 440, &0x5eed_1234_u32.to_le_bytes());
    put(&mut sector, 510, &[0x55, 0xaa]);
    for (slot, kind, start, count) in slots {
        write_slot(
            &mut sector,
            *slot,
            MbrSlot { active: *slot == 0, kind: *kind, start: *start, count: *count },
        );
    }
    sector
}

#[test]
fn a_chain_of_logical_partitions_is_followed_to_its_end_and_not_in_circles() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 32 * MIB);
    poke(&disk, 0, &mbr(&[(0, 0x83, 2048, 2048), (1, 0x05, 8192, 8192)]));
    poke(&disk, 8192 * 512, &mbr(&[(0, 0x82, 63, 1000), (1, 0x05, 2048, 2048)]));
    poke(&disk, (8192 + 2048) * 512, &mbr(&[(0, 0x83, 63, 500)]));
    let table = read(&disk);
    let entries: Vec<_> =
        table.partitions().iter().map(|entry| (entry.number, entry.start / 512, entry.attributes)).collect();
    assert_eq!(entries, [(1, 2048, 1), (5, 8192 + 63, 1), (6, 8192 + 2048 + 63, 1)]);
    assert_eq!((table.problems.len(), table.identity().as_deref()), (0, Some("5eed1234")));
    // The second one leads back to the first.
    poke(&disk, (8192 + 2048) * 512, &mbr(&[(0, 0x83, 63, 500), (1, 0x05, 0, 2048)]));
    let table = read(&disk);
    assert!(
        matches!(&table.problems[..], [TableProblem::BrokenChain { why }] if why.contains("its own successor"))
    );
    assert_eq!(table.partitions().len(), 3);
    // Or to nowhere.
    poke(&disk, (8192 + 2048) * 512, &mbr(&[(1, 0x05, u32::MAX, 2048)]));
    assert!(matches!(&read(&disk).problems[..], [TableProblem::BrokenChain { .. }]));
}

#[test]
fn boot_sectors_of_file_systems_and_noise_are_no_tables() {
    let bench = Bench::new();
    for path in [bench.fat("fat", 4 * MIB), bench.fat("fat", 20 * MIB), bench.blank("blank", MIB)] {
        assert_eq!(read(&path).scheme, Scheme::None);
    }
    let disk = bench.blank("disk", MIB);
    poke(&disk, 0, &[0x7f; 510]);
    poke(&disk, 510, &[0x55, 0xaa]);
    assert_eq!(read(&disk).scheme, Scheme::None, "its flags are none");
    for bytes in [0, 1, 511, 512, 513, 1024, 4096, 8192] {
        assert_eq!(read(&bench.blank("small", bytes)).scheme, Scheme::None, "{bytes}");
    }
    // Announced, and nothing behind it.
    poke(&disk, 0, &mbr(&[(0, 0xee, 1, 2047)]));
    let table = read(&disk);
    assert_eq!((table.scheme, table.partitions().len()), (Scheme::ProtectiveOnly, 0));
}

#[test]
fn a_gpt_that_no_mbr_announces_is_not_in_force_beside_an_mbr() {
    let bench = Bench::new();
    let disk = bench.gpt("disk", 32 * MIB);
    // What many installers' ISOs have: an MBR of their own over a GPT.
    poke(&disk, 0, &mbr(&[(0, 0, 0, 60_000), (1, 0xef, 2048, 8192)]));
    let table = read(&disk);
    assert_eq!(table.scheme, Scheme::Mbr);
    assert!(table.problems.contains(&TableProblem::NotAnnounced));
    assert_eq!(table.gpt.as_ref().expect("a GPT").partitions.len(), 2);
    assert!(table.partitions()[1].is_esp());
}

#[test]
fn damaged_tables_never_panic() {
    let bench = Bench::new();
    let gpt = bench.gpt("gpt", 16 * MIB);
    in_many_ways(&gpt, 3000, |path| drop(read(path)));
    let chained = bench.blank("mbr", 16 * MIB);
    poke(&chained, 0, &mbr(&[(0, 0x83, 2048, 2048), (1, 0x05, 8192, 8192)]));
    poke(&chained, 8192 * 512, &mbr(&[(0, 0x82, 63, 1000), (1, 0x05, 2048, 2048)]));
    in_many_ways(&chained, 3000, |path| drop(read(path)));
}
