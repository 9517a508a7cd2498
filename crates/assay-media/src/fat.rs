//! FAT12, FAT16 and FAT32: reading here, writing and formatting in the modules below.
//!
//! Own code, because the crate `fatfs` (0.3.6) is not for this: it follows a chain of clusters for as long as it goes on
//! and subtracts without asking, so a damaged volume makes it loop or panic, and it gives the entries `.` and `..` of
//! every folder that it makes a long name, which `fsck.vfat` reports as damage. Source: Microsoft's FAT specification
//! (fatgen103, 2000), long names included.

mod format;
mod write;

use std::collections::BTreeSet;

pub(crate) use format::{Format, format};
pub(crate) use write::{put_files, verify};

use crate::bytes::{holds, le16, le32, text, utf16};
use crate::files::{MAX_DEPTH, MAX_NODES, Node, NodeKind, join, not_found, parts};
use crate::source::Source;
use crate::{MediaError, SliceReader};

/// The most that a folder may have, in bytes: the specification's 65 536 entries of 32.
const MAX_FOLDER: u64 = 65_536 * 32;
/// Read at once, in bytes: a multiple of every cluster.
const MAX_RUN: u64 = 4 << 20;
const WHAT: &str = "the FAT file system";

/// Where the parts of a FAT volume lie, checked against each other.
#[derive(Clone, Debug)]
struct Geometry {
    bits: u8,
    /// Bytes of a cluster.
    cluster: u64,
    clusters: u32,
    /// The allocation tables that are kept alike: the first, how many, and the bytes from one to the next.
    fat_at: u64,
    fats: u64,
    fat_stride: u64,
    /// Bytes of a table that mean something.
    fat_bytes: u64,
    root_at: u64,
    root_bytes: u64,
    data_at: u64,
    root_cluster: u32,
    /// Where FAT32 keeps its count of free clusters.
    info_at: u64,
    volume: u64,
    label: Option<String>,
    serial: u32,
}

/// A FAT volume over anything that is read by position.
pub(crate) struct Fat<S> {
    source: S,
    geometry: Geometry,
    /// The file allocation table in use.
    table: Vec<u8>,
}

/// A FAT file system inside an image.
pub struct FatTree(Fat<SliceReader>);

/// A directory entry.
#[derive(Clone, Debug)]
struct Item {
    name: String,
    short: String,
    attributes: u8,
    first: u32,
    size: u32,
    /// Which of the folder's entries it is; those of its long name stand before it.
    slot: usize,
}

impl Item {
    fn is_called(&self, name: &str) -> bool {
        let wanted = fold(name);
        fold(&self.name) == wanted || fold(&self.short) == wanted
    }

    fn is_folder(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    fn node(&self, folder: &str) -> Node {
        Node {
            path: join(folder, &self.name),
            kind: if self.is_folder() { NodeKind::Folder } else { NodeKind::File },
            size: if self.is_folder() { 0 } else { u64::from(self.size) },
            mode: None,
            uid: None,
            gid: None,
            target: None,
        }
    }
}

impl FatTree {
    /// Opens the file system at the front of this part.
    ///
    /// # Errors
    /// [`MediaError::Damaged`], [`MediaError::Cut`] or [`MediaError::TooMuch`].
    pub fn open(part: &SliceReader) -> Result<Self, MediaError> {
        Ok(Self(Fat::open(part.clone())?))
    }

    /// FAT12, FAT16 or FAT32.
    pub fn bits(&self) -> u8 {
        self.0.geometry.bits
    }

    /// Bytes of the volume, as its boot sector says.
    pub fn volume_bytes(&self) -> u64 {
        self.0.geometry.volume
    }

    /// Bytes in free clusters.
    ///
    /// # Errors
    /// [`MediaError::Damaged`] when chains of clusters cross, end nowhere or bite their tails.
    pub fn free_bytes(&self) -> Result<u64, MediaError> {
        self.0.check()
    }

    /// The label: the root folder's, or else the boot sector's.
    pub fn label(&self) -> Option<String> {
        self.0.label()
    }

