//! Which kind of machine it is: the components that decide whether an image comes up on it.
//!
//! Names come from the machine itself, so that they can be looked up on any other:
//!
//! | component | source | fields |
//! |---|---|---|
//! | board | SMBIOS type 2 (DMTF DSP0134); of a machine that tells none, type 1 | manufacturer, product, version |
//! | firmware | SMBIOS type 0 | vendor, version, release date |
//! | processor | the kernel's model name (`/proc/cpuinfo`), one per socket | model |
//! | network port, storage controller, accelerator | PCI configuration space, as `lspci -nn` prints it | `vendor:device [subsystem]` |
//!
//! PCI classes are those of the PCI Code and ID Assignment Specification: 02 is network, 01 is storage.
//!
//! Never in it: serial numbers, hardware addresses, addresses on a bus, and disks. An NVMe disk is a controller of its own
//! (class 0108), as is every virtio disk; both are disks here. What sits on USB comes and goes, and is left out. The bound
//! driver is told beside a component and is not in the digest: it is the live image's choice, not the machine's.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::inventory::{Inventory, PciDevice};
use crate::{Sha256, text};

/// The version of the stable form. Another one makes every machine another kind.
const FORMAT: u32 = 1;
/// More kinds of components than any machine has: what an untrusted machine may claim at most.
const MAX_COMPONENTS: usize = 256;
/// Virtio disks, as controllers: transitional and modern (virtio 1.2, section 4.1.2).
const VIRTIO_BLOCK: [&str; 2] = ["1af4:1001", "1af4:1042"];
/// In place of a field that the machine does not tell.
const NOT_TOLD: &str = "?";
/// Between the fields of a name.
const BETWEEN: &str = " / ";

/// What kind of component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComponentKind {
    /// The machine as a whole: its fingerprint.
    Machine,
    /// The main board.
    Board,
    /// The firmware (BIOS or UEFI).
    Firmware,
    /// A processor.
    Processor,
    /// A network controller.
    Network,
    /// A storage controller.
    Storage,
    /// An accelerator.
    Gpu,
}

impl ComponentKind {
    /// Every kind, in the order in which they are shown.
    pub const ALL: [Self; 7] = [
        Self::Machine,
        Self::Board,
        Self::Firmware,
        Self::Processor,
        Self::Network,
        Self::Storage,
        Self::Gpu,
    ];

    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Board => "board",
            Self::Firmware => "firmware",
            Self::Processor => "processor",
            Self::Network => "network",
            Self::Storage => "storage",
            Self::Gpu => "gpu",
        }
    }

    /// As a heading over several.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Machine => "Whole machines",
            Self::Board => "Boards",
            Self::Firmware => "Firmware",
            Self::Processor => "Processors",
            Self::Network => "Network",
            Self::Storage => "Storage controllers",
            Self::Gpu => "Accelerators",
        }
    }
}

impl fmt::Display for ComponentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Not one of the kinds.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no kind of component; write machine, board, firmware, processor, network, storage or gpu")]
pub struct UnknownKind(String);

impl FromStr for ComponentKind {
    type Err = UnknownKind;
    fn from_str(s: &str) -> Result<Self, UnknownKind> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == s);
        found.ok_or_else(|| UnknownKind(text::clean_to(s, 40)))
    }
}

/// One component, however many of it there are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Component {
    /// What it is.
    pub kind: ComponentKind,
    /// What it is called: `Supermicro / X11SSH-F / 1.01`, `8086:1533 [15d9:1533]`. A field that was not told is `?`.
    pub name: String,
    /// How many of it: sockets, ports, controllers.
    pub count: u32,
    /// The drivers that the live image had bound to it; empty when none was, or it has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drivers: Vec<String>,
}

/// A kind of machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fingerprint {
    /// Its components, by kind and name; each name of a kind once.
    pub components: Vec<Component>,
}

