//! How often a served disk has answered with an error: the proof that a fault was not only ordered, but delivered.
//!
//! The disk's process writes it beside the image, since it is gone with its machine and who asks comes afterwards.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

/// Requests that were answered with an error because the disk's rules say so, by what they asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Struck {
    /// Reads.
    pub reads: u64,
    /// Writes, of zeroes as well.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
}

impl Struck {
    /// All of them.
    pub const fn all(self) -> u64 {
        self.reads + self.writes + self.flushes
    }

    /// What is written down so far; nothing was struck where there is no file.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes it down, all at once: a reader sees this count or the one before.
    pub(crate) fn write(self, path: &Path) -> io::Result<()> {
        let part = path.with_extension("struck-part");
        fs::write(&part, serde_json::to_vec(&self).map_err(io::Error::other)?)?;
        fs::rename(part, path)
    }
}
