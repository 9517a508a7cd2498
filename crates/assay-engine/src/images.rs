//! What operators ask of the image pipeline: test an image, on a virtual machine or on a registered host.

use std::sync::Arc;

use assay_model::event::{RunCreated, Target};
use assay_model::host::order::RunOptions;
use assay_model::host::spec::HostSpec;
use assay_model::{Asked, Pipeline, RunId, RunView, Sha256, StageName, StagePlan, TargetId, text};
use assay_pipelines::image::evidence::{Inspected, Prepared};
use assay_pipelines::image::{self, ImageSpec, hardware};
use assay_store::{HostRow, ImageSeen, Write};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::requests::new_run;
use crate::{Engine, EngineError, install, permits};

/// The power method of runs that a runner does with virtual machines of its own.
pub const VM: &str = "vm";

/// An image that is to be tested.
#[derive(Clone, Debug)]
pub struct ImageRequest {
    /// The image, its profile, and what this run differs in from others of its matrix.
    pub spec: ImageSpec,
    /// The runner that has the image's file; any that can when none is named.
    pub runner: Option<String>,
    /// Codes of checks to switch off.
    pub muted: Vec<String>,
    /// Who asks.
    pub by: String,
}

/// How an image is to be installed on a registered host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnHost {
    /// Longest time from power-on to enrolment of the live image, and from power-on to the medium, in seconds.
    pub boot_timeout_s: u32,
    /// Longest hold, in seconds.
    pub hold_s: u32,
    /// Whether a failed run holds.
    pub holds: bool,
}

impl Engine {
    /// Queues a run that installs an image on a registered host, after the live image has cleared it. Its cluster is
    /// asked first: once the machine's power is cut, a live member would be seen offline.
    pub async fn test_image_on(
        &self,
        host: &HostRow,
        request: ImageRequest,
        how: OnHost,
    ) -> Result<Arc<RunView>, EngineError> {
        let ImageRequest { mut spec, runner, muted, by } = request;
        let host_spec = match host.spec_yaml.trim() {
            "" => HostSpec::default(),
            yaml => HostSpec::from_yaml(yaml).map_err(|e| EngineError::Invalid(e.to_string()))?,
        };
        install::may_be_asked(&spec.profile, runner.as_deref(), &muted, &host.power)?;
        let guard = permits::ask_cluster(&host_spec, self.guard.as_ref()).await;
        install::may_be_switched_off(&host.name, &host_spec, &guard)?;
        spec.on = Some(host.name.clone());
        spec.checked().map_err(EngineError::Invalid)?;
        let (stages, left_out) =
            hardware::plan(&spec, &host_spec, how.boot_timeout_s).map_err(EngineError::Invalid)?;
        let unserialised = |e: serde_json::Error| EngineError::Invalid(format!("it does not serialise: {e}"));
        let created = RunCreated {
            number: 0,
            pipeline: Pipeline::Image,
            profile: "standard".to_owned(),
            target: Target { id: host.id.into(), name: host.name.clone() },
            stages,
            spec: serde_json::to_value(&spec).map_err(unserialised)?,
            machine: Some(serde_json::to_value(&host_spec).map_err(unserialised)?),
            macs: host.macs.clone(),
            power: host.power.clone(),
            holds: how.holds,
            hold_s: how.hold_s,
            boot_timeout_s: how.boot_timeout_s,
            requested_by: by,
            harness: env!("CARGO_PKG_VERSION").to_owned(),
            muted,
            options: RunOptions { left_out, ..RunOptions::default() },
        };
        self.create(created).await
    }

    /// Queues a run over an image, on a virtual machine of the runner's.
    pub async fn test_image(&self, request: ImageRequest) -> Result<Arc<RunView>, EngineError> {
        self.test_image_as(new_run(), request, Asked::default()).await
    }