    /// The serial number as `blkid` writes it: `1234-ABCD`.
    pub fn serial(&self) -> String {
        let serial = self.0.geometry.serial;
        format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff)
    }

    pub(crate) fn list(&self, folder: &str) -> Result<Vec<Node>, MediaError> {
        let at = match self.0.find(folder)? {
            None => None,
            Some(item) if item.is_folder() => Some(item.first),
            Some(_) => return Err(wrong(folder, NodeKind::File, NodeKind::Folder)),
        };
        let folder = format!("/{}", parts(folder).join("/"));
        Ok(self.0.items(at)?.iter().map(|item| item.node(&folder)).collect())
    }

    pub(crate) fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, MediaError> {
        self.0.read(path, limit)
    }

    pub(crate) fn metadata(&self, path: &str) -> Result<Node, MediaError> {
        self.0.metadata(path)
    }
}

impl Geometry {
    fn read(boot: &[u8], room: u64) -> Result<Self, MediaError> {
        let damaged = |why: String| Err(MediaError::damaged(WHAT, why));
        let (sector, per_cluster) = (u64::from(le16(boot, 11)), u64::from(boot[13]));
        let (reserved, fats) = (u64::from(le16(boot, 14)), u64::from(boot[16]));
        if !sector.is_power_of_two() || !(512..=4096).contains(&sector) {
            return damaged(format!("its sectors have {sector} bytes"));
        }
        if !per_cluster.is_power_of_two() {
            return damaged(format!("its clusters have {per_cluster} sectors"));
        }
        if reserved == 0 || !(1..=4).contains(&fats) {
            return damaged(format!("{reserved} reserved sectors and {fats} allocation tables"));
        }
        let root_sectors = (u64::from(le16(boot, 17)) * 32).div_ceil(sector);
        let small = (u64::from(le16(boot, 19)), u64::from(le16(boot, 22)));
        let total = if small.0 != 0 { small.0 } else { u64::from(le32(boot, 32)) };
        let per_fat = if small.1 != 0 { small.1 } else { u64::from(le32(boot, 36)) };
        let data = reserved + fats * per_fat + root_sectors;
        let Some(clusters) = total.checked_sub(data).map(|sectors| sectors / per_cluster) else {
            return damaged(format!("{total} sectors in all, of which {data} are its own"));
        };
        let bits: u8 = match clusters {
            0 => return damaged("no clusters".to_owned()),
            1..=4084 => 12,
            4085..=65_524 => 16,
            _ => 32,
        };
        let fat_bytes = ((clusters + 2) * u64::from(bits)).div_ceil(8);
        if fat_bytes > per_fat * sector {
            return damaged(format!("an allocation table of {per_fat} sectors for {clusters} clusters"));
        }
        let volume = total * sector;
        if volume > room {
            return Err(MediaError::Cut { what: WHAT, offset: 0, length: volume, size: room });
        }
        if (bits == 32) != (small.1 == 0) || (bits == 32) != (root_sectors == 0) {
            return damaged(format!("{clusters} clusters make FAT{bits}, and its boot sector another kind"));
        }
        let extended = if bits == 32 { 66 } else { 38 };
        let has_label = boot[extended] == 0x29;
        // FAT32 may have a single table in use instead of copies.
        let flags = if bits == 32 { u64::from(le16(boot, 40)) } else { 0 };
        let (active, fats) = if flags & 0x80 != 0 { (flags & 0xf, 1) } else { (0, fats) };
        if active + fats > u64::from(boot[16]) {
            return damaged(format!("allocation table {active} of {}", boot[16]));
        }
        Ok(Self {
            bits,
            cluster: per_cluster * sector,
            clusters: clusters as u32,
            fat_at: (reserved + active * per_fat) * sector,
            fats,
            fat_stride: per_fat * sector,
            fat_bytes,
            root_at: (data - root_sectors) * sector,
            root_bytes: root_sectors * sector,
            data_at: data * sector,
            root_cluster: if bits == 32 { le32(boot, 44) & 0x0fff_ffff } else { 0 },
            info_at: u64::from(le16(boot, 48)) * sector,
            volume,
            label: has_label.then(|| text(&boot[extended + 5..extended + 16])).flatten(),
            serial: le32(boot, extended + 1),
        })
    }
}

