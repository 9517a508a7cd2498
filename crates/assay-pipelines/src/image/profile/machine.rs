//! The machine that an image is tested on.

use assay_model::Mac;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Size, is_default};

/// The machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct MachineSpec {
    /// Processor architecture.
    #[serde(skip_serializing_if = "is_default")]
    pub arch: Architecture,
    /// Firmware.
    #[serde(skip_serializing_if = "is_default")]
    pub firmware: Firmware,
    /// Whether it has a TPM 2.0.
    #[serde(skip_serializing_if = "is_default")]
    pub tpm: bool,
    /// Processors.
    pub cpus: u16,
    /// Memory.
    pub memory: Size,
    /// What its clock says when it is switched on, in UTC: `1970-01-01T00:00:00`. The time of day without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<String>,
    /// Whether it has a watchdog (i6300esb) whose bite ends the run.
    #[serde(skip_serializing_if = "is_default")]
    pub watchdog: bool,
    /// Disks, in the order in which the firmware finds them. One of 8 GiB behind virtio without any.
    #[serde(rename = "disk", skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskSpec>,
    /// Network ports. One on a network without a way out, without any.
    #[serde(rename = "nic", skip_serializing_if = "Vec::is_empty")]
    pub nics: Vec<NicSpec>,
}

impl Default for MachineSpec {
    fn default() -> Self {
        Self {
            arch: Architecture::X86_64,
            firmware: Firmware::Bios,
            tpm: false,
            cpus: 2,
            memory: Size(2 << 30),
            clock: None,
            watchdog: false,
            disks: Vec::new(),
            nics: Vec::new(),
        }
    }
}

/// Processor architecture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Architecture {
    /// PC.
    #[default]
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit Arm.
    #[serde(rename = "aarch64")]
    Aarch64,
}

/// Firmware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// A PC BIOS.
    #[default]
    Bios,
    /// UEFI without Secure Boot.
    Uefi,
    /// UEFI with Secure Boot and Microsoft's keys.
    SecureBoot,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DiskSpec {
    /// Its name in reports, and its serial number: letters, digits and `-`, at most 20.
    pub name: String,
    /// How it is connected.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bus: Bus,
    /// Its size.
    pub size: Size,
    /// Logical and physical sector size in bytes: 512 or 4096.
    #[serde(default = "sector", skip_serializing_if = "is_sector")]
    pub sector_size: u32,
    /// Whether it says that it rotates.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rotational: bool,
    /// Whether it says that it can be taken out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub removable: bool,
    /// Whether it refuses writes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// What is on it before.
    #[serde(default, skip_serializing_if = "is_default")]
    pub holds: DiskHolds,
    /// What the installer must make of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub expect: DiskRole,
    /// Labels of partitions or file systems that must be on it afterwards: they show in which order disks were taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// How fast it is at most, in bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<Size>,
    /// What goes wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<DiskFault>,
}

/// How a disk is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Bus {
    /// virtio-blk.
    #[default]
    Virtio,
    /// NVMe.
    Nvme,
    /// SATA on AHCI.
    Sata,
    /// SCSI.
    Scsi,
    /// USB mass storage.
    Usb,
}

/// What is on a disk before the installation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskHolds {
    /// Nothing but zeroes.
    #[default]
    Blank,
    /// An ext4 file system.
    Ext4,
    /// An XFS file system.
    Xfs,
    /// A Btrfs file system.
    Btrfs,
    /// A FAT file system.
    Vfat,
    /// An NTFS file system.
    Ntfs,
    /// An LVM physical volume.
    Lvm,
    /// A member of a Linux software RAID.
    Md,
    /// An encrypted volume.
    Luks,
    /// A member of a ZFS pool.
    Zfs,
    /// A Ceph OSD.
    Ceph,
    /// Swap space.
    Swap,
    /// A GPT with partitions that nobody knows.
    Gpt,
    /// An MBR partition table.
    Mbr,
    /// Data without any signature.
    Raw,
    /// An earlier installation of the same kind.
    PriorInstall,
}

/// What an installer must make of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskRole {
    /// Whatever it likes.
    #[default]
    Any,
    /// The disk that the machine boots from afterwards.
    Boot,
    /// A data disk.
    Data,
    /// Nothing: not one byte may change.
    Untouched,
}

/// What goes wrong with a disk while the installer works on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DiskFault {
    /// Writing to this place fails.
    WriteError {
        /// Where, in bytes from the disk's beginning.
        at: Size,
    },
    /// Reading from this place fails.
    ReadError {
        /// Where, in bytes from the disk's beginning.
        at: Size,
    },
    /// Writing beyond this place fails for lack of space: a thin pool that is full.
    Full {
        /// Where, in bytes from the disk's beginning.
        at: Size,
    },
    /// It is pulled: from then on it answers with errors alone, and where its bus can lose a disk (SCSI, USB) it is not
    /// there any more.
    Pulled {
        /// The phase at whose end.
        after: String,
    },
}

/// A network port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct NicSpec {
    /// Its hardware address; one of the locally administered ones without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// QEMU's device: `virtio-net-pci`, `e1000e`, `igb` …
    pub model: String,
    /// What it is connected to.
    pub network: Connection,
    /// How long packets are held back, each way, before they are let through together: 1 to 10000 milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u32>,
}

impl Default for NicSpec {
    fn default() -> Self {
        Self { mac: None, model: "virtio-net-pci".to_owned(), network: Connection::Isolated, delay_ms: None }
    }
}

/// What a network port is connected to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Connection {
    /// A network with DHCP and the stand-in control plane, and no way out.
    #[default]
    Isolated,
    /// The host's own network: for installers that fetch packages.
    Open,
    /// A cable that is not plugged in.
    None,
}

const fn sector() -> u32 {
    512
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
const fn is_sector(n: &u32) -> bool {
    *n == 512
}

impl MachineSpec {
    /// The disks, with the default one where none is named.
    pub fn all_disks(&self) -> Vec<DiskSpec> {
        if !self.disks.is_empty() {
            return self.disks.clone();
        }
        let size = Size(8 << 30);
        vec![DiskSpec {
            name: "disk0".to_owned(),
            bus: Bus::Virtio,
            size,
            sector_size: sector(),
            rotational: false,
            removable: false,
            read_only: false,
            holds: DiskHolds::Blank,
            expect: DiskRole::Any,
            labels: Vec::new(),
            speed: None,
            fault: None,
        }]
    }

    /// The network ports, with the default one where none is named, each with its address. `seed` keeps two machines
    /// apart.
    pub fn all_nics(&self, seed: u32) -> Vec<(Mac, NicSpec)> {
        let named = if self.nics.is_empty() { vec![NicSpec::default()] } else { self.nics.clone() };
        let address = |place: usize| {
            let [a, b, c, d] = seed.to_be_bytes();
            Mac([0x52, 0x54 ^ a, b, c, d, u8::try_from(place).unwrap_or(u8::MAX)])
        };
        named
            .into_iter()
            .enumerate()
            .map(|(place, nic)| (nic.mac.unwrap_or_else(|| address(place)), nic))
            .collect()
    }
}
