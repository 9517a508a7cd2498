//! The marks of file systems, containers and array members, and what stands beside them: label, identity.

use serde::Serialize;
use uuid::Uuid;

use super::Found;
use crate::bytes::{array, be16, be32, holds, le16, le32, le64, text, utf16_le};
use crate::fat::is_boot_sector;
use crate::source::Source as _;
use crate::{MediaError, SliceReader};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// Read from the front, which holds nearly all marks.
const HEAD: u64 = 128 * KIB;

/// What can be recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are the formats' own; `name` spells them out")]
pub enum Kind {
    Ext2,
    Ext3,
    Ext4,
    ExtJournal,
    Xfs,
    Btrfs,
    Vfat,
    Exfat,
    Ntfs,
    Iso9660,
    Udf,
    Squashfs,
    F2fs,
    Swap,
    Hibernation,
    LvmPv,
    MdMember,
    Luks1,
    Luks2,
    ZfsMember,
    CephBluestore,
    Bcache,
    Bcachefs,
    Vmfs,
    VmfsVolume,
    BitLocker,
    Gpt,
    GptBackup,
    ProtectiveMbr,
    Mbr,
}

impl Kind {
    /// What people call it.
    pub const fn name(self) -> &'static str {
        self.names().0
    }

    /// What `blkid` and `wipefs` (util-linux 2.38) call it, where they know it.
    pub const fn blkid(self) -> Option<&'static str> {
        self.names().1
    }

    const fn names(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Ext2 => ("ext2 file system", Some("ext2")),
            Self::Ext3 => ("ext3 file system", Some("ext3")),
            Self::Ext4 => ("ext4 file system", Some("ext4")),
            Self::ExtJournal => ("ext journal", Some("jbd")),
            Self::Xfs => ("XFS file system", Some("xfs")),
            Self::Btrfs => ("btrfs file system", Some("btrfs")),
            Self::Vfat => ("FAT file system", Some("vfat")),
            Self::Exfat => ("exFAT file system", Some("exfat")),
            Self::Ntfs => ("NTFS file system", Some("ntfs")),
            Self::Iso9660 => ("ISO 9660 file system", Some("iso9660")),
            Self::Udf => ("UDF file system", Some("udf")),
            Self::Squashfs => ("squashfs image", Some("squashfs")),
            Self::F2fs => ("F2FS file system", Some("f2fs")),
            Self::Swap => ("swap space", Some("swap")),
            Self::Hibernation => ("hibernated system", Some("swsuspend")),
            Self::LvmPv => ("LVM2 physical volume", Some("LVM2_member")),
            Self::MdMember => ("Linux RAID (md) member", Some("linux_raid_member")),
            Self::Luks1 | Self::Luks2 => (
                if matches!(self, Self::Luks1) { "LUKS1 container" } else { "LUKS2 container" },
                Some("crypto_LUKS"),
            ),
            Self::ZfsMember => ("ZFS pool member", Some("zfs_member")),
            Self::CephBluestore => ("Ceph BlueStore OSD", Some("ceph_bluestore")),
            Self::Bcache => ("bcache device", Some("bcache")),
            // Since util-linux 2.40.
            Self::Bcachefs => ("bcachefs file system", None),
            Self::Vmfs => ("VMFS file system", Some("VMFS")),
            Self::VmfsVolume => ("VMFS volume member", Some("VMFS_volume_member")),
            Self::BitLocker => ("BitLocker volume", Some("BitLocker")),
            Self::Gpt => ("GPT partition table", Some("gpt")),
            Self::GptBackup => ("GPT partition table (backup)", Some("gpt")),
            Self::ProtectiveMbr => ("protective MBR", Some("PMBR")),
            Self::Mbr => ("MBR partition table", Some("dos")),
        }
    }
}

