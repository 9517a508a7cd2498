//! The edge to the device: requests in slots, started and waited for.
//!
//! The engine knows nothing else of a device. [`crate::uring::Uring`] is the real one; tests have one in memory that
//! lies about its size and forgets writes, which no device on a test machine can be asked to do.

use std::time::Duration;

use rustix::io::Errno;

/// Which way a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Read,
    Write,
}

/// A request that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) slot: usize,
    /// How many bytes were moved.
    pub(crate) result: Result<usize, Errno>,
}

/// A device with so many slots, each of them with its own buffer.
pub(crate) trait Device {
    /// The buffer of a slot that has no request under way.
    fn buffer(&mut self, slot: usize) -> &mut [u8];

    /// Two different buffers at once.
    fn buffers(&mut self, a: usize, b: usize) -> (&mut [u8], &mut [u8]);

    /// Starts a request for the first `length` bytes of a slot's buffer. It may reach the device only with the next
    /// [`Device::wait`].
    fn start(&mut self, slot: usize, op: Op, offset: u64, length: usize) -> Result<(), Errno>;

    /// The next request that has ended; `None` when `patience` has passed before.
    fn wait(&mut self, patience: Duration) -> Result<Option<Done>, Errno>;

    /// Waits until what was written is on the medium.
    fn flush(&mut self) -> Result<(), Errno>;

    /// Zeroes by the device's own command, or by the kernel for it.
    fn zero(&mut self, offset: u64, length: u64) -> Result<(), Errno>;

    /// Whether the device is still there, with the size that it had.
    fn is_there(&self) -> bool;
}
