//! The MBR and the chain of logical partitions behind it.

use std::collections::BTreeSet;

use super::{Entry, EntryKind, Mbr, Sector, TableProblem, sector_at};
use crate::bytes::{holds, is_zero, le16, le32, put};
use crate::{MediaError, SliceReader};

/// More logical partitions than any system makes.
const MAX_LOGICAL: u32 = 128;
const SLOTS: usize = 446;

/// One of the four entries to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MbrSlot {
    /// Whether it is marked active.
    pub(crate) active: bool,
    /// The type byte.
    pub(crate) kind: u8,
    /// First sector.
    pub(crate) start: u32,
    /// Sectors.
    pub(crate) count: u32,
}

/// Writes one of the four entries into a first sector. The cylinder fields say "beyond": only LBA counts.
pub(crate) fn write_slot(sector: &mut [u8], slot: usize, entry: MbrSlot) {
    let at = SLOTS + slot * 16;
    put(sector, at, &[if entry.active { 0x80 } else { 0 }, 0xfe, 0xff, 0xff, entry.kind, 0xfe, 0xff, 0xff]);
    put(sector, at + 8, &entry.start.to_le_bytes());
    put(sector, at + 12, &entry.count.to_le_bytes());
    put(sector, 510, &[0x55, 0xaa]);
}

pub(super) fn read(
    disk: &SliceReader,
    sector: Sector,
    problems: &mut Vec<TableProblem>,
) -> Result<Option<Mbr>, MediaError> {
    let Some(first) = sector_at(disk, sector, 0)? else { return Ok(None) };
    if !holds(&first, 510, &[0x55, 0xaa]) || is_file_system(&first) {
        return Ok(None);
    }
    let raw: Vec<Raw> = (0..4).map(|slot| Raw::read(&first, slot)).collect();
    // Anything else than these two is code or data, as the kernel has it (`msdos_partition`).
    if raw.iter().any(|raw| !matches!(raw.flag, 0 | 0x80)) {
        return Ok(None);
    }
    let mut partitions = Vec::new();
    for (raw, number) in raw.iter().zip(1..) {
        if raw.count != 0 && (raw.kind != 0 || raw.flag == 0x80) {
            partitions.push(raw.entry(number, 0, sector));
        }
        if raw.is_extended() && raw.count != 0 {
            logical(disk, sector, u64::from(raw.start), &mut partitions, problems)?;
        }
    }
    partitions.sort_by_key(|entry| entry.number);
    let has_boot_code = !is_zero(&first[..440]);
    Ok(Some(Mbr { signature: le32(&first, 440), has_boot_code, partitions }))
}

/// A file system without a table has the same two bytes at the end of its boot sector.
fn is_file_system(first: &[u8]) -> bool {
    let jumps = matches!(first[0], 0xeb | 0xe9);
    let sector = le16(first, 11);
    let has_parameters =
        jumps && sector.is_power_of_two() && (512..=4096).contains(&sector) && first[13] != 0;
    let fat = holds(first, 54, b"FAT") || holds(first, 82, b"FAT32");
    let other = [&b"NTFS    "[..], b"EXFAT   ", b"-FVE-FS-"].iter().any(|magic| holds(first, 3, magic));
    other || (has_parameters && fat)
}

/// Each logical partition has a table of its own in front of it: itself, and where the next one's table is.
fn logical(
    disk: &SliceReader,
    sector: Sector,
    container: u64,
    partitions: &mut Vec<Entry>,
    problems: &mut Vec<TableProblem>,
) -> Result<(), MediaError> {
    let mut number =
        partitions.iter().map(|entry| entry.number).filter(|number| *number > 4).max().unwrap_or(4);
    let (mut at, mut seen) = (container, BTreeSet::new());
    let broken = |why: String| TableProblem::BrokenChain { why };
    loop {
        if !seen.insert(at) {
            problems.push(broken(format!("sector {at} is its own successor")));
            return Ok(());
        }
        if seen.len() as u32 > MAX_LOGICAL {
            problems.push(broken(format!("more than {MAX_LOGICAL} logical partitions")));
            return Ok(());
        }
        let table = sector_at(disk, sector, at)?.filter(|table| holds(table, 510, &[0x55, 0xaa]));
        let Some(table) = table else {
            problems.push(broken(format!("sector {at} holds no table")));
            return Ok(());
        };
        let (own, next) = (Raw::read(&table, 0), Raw::read(&table, 1));
        if own.count != 0 && own.kind != 0 && !own.is_extended() {
            number += 1;
            partitions.push(own.entry(number, at, sector));
        }
        if !next.is_extended() || next.count == 0 {
            return Ok(());
        }
        at = container + u64::from(next.start);
    }
}

struct Raw {
    flag: u8,
    kind: u8,
    start: u32,
    count: u32,
}

impl Raw {
    fn read(sector: &[u8], slot: usize) -> Self {
        let at = SLOTS + slot * 16;
        Self {
            flag: sector[at],
            kind: sector[at + 4],
            start: le32(sector, at + 8),
            count: le32(sector, at + 12),
        }
    }

    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    /// `base` is the sector that the start is counted from.
    fn entry(&self, number: u32, base: u64, sector: Sector) -> Entry {
        Entry {
            number,
            kind: EntryKind::Mbr(self.kind),
            label: None,
            guid: None,
            start: base.saturating_add(u64::from(self.start)).saturating_mul(sector.bytes()),
            size: u64::from(self.count) * sector.bytes(),
            attributes: u64::from(self.flag == 0x80),
        }
    }
}
