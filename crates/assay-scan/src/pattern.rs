//! What is written, and what a sector that reads back otherwise turns out to be.
//!
//! Every sector of 512 bytes, whatever the device's own block size, is its own witness: AES in counter mode over its
//! address, keyed by the scan's seed. The first 32 bytes hold its name (magic, address, seed) as well, masked with
//! the random bytes after it, so that a sector found in the wrong place still says which one it was meant to be. No
//! name is believed alone: the sector must be, to the last byte, what that address and seed produce. So aliasing,
//! misdirected and stale writes are told apart from plain corruption, and constant patterns cannot do that.
//!
//! Not cryptography: the seed is no secret. AES is here because processors make it faster than disks are.

use aes::cipher::{Array, BlockCipherEncrypt as _, KeyInit as _, consts::U16};
use aes::{Aes128Enc, Block};
use serde::{Deserialize, Serialize};

/// The unit that carries a name, in bytes. Every device's logical block is a multiple of it.
pub const SECTOR: usize = 512;

/// How much is generated at a time when checking: it stays in the processor's first cache.
const CHUNK: usize = 4096;
const LANE: usize = 16;
const MAGIC: u64 = u64::from_le_bytes(*b"assayscn");
/// Counts up when the bytes of a sector are made in another way.
const VERSION: u64 = 1;

/// What the pseudo-random data of one scan are made from. Choose a fresh one for every scan: it tells the data of
/// this scan from what an earlier one left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Seed(pub u64);

/// A seed in text is up to 16 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("a seed is up to 16 hexadecimal digits, not `{0}`")]
pub struct SeedError(String);

impl TryFrom<String> for Seed {
    type Error = SeedError;

    fn try_from(text: String) -> Result<Self, SeedError> {
        u64::from_str_radix(&text, 16).map(Self).map_err(|_| SeedError(text))
    }
}

impl From<Seed> for String {
    fn from(seed: Seed) -> Self {
        format!("{:016x}", seed.0)
    }
}

/// What a pass writes, and its verify pass expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// Pseudo-random bytes of address and seed.
    Random,
    /// The same with every bit the other way round: after both, each bit has been in both states.
    Inverse,
    /// One byte throughout, as `badblocks` writes.
    Constant(u8),
}

/// What a wrong sector holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Bytes of no known origin.
    Corrupt {
        /// How many bits differ from what was written.
        bits: u32,
        /// The whole sector is this one byte.
        filled: Option<u8>,
    },
    /// The data of another address of this scan.
    Aliased {
        /// That address, in bytes.
        other: u64,
    },
    /// The data of an earlier pass, or of an earlier scan: what was written last did not stay.
    Stale {
        /// The address that it was for, where that is another one.
        other: Option<u64>,
    },
}

/// Makes and checks the data of one scan.
pub(crate) struct Generator {
    seed: Seed,
    cipher: Aes128Enc,
}

