//! The partition table of an image: GPT at both ends, MBR with logical partitions, or neither.
//!
//! Own code, and not the crates `gpt` and `mbrman`: those answer "what are the partitions", and refuse a table that is
//! damaged. Here the question is which of the two headers is sound, what exactly is wrong with the other, and which of
//! two tables on a hybrid medium is in force, so that an installer can be judged by it. Sources: UEFI specification
//! 2.10, section 5 (GPT, protective MBR); the kernel's `block/partitions/efi.c` and `msdos.c` for what is in force.

mod gpt;
mod mbr;
mod types;

use serde::Serialize;
use uuid::Uuid;

pub(crate) use gpt::{Layout, NewPartition, write_gpt};
pub(crate) use mbr::{MbrSlot, write_slot};
pub use types::{TYPE_BIOS_BOOT, TYPE_ESP, TYPE_LINUX, TYPE_LINUX_SWAP, TYPE_MICROSOFT_BASIC};

use crate::source::Source;
use crate::{MediaError, SliceReader};

/// Bytes of a logical sector: the unit in which a table counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Sector {
    /// 512 bytes: nearly every disk, and every ISO image on a stick.
    B512,
    /// 4096 bytes: disks without emulation ("4Kn").
    B4096,
}

impl Sector {
    /// Bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }
}

/// Which table is in force: the one that a kernel uses.
///
/// One case apart: a sound GPT that nothing announces, on a disk whose first sector has no partitions, counts as
/// [`Scheme::Gpt`] with [`TableProblem::NotAnnounced`]. The kernel shows nothing there, and tools offer to repair it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// No table.
    None,
    /// An MBR (DOS) table.
    Mbr,
    /// A GPT, whole or of which one header is sound.
    Gpt,
    /// A protective MBR that announces a GPT, and none that could be used.
    ProtectiveOnly,
}

/// The partition table of a disk or image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Table {
    /// The sector size that it was read with.
    pub sector: Sector,
    /// Bytes of the disk.
    pub size: u64,
    /// What is in force.
    pub scheme: Scheme,
    /// The MBR, where there is one: on a GPT disk the protective one.
    pub mbr: Option<Mbr>,
    /// The GPT, where at least one header can be recognised, in force or not.
    pub gpt: Option<Gpt>,
    /// Everything that is not as it should be.
    pub problems: Vec<TableProblem>,
}

/// The first sector as an MBR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mbr {
    /// The disk signature at byte 440.
    pub signature: u32,
    /// Whether bytes 0 to 439 hold anything.
    pub has_boot_code: bool,
    /// The partitions, logical ones from number 5 on.
    pub partitions: Vec<Entry>,
}

impl Mbr {
    /// Whether it announces a GPT (an entry of type 0xee).
    pub fn is_protective(&self) -> bool {
        self.partitions.iter().any(|entry| entry.kind == EntryKind::Mbr(0xee))
    }
}

/// A GPT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gpt {
    /// The disk's GUID; nil where no header is sound.
    pub disk: Uuid,
    /// The header in the second sector.
    pub primary: HeaderState,
    /// The header in the last sector, or where the primary one says that it is.
    pub backup: HeaderState,
    /// First sector that a partition may use.
    pub first_usable: u64,
    /// Last sector that a partition may use.
    pub last_usable: u64,
    /// Entries that there is room for.
    pub slots: u32,
    /// The partitions, from the first sound header; none where there is no sound one.
    pub partitions: Vec<Entry>,
}

/// One of the two headers of a GPT together with its table of entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum HeaderState {
    /// Both checksums fit.
    Sound {
        /// Its sector.
        sector: u64,
    },
    /// Its mark is there, and it cannot be trusted.
    Damaged {
        /// Its sector.
        sector: u64,
        /// What does not fit.
        why: String,
    },
    /// It is not there.
    Missing,
}

impl HeaderState {
    /// Whether it can be used.
    pub fn is_sound(&self) -> bool {
        matches!(self, Self::Sound { .. })
    }
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its number, from 1, as the kernel counts.
    pub number: u32,
    /// Its type.
    pub kind: EntryKind,
    /// The GPT's name for it.
    pub label: Option<String>,
    /// The GPT's identity of it.
    pub guid: Option<Uuid>,
    /// Where it starts, in bytes.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// The GPT's attribute bits (bit 2 is "legacy BIOS bootable"); for an MBR 1 where it is marked active.
    pub attributes: u64,
}

impl Entry {
    /// The first byte behind it.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.size)
    }

    /// Whether its type says EFI system partition.
    pub fn is_esp(&self) -> bool {
        matches!(&self.kind, EntryKind::Gpt(guid) if *guid == TYPE_ESP) || self.kind == EntryKind::Mbr(0xef)
    }
}

/// The type of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// A GPT's type GUID.
    Gpt(Uuid),
    /// An MBR's type byte.
    Mbr(u8),
}

impl EntryKind {
    /// What people call it; `unknown` where nobody here does.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Gpt(guid) => types::guid_name(guid),
            Self::Mbr(byte) => types::byte_name(*byte),
        }
    }
}

