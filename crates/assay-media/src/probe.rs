//! What a disk or a partition holds, told by its marks; and proven to be nothing where it holds nothing.
//!
//! "Blank" is a claim that an installer's behaviour is judged by, so it is never concluded from a sample: every byte
//! is read, but for holes, which read as zeros by definition (see `sparse`). Where marks stand is taken from the
//! formats' own documentation and from util-linux's libblkid, whose answers the tests compare with.

mod signatures;

use std::fmt;

use serde::Serialize;

pub use signatures::Kind;

use crate::source::Source as _;
use crate::table::{HeaderState, Scheme, Table};
use crate::{MediaError, SliceReader, sparse};

/// One thing that was recognised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// Where its mark stands, in bytes.
    pub offset: u64,
    /// Its label or name.
    pub label: Option<String>,
    /// Its identity, as `blkid` writes it.
    pub uuid: Option<String>,
}

/// What a disk or partition holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "content")]
pub enum Content {
    /// Nothing: every byte is zero.
    Blank {
        /// Bytes in all.
        bytes: u64,
        /// Bytes that were read; the others are holes.
        read: u64,
    },
    /// Things that are known by their marks.
    Known {
        /// In the order of their places.
        found: Vec<Found>,
    },
    /// Data without a mark that is known here.
    Unexplained {
        /// The first byte that is not zero.
        first: u64,
        /// Bytes that were read up to there.
        read: u64,
    },
}

impl Content {
    /// What was recognised.
    pub fn found(&self) -> &[Found] {
        match self {
            Self::Known { found } => found,
            Self::Blank { .. } | Self::Unexplained { .. } => &[],
        }
    }

    /// Whether every byte is zero.
    pub fn is_blank(&self) -> bool {
        matches!(self, Self::Blank { .. })
    }

    /// The first thing of this kind.
    pub fn of_kind(&self, kind: Kind) -> Option<&Found> {
        self.found().iter().find(|found| found.kind == kind)
    }
}

impl fmt::Display for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank { bytes, .. } => write!(formatter, "nothing: all {bytes} bytes are zero"),
            Self::Unexplained { first, .. } => {
                write!(formatter, "data that nothing here explains, from byte {first} on")
            }
            Self::Known { found } => {
                for (number, one) in found.iter().enumerate() {
                    let separator = if number == 0 { "" } else { ", " };
                    write!(formatter, "{separator}{}", one.kind.name())?;
                    if let Some(label) = &one.label {
                        write!(formatter, " `{label}`")?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// Says what a disk or partition holds.
///
/// # Errors
/// [`MediaError::Io`] only: whatever the bytes are, they are something.
pub fn probe(part: &SliceReader) -> Result<Content, MediaError> {
    let mut found = signatures::find(part)?;
    tables(part, &mut found)?;
    if found.is_empty() {
        let blank = sparse::first_data(part).map_err(|source| MediaError::Io {
            doing: "reading",
            path: "the disk".into(),
            source,
        })?;
        return Ok(match blank.first {
            Some(first) => Content::Unexplained { first, read: blank.read },
            None => Content::Blank { bytes: part.size(), read: blank.read },
        });
    }
    found.sort_by_key(|one| one.offset);
    Ok(Content::Known { found })
}

fn tables(part: &SliceReader, found: &mut Vec<Found>) -> Result<(), MediaError> {
    let table = Table::detect(part)?;
    let sector = table.sector.bytes();
    let uuid = table.identity();
    if let Some(gpt) = &table.gpt {
        for (state, kind) in [(&gpt.primary, Kind::Gpt), (&gpt.backup, Kind::GptBackup)] {
            match state {
                HeaderState::Sound { sector: at } => {
                    found.push(Found { kind, offset: at * sector, label: None, uuid: uuid.clone() });
                }
                HeaderState::Damaged { sector: at, .. } => {
                    found.push(Found { kind, offset: at * sector, label: None, uuid: None });
                }
                HeaderState::Missing => {}
            }
        }
    }
    if let Some(mbr) = &table.mbr {
        let kind = if mbr.is_protective() { Kind::ProtectiveMbr } else { Kind::Mbr };
        let uuid = (table.scheme == Scheme::Mbr).then_some(uuid).flatten();
        found.push(Found { kind, offset: 510, label: None, uuid });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
