//! What a test's virtual machine is made of: plain data.
//!
//! Unlike a lab [`Machine`](crate::Machine), which is ordered from a file and lives on by itself, this one belongs to
//! the program that starts it: its disks are files that the caller made, and it ends with its caller.

use std::path::PathBuf;
use std::time::Duration;

use assay_model::Mac;

/// The processor architecture of the guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Arch {
    /// PC.
    #[default]
    X86_64,
    /// 64-bit Arm on QEMU's `virt` board; it has UEFI only.
    Aarch64,
}

impl Arch {
    /// QEMU's program for it.
    pub const fn qemu(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86_64",
            Self::Aarch64 => "qemu-system-aarch64",
        }
    }
}

/// What the machine boots with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum VmFirmware {
    /// SeaBIOS.
    #[default]
    Bios,
    /// OVMF (or AAVMF) without Secure Boot.
    Uefi,
    /// OVMF with Secure Boot switched on and Microsoft's keys enrolled, as a machine leaves the factory.
    UefiSecure,
}

/// How a disk is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VmBus {
    /// NVMe. Its machine cannot be put to sleep and woken elsewhere: QEMU does not migrate it.
    Nvme,
    /// SATA on AHCI; on Arm, where there is no AHCI on board, SCSI.
    Sata,
    /// SCSI behind virtio.
    Scsi,
    /// virtio-blk.
    Virtio,
    /// USB mass storage on XHCI.
    Usb,
}

/// A disk; its image exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmDisk {
    /// Unique in the machine: letters, digits, `-`.
    pub id: String,
    /// Where its bytes are.
    pub image: VmImage,
    /// How it is connected.
    pub bus: VmBus,
    /// Its serial number, at most 20 characters.
    pub serial: String,
    /// Logical and physical sector size in bytes: 512 or 4096.
    pub sector: u32,
    /// Whether it says that it rotates (SATA and SCSI).
    pub rotates: bool,
    /// Whether it says that it can be taken out (USB and SCSI).
    pub removable: bool,
    /// Whether it refuses writes.
    pub read_only: bool,
    /// It moves at most so many bytes a second, both ways together.
    pub bytes_per_second: Option<u64>,
    /// Every write and flush is also recorded there (QEMU's `blklogwrites`), for the power cuts.
    pub write_log: Option<PathBuf>,
}

/// Where a disk's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmImage {
    /// A raw image file.
    File(PathBuf),
    /// Behind a socket, served by a process that makes it fail on demand (NBD, without a name).
    Served(PathBuf),
}

/// How the boot medium is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediumKind {
    /// An optical drive.
    Cd,
    /// A USB stick.
    Usb,
}

/// The medium that the machine boots from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmMedium {
    /// The image.
    pub image: PathBuf,
    /// As what it is connected.
    pub kind: MediumKind,
    /// The serial number that a stick tells.
    pub serial: String,
}

/// What a network card is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmNetwork {
    /// A network with DHCP and without a way out. What is sent to [`GATE`](crate::GATE), ports 80 and 443,
    /// reaches `gate`.
    Isolated {
        /// Where the stand-in is.
        gate: Option<Gate>,
    },
    /// A way out through the host's own network: for installers that fetch their packages.
    Open,
    /// A cable that is not plugged in.
    Unplugged,
}

/// Where connections to the gate's address go: two unix sockets, and the command that connects one of them to its
/// standard input and output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// Port 80.
    pub plain: PathBuf,
    /// Port 443.
    pub tls: Option<PathBuf>,
    /// Program and arguments; the socket is added as the last one.
    pub relay: Vec<String>,
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmNic {
    /// Unique in the machine.
    pub id: String,
    /// Its address.
    pub mac: Mac,
    /// QEMU's device: `virtio-net-pci`, `e1000e`, `igb` …
    pub model: String,
    /// What it is connected to.
    pub network: VmNetwork,
    /// Packets, both ways, are held back and let through once in so long; a slow network.
    pub hold: Option<Duration>,
}

/// A virtual machine for a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmSpec {
    /// For people and for QEMU's process list.
    pub name: String,
    /// Processor architecture.
    pub arch: Arch,
    /// Firmware.
    pub firmware: VmFirmware,
    /// A TPM 2.0 (through `swtpm`).
    pub tpm: bool,
    /// Processors.
    pub cpus: u16,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// What the clock says at power-on, as `1970-01-01T00:00:00`; the time of day without it.
    pub clock: Option<String>,
    /// SMBIOS system UUID and serial number: two machines are never the same one.
    pub system_uuid: uuid::Uuid,
    /// What it boots from first.
    pub medium: Option<VmMedium>,
    /// Disks, in the order in which the firmware tries them and the guest finds them.
    pub disks: Vec<VmDisk>,
    /// Network cards.
    pub nics: Vec<VmNic>,
    /// A watchdog (i6300esb) whose bite is an event and ends the machine.
    pub watchdog: bool,
}

impl VmSpec {
    /// Whether its running state can be kept in a file: QEMU moves no NVMe disk.
    pub fn can_sleep(&self) -> bool {
        self.disks.iter().all(|disk| disk.bus != VmBus::Nvme) && !self.tpm
    }
}