/// Everything but partition tables.
pub(super) fn find(part: &SliceReader) -> Result<Vec<Found>, MediaError> {
    let head = part.piece("the front of the disk", 0, HEAD.min(part.size()))?;
    let mut look = Look { part, head, found: Vec::new() };
    look.fixed()?;
    look.ext();
    look.fat();
    look.ntfs()?;
    look.optical();
    look.swap();
    look.lvm();
    look.luks();
    look.ceph();
    look.md()?;
    look.zfs()?;
    look.vmfs()?;
    Ok(look.found)
}

struct Look<'a> {
    part: &'a SliceReader,
    head: Vec<u8>,
    found: Vec<Found>,
}

impl Look<'_> {
    fn add(&mut self, kind: Kind, offset: u64, label: Option<String>, uuid: Option<String>) {
        self.found.push(Found { kind, offset, label, uuid });
    }

    fn has(&self, at: usize, magic: &[u8]) -> bool {
        holds(&self.head, at, magic)
    }

    fn uuid(&self, at: usize) -> Option<String> {
        uuid(&self.head, at)
    }

    fn label(&self, at: usize, length: usize) -> Option<String> {
        text(self.head.get(at..at + length)?)
    }

    /// Bytes anywhere; nothing where the disk is too small to have them.
    fn at(&self, at: u64, length: u64) -> Result<Option<Vec<u8>>, MediaError> {
        match self.part.piece("a mark on the disk", at, length) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(MediaError::Cut { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Formats with one long mark at one place.
    fn fixed(&mut self) -> Result<(), MediaError> {
        if self.has(0, b"XFSB") && le32(&self.head, 4) != 0 {
            self.add(Kind::Xfs, 0, self.label(108, 12), self.uuid(32));
        }
        let btrfs = 64 * KIB as usize;
        if self.has(btrfs + 64, b"_BHRfS_M") {
            self.add(Kind::Btrfs, btrfs as u64 + 64, self.label(btrfs + 299, 256), self.uuid(btrfs + 32));
        }
        if self.has(3, b"EXFAT   ") {
            let serial = le32(&self.head, 100);
            let label = self.exfat_label()?;
            self.add(Kind::Exfat, 3, label, Some(format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff)));
        }
        if self.has(3, b"-FVE-FS-") {
            self.add(Kind::BitLocker, 3, None, None);
        }
        if self.has(0, b"hsqs") && le16(&self.head, 28) == 4 {
            self.add(Kind::Squashfs, 0, None, None);
        }
        if self.has(1024, &[0x10, 0x20, 0xf5, 0xf2]) {
            let label = self.head.get(1024 + 124..1024 + 124 + 1024).map(utf16_le);
            self.add(Kind::F2fs, 1024, label.filter(|label| !label.is_empty()), self.uuid(1024 + 108));
        }
        if self.has(0x1018, &BCACHE) {
            self.add(Kind::Bcache, 0x1018, self.label(0x1048, 32), self.uuid(0x1028));
        }
        if self.has(0x1018, &BCACHEFS) {
            self.add(Kind::Bcachefs, 0x1018, self.label(0x1048, 32), self.uuid(0x1038));
        }
        Ok(())
    }

    /// The entry of type 0x83 in the first cluster of the root folder.
    fn exfat_label(&self) -> Result<Option<String>, MediaError> {
        let head = &self.head;
        let (sector, cluster) = (u32::from(head[108]), u32::from(head[109]));
        if !(9..=12).contains(&sector) || sector + cluster > 25 {
            return Ok(None);
        }
        let root = u64::from(le32(head, 96).saturating_sub(2)) << (sector + cluster);
        let at = (u64::from(le32(head, 88)) << sector).saturating_add(root);
        let Some(folder) = self.at(at, 1 << (sector + cluster).min(16))? else { return Ok(None) };
        let entries = folder.chunks_exact(32).take_while(|entry| entry[0] != 0);
        let label = entries
            .into_iter()
            .find(|entry| entry[0] == 0x83)
            .map(|entry| utf16_le(&entry[2..2 + usize::from(entry[1].min(11)) * 2]));
        Ok(label.filter(|label| !label.is_empty()))
    }

    /// Two bytes are a short mark: what stands beside it must make sense as well (as in libblkid's `ext.c`).
    fn ext(&mut self) {
        let raw = self.head.get(1024..2048).unwrap_or_default();
        if !holds(raw, 56, &[0x53, 0xef]) || le32(raw, 4) == 0 || le32(raw, 24) > 6 {
            return;
        }
        let (compatible, incompatible, read_only) = (le32(raw, 92), le32(raw, 96), le32(raw, 100));
        let kind = if incompatible & 0x8 != 0 {
            Kind::ExtJournal
        } else if incompatible & !0x12 & !0x4 != 0 || read_only & !0x7 != 0 {
            Kind::Ext4
        } else if compatible & 0x4 != 0 {
            Kind::Ext3
        } else {
            Kind::Ext2
        };
        self.add(kind, 1024 + 56, self.label(1024 + 120, 16), self.uuid(1024 + 104));
    }

    fn fat(&mut self) {
        let head = &self.head;
        let named = holds(head, 54, b"FAT") || holds(head, 82, b"FAT32");
        // What the name says is not decisive (the specification warns of it); what must hold is the geometry.
        if head.len() < 512 || !is_boot_sector(head) || (!named && !matches!(head[0], 0xeb | 0xe9)) {
            return;
        }
        let (label, serial) = if holds(head, 82, b"FAT32") { (71, 67) } else { (43, 39) };
        let serial = le32(head, serial);
        let uuid = (serial != 0).then(|| format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff));
        let stored = self.label(label, 11).filter(|label| label != "NO NAME");
        let tree = crate::FatTree::open(self.part).ok();
        let label = tree.map_or(stored, |tree| tree.label());
        self.add(Kind::Vfat, if named { 54 } else { 510 }, label, uuid);
    }

    fn ntfs(&mut self) -> Result<(), MediaError> {
        if !self.has(3, b"NTFS    ") {
            return Ok(());
        }
        let serial = le64(&self.head, 72);
        let label = self.ntfs_label()?;
        self.add(Kind::Ntfs, 3, label, Some(format!("{serial:016X}")));
        Ok(())
    }

    /// The attribute `$VOLUME_NAME` (0x60) of the file record number 3.
    fn ntfs_label(&self) -> Result<Option<String>, MediaError> {
        let head = &self.head;
        let sector = u64::from(le16(head, 11));
        let cluster = match head[13] {
            exponent @ 0xe1..=0xff => sector << (256 - u32::from(exponent)).min(31),
            sectors => sector * u64::from(sectors),
        };
        let record = match head[64] as i8 {
            clusters @ 1.. => cluster * clusters as u64,
            exponent => 1 << (-i32::from(exponent)).clamp(0, 16),
        };
        let at = le64(head, 48).saturating_mul(cluster).saturating_add(record.saturating_mul(3));
        let Some(raw) = self.at(at, record.min(64 * KIB))? else { return Ok(None) };
        if !holds(&raw, 0, b"FILE") {
            return Ok(None);
        }
        let mut attribute = usize::from(le16(&raw, 20));
        while attribute + 24 <= raw.len() {
            let (kind, length) = (le32(&raw, attribute), le32(&raw, attribute + 4) as usize);
            if kind == 0x60 {
                let (bytes, offset) =
                    (le32(&raw, attribute + 16) as usize, usize::from(le16(&raw, attribute + 20)));
                let from = attribute + offset;
                let label = raw.get(from..from.saturating_add(bytes)).map(utf16_le);
                return Ok(label.filter(|label| !label.is_empty()));
            }
            if kind == u32::MAX || length == 0 {
                break;
            }
            attribute = attribute.saturating_add(length);
        }
        Ok(None)
    }

    fn optical(&mut self) {
        let first = 32 * KIB as usize;
        if self.has(first + 1, b"CD001") {
            // The identity that blkid makes of the dates: modified, or else made.
            let dates = [first + 830, first + 813].into_iter().filter_map(|at| self.head.get(at..at + 16));
            let mut dates =
                dates.filter(|date| date.iter().all(u8::is_ascii_digit) && *date != b"0000000000000000");
            let uuid = dates.next().map(|date| {
                let part = |from: usize, to: usize| String::from_utf8_lossy(&date[from..to]).into_owned();
                [part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14), part(14, 16)]
                    .join("-")
            });
            self.add(Kind::Iso9660, first as u64 + 1, self.label(first + 40, 32), uuid);
        }
        let blocks = (0..32).map(|block| first + block * 2048 + 1);
        let udf = blocks.into_iter().find(|at| self.has(*at, b"NSR02") || self.has(*at, b"NSR03"));
        if let Some(at) = udf {
            self.add(Kind::Udf, at as u64, None, None);
        }
    }

    /// The mark stands at the end of the first page, whatever a page is.
    fn swap(&mut self) {
        for page in [4, 8, 16, 32, 64].map(|pages| pages * KIB as usize) {
            let at = page - 10;
            if self.has(at, b"SWAPSPACE2") && le32(&self.head, 1024) == 1 {
                self.add(Kind::Swap, at as u64, self.label(1024 + 28, 16), self.uuid(1024 + 12));
            } else if self.has(at, b"SWAP-SPACE") {
                self.add(Kind::Swap, at as u64, None, None);
            } else if self.has(at, b"S1SUSPEND") || self.has(at, b"S2SUSPEND") || self.has(at, b"LINHIB0001")
            {
                self.add(Kind::Hibernation, at as u64, None, self.uuid(1024 + 12));
            }
        }
    }

    fn lvm(&mut self) {
        for sector in 0..4 {
            let at = sector * 512;
            if self.has(at, b"LABELONE") && self.has(at + 24, b"LVM2 001") {
                let id = self.label(at + 32, 32).filter(|id| id.len() == 32 && id.is_ascii());
                // In groups of 6, 4, 4, 4, 4, 4, 6, as LVM prints it.
                let cuts = [0, 6, 10, 14, 18, 22, 26, 32];
                let uuid =
                    id.map(|id| cuts.windows(2).map(|cut| &id[cut[0]..cut[1]]).collect::<Vec<_>>().join("-"));
                self.add(Kind::LvmPv, at as u64 + 24, None, uuid);
            }
        }
    }

    fn luks(&mut self) {
        if !self.has(0, b"LUKS\xba\xbe") {
            return;
        }
        let uuid = self.label(168, 40);
        match be16(&self.head, 6) {
            2 => self.add(Kind::Luks2, 0, self.label(24, 48), uuid),
            _ => self.add(Kind::Luks1, 0, None, uuid),
        }
    }

    fn ceph(&mut self) {
        if self.has(0, b"bluestore block device\n") {
            self.add(Kind::CephBluestore, 0, None, self.label(23, 36));
        }
    }

    /// Version 1 in one of three places, in the byte order of the format; version 0.90 in the order of its machine.
    fn md(&mut self) -> Result<(), MediaError> {
        const MAGIC: u32 = 0xa92b_4efc;
        let size = self.part.size();
        let end = (size / 512).checked_sub(16).map(|sector| (sector & !7) * 512);
        for at in [end, Some(0), Some(4096)].into_iter().flatten() {
            let Some(raw) = self.at(at, 256)? else { continue };
            // Where it says that it stands is where it must stand.
            if le32(&raw, 0) == MAGIC && le32(&raw, 4) == 1 && le64(&raw, 144).saturating_mul(512) == at {
                self.add(Kind::MdMember, at, text(&raw[32..64]), uuid(&raw, 16));
            }
        }
        let Some(at) = (size / (64 * KIB)).checked_sub(1).map(|block| block * 64 * KIB) else {
            return Ok(());
        };
        let Some(raw) = self.at(at, 256)? else { return Ok(()) };
        let read = [le32, be32].into_iter().find(|read| read(&raw, 0) == MAGIC && read(&raw, 4) == 0);
        if let Some(read) = read {
            let words = [5, 13, 14, 15].map(|word| read(&raw, word * 4).to_be_bytes());
            let id: [u8; 16] = words.concat().try_into().unwrap_or_default();
            self.add(Kind::MdMember, at, None, Some(Uuid::from_bytes(id).to_string()));
        }
        Ok(())
    }

    /// Four labels of 256 KiB, two at each end, each with a list of names and a ring of 128 überblocks.
    fn zfs(&mut self) -> Result<(), MediaError> {
        const LABEL: u64 = 256 * KIB;
        const MAGIC: u64 = 0x00ba_b10c;
        let end = self.part.size() / LABEL * LABEL;
        let labels = [Some(0), Some(LABEL), end.checked_sub(2 * LABEL), end.checked_sub(LABEL)];
        let (mut count, mut first, mut names) = (0, None, None);
        for label in labels.into_iter().flatten() {
            let Some(raw) = self.at(label, LABEL)? else { continue };
            let before = count;
            for slot in (128 * KIB..LABEL).step_by(1024) {
                let magic = le64(&raw, slot as usize);
                if magic == MAGIC || magic == MAGIC.swap_bytes() {
                    count += 1;
                    first = first.or(Some(label + slot));
                }
            }
            let list = &raw[16 * KIB as usize..128 * KIB as usize];
            if count > before && names.is_none() && find_name(list, b"pool_guid").is_some() {
                names = Some((
                    find_name(list, b"name").and_then(nvlist_text),
                    find_name(list, b"pool_guid").and_then(nvlist_number),
                ));
            }
        }
        // As libblkid: four are wanted (`ZFS_WANT`), since one value of eight bytes may be anywhere.
        if let Some(first) = first.filter(|_| count >= 4) {
            let (label, guid) = names.unwrap_or_default();
            self.add(Kind::ZfsMember, first, label, guid.map(|guid| guid.to_string()));
        }
        Ok(())
    }

    fn vmfs(&mut self) -> Result<(), MediaError> {
        if self.at(MIB, 4)?.is_some_and(|raw| raw == [0x0d, 0xd0, 0x01, 0xc0]) {
            self.add(Kind::VmfsVolume, MIB, None, None);
        }
        if self.at(2 * MIB, 4)?.is_some_and(|raw| raw == [0x5e, 0xf1, 0xab, 0x2f]) {
            self.add(Kind::Vmfs, 2 * MIB, None, None);
        }
        Ok(())
    }
}

