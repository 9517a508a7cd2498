//! What a disk does wrong: rules, and what they make of one request. Pure, but for the file that they are kept in.

use std::{fs, io, ops::Range, path::Path, time::Duration};

use serde::{Deserialize, Serialize};

const SECTOR: u64 = 512;
const MIB: u64 = 1024 * 1024;

/// One thing that a disk does wrong. Sectors have 512 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum DiskRule {
    /// Reading these sectors fails.
    Unreadable {
        /// The first one.
        sector: u64,
        /// How many.
        #[serde(default = "one")]
        count: u64,
    },
    /// Writing these sectors fails.
    Unwritable {
        /// The first one.
        sector: u64,
        /// How many.
        #[serde(default = "one")]
        count: u64,
    },
    /// Reading these sectors succeeds, with one bit of each wrong.
    Corrupt {
        /// The first one.
        sector: u64,
        /// How many.
        #[serde(default = "one")]
        count: u64,
    },
    /// Writing these sectors succeeds and stores nothing.
    Lost {
        /// The first one.
        sector: u64,
        /// How many.
        #[serde(default = "one")]
        count: u64,
    },
    /// Writing these sectors succeeds and stores the data elsewhere.
    Misdirected {
        /// The first one.
        sector: u64,
        /// How many.
        #[serde(default = "one")]
        count: u64,
        /// The sector where the first one ends up.
        to: u64,
    },
    /// It is smaller than it says: behind its true end it begins anew.
    Aliased {
        /// What it really holds.
        capacity_mib: u64,
    },
    /// Each request to these sectors takes longer.
    Slow {
        /// The first one.
        #[serde(default)]
        sector: u64,
        /// How many; all to the end without it.
        #[serde(default)]
        count: Option<u64>,
        /// How much longer for each request, in milliseconds. Slow requests wait for each other.
        ms: u64,
    },
    /// Writing from here to the end fails for lack of space: a thin pool that has run full.
    Full {
        /// The first sector that finds no room.
        sector: u64,
    },
    /// It answers every request with an error, flushes as well: its electronics are dead, or it is not there any more.
    Gone,
    /// It answers nothing for a while, once, from the moment that the rule is there (or the first request after it).
    Stall {
        /// For how long, in milliseconds.
        ms: u64,
    },
}

/// The rules of a disk at work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rules(pub(crate) Vec<DiskRule>);

/// A piece of a request: where the bytes are in the image, and where in the request's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Offset in the image.
    pub(crate) at: u64,
    /// Part of the request's data.
    pub(crate) data: Range<usize>,
}

/// An error, as the device reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediumError {
    /// Input or output failed.
    Io,
    /// There is no room.
    NoSpace,
}

impl DiskRule {
    /// Why this rule cannot be one of a disk of that many MiB.
    pub(crate) fn problem(&self, size_mib: u64) -> Option<String> {
        let size = size_mib * MIB;
        let outside = |sector: u64, count: u64| {
            let end = sector.checked_add(count).and_then(|end| end.checked_mul(SECTOR));
            (count == 0 || end.is_none_or(|end| end > size))
                .then(|| format!("sectors {sector} and {count} on are not on a disk of {size_mib} MiB"))
        };
        match *self {
            Self::Unreadable { sector, count }
            | Self::Unwritable { sector, count }
            | Self::Corrupt { sector, count }
            | Self::Lost { sector, count } => outside(sector, count),
            Self::Misdirected { sector, count, to } => outside(sector, count)
                .or_else(|| outside(to, count))
                .or_else(|| (sector == to).then(|| "sector and to are the same".to_owned())),
            Self::Aliased { capacity_mib } => (capacity_mib == 0 || capacity_mib >= size_mib)
                .then(|| format!("capacity_mib must be between 1 and {}", size_mib.saturating_sub(1))),
            Self::Slow { sector, count, ms } => outside(sector, count.unwrap_or(1))
                .or_else(|| (ms == 0).then(|| "ms must be at least 1".to_owned())),
            Self::Stall { ms } => (ms == 0).then(|| "ms must be at least 1".to_owned()),
            Self::Full { sector } => outside(sector, 1),
            Self::Gone => None,
        }
    }

