//! What operators ask: vet a host, decide about a run.

use std::sync::Arc;

use assay_model::event::{RunCreated, Target};
use assay_model::host::spec::HostSpec;
use assay_model::{Decision, DecisionKind, EventBody, HostId, RunId, RunView};
use assay_pipelines::host;
use assay_store::{Changes, CreateError, HostRow, RunFilter};
use serde_json::json;

use crate::act::notify;
use crate::{Engine, EngineError};

/// How a host is to be vetted.
#[derive(Clone, Debug)]
pub struct VetOptions {
    /// `quick`, `standard` or `burnin`.
    pub profile: String,
    /// Longest time from power-on to enrolment, in seconds.
    pub boot_timeout_s: u32,
    /// Longest hold, in seconds.
    pub hold_s: u32,
    /// Whether a failed run holds.
    pub holds: bool,
    /// Codes of checks to switch off.
    pub muted: Vec<String>,
    /// Who asks.
    pub by: String,
}

/// The profiles there are.
pub const PROFILES: [&str; 3] = ["quick", "standard", "burnin"];

impl Engine {
    /// Queues a run over a registered host.
    pub async fn vet(&self, host: &HostRow, options: VetOptions) -> Result<Arc<RunView>, EngineError> {
        if !PROFILES.contains(&options.profile.as_str()) {
            return Err(EngineError::Invalid(format!(
                "there is no profile `{}`; choose quick, standard or burnin",
                options.profile
            )));
        }
        let spec = match host.spec_yaml.trim() {
            "" => HostSpec::default(),
            yaml => HostSpec::from_yaml(yaml).map_err(|e| EngineError::Invalid(e.to_string()))?,
        };
        let stages = host::STAGES
            .into_iter()
            .map(|stage| {
                let mut plan = stage.plan();
                if let Some(over) = spec.stages.get(plan.name.as_str()) {
                    plan.required = over.required;
                }
                plan
            })
            .collect();
        let created = RunCreated {
            number: 0,
            pipeline: "host".to_owned(),
            profile: options.profile,
            target: Target { host: host.id, name: host.name.clone() },
            stages,
            spec: serde_json::to_value(&spec)
                .map_err(|e| EngineError::Invalid(format!("the spec does not serialise: {e}")))?,
            macs: host.macs.clone(),
            power: host.power.clone(),
            holds: options.holds,
            hold_s: options.hold_s,
            boot_timeout_s: options.boot_timeout_s,
            requested_by: options.by,
            harness: env!("CARGO_PKG_VERSION").to_owned(),
            muted: options.muted,
        };
        let id = RunId(uuid::Uuid::now_v7());
        let run = self.store.create_run(id, self.now(), created).await.map_err(|e| match e {
            CreateError::HostBusy { number, state } => EngineError::Refused(format!(
                "{} is in run {number} ({state}); a host is never tested twice at once. Decide about that run first",
                host.name
            )),
            CreateError::Db(store) => EngineError::Store(store),
        })?;
        self.wake.notify_one();
        Ok(run)
    }

    /// The host's run that is not over yet.
    pub async fn open_run_of(&self, host: HostId) -> Result<Option<RunId>, EngineError> {
        let filter = RunFilter { host: Some(host), limit: 1, ..RunFilter::default() };
        let latest = self.store.list_runs(filter).await?.into_iter().next();
        Ok(latest.filter(|run| !run.state.is_terminal()).map(|run| run.id))
    }

    /// Records a decision. The transition function says whether it fits.
    pub async fn decide(&self, run: RunId, decision: Decision) -> Result<Arc<RunView>, EngineError> {
        if decision.kind == DecisionKind::Waive && decision.why.trim().is_empty() {
            return Err(EngineError::Invalid(
                "a waiver needs a reason: it stays on the report for ever".to_owned(),
            ));
        }
        let committed = self
            .transact(run, |fresh| {
                let body = json!({ "decision": decision.kind, "by": decision.by, "why": decision.why });
                let mut writes = vec![notify(fresh, "Decided", body)];
                if decision.kind == DecisionKind::Abandon {
                    writes.push(notify(fresh, "RunReleased", json!({ "why": "abandoned" })));
                }
                Ok(Changes { events: vec![EventBody::Decided { decision }], writes })
            })
            .await?;
        Ok(committed.view)
    }
}