impl Generator {
    pub(crate) fn new(seed: Seed) -> Self {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&seed.0.to_le_bytes());
        key[8..].copy_from_slice(&MAGIC.to_le_bytes());
        Self { seed, cipher: Aes128Enc::new(&key.into()) }
    }

    /// Fills `buffer`, whole sectors, with what belongs at byte `offset`.
    pub(crate) fn fill(&self, pattern: Pattern, offset: u64, buffer: &mut [u8]) {
        if let Pattern::Constant(byte) = pattern {
            buffer.fill(byte);
            return;
        }
        let mut at = offset;
        for chunk in buffer.chunks_mut(CHUNK) {
            self.random(at, chunk);
            if pattern == Pattern::Inverse {
                for byte in &mut *chunk {
                    *byte = !*byte;
                }
            }
            at += chunk.len() as u64;
        }
    }

    /// Whether `buffer` holds what belongs at byte `offset`.
    pub(crate) fn is_right(&self, pattern: Pattern, offset: u64, buffer: &[u8]) -> bool {
        let mut expected = [0; CHUNK];
        if let Pattern::Constant(byte) = pattern {
            expected.fill(byte);
            return buffer.chunks(CHUNK).all(|chunk| chunk == &expected[..chunk.len()]);
        }
        let mut at = offset;
        buffer.chunks(CHUNK).all(|chunk| {
            let expected = &mut expected[..chunk.len()];
            self.fill(pattern, at, expected);
            at += chunk.len() as u64;
            chunk == expected
        })
    }

    /// What a sector is instead of what belongs at `offset`; `None` when it is right. `before` are the patterns that
    /// this scan wrote there earlier.
    pub(crate) fn examine(
        &self,
        pattern: Pattern,
        before: &[Pattern],
        offset: u64,
        sector: &[u8],
    ) -> Option<Wrong> {
        let mut expected = [0; SECTOR];
        self.fill(pattern, offset, &mut expected);
        if sector == expected {
            return None;
        }
        let filled = sector.first().copied().filter(|first| sector.iter().all(|byte| byte == first));
        if filled.is_some_and(|byte| before.contains(&Pattern::Constant(byte))) {
            return Some(Wrong::Stale { other: None });
        }
        match Name::read(sector).filter(|name| name.is_true(self, sector)) {
            // In this scan's own pattern the right address would have been right: this one is of an earlier pass.
            Some(name) if name.address == offset => Some(Wrong::Stale { other: None }),
            Some(name) if name.seed == self.seed => Some(Wrong::Aliased { other: name.address }),
            Some(name) => Some(Wrong::Stale { other: Some(name.address) }),
            None => {
                let bits = sector.iter().zip(&expected).map(|(a, b)| (a ^ b).count_ones()).sum();
                Some(Wrong::Corrupt { bits, filled })
            }
        }
    }

    fn random(&self, offset: u64, chunk: &mut [u8]) {
        let (lanes, rest) = Array::<u8, U16>::slice_as_chunks_mut(chunk);
        debug_assert!(rest.is_empty(), "only whole sectors are made");
        let first = offset / LANE as u64;
        for (lane, number) in lanes.iter_mut().zip(first..) {
            lane.0 = pair(number, VERSION).to_le_bytes();
        }
        self.cipher.encrypt_blocks(lanes);
        for (sector, number) in lanes.chunks_exact_mut(SECTOR / LANE).zip(0_u64..) {
            let address = offset + number * SECTOR as u64;
            Name { address, seed: self.seed }.write(sector);
        }
    }
}

/// Two numbers in the bytes of one lane.
fn pair(first: u64, second: u64) -> u128 {
    u128::from(first) | u128::from(second) << 64
}

/// What a sector says of itself, in its first two lanes.
struct Name {
    address: u64,
    seed: Seed,
}

impl Name {
    /// The two lanes after it mask it: inverted with the sector, the mask takes the inversion away again.
    fn write(&self, lanes: &mut [Block]) {
        let name = [pair(MAGIC, self.address), pair(self.seed.0, VERSION)];
        for (at, plain) in name.into_iter().enumerate() {
            let mask = u128::from_le_bytes(lanes[at + 2].0);
            lanes[at].0 = (plain ^ mask).to_le_bytes();
        }
    }

    fn read(sector: &[u8]) -> Option<Self> {
        let word = |at: usize| {
            let part = |from: usize| Some(u64::from_le_bytes(sector.get(from..from + 8)?.try_into().ok()?));
            Some(part(at * 8)? ^ part(at * 8 + 2 * LANE)?)
        };
        let known = word(0)? == MAGIC && word(3)? == VERSION;
        known.then_some(Self { address: word(1)?, seed: Seed(word(2)?) })
    }

