//! Where a file has data and where it has holes, so that gigabytes of nothing cost nothing.
//!
//! `SEEK_DATA` and `SEEK_HOLE` only ever say "hole" where reading gives zeros (lseek(2)), so skipping holes proves as
//! much as reading them. A file system without them reports one extent of data, and everything is read.

use std::io;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::SliceReader;
use crate::bytes::is_zero;

/// Read at once.
const CHUNK: usize = 1 << 20;

/// A stretch of data: from, to (exclusive), counted from the start of the slice.
pub(crate) type Extent = (u64, u64);

/// The stretches that may hold data, in order, clipped to the slice.
pub(crate) fn extents(slice: &SliceReader) -> Extents<'_> {
    Extents { slice, at: 0 }
}

pub(crate) struct Extents<'a> {
    slice: &'a SliceReader,
    at: u64,
}

impl Iterator for Extents<'_> {
    type Item = io::Result<Extent>;

    fn next(&mut self) -> Option<Self::Item> {
        let (start, length) = (self.slice.start(), self.slice.length());
        if self.at >= length {
            return None;
        }
        let here = start + self.at;
        let found = match seek(self.slice.file(), SeekFrom::Data(here)) {
            Ok(data) => seek(self.slice.file(), SeekFrom::Hole(data)).map(|hole| (data, hole)),
            // Only a hole is left.
            Err(Errno::NXIO) => {
                self.at = length;
                return None;
            }
            Err(Errno::INVAL) => Ok((here, start + length)),
            Err(error) => Err(error),
        };
        let (data, hole) = match found {
            Ok(found) => found,
            Err(error) => {
                self.at = length;
                return Some(Err(error.into()));
            }
        };
        let (from, to) = (data.saturating_sub(start).max(self.at), (hole - start).min(length));
        if from >= length || to <= from {
            self.at = length;
            return None;
        }
        self.at = to;
        Some(Ok((from, to)))
    }
}

/// What a search for the first byte that is not zero found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blankness {
    /// Bytes that were read; the rest are holes.
    pub(crate) read: u64,
    /// The first byte that is not zero.
    pub(crate) first: Option<u64>,
}

/// Searches for the first byte that is not zero.
pub(crate) fn first_data(slice: &SliceReader) -> io::Result<Blankness> {
    let mut read = 0;
    let mut buffer = vec![0; CHUNK];
    for extent in extents(slice) {
        let (mut from, to) = extent?;
        while from < to {
            let length = CHUNK.min((to - from) as usize);
            let chunk = &mut buffer[..length];
            slice.read_exact_at(chunk, from)?;
            read += length as u64;
            if !is_zero(chunk) {
                let within = chunk.iter().position(|byte| *byte != 0).unwrap_or_default();
                return Ok(Blankness { read, first: Some(from + within as u64) });
            }
            from += length as u64;
        }
    }
    Ok(Blankness { read, first: None })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::{Blankness, extents, first_data};
    use crate::SliceReader;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_huge_hole_is_blank_without_being_read_and_one_byte_in_it_is_found() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(64 * GIB).expect("a size");
        let slice = SliceReader::whole(file.try_clone().expect("a clone")).expect("a size");
        assert_eq!(first_data(&slice).expect("read"), Blankness { read: 0, first: None });
        file.write_all_at(&[7], 40 * GIB + 4097).expect("written");
        let found = first_data(&slice).expect("read");
        assert_eq!(found.first, Some(40 * GIB + 4097));
        assert!(found.read <= 1 << 20, "{} bytes were read", found.read);
        let part = slice.slice(40 * GIB + 4098, GIB).expect("within");
        assert_eq!(first_data(&part).expect("read").first, None, "the byte lies before this part");
        let part = slice.slice(40 * GIB + 4096, GIB).expect("within");
        assert_eq!(first_data(&part).expect("read").first, Some(1));
    }

    #[test]
    fn extents_cover_all_that_was_written() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(GIB).expect("a size");
        for at in [0, 10 << 20, GIB - 1] {
            file.write_all_at(&[1], at).expect("written");
        }
        let slice = SliceReader::whole(file).expect("a size");
        let found: Vec<_> = extents(&slice).collect::<Result<_, _>>().expect("read");
        for at in [0, 10 << 20, GIB - 1] {
            assert!(found.iter().any(|(from, to)| (*from..*to).contains(&at)), "{at} in {found:?}");
        }
        assert!(found.windows(2).all(|pair| pair[0].1 <= pair[1].0), "in order: {found:?}");
    }
}
