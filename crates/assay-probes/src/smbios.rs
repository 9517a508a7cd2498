//! The firmware's own description of the machine: SMBIOS tables as the kernel exports them in
//! `/sys/firmware/dmi/tables`.
//!
//! Parsed here rather than from `dmidecode`'s text, which changes and is not everywhere. The bytes come from firmware
//! of any quality: every access is bounds-checked, a broken structure ends the walk and says so, nothing panics.
//! Field offsets are those of DMTF's DSP0134.

use std::collections::HashMap;

use assay_model::host::inventory::{Bios, Board, Dimm, System};
use assay_model::text;

use crate::files::told;

/// What the tables say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Smbios {
    /// Types 1 and 3.
    pub system: System,
    /// Type 2, the first one.
    pub board: Board,
    /// Type 0.
    pub bios: Bios,
    /// Type 17, of arrays that hold main memory.
    pub dimms: Vec<Dimm>,
    /// Whether a management controller is announced (type 38).
    pub bmc: bool,
    /// How the tables end too early, if they do.
    pub problem: Option<String>,
}

/// Parses the tables. `entry_point` is the file beside them, which tells their version.
pub fn parse(entry_point: &[u8], tables: &[u8]) -> Smbios {
    let (structures, problem) = structures(tables);
    let mut found = Smbios { problem, ..Smbios::default() };
    // UUIDs were big-endian throughout before version 2.6.
    let little_endian = version(entry_point).is_none_or(|version| version >= (2, 6));
    let arrays: HashMap<u16, Array> =
        structures.iter().filter(|s| s.kind == 16).map(|s| (s.handle, array(s))).collect();
    let (mut system, mut board, mut bios, mut chassis) = (false, false, false, false);
    for structure in &structures {
        match structure.kind {
            0 if !std::mem::replace(&mut bios, true) => {
                found.bios =
                    Bios { vendor: structure.text(4), version: structure.text(5), date: structure.text(8) };
            }
            1 if !std::mem::replace(&mut system, true) => {
                found.system.manufacturer = structure.text(4);
                found.system.product = structure.text(5);
                found.system.serial = structure.text(7);
                found.system.uuid = structure.uuid(8, little_endian);
                found.system.sku = structure.text(0x19);
            }
            2 if !std::mem::replace(&mut board, true) => {
                found.board = Board {
                    manufacturer: structure.text(4),
                    product: structure.text(5),
                    version: structure.text(6),
                    serial: structure.text(7),
                };
            }
            3 if !std::mem::replace(&mut chassis, true) => {
                found.system.chassis = structure.byte(5).and_then(chassis_kind).map(str::to_owned);
                found.system.asset_tag = structure.text(8);
            }
            17 => found.dimms.extend(dimm(structure, &arrays)),
            38 => found.bmc = true,
            _ => {}
        }
    }
    found
}

/// One structure: its formatted part (header included) and its strings.
struct Structure<'a> {
    kind: u8,
    handle: u16,
    formatted: &'a [u8],
    strings: &'a [u8],
}

