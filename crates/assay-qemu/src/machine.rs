//! What a lab machine is made of: plain data, checked once when it is made.
//!
//! Memory has no size of its own: it is the sum of the modules, so the two cannot contradict each other.
//! Everything that QEMU cannot honestly present (a model name on its NVMe, a rotating virtio disk) is refused
//! here by name instead of being dropped.

use std::collections::BTreeSet;

use assay_model::Mac;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Contents, DiskRule, QemuError};

/// A machine as QEMU will present it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// What it boots with.
    pub firmware: Firmware,
    /// Number of processors.
    pub cpus: u16,
    /// What it does when powered on.
    #[serde(default)]
    pub power_on: PowerOn,
    /// What its clock says at power-on, as `1970-01-01T00:00:00`; the time of day without it.
    #[serde(default)]
    pub rtc: Option<String>,
    /// Its identity.
    pub smbios: Smbios,
    /// Memory slots in order, empty ones too.
    pub dimms: Vec<Dimm>,
    /// Disks in order.
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// Network cards in order.
    #[serde(default)]
    pub nics: Vec<Nic>,
    /// What can be done to it while it runs.
    #[serde(default)]
    pub bench: TestBench,
    /// The computer beside it that switches it and reads its sensors.
    #[serde(default)]
    pub bmc: Option<crate::Bmc>,
    /// Words that the firmware tells (SMBIOS OEM strings), for stand-ins inside the guest.
    #[serde(default)]
    pub oem_strings: Vec<String>,
}

/// What a machine needs to have from power-on for things to be done to it later. A real machine has none of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TestBench {
    /// Its memory can be written from outside.
    pub memory: bool,
    /// It has an ACPI thermal zone and a power meter, which read what they are given from outside.
    pub sensors: bool,
    /// Its crash records survive a reset (ACPI ERST).
    pub crash_store: bool,
}

impl TestBench {
    /// Whether its memory must be one that others can reach.
    pub(crate) fn shares_memory(self) -> bool {
        self.memory || self.sensors
    }
}

/// The firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF without secure boot.
    Uefi,
}

/// What is tried first at power-on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PowerOn {
    /// The network cards marked `boot`, then the disks.
    #[default]
    Netboot,
    /// The disks only.
    Disk,
}

/// What the firmware tables say about the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smbios {
    /// Who made it.
    pub manufacturer: String,
    /// The model.
    pub product: String,
    /// The machine's serial number.
    pub serial: String,
    /// The machine's UUID.
    pub uuid: Uuid,
    /// Firmware version.
    pub bios_version: String,
    /// Serial number of the main board.
    pub board_serial: String,
    /// Asset tag, on chassis and board.
    #[serde(default)]
    pub asset_tag: String,
}

/// A memory slot and what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dimm {
    /// The slot's name, unique in the machine.
    pub locator: String,
    /// The bank's name.
    #[serde(default)]
    pub bank: String,
    /// Who made the module.
    #[serde(default)]
    pub manufacturer: String,
    /// Part number.
    #[serde(default)]
    pub part: String,
    /// Serial number.
    #[serde(default)]
    pub serial: String,
    /// Size in MiB; 0 is an empty slot.
    #[serde(default)]
    pub size_mib: u32,
    /// Speed in MT/s; 0 is unknown.
    #[serde(default)]
    pub speed: u16,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Its name in the lab and in QEMU, unique in the machine.
    pub id: String,
    /// How it is attached.
    pub bus: DiskBus,
    /// Size in MiB.
    pub size_mib: u64,
    /// Serial number, at most 20 characters.
    pub serial: String,
    /// World-wide name as `0x` and 16 hexadecimal digits (SATA, SCSI; the EUI-64 on NVMe).
    #[serde(default)]
    pub wwn: Option<String>,
    /// Model (SATA, SCSI).
    #[serde(default)]
    pub model: Option<String>,
    /// Whether it says that it rotates (SATA, SCSI).
    #[serde(default)]
    pub rotational: bool,
    /// The critical-warning bits of its health log (NVMe).
    #[serde(default)]
    pub smart_critical_warning: u8,
    /// Sectors of 512 bytes that cannot be read.
    #[serde(default)]
    pub unreadable_sectors: Vec<u64>,
    /// Operations per second that it is held to.
    #[serde(default)]
    pub iops_limit: Option<u32>,
    /// What is on it before the machine is first switched on; nothing without it.
    #[serde(default)]
    pub contents: Option<Contents>,
    /// It is served by a process that can make it fail while the machine runs.
    #[serde(default)]
    pub served: bool,
    /// What a served disk does wrong from power-on.
    #[serde(default)]
    pub rules: Vec<DiskRule>,
    /// It is another way to this served disk: a second path to the same one, or one that two machines share.
    #[serde(default)]
    pub path_to: Option<String>,
}

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskBus {
    /// An NVMe controller of its own.
    Nvme,
    /// A port of the board's AHCI controller.
    Sata,
    /// virtio-blk.
    Virtio,
    /// A virtio-scsi controller of its own.
    Scsi,
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nic {
    /// Its name in the lab and in QEMU, unique in the machine.
    pub id: String,
    /// Its address.
    pub mac: Mac,
    /// What it is.
    pub model: NicModel,
    /// Negotiated speed in Mb/s (virtio only; the others always say 1000).
    #[serde(default)]
    pub speed: Option<u32>,
    /// Whether the firmware boots from it.
    #[serde(default)]
    pub boot: bool,
}

/// What a network card is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NicModel {
    /// virtio-net.
    Virtio,
    /// Intel 82574L.
    E1000e,
    /// Intel 82576. There is no boot ROM for it.
    Igb,
}

