//! Tables that sgdisk and sfdisk made, and what they say of those written here.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use assay_media::{EntryKind, Scheme, Sector, SliceReader, TYPE_ESP, Table, TableProblem};
use assay_process::Cmd;

use crate::tools::{Bench, GIB, MIB, blkid, output, run, text};

fn detect(path: &std::path::Path) -> Table {
    Table::detect(&SliceReader::open(path).expect("it opens")).expect("read")
}

#[test]
fn sgdisks_table_is_read_as_sgdisk_prints_it() {
    let bench = Bench::new();
    let disk = bench.blank("disk", GIB);
    let args = [
        "-n",
        "1:2048:+64M",
        "-t",
        "1:ef00",
        "-c",
        "1:EFI süd",
        "-n",
        "5:0:+100M",
        "-t",
        "5:8300",
        "-A",
        "5:set:2",
    ];
    run("sgdisk", &[&args[..], &["-n", "9:0:0", "-t", "9:8e00", text(&disk)]].concat());
    let table = detect(&disk);
    assert_eq!(
        (table.scheme, table.sector, table.problems.len()),
        (Scheme::Gpt, Sector::B512, 0),
        "{table:#?}"
    );
    assert_eq!(table.identity(), blkid(&disk, "PTUUID"));
    let found: Vec<_> =
        table.partitions().iter().map(|entry| (entry.number, entry.kind.name(), entry.size)).collect();
    assert_eq!(found[0], (1, "EFI system partition", 64 * MIB));
    assert_eq!(found[1], (5, "Linux file system", 100 * MIB));
    assert_eq!((found[2].0, found[2].1), (9, "Linux LVM"));
    let entries = table.partitions();
    assert_eq!(entries[0].label.as_deref(), Some("EFI süd"));
    assert_eq!(entries[0].kind, EntryKind::Gpt(TYPE_ESP));
    assert_eq!(entries[1].attributes, 4);
    let said = run("sgdisk", &["-i", "5", text(&disk)]);
    let guid = entries[1].guid.expect("a GUID").to_string().to_uppercase();
    assert!(said.contains(&guid), "{said}");
}

#[test]
fn damage_is_told_as_sgdisk_tells_it() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 64 * MIB);
    run("sgdisk", &["-n", "1:2048:+8M", text(&disk)]);
    let file = File::options().read(true).write(true).open(&disk).expect("it opens");
    let last = 64 * MIB / 512 - 1;
    let mut first = vec![0; 34 * 512];
    file.read_exact_at(&mut first, 0).expect("read");
    let spoil = |at: u64| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("read");
        file.write_all_at(&[byte[0] ^ 1], at).expect("written");
    };
    // One byte of the first entry: the array's checksum.
    spoil(1024 + 56);
    let table = detect(&disk);
    assert_eq!(table.partitions().len(), 1, "the backup serves");
    assert!(
        matches!(&table.problems[..], [TableProblem::PrimaryDamaged { why }] if why.contains("entries")),
        "{table:?}"
    );
    spoil(1024 + 56);
    spoil(last * 512 + 60);
    let table = detect(&disk);
    assert!(
        matches!(&table.problems[..], [TableProblem::BackupDamaged { why }] if why.contains("header")),
        "{table:?}"
    );
    let said = output(&Cmd::new("sgdisk").args(["-v", text(&disk)]));
    assert!(said.stdout_text().contains("corrupt GPT"), "{}", said.stdout_text());
    spoil(last * 512 + 60);
    assert_eq!(detect(&disk).problems, []);
    file.write_all_at(&[0; 512], last * 512).expect("written");
    assert_eq!(detect(&disk).problems, [TableProblem::BackupMissing]);
    spoil(512 + 60);
    let table = detect(&disk);
    assert!(matches!(&table.problems[..], [TableProblem::BothDamaged { .. }]), "{table:?}");
    assert_eq!((table.scheme, table.partitions().len()), (Scheme::ProtectiveOnly, 0));
    // Only the protective MBR is left.
    file.write_all_at(&vec![0; 33 * 512], 512).expect("written");
    let table = detect(&disk);
    assert_eq!((table.scheme, table.gpt.is_none()), (Scheme::ProtectiveOnly, true));
    // Grown: the backup is where the disk once ended.
    file.write_all_at(&first, 0).expect("written");
    run("sgdisk", &["-e", text(&disk)]);
    file.set_len(128 * MIB).expect("grown");
    let found = TableProblem::BackupNotAtEnd { found: last, last: 128 * MIB / 512 - 1 };
    assert_eq!(detect(&disk).problems, [found]);
}

#[test]
fn sfdisks_logical_partitions_and_4096_byte_sectors() {
    let bench = Bench::new();
    let disk = bench.blank("disk", GIB);
    let script = "label: dos\nlabel-id: 0x5eed1234\nsize=100M, type=83, bootable\nsize=50M, type=82\ntype=5\nsize=64M\nsize=32M, type=8e\ntype=fd\n";
    let made = output(&Cmd::new("sfdisk").args(["-q", text(&disk)]).stdin(script));
    assert!(made.success(), "{}", made.last_words());
    let table = detect(&disk);
    assert_eq!((table.scheme, table.problems.len()), (Scheme::Mbr, 0), "{table:#?}");
    assert_eq!(table.identity(), blkid(&disk, "PTUUID"));
    let dump = run("sfdisk", &["-d", text(&disk)]);
    for entry in table.partitions() {
        let line =
            format!("disk{} : start={:>12}, size={:>12}", entry.number, entry.start / 512, entry.size / 512);
        assert!(dump.contains(&line), "{line}\n{dump}");
    }
    let numbers: Vec<_> = table.partitions().iter().map(|entry| (entry.number, entry.kind.name())).collect();
    assert_eq!(
        numbers,
        [(1, "Linux"), (2, "Linux swap"), (5, "Linux"), (6, "Linux LVM"), (7, "Linux RAID autodetect")]
    );

    let large = bench.blank("large", GIB);
    let script = "label: gpt\nsize=64M, type=U\ntype=L, name=root\n";
    let made = output(&Cmd::new("sfdisk").args(["-q", "--sector-size", "4096", text(&large)]).stdin(script));
    if made.success() {
        let table = detect(&large);
        assert_eq!((table.scheme, table.sector), (Scheme::Gpt, Sector::B4096), "{table:#?}");
        assert_eq!(table.partitions()[0].size, 64 * MIB);
    } else {
        // util-linux before 2.39 has no such option; the unit tests have such a table of their own.
        assert!(made.stderr_text().contains("sector-size"), "{}", made.last_words());
    }
}
