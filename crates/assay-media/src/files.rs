//! Read-only trees inside an image: FAT and ext2/3/4, without mounting them.
//!
//! An image is untrusted: every walk is bounded, every read has a limit, and a chain that bites its own tail is damage
//! and not a loop.

mod ext4;

use serde::Serialize;

pub use ext4::{Ext4Tree, JournalState};

use crate::{FatTree, Found, Kind, MediaError, SliceReader, probe};

/// Files and folders that one walk reports at most.
pub const MAX_NODES: u64 = 500_000;
/// Folders within folders.
pub(crate) const MAX_DEPTH: usize = 64;

/// A file, folder or link in a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Where it is, from the tree's root, beginning with `/`.
    pub path: String,
    /// What it is.
    pub kind: NodeKind,
    /// Bytes; 0 for a folder.
    pub size: u64,
    /// Permission bits (`0o755`), where the file system has them.
    pub mode: Option<u32>,
    /// The owner's number, where the file system has it.
    pub uid: Option<u32>,
    /// The group's number, where the file system has it.
    pub gid: Option<u32>,
    /// Where a symbolic link points, as it says itself.
    pub target: Option<String>,
}

impl Node {
    /// The last part of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == NodeKind::File
    }

    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        self.kind == NodeKind::Folder
    }
}

/// What a [`Node`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A device, socket or pipe.
    Special,
}

impl NodeKind {
    /// For error messages.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::Folder => "a folder",
            Self::Link => "a symbolic link",
            Self::Special => "a device, socket or pipe",
        }
    }
}

/// A file system that can be looked into. It stays on the thread that opened it.
pub enum Tree {
    /// FAT12, FAT16 or FAT32.
    Fat(FatTree),
    /// ext2, ext3 or ext4.
    Ext4(Ext4Tree),
}

impl Tree {
    /// Opens the file system that fills (the front of) this part of an image.
    ///
    /// # Errors
    /// [`MediaError::NoTree`] when it is none that can be looked into; [`MediaError::Damaged`] and its like when it
    /// is damaged.
    pub fn open(part: &SliceReader) -> Result<Self, MediaError> {
        let found = probe(part)?;
        let is = |wanted: &[Kind]| found.found().iter().any(|one: &Found| wanted.contains(&one.kind));
        if is(&[Kind::Ext2, Kind::Ext3, Kind::Ext4]) {
            return Ok(Self::Ext4(Ext4Tree::open(part)?));
        }
        if is(&[Kind::Vfat]) {
            return Ok(Self::Fat(FatTree::open(part)?));
        }
        Err(MediaError::NoTree { why: format!("this holds {found}") })
    }

    /// What is in a folder, in the order of names.
    ///
    /// # Errors
    /// [`MediaError::NotFound`], [`MediaError::WrongKind`], or what is wrong with the file system.
    pub fn list(&self, folder: &str) -> Result<Vec<Node>, MediaError> {
        let mut nodes = match self {
            Self::Fat(tree) => tree.list(folder),
            Self::Ext4(tree) => tree.list(folder),
        }?;
        nodes.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(nodes)
    }

    /// A file's bytes. Symbolic links are followed, and never lead out of the tree.
    ///
    /// # Errors
    /// [`MediaError::TooMuch`] when the file has more than `limit` bytes; otherwise as [`Tree::list`].
    pub fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, MediaError> {
        match self {
            Self::Fat(tree) => tree.read(path, limit),
            Self::Ext4(tree) => tree.read(path, limit),
        }
    }

    /// Whether anything is there. A symbolic link that leads nowhere is not.
    ///
    /// # Errors
    /// What is wrong with the file system.
    pub fn exists(&self, path: &str) -> Result<bool, MediaError> {
        match self.metadata(path) {
            Ok(_) => Ok(true),
            Err(MediaError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What stands at this path, symbolic links followed.
    ///
    /// # Errors
    /// As [`Tree::list`].
    pub fn metadata(&self, path: &str) -> Result<Node, MediaError> {
        match self {
            Self::Fat(tree) => tree.metadata(path),
            Self::Ext4(tree) => tree.metadata(path),
        }
    }

    /// Everything, folders before what is in them.
    ///
    /// # Errors
    /// [`MediaError::TooMuch`] above [`MAX_NODES`] or 64 folders within each other; otherwise as [`Tree::list`].
    pub fn walk(&self) -> Result<Vec<Node>, MediaError> {
        walk(|folder| self.list(folder))
    }
}

/// A path inside a tree as its parts: `.` and empty parts are left out, and `..` ends at the root.
pub(crate) fn parts(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
}

pub(crate) fn join(folder: &str, name: &str) -> String {
    format!("{}/{name}", folder.trim_end_matches('/'))
}

pub(crate) fn not_found(path: &str) -> MediaError {
    MediaError::NotFound { path: path.to_owned() }
}

fn walk(list: impl Fn(&str) -> Result<Vec<Node>, MediaError>) -> Result<Vec<Node>, MediaError> {
    let mut nodes = Vec::new();
    let mut folders = vec![("/".to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        if depth > MAX_DEPTH {
            let (found, limit) = (depth as u64, MAX_DEPTH as u64);
            return Err(MediaError::TooMuch { what: format!("the depth of `{folder}`"), found, limit });
        }
        for node in list(&folder)? {
            if node.is_folder() {
                folders.push((node.path.clone(), depth + 1));
            }
            nodes.push(node);
            if nodes.len() as u64 > MAX_NODES {
                let (found, limit) = (nodes.len() as u64, MAX_NODES);
                return Err(MediaError::TooMuch { what: "the number of files".to_owned(), found, limit });
            }
        }
    }
    nodes.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(nodes)
}

#[cfg(test)]
mod tests;
