//! Writing media: an ISO onto a stick, and files onto the stick's EFI system partition, as an operator's tool does.
//!
//! [`Stick::write`] copies, [`stage_files`] uses the EFI system partition that is there, [`append_esp`] adds one behind
//! the image where that one is missing, full, or part of a checksummed image. Which one to use is the caller's decision;
//! a common order is `stage_files`, and `append_esp` on [`MediaError::NoEsp`] or [`MediaError::Full`].
//!
//! What `stage_files` changes may be covered by a checksum inside the ISO (`isomd5sum`, `md5sum.txt`) where the EFI
//! system partition is a file of the ISO; an image that checks itself at boot then fails. `append_esp` changes nothing
//! that the ISO came with but its partition table.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::bytes::is_zero;
use crate::fat::{Fat, Format, format, put_files, verify};
use crate::source::{Overlay, Source as _};
use crate::table::{Entry, HeaderState, Layout, MbrSlot, NewPartition, Scheme, TYPE_ESP, write_slot};
use crate::{Iso, MediaError, Platform, SliceReader, Table, sparse};

const MIB: u64 = 1 << 20;
/// Copied at once; a piece of zeros stays a hole.
const PIECE: usize = 64 << 10;
/// The smallest EFI system partition that is added, in bytes.
const SMALLEST_ESP: u64 = 2 * MIB;

/// An image of a USB stick.
#[derive(Clone, Debug)]
pub struct Stick {
    path: PathBuf,
    written: Written,
}

/// What [`Stick::write`] did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Bytes of the stick.
    pub bytes: u64,
    /// Bytes of the ISO, which stand at its front.
    pub iso_bytes: u64,
    /// What became of the GPT's backup.
    pub backup: BackupGpt,
}

/// What to do with the backup of a GPT, which belongs into a disk's last sector and comes out in the middle of it when
/// an image is copied to a larger stick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupPlace {
    /// Leave it, as `dd` does. Linux and firmware use the primary one and may complain.
    Leave,
    /// Move it to the end, as `sgdisk -e` and flash tools do.
    Move,
}

/// What became of a GPT's backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "backup")]
pub enum BackupGpt {
    /// There is no GPT.
    None,
    /// It stands where it belongs already.
    InPlace,
    /// It was written to the last sector.
    Moved {
        /// That sector.
        to: u64,
    },
    /// It stays where the ISO had it.
    Left {
        /// Why.
        why: String,
    },
}

/// What [`stage_files`] or [`append_esp`] did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Staged {
    /// Where the files are.
    pub place: EspPlace,
    /// First byte of that file system in the image.
    pub start: u64,
    /// Bytes of that file system's room.
    pub bytes: u64,
    /// Bytes that are free on it now.
    pub free: u64,
    /// The files.
    pub files: Vec<StagedFile>,
}

/// A file that was written and read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StagedFile {
    /// Its path on the file system.
    pub path: String,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// Which file system the files went to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "place")]
pub enum EspPlace {
    /// A partition.
    Partition {
        /// Its number.
        number: u32,
        /// The table that it is in.
        table: Scheme,
    },
    /// The EFI image of the boot catalogue, which no partition points to.
    ElTorito {
        /// Its first block, of 2048 bytes.
        block: u32,
    },
}

