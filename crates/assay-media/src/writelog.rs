//! A recording of every write to a disk, and the disk as it was at each moment in which something was surely on it.
//!
//! The format is that of the kernel's dm-log-writes target (its documentation and `drivers/md/dm-log-writes.c`), which
//! QEMU's block driver `blklogwrites` writes as well: a superblock in the first sector, then entries of one sector each,
//! with the written data behind. All numbers are little-endian.
//!
//! A disk keeps what it had acknowledged before a flush ([`Moment::Flush`]) and each write that was forced through
//! ([`Moment::Forced`]); whatever else was on its way may be lost. These moments are what a cut in power can leave at
//! least, and what an installer that flushes at the right places relies on. Writes between two of them that survive in
//! part, torn sectors and disks that lie about flushing are beyond what a log can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::MediaError;
use crate::bytes::{le32, le64};

const WHAT: &str = "the log of writes";
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;
/// Entries that are read at most; an installation of 4 KiB writes that fills 64 GiB has as many.
const MAX_ENTRIES: u64 = 1 << 24;
/// What disk states are compared in.
const BLOCK: u64 = 4096;
/// Copied at once.
const CHUNK: u64 = 1 << 20;

/// A log, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteLog {
    path: PathBuf,
    /// What was written, in the order in which it was handed to the disk.
    pub entries: Vec<LogEntry>,
}

/// Something that was asked of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Where, in bytes; 0 for a flush.
    pub at: u64,
    /// How many bytes.
    pub length: u64,
    /// Everything before it was to be kept first.
    pub flush: bool,
    /// It was to be kept itself before it was acknowledged.
    pub forced: bool,
    /// The bytes are not needed any more; they read as zeroes afterwards.
    pub discard: bool,
    /// Where in the log its data begin.
    data: u64,
    /// Where in the log it ends: the log's length when it was written.
    pub logged_by: u64,
}

/// A moment in which it is known what is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the first write.
    Start,
    /// A flush: everything before the entry is there.
    Flush,
    /// A write that was forced through: everything before the last flush is there, and each such write since.
    Forced,
    /// The end: everything is there, flushed or not.
    End,
}

/// A moment, and where in the log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// What kind.
    pub moment: Moment,
    /// The number of entries up to it, itself among them.
    pub entries: usize,
    /// The log's length when it was written, in bytes.
    pub logged_by: u64,
}

/// What is on a disk, as a name: disks with the same are the same, byte for byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskState(pub [u8; 32]);

impl WriteLog {
    /// Reads the entries of a log of a disk of `disk` bytes; their data stay in the file. A file without a byte is the log
    /// of a disk that nothing was asked of.
    ///
    /// # Errors
    /// [`MediaError::Damaged`] when it is no such log, ends early, or writes behind the disk's end;
    /// [`MediaError::TooMuch`] when it has more entries than are read.
    pub fn read(path: &Path, disk: u64) -> Result<Self, MediaError> {
        let file = File::open(path).map_err(MediaError::io("opening", path))?;
        let length = file.metadata().map_err(MediaError::io("reading", path))?.len();
        let sector = |at: u64| -> Result<[u8; 512], MediaError> {
            let mut bytes = [0; 512];
            if at.checked_add(512).is_none_or(|end| end > length) {
                return Err(MediaError::Cut { what: WHAT, offset: at, length: 512, size: length });
            }
            file.read_exact_at(&mut bytes, at).map_err(MediaError::io("reading", path))?;
            Ok(bytes)
        };
        // The superblock comes with the first entry.
        if length == 0 {
            return Ok(Self { path: path.to_owned(), entries: Vec::new() });
        }
        let first = sector(0)?;
        if le64(&first, 0) != MAGIC || le64(&first, 8) != VERSION {
            return Err(MediaError::damaged(WHAT, "it does not begin with the superblock of dm-log-writes"));
        }
        let (count, size) = (le64(&first, 16), u64::from(le32(&first, 24)));
        if !(512..=65536).contains(&size) || !size.is_power_of_two() {
            return Err(MediaError::damaged(WHAT, format!("sectors of {size} bytes")));
        }
        // Each entry takes a sector: a number that does not fit is not believed, and nothing is set aside for it.
        if count > length / size {
            return Err(MediaError::damaged(WHAT, format!("{count} entries do not fit into {length} bytes")));
        }
        if count > MAX_ENTRIES {
            return Err(MediaError::TooMuch { what: WHAT.to_owned(), found: count, limit: MAX_ENTRIES });
        }
        let mut entries = Vec::new();
        let mut at = size;
        for number in 0..count {
            let entry = sector(at)?;
            let wrong = |why: &str| Err(MediaError::damaged(WHAT, format!("entry {number}: {why}")));
            let flags = le64(&entry, 16);
            if flags & !(FLUSH | FUA | DISCARD | MARK) != 0 {
                return wrong("unknown flags");
            }
            let bytes = |sectors: u64| sectors.checked_mul(size);
            let (Some(place), Some(span)) = (bytes(le64(&entry, 0)), bytes(le64(&entry, 8))) else {
                return wrong("behind the end of every disk");
            };
            if place.checked_add(span).is_none_or(|end| end > disk) {
                return wrong("behind the end of the disk");
            }
            let data = at + size;
            let held = if flags & MARK != 0 {
                le64(&entry, 24).checked_next_multiple_of(size)
            } else {
                Some(if flags & DISCARD != 0 { 0 } else { span })
            };
            let Some(end) = held.and_then(|held| data.checked_add(held)).filter(|end| *end <= length) else {
                return wrong("its data are cut off");
            };
            if flags & MARK == 0 {
                entries.push(LogEntry {
                    at: place,
                    length: span,
                    flush: flags & FLUSH != 0,
                    forced: flags & FUA != 0,
                    discard: flags & DISCARD != 0,
                    data,
                    logged_by: end,
                });
            }
            at = end;
        }
        Ok(Self { path: path.to_owned(), entries })
    }

