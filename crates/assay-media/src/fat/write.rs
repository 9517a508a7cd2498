//! Putting files into a FAT file system: all of them, read back and right, or none.
//!
//! Only a volume that was looked through and found sound is written to, in memory ([`Overlay`]), and the result is looked
//! through again before a byte reaches the image. Every file gets the same date, the first that FAT can say, so that the
//! same input makes the same image.

use std::collections::BTreeSet;
use std::io;

use super::{Fat, Item, MAX_FOLDER, WHAT, fold};
use crate::MediaError;
use crate::bytes::{holds, le16, put};
use crate::files::{NodeKind, parts};
use crate::source::{Overlay, Source};

/// The most that is staged at once, in bytes: it is held in memory.
const MAX_BYTES: u64 = 512 << 20;
/// Bytes of a folder's entry.
const ENTRY: u64 = 32;
/// UTF-16 units of a long name that one entry holds.
const UNITS: usize = 13;
/// What short names may have besides capital letters and digits.
const SHORT: &[u8] = b"$%'-_@~`!(){}^#&";

/// Puts files into the file system on `volume`, replacing those that are there and making the folders that are not.
/// Nothing is written to the image yet: see [`Overlay::commit`]. Returns the bytes that are free afterwards.
pub(crate) fn put_files(volume: &Overlay, files: &[(&str, &[u8])]) -> Result<u64, MediaError> {
    let total: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    if total > MAX_BYTES {
        return Err(MediaError::TooMuch { what: "the files".to_owned(), found: total, limit: MAX_BYTES });
    }
    let fat = Fat::open(volume.clone())?;
    let free = fat.check()?;
    let cluster = fat.geometry.cluster;
    let needed: u64 = files.iter().map(|(_, bytes)| (bytes.len() as u64).div_ceil(cluster) * cluster).sum();
    let root = fat.folder(None)?;
    let entries = root.chunks_exact(ENTRY as usize).filter(|raw| matches!(raw[0], 0 | 0xe5)).count() as u64;
    for (path, _) in files {
        check_path(path)?;
    }
    let mut writer = Writer { volume: volume.clone(), fat, next: 2, touched: None };
    for (path, bytes) in files {
        writer.put(path, bytes).map_err(|trouble| match trouble {
            // Folders that had to grow may be what was too much.
            Trouble::Full => MediaError::Full { needed: needed.max(free + cluster), free },
            // As many as were free before: nothing of this is written.
            Trouble::Said(MediaError::FolderFull { .. }) => MediaError::FolderFull { entries },
            Trouble::Said(error) => error,
            Trouble::Io(source) => MediaError::Io { doing: "writing to", path: WHAT.into(), source },
        })?;
    }
    let written = writer.finish();
    written.map_err(|source| MediaError::Io { doing: "writing to", path: WHAT.into(), source })?;
    let after = Fat::open(volume.clone())?;
    verify(&after, files)?;
    after.check()
}

/// Reads back what was put.
pub(crate) fn verify<S: Source>(fat: &Fat<S>, files: &[(&str, &[u8])]) -> Result<(), MediaError> {
    // The last of two files in one place is the one that is there.
    let mut seen = BTreeSet::new();
    for (path, bytes) in files.iter().rev() {
        if !seen.insert(fold(&parts(path).join("/"))) {
            continue;
        }
        let why = match fat.read(path, MAX_BYTES) {
            Ok(read) if read == *bytes => continue,
            Ok(read) => format!("{} bytes were written and {} others are there", bytes.len(), read.len()),
            Err(error) => error.to_string(),
        };
        return Err(MediaError::ReadBack { place: format!("`{path}`"), why });
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), MediaError> {
    let problem = path.strip_prefix('/').unwrap_or(path).split('/').find_map(|part| match part {
        "." | ".." => Some("`.` and `..` are no names"),
        part => name_problem(part),
    });
    problem.map_or(Ok(()), |why| Err(MediaError::BadName { path: path.to_owned(), why }))
}

/// Which rule for long names this part of a path breaks, if any.
fn name_problem(part: &str) -> Option<&'static str> {
    match part {
        "" => Some("a part of it is empty"),
        _ if part.encode_utf16().count() > 255 => Some("a part of it is longer than 255 letters"),
        _ if part.ends_with(['.', ' ']) => Some("it ends with a dot or a blank, which readers leave out"),
        _ if part.chars().any(|letter| letter.is_control() || "\"*/:<>?\\|".contains(letter)) => {
            Some("it has one of \" * : < > ? \\ | or a control character")
        }
        _ if part.chars().any(|letter| letter as u32 > 0xffff) => Some("it has a character above U+FFFF"),
        _ => None,
    }
}