impl<S: Source> Fat<S> {
    pub(crate) fn open(source: S) -> Result<Self, MediaError> {
        let boot = source.piece(WHAT, 0, 512)?;
        let geometry = Geometry::read(&boot, source.size())?;
        let table = source.piece("the file allocation table", geometry.fat_at, geometry.fat_bytes)?;
        let fat = Self { source, geometry, table };
        if fat.geometry.bits == 32 {
            fat.checked(fat.geometry.root_cluster)?;
        }
        Ok(fat)
    }

    fn checked(&self, cluster: u32) -> Result<u32, MediaError> {
        // Clusters are counted from 2.
        if cluster < 2 || cluster - 2 >= self.geometry.clusters {
            return Err(MediaError::damaged(
                WHAT,
                format!("it points to cluster {cluster}, which does not exist"),
            ));
        }
        Ok(cluster)
    }

    fn entry(&self, cluster: u32) -> u32 {
        let at = cluster as usize;
        match self.geometry.bits {
            12 => {
                let pair = le16(&self.table, at + at / 2);
                u32::from(if at % 2 == 1 { pair >> 4 } else { pair & 0xfff })
            }
            16 => u32::from(le16(&self.table, at * 2)),
            _ => le32(&self.table, at * 4) & 0x0fff_ffff,
        }
    }

    /// The clusters of a file, of which there may be `most`.
    fn chain(&self, first: u32, most: u64) -> Result<Vec<u32>, MediaError> {
        let end = match self.geometry.bits {
            12 => 0xff8,
            16 => 0xfff8,
            _ => 0x0fff_fff8,
        };
        let mut chain = Vec::new();
        let mut cluster = first;
        while chain.len() as u64 <= most.min(u64::from(self.geometry.clusters)) {
            chain.push(self.checked(cluster)?);
            cluster = self.entry(cluster);
            if cluster >= end {
                return Ok(chain);
            }
        }
        let why = format!("the chain that begins in cluster {first} is longer than its file, or a loop");
        Err(MediaError::damaged(WHAT, why))
    }

    fn cluster_at(&self, cluster: u32) -> u64 {
        self.geometry.data_at + u64::from(cluster - 2) * self.geometry.cluster
    }

    /// The first `size` bytes of a chain, clusters in a row at once.
    fn bytes_of(&self, chain: &[u32], size: u64) -> Result<Vec<u8>, MediaError> {
        let mut bytes = Vec::with_capacity(size as usize);
        let most = (MAX_RUN / self.geometry.cluster) as usize;
        for row in chain.chunk_by(|one, next| *next == one + 1).flat_map(|row| row.chunks(most)) {
            let length = (row.len() as u64 * self.geometry.cluster).min(size - bytes.len() as u64);
            bytes.extend(self.source.piece(WHAT, self.cluster_at(row[0]), length)?);
        }
        Ok(bytes)
    }

    /// A folder's bytes; the root's for `None` or cluster 0, as `..` says it.
    fn folder(&self, first: Option<u32>) -> Result<Vec<u8>, MediaError> {
        let what = "a folder of the FAT file system";
        let first = match first.filter(|first| *first != 0) {
            None if self.geometry.bits != 32 => {
                return self.source.piece(what, self.geometry.root_at, self.geometry.root_bytes);
            }
            None => self.geometry.root_cluster,
            Some(first) => first,
        };
        let chain = self.chain(first, MAX_FOLDER / self.geometry.cluster)?;
        self.bytes_of(&chain, chain.len() as u64 * self.geometry.cluster)
    }

