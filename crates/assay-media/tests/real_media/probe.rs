//! What the real tools make is recognised as what `blkid` and `wipefs` recognise, with the same label and identity.

use std::path::Path;

use assay_media::{Content, Kind, SliceReader, probe};
use assay_process::Cmd;

use crate::tools::{Bench, MIB, blkid, output, run, text, wipefs};

fn content(path: &Path) -> Content {
    probe(&SliceReader::open(path).expect("it opens")).expect("read")
}

/// Ours and theirs: the same set of types, and for the one thing that it is the same label and identity.
fn agrees(path: &Path, kind: Kind, label: Option<&str>) {
    let content = content(path);
    let found = content.of_kind(kind).unwrap_or_else(|| panic!("{kind:?} in {content:?}"));
    let mut ours: Vec<_> =
        content.found().iter().filter_map(|found| found.kind.blkid()).map(str::to_owned).collect();
    ours.sort();
    ours.dedup();
    let mut theirs = wipefs(path);
    // libblkid takes the boot sectors of these for partition tables as well.
    theirs.retain(|name| !matches!(kind, Kind::Ntfs | Kind::Exfat) || name != "dos");
    assert_eq!(ours, theirs, "{content:?}");
    assert_eq!(found.label.as_deref(), label, "{content:?}");
    if let Some(label) = blkid(path, "LABEL") {
        assert_eq!(found.label.as_deref(), Some(label.as_str()));
    }
    assert_eq!(found.uuid, blkid(path, "UUID"), "{kind:?}");
}

#[test]
fn file_systems_of_their_own_tools() {
    let bench = Bench::new();
    let cases: [(Kind, Option<&str>, &str, &[&str]); 14] = [
        (Kind::Ext2, Some("home"), "mkfs.ext2", &["-q", "-F", "-L", "home"]),
        (Kind::Ext3, None, "mkfs.ext3", &["-q", "-F"]),
        (Kind::Ext4, Some("root"), "mkfs.ext4", &["-q", "-F", "-L", "root"]),
        (Kind::ExtJournal, None, "mke2fs", &["-q", "-F", "-O", "journal_dev"]),
        (Kind::Xfs, Some("big"), "mkfs.xfs", &["-q", "-f", "-L", "big"]),
        (
            Kind::Btrfs,
            Some("a label that is longer"),
            "mkfs.btrfs",
            &["-q", "-f", "-L", "a label that is longer"],
        ),
        (Kind::Vfat, Some("BOOT"), "mkfs.vfat", &["-F", "32", "-n", "BOOT"]),
        (Kind::Vfat, Some("SIXTEEN"), "mkfs.vfat", &["-F", "16", "-n", "SIXTEEN"]),
        (Kind::Vfat, None, "mkfs.vfat", &["-F", "12", "-S", "4096", "-s", "32"]),
        (Kind::Exfat, Some("Flash süd"), "mkfs.exfat", &["-L", "Flash süd"]),
        (Kind::Ntfs, Some("Wörk"), "mkntfs", &["-q", "-Q", "-F", "-L", "Wörk"]),
        (Kind::Swap, Some("swap0"), "mkswap", &["-q", "-L", "swap0"]),
        (Kind::Luks2, Some("vault"), "cryptsetup", &LUKS2),
        (Kind::Luks1, None, "cryptsetup", &LUKS1),
    ];
    for (kind, label, program, options) in cases {
        let image = bench.blank("image", 400 * MIB);
        let made = output(
            &Cmd::new(program).args(options.iter().copied()).arg(&image).stdin("nobody will open this"),
        );
        assert!(made.success(), "{program}: {}", made.last_words());
        agrees(&image, kind, label);
    }
}

const LUKS1: [&str; 9] = [
    "luksFormat",
    "--batch-mode",
    "--type",
    "luks1",
    "--key-file=-",
    "--pbkdf",
    "pbkdf2",
    "--pbkdf-force-iterations",
    "1000",
];
const LUKS2: [&str; 11] = [
    "luksFormat",
    "--batch-mode",
    "--type",
    "luks2",
    "--key-file=-",
    "--pbkdf",
    "pbkdf2",
    "--pbkdf-force-iterations",
    "1000",
    "--label",
    "vault",
];

