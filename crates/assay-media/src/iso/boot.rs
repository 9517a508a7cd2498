//! From what an image can be booted: as a CD through its catalogue, as a stick through its partition tables.

use serde::Serialize;

use super::el_torito::loaders;
use super::{BootEntry, Platform};
use crate::FatTree;
use crate::bytes::{holds, is_zero};
use crate::files::Tree;
use crate::source::Source as _;
use crate::table::{Entry, Scheme};
use crate::{MediaError, SliceReader, Table};

/// From what, and with which firmware, an image can be booted, as far as can be seen without booting it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Booting {
    /// As a CD by a BIOS.
    pub cd_bios: Way,
    /// As a CD by UEFI.
    pub cd_uefi: Way,
    /// Copied to a stick (`dd`), by a BIOS.
    pub stick_bios: Way,
    /// Copied to a stick (`dd`), by UEFI.
    pub stick_uefi: Way,
    /// What the first sector would run.
    pub boot_code: BootCode,
}

/// One way of booting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Way {
    /// Whether everything is there that it needs.
    pub works: bool,
    /// What was found, or what is missing.
    pub because: String,
}

impl Way {
    fn yes(because: impl Into<String>) -> Self {
        Self { works: true, because: because.into() }
    }

    fn no(because: impl Into<String>) -> Self {
        Self { works: false, because: because.into() }
    }
}

/// What the first sector holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootCode {
    /// Nothing.
    None,
    /// ISOLINUX's hybrid boot code (`isohdpfx.bin`).
    Isolinux,
    /// GRUB's.
    Grub,
    /// Something else.
    Other,
}

pub(super) fn judge(
    file: &SliceReader,
    catalogue_problem: Option<&str>,
    entries: &[BootEntry],
    table: &Table,
) -> Result<Booting, MediaError> {
    let first = file.piece("the first sector", 0, 512)?;
    let boot_code = boot_code(&first);
    Ok(Booting {
        cd_bios: from_cd(Platform::Bios, catalogue_problem, entries),
        cd_uefi: from_cd(Platform::Efi, catalogue_problem, entries),
        stick_bios: match boot_code {
            _ if !holds(&first, 510, &[0x55, 0xaa]) => Way::no("the first sector is not a boot sector"),
            BootCode::None => Way::no("the first sector has no boot code"),
            BootCode::Isolinux => Way::yes("ISOLINUX boot code in the first sector"),
            BootCode::Grub => Way::yes("GRUB boot code in the first sector"),
            BootCode::Other => Way::yes("boot code in the first sector"),
        },
        stick_uefi: from_stick(file, table)?,
        boot_code,
    })
}

fn boot_code(first: &[u8]) -> BootCode {
    let contains = |text: &[u8]| first[..440].windows(text.len()).any(|part| part == text);
    if is_zero(&first[..440]) {
        BootCode::None
    } else if contains(b"isolinux.bin missing or corrupt") || contains(b"SYSLINUX") {
        BootCode::Isolinux
    } else if contains(b"GRUB ") {
        BootCode::Grub
    } else {
        BootCode::Other
    }
}

fn from_cd(platform: Platform, catalogue_problem: Option<&str>, entries: &[BootEntry]) -> Way {
    if let Some(problem) = catalogue_problem {
        return Way::no(problem);
    }
    let mut of_platform = entries.iter().filter(|entry| entry.platform == platform).peekable();
    if of_platform.peek().is_none() {
        return Way::no(if entries.is_empty() {
            "there is no boot catalogue".to_owned()
        } else {
            format!("the boot catalogue has no entry for {platform:?}")
        });
    }
    let mut why = String::new();
    for entry in of_platform {
        match &entry.problem {
            None if platform == Platform::Efi => return Way::yes(entry.loaders.join(", ")),
            None => return Way::yes(format!("boot image in block {}", entry.block)),
            Some(problem) => why.clone_from(problem),
        }
    }
    Way::no(why)
}

/// UEFI looks into the EFI system partitions of the table in force.
fn from_stick(file: &SliceReader, table: &Table) -> Result<Way, MediaError> {
    let partitions: Vec<&Entry> = table.partitions();
    if matches!(table.scheme, Scheme::None | Scheme::ProtectiveOnly) {
        return Ok(Way::no("there is no partition table"));
    }
    let mut why = "no partition is an EFI system partition".to_owned();
    for esp in partitions.into_iter().filter(|entry| entry.is_esp()) {
        let found =
            file.slice(esp.start, esp.size).and_then(|part| loaders(&Tree::Fat(FatTree::open(&part)?)));
        match found {
            Ok(found) if found.is_empty() => {
                why = format!("partition {} has no /EFI/BOOT/BOOT*.EFI", esp.number);
            }
            Ok(found) => return Ok(Way::yes(format!("partition {}: {}", esp.number, found.join(", ")))),
            Err(error @ MediaError::Io { .. }) => return Err(error),
            Err(error) => why = format!("partition {}: {error}", esp.number),
        }
    }
    Ok(Way::no(why))
}
