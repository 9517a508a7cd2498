//! A spec from a first inventory: what a known-good machine is now is what it must be after a repair.

use std::collections::{BTreeMap, BTreeSet};

use super::{CpuSpec, DimmSpec, DiskClass, DiskSpec, GpuSpec, HostSpec, MemorySpec, NicSpec, SystemSpec};
use crate::host::inventory::{Disk, Inventory, Memory, Nic, Transport};

impl HostSpec {
    /// Writes down all that the machine tells and that a repair must not change unnoticed. Left out are removable
    /// media, empty slots, and plain PCI devices (their list is long and says little; accelerators are kept).
    /// Link speeds are kept as they are now, so capture while every port that matters is plugged in.
    pub fn capture(inventory: &Inventory) -> Self {
        let system = &inventory.system;
        Self {
            system: SystemSpec {
                manufacturer: system.manufacturer.clone(),
                product: system.product.clone(),
                serial: system.serial.clone(),
                uuid: system.uuid.clone(),
                asset_tag: system.asset_tag.clone(),
                bios_version: inventory.bios.version.clone(),
            },
            cpu: cpu(inventory),
            memory: MemorySpec {
                total_mib: inventory.memory.installed_mib().or(inventory.memory.total_mib),
                dimms: dimms(&inventory.memory),
            },
            disks: disks(&inventory.disks),
            nics: nics(&inventory.nics),
            gpus: gpus(inventory),
            ..Self::default()
        }
    }
}

impl DiskClass {
    /// What a disk is, from how it is attached and whether it spins; `None` when it does not tell.
    pub fn of(disk: &Disk) -> Option<Self> {
        match (disk.transport, disk.rotational) {
            (Transport::Nvme, _) => Some(Self::Nvme),
            (_, Some(true)) => Some(Self::Hdd),
            (_, Some(false)) => Some(Self::Ssd),
            (_, None) => None,
        }
    }
}

fn is_fixed(disk: &Disk) -> bool {
    disk.removable != Some(true)
}

fn cpu(inventory: &Inventory) -> CpuSpec {
    let cpus = &inventory.cpus;
    CpuSpec {
        model: the_one(cpus.iter().map(|cpu| cpu.model.as_deref())),
        sockets: u32::try_from(cpus.len()).ok().filter(|&n| n > 0),
        cores: inventory.cores(),
        threads: inventory.threads(),
        microcode: the_one(cpus.iter().map(|cpu| cpu.microcode.as_deref())),
    }
}

/// The value that all have; `None` when they differ or one does not tell.
fn the_one<'a>(mut values: impl Iterator<Item = Option<&'a str>>) -> Option<String> {
    let first = values.next().flatten()?;
    values.all(|value| value == Some(first)).then(|| first.to_owned())
}

fn dimms(memory: &Memory) -> Vec<DimmSpec> {
    let mut slots: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    for dimm in &memory.dimms {
        *slots.entry(dimm.locator.as_deref()).or_default() += 1;
    }
    memory
        .dimms
        .iter()
        .filter(|dimm| dimm.size_mib != Some(0) && (dimm.locator.is_some() || dimm.serial.is_some()))
        .map(|dimm| DimmSpec {
            locator: dimm.locator.clone(),
            bank: dimm.bank.clone().filter(|_| slots.get(&dimm.locator.as_deref()).is_some_and(|&n| n > 1)),
            size_mib: dimm.size_mib,
            serial: dimm.serial.clone(),
            part: dimm.part.clone(),
            manufacturer: dimm.manufacturer.clone(),
        })
        .collect()
}

/// A disk that says nothing at all cannot be expected, and one with the identity of another is listed once: the spec
/// must read back.
fn disks(disks: &[Disk]) -> Vec<DiskSpec> {
    let mut seen = BTreeSet::new();
    let mut captured = Vec::new();
    for want in disks.iter().filter(|disk| is_fixed(disk)).map(disk) {
        let described = want.model.is_some() || want.class.is_some() || want.size_bytes.is_some();
        let identity = want.wwn.as_ref().or(want.serial.as_ref()).map(|id| id.to_lowercase());
        if identity.map_or(described, |identity| seen.insert(identity)) {
            captured.push(want);
        }
    }
    captured
}

fn nics(nics: &[Nic]) -> Vec<NicSpec> {
    let mut seen = BTreeSet::new();
    let mut captured = Vec::new();
    for nic in nics {
        let want =
            NicSpec { mac: nic.mac.clone(), driver: nic.driver.clone(), min_speed_mbps: nic.speed_mbps };
        if want.mac.clone().map_or(want.driver.is_some(), |mac| seen.insert(mac)) {
            captured.push(want);
        }
    }
    captured
}

fn disk(disk: &Disk) -> DiskSpec {
    DiskSpec {
        serial: disk.serial.clone(),
        wwn: disk.wwn.clone(),
        model: disk.model.clone(),
        min_size_gb: None,
        size_bytes: disk.size_bytes,
        class: DiskClass::of(disk),
        firmware: disk.firmware.clone(),
        bay: None,
    }
}

fn gpus(inventory: &Inventory) -> Vec<GpuSpec> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for gpu in &inventory.gpus {
        *counts.entry(&gpu.vendor_device).or_default() += 1;
    }
    counts.into_iter().map(|(id, count)| GpuSpec { id: id.to_owned(), count }).collect()
}
