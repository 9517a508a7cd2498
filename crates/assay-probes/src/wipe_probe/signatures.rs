//! What is known by its magic: file systems, containers, arrays, partition tables.
//!
//! Pure: the two ends of a disk in, names out. Every format that leaves a mark within the first or last
//! [`super::END`] bytes is found wherever the rest of it lies. Sources: the formats' own documentation, and
//! util-linux's libblkid for where each magic stands.

use assay_model::host::storage::Signature;
use assay_model::text::clean_to;

/// Longest label that is kept.
const MAX_LABEL: usize = 64;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The two ends of a disk.
pub(super) struct Ends<'a> {
    /// From the first byte on.
    pub(super) head: &'a [u8],
    /// Up to the last byte.
    pub(super) tail: &'a [u8],
    /// Bytes of the disk.
    pub(super) size: u64,
}

impl<'a> Ends<'a> {
    /// These bytes, where they were read.
    pub(super) fn at(&self, offset: u64, length: usize) -> Option<&'a [u8]> {
        let within = |part: &'a [u8], from: u64| {
            let start = usize::try_from(offset.checked_sub(from)?).ok()?;
            part.get(start..start.checked_add(length)?)
        };
        within(self.head, 0).or_else(|| within(self.tail, self.size.checked_sub(self.tail.len() as u64)?))
    }

    fn holds(&self, offset: u64, magic: &[u8]) -> bool {
        self.at(offset, magic.len()) == Some(magic)
    }

    fn le32(&self, offset: u64) -> Option<u32> {
        Some(u32::from_le_bytes(self.at(offset, 4)?.try_into().ok()?))
    }

    /// As many bytes before the end.
    fn before_end(&self, bytes: u64) -> Option<u64> {
        self.size.checked_sub(bytes)
    }

    fn text(&self, offset: u64, length: usize) -> Option<String> {
        let raw = self.at(offset, length)?;
        let raw = raw.split(|byte| *byte == 0).next().unwrap_or_default();
        let label = clean_to(&String::from_utf8_lossy(raw), MAX_LABEL);
        (!label.is_empty()).then_some(label)
    }
}

/// Everything that is recognised.
pub(super) fn find(ends: &Ends<'_>) -> Vec<Signature> {
    let mut found = Vec::new();
    for &(what, offset, magic, label) in FIXED {
        if ends.holds(offset, magic) {
            let label = label.and_then(|(at, length)| ends.text(at, length));
            found.push(Signature { what: what.to_owned(), offset, label });
        }
    }
    let mut add = |what: &str, offset: u64, label: Option<String>| {
        found.push(Signature { what: what.to_owned(), offset, label });
    };
    ext(ends, &mut add);
    fat(ends, &mut add);
    lvm(ends, &mut add);
    luks(ends, &mut add);
    zfs(ends, &mut add);
    md(ends, &mut add);
    swap(ends, &mut add);
    drbd(ends, &mut add);
    firmware_raid(ends, &mut add);
    partition_tables(ends, &mut add);
    found
}

/// What a format is called, where its magic stands, the magic, and where its label stands.
type Fixed = (&'static str, u64, &'static [u8], Option<(u64, usize)>);

