//! The GPT: both headers, their entries, their checksums, and writing all of it.

use std::io;

use uuid::Uuid;

use super::{Entry, EntryKind, Gpt, HeaderState, MbrSlot, Sector, TableProblem, sector_at, write_slot};
use crate::bytes::{array, holds, le32, le64, put, utf16_le};
use crate::source::Source;
use crate::{MediaError, SliceReader};

const MAGIC: &[u8] = b"EFI PART";
/// The smallest header that the specification knows, in bytes.
const HEADER: u32 = 92;
/// The most that the entries may take, in bytes: 256 times what every tool makes.
const MAX_ENTRIES: u64 = 4 << 20;

pub(super) fn read(
    disk: &SliceReader,
    sector: Sector,
    problems: &mut Vec<TableProblem>,
) -> Result<Option<Gpt>, MediaError> {
    let Some(last) = (disk.length() / sector.bytes()).checked_sub(1) else { return Ok(None) };
    let primary = Half::read(disk, sector, 1)?;
    let mut backup = Half::read(disk, sector, last)?;
    let mut backup_at = last;
    if let (Half::Sound(primary), false) = (&primary, matches!(backup, Half::Sound(_))) {
        let elsewhere = primary.header.alternate;
        if elsewhere != last && elsewhere != 1 {
            let found = Half::read(disk, sector, elsewhere)?;
            // A damaged header at the end says more than none elsewhere.
            if matches!(found, Half::Sound(_)) || matches!(backup, Half::Missing) {
                (backup, backup_at) = (found, elsewhere);
            }
        }
    }
    match (&primary, &backup) {
        (Half::Missing, Half::Missing) => return Ok(None),
        (Half::Sound(first), Half::Sound(second)) => {
            if first.header.entries_crc != second.header.entries_crc
                || first.header.disk != second.header.disk
            {
                problems.push(TableProblem::BackupDiffers);
            }
        }
        (Half::Sound(_), Half::Missing) => problems.push(TableProblem::BackupMissing),
        (Half::Sound(_), Half::Damaged(why)) => {
            problems.push(TableProblem::BackupDamaged { why: why.clone() });
        }
        (Half::Missing, Half::Sound(_)) => problems.push(TableProblem::PrimaryMissing),
        (Half::Damaged(why), Half::Sound(_)) => {
            problems.push(TableProblem::PrimaryDamaged { why: why.clone() });
        }
        (Half::Damaged(why), _) | (Half::Missing, Half::Damaged(why)) => {
            problems.push(TableProblem::BothDamaged { why: why.clone() });
        }
    }
    if matches!(backup, Half::Sound(_)) && backup_at != last {
        problems.push(TableProblem::BackupNotAtEnd { found: backup_at, last });
    }
    let (primary_state, backup_state) = (primary.state(1), backup.state(backup_at));
    let used = match (primary, backup) {
        (Half::Sound(sound), _) | (_, Half::Sound(sound)) => Some(sound),
        _ => None,
    };
    let empty = Gpt {
        disk: Uuid::nil(),
        primary: primary_state,
        backup: backup_state,
        first_usable: 0,
        last_usable: 0,
        slots: 0,
        partitions: Vec::new(),
    };
    let Some(used) = used else { return Ok(Some(empty)) };
    let header = &used.header;
    Ok(Some(Gpt {
        disk: header.disk,
        first_usable: header.first_usable,
        last_usable: header.last_usable,
        slots: header.slots,
        partitions: partitions(&used, sector, problems),
        ..empty
    }))
}

fn partitions(used: &Sound, sector: Sector, problems: &mut Vec<TableProblem>) -> Vec<Entry> {
    let mut partitions = Vec::new();
    for (raw, number) in used.entries.chunks_exact(used.header.entry_size as usize).zip(1..) {
        let kind = guid(raw, 0);
        if kind.is_nil() {
            continue;
        }
        let (first, last) = (le64(raw, 32), le64(raw, 40));
        if last < first {
            problems.push(TableProblem::Inverted { number });
            continue;
        }
        let label = utf16_le(&raw[56..128]);
        partitions.push(Entry {
            number,
            kind: EntryKind::Gpt(kind),
            label: (!label.is_empty()).then_some(label),
            guid: Some(guid(raw, 16)),
            start: first.saturating_mul(sector.bytes()),
            size: (last - first).saturating_add(1).saturating_mul(sector.bytes()),
            attributes: le64(raw, 48),
        });
    }
    partitions
}

/// One header and its entries.
enum Half {
    Missing,
    Damaged(String),
    Sound(Sound),
}

struct Sound {
    header: Header,
    entries: Vec<u8>,
}

