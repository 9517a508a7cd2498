//! The machines that strangers' recipes are tested in: where their image is, and how large they are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use assay_runner::{BOOT, CPUS, DISK_MIB, MEMORY_MIB, MachineSettings};
use clap::Args;

use super::local;
use crate::place;
use crate::ui;

#[derive(Args, Clone, Debug)]
pub(crate) struct GuestArgs {
    /// The folder with the guest image, for recipes that are tested in a virtual machine [default: that of this machine's data folder,
    /// or else target/guest-image].
    #[arg(long, value_name = "FOLDER", env = "ASSAY_GUEST_IMAGE")]
    guest_image: Option<PathBuf>,
    /// Memory of such a machine, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = MEMORY_MIB, value_parser = clap::value_parser!(u32).range(1024..))]
    guest_memory: u32,
    /// Its processors.
    #[arg(long, value_name = "N", default_value_t = CPUS, value_parser = clap::value_parser!(u16).range(1..=255))]
    guest_cpus: u16,
    /// Its disk, for images and volumes, in MiB; it takes that much room only where it is written.
    #[arg(long, value_name = "MIB", default_value_t = DISK_MIB, value_parser = clap::value_parser!(u64).range(1024..))]
    guest_disk: u64,
    /// How many seconds it may take to boot.
    #[arg(long, value_name = "SECONDS", default_value_t = BOOT.as_secs(), value_parser = clap::value_parser!(u64).range(10..))]
    guest_boot: u64,
}

impl GuestArgs {
    /// Machines with this image, and everything else as it is by default.
    pub(crate) fn with(guest_image: Option<PathBuf>) -> Self {
        Self {
            guest_image,
            guest_memory: MEMORY_MIB,
            guest_cpus: CPUS,
            guest_disk: DISK_MIB,
            guest_boot: BOOT.as_secs(),
        }
    }

    /// Machines in a folder of the runner's.
    pub(crate) fn settings(&self, state: &Path) -> Result<MachineSettings> {
        Ok(MachineSettings {
            image: image(self.guest_image.clone()),
            folder: state.join("machines"),
            program: std::env::current_exe().context("finding this program")?,
            accel: local::cache()?.join("accel.json"),
            cpus: self.guest_cpus,
            memory_mib: self.guest_memory,
            disk_mib: self.guest_disk,
            boot: Duration::from_secs(self.guest_boot),
        })
    }

    /// The same, where they can be started; without an image that was named, there are just none.
    pub(crate) fn settings_if_any(&self, state: &Path) -> Result<Option<MachineSettings>> {
        let settings = self.settings(state)?;
        match settings.check() {
            Ok(_) => Ok(Some(settings)),
            Err(why) if self.guest_image.is_some() => Err(anyhow::anyhow!("{why}")),
            Err(why) => {
                ui::say(&format!("no recipes of strangers are taken: {why}"));
                Ok(None)
            }
        }
    }
}

/// The folder of the guest image: the one named, that of the data folder, or that of a working copy.
pub(crate) fn image(named: Option<PathBuf>) -> PathBuf {
    let installed = place::default_data().join("guest-image");
    let built = PathBuf::from("target/guest-image");
    let there = |folder: &Path| folder.join("manifest.json").exists();
    let image = named.unwrap_or_else(|| if !there(&installed) && there(&built) { built } else { installed });
    std::path::absolute(&image).unwrap_or(image)
}
