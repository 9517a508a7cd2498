//! Which disks the kernel knows: one entry per physical disk, however many paths or namespaces it shows.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use assay_model::host::smart::DiskClass;
use assay_model::text::clean;

use crate::Machine;

/// Makers of disks that exist only in software.
const VIRTUAL_VENDORS: [&str; 5] = ["QEMU", "VMware", "Msft", "VBOX", "XEN"];

/// A disk as sysfs describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KernelDisk {
    pub(super) name: String,
    pub(super) class: DiskClass,
    pub(super) serial: Option<String>,
    pub(super) wwn: Option<String>,
    pub(super) model: Option<String>,
    /// A paravirtual disk: there is nothing that could be asked.
    pub(super) paravirtual: bool,
    /// A disk of a hypervisor: health data is not to be expected, but is asked for.
    pub(super) emulated: bool,
}

/// The disks of a machine in the order of their names.
pub(super) fn list(machine: &Machine) -> std::io::Result<Vec<KernelDisk>> {
    let mut names: Vec<String> = fs::read_dir(machine.path("sys/block"))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_disk(name) && !is_empty_slot(machine, name))
        .collect();
    names.sort();
    let mut seen = HashSet::new();
    let disks = names.into_iter().map(|name| describe(machine, name));
    Ok(disks.filter(|disk| seen.insert(physical_identity(disk))).collect())
}

fn is_disk(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let letters = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase());
    if let Some(rest) = name.strip_prefix("nvme") {
        // `nvme0c1n1` is one path of a multipath namespace, not a disk of its own.
        return rest
            .split_once('n')
            .is_some_and(|(controller, namespace)| digits(controller) && digits(namespace));
    }
    ["sd", "vd", "xvd"].iter().any(|prefix| name.strip_prefix(prefix).is_some_and(letters))
}

/// A card reader or a BMC's virtual drive without a medium. A fixed disk of size 0 is a sick disk and stays.
fn is_empty_slot(machine: &Machine, name: &str) -> bool {
    let told = |file: &str| text(&machine.path(format!("sys/block/{name}/{file}")));
    told("removable").as_deref() == Some("1") && told("size").as_deref() == Some("0")
}

fn describe(machine: &Machine, name: String) -> KernelDisk {
    let folder = machine.path(format!("sys/block/{name}"));
    let paravirtual = name.starts_with("vd") || name.starts_with("xvd");
    let vendor = text(&folder.join("device/vendor"));
    let (class, serial) = if name.starts_with("nvme") {
        (DiskClass::Nvme, text(&folder.join("device/serial")))
    } else if paravirtual {
        (DiskClass::Unknown, text(&folder.join("serial")))
    } else {
        let class = if vendor.as_deref() == Some("ATA") { DiskClass::Ata } else { DiskClass::Scsi };
        (class, page80(&folder.join("device/vpd_pg80")))
    };
    let emulated = vendor.as_deref().is_some_and(|vendor| VIRTUAL_VENDORS.contains(&vendor));
    let wwn = text(&folder.join("wwid")).or_else(|| text(&folder.join("device/wwid")));
    KernelDisk { class, serial, wwn, model: text(&folder.join("device/model")), paravirtual, emulated, name }
}

/// Two paths to one SAS disk, or two namespaces of one controller, share this.
fn physical_identity(disk: &KernelDisk) -> String {
    if disk.class == DiskClass::Nvme {
        let controller = disk.name.rsplit_once('n').map_or(disk.name.as_str(), |(controller, _)| controller);
        return controller.to_owned();
    }
    match &disk.wwn {
        Some(wwn) if wwn.starts_with("naa.") || wwn.starts_with("eui.") => wwn.clone(),
        _ => disk.name.clone(),
    }
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|raw| clean(&raw)).filter(|text| !text.is_empty())
}

/// The unit serial number page: four bytes of header, then text.
fn page80(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let text = clean(&String::from_utf8_lossy(bytes.get(4..)?));
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_disks_and_of_other_things() {
        for name in ["sda", "sdaa", "vdb", "xvda", "nvme0n1", "nvme12n3"] {
            assert!(is_disk(name), "{name}");
        }
        for name in
            ["sda1", "sr0", "loop0", "dm-0", "md0", "zram0", "nvme0c1n1", "nvme0", "nvme0n1p1", "nbd0", "sd"]
        {
            assert!(!is_disk(name), "{name}");
        }
    }

    #[test]
    fn one_entry_per_physical_disk() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, value: &[u8]| {
            let path = root.path().join("sys/block").join(path);
            fs::create_dir_all(path.parent().expect("has one")).expect("folders");
            fs::write(path, value).expect("a file");
        };
        for namespace in ["nvme0n1", "nvme0n2", "nvme1n1"] {
            write(&format!("{namespace}/device/serial"), b"NV1                 \n");
        }
        for path in ["sda", "sdb"] {
            write(&format!("{path}/device/vendor"), b"SEAGATE \n");
            write(&format!("{path}/device/wwid"), b"naa.5000c500a1b2c3d4\n");
            write(&format!("{path}/device/vpd_pg80"), b"\x00\x80\x00\x04ZA12");
        }
        write("vda/serial", b"V1\n");
        write("sdc/device/vendor", b"QEMU\n");
        write("sdd/removable", b"1\n");
        write("sdd/size", b"0\n");
        let disks = list(&Machine::captured(root.path(), None)).expect("a list");
        let told: Vec<_> = disks.iter().map(|d| (d.name.as_str(), d.serial.as_deref(), d.class)).collect();
        assert_eq!(
            told,
            [
                ("nvme0n1", Some("NV1"), DiskClass::Nvme),
                ("nvme1n1", Some("NV1"), DiskClass::Nvme),
                ("sda", Some("ZA12"), DiskClass::Scsi),
                ("sdc", None, DiskClass::Scsi),
                ("vda", Some("V1"), DiskClass::Unknown),
            ]
        );
        assert!(disks[3].emulated && !disks[3].paravirtual);
        assert!(disks[4].paravirtual);
    }
}
