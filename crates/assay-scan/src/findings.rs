//! What was bad, where: a bounded list of ranges, and counts of everything.
//!
//! A worn disk has thousands of bad sectors and a counterfeit one millions. The first ranges are kept exactly, the
//! rest is counted, so that memory and reports stay small and nothing is lost from the sums.

use serde::{Deserialize, Serialize};

use crate::pattern::Pattern;

/// How a sector is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The device reports an error when it is read.
    Unreadable,
    /// The device reports an error when it is written.
    Unwritable,
    /// It reads back wrong bytes of no known origin, with good status.
    Corrupt,
    /// It reads back what was written to another address.
    Aliased,
    /// It reads back what an earlier pass or scan wrote: the last write did not stay, though it was acknowledged.
    Stale,
}

/// What a second read of a wrong sector returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reread {
    /// The same wrong bytes: the medium, or what wrote it.
    Same,
    /// Other wrong bytes.
    Different,
    /// The right bytes: the way to here (cable, controller, memory) rather than the medium.
    Right,
    /// An error.
    Failed,
}

/// Neighbouring sectors that are bad in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRange {
    /// The first byte on the device.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// How it is bad.
    pub class: Class,
    /// In which pass it was found, counted from 0.
    pub pass: u32,
    /// The pattern of that pass.
    pub pattern: Pattern,
    /// The address whose data the first sector holds, where it holds another's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<u64>,
    /// The system's error number, for sectors that cannot be read or written; a transfer that ended early counts
    /// as an input/output error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// How many bits differ, for corrupt sectors.
    #[serde(default)]
    pub wrong_bits: u64,
    /// The one byte that the corrupt sectors are full of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filled: Option<u8>,
    /// What a second read said, for sectors that read back wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reread: Option<Reread>,
}

impl BadRange {
    /// Whether `next` only makes this range longer.
    fn goes_on_with(&self, next: &Self) -> bool {
        let alike = |range: &Self| (range.class, range.pass, range.errno, range.filled, range.reread);
        let shift = |range: &Self| range.other.map(|other| other.wrapping_sub(range.offset));
        self.offset + self.length == next.offset && alike(self) == alike(next) && shift(self) == shift(next)
    }
}

/// Bytes per class. A sector that is bad in two passes counts twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// See [`Class::Unreadable`].
    pub unreadable: u64,
    /// See [`Class::Unwritable`].
    pub unwritable: u64,
    /// See [`Class::Corrupt`].
    pub corrupt: u64,
    /// See [`Class::Aliased`].
    pub aliased: u64,
    /// See [`Class::Stale`].
    pub stale: u64,
}

impl Counts {
    /// All bad bytes.
    pub fn total(&self) -> u64 {
        self.errors() + self.wrong()
    }

    /// Bytes that the device reported an error for.
    pub fn errors(&self) -> u64 {
        self.unreadable + self.unwritable
    }

    /// Bytes that came back wrong with good status.
    pub fn wrong(&self) -> u64 {
        self.corrupt + self.aliased + self.stale
    }

    fn of(&mut self, class: Class) -> &mut u64 {
        match class {
            Class::Unreadable => &mut self.unreadable,
            Class::Unwritable => &mut self.unwritable,
            Class::Corrupt => &mut self.corrupt,
            Class::Aliased => &mut self.aliased,
            Class::Stale => &mut self.stale,
        }
    }
}

/// The bad ranges of a scan so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BadList {
    pub(crate) kept: Vec<BadRange>,
    /// Ranges that are counted but no longer kept.
    pub(crate) dropped: u64,
    pub(crate) counts: Counts,
    /// The greatest common divisor of the distances between where data was found and where it belongs.
    alias_step: u64,
}

impl BadList {
    /// Adds a range; it is kept while there are fewer than `keep`. Whether it is a new one that was kept.
    pub(crate) fn add(&mut self, range: BadRange, keep: usize) -> bool {
        *self.counts.of(range.class) += range.length;
        if let (Class::Aliased, Some(other)) = (range.class, range.other) {
            self.alias_step = divisor(self.alias_step, other.abs_diff(range.offset));
        }
        if let Some(last) = self.kept.last_mut().filter(|last| last.goes_on_with(&range)) {
            last.length += range.length;
            last.wrong_bits += range.wrong_bits;
            false
        } else if self.kept.len() < keep {
            self.kept.push(range);
            true
        } else {
            self.dropped += 1;
            false
        }
    }

    /// Where addresses repeat, if they do: the room that the device really has, or a divisor of it.
    pub(crate) fn capacity_hint(&self) -> Option<u64> {
        (self.alias_step > 0).then_some(self.alias_step)
    }
}

fn divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(offset: u64, class: Class) -> BadRange {
        BadRange {
            offset,
            length: 512,
            class,
            pass: 1,
            pattern: Pattern::Random,
            other: None,
            errno: None,
            wrong_bits: 0,
            filled: None,
            reread: None,
        }
    }

    #[test]
    fn neighbours_of_one_kind_are_one_range() {
        let mut list = BadList::default();
        for offset in [1024, 1536, 2048] {
            list.add(BadRange { wrong_bits: 3, ..bad(offset, Class::Corrupt) }, 9);
        }
        list.add(BadRange { pass: 3, ..bad(2560, Class::Corrupt) }, 9);
        list.add(BadRange { errno: Some(5), ..bad(3072, Class::Unreadable) }, 9);
        let seen: Vec<_> = list.kept.iter().map(|r| (r.offset, r.length, r.class, r.wrong_bits)).collect();
        assert_eq!(
            seen,
            [
                (1024, 1536, Class::Corrupt, 9),
                (2560, 512, Class::Corrupt, 0),
                (3072, 512, Class::Unreadable, 0)
            ]
        );
        assert_eq!((list.counts.corrupt, list.counts.errors(), list.counts.total()), (2048, 512, 2560));
        assert_eq!(list.capacity_hint(), None);
    }

    #[test]
    fn the_list_is_bounded_and_the_counts_are_not() {
        let mut list = BadList::default();
        for number in 0..1000 {
            list.add(bad(number * 4096, Class::Stale), 10);
        }
        assert_eq!((list.kept.len(), list.dropped, list.counts.stale), (10, 990, 512_000));
    }

    #[test]
    fn aliases_tell_where_addresses_repeat() {
        let mut list = BadList::default();
        let alias = |offset, other| BadRange { other: Some(other), ..bad(offset, Class::Aliased) };
        for (offset, other) in [(0, 3 << 30), (512, (3 << 30) + 512), (1024, (9 << 30) + 1024)] {
            list.add(alias(offset, other), 10);
        }
        assert_eq!(list.kept.len(), 2, "the third comes from elsewhere");
        assert_eq!(list.capacity_hint(), Some(3 << 30));
    }
}
