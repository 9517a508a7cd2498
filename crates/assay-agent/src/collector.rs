//! The machine as the agent sees it: who it is, what its sensors say, and how a stage's evidence is gathered.
//!
//! The real one is [`crate::MachineCollector`]; the testkit's fake agent is this agent with a canned one.

use assay_model::sensor::SensorInfo;
use assay_model::{Mac, StageName};
use futures::future::BoxFuture;
use serde_json::Value;

/// What stands between the protocol and the hardware.
pub trait Collector: Send + Sync + 'static {
    /// Who this machine is.
    fn identity(&self) -> BoxFuture<'_, Identity>;

    /// One reading of all sensors. A sensor that cannot be read is `None`; the list may grow at its end.
    fn sensors(&self) -> BoxFuture<'_, Readings>;

    /// Gathers the evidence of a stage, telling `progress` of each step. Dropping the future stops the work.
    ///
    /// # Errors
    /// Why the work could not be done at all, for people.
    fn collect<'a>(
        &'a self,
        stage: &'a StageName,
        spec: &'a Value,
        progress: &'a (dyn Fn(&str) + Send + Sync),
    ) -> BoxFuture<'a, Result<Evidence, String>>;
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