/// Formats with one magic of at least four bytes at one place, counted from the first byte.
const FIXED: &[Fixed] = &[
    ("XFS file system", 0, b"XFSB", Some((108, 12))),
    ("btrfs file system", 64 * KIB + 64, b"_BHRfS_M", Some((64 * KIB + 0x12b, 64))),
    ("NTFS file system", 3, b"NTFS    ", None),
    ("exFAT file system", 3, b"EXFAT   ", None),
    ("ReFS file system", 3, b"ReFS\0\0\0\0", None),
    ("BitLocker volume", 3, b"-FVE-FS-", None),
    ("Ceph BlueStore OSD", 0, b"bluestore block device\n", Some((23, 36))),
    ("ISO 9660 file system", 32 * KIB + 1, b"CD001", Some((32 * KIB + 40, 32))),
    ("UDF file system", 32 * KIB + 1, b"BEA01", None),
    ("bcache device", 0x1018, &BCACHE, None),
    ("bcachefs file system", 0x1018, &BCACHEFS, None),
    ("VMFS volume (LVM header)", MIB, &[0x0d, 0xd0, 0x01, 0xc0], None),
    ("VMFS file system", 2 * MIB, &[0x5e, 0xf1, 0xab, 0x2f], None),
    ("GFS2 file system", 64 * KIB, &[0x01, 0x16, 0x19, 0x70, 0, 0, 0, 1], None),
    ("OCFS2 file system", 1024, b"OCFSV2", None),
    ("OCFS2 file system", 2048, b"OCFSV2", None),
    ("OCFS2 file system", 4096, b"OCFSV2", None),
    ("OCFS2 file system", 8192, b"OCFSV2", None),
    ("F2FS file system", 1024, &[0x10, 0x20, 0xf5, 0xf2], None),
    ("JFS file system", 32 * KIB, b"JFS1", None),
    ("ReiserFS file system", 64 * KIB + 52, b"ReIsEr", None),
    ("squashfs image", 0, b"hsqs", None),
    ("EROFS image", 1024, &[0xe2, 0xe1, 0xf5, 0xe0], None),
    ("HFS+ file system", 1024, b"H+\0\x04", None),
    ("HFSX file system", 1024, b"HX\0\x05", None),
    ("APFS container", 32, b"NXSB", None),
    ("UFS2 file system", 64 * KIB + 1372, &[0x19, 0x01, 0x54, 0x19], None),
    ("UFS1 file system", 8 * KIB + 1372, &[0x54, 0x19, 0x01, 0x00], None),
    ("Oracle ASM disk", 32, b"ORCLDISK", Some((40, 24))),
    ("VDO volume", 0, b"dmvdo001", None),
    ("Stratis pool member", 512 + 4, b"!Stra0tis\x86\xff\x02^\x41rh", None),
    ("dm-integrity device", 0, b"integrt\0", None),
    ("dm-verity hashes", 0, b"verity\0\0", None),
    ("Storage Spaces disk", 4096, b"SPACEDB ", None),
    ("Windows dynamic disk", 6 * 512, b"PRIVHEAD", None),
    ("GPFS (Spectrum Scale) disk", 4 * KIB, b"NSD descriptor", None),
    ("LVM1 physical volume", 0, b"HM\x01\0", None),
    ("LVM1 physical volume", 0, b"HM\x02\0", None),
];

const BCACHE: [u8; 16] =
    [0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81];
const BCACHEFS: [u8; 16] =
    [0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef];

/// Called for each thing found: what, where, its label.
type Add<'a> = dyn FnMut(&str, u64, Option<String>) + 'a;

/// Two bytes are a short magic: what stands beside it must make sense as well.
fn ext(ends: &Ends<'_>, add: &mut Add<'_>) {
    if !ends.holds(1024 + 56, &[0x53, 0xef]) {
        return;
    }
    let field = |at: u64| ends.le32(1024 + at).unwrap_or_default();
    let (inodes, blocks, block_size) = (field(0), field(4), field(24));
    if inodes == 0 || blocks == 0 || block_size > 6 {
        return;
    }
    let (compatible, incompatible) = (field(92), field(96));
    let what = if incompatible & 0x8 != 0 {
        "ext journal"
    } else if incompatible & (0x40 | 0x80 | 0x200 | 0x8000) != 0 {
        "ext4 file system"
    } else if compatible & 0x4 != 0 {
        "ext3 file system"
    } else {
        "ext2 file system"
    };
    // The label, or else where it was last mounted.
    add(what, 1024, ends.text(1024 + 120, 16).or_else(|| ends.text(1024 + 136, 64)));
}

fn fat(ends: &Ends<'_>, add: &mut Add<'_>) {
    if !ends.holds(510, &[0x55, 0xaa]) {
        return;
    }
    if ends.holds(82, b"FAT32   ") {
        add("FAT32 file system", 0, ends.text(71, 11));
    }
    for magic in [b"FAT12   ", b"FAT16   ", b"FAT     "] {
        if ends.holds(54, magic) {
            add("FAT file system", 0, ends.text(43, 11));
        }
    }
}

fn lvm(ends: &Ends<'_>, add: &mut Add<'_>) {
    for sector in 0..4 {
        let offset = sector * 512;
        if ends.holds(offset, b"LABELONE") && ends.holds(offset + 24, b"LVM2 001") {
            add("LVM2 physical volume", offset, ends.text(offset + 32, 32));
        }
    }
}

fn luks(ends: &Ends<'_>, add: &mut Add<'_>) {
    if ends.holds(0, b"LUKS\xba\xbe") {
        match ends.at(6, 2) {
            Some([0, 2]) => add("LUKS2 container", 0, ends.text(24, 48)),
            _ => add("LUKS1 container", 0, ends.text(168, 40)),
        }
    }
    // The second header of LUKS2, at one of the places that its first one may have said.
    for shift in 14..=22 {
        let offset = 1 << shift;
        if ends.holds(offset, b"SKUL\xba\xbe") {
            add("LUKS2 container (second header)", offset, ends.text(offset + 24, 48));
        }
    }
}