#[test]
fn images_and_tables_of_their_own_tools() {
    let bench = Bench::new();
    let tree = bench.path("tree");
    std::fs::create_dir_all(&tree).expect("a folder");
    std::fs::write(tree.join("file"), "data").expect("written");
    let (iso, squash) = (bench.path("image.iso"), bench.path("image.squashfs"));
    run("xorriso", &["-as", "mkisofs", "-quiet", "-R", "-V", "DATA", "-o", text(&iso), text(&tree)]);
    agrees(&iso, Kind::Iso9660, Some("DATA"));
    run("mksquashfs", &[text(&tree), text(&squash), "-quiet", "-no-progress"]);
    agrees(&squash, Kind::Squashfs, None);

    let disk = bench.blank("disk", 64 * MIB);
    run("sgdisk", &["-n", "1:2048:+8M", text(&disk)]);
    let kinds: Vec<_> = content(&disk).found().iter().map(|found| found.kind).collect();
    assert_eq!(
        kinds,
        [Kind::ProtectiveMbr, Kind::Gpt, Kind::GptBackup].map(|kind| kind),
        "in the order of places"
    );
    assert_eq!(wipefs(&disk), ["PMBR", "gpt"]);
    let disk = bench.blank("disk", 64 * MIB);
    let made = output(&Cmd::new("sfdisk").args(["-q", text(&disk)]).stdin("label: dos\nsize=8M\n"));
    assert!(made.success(), "{}", made.last_words());
    let content = content(&disk);
    let found = content.of_kind(Kind::Mbr).expect("a table");
    assert_eq!((found.uuid.clone(), wipefs(&disk)), (blkid(&disk, "PTUUID"), vec!["dos".to_owned()]));
}

#[test]
fn raid_metadata_in_each_of_its_four_places() {
    // mdadm makes arrays of block devices only; these are the bytes that it looks at, and it says what it sees.
    let bench = Bench::new();
    for (version, at) in [("1.0", 64 * MIB - 8192), ("1.1", 0), ("1.2", 4096)] {
        let disk = bench.blank("disk", 64 * MIB);
        let file = std::fs::File::options().write(true).open(&disk).expect("it opens");
        std::os::unix::fs::FileExt::write_all_at(&file, &superblock(at, 64 * MIB), at).expect("written");
        agrees(&disk, Kind::MdMember, Some("lab:0"));
        let said = run("mdadm", &["--examine", text(&disk)]);
        assert!(said.contains(&format!("Version : {version}")), "{said}");
        // The same bytes in another place are none: they say where they stand.
        let other = bench.blank("other", 64 * MIB);
        let file = std::fs::File::options().write(true).open(&other).expect("it opens");
        std::os::unix::fs::FileExt::write_all_at(&file, &superblock(at, 64 * MIB), at ^ 4096)
            .expect("written");
        assert!(matches!(content(&other), Content::Unexplained { .. }), "{version}");
    }
    let disk = bench.blank("disk", 64 * MIB);
    let file = std::fs::File::options().write(true).open(&disk).expect("it opens");
    let mut old = vec![0; 4096];
    for (word, value) in [
        (0, 0xa92b_4efc_u32),
        (2, 90),
        (5, 0x1111_2222),
        (13, 0x3333_4444),
        (14, 0x5555_6666),
        (15, 0x7777_8888),
    ] {
        old[word * 4..word * 4 + 4].copy_from_slice(&value.to_le_bytes());
    }
    std::os::unix::fs::FileExt::write_all_at(&file, &old, 64 * MIB - 65536).expect("written");
    agrees(&disk, Kind::MdMember, None);
}

/// `struct mdp_superblock_1` with its checksum.
fn superblock(at: u64, size: u64) -> Vec<u8> {
    let mut raw = vec![0; 260];
    let mut put = |at: usize, bytes: &[u8]| raw[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &0xa92b_4efc_u32.to_le_bytes());
    put(4, &1_u32.to_le_bytes());
    put(16, b"an array of test");
    put(32, b"lab:0");
    put(72, &1_u32.to_le_bytes());
    put(80, &(size / 512 - 4096).to_le_bytes());
    put(92, &2_u32.to_le_bytes());
    put(128, &if at == 64 * MIB - 8192 { 0_u64 } else { 2048 }.to_le_bytes());
    put(136, &(size / 512 - 4096).to_le_bytes());
    put(144, &(at / 512).to_le_bytes());
    put(168, b"a member of test");
    put(220, &2_u32.to_le_bytes());
    put(258, &1_u16.to_le_bytes());
    let sum: u64 =
        raw.chunks_exact(4).map(|word| u64::from(u32::from_le_bytes(word.try_into().expect("four")))).sum();
    raw[216..220].copy_from_slice(&(((sum & 0xffff_ffff) + (sum >> 32)) as u32).to_le_bytes());
    raw
}
