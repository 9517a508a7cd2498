//! Whether a file that a hook left is a whole dump. Hooks end with 0 and leave nothing often enough: the database went away in the
//! middle, a pipe hid the exit code of its first part, the disk was full.
//!
//! Only what a format says of its own end is used, so no recipe has to be known: compressed streams have trailers, archives have
//! end marks, and the dump programs write a last line. What has no such mark is said to be of unknown kind, and not judged.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use flate2::bufread::MultiGzDecoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bytes read of the beginning of a file.
const HEAD: usize = 16 << 10;
/// Bytes kept of its end: more than any dump program writes after its last table.
const TAIL: usize = 8 << 10;
/// Bytes of unpacked content that are looked at; what unpacks to more is a bomb, or a very large database.
const UNPACKED: u64 = 64 << 30;
/// The smallest archive that `pg_dump -Fc` writes, that of an empty database, has about 700 bytes.
const PG_CUSTOM: u64 = 200;

/// What kind of dump a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DumpKind {
    /// Nothing is in it.
    Empty,
    /// SQL by `pg_dump`.
    PostgreSqlText,
    /// SQL by `pg_dumpall`.
    PostgreSqlCluster,
    /// `pg_dump` in its custom format.
    PostgreSqlCustom,
    /// SQL by `mysqldump` or `mariadb-dump`.
    MySqlText,
    /// SQL by SQLite's `.dump`.
    SqliteText,
    /// A SQLite database.
    SqliteFile,
    /// A tar archive.
    Tar,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// xz.
    Xz,
    /// Something else.
    Unknown,
}

/// What is to be said of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum DumpState {
    /// It has the end that its kind has.
    Whole,
    /// Its kind has no end that could be looked for.
    NotJudged,
    /// Nothing is in it, or in what it unpacks to.
    Empty,
    /// Its end is missing.
    Truncated {
        /// What was looked for.
        missing: String,
    },
    /// It cannot be read as what it begins as.
    Broken {
        /// Why.
        why: String,
    },
}

/// A file that a hook made or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DumpCheck {
    /// The volume, by its name in the files.
    pub volume: String,
    /// Its path in there.
    pub path: String,
    /// Its kind.
    pub kind: DumpKind,
    /// The kind of what it unpacks to, for gzip.
    pub within: Option<DumpKind>,
    /// Its bytes.
    pub bytes: u64,
    /// What is to be said of it.
    #[serde(flatten)]
    pub state: DumpState,
}

impl DumpState {
    /// Whether a backup with it is none.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Empty | Self::Truncated { .. } | Self::Broken { .. })
    }

    fn truncated(missing: &str) -> Self {
        Self::Truncated { missing: missing.to_owned() }
    }

    fn broken(why: impl Into<String>) -> Self {
        Self::Broken { why: why.into() }
    }
}

/// Looks at a file. Reads all of it only where nothing less will do (gzip).
///
/// # Errors
/// What reading said.
pub fn judge(file: &mut (impl Read + Seek)) -> io::Result<(DumpKind, Option<DumpKind>, DumpState)> {
    let bytes = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut head = Vec::new();
    file.take(HEAD as u64).read_to_end(&mut head)?;
    let kind = kind_of(&head);
    let state = match kind {
        DumpKind::Gzip => {
            file.rewind()?;
            let (within, state) = gzip(file)?;
            return Ok((kind, Some(within), state));
        }
        DumpKind::Zstd => zstd(file)?,
        DumpKind::Xz => xz(file, bytes)?,
        DumpKind::Tar => tar(file, bytes)?,
        DumpKind::SqliteFile => sqlite(&head, bytes),
        _ => {
            file.seek(SeekFrom::Start(bytes.saturating_sub(TAIL as u64)))?;
            let mut tail = Vec::new();
            file.take(TAIL as u64).read_to_end(&mut tail)?;
            by_ends(kind, &tail, bytes)
        }
    };
    Ok((kind, None, state))
}

