//! The memory of a running machine, read and written from outside: how a bit sticks, and how a sensor is set.
//!
//! Machines with `bench.memory` or `bench.sensors` keep it in a file without a name, which is reached through the
//! process that has it open. A bit that sticks anywhere would as likely crash the guest as be found, and a module
//! that crashes machines is another fault. So it sticks where a memory test is at work: in pages that were
//! rewritten as a whole, once most of the memory was.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

const PAGE: usize = 4096;
/// Pages that are looked at.
const SAMPLES: u64 = 192;
/// How often they are looked at. A test that writes memory and reads it again takes longer than that.
const LOOK: Duration = Duration::from_millis(20);
/// A piece of memory for searching.
const PIECE: u64 = 16 << 20;

/// The memory of a machine.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    file: File,
    size: u64,
}

/// Bits that stick until this is dropped.
#[derive(Debug)]
pub(crate) struct StuckBits {
    stop: Arc<AtomicBool>,
    stuck: Arc<AtomicUsize>,
    thread: Option<thread::JoinHandle<()>>,
}

/// One page that is looked at.
struct Sample {
    at: u64,
    bytes: Vec<u8>,
    /// When it was last rewritten as a whole, in looks; 0 for never.
    rewritten: u32,
}

impl GuestMemory {
    /// The memory of the QEMU process `pid`; `None` when it keeps it to itself.
    pub(crate) fn of(pid: u32) -> io::Result<Option<Self>> {
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            let path = entry?.path();
            // One that was closed meanwhile is not the memory.
            let Ok(target) = fs::read_link(&path) else { continue };
            if target.to_string_lossy().starts_with("/memfd:memory-backend") {
                let file = OpenOptions::new().read(true).write(true).open(&path)?;
                let size = file.metadata()?.len();
                return Ok(Some(Self { file, size }));
            }
        }
        Ok(None)
    }

    /// Every place where `mark` is, in the highest part of memory that has any: firmware's tables are near the top.
    pub(crate) fn find(&self, mark: &[u8]) -> io::Result<Vec<u64>> {
        let overlap = mark.len() as u64 - 1;
        let finder = memchr::memmem::Finder::new(mark);
        let mut end = self.size;
        while end > 0 {
            let start = end.saturating_sub(PIECE);
            let mut bytes = vec![0; ((end - start) + overlap.min(self.size - end)) as usize];
            self.file.read_exact_at(&mut bytes, start)?;
            let places: Vec<u64> = finder.find_iter(&bytes).map(|at| start + at as u64).collect();
            if !places.is_empty() {
                return Ok(places);
            }
            end = start;
        }
        Ok(Vec::new())
    }

    /// Overwrites what is at `at`.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    /// Makes `bits` bits stick, as soon as somebody fills the memory.
    pub(crate) fn stick(self, bits: usize) -> StuckBits {
        let stop = Arc::new(AtomicBool::new(false));
        let stuck = Arc::new(AtomicUsize::new(0));
        let (told, count) = (Arc::clone(&stop), Arc::clone(&stuck));
        let thread = thread::spawn(move || {
            if let Err(error) = self.hold(bits, &told, &count) {
                tracing::warn!("a machine's memory cannot be written any more: {error}");
            }
        });
        StuckBits { stop, stuck, thread: Some(thread) }
    }

    fn hold(&self, bits: usize, stop: &AtomicBool, count: &AtomicUsize) -> io::Result<()> {
        let mut samples = self.samples()?;
        let mut look = 0;
        while !stop.load(Ordering::Relaxed) {
            look += 1;
            for sample in &mut samples {
                sample.look(self, look)?;
            }
            if let Some(chosen) = choose(&samples, bits) {
                let cells: Vec<_> = chosen.into_iter().map(Sample::free_bit).collect();
                for (at, _) in &cells {
                    tracing::info!("a bit sticks at {at:#x} of a machine's memory");
                }
                count.store(cells.len(), Ordering::Relaxed);
                return self.press(&cells, stop);
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Sets the bits again and again.
    fn press(&self, cells: &[(u64, u8)], stop: &AtomicBool) -> io::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            for (at, mask) in cells {
                let mut byte = [0];
                self.file.read_exact_at(&mut byte, *at)?;
                if byte[0] & mask == 0 {
                    self.write(*at, &[byte[0] | mask])?;
                }
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Pages spread over memory, but for the first and the last part, where firmware and kernel are.
    fn samples(&self) -> io::Result<Vec<Sample>> {
        let pages = self.size / PAGE as u64;
        let (from, until) = (pages / 10, pages - pages / 20);
        let step = ((until - from) / SAMPLES).max(1);
        (0..SAMPLES.min(until - from))
            .map(|at| {
                let at = (from + at * step) * PAGE as u64;
                let mut bytes = vec![0; PAGE];
                self.file.read_exact_at(&mut bytes, at)?;
                Ok(Sample { at, bytes, rewritten: 0 })
            })
            .collect()
    }
}

impl StuckBits {
    /// How many bits stick by now.
    pub(crate) fn count(&self) -> usize {
        self.stuck.load(Ordering::Relaxed)
    }
}

impl Drop for StuckBits {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Sample {
    fn look(&mut self, memory: &GuestMemory, look: u32) -> io::Result<()> {
        let mut now = vec![0; PAGE];
        memory.file.read_exact_at(&mut now, self.at)?;
        if now == self.bytes {
            return Ok(());
        }
        let changed = now.chunks_exact(8).zip(self.bytes.chunks_exact(8)).filter(|(a, b)| a != b).count();
        let blank = now.iter().all(|byte| *byte == 0);
        // Nearly: a test may leave a word as it was by chance.
        if changed >= PAGE / 8 - 8 && !blank {
            self.rewritten = look;
        }
        self.bytes = now;
        Ok(())
    }

    /// A bit in the middle of the page that is not set now, so that it is wrong at once.
    fn free_bit(&self) -> (u64, u8) {
        let free = |at: &usize| self.bytes[*at] != 0xff;
        let byte = (PAGE / 2..PAGE).find(free).unwrap_or(PAGE / 2);
        let mask = 1 << self.bytes[byte].trailing_ones().min(7);
        (self.at + byte as u64, mask)
    }
}

/// The pages that were rewritten last, once half of all were: then somebody is filling the memory.
fn choose(samples: &[Sample], bits: usize) -> Option<Vec<&Sample>> {
    let mut rewritten: Vec<_> = samples.iter().filter(|sample| sample.rewritten > 0).collect();
    if rewritten.len() * 2 < samples.len() || rewritten.is_empty() {
        return None;
    }
    rewritten.sort_by_key(|sample| std::cmp::Reverse(sample.rewritten));
    rewritten.truncate(bits.max(1));
    Some(rewritten)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn memory(mib: u64) -> (File, GuestMemory) {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(mib << 20).expect("sized");
        let size = mib << 20;
        (file.try_clone().expect("cloned"), GuestMemory { file, size })
    }

    #[test]
    fn a_mark_is_found_across_pieces_and_everywhere_near_the_top() {
        let (file, memory) = memory(40);
        assert!(memory.find(b"MARK OF THE TEST").expect("searched").is_empty());
        let across = (40 << 20) - PIECE - 3;
        file.write_all_at(b"MARK OF THE TEST", across).expect("written");
        assert_eq!(memory.find(b"MARK OF THE TEST").expect("searched"), [across]);
        for at in [39 << 20, (39 << 20) + 100] {
            file.write_all_at(b"MARK OF THE TEST", at).expect("written");
        }
        let top = [39 << 20, (39 << 20) + 100];
        assert_eq!(memory.find(b"MARK OF THE TEST").expect("searched"), top);
    }

    #[test]
    fn a_bit_sticks_where_a_test_is_at_work_and_nowhere_before() {
        let (file, memory) = memory(16);
        let stuck = memory.stick(2);
        // A page here and there is no test.
        file.write_all_at(&[0x11; PAGE], 8 << 20).expect("written");
        let until = Instant::now() + Duration::from_secs(20);
        let mut pattern = 1_u8;
        while stuck.count() == 0 {
            assert!(Instant::now() < until, "it notices the test");
            file.write_all_at(&vec![pattern; 16 << 20], 0).expect("written");
            pattern = pattern.wrapping_mul(3);
        }
        assert_eq!(stuck.count(), 2);
        // A byte that is written while its bit is set may keep other bits of before, until it is written again.
        let mut wrong = Vec::new();
        while wrong.len() != 2 || !wrong.iter().copied().all(u8::is_power_of_two) {
            assert!(Instant::now() < until, "one bit each shows, and no other: {wrong:?}");
            file.write_all_at(&vec![0; 16 << 20], 0).expect("written");
            thread::yield_now();
            let mut now = vec![0; 16 << 20];
            file.read_exact_at(&mut now, 0).expect("read");
            wrong = now.into_iter().filter(|byte| *byte != 0).collect();
        }
    }
}
