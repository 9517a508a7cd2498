//! The pipelines: what a run does, in order.
//!
//! A stage is two functions. `collect` gathers evidence where the thing is (compiled only with the
//! feature `collect`, into the agent). `judge` turns evidence into checks and a verdict: purely, in
//! the control plane, so that old evidence can be judged again and every threshold can be tested
//! without a machine. Adding a stage is one file and one line in its pipeline's list.

pub mod host;
pub mod image;
mod integrity;
pub mod recipe;

use assay_model::host::order::{Profile, Replacement};
use assay_model::host::spec::HostSpec;
use assay_model::sensor::SensorInfo;
use assay_model::{Judgement, StageName, StagePlan};
#[cfg(feature = "collect")]
use assay_model::{Micros, RunId, host::order::StageInput};
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
    /// How thorough the run is.
    pub profile: Profile,
    /// The parts that were replaced before this run.
    pub replaced: &'a [Replacement],
    /// The inventory of the last run that the machine passed, and that run's number; given where parts were replaced.
    pub before: Option<(i64, &'a Value)>,
}

impl<'a> JudgeInput<'a> {
    /// Evidence alone: nothing came before, no sensor was read, profile `standard`.
    pub const fn new(spec: &'a HostSpec, evidence: &'a Value) -> Self {
        Self {
            spec,
            evidence,
            earlier: &[],
            sensors: &[],
            profile: Profile::Standard,
            replaced: &[],
            before: None,
        }
    }

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

    /// How long one try may take with this spec, in seconds.
    fn limit_s(&self, _spec: &HostSpec, _profile: Profile) -> u32 {
        self.plan().timeout_s
    }

    /// Whether the stage is part of a run only where the spec or the operator asks for it.
    fn opt_in(&self) -> bool {
        false
    }

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
    /// What the control plane gave for this try: profile, permit, servers, the last checkpoint.
    pub input: &'a StageInput,
    /// Which run, host and try this is, and whose permits count.
    pub place: &'a Place,
    /// Told of each step as it happens; shown live.
    pub progress: &'a (dyn Fn(&str) + Sync),
    /// Takes a checkpoint; the next try of the stage finds the last one in its input.
    pub save: &'a (dyn Fn(Value) + Sync),
}

/// Where a collector works: what a permit must name.
#[cfg(feature = "collect")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The run.
    pub run: RunId,
    /// The host's name.
    pub host: String,
    /// Fencing token of the try.
    pub generation: i64,
    /// The control plane's public key (Ed25519, 64 hexadecimal digits).
    pub verify_key: String,
    /// Server time now.
    pub now: Micros,
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

/// What tests of collectors need: a context in which nothing special was asked for.
#[cfg(all(test, feature = "collect"))]
pub(crate) mod testing {
    use std::sync::LazyLock;

    use assay_model::host::order::StageInput;
    use assay_model::host::spec::HostSpec;
    use assay_model::{Micros, RunId};
    use assay_probes::Machine;

    use crate::{CollectContext, Place};

    static INPUT: LazyLock<StageInput> = LazyLock::new(StageInput::default);
    static PLACE: LazyLock<Place> = LazyLock::new(|| Place {
        run: RunId(uuid::Uuid::nil()),
        host: "web-3".to_owned(),
        generation: 1,
        verify_key: String::new(),
        now: Micros(0),
    });

    pub(crate) fn context<'a>(machine: &'a Machine, spec: &'a HostSpec) -> CollectContext<'a> {
        CollectContext { machine, spec, input: &INPUT, place: &PLACE, progress: &|_| (), save: &|_| () }
    }
}
