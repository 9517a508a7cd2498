//! The volume descriptors: what the image calls itself, and where its trees and its boot catalogue are.

use std::path::Path;

use serde::Serialize;

use super::BLOCK;
use crate::bytes::{be16, be32, holds, le16, le32, text, utf16};
use crate::source::Source as _;
use crate::{MediaError, SliceReader};

/// The first block that holds a descriptor.
const FIRST: u64 = 16;
/// More descriptors than any image has.
const MAX_DESCRIPTORS: u64 = 64;

/// What an image calls itself: its primary volume descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// The volume identifier: what `blkid` calls the label, and `root=live:CDLABEL=` names.
    pub id: Option<String>,
    /// The system identifier.
    pub system: Option<String>,
    /// The publisher.
    pub publisher: Option<String>,
    /// What it was made with.
    pub application: Option<String>,
    /// When it was made, as `2026-07-31 12:00:00.00`, in the time zone that it was made in.
    pub made: Option<String>,
    /// Bytes of the volume.
    pub bytes: u64,
    /// Whether a UDF file system shares the image; then the ISO 9660 tree may hold next to nothing.
    pub has_udf: bool,
    /// Which names its files are known by.
    pub names: Names,
}

/// Which names the files are known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Names {
    /// POSIX names, modes and links (Rock Ridge).
    RockRidge,
    /// Unicode names (Joliet).
    Joliet,
    /// Upper case, eight and three (plain ISO 9660).
    Plain,
}

/// Where the trees begin: block, bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Roots {
    pub(super) primary: (u64, u64),
    pub(super) joliet: Option<(u64, u64)>,
}

pub(super) struct Descriptors {
    pub(super) volume: Volume,
    pub(super) roots: Roots,
    /// The block of the boot catalogue.
    pub(super) catalogue: Option<u64>,
}

pub(super) fn read(file: &SliceReader, path: &Path) -> Result<Descriptors, MediaError> {
    let not = |why: String| MediaError::NotIso { path: path.to_owned(), why };
    if file.length() < (FIRST + 1) * BLOCK {
        return Err(not(format!("it has only {} bytes", file.length())));
    }
    let (mut primary, mut joliet, mut catalogue, mut has_udf) = (None, None, None, false);
    for block in FIRST..FIRST + MAX_DESCRIPTORS {
        let Ok(raw) = file.piece("a volume descriptor", block * BLOCK, BLOCK) else { break };
        let is_iso = holds(&raw, 1, b"CD001");
        has_udf |= holds(&raw, 1, b"NSR02") || holds(&raw, 1, b"NSR03");
        match raw[0] {
            _ if !is_iso && [&b"BEA01"[..], b"NSR02", b"NSR03", b"TEA01"].contains(&&raw[1..6]) => {}
            _ if !is_iso => break,
            0 if holds(&raw, 7, b"EL TORITO SPECIFICATION") => catalogue = Some(u64::from(le32(&raw, 71))),
            1 if primary.is_none() => primary = Some(raw),
            2 if is_joliet(&raw) => joliet = Some(root(&raw)),
            _ => {}
        }
        // The terminator ends ISO's own; UDF's descriptors stand behind it.
    }
    let raw = primary.ok_or_else(|| {
        let found = file.piece("a volume descriptor", FIRST * BLOCK, 8).unwrap_or_default();
        not(if found.iter().all(|byte| *byte == 0) {
            "block 16 is empty".to_owned()
        } else {
            "block 16 holds no volume descriptor".to_owned()
        })
    })?;
    let block = u64::from(le16(&raw, 128));
    if block != BLOCK || be16(&raw, 130) != 2048 {
        let why = format!("blocks of {block} bytes");
        return Err(MediaError::Unsupported { what: "the ISO 9660 volume", why });
    }
    let blocks = le32(&raw, 80);
    if blocks != be32(&raw, 84) {
        let why = format!("its size is {blocks} blocks, and read the other way round {}", be32(&raw, 84));
        return Err(MediaError::damaged("the primary volume descriptor", why));
    }
    let volume = Volume {
        id: text(&raw[40..72]),
        system: text(&raw[8..40]),
        publisher: text(&raw[318..446]),
        application: text(&raw[574..702]),
        made: date(&raw[813..829]),
        bytes: u64::from(blocks) * BLOCK,
        has_udf,
        names: Names::Plain,
    };
    Ok(Descriptors { volume, roots: Roots { primary: root(&raw), joliet }, catalogue })
}

/// The three levels of UCS-2 that Joliet may announce.
fn is_joliet(raw: &[u8]) -> bool {
    [b"%/@", b"%/C", b"%/E"].iter().any(|escape| holds(raw, 88, *escape))
}

fn root(raw: &[u8]) -> (u64, u64) {
    (u64::from(le32(raw, 156 + 2)), u64::from(le32(raw, 156 + 10)))
}

/// Sixteen digits, or none at all.
fn date(raw: &[u8]) -> Option<String> {
    if raw.len() < 16 || !raw.iter().all(u8::is_ascii_digit) || raw.starts_with(b"0000") {
        return None;
    }
    let part = |from: usize, to: usize| String::from_utf8_lossy(&raw[from..to]).into_owned();
    let (day, time) = ([part(0, 4), part(4, 6), part(6, 8)], [part(8, 10), part(10, 12), part(12, 14)]);
    Some(format!("{} {}.{}", day.join("-"), time.join(":"), part(14, 16)))
}

/// UTF-16 the other way round, as Joliet stores it.
pub(super) fn utf16_be(bytes: &[u8]) -> String {
    utf16(bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])))
}
