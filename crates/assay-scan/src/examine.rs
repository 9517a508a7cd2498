//! A closer look at what failed or came back wrong, one request at a time, while nothing else is under way.
//!
//! A request that fails is repeated in ever smaller pieces until the sectors that are bad have a name; all others are
//! written or verified nevertheless. What came back wrong is read a second time: wrong again means the medium, right
//! means the way to here.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::device::{Device, Op};
use crate::engine::{Engine, Halt, Request};
use crate::findings::{BadRange, Class, Reread};
use crate::pattern::{SECTOR, Wrong};
use crate::plan::Pass;
use crate::report::{Event, Stop};

/// How long is waited at a time before looking at the clock.
const POLL: Duration = Duration::from_millis(200);
/// How often a request is repeated that the system has no memory for right now.
const PATIENCE: usize = 8;

/// Two buffers: the one in question, and one to read into again.
pub(crate) type Pair = (usize, usize);

impl<D: Device> Engine<'_, D> {
    /// Repeats a failed request in pieces, and names the sectors that stay bad.
    pub(crate) fn take_apart(
        &mut self,
        pass: &Pass,
        op: Op,
        pair: Pair,
        request: Request,
        errno: Errno,
    ) -> Result<(), Halt> {
        self.stop_if_gone(errno)?;
        let before = self.tally.bad.counts.total();
        self.piece_by_piece(pass, op, pair, (request.offset, request.length), 0)?;
        if self.tally.bad.counts.total() == before {
            self.tally.recovered += 1;
        }
        Ok(())
    }

    fn piece_by_piece(
        &mut self,
        pass: &Pass,
        op: Op,
        pair: Pair,
        (start, length): (u64, usize),
        level: usize,
    ) -> Result<(), Halt> {
        let smallest = level + 1 == self.pieces.len();
        let size = self.pieces[level];
        for from in (0..length).step_by(size) {
            let (offset, piece) = (start + from as u64, size.min(length - from));
            if self.is_cancelled() {
                // The last checkpoint stands; this place is looked at again when the scan is resumed.
                return Err(Halt::Stop(Stop::Cancelled));
            }
            if op == Op::Write {
                self.generator.fill(pass.pattern, offset, &mut self.device.buffer(pair.0)[..piece]);
            }
            match self.alone(pair.0, op, offset, piece)? {
                Ok(()) if op == Op::Write => self.good(pass, piece as u64),
                Ok(()) => self.check(pass, pair, offset, piece)?,
                Err(errno) => {
                    self.stop_if_gone(errno)?;
                    if smallest {
                        self.bad_block(pass, op, offset, piece, errno)?;
                    } else {
                        self.piece_by_piece(pass, op, pair, (offset, piece), level + 1)?;
                    }
                }
            }
            self.tick();
        }
        Ok(())
    }

    fn bad_block(
        &mut self,
        pass: &Pass,
        op: Op,
        offset: u64,
        length: usize,
        errno: Errno,
    ) -> Result<(), Halt> {
        if is_ours(errno) {
            return Err(self.refused(offset, errno));
        }
        let class = if op == Op::Read { Class::Unreadable } else { Class::Unwritable };
        let errno = Some(errno.raw_os_error());
        self.report(&BadRange { errno, ..self.range(pass, offset, length, class) })?;
        self.bad(length as u64);
        Ok(())
    }

    /// Looks at a buffer that is not what was written.
    pub(crate) fn examine(&mut self, pass: &Pass, pair: Pair, request: Request) -> Result<(), Halt> {
        self.check(pass, pair, request.offset, request.length)
    }

    /// Counts the right sectors of a buffer and reports the wrong ones.
    fn check(&mut self, pass: &Pass, pair: Pair, offset: u64, length: usize) -> Result<(), Halt> {
        let (first, second) = pair;
        if self.generator.is_right(pass.pattern, offset, &self.device.buffer(first)[..length]) {
            self.good(pass, length as u64);
            return Ok(());
        }
        let again = self.alone(second, Op::Read, offset, length)?;
        if let Err(errno) = again {
            self.stop_if_gone(errno)?;
        }
        let (found, repeated) = self.device.buffers(first, second);
        let mut wrong = Vec::new();
        for from in (0..length).step_by(SECTOR) {
            let (at, part) = (offset + from as u64, from..from + SECTOR);
            let found = &found[part.clone()];
            let Some(what) = self.generator.examine(pass.pattern, &pass.before, at, found) else {
                continue;
            };
            let repeated = &repeated[part];
            let reread = match again {
                Err(_) => Reread::Failed,
                Ok(()) if repeated == found => Reread::Same,
                Ok(()) if self.generator.is_right(pass.pattern, at, repeated) => Reread::Right,
                Ok(()) => Reread::Different,
            };
            wrong.push((at, what, reread));
        }
        self.good(pass, (length - wrong.len() * SECTOR) as u64);
        for (at, what, reread) in wrong {
            let class = match what {
                Wrong::Corrupt { .. } => Class::Corrupt,
                Wrong::Aliased { .. } => Class::Aliased,
                Wrong::Stale { .. } => Class::Stale,
            };
            let mut range = BadRange { reread: Some(reread), ..self.range(pass, at, SECTOR, class) };
            match what {
                Wrong::Corrupt { bits, filled } => {
                    range.wrong_bits = u64::from(bits);
                    range.filled = filled;
                }
                Wrong::Aliased { other } => range.other = Some(other),
                Wrong::Stale { other } => range.other = other,
            }
            self.bad(SECTOR as u64);
            self.report(&range)?;
        }
        Ok(())
    }

    fn range(&self, pass: &Pass, offset: u64, length: usize, class: Class) -> BadRange {
        BadRange {
            offset,
            length: length as u64,
            class,
            pass: self.number as u32,
            pattern: pass.pattern,
            other: None,
            errno: None,
            wrong_bits: 0,
            filled: None,
            reread: None,
        }
    }

    /// Keeps and tells what is bad; ends the scan where that is enough.
    fn report(&mut self, range: &BadRange) -> Result<(), Halt> {
        let options = &self.job.options;
        if self.tally.bad.add(range.clone(), options.keep_ranges) {
            (self.on_event)(Event::Found(range));
        }
        let counts = self.tally.bad.counts;
        if counts.errors() > options.max_error_bytes {
            return Err(Halt::Stop(Stop::TooManyErrors));
        }
        if counts.wrong() > options.max_wrong_bytes {
            return Err(Halt::Stop(Stop::TooMuchWrong));
        }
        Ok(())
    }

    /// One request, with nothing else under way.
    fn alone(&mut self, slot: usize, op: Op, offset: u64, length: usize) -> Result<Result<(), Errno>, Halt> {
        let mut repeated = 0;
        loop {
            let result = self.once(slot, op, offset, length)?;
            match result {
                Ok(moved) if moved == length => return Ok(Ok(())),
                Ok(_) => return Ok(Err(Errno::IO)),
                Err(Errno::AGAIN | Errno::INTR | Errno::NOMEM) if repeated < PATIENCE => repeated += 1,
                Err(errno) => return Ok(Err(errno)),
            }
        }
    }

    fn once(
        &mut self,
        slot: usize,
        op: Op,
        offset: u64,
        length: usize,
    ) -> Result<Result<usize, Errno>, Halt> {
        self.device.start(slot, op, offset, length).map_err(|errno| self.refused(offset, errno))?;
        let since = Instant::now();
        let mut told = false;
        loop {
            if let Some(done) = self.wait(POLL)?
                && done.slot == slot
            {
                self.measure(since.elapsed());
                return Ok(done.result);
            }
            told = self.is_stalled(offset, since, told)?;
            self.tick();
        }
    }

    fn stop_if_gone(&self, errno: Errno) -> Result<(), Halt> {
        if matches!(errno, Errno::NODEV | Errno::NXIO) || !self.device.is_there() {
            return Err(Halt::Stop(Stop::Gone { errno: errno.raw_os_error() }));
        }
        Ok(())
    }
}

/// Errors that say something about this program or this system, and nothing about the device.
fn is_ours(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::INVAL
            | Errno::FAULT
            | Errno::BADF
            | Errno::NOMEM
            | Errno::AGAIN
            | Errno::INTR
            | Errno::PERM
            | Errno::ACCESS
            | Errno::OPNOTSUPP
            | Errno::FBIG
    )
}
