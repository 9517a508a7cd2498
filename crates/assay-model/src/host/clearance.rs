//! The evidence of the stage `Clearance`: every disk that an installer could write to on this machine, what stands
//! on it, and whether somebody has given it up.
//!
//! An installer chooses its disks by rules of its own, and nobody holds it to an expected spec. So what is asked here
//! is not which disks are meant, as `Storage` asks, but which ones are there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inventory::Disk;
use super::smart::same_identity;
use super::storage::{PermitOutcome, Refusal, WipeProbe};

/// The stage's name.
pub const STAGE: &str = "Clearance";

/// The version of the evidence that is written here.
pub const FORMAT: u32 = 1;

/// More disks, or hidden ones, than any machine has: what an untrusted agent may send at most.
pub const MAX_DISKS: usize = 4096;

/// What the collector brings back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClearanceEvidence {
    /// Version of this format: 1.
    pub format: u32,
    /// What came of the permit.
    pub permit: PermitOutcome,
    /// Every whole disk that the kernel knows, whatever stands in its way.
    pub disks: Vec<ClearanceDisk>,
    /// Controllers that keep disks from the live image: an installer with another driver may reach them.
    pub hidden: Vec<HiddenDisks>,
    /// What could not be found out about the machine as a whole, one sentence each.
    pub problems: Vec<String>,
}

/// One disk of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClearanceDisk {
    /// Kernel name during this boot.
    pub name: String,
    /// Serial number that it told.
    pub serial: Option<String>,
    /// World-wide name that it told.
    pub wwn: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Bytes.
    pub size_bytes: Option<u64>,
    /// What speaks against writing to it, beside its data.
    pub refusals: Vec<Refusal>,
    /// What is on it; none when it could not be claimed, and so was not read.
    pub probe: Option<WipeProbe>,
    /// Whether the permit names it.
    pub named: bool,
    /// Whether the permit names it although it holds data.
    pub data_permitted: bool,
    /// What could not be found out about it, one sentence each.
    pub problems: Vec<String>,
}

impl ClearanceDisk {
    /// What people name it by, in a permit and on its label: its serial number or else its WWN.
    pub fn label(&self) -> Option<&str> {
        let told = [&self.serial, &self.wwn].into_iter().flatten().map(String::as_str);
        told.map(str::trim).find(|name| !name.is_empty())
    }

    /// Whether it is this disk of an inventory: by what both told of themselves, or else, within one boot, by name.
    pub fn is(&self, disk: &Disk) -> bool {
        let pairs = [(&self.serial, &disk.serial), (&self.wwn, &disk.wwn)];
        let mut both =
            pairs.iter().filter_map(|(one, other)| Some((one.as_ref()?, other.as_ref()?))).peekable();
        if both.peek().is_some() {
            return both.all(|(one, other)| same_identity(one, other));
        }
        self.name == disk.name
    }
}

/// Disks that the live image cannot see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HiddenDisks {
    /// PCI address of the controller.
    pub address: String,
    /// How many it keeps to itself, as its driver says.
    pub disks: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(serial: Option<&str>, wwn: Option<&str>, name: &str) -> ClearanceDisk {
        let own = |text: Option<&str>| text.map(str::to_owned);
        ClearanceDisk {
            name: name.to_owned(),
            serial: own(serial),
            wwn: own(wwn),
            ..ClearanceDisk::default()
        }
    }

    #[test]
    fn a_disk_is_called_what_stands_on_its_label() {
        assert_eq!(disk(Some("S1"), Some("naa.5"), "sda").label(), Some("S1"));
        assert_eq!(disk(Some("  "), Some("naa.5"), "sda").label(), Some("naa.5"));
        assert_eq!(disk(None, Some(""), "sda").label(), None, "a kernel's name is no label");
    }

    #[test]
    fn a_disk_is_known_by_what_it_says_and_only_then_by_its_name() {
        let of = |serial: Option<&str>, name: &str| Disk {
            name: name.to_owned(),
            serial: serial.map(str::to_owned),
            ..Disk::default()
        };
        assert!(disk(Some("s1 "), None, "sdb").is(&of(Some("S1"), "sda")));
        assert!(
            !disk(Some("S2"), None, "sda").is(&of(Some("S1"), "sda")),
            "another disk under the same name"
        );
        assert!(disk(None, Some("naa.5"), "sda").is(&of(None, "sda")));
        assert!(!disk(None, None, "sdb").is(&of(None, "sda")));
    }
}