fn uuid(bytes: &[u8], at: usize) -> Option<String> {
    let raw: [u8; 16] = array(bytes, at)?;
    (raw != [0; 16]).then(|| Uuid::from_bytes(raw).to_string())
}

/// What stands behind a name in an XDR list of names and values: the name's length, the name, its type and count.
fn find_name<'a>(list: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut wanted = (name.len() as u32).to_be_bytes().to_vec();
    wanted.extend_from_slice(name);
    wanted.resize(wanted.len().next_multiple_of(4), 0);
    let at = list.windows(wanted.len()).position(|part| part == wanted)?;
    list.get(at + wanted.len()..)
}

/// A value of type 9 (`DATA_TYPE_STRING`).
fn nvlist_text(value: &[u8]) -> Option<String> {
    let length = (be32(value, 0) == 9).then(|| be32(value, 8) as usize)?;
    text(value.get(12..12_usize.checked_add(length)?)?)
}

/// A value of type 8 (`DATA_TYPE_UINT64`).
fn nvlist_number(value: &[u8]) -> Option<u64> {
    (be32(value, 0) == 8).then(|| array(value, 8).map(u64::from_be_bytes))?
}

const BCACHE: [u8; 16] =
    [0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81];
const BCACHEFS: [u8; 16] =
    [0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef];
