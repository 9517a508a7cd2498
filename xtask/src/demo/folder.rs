//! The demo's folder: the program, the machines, the live image, data and reports.
//!
//! It lies below a folder that everyone may write to, and root runs a program from it. So it must be root's own,
//! and nobody else's to write, or it is refused.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::place;

/// Everything that a netbooted machine is given.
const IMAGE_FILES: [&str; 4] = ["vmlinuz", "base.initrd", "agent.initrd", "manifest.json"];

/// The folder, ours as long as this lives.
pub(super) struct Folder {
    root: PathBuf,
    _lock: File,
}

impl Folder {
    /// Takes the folder for this demo alone.
    pub(super) fn claim(root: &Path) -> Result<Self> {
        match fs::DirBuilder::new().mode(0o755).create(root) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                return Err(e).with_context(|| format!("cannot make {}", root.display()));
            }
            _ => {}
        }
        let found =
            fs::symlink_metadata(root).with_context(|| format!("cannot look at {}", root.display()))?;
        let own = rustix::process::geteuid().as_raw();
        if !found.is_dir() || found.uid() != own || found.mode() & 0o022 != 0 {
            bail!(
                "{} is not a folder that only this user can write to; remove it and try again",
                root.display()
            );
        }
        // The umask may have taken what the control plane's user needs.
        fs::set_permissions(root, Permissions::from_mode(0o755))?;
        let lock = root.join("lock");
        let lock = File::create(&lock).with_context(|| format!("cannot make {}", lock.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root: root.to_path_buf(), _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                bail!("another demo runs in {}; stop it with Ctrl-C first", root.display())
            }
            Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("cannot lock {}", root.display())),
        }
    }

    /// Puts the program, the machines and the live image there.
    pub(super) fn fill(&self) -> Result<()> {
        let repository = place::repository();
        install(&place::debug_builds().join("assay"), &self.program(), 0o755)?;
        for entry in fs::read_dir(repository.join("lab/machines")).context("cannot read lab/machines")? {
            let entry = entry?;
            install(&entry.path(), &self.machines().join(entry.file_name()), 0o644)?;
        }
        for name in IMAGE_FILES {
            install(&repository.join("target/live-image").join(name), &self.live_image().join(name), 0o644)?;
        }
        Ok(())
    }

    /// Removes what the last demo left, so that every demo starts from nothing. Its servers must be stopped.
    pub(super) fn clear(&self) -> Result<()> {
        for folder in [self.data(), self.runner_state(), self.reports(), self.specs()] {
            match fs::remove_dir_all(&folder) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(e).with_context(|| format!("cannot remove {}", folder.display()));
                }
                _ => {}
            }
        }
        for folder in [self.reports(), self.specs()] {
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(())
    }

    pub(super) fn program(&self) -> PathBuf {
        self.root.join("bin/assay")
    }

    pub(super) fn machines(&self) -> PathBuf {
        self.root.join("machines")
    }

    pub(super) fn live_image(&self) -> PathBuf {
        self.root.join("live-image")
    }

    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Where `assay up` keeps its runner's things: beside the data folder.
    pub(super) fn runner_state(&self) -> PathBuf {
        self.root.join("data-runner")
    }

    pub(super) fn reports(&self) -> PathBuf {
        self.root.join("reports")
    }

    pub(super) fn specs(&self) -> PathBuf {
        self.root.join("specs")
    }

    /// Which process serves, so that the next demo can stop it if this one cannot.
    pub(super) fn serving(&self) -> PathBuf {
        self.root.join("serving")
    }

    /// What the servers say.
    pub(super) fn log(&self) -> PathBuf {
        self.root.join("up.log")
    }
}

/// Copies a file, readable for everyone. The old one is replaced and not written into: it may be running.
fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let folder = to.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    let mut beside = to.as_os_str().to_owned();
    beside.push(".new");
    fs::copy(from, &beside).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    fs::set_permissions(&beside, Permissions::from_mode(mode))?;
    fs::rename(&beside, to).with_context(|| format!("cannot replace {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_demo_has_the_folder_and_a_second_is_told() {
        let parent = tempfile::tempdir().expect("a folder");
        let root = parent.path().join("demo");
        let first = Folder::claim(&root).expect("it is free");
        let problem = Folder::claim(&root).err().expect("it is taken").to_string();
        assert!(problem.contains("another demo runs"), "{problem}");
        drop(first);
        Folder::claim(&root).expect("it is free again");
    }

    #[test]
    fn a_folder_that_others_can_write_to_or_a_link_is_refused() {
        let parent = tempfile::tempdir().expect("a folder");
        let open = parent.path().join("open");
        fs::create_dir(&open).expect("made");
        fs::set_permissions(&open, Permissions::from_mode(0o777)).expect("opened");
        let own = parent.path().join("own");
        fs::create_dir(&own).expect("made");
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&own, &link).expect("linked");
        for root in [open, link] {
            let problem = Folder::claim(&root).err().expect("refused").to_string();
            assert!(problem.contains("only this user can write to"), "{problem}");
        }
        Folder::claim(&own).expect("this one is fine");
    }

    #[test]
    fn clearing_removes_the_last_demos_data_and_keeps_the_program() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = Folder::claim(&parent.path().join("demo")).expect("it is free");
        let source = parent.path().join("assay");
        fs::write(&source, "program").expect("written");
        install(&source, &folder.program(), 0o755).expect("installed");
        fs::create_dir_all(folder.data()).expect("made");
        fs::write(folder.data().join("assay.db"), "old").expect("written");
        folder.clear().expect("cleared");
        assert!(!folder.data().exists() && folder.reports().is_dir());
        assert_eq!(fs::metadata(folder.program()).expect("kept").mode() & 0o777, 0o755);
    }
}
