//! What a machine is made of, as it told itself: the contents of `inventory.json`.
//!
//! Real machines leave things out, so nearly everything is optional: `null` means "the machine did not
//! tell", never "there is none". All text comes from the machine under test; it passes through
//! [`crate::text::clean`] when it is read and again, in [`Inventory::from_evidence`], when the control
//! plane receives it, because an agent is not trusted to have done so.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::text;

/// The version of the format that is written and read here.
pub const FORMAT: u32 = 1;

/// More parts of one kind, or findings of the probe, than any machine has: what an untrusted agent may send at most.
const MAX_ITEMS: usize = 4096;

/// Everything that was read about a machine in one go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Inventory {
    /// Version of this format: 1.
    pub format: u32,
    /// What the machine as a whole is.
    pub system: System,
    /// The main board.
    pub board: Board,
    /// The firmware (BIOS or UEFI).
    pub bios: Bios,
    /// One entry per processor socket that holds a processor.
    pub cpus: Vec<Cpu>,
    /// Main memory.
    pub memory: Memory,
    /// Whole disks, each once however many names it has; neither partitions nor loop, RAM, optical or mapped devices.
    pub disks: Vec<Disk>,
    /// Network ports that are hardware (physical or passed through), not bridges, bonds or VLANs.
    pub nics: Vec<Nic>,
    /// Every PCI function.
    pub pci: Vec<PciDevice>,
    /// Display and compute accelerators, also found in `pci`.
    pub gpus: Vec<Gpu>,
    /// The management controller.
    pub bmc: Bmc,
    /// Release of the running kernel.
    pub kernel: Option<String>,
    /// PCI functions without a driver that should have one: storage, network, display, host-bus bridges and the like.
    pub driverless: Vec<PciDevice>,
    /// Optional tools that were not there; what only they tell is missing above.
    pub tools_missing: Vec<String>,
    /// What could not be read and why, one sentence each.
    pub problems: Vec<String>,
}

impl Default for Inventory {
    fn default() -> Self {
        Self {
            format: FORMAT,
            system: System::default(),
            board: Board::default(),
            bios: Bios::default(),
            cpus: Vec::new(),
            memory: Memory::default(),
            disks: Vec::new(),
            nics: Vec::new(),
            pci: Vec::new(),
            gpus: Vec::new(),
            bmc: Bmc::default(),
            kernel: None,
            driverless: Vec::new(),
            tools_missing: Vec::new(),
            problems: Vec::new(),
        }
    }
}

/// Identity of the whole machine (SMBIOS types 1 and 3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct System {
    /// Who made it.
    pub manufacturer: Option<String>,
    /// Product name.
    pub product: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// UUID, lower case with dashes.
    pub uuid: Option<String>,
    /// Stock-keeping unit.
    pub sku: Option<String>,
    /// The owner's label, from the chassis.
    pub asset_tag: Option<String>,
    /// Kind of chassis: `Rack Mount Chassis`, `Blade` …
    pub chassis: Option<String>,
}

/// The main board (SMBIOS type 2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Board {
    /// Who made it.
    pub manufacturer: Option<String>,
    /// Product name.
    pub product: Option<String>,
    /// Revision.
    pub version: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
}

/// The firmware (SMBIOS type 0).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Bios {
    /// Who made it.
    pub vendor: Option<String>,
    /// Version as its vendor writes it.
    pub version: Option<String>,
    /// Release date as the firmware writes it, usually `MM/DD/YYYY`.
    pub date: Option<String>,
}

/// One populated socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Cpu {
    /// The kernel's physical package number.
    pub socket: u32,
    /// Model name.
    pub model: Option<String>,
    /// Cores in this socket that the kernel uses.
    pub cores: Option<u32>,
    /// Hardware threads in this socket that the kernel uses.
    pub threads: Option<u32>,
    /// Microcode revision, as the kernel prints it.
    pub microcode: Option<String>,
    /// Highest clock, in MHz.
    pub max_mhz: Option<u32>,
}

/// Main memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Memory {
    /// What the kernel can use, in MiB: always less than what is installed.
    pub total_mib: Option<u64>,
    /// One entry per slot, empty ones included (SMBIOS type 17).
    pub dimms: Vec<Dimm>,
}

impl Memory {
    /// What is plugged in, in MiB: the sum over the modules. `None` when the firmware lists none, or one of unknown size.
    pub fn installed_mib(&self) -> Option<u64> {
        let sizes: Option<Vec<u64>> = self.dimms.iter().map(|dimm| dimm.size_mib).collect();
        sizes.map(|s| s.into_iter().fold(0, u64::saturating_add)).filter(|&sum| sum > 0)
    }
}