/// A machine that tells too little to be told from others: what is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the machine does not tell {}", .0.join(", nor "))]
pub struct Lacking(pub Vec<&'static str>);

impl Fingerprint {
    /// The kind of machine that an inventory is of.
    ///
    /// # Errors
    /// [`Lacking`] when it does not name its board, its processor and what is on its PCI bus. Machines that say nothing
    /// would all be of one kind, and what worked on one would count for every other.
    pub fn of(inventory: &Inventory) -> Result<Self, Lacking> {
        let board = board(inventory);
        let processors: Vec<_> = inventory.cpus.iter().filter_map(|cpu| told(cpu.model.as_ref())).collect();
        let mut lacking = Vec::new();
        let missing = [
            (board.is_none(), "what board it has (SMBIOS)"),
            (processors.is_empty(), "what processor it has"),
            (inventory.pci.is_empty(), "what is on its PCI bus"),
        ];
        lacking.extend(missing.into_iter().filter_map(|(is, what)| is.then_some(what)));
        let mut found = Counted::default();
        if let Some(name) = board {
            found.add(ComponentKind::Board, name, None);
        }
        let bios = &inventory.bios;
        if let Some(name) = joined([&bios.vendor, &bios.version, &bios.date]) {
            found.add(ComponentKind::Firmware, name, None);
        }
        for model in processors {
            found.add(ComponentKind::Processor, model, None);
        }
        for device in &inventory.pci {
            if let Some(kind) = controller(device) {
                found.add(
                    kind,
                    pci(&device.vendor_device, device.subsystem.as_ref()),
                    device.driver.as_ref(),
                );
            }
        }
        for gpu in &inventory.gpus {
            let name = pci(&gpu.vendor_device, gpu.subsystem.as_ref());
            found.add(ComponentKind::Gpu, name, gpu.driver.as_ref());
        }
        if found.0.len() > MAX_COMPONENTS {
            lacking.push("a believable number of components");
        }
        if lacking.is_empty() { Ok(found.fingerprint()) } else { Err(Lacking(lacking)) }
    }

    /// What names it: a digest over kinds, names and counts.
    pub fn digest(&self) -> Sha256 {
        let mut stable = format!("assay fingerprint {FORMAT}\n");
        let mut lines: Vec<String> =
            self.components.iter().map(|c| format!("{}\t{}\t{}\n", c.kind, c.name, c.count)).collect();
        lines.sort();
        stable.extend(lines);
        Sha256::of(stable.as_bytes())
    }

    /// What people call it: its board and its processor.
    pub fn name(&self) -> String {
        let of = |kind| self.components.iter().find(|c| c.kind == kind).map(Component::spoken);
        let words = [of(ComponentKind::Board), of(ComponentKind::Processor)];
        words.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// What is gone and what has come since `before`, for people; empty when it is the same kind of machine.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let has = |of: &Self, c: &Component| {
            of.components.iter().any(|o| (o.kind, &o.name, o.count) == (c.kind, &c.name, c.count))
        };
        let said = |c: &Component, what: &str| format!("{} {} {what}", c.kind, c.counted());
        let gone = before.components.iter().filter(|c| !has(self, c)).map(|c| said(c, "is gone"));
        let come = self.components.iter().filter(|c| !has(before, c)).map(|c| said(c, "is new"));
        gone.chain(come).collect()
    }
}

impl Component {
    /// Its name as people say it: without what was not told.
    pub fn spoken(&self) -> String {
        let fields: Vec<&str> = self.name.split(BETWEEN).filter(|field| *field != NOT_TOLD).collect();
        fields.join(" ")
    }

    /// The same, with how many there are of it.
    pub fn counted(&self) -> String {
        match self.count {
            1 => self.spoken(),
            n => format!("{n} × {}", self.spoken()),
        }
    }
}

/// Components by kind and name, with how many there are and their drivers.
#[derive(Default)]
struct Counted(BTreeMap<(ComponentKind, String), (u32, Vec<String>)>);

impl Counted {
    fn add(&mut self, kind: ComponentKind, name: String, driver: Option<&String>) {
        let (count, drivers) = self.0.entry((kind, name)).or_default();
        *count = count.saturating_add(1);
        if let Some(driver) = told(driver)
            && !drivers.contains(&driver)
        {
            drivers.push(driver);
            drivers.sort();
        }
    }

    fn fingerprint(self) -> Fingerprint {
        let component = |((kind, name), (count, drivers))| Component { kind, name, count, drivers };
        Fingerprint { components: self.0.into_iter().map(component).collect() }
    }
}

/// Of a machine that names no board, what the machine as a whole is called.
fn board(inventory: &Inventory) -> Option<String> {
    let (board, system) = (&inventory.board, &inventory.system);
    let of_board = told(board.product.as_ref())
        .and_then(|_| joined([&board.manufacturer, &board.product, &board.version]));
    of_board.or_else(|| {
        told(system.product.as_ref()).and_then(|_| joined([&system.manufacturer, &system.product, &None]))
    })
}

/// Network and storage controllers; disks that are controllers of their own are disks.
fn controller(device: &PciDevice) -> Option<ComponentKind> {
    let id = device.vendor_device.to_lowercase();
    match device.class.get(..2)? {
        "02" => Some(ComponentKind::Network),
        "01" if !device.class.starts_with("0108") && !VIRTIO_BLOCK.contains(&id.as_str()) => {
            Some(ComponentKind::Storage)
        }
        _ => None,
    }
}

fn pci(vendor_device: &str, subsystem: Option<&String>) -> String {
    let id = plain(vendor_device).to_lowercase();
    match told(subsystem) {
        Some(subsystem) => format!("{id} [{}]", subsystem.to_lowercase()),
        None => id,
    }
}

/// The fields with `?` for what is not told; none when nothing is.
fn joined(fields: [&Option<String>; 3]) -> Option<String> {
    let fields = fields.map(|field| told(field.as_ref()));
    fields
        .iter()
        .any(Option::is_some)
        .then(|| fields.map(|field| field.unwrap_or_else(|| NOT_TOLD.to_owned())).join(BETWEEN))
}

fn told(text: Option<&String>) -> Option<String> {
    text.map(|text| plain(text)).filter(|text| !text.is_empty())
}

/// One space where firmware pads with many. A slash that stands alone would pass for the end of a field.
fn plain(raw: &str) -> String {
    let words =
        raw.split_whitespace().map(|word| if word == "/" { "|".to_owned() } else { text::clean(word) });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "fingerprint_tests.rs"]
mod tests;