impl Machine {
    /// All memory, in MiB: the sum of the modules.
    pub fn memory_mib(&self) -> u64 {
        self.dimms.iter().map(|dimm| u64::from(dimm.size_mib)).sum()
    }

    /// Refuses what cannot be built or would be presented otherwise than written.
    ///
    /// # Errors
    /// [`QemuError::Invalid`], naming `name` and the field.
    pub fn check(&self, name: &str) -> Result<(), QemuError> {
        self.problem().map_or(Ok(()), |(field, problem)| {
            Err(QemuError::Invalid { machine: name.to_owned(), field, problem })
        })
    }

    fn problem(&self) -> Option<(String, String)> {
        if !(1..=64).contains(&self.cpus) {
            return found("cpus", format!("{} is not between 1 and 64", self.cpus));
        }
        let memory = self.memory_mib();
        if memory < 64 {
            return found("dimms", format!("the modules make {memory} MiB; at least 64 MiB are needed"));
        }
        if let Some(rtc) = self.rtc.as_deref().filter(|rtc| !is_rtc(rtc)) {
            return found("rtc", format!("`{rtc}` is not a date and time such as 1970-01-01T00:00:00"));
        }
        if let Some(problem) = self.oem_strings.iter().find_map(|text| text_problem(text, 64)) {
            return found("oem_strings", problem);
        }
        self.smbios
            .problem()
            .or_else(|| self.dimm_problem())
            .or_else(|| self.disk_problem())
            .or_else(|| self.nic_problem())
            .or_else(|| {
                let (sensor, problem) = self.bmc.as_ref()?.problem()?;
                found(&format!("bmc.{sensor}"), problem)
            })
    }

    fn dimm_problem(&self) -> Option<(String, String)> {
        let mut seen = BTreeSet::new();
        for dimm in &self.dimms {
            let field = format!("dimms.{}", dimm.locator);
            if dimm.locator.is_empty() || !seen.insert(&dimm.locator) {
                return found(&field, "every slot needs a locator of its own".to_owned());
            }
            let described = [&dimm.manufacturer, &dimm.part, &dimm.serial];
            if dimm.size_mib == 0 && (dimm.speed != 0 || described.iter().any(|text| !text.is_empty())) {
                return found(
                    &field,
                    "a slot without size_mib is empty and has no manufacturer, part, serial or speed"
                        .to_owned(),
                );
            }
            let texts = described.into_iter().chain([&dimm.locator, &dimm.bank]);
            if let Some(problem) = texts.into_iter().find_map(|text| text_problem(text, 64)) {
                return found(&field, problem);
            }
        }
        None
    }

    fn disk_problem(&self) -> Option<(String, String)> {
        let mut seen = BTreeSet::new();
        let sata = self.disks.iter().filter(|disk| disk.bus == DiskBus::Sata).count();
        if sata > 6 {
            return found("disks", format!("{sata} SATA disks; the board has 6 ports"));
        }
        for disk in &self.disks {
            if !seen.insert(&disk.id) {
                return found(&format!("disks.{}", disk.id), "the id is used twice".to_owned());
            }
            if let Some(other) = &disk.path_to {
                let fits = |other: &Disk| other.served && other.size_mib == disk.size_mib;
                if disk.served || !self.disks.iter().any(|known| known.id == *other && fits(known)) {
                    let problem = format!(
                        "`{other}` must be another disk of the same size with served = true, and this one must not be served itself"
                    );
                    return found(&format!("disks.{}.path_to", disk.id), problem);
                }
            }
            if let Some((field, problem)) = disk.problem() {
                return found(&format!("disks.{}.{field}", disk.id), problem);
            }
        }
        None
    }

    fn nic_problem(&self) -> Option<(String, String)> {
        let mut ids = BTreeSet::new();
        let mut macs = BTreeSet::new();
        for nic in &self.nics {
            let field = format!("nics.{}", nic.id);
            if let Some(problem) = id_problem(&nic.id) {
                return found(&field, problem);
            }
            if !ids.insert(&nic.id) || !macs.insert(nic.mac) {
                return found(&field, "the id or the MAC address is used twice".to_owned());
            }
            if !nic.mac.is_unicast() {
                return found(&field, format!("{} is a multicast address", nic.mac));
            }
            if nic.speed.is_some() && nic.model != NicModel::Virtio {
                return found(
                    &field,
                    "speed can be set on model = \"virtio\" only; the others always say 1000".to_owned(),
                );
            }
            if nic.boot && nic.model == NicModel::Igb {
                return found(&field, "igb has no boot ROM; boot from a virtio or e1000e card".to_owned());
            }
        }
        let boots = self.nics.iter().any(|nic| nic.boot);
        if self.power_on == PowerOn::Netboot && !self.nics.is_empty() && !boots {
            return found("power_on", "netboot needs a network card with boot = true".to_owned());
        }
        None
    }
}

