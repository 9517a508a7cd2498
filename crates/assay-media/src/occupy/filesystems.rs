//! The superblocks of file systems that are only to be recognised, and swap space.

use std::io;

use uuid::Uuid;

use crate::SliceReader;
use crate::bytes::{crc32c, put};

/// Version 5, four allocation groups. Source: "XFS Algorithms & Data Structures", chapter 11 (`struct xfs_dsb`).
pub(super) fn xfs(disk: &SliceReader, identity: Uuid) -> io::Result<()> {
    let mut raw = vec![0; 512];
    let blocks = disk.length() / 4096;
    let group = blocks.div_ceil(4);
    put(&mut raw, 0, b"XFSB");
    for (at, value) in
        [(4, 4096), (80, 1), (84, group), (88, 4), (96, 1368), (200, 0x18a), (204, 0x18a), (216, 3)]
    {
        put(&mut raw, at, &(value as u32).to_be_bytes());
    }
    for (at, value) in [
        (8, blocks),
        (48, group * 2),
        (56, 128),
        (64, 129),
        (72, 130),
        (128, 64),
        (136, 61),
        (144, blocks / 2),
    ] {
        put(&mut raw, at, &u64::to_be_bytes(value));
    }
    for (at, value) in [(100, 0xb4a5), (102, 512), (104, 512), (106, 8)] {
        put(&mut raw, at, &u16::to_be_bytes(value));
    }
    put(&mut raw, 32, identity.as_bytes());
    put(&mut raw, 108, b"data");
    // Logarithms: block, sector, inode, inodes in a block, group; extents of real time; not in progress; per cent.
    let group_log = group.next_power_of_two().ilog2() as u8;
    put(&mut raw, 120, &[12, 9, 9, 3, group_log, 0, 0, 25]);
    let crc = crc32c(&raw);
    // The one field that is little-endian.
    put(&mut raw, 224, &crc.to_le_bytes());
    disk.write_all_at(&raw, 0)
}

/// One device. Source: the kernel's `include/uapi/linux/btrfs_tree.h` (`struct btrfs_super_block`).
pub(super) fn btrfs(disk: &SliceReader, identity: Uuid) -> io::Result<()> {
    const AT: u64 = 64 << 10;
    let mut raw = vec![0; 4096];
    put(&mut raw, 32, identity.as_bytes());
    put(&mut raw, 64, b"_BHRfS_M");
    let size = disk.length() / 4096 * 4096;
    let numbers = [
        (48, AT),
        (56, 1),
        (72, 1),
        (80, 5 << 20),
        (88, 1 << 20),
        (112, size),
        (120, 128 << 10),
        (128, 6),
        (136, 1),
        (164, 1),
        (188, 0x341),
        (201, 1),
        (209, size),
        (217, 8 << 20),
    ];
    for (at, value) in numbers {
        put(&mut raw, at, &u64::to_le_bytes(value));
    }
    for (at, value) in
        [(144, 4096_u32), (148, 16384), (152, 16384), (156, 4096), (225, 4096), (229, 4096), (233, 4096)]
    {
        put(&mut raw, at, &value.to_le_bytes());
    }
    put(&mut raw, 267, &crate::stage::derived(&[identity.as_bytes(), b"device"]).into_bytes());
    put(&mut raw, 283, identity.as_bytes());
    put(&mut raw, 299, b"data");
    let crc = crc32c(&raw[32..]);
    put(&mut raw, 0, &crc.to_le_bytes());
    disk.write_all_at(&raw, AT)
}

/// The boot sector, and of the file table the record of itself and that of the volume. Source: the Linux-NTFS project's
/// documentation (`$Boot`, `FILE` records, attribute 0x60).
pub(super) fn ntfs(disk: &SliceReader, identity: Uuid) -> io::Result<()> {
    const TABLE: u64 = 4;
    const CLUSTER: u64 = 4096;
    let sectors = disk.length() / 512 - 1;
    let mut boot = vec![0; 512];
    put(&mut boot, 0, b"\xeb\x52\x90NTFS    ");
    put(&mut boot, 11, &512_u16.to_le_bytes());
    put(&mut boot, 13, &[8]);
    put(&mut boot, 21, &[0xf8]);
    put(&mut boot, 24, &[63, 0, 255, 0]);
    put(&mut boot, 36, &0x0080_0080_u32.to_le_bytes());
    put(&mut boot, 40, &sectors.to_le_bytes());
    put(&mut boot, 48, &TABLE.to_le_bytes());
    put(&mut boot, 56, &(sectors / 16).to_le_bytes());
    // Records of 2^10 bytes, indexes of one cluster.
    put(&mut boot, 64, &[0xf6, 0, 0, 0, 1]);
    put(&mut boot, 72, &identity.as_bytes()[..8]);
    put(&mut boot, 510, &[0x55, 0xaa]);
    disk.write_all_at(&boot, 0)?;
    // The copy in the last sector.
    disk.write_all_at(&boot, sectors * 512)?;
    for (number, label) in [(0_u32, None), (3, Some("data"))] {
        disk.write_all_at(&ntfs_record(number, label), TABLE * CLUSTER + u64::from(number) * 1024)?;
    }
    Ok(())
}

fn ntfs_record(number: u32, label: Option<&str>) -> Vec<u8> {
    let mut raw = vec![0; 1024];
    put(&mut raw, 0, b"FILE");
    // Its update sequence: at 48, three words; the attributes begin at 56.
    for (at, value) in
        [(4, 48_u16), (6, 3), (16, 1), (18, 1), (20, 56), (22, 1), (40, 2), (48, 1), (510, 1), (1022, 1)]
    {
        put(&mut raw, at, &value.to_le_bytes());
    }
    put(&mut raw, 44, &number.to_le_bytes());
    put(&mut raw, 28, &1024_u32.to_le_bytes());
    let mut end = 56;
    if let Some(label) = label {
        let units: Vec<u8> = label.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let length = (24 + units.len()).next_multiple_of(8);
        put(&mut raw, end, &0x60_u32.to_le_bytes());
        put(&mut raw, end + 4, &(length as u32).to_le_bytes());
        put(&mut raw, end + 16, &(units.len() as u32).to_le_bytes());
        put(&mut raw, end + 20, &24_u16.to_le_bytes());
        put(&mut raw, end + 24, &units);
        end += length;
    }
    put(&mut raw, end, &u32::MAX.to_le_bytes());
    put(&mut raw, 24, &(end as u32 + 8).to_le_bytes());
    raw
}

/// Pages of 4096 bytes. Source: mkswap's `swapheader.h`.
pub(super) fn swap(disk: &SliceReader, identity: Uuid) -> io::Result<()> {
    let mut raw = vec![0; 4096];
    let last = u32::try_from(disk.length() / 4096 - 1).unwrap_or(u32::MAX);
    put(&mut raw, 1024, &1_u32.to_le_bytes());
    put(&mut raw, 1028, &last.to_le_bytes());
    put(&mut raw, 1036, identity.as_bytes());
    put(&mut raw, 1052, b"data");
    put(&mut raw, 4086, b"SWAPSPACE2");
    disk.write_all_at(&raw, 0)
}
