//! A small writer of ext4: whole file systems without a journal, which mount, pass `e2fsck`, and can be read again.
//!
//! As little as makes a sound one: blocks of 4096 bytes, extents, one extent for each file, no checksums and no journal
//! (both are optional features). Source: the kernel's `Documentation/filesystems/ext4`.

use std::collections::BTreeMap;
use std::io;

use uuid::Uuid;

use super::Trouble;
use crate::bytes::put;
use crate::{MediaError, SliceReader};

const BLOCK: u64 = 4096;
/// Blocks of a group: as many as the bits of one block.
const PER_GROUP: u64 = BLOCK * 8;
const INODE: u64 = 256;
const INODES_PER_GROUP: u64 = 512;
/// Blocks of a group's table of inodes.
const TABLE: u64 = INODES_PER_GROUP * INODE / BLOCK;
/// The first inode that is not reserved.
const FIRST_INODE: u32 = 11;
const ROOT: u32 = 2;
/// 14 November 2023, 22:13:20 UTC: any date, and always the same one.
const TIME: u32 = 1_700_000_000;
/// The most blocks that one extent may have.
const MAX_EXTENT: u64 = 32_768;

/// A file to be made, in folders that are made for it.
pub(crate) struct NewFile<'a> {
    pub(crate) path: &'a str,
    pub(crate) mode: u16,
    pub(crate) bytes: &'a [u8],
}

/// Writes a file system over the whole of `part`. Returns where each file's bytes begin in it.
pub(crate) fn write_ext4(
    part: &SliceReader,
    label: &str,
    identity: Uuid,
    files: &[NewFile<'_>],
) -> Result<Vec<u64>, Trouble> {
    let shape = Shape::of(part.length())?;
    let mut writer = Writer { part, shape, next_block: 0, next_inode: FIRST_INODE, inodes: BTreeMap::new() };
    writer.next_block = writer.shape.data_of(0);
    let mut folders: BTreeMap<String, Folder> = BTreeMap::new();
    folders.insert(String::new(), Folder { inode: ROOT, parent: ROOT, entries: Vec::new() });
    let lost = writer.inode();
    add_folder(&mut folders, "lost+found", lost);
    let mut places = Vec::new();
    for file in files {
        let path = file.path.trim_matches('/');
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut made = String::new();
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            made = if made.is_empty() { part.to_owned() } else { format!("{made}/{part}") };
            if !folders.contains_key(&made) {
                let inode = writer.inode();
                add_folder(&mut folders, &made, inode);
            }
        }
        if name.is_empty() || name.len() > 255 {
            let path = file.path.to_owned();
            return Err(
                MediaError::BadName { path, why: "its name is empty or longer than 255 bytes" }.into()
            );
        }
        let inode = writer.inode();
        places.push(writer.file(inode, file)?);
        if let Some(folder) = folders.get_mut(folder) {
            folder.entries.push((name.to_owned(), inode, 1));
        }
    }
    for (path, folder) in &folders {
        let links = 2 + folder.entries.iter().filter(|(_, _, kind)| *kind == 2).count() as u16;
        let mode = if path == "lost+found" { 0o700 } else { 0o755 };
        let block = writer.take(1)?;
        writer.part.write_all_at(&folder.block()?, block * BLOCK)?;
        writer.keep(folder.inode, 0o04_0000 | mode, links, BLOCK, Some((block, 1)));
    }
    let folders = folders.len() as u64;
    writer.finish(label, identity, folders)?;
    Ok(places)
}

/// Where things lie.
struct Shape {
    blocks: u64,
    groups: u64,
    /// Blocks of the table of group descriptors.
    descriptors: u64,
}

impl Shape {
    fn of(bytes: u64) -> Result<Self, MediaError> {
        let mut blocks = bytes / BLOCK;
        loop {
            let groups = blocks.div_ceil(PER_GROUP);
            let shape = Self { blocks, groups, descriptors: (groups * 32).div_ceil(BLOCK) };
            let last = blocks - (groups.max(1) - 1) * PER_GROUP;
            // A last group that cannot hold its own tables is left away, as mke2fs does.
            if groups > 0 && shape.data_of(groups - 1) % PER_GROUP + 8 < last {
                return Ok(shape);
            }
            if groups <= 1 {
                let what = "an ext4 file system".to_owned();
                return Err(MediaError::TooSmall { what, bytes, needed: super::SMALLEST });
            }
            blocks = (groups - 1) * PER_GROUP;
        }
    }

