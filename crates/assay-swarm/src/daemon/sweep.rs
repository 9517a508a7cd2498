//! Removes what a daemon left whose owner was killed. Normally that is a folder and an empty control group; the rest is looked
//! for all the same.

use std::{
    fs::{self, File},
    path::Path,
};

use super::{
    Daemon, MARK,
    leftovers::{remove_control_group, remove_folder, remove_mounts},
    owner_in,
    pidfd::{PidFd, pids},
};
use crate::SwarmError;

/// What [`Daemon::sweep`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// Nothing: there is no such folder.
    Nothing,
    /// A daemon whose owner is alive. It was left alone.
    Alive,
    /// A daemon's remains. They are gone.
    Removed {
        /// Processes that were still running.
        processes: usize,
        /// Mounts that were still there.
        mounts: usize,
    },
}

impl Daemon {
    /// Removes what is left of the daemon in `folder` if its owner is gone. Safe to repeat and to race.
    ///
    /// Only what bears the folder's name is touched: processes by the mark in their environment, mounts by their place, the
    /// control group by its name.
    ///
    /// # Errors
    /// [`SwarmError::Residue`] when something cannot be removed; the next sweep tries again.
    pub async fn sweep(folder: &Path) -> Result<Swept, SwarmError> {
        let folder = std::path::absolute(folder).map_err(SwarmError::folder("using", folder))?;
        if !folder.exists() {
            remove_control_group(&folder).await?;
            return Ok(Swept::Nothing);
        }
        if owner_lives(&folder)? {
            return Ok(Swept::Alive);
        }
        let processes = kill_marked(&folder).await?;
        let mounts = remove_mounts(&folder)?;
        remove_control_group(&folder).await?;
        remove_folder(&folder).await?;
        if processes + mounts > 0 {
            tracing::warn!(
                daemon.folder = %folder.display(),
                processes,
                mounts,
                "a Docker daemon had outlived its owner and was removed"
            );
        }
        Ok(Swept::Removed { processes, mounts })
    }
}

/// Whether somebody holds the folder's lock. The daemon itself takes it shared, for a moment, when its owner has ended; so it
/// is asked for shared here as well. A folder without one was given up before it had an owner.
fn owner_lives(folder: &Path) -> Result<bool, SwarmError> {
    let path = owner_in(folder);
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(SwarmError::folder("opening", path)(error)),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(fs::TryLockError::WouldBlock) => Ok(true),
        Err(fs::TryLockError::Error(error)) => Err(SwarmError::folder("locking", path)(error)),
    }
}

/// Kills every process that has the folder's mark in its environment, and waits for the end of each.
async fn kill_marked(folder: &Path) -> Result<usize, SwarmError> {
    let mut killed = 0;
    let own = std::process::id();
    // Again until there is none: a process may start another one in between.
    loop {
        let mut found = Vec::new();
        for pid in pids().filter(|pid| *pid != own && is_marked(*pid, folder)) {
            let held = PidFd::open(pid).map_err(SwarmError::folder("holding a process of", folder))?;
            // Looked at again: the id may have changed hands before it was held.
            found.extend(held.filter(|held| is_marked(held.pid(), folder)));
        }
        if found.is_empty() {
            return Ok(killed);
        }
        for process in &found {
            process.kill().map_err(SwarmError::folder("killing a process of", folder))?;
        }
        for process in &found {
            process.ended(folder).await?;
            killed += 1;
        }
    }
}

fn is_marked(pid: u32, folder: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let mark = [MARK.as_bytes(), b"=", folder.as_os_str().as_bytes()].concat();
    // Gone, or a zombie: then there is nothing to read.
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|entry| entry == mark))
}
