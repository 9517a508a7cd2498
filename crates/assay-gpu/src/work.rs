//! The load on one GPU: its memory filled, read back and filled with the inverse; arithmetic done twice on different
//! multiprocessors; samples of both done again by the processor.
//!
//! Before anything counts, a wrong word is planted on purpose: a checker that does not find it, and only it, proves
//! nothing. Everything blocks; the caller gives it a thread and watches the [`Beat`], because a sick GPU may never answer.

mod arithmetic;
mod memory;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use assay_model::host::gpu::{GpuWork, WorkEnd};
use assay_model::text::clean_to;

use crate::cuda::{Buffer, Context, Cuda, CudaError, Kernel};
use crate::kernels::{NAMES, ptx, word};

/// Threads of one block.
const BLOCK: u32 = 256;
/// Most mismatches that are told one by one.
const MAX_TOLD: usize = 8;
/// What a report says before a kernel ran: no mismatch, no first one, no bits, nothing looked at.
const NOTHING: [u64; 4] = [0, u64::MAX, 0, 0];

/// How the load is sized.
#[derive(Clone, Copy, Debug)]
pub struct WorkOptions {
    /// How long. The first pass over memory is finished however long it takes.
    pub duration: Duration,
    /// How long one stretch of arithmetic between writing and reading memory lasts.
    pub stretch: Duration,
    /// How long one launch of an arithmetic kernel should last; short enough for a GPU that also drives a display.
    pub launch: Duration,
    /// Most memory taken at once, in bytes.
    pub chunk: u64,
}

impl Default for WorkOptions {
    fn default() -> Self {
        Self {
            duration: Duration::from_mins(2),
            stretch: Duration::from_secs(1),
            launch: Duration::from_millis(25),
            chunk: 1 << 30,
        }
    }
}

/// Shared with whoever watches: signs of life, what is being done, and the wish to stop.
#[derive(Debug, Default)]
pub struct Beat {
    count: AtomicU64,
    stop: AtomicBool,
    step: Mutex<String>,
}