    /// Whether a group has a copy of the superblock: 0, 1, and the powers of 3, 5 and 7.
    fn has_super(group: u64) -> bool {
        let is_power = |base: u64| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        group <= 1 || is_power(3) || is_power(5) || is_power(7)
    }

    /// The block of a group's block bitmap; the inode bitmap and the table stand behind it.
    fn bitmap_of(&self, group: u64) -> u64 {
        group * PER_GROUP + if Self::has_super(group) { 1 + self.descriptors } else { 0 }
    }

    /// The first block of a group that is free for data.
    fn data_of(&self, group: u64) -> u64 {
        self.bitmap_of(group) + 2 + TABLE
    }

    /// Blocks of a group.
    fn length_of(&self, group: u64) -> u64 {
        PER_GROUP.min(self.blocks - group * PER_GROUP)
    }
}

struct Folder {
    inode: u32,
    parent: u32,
    /// Name, inode, and 1 for a file or 2 for a folder.
    entries: Vec<(String, u32, u8)>,
}

impl Folder {
    fn block(&self) -> Result<Vec<u8>, MediaError> {
        let mut all = vec![(".".to_owned(), self.inode, 2), ("..".to_owned(), self.parent, 2)];
        all.extend(self.entries.iter().cloned());
        let mut block = vec![0; BLOCK as usize];
        let mut at = 0;
        for (number, (name, inode, kind)) in all.iter().enumerate() {
            let needed = (8 + name.len()).next_multiple_of(4);
            // The last one reaches to the block's end.
            let length = if number + 1 == all.len() { block.len().saturating_sub(at) } else { needed };
            if at + needed > block.len() {
                let why = format!("more than one block of names beside `{name}`");
                return Err(MediaError::Unsupported { what: "a folder of the new file system", why });
            }
            put(&mut block, at, &inode.to_le_bytes());
            put(&mut block, at + 4, &(length as u16).to_le_bytes());
            put(&mut block, at + 6, &[name.len() as u8, *kind]);
            put(&mut block, at + 8, name.as_bytes());
            at += length;
        }
        Ok(block)
    }
}

struct Writer<'a> {
    part: &'a SliceReader,
    shape: Shape,
    next_block: u64,
    next_inode: u32,
    inodes: BTreeMap<u32, Vec<u8>>,
}

