//! Arithmetic: every launch is done again with the threads in opposite order, so that another multiprocessor does each
//! thread's work, and both must agree; some threads are calculated by the processor as well.

use std::time::{Duration, Instant};

use assay_model::host::gpu::GpuWork;

use super::{BLOCK, Bench, Report, WorkError, tell};
use crate::cuda::{CudaError, Kernel};
use crate::kernels::{FLOPS_PER_ROUND, float_thread, integer_thread, word};

/// Store the results; compare with what was stored, threads in opposite order.
const STORE: u64 = 0;
const COMPARE_MIRRORED: u64 = 3;
/// Rounds of the first launch, and of the longest.
const ROUNDS: (u32, u32) = (16, 1 << 20);
/// Launches of one stretch whose results the processor samples.
const SAMPLED: u32 = 4;

/// How many rounds fill a launch, and what was achieved.
#[derive(Default)]
pub(super) struct Pace {
    float_rounds: Option<u32>,
    integer_rounds: Option<u32>,
    operations: f64,
    time: Duration,
}

/// Which kernel, and its function for the processor.
struct Kind<'a> {
    name: &'static str,
    kernel: &'a Kernel,
    thread: fn(u32, u32, u32) -> u32,
}

impl Bench<'_> {
    fn threads(&self) -> u32 {
        self.blocks * BLOCK
    }

    /// One stretch of floating-point and integer work.
    pub(super) fn arithmetic(&self, seed: u32, work: &mut GpuWork, pace: &mut Pace) -> Result<(), WorkError> {
        let float = Kind { name: "floating point", kernel: &self.float, thread: float_thread };
        let integer = Kind { name: "integers", kernel: &self.integer, thread: integer_thread };
        let began = Instant::now();
        let mut launch = 0;
        loop {
            self.unless_stopped()?;
            let varied = seed.wrapping_add(launch);
            let sampled = launch < SAMPLED;
            let rounds = pace.float_rounds.unwrap_or(ROUNDS.0);
            let took = self.twice(&float, rounds, varied, sampled, work)?;
            // Launches that were too short to tell are not counted.
            if took >= self.options.launch {
                pace.operations +=
                    f64::from(rounds) * FLOPS_PER_ROUND as f64 * f64::from(self.threads()) * 2.0;
                pace.time += took;
            }
            pace.float_rounds = Some(self.fitting(rounds, took));
            let rounds = pace.integer_rounds.unwrap_or(ROUNDS.0);
            let took = self.twice(&integer, rounds, varied, sampled, work)?;
            pace.integer_rounds = Some(self.fitting(rounds, took));
            launch += 1;
            if began.elapsed() >= self.options.stretch {
                break;
            }
        }
        if !pace.time.is_zero() {
            work.gflops = Some(pace.operations / pace.time.as_secs_f64() / 1e9);
        }
        Ok(())
    }

    /// Rounds for which two launches take about as long as they should.
    fn fitting(&self, rounds: u32, took: Duration) -> u32 {
        let wanted = self.options.launch.as_secs_f64() * 2.0;
        // At most fourfold at a time: the first launches are slow for other reasons.
        let factor = (wanted / took.as_secs_f64().max(1e-9)).clamp(0.25, 4.0);
        ((f64::from(rounds) * factor) as u32).clamp(ROUNDS.0, ROUNDS.1)
    }

    /// Calculates, calculates again elsewhere, compares. How long both launches took.
    fn twice(
        &self,
        kind: &Kind<'_>,
        rounds: u32,
        seed: u32,
        sampled: bool,
        work: &mut GpuWork,
    ) -> Result<Duration, WorkError> {
        let started = Instant::now();
        self.calculate(kind.kernel, rounds, seed)?;

        let report = self.recalculate(kind.kernel, rounds, seed)?;
        let took = started.elapsed();
        if report.seen != u64::from(self.threads()) {
            return Err(WorkError::Partly {
                what: "results",
                seen: report.seen,
                words: u64::from(self.threads()),
            });
        }
        work.compute_launches += 2;
        if report.wrong > 0 {
            work.compute_errors += report.wrong;
            tell(
                work,
                format!(
                    "{}: {} of {} threads gave another result the second time, the first is thread {}, bits {:#010x}",
                    kind.name,
                    report.wrong,
                    self.threads(),
                    report.first,
                    report.bits
                ),
            );
        }
        if sampled {
            self.recalculate_here(kind, rounds, seed, work)?;
        }
        Ok(took)
    }

    fn calculate(&self, kernel: &Kernel, rounds: u32, seed: u32) -> Result<(), CudaError> {
        let threads = u64::from(self.threads());
        let parameters =
            [self.results.address(), rounds.into(), seed.into(), STORE, threads, self.report.address()];
        self.launch(kernel, parameters)
    }

    fn recalculate(&self, kernel: &Kernel, rounds: u32, seed: u32) -> Result<Report, WorkError> {
        let threads = u64::from(self.threads());
        self.checked(
            kernel,
            [self.results.address(), rounds.into(), seed.into(), COMPARE_MIRRORED, threads, 0],
        )
    }

    /// The processor calculates one pair of threads by itself.
    fn recalculate_here(
        &self,
        kind: &Kind<'_>,
        rounds: u32,
        seed: u32,
        work: &mut GpuWork,
    ) -> Result<(), WorkError> {
        let pair = (word(seed.into(), rounds.into(), 0) % u64::from(self.threads() / 2)) as u32;
        let mut packed = [0];
        self.results.read(u64::from(pair) * 8, &mut packed)?;
        for (id, seen) in [(pair * 2, packed[0] as u32), (pair * 2 + 1, (packed[0] >> 32) as u32)] {
            let expected = (kind.thread)(id, rounds, seed);
            work.host_samples += 1;
            if seen != expected {
                work.compute_errors += 1;
                tell(
                    work,
                    format!(
                        "{}: thread {id} gave {seen:#010x}, the processor {expected:#010x} after {rounds} rounds",
                        kind.name
                    ),
                );
            }
        }
        Ok(())
    }

    /// One wrong result is planted among those stored. The comparison must find it, there, and nothing else.
    pub(super) fn control_arithmetic(&self, kernel: &Kernel) -> Result<(), WorkError> {
        let (rounds, seed, pair) = (ROUNDS.0, 0xC0DE, self.threads() / 4);
        self.calculate(kernel, rounds, seed)?;
        let clean = self.recalculate(kernel, rounds, seed)?;
        let mut packed = [0];
        self.results.read(u64::from(pair) * 8, &mut packed)?;
        packed[0] ^= 1 << 3;
        self.results.write(u64::from(pair) * 8, &packed)?;
        let planted = self.recalculate(kernel, rounds, seed)?;
        let threads = u64::from(self.threads());
        let expected = Report { wrong: 1, first: u64::from(pair) * 2, bits: 1 << 3, seen: threads };
        if planted == expected && clean == (Report { wrong: 0, first: u64::MAX, bits: 0, seen: threads }) {
            return Ok(());
        }
        Err(WorkError::Blind {
            what: "results",
            told: format!("{} results wrong before it was planted, {} after", clean.wrong, planted.wrong),
        })
    }
}
