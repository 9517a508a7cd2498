//! Boot media and disk images, read and written without mounting them.
//!
//! No root, no loop devices, no kernel drivers: an image is a file, and what is in it is read as bytes. That is what
//! lets the image pipeline look at an installer's ISO before anything runs, write a stick as an operator's tool would,
//! read what an installer put onto a virtual machine's disks, and prove that it left other disks alone.
//!
//! Everything that is read is untrusted: bounded in size, depth and number, and never a panic. The crate is
//! synchronous; async callers use `spawn_blocking`. It knows nothing of runs or verdicts: it says what is there.
//!
//! - [`Iso`]: an ISO image's descriptors, files and ways of booting;
//! - [`Table`]: GPT and MBR, sound or damaged;
//! - [`probe()`]: what a disk or partition holds, or the proof that it is blank;
//! - [`Disk`] and [`Tree`]: partitions, and FAT and ext2/3/4 inside them;
//! - [`stage`]: sticks, and files onto their EFI system partitions;
//! - [`prove`]: fingerprints, and what changed between two;
//! - [`occupy`]: disks that already hold something;
//! - [`writelog`]: a recording of every write to a disk, replayed to every moment in which power could go.

mod bytes;
mod disk;
mod error;
mod fat;
mod files;
mod iso;
pub mod occupy;
mod probe;
pub mod prove;
#[cfg(test)]
mod samples;
mod source;
mod sparse;
pub mod stage;
mod table;
pub mod writelog;

pub use disk::{Disk, Partition};
pub use error::MediaError;
pub use fat::FatTree;
pub use files::{Ext4Tree, JournalState, MAX_NODES, Node, NodeKind, Tree};
pub use iso::{BootCode, BootEntry, Booting, Emulation, Iso, IsoFacts, Names, Platform, Volume, Way};
pub use probe::{Content, Found, Kind, probe};
pub use source::SliceReader;
pub use table::{
    Entry, EntryKind, Gpt, HeaderState, Mbr, Scheme, Sector, TYPE_BIOS_BOOT, TYPE_ESP, TYPE_LINUX,
    TYPE_LINUX_SWAP, TYPE_MICROSOFT_BASIC, Table, TableProblem,
};