enum Trouble {
    /// No cluster is free.
    Full,
    Said(MediaError),
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<MediaError> for Trouble {
    fn from(error: MediaError) -> Self {
        Self::Said(error)
    }
}

struct Writer {
    volume: Overlay,
    fat: Fat<Overlay>,
    /// Where the search for a free cluster goes on.
    next: u32,
    /// The bytes of the table that were changed: from, to (exclusive).
    touched: Option<(usize, usize)>,
}

impl Writer {
    fn put(&mut self, path: &str, bytes: &[u8]) -> Result<(), Trouble> {
        let all = parts(path);
        let (name, above) = all.split_last().unwrap_or((&"", &[]));
        let mut folder = None;
        for part in above {
            folder = Some(match self.find(folder, part)? {
                Some(item) if item.is_folder() => item.first,
                Some(_) => return Err(wrong(path, NodeKind::File, NodeKind::Folder).into()),
                None => self.make_folder(folder, part)?,
            });
        }
        let there = self.find(folder, name)?;
        if let Some(item) = &there {
            if item.is_folder() {
                return Err(wrong(path, NodeKind::Folder, NodeKind::File).into());
            }
            if item.first != 0 {
                self.release(item.first)?;
            }
        }
        let first = self.store(bytes)?;
        match there {
            Some(item) => {
                let at = self.entry_at(folder, item.slot)?;
                let mut raw = self.volume.piece(WHAT, at, ENTRY)?;
                self.point(&mut raw, first, bytes.len() as u32);
                self.volume.put(at, &raw)?;
                Ok(())
            }
            None => self.add(folder, name, 0x20, first, bytes.len() as u32),
        }
    }

    fn find(&self, folder: Option<u32>, name: &str) -> Result<Option<Item>, MediaError> {
        Ok(self.fat.items(folder)?.into_iter().find(|item| item.is_called(name)))
    }

    fn make_folder(&mut self, parent: Option<u32>, name: &str) -> Result<u32, Trouble> {
        let first = self.take(None)?;
        self.volume.put(self.fat.cluster_at(first), &vec![0; self.fat.geometry.cluster as usize])?;
        // The root is cluster 0 here, whatever it is.
        for (slot, dots, cluster) in [(0, b".          ", first), (1, b"..         ", parent.unwrap_or(0))] {
            let raw = self.raw_entry(dots, 0x10, cluster, 0);
            self.volume.put(self.fat.cluster_at(first) + slot * ENTRY, &raw)?;
        }
        self.add(parent, name, 0x10, first, 0)?;
        Ok(first)
    }

    /// Adds an entry, with those of a long name before it where the name is not a short one as it stands.
    fn add(
        &mut self,
        folder: Option<u32>,
        name: &str,
        attributes: u8,
        first: u32,
        size: u32,
    ) -> Result<(), Trouble> {
        let items = self.fat.items(folder)?;
        let taken: BTreeSet<String> = items.iter().map(|item| fold(&item.short)).collect();
        let (short, is_exact) = match as_short(name) {
            Some(short) => (short, true),
            None => (numbered(name, &taken).ok_or(Trouble::Full)?, false),
        };
        let mut entries = Vec::new();
        if !is_exact {
            entries = long_entries(name, &short);
        }
        entries.push(self.raw_entry(&short, attributes, first, size));
        let slot = self.reserve(folder, entries.len())?;
        for (slot, raw) in (slot..).zip(entries) {
            let at = self.entry_at(folder, slot)?;
            self.volume.put(at, &raw)?;
        }
        Ok(())
    }

