//! Device memory: taken, filled, read back, copied.

use std::time::Instant;

use assay_model::host::gpu::GpuWork;

use super::{Beat, Bench, Chunk, Report, WorkError, tell};
use crate::cuda::{Context, CudaError};
use crate::kernels::word;

/// The smallest piece that is still asked for.
const LEAST: u64 = 1 << 20;
/// Left free for the driver, or a thirty-second part of small memories.
const SPARE: u64 = 64 << 20;
/// Words of the memory that the first control looks at.
const CONTROL: u64 = 1 << 16;
/// Words that the processor compares in one place.
const WINDOW: u64 = 512;
/// Words sent over the bus and back.
const ACROSS: u64 = 1 << 20;
/// Copies inside the device that are timed together.
const COPIES: u32 = 8;

/// Takes nearly all memory that is free, in pieces.
pub(super) fn take(context: &Context, largest: u64, beat: &Beat) -> Result<Vec<Chunk>, CudaError> {
    let free = context.free_memory()?;
    let target = free - SPARE.min(free / 32);
    // At least two pieces, so that there is something to copy between.
    let mut size = round_down((target / 2).min(largest));
    let (mut chunks, mut taken) = (Vec::new(), 0);
    while size >= LEAST && taken + LEAST <= target {
        size = size.min(round_down(target - taken));
        match context.allocate(size) {
            Ok(buffer) => {
                chunks.push(Chunk { buffer, first: taken / 8 });
                taken += size;
            }
            Err(problem) if problem.out_of_memory() => size = round_down(size / 2),
            Err(problem) => return Err(problem),
        }
        beat.answered();
    }
    Ok(chunks)
}

const fn round_down(bytes: u64) -> u64 {
    bytes / LEAST * LEAST
}

impl Bench<'_> {
    pub(super) fn fill(&self, chunk: &Chunk, seed: u64, flip: u64) -> Result<(), CudaError> {
        self.fill_words(chunk, chunk.words(), seed, flip)
    }

    fn fill_words(&self, chunk: &Chunk, words: u64, seed: u64, flip: u64) -> Result<(), CudaError> {
        self.launch(
            &self.fill,
            [chunk.buffer.address(), words, chunk.first, seed, flip, self.report.address()],
        )
    }

    /// Has the device compare a piece with what `first` and the pass say should be in it. The number of words compared.
    pub(super) fn verify(
        &self,
        chunk: &Chunk,
        first: u64,
        seed: u64,
        flip: u64,
        work: &mut GpuWork,
    ) -> Result<u64, WorkError> {
        let report = self.compare(chunk, chunk.words(), first, seed, flip)?;
        if report.seen != chunk.words() {
            return Err(WorkError::Partly {
                what: "words of memory",
                seen: report.seen,
                words: chunk.words(),
            });
        }
        if report.wrong > 0 {
            work.memory_errors += report.wrong;
            // An index that is out of range comes from a device that cannot be trusted: then nothing is read there.
            let place = report.first.checked_sub(first).filter(|&place| place < chunk.words());
            let mut again = [0];
            let now = match place {
                Some(place) if chunk.buffer.read(place * 8, &mut again).is_ok() => {
                    let right = again[0] == word(report.first, seed, flip);
                    if right { "; read again, it is right" } else { "; read again, it is still wrong" }
                }
                _ => "",
            };
            tell(
                work,
                format!(
                    "memory: {} words wrong in the MiB from {}, the first at byte {:#x}, bits {:#018x}{now}",
                    report.wrong,
                    (chunk.first * 8) >> 20,
                    (chunk.first + place.unwrap_or(0)) * 8,
                    report.bits,
                ),
            );
        }
        Ok(report.seen)
    }

    fn compare(
        &self,
        chunk: &Chunk,
        words: u64,
        first: u64,
        seed: u64,
        flip: u64,
    ) -> Result<Report, WorkError> {
        self.checked(&self.verify, [chunk.buffer.address(), words, first, seed, flip, 0])
    }

    /// One wrong bit is planted among words that are right. The checking kernel must find it, there, and nothing else.
    pub(super) fn control_memory(&self) -> Result<(), WorkError> {
        let chunk = &self.chunks[0];
        let (words, seed) = (CONTROL.min(chunk.words()), 0xC0DE);
        self.fill_words(chunk, words, seed, 0)?;
        let clean = self.compare(chunk, words, chunk.first, seed, 0)?;
        let place = words / 2 + 1;
        let bit = 1 << 37;
        chunk.buffer.write(place * 8, &[word(chunk.first + place, seed, 0) ^ bit])?;
        let planted = self.compare(chunk, words, chunk.first, seed, 0)?;
        let expected = Report { wrong: 1, first: chunk.first + place, bits: bit, seen: words };
        if planted == expected && clean == (Report { wrong: 0, first: u64::MAX, bits: 0, seen: words }) {
            return Ok(());
        }
        Err(WorkError::Blind {
            what: "memory",
            told: format!("{} words wrong before it was planted, {} after", clean.wrong, planted.wrong),
        })
    }

    /// Copies inside the device, timed; then over the bus and back, timed. Both are compared.
    pub(super) fn copies(&self, seed: u64, flip: u64, work: &mut GpuWork) -> Result<(), WorkError> {
        if let [from, to, ..] = self.chunks.as_slice() {
            let bytes = from.buffer.bytes().min(to.buffer.bytes());
            let started = Instant::now();
            for _ in 0..COPIES {
                to.buffer.copy_from(&from.buffer, bytes)?;
            }
            self.context.synchronize()?;
            self.beat.answered();
            // Each byte is read and written.
            let moved = bytes as f64 * 2.0 * f64::from(COPIES);
            work.memory_gb_s = Some(best(work.memory_gb_s, rate(moved, started)));
            if bytes == to.buffer.bytes() {
                self.verify(to, from.first, seed, flip, work)?;
            }
        }
        let chunk = &self.chunks[0];
        let length = ACROSS.min(chunk.words());
        let sent: Vec<u64> = (0..length).map(|index| word(index, !seed, 0)).collect();
        let mut back = vec![0; sent.len()];
        let started = Instant::now();
        chunk.buffer.write(0, &sent)?;
        chunk.buffer.read(0, &mut back)?;
        self.beat.answered();
        work.bus_gb_s = Some(best(work.bus_gb_s, rate(length as f64 * 16.0, started)));
        let wrong = sent.iter().zip(&back).filter(|(sent, back)| sent != back).count();
        if wrong > 0 {
            work.memory_errors += wrong as u64;
            tell(work, format!("over the bus and back: {wrong} of {length} words came back wrong"));
        }
        Ok(())
    }
}

