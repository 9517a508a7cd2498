//! The expected spec of a lab machine: what was *ordered*, as the guest's Linux reports it.
//!
//! A proof holds a broken machine against what it should have been, so the spec comes from the order and never
//! from what is there. Everything QEMU presents as written is expected; what it makes up (the model of a virtio
//! disk, the speed of a virtio port without one, whether a virtio disk rotates) is left out, because a spec that
//! a healthy machine cannot meet proves nothing.

use assay_model::host::spec::{
    ClusterSpec, CpuSpec, DimmSpec, DiskClass, DiskFloors, DiskSpec, HostSpec, Limits, MemorySpec,
    NetworkLimits, NicSpec, StorageLimits, SystemSpec,
};
use assay_qemu::{Dimm, Disk, DiskBus, Machine, Nic, NicModel};

/// What QEMU writes as the model of every NVMe disk.
const NVME_MODEL: &str = "QEMU NVMe Ctrl";
/// What Intel cards say, whatever is at the other end.
const INTEL_SPEED_MBPS: u32 = 1000;
const MIB: u64 = 1024 * 1024;
/// A simulated port's share of its line rate.
const LINE_PERCENT: u32 = 10;

/// QEMU's Intel cards drop a frame now and then that the host's offloading made longer than the wire allows, and count
/// it as an error of its length: 2 in a few seconds of full speed.
const INTEL_ERRORS: u64 = 64;

/// The expected spec of the machine `ordered`.
pub(crate) fn expected(ordered: &Machine) -> HostSpec {
    let smbios = &ordered.smbios;
    // QEMU counts processors as cores of one socket unless told otherwise.
    let cpus = Some(u32::from(ordered.cpus));
    HostSpec {
        system: SystemSpec {
            manufacturer: told(&smbios.manufacturer),
            product: told(&smbios.product),
            serial: told(&smbios.serial),
            uuid: Some(smbios.uuid.to_string()),
            asset_tag: told(&smbios.asset_tag),
            bios_version: told(&smbios.bios_version),
        },
        cpu: CpuSpec { sockets: Some(1), cores: cpus, threads: cpus, ..CpuSpec::default() },
        memory: MemorySpec {
            total_mib: Some(ordered.memory_mib()),
            dimms: ordered.dimms.iter().filter(|dimm| dimm.size_mib > 0).map(module).collect(),
        },
        disks: ordered.disks.iter().map(disk).collect(),
        nics: ordered.nics.iter().map(nic).collect(),
        // Nobody else counts on the disks of a simulated machine.
        cluster: Some(ClusterSpec::None),
        limits: limits(ordered),
        ..HostSpec::default()
    }
}

/// What a simulated machine reaches although it shares two cores with its neighbours. Its disks and ports claim to be
/// real ones, and are a process of the host; a fault of the lab is far below these floors.
fn limits(ordered: &Machine) -> Limits {
    let floors = DiskFloors {
        read_mb_s: Some(2),
        write_mb_s: Some(2),
        read_iops: Some(150),
        write_iops: Some(75),
        // No stall of the host may look like a slow disk: p99 times are not held against it.
        read_p99_ms: Some(u32::MAX),
        write_p99_ms: Some(u32::MAX),
    };
    let storage = StorageLimits {
        nvme: floors,
        ssd: floors,
        hdd: DiskFloors { read_iops: Some(60), write_iops: Some(60), ..floors },
        ..StorageLimits::default()
    };
    let is_intel = ordered.nics.iter().any(|nic| nic.model != NicModel::Virtio);
    let network = NetworkLimits {
        percent_of_line_min: LINE_PERCENT,
        errors_max: if is_intel { INTEL_ERRORS } else { 0 },
        ..NetworkLimits::default()
    };
    Limits { storage, network, ..Limits::default() }
}

fn module(dimm: &Dimm) -> DimmSpec {
    DimmSpec {
        locator: told(&dimm.locator),
        bank: told(&dimm.bank),
        size_mib: Some(u64::from(dimm.size_mib)),
        serial: told(&dimm.serial),
        part: told(&dimm.part),
        manufacturer: told(&dimm.manufacturer),
    }
}

fn disk(disk: &Disk) -> DiskSpec {
    let (model, class) = match disk.bus {
        DiskBus::Nvme => (Some(NVME_MODEL.to_owned()), Some(DiskClass::Nvme)),
        DiskBus::Sata => (disk.model.clone(), Some(rotation(disk))),
        // The SCSI layer puts the vendor before the model, and QEMU chooses the vendor.
        DiskBus::Scsi => (None, Some(rotation(disk))),
        // virtio has no model and says nothing trustworthy about rotation.
        DiskBus::Virtio => (None, None),
    };
    DiskSpec {
        serial: told(&disk.serial),
        wwn: disk.wwn.clone(),
        model,
        size_bytes: Some(disk.size_mib * MIB),
        class,
        bay: Some(disk.id.clone()),
        ..DiskSpec::default()
    }
}

fn rotation(disk: &Disk) -> DiskClass {
    if disk.rotational { DiskClass::Hdd } else { DiskClass::Ssd }
}

fn nic(nic: &Nic) -> NicSpec {
    let (driver, speed) = match nic.model {
        NicModel::Virtio => ("virtio_net", nic.speed),
        NicModel::E1000e => ("e1000e", Some(INTEL_SPEED_MBPS)),
        NicModel::Igb => ("igb", Some(INTEL_SPEED_MBPS)),
    };
    NicSpec { mac: Some(nic.mac.to_string()), driver: Some(driver.to_owned()), min_speed_mbps: speed }
}