    /// Bytes that were written, over and over as well; without those that were given back.
    pub fn written(&self) -> u64 {
        self.entries.iter().filter(|entry| !entry.discard).map(|entry| entry.length).sum()
    }

    /// Every moment in which it is known what is on the disk, in order: the start, each flush, each write that was forced
    /// through, the end.
    pub fn boundaries(&self) -> Vec<Boundary> {
        let mut all = vec![Boundary { moment: Moment::Start, entries: 0, logged_by: 0 }];
        for (place, entry) in self.entries.iter().enumerate() {
            let boundary = |moment| Boundary { moment, entries: place + 1, logged_by: entry.logged_by };
            if entry.flush {
                all.push(boundary(Moment::Flush));
            }
            if entry.forced && entry.length > 0 {
                all.push(boundary(Moment::Forced));
            }
        }
        let logged_by = self.entries.last().map_or(0, |entry| entry.logged_by);
        all.push(Boundary { moment: Moment::End, entries: self.entries.len(), logged_by });
        all
    }
}

/// A disk that is brought from one moment of its log to the next.
#[derive(Debug)]
pub struct Replay {
    log: WriteLog,
    data: File,
    image: File,
    base: File,
    size: u64,
    /// Entries that are on the image in their order.
    done: usize,
    /// Of those behind, the ones that were forced through.
    forced: usize,
    /// Blocks that are not as in the beginning, by their number, with their digests.
    changed: BTreeMap<u64, [u8; 32]>,
    state: [u8; 32],
}

impl Replay {
    /// Begins with `image`, which is changed and has to be a copy of `base`, the disk before its first write.
    ///
    /// # Errors
    /// [`MediaError::Io`].
    pub fn new(log: WriteLog, base: &Path, image: &Path) -> Result<Self, MediaError> {
        let open = |path: &Path| File::open(path).map_err(MediaError::io("opening", path));
        let (data, first) = (open(&log.path)?, open(base)?);
        let image = OpenOptions::new().read(true).write(true).open(image);
        let image = image.map_err(MediaError::io("opening", base))?;
        let size = first.metadata().map_err(MediaError::io("reading", base))?.len();
        let changed = BTreeMap::new();
        Ok(Self { log, data, image, base: first, size, done: 0, forced: 0, changed, state: [0; 32] })
    }

    /// Brings the image to this boundary, which is not before the last one, and says what is on it then.
    ///
    /// # Errors
    /// [`MediaError::Io`].
    pub fn to(&mut self, boundary: &Boundary) -> Result<DiskState, MediaError> {
        let path = self.log.path.clone();
        let mut touched = BTreeSet::new();
        let until = boundary.entries.min(self.log.entries.len());
        let done = if boundary.moment == Moment::Forced {
            let from = self.forced.max(self.done);
            let forced = self.log.entries[from.min(until)..until].to_vec();
            forced.iter().filter(|entry| entry.forced).try_for_each(|entry| self.apply(entry, &mut touched))
        } else {
            // Writes that were forced through come once more, in their turn.
            let all = self.log.entries[self.done.min(until)..until].to_vec();
            self.done = self.done.max(until);
            all.iter().try_for_each(|entry| self.apply(entry, &mut touched))
        };
        done.map_err(MediaError::io("replaying", &path))?;
        self.forced = self.forced.max(until);
        for block in touched {
            self.look(block).map_err(MediaError::io("replaying", &path))?;
        }
        Ok(DiskState(self.state))
    }

    fn apply(&self, entry: &LogEntry, touched: &mut BTreeSet<u64>) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK.min(entry.length) as usize];
        let mut at = 0;
        while at < entry.length {
            let piece = &mut buffer[..CHUNK.min(entry.length - at) as usize];
            if !entry.discard {
                self.data.read_exact_at(piece, entry.data + at)?;
            }
            // What is zero already stays a hole.
            if piece.iter().any(|byte| *byte != 0) || !self.is_zero(entry.at + at, piece.len())? {
                self.image.write_all_at(piece, entry.at + at)?;
            }
            at += piece.len() as u64;
        }
        if entry.length > 0 {
            touched.extend(entry.at / BLOCK..(entry.at + entry.length).div_ceil(BLOCK));
        }
        Ok(())
    }

    fn is_zero(&self, at: u64, length: usize) -> io::Result<bool> {
        let mut there = vec![0; length];
        self.image.read_exact_at(&mut there, at)?;
        Ok(there.iter().all(|byte| *byte == 0))
    }

    /// Takes a block into account as it is now. The state is the exclusive or of the digests of all blocks that differ
    /// from the beginning, each with its place: blocks come and go without the others being read again.
    fn look(&mut self, block: u64) -> io::Result<()> {
        let at = block * BLOCK;
        let length = BLOCK.min(self.size.saturating_sub(at)) as usize;
        let (mut now, mut before) = (vec![0; length], vec![0; length]);
        self.image.read_exact_at(&mut now, at)?;
        self.base.read_exact_at(&mut before, at)?;
        let digest = (now != before).then(|| -> [u8; 32] {
            Sha256::new().chain_update(block.to_le_bytes()).chain_update(&now).finalize().into()
        });
        let old = match digest {
            Some(digest) => self.changed.insert(block, digest),
            None => self.changed.remove(&block),
        };
        for digest in old.iter().chain(&digest) {
            for (state, byte) in self.state.iter_mut().zip(digest) {
                *state ^= byte;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "writelog_tests.rs"]
mod tests;
