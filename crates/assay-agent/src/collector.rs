//! The machine as the agent sees it: who it is, what its sensors say, and how a stage's evidence is gathered.
//!
//! The real one is [`crate::MachineCollector`]; the testkit's fake agent is this agent with a canned one.

use assay_api::agent::PostMortemRecord;
use assay_model::host::order::StageInput;
use assay_model::sensor::SensorInfo;
use assay_model::{Mac, StageName};
use assay_pipelines::Place;
use futures::future::BoxFuture;
use serde_json::Value;

/// What stands between the protocol and the hardware.
pub trait Collector: Send + Sync + 'static {
    /// Who this machine is.
    fn identity(&self) -> BoxFuture<'_, Identity>;

    /// One reading of all sensors. A sensor that cannot be read is `None`; the list may grow at its end.
    fn sensors(&self) -> BoxFuture<'_, Readings>;

    /// Gathers the evidence of a stage, telling of each step. Dropping the future stops the work.
    ///
    /// # Errors
    /// Why the work could not be done at all, for people.
    fn collect<'a>(&'a self, task: Task<'a>) -> BoxFuture<'a, Result<Evidence, String>>;

    /// What the machine kept of the last moments of an earlier boot.
    fn post_mortem(&self) -> Vec<PostMortemRecord> {
        Vec::new()
    }

    /// These records were told: they are not to be told again by a later boot.
    fn forget_post_mortem(&self, _records: &[PostMortemRecord]) {}
}

/// One try of a stage, as a collector sees it.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// Which stage.
    pub stage: &'a StageName,
    /// The expected spec, as the control plane sent it.
    pub spec: &'a Value,
    /// What the control plane gave for this try.
    pub input: &'a StageInput,
    /// Which run, host and try this is.
    pub place: &'a Place,
    /// Told of each step as it happens.
    pub progress: &'a (dyn Fn(&str) + Send + Sync),
    /// Takes a checkpoint.
    pub save: &'a (dyn Fn(Value) + Send + Sync),
}

/// How a machine is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Every Ethernet address.
    pub macs: Vec<Mac>,
    /// The SMBIOS UUID, if there is one.
    pub system_uuid: Option<String>,
}

/// One moment's readings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    /// The sensors.
    pub sensors: Vec<SensorInfo>,
    /// One value for each.
    pub values: Vec<Option<f64>>,
}

/// What a stage's collector brings back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// What the judge reads.
    pub evidence: Value,
    /// Raw tool output and other files, by name.
    pub artifacts: Vec<(String, Vec<u8>)>,
}
