//! Occupied disks, in the eyes of the tools whose formats they have.

use assay_media::occupy::{Occupant, occupy, prior_install};
use assay_media::{Content, Disk, Kind, MediaError};
use assay_process::Cmd;

use crate::tools::{Bench, GIB, MIB, blkid, output, run, text, wipefs};

#[test]
fn wipefs_and_blkid_know_every_occupant() {
    let bench = Bench::new();
    for occupant in Occupant::ALL {
        for bytes in [occupant.smallest(), 3 * GIB] {
            let disk = bench.blank("disk", bytes);
            let occupied = occupy(&disk, occupant).unwrap_or_else(|error| panic!("{occupant:?}: {error}"));
            assert_eq!(std::fs::metadata(&disk).expect("there").len(), bytes, "{occupant:?}");
            let expected: &[&str] = match occupant {
                Occupant::Ext4 => &["ext4"],
                Occupant::Xfs => &["xfs"],
                Occupant::Btrfs => &["btrfs"],
                Occupant::Vfat => &["vfat"],
                // Its boot sector looks like a partition table as well.
                Occupant::Ntfs => &["dos", "ntfs"],
                Occupant::LvmPv => &["LVM2_member"],
                Occupant::MdMember => &["linux_raid_member"],
                Occupant::Luks => &["crypto_LUKS"],
                Occupant::Zfs => &["zfs_member"],
                Occupant::CephBluestore => &["ceph_bluestore"],
                Occupant::Swap => &["swap"],
                Occupant::GptOnly | Occupant::PriorInstall => &["PMBR", "gpt"],
                Occupant::MbrOnly => &["dos"],
                Occupant::RawData => &[],
            };
            assert_eq!(wipefs(&disk), expected, "{occupant:?}");
            let found = occupied.content.found();
            match occupant {
                Occupant::RawData => assert!(matches!(occupied.content, Content::Unexplained { .. })),
                Occupant::GptOnly | Occupant::PriorInstall | Occupant::MbrOnly => {
                    assert!(blkid(&disk, "PTTYPE").is_some(), "{occupant:?}");
                }
                _ => {
                    let kind =
                        blkid(&disk, "TYPE").unwrap_or_else(|| panic!("{occupant:?}: blkid is silent"));
                    assert_eq!(found[0].kind.blkid(), Some(kind.as_str()), "{occupant:?}");
                    // libblkid does not read the identity of an OSD.
                    if occupant != Occupant::CephBluestore {
                        assert_eq!(found[0].uuid, blkid(&disk, "UUID"), "{occupant:?}");
                    }
                    assert_eq!(found[0].label, blkid(&disk, "LABEL"), "{occupant:?}");
                    assert!(found[0].uuid.is_some(), "{occupant:?}");
                }
            }
            assert!(occupied.payload.survives(&disk).expect("read"));
            // One byte of it changed is one byte lost.
            let file = std::fs::File::options().read(true).write(true).open(&disk).expect("it opens");
            let at = occupied.payload.offset + 4321;
            let mut byte = [0];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, at).expect("read");
            std::os::unix::fs::FileExt::write_all_at(&file, &[byte[0] ^ 1], at).expect("written");
            assert!(!occupied.payload.survives(&disk).expect("read"), "{occupant:?}");
        }
    }
}

#[test]
fn the_formats_own_tools_accept_their_headers() {
    let bench = Bench::new();
    let said = |occupant: Occupant, program: &str, args: &[&str], wanted: &[&str]| {
        let disk = bench.blank("disk", 256 * MIB);
        occupy(&disk, occupant).expect("occupied");
        let output = output(&Cmd::new(program).args(args.iter().copied()).arg(&disk));
        let all = format!("{}{}", output.stdout_text(), output.stderr_text());
        assert!(output.success(), "{program}: {all}");
        for wanted in wanted {
            assert!(all.contains(wanted), "{program}: {wanted} in {all}");
        }
    };
    said(Occupant::Ext4, "e2fsck", &["-f", "-n"], &["data: 12/", "Pass 5"]);
    said(Occupant::Vfat, "fsck.vfat", &["-n"], &["2 files"]);
    said(
        Occupant::Luks,
        "cryptsetup",
        &["luksDump"],
        &["Version:       \t2", "Label:         \tdata", "aes-xts-plain64"],
    );
    said(Occupant::MdMember, "mdadm", &["--examine"], &["Version : 1.2", "Raid Level : raid1", "- correct"]);
    said(Occupant::Btrfs, "btrfs", &["inspect-internal", "dump-super"], &["[match]", "label\t\t\tdata"]);
    said(
        Occupant::LvmPv,
        "pvck",
        &["--dump", "headers", "--config", "devices{use_devicesfile=0}"],
        &["mda_header_1", "LVM2 001"],
    );
    said(Occupant::Swap, "swaplabel", &[], &["LABEL: data"]);
    said(Occupant::GptOnly, "sgdisk", &["--verify"], &["No problems found"]);
    said(Occupant::PriorInstall, "sgdisk", &["--verify"], &["No problems found"]);
    said(
        Occupant::Xfs,
        "xfs_db",
        &["-r", "-c", "version", "-c", "sb 0", "-c", "p crc fname agcount", "-f"],
        &["(correct)", "data"],
    );
}

