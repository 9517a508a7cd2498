//! The memory test: fills as much memory as it may have with words that name their own address, reads all of it back,
//! and counts both, so that a verdict can say how much of the memory it speaks for.
//!
//! Every pass writes the whole region before any of it is verified: what is read back has left every cache long ago.
//! A word holds its own address mixed with the pass's key, so that a line that was written to the wrong place is found
//! as well as a bit that flipped; the next pass writes the inverse, so that every bit has been in both states. What one
//! thread wrote another one verifies.
//!
//! A timed stress is no substitute: one that verifies only when it gets round to it can miss every flipped bit.

mod pattern;
mod region;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use pattern::MemoryPattern;
use region::{Chunk, Region};

/// Mismatches that are kept one by one; all are counted.
const KEPT: u64 = 64;

/// What is to be tested, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// How much to ask the kernel for, in bytes; less is tested where it gives less.
    pub bytes: u64,
    /// Memory to leave to everybody else, in bytes: no chunk is taken that would leave less than this available.
    pub reserve: u64,
    /// Threads; each writes and verifies its share.
    pub threads: usize,
    /// Each is one write of everything and one verification of everything.
    pub patterns: Vec<MemoryPattern>,
    /// How often all patterns are gone through, at least once.
    pub rounds: u32,
    /// No new pass begins after this; the one at work is finished.
    pub at_most: Option<Duration>,
    /// Whether no new pass begins once a word was wrong.
    pub until_wrong: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryReport {
    /// What the plan asked for, in bytes.
    pub asked: u64,
    /// What the kernel gave: the region under test, in bytes.
    pub region: u64,
    /// Whether all of it was locked, so that none of it was a page in a swap file.
    pub locked: bool,
    /// Bytes written, over all passes.
    pub written: u64,
    /// Bytes read back and compared, over all passes.
    pub verified: u64,
    /// Passes that wrote and verified the whole region.
    pub passes: u32,
    /// Words that did not hold what was written to them.
    pub mismatches: u64,
    /// The first of them.
    pub flips: Vec<Flip>,
    /// How long the passes took, in seconds.
    pub seconds: f64,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

impl MemoryReport {
    /// Bytes moved per second: written and read back.
    pub fn rate(&self) -> f64 {
        (self.written + self.verified) as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }
}

/// One word that did not hold what was written to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flip {
    /// Where in the region, in bytes.
    pub offset: u64,
    /// The physical address, where the kernel tells it (root only).
    pub physical: Option<u64>,
    /// What was written.
    pub expected: u64,
    /// What was read.
    pub seen: u64,
    /// What is read the second time; equal to `expected` when only the way was disturbed.
    pub again: u64,
    /// The pass, from 1.
    pub pass: u32,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryProgress {
    /// Bytes written and verified so far.
    pub done: u64,
    /// Bytes to write and verify in all.
    pub total: u64,
    /// Mismatches so far.
    pub mismatches: u64,
    /// Seconds left at the rate so far; none before there is one.
    pub left_s: Option<f64>,
}

/// Nothing could be tested.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The kernel gave nothing.
    #[error(
        "no memory to test: {wanted} bytes were asked for and {available} are available, of which {reserve} stay free"
    )]
    Nothing {
        /// Asked for.
        wanted: u64,
        /// What the kernel says is available.
        available: u64,
        /// What was to stay free.
        reserve: u64,
    },
    /// The kernel does not say how much there is.
    #[error("/proc/meminfo does not say how much memory is available: {0}")]
    Meminfo(io::Error),
    /// A plan without patterns, rounds or threads tests nothing.
    #[error("the plan tests nothing: it needs a pattern, a round and a thread")]
    Empty,
}

/// What the kernel says of its memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meminfo {
    /// All that the kernel manages.
    pub total: u64,
    /// What could be given out without swapping.
    pub available: u64,
}

impl Meminfo {
    /// Reads `/proc/meminfo`.
    pub fn read() -> io::Result<Self> {
        let text = std::fs::read_to_string("/proc/meminfo")?;
        Self::parse(&text).ok_or_else(|| io::Error::other("MemTotal or MemAvailable is missing"))
    }

    /// Reads the text of `/proc/meminfo`; `None` where one of the two is missing.
    pub fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? * 1024)
        };
        Some(Self { total: field("MemTotal:")?, available: field("MemAvailable:")? })
    }
}

/// Tests memory. `progress` is told about once a second and after each pass; `stop` ends it at the next chunk.
pub fn test_memory(
    plan: &MemoryPlan,
    progress: &(dyn Fn(MemoryProgress) + Sync),
    stop: &AtomicBool,
) -> Result<MemoryReport, MemoryError> {
    run(plan, progress, stop, &|_| ())
}

