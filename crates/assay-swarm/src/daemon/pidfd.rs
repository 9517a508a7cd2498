//! A process that is not our child, held so that its id cannot become somebody else's, and waited for by its event.

use std::{fs, io, os::fd::OwnedFd, path::Path};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::SwarmError;

/// How long a killed process is waited for.
const GONE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

#[derive(Debug)]
pub(super) struct PidFd {
    pid: u32,
    fd: OwnedFd,
}

impl PidFd {
    /// The process `pid`; `None` when it has ended.
    pub(super) fn open(pid: u32) -> io::Result<Option<Self>> {
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        match pidfd_open(number, PidfdFlags::empty()) {
            Ok(fd) => Ok(Some(Self { pid, fd })),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The one child of process `parent`.
    pub(super) fn of_child(parent: u32) -> Result<Self, SwarmError> {
        let path = Path::new("/proc");
        let failed = SwarmError::folder("finding the daemon's first process in", path);
        let opened = pids().find(|pid| parent_of(*pid) == Some(parent)).map(Self::open);
        match opened {
            Some(Ok(Some(this))) => Ok(this),
            Some(Err(error)) => Err(failed(error)),
            Some(Ok(None)) | None => Err(failed(io::Error::other("it has ended"))),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.fd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it has ended. The first process of a namespace ends after everything else in there.
    pub(super) async fn ended(&self, folder: &Path) -> Result<(), SwarmError> {
        let residue = |why: String| SwarmError::Residue {
            what: format!("process {}", self.pid),
            folder: folder.to_owned(),
            why,
        };
        let fd = self.fd.try_clone().map_err(|error| residue(error.to_string()))?;
        // A thread of its own: tokio has no way to wait for a descriptor like this one that is both safe and not deprecated.
        let waited = tokio::task::spawn_blocking(move || {
            let mut ends = [PollFd::new(&fd, PollFlags::IN)];
            rustix::io::retry_on_intr(|| poll(&mut ends, Some(&GONE)))
        });
        match waited.await {
            Ok(Ok(0)) => Err(residue(format!("it did not end within {} s of SIGKILL", GONE.tv_sec))),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(residue(error.to_string())),
            Err(panic) => Err(residue(panic.to_string())),
        }
    }
}

/// All processes.
pub(super) fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything: fields are counted after the last one.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}
