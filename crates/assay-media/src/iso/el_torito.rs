//! The El Torito boot catalogue: what the firmware of a machine finds on a CD.

use serde::Serialize;

use super::BLOCK;
use crate::FatTree;
use crate::bytes::{holds, le16, le32};
use crate::files::Tree;
use crate::source::Source as _;
use crate::{MediaError, SliceReader};

/// The catalogue is read this far: 256 records of 32 bytes, many times what firmware looks at.
const MAX_CATALOGUE: u64 = 4 * BLOCK;
const WHAT: &str = "the El Torito boot catalogue";

/// An entry of the boot catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BootEntry {
    /// Which firmware it is for.
    pub platform: Platform,
    /// Whether it is marked bootable.
    pub is_bootable: bool,
    /// What it pretends to be.
    pub emulation: Emulation,
    /// The real-mode segment that a BIOS loads it to; 0 is the usual 0x07c0.
    pub segment: u16,
    /// Its first block, of 2048 bytes.
    pub block: u32,
    /// Sectors of 512 bytes to load, as the catalogue says. For EFI, 0 or 1 means "to the end".
    pub sectors: u16,
    /// Bytes that belong to it: what the catalogue says or, for an EFI entry, what its file system says.
    pub bytes: u64,
    /// The boot loaders in the file system of an EFI entry, such as `/EFI/BOOT/BOOTX64.EFI`.
    pub loaders: Vec<String>,
    /// Why firmware cannot use it.
    pub problem: Option<String>,
}

/// Which firmware a boot entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    /// An x86 BIOS.
    Bios,
    /// PowerPC.
    PowerPc,
    /// Macintosh.
    Mac,
    /// UEFI.
    Efi,
    /// Something else.
    Other(u8),
}

/// What a BIOS pretends that a boot entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Emulation {
    /// Nothing: it is loaded as it is.
    None,
    /// A 1.2 MB diskette.
    Floppy12,
    /// A 1.44 MB diskette.
    Floppy144,
    /// A 2.88 MB diskette.
    Floppy288,
    /// A hard disk.
    HardDisk,
    /// Something that the specification does not know.
    Unknown(u8),
}

impl BootEntry {
    /// Where it begins in the image, in bytes.
    pub fn start(&self) -> u64 {
        u64::from(self.block) * BLOCK
    }

    /// Its bytes as a file.
    pub(crate) fn part(&self, file: &SliceReader) -> Result<SliceReader, MediaError> {
        file.slice(self.start(), self.bytes)
    }
}

