//! An installer's ISO image: what it calls itself, what is on it, and how it can be booted from what.
//!
//! Own code (ECMA-119, Rock Ridge, Joliet, El Torito): the readers on crates.io either stop at plain ISO 9660 or know
//! neither boot catalogues nor hybrid images, and none bounds what it takes from a hostile one. Sources: ECMA-119
//! (4th edition, 2019); SUSP 1.12 and RRIP 1.12 (IEEE P1281, P1282 drafts); the Joliet specification of 1995; El Torito
//! 1.0 of 1995, with platform 0xEF from the UEFI specification 2.10, section 13.3.2.1.

mod boot;
mod el_torito;
mod records;
mod rock_ridge;
mod volume;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use boot::{BootCode, Booting, Way};
pub use el_torito::{BootEntry, Emulation, Platform};
pub use volume::{Names, Volume};

use crate::files::{MAX_DEPTH, MAX_NODES, Node, NodeKind, Tree, join, not_found};
use crate::source::Source as _;
use crate::table::Sector;
use crate::{FatTree, MediaError, SliceReader, Table};
use records::{Item, Reader};

/// Bytes of a block. The standard allows smaller ones, which nobody writes.
pub(crate) const BLOCK: u64 = 2048;
/// Read at once.
const CHUNK: u64 = 16 << 20;
/// As the kernel has it (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// An open ISO image.
pub struct Iso {
    path: PathBuf,
    file: SliceReader,
    volume: Volume,
    reader: Reader,
    entries: Vec<BootEntry>,
    catalogue_problem: Option<String>,
    table: Table,
}

