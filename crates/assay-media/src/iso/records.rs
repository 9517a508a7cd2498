//! Directory records: the tree of an ISO image, a folder at a time.

use super::BLOCK;
use super::rock_ridge::{self, Attributes};
use super::volume::{Names, Roots, Volume, utf16_be};
use crate::bytes::le32;
use crate::files::{Node, NodeKind};
use crate::source::Source as _;
use crate::{MediaError, SliceReader};

/// The most that a folder may have, in bytes.
const MAX_FOLDER: u64 = 32 << 20;
/// Pieces of one file; each but the last has 4 GiB minus a block.
const MAX_EXTENTS: usize = 4096;
const WHAT: &str = "the ISO 9660 tree";

/// A file or folder as its record says it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) kind: NodeKind,
    /// First block and bytes of each piece.
    pub(super) extents: Vec<(u64, u64)>,
    pub(super) target: Option<String>,
    pub(super) is_compressed: bool,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Item {
    fn folder(name: &str, place: (u64, u64)) -> Self {
        Self {
            name: name.to_owned(),
            kind: NodeKind::Folder,
            extents: vec![place],
            target: None,
            is_compressed: false,
            mode: None,
            uid: None,
            gid: None,
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.extents.iter().map(|(_, length)| length).sum()
    }

    /// The first block.
    pub(super) fn place(&self) -> u64 {
        self.extents.first().map_or(0, |(block, _)| *block)
    }

    pub(super) fn node(&self, path: String) -> Node {
        Node {
            path,
            kind: self.kind,
            size: if self.kind == NodeKind::File { self.size() } else { 0 },
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            target: self.target.clone(),
        }
    }
}

/// A record, with all that belongs to it.
struct Record<'a> {
    raw: &'a [u8],
    name: &'a [u8],
    system_use: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record at the front; the caller has cut it to its own length.
    fn read(raw: &'a [u8]) -> Result<Self, MediaError> {
        let damaged = |why: String| MediaError::damaged(WHAT, why);
        let length = raw.get(32).map_or(0, |length| usize::from(*length));
        if raw.len() < 34 || length == 0 || 33 + length > raw.len() {
            return Err(damaged(format!("a record of {} bytes has a name of {length}", raw.len())));
        }
        // The system use area begins at an even place.
        let system_use = raw.get(33 + length + usize::from(length.is_multiple_of(2))..).unwrap_or_default();
        Ok(Self { raw, name: &raw[33..33 + length], system_use })
    }

    fn flags(&self) -> u8 {
        self.raw[25]
    }

    /// The block behind its extended attribute record, and its bytes.
    fn place(&self) -> (u64, u64) {
        (u64::from(le32(self.raw, 2)) + u64::from(self.raw[1]), u64::from(le32(self.raw, 10)))
    }

    /// The entries for the folder itself and for the one above.
    fn is_dot(&self) -> bool {
        matches!(self.name, [0 | 1])
    }
}

/// Reads folders in one of the trees.
pub(super) struct Reader {
    file: SliceReader,
    root: (u64, u64),
    names: Names,
    /// Bytes of each system use area that are not Rock Ridge's.
    skip: usize,
}

impl Reader {
    /// Rock Ridge where it is, else Joliet, else plain names, as the kernel chooses.
    pub(super) fn choose(
        file: SliceReader,
        mut volume: Volume,
        roots: &Roots,
    ) -> Result<(Volume, Self), MediaError> {
        let mut reader = Self { file, root: roots.primary, names: Names::Plain, skip: 0 };
        let bytes = reader.bytes(roots.primary)?;
        let first = records(&bytes).next().transpose()?;
        let dot = first.ok_or_else(|| MediaError::damaged(WHAT, "the root folder is empty"))?;
        if let Some(skip) = rock_ridge::announced(&reader.file, dot.system_use)? {
            (reader.names, reader.skip) = (Names::RockRidge, skip);
        } else if let Some(joliet) = roots.joliet {
            (reader.names, reader.root) = (Names::Joliet, joliet);
        }
        volume.names = reader.names;
        Ok((volume, reader))
    }

    pub(super) fn root(&self) -> Item {
        Item::folder("", self.root)
    }

    fn bytes(&self, (block, length): (u64, u64)) -> Result<Vec<u8>, MediaError> {
        if length > MAX_FOLDER {
            return Err(MediaError::TooMuch {
                what: "a folder".to_owned(),
                found: length,
                limit: MAX_FOLDER,
            });
        }
        self.file.piece("a folder of the ISO image", block * BLOCK, length)
    }