    fn items(&self, first: Option<u32>) -> Result<Vec<Item>, MediaError> {
        let bytes = self.folder(first)?;
        let (mut items, mut long) = (Vec::new(), LongName::default());
        for (slot, raw) in bytes.chunks_exact(32).enumerate() {
            match (raw[0], raw[11]) {
                (0, _) => break,
                (0xe5, _) => long = LongName::default(),
                (_, 0x0f) => long.add(raw),
                (_, attributes) if attributes & 0x08 != 0 => long = LongName::default(),
                (_, attributes) => {
                    let short = short_name(raw);
                    let name = std::mem::take(&mut long).take(raw).unwrap_or_else(|| short.clone());
                    if name == "." || name == ".." {
                        continue;
                    }
                    if name.is_empty() || name.contains(['/', '\0']) {
                        let why = format!("a file is called {name:?}");
                        return Err(MediaError::damaged(WHAT, why));
                    }
                    let high = if self.geometry.bits == 32 { u32::from(le16(raw, 20)) << 16 } else { 0 };
                    let first = high | u32::from(le16(raw, 26));
                    items.push(Item { name, short, attributes, first, size: le32(raw, 28), slot });
                }
            }
        }
        Ok(items)
    }

    /// The entry of a path, whatever its case; `None` is the root.
    fn find(&self, path: &str) -> Result<Option<Item>, MediaError> {
        let mut found: Option<Item> = None;
        for part in parts(path) {
            let folder = match &found {
                Some(item) if !item.is_folder() => return Err(not_found(path)),
                Some(item) => Some(item.first),
                None => None,
            };
            let items = self.items(folder)?;
            found = Some(items.into_iter().find(|item| item.is_called(part)).ok_or_else(|| not_found(path))?);
        }
        Ok(found)
    }

    pub(crate) fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, MediaError> {
        let item = self.find(path)?.filter(|item| !item.is_folder());
        let Some(item) = item else { return Err(wrong(path, NodeKind::Folder, NodeKind::File)) };
        let size = u64::from(item.size);
        if size > limit {
            return Err(MediaError::TooMuch { what: format!("`{path}`"), found: size, limit });
        }
        if size == 0 {
            return Ok(Vec::new());
        }
        // What a file claims must be there before memory is taken for it.
        let chain = self.chain(item.first, size.div_ceil(self.geometry.cluster))?;
        if (chain.len() as u64) * self.geometry.cluster < size {
            let why = format!("`{path}` has {size} bytes and {} clusters", chain.len());
            return Err(MediaError::damaged(WHAT, why));
        }
        self.bytes_of(&chain, size)
    }

    pub(crate) fn metadata(&self, path: &str) -> Result<Node, MediaError> {
        let all = parts(path);
        let folder = format!("/{}", all[..all.len().saturating_sub(1)].join("/"));
        let root = || Node {
            path: "/".to_owned(),
            kind: NodeKind::Folder,
            size: 0,
            mode: None,
            uid: None,
            gid: None,
            target: None,
        };
        Ok(self.find(path)?.map_or_else(root, |item| item.node(&folder)))
    }

    fn label(&self) -> Option<String> {
        let root = self.folder(None).ok()?;
        let entries = root.chunks_exact(32).take_while(|raw| raw[0] != 0);
        let mut labels = entries.filter(|raw| raw[0] != 0xe5 && raw[11] & 0x08 != 0 && raw[11] != 0x0f);
        let label = labels.next().and_then(|raw| text(&raw[..11]));
        label.or_else(|| self.geometry.label.clone()).filter(|label| label != "NO NAME")
    }

