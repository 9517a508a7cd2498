//! ext2, ext3 and ext4 through the crate `ext4-view`, which replays the journal in memory and checks all checksums.
//!
//! A virtual machine's disk is rarely unmounted cleanly, so the journal matters. What that crate leaves to its caller is
//! done here: a superblock that would take memory by the gigabyte is refused before it is loaded, symbolic links are
//! resolved one at a time (a link may claim any length), and no operation reads without end.

use std::cell::Cell;
use std::error::Error;
use std::io;
use std::rc::Rc;

use ext4_view::{Ext4, Ext4Error, Ext4Read, Metadata};
use serde::Serialize;

use super::{MAX_NODES, Node, NodeKind, join, not_found, parts};
use crate::bytes::{crc32c, holds, le16, le32, put};
use crate::source::Source as _;
use crate::{MediaError, SliceReader};

const WHAT: &str = "the ext file system";
/// What one operation may read besides the file that it was asked for, in bytes.
const BUDGET: u64 = 1 << 30;
/// As the kernel has it (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;
/// The longest that a link may be (`PATH_MAX`).
const MAX_LINK: u64 = 4096;
/// The feature that a journal which is not empty sets (`INCOMPAT_RECOVER`).
const NEEDS_RECOVERY: u32 = 0x4;
/// Read at once.
const CHUNK: usize = 1 << 20;

/// What became of a journal that was not written back when the disk was last used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "journal")]
pub enum JournalState {
    /// There is none, or it is empty.
    Clean,
    /// It was replayed in memory: the tree is what a mount would show.
    Replayed,
    /// It was left out: the tree may lack what was written last, or contradict itself.
    LeftOut {
        /// Why.
        why: String,
    },
}

/// An ext2, ext3 or ext4 file system inside an image.
pub struct Ext4Tree {
    tree: Ext4,
    journal: JournalState,
    left: Rc<Cell<u64>>,
}

impl Ext4Tree {
    /// Opens the file system at the front of this part.
    ///
    /// # Errors
    /// [`MediaError::Damaged`], [`MediaError::Unsupported`] (a feature that the reader does not know) or
    /// [`MediaError::Cut`].
    pub fn open(part: &SliceReader) -> Result<Self, MediaError> {
        let superblock = check_superblock(part)?;
        let left = Rc::new(Cell::new(BUDGET));
        let load = |superblock| {
            Ext4::load(Box::new(Budgeted { part: part.clone(), left: Rc::clone(&left), superblock }))
        };
        let is_dirty = le32(&superblock, 96) & NEEDS_RECOVERY != 0;
        let (tree, journal) = match load(None) {
            Ok(tree) if is_dirty => (tree, JournalState::Replayed),
            Ok(tree) => (tree, JournalState::Clean),
            // The crate replays journals with checksums of version 3 only, which ext3 has not.
            Err(Ext4Error::Incompatible(why)) if is_dirty => {
                let tree = load(Some(without_journal(superblock))).map_err(|error| explain(error, "/"))?;
                (tree, JournalState::LeftOut { why: why.to_string() })
            }
            Err(error) => return Err(explain(error, "/")),
        };
        Ok(Self { tree, journal, left })
    }

    /// What became of its journal.
    pub fn journal(&self) -> &JournalState {
        &self.journal
    }

    /// The label.
    pub fn label(&self) -> Option<String> {
        self.tree.label().to_str().ok().filter(|label| !label.is_empty()).map(str::to_owned)
    }

    pub(super) fn list(&self, folder: &str) -> Result<Vec<Node>, MediaError> {
        let (canonical, metadata) = self.resolve(folder)?;
        if !metadata.is_dir() {
            return Err(wrong(folder, kind(&metadata), NodeKind::Folder));
        }
        let mut nodes = Vec::new();
        let entries = self.tree.read_dir(canonical.as_str()).map_err(|error| explain(error, folder))?;
        for entry in entries {
            let entry = entry.map_err(|error| explain(error, folder))?;
            let name = entry.file_name();
            if name == "." || name == ".." {
                continue;
            }
            // Such a name cannot be asked for again; the tree says so instead of hiding the file.
            let Ok(name) = name.as_str() else {
                return Err(MediaError::Unsupported {
                    what: WHAT,
                    why: format!("a name in `{folder}` is not UTF-8: {}", name.display()),
                });
            };
            let path = join(&canonical, name);
            let metadata = entry.metadata().map_err(|error| explain(error, &path))?;
            nodes.push(self.node(path, &metadata));
            if nodes.len() as u64 > MAX_NODES {
                let found = nodes.len() as u64;
                return Err(MediaError::TooMuch { what: format!("`{folder}`"), found, limit: MAX_NODES });
            }
        }
        Ok(nodes)
    }