#[test]
fn a_whole_ext4_of_several_groups_is_sound_and_readable() {
    let bench = Bench::new();
    // One group, several, a last group that is too small to be one, and more descriptors than one block has.
    for bytes in [16 * MIB, 128 * MIB, 128 * MIB + 4096 * 30, 600 * MIB, 40 * GIB] {
        let disk = bench.blank("disk", bytes);
        occupy(&disk, Occupant::Ext4).expect("occupied");
        let checked = output(&Cmd::new("e2fsck").args(["-f", "-n", text(&disk)]));
        assert!(checked.success(), "{bytes}: {}{}", checked.stdout_text(), checked.last_words());
        let there = bench.path("there");
        run("debugfs", &["-R", &format!("dump /data {}", text(&there)), text(&disk)]);
        let ours = Disk::open(&disk)
            .expect("it opens")
            .whole_tree()
            .expect("a tree")
            .read("/data", MIB)
            .expect("read");
        assert_eq!(std::fs::read(&there).expect("read"), ours);
    }
}

#[test]
fn a_prior_install_is_what_an_installer_would_find() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 2 * GIB);
    let occupied = prior_install(&disk, "node-123abc", &[("/etc/zeta/cluster-node-id", b"node-123abc\n")])
        .expect("occupied");
    let opened = Disk::open(&disk).expect("it opens");
    let labels: Vec<_> = opened
        .partitions()
        .iter()
        .map(|partition| {
            let found = &partition.content.as_ref().expect("on the disk").found()[0];
            (partition.entry.kind.name(), found.kind, found.label.clone().expect("a label"))
        })
        .collect();
    assert_eq!(
        labels,
        [
            ("EFI system partition", Kind::Vfat, "boot".to_owned()),
            ("Linux file system", Kind::Ext4, "nixos".to_owned()),
            ("Linux file system", Kind::Ext4, "longhorn1".to_owned()),
        ]
    );
    let root = opened.tree(opened.labelled("nixos").expect("there")).expect("a tree");
    for path in ["/etc/hostname", "/etc/cluster-node-id", "/etc/zeta/cluster-node-id"] {
        assert_eq!(root.read(path, 99).expect("read"), b"node-123abc\n", "{path}");
    }
    for (number, program) in [(0, "fsck.vfat"), (1, "e2fsck"), (2, "e2fsck")] {
        let part = opened.part(&opened.partitions()[number]).expect("on the disk");
        let copy = bench.blank("part", part.length());
        let args = [
            format!("if={}", text(&disk)),
            format!("of={}", text(&copy)),
            "bs=1M".to_owned(),
            format!("skip={}", part.start() / MIB),
            format!("count={}", part.length() / MIB),
            "conv=sparse".to_owned(),
            "status=none".to_owned(),
        ];
        run("dd", &args.each_ref().map(String::as_str));
        let options: &[&str] = if program == "e2fsck" { &["-f", "-n"] } else { &["-n"] };
        run(program, &[options, &[text(&copy)]].concat());
    }
    assert!(occupied.payload.survives(&disk).expect("read"));
}

#[test]
fn nothing_is_overwritten_and_the_same_is_made_twice() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 64 * MIB);
    occupy(&disk, Occupant::Xfs).expect("occupied");
    let before = std::fs::read(&disk).expect("read");
    let again = occupy(&disk, Occupant::Btrfs);
    assert!(
        matches!(&again, Err(MediaError::Unsupported { why, .. }) if why.contains("byte 0 is not zero")),
        "{again:?}"
    );
    assert_eq!(std::fs::read(&disk).expect("read"), before);
    let other = bench.blank("other", 64 * MIB);
    occupy(&other, Occupant::Xfs).expect("occupied");
    assert_eq!(std::fs::read(&other).expect("read"), before);
    let small = bench.blank("small", 8 * MIB);
    assert!(matches!(occupy(&small, Occupant::Ext4), Err(MediaError::TooSmall { .. })));
}
