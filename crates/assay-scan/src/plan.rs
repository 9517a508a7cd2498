//! Which parts of a device are written and verified, with which patterns, in which order.
//!
//! All writing of a pattern comes before any of its verifying: only then does a device with less room than it claims,
//! or with two addresses for one place, show itself.

use serde::{Deserialize, Serialize};

use crate::pattern::{Pattern, SECTOR};

/// Bytes of one sampled region: enough for a rate, little enough for a disk's arm.
const REGION: u64 = 8 << 20;
/// Regions that are read back after zeroing.
const ZERO_CHECKS: u32 = 64;
/// Regions begin at multiples of this.
const ALIGN: u64 = 1 << 20;

/// How much is scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// Regions of 8 MiB spread evenly over the device, both ends among them, and one of 1 MiB at every power of two:
    /// there a device of less room than it claims most often begins again at zero. Proves no sector in between, and a
    /// device with a large cache may answer from that.
    Sampled {
        /// How many regions.
        regions: u32,
    },
    /// Everything is written and verified once, with pseudo-random data.
    TwoPass,
    /// As [`Plan::TwoPass`], then the inverse, then the four patterns of `badblocks -svw`: aa, 55, ff, 00.
    BurnIn,
}

impl Plan {
    /// How many bytes of a device of this size are written and verified.
    pub fn bytes(self, device_bytes: u64) -> u64 {
        passes(self, Leave::Pattern, device_bytes).first().map_or(0, |pass| pass.extents.total())
    }
}

/// What is on the device afterwards, where it was scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leave {
    /// Zeros, checked by samples.
    Zeroed,
    /// The last pattern.
    Pattern,
}

/// What a pass does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PassKind {
    /// Writes a pattern.
    Write,
    /// Reads a pattern back and checks every byte.
    Verify,
    /// Zeroes, by the device's own command where it has one.
    Zero,
    /// Reads samples of the zeros back.
    ZeroCheck,
}

/// One way over the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) kind: PassKind,
    pub(crate) pattern: Pattern,
    pub(crate) extents: Extents,
    /// The patterns that were written before this pass's own, oldest first.
    pub(crate) before: Vec<Pattern>,
}

/// The passes over a device of so many bytes.
pub(crate) fn passes(plan: Plan, leave: Leave, device_bytes: u64) -> Vec<Pass> {
    let whole = Extents::whole(device_bytes);
    let (patterns, extents): (&[Pattern], _) = match plan {
        Plan::Sampled { regions } => {
            (&[Pattern::Random], Extents::sampled(device_bytes, regions, REGION, true))
        }
        Plan::TwoPass => (&[Pattern::Random], whole),
        Plan::BurnIn => (
            &[
                Pattern::Random,
                Pattern::Inverse,
                Pattern::Constant(0xaa),
                Pattern::Constant(0x55),
                Pattern::Constant(0xff),
                Pattern::Constant(0x00),
            ],
            whole,
        ),
    };
    let mut passes = Vec::new();
    for (number, pattern) in patterns.iter().enumerate() {
        for kind in [PassKind::Write, PassKind::Verify] {
            let before = patterns[..number].to_vec();
            passes.push(Pass { kind, pattern: *pattern, extents: extents.clone(), before });
        }
    }
    // The burn-in's last pattern has left and verified zeros already.
    let zero = Pattern::Constant(0);
    if leave == Leave::Zeroed && patterns.last() != Some(&zero) {
        let check = match plan {
            Plan::Sampled { .. } => extents.clone(),
            Plan::TwoPass | Plan::BurnIn => Extents::sampled(device_bytes, ZERO_CHECKS, REGION, false),
        };
        let before = patterns.to_vec();
        passes.push(Pass { kind: PassKind::Zero, pattern: zero, extents, before: before.clone() });
        passes.push(Pass { kind: PassKind::ZeroCheck, pattern: zero, extents: check, before });
    }
    passes
}

/// Parts of a device in ascending order, not touching each other. A *position* counts the bytes of the parts alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extents(Vec<Extent>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    position: u64,
    offset: u64,
    length: u64,
}

impl Extents {
    fn whole(device_bytes: u64) -> Self {
        Self::new(vec![(0, device_bytes)])
    }

    /// `regions` parts of `length` bytes spread evenly, the first and the last byte of the device among them.
    fn sampled(device_bytes: u64, regions: u32, length: u64, powers: bool) -> Self {
        let regions = u64::from(regions.max(2));
        let room = device_bytes.saturating_sub(length);
        let mut parts: Vec<(u64, u64)> = (0..regions)
            .map(|number| {
                let even = u128::from(room) * u128::from(number) / u128::from(regions - 1);
                // The last one ends where the device ends.
                let offset = even as u64;
                let offset = if number + 1 == regions { room } else { offset / ALIGN * ALIGN };
                (offset, length.min(device_bytes))
            })
            .collect();
        if powers {
            let powers = (20..u64::BITS).map(|bit| 1_u64 << bit).take_while(|offset| *offset < device_bytes);
            parts.extend(powers.map(|offset| (offset, ALIGN.min(device_bytes - offset))));
        }
        Self::new(parts)
    }