/// Four labels of 256 KiB, two at each end; in each, a list of names and a ring of uberblocks.
fn zfs(ends: &Ends<'_>, add: &mut Add<'_>) {
    const LABEL: u64 = 256 * KIB;
    const UBERBLOCK: [u8; 8] = 0x00ba_b10c_u64.to_le_bytes();
    const UBERBLOCK_BIG: [u8; 8] = 0x00ba_b10c_u64.to_be_bytes();
    let end = ends.size / LABEL * LABEL;
    let labels = [Some(0), Some(LABEL), end.checked_sub(2 * LABEL), end.checked_sub(LABEL)];
    for offset in labels.into_iter().flatten() {
        let ring = (0..128).map(|slot| offset + 128 * KIB + slot * KIB);
        let uberblocks =
            ring.filter(|at| ends.holds(*at, &UBERBLOCK) || ends.holds(*at, &UBERBLOCK_BIG)).count();
        let list = ends.at(offset + 16 * KIB, 4 * 1024).unwrap_or_default();
        let named = list.windows(9).any(|window| window == b"pool_guid");
        if uberblocks > 0 || named {
            add("ZFS pool member", offset, None);
            return;
        }
    }
}

fn md(ends: &Ends<'_>, add: &mut Add<'_>) {
    const MAGIC: u32 = 0xa92b_4efc;
    let sectors = ends.size / 512;
    let places = [
        ("0.90", (ends.size / (64 * KIB)).checked_sub(1).map(|last| last * 64 * KIB)),
        ("1.0", sectors.checked_sub(16).map(|sector| (sector & !7) * 512)),
        ("1.1", Some(0)),
        ("1.2", Some(4096)),
    ];
    for (version, offset) in places {
        let Some(offset) = offset else { continue };
        let magic = ends.le32(offset);
        if magic == Some(MAGIC) || magic == Some(MAGIC.swap_bytes()) {
            let label = (version != "0.90").then(|| ends.text(offset + 32, 32)).flatten();
            add(&format!("Linux RAID (md) member, metadata {version}"), offset, label);
        }
    }
}

fn swap(ends: &Ends<'_>, add: &mut Add<'_>) {
    for page in [4, 8, 16, 32, 64] {
        let offset = page * KIB - 10;
        if ends.holds(offset, b"SWAPSPACE2") || ends.holds(offset, b"SWAP-SPACE") {
            add("swap space", 0, ends.text(1024 + 28, 16));
        }
        if ends.holds(offset, b"S1SUSPEND\0") || ends.holds(offset, b"LINHIB0001") {
            add("hibernated system", 0, None);
        }
    }
}

/// Internal metadata of DRBD stand in the last 4 KiB.
fn drbd(ends: &Ends<'_>, add: &mut Add<'_>) {
    let Some(offset) = ends.before_end(4096) else { return };
    let Some(block) = ends.at(offset, 128) else { return };
    let words = block.chunks_exact(4).filter(|word| matches!(word, [0x83, 0x74, 0x02, 0x67..=0x6d]));
    if words.count() > 0 {
        add("DRBD metadata", offset, None);
    }
}

/// Arrays that the firmware of a controller or main board makes.
fn firmware_raid(ends: &Ends<'_>, add: &mut Add<'_>) {
    if let Some(offset) = ends.before_end(1024).filter(|at| ends.holds(*at, b"Intel Raid ISM Cfg Sig. ")) {
        add("Intel firmware RAID member", offset, None);
    }
    for (offset, magic) in [(512, [0xde, 0x11, 0xde, 0x11]), (512, [0x11, 0xde, 0x11, 0xde])] {
        if let Some(offset) = ends.before_end(offset).filter(|at| ends.holds(*at, &magic)) {
            add("DDF firmware RAID member", offset, None);
        }
    }
}

fn partition_tables(ends: &Ends<'_>, add: &mut Add<'_>) {
    for sector in [512, 4096] {
        if ends.holds(sector, b"EFI PART") {
            add("GPT partition table", sector, None);
        }
        if let Some(offset) = ends.before_end(sector).filter(|at| ends.holds(*at, b"EFI PART")) {
            add("GPT partition table (backup header)", offset, None);
        }
    }
    if let Some(table) = ends.at(446, 66).filter(|table| table.ends_with(&[0x55, 0xaa])) {
        let is_entry =
            |entry: &[u8]| matches!(entry[0], 0 | 0x80) && entry[4] != 0 && entry[12..16] != [0; 4];
        let entries = table[..64].chunks_exact(16).filter(|entry| is_entry(entry)).count();
        if entries > 0 {
            add("MBR partition table", 446, None);
        }
    }
    for (offset, magic) in [(512, &b"PM\0\0"[..]), (0, &b"BSD\0"[..]), (512, &[0x57, 0x45, 0x56, 0x82][..])] {
        if ends.holds(offset, magic) {
            add("partition table (Apple or BSD)", offset, None);
        }
    }
}

#[cfg(test)]
#[path = "signatures_tests.rs"]
mod tests;
