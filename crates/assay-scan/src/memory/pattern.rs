//! What is written to memory: words that follow from their own address, the pass and the pattern, cheap enough to be
//! made again as fast as memory is read.
//!
//! Words are made a cache line at a time from additions, shifts and exclusive ors alone: every 64-bit processor does
//! several of those at once.

use serde::{Deserialize, Serialize};

/// Words of a line.
const LINE: usize = 8;
const LINE_BYTES: usize = LINE * 8;
/// Lines that are compared before anything is asked of them: a page.
const LINES_AT_ONCE: usize = 64;
/// An odd constant (2^64 over the golden ratio): its multiples go through every 64-bit word once.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// The multiples within a line.
const STEPS: [u64; LINE] = {
    let mut steps = [0_u64; LINE];
    let mut at = 1;
    while at < LINE {
        steps[at] = steps[at - 1].wrapping_add(STEP);
        at += 1;
    }
    steps
};

/// How a word follows from its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryPattern {
    /// The address of the word, mixed with the pass's key. No two words are the same.
    Address,
    /// The inverse of what [`Self::Address`] wrote one pass before: every bit in its other state.
    Inverse,
    /// Words that look random, and still follow from their address.
    Random,
    /// One bit set, the next one in the next word.
    WalkingOne,
    /// One bit clear, the next one in the next word.
    WalkingZero,
}

impl MemoryPattern {
    /// The patterns of one whole test: addresses, and every bit in both states.
    pub const BASIC: [Self; 2] = [Self::Address, Self::Inverse];
    /// The patterns of a long test.
    pub const ALL: [Self; 5] =
        [Self::Address, Self::Inverse, Self::Random, Self::WalkingOne, Self::WalkingZero];

    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Inverse => "inverse",
            Self::Random => "random",
            Self::WalkingOne => "walking_one",
            Self::WalkingZero => "walking_zero",
        }
    }

    /// Fills the bytes that begin at `offset` into the region.
    pub(crate) fn fill(self, offset: u64, pass: u32, bytes: &mut [u8]) {
        match self {
            Self::Address => fill(Address(key(pass)), offset, bytes),
            Self::Inverse => fill(Inverse(Address(key(pass.wrapping_sub(1)))), offset, bytes),
            Self::Random => fill(Random(key(pass)), offset, bytes),
            Self::WalkingOne => fill(Walking(u64::from(pass)), offset, bytes),
            Self::WalkingZero => fill(Inverse(Walking(u64::from(pass))), offset, bytes),
        }
    }

    /// Tells of every word that is not what [`Self::fill`] wrote: its number within `bytes`, what was written, what is
    /// there.
    pub(crate) fn differing(
        self,
        offset: u64,
        pass: u32,
        bytes: &[u8],
        found: &mut dyn FnMut(usize, u64, u64),
    ) {
        match self {
            Self::Address => differing(Address(key(pass)), offset, bytes, found),
            Self::Inverse => differing(Inverse(Address(key(pass.wrapping_sub(1)))), offset, bytes, found),
            Self::Random => differing(Random(key(pass)), offset, bytes, found),
            Self::WalkingOne => differing(Walking(u64::from(pass)), offset, bytes, found),
            Self::WalkingZero => differing(Inverse(Walking(u64::from(pass))), offset, bytes, found),
        }
    }
}

/// Another one for each pass, so that a word of an earlier pass that stayed behind is noticed.
fn key(pass: u32) -> u64 {
    let mixed = (u64::from(pass) + 1).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ (mixed >> 32)
}

/// A pattern: the words of a line from the number of its first word. Generic, so that each pattern gets a tight loop
/// of its own.
trait Lines: Copy {
    fn line(self, first: u64) -> [u64; LINE];
}

#[derive(Clone, Copy)]
struct Address(u64);

impl Lines for Address {
    #[inline]
    fn line(self, first: u64) -> [u64; LINE] {
        let base = first.wrapping_mul(STEP).wrapping_add(self.0);
        STEPS.map(|step| {
            let word = base.wrapping_add(step);
            // Both steps can be undone: words stay different from each other.
            word ^ (word >> 32)
        })
    }
}

#[derive(Clone, Copy)]
struct Random(u64);

impl Lines for Random {
    #[inline]
    fn line(self, first: u64) -> [u64; LINE] {
        let base = first.wrapping_mul(STEP).wrapping_add(self.0);
        STEPS.map(|step| {
            let mut word = base.wrapping_add(step);
            word ^= word << 13;
            word ^= word >> 7;
            word ^ (word << 17)
        })
    }
}

#[derive(Clone, Copy)]
struct Walking(u64);

impl Lines for Walking {
    #[inline]
    fn line(self, first: u64) -> [u64; LINE] {
        let one = 1_u64.rotate_left((first.wrapping_add(self.0) % 64) as u32);
        let mut line = [0; LINE];
        for (by, word) in (0..).zip(&mut line) {
            *word = one.rotate_left(by);
        }
        line
    }
}

#[derive(Clone, Copy)]
struct Inverse<L>(L);

impl<L: Lines> Lines for Inverse<L> {
    #[inline]
    fn line(self, first: u64) -> [u64; LINE] {
        self.0.line(first).map(|word| !word)
    }
}

fn fill<L: Lines>(lines: L, offset: u64, bytes: &mut [u8]) {
    let (slots, rest) = bytes.as_chunks_mut::<LINE_BYTES>();
    debug_assert!(rest.is_empty(), "chunks are whole pages");
    let mut first = offset / 8;
    for slot in slots {
        let line = lines.line(first);
        let (words, _) = slot.as_chunks_mut::<8>();
        for (word, slot) in line.into_iter().zip(words) {
            *slot = word.to_ne_bytes();
        }
        first += LINE as u64;
    }
}

fn differing<L: Lines>(lines: L, offset: u64, bytes: &[u8], found: &mut dyn FnMut(usize, u64, u64)) {
    let (slots, rest) = bytes.as_chunks::<LINE_BYTES>();
    debug_assert!(rest.is_empty(), "chunks are whole pages");
    let mut first = offset / 8;
    for (number, block) in slots.chunks(LINES_AT_ONCE).enumerate() {
        let mut wrong = [0_u64; LINE];
        let begin = first;
        for slot in block {
            let line = lines.line(first);
            let (words, _) = slot.as_chunks::<8>();
            for ((wrong, word), seen) in wrong.iter_mut().zip(line).zip(words) {
                *wrong |= word ^ u64::from_ne_bytes(*seen);
            }
            first += LINE as u64;
        }
        if wrong != [0; LINE] {
            words_of(lines, begin, number * LINES_AT_ONCE * LINE, block, found);
        }
    }
}

/// Word by word, once a block is known to hold a wrong one.
#[cold]
fn words_of<L: Lines>(
    lines: L,
    first: u64,
    number: usize,
    block: &[[u8; LINE_BYTES]],
    found: &mut dyn FnMut(usize, u64, u64),
) {
    for (line, slot) in block.iter().enumerate() {
        let expected = lines.line(first + (line * LINE) as u64);
        for (at, (word, seen)) in expected.into_iter().zip(slot.as_chunks::<8>().0).enumerate() {
            let seen = u64::from_ne_bytes(*seen);
            if seen != word {
                found(number + line * LINE + at, word, seen);
            }
        }
    }
}