    pub(super) fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, MediaError> {
        let (canonical, metadata) = self.resolve(path)?;
        if !metadata.file_type().is_regular_file() {
            return Err(wrong(path, kind(&metadata), NodeKind::File));
        }
        if metadata.len() > limit {
            let found = metadata.len();
            return Err(MediaError::TooMuch { what: format!("`{path}`"), found, limit });
        }
        self.left.set(BUDGET.saturating_add(limit.saturating_mul(2)));
        let mut file = self.tree.open(canonical.as_str()).map_err(|error| explain(error, path))?;
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; CHUNK]);
        loop {
            let read = file.read_bytes(&mut buffer).map_err(|error| explain(error, path))?;
            if read == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&buffer[..read]);
            if bytes.len() as u64 > limit {
                let found = bytes.len() as u64;
                return Err(MediaError::TooMuch { what: format!("`{path}`"), found, limit });
            }
        }
    }

    pub(super) fn metadata(&self, path: &str) -> Result<Node, MediaError> {
        let (canonical, metadata) = self.resolve(path)?;
        Ok(self.node(canonical, &metadata))
    }

    fn node(&self, path: String, metadata: &Metadata) -> Node {
        let target = metadata.is_symlink().then(|| self.target(&path, metadata).ok()).flatten();
        Node {
            kind: kind(metadata),
            size: if metadata.is_dir() { 0 } else { metadata.len() },
            mode: Some(u32::from(metadata.mode())),
            uid: Some(metadata.uid()),
            gid: Some(metadata.gid()),
            target,
            path,
        }
    }

    fn target(&self, link: &str, metadata: &Metadata) -> Result<String, MediaError> {
        // The crate takes as much memory as the link says that it is long.
        if metadata.len() > MAX_LINK {
            let why = format!("the symbolic link `{link}` says that it has {} bytes", metadata.len());
            return Err(MediaError::damaged(WHAT, why));
        }
        let target = self.tree.read_link(link).map_err(|error| explain(error, link))?;
        target.to_str().map(str::to_owned).map_err(|_| MediaError::Unsupported {
            what: WHAT,
            why: format!("the symbolic link `{link}` is not UTF-8"),
        })
    }

    /// The path without symbolic links, and what stands there. `..` above the root is the root, as in a chroot.
    fn resolve(&self, path: &str) -> Result<(String, Metadata), MediaError> {
        self.left.set(BUDGET);
        let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let (mut done, mut links): (Vec<String>, usize) = (Vec::new(), 0);
        let look = |done: &[String]| {
            let canonical = format!("/{}", done.join("/"));
            let metadata =
                self.tree.symlink_metadata(canonical.as_str()).map_err(|error| explain(error, path))?;
            Ok::<_, MediaError>((canonical, metadata))
        };
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(part),
            }
            let (canonical, metadata) = look(&done)?;
            if metadata.is_symlink() {
                links += 1;
                if links > MAX_LINKS {
                    let why = format!("`{path}` leads through more than {MAX_LINKS} symbolic links");
                    return Err(MediaError::damaged(WHAT, why));
                }
                let target = self.target(&canonical, &metadata)?;
                done.pop();
                if target.starts_with('/') {
                    done.clear();
                }
                todo.extend(target.split('/').rev().map(str::to_owned));
            } else if !metadata.is_dir() && todo.iter().any(|part| !matches!(part.as_str(), "" | ".")) {
                return Err(not_found(path));
            }
        }
        // Only a canonical path reaches the crate.
        debug_assert_eq!(parts(&done.join("/")).len(), done.len());
        look(&done)
    }
}

