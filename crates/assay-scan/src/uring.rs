//! A device behind `io_uring`: fixed buffers, one ring, direct I/O on a descriptor that somebody else has opened.
//!
//! This file and two ioctls in `target.rs` are the unsafe code of the surface scan. The rules that make it sound: a
//! buffer is handed out only while its slot has no request, and a ring with requests under way is never
//! freed, nor are its buffers (a device may write into them whenever it comes back).

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use memmap2::{Advice, MmapMut};
use rustix::io::Errno;

use crate::device::{Device, Done, Op};
use crate::target::Handle;

/// The device behind a ring.
pub(crate) struct Uring<'a> {
    handle: &'a Handle,
    ring: ManuallyDrop<IoUring>,
    buffers: ManuallyDrop<MmapMut>,
    size: usize,
    busy: Vec<bool>,
    /// Whether the buffers are registered: pinned once instead of for every request.
    fixed: bool,
}

impl<'a> Uring<'a> {
    /// A ring of `slots` buffers of `size` bytes each.
    pub(crate) fn new(handle: &'a Handle, slots: usize, size: usize) -> io::Result<Self> {
        let entries = u32::try_from(slots.next_power_of_two()).map_err(io::Error::other)?;
        let ring = IoUring::builder().setup_clamp().dontfork().build(entries)?;
        if !ring.params().is_feature_ext_arg() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring here cannot wait with a limit"));
        }
        // Anonymous memory begins at a page and is zeroed: aligned for direct I/O.
        let mut buffers = MmapMut::map_anon(slots * size)?;
        // A child that is forked meanwhile must not get the pages that the device writes to. Both are advice only.
        let _ = buffers.advise(Advice::DontFork);
        let _ = buffers.advise(Advice::HugePage);
        let parts: Vec<_> = buffers
            .chunks_exact_mut(size)
            .map(|part| libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() })
            .collect();
        #[expect(unsafe_code, reason = "the kernel keeps the addresses of the buffers")]
        // SAFETY: the addresses are those of a mapping that lives as long as the ring: both are freed together in
        // `drop`, or leaked together.
        let fixed = unsafe { ring.submitter().register_buffers(&parts) }.is_ok();
        Ok(Self {
            handle,
            ring: ManuallyDrop::new(ring),
            buffers: ManuallyDrop::new(buffers),
            size,
            busy: vec![false; slots],
            fixed,
        })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.handle.file.as_fd()
    }

    fn entry(&mut self, slot: usize, op: Op, offset: u64, length: usize) -> squeue::Entry {
        let fd = Fd(self.fd().as_raw_fd());
        let fixed = self.fixed;
        let pointer = self.slice(slot).as_mut_ptr();
        let (length, index) = (length as u32, slot as u16);
        match (op, fixed) {
            (Op::Read, true) => opcode::ReadFixed::new(fd, pointer, length, index).offset(offset).build(),
            (Op::Write, true) => opcode::WriteFixed::new(fd, pointer, length, index).offset(offset).build(),
            (Op::Read, false) => opcode::Read::new(fd, pointer, length).offset(offset).build(),
            (Op::Write, false) => opcode::Write::new(fd, pointer, length).offset(offset).build(),
        }
    }

    fn slice(&mut self, slot: usize) -> &mut [u8] {
        &mut self.buffers[slot * self.size..(slot + 1) * self.size]
    }

    fn reap(&mut self) -> Option<Done> {
        let entry = self.ring.completion().next()?;
        let slot = usize::try_from(entry.user_data()).ok().filter(|slot| *slot < self.busy.len())?;
        self.busy[slot] = false;
        let result = entry.result();
        let result = usize::try_from(result).map_err(|_| Errno::from_raw_os_error(-result));
        Some(Done { slot, result })
    }
}

impl Device for Uring<'_> {
    fn buffer(&mut self, slot: usize) -> &mut [u8] {
        assert!(!self.busy[slot], "the buffer of slot {slot} belongs to the device");
        self.slice(slot)
    }

    fn buffers(&mut self, a: usize, b: usize) -> (&mut [u8], &mut [u8]) {
        assert!(!self.busy[a] && !self.busy[b], "the buffers of slots {a} and {b} belong to the device");
        let size = self.size;
        let mut parts = self.buffers.chunks_exact_mut(size).enumerate();
        let (first, second) = (a.min(b), a.max(b));
        let mut part = |wanted| parts.find(|(number, _)| *number == wanted).map(|(_, part)| part);
        match (part(first), part(second)) {
            (Some(x), Some(y)) if a < b => (x, y),
            (Some(x), Some(y)) => (y, x),
            _ => unreachable!("slots {a} and {b} are two of {}", self.busy.len()),
        }
    }

    fn start(&mut self, slot: usize, op: Op, offset: u64, length: usize) -> Result<(), Errno> {
        assert!(!self.busy[slot] && length <= self.size, "slot {slot} is free and holds {length} bytes");
        let entry = self.entry(slot, op, offset, length).user_data(slot as u64);
        #[expect(unsafe_code, reason = "the kernel is told addresses")]
        // SAFETY: the buffer belongs to this ring, is long enough (asserted above), and is not touched until its
        // completion has been seen (`busy`). The descriptor is borrowed for longer than this object lives; a request
        // that outlives both holds its own reference to the file.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.map_err(|_| Errno::BUSY)?;
        self.busy[slot] = true;
        Ok(())
    }

    fn wait(&mut self, patience: Duration) -> Result<Option<Done>, Errno> {
        self.ring.completion().sync();
        let submitted = if self.ring.completion().is_empty() {
            let limit = Timespec::from(patience);
            self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&limit))
        } else if self.ring.submission().is_empty() {
            Ok(0)
        } else {
            self.ring.submit()
        };
        if let Err(problem) = submitted {
            match Errno::from_io_error(&problem) {
                // The time has passed, or what could not be submitted now stays in the ring for the next turn.
                Some(Errno::TIME | Errno::INTR | Errno::AGAIN | Errno::BUSY) => {}
                other => return Err(other.unwrap_or(Errno::IO)),
            }
        }
        Ok(self.reap())
    }

    fn flush(&mut self) -> Result<(), Errno> {
        rustix::fs::fdatasync(self.fd())
    }

    fn zero(&mut self, offset: u64, length: u64) -> Result<(), Errno> {
        self.handle.zero(offset, length)
    }

    fn is_there(&self) -> bool {
        self.handle.is_there()
    }
}

impl Drop for Uring<'_> {
    fn drop(&mut self) {
        if self.busy.contains(&true) {
            // A hung device may still come back and write into its buffers: they are left to it.
            return;
        }
        #[expect(unsafe_code, reason = "what must not always be freed is freed by hand")]
        // SAFETY: no request is under way, and neither is used again.
        unsafe {
            ManuallyDrop::drop(&mut self.ring);
            ManuallyDrop::drop(&mut self.buffers);
        }
    }
}