    fn new(mut parts: Vec<(u64, u64)>) -> Self {
        parts.sort_unstable();
        let mut extents: Vec<Extent> = Vec::new();
        for (offset, length) in parts.into_iter().filter(|(_, length)| *length > 0) {
            if let Some(last) = extents.last_mut().filter(|last| offset <= last.offset + last.length) {
                last.length = last.length.max(offset + length - last.offset);
                continue;
            }
            extents.push(Extent { position: 0, offset, length });
        }
        let mut position = 0;
        for extent in &mut extents {
            extent.position = position;
            position += extent.length;
        }
        Self(extents)
    }

    /// All bytes of the parts.
    pub(crate) fn total(&self) -> u64 {
        self.0.last().map_or(0, |last| last.position + last.length)
    }

    /// Where a position lies on the device, and how many bytes of its part follow from there.
    pub(crate) fn at(&self, position: u64) -> Option<(u64, u64)> {
        let after = self.0.partition_point(|extent| extent.position <= position);
        let extent = self.0.get(after.checked_sub(1)?)?;
        let inside = position - extent.position;
        (inside < extent.length).then(|| (extent.offset + inside, extent.length - inside))
    }
}

const _: () = assert!(REGION.is_multiple_of(SECTOR as u64) && ALIGN.is_multiple_of(SECTOR as u64));

#[cfg(test)]
mod tests {
    use super::*;

    const TIB: u64 = 1 << 40;

    fn kinds(plan: Plan, leave: Leave) -> Vec<(PassKind, Pattern)> {
        passes(plan, leave, TIB).iter().map(|pass| (pass.kind, pass.pattern)).collect()
    }

    #[test]
    fn each_plan_has_its_passes() {
        use PassKind::{Verify, Write, Zero, ZeroCheck};
        let (random, zero) = (Pattern::Random, Pattern::Constant(0));
        let two = [(Write, random), (Verify, random)];
        assert_eq!(kinds(Plan::TwoPass, Leave::Pattern), two);
        assert_eq!(
            kinds(Plan::TwoPass, Leave::Zeroed),
            [&two[..], &[(Zero, zero), (ZeroCheck, zero)]].concat()
        );
        assert_eq!(kinds(Plan::Sampled { regions: 9 }, Leave::Pattern), two);
        let burn_in = kinds(Plan::BurnIn, Leave::Zeroed);
        assert_eq!(burn_in.len(), 12, "the last pattern is the zeroing");
        assert_eq!(burn_in, kinds(Plan::BurnIn, Leave::Pattern));
        assert_eq!(burn_in[2..4], [(Write, Pattern::Inverse), (Verify, Pattern::Inverse)]);
        assert_eq!(burn_in[11], (Verify, zero));
    }

    #[test]
    fn a_pass_knows_what_was_written_before() {
        let passes = passes(Plan::BurnIn, Leave::Zeroed, TIB);
        assert!(passes[0].before.is_empty() && passes[1].before.is_empty());
        assert_eq!(passes[5].before, [Pattern::Random, Pattern::Inverse]);
    }

    #[test]
    fn samples_reach_both_ends_and_every_power_of_two_even_beyond_16_tib() {
        let device = 20 * TIB + 4096;
        let extents = Extents::sampled(device, 64, REGION, true);
        // The power of two that lies right behind the first region makes it longer.
        assert_eq!(extents.at(0), Some((0, REGION + ALIGN)));
        let last = extents.total() - 1;
        assert_eq!(extents.at(last), Some((device - 1, 1)));
        let hit = |offset: u64| extents.0.iter().any(|e| e.offset <= offset && offset < e.offset + e.length);
        assert!((20..45).all(|bit| hit(1 << bit)));
        let zones: std::collections::BTreeSet<_> =
            extents.0.iter().map(|e| u128::from(e.offset) * 64 / u128::from(device)).collect();
        assert_eq!(zones.len(), 64, "every zone has a sample");
    }

    #[test]
    fn positions_cover_each_byte_of_the_parts_once() {
        for device in [SECTOR as u64, 4096, 3 << 20, 100 << 20, (700 << 20) + 512] {
            for regions in [0, 1, 2, 7, 64] {
                let extents = Extents::sampled(device, regions, REGION, true);
                let mut position = 0;
                let mut end = 0;
                while let Some((offset, left)) = extents.at(position) {
                    assert!(position == 0 || offset > end, "parts ascend and do not touch");
                    end = offset + left;
                    position += left;
                }
                assert_eq!((position, end), (extents.total(), device));
                assert!(extents.total() <= device);
            }
        }
        assert_eq!(Extents::whole(5 << 20).at(5 << 20), None);
        assert_eq!(Extents::whole(0).total(), 0);
    }
}