    /// Entries in a row that are free; the folder grows where it can.
    fn reserve(&mut self, folder: Option<u32>, count: usize) -> Result<usize, Trouble> {
        loop {
            let bytes = self.fat.folder(folder)?;
            let (mut run, mut is_end) = (0, false);
            for (slot, raw) in bytes.chunks_exact(ENTRY as usize).enumerate() {
                // Behind the first zero nothing counts, whatever is there.
                is_end |= raw[0] == 0;
                run = if is_end || raw[0] == 0xe5 { run + 1 } else { 0 };
                if run == count {
                    self.end_behind(folder, &bytes, slot + 1, is_end)?;
                    return Ok(slot + 1 - count);
                }
            }
            let is_fixed = folder.is_none_or(|first| first == 0) && self.fat.geometry.bits != 32;
            if is_fixed || bytes.len() as u64 + self.fat.geometry.cluster > MAX_FOLDER {
                let used = |raw: &&[u8]| !matches!(raw[0], 0 | 0xe5);
                let used = bytes.chunks_exact(ENTRY as usize).filter(used).count() as u64;
                let entries = bytes.len() as u64 / ENTRY - used;
                return Err(MediaError::FolderFull { entries }.into());
            }
            let first = folder.filter(|first| *first != 0).unwrap_or(self.fat.geometry.root_cluster);
            let last = self.fat.chain(first, MAX_FOLDER / self.fat.geometry.cluster)?.pop();
            let fresh = self.take(last)?;
            self.volume.put(self.fat.cluster_at(fresh), &vec![0; self.fat.geometry.cluster as usize])?;
        }
    }

    /// Where the folder's end was written over, the entry behind becomes its end: what stands there may be left from
    /// long ago.
    fn end_behind(
        &self,
        folder: Option<u32>,
        bytes: &[u8],
        slot: usize,
        is_end: bool,
    ) -> Result<(), Trouble> {
        let stale = bytes.get(slot * ENTRY as usize).is_some_and(|byte| *byte != 0);
        if is_end && stale {
            self.volume.put(self.entry_at(folder, slot)?, &[0])?;
        }
        Ok(())
    }

    /// Where an entry of a folder stands on the volume.
    fn entry_at(&self, folder: Option<u32>, slot: usize) -> Result<u64, MediaError> {
        let (offset, geometry) = (slot as u64 * ENTRY, &self.fat.geometry);
        let first = match folder.filter(|first| *first != 0) {
            None if geometry.bits != 32 => return Ok(geometry.root_at + offset),
            None => geometry.root_cluster,
            Some(first) => first,
        };
        let chain = self.fat.chain(first, MAX_FOLDER / geometry.cluster)?;
        let cluster = chain.get((offset / geometry.cluster) as usize).copied();
        let cluster = cluster.ok_or_else(|| MediaError::damaged(WHAT, "a folder is shorter than it was"))?;
        Ok(self.fat.cluster_at(cluster) + offset % geometry.cluster)
    }

    fn raw_entry(&self, short: &[u8; 11], attributes: u8, first: u32, size: u32) -> Vec<u8> {
        let mut raw = vec![0; ENTRY as usize];
        put(&mut raw, 0, short);
        put(&mut raw, 11, &[attributes]);
        // Made, read, written: 1 January 1980.
        for at in [16, 18, 24] {
            put(&mut raw, at, &[0x21, 0]);
        }
        self.point(&mut raw, first, size);
        raw
    }

    fn point(&self, raw: &mut [u8], first: u32, size: u32) {
        put(raw, 26, &(first as u16).to_le_bytes());
        if self.fat.geometry.bits == 32 {
            put(raw, 20, &((first >> 16) as u16).to_le_bytes());
        }
        put(raw, 28, &size.to_le_bytes());
    }