struct Header {
    alternate: u64,
    first_usable: u64,
    last_usable: u64,
    disk: Uuid,
    slots: u32,
    entry_size: u32,
    entries_crc: u32,
}

impl Half {
    fn read(disk: &SliceReader, sector: Sector, at: u64) -> Result<Self, MediaError> {
        let raw = sector_at(disk, sector, at)?.filter(|raw| holds(raw, 0, MAGIC));
        let Some(raw) = raw else { return Ok(Self::Missing) };
        let damaged = |why: String| Ok(Self::Damaged(why));
        let length = le32(&raw, 12);
        if length < HEADER || u64::from(length) > sector.bytes() {
            return damaged(format!("the header says that it has {length} bytes"));
        }
        let mut summed = raw[..length as usize].to_vec();
        put(&mut summed, 16, &[0; 4]);
        if crc32fast::hash(&summed) != le32(&raw, 16) {
            return damaged("the header's checksum does not fit".to_owned());
        }
        if le64(&raw, 24) != at {
            return damaged(format!("the header stands in sector {at} and says {}", le64(&raw, 24)));
        }
        let (slots, entry_size) = (le32(&raw, 80), le32(&raw, 84));
        let length = u64::from(slots) * u64::from(entry_size);
        if entry_size < 128 || !entry_size.is_power_of_two() || length > MAX_ENTRIES || slots == 0 {
            return damaged(format!("the header says {slots} entries of {entry_size} bytes"));
        }
        let place = le64(&raw, 72).saturating_mul(sector.bytes());
        let entries = match disk.piece("the GPT's entries", place, length) {
            Ok(entries) => entries,
            Err(MediaError::Cut { .. }) => {
                return damaged(format!("its entries would be at byte {place}, behind the disk's end"));
            }
            Err(error) => return Err(error),
        };
        let entries_crc = le32(&raw, 88);
        if crc32fast::hash(&entries) != entries_crc {
            return damaged("the checksum over the entries does not fit".to_owned());
        }
        let header = Header {
            alternate: le64(&raw, 32),
            first_usable: le64(&raw, 40),
            last_usable: le64(&raw, 48),
            disk: guid(&raw, 56),
            slots,
            entry_size,
            entries_crc,
        };
        Ok(Self::Sound(Sound { header, entries }))
    }

    fn state(&self, sector: u64) -> HeaderState {
        match self {
            Self::Missing => HeaderState::Missing,
            Self::Damaged(why) => HeaderState::Damaged { sector, why: why.clone() },
            Self::Sound(_) => HeaderState::Sound { sector },
        }
    }
}

/// A GUID as GPT stores it: the first three fields little-endian.
fn guid(bytes: &[u8], at: usize) -> Uuid {
    Uuid::from_bytes_le(array(bytes, at).unwrap_or_default())
}

/// A partition to be written.
#[derive(Clone, Debug)]
pub(crate) struct NewPartition {
    pub(crate) kind: Uuid,
    pub(crate) guid: Uuid,
    pub(crate) label: String,
    /// First sector.
    pub(crate) first: u64,
    /// Last sector, which belongs to it.
    pub(crate) last: u64,
}

impl NewPartition {
    fn write(&self, entry: &mut [u8]) {
        entry.fill(0);
        put(entry, 0, &self.kind.to_bytes_le());
        put(entry, 16, &self.guid.to_bytes_le());
        put(entry, 32, &self.first.to_le_bytes());
        put(entry, 40, &self.last.to_le_bytes());
        for (unit, at) in self.label.encode_utf16().take(36).zip((56..).step_by(2)) {
            put(entry, at, &unit.to_le_bytes());
        }
    }
}

/// A GPT as the bytes that make it, to be changed and written again.
pub(crate) struct Layout {
    header: Vec<u8>,
    entries: Vec<u8>,
    sector: Sector,
    sectors: u64,
}

impl Layout {
    /// The sound primary GPT of a disk, every byte of it kept.
    pub(crate) fn of(disk: &SliceReader, sector: Sector) -> Result<Self, MediaError> {
        let sectors = disk.length() / sector.bytes();
        match Half::read(disk, sector, 1)? {
            Half::Sound(sound) => {
                let header = sector_at(disk, sector, 1)?.unwrap_or_default();
                Ok(Self { header, entries: sound.entries, sector, sectors })
            }
            Half::Damaged(why) => Err(MediaError::damaged("the primary GPT", why)),
            Half::Missing => Err(MediaError::damaged("the primary GPT", "it is missing")),
        }
    }