    /// The same, for a run whose id was chosen before, and on another's behalf.
    pub async fn test_image_as(
        &self,
        id: RunId,
        request: ImageRequest,
        asked: Asked,
    ) -> Result<Arc<RunView>, EngineError> {
        let ImageRequest { mut spec, runner, muted, by } = request;
        // Who sets it otherwise would have what nobody saw on a virtual machine taken for unknowable.
        spec.on = None;
        let name = spec.target_name();
        spec.checked().map_err(EngineError::Invalid)?;
        let (stages, left_out) = plan(&spec)?;
        let machine = &spec.profile.machine;
        let needs = json!({ "vm": 1, "mem_mib": machine.memory.mib() });
        let mut power = json!({ "method": VM, "needs": needs });
        if let Some(runner) = runner {
            power["runner"] = Value::String(runner);
        }
        let created = RunCreated {
            number: 0,
            pipeline: Pipeline::Image,
            profile: "standard".to_owned(),
            target: Target { id: TargetId::named(Pipeline::Image, &name), name: name.clone() },
            stages,
            spec: serde_json::to_value(&spec)
                .map_err(|e| EngineError::Invalid(format!("the profile does not serialise: {e}")))?,
            macs: Vec::new(),
            power,
            holds: false,
            hold_s: 0,
            boot_timeout_s: 0,
            requested_by: by,
            machine: None,
            harness: env!("CARGO_PKG_VERSION").to_owned(),
            muted,
            options: RunOptions { left_out, from_phase: spec.from_phase, asked, ..RunOptions::default() },
        };
        self.create_as(id, created).await
    }

    /// The evidence of the stages as far as there is any, of each its latest: what pages show. Evidence that retention
    /// has thrown away is left out.
    pub async fn evidence(&self, run: &RunView) -> Vec<(StageName, Value)> {
        let mut found = Vec::new();
        for stage in &run.stages {
            let latest = stage.attempts.iter().rev().find_map(|attempt| attempt.evidence.as_ref());
            let Some(evidence) = latest.filter(|evidence| evidence.problem.is_none()) else { continue };
            if let Ok(value) = self.json(evidence.digest).await
                && !value.is_null()
            {
                found.push((stage.plan.name.clone(), value));
            }
        }
        found
    }

    /// Which image it is, once a stage has found out.
    pub(crate) async fn image_seen(
        &self,
        run: &RunView,
        stage: &str,
        evidence: Sha256,
    ) -> Result<Option<Write>, EngineError> {
        if run.created.pipeline != Pipeline::Image || !["Prepare", "Inspect"].contains(&stage) {
            return Ok(None);
        }
        let now = self.json(evidence).await?;
        let (prepared, inspected) = if stage == "Prepare" {
            (read::<Prepared>(&now), None)
        } else {
            let earlier = self.earlier(run).await?;
            let prepared = earlier.iter().find(|(name, _)| name == "Prepare");
            (prepared.and_then(|(_, value)| read::<Prepared>(value)), read::<Inspected>(&now))
        };
        let volume = inspected.map(|inspected| text::clean_to(&inspected.volume_id, 64));
        let whole = run.created.is_whole();
        Ok(prepared
            .map(|image| Write::Image(ImageSeen { digest: image.sha256, bytes: image.bytes, volume, whole })))
    }
}

fn read<E: DeserializeOwned>(value: &Value) -> Option<E> {
    serde_json::from_value(value.clone()).ok()
}

/// The plan, and the stages of the pipeline that are not in it.
fn plan(spec: &ImageSpec) -> Result<(Vec<StagePlan>, Vec<StageName>), EngineError> {
    let all: Vec<StagePlan> = image::STAGES.iter().map(|stage| image::planned(*stage, spec)).collect();
    let Some(until) = &spec.profile.until else { return Ok((all, Vec::new())) };
    let Some(last) = all.iter().position(|stage| stage.name == until.as_str()) else {
        return Err(EngineError::Invalid(format!("there is no stage `{until}`")));
    };
    let (mut stages, mut left_out) = (Vec::new(), Vec::new());
    for (place, stage) in all.into_iter().enumerate() {
        // Without the last one there is no verdict.
        if place <= last || stage.name == image::LAST {
            stages.push(stage);
        } else {
            left_out.push(stage.name);
        }
    }
    Ok((stages, left_out))
}
