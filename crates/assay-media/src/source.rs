//! Bytes at a place: a part of a file, and a part of a file with changes that are not written yet.
//!
//! Everything here reads by position and never shares a cursor, so a disk, its partitions and their trees can be read
//! side by side from one open file.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::MediaError;

/// The most that one structure may take into memory.
const MAX_PIECE: u64 = 64 << 20;
/// What an overlay keeps at once, in bytes: the sector size that all sector sizes divide.
const BLOCK: u64 = 4096;

/// Something that is read by position.
pub(crate) trait Source {
    /// Bytes.
    fn size(&self) -> u64;
    /// Fills `buffer` from `at` on, or fails.
    fn fill(&self, at: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// A structure that must be there; nothing is allocated for what lies behind the end.
    fn piece(&self, what: &'static str, at: u64, length: u64) -> Result<Vec<u8>, MediaError> {
        let size = self.size();
        if at.checked_add(length).is_none_or(|end| end > size) {
            return Err(MediaError::Cut { what, offset: at, length, size });
        }
        if length > MAX_PIECE {
            return Err(MediaError::TooMuch { what: what.to_owned(), found: length, limit: MAX_PIECE });
        }
        let mut bytes = vec![0; length as usize];
        self.fill(at, &mut bytes).map_err(|source| MediaError::Io {
            doing: "reading",
            path: PathBuf::from(what),
            source,
        })?;
        Ok(bytes)
    }
}

/// A part of a file as a file of its own: from an offset on, a length long, with its own cursor.
///
/// Cloning is cheap; clones share the open file and nothing else.
#[derive(Clone, Debug)]
pub struct SliceReader {
    file: Arc<File>,
    start: u64,
    length: u64,
    position: u64,
}

impl SliceReader {
    /// The whole of a file.
    ///
    /// # Errors
    /// [`MediaError::Io`] when it cannot be opened, is a folder, or has no size.
    pub fn open(path: &Path) -> Result<Self, MediaError> {
        let opened = File::open(path).and_then(Self::whole);
        opened.map_err(MediaError::io("opening", path))
    }

    pub(crate) fn whole(file: File) -> io::Result<Self> {
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        // The end of a block device is known by seeking only.
        let length = (&file).seek(SeekFrom::End(0))?;
        Ok(Self { file: Arc::new(file), start: 0, length, position: 0 })
    }

    /// A part of this part.
    ///
    /// # Errors
    /// [`MediaError::Cut`] when it does not lie wholly within.
    pub fn slice(&self, offset: u64, length: u64) -> Result<Self, MediaError> {
        if offset.checked_add(length).is_none_or(|end| end > self.length) {
            return Err(MediaError::Cut { what: "a part of the image", offset, length, size: self.length });
        }
        Ok(Self { file: Arc::clone(&self.file), start: self.start + offset, length, position: 0 })
    }

    /// Bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Where this part begins in its file.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Fills `buffer` from the byte `at` on.
    ///
    /// # Errors
    /// Those of reading; `UnexpectedEof` behind the end.
    pub fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        if at.checked_add(buffer.len() as u64).is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(buffer, self.start + at)
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        if at.checked_add(bytes.len() as u64).is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.write_all_at(bytes, self.start + at)
    }
}

impl Source for SliceReader {
    fn size(&self) -> u64 {
        self.length
    }

    fn fill(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, at)
    }
}

impl Read for SliceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.position);
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..length], self.start + self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for SliceReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = target(to, self.position, self.length)?;
        Ok(self.position)
    }
}

