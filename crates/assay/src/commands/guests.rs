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
    #[arg(long = "guest-image", id = "guest_image", value_name = "FOLDER", env = "ASSAY_GUEST_IMAGE")]
    image: Option<PathBuf>,
    /// Memory of such a machine, in MiB.
    #[arg(long = "guest-memory", id = "guest_memory", value_name = "MIB", default_value_t = MEMORY_MIB, value_parser = clap::value_parser!(u32).range(1024..))]
    memory: u32,
    /// Its processors.
    #[arg(long = "guest-cpus", id = "guest_cpus", value_name = "N", default_value_t = CPUS, value_parser = clap::value_parser!(u16).range(1..=255))]
    cpus: u16,
    /// Its disk, for images and volumes, in MiB; it takes that much room only where it is written.
    #[arg(long = "guest-disk", id = "guest_disk", value_name = "MIB", default_value_t = DISK_MIB, value_parser = clap::value_parser!(u64).range(1024..))]
    disk: u64,
    /// How many seconds it may take to boot.
    #[arg(long = "guest-boot", id = "guest_boot", value_name = "SECONDS", default_value_t = BOOT.as_secs(), value_parser = clap::value_parser!(u64).range(10..))]
    boot: u64,
}

impl GuestArgs {
    /// Machines with this image, and everything else as it is by default.
    pub(crate) fn with(image: Option<PathBuf>) -> Self {
        Self { image, memory: MEMORY_MIB, cpus: CPUS, disk: DISK_MIB, boot: BOOT.as_secs() }
    }

    /// Machines in a folder of the runner's.
    pub(crate) fn settings(&self, state: &Path) -> Result<MachineSettings> {
        Ok(MachineSettings {
            image: image(self.image.clone()),
            folder: state.join("machines"),
            program: std::env::current_exe().context("finding this program")?,
            accel: local::cache()?.join("accel.json"),
            cpus: self.cpus,
            memory_mib: self.memory,
            disk_mib: self.disk,
            boot: Duration::from_secs(self.boot),
        })
    }

    /// The same, where they can be started; without an image that was named, there are just none.
    pub(crate) fn settings_if_any(&self, state: &Path) -> Result<Option<MachineSettings>> {
        let settings = self.settings(state)?;
        match settings.check() {
            Ok(_) => Ok(Some(settings)),
            Err(why) if self.image.is_some() => Err(anyhow::anyhow!("{why}")),
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