    /// The bytes that the rule is about, if it is about a range.
    fn range(&self) -> Option<Range<u64>> {
        match *self {
            Self::Unreadable { sector, count }
            | Self::Unwritable { sector, count }
            | Self::Corrupt { sector, count }
            | Self::Lost { sector, count }
            | Self::Misdirected { sector, count, .. } => {
                Some(sector * SECTOR..sector.saturating_add(count).saturating_mul(SECTOR))
            }
            Self::Slow { sector, count, .. } => {
                let end = count.map_or(u64::MAX, |count| sector.saturating_add(count).saturating_mul(SECTOR));
                Some(sector * SECTOR..end)
            }
            Self::Full { sector } => Some(sector.saturating_mul(SECTOR)..u64::MAX),
            Self::Aliased { .. } | Self::Stall { .. } | Self::Gone => None,
        }
    }
}

impl Rules {
    /// How much longer a request takes.
    pub(crate) fn delay(&self, at: u64, length: u64) -> Duration {
        let slow = self.0.iter().filter_map(|rule| match rule {
            DiskRule::Slow { ms, .. } if rule.range().is_some_and(|range| meets(&range, at, length)) => {
                Some(*ms)
            }
            _ => None,
        });
        Duration::from_millis(slow.sum())
    }

    /// How long the disk answers nothing, if it is to stall.
    pub(crate) fn stall(&self) -> Option<Duration> {
        self.0.iter().find_map(|rule| match rule {
            DiskRule::Stall { ms } => Some(Duration::from_millis(*ms)),
            _ => None,
        })
    }

    /// Whether a flush gets through.
    pub(crate) fn flush(&self) -> Result<(), MediumError> {
        if self.gone() { Err(MediumError::Io) } else { Ok(()) }
    }

    fn gone(&self) -> bool {
        self.0.contains(&DiskRule::Gone)
    }

    /// Where in the image a read finds its bytes.
    pub(crate) fn read(&self, at: u64, length: u64) -> Result<Vec<Piece>, MediumError> {
        let unreadable = |rule: &DiskRule| matches!(rule, DiskRule::Unreadable { .. });
        if self.gone() || self.hits(unreadable, at, length) {
            return Err(MediumError::Io);
        }
        Ok(self.aliased(vec![Piece { at, data: 0..length as usize }]))
    }

    /// Where in the image a write puts its bytes; what is in no piece is lost.
    pub(crate) fn write(&self, at: u64, length: u64) -> Result<Vec<Piece>, MediumError> {
        let unwritable = |rule: &DiskRule| matches!(rule, DiskRule::Unwritable { .. });
        if self.gone() || self.hits(unwritable, at, length) {
            return Err(MediumError::Io);
        }
        if self.hits(|rule| matches!(rule, DiskRule::Full { .. }), at, length) {
            return Err(MediumError::NoSpace);
        }
        let mut kept = vec![Piece { at, data: 0..length as usize }];
        for rule in &self.0 {
            let (range, to) = match (rule, rule.range()) {
                (DiskRule::Lost { .. }, Some(range)) => (range, None),
                (DiskRule::Misdirected { to, .. }, Some(range)) => (range, Some(to * SECTOR)),
                _ => continue,
            };
            kept = kept.into_iter().flat_map(|piece| split(&piece, &range, to)).collect();
        }
        Ok(self.aliased(kept))
    }

    /// Makes the data of a read wrong where a rule says so. One bit, always the same one of a sector.
    pub(crate) fn corrupt(&self, at: u64, data: &mut [u8]) {
        const WITHIN: u64 = 257;
        for rule in &self.0 {
            let DiskRule::Corrupt { sector, count } = *rule else { continue };
            let end = at + data.len() as u64;
            for byte in (sector..sector.saturating_add(count)).map(|sector| sector * SECTOR + WITHIN) {
                if (at..end).contains(&byte) {
                    data[(byte - at) as usize] ^= 0x10;
                }
            }
        }
    }