fn target(to: SeekFrom, position: u64, length: u64) -> io::Result<u64> {
    let target = match to {
        SeekFrom::Start(at) => Some(at),
        SeekFrom::End(by) => length.checked_add_signed(by),
        SeekFrom::Current(by) => position.checked_add_signed(by),
    };
    target.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// A part of a file with changes that only memory knows, until they are committed all at once.
///
/// What goes wrong halfway (no room, a bad name, damage found late) leaves the image as it was.
#[derive(Clone, Debug)]
pub(crate) struct Overlay {
    base: SliceReader,
    changed: Rc<RefCell<BTreeMap<u64, Box<[u8]>>>>,
}

impl Overlay {
    pub(crate) fn over(base: SliceReader) -> Self {
        Self { base, changed: Rc::default() }
    }

    /// Changes bytes at a place.
    pub(crate) fn put(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let (block, length) = self.block(at);
            let within = (at - block * BLOCK) as usize;
            let count = rest.len().min(length.saturating_sub(within));
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut changed = self.changed.borrow_mut();
            let kept = match changed.entry(block) {
                Entry::Occupied(kept) => kept.into_mut(),
                Entry::Vacant(place) => {
                    let mut fresh = vec![0; length].into_boxed_slice();
                    self.base.read_exact_at(&mut fresh, block * BLOCK)?;
                    place.insert(fresh)
                }
            };
            kept[within..within + count].copy_from_slice(&rest[..count]);
            (at, rest) = (at + count as u64, &rest[count..]);
        }
        Ok(())
    }

    /// Writes the changes to the file.
    pub(crate) fn commit(&self) -> io::Result<()> {
        for (block, bytes) in self.changed.borrow_mut().iter() {
            self.base.write_all_at(bytes, block * BLOCK)?;
        }
        self.changed.borrow_mut().clear();
        self.base.file().sync_data()
    }

    /// The block's place and how much of it there is.
    fn block(&self, at: u64) -> (u64, usize) {
        let block = at / BLOCK;
        (block, BLOCK.min(self.base.length.saturating_sub(block * BLOCK)) as usize)
    }
}

impl Source for Overlay {
    fn size(&self) -> u64 {
        self.base.length
    }

    fn fill(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        if at.checked_add(buffer.len() as u64).is_none_or(|end| end > self.base.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.base.read_exact_at(buffer, at)?;
        let (first, end) = (at / BLOCK, at + buffer.len() as u64);
        for (block, bytes) in self.changed.borrow().range(first..=end / BLOCK) {
            let start = block * BLOCK;
            let (from, to) = (start.max(at), (start + bytes.len() as u64).min(end));
            if from < to {
                buffer[(from - at) as usize..(to - at) as usize]
                    .copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

    use super::{Overlay, SliceReader, Source as _};
    use crate::MediaError;

    fn image(bytes: &[u8]) -> (tempfile::NamedTempFile, SliceReader) {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(bytes).expect("written");
        let reader = SliceReader::whole(file.reopen().expect("opened")).expect("a size");
        (file, reader)
    }

    #[test]
    fn a_part_reads_as_a_file_and_ends_where_it_ends() {
        let (_file, whole) = image(b"0123456789");
        let mut part = whole.slice(2, 5).expect("within").slice(1, 4).expect("within");
        let mut text = String::new();
        part.read_to_string(&mut text).expect("read");
        assert_eq!((text.as_str(), part.start(), part.length()), ("3456", 3, 4));
        part.seek(SeekFrom::End(-1)).expect("within");
        part.read_to_string(&mut text).expect("read");
        assert_eq!(text, "34566");
        assert!(part.seek(SeekFrom::Current(-9)).is_err(), "before the start");
        assert!(part.read_exact_at(&mut [0; 2], 3).is_err(), "behind the end, although the file goes on");
    }

    #[test]
    fn a_part_that_is_not_there_is_refused_before_memory_is_taken() {
        let (_file, whole) = image(b"0123456789");
        for (offset, length) in [(9, 2), (11, 0), (u64::MAX, 2), (0, u64::MAX)] {
            assert!(matches!(whole.slice(offset, length), Err(MediaError::Cut { .. })), "{offset}+{length}");
            let piece = whole.piece("a test", offset, length);
            assert!(matches!(piece, Err(MediaError::Cut { .. })), "{offset}+{length}");
        }
    }

    #[test]
    fn changes_are_seen_at_once_and_written_only_when_committed() {
        let (file, _) = image(&[b'.'; 5000]);
        let open = std::fs::File::options().read(true).write(true).open(file.path()).expect("opened");
        let overlay = Overlay::over(SliceReader::whole(open).expect("a size"));
        overlay.put(4090, b"across the edge").expect("kept");
        let mut seen = [0; 17];
        overlay.fill(4089, &mut seen).expect("read");
        assert_eq!(&seen, b".across the edge.");
        assert_eq!(std::fs::read(file.path()).expect("read"), [b'.'; 5000], "nothing is written yet");
        overlay.commit().expect("written");
        assert_eq!(&std::fs::read(file.path()).expect("read")[4089..4106], b".across the edge.");
        assert!(overlay.put(4999, b"xy").is_err(), "behind the end");
    }
}
