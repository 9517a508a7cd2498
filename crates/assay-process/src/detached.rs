//! A process that outlives us, named so that it can be found and stopped again after a restart.
//!
//! A process id alone is no identity: after a reboot, or after enough forks, it belongs to somebody else. The
//! start time from `/proc/PID/stat` (field 22, clock ticks since boot) makes it one.

use std::{io, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::procfs::{group_runs, stat};

const POLL: Duration = Duration::from_millis(20);

/// A process in its own session. Plain data: store it, and use it after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Detached {
    /// The process id, which is also the id of its group and session.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
}

impl Detached {
    /// The running process `pid`.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, start_ticks: stat(pid)?.start_ticks })
    }

    /// Whether exactly this process still runs. One that ended and was not yet reaped does not.
    pub fn is_alive(&self) -> bool {
        stat(self.pid).is_ok_and(|stat| stat.start_ticks == self.start_ticks && !stat.ended)
    }

    /// SIGTERM to its group, SIGKILL to what is left after `grace`. Nothing happens if it is not that process
    /// any more. Returns whether it was running.
    ///
    /// # Errors
    /// When the operating system refuses to signal it, or it survives SIGKILL.
    pub async fn stop(&self, grace: Duration) -> io::Result<bool> {
        let Some(group) = i32::try_from(self.pid).ok().and_then(Pid::from_raw).filter(|_| self.is_alive())
        else {
            return Ok(false);
        };
        for (signal, patience) in [(Signal::TERM, grace), (Signal::KILL, Duration::from_secs(2))] {
            // The rest of the group keeps its id reserved even when the leader is gone.
            match kill_process_group(group, signal) {
                Err(rustix::io::Errno::SRCH) => return Ok(true),
                other => other?,
            }
            // Not our child after a restart, so there is no end to be told of.
            let give_up = Instant::now() + patience;
            while Instant::now() < give_up {
                if !group_runs(self.pid) {
                    return Ok(true);
                }
                sleep(POLL).await;
            }
        }
        if group_runs(self.pid) {
            return Err(io::Error::other(format!("process {} is still there after SIGKILL", self.pid)));
        }
        Ok(true)
    }
}