/// One memory slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Dimm {
    /// The slot, as printed on the board: `DIMM_A1`.
    pub locator: Option<String>,
    /// The bank or channel.
    pub bank: Option<String>,
    /// Size in MiB; 0 is an empty slot, `null` a module whose size the firmware does not know.
    pub size_mib: Option<u64>,
    /// Who made the module.
    pub manufacturer: Option<String>,
    /// Part number.
    pub part: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Configured speed in MT/s (rated speed where the firmware does not tell it).
    pub speed_mts: Option<u32>,
    /// `DDR4`, `DDR5` …
    pub kind: Option<String>,
    /// Whether it carries bits for error correction.
    pub ecc: Option<bool>,
}

/// How a disk is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// NVMe.
    Nvme,
    /// Serial or parallel ATA.
    Sata,
    /// Serial-attached SCSI.
    Sas,
    /// Fibre Channel.
    Fc,
    /// iSCSI.
    Iscsi,
    /// USB.
    Usb,
    /// Virtio, block or SCSI.
    Virtio,
    /// MMC or SD card.
    Mmc,
    /// SCSI through a controller that does not tell what is behind it (RAID volumes …).
    Scsi,
    /// Anything else.
    #[default]
    #[serde(other)]
    Other,
}

/// One disk. `name` is for people; identity is serial and WWN.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Disk {
    /// Kernel name during this boot: `sda`, `nvme0n1`. Changes from boot to boot: never an identity.
    pub name: String,
    /// Other kernel names of the same disk: multipath legs, further paths.
    pub also: Vec<String>,
    /// Serial number, trimmed.
    pub serial: Option<String>,
    /// World-wide name as the kernel writes it: `naa.…`, `eui.…`, `nvme.…`, `t10.…`.
    pub wwn: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Firmware revision.
    pub firmware: Option<String>,
    /// Size in bytes.
    pub size_bytes: Option<u64>,
    /// How it is attached.
    pub transport: Transport,
    /// Whether the kernel takes it for spinning; guests and RAID controllers often say so wrongly.
    pub rotational: Option<bool>,
    /// Whether the medium can be taken out (USB sticks, card readers).
    pub removable: Option<bool>,
    /// Logical sector size in bytes.
    pub logical_sector: Option<u32>,
    /// Physical sector size in bytes.
    pub physical_sector: Option<u32>,
    /// PCI address of its controller.
    pub pci_path: Option<String>,
}

/// One network port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Nic {
    /// Kernel name during this boot.
    pub name: String,
    /// Permanent hardware address, lower case with colons.
    pub mac: Option<String>,
    /// Driver.
    pub driver: Option<String>,
    /// Negotiated speed in Mb/s; `null` without a link.
    pub speed_mbps: Option<u32>,
    /// Whether there is a link; `null` when the port is down.
    pub carrier: Option<bool>,
    /// PCI address, when it is a PCI device.
    pub pci: Option<String>,
    /// Firmware version.
    pub firmware: Option<String>,
}

/// One PCI function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PciDevice {
    /// Address: `0000:03:00.0`.
    pub address: String,
    /// Vendor and device: `8086:10d3`.
    pub vendor_device: String,
    /// Subsystem vendor and device.
    pub subsystem: Option<String>,
    /// Class code, six hex digits: `020000` is an Ethernet controller.
    pub class: String,
    /// Bound driver.
    pub driver: Option<String>,
    /// Link speed now: `8.0 GT/s PCIe`.
    pub link_speed: Option<String>,
    /// Lanes now.
    pub link_width: Option<u32>,
    /// Best link speed of the device.
    pub link_speed_max: Option<String>,
    /// Lanes of the device.
    pub link_width_max: Option<u32>,
}

/// One accelerator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Gpu {
    /// PCI address.
    pub address: String,
    /// Vendor and device: `10de:20b5`.
    pub vendor_device: String,
    /// Subsystem vendor and device.
    pub subsystem: Option<String>,
    /// Bound driver.
    pub driver: Option<String>,
}

/// The management controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Bmc {
    /// Whether one is there; `null` when that could not be found out.
    pub present: Option<bool>,
    /// Firmware version.
    pub firmware: Option<String>,
    /// Its IPv4 address.
    pub ip: Option<String>,
    /// Its hardware address.
    pub mac: Option<String>,
}