impl Writer<'_> {
    fn inode(&mut self) -> u32 {
        self.next_inode += 1;
        self.next_inode - 1
    }

    /// Blocks in a row, all in the first group.
    fn take(&mut self, count: u64) -> Result<u64, MediaError> {
        let first = self.next_block;
        let end = self.shape.length_of(0);
        if first + count > end || u64::from(self.next_inode) > INODES_PER_GROUP || count > MAX_EXTENT {
            let (needed, free) = (count * BLOCK, end.saturating_sub(first) * BLOCK);
            return Err(MediaError::Full { needed, free });
        }
        self.next_block += count;
        Ok(first)
    }

    fn file(&mut self, inode: u32, file: &NewFile<'_>) -> Result<u64, Trouble> {
        let blocks = (file.bytes.len() as u64).div_ceil(BLOCK);
        let mut extent = None;
        if blocks > 0 {
            let first = self.take(blocks)?;
            self.part.write_all_at(file.bytes, first * BLOCK)?;
            extent = Some((first, blocks));
        }
        self.keep(inode, 0o10_0000 | file.mode, 1, file.bytes.len() as u64, extent);
        Ok(extent.map_or(0, |(first, _)| first * BLOCK))
    }

    fn keep(&mut self, inode: u32, mode: u16, links: u16, size: u64, extent: Option<(u64, u64)>) {
        let mut raw = vec![0; INODE as usize];
        put(&mut raw, 0, &mode.to_le_bytes());
        put(&mut raw, 4, &(size as u32).to_le_bytes());
        for at in [8, 12, 16] {
            put(&mut raw, at, &TIME.to_le_bytes());
        }
        put(&mut raw, 26, &links.to_le_bytes());
        // Counted in 512 bytes.
        put(&mut raw, 28, &(extent.map_or(0, |(_, count)| count * 8) as u32).to_le_bytes());
        put(&mut raw, 32, &0x0008_0000_u32.to_le_bytes());
        // The head of the tree of extents: mark, count, room, depth.
        put(&mut raw, 40, &[0x0a, 0xf3, u8::from(extent.is_some()), 0, 4, 0, 0, 0]);
        if let Some((first, count)) = extent {
            put(&mut raw, 56, &(count as u16).to_le_bytes());
            put(&mut raw, 60, &(first as u32).to_le_bytes());
        }
        put(&mut raw, 128, &32_u16.to_le_bytes());
        self.inodes.insert(inode, raw);
    }

    fn finish(&self, label: &str, identity: Uuid, folders: u64) -> io::Result<()> {
        let shape = &self.shape;
        let (mut free_blocks, mut free_inodes) = (0, 0);
        let mut descriptors = vec![0; (shape.descriptors * BLOCK) as usize];
        for group in 0..shape.groups {
            let (start, bitmap) = (group * PER_GROUP, shape.bitmap_of(group));
            let used = if group == 0 { self.next_block } else { shape.data_of(group) - start };
            let inodes = if group == 0 { u64::from(self.next_inode) - 1 } else { 0 };
            let free = (shape.length_of(group) - used, INODES_PER_GROUP - inodes);
            free_blocks += free.0;
            free_inodes += free.1;
            // What does not exist counts as used.
            let bits = bitmap_block(used, shape.length_of(group));
            self.part.write_all_at(&bits, bitmap * BLOCK)?;
            self.part.write_all_at(&bitmap_block(inodes, INODES_PER_GROUP), (bitmap + 1) * BLOCK)?;
            let at = group as usize * 32;
            for (field, value) in [(0, bitmap), (4, bitmap + 1), (8, bitmap + 2)] {
                put(&mut descriptors, at + field, &(value as u32).to_le_bytes());
            }
            let folders = if group == 0 { folders } else { 0 };
            for (field, value) in [(12, free.0), (14, free.1), (16, folders)] {
                put(&mut descriptors, at + field, &(value as u16).to_le_bytes());
            }
        }
        let table = (shape.bitmap_of(0) + 2) * BLOCK;
        for (inode, raw) in &self.inodes {
            self.part.write_all_at(raw, table + u64::from(inode - 1) * INODE)?;
        }
        for group in (0..shape.groups).filter(|group| Shape::has_super(*group)) {
            let raw = self.superblock(label, identity, group, free_blocks, free_inodes);
            let start = group * PER_GROUP * BLOCK;
            self.part.write_all_at(&raw, start + if group == 0 { 1024 } else { 0 })?;
            self.part.write_all_at(&descriptors, start + BLOCK)?;
        }
        Ok(())
    }

    fn superblock(
        &self,
        label: &str,
        identity: Uuid,
        group: u64,
        free_blocks: u64,
        free_inodes: u64,
    ) -> Vec<u8> {
        let mut raw = vec![0; 1024];
        let words = [
            (0, self.shape.groups * INODES_PER_GROUP),
            (4, self.shape.blocks),
            (12, free_blocks),
            (16, free_inodes),
            // Blocks and clusters of 1024 << 2 bytes.
            (24, 2),
            (28, 2),
            (32, PER_GROUP),
            (36, PER_GROUP),
            (40, INODES_PER_GROUP),
            (48, u64::from(TIME)),
            (64, u64::from(TIME)),
            // Revision 1, with what follows.
            (76, 1),
            (84, u64::from(FIRST_INODE)),
            // File types in folders, extents; sparse superblocks, large files, larger inodes.
            (96, 0x2 | 0x40),
            (100, 0x1 | 0x2 | 0x40),
        ];
        for (at, value) in words {
            put(&mut raw, at, &(value as u32).to_le_bytes());
        }
        put(&mut raw, 54, &u16::MAX.to_le_bytes());
        put(&mut raw, 56, &[0x53, 0xef, 1, 0, 1, 0]);
        put(&mut raw, 88, &(INODE as u16).to_le_bytes());
        put(&mut raw, 90, &(group as u16).to_le_bytes());
        put(&mut raw, 104, identity.as_bytes());
        put(&mut raw, 120, &label.as_bytes()[..label.len().min(16)]);
        put(&mut raw, 264, &TIME.to_le_bytes());
        put(&mut raw, 348, &32_u16.to_le_bytes());
        put(&mut raw, 350, &32_u16.to_le_bytes());
        raw
    }
}

/// Adds a folder to the one above it.
fn add_folder(folders: &mut BTreeMap<String, Folder>, path: &str, inode: u32) {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut parent = ROOT;
    if let Some(above) = folders.get_mut(above) {
        parent = above.inode;
        above.entries.push((name.to_owned(), inode, 2));
    }
    folders.insert(path.to_owned(), Folder { inode, parent, entries: Vec::new() });
}

/// The first `used` bits, and all from `length` on.
fn bitmap_block(used: u64, length: u64) -> Vec<u8> {
    let bit = |at: u64| u8::from(at < used || at >= length);
    (0..BLOCK).map(|byte| (0..8).map(|shift| bit(byte * 8 + shift) << shift).sum()).collect()
}