    /// An empty one of 128 entries.
    pub(crate) fn new(size: u64, sector: Sector, disk: Uuid) -> Self {
        let sectors = size / sector.bytes();
        let mut header = vec![0; sector.bytes() as usize];
        let entries = vec![0; 128 * 128];
        put(&mut header, 0, MAGIC);
        put(&mut header, 8, &0x0001_0000_u32.to_le_bytes());
        put(&mut header, 12, &HEADER.to_le_bytes());
        put(&mut header, 24, &1_u64.to_le_bytes());
        put(&mut header, 40, &(2 + 16384 / sector.bytes()).to_le_bytes());
        put(&mut header, 56, &disk.to_bytes_le());
        put(&mut header, 72, &2_u64.to_le_bytes());
        put(&mut header, 80, &128_u32.to_le_bytes());
        put(&mut header, 84, &128_u32.to_le_bytes());
        let mut layout = Self { header, entries, sector, sectors };
        layout.reach_to_the_end();
        layout
    }

    /// Sectors that the entries take.
    fn entry_sectors(&self) -> u64 {
        (self.entries.len() as u64).div_ceil(self.sector.bytes())
    }

    /// Puts the backup's place into the last sector and lets partitions use all that is before it.
    pub(crate) fn reach_to_the_end(&mut self) {
        let (last, entries) = (self.sectors - 1, self.entry_sectors());
        put(&mut self.header, 32, &last.to_le_bytes());
        put(&mut self.header, 48, &(last - entries - 1).to_le_bytes());
    }

    /// Whether the backup stands in the last sector.
    pub(crate) fn reaches_the_end(&self) -> bool {
        le64(&self.header, 32) == self.sectors - 1
    }

    /// The last sector that a partition may use.
    pub(crate) fn last_usable(&self) -> u64 {
        le64(&self.header, 48)
    }

    /// Adds a partition in the first free entry and returns its number; `None` where no entry is free.
    pub(crate) fn add(&mut self, partition: &NewPartition) -> Option<u32> {
        let size = le32(&self.header, 84) as usize;
        let slot = self.entries.chunks_exact(size).position(|entry| guid(entry, 0).is_nil())?;
        partition.write(&mut self.entries[slot * size..(slot + 1) * size]);
        Some(slot as u32 + 1)
    }

    /// Everything that is to be written: where, and what. The primary header comes last, so that a table that was only
    /// half written is one with a checksum that does not fit.
    pub(crate) fn pieces(&self) -> Vec<(u64, Vec<u8>)> {
        let bytes = self.sector.bytes();
        let mut primary = self.header.clone();
        put(&mut primary, 88, &crc32fast::hash(&self.entries).to_le_bytes());
        let (own, alternate) = (le64(&primary, 24), le64(&primary, 32));
        let mut backup = primary.clone();
        put(&mut backup, 24, &alternate.to_le_bytes());
        put(&mut backup, 32, &own.to_le_bytes());
        let backup_entries = alternate - self.entry_sectors();
        put(&mut backup, 72, &backup_entries.to_le_bytes());
        let (primary, backup) = (summed(primary), summed(backup));
        vec![
            (backup_entries * bytes, self.entries.clone()),
            (alternate * bytes, backup),
            (le64(&primary, 72) * bytes, self.entries.clone()),
            (own * bytes, primary),
        ]
    }
}

fn summed(mut header: Vec<u8>) -> Vec<u8> {
    put(&mut header, 16, &[0; 4]);
    let length = le32(&header, 12) as usize;
    let crc = crc32fast::hash(&header[..length]);
    put(&mut header, 16, &crc.to_le_bytes());
    header
}

/// Writes a fresh GPT with its protective MBR; boot code in the first sector stays.
pub(crate) fn write_gpt(
    disk: &SliceReader,
    sector: Sector,
    identity: Uuid,
    partitions: &[NewPartition],
) -> io::Result<()> {
    let mut layout = Layout::new(disk.length(), sector, identity);
    for partition in partitions {
        layout.add(partition);
    }
    let mut first = vec![0; sector.bytes() as usize];
    disk.read_exact_at(&mut first, 0)?;
    first[446..510].fill(0);
    let count = u32::try_from(disk.length() / sector.bytes() - 1).unwrap_or(u32::MAX);
    write_slot(&mut first, 0, MbrSlot { active: false, kind: 0xee, start: 1, count });
    // As the specification has it: from sector 1 to the disk's end.
    put(&mut first, 447, &[0, 2, 0]);
    disk.write_all_at(&first, 0)?;
    for (at, bytes) in layout.pieces() {
        disk.write_all_at(&bytes, at)?;
    }
    Ok(())
}