    fn hits(&self, kind: impl Fn(&DiskRule) -> bool, at: u64, length: u64) -> bool {
        let ranges = self.0.iter().filter(|rule| kind(rule)).filter_map(DiskRule::range);
        ranges.into_iter().any(|range| meets(&range, at, length))
    }

    fn aliased(&self, pieces: Vec<Piece>) -> Vec<Piece> {
        let capacity = self.0.iter().find_map(|rule| match rule {
            DiskRule::Aliased { capacity_mib } => Some(capacity_mib * MIB),
            _ => None,
        });
        let Some(capacity) = capacity else { return pieces };
        let mut out = Vec::new();
        for piece in pieces {
            let Range { mut start, end } = piece.data;
            let mut at = piece.at % capacity;
            while start < end {
                let length = ((capacity - at) as usize).min(end - start);
                out.push(Piece { at, data: start..start + length });
                start += length;
                at = 0;
            }
        }
        out
    }
}

/// Puts a disk's rules where its server looks for them, all at once.
pub(crate) fn write_rules(path: &Path, rules: &[DiskRule]) -> io::Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, serde_json::to_vec(rules).map_err(io::Error::other)?)?;
    fs::rename(part, path)
}

fn meets(range: &Range<u64>, at: u64, length: u64) -> bool {
    range.start < at.saturating_add(length) && at < range.end
}

/// What of a piece lies before, in and behind a range; the part inside goes to `to`, or nowhere.
fn split(piece: &Piece, range: &Range<u64>, to: Option<u64>) -> Vec<Piece> {
    let (start, end) = (piece.at, piece.at + piece.data.len() as u64);
    let cut = |from: u64, until: u64, at: u64| {
        let data = piece.data.start + (from - start) as usize..piece.data.start + (until - start) as usize;
        (from < until).then_some(Piece { at, data })
    };
    let inside = range.start.clamp(start, end)..range.end.clamp(start, end);
    if inside.is_empty() {
        return vec![piece.clone()];
    }
    let moved = to.and_then(|to| cut(inside.start, inside.end, to + (inside.start - range.start)));
    [cut(start, inside.start, start), moved, cut(inside.end, end, inside.end)].into_iter().flatten().collect()
}

