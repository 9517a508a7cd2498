//! Evidence of the stage `Network`: what each port is linked at, and what went through it in both directions.

use serde::{Deserialize, Serialize};

use super::order::IperfServer;

/// Everything that the stage brings back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkEvidence {
    /// One entry per port that was looked at.
    pub nics: Vec<NicTest>,
    /// Expected ports that are not there.
    pub absent: Vec<AbsentNic>,
    /// How many speed servers stood ready.
    pub servers: usize,
    /// What went wrong beside the ports themselves.
    pub problems: Vec<String>,
}

/// A port that the spec names and the machine does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AbsentNic {
    /// Its hardware address, where the spec names one.
    pub mac: Option<String>,
    /// Its driver, where the spec names one.
    pub driver: Option<String>,
}

/// One port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NicTest {
    /// Kernel name during this boot.
    pub name: String,
    /// Permanent hardware address, lower case with colons.
    pub mac: Option<String>,
    /// PCI address.
    pub pci: Option<String>,
    /// Driver.
    pub driver: Option<String>,
    /// Whether the spec expects it.
    pub expected: bool,
    /// What the spec wants it linked at, in Mb/s.
    pub min_speed_mbps: Option<u32>,
    /// The link, once it was up; `None` when there was none.
    pub link: Option<Link>,
    /// Whether the stage switched the port on (and off again).
    pub raised: bool,
    /// Seconds that were waited for a link.
    pub waited_s: f64,
    /// The server that was used.
    pub server: Option<IperfServer>,
    /// From the machine to the runner.
    pub sent: Option<Transfer>,
    /// From the runner to the machine.
    pub received: Option<Transfer>,
    /// How often the link came or went while data went through.
    pub flaps: Option<u64>,
    /// Growth of the port's error counters while data went through, by the kernel's name.
    pub errors: Vec<(String, u64)>,
    /// Why there is no measurement, if there is none.
    pub obstacle: Option<Obstacle>,
    /// Names of its raw files.
    pub artifacts: Vec<String>,
}

/// What a port is linked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    /// Negotiated speed in Mb/s; `None` for a virtual port, which has none.
    pub speed_mbps: Option<u32>,
    /// Whether both directions at once; `None` when the driver does not tell.
    pub full_duplex: Option<bool>,
    /// The fastest that the port supports, in Mb/s.
    pub max_mbps: Option<u32>,
}

/// One direction of a measurement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Transfer {
    /// What arrived, in bits per second of payload.
    pub bits_per_second: f64,
    /// Payload bytes that arrived in the counted time.
    pub bytes: u64,
    /// Seconds that were counted.
    pub seconds: f64,
    /// Segments that had to be sent again; `None` when the sender does not tell.
    pub retransmits: Option<u64>,
    /// Bytes in a segment, as negotiated.
    pub segment: Option<u64>,
    /// Payload bytes of the whole measurement, warming up included, at least.
    pub total_bytes: u64,
    /// Bytes that the port's own counter saw meanwhile; `None` when it has none.
    pub port_bytes: Option<u64>,
    /// Processor use of the tool on the machine, in percent of one core.
    pub cpu_here: Option<f64>,
    /// Processor use of the tool on the runner, in percent of one core.
    pub cpu_there: Option<f64>,
}

/// Why a port has no measurement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum Obstacle {
    /// No link came.
    NoLink,
    /// The port has a link; the server cannot be reached through it: another network.
    Unreachable(String),
    /// The servers are there and refuse, or are busy: the runner's fault.
    Server(String),
    /// The runner offered no server, or no address for this port.
    NoServer(String),
    /// A tool on the machine under test failed.
    Tool(String),
    /// The spec says that only the link is to be looked at.
    LinkOnly,
}