    /// What is in a folder.
    pub(super) fn list(&self, folder: &Item) -> Result<Vec<Item>, MediaError> {
        let bytes = self.bytes(folder.extents.first().copied().unwrap_or_default())?;
        let mut items: Vec<Item> = Vec::new();
        // A file of several pieces has a record for each, all but the last marked so.
        let mut goes_on = false;
        for record in records(&bytes) {
            let record = record?;
            if record.is_dot() {
                continue;
            }
            let continues = std::mem::replace(&mut goes_on, record.flags() & 0x80 != 0);
            if let (true, Some(last)) = (continues, items.last_mut()) {
                last.extents.push(record.place());
                if last.extents.len() > MAX_EXTENTS {
                    let why = format!("`{}` has more than {MAX_EXTENTS} pieces", last.name);
                    return Err(MediaError::damaged(WHAT, why));
                }
                continue;
            }
            items.extend(self.item(&record)?);
        }
        Ok(items)
    }

    /// The item of a record; nothing where it only stands for one that was moved.
    fn item(&self, record: &Record<'_>) -> Result<Option<Item>, MediaError> {
        let attributes = match self.names {
            Names::RockRidge => {
                rock_ridge::read(&self.file, record.system_use.get(self.skip..).unwrap_or_default())?
            }
            Names::Joliet | Names::Plain => Attributes::default(),
        };
        if attributes.is_moved {
            return Ok(None);
        }
        let name = match (attributes.name, self.names) {
            (Some(name), _) => name,
            (None, Names::Joliet) => without_version(utf16_be(record.name)),
            (None, _) => {
                let name = without_version(String::from_utf8_lossy(record.name).into_owned());
                name.strip_suffix('.').map(str::to_owned).unwrap_or(name)
            }
        };
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(MediaError::damaged(WHAT, format!("a file is called {name:?}")));
        }
        let mut place = record.place();
        let is_folder = record.flags() & 2 != 0;
        let mut kind = if is_folder { NodeKind::Folder } else { NodeKind::File };
        if let Some(mode) = attributes.mode {
            kind = match mode & 0o17_0000 {
                0o04_0000 => NodeKind::Folder,
                0o12_0000 => NodeKind::Link,
                0o10_0000 => NodeKind::File,
                _ => NodeKind::Special,
            };
        }
        if attributes.target.is_some() {
            kind = NodeKind::Link;
        }
        if let Some(block) = attributes.moved_to {
            // Its length stands in its own first record.
            let first = self.file.piece("a folder of the ISO image", block * BLOCK, BLOCK)?;
            let dot = records(&first).next().transpose()?;
            let length = dot.map_or(0, |dot| dot.place().1);
            (kind, place) = (NodeKind::Folder, (block, length));
        } else if (kind == NodeKind::Folder) != is_folder {
            let why = format!("`{name}` is a folder by one of its two descriptions only");
            return Err(MediaError::damaged(WHAT, why));
        }
        Ok(Some(Item {
            name,
            kind,
            extents: vec![place],
            target: attributes.target,
            is_compressed: attributes.is_compressed,
            mode: attributes.mode.map(|mode| mode & 0o7777),
            uid: attributes.uid,
            gid: attributes.gid,
        }))
    }
}

/// `README.TXT;1` without the number.
fn without_version(name: String) -> String {
    match name.rsplit_once(';') {
        Some((front, version))
            if !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            front.to_owned()
        }
        _ => name,
    }
}

/// The records of a folder. None crosses a block's end; a length of 0 ends the block.
fn records(folder: &[u8]) -> impl Iterator<Item = Result<Record<'_>, MediaError>> {
    let mut at = 0;
    let mut failed = false;
    std::iter::from_fn(move || {
        loop {
            let length = usize::from(*folder.get(at).filter(|_| !failed)?);
            let block_end = (at / BLOCK as usize + 1) * BLOCK as usize;
            if length == 0 {
                at = block_end;
                continue;
            }
            let end = at + length;
            if end > block_end || end > folder.len() {
                failed = true;
                let why = format!("a record of {length} bytes at {at} reaches behind its block");
                return Some(Err(MediaError::damaged(WHAT, why)));
            }
            let record = Record::read(&folder[at..end]);
            failed = record.is_err();
            at = end;
            return Some(record);
        }
    })
}
