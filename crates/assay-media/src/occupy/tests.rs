use super::{Occupant, Payload, SMALLEST, occupy, prior_install};
use crate::samples::{Bench, MIB, flip, poke};
use crate::{Content, Disk, Kind, MediaError};

#[test]
fn every_occupant_is_recognised_and_its_payload_is_in_one_piece() {
    let bench = Bench::new();
    for occupant in Occupant::ALL {
        let disk = bench.blank("disk", occupant.smallest());
        let occupied = occupy(&disk, occupant).unwrap_or_else(|error| panic!("{occupant:?}: {error}"));
        let kinds: Vec<_> = occupied.content.found().iter().map(|found| found.kind).collect();
        let expected: &[Kind] = match occupant {
            Occupant::Ext4 => &[Kind::Ext4],
            Occupant::Xfs => &[Kind::Xfs],
            Occupant::Btrfs => &[Kind::Btrfs],
            Occupant::Vfat => &[Kind::Vfat],
            Occupant::Ntfs => &[Kind::Ntfs],
            Occupant::LvmPv => &[Kind::LvmPv],
            Occupant::MdMember => &[Kind::MdMember],
            Occupant::Luks => &[Kind::Luks2],
            Occupant::Zfs => &[Kind::ZfsMember],
            Occupant::CephBluestore => &[Kind::CephBluestore],
            Occupant::Swap => &[Kind::Swap],
            Occupant::GptOnly | Occupant::PriorInstall => &[Kind::ProtectiveMbr, Kind::Gpt, Kind::GptBackup],
            Occupant::MbrOnly => &[Kind::Mbr],
            Occupant::RawData => &[],
        };
        assert_eq!(kinds, expected, "{occupant:?}");
        assert!(occupied.payload.survives(&disk).expect("read"), "{occupant:?}");
        flip(&disk, occupied.payload.offset + occupied.payload.bytes - 1);
        assert!(!occupied.payload.survives(&disk).expect("read"), "{occupant:?}");
        let small = bench.blank("small", occupant.smallest() - MIB);
        assert!(matches!(occupy(&small, occupant), Err(MediaError::TooSmall { .. })), "{occupant:?}");
    }
}

#[test]
fn a_disk_that_holds_anything_is_not_touched() {
    let bench = Bench::new();
    let disk = bench.blank("disk", SMALLEST);
    poke(&disk, SMALLEST - 1, &[1]);
    let before = std::fs::read(&disk).expect("read");
    for occupant in Occupant::ALL {
        assert!(matches!(occupy(&disk, occupant), Err(MediaError::Unsupported { .. })), "{occupant:?}");
    }
    assert!(std::fs::read(&disk).expect("read") == before);
}

#[test]
fn a_prior_install_has_its_names_and_files() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 256 * MIB);
    let occupied = prior_install(&disk, "node-00ff11", &[("/etc/machine-id", b"0123\n")]).expect("occupied");
    let opened = Disk::open(&disk).expect("it opens");
    assert_eq!(opened.table().problems, []);
    for label in ["boot", "nixos", "longhorn1"] {
        assert!(opened.labelled(label).is_some(), "{label}");
    }
    let root = opened.tree(opened.labelled("nixos").expect("there")).expect("a tree");
    assert_eq!(root.read("/etc/hostname", 99).expect("read"), b"node-00ff11\n");
    assert_eq!(root.read("/etc/machine-id", 99).expect("read"), b"0123\n");
    let data = opened.labelled("longhorn1").expect("there");
    let node = opened.tree(data).expect("a tree").metadata("/srv/data").expect("there");
    assert_eq!((node.size, node.mode), (occupied.payload.bytes, Some(0o600)));
    let within = data.entry.start..data.entry.end();
    assert!(within.contains(&occupied.payload.offset));
}

#[test]
fn a_payload_of_a_disk_that_is_gone_or_shorter_is_no_survivor() {
    let bench = Bench::new();
    let disk = bench.blank("disk", SMALLEST);
    let occupied = occupy(&disk, Occupant::RawData).expect("occupied");
    assert!(
        matches!(occupied.content, Content::Unexplained { first, .. } if first == occupied.payload.offset)
    );
    assert!(matches!(occupied.payload.survives(&bench.path("nothing")), Err(MediaError::Io { .. })));
    let short = bench.blank("short", MIB);
    assert!(!occupied.payload.survives(&short).expect("read"));
    let told: Payload =
        serde_json::from_value(serde_json::to_value(&occupied.payload).expect("told")).expect("read");
    assert_eq!(told, occupied.payload);
}

#[test]
fn spellings_are_those_of_profiles() {
    let words = Occupant::ALL.map(|occupant| serde_json::to_value(occupant).expect("a word"));
    insta::assert_json_snapshot!(words, @r#"
    [
      "ext4",
      "xfs",
      "btrfs",
      "vfat",
      "ntfs",
      "lvm-pv",
      "md-member",
      "luks",
      "zfs",
      "ceph-bluestore",
      "swap",
      "gpt-only",
      "mbr-only",
      "raw-data",
      "prior-install"
    ]
    "#);
}