pub(super) fn read(file: &SliceReader, block: u64) -> Result<Vec<BootEntry>, MediaError> {
    let at = block * BLOCK;
    let length = MAX_CATALOGUE.min(file.length().saturating_sub(at)) / BLOCK * BLOCK;
    let raw = file.piece(WHAT, at, length.max(BLOCK))?;
    let (validation, rest) = raw.split_at(32);
    if validation[0] != 1 || !holds(validation, 30, &[0x55, 0xaa]) {
        return Err(MediaError::damaged(WHAT, format!("block {block} holds no validation entry")));
    }
    let words = validation.chunks_exact(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
    if words.fold(0_u16, u16::wrapping_add) != 0 {
        return Err(MediaError::damaged(WHAT, "its checksum does not fit"));
    }
    let mut entries = Vec::new();
    let mut records = rest.chunks_exact(32);
    if let Some(first) = records.next() {
        entries.push(entry(file, platform(validation[1]), first)?);
    }
    // Sections: a head that says how many entries follow, and whether it is the last.
    while let Some(head) = records.next().filter(|head| matches!(head[0], 0x90 | 0x91)) {
        let mut left = le16(head, 2);
        while left > 0 {
            let Some(record) = records.next() else { break };
            // An extension belongs to the entry before it.
            if record[0] != 0x44 {
                entries.push(entry(file, platform(head[1]), record)?);
                left -= 1;
            }
        }
        if head[0] == 0x91 {
            break;
        }
    }
    Ok(entries)
}

fn platform(byte: u8) -> Platform {
    match byte {
        0 => Platform::Bios,
        1 => Platform::PowerPc,
        2 => Platform::Mac,
        0xef => Platform::Efi,
        other => Platform::Other(other),
    }
}

fn entry(file: &SliceReader, platform: Platform, raw: &[u8]) -> Result<BootEntry, MediaError> {
    let emulation = match raw[1] & 0x0f {
        0 => Emulation::None,
        1 => Emulation::Floppy12,
        2 => Emulation::Floppy144,
        3 => Emulation::Floppy288,
        4 => Emulation::HardDisk,
        other => Emulation::Unknown(other),
    };
    let (block, sectors) = (le32(raw, 8), le16(raw, 6));
    let mut entry = BootEntry {
        platform,
        is_bootable: raw[0] == 0x88,
        emulation,
        segment: le16(raw, 2),
        block,
        sectors,
        bytes: match emulation {
            Emulation::Floppy12 => 1_228_800,
            Emulation::Floppy144 => 1_474_560,
            Emulation::Floppy288 => 2_949_120,
            _ => u64::from(sectors) * 512,
        },
        loaders: Vec::new(),
        problem: None,
    };
    let room = file.length().saturating_sub(entry.start());
    if block == 0 {
        entry.problem = Some("it points to block 0".to_owned());
    } else if room == 0 || entry.bytes > room {
        entry.problem = Some(format!(
            "it needs {} bytes at byte {}, and the file ends at {}",
            entry.bytes.max(1),
            entry.start(),
            file.length()
        ));
    } else if platform == Platform::Efi {
        look_for_loaders(file, &mut entry, room)?;
    } else if sectors == 0 && emulation == Emulation::None {
        entry.problem = Some("it loads no sectors".to_owned());
    }
    if entry.problem.is_none() && !entry.is_bootable {
        entry.problem = Some("it is not marked bootable".to_owned());
    }
    Ok(entry)
}

/// Firmware opens the file system at the entry's block; the count is too small for large ones, and then left open.
fn look_for_loaders(file: &SliceReader, entry: &mut BootEntry, room: u64) -> Result<(), MediaError> {
    match FatTree::open(&file.slice(entry.start(), room)?) {
        Ok(tree) => {
            if entry.sectors < 2 || tree.volume_bytes() > entry.bytes {
                entry.bytes = tree.volume_bytes();
            }
            match loaders(&Tree::Fat(tree)) {
                Ok(found) if found.is_empty() => {
                    entry.problem = Some("its file system has no /EFI/BOOT/BOOT*.EFI".to_owned());
                }
                Ok(found) => entry.loaders = found,
                Err(error @ MediaError::Io { .. }) => return Err(error),
                Err(error) => entry.problem = Some(error.to_string()),
            }
        }
        Err(error @ MediaError::Io { .. }) => return Err(error),
        Err(error) => entry.problem = Some(format!("it holds no FAT file system: {error}")),
    }
    Ok(())
}

/// The removable-media boot loaders in a file system (UEFI specification, section 3.5.1.1).
pub(super) fn loaders(tree: &Tree) -> Result<Vec<String>, MediaError> {
    let nodes = match tree.list("/EFI/BOOT") {
        Ok(nodes) => nodes,
        Err(MediaError::NotFound { .. } | MediaError::WrongKind { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let is_loader = |name: &str| {
        let name = name.to_ascii_uppercase();
        [
            "BOOTX64.EFI",
            "BOOTIA32.EFI",
            "BOOTAA64.EFI",
            "BOOTARM.EFI",
            "BOOTRISCV64.EFI",
            "BOOTLOONGARCH64.EFI",
        ]
        .contains(&name.as_str())
    };
    let loaders = nodes.into_iter().filter(|node| node.is_file() && node.size > 0 && is_loader(node.name()));
    Ok(loaders.map(|node| node.path).collect())
}
