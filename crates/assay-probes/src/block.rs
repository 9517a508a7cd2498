//! Disks and their identity, from `sys/block`.
//!
//! A kernel name is not an identity: it changes from boot to boot. What counts is what the device itself says: its
//! serial number and its world-wide name. Sources, best first: the device's identify data (NVMe attributes; the ATA
//! page 0x89, as the SCSI layer cuts models to 16 and revisions to 4 characters), SCSI page 0x80, udev's database
//! and the USB device itself (for USB bridges, which often have no pages).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use assay_model::host::inventory::{Disk, Transport};

use crate::Machine;
use crate::files::{attribute, bytes, entries, number, pci_address, text, told};

/// Block devices that are no disks of the machine: memory, files, mappings of other disks, optical drives, network.
const NOT_DISKS: [&str; 14] = [
    "loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd", "rbd", "drbd", "bcache", "zd", "mtdblock",
    "ubiblock",
];

/// Every disk once.
pub(crate) fn disks(machine: &Machine, problems: &mut Vec<String>) -> Vec<Disk> {
    let mut disks: Vec<Disk> = Vec::new();
    for (name, folder) in entries(&machine.path("sys/block")) {
        let Some(disk) = disk(machine, &name, &folder) else {
            continue;
        };
        if disk.size_bytes == Some(0) {
            problems.push(format!(
                "disk {name} says that it has no sectors: it did not start up, or it is not ready"
            ));
        }
        match disks.iter_mut().find(|known| is_same(known, &disk)) {
            Some(known) => known.also.push(name),
            None => disks.push(disk),
        }
    }
    disks
}

fn disk(machine: &Machine, name: &str, folder: &Path) -> Option<Disk> {
    // Paths to one NVMe namespace are hidden devices behind the one that counts; a card's boot areas are parts of it.
    let hidden = number::<u8>(&folder.join("hidden")) == Some(1);
    let part_of_card = name.starts_with("mmcblk") && (name.contains("boot") || name.ends_with("rpmb"));
    if hidden || part_of_card || NOT_DISKS.iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    let resolved = resolved(machine, folder);
    let virtual_device = resolved.to_string_lossy().contains("/devices/virtual/");
    // With native multipath an NVMe namespace is a virtual device below its subsystem.
    if virtual_device && !name.starts_with("nvme") {
        return None;
    }
    let sectors: Option<u64> = number(&folder.join("size"));
    let removable = number::<u8>(&folder.join("removable")).map(|flag| flag == 1);
    if removable == Some(true) && sectors == Some(0) {
        return None; // An empty card reader.
    }
    let queue = folder.join("queue");
    let device = folder.join("device");
    let transport = transport(name, &resolved, &device);
    let identity = identity(machine, name, folder, &device);
    Some(Disk {
        name: name.to_owned(),
        also: Vec::new(),
        serial: identity.serial,
        wwn: identity.wwn,
        model: identity.model,
        firmware: identity.firmware,
        // The kernel counts in 512-byte units whatever the sector size.
        size_bytes: sectors.and_then(|sectors| sectors.checked_mul(512)),
        transport,
        rotational: number::<u8>(&queue.join("rotational")).map(|flag| flag == 1),
        removable,
        logical_sector: number(&queue.join("logical_block_size")),
        physical_sector: number(&queue.join("physical_block_size")),
        pci_path: controller(machine, &resolved, &device),
    })
}

/// Two names of one disk: the same world-wide name, the same size, and no contradicting serial number. A serial number
/// alone is not enough: NVMe namespaces share one, and cheap bridges all have the same.
fn is_same(a: &Disk, b: &Disk) -> bool {
    let strong =
        |wwn: &&String| ["naa.", "eui.", "nvme.", "uuid."].iter().any(|prefix| wwn.starts_with(prefix));
    let same_serial = match (&a.serial, &b.serial) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    a.wwn.as_ref().filter(strong).is_some_and(|wwn| b.wwn.as_ref() == Some(wwn))
        && a.size_bytes == b.size_bytes
        && same_serial
}