impl Structure<'_> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.formatted.get(at).copied()
    }

    fn word(&self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(self.formatted.get(at..at.checked_add(2)?)?.try_into().ok()?))
    }

    fn dword(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.formatted.get(at..at.checked_add(4)?)?.try_into().ok()?))
    }

    /// The string that the byte at `at` refers to, unless it says nothing.
    fn text(&self, at: usize) -> Option<String> {
        told(&self.raw_text(at)?)
    }

    fn raw_text(&self, at: usize) -> Option<String> {
        let index = usize::from(self.byte(at)?).checked_sub(1)?;
        let raw = self.strings.split(|&b| b == 0).nth(index)?;
        Some(String::from_utf8_lossy(raw).into_owned())
    }

    fn uuid(&self, at: usize, little_endian: bool) -> Option<String> {
        let mut bytes: [u8; 16] = self.formatted.get(at..at.checked_add(16)?)?.try_into().ok()?;
        if bytes.iter().all(|&b| b == 0) || bytes.iter().all(|&b| b == 0xff) {
            return None;
        }
        if little_endian {
            bytes[0..4].reverse();
            bytes[4..6].reverse();
            bytes[6..8].reverse();
        }
        let hex = format!("{:032x}", u128::from_be_bytes(bytes));
        Some([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
    }
}

fn structures(mut rest: &[u8]) -> (Vec<Structure<'_>>, Option<String>) {
    let mut found = Vec::new();
    while let &[kind, length, low, high, ..] = rest {
        // Some firmware leaves out the end marker and pads with zeros.
        if rest.iter().all(|&b| b == 0) {
            return (found, None);
        }
        let length = usize::from(length);
        let broken = |what: &str| {
            Some(format!("the SMBIOS tables are cut short: structure {} (type {kind}) {what}", found.len()))
        };
        if length < 4 {
            let problem = broken("is shorter than its header");
            return (found, problem);
        }
        let Some((formatted, after)) = rest.split_at_checked(length) else {
            let problem = broken("runs past the end");
            return (found, problem);
        };
        // Strings end with an empty one; where there are none, two zero bytes stand.
        let Some(end) = after.windows(2).position(|pair| pair == [0, 0]) else {
            let problem = if kind == 127 { None } else { broken("has strings without an end") };
            return (found, problem);
        };
        let (strings, after) = after.split_at(end + 2);
        found.push(Structure {
            kind,
            handle: u16::from_le_bytes([low, high]),
            formatted,
            strings: &strings[..end],
        });
        if kind == 127 {
            return (found, None);
        }
        rest = after;
    }
    let problem = rest
        .iter()
        .any(|&b| b != 0)
        .then(|| "the SMBIOS tables are cut short: bytes are left over at their end".to_owned());
    (found, problem)
}

fn version(entry_point: &[u8]) -> Option<(u8, u8)> {
    let at = |offset: usize| Some((*entry_point.get(offset)?, *entry_point.get(offset + 1)?));
    match entry_point {
        [b'_', b'S', b'M', b'3', b'_', ..] => at(7),
        [b'_', b'S', b'M', b'_', ..] => at(6),
        _ => None,
    }
}

/// A type 16: a set of slots.
struct Array {
    /// Whether it is main memory (or says nothing of its use); others hold the firmware's flash, caches, video memory.
    main_memory: bool,
    ecc: Option<bool>,
}

fn array(structure: &Structure<'_>) -> Array {
    let main_memory = structure.byte(5).is_none_or(|usage| matches!(usage, 0..=3));
    let ecc = match structure.byte(6) {
        Some(3) => Some(false),
        Some(5 | 6) => Some(true),
        _ => None,
    };
    Array { main_memory, ecc }
}

fn dimm(structure: &Structure<'_>, arrays: &HashMap<u16, Array>) -> Option<Dimm> {
    let array = structure.word(4).and_then(|handle| arrays.get(&handle));
    if array.is_some_and(|array| !array.main_memory) {
        return None;
    }
    let size_mib = size_mib(structure);
    let slot = |at| structure.raw_text(at).map(|text| text::clean(&text)).filter(|text| !text.is_empty());
    let mut dimm = Dimm { locator: slot(0x10), bank: slot(0x11), size_mib, ..Dimm::default() };
    if size_mib == Some(0) {
        // What an empty slot says of its module ("NO DIMM", a rated speed) is noise.
        return Some(dimm);
    }
    dimm.manufacturer = structure.text(0x17);
    dimm.serial = structure.text(0x18);
    dimm.part = structure.text(0x1a);
    dimm.speed_mts = speed(structure, 0x20, 0x58).or_else(|| speed(structure, 0x15, 0x54));
    dimm.kind = structure.byte(0x12).and_then(memory_kind).map(str::to_owned);
    let width = |at| structure.word(at).filter(|&bits| bits != 0 && bits != 0xffff);
    dimm.ecc = match (width(8), width(0xa)) {
        (Some(total), Some(data)) => Some(total > data),
        _ => array.and_then(|array| array.ecc),
    };
    Some(dimm)
}

fn size_mib(structure: &Structure<'_>) -> Option<u64> {
    match structure.word(0xc)? {
        0xffff => None,
        0x7fff => structure.dword(0x1c).map(|mib| u64::from(mib & 0x7fff_ffff)),
        kib if kib & 0x8000 != 0 => Some(u64::from(kib & 0x7fff) / 1024),
        mib => Some(u64::from(mib)),
    }
}

fn speed(structure: &Structure<'_>, at: usize, extended_at: usize) -> Option<u32> {
    match structure.word(at)? {
        0 => None,
        0xffff => structure.dword(extended_at).map(|mts| mts & 0x7fff_ffff).filter(|&mts| mts != 0),
        mts => Some(u32::from(mts)),
    }
}

fn memory_kind(code: u8) -> Option<&'static str> {
    Some(match code {
        0x07 => "RAM",
        0x0f => "SDRAM",
        0x12 => "DDR",
        0x13 => "DDR2",
        0x18 => "DDR3",
        0x1a => "DDR4",
        0x1b => "LPDDR",
        0x1c => "LPDDR2",
        0x1d => "LPDDR3",
        0x1e => "LPDDR4",
        0x1f => "Logical non-volatile",
        0x20 => "HBM",
        0x21 => "HBM2",
        0x22 => "DDR5",
        0x23 => "LPDDR5",
        0x24 => "HBM3",
        _ => return None,
    })
}

fn chassis_kind(code: u8) -> Option<&'static str> {
    // The highest bit says whether there is a lock.
    Some(match code & 0x7f {
        0x01 => "Other",
        0x03 => "Desktop",
        0x04 => "Low Profile Desktop",
        0x06 => "Mini Tower",
        0x07 => "Tower",
        0x08 => "Portable",
        0x09 => "Laptop",
        0x0a => "Notebook",
        0x0d => "All In One",
        0x10 => "Lunch Box",
        0x11 => "Main Server Chassis",
        0x17 => "Rack Mount Chassis",
        0x18 => "Sealed-case PC",
        0x19 => "Multi-system",
        0x1c => "Blade",
        0x1d => "Blade Enclosing",
        0x22 => "Embedded PC",
        0x23 => "Mini PC",
        0x24 => "Stick PC",
        _ => return None,
    })
}

#[cfg(test)]
#[path = "smbios_tests.rs"]
mod tests;
