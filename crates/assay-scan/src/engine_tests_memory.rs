//! A device in memory that breaks in every way that the engine must tell apart.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;

use crate::device::{Device, Done, Op};
use crate::engine::SPARE;
use crate::pattern::SECTOR;
use crate::scan::Job;

/// The medium and its faults, which a test changes while the scan runs.
#[derive(Default)]
pub(super) struct Medium {
    /// By place; what is not there reads as zeros.
    pub(super) sectors: HashMap<u64, [u8; SECTOR]>,
    /// How many bytes it really has, where that is less than it says.
    pub(super) room: Option<u64>,
    pub(super) unreadable: BTreeSet<u64>,
    pub(super) unwritable: BTreeSet<u64>,
    /// Writes to these are acknowledged and forgotten.
    pub(super) forgets: BTreeSet<u64>,
    /// Reads of these are wrong this many times.
    pub(super) flickers: HashMap<u64, u32>,
    /// So many requests fail, whatever they are.
    pub(super) failing: u32,
    /// Requests over these do not come back.
    pub(super) swallows: BTreeSet<u64>,
    pub(super) gone: bool,
    pub(super) no_flush: bool,
    pub(super) flushes: u32,
    pub(super) requests: u64,
}

/// A device that answers the last request first.
pub(super) struct Memory {
    medium: Rc<RefCell<Medium>>,
    buffers: Vec<Vec<u8>>,
    queue: VecDeque<(usize, Op, u64, usize)>,
}

impl Memory {
    pub(super) fn new(medium: &Rc<RefCell<Medium>>, job: &Job) -> Self {
        let slots = job.options.write_depth.max(job.options.verify_depth) + SPARE;
        let buffers = vec![vec![0; job.options.request]; slots];
        Self { medium: Rc::clone(medium), buffers, queue: VecDeque::new() }
    }

    fn answer(&mut self, slot: usize, op: Op, offset: u64, length: usize) -> Result<usize, Errno> {
        let medium = &mut *self.medium.borrow_mut();
        medium.requests += 1;
        if medium.gone {
            return Err(Errno::NODEV);
        }
        if medium.failing > 0 {
            medium.failing -= 1;
            return Err(Errno::IO);
        }
        let range = offset..offset + length as u64;
        let bad = if op == Op::Read { &medium.unreadable } else { &medium.unwritable };
        if bad.range(range).next().is_some() {
            return Err(Errno::IO);
        }
        let buffer = &mut self.buffers[slot][..length];
        for (at, bytes) in (offset..).step_by(SECTOR).zip(buffer.chunks_mut(SECTOR)) {
            let place = medium.room.map_or(at, |room| at % room);
            match op {
                Op::Write if medium.forgets.contains(&at) => {}
                Op::Write => {
                    medium.sectors.insert(place, (&*bytes).try_into().expect("a sector"));
                }
                Op::Read => {
                    bytes.copy_from_slice(medium.sectors.get(&place).unwrap_or(&[0; SECTOR]));
                    if let Some(left) = medium.flickers.get_mut(&at).filter(|left| **left > 0) {
                        *left -= 1;
                        bytes[9] ^= 0x10;
                    }
                }
            }
        }
        Ok(length)
    }
}

impl Device for Memory {
    fn buffer(&mut self, slot: usize) -> &mut [u8] {
        assert!(self.queue.iter().all(|(busy, ..)| *busy != slot), "slot {slot} belongs to the device");
        &mut self.buffers[slot]
    }

    fn buffers(&mut self, a: usize, b: usize) -> (&mut [u8], &mut [u8]) {
        let [a, b] = self.buffers.get_disjoint_mut([a, b]).expect("two slots");
        (a, b)
    }

    fn start(&mut self, slot: usize, op: Op, offset: u64, length: usize) -> Result<(), Errno> {
        assert!(length > 0 && length.is_multiple_of(SECTOR) && offset.is_multiple_of(SECTOR as u64));
        self.queue.push_back((slot, op, offset, length));
        Ok(())
    }

    fn wait(&mut self, _: Duration) -> Result<Option<Done>, Errno> {
        let swallows = |offset: u64, length: usize| {
            self.medium.borrow().swallows.range(offset..offset + length as u64).next().is_some()
        };
        let Some(at) = self.queue.iter().rposition(|(_, _, offset, length)| !swallows(*offset, *length))
        else {
            return Ok(None);
        };
        let (slot, op, offset, length) = self.queue.remove(at).expect("it is there");
        Ok(Some(Done { slot, result: self.answer(slot, op, offset, length) }))
    }

    fn flush(&mut self) -> Result<(), Errno> {
        let medium = &mut *self.medium.borrow_mut();
        medium.flushes += 1;
        if medium.no_flush { Err(Errno::IO) } else { Ok(()) }
    }

    fn zero(&mut self, offset: u64, length: u64) -> Result<(), Errno> {
        let medium = &mut *self.medium.borrow_mut();
        if medium.unwritable.range(offset..offset + length).next().is_some() {
            return Err(Errno::IO);
        }
        let forgets = &medium.forgets;
        medium.sectors.retain(|at, _| !(offset..offset + length).contains(at) || forgets.contains(at));
        Ok(())
    }

    fn is_there(&self) -> bool {
        !self.medium.borrow().gone
    }
}