impl Smbios {
    fn problem(&self) -> Option<(String, String)> {
        let fields = [
            ("manufacturer", &self.manufacturer),
            ("product", &self.product),
            ("serial", &self.serial),
            ("bios_version", &self.bios_version),
            ("board_serial", &self.board_serial),
            ("asset_tag", &self.asset_tag),
        ];
        fields.into_iter().find_map(|(field, text)| {
            text_problem(text, 64).map(|problem| (format!("smbios.{field}"), problem))
        })
    }
}

impl Disk {
    /// The world-wide name as a number, if it has one.
    pub(crate) fn wwn_value(&self) -> Option<u64> {
        let digits = self.wwn.as_deref()?.strip_prefix("0x")?;
        u64::from_str_radix(digits, 16).ok()
    }

    fn problem(&self) -> Option<(&'static str, String)> {
        use DiskBus::{Nvme, Sata, Scsi, Virtio};
        if let Some(problem) = id_problem(&self.id) {
            return Some(("id", problem));
        }
        if self.size_mib == 0 {
            return Some(("size_mib", "must be at least 1".to_owned()));
        }
        if let Some(problem) = text_problem(&self.serial, 20) {
            return Some(("serial", problem));
        }
        if self.wwn.is_some() && (self.bus == Virtio || self.wwn_value().is_none_or(|value| value == 0)) {
            return Some((
                "wwn",
                "must be 0x and up to 16 hexadecimal digits, and virtio disks have none".to_owned(),
            ));
        }
        let longest = match self.bus {
            Sata => 40,
            Scsi => 16,
            Nvme | Virtio => 0,
        };
        match &self.model {
            Some(_) if longest == 0 => {
                return Some((
                    "model",
                    "QEMU fixes the model of nvme and virtio disks; leave it out".to_owned(),
                ));
            }
            Some(model) => {
                if let Some(problem) = text_problem(model, longest) {
                    return Some(("model", problem));
                }
            }
            None => {}
        }
        if self.rotational && longest == 0 {
            return Some(("rotational", "only sata and scsi disks can say that they rotate".to_owned()));
        }
        if self.smart_critical_warning > 0x3f || (self.smart_critical_warning > 0 && self.bus != Nvme) {
            return Some((
                "smart_critical_warning",
                "is a mask of the bits 0 to 5, and only nvme disks have it".to_owned(),
            ));
        }
        let sectors = self.size_mib.saturating_mul(2048);
        if let Some(sector) = self.unreadable_sectors.iter().find(|sector| **sector >= sectors) {
            return Some(("unreadable_sectors", format!("{sector} is beyond the disk's {sectors} sectors")));
        }
        if self.iops_limit == Some(0) {
            return Some(("iops_limit", "must be at least 1; leave it out for no limit".to_owned()));
        }
        if let Some(least) = self.contents.map(Contents::smallest_mib).filter(|least| self.size_mib < *least)
        {
            return Some(("contents", format!("that does not fit on less than {least} MiB")));
        }
        if self.path_to.is_some() && self.contents.is_some() {
            return Some(("contents", "belong to the disk that this one is another way to".to_owned()));
        }
        if !self.rules.is_empty() && !self.served {
            return Some(("rules", "only a disk with served = true can have them".to_owned()));
        }
        self.rules.iter().find_map(|rule| rule.problem(self.size_mib)).map(|problem| ("rules", problem))
    }
}

#[expect(clippy::unnecessary_wraps, reason = "every caller returns it as its own answer")]
fn found(field: &str, problem: String) -> Option<(String, String)> {
    Some((field.to_owned(), problem))
}

/// QEMU ids begin with a letter; lower case keeps file names and ids the same everywhere.
pub(crate) fn id_problem(id: &str) -> Option<String> {
    let fits = id.starts_with(|c: char| c.is_ascii_lowercase())
        && id.len() <= 40
        && id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    (!fits).then(|| {
        format!("`{id}` must begin with a lower-case letter and hold at most 40 of a-z, 0-9 and `-`")
    })
}

/// The one form that QEMU takes without guessing. It checks the ranges itself and refuses to start.
fn is_rtc(text: &str) -> bool {
    const FORM: &[u8] = b"0000-00-00T00:00:00";
    text.len() == FORM.len()
        && text.bytes().zip(FORM).all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            other => byte == *other,
        })
}

fn text_problem(text: &str, longest: usize) -> Option<String> {
    if text.len() > longest {
        return Some(format!("`{text}` has {} characters; {longest} is the most", text.len()));
    }
    let printable = text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    (!printable || text.trim() != text)
        .then(|| format!("`{}` must be printable ASCII without spaces around it", text.escape_debug()))
}