impl Beat {
    /// How many calls the GPU has answered so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// What it is at.
    pub fn step(&self) -> String {
        self.step.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the work to end soon.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn answered(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    fn at(&self, step: &str) {
        step.clone_into(&mut self.step.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Puts the GPU at this PCI address to work, and says what came of it.
pub fn work(cuda: &Cuda, address: &str, options: &WorkOptions, beat: &Beat) -> GpuWork {
    let started = Instant::now();
    let mut work = GpuWork::default();
    beat.at("loading");
    match Bench::prepare(cuda, address, options, beat) {
        Err(problem) => work.problem = Some(clean_to(&problem.to_string(), 300)),
        Ok(bench) => {
            work.memory_bytes = bench.chunks.iter().map(|chunk| chunk.buffer.bytes()).sum();
            match bench.run(started, &mut work) {
                Ok(()) => work.end = WorkEnd::Finished,
                Err(problem) => {
                    work.end = WorkEnd::Failed;
                    work.problem = Some(clean_to(&problem.to_string(), 300));
                }
            }
        }
    }
    work.seconds = started.elapsed().as_secs_f64();
    work
}

/// Why the work broke off.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error(transparent)]
    Cuda(#[from] CudaError),
    #[error("only {seen} of {words} {what} were looked at by the kernel that checks them")]
    Partly { what: &'static str, seen: u64, words: u64 },
    #[error("an error planted on purpose in {what} was not found, or not it alone: {told}")]
    Blind { what: &'static str, told: String },
    #[error("stopped before the first pass was over")]
    Stopped,
    #[error("no device memory could be had, or the device tells of no multiprocessors")]
    Nothing,
}

/// A piece of device memory, and the index of its first word among all.
struct Chunk {
    buffer: Buffer,
    first: u64,
}

impl Chunk {
    fn words(&self) -> u64 {
        self.buffer.bytes() / 8
    }
}

/// A device, made ready.
struct Bench<'a> {
    context: Context,
    fill: Kernel,
    verify: Kernel,
    float: Kernel,
    integer: Kernel,
    /// As many threads as the device holds at once.
    blocks: u32,
    chunks: Vec<Chunk>,
    /// One result for each thread of the arithmetic kernels.
    results: Buffer,
    report: Buffer,
    options: &'a WorkOptions,
    beat: &'a Beat,
}

impl<'a> Bench<'a> {
    fn prepare(
        cuda: &Cuda,
        address: &str,
        options: &'a WorkOptions,
        beat: &'a Beat,
    ) -> Result<Self, WorkError> {
        let context = cuda.open(address)?;
        let (multiprocessors, threads) = context.shape()?;
        let blocks = multiprocessors.saturating_mul(threads / BLOCK);
        if blocks == 0 {
            return Err(WorkError::Nothing);
        }
        let [fill, verify, float, integer] = context.kernels(&ptx(), NAMES)?;
        beat.answered();
        // Two results to a 64-bit word.
        let results = context.allocate(u64::from(blocks) * u64::from(BLOCK) * 4)?;
        let report = context.allocate(size_of_val(&NOTHING) as u64)?;
        let chunks = memory::take(&context, options.chunk, beat)?;
        if chunks.is_empty() {
            return Err(WorkError::Nothing);
        }
        Ok(Self { context, fill, verify, float, integer, blocks, chunks, results, report, options, beat })
    }

    fn run(&self, started: Instant, work: &mut GpuWork) -> Result<(), WorkError> {
        self.beat.at("checking the checks");
        self.control_memory()?;
        self.control_arithmetic(&self.float)?;
        self.control_arithmetic(&self.integer)?;
        work.control = true;
        let mut pace = arithmetic::Pace::default();
        while !self.beat.stopped() && (work.passes == 0 || started.elapsed() < self.options.duration) {
            self.beat.at(&format!("pass {} over {} MiB", work.passes + 1, work.memory_bytes >> 20));
            self.pass(work, &mut pace)?;
        }
        if work.passes == 0 {
            return Err(WorkError::Stopped);
        }
        Ok(())
    }

    /// All memory with a pattern and its inverse, arithmetic in between, then copies inside the device and over the bus.
    fn pass(&self, work: &mut GpuWork, pace: &mut arithmetic::Pace) -> Result<(), WorkError> {
        let seed = word(work.passes, 0x0A55_A7ED, 0);
        let mut verified = u64::MAX;
        for flip in [0, u64::MAX] {
            for chunk in &self.chunks {
                self.unless_stopped()?;
                self.fill(chunk, seed, flip)?;
            }
            self.arithmetic(seed as u32, work, pace)?;
            let mut compared = 0;
            for chunk in &self.chunks {
                self.unless_stopped()?;
                compared += self.verify(chunk, chunk.first, seed, flip, work)?;
                memory::sample(chunk, seed, flip, work)?;
            }
            verified = verified.min(compared * 8);
        }
        work.verified_bytes = work.verified_bytes.max(verified);
        work.passes += 1;
        self.copies(seed, u64::MAX, work)
    }

    fn unless_stopped(&self) -> Result<(), WorkError> {
        if self.beat.stopped() { Err(WorkError::Stopped) } else { Ok(()) }
    }

    fn launch(&self, kernel: &Kernel, parameters: [u64; 6]) -> Result<(), CudaError> {
        self.context.run(kernel, (self.blocks, BLOCK), parameters)?;
        self.beat.answered();
        Ok(())
    }

    /// Runs a checking kernel and reads its report.
    fn checked(&self, kernel: &Kernel, mut parameters: [u64; 6]) -> Result<Report, WorkError> {
        self.report.write(0, &NOTHING)?;
        parameters[5] = self.report.address();
        self.launch(kernel, parameters)?;
        let mut told = NOTHING;
        self.report.read(0, &mut told)?;
        let [wrong, first, bits, seen] = told;
        Ok(Report { wrong, first, bits, seen })
    }
}

/// What a checking kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Report {
    wrong: u64,
    first: u64,
    bits: u64,
    seen: u64,
}

fn tell(work: &mut GpuWork, mismatch: String) {
    if work.mismatches.len() < MAX_TOLD {
        work.mismatches.push(mismatch);
    }
}