fn one() -> u64 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(at: u64, data: Range<usize>) -> Piece {
        Piece { at, data }
    }

    #[test]
    fn a_healthy_disk_does_what_it_is_told() {
        let rules = Rules::default();
        assert_eq!(rules.read(4096, 1024), Ok(vec![piece(4096, 0..1024)]));
        assert_eq!(rules.write(4096, 1024), Ok(vec![piece(4096, 0..1024)]));
        assert_eq!(rules.delay(0, 512), Duration::ZERO);
        let mut data = vec![7; 1024];
        rules.corrupt(0, &mut data);
        assert_eq!(data, vec![7; 1024]);
    }

    #[test]
    fn bad_sectors_are_bad_to_the_byte() {
        let rules = Rules(vec![
            DiskRule::Unreadable { sector: 8, count: 1 },
            DiskRule::Unwritable { sector: 100, count: 2 },
        ]);
        assert!(rules.read(0, 4096).is_ok(), "ends where the bad one begins");
        assert_eq!(rules.read(0, 4097), Err(MediumError::Io));
        assert!(rules.read(4608, 512).is_ok(), "begins where it ends");
        assert!(rules.write(4096, 512).is_ok(), "unreadable is not unwritable");
        assert_eq!(rules.write(101 * 512, 1), Err(MediumError::Io));
        assert!(rules.read(100 * 512, 1024).is_ok());
    }

    #[test]
    fn a_full_pool_takes_no_writes_from_its_end_on_and_still_reads() {
        let rules = Rules(vec![DiskRule::Full { sector: 8 }]);
        assert!(rules.write(0, 4096).is_ok(), "ends where there is no room any more");
        assert_eq!(rules.write(0, 4097), Err(MediumError::NoSpace));
        assert_eq!(rules.write(1 << 40, 512), Err(MediumError::NoSpace));
        assert!(rules.read(4096, 4096).is_ok());
        assert_eq!(rules.flush(), Ok(()));
    }

    #[test]
    fn a_disk_that_is_gone_answers_everything_with_an_error() {
        let rules = Rules(vec![DiskRule::Gone]);
        assert_eq!(rules.read(0, 512), Err(MediumError::Io));
        assert_eq!(rules.write(0, 512), Err(MediumError::Io));
        assert_eq!(rules.flush(), Err(MediumError::Io));
    }

    #[test]
    fn lost_and_misdirected_writes_leave_the_rest_alone() {
        let lost = Rules(vec![DiskRule::Lost { sector: 1, count: 1 }]);
        assert_eq!(lost.write(0, 2048), Ok(vec![piece(0, 0..512), piece(1024, 1024..2048)]));
        assert_eq!(lost.write(512, 512), Ok(vec![]));
        let astray = Rules(vec![DiskRule::Misdirected { sector: 1, count: 2, to: 100 }]);
        assert_eq!(
            astray.write(1024, 1024),
            Ok(vec![piece(101 * 512, 0..512), piece(1536, 512..1024)]),
            "the second of two goes where the second belongs"
        );
        assert_eq!(astray.read(512, 512), Ok(vec![piece(512, 0..512)]), "reads are honest");
    }

    #[test]
    fn a_disk_that_is_smaller_than_it_says_begins_anew() {
        let rules = Rules(vec![DiskRule::Aliased { capacity_mib: 1 }]);
        assert_eq!(rules.write(MIB + 512, 512), Ok(vec![piece(512, 0..512)]));
        let across = rules.read(2 * MIB - 512, 1024);
        assert_eq!(across, Ok(vec![piece(MIB - 512, 0..512), piece(0, 512..1024)]));
    }

    #[test]
    fn corruption_is_one_bit_of_each_sector_however_it_is_read() {
        let rules = Rules(vec![DiskRule::Corrupt { sector: 2, count: 2 }]);
        let mut whole = vec![0; 4096];
        rules.corrupt(0, &mut whole);
        assert_eq!(whole.iter().filter(|byte| **byte != 0).count(), 2);
        let mut sector = vec![0; 512];
        rules.corrupt(1536, &mut sector);
        assert_eq!(sector, whole[1536..2048]);
    }

    #[test]
    fn a_slow_zone_is_slow_and_nothing_else() {
        let rules = Rules(vec![
            DiskRule::Slow { sector: 8, count: Some(8), ms: 20 },
            DiskRule::Slow { sector: 0, count: None, ms: 1 },
        ]);
        assert_eq!(rules.delay(0, 4096), Duration::from_millis(1));
        assert_eq!(rules.delay(4096, 512), Duration::from_millis(21));
        assert_eq!(rules.delay(1 << 40, 512), Duration::from_millis(1));
    }

    #[test]
    fn rules_that_cannot_be_are_refused() {
        for (rule, says) in [
            (DiskRule::Unreadable { sector: 2048, count: 1 }, "not on a disk of 1 MiB"),
            (DiskRule::Lost { sector: u64::MAX, count: 2 }, "not on a disk"),
            (DiskRule::Corrupt { sector: 0, count: 0 }, "not on a disk"),
            (DiskRule::Misdirected { sector: 0, count: 1, to: 0 }, "the same"),
            (DiskRule::Aliased { capacity_mib: 1 }, "capacity_mib"),
            (DiskRule::Slow { sector: 0, count: None, ms: 0 }, "at least 1"),
            (DiskRule::Stall { ms: 0 }, "at least 1"),
            (DiskRule::Full { sector: 2048 }, "not on a disk of 1 MiB"),
        ] {
            let problem = rule.problem(1).expect("refused");
            assert!(problem.contains(says), "{rule:?}: {problem}");
        }
        assert_eq!(DiskRule::Unreadable { sector: 2047, count: 1 }.problem(1), None);
    }
}