/// What a file is by how it begins.
fn kind_of(head: &[u8]) -> DumpKind {
    if head.is_empty() {
        return DumpKind::Empty;
    }
    let magic: [(&[u8], DumpKind); 5] = [
        (b"\x1f\x8b", DumpKind::Gzip),
        (b"\x28\xb5\x2f\xfd", DumpKind::Zstd),
        (b"\xfd7zXZ\0", DumpKind::Xz),
        (b"PGDMP", DumpKind::PostgreSqlCustom),
        (b"SQLite format 3\0", DumpKind::SqliteFile),
    ];
    if let Some((_, kind)) = magic.iter().find(|(magic, _)| head.starts_with(magic)) {
        return *kind;
    }
    if head.len() >= 262 && &head[257..262] == b"ustar" {
        return DumpKind::Tar;
    }
    let text = String::from_utf8_lossy(&head[..head.len().min(2048)]);
    let written = [
        ("-- PostgreSQL database cluster dump", DumpKind::PostgreSqlCluster),
        ("-- PostgreSQL database dump", DumpKind::PostgreSqlText),
        ("-- MariaDB dump", DumpKind::MySqlText),
        ("-- MySQL dump", DumpKind::MySqlText),
        ("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;", DumpKind::SqliteText),
    ];
    let of = written.iter().find(|(mark, _)| text.contains(mark));
    of.map_or(DumpKind::Unknown, |(_, kind)| *kind)
}

/// Kinds that are known by their last line, or by how much there is.
fn by_ends(kind: DumpKind, tail: &[u8], bytes: u64) -> DumpState {
    let has_line = |mark: &str| {
        let text = String::from_utf8_lossy(tail);
        // The mark is a line of its own; what a row holds is not.
        if text.lines().any(|line| line.starts_with(mark)) {
            DumpState::Whole
        } else {
            DumpState::truncated(mark)
        }
    };
    match kind {
        DumpKind::Empty => DumpState::Empty,
        DumpKind::PostgreSqlText => has_line("-- PostgreSQL database dump complete"),
        DumpKind::PostgreSqlCluster => has_line("-- PostgreSQL database cluster dump complete"),
        DumpKind::MySqlText => has_line("-- Dump completed"),
        DumpKind::SqliteText => has_line("COMMIT;"),
        DumpKind::PostgreSqlCustom if bytes < PG_CUSTOM => DumpState::truncated("its table of contents"),
        DumpKind::PostgreSqlCustom => DumpState::Whole,
        // Spaces and line ends alone are nothing.
        DumpKind::Unknown if bytes <= TAIL as u64 && tail.iter().all(u8::is_ascii_whitespace) => {
            DumpState::Empty
        }
        _ => DumpState::NotJudged,
    }
}

/// Unpacks all of it; the checksum at the end is compared on the way.
fn gzip(file: &mut impl Read) -> io::Result<(DumpKind, DumpState)> {
    let mut decoder = MultiGzDecoder::new(BufReader::with_capacity(128 << 10, file));
    let (mut head, mut tail, mut bytes) = (Vec::new(), Vec::new(), 0_u64);
    let mut buffer = vec![0; 128 << 10];
    loop {
        let read = match decoder.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok((kind_of(&head), DumpState::truncated("the end of the gzip stream")));
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) =>
            {
                return Ok((kind_of(&head), DumpState::broken(format!("gzip: {error}"))));
            }
            Err(error) => return Err(error),
        };
        let part = &buffer[..read];
        head.extend_from_slice(&part[..part.len().min(HEAD - head.len().min(HEAD))]);
        tail.extend_from_slice(&part[part.len().saturating_sub(TAIL)..]);
        let surplus = tail.len().saturating_sub(TAIL);
        tail.drain(..surplus);
        bytes += read as u64;
        if bytes > UNPACKED {
            return Ok((kind_of(&head), DumpState::NotJudged));
        }
    }
    let within = kind_of(&head);
    let state = match within {
        DumpKind::Empty
        | DumpKind::PostgreSqlText
        | DumpKind::PostgreSqlCluster
        | DumpKind::MySqlText
        | DumpKind::SqliteText
        | DumpKind::PostgreSqlCustom => by_ends(within, &tail, bytes),
        DumpKind::Tar if tail.len() < 1024 || tail[tail.len() - 1024..].iter().any(|byte| *byte != 0) => {
            DumpState::truncated("the two empty blocks at the end of the tar archive")
        }
        // The stream is whole, with a checksum.
        _ => DumpState::Whole,
    };
    Ok((within, state))
}

