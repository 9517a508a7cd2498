//! The agent protocol, version 1: HTTPS, JSON, below `/agent/v1/`.
//!
//! The agent asks, the control plane answers; nothing is ever pushed to a machine. Every write
//! names what it belongs to, is acknowledged only after it is committed, and may be sent again:
//! `(boot, seq)` for sensors and logs, `(stage, attempt, name)` for artifacts, `(stage, attempt)`
//! for results. All but `/hello` carry the credential as a bearer token.

use assay_model::host::order::StageInput;
use assay_model::sensor::SensorBatch;
use assay_model::{Mac, Micros, RunId, Sha256, StageName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version that this code speaks.
pub const PROTOCOL: u32 = 1;

/// Largest JSON body taken from an agent, in bytes. Larger evidence belongs into an artifact.
pub const MAX_JSON: usize = 8 << 20;

/// Largest single artifact, in bytes.
pub const MAX_ARTIFACT: u64 = 64 << 20;

/// `POST /agent/v1/hello`: exchanges the one-time token for a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// The token from the kernel command line.
    pub token: String,
    /// A fresh random secret of the agent's (64 hex digits), kept in memory only: the bearer token
    /// for everything else. The same hello may be said again with the same secret (the answer may
    /// have been lost); another secret with a spent token is a second enrolment and refused.
    pub credential: String,
    /// Every Ethernet address of the machine.
    pub macs: Vec<Mac>,
    /// The machine's SMBIOS UUID, if it tells one.
    pub system_uuid: Option<String>,
    /// The agent's version.
    pub agent: String,
    /// What the machine's own clock says; may be decades off.
    pub clock: Micros,
}

/// The answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The run.
    pub run: RunId,
    /// Its number.
    pub number: i64,
    /// The host's name.
    pub host: String,
    /// Which boot of the run this is; part of the identity of logs and samples.
    pub boot: u32,
    /// Fencing token of this enrolment.
    pub generation: i64,
    /// The server's time. The agent's time is this plus its monotonic clock.
    pub server_time: Micros,
    /// Send a heartbeat this often, in seconds.
    pub heartbeat_s: u32,
    /// Read the sensors this often, in seconds.
    pub sensor_s: u32,
    /// The expected spec, so that collectors can ask for expected parts by name.
    pub spec: Value,
    /// The control plane's public key (Ed25519, 64 hexadecimal digits), which signs permits to erase.
    #[serde(default)]
    pub verify_key: String,
}

/// `GET /agent/v1/next?wait_s=N`: what to do. Answers at once when there is something to do, and
/// repeats itself until it is done: a stage command comes again until its result was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case")]
pub enum Command {
    /// Collect the evidence of a stage.
    Stage {
        /// Which.
        stage: StageName,
        /// Which try.
        attempt: u32,
        /// Fencing token of the try.
        generation: i64,
        /// How long it may take, in seconds.
        timeout_s: u32,
        /// What the collector is given.
        #[serde(default)]
        input: Box<StageInput>,
    },
    /// Nothing now; ask again.
    Wait,
    /// The run is held for an operator; ask again.
    Hold {
        /// For the console: why, and until when.
        message: String,
        /// An operator wants a terminal: the session to take ([`crate::shell`]). As long as it is named here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shell: Option<String>,
    },
    /// Deliver what is spooled, say `/off`, power off.
    Shutdown {
        /// For the console.
        reason: String,
    },
}

/// `POST /agent/v1/heartbeat`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The stage being collected, and which try.
    pub stage: Option<(StageName, u32)>,
    /// What it is doing, in a few words.
    pub step: Option<String>,
    /// Seconds since the machine booted.
    pub uptime_s: u64,
    /// How many items wait in the spool.
    pub spooled: u64,
}

/// The answer to a [`Heartbeat`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatAck {
    /// The server's time.
    pub server_time: Micros,
}

/// `POST /agent/v1/sensor`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sensors {
    /// Counts from 1 within a boot, without gaps.
    pub seq: i64,
    /// The readings.
    pub batch: SensorBatch,
}

/// `POST /agent/v1/log`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogChunk {
    /// Counts from 1 within a boot, without gaps.
    pub seq: i64,
    /// The lines, oldest first.
    pub lines: Vec<LogLine>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When, in server time.
    pub at: Micros,
    /// `agent`, `kernel`, or the tool's name.
    pub source: String,
    /// The text, without its line end.
    pub text: String,
}

/// The answer to [`Sensors`] and [`LogChunk`]: committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The number that was committed.
    pub seq: i64,
}

/// The query of `PUT /agent/v1/artifact`; the body is the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactQuery {
    /// The stage it belongs to.
    pub stage: StageName,
    /// Which try.
    pub attempt: u32,
    /// Its name: letters, digits, `.`, `_` and `-`, at most 128.
    pub name: String,
    /// Its digest; a body that does not match is refused.
    pub sha256: Sha256,
}

/// `POST /agent/v1/result`: the evidence of one try. Artifacts come before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageResult {
    /// Which stage.
    pub stage: StageName,
    /// Which try.
    pub attempt: u32,
    /// The fencing token it was handed out with.
    pub generation: i64,
    /// What the judge reads.
    pub evidence: Value,
    /// Set when the collector could not do its work: what went wrong.
    pub problem: Option<String>,
}

/// `PUT /agent/v1/checkpoint`: where a long stage stands, so that the next try of it can go on from there, on this
/// boot or a later one. The last one counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Which stage.
    pub stage: StageName,
    /// Which try.
    pub attempt: u32,
    /// The fencing token it was handed out with; an older one is refused.
    pub generation: i64,
    /// For the collector alone; at most [`MAX_JSON`].
    pub state: Value,
}

/// `POST /agent/v1/post-mortem`: what the machine kept of its last moments (pstore), told once after each boot that
/// found any. Said again, it changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostMortem {
    /// The records.
    pub records: Vec<PostMortemRecord>,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostMortemRecord {
    /// Its file name: `dmesg-erst-7000000000000001`.
    pub name: String,
    /// What it holds, as text.
    pub text: String,
}

/// The answer to [`StageResult`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultAck {
    /// Whether it came after its try was closed: kept as evidence, changes nothing.
    pub late: bool,
}