/// Something about a table that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "problem")]
pub enum TableProblem {
    /// The primary header or its entries cannot be used; the backup is.
    #[error("the primary GPT is damaged ({why}); the backup at the end is used")]
    PrimaryDamaged {
        /// What does not fit.
        why: String,
    },
    /// Nothing stands where the primary header belongs.
    #[error("the primary GPT is gone; the backup at the end is used")]
    PrimaryMissing,
    /// The backup header or its entries cannot be used.
    #[error("the backup GPT is damaged: {why}")]
    BackupDamaged {
        /// What does not fit.
        why: String,
    },
    /// There is no backup, neither at the end nor where the primary header says.
    #[error("the backup GPT is missing")]
    BackupMissing,
    /// The backup is sound but does not stand in the last sector: the disk has grown, or an image was copied to it.
    #[error("the backup GPT stands in sector {found}, not in the last one, {last}")]
    BackupNotAtEnd {
        /// Where it is.
        found: u64,
        /// Where it belongs.
        last: u64,
    },
    /// Both are sound and say different things.
    #[error("the backup GPT describes other partitions than the primary one")]
    BackupDiffers,
    /// Neither header can be used.
    #[error("a GPT was here and neither of its headers can be used: {why}")]
    BothDamaged {
        /// What does not fit with the primary one.
        why: String,
    },
    /// A GPT without the MBR that announces it: firmware may use it, the kernel does not.
    #[error("there is a GPT, but no protective MBR announces it, so the kernel does not use it")]
    NotAnnounced,
    /// A partition reaches behind the disk's end.
    #[error("partition {number} reaches {beyond} bytes behind the disk's end")]
    BeyondEnd {
        /// The partition.
        number: u32,
        /// By how much.
        beyond: u64,
    },
    /// A partition ends before it starts.
    #[error("partition {number} ends before it starts and is left out")]
    Inverted {
        /// The partition.
        number: u32,
    },
    /// Two partitions share bytes.
    #[error("partitions {first} and {second} overlap")]
    Overlap {
        /// One.
        first: u32,
        /// The other.
        second: u32,
    },
    /// The chain of logical partitions does not come to its end.
    #[error("the chain of logical partitions is damaged: {why}")]
    BrokenChain {
        /// Where it goes wrong.
        why: String,
    },
}

impl Table {
    /// Reads the table of a disk or image with this sector size.
    ///
    /// A damaged table is not an error: what is wrong stands in [`Table::problems`].
    ///
    /// # Errors
    /// [`MediaError::Io`] only.
    pub fn read(disk: &SliceReader, sector: Sector) -> Result<Self, MediaError> {
        let size = disk.length();
        let mut problems = Vec::new();
        let mbr = mbr::read(disk, sector, &mut problems)?;
        let mut gpt_problems = Vec::new();
        let gpt = gpt::read(disk, sector, &mut gpt_problems)?;
        let protective = mbr.as_ref().is_some_and(Mbr::is_protective);
        let usable = gpt.as_ref().is_some_and(|gpt| gpt.primary.is_sound() || gpt.backup.is_sound());
        let scheme = match (&mbr, protective) {
            (_, true) if usable => Scheme::Gpt,
            (_, true) => Scheme::ProtectiveOnly,
            (Some(mbr), false) if !mbr.partitions.is_empty() => Scheme::Mbr,
            // Without its MBR a GPT is still what the disk was divided by; tools offer to repair it.
            _ if usable => Scheme::Gpt,
            (Some(_), false) => Scheme::Mbr,
            (None, _) => Scheme::None,
        };
        if gpt.is_some() && !protective {
            gpt_problems.push(TableProblem::NotAnnounced);
        }
        problems.append(&mut gpt_problems);
        let mut table = Self { sector, size, scheme, mbr, gpt, problems };
        table.check_extents();
        Ok(table)
    }

    /// As [`Table::read`] with the sector size whose GPT is found; 512 bytes where neither is.
    ///
    /// # Errors
    /// As [`Table::read`].
    pub fn detect(disk: &SliceReader) -> Result<Self, MediaError> {
        let usual = Self::read(disk, Sector::B512)?;
        if usual.gpt.is_some() {
            return Ok(usual);
        }
        let large = Self::read(disk, Sector::B4096)?;
        Ok(if large.gpt.is_some() { large } else { usual })
    }

    /// The partitions of the table that is in force. An extended partition and a protective entry are none.
    pub fn partitions(&self) -> Vec<&Entry> {
        match self.scheme {
            Scheme::Gpt => self.gpt.iter().flat_map(|gpt| &gpt.partitions).collect(),
            Scheme::Mbr => self
                .mbr
                .iter()
                .flat_map(|mbr| &mbr.partitions)
                .filter(|entry| !matches!(entry.kind, EntryKind::Mbr(0x05 | 0x0f | 0x85)))
                .collect(),
            Scheme::None | Scheme::ProtectiveOnly => Vec::new(),
        }
    }

    /// The disk's identity: its GUID, or an MBR's signature as eight hexadecimal digits, as `blkid` says it.
    pub fn identity(&self) -> Option<String> {
        match self.scheme {
            Scheme::Gpt => self.gpt.as_ref().map(|gpt| gpt.disk.to_string()),
            Scheme::Mbr => self.mbr.as_ref().map(|mbr| format!("{:08x}", mbr.signature)),
            Scheme::None | Scheme::ProtectiveOnly => None,
        }
    }

    fn check_extents(&mut self) {
        let mut found = Vec::new();
        let mut sorted = self.partitions();
        for entry in &sorted {
            if entry.end() > self.size {
                found.push(TableProblem::BeyondEnd { number: entry.number, beyond: entry.end() - self.size });
            }
        }
        sorted.sort_by_key(|entry| entry.start);
        for pair in sorted.windows(2) {
            if pair[0].end() > pair[1].start {
                found.push(TableProblem::Overlap { first: pair[0].number, second: pair[1].number });
            }
        }
        self.problems.append(&mut found);
    }
}

/// A sector, or nothing where the disk is too small to have it.
fn sector_at(disk: &SliceReader, sector: Sector, number: u64) -> Result<Option<Vec<u8>>, MediaError> {
    let Some(at) = number.checked_mul(sector.bytes()) else { return Ok(None) };
    match disk.piece("a sector of the partition table", at, sector.bytes()) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(MediaError::Cut { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
