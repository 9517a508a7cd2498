//! The pipelines: what a run does, in order.
//!
//! A stage is two functions. `collect` gathers evidence where the thing is (compiled only with the
//! feature `collect`, into the agent). `judge` turns evidence into checks and a verdict: purely, in
//! the control plane, so that old evidence can be judged again and every threshold can be tested
//! without a machine. Adding a stage is one file and one line in its pipeline's list.

pub mod host;

use assay_model::host::spec::HostSpec;
use assay_model::sensor::SensorInfo;
use assay_model::{Judgement, StageName, StagePlan};
use serde_json::Value;

/// All that a judge may look at.
pub struct JudgeInput<'a> {
    /// What the machine should be.
    pub spec: &'a HostSpec,
    /// The evidence of the attempt being judged, as its `collect` returned it.
    pub evidence: &'a Value,
    /// The evidence of earlier stages of this run (their latest attempts).
    pub earlier: &'a [(StageName, Value)],
    /// Highest and lowest value of every sensor read so far in this run.
    pub sensors: &'a [SensorSummary],
}

impl<'a> JudgeInput<'a> {
    /// The latest evidence of an earlier stage.
    pub fn evidence_of(&self, stage: &str) -> Option<&'a Value> {
        self.earlier.iter().rev().find(|(name, _)| name == stage).map(|(_, value)| value)
    }
}

/// One sensor over the run so far.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SensorSummary {
    /// Which sensor.
    pub sensor: SensorInfo,
    /// How many readings there are.
    pub samples: u64,
    /// How many times it could not be read.
    pub missing: u64,
    /// Lowest reading.
    pub min: f64,
    /// Highest reading.
    pub max: f64,
}

/// A stage of the host pipeline.
pub trait HostStage: Sync {
    /// Its name, owner, whether it is required by default, and its time limit.
    fn plan(&self) -> StagePlan;

    /// Evidence in, verdict out. Pure.
    fn judge(&self, input: &JudgeInput<'_>) -> Judgement;

    /// Gathers the evidence on the machine under test.
    #[cfg(feature = "collect")]
    fn collect<'a>(
        &'a self,
        context: &'a CollectContext<'a>,
    ) -> futures::future::BoxFuture<'a, Result<Collected, CollectError>>;
}

/// What a collector has to work with.
#[cfg(feature = "collect")]
pub struct CollectContext<'a> {
    /// The machine: where its files and its tools are.
    pub machine: &'a assay_probes::Machine,
    /// What is expected, so that missing parts can be asked for by name.
    pub spec: &'a HostSpec,
    /// Told of each step as it happens; shown live.
    pub progress: &'a (dyn Fn(&str) + Sync),
}

/// What a collector brings back.
#[cfg(feature = "collect")]
#[derive(Debug, Default)]
pub struct Collected {
    /// The evidence that the judge reads.
    pub evidence: Value,
    /// Raw tool output and other files, by the name they are kept under: `smart-<disk>.txt` …
    pub artifacts: Vec<(String, Vec<u8>)>,
}

/// The collector could not do its work at all (as opposed to finding something bad).
#[cfg(feature = "collect")]
#[derive(Debug, thiserror::Error)]
#[error("{stage}: {problem}")]
pub struct CollectError {
    /// Which stage.
    pub stage: StageName,
    /// What went wrong and what to do about it.
    pub problem: String,
}
