//! The QEMU process of a machine, named so that nothing else is ever killed in its place.
//!
//! A process id in a file may by now belong to somebody else. So the id is first turned into a pidfd (which keeps
//! meaning that one process), then the process must carry this machine's pid file among its arguments, and only
//! then is it ours; signals go through the pidfd.

use std::{fs, io, os::fd::OwnedFd, path::Path, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

const LONGEST_POLL: Duration = Duration::from_secs(1);

/// A machine's running QEMU.
#[derive(Debug)]
pub(crate) struct VmProcess {
    pid: u32,
    handle: OwnedFd,
}

impl VmProcess {
    /// The process whose id is in `pid_file`, if it runs and was started with that pid file.
    pub(crate) fn find(pid_file: &Path) -> Option<Self> {
        let pid: u32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
        let handle = pidfd_open(Pid::from_raw(pid.try_into().ok()?)?, PidfdFlags::NONBLOCK).ok()?;
        // A process that has ended has no command line.
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let ours = pid_file.as_os_str().as_encoded_bytes();
        arguments.split(|byte| *byte == 0).any(|argument| argument == ours).then_some(Self { pid, handle })
    }

    /// Its id, for people.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it without asking.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.handle, Signal::KILL) {
            // It is gone, which is what was wanted.
            Err(rustix::io::Errno::SRCH) => Ok(()),
            other => other.map_err(io::Error::from),
        }
    }

    /// Waits for its end; says whether it came within `limit`.
    pub(crate) async fn ended(&self, limit: Duration) -> io::Result<bool> {
        let mut left = limit;
        loop {
            // The kernel wakes the poll. A thread cannot be told to stop waiting when the caller is dropped, so
            // it waits in pieces.
            let piece = left.min(LONGEST_POLL);
            let handle = self.handle.try_clone()?;
            let waited = tokio::task::spawn_blocking(move || readable_within(&handle, piece));
            if waited.await.map_err(io::Error::other)?? {
                return Ok(true);
            }
            left = left.saturating_sub(piece);
            if left.is_zero() {
                return Ok(false);
            }
        }
    }
}

/// A pidfd is readable once its process has ended.
fn readable_within(handle: &OwnedFd, limit: Duration) -> io::Result<bool> {
    let limit = Timespec::try_from(limit).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut watched = [PollFd::new(handle, PollFlags::IN)];
    loop {
        match poll(&mut watched, Some(&limit)) {
            // Whatever signal that was, waiting starts again: a limit may be exceeded, never cut short.
            Err(rustix::io::Errno::INTR) => {}
            ready => return Ok(ready? > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::VmProcess;

    #[test]
    fn a_recycled_pid_is_not_ours() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pid");
        assert!(VmProcess::find(&file).is_none(), "no pid file");
        // This test's own process runs, but not with that pid file.
        fs::write(&file, format!("{}\n", std::process::id())).expect("written");
        assert!(VmProcess::find(&file).is_none(), "somebody else's process");
        for garbage in ["", "-1", "0", "99999999999", "abc"] {
            fs::write(&file, garbage).expect("written");
            assert!(VmProcess::find(&file).is_none(), "{garbage}");
        }
    }
}