/// Goes from block to block of each frame, without unpacking them.
fn zstd(file: &mut (impl Read + Seek)) -> io::Result<DumpState> {
    file.rewind()?;
    let mut file = BufReader::new(file);
    let mut content = false;
    loop {
        let mut magic = [0; 4];
        match fill(&mut file, &mut magic)? {
            0 if content => return Ok(DumpState::Whole),
            0 => return Ok(DumpState::Empty),
            4 => {}
            _ => return Ok(DumpState::truncated("a whole zstd frame")),
        }
        let magic = u32::from_le_bytes(magic);
        if magic & 0xffff_fff0 == 0x184d_2a50 {
            let mut size = [0; 4];
            if fill(&mut file, &mut size)? < 4 || !skip(&mut file, u32::from_le_bytes(size).into())? {
                return Ok(DumpState::truncated("a whole skippable zstd frame"));
            }
            continue;
        }
        if magic != 0xfd2f_b528 {
            return Ok(DumpState::broken("after a zstd frame comes something that is none"));
        }
        match zstd_frame(&mut file)? {
            Some(some) => content |= some,
            None => return Ok(DumpState::truncated("the last block of a zstd frame")),
        }
    }
}

/// Whether a frame has content; `None` when its end is missing.
fn zstd_frame(file: &mut BufReader<impl Read>) -> io::Result<Option<bool>> {
    let mut descriptor = [0];
    if fill(file, &mut descriptor)? == 0 {
        return Ok(None);
    }
    let descriptor = descriptor[0];
    let single = descriptor & 0x20 != 0;
    let size_of_size = match (descriptor >> 6, single) {
        (0, false) => 0,
        (0, true) => 1,
        (1, _) => 2,
        (2, _) => 4,
        _ => 8,
    };
    let size_of_dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    if !skip(file, u64::from(!single) + size_of_dictionary + size_of_size)? {
        return Ok(None);
    }
    let mut content = false;
    loop {
        let mut header = [0; 4];
        if fill(file, &mut header[..3])? < 3 {
            return Ok(None);
        }
        let header = u32::from_le_bytes(header);
        let (last, kind, size) = (header & 1 == 1, header >> 1 & 3, header >> 3);
        content |= size > 0;
        // A repeated byte is stored once, however often it is meant.
        let stored = if kind == 1 { 1 } else { u64::from(size) };
        if !skip(file, stored)? {
            return Ok(None);
        }
        if last {
            let checksum = if descriptor & 4 == 0 { 0 } else { 4 };
            return Ok(skip(file, checksum)?.then_some(content));
        }
    }
}

