//! What can be wrong with an image, worded so that the reader knows what to do next.

use std::io;
use std::path::{Path, PathBuf};

/// Why an image could not be read, written or understood.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// The operating system refused.
    #[error("{doing} {} failed: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// No primary volume descriptor stands where ISO 9660 has it.
    #[error("{} is no ISO 9660 image: {why}; give the installer's `.iso` file itself", path.display())]
    NotIso {
        /// The file.
        path: PathBuf,
        /// What stands there instead.
        why: String,
    },
    /// The file ends before the volume does.
    #[error(
        "{} is cut off: its volume has {declared} bytes and the file {found}; build or download it again and \
         compare its checksum",
        path.display()
    )]
    IsoTruncated {
        /// The file.
        path: PathBuf,
        /// Bytes of the volume, as its descriptor says.
        declared: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// A structure lies (partly) behind the end of what holds it.
    #[error(
        "{what} needs {length} bytes at byte {offset}, and there are only {size}: the image is cut off or damaged"
    )]
    Cut {
        /// What was to be read.
        what: &'static str,
        /// Where.
        offset: u64,
        /// How much.
        length: u64,
        /// How much there is.
        size: u64,
    },
    /// A structure contradicts its format, or itself.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// The structure.
        what: &'static str,
        /// The contradiction.
        why: String,
    },
    /// Something that this crate does not read or write.
    #[error("{what} is not supported: {why}")]
    Unsupported {
        /// What was found.
        what: &'static str,
        /// The detail.
        why: String,
    },
    /// More than a reader takes from an image that nobody has vouched for.
    #[error("{what} has {found}, more than the limit of {limit}")]
    TooMuch {
        /// What is too big or too many.
        what: String,
        /// How much it is.
        found: u64,
        /// How much is taken.
        limit: u64,
    },
    /// No such file in the tree.
    #[error("`{path}` is not there")]
    NotFound {
        /// The path inside the tree.
        path: String,
    },
    /// A file was wanted and something else is there, or the other way round.
    #[error("`{path}` is {found}, not {wanted}")]
    WrongKind {
        /// The path inside the tree.
        path: String,
        /// What it is.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// There is no file system that can be looked into.
    #[error("no readable tree: {why}")]
    NoTree {
        /// What is there instead.
        why: String,
    },
    /// Nowhere to put files.
    #[error("no EFI system partition: {looked}; use `append_esp` to add one behind the image's end")]
    NoEsp {
        /// Where it was looked for, and what was found.
        looked: String,
    },
    /// The file system has no room for the files.
    #[error(
        "the file system has {free} bytes free and the files need {needed}; use `append_esp` to add one that has room"
    )]
    Full {
        /// Bytes that the files need, in whole clusters.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The root folder of a FAT12 or FAT16 file system has a fixed number of entries.
    #[error(
        "the root folder has {entries} free entries, too few for these names, and cannot grow; use shorter names, a \
         folder, or `append_esp`"
    )]
    FolderFull {
        /// Entries that are free; a long name takes one for every 13 letters and one more.
        entries: u64,
    },
    /// The name cannot be written to a FAT file system.
    #[error("`{path}` cannot be the name of a file on a FAT file system: {why}")]
    BadName {
        /// The path that was asked for.
        path: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// An image is smaller than what is to go into it.
    #[error("{what} has {bytes} bytes and needs at least {needed}")]
    TooSmall {
        /// What is too small.
        what: String,
        /// Its size.
        bytes: u64,
        /// What it needs.
        needed: u64,
    },
    /// There is no place for another partition.
    #[error("no room for another partition: {why}")]
    NoRoom {
        /// What is in the way.
        why: String,
    },
    /// What was written is not what is read.
    #[error("what was written to {place} is not what is read back: {why}; do not use this image")]
    ReadBack {
        /// The file, or the place.
        place: String,
        /// The difference.
        why: String,
    },
}

impl MediaError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    pub(crate) fn damaged(what: &'static str, why: impl Into<String>) -> Self {
        Self::Damaged { what, why: why.into() }
    }
}