    /// Writes bytes into clusters of their own; the first of them, 0 for none.
    fn store(&mut self, bytes: &[u8]) -> Result<u32, Trouble> {
        let (mut first, mut last) = (0, None);
        for piece in bytes.chunks(self.fat.geometry.cluster as usize) {
            let cluster = self.take(last)?;
            self.volume.put(self.fat.cluster_at(cluster), piece)?;
            first = if first == 0 { cluster } else { first };
            last = Some(cluster);
        }
        Ok(first)
    }

    /// Takes a free cluster and hangs it behind another.
    fn take(&mut self, behind: Option<u32>) -> Result<u32, Trouble> {
        let end = self.fat.geometry.clusters + 2;
        let next = self.next;
        let found = (next..end).chain(2..next).find(|cluster| self.fat.entry(*cluster) == 0);
        let cluster = found.ok_or(Trouble::Full)?;
        self.set(cluster, 0x0fff_ffff);
        if let Some(behind) = behind {
            self.set(behind, cluster);
        }
        self.next = if cluster + 1 < end { cluster + 1 } else { 2 };
        Ok(cluster)
    }

    fn release(&mut self, first: u32) -> Result<(), MediaError> {
        for cluster in self.fat.chain(first, u64::MAX)? {
            self.set(cluster, 0);
        }
        Ok(())
    }

    fn set(&mut self, cluster: u32, value: u32) {
        let (at, table) = (cluster as usize, &mut self.fat.table);
        let (from, to) = match self.fat.geometry.bits {
            12 => {
                let at = at + at / 2;
                let (old, value) = (le16(table, at), (value & 0xfff) as u16);
                let pair = if cluster % 2 == 1 { old & 0x000f | value << 4 } else { old & 0xf000 | value };
                put(table, at, &pair.to_le_bytes());
                (at, at + 2)
            }
            16 => {
                put(table, at * 2, &(value as u16).to_le_bytes());
                (at * 2, at * 2 + 2)
            }
            _ => {
                // The upper four bits are nobody's and stay.
                let kept = crate::bytes::le32(table, at * 4) & 0xf000_0000;
                put(table, at * 4, &(kept | value & 0x0fff_ffff).to_le_bytes());
                (at * 4, at * 4 + 4)
            }
        };
        let (low, high) = self.touched.unwrap_or((from, to));
        self.touched = Some((low.min(from), high.max(to)));
    }

    /// Writes the table, each copy of it, and the counts that FAT32 keeps beside it.
    fn finish(&self) -> io::Result<()> {
        let geometry = &self.fat.geometry;
        if let Some((from, to)) = self.touched {
            for fat in 0..geometry.fats {
                let at = geometry.fat_at + fat * geometry.fat_stride + from as u64;
                self.volume.put(at, &self.fat.table[from..to])?;
            }
        }
        if geometry.bits == 32 && geometry.info_at > 0 && geometry.info_at < geometry.fat_at {
            let mut info = [0; 512];
            self.volume.fill(geometry.info_at, &mut info)?;
            if holds(&info, 0, b"RRaA") && holds(&info, 484, b"rrAa") {
                let free = (2..geometry.clusters + 2).filter(|cluster| self.fat.entry(*cluster) == 0).count();
                put(&mut info, 488, &(free as u32).to_le_bytes());
                put(&mut info, 492, &self.next.to_le_bytes());
                self.volume.put(geometry.info_at, &info)?;
            }
        }
        Ok(())
    }
}

fn wrong(path: &str, found: NodeKind, wanted: NodeKind) -> MediaError {
    MediaError::WrongKind { path: path.to_owned(), found: found.words(), wanted: wanted.words() }
}

/// The eleven bytes of a name that is a short one as it stands: capitals, eight and three.
fn as_short(name: &str) -> Option<[u8; 11]> {
    let (front, ending) = name.split_once('.').unwrap_or((name, ""));
    let fits = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || SHORT.contains(&byte))
    };
    let has_dot = name.contains('.');
    if front.is_empty() || front.len() > 8 || ending.len() > 3 || (has_dot && ending.is_empty()) {
        return None;
    }
    (fits(front) && fits(ending)).then(|| eleven(front.as_bytes(), ending.as_bytes()))
}

