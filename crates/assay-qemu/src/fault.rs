//! How a machine differs from what was ordered: the fault half of a machine file.
//!
//! A fault names the part by its id and says what is different; everything not named stays. A part that does
//! not exist cannot be broken: naming one is an error, or a fault file with a typing mistake would be a healthy
//! machine.

use std::collections::BTreeMap;

use assay_model::Mac;
use serde::{Deserialize, Serialize};

use crate::{Contents, DiskRule, Machine, QemuError};

/// What is different. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    /// Another number of processors.
    pub cpus: Option<u16>,
    /// Another time on its clock at power-on: `1970-01-01T00:00:00` is a dead CMOS battery.
    pub rtc: Option<String>,
    /// Another identity.
    pub smbios: SmbiosFault,
    /// Memory slots by locator.
    pub dimms: BTreeMap<String, DimmFault>,
    /// Disks by id.
    pub disks: BTreeMap<String, DiskFault>,
    /// Network cards by id.
    pub nics: BTreeMap<String, NicFault>,
    /// What sensors of its BMC read, by name: millivolts, revolutions per minute, degrees Celsius, or bits.
    pub bmc: BTreeMap<String, u32>,
    /// Words for stand-ins inside the guest, which make up what no simulated device can do.
    pub oem_strings: Vec<String>,
}

/// What is different about the identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SmbiosFault {
    /// Another model.
    pub product: Option<String>,
    /// Another machine serial number.
    pub serial: Option<String>,
    /// Another firmware version.
    pub bios_version: Option<String>,
    /// Another main board.
    pub board_serial: Option<String>,
    /// Another asset tag.
    pub asset_tag: Option<String>,
}

/// What is different about a memory module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DimmFault {
    /// The slot is there and empty.
    pub missing: bool,
    /// Another maker.
    pub manufacturer: Option<String>,
    /// Another part number.
    pub part: Option<String>,
    /// Another module of the same kind.
    pub serial: Option<String>,
    /// Another size.
    pub size_mib: Option<u32>,
    /// Another speed.
    pub speed: Option<u16>,
}

/// What is different about a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskFault {
    /// It is not there.
    pub missing: bool,
    /// Another disk of the same kind.
    pub serial: Option<String>,
    /// Another world-wide name.
    pub wwn: Option<String>,
    /// Another model.
    pub model: Option<String>,
    /// Another size.
    pub size_mib: Option<u64>,
    /// Health-log warning bits (NVMe).
    pub smart_critical_warning: Option<u8>,
    /// Sectors of 512 bytes that cannot be read.
    pub unreadable_sectors: Option<Vec<u64>>,
    /// Operations per second that it is held to.
    pub iops_limit: Option<u32>,
    /// There is something on it.
    pub contents: Option<Contents>,
    /// What it does wrong from power-on; it must be a served disk.
    pub rules: Option<Vec<DiskRule>>,
    /// It is another way to this disk.
    pub path_to: Option<String>,
}

/// What is different about a network card.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NicFault {
    /// It is not there.
    pub missing: bool,
    /// Another card of the same kind.
    pub mac: Option<Mac>,
    /// Another negotiated speed (virtio).
    pub speed: Option<u32>,
}

