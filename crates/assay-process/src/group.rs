//! A running process group: its leader is our child, everything it starts is stopped with it.

use std::{io, process::ExitStatus, time::Duration};

use process_wrap::tokio::ChildWrapper;
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process, kill_process_group},
};
use tokio::time::{Instant, sleep, timeout};

use crate::procfs::group_runs;

/// How long the rest of a killed group is waited for before the caller goes on.
const GROUP_GONE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Group {
    child: Box<dyn ChildWrapper>,
    pid: Pid,
    ended: Option<ExitStatus>,
}

impl Group {
    pub(crate) fn new(child: Box<dyn ChildWrapper>) -> io::Result<Self> {
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::other("the child ended before its process id could be read"))?;
        Ok(Self { child, pid, ended: None })
    }

    pub(crate) fn child(&mut self) -> &mut dyn ChildWrapper {
        self.child.as_mut()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        self.ended
    }

    /// Signals the leader alone. Nothing happens once it has ended: its id may belong to another process.
    pub(crate) fn signal_leader(&self, signal: Signal) -> io::Result<()> {
        if self.ended.is_some() {
            return Ok(());
        }
        kill_process(self.pid, signal).or_else(ignore_gone)
    }

    /// Waits for the leader, then removes what it left behind in its group. Safe to cancel and call again.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        // The wrapper's own `wait` waits for the whole group where we are the reaper of orphans (as PID 1 of a
        // container), and so for ever if the leader left a daemon behind. The inner one waits for the leader.
        let status = self.child.inner_mut().wait().await?;
        self.ended = Some(status);
        self.remove_rest().await?;
        Ok(status)
    }

    /// SIGTERM to the group, SIGKILL to what is left after `grace`.
    pub(crate) async fn stop(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        kill_process_group(self.pid, Signal::TERM).or_else(ignore_gone)?;
        if let Ok(status) = timeout(grace, self.wait()).await {
            return status;
        }
        if let Some(status) = self.ended {
            return Ok(status); // The rest got its SIGKILL in `wait`.
        }
        kill_process_group(self.pid, Signal::KILL).or_else(ignore_gone)?;
        self.wait().await
    }

    async fn remove_rest(&mut self) -> io::Result<()> {
        if kill_process_group(self.pid, Signal::KILL).is_err() {
            return Ok(()); // Nobody is left.
        }
        // Most of them are not our children, so there is no event to wait for.
        let give_up = Instant::now() + GROUP_GONE;
        while group_runs(self.pid()) {
            if Instant::now() >= give_up {
                tracing::warn!(
                    process.group = self.pid(),
                    "processes of a stopped group are still there after SIGKILL"
                );
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // The runtime reaps the leader; see `KillOnDrop`.
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
    }
}

fn ignore_gone(error: Errno) -> io::Result<()> {
    if error == Errno::SRCH { Ok(()) } else { Err(error.into()) }
}