/// A short name for a long one: what it has of allowed letters, and a number that no other has.
fn numbered(name: &str, taken: &BTreeSet<String>) -> Option<[u8; 11]> {
    let name = name.trim_start_matches('.');
    let (front, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    let keep = |part: &str, most: usize| -> Vec<u8> {
        let letters = part.chars().filter(|letter| !matches!(letter, ' ' | '.'));
        let letters = letters.map(|letter| match letter.to_ascii_uppercase() {
            letter if letter.is_ascii_alphanumeric() => letter as u8,
            letter if letter.is_ascii() && SHORT.contains(&(letter as u8)) => letter as u8,
            _ => b'_',
        });
        letters.take(most).collect()
    };
    let (front, ending) = (keep(front, 8), keep(ending, 3));
    (1..1_000_000_u32).find_map(|number| {
        let tail = format!("~{number}");
        let mut numbered = front[..front.len().min(8 - tail.len())].to_vec();
        numbered.extend_from_slice(tail.as_bytes());
        let short = eleven(&numbered, &ending);
        let mut spelled = String::from_utf8_lossy(&numbered).into_owned();
        if !ending.is_empty() {
            spelled = format!("{spelled}.{}", String::from_utf8_lossy(&ending));
        }
        (!taken.contains(&spelled)).then_some(short)
    })
}

fn eleven(front: &[u8], ending: &[u8]) -> [u8; 11] {
    let mut raw = [b' '; 11];
    put(&mut raw, 0, front);
    put(&mut raw, 8, ending);
    raw
}

/// The entries of a long name, the last part first, as they stand in the folder.
fn long_entries(name: &str, short: &[u8; 11]) -> Vec<Vec<u8>> {
    let sum = short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let units: Vec<u16> = name.encode_utf16().collect();
    let count = units.len().div_ceil(UNITS);
    let entry = |(number, part): (usize, &[u16])| {
        let order = number as u8 + 1;
        let mut raw = vec![0; ENTRY as usize];
        put(&mut raw, 0, &[if number + 1 == count { order | 0x40 } else { order }]);
        put(&mut raw, 11, &[0x0f]);
        put(&mut raw, 13, &[sum]);
        // The name, one zero where there is room, then all ones.
        let padded = part.iter().copied().chain([0]).chain(std::iter::repeat(0xffff));
        for (at, unit) in (1..11).chain(14..26).chain(28..32).step_by(2).zip(padded) {
            put(&mut raw, at, &unit.to_le_bytes());
        }
        raw
    };
    let mut entries: Vec<_> = units.chunks(UNITS).enumerate().map(entry).collect();
    entries.reverse();
    entries
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{as_short, numbered};

    #[test]
    fn short_names_are_those_that_others_make() {
        assert_eq!(as_short("BOOTX64.EFI"), Some(*b"BOOTX64 EFI"));
        for long in ["bootx64.efi", "A.B.C", ".hidden", "NINELETTE", "A.LONG", "A B", "X.", "GRÜN"] {
            assert_eq!(as_short(long), None, "{long}");
        }
        let taken = BTreeSet::from(["ALONGE~1.CON".to_owned()]);
        assert_eq!(numbered("A Longer Name.conf", &taken), Some(*b"ALONGE~2CON"));
        assert_eq!(numbered(".hidden", &BTreeSet::new()), Some(*b"HIDDEN~1   "));
        assert_eq!(numbered("grün.c++", &BTreeSet::new()), Some(*b"GR_N~1  C__"));
        let many = (1..10).map(|number| format!("LONGNA~{number}")).collect();
        assert_eq!(numbered("longname without end", &many), Some(*b"LONGN~10   "));
    }
}
