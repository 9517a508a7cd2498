//! What a machine counts about itself, read before and after every stage: what changed is blamed on that stage.
//!
//! Counters run since boot, so only differences mean something. `None` says that the machine does not tell, which is
//! never the same as zero. All of it comes from the machine under test: lists are bounded where they are read and
//! again where they are judged, texts are cleaned.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The key under which the agent adds a [`CounterPair`] to a stage's evidence.
pub const KEY: &str = "counters";

/// The two readings around one stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CounterPair {
    /// Before the stage.
    pub before: Counters,
    /// After it. Its kernel messages and log entries are those since `before`.
    pub after: Counters,
    /// Seconds between the two.
    pub seconds: u64,
}

/// One reading of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Corrected and uncorrected memory errors, a module or a controller each; `None` without an EDAC driver.
    pub memory: Option<Vec<MemoryErrors>>,
    /// Machine-check exceptions over all processors, from `/proc/interrupts`.
    pub machine_checks: Option<u64>,
    /// PCI Express error reporting, a device each; empty where no device reports.
    pub pcie: Vec<PcieErrors>,
    /// How often processors slowed themselves down for heat, over all of them; `None` when they do not tell.
    pub throttled: Option<u64>,
    /// Network ports that are hardware.
    pub nics: Vec<NicCounters>,
    /// The management controller's event log; `None` where there is no controller.
    pub bmc: Option<BmcLog>,
    /// The kernel's messages; `None` when they cannot be read.
    pub kernel: Option<KernelLog>,
    /// What could not be read although it is there, one sentence each.
    pub problems: Vec<String>,
}

/// Memory errors of one module, or of a whole controller where modules are not told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryErrors {
    /// `mc0/dimm3`: names the counter from reading to reading.
    pub id: String,
    /// The label that the board or the driver gives the module.
    pub label: Option<String>,
    /// Corrected errors.
    pub corrected: u64,
    /// Uncorrected errors.
    pub uncorrected: u64,
}

/// Advanced error reporting of one PCI Express device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PcieErrors {
    /// `0000:03:00.0`.
    pub address: String,
    /// Corrected by the link itself.
    pub correctable: u64,
    /// Lost transactions; the link still works.
    pub nonfatal: u64,
    /// The link does not work reliably any more.
    pub fatal: u64,
}

/// One network port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NicCounters {
    /// Kernel name during this boot.
    pub name: String,
    /// Hardware address.
    pub mac: Option<String>,
    /// Whether it was switched on. A port that is off has no link to lose.
    pub up: bool,
    /// Whether there was a link; `None` when the port was off.
    pub carrier: Option<bool>,
    /// How often the link came or went.
    pub carrier_changes: Option<u64>,
    /// Errors by the kernel's name for them: `rx_crc_errors`, `tx_errors` …
    pub errors: BTreeMap<String, u64>,
    /// Packets that the machine itself had no room for: `rx_dropped` …, which a busy machine has without any fault.
    pub drops: BTreeMap<String, u64>,
}

/// The management controller's event log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BmcLog {
    /// Id of the last record; `None` while the log is empty.
    pub last: Option<String>,
    /// Records since the reading before, as the tool writes them; in a first reading, none.
    pub new: Vec<BmcEvent>,
    /// Whether the record that was last before is gone: the log was cleared or has wrapped.
    pub restarted: bool,
}

/// One record of the management controller's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BmcEvent {
    /// Record id.
    pub id: String,
    /// What it says: `Voltage #0x60 | Lower Critical going low | Asserted`.
    pub text: String,
}

/// The kernel's messages that are worth a look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelLog {
    /// Number of the last message.
    pub last: u64,
    /// Messages of interest since the reading before, at most a few hundred; in a first reading, none.
    pub lines: Vec<String>,
    /// How many more there were.
    pub left_out: u64,
}

impl CounterPair {
    /// Seconds as hours, never zero: rates are per hour.
    pub fn hours(&self) -> f64 {
        (self.seconds.max(1) as f64) / 3600.0
    }
}
