//! The runner protocol, version 1: below `/runner/v1/`.
//!
//! A runner's join token lets it ask for work and say what it sees; each run that it is given
//! comes with a token of its own, good for that run alone and void when the run ends.

use std::collections::BTreeMap;
use std::path::PathBuf;

use assay_model::event::PowerAction;
use assay_model::host::memtest::MemtestEvidence;
use assay_model::host::order::IperfServer;
use assay_model::{Mac, Pipeline, RunId, Sha256, StageName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::Welcome;

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
    /// The target's name.
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
    /// Which list of stages.
    #[serde(default = "host")]
    pub pipeline: Pipeline,
    /// Where no machine boots: what the runner needs to be the run's agent. It speaks the agent protocol from now on,
    /// already enrolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentGrant>,
}

/// An enrolment, handed over with the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentGrant {
    /// Bearer token of the agent protocol.
    pub credential: String,
    /// Digest of the only certificate that is accepted there (DER).
    pub fingerprint: Sha256,
    /// What an agent is told when it enrols.
    pub welcome: Welcome,
}

const fn host() -> Pipeline {
    Pipeline::Host
}

/// `POST /runner/v1/services` (run token): what stands ready for the run. May be sent again; the last one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// Network speed servers, each for one client at a time.
    pub iperf: Vec<IperfServer>,
}

/// `GET /runner/v1/source` (run token): the Git bundle that the run's recipe comes as, `application/octet-stream`; 404 where its
/// recipe is a folder. Its digest and size stand in the run's spec.
pub const SOURCE: &str = "/runner/v1/source";

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
        /// For [`PowerAction::Medium`]: what is inserted before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        medium: Option<Medium>,
    },
    /// Read the machine's serial console until memtest86+ has said what it has to say. Comes again until its
    /// [`ConsoleRead`] was taken; anything else means that nobody waits for it any more.
    Read(ConsoleOrder),
    /// Look at the image for a stage that needs no machine. Comes again until its [`StageRead`] was taken.
    Look(LookOrder),
    /// Follow what the machine does with the medium that was inserted, stage by stage, on its console. Comes again
    /// until the [`StageRead`] of the last stage was taken; anything else means that nobody waits for it any more, and
    /// that the medium is to be ejected.
    Install(InstallOrder),
    /// Nothing now; ask again.
    Wait,
    /// The run is over: forget its addresses and its token.
    End,
}

/// Which console is read for what, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleOrder {
    /// The stage that wants it.
    pub stage: StageName,
    /// Which try.
    pub attempt: u32,
    /// Fencing token of the try.
    pub generation: i64,
    /// The power job with which the machine was booted for it: the console is read from that moment on.
    pub job: String,
    /// Whole passes that are waited for.
    pub passes: u32,
    /// Seconds that are left for the machine to begin.
    pub boot_s: u64,
    /// Seconds that are left for everything.
    pub listen_s: u64,
}

/// An image that a machine is to see as a medium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Medium {
    /// Its file on the runner.
    pub image: PathBuf,
    /// Its digest when the run looked at it: a file that is another one by now is not inserted.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A try of a stage whose evidence is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try {
    /// The stage.
    pub stage: StageName,
    /// Which try.
    pub attempt: u32,
    /// Fencing token of the try.
    pub generation: i64,
    /// Seconds that are left for it.
    pub left_s: u64,
}

/// An image to be looked at without a machine: `Prepare`, `Inspect`, `Identify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookOrder {
    /// What is waited for.
    pub open: Try,
    /// The image and its profile (`assay_pipelines::image::ImageSpec`).
    pub spec: Value,
}

/// An installation to be followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallOrder {
    /// The power job that inserted the medium and switched the machine on: its console is read from that moment on.
    /// One job is one session; an order with another job has nothing to do with what was read for this one.
    pub job: String,
    /// The image and its profile (`assay_pipelines::image::ImageSpec`).
    pub spec: Value,
    /// The stages that are read off the console, in their order: of `Boot`, `Install`, `Reboot` those of the plan.
    pub stages: Vec<StageName>,
    /// The try that is waited for now; none for the moment between two stages, in which the reading goes on. Evidence
    /// of a stage that is not open yet is kept until it is.
    pub open: Option<Try>,
    /// What was inserted: ejected when the installer has done its work, and when nobody follows it any more.
    pub medium: Medium,
    /// How long the machine may take from power-on to what its firmware boots, in seconds; the profile's times come on
    /// top.
    pub boot_s: u64,
}

/// `POST /runner/v1/evidence` (run token): what came of a [`LookOrder`], or of one stage of an [`InstallOrder`]. May be
/// sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRead {
    /// The stage.
    pub stage: StageName,
    /// Which try.
    pub attempt: u32,
    /// Its fencing token.
    pub generation: i64,
    /// What the judge reads (`assay_pipelines::image::evidence`).
    pub evidence: Value,
    /// Why the runner could not do its work at all, where it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Transcripts, by the names under which they are kept as artifacts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub texts: BTreeMap<String, String>,
}

/// `POST /runner/v1/console` (run token): what was read. May be sent again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConsoleRead {
    /// The stage.
    pub stage: StageName,
    /// Which try.
    pub attempt: u32,
    /// Its fencing token.
    pub generation: i64,
    /// What the judge reads.
    pub evidence: MemtestEvidence,
    /// The console in plain text; kept as an artifact.
    pub text: String,
}

/// `POST /runner/v1/step` (run token): how far the reading is, in a few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The words.
    pub step: String,
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
