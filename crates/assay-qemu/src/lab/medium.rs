//! The medium of a lab machine: an image that it sees as a CD in a USB drive, as a BMC's virtual media are.
//!
//! What is inserted is a link in the machine's state folder, so it stays through power cycles and the end of the program
//! that inserted it. The drive is there when the machine is switched on with a medium; from then on media come and go
//! while it runs. A machine that was switched on without one has no drive, and sees a medium at its next power-on.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{Lab, lock};
use crate::{
    QemuError, Qmp, VmFolder,
    command::{MEDIUM_DRIVE, MEDIUM_NODE},
    error::io_error,
    process::VmProcess,
};

impl Lab {
    /// Inserts an image: the machine boots from it after the network and before its disks. The image is read only, and
    /// must stay where it is until it is ejected. One that is in already stays in.
    ///
    /// # Errors
    /// [`QemuError::Invalid`] when another is in, or there is no such image; [`QemuError`] when there is no such machine,
    /// or it is on and does not take it.
    pub async fn insert_medium(&self, name: &str, image: &Path) -> Result<(), QemuError> {
        self.machine(name)?;
        let folder = self.vm_folder(name);
        fs::create_dir_all(folder.path()).map_err(io_error("making", folder.path()))?;
        let image = image.canonicalize().ok().filter(|image| image.is_file()).ok_or_else(|| {
            invalid(name, format!("there is no image {}; name a file that can be read", image.display()))
        })?;
        let _lock = lock(&folder).await?;
        match inserted(&folder)? {
            Some(known) if known == image => return Ok(()),
            Some(known) => {
                return Err(invalid(name, format!("{} is in the drive; eject it first", known.display())));
            }
            None => {}
        }
        if VmProcess::find(&folder.pid()).is_some() {
            let monitor = Qmp::connect(&folder.control()).await?;
            let new = json!({"id": MEDIUM_DRIVE, "filename": image, "format": "raw", "read-only-mode": "read-only"});
            unless_there_is_no_drive(monitor.execute("blockdev-change-medium", new).await)?;
        }
        let (link, part) = (folder.medium(), folder.medium().with_extension("new"));
        match fs::remove_file(&part) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_error("removing", part)(error));
            }
            _ => {}
        }
        symlink(&image, &part).map_err(io_error("making", &part))?;
        fs::rename(&part, &link).map_err(io_error("writing", link))?;
        tracing::info!(machine.name = name, "a medium was inserted");
        Ok(())
    }

    /// Takes the medium out, also out of a machine that has locked its drive: a BMC asks nobody either. Does nothing
    /// where none is in.
    ///
    /// # Errors
    /// [`QemuError`] when there is no such machine, or it is on and does not let go.
    pub async fn eject_medium(&self, name: &str) -> Result<(), QemuError> {
        let folder = self.known_folder(name)?;
        if inserted(&folder)?.is_none() {
            return Ok(());
        }
        let _lock = lock(&folder).await?;
        if VmProcess::find(&folder.pid()).is_some() {
            let monitor = Qmp::connect(&folder.control()).await?;
            let out = json!({"id": MEDIUM_DRIVE, "force": true});
            unless_there_is_no_drive(monitor.execute("eject", out).await)?;
            // What the machine was started with is open until it is let go of; a later one goes with its drive.
            let _ = monitor.execute("blockdev-del", json!({"node-name": MEDIUM_NODE})).await;
        }
        match fs::remove_file(folder.medium()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_error("removing", folder.medium())(error));
            }
            _ => {}
        }
        tracing::info!(machine.name = name, "the medium was ejected");
        Ok(())
    }

    /// The image that is inserted.
    ///
    /// # Errors
    /// [`QemuError`] when there is no such machine.
    pub fn medium(&self, name: &str) -> Result<Option<PathBuf>, QemuError> {
        inserted(&self.known_folder(name)?)
    }
}

/// The image that is inserted, for a machine that is about to be switched on.
pub(super) fn of(name: &str, folder: &VmFolder) -> Result<Option<PathBuf>, QemuError> {
    let image = inserted(folder)?;
    match image {
        Some(image) if !image.exists() => Err(invalid(
            name,
            format!("{} is inserted and gone; eject it, or bring it back", image.display()),
        )),
        image => Ok(image),
    }
}

fn inserted(folder: &VmFolder) -> Result<Option<PathBuf>, QemuError> {
    match fs::read_link(folder.medium()) {
        Ok(image) => Ok(Some(image)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("reading", folder.medium())(error)),
    }
}

/// A machine without a drive was switched on without a medium.
fn unless_there_is_no_drive<T>(answer: Result<T, QemuError>) -> Result<(), QemuError> {
    match answer {
        Err(QemuError::QmpRefused { class, .. }) if class == "DeviceNotFound" => Ok(()),
        answer => answer.map(drop),
    }
}

fn invalid(name: &str, problem: String) -> QemuError {
    QemuError::Invalid { machine: name.to_owned(), field: "medium".to_owned(), problem }
}