/// Refuses what would make the reader take memory for block groups that cannot exist.
fn check_superblock(part: &SliceReader) -> Result<Vec<u8>, MediaError> {
    let raw = part.piece(WHAT, 1024, 1024)?;
    let damaged = |why: String| Err(MediaError::damaged(WHAT, why));
    if !holds(&raw, 56, &[0x53, 0xef]) {
        return damaged("its superblock has no mark".to_owned());
    }
    let shift = le32(&raw, 24);
    if shift > 6 {
        return damaged(format!("blocks of 2^{} bytes", u64::from(shift) + 10));
    }
    let block = 1024_u64 << shift;
    // The crate, as the kernel, reads the upper half whether or not the feature for it is set.
    let blocks = u64::from(le32(&raw, 336)) << 32 | u64::from(le32(&raw, 4));
    let length = blocks.saturating_mul(block);
    if length > part.length() {
        return Err(MediaError::Cut { what: WHAT, offset: 0, length, size: part.length() });
    }
    // mke2fs makes groups of at least 256 blocks, and of at most 8 for each byte of the bitmap block.
    let per_group = u64::from(le32(&raw, 32));
    if !(256..=block * 8).contains(&per_group) {
        return damaged(format!("groups of {per_group} blocks"));
    }
    let inode = le16(&raw, 88);
    if le32(&raw, 76) > 0 && (!inode.is_power_of_two() || inode < 128) {
        return damaged(format!("inodes of {inode} bytes"));
    }
    Ok(raw)
}

/// The superblock as it is on a file system whose journal is empty.
fn without_journal(mut superblock: Vec<u8>) -> Vec<u8> {
    let features = le32(&superblock, 96) & !NEEDS_RECOVERY;
    put(&mut superblock, 96, &features.to_le_bytes());
    // With checksums, its own: CRC-32C that is not inverted at the end.
    let checksum = !crc32c(&superblock[..1020]);
    put(&mut superblock, 1020, &checksum.to_le_bytes());
    superblock
}

/// Reads until the budget is used up.
struct Budgeted {
    part: SliceReader,
    left: Rc<Cell<u64>>,
    /// Stands in for the one on the disk.
    superblock: Option<Vec<u8>>,
}

impl Ext4Read for Budgeted {
    fn read(&mut self, at: u64, buffer: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        let Some(left) = self.left.get().checked_sub(buffer.len() as u64) else {
            return Err("more is read than any sound file system needs".into());
        };
        self.left.set(left);
        self.part.read_exact_at(buffer, at)?;
        if let Some(superblock) =
            self.superblock.as_ref().filter(|raw| at == 1024 && buffer.len() == raw.len())
        {
            buffer.copy_from_slice(superblock);
        }
        Ok(())
    }
}

fn explain(error: Ext4Error, path: &str) -> MediaError {
    match error {
        Ext4Error::NotFound
        | Ext4Error::NotADirectory
        | Ext4Error::MalformedPath
        | Ext4Error::PathTooLong
        | Ext4Error::NotAbsolute => not_found(path),
        Ext4Error::Incompatible(why) => MediaError::Unsupported { what: WHAT, why: why.to_string() },
        Ext4Error::Encrypted => MediaError::Unsupported { what: WHAT, why: format!("`{path}` is encrypted") },
        Ext4Error::Io(source) => MediaError::Io {
            doing: "reading",
            path: path.into(),
            source: match source.downcast::<io::Error>() {
                Ok(source) => *source,
                Err(source) => io::Error::other(source),
            },
        },
        other => MediaError::damaged(WHAT, format!("`{path}`: {other}")),
    }
}

fn kind(metadata: &Metadata) -> NodeKind {
    let kind = metadata.file_type();
    if kind.is_dir() {
        NodeKind::Folder
    } else if kind.is_symlink() {
        NodeKind::Link
    } else if kind.is_regular_file() {
        NodeKind::File
    } else {
        NodeKind::Special
    }
}

fn wrong(path: &str, found: NodeKind, wanted: NodeKind) -> MediaError {
    MediaError::WrongKind { path: path.to_owned(), found: found.words(), wanted: wanted.words() }
}