    /// Looks at every chain: no two may share a cluster, and each must be as long as its file. What passes can be
    /// written to. Returns the bytes in free clusters.
    pub(crate) fn check(&self) -> Result<u64, MediaError> {
        let mut used = vec![false; self.geometry.clusters as usize];
        let mut claim = |chain: Vec<u32>| {
            for cluster in chain {
                if std::mem::replace(&mut used[cluster as usize - 2], true) {
                    let why = format!("cluster {cluster} belongs to two files");
                    return Err(MediaError::damaged(WHAT, why));
                }
            }
            Ok(())
        };
        if self.geometry.bits == 32 {
            claim(self.chain(self.geometry.root_cluster, MAX_FOLDER / self.geometry.cluster)?)?;
        }
        let (mut folders, mut seen, mut count) = (vec![(None, 0)], BTreeSet::new(), 0);
        while let Some((folder, depth)) = folders.pop() {
            for item in self.items(folder)? {
                count += 1;
                if count > MAX_NODES || depth > MAX_DEPTH {
                    let why = "more files or deeper folders than are looked at".to_owned();
                    return Err(MediaError::Unsupported { what: WHAT, why });
                }
                if item.is_folder() {
                    if !seen.insert(item.first) {
                        return Err(MediaError::damaged(
                            WHAT,
                            format!("two folders are cluster {}", item.first),
                        ));
                    }
                    claim(self.chain(item.first, MAX_FOLDER / self.geometry.cluster)?)?;
                    folders.push((Some(item.first), depth + 1));
                } else if item.size > 0 {
                    let clusters = u64::from(item.size).div_ceil(self.geometry.cluster);
                    let chain = self.chain(item.first, clusters)?;
                    if (chain.len() as u64) < clusters {
                        let why = format!("`{}` is longer than its chain of clusters", item.name);
                        return Err(MediaError::damaged(WHAT, why));
                    }
                    claim(chain)?;
                }
            }
        }
        let free = (2..self.geometry.clusters + 2).filter(|cluster| self.entry(*cluster) == 0);
        Ok(free.count() as u64 * self.geometry.cluster)
    }
}

/// The parts of a long name, which stand before the short one, last part first.
#[derive(Default)]
struct LongName {
    units: Vec<u16>,
    checksum: u8,
    next: u8,
}

impl LongName {
    fn add(&mut self, raw: &[u8]) {
        let order = raw[0];
        if order & 0x40 != 0 {
            *self = Self { units: Vec::new(), checksum: raw[13], next: order & 0x1f };
        }
        if order & 0x1f != self.next || self.next == 0 || self.next > 20 || raw[13] != self.checksum {
            *self = Self::default();
            return;
        }
        self.next -= 1;
        let places = (1..11).chain(14..26).chain(28..32).step_by(2);
        let part: Vec<u16> = places.map(|at| le16(raw, at)).collect();
        self.units.splice(0..0, part);
    }

    /// The name, if it is whole and belongs to this short one.
    fn take(self, raw: &[u8]) -> Option<String> {
        let sum = raw[..11].iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        let is_whole = self.next == 0 && !self.units.is_empty() && self.checksum == sum;
        is_whole.then(|| utf16(self.units.into_iter().take_while(|unit| *unit != 0xffff)))
    }
}

fn short_name(raw: &[u8]) -> String {
    let decode = |bytes: &[u8], is_lower: bool| {
        let text: String =
            bytes.iter().map(|byte| char::from(if *byte == 0x05 { 0xe5 } else { *byte })).collect();
        let text = text.trim_end();
        if is_lower { text.to_lowercase() } else { text.to_owned() }
    };
    // Windows NT's two bits: the name or its ending is meant in lower case.
    let (name, ending) = (decode(&raw[..8], raw[12] & 8 != 0), decode(&raw[8..11], raw[12] & 16 != 0));
    if ending.is_empty() { name } else { format!("{name}.{ending}") }
}

/// A name in upper case as FAT compares names: letter by letter, so that `ß` is not `SS`.
fn fold(name: &str) -> String {
    let upper = |letter: char| {
        let mut upper = letter.to_uppercase();
        upper.next().filter(|_| upper.next().is_none()).unwrap_or(letter)
    };
    name.chars().map(upper).collect()
}

fn wrong(path: &str, found: NodeKind, wanted: NodeKind) -> MediaError {
    MediaError::WrongKind { path: path.to_owned(), found: found.words(), wanted: wanted.words() }
}

/// Whether this looks like the boot sector of a FAT volume, for those who only have its first bytes.
pub(crate) fn is_boot_sector(boot: &[u8]) -> bool {
    holds(boot, 510, &[0x55, 0xaa]) && Geometry::read(boot, u64::MAX).is_ok()
}