/// Evidence that is not an inventory.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// It has another shape.
    #[error(
        "the evidence is not an inventory ({0}); the agent's version may not match the server's: rebuild the live image"
    )]
    Shape(#[from] serde_json::Error),
    /// It has another version.
    #[error("the inventory has format {0}, this server reads format {FORMAT}: rebuild the live image")]
    Format(u32),
    /// It is not of this world.
    #[error(
        "the inventory lists more than {MAX_ITEMS} things of one kind: the agent's evidence is not usable"
    )]
    TooLarge,
}

impl Inventory {
    /// Cores over all sockets; `None` when a socket does not tell, or there is none.
    pub fn cores(&self) -> Option<u32> {
        self.sum(|cpu| cpu.cores)
    }

    /// Hardware threads over all sockets; `None` when a socket does not tell, or there is none.
    pub fn threads(&self) -> Option<u32> {
        self.sum(|cpu| cpu.threads)
    }

    // Saturating: the numbers may come from an untrusted agent.
    fn sum(&self, count: fn(&Cpu) -> Option<u32>) -> Option<u32> {
        self.cpus
            .iter()
            .try_fold(0, |sum: u32, cpu| Some(sum.saturating_add(count(cpu)?)))
            .filter(|&sum| sum > 0)
    }

    /// Reads what an agent sent: untrusted, so every text is cleaned, every list bounded, every shape checked.
    /// Unknown fields are ignored, as a newer agent may tell more.
    pub fn from_evidence(evidence: &Value) -> Result<Self, InventoryError> {
        // Without a format it is something else: with defaults everywhere, `{}` would pass for an empty machine.
        let format: u32 = Deserialize::deserialize(evidence.get("format").unwrap_or(&Value::Null))?;
        if format != FORMAT {
            return Err(InventoryError::Format(format));
        }
        let mut evidence = evidence.clone();
        clean_all(&mut evidence)?;
        Ok(serde_json::from_value(evidence)?)
    }
}

fn clean_all(value: &mut Value) -> Result<(), InventoryError> {
    match value {
        Value::String(text) => *text = text::clean(text),
        Value::Array(items) if items.len() > MAX_ITEMS => return Err(InventoryError::TooLarge),
        Value::Array(items) => items.iter_mut().try_for_each(clean_all)?,
        Value::Object(map) => map.values_mut().try_for_each(clean_all)?,
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn evidence_is_cleaned_and_unknown_fields_are_ignored() {
        let evidence = json!({
            "format": 1,
            "system": {"serial": " SN\u{1b}[2J7 ", "new_field": true},
            "disks": [{"name": "sda", "transport": "photonic"}],
            "invented_later": 7,
        });
        let inventory = Inventory::from_evidence(&evidence).expect("an inventory");
        assert_eq!(inventory.system.serial.as_deref(), Some("SN\u{fffd}[2J7"));
        assert_eq!(inventory.disks[0].transport, Transport::Other);
    }

    #[test]
    fn what_is_not_an_inventory_is_refused_with_a_reason() {
        let reason = |evidence| Inventory::from_evidence(&evidence).expect_err("refused").to_string();
        assert!(reason(json!({})).contains("not an inventory"));
        assert!(reason(json!(null)).contains("not an inventory"));
        assert!(reason(json!("text")).contains("not an inventory"));
        assert!(reason(json!({"format": 2})).contains("format 2"));
        assert!(reason(json!({"format": 1, "disks": {}})).contains("not an inventory"));
        assert!(reason(json!({"format": 1, "disks": [{"name": 5}]})).contains("not an inventory"));
        assert!(reason(json!({"format": 1, "nics": vec![json!({}); 4097]})).contains("more than 4096"));
    }

    #[test]
    fn it_survives_a_round_trip() {
        let mut inventory = Inventory::default();
        inventory.disks.push(Disk { name: "nvme0n1".into(), transport: Transport::Nvme, ..Disk::default() });
        let value = serde_json::to_value(&inventory).expect("serialises");
        assert_eq!(value["format"], 1);
        assert_eq!(value["disks"][0]["transport"], "nvme");
        assert_eq!(Inventory::from_evidence(&value).expect("an inventory"), inventory);
    }

    #[test]
    fn installed_memory_is_known_only_when_every_module_tells() {
        let dimm = |size_mib| Dimm { size_mib, ..Dimm::default() };
        let installed = |dimms| Memory { total_mib: None, dimms }.installed_mib();
        assert_eq!(installed(vec![]), None);
        assert_eq!(installed(vec![dimm(Some(0))]), None);
        assert_eq!(installed(vec![dimm(Some(8192)), dimm(Some(0))]), Some(8192));
        assert_eq!(installed(vec![dimm(Some(8192)), dimm(None)]), None);
    }
}
