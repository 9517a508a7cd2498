//! The runner protocol, version 1: below `/runner/v1/`.
//!
//! A runner's join token lets it ask for work and say what it sees; each run that it is given
//! comes with a token of its own, good for that run alone and void when the run ends.

use std::collections::BTreeMap;

use assay_model::event::PowerAction;
use assay_model::host::order::IperfServer;
use assay_model::{Mac, RunId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `POST /runner/v1/claim?wait_s=N` (join token): asks for a run. Answers 204 when none came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The runner's name, unique and stable.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The runs it already works on; anything else that was given to it is given again (with a
    /// new token) after a restart.
    pub holding: Vec<RunId>,
    /// The power methods it can do: `manual`, `lab` …
    pub power: Vec<String>,
    /// How much of each pool it has: `netboot` (16 where it does not say), `mem_mib`, `cpu`, `io` …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity: BTreeMap<String, u64>,
}

/// A run, handed to a runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The run.
    pub run: RunId,
    /// Its number.
    pub number: i64,
    /// The host's name.
    pub host: String,
    /// Bearer token for this run; the last one for it is void.
    pub token: String,
    /// The addresses that may now boot from the network.
    pub macs: Vec<Mac>,
    /// `{"method": "lab", "machine": "healthy-bios"}`, `{"method": "manual"}` …
    pub power: Value,
    /// How many network speed servers the run wants: one for each expected port.
    #[serde(default)]
    pub speed_servers: u32,
}

/// `POST /runner/v1/services` (run token): what stands ready for the run. May be sent again; the last one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// Network speed servers, each for one client at a time.
    pub iperf: Vec<IperfServer>,
}

/// `GET /runner/v1/next?wait_s=N` (run token).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case")]
pub enum Order {
    /// Switch the machine's power. Each job is done once; asked again, the first outcome is told again.
    Power {
        /// Names the job.
        job: String,
        /// What to do.
        action: PowerAction,
    },
    /// Nothing now; ask again.
    Wait,
    /// The run is over: forget its addresses and its token.
    End,
}

/// `POST /runner/v1/done` (run token): what became of a job. May be sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Which job.
    pub job: String,
    /// Whether it worked.
    pub ok: bool,
    /// What the driver says.
    pub message: String,
}

/// `POST /runner/v1/seen` (join token): what goes on on the provisioning network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The runner's name.
    pub runner: String,
    /// Addresses that asked for a lease.
    pub macs: Vec<Mac>,
    /// News of the netboot service: `None` while it is well, otherwise what is wrong.
    pub netboot_problem: Option<String>,
}