impl Fault {
    /// Whether nothing is different.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The machine `ordered` as it is with this fault.
    ///
    /// # Errors
    /// [`QemuError::Invalid`] when a named part does not exist, the fault changes nothing about it, or the
    /// result cannot be built.
    pub fn apply(&self, name: &str, ordered: &Machine) -> Result<Machine, QemuError> {
        let mut machine = ordered.clone();
        let invalid = |field: String, problem: &str| QemuError::Invalid {
            machine: name.to_owned(),
            field: format!("fault.{field}"),
            problem: problem.to_owned(),
        };
        set(&mut machine.cpus, self.cpus.as_ref());
        set_option(&mut machine.rtc, self.rtc.as_ref());
        if !self.oem_strings.is_empty() {
            machine.oem_strings.clone_from(&self.oem_strings);
        }
        if !self.bmc.is_empty() {
            let without =
                || invalid("bmc".to_owned(), "the machine has none; say bmc = \"ipmi\" in its file");
            machine.bmc.as_mut().ok_or_else(without)?.sensors.clone_from(&self.bmc);
        }
        self.smbios.apply(&mut machine);
        for (locator, fault) in &self.dimms {
            let known = names(machine.dimms.iter().map(|dimm| &dimm.locator));
            let dimm = machine.dimms.iter_mut().find(|dimm| dimm.locator == *locator);
            let dimm = dimm.ok_or_else(|| invalid(format!("dimms.{locator}"), &known))?;
            let before = dimm.clone();
            fault.apply(dimm);
            if *dimm == before {
                return Err(invalid(format!("dimms.{locator}"), NO_CHANGE));
            }
        }
        for (id, fault) in &self.disks {
            let known = names(machine.disks.iter().map(|disk| &disk.id));
            let at = machine.disks.iter().position(|disk| disk.id == *id);
            let at = at.ok_or_else(|| invalid(format!("disks.{id}"), &known))?;
            let before = machine.disks[at].clone();
            fault.apply(&mut machine.disks[at]);
            if fault.missing {
                machine.disks.remove(at);
            } else if machine.disks[at] == before {
                return Err(invalid(format!("disks.{id}"), NO_CHANGE));
            }
        }
        for (id, fault) in &self.nics {
            let known = names(machine.nics.iter().map(|nic| &nic.id));
            let at = machine.nics.iter().position(|nic| nic.id == *id);
            let at = at.ok_or_else(|| invalid(format!("nics.{id}"), &known))?;
            let before = machine.nics[at].clone();
            set(&mut machine.nics[at].mac, fault.mac.as_ref());
            set_option(&mut machine.nics[at].speed, fault.speed.as_ref());
            if fault.missing {
                machine.nics.remove(at);
            } else if machine.nics[at] == before {
                return Err(invalid(format!("nics.{id}"), NO_CHANGE));
            }
        }
        machine.check(name)?;
        Ok(machine)
    }
}

const NO_CHANGE: &str = "changes nothing; say what is different, such as missing = true or another serial";

impl SmbiosFault {
    fn apply(&self, machine: &mut Machine) {
        set(&mut machine.smbios.product, self.product.as_ref());
        set(&mut machine.smbios.serial, self.serial.as_ref());
        set(&mut machine.smbios.bios_version, self.bios_version.as_ref());
        set(&mut machine.smbios.board_serial, self.board_serial.as_ref());
        set(&mut machine.smbios.asset_tag, self.asset_tag.as_ref());
    }
}

impl DimmFault {
    fn apply(&self, dimm: &mut crate::Dimm) {
        set(&mut dimm.manufacturer, self.manufacturer.as_ref());
        set(&mut dimm.part, self.part.as_ref());
        set(&mut dimm.serial, self.serial.as_ref());
        set(&mut dimm.size_mib, self.size_mib.as_ref());
        set(&mut dimm.speed, self.speed.as_ref());
        if self.missing {
            *dimm = crate::Dimm {
                locator: dimm.locator.clone(),
                bank: dimm.bank.clone(),
                manufacturer: String::new(),
                part: String::new(),
                serial: String::new(),
                size_mib: 0,
                speed: 0,
            };
        }
    }
}

impl DiskFault {
    fn apply(&self, disk: &mut crate::Disk) {
        set(&mut disk.serial, self.serial.as_ref());
        set_option(&mut disk.wwn, self.wwn.as_ref());
        set_option(&mut disk.model, self.model.as_ref());
        set(&mut disk.size_mib, self.size_mib.as_ref());
        set(&mut disk.smart_critical_warning, self.smart_critical_warning.as_ref());
        set(&mut disk.unreadable_sectors, self.unreadable_sectors.as_ref());
        set_option(&mut disk.iops_limit, self.iops_limit.as_ref());
        set_option(&mut disk.contents, self.contents.as_ref());
        set(&mut disk.rules, self.rules.as_ref());
        set_option(&mut disk.path_to, self.path_to.as_ref());
        if self.path_to.is_some() {
            // The other one's process serves both.
            disk.served = false;
        }
    }
}

fn set<T: Clone>(field: &mut T, change: Option<&T>) {
    if let Some(value) = change {
        field.clone_from(value);
    }
}

fn set_option<T: Clone>(field: &mut Option<T>, change: Option<&T>) {
    if change.is_some() {
        *field = change.cloned();
    }
}

fn names<'a>(known: impl Iterator<Item = &'a String>) -> String {
    let known: Vec<_> = known.map(String::as_str).collect();
    format!("there is no such part; the machine has {}", known.join(", "))
}