/// As [`test_memory`]; `between` is called after each write of everything, before it is verified.
fn run(
    plan: &MemoryPlan,
    progress: &(dyn Fn(MemoryProgress) + Sync),
    stop: &AtomicBool,
    between: &dyn Fn(&mut Region),
) -> Result<MemoryReport, MemoryError> {
    if plan.patterns.is_empty() || plan.rounds == 0 || plan.threads == 0 {
        return Err(MemoryError::Empty);
    }
    let mut region = Region::take(plan)?;
    let begun = Instant::now();
    let total_passes = u64::from(plan.rounds) * plan.patterns.len() as u64;
    let shared = Shared {
        done: AtomicU64::new(0),
        mismatches: AtomicU64::new(0),
        flips: Mutex::new(Vec::new()),
        total: region.bytes() * 2 * total_passes,
        begun,
        told: Mutex::new(begun),
        progress,
        stop,
    };
    let mut report = MemoryReport {
        asked: plan.bytes,
        region: region.bytes(),
        locked: region.locked(),
        ..MemoryReport::default()
    };
    let passes = (0..plan.rounds).flat_map(|_| plan.patterns.iter());
    for (pass, pattern) in (1..).zip(passes) {
        if plan.at_most.is_some_and(|limit| pass > 1 && begun.elapsed() >= limit) {
            break;
        }
        report.written += shared.each(&mut region, plan.threads, 0, &|chunk| {
            pattern.fill(chunk.offset, pass, chunk.content_mut());
        });
        between(&mut region);
        // Shifted by one thread: what one wrote another one verifies.
        report.verified +=
            shared.each(&mut region, plan.threads, 1, &|chunk| shared.verify(*pattern, pass, chunk));
        shared.look_again(&region, pass);
        if stop.load(Ordering::Relaxed) {
            report.stopped = true;
            break;
        }
        report.passes = pass;
        if shared.mismatches.load(Ordering::Relaxed) > 0 && plan.until_wrong {
            break;
        }
    }
    shared.tell();
    report.seconds = begun.elapsed().as_secs_f64();
    report.mismatches = shared.mismatches.load(Ordering::Relaxed);
    report.flips = shared.flips.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.flips.sort_by_key(|flip| (flip.pass, flip.offset));
    Ok(report)
}

/// What the threads share.
struct Shared<'a> {
    done: AtomicU64,
    mismatches: AtomicU64,
    flips: Mutex<Vec<Flip>>,
    total: u64,
    begun: Instant,
    told: Mutex<Instant>,
    progress: &'a (dyn Fn(MemoryProgress) + Sync),
    stop: &'a AtomicBool,
}

impl Shared<'_> {
    /// Does something to every chunk, in threads; returns how many bytes that were.
    fn each(
        &self,
        region: &mut Region,
        threads: usize,
        shift: usize,
        work: &(dyn Fn(&mut Chunk) + Sync),
    ) -> u64 {
        let bytes = AtomicU64::new(0);
        let mut shares: Vec<Vec<&mut Chunk>> = (0..threads).map(|_| Vec::new()).collect();
        for (index, chunk) in region.chunks().iter_mut().enumerate() {
            shares[(index + shift) % threads].push(chunk);
        }
        std::thread::scope(|scope| {
            for share in shares {
                scope.spawn(|| {
                    for chunk in share {
                        if self.stop.load(Ordering::Relaxed) {
                            return;
                        }
                        work(chunk);
                        let size = chunk.bytes();
                        bytes.fetch_add(size, Ordering::Relaxed);
                        self.done.fetch_add(size, Ordering::Relaxed);
                        self.tell_now_and_then();
                    }
                });
            }
        });
        bytes.into_inner()
    }

    fn verify(&self, pattern: MemoryPattern, pass: u32, chunk: &Chunk) {
        pattern.differing(chunk.offset, pass, chunk.content(), &mut |index, expected, seen| {
            // All are counted, and only the first are kept: a module that is gone makes millions.
            if self.mismatches.fetch_add(1, Ordering::Relaxed) < KEPT {
                let offset = chunk.offset + index as u64 * 8;
                let flip = Flip { offset, physical: None, expected, seen, again: seen, pass };
                self.flips.lock().unwrap_or_else(PoisonError::into_inner).push(flip);
            }
        });
    }

    /// Reads the mismatches of a pass once more, and asks where they are. Everything else was read in between, so that
    /// the word comes from memory again and not from a cache.
    fn look_again(&self, region: &Region, pass: u32) {
        let mut flips = self.flips.lock().unwrap_or_else(PoisonError::into_inner);
        for flip in flips.iter_mut().filter(|flip| flip.pass == pass) {
            if let Some((again, physical)) = region.look(flip.offset) {
                (flip.again, flip.physical) = (again, physical);
            }
        }
    }

    fn tell_now_and_then(&self) {
        let Ok(mut told) = self.told.try_lock() else { return };
        if told.elapsed() >= Duration::from_secs(1) {
            *told = Instant::now();
            self.tell();
        }
    }

    fn tell(&self) {
        let done = self.done.load(Ordering::Relaxed);
        let rate = done as f64 / self.begun.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
        (self.progress)(MemoryProgress {
            done,
            total: self.total,
            mismatches: self.mismatches.load(Ordering::Relaxed),
            left_s: (done > 0).then(|| self.total.saturating_sub(done) as f64 / rate),
        });
    }
}

#[cfg(test)]
#[path = "memory/tests.rs"]
mod tests;