impl Stick {
    /// Copies an ISO to a new image of `bytes` bytes, with holes where it has zeros, and compares the copy.
    ///
    /// A regular file at `out` is replaced; anything else there is refused, for this is for images and not for disks.
    ///
    /// # Errors
    /// [`MediaError::TooSmall`], [`MediaError::Unsupported`] when `bytes` is no multiple of 512 or `out` is no regular
    /// file, [`MediaError::ReadBack`], and those of [`Iso::open`].
    pub fn write(iso: &Path, out: &Path, bytes: u64, place: BackupPlace) -> Result<Self, MediaError> {
        let image = Iso::open(iso)?;
        let iso_bytes = image.file_bytes();
        if bytes < iso_bytes {
            let what = format!("a stick for {}", iso.display());
            return Err(MediaError::TooSmall { what, bytes, needed: iso_bytes });
        }
        if !bytes.is_multiple_of(512) {
            let why = format!("{bytes} bytes are no whole number of sectors of 512");
            return Err(MediaError::Unsupported { what: "the stick's size", why });
        }
        let file = create(iso, out)?;
        file.set_len(bytes).map_err(MediaError::io("giving its size to", out))?;
        let target = SliceReader::whole(file).map_err(MediaError::io("opening", out))?;
        let source = SliceReader::open(iso)?;
        copy(&source, &target).map_err(MediaError::io("copying to", out))?;
        let copied = same_front(&source, &target).map_err(MediaError::io("reading back", out))?;
        if let Some(at) = copied {
            let why = format!("the copy differs from byte {at} on");
            return Err(MediaError::ReadBack { place: out.display().to_string(), why });
        }
        let backup = backup(&target, out, place)?;
        Ok(Self { path: out.to_owned(), written: Written { bytes, iso_bytes, backup } })
    }

    /// The image.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was done.
    pub fn written(&self) -> &Written {
        &self.written
    }

    /// As [`stage_files`].
    ///
    /// # Errors
    /// Its own.
    pub fn stage_files(&self, files: &[(&str, &[u8])]) -> Result<Staged, MediaError> {
        stage_files(&self.path, files)
    }

    /// As [`append_esp`].
    ///
    /// # Errors
    /// Its own.
    pub fn append_esp(&self, bytes: u64, label: &str, files: &[(&str, &[u8])]) -> Result<Staged, MediaError> {
        append_esp(&self.path, bytes, label, files)
    }
}

fn create(iso: &Path, out: &Path) -> Result<File, MediaError> {
    if let Ok(there) = fs::metadata(out) {
        let source = fs::metadata(iso).map_err(MediaError::io("looking at", iso))?;
        if (there.dev(), there.ino()) == (source.dev(), source.ino()) {
            let why = format!("{} is the ISO itself", out.display());
            return Err(MediaError::Unsupported { what: "the stick's file", why });
        }
        if !there.is_file() {
            let why = format!("{} is no regular file", out.display());
            return Err(MediaError::Unsupported { what: "the stick's file", why });
        }
    }
    let opened = File::options().read(true).write(true).create(true).truncate(true).open(out);
    opened.map_err(MediaError::io("creating", out))
}

fn copy(source: &SliceReader, target: &SliceReader) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    for extent in sparse::extents(source) {
        let (mut from, to) = extent?;
        while from < to {
            let piece = &mut buffer[..PIECE.min((to - from) as usize)];
            source.read_exact_at(piece, from)?;
            if !is_zero(piece) {
                target.write_all_at(piece, from)?;
            }
            from += piece.len() as u64;
        }
    }
    target.file().sync_data()
}

/// The first byte in which the front of `target` is not `source`.
fn same_front(source: &SliceReader, target: &SliceReader) -> io::Result<Option<u64>> {
    let (mut one, mut other) = (vec![0; PIECE], vec![0; PIECE]);
    for extent in sparse::extents(source) {
        let (mut from, to) = extent?;
        while from < to {
            let length = PIECE.min((to - from) as usize);
            source.read_exact_at(&mut one[..length], from)?;
            target.read_exact_at(&mut other[..length], from)?;
            if let Some(within) =
                one[..length].iter().zip(&other[..length]).position(|(one, other)| one != other)
            {
                return Ok(Some(from + within as u64));
            }
            from += length as u64;
        }
    }
    Ok(None)
}