fn transport(name: &str, resolved: &Path, device: &Path) -> Transport {
    if name.starts_with("nvme") {
        return Transport::Nvme;
    }
    if name.starts_with("vd") {
        return Transport::Virtio;
    }
    if name.starts_with("mmcblk") {
        return Transport::Mmc;
    }
    let path = resolved.to_string_lossy();
    let part = |prefix: &str, then_digit: bool| {
        path.split('/').any(|part| {
            part.strip_prefix(prefix)
                .is_some_and(|rest| !then_digit || rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    };
    let ata = text(&device.join("vendor")).is_some_and(|vendor| vendor.trim() == "ATA");
    if part("usb", true) {
        Transport::Usb
    } else if part("ata", true) || ata {
        // Also behind a SAS controller: the disk itself is an ATA one.
        Transport::Sata
    } else if part("end_device-", false) {
        Transport::Sas
    } else if part("rport-", false) {
        Transport::Fc
    } else if part("session", true) {
        Transport::Iscsi
    } else if part("virtio", true) {
        Transport::Virtio
    } else if name.starts_with("sd") {
        Transport::Scsi
    } else {
        Transport::Other
    }
}

#[derive(Default)]
struct Identity {
    serial: Option<String>,
    wwn: Option<String>,
    model: Option<String>,
    firmware: Option<String>,
}

fn identity(machine: &Machine, name: &str, folder: &Path, device: &Path) -> Identity {
    let ata = bytes(&device.join("vpd_pg89"), 4096).map(|page| ata_identify(&page)).unwrap_or_default();
    let udev = udev(machine, folder);
    let from_udev = |key: &str| udev.get(key).and_then(|value| told(value));
    let scsi = name.starts_with("sd");
    let vendor = attribute(&device.join("vendor"))
        .filter(|vendor| scsi && vendor != "ATA" && !vendor.starts_with("0x"));
    let model = attribute(&device.join("model")).map(|model| match vendor {
        Some(vendor) if !model.starts_with(&vendor) => format!("{vendor} {model}"),
        _ => model,
    });
    Identity {
        serial: ata
            .serial
            .or_else(|| page_80(&bytes(&device.join("vpd_pg80"), 4096)?))
            .or_else(|| attribute(&folder.join("serial")))
            .or_else(|| attribute(&device.join("serial")))
            .or_else(|| from_udev("ID_SERIAL_SHORT"))
            .or_else(|| usb_serial(folder)),
        wwn: [folder.join("wwid"), device.join("wwid")]
            .iter()
            .find_map(|path| attribute(path))
            .or_else(|| from_udev("ID_WWN"))
            .map(|wwn| wwn.split_whitespace().collect::<Vec<_>>().join(" ")),
        model: ata
            .model
            .or(model)
            .or_else(|| attribute(&device.join("name")))
            .or_else(|| from_udev("ID_MODEL")),
        firmware: ata
            .firmware
            .or_else(|| attribute(&device.join("firmware_rev")))
            .or_else(|| attribute(&device.join("rev")))
            .or_else(|| from_udev("ID_REVISION")),
    }
}

/// SCSI page 0x80: a header of four bytes with the length, then the serial number.
fn page_80(page: &[u8]) -> Option<String> {
    let &[_, 0x80, high, low, ..] = page else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let serial = page.get(4..)?;
    told(&String::from_utf8_lossy(serial.get(..length).unwrap_or(serial)))
}

/// SCSI page 0x89 holds an ATA disk's IDENTIFY data from byte 60: text in 16-bit words, each with its bytes swapped.
fn ata_identify(page: &[u8]) -> Identity {
    let words = |first: usize, last: usize| {
        if page.get(1) != Some(&0x89) {
            return None;
        }
        let raw = page.get(60 + first * 2..60 + (last + 1) * 2)?;
        let swapped: Vec<u8> = raw.chunks_exact(2).flat_map(|pair| [pair[1], pair[0]]).collect();
        told(&String::from_utf8_lossy(&swapped))
    };
    Identity { serial: words(10, 19), wwn: None, model: words(27, 46), firmware: words(23, 26) }
}

/// The serial number of the USB device that a disk is behind, for bridges that pass no pages on.
fn usb_serial(folder: &Path) -> Option<String> {
    let resolved = folder.canonicalize().ok()?;
    let usb = resolved.ancestors().find(|above| above.join("idVendor").exists())?;
    attribute(&usb.join("serial"))
}

/// What udev knows of a block device: `E:KEY=value` lines in its database.
fn udev(machine: &Machine, folder: &Path) -> HashMap<String, String> {
    let Some(numbers) = attribute(&folder.join("dev")) else {
        return HashMap::new();
    };
    let database = text(&machine.path(format!("run/udev/data/b{numbers}"))).unwrap_or_default();
    let pairs = database.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn resolved(machine: &Machine, folder: &Path) -> PathBuf {
    let path = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    // Without the folder that a captured machine lies in, which may have any name.
    let root = machine.path("").canonicalize().unwrap_or_default();
    path.strip_prefix(&root).map(|inner| Path::new("/").join(inner)).unwrap_or(path)
}

fn controller(machine: &Machine, resolved: &Path, device: &Path) -> Option<String> {
    pci_address(resolved).or_else(|| {
        // Multipath NVMe: the subsystem links to its controllers.
        let controllers = entries(device).into_iter().filter(|(name, _)| name.starts_with("nvme"));
        controllers.into_iter().find_map(|(_, path)| pci_address(&self::resolved(machine, &path)))
    })
}