    /// Whether the whole sector is what this name's address and seed produce.
    fn is_true(&self, own: &Generator, sector: &[u8]) -> bool {
        if !self.address.is_multiple_of(SECTOR as u64) {
            return false;
        }
        let foreign;
        let generator = if self.seed == own.seed {
            own
        } else {
            foreign = Generator::new(self.seed);
            &foreign
        };
        [Pattern::Random, Pattern::Inverse]
            .iter()
            .any(|pattern| generator.is_right(*pattern, self.address, sector))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: u64 = 25 << 40;

    fn sector(seed: u64, pattern: Pattern, offset: u64) -> Vec<u8> {
        let mut sector = vec![0; SECTOR];
        Generator::new(Seed(seed)).fill(pattern, offset, &mut sector);
        sector
    }

    /// The bytes are a contract: a scan that was begun by one version goes on in the next.
    #[test]
    fn the_bytes_of_a_sector_stay_what_they_are() {
        let sector = sector(0x0123_4567_89ab_cdef, Pattern::Random, AT);
        let sum = sector.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        assert_eq!((sum, &sector[32..36]), (0x02c7_b2a1_dc5f_5ce0, &[193_u8, 92, 74, 8][..]));
    }

    #[test]
    fn a_piece_is_made_like_the_whole() {
        let generator = Generator::new(Seed(7));
        let mut whole = vec![0; 20 * SECTOR];
        for pattern in [Pattern::Random, Pattern::Inverse, Pattern::Constant(0x55)] {
            generator.fill(pattern, AT, &mut whole);
            for (at, sector) in (AT..).step_by(SECTOR).zip(whole.chunks(SECTOR)) {
                let mut alone = vec![0; SECTOR];
                generator.fill(pattern, at, &mut alone);
                assert_eq!(alone, sector);
                assert_eq!(generator.examine(pattern, &[], at, sector), None);
            }
            assert!(generator.is_right(pattern, AT, &whole));
            whole[11 * SECTOR + 3] ^= 4;
            assert!(!generator.is_right(pattern, AT, &whole));
        }
    }

    #[test]
    fn after_both_random_patterns_every_bit_was_in_both_states() {
        let (plain, inverse) = (sector(3, Pattern::Random, 0), sector(3, Pattern::Inverse, 0));
        assert!(plain.iter().zip(&inverse).all(|(a, b)| a ^ b == 0xff));
    }

    #[test]
    fn what_a_wrong_sector_holds_is_told_apart() {
        let generator = Generator::new(Seed(9));
        let examine = |pattern, before: &[Pattern], found: &[u8]| {
            generator.examine(pattern, before, AT, found).expect("it is wrong")
        };
        let random = Pattern::Random;
        let mut flipped = sector(9, random, AT);
        flipped[500] ^= 0b11;
        assert_eq!(examine(random, &[], &flipped), Wrong::Corrupt { bits: 2, filled: None });
        assert!(matches!(
            examine(random, &[], &[0xff; SECTOR]),
            Wrong::Corrupt { filled: Some(0xff), bits: 1900..2200 }
        ));
        let other = sector(9, random, AT + (4 << 30));
        assert_eq!(examine(random, &[], &other), Wrong::Aliased { other: AT + (4 << 30) });
        assert_eq!(
            examine(Pattern::Constant(0), &[random], &other),
            Wrong::Aliased { other: AT + (4 << 30) }
        );
        let inverse = sector(9, Pattern::Inverse, AT);
        assert_eq!(examine(random, &[], &inverse), Wrong::Stale { other: None });
        assert_eq!(
            examine(Pattern::Inverse, &[random], &sector(9, random, AT)),
            Wrong::Stale { other: None }
        );
        let old = sector(8, random, AT);
        assert_eq!(examine(random, &[], &old), Wrong::Stale { other: None });
        assert_eq!(examine(random, &[], &sector(8, random, 0)), Wrong::Stale { other: Some(0) });
        let constants = [Pattern::Constant(0xaa), Pattern::Constant(0x55)];
        assert_eq!(examine(constants[1], &constants[..1], &[0xaa; SECTOR]), Wrong::Stale { other: None });
    }

    #[test]
    fn a_name_is_not_believed_when_the_rest_is_another_sectors() {
        let generator = Generator::new(Seed(9));
        let mut torn = sector(9, Pattern::Random, AT + SECTOR as u64);
        torn[256..].copy_from_slice(&sector(9, Pattern::Random, AT)[256..]);
        let found = generator.examine(Pattern::Random, &[], AT, &torn);
        assert!(matches!(found, Some(Wrong::Corrupt { filled: None, .. })), "{found:?}");
    }

    #[test]
    fn a_seed_is_text_in_json() {
        let seed = Seed(u64::MAX - 1);
        let text = serde_json::to_string(&seed).expect("plain data");
        assert_eq!(text, "\"fffffffffffffffe\"");
        assert_eq!(serde_json::from_str::<Seed>(&text).expect("the same"), seed);
        assert!(serde_json::from_str::<Seed>("\"no\"").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_only_the_right_ones_are_right(
            found in proptest::collection::vec(any::<u8>(), SECTOR),
            number in 0_u64..1 << 50,
        ) {
            let generator = Generator::new(Seed(1));
            let offset = number * SECTOR as u64;
            prop_assert!(generator.examine(Pattern::Random, &[], offset, &found).is_some());
        }
    }
}