/// Looks at the footer of the last stream and at the index that it points to.
fn xz(file: &mut (impl Read + Seek), bytes: u64) -> io::Result<DumpState> {
    const FOOTER: u64 = 12;
    let missing = || DumpState::truncated("the footer of the xz stream");
    let mut end = bytes;
    let mut footer = [0; FOOTER as usize];
    loop {
        if end < 2 * FOOTER {
            return Ok(missing());
        }
        file.seek(SeekFrom::Start(end - FOOTER))?;
        file.read_exact(&mut footer)?;
        // Streams may be followed by zeros, four at a time.
        if footer[8..] != [0; 4] {
            break;
        }
        end -= 4;
    }
    let checksum = u32::from_le_bytes([footer[0], footer[1], footer[2], footer[3]]);
    if &footer[10..] != b"YZ" || crc32fast::hash(&footer[4..10]) != checksum {
        return Ok(missing());
    }
    let index = (u64::from(u32::from_le_bytes([footer[4], footer[5], footer[6], footer[7]])) + 1) * 4;
    let Some(start) = (end - FOOTER).checked_sub(index).filter(|start| *start >= FOOTER) else {
        return Ok(DumpState::truncated("the beginning of the xz stream"));
    };
    file.seek(SeekFrom::Start(start))?;
    let mut beginning = [0; 2];
    file.read_exact(&mut beginning)?;
    Ok(match beginning {
        // An index without a single block.
        [0, 0] => DumpState::Empty,
        [0, _] => DumpState::Whole,
        _ => DumpState::broken("the xz footer leads to something that is no index"),
    })
}

/// Goes from header to header until two empty blocks.
fn tar(file: &mut (impl Read + Seek), bytes: u64) -> io::Result<DumpState> {
    const BLOCK: u64 = 512;
    let (mut at, mut empty, mut entries) = (0_u64, 0, 0_u64);
    let mut header = [0; BLOCK as usize];
    loop {
        file.seek(SeekFrom::Start(at))?;
        if fill(file, &mut header)? < header.len() {
            return Ok(DumpState::truncated("the two empty blocks at the end of the tar archive"));
        }
        at += BLOCK;
        if header.iter().all(|byte| *byte == 0) {
            empty += 1;
            if empty == 2 {
                return Ok(if entries == 0 { DumpState::Empty } else { DumpState::Whole });
            }
            continue;
        }
        empty = 0;
        let Some(size) = tar_size(&header) else {
            return Ok(DumpState::broken(format!("what stands at byte {} is no tar header", at - BLOCK)));
        };
        entries += 1;
        let next = size.div_ceil(BLOCK).checked_mul(BLOCK).and_then(|size| at.checked_add(size));
        match next.filter(|next| *next <= bytes) {
            Some(next) => at = next,
            None => return Ok(DumpState::truncated("all of a file in the tar archive")),
        }
    }
}

/// The size of an entry, where the header's checksum is right.
fn tar_size(header: &[u8; 512]) -> Option<u64> {
    let octal = |field: &[u8]| {
        let text = std::str::from_utf8(field).ok()?;
        u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
    };
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    let of_checksum: u64 = header[148..156].iter().map(|byte| u64::from(*byte)).sum();
    if octal(&header[148..156])? != sum - of_checksum + 8 * u64::from(b' ') {
        return None;
    }
    // Links, devices and folders have a size that means nothing.
    if matches!(header[156], b'1'..=b'6') {
        return Some(0);
    }
    if header[124] & 0x80 == 0 {
        return octal(&header[124..136]);
    }
    let big = header[128..136].iter().fold(0_u64, |size, byte| size << 8 | u64::from(*byte));
    (header[125..128] == [0; 3]).then_some(big)
}

/// A database says how many pages it has; one that was copied by half has fewer.
fn sqlite(head: &[u8], bytes: u64) -> DumpState {
    if head.len() < 100 {
        return DumpState::truncated("the header of the SQLite database");
    }
    let page = match u64::from(u16::from_be_bytes([head[16], head[17]])) {
        1 => 65536,
        page => page,
    };
    let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    // The count holds only where it was written with the last change.
    let counted = number(24) == number(92);
    if counted && bytes < u64::from(number(28)) * page {
        return DumpState::truncated("pages that the SQLite database counts");
    }
    DumpState::Whole
}

/// Reads until the buffer is full or there is no more; how much came.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Whether there was so much.
fn skip(file: &mut impl Read, bytes: u64) -> io::Result<bool> {
    Ok(io::copy(&mut file.take(bytes), &mut io::sink())? == bytes)
}

#[cfg(test)]
#[path = "dump_tests.rs"]
mod tests;
