//! The memory under test: anonymous pages, taken piece by piece while enough stays free for everybody else, locked
//! where that is allowed, and told apart by their physical addresses where the kernel tells them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use memmap2::{Advice, MmapMut};

use super::{Meminfo, MemoryError, MemoryPlan};

/// Most that is taken at once, and the unit in which threads share the work.
const LARGEST: u64 = 64 << 20;
/// Least that is taken at once, when little is left.
const SMALLEST: u64 = 1 << 20;
/// What the kernel's page map counts in.
const PAGE: usize = 4096;
/// Of an entry of the page map: the page is in memory.
const PRESENT: u64 = 1 << 63;
/// Of an entry of the page map: the number of the page. Zero for those who may not know it.
const NUMBER: u64 = (1 << 55) - 1;

/// Everything under test.
pub(crate) struct Region {
    chunks: Vec<Chunk>,
    locked: bool,
}

/// A piece of it.
pub(crate) struct Chunk {
    /// Where it begins in the region, in bytes.
    pub(crate) offset: u64,
    map: MmapMut,
}

impl Region {
    /// Takes as much as the plan asks for, or as much as there is above its reserve.
    pub(super) fn take(plan: &MemoryPlan) -> Result<Self, MemoryError> {
        let taking = Taking {
            plan,
            state: Mutex::new(State { taken: 0, under_way: 0, exhausted: false, problem: None }),
            moved: Condvar::new(),
        };
        // In threads: the kernel clears every page that it gives out.
        let pieces: Vec<(MmapMut, bool)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..plan.threads).map(|_| scope.spawn(|| taking.work())).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
        });
        let state = taking.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(problem) = state.problem {
            return Err(MemoryError::Meminfo(problem));
        }
        if pieces.is_empty() {
            let available = Meminfo::read().map_err(MemoryError::Meminfo)?.available;
            return Err(MemoryError::Nothing { wanted: plan.bytes, available, reserve: plan.reserve });
        }
        let locked = pieces.iter().all(|(_, locked)| *locked);
        let mut offset = 0;
        let chunks = pieces.into_iter().map(|(map, _)| {
            let chunk = Chunk { offset, map };
            offset += chunk.bytes();
            chunk
        });
        Ok(Self { chunks: chunks.collect(), locked })
    }

    pub(crate) fn chunks(&mut self) -> &mut [Chunk] {
        &mut self.chunks
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.chunks.iter().map(Chunk::bytes).sum()
    }

    pub(crate) fn locked(&self) -> bool {
        self.locked
    }

    /// What is at a place now, and where that is.
    pub(crate) fn look(&self, offset: u64) -> Option<(u64, Option<u64>)> {
        let chunk = self.chunks.iter().find(|chunk| (chunk.offset..chunk.end()).contains(&offset))?;
        let at = (offset - chunk.offset) as usize;
        let word = std::hint::black_box(&chunk.map).get(at..at + 8)?.try_into().ok()?;
        Some((u64::from_ne_bytes(word), chunk.physical(at)))
    }
}

impl Chunk {
    pub(crate) fn bytes(&self) -> u64 {
        self.map.len() as u64
    }

    fn end(&self) -> u64 {
        self.offset + self.bytes()
    }

    pub(crate) fn content(&self) -> &[u8] {
        // What was written shall be read from memory, whatever the compiler knows of it.
        std::hint::black_box(&self.map)
    }

    pub(crate) fn content_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }

    /// The physical address of a byte; `None` for those who may not know it.
    fn physical(&self, at: usize) -> Option<u64> {
        let address = self.map.as_ptr() as usize + at;
        let mut entry = [0; 8];
        let map = File::open("/proc/self/pagemap").ok()?;
        map.read_exact_at(&mut entry, (address / PAGE * 8) as u64).ok()?;
        let entry = u64::from_ne_bytes(entry);
        let number = entry & NUMBER;
        (entry & PRESENT != 0 && number != 0).then(|| number * PAGE as u64 + (address % PAGE) as u64)
    }
}

/// Threads that take memory.
struct Taking<'a> {
    plan: &'a MemoryPlan,
    state: Mutex<State>,
    /// Told when a piece is there.
    moved: Condvar,
}

struct State {
    taken: u64,
    /// Granted and not yet there: the kernel still counts it as free.
    under_way: u64,
    exhausted: bool,
    problem: Option<io::Error>,
}

impl Taking<'_> {
    fn work(&self) -> Vec<(MmapMut, bool)> {
        let mut pieces = Vec::new();
        while let Some(size) = self.grant() {
            let piece = take(size as usize);
            let mut state = self.lock();
            state.under_way -= size;
            match piece {
                Ok(piece) => {
                    state.taken += size;
                    pieces.push(piece);
                }
                // What is there is tested.
                Err(_) => state.exhausted = true,
            }
            drop(state);
            self.moved.notify_all();
        }
        pieces
    }

    /// How much may be taken next; `None` at the end.
    fn grant(&self) -> Option<u64> {
        let mut state = self.lock();
        loop {
            if state.exhausted || state.problem.is_some() {
                return None;
            }
            let available = match Meminfo::read() {
                Ok(meminfo) => meminfo.available,
                Err(problem) => {
                    state.problem = Some(problem);
                    return None;
                }
            };
            let room = available.saturating_sub(self.plan.reserve).saturating_sub(state.under_way);
            let wanted = self.plan.bytes.saturating_sub(state.taken).saturating_sub(state.under_way);
            let mut size = LARGEST;
            while size >= SMALLEST {
                if size <= room.min(wanted) {
                    state.under_way += size;
                    return Some(size);
                }
                size /= 2;
            }
            // What is under way may turn out to have left room.
            if state.under_way == 0 || wanted < SMALLEST {
                return None;
            }
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Maps a piece and makes the kernel give all of its pages; says whether they are locked.
fn take(size: usize) -> io::Result<(MmapMut, bool)> {
    let mut map = MmapMut::map_anon(size)?;
    // Faster to give out; a kernel without large pages is no reason to stop.
    let _refused = map.advise(Advice::HugePage);
    // Locking brings every page in. Without the right to lock, each page is touched.
    let locked = map.lock().is_ok();
    if !locked {
        for page in map.chunks_mut(PAGE) {
            page[0] = 1;
        }
    }
    Ok((map, locked))
}
