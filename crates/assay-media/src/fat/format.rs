//! An empty FAT file system.
//!
//! The kind follows from the size, as `mkfs.vfat` chooses it; UEFI reads all three. Two tables, 512 entries in the root
//! of FAT12 and FAT16, and a boot sector that stops a BIOS which runs it.

use std::io;

use crate::MediaError;
use crate::bytes::put;
use crate::source::{Overlay, Source as _};

const MIB: u64 = 1 << 20;
/// Entries of the root folder where its size is fixed.
const ROOT_ENTRIES: u64 = 512;

/// How a volume is to be made.
pub(crate) struct Format<'a> {
    /// Bytes of a logical sector.
    pub(crate) sector: u64,
    /// Up to 11 ASCII letters.
    pub(crate) label: &'a str,
    /// The serial number.
    pub(crate) serial: u32,
    /// Where the volume begins on its disk, in bytes.
    pub(crate) start: u64,
}

struct Shape {
    bits: u8,
    reserved: u64,
    per_cluster: u64,
    per_fat: u64,
    total: u64,
}

impl Shape {
    /// The smallest clusters with which the volume is of the wanted kind.
    fn choose(size: u64, sector: u64) -> Option<Self> {
        let (bits, least, most, smallest) = match size {
            0..8_388_608 => (12, 1, 4084, sector),
            8_388_608..536_870_912 => (16, 4085, 65_524, sector),
            _ => (32, 65_525, 0x0fff_fff4, 4096),
        };
        let total = (size / sector).min(u64::from(u32::MAX));
        let (reserved, root) = if bits == 32 { (32, 0) } else { (1, (ROOT_ENTRIES * 32).div_ceil(sector)) };
        let mut per_cluster = (smallest / sector).max(1);
        while per_cluster <= 128 {
            let mut per_fat = 1;
            // Larger tables leave fewer clusters; a few rounds settle it.
            for _ in 0..32 {
                let clusters = total.checked_sub(reserved + 2 * per_fat + root)? / per_cluster;
                let needed = ((clusters + 2) * bits).div_ceil(8).div_ceil(sector);
                if needed <= per_fat {
                    if (least..=most).contains(&clusters) {
                        return Some(Self { bits: bits as u8, reserved, per_cluster, per_fat, total });
                    }
                    break;
                }
                per_fat = needed;
            }
            per_cluster *= 2;
        }
        None
    }

    fn boot_sector(&self, asked: &Format<'_>) -> Vec<u8> {
        let is_32 = self.bits == 32;
        let mut boot = vec![0; asked.sector as usize];
        // A jump to a loop that does nothing.
        let code: u8 = if is_32 { 0x5a } else { 0x3e };
        put(&mut boot, 0, &[0xeb, code - 2, 0x90]);
        put(&mut boot, usize::from(code), &[0xf4, 0xeb, 0xfd]);
        put(&mut boot, 3, b"MSWIN4.1");
        put(&mut boot, 11, &(asked.sector as u16).to_le_bytes());
        put(&mut boot, 13, &[self.per_cluster as u8]);
        put(&mut boot, 14, &(self.reserved as u16).to_le_bytes());
        put(&mut boot, 16, &[2]);
        put(&mut boot, 17, &(if is_32 { 0 } else { ROOT_ENTRIES as u16 }).to_le_bytes());
        match u16::try_from(self.total) {
            Ok(total) if !is_32 => put(&mut boot, 19, &total.to_le_bytes()),
            _ => put(&mut boot, 32, &(self.total as u32).to_le_bytes()),
        }
        put(&mut boot, 21, &[0xf8]);
        put(&mut boot, 24, &[63, 0, 255, 0]);
        let hidden = u32::try_from(asked.start / asked.sector).unwrap_or_default();
        put(&mut boot, 28, &hidden.to_le_bytes());
        if is_32 {
            put(&mut boot, 36, &(self.per_fat as u32).to_le_bytes());
            // The root's cluster, the sector of the counts, the sector of the copy.
            put(&mut boot, 44, &[2, 0, 0, 0, 1, 0, 6, 0]);
        } else {
            put(&mut boot, 22, &(self.per_fat as u16).to_le_bytes());
        }
        let at = if is_32 { 64 } else { 36 };
        put(&mut boot, at, &[0x80, 0, 0x29]);
        put(&mut boot, at + 3, &asked.serial.to_le_bytes());
        put(&mut boot, at + 7, &padded(asked.label));
        put(&mut boot, at + 18, format!("FAT{:<5}", self.bits).as_bytes());
        put(&mut boot, 510, &[0x55, 0xaa]);
        boot
    }
}

/// Makes an empty file system over the whole of `volume`, which must be zero.
pub(crate) fn format(volume: &Overlay, asked: &Format<'_>) -> Result<(), MediaError> {
    let label = asked.label;
    if label.len() > 11 || !label.chars().all(|letter| letter.is_ascii_graphic() || letter == ' ') {
        let path = label.to_owned();
        return Err(MediaError::BadName { path, why: "a label has up to 11 ASCII letters" });
    }
    let Some(shape) = Shape::choose(volume.size(), asked.sector) else {
        let (what, bytes) = ("a FAT file system".to_owned(), volume.size());
        return Err(MediaError::TooSmall { what, bytes, needed: MIB });
    };
    write(volume, asked, &shape).map_err(|source| MediaError::Io {
        doing: "formatting",
        path: "the FAT file system".into(),
        source,
    })
}

fn write(volume: &Overlay, asked: &Format<'_>, shape: &Shape) -> io::Result<()> {
    let boot = shape.boot_sector(asked);
    volume.put(0, &boot)?;
    if shape.bits == 32 {
        let mut info = vec![0; asked.sector as usize];
        put(&mut info, 0, b"RRaA");
        put(&mut info, 484, b"rrAa");
        // All but the root's cluster are free, and the next one is behind it.
        let clusters = (shape.total - shape.reserved - 2 * shape.per_fat) / shape.per_cluster;
        put(&mut info, 488, &(clusters as u32 - 1).to_le_bytes());
        put(&mut info, 492, &3_u32.to_le_bytes());
        put(&mut info, 510, &[0x55, 0xaa]);
        for at in [0, 6] {
            volume.put(at * asked.sector, &boot)?;
            volume.put((at + 1) * asked.sector, &info)?;
        }
    }
    // The first two entries are no clusters: the medium, and the flags of a clean volume.
    let first: &[u8] = match shape.bits {
        12 => &[0xf8, 0xff, 0xff],
        16 => &[0xf8, 0xff, 0xff, 0xff],
        _ => &[0xf8, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0x0f],
    };
    for fat in 0..2 {
        volume.put((shape.reserved + fat * shape.per_fat) * asked.sector, first)?;
    }
    if !asked.label.is_empty() {
        let mut entry = [0; 32];
        put(&mut entry, 0, &padded(asked.label));
        put(&mut entry, 11, &[0x08]);
        // 1 January 1980.
        put(&mut entry, 24, &[0x21, 0]);
        // The root folder, or its cluster, which is the first of all.
        volume.put((shape.reserved + 2 * shape.per_fat) * asked.sector, &entry)?;
    }
    Ok(())
}

fn padded(label: &str) -> [u8; 11] {
    let mut padded = [b' '; 11];
    let label = if label.is_empty() { "NO NAME" } else { label };
    put(&mut padded, 0, label.as_bytes());
    padded
}
