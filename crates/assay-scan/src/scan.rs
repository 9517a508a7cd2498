//! Scanning: one device, or all of them at once.

use std::io;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::io::Errno;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::engine::{self, SPARE};
use crate::pattern::Seed;
use crate::plan::{Leave, Plan};
use crate::report::{Event, ScanResult};
use crate::target::Scannable;
use crate::uring::Uring;

/// What is to be done with a device.
#[derive(Clone, Debug)]
pub struct Job {
    /// How much is scanned.
    pub plan: Plan,
    /// What is left on it.
    pub leave: Leave,
    /// What the data are made from; a fresh random number for each scan.
    pub seed: Seed,
    /// How.
    pub options: Options,
}

impl Job {
    /// With the usual options.
    pub fn new(plan: Plan, leave: Leave, seed: Seed) -> Self {
        Self { plan, leave, seed, options: Options::default() }
    }

    /// The job that a checkpoint goes on with.
    pub fn of(checkpoint: &Checkpoint) -> Self {
        Self::new(checkpoint.plan(), checkpoint.leave(), checkpoint.seed())
    }
}

/// How a device is scanned. The defaults are right for disks of every kind.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of one request.
    pub request: usize,
    /// Requests under way at a time while writing.
    pub write_depth: usize,
    /// Requests under way at a time while verifying.
    pub verify_depth: usize,
    /// Into how many zones speeds are sorted.
    pub zones: u32,
    /// A request that takes longer is a stall.
    pub stall: Duration,
    /// A request that takes longer ends the scan. The kernel's own retries come before it.
    pub give_up: Duration,
    /// How often a checkpoint is told.
    pub checkpoint_every: Duration,
    /// How often progress is told.
    pub progress_every: Duration,
    /// How many bad ranges are kept; all are counted.
    pub keep_ranges: usize,
    /// After more bytes with errors the scan ends: each costs seconds of the device's own retries.
    pub max_error_bytes: u64,
    /// After more wrong bytes the scan ends.
    pub max_wrong_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            request: 512 << 10,
            write_depth: 8,
            verify_depth: 16,
            zones: 64,
            stall: Duration::from_secs(10),
            give_up: Duration::from_mins(10),
            checkpoint_every: Duration::from_secs(30),
            progress_every: Duration::from_secs(1),
            keep_ranges: 100,
            max_error_bytes: 512 << 10,
            max_wrong_bytes: 256 << 20,
        }
    }
}

/// The scan could not be done, for a reason that says nothing about the device.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The checkpoint does not fit.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The options make no scan.
    #[error("{what} must be at least {least}; it is {given}")]
    Options {
        /// Which option.
        what: &'static str,
        /// The least that it may be.
        least: u64,
        /// What it is.
        given: u64,
    },
    /// No ring.
    #[error(
        "io_uring cannot be used here (kernel.io_uring_disabled, a container's filter, or too little memory): {0}"
    )]
    Ring(#[source] io::Error),
    /// The kernel did not take a request, or not for a reason that lies with the device.
    #[error("the system refused a request at byte {offset} of {name}: {errno}")]
    Refused {
        /// The device.
        name: String,
        /// Where.
        offset: u64,
        /// Why.
        errno: Errno,
    },
}

/// Scans one device on the calling thread, which it needs for hours. Ends soon after `cancel` is set, with a last
/// checkpoint. Memory does not grow: a buffer per request under way, and what [`Options`] lets be kept.
///
/// What is wrong with the device stands in the result; an error says that the scan itself was not possible.
pub fn scan(
    target: &Scannable,
    job: &Job,
    resume: Option<Checkpoint>,
    on_event: &mut dyn FnMut(Event<'_>),
    cancel: &AtomicBool,
) -> Result<ScanResult, ScanError> {
    let Options { request, write_depth, verify_depth, .. } = job.options;
    let block = target.handle.identity.logical_block as usize;
    let at_least = |what, least: usize, given: usize| {
        let (least, given) = (least as u64, given as u64);
        if given < least { Err(ScanError::Options { what, least, given }) } else { Ok(()) }
    };
    at_least("the size of a request", block, request)?;
    at_least("the depth for writing", 1, write_depth)?;
    at_least("the depth for verifying", 1, verify_depth)?;
    let mut job = job.clone();
    job.options.request = request / block * block;
    let slots = write_depth.max(verify_depth) + SPARE;
    let device = Uring::new(&target.handle, slots, job.options.request).map_err(ScanError::Ring)?;
    engine::run(device, &target.handle.identity, &job, resume, on_event, cancel)
}

/// One of several devices.
#[derive(Debug)]
pub struct Work<'a> {
    /// The device.
    pub target: &'a Scannable,
    /// What is to be done.
    pub job: Job,
    /// Where it goes on from.
    pub resume: Option<Checkpoint>,
}

/// Scans all devices at once, each on its own thread. `on_event` gets the number of the device in `work`. The results
/// are in the order of `work`; one device's failure does not touch the others.
pub fn scan_all(
    work: Vec<Work<'_>>,
    on_event: &(dyn Fn(usize, Event<'_>) + Sync),
    cancel: &AtomicBool,
) -> Vec<Result<ScanResult, ScanError>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = work
            .into_iter()
            .enumerate()
            .map(|(number, Work { target, job, resume })| {
                scope.spawn(move || scan(target, &job, resume, &mut |event| on_event(number, event), cancel))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}
