//! A disk of a test machine that fails on demand: served by a process of its own, which goes with its handle.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use assay_process::{Child, Cmd};
use tokio::time::timeout;

use crate::disk::write_rules;
use crate::error::io_error;
use crate::{DiskRule, QemuError, Struck, VmFolder};

const START_LIMIT: Duration = Duration::from_secs(10);

/// The process behind a disk. Dropping it ends it; QEMU then sees errors only.
#[derive(Debug)]
pub struct ServedDisk {
    /// Where it listens (NBD).
    pub socket: PathBuf,
    rules: PathBuf,
    struck: PathBuf,
    _child: Child,
}

impl ServedDisk {
    /// Serves the image `disk(id)` of `folder` with these rules. `program` is what serves; folder and id are its last
    /// arguments.
    ///
    /// # Errors
    /// [`QemuError::DiskServer`] when it does not come up.
    pub async fn start(
        program: &[OsString],
        folder: &VmFolder,
        id: &str,
        rules: &[DiskRule],
    ) -> Result<Self, QemuError> {
        let file = folder.disk_rules(id);
        write_rules(&file, rules).map_err(io_error("writing", &file))?;
        let Some((first, before)) = program.split_first() else {
            return Err(QemuError::NoDiskServer { disk: id.to_owned() });
        };
        let socket = folder.disk_socket(id);
        let mut child = Cmd::new(first).args(before).arg(folder.path()).arg(id).spawn().await?;
        // It says nothing when it listens, and a connection would be its last client.
        let listening = async {
            while !socket.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let up = tokio::select! {
            up = timeout(START_LIMIT, listening) => up.is_ok(),
            _ = child.wait_beside_lines() => false,
        };
        if up {
            return Ok(Self { socket, rules: file, struck: folder.disk_struck(id), _child: child });
        }
        let mut said = "it said nothing".to_owned();
        while let Ok(Some(line)) = timeout(Duration::from_secs(1), child.next_line()).await {
            said = line.text;
        }
        Err(QemuError::DiskServer { socket, said })
    }

    /// It obeys these rules from now on, in place of those before.
    ///
    /// # Errors
    /// [`QemuError::Io`] when they cannot be written.
    pub fn obey(&self, rules: &[DiskRule]) -> Result<(), QemuError> {
        write_rules(&self.rules, rules).map_err(io_error("writing", &self.rules))
    }

    /// How many requests it has answered with an error so far.
    ///
    /// # Errors
    /// [`QemuError::Io`] when the count cannot be read.
    pub fn struck(&self) -> Result<Struck, QemuError> {
        Struck::read(&self.struck).map_err(io_error("reading", &self.struck))
    }
}