impl Iso {
    /// Opens an image and reads its descriptors, its boot catalogue and its partition tables.
    ///
    /// # Errors
    /// [`MediaError::NotIso`], [`MediaError::IsoTruncated`] when the file is shorter than the volume in it, or what is
    /// wrong with a descriptor. A damaged boot catalogue is no error but [`Iso::catalogue_problem`], and a boot entry
    /// that cannot be used says so in [`BootEntry::problem`].
    pub fn open(path: &Path) -> Result<Self, MediaError> {
        let file = SliceReader::open(path)?;
        let descriptors = volume::read(&file, path)?;
        let volume = descriptors.volume;
        if volume.bytes > file.length() {
            let (declared, found) = (volume.bytes, file.length());
            return Err(MediaError::IsoTruncated { path: path.to_owned(), declared, found });
        }
        let (entries, catalogue_problem) = match descriptors.catalogue.map(|at| el_torito::read(&file, at)) {
            None => (Vec::new(), None),
            Some(Ok(entries)) => (entries, None),
            Some(Err(error @ MediaError::Io { .. })) => return Err(error),
            Some(Err(error)) => (Vec::new(), Some(error.to_string())),
        };
        let table = Table::read(&file, Sector::B512)?;
        let (volume, reader) = Reader::choose(file.clone(), volume, &descriptors.roots)?;
        Ok(Self { path: path.to_owned(), file, volume, reader, entries, catalogue_problem, table })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file, which may be more than those of the volume.
    pub fn file_bytes(&self) -> u64 {
        self.file.length()
    }

    /// What the image calls itself.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// The entries of the boot catalogue; none where there is no catalogue.
    pub fn boot_entries(&self) -> &[BootEntry] {
        &self.entries
    }

    /// Why the boot catalogue cannot be used, where there is one that cannot.
    pub fn catalogue_problem(&self) -> Option<&str> {
        self.catalogue_problem.as_deref()
    }

    /// The partition tables that make it hybrid, in sectors of 512 bytes.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// From what, and with which firmware, it can be booted; each with its reason.
    ///
    /// # Errors
    /// [`MediaError::Io`].
    pub fn booting(&self) -> Result<Booting, MediaError> {
        boot::judge(&self.file, self.catalogue_problem(), &self.entries, &self.table)
    }

    /// The FAT file system that an EFI boot entry points to.
    ///
    /// # Errors
    /// [`MediaError::NoTree`] where the entry holds none.
    pub fn efi_tree(&self, entry: &BootEntry) -> Result<Tree, MediaError> {
        let part = entry.part(&self.file)?;
        let opened = FatTree::open(&part).map_err(|error| MediaError::NoTree { why: error.to_string() });
        Ok(Tree::Fat(opened?))
    }

    /// Everything on it, in the order of paths.
    ///
    /// # Errors
    /// [`MediaError::Damaged`] (two folders in one place among others), [`MediaError::TooMuch`].
    pub fn files(&self) -> Result<Vec<Node>, MediaError> {
        let root = self.reader.root();
        let (mut nodes, mut seen) = (Vec::new(), BTreeSet::from([root.place()]));
        let mut folders = vec![("/".to_owned(), root, 0)];
        while let Some((path, folder, depth)) = folders.pop() {
            if depth > MAX_DEPTH {
                let (found, limit) = (depth as u64, MAX_DEPTH as u64);
                return Err(MediaError::TooMuch { what: format!("the depth of `{path}`"), found, limit });
            }
            for item in self.reader.list(&folder)? {
                let at = join(&path, &item.name);
                nodes.push(item.node(at.clone()));
                if nodes.len() as u64 > MAX_NODES {
                    let (found, limit) = (nodes.len() as u64, MAX_NODES);
                    return Err(MediaError::TooMuch { what: "the number of files".to_owned(), found, limit });
                }
                if item.kind == NodeKind::Folder {
                    if !seen.insert(item.place()) {
                        let why = format!("`{at}` is in the place of another folder");
                        return Err(MediaError::damaged("the ISO 9660 tree", why));
                    }
                    folders.push((at, item, depth + 1));
                }
            }
        }
        nodes.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(nodes)
    }

    /// The nodes whose paths match a pattern: `?` and `*` within a part of the path, `**` for any parts. A pattern
    /// without a `/` is looked for in every folder. Upper and lower case differ with Rock Ridge names only.
    ///
    /// # Errors
    /// As [`Iso::files`].
    pub fn find(&self, pattern: &str) -> Result<Vec<Node>, MediaError> {
        let ignore_case = self.volume.names != Names::RockRidge;
        let fold = |text: &str| if ignore_case { text.to_lowercase() } else { text.to_owned() };
        let pattern = fold(pattern.trim_start_matches('/'));
        let wanted = if pattern.contains('/') { pattern } else { format!("**/{pattern}") };
        let wanted: Vec<_> = wanted.split('/').collect();
        let mut nodes = self.files()?;
        nodes.retain(|node| {
            let path = fold(node.path.trim_start_matches('/'));
            matches(&wanted, &path.split('/').collect::<Vec<_>>())
        });
        Ok(nodes)
    }

    /// A file's bytes. Symbolic links are followed, and never lead out of the image.
    ///
    /// # Errors
    /// [`MediaError::NotFound`], [`MediaError::WrongKind`], [`MediaError::TooMuch`] when it has more than `limit`
    /// bytes, [`MediaError::Unsupported`] when it is compressed (zisofs).
    pub fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, MediaError> {
        let item = self.resolve(path)?;
        if item.kind != NodeKind::File {
            let (found, wanted) = (item.kind.words(), NodeKind::File.words());
            return Err(MediaError::WrongKind { path: path.to_owned(), found, wanted });
        }
        if item.size() > limit {
            return Err(MediaError::TooMuch { what: format!("`{path}`"), found: item.size(), limit });
        }
        if item.is_compressed {
            let why = format!("`{path}` is compressed with zisofs");
            return Err(MediaError::Unsupported { what: "the file", why });
        }
        let mut bytes = Vec::new();
        for (block, length) in &item.extents {
            let mut done = 0;
            while done < *length {
                let piece = CHUNK.min(length - done);
                bytes.extend(self.file.piece("a file of the ISO image", block * BLOCK + done, piece)?);
                done += piece;
            }
        }
        Ok(bytes)
    }

    /// What stands at this path, symbolic links followed.
    ///
    /// # Errors
    /// [`MediaError::NotFound`], [`MediaError::Damaged`].
    pub fn metadata(&self, path: &str) -> Result<Node, MediaError> {
        Ok(self.resolve(path)?.node(path.to_owned()))
    }

    /// Whether anything is there.
    ///
    /// # Errors
    /// [`MediaError::Damaged`] and its like.
    pub fn exists(&self, path: &str) -> Result<bool, MediaError> {
        match self.resolve(path) {
            Ok(_) => Ok(true),
            Err(MediaError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn resolve(&self, path: &str) -> Result<Item, MediaError> {
        let fold = |name: &str| match self.volume.names {
            Names::RockRidge => name.to_owned(),
            Names::Joliet | Names::Plain => name.to_lowercase(),
        };
        let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let (mut folders, mut links) = (vec![self.reader.root()], 0);
        let mut file: Option<Item> = None;
        while let Some(part) = todo.pop() {
            if part.is_empty() || part == "." {
                continue;
            }
            if file.is_some() {
                return Err(not_found(path));
            }
            if part == ".." {
                if folders.len() > 1 {
                    folders.pop();
                }
                continue;
            }
            let folder = &folders[folders.len() - 1];
            let items = self.reader.list(folder)?;
            let found = items.into_iter().find(|item| fold(&item.name) == fold(&part));
            let item = found.ok_or_else(|| not_found(path))?;
            match (item.kind, &item.target) {
                (NodeKind::Link, Some(target)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        let why = format!("`{path}` leads through more than {MAX_LINKS} symbolic links");
                        return Err(MediaError::damaged("the ISO 9660 tree", why));
                    }
                    if target.starts_with('/') {
                        folders.truncate(1);
                    }
                    todo.extend(target.split('/').rev().map(str::to_owned));
                }
                (NodeKind::Folder, _) => folders.push(item),
                _ => file = Some(item),
            }
        }
        let folder = folders.pop().unwrap_or_else(|| self.reader.root());
        Ok(file.unwrap_or(folder))
    }
}

/// What an ISO image is, without the image: for evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IsoFacts {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// What it calls itself.
    pub volume: Volume,
    /// The entries of the boot catalogue.
    pub boot_entries: Vec<BootEntry>,
    /// Why the boot catalogue cannot be used, where there is one that cannot.
    pub catalogue_problem: Option<String>,
    /// The partition tables that make it hybrid.
    pub table: Table,
    /// From what it can be booted.
    pub booting: Booting,
}

impl Iso {
    /// All facts at once.
    ///
    /// # Errors
    /// As [`Iso::booting`].
    pub fn facts(&self) -> Result<IsoFacts, MediaError> {
        Ok(IsoFacts {
            file_bytes: self.file_bytes(),
            volume: self.volume.clone(),
            boot_entries: self.entries.clone(),
            catalogue_problem: self.catalogue_problem.clone(),
            table: self.table.clone(),
            booting: self.booting()?,
        })
    }
}

/// Whether the parts of a path match those of a pattern. No recursion and no second chances but the last one, so the
/// time is bounded by the product of both lengths, whatever the pattern.
fn matches(pattern: &[&str], path: &[&str]) -> bool {
    wild(
        pattern,
        path,
        |part| *part == "**",
        |part, name| {
            let (part, name): (Vec<_>, Vec<_>) = (part.chars().collect(), name.chars().collect());
            wild(&part, &name, |letter| *letter == '*', |letter, other| *letter == '?' || letter == other)
        },
    )
}

fn wild<P, T>(
    pattern: &[P],
    text: &[T],
    is_any: impl Fn(&P) -> bool,
    is_one: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while from < text.len() {
        if pattern.get(at).is_some_and(&is_any) {
            retry = Some((at, from));
            at += 1;
        } else if pattern.get(at).is_some_and(|one| is_one(one, &text[from])) {
            (at, from) = (at + 1, from + 1);
        } else if let Some((star, taken)) = retry {
            retry = Some((star, taken + 1));
            (at, from) = (star + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(is_any)
}

#[cfg(test)]
mod tests;
