//! How fast a device can be: a short run of large sequential requests at several depths, nothing made or checked.
//!
//! With this beside it a scan's speed can be judged: "96 % of what the disk can do" is a fact about the scan, half of
//! what its siblings can do is a fact about the disk. It overwrites what it touches, so it comes before a scan.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::device::{Device, Op};
use crate::pattern::{Generator, Pattern, Seed};
use crate::scan::ScanError;
use crate::target::Scannable;
use crate::uring::Uring;

const DEPTHS: [usize; 5] = [1, 4, 8, 16, 32];
const REQUEST: usize = 512 << 10;
const POLL: Duration = Duration::from_millis(200);
/// Longer than any request of a sound disk. What is still under way then is left to the device.
const GIVE_UP: Duration = Duration::from_secs(30);

/// How fast a device is by itself, at its beginning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnLimit {
    /// Reading, by depth.
    pub read: Vec<DepthRate>,
    /// Writing, by depth.
    pub write: Vec<DepthRate>,
}

/// The rate at one depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepthRate {
    /// Requests under way at a time.
    pub depth: u32,
    /// Bytes per second.
    pub bytes_per_second: u64,
}

impl OwnLimit {
    /// The best of reading.
    pub fn best_read(&self) -> Option<DepthRate> {
        self.read.iter().copied().max_by_key(|rate| rate.bytes_per_second)
    }

    /// The best of writing.
    pub fn best_write(&self) -> Option<DepthRate> {
        self.write.iter().copied().max_by_key(|rate| rate.bytes_per_second)
    }
}

/// Measures for about ten times `each`, writing first, one stretch of the device after the other from its beginning.
/// A request that fails ends the measurement with what there is until then: finding out why is the scan's work.
pub fn limit_probe(target: &Scannable, each: Duration, cancel: &AtomicBool) -> Result<OwnLimit, ScanError> {
    let handle = &target.handle;
    let deepest = DEPTHS.into_iter().max().unwrap_or(1);
    let mut device = Uring::new(handle, deepest, REQUEST).map_err(ScanError::Ring)?;
    let generator = Generator::new(Seed(0));
    for slot in 0..deepest {
        generator.fill(Pattern::Random, slot as u64 * REQUEST as u64, device.buffer(slot));
    }
    let name = &handle.identity.name;
    let mut runner = Runner { device, bytes: handle.identity.bytes, at: 0, name, cancel, hung: false };
    let write = runner.rates(Op::Write, each)?;
    runner.at = 0;
    let read = runner.rates(Op::Read, each)?;
    Ok(OwnLimit { read, write })
}

struct Runner<'a> {
    device: Uring<'a>,
    bytes: u64,
    at: u64,
    name: &'a str,
    cancel: &'a AtomicBool,
    /// A request did not come back; its buffer is not ours any more.
    hung: bool,
}

impl Runner<'_> {
    fn rates(&mut self, op: Op, each: Duration) -> Result<Vec<DepthRate>, ScanError> {
        let mut rates = Vec::new();
        for depth in DEPTHS {
            if self.hung {
                break;
            }
            let Some(bytes_per_second) = self.rate(op, depth, each)? else {
                break;
            };
            rates.push(DepthRate { depth: depth as u32, bytes_per_second });
        }
        Ok(rates)
    }

    /// Bytes per second; none when a request failed, or there was no time for one.
    fn rate(&mut self, op: Op, depth: usize, each: Duration) -> Result<Option<u64>, ScanError> {
        let begun = Instant::now();
        let (mut moved, mut last, mut busy, mut sound) = (0_u64, begun, 0, true);
        for slot in 0..depth {
            self.start(slot, op)?;
            busy += 1;
        }
        while busy > 0 {
            let Some(done) = self.device.wait(POLL).map_err(|errno| self.refused(errno))? else {
                if last.elapsed() > GIVE_UP {
                    self.hung = true;
                    return Ok(None);
                }
                continue;
            };
            busy -= 1;
            match done.result {
                Ok(bytes) if bytes > 0 => moved += bytes as u64,
                _ => sound = false,
            }
            last = Instant::now();
            if sound && begun.elapsed() < each && !self.cancel.load(Ordering::Relaxed) {
                self.start(done.slot, op)?;
                busy += 1;
            }
        }
        let seconds = last.duration_since(begun).as_secs_f64();
        Ok((sound && seconds > 0.0).then(|| (moved as f64 / seconds) as u64))
    }

    fn start(&mut self, slot: usize, op: Op) -> Result<(), ScanError> {
        if self.at >= self.bytes {
            self.at = 0;
        }
        let length = (self.bytes - self.at).min(REQUEST as u64);
        let at = self.at;
        self.at += length;
        self.device.start(slot, op, at, length as usize).map_err(|errno| self.refused(errno))
    }

    fn refused(&self, errno: rustix::io::Errno) -> ScanError {
        ScanError::Refused { name: self.name.to_owned(), offset: self.at, errno }
    }
}