fn backup(target: &SliceReader, out: &Path, place: BackupPlace) -> Result<BackupGpt, MediaError> {
    let table = Table::detect(target)?;
    let Some(gpt) = &table.gpt else { return Ok(BackupGpt::None) };
    let left = |why: &str| Ok(BackupGpt::Left { why: why.to_owned() });
    if !gpt.primary.is_sound() {
        return left("the primary GPT is damaged, so there is nothing to make a backup of");
    }
    if table.scheme != Scheme::Gpt {
        return left("the GPT is not in force: no protective MBR announces it");
    }
    let mut layout = Layout::of(target, table.sector)?;
    if layout.reaches_the_end() && gpt.backup.is_sound() {
        return Ok(BackupGpt::InPlace);
    }
    if place == BackupPlace::Leave {
        return left("it was asked to stay");
    }
    layout.reach_to_the_end();
    write_pieces(target, &layout.pieces()).map_err(MediaError::io("writing the GPT of", out))?;
    let after = Table::read(target, table.sector)?;
    match after.gpt.map(|gpt| (gpt.primary, gpt.backup)) {
        Some((HeaderState::Sound { .. }, HeaderState::Sound { sector })) => {
            Ok(BackupGpt::Moved { to: sector })
        }
        other => {
            let why = format!("the GPT is {other:?}");
            Err(MediaError::ReadBack { place: out.display().to_string(), why })
        }
    }
}

fn write_pieces(target: &SliceReader, pieces: &[(u64, Vec<u8>)]) -> io::Result<()> {
    for (at, bytes) in pieces {
        target.write_all_at(bytes, *at)?;
    }
    target.file().sync_data()
}

/// Puts files onto the EFI system partition of an image: `path` from its root, folders made where they are missing,
/// files replaced where they are there.
///
/// The partition is found through its type (GPT, then MBR 0xef; in the table in force first), or it is the EFI image of
/// the boot catalogue, which is where firmware looks when the image is used as a CD. Either everything is written, read
/// back and right, or nothing is written.
///
/// # Errors
/// [`MediaError::NoEsp`], [`MediaError::Full`], [`MediaError::BadName`], [`MediaError::WrongKind`] when a folder is in
/// the way, [`MediaError::Damaged`] when the file system is; [`MediaError::ReadBack`].
pub fn stage_files(image: &Path, files: &[(&str, &[u8])]) -> Result<Staged, MediaError> {
    let whole = open_to_write(image)?;
    let (place, part) = find_esp(image, &whole)?;
    let free = fill(&part, image, files, None)?;
    Ok(staged(place, &part, free, files))
}

/// Adds an EFI system partition of at least `bytes` bytes behind everything that an image has, and puts files onto it.
///
/// For ISOs whose own one has no room, is part of a checksummed whole, or is missing. The image must be larger than what
/// it holds: the room that is taken must be zero, every byte of it. The new partition starts at a whole MiB and has
/// `label` (up to 11 letters). A GPT gets another entry, and its backup moves to the end; an MBR gets one of its four
/// entries, with type 0xef. The guest sees one more FAT file system, and firmware one more place without a boot loader.
///
/// # Errors
/// [`MediaError::NoRoom`] when there is no table, no free entry or no free space; otherwise those of [`stage_files`].
pub fn append_esp(
    image: &Path,
    bytes: u64,
    label: &str,
    files: &[(&str, &[u8])],
) -> Result<Staged, MediaError> {
    let whole = open_to_write(image)?;
    let table = Table::detect(&whole)?;
    let sector = table.sector.bytes();
    let bytes = bytes.max(SMALLEST_ESP).next_multiple_of(MIB);
    let start = end_of_everything(image, &table).next_multiple_of(MIB);
    let Some(end) = start.checked_add(bytes) else {
        return Err(MediaError::NoRoom { why: "the image is full to its end".to_owned() });
    };
    let plan = Plan::make(&whole, &table, start, end, label)?;
    let part = whole.slice(start, bytes)?;
    let blank = sparse::first_data(&part).map_err(MediaError::io("reading", image))?;
    if let Some(at) = blank.first {
        let why = format!("byte {} lies behind the last partition and is not zero", start + at);
        return Err(MediaError::NoRoom { why });
    }
    let serial = crc32fast::hash(&[label.as_bytes(), &start.to_le_bytes(), &bytes.to_le_bytes()].concat());
    let free = fill(&part, image, files, Some(&Format { sector, label, serial, start }))?;
    write_pieces(&whole, &plan.pieces).map_err(MediaError::io("writing the partition table of", image))?;
    let after = Table::read(&whole, table.sector)?;
    let is_there = |entry: &&Entry| (entry.start, entry.size, entry.is_esp()) == (start, bytes, true);
    if after.scheme != table.scheme || !after.partitions().iter().any(is_there) {
        let why = "the new partition is not in the table".to_owned();
        return Err(MediaError::ReadBack { place: image.display().to_string(), why });
    }
    Ok(staged(EspPlace::Partition { number: plan.number, table: table.scheme }, &part, free, files))
}

