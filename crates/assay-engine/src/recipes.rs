//! What operators ask of the recipe pipeline: test a recipe in a swarm of the runner's own.

use std::sync::Arc;

use assay_model::event::{EventBody, RunCreated, Target};
use assay_model::host::order::RunOptions;
use assay_model::{Asked, Pipeline, RunId, RunView, TargetId};
use assay_pipelines::recipe::harness::Harness;
use assay_pipelines::recipe::{self, Isolation, RecipeSpec, Source};
use assay_store::Changes;
use serde_json::{Value, json};

use crate::requests::new_run;
use crate::{Engine, EngineError};

/// The power method of runs that a runner does with Docker daemons of its own.
pub const SWARM: &str = "swarm";
/// The power method of those that a runner does in a virtual machine. A runner that does not know it never gets one: it would take a
/// stranger's recipe for any other.
pub const MACHINE: &str = "machine";
/// What such a machine has of memory where a recipe does not say that it needs more, in MiB.
const MACHINE_MEM_MIB: u64 = 3072;
/// The switch in the manifest that says so.
const IN_VM: &str = "in_vm";

/// The artifact that the recipe came as.
pub const SOURCE: &str = "source.bundle";

/// A recipe that is to be tested.
#[derive(Clone, Debug)]
pub struct RecipeRequest {
    /// The recipe and its settings.
    pub spec: RecipeSpec,
    /// The stages that are asked for; all that apply where none is named.
    pub only: Vec<String>,
    /// The runner that has the recipe's folder; any that can when none is named.
    pub runner: Option<String>,
    /// Codes of checks to switch off.
    pub muted: Vec<String>,
    /// Who asks.
    pub by: String,
    /// On whose behalf.
    pub asked: Asked,
}

impl Engine {
    /// Queues a run over a recipe.
    pub async fn test_recipe(&self, request: RecipeRequest) -> Result<Arc<RunView>, EngineError> {
        self.test_recipe_as(new_run(), request).await
    }

    /// The same for whoever has drawn the run's id before: asked again after a crash, it gives the run that is there.
    pub async fn test_recipe_as(
        &self,
        id: RunId,
        request: RecipeRequest,
    ) -> Result<Arc<RunView>, EngineError> {
        let RecipeRequest { mut spec, only, runner, mut muted, by, asked } = request;
        if spec.asked.skip_generic {
            muted.extend(recipe::GENERIC.map(str::to_owned));
        }
        let (stages, left_out) = recipe::plan(&spec, &only).map_err(EngineError::Invalid)?;
        // The first time this program is read as a whole.
        spec.harness = tokio::task::spawn_blocking(Harness::running).await.ok();
        spec.stages = stages.iter().map(|stage| stage.name.0.clone()).collect();
        let name = spec.name.clone();
        let mut needs = json!({ "swarm": 1 });
        let declared = &spec.settings.needs;
        for (pool, n) in [("mem_mib", declared.mem_mib), ("cpu", declared.cpu), ("io", declared.io)] {
            if let Some(n) = n {
                needs[pool] = json!(n);
            }
        }
        let method = match spec.isolation {
            Isolation::Namespaces => SWARM,
            Isolation::Machine => MACHINE,
        };
        if spec.isolation == Isolation::Machine {
            needs["mem_mib"] = json!(needs["mem_mib"].as_u64().unwrap_or_default().max(MACHINE_MEM_MIB));
            if !spec.manifest.switches.iter().any(|switch| switch == IN_VM) {
                spec.manifest.switches.push(IN_VM.to_owned());
            }
        }
        let mut power = json!({ "method": method, "needs": needs });
        if let Some(runner) = runner {
            power["runner"] = Value::String(runner);
        }
        // What is spared stands in the verdict's name, and never counts as the whole.
        let profile = if spec.asked.quick { "quick" } else { "standard" };
        let created = RunCreated {
            number: 0,
            pipeline: Pipeline::Recipe,
            profile: profile.to_owned(),
            target: Target { id: TargetId::named(Pipeline::Recipe, &name), name },
            stages,
            spec: serde_json::to_value(&spec)
                .map_err(|e| EngineError::Invalid(format!("the settings do not serialise: {e}")))?,
            machine: None,
            macs: Vec::new(),
            power,
            holds: false,
            hold_s: 0,
            boot_timeout_s: 0,
            requested_by: by,
            harness: env!("CARGO_PKG_VERSION").to_owned(),
            muted,
            options: RunOptions { left_out, asked, ..RunOptions::default() },
        };
        self.create_as(id, created).await
    }

    /// Names the bundle that a run's recipe came as in its journal, so that it is kept and leaves with the run's evidence. Said
    /// again, it changes nothing.
    pub async fn keep_source(&self, run: RunId, source: &Source) -> Result<(), EngineError> {
        let view = self.view(run).await?;
        self.artifacts.link_run(view.created.number, SOURCE, source.bundle).await?;
        self.transact(run, |fresh| {
            if fresh.status.sealed || fresh.artifacts.iter().any(|artifact| artifact.name == SOURCE) {
                return Ok(Changes::default());
            }
            let event = EventBody::ArtifactStored {
                stage: None,
                attempt: 0,
                name: SOURCE.to_owned(),
                digest: source.bundle,
                bytes: source.bytes,
                late: false,
            };
            Ok(Changes { events: vec![event], writes: Vec::new() })
        })
        .await
        .map(drop)
    }
}
