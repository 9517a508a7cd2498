//! Each format by its documented magic, on an otherwise empty disk; and what must not be mistaken for one.

use super::*;

const SIZE: usize = 8 << 20;

/// A disk of 8 MiB that is empty but for these.
fn disk(parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut disk = vec![0; SIZE];
    for (offset, bytes) in parts {
        disk[*offset..offset + bytes.len()].copy_from_slice(bytes);
    }
    disk
}

fn found(disk: &[u8]) -> Vec<String> {
    // As if only the first and last 4 MiB had been read.
    let half = disk.len() / 2;
    let ends = Ends { head: &disk[..half], tail: &disk[half..], size: disk.len() as u64 };
    find(&ends).into_iter().map(|signature| signature.what).collect()
}

#[test]
fn an_empty_disk_has_no_signature() {
    assert!(found(&disk(&[])).is_empty());
    assert!(found(&vec![0xff; SIZE]).is_empty());
    assert!(found(&[]).is_empty());
    assert!(found(&[0; 512]).is_empty());
}

#[test]
fn each_fixed_magic_is_found_where_it_stands() {
    for &(what, offset, magic, _) in FIXED {
        let disk = disk(&[(offset as usize, magic)]);
        assert!(found(&disk).iter().any(|seen| seen == what), "{what}");
    }
}

#[test]
fn formats_at_the_end_or_in_several_places() {
    let md = 0xa92b_4efc_u32.to_le_bytes();
    let uberblock = 0x00ba_b10c_u64.to_le_bytes();
    let (kib, end) = (1024, SIZE);
    let cases: [(&str, usize, &[u8]); 17] = [
        ("Linux RAID (md) member, metadata 0.90", end - 64 * kib, &md),
        ("Linux RAID (md) member, metadata 1.0", end - 8 * kib, &md),
        ("Linux RAID (md) member, metadata 1.1", 0, &md),
        ("Linux RAID (md) member, metadata 1.2", 4096, &md),
        ("ZFS pool member", 128 * kib, &uberblock),
        ("ZFS pool member", 256 * kib + 128 * kib + 5 * kib, &uberblock),
        ("ZFS pool member", end - 512 * kib + 128 * kib, &uberblock),
        ("ZFS pool member", end - 256 * kib + 200 * kib, &uberblock),
        ("ZFS pool member", end - 256 * kib + 16 * kib + 300, b"pool_guid"),
        ("swap space", 4086, b"SWAPSPACE2"),
        ("swap space", 64 * kib - 10, b"SWAPSPACE2"),
        ("LUKS1 container", 0, b"LUKS\xba\xbe\0\x01"),
        ("LUKS2 container", 0, b"LUKS\xba\xbe\0\x02"),
        ("LUKS2 container (second header)", 16 * kib, b"SKUL\xba\xbe"),
        ("GPT partition table (backup header)", end - 512, b"EFI PART"),
        ("DRBD metadata", end - 4096 + 60, &[0x83, 0x74, 0x02, 0x6b]),
        ("Intel firmware RAID member", end - 1024, b"Intel Raid ISM Cfg Sig. "),
    ];
    for (what, offset, magic) in cases {
        assert_eq!(found(&disk(&[(offset, magic)])), [what], "at {offset}");
    }
}

#[test]
fn the_end_of_a_disk_of_an_odd_size_is_found_as_well() {
    let mut odd = disk(&[]);
    odd.truncate(SIZE - 3 * 512);
    let sectors = odd.len() / 512;
    let md10 = ((sectors - 16) & !7) * 512;
    odd[md10..md10 + 4].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
    let label = odd.len() / (256 << 10) * (256 << 10) - (256 << 10);
    odd[label + (128 << 10)..][..8].copy_from_slice(&0x00ba_b10c_u64.to_be_bytes());
    assert_eq!(found(&odd), ["ZFS pool member", "Linux RAID (md) member, metadata 1.0"]);
}

#[test]
fn short_magics_need_more_than_themselves() {
    // Two bytes that look like ext and a boot signature without partitions: neither is believed.
    assert!(found(&disk(&[(1080, &[0x53, 0xef]), (510, &[0x55, 0xaa])])).is_empty());
    let count = 1024_u32.to_le_bytes();
    let ext = disk(&[(1080, &[0x53, 0xef]), (1024, &count), (1028, &count), (1024 + 120, b"root")]);
    assert_eq!(found(&ext), ["ext2 file system"]);
    let ends = Ends { head: &ext, tail: &[], size: SIZE as u64 };
    assert_eq!(find(&ends)[0].label.as_deref(), Some("root"));
    let mut entry = [0; 16];
    entry[4] = 0x83;
    entry[12] = 8;
    assert_eq!(found(&disk(&[(446, &entry), (510, &[0x55, 0xaa])])), ["MBR partition table"]);
    assert!(found(&disk(&[(446, &entry)])).is_empty(), "no boot signature");
}

#[test]
fn what_a_label_says_is_made_safe() {
    let label = b"a\x1b[2Jb";
    let xfs = disk(&[(0, b"XFSB"), (108, label)]);
    let ends = Ends { head: &xfs, tail: &[], size: SIZE as u64 };
    assert_eq!(find(&ends)[0].label.as_deref(), Some("a\u{fffd}[2Jb"));
}