/// The processor compares two places of a piece by itself: the device's own comparison is not taken on trust.
pub(super) fn sample(chunk: &Chunk, seed: u64, flip: u64, work: &mut GpuWork) -> Result<(), WorkError> {
    let length = WINDOW.min(chunk.words());
    let anywhere = word(chunk.first, seed, 0) % (chunk.words() - length + 1);
    for place in [anywhere, chunk.words() - length] {
        compare_here(chunk, place, length, seed, flip, work)?;
    }
    Ok(())
}

fn compare_here(
    chunk: &Chunk,
    place: u64,
    length: u64,
    seed: u64,
    flip: u64,
    work: &mut GpuWork,
) -> Result<(), WorkError> {
    let mut words = vec![0; length as usize];
    chunk.buffer.read(place * 8, &mut words)?;
    work.host_samples += length;
    let index = |offset: usize| chunk.first + place + offset as u64;
    let wrong = |&(offset, &seen): &(usize, &u64)| seen != word(index(offset), seed, flip);
    let count = words.iter().enumerate().filter(wrong).count();
    if let Some((offset, &seen)) = words.iter().enumerate().find(wrong) {
        work.memory_errors += count as u64;
        let expected = word(index(offset), seed, flip);
        let byte = index(offset) * 8;
        tell(
            work,
            format!(
                "memory as the processor reads it: {count} words wrong, the first at byte {byte:#x}: {expected:#018x} written, {seen:#018x} read"
            ),
        );
    }
    Ok(())
}

/// Billions a second.
fn rate(amount: f64, since: Instant) -> f64 {
    amount / since.elapsed().as_secs_f64().max(1e-9) / 1e9
}

fn best(known: Option<f64>, now: f64) -> f64 {
    known.map_or(now, |known| known.max(now))
}
