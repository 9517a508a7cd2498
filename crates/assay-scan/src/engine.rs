//! Moves the bytes: keeps the device's queue full, checks what comes back, and stops to look where something is wrong.
//!
//! One thread, a fixed number of buffers. There are a few more buffers than requests may be under way: while the
//! device works on a full queue, the next write is made and the last read is checked, so that neither costs time as
//! long as the processor is faster than the device.
//!
//! Where a request fails or reads back wrong, the queue is let run empty first. Looking closely (`examine.rs`),
//! checkpoints and cancelling all happen then, when nothing is under way; so what they see is exact.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::checkpoint::{Checkpoint, Tally};
use crate::device::{Device, Done, Op};
use crate::identity::Identity;
use crate::pattern::Generator;
use crate::plan::{self, Pass, PassKind};
use crate::report::{Event, PassReport, Progress, ScanResult, Stall, Stop};
use crate::scan::{Job, ScanError};
use crate::zones::Direction;

/// Buffers beyond the queue: two to work on, one to read again with.
pub(crate) const SPARE: usize = 3;
/// How long is waited at a time before looking at `cancel` and the clock.
const POLL: Duration = Duration::from_millis(200);
/// How much is zeroed by one command: short enough to be cancelled and to show progress.
const ZERO_AT_ONCE: u64 = 64 << 20;

/// Scans a device with at least as many slots as the deeper queue and [`SPARE`].
pub(crate) fn run<D: Device>(
    device: D,
    identity: &Identity,
    job: &Job,
    resume: Option<Checkpoint>,
    on_event: &mut dyn FnMut(Event<'_>),
    cancel: &AtomicBool,
) -> Result<ScanResult, ScanError> {
    let passes = plan::passes(job.plan, job.leave, identity.bytes);
    let tally = match resume {
        Some(checkpoint) => checkpoint.resume(identity, job, &passes)?,
        None => Tally::new(identity.bytes, job.options.zones, passes.len()),
    };
    let now = Instant::now();
    let mut engine = Engine {
        device,
        generator: Generator::new(job.seed),
        identity,
        job,
        passes: &passes,
        number: 0,
        pieces: pieces(identity, job.options.request),
        before: (tally.nanos, tally.cpu_nanos),
        begun: (now, cpu_nanos()),
        pass_begun: (now, 0, 0),
        told: now,
        saved: (now, tally.passes.iter().map(|pass| pass.done).sum()),
        tally,
        on_event,
        cancel,
    };
    let stopped = match engine.all_passes() {
        Ok(()) => None,
        Err(Halt::Stop(stop)) => Some(stop),
        Err(Halt::Error(problem)) => return Err(problem),
    };
    engine.tell_progress();
    Ok(engine.result(stopped))
}

/// Why the engine does not go on.
#[derive(Debug)]
pub(crate) enum Halt {
    Stop(Stop),
    Error(ScanError),
}

/// A part of a pass that one request covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    position: u64,
    pub(crate) offset: u64,
    pub(crate) length: usize,
}

/// What a buffer is used for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Slot {
    Free,
    /// Filled, and to be written.
    Ready(Request),
    /// With the device.
    Busy {
        request: Request,
        since: Instant,
        told: bool,
    },
    /// Read, and to be checked.
    Landed(Request),
    /// Failed with an error, or ended early.
    Failed(Request, Errno),
    /// Read back something else than was written.
    Wrong(Request),
}

pub(crate) struct Engine<'a, D> {
    pub(crate) device: D,
    pub(crate) generator: Generator,
    pub(crate) identity: &'a Identity,
    pub(crate) job: &'a Job,
    passes: &'a [Pass],
    /// The pass that runs.
    pub(crate) number: usize,
    /// Into which pieces a failed request is taken apart, ever smaller.
    pub(crate) pieces: Vec<usize>,
    pub(crate) tally: Tally,
    /// Time that earlier runs of this scan took.
    before: (u64, u64),
    begun: (Instant, u64),
    /// When this pass went on, where, and with how much time behind it.
    pass_begun: (Instant, u64, u64),
    told: Instant,
    /// When a checkpoint was told last, and how much was done then.
    saved: (Instant, u64),
    pub(crate) on_event: &'a mut dyn FnMut(Event<'_>),
    pub(crate) cancel: &'a AtomicBool,
}