/// What is to be written to the table.
struct Plan {
    number: u32,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl Plan {
    fn make(
        whole: &SliceReader,
        table: &Table,
        start: u64,
        end: u64,
        label: &str,
    ) -> Result<Self, MediaError> {
        let sector = table.sector.bytes();
        let no_room = |why: String| Err(MediaError::NoRoom { why });
        let limit = |limit: u64| {
            let why =
                format!("it would take bytes {start} to {end}, and the last that may be used is {limit}");
            Err(MediaError::NoRoom { why })
        };
        match table.scheme {
            Scheme::Gpt => {
                let mut layout = Layout::of(whole, table.sector)?;
                layout.reach_to_the_end();
                let (first, last) = (start / sector, end / sector - 1);
                if last > layout.last_usable() {
                    return limit((layout.last_usable() + 1) * sector);
                }
                let disk = table.gpt.as_ref().map(|gpt| gpt.disk).unwrap_or_default();
                let new = NewPartition {
                    kind: TYPE_ESP,
                    guid: derived(&[disk.as_bytes(), &start.to_le_bytes()]),
                    label: label.to_owned(),
                    first,
                    last,
                };
                let Some(number) = layout.add(&new) else {
                    return no_room("the GPT has no free entry".to_owned());
                };
                Ok(Self { number, pieces: layout.pieces() })
            }
            Scheme::Mbr => {
                if end > whole.length() {
                    return limit(whole.length());
                }
                let mut first = whole.piece("the first sector", 0, sector)?;
                let taken = |slot: usize| !is_zero(&first[446 + slot * 16..462 + slot * 16]);
                let Some(slot) = (0..4).find(|slot| !taken(*slot)) else {
                    return no_room("all four entries of the MBR are taken".to_owned());
                };
                let (Ok(from), Ok(count)) =
                    (u32::try_from(start / sector), u32::try_from((end - start) / sector))
                else {
                    return no_room("an MBR cannot count that far".to_owned());
                };
                write_slot(&mut first, slot, MbrSlot { active: false, kind: 0xef, start: from, count });
                Ok(Self { number: slot as u32 + 1, pieces: vec![(0, first)] })
            }
            Scheme::None => no_room("the image has no partition table".to_owned()),
            Scheme::ProtectiveOnly => no_room("the image's GPT cannot be used".to_owned()),
        }
    }
}

/// A GUID that follows from what it is for, so that the same input makes the same image.
pub(crate) fn derived(from: &[&[u8]]) -> Uuid {
    let digest = from.iter().fold(Sha256::new(), sha2::Digest::chain_update).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// The first byte behind all partitions of all tables, the ISO's volume and its boot images.
fn end_of_everything(image: &Path, table: &Table) -> u64 {
    let of_mbr = table.mbr.iter().flat_map(|mbr| &mbr.partitions);
    // The protective entry covers the disk.
    let of_mbr = of_mbr.filter(|entry| entry.kind != crate::EntryKind::Mbr(0xee));
    let of_gpt = table.gpt.iter().flat_map(|gpt| &gpt.partitions);
    let mut ends: Vec<u64> = of_mbr.chain(of_gpt).map(Entry::end).collect();
    if let Ok(iso) = Iso::open(image) {
        ends.push(iso.volume().bytes);
        ends.extend(iso.boot_entries().iter().map(|entry| entry.start().saturating_add(entry.bytes)));
    }
    if let Some(HeaderState::Sound { sector }) = table.gpt.as_ref().map(|gpt| &gpt.backup) {
        // An old backup in the middle is not overwritten; one at the end moves with it.
        let at = sector * table.sector.bytes();
        if at + table.sector.bytes() < table.size {
            ends.push(at + table.sector.bytes());
        }
    }
    ends.into_iter().max().unwrap_or_default().max(MIB)
}

fn open_to_write(image: &Path) -> Result<SliceReader, MediaError> {
    let opened = File::options().read(true).write(true).open(image).and_then(|file| {
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
        }
        SliceReader::whole(file)
    });
    opened.map_err(MediaError::io("opening", image))
}

/// Formats if asked to, puts the files, writes it all, and reads it again from the image.
fn fill(
    part: &SliceReader,
    image: &Path,
    files: &[(&str, &[u8])],
    fresh: Option<&Format<'_>>,
) -> Result<u64, MediaError> {
    let volume = Overlay::over(part.clone());
    if let Some(fresh) = fresh {
        format(&volume, fresh)?;
    }
    let free = put_files(&volume, files)?;
    volume.commit().map_err(MediaError::io("writing to", image))?;
    verify(&Fat::open(part.clone())?, files)?;
    Ok(free)
}

fn staged(place: EspPlace, part: &SliceReader, free: u64, files: &[(&str, &[u8])]) -> Staged {
    let file = |(path, bytes): &(&str, &[u8])| StagedFile {
        path: (*path).to_owned(),
        bytes: bytes.len() as u64,
        sha256: hex::encode(Sha256::digest(bytes)),
    };
    Staged { place, start: part.start(), bytes: part.length(), free, files: files.iter().map(file).collect() }
}

fn find_esp(image: &Path, whole: &SliceReader) -> Result<(EspPlace, SliceReader), MediaError> {
    let table = Table::detect(whole)?;
    let mut looked = Vec::new();
    let in_force = table.partitions().into_iter().map(|entry| (entry, table.scheme));
    let gpt = table.gpt.iter().flat_map(|gpt| &gpt.partitions).map(|entry| (entry, Scheme::Gpt));
    let mbr = table.mbr.iter().flat_map(|mbr| &mbr.partitions).map(|entry| (entry, Scheme::Mbr));
    for (entry, scheme) in in_force.chain(gpt).chain(mbr).filter(|(entry, _)| entry.is_esp()) {
        let opened = whole.slice(entry.start, entry.size).and_then(|part| {
            Fat::open(part.clone())?;
            Ok(part)
        });
        match opened {
            Ok(part) => return Ok((EspPlace::Partition { number: entry.number, table: scheme }, part)),
            Err(error) => looked.push(format!("{scheme:?} partition {}: {error}", entry.number)),
        }
    }
    if let Ok(iso) = Iso::open(image) {
        for entry in iso.boot_entries().iter().filter(|entry| entry.platform == Platform::Efi) {
            let opened = entry.part(whole).and_then(|part| {
                Fat::open(part.clone())?;
                Ok(part)
            });
            match opened {
                Ok(part) => return Ok((EspPlace::ElTorito { block: entry.block }, part)),
                Err(error) => looked.push(format!("boot image in block {}: {error}", entry.block)),
            }
        }
    }
    if looked.is_empty() {
        looked.push(match table.scheme {
            Scheme::None => "there is no partition table and no EFI boot image".to_owned(),
            _ => format!("{} partitions of other types, and no EFI boot image", table.partitions().len()),
        });
    }
    Err(MediaError::NoEsp { looked: looked.join("; ") })
}

#[cfg(test)]
mod tests;