/// An empty text in a machine file is one that the machine does not tell.
fn told(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use assay_model::host::inventory::{
        Bios, Cpu, Dimm as SeenDimm, Disk as SeenDisk, Inventory, Memory, Nic as SeenNic, System, Transport,
    };
    use assay_model::host::spec::compare;
    use assay_qemu::LabMachine;

    use super::*;

    fn machine(name: &str) -> LabMachine {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lab/machines");
        LabMachine::load(&folder, name).expect("the machine file is good")
    }

    /// The machine as its guest tells it. Upper case and padding are real firmware's habits.
    fn guest(machine: &Machine) -> Inventory {
        let smbios = &machine.smbios;
        let cpus = Some(u32::from(machine.cpus));
        Inventory {
            format: 1,
            system: System {
                manufacturer: Some(smbios.manufacturer.clone()),
                product: Some(smbios.product.clone()),
                serial: Some(smbios.serial.clone()),
                uuid: Some(smbios.uuid.to_string().to_uppercase()),
                asset_tag: Some(smbios.asset_tag.clone()),
                ..System::default()
            },
            bios: Bios { version: Some(smbios.bios_version.clone()), ..Bios::default() },
            cpus: vec![Cpu { cores: cpus, threads: cpus, ..Cpu::default() }],
            memory: Memory {
                // A guest of 2048 MiB was seen with 1965.
                total_mib: Some(machine.memory_mib() - 83),
                dimms: machine.dimms.iter().map(seen_module).collect(),
            },
            disks: machine.disks.iter().map(seen_disk).collect(),
            nics: machine.nics.iter().map(seen_nic).collect(),
            ..Inventory::default()
        }
    }

    fn seen_module(dimm: &Dimm) -> SeenDimm {
        SeenDimm {
            locator: told(&dimm.locator),
            bank: told(&dimm.bank),
            size_mib: Some(u64::from(dimm.size_mib)),
            manufacturer: told(&dimm.manufacturer),
            part: told(&dimm.part),
            serial: told(&dimm.serial),
            ..SeenDimm::default()
        }
    }

    fn seen_disk(disk: &Disk) -> SeenDisk {
        let (transport, model, rotational) = match disk.bus {
            DiskBus::Nvme => (Transport::Nvme, Some(NVME_MODEL.to_owned()), false),
            DiskBus::Sata => (Transport::Sata, disk.model.clone(), disk.rotational),
            DiskBus::Scsi => {
                (Transport::Sas, disk.model.as_ref().map(|m| format!("QEMU {m}")), disk.rotational)
            }
            DiskBus::Virtio => (Transport::Virtio, None, true),
        };
        SeenDisk {
            name: disk.id.clone(),
            serial: Some(disk.serial.clone()),
            wwn: disk.wwn.as_ref().map(|wwn| wwn.replace("0x", "naa.")),
            model,
            size_bytes: Some(disk.size_mib * MIB),
            transport,
            rotational: Some(rotational),
            ..SeenDisk::default()
        }
    }

    fn seen_nic(nic: &Nic) -> SeenNic {
        let driver = match nic.model {
            NicModel::Virtio => "virtio_net",
            NicModel::E1000e => "e1000e",
            NicModel::Igb => "igb",
        };
        SeenNic {
            mac: Some(nic.mac.to_string()),
            driver: Some(driver.to_owned()),
            speed_mbps: if nic.model == NicModel::Virtio { nic.speed } else { Some(1000) },
            carrier: Some(true),
            ..SeenNic::default()
        }
    }

    #[test]
    fn a_machine_that_is_as_ordered_meets_its_spec_in_every_field() {
        for name in ["healthy-bios", "healthy-uefi", "failing-nvme"] {
            let machine = machine(name);
            let comparison = compare(&expected(&machine.ordered), &guest(&machine.actual));
            assert_eq!(comparison.diffs, [], "{name}");
            assert_eq!(comparison.unread, [], "{name}");
            assert!(comparison.agreed.len() > 30, "{name}: {}", comparison.agreed.len());
        }
    }

    #[test]
    fn the_spec_is_of_the_order_and_not_of_what_is_there() {
        for (name, codes) in [
            ("missing-dimm", vec!["DimmMissing", "MemoryTotal"]),
            ("swapped-disk", vec!["DiskMissing", "DiskUnexpected"]),
        ] {
            let machine = machine(name);
            let comparison = compare(&expected(&machine.ordered), &guest(&machine.actual));
            let seen: Vec<_> = comparison.diffs.iter().map(|diff| diff.code.as_str()).collect();
            assert_eq!(seen, codes, "{name}");
        }
    }

    #[test]
    fn it_reads_back_and_leaves_out_what_qemu_makes_up() {
        let spec = expected(&machine("healthy-bios").ordered);
        assert_eq!(HostSpec::from_yaml(&spec.to_yaml()).expect("it reads"), spec);
        let disks: Vec<_> =
            spec.disks.iter().map(|d| (d.bay.as_deref(), d.model.as_deref(), d.class)).collect();
        assert_eq!(
            disks,
            [
                (Some("nvme0"), Some(NVME_MODEL), Some(DiskClass::Nvme)),
                (Some("sata0"), Some("ASSAY HDD 7K2"), Some(DiskClass::Hdd)),
                (Some("vd0"), None, None),
            ]
        );
        let modules: Vec<_> = spec.memory.dimms.iter().filter_map(|d| d.locator.as_deref()).collect();
        assert_eq!(modules, ["DIMM_A1", "DIMM_B1"], "empty slots are not expected to hold anything");

        // A virtio port without a speed has none to hold it to.
        let mut machine = machine("healthy-bios").ordered;
        machine.nics[0].speed = None;
        assert_eq!(expected(&machine).nics[0].min_speed_mbps, None);
    }
}