impl<D: Device> Engine<'_, D> {
    fn all_passes(&mut self) -> Result<(), Halt> {
        let passes = self.passes;
        for (number, pass) in passes.iter().enumerate() {
            let done = self.tally.passes[number].done;
            if done == pass.extents.total() {
                continue;
            }
            self.number = number;
            if !self.device.is_there() {
                return Err(Halt::Stop(Stop::Gone { errno: Errno::NODEV.raw_os_error() }));
            }
            self.pass_begun = (Instant::now(), done, self.tally.passes[number].nanos);
            let ended = match pass.kind {
                PassKind::Zero => self.zero(pass),
                PassKind::Write | PassKind::Verify | PassKind::ZeroCheck => self.transfer(pass),
            };
            self.count_time();
            ended?;
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Zeroes by the device's own command; where that fails, by writing, which also names the bad sectors.
    fn zero(&mut self, pass: &Pass) -> Result<(), Halt> {
        while let Some((offset, left)) = pass.extents.at(self.tally.passes[self.number].done) {
            let length = left.min(ZERO_AT_ONCE);
            if self.device.zero(offset, length).is_err() {
                return self.transfer(pass);
            }
            self.good(pass, length);
            self.tick();
            if self.is_cancelled() {
                self.checkpoint()?;
                return Err(Halt::Stop(Stop::Cancelled));
            }
            if self.is_checkpoint_due() {
                self.checkpoint()?;
            }
        }
        Ok(())
    }

    /// Writes or reads a whole pass from where it is.
    fn transfer(&mut self, pass: &Pass) -> Result<(), Halt> {
        let options = &self.job.options;
        let (op, depth) = match pass.kind {
            PassKind::Write | PassKind::Zero => (Op::Write, options.write_depth),
            PassKind::Verify | PassKind::ZeroCheck => (Op::Read, options.verify_depth),
        };
        let mut lane = Lane {
            op,
            depth,
            next: self.tally.passes[self.number].done,
            slots: vec![Slot::Free; depth + SPARE - 1],
            moved: Instant::now(),
        };
        let mut empty_it = false;
        loop {
            self.tick();
            empty_it |= self.is_cancelled() || self.is_checkpoint_due();
            if !empty_it {
                self.start_requests(pass, &mut lane)?;
            }
            let worked = self.work(pass, &mut lane, empty_it);
            if lane.busy() > 0 {
                let patience = if worked { Duration::ZERO } else { POLL };
                if let Some(done) = self.wait(patience)? {
                    empty_it |= self.land(pass, &mut lane, done);
                }
                self.watch_for_stalls(&mut lane)?;
            } else if !worked {
                empty_it |= lane.has_trouble();
                if empty_it {
                    self.look_closely(pass, &mut lane)?;
                    let cancelled = self.is_cancelled();
                    if cancelled || self.is_checkpoint_due() {
                        self.checkpoint()?;
                    }
                    if cancelled {
                        return Err(Halt::Stop(Stop::Cancelled));
                    }
                    empty_it = false;
                    lane.moved = Instant::now();
                } else if lane.is_idle() && pass.extents.at(lane.next).is_none() {
                    return Ok(());
                }
            }
        }
    }

    fn start_requests(&mut self, pass: &Pass, lane: &mut Lane) -> Result<(), Halt> {
        while lane.busy() < lane.depth {
            let next = match lane.op {
                Op::Write => lane.first_ready(),
                Op::Read => lane.free().and_then(|slot| Some((slot, self.take(pass, lane)?))),
            };
            let Some((slot, request)) = next else {
                return Ok(());
            };
            self.device
                .start(slot, lane.op, request.offset, request.length)
                .map_err(|errno| self.refused(request.offset, errno))?;
            lane.slots[slot] = Slot::Busy { request, since: Instant::now(), told: false };
        }
        Ok(())
    }

    /// One buffer's work, while the device has its own: makes a write, or checks a read. Whether there was any.
    fn work(&mut self, pass: &Pass, lane: &mut Lane, empty_it: bool) -> bool {
        let landed = lane.slots.iter().enumerate().find_map(|(slot, state)| match state {
            Slot::Landed(request) => Some((slot, *request)),
            _ => None,
        });
        if let Some((slot, request)) = landed {
            let found = &self.device.buffer(slot)[..request.length];
            let is_right = self.generator.is_right(pass.pattern, request.offset, found);
            lane.slots[slot] = if is_right { Slot::Free } else { Slot::Wrong(request) };
            if is_right {
                self.good(pass, request.length as u64);
            }
            return true;
        }
        if lane.op == Op::Read || empty_it {
            return false;
        }
        let Some((slot, request)) = lane.free().and_then(|slot| Some((slot, self.take(pass, lane)?))) else {
            return false;
        };
        let buffer = &mut self.device.buffer(slot)[..request.length];
        self.generator.fill(pass.pattern, request.offset, buffer);
        lane.slots[slot] = Slot::Ready(request);
        true
    }

    /// The next request of a pass.
    fn take(&self, pass: &Pass, lane: &mut Lane) -> Option<Request> {
        let (offset, left) = pass.extents.at(lane.next)?;
        let length = left.min(self.job.options.request as u64);
        let request = Request { position: lane.next, offset, length: length as usize };
        lane.next += length;
        Some(request)
    }

    /// A request has ended. Whether something is wrong with it.
    fn land(&mut self, pass: &Pass, lane: &mut Lane, done: Done) -> bool {
        let Some(Slot::Busy { request, since, .. }) = lane.slots.get(done.slot).copied() else {
            return false;
        };
        let (took, passed) = (since.elapsed(), lane.moved.elapsed());
        lane.moved = Instant::now();
        self.measure(took);
        if done.result != Ok(request.length) {
            // What moved less than it should have is as good as failed, and has no error number of its own.
            let errno = done.result.err().unwrap_or(Errno::IO);
            lane.slots[done.slot] = Slot::Failed(request, errno);
            return true;
        }
        let direction = match pass.kind {
            PassKind::Write => Some(Direction::Write),
            PassKind::Verify => Some(Direction::Verify),
            PassKind::Zero | PassKind::ZeroCheck => None,
        };
        if let Some(direction) = direction {
            self.tally.zones.add(direction, request.offset, request.length as u64, took, passed);
        }
        lane.slots[done.slot] = match lane.op {
            Op::Read => Slot::Landed(request),
            Op::Write => {
                self.good(pass, request.length as u64);
                Slot::Free
            }
        };
        false
    }

    /// Nothing is under way: what failed is taken apart, what is wrong is looked at, in the order of the device.
    fn look_closely(&mut self, pass: &Pass, lane: &mut Lane) -> Result<(), Halt> {
        let spare = lane.slots.len();
        let mut trouble: Vec<(Request, usize, Option<Errno>)> = lane
            .slots
            .iter()
            .enumerate()
            .filter_map(|(slot, state)| match state {
                Slot::Failed(request, errno) => Some((*request, slot, Some(*errno))),
                Slot::Wrong(request) => Some((*request, slot, None)),
                _ => None,
            })
            .collect();
        trouble.sort_by_key(|(request, ..)| request.position);
        // What is read back wrong lies in its buffer, and taking a failed one apart uses only that one's and the spare.
        for (request, slot, errno) in trouble {
            match errno {
                Some(errno) => self.take_apart(pass, lane.op, (slot, spare), request, errno)?,
                None => self.examine(pass, (slot, spare), request)?,
            }
            lane.slots[slot] = Slot::Free;
        }
        Ok(())
    }

    /// Waits for a request to end.
    pub(crate) fn wait(&mut self, patience: Duration) -> Result<Option<Done>, Halt> {
        self.device.wait(patience).map_err(|errno| self.refused(0, errno))
    }

    fn watch_for_stalls(&mut self, lane: &mut Lane) -> Result<(), Halt> {
        for slot in 0..lane.slots.len() {
            if let Slot::Busy { request, since, told } = lane.slots[slot] {
                let told = self.is_stalled(request.offset, since, told)?;
                lane.slots[slot] = Slot::Busy { request, since, told };
            }
        }
        Ok(())
    }

    /// Tells a stall once, and gives up on a request that takes far too long. Whether it has been told.
    pub(crate) fn is_stalled(&mut self, offset: u64, since: Instant, told: bool) -> Result<bool, Halt> {
        let took = since.elapsed();
        let stall = Stall { offset, seconds: took.as_secs_f64() };
        if took >= self.job.options.give_up {
            self.measure(took);
            return Err(Halt::Stop(Stop::Hung(stall)));
        }
        if took < self.job.options.stall {
            return Ok(told);
        }
        if self.is_cancelled() {
            // Whoever wants to end is not kept by a device that hangs; the last checkpoint stands.
            return Err(Halt::Stop(Stop::Cancelled));
        }
        if told {
            return Ok(true);
        }
        self.tally.stalls += 1;
        self.measure(took);
        (self.on_event)(Event::Stall(stall));
        Ok(true)
    }

    pub(crate) fn measure(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.tally.longest_us = self.tally.longest_us.max(us);
    }

    /// Counts bytes that are as they should be.
    pub(crate) fn good(&mut self, pass: &Pass, bytes: u64) {
        let counted = &mut self.tally.passes[self.number];
        counted.done += bytes;
        counted.good += bytes;
        match pass.kind {
            PassKind::Write => self.tally.written += bytes,
            PassKind::Verify => self.tally.verified += bytes,
            PassKind::Zero => self.tally.zeroed += bytes,
            PassKind::ZeroCheck => {}
        }
    }

    /// Counts bytes that are done and bad.
    pub(crate) fn bad(&mut self, bytes: u64) {
        self.tally.passes[self.number].done += bytes;
    }

    pub(crate) fn refused(&self, offset: u64, errno: Errno) -> Halt {
        Halt::Error(ScanError::Refused { name: self.identity.name.clone(), offset, errno })
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// Nothing is under way: makes what was written last, and says where the scan can go on from.
    fn checkpoint(&mut self) -> Result<(), Halt> {
        if matches!(self.passes[self.number].kind, PassKind::Write | PassKind::Zero)
            && let Err(errno) = self.device.flush()
        {
            let errno = errno.raw_os_error();
            let stop =
                if self.device.is_there() { Stop::FlushFailed { errno } } else { Stop::Gone { errno } };
            return Err(Halt::Stop(stop));
        }
        self.count_time();
        let checkpoint = Checkpoint::new(self.identity, self.job, self.tally.clone());
        (self.on_event)(Event::Checkpoint(&checkpoint));
        self.saved = (Instant::now(), checkpoint.done());
        Ok(())
    }

    /// Without anything new since the last one, there is nothing to save: a short interval must not stop the scan.
    fn is_checkpoint_due(&self) -> bool {
        let (when, done) = self.saved;
        when.elapsed() >= self.job.options.checkpoint_every
            && self.tally.passes.iter().map(|pass| pass.done).sum::<u64>() > done
    }

    pub(crate) fn tick(&mut self) {
        if self.told.elapsed() >= self.job.options.progress_every {
            self.tell_progress();
        }
    }

    fn tell_progress(&mut self) {
        self.told = Instant::now();
        let pass = &self.passes[self.number];
        let sum = |of: &dyn Fn(usize, &Pass) -> u64| -> u64 {
            self.passes.iter().enumerate().map(|(number, pass)| of(number, pass)).sum()
        };
        let total = sum(&|_, pass| pass.extents.total());
        let done = sum(&|number, _| self.tally.passes[number].done);
        let (since, from, _) = self.pass_begun;
        let moved = self.tally.passes[self.number].done.saturating_sub(from);
        let rate = (moved as f64 / since.elapsed().as_secs_f64().max(1e-6)) as u64;
        let progress = Progress {
            done,
            total,
            pass: self.number as u32,
            passes: self.passes.len() as u32,
            kind: pass.kind,
            pattern: pass.pattern,
            bytes_per_second: rate,
            seconds_left: (total - done).checked_div(rate),
            bad_bytes: self.tally.bad.counts.total(),
        };
        (self.on_event)(Event::Progress(progress));
    }

    fn count_time(&mut self) {
        let (since, cpu) = self.begun;
        self.tally.nanos = self.before.0 + nanos(since.elapsed());
        self.tally.cpu_nanos = self.before.1 + cpu_nanos().saturating_sub(cpu);
        let (since, _, before) = self.pass_begun;
        self.tally.passes[self.number].nanos = before + nanos(since.elapsed());
    }

    fn result(self, stopped: Option<Stop>) -> ScanResult {
        let Self { identity, job, passes, tally, .. } = self;
        let passes = passes.iter().zip(&tally.passes).map(|(pass, counted)| PassReport {
            kind: pass.kind,
            pattern: pass.pattern,
            planned: pass.extents.total(),
            done: counted.done,
            good: counted.good,
            seconds: counted.nanos as f64 / 1e9,
        });
        ScanResult {
            identity: identity.clone(),
            device_bytes: identity.bytes,
            plan: job.plan,
            leave: job.leave,
            seed: job.seed,
            passes: passes.collect(),
            bytes_written: tally.written,
            bytes_verified: tally.verified,
            bytes_zeroed: tally.zeroed,
            capacity_hint: tally.bad.capacity_hint(),
            bad_dropped: tally.bad.dropped,
            counts: tally.bad.counts,
            bad: tally.bad.kept,
            recovered: tally.recovered,
            stalls: tally.stalls,
            longest_request_seconds: tally.longest_us as f64 / 1e6,
            zones: tally.zones.report(),
            seconds: tally.nanos as f64 / 1e9,
            cpu_seconds: tally.cpu_nanos as f64 / 1e9,
            resumed: tally.resumed,
            stopped,
        }
    }
}

/// The buffers of one pass. The last of the device's is not among them: it is for reading again.
struct Lane {
    op: Op,
    depth: usize,
    /// The first position that no request has been made for.
    next: u64,
    slots: Vec<Slot>,
    /// When the last request ended.
    moved: Instant,
}

impl Lane {
    fn busy(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Busy { .. })).count()
    }

    fn free(&self) -> Option<usize> {
        self.slots.iter().position(|slot| *slot == Slot::Free)
    }

    fn is_idle(&self) -> bool {
        self.slots.iter().all(|slot| *slot == Slot::Free)
    }

    fn has_trouble(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Failed(..) | Slot::Wrong(_)))
    }

    /// The first of the filled buffers, so that what is written has no gaps.
    fn first_ready(&self) -> Option<(usize, Request)> {
        let ready = self.slots.iter().enumerate().filter_map(|(slot, state)| match state {
            Slot::Ready(request) => Some((slot, *request)),
            _ => None,
        });
        ready.min_by_key(|(_, request)| request.position)
    }
}

/// 64 KiB, the physical block, the logical block: failing is what takes long, so there are few steps.
fn pieces(identity: &Identity, request: usize) -> Vec<usize> {
    let logical = identity.logical_block as usize;
    let mut sizes = vec![64 << 10, identity.physical_block as usize, logical];
    sizes.retain(|size| *size <= request && *size >= logical && size.is_multiple_of(logical));
    sizes.dedup();
    sizes
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Processor time of this thread.
fn cpu_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, rest) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or_default() * 1_000_000_000 + rest.unwrap_or_default()
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
