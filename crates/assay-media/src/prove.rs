//! Proof that a disk was left alone, or exact words for what was changed.
//!
//! A fingerprint has two digests. `sha256` is that of the whole content, holes and all, the one that `sha256sum` prints;
//! it costs a second for every gigabyte or two, data or not. `content` is one over the blocks that are not zero, with
//! their places; it says the same (two images of one size have the same one exactly when their bytes are the same),
//! and costs only the data. Sparse files that are read by `SEEK_DATA` and files that are not have the same fingerprint:
//! a hole and a block of written zeros are the same.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::bytes::is_zero;
use crate::source::Source as _;
use crate::{Content, MediaError, SliceReader, probe, sparse};

/// Bytes of a block, the unit in which changes are counted.
pub const BLOCK: u64 = 4096;
/// Read at once: a whole number of blocks.
const CHUNK: u64 = 1 << 20;
/// Blocks whose digests are kept, so that a change can be located later: those of 16 GiB of data.
const MAX_KEPT: usize = 4 << 20;
/// Ranges that a comparison lists.
const MAX_RANGES: usize = 64;
/// What is quoted of a changed place.
const QUOTE: u64 = 64;

type BlockDigest = [u8; 16];

/// What a disk's content is, in a few words that nothing else has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fingerprint {
    /// Bytes of the disk.
    pub bytes: u64,
    /// Bytes that the file takes on its own disk. Not part of the content: it may differ where nothing else does.
    pub allocated: u64,
    /// Bytes in blocks of 4096 that are not all zero.
    pub data: u64,
    /// SHA-256 of the whole content, hexadecimal; not with [`Fingerprint::quick`].
    pub sha256: Option<String>,
    /// SHA-256 over size, places and digests of the blocks that are not zero, hexadecimal.
    pub content: String,
    /// The digest of each of those blocks; none where there are more than are kept.
    #[serde(skip)]
    blocks: Option<BTreeMap<u64, BlockDigest>>,
}

/// What differs between two states of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// The image that was looked at.
    pub path: PathBuf,
    /// Whether every byte is the same, and the size as well.
    pub same: bool,
    /// Bytes before.
    pub bytes_before: u64,
    /// Bytes now.
    pub bytes_after: u64,
    /// The first byte that differs; where `is_exact` is false, the start of the block that it is in.
    pub first: Option<u64>,
    /// Whether `first` is the very byte.
    pub is_exact: bool,
    /// Blocks of 4096 bytes that differ.
    pub blocks: u64,
    /// Where they are, from and to (exclusive), in bytes; the first 64 ranges.
    pub ranges: Vec<(u64, u64)>,
    /// What stands at the first difference now.
    pub now: Option<Excerpt>,
    /// What the disk holds now; only where it differs.
    pub content: Option<Content>,
}

/// A few bytes of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Excerpt {
    /// Where they stand.
    pub offset: u64,
    /// The bytes, hexadecimal.
    pub hex: String,
    /// The same as text, with a dot for what is none.
    pub text: String,
}

impl Fingerprint {
    /// The fingerprint of a raw image, with both digests.
    ///
    /// # Errors
    /// [`MediaError::Io`].
    pub fn of(path: &Path) -> Result<Self, MediaError> {
        let disk = SliceReader::open(path)?;
        take(&disk, Some(Sha256::new())).map_err(MediaError::io("reading", path))
    }

    /// As [`Fingerprint::of`] without `sha256`: what is a hole costs nothing.
    ///
    /// # Errors
    /// [`MediaError::Io`].
    pub fn quick(path: &Path) -> Result<Self, MediaError> {
        let disk = SliceReader::open(path)?;
        take(&disk, None).map_err(MediaError::io("reading", path))
    }

    /// Whether both are of the same bytes.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.bytes, &self.content) == (other.bytes, &other.content)
    }
}

/// Compares a disk with its fingerprint from before. With `copy`, an untouched copy from before, the first difference is
/// exact to the byte; without it, to the block.
///
/// # Errors
/// [`MediaError::Io`]; [`MediaError::Unsupported`] when the disk had so much data that its blocks were not kept, it
/// differs, and there is no copy to say where.
pub fn compare(before: &Fingerprint, after: &Path, copy: Option<&Path>) -> Result<Comparison, MediaError> {
    let disk = SliceReader::open(after)?;
    let now = take(&disk, None).map_err(MediaError::io("reading", after))?;
    if before.is_same(&now) {
        return Ok(Comparison {
            path: after.to_owned(),
            same: true,
            bytes_before: before.bytes,
            bytes_after: now.bytes,
            first: None,
            is_exact: true,
            blocks: 0,
            ranges: Vec::new(),
            now: None,
            content: None,
        });
    }
    let (Some(old), Some(new)) = (&before.blocks, &now.blocks) else {
        let Some(copy) = copy else {
            let why =
                format!("{} has more than {MAX_KEPT} blocks of data; keep a copy of it", after.display());
            return Err(MediaError::Unsupported { what: "locating the change", why });
        };
        let copied = SliceReader::open(copy)?;
        let differing = differing_by_bytes(&copied, &disk).map_err(MediaError::io("comparing", after))?;
        return describe(before, &disk, after, &differing, Some(&copied));
    };
    let mut differing: Vec<u64> = new
        .iter()
        .filter(|(block, digest)| old.get(block) != Some(digest))
        .map(|(block, _)| *block)
        .collect();
    differing.extend(old.keys().filter(|block| !new.contains_key(block)));
    differing.sort_unstable();
    let copied = copy.map(SliceReader::open).transpose()?;
    describe(before, &disk, after, &differing, copied.as_ref())
}

fn take(disk: &SliceReader, mut whole: Option<Sha256>) -> io::Result<Fingerprint> {
    let size = disk.length();
    let zeros = vec![0; CHUNK as usize];
    let skip = |whole: &mut Option<Sha256>, mut length: u64| {
        while let (Some(whole), true) = (whole.as_mut(), length > 0) {
            let piece = CHUNK.min(length);
            whole.update(&zeros[..piece as usize]);
            length -= piece;
        }
    };
    let mut content = Sha256::new().chain_update(b"assay blocks 1\n").chain_update(size.to_le_bytes());
    let (mut blocks, mut count, mut data) = (Some(BTreeMap::new()), 0_usize, 0);
    let mut buffer = vec![0; CHUNK as usize];
    let mut done = 0;
    for extent in sparse::extents(disk) {
        let (from, to) = extent?;
        // A file system may cut extents finer than blocks; a block belongs to the first extent that touches it.
        let (from, to) = ((from / BLOCK * BLOCK).max(done), to.next_multiple_of(BLOCK).min(size));
        if from >= to {
            continue;
        }
        skip(&mut whole, from - done);
        let mut at = from;
        while at < to {
            let chunk = &mut buffer[..CHUNK.min(to - at) as usize];
            disk.read_exact_at(chunk, at)?;
            if let Some(whole) = &mut whole {
                whole.update(&*chunk);
            }
            for (block, bytes) in (at / BLOCK..).zip(chunk.chunks(BLOCK as usize)) {
                if is_zero(bytes) {
                    continue;
                }
                let mut digest = BlockDigest::default();
                digest.copy_from_slice(&Sha256::digest(bytes)[..16]);
                content.update(block.to_le_bytes());
                content.update(digest);
                data += bytes.len() as u64;
                count += 1;
                if count > MAX_KEPT {
                    blocks = None;
                }
                if let Some(blocks) = &mut blocks {
                    blocks.insert(block, digest);
                }
            }
            at += chunk.len() as u64;
        }
        done = to;
    }
    skip(&mut whole, size - done);
    Ok(Fingerprint {
        bytes: size,
        allocated: disk.file().metadata()?.blocks() * 512,
        data,
        sha256: whole.map(|whole| hex::encode(whole.finalize())),
        content: hex::encode(content.finalize()),
        blocks,
    })
}

/// The blocks that differ, byte by byte; holes in both are skipped.
fn differing_by_bytes(before: &SliceReader, after: &SliceReader) -> io::Result<Vec<u64>> {
    let mut places = std::collections::BTreeSet::new();
    for disk in [before, after] {
        for extent in sparse::extents(disk) {
            let (from, to) = extent?;
            places.extend(from / CHUNK..to.div_ceil(CHUNK));
        }
    }
    let mut differing = Vec::new();
    for place in places {
        let at = place * CHUNK;
        let (one, other) = (padded(before, at)?, padded(after, at)?);
        let pairs = one.chunks(BLOCK as usize).zip(other.chunks(BLOCK as usize));
        differing.extend(
            (at / BLOCK..).zip(pairs).filter(|(_, (one, other))| one != other).map(|(block, _)| block),
        );
    }
    Ok(differing)
}

/// A chunk, with zeros for what lies behind the end.
fn padded(disk: &SliceReader, at: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; CHUNK as usize];
    let length = CHUNK.min(disk.length().saturating_sub(at)) as usize;
    disk.read_exact_at(&mut bytes[..length], at.min(disk.length()))?;
    Ok(bytes)
}

fn describe(
    before: &Fingerprint,
    disk: &SliceReader,
    path: &Path,
    differing: &[u64],
    copy: Option<&SliceReader>,
) -> Result<Comparison, MediaError> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for block in differing {
        let (from, to) = (block * BLOCK, (block + 1) * BLOCK);
        let listed = ranges.len();
        match ranges.last_mut() {
            Some(last) if last.1 == from => last.1 = to,
            _ if listed < MAX_RANGES => ranges.push((from, to)),
            _ => break,
        }
    }
    // Only the size differs: the first byte that one of them has and the other has not.
    let block = differing.first().map_or(before.bytes.min(disk.length()) / BLOCK, |block| *block);
    let start = block * BLOCK;
    let read = |disk: &SliceReader| {
        let length = BLOCK.min(disk.length().saturating_sub(start));
        disk.piece("the changed place", start.min(disk.length()), length)
    };
    let now = read(disk)?;
    let old = match (copy, &before.blocks) {
        (Some(copy), _) => Some(read(copy)?),
        // A block without a digest was zero.
        (None, Some(blocks)) if !blocks.contains_key(&block) => {
            Some(vec![0; BLOCK.min(before.bytes.saturating_sub(start)) as usize])
        }
        (None, _) => None,
    };
    let within = old.as_ref().map(|old| {
        let differs = old.iter().zip(&now).position(|(one, other)| one != other);
        differs.unwrap_or(old.len().min(now.len()))
    });
    let first = start + within.unwrap_or_default() as u64;
    let from = (first - start) as usize;
    let quoted = &now[from.min(now.len())..now.len().min(from + QUOTE as usize)];
    let letter = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
    Ok(Comparison {
        path: path.to_owned(),
        same: false,
        bytes_before: before.bytes,
        bytes_after: disk.length(),
        first: Some(first),
        is_exact: within.is_some(),
        blocks: differing.len() as u64,
        ranges,
        now: (!quoted.is_empty()).then(|| Excerpt {
            offset: first,
            hex: hex::encode(quoted),
            text: quoted.iter().map(letter).collect(),
        }),
        content: Some(probe(disk)?),
    })
}

#[cfg(test)]
mod tests;
