//! What operators ask: vet a host, decide about a run.

use std::sync::Arc;

use assay_model::event::{RunCreated, Target};
use assay_model::host::order::{Profile, Replacement, RunOptions, UnknownProfile};
use assay_model::host::parts::read_as_replaced;
use assay_model::host::smart::same_identity;
use assay_model::host::spec::HostSpec;
use assay_model::view::StageView;
use assay_model::{
    Decision, DecisionKind, EventBody, Finding, HostId, Owner, Pipeline, RunId, RunView, Severity, StageName,
    StagePlan,
};
use assay_pipelines::host;
use assay_pipelines::host::clearance::NAME as CLEARANCE;
use assay_store::{Changes, CreateError, HostRow, RunFilter};
use serde_json::json;

use crate::act::{ERASE_NOT_PERMITTED, UNEXPECTED_DATA, notify};
use crate::{Engine, EngineError, outside};

/// A machine may take this long from power-on to enrolment, unless whoever asks says otherwise, in seconds: server firmware is
/// slow.
pub const BOOT_TIMEOUT_S: u32 = 600;
/// A failed run keeps its machine this long, unless whoever asks says otherwise, in seconds.
pub const HOLD_S: u32 = 7 * 24 * 3600;

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
    /// What else is asked for.
    pub options: RunOptions,
    /// Only these stages, and `Reporting`; all of the plan when empty. They may be opt-in ones.
    pub only: Vec<StageName>,
    /// Opt-in stages that are wanted beside the rest of the plan.
    pub with: Vec<StageName>,
    /// Who asks.
    pub by: String,
}

impl Engine {
    /// Queues a run over a registered host.
    pub async fn vet(&self, host: &HostRow, options: VetOptions) -> Result<Arc<RunView>, EngineError> {
        self.vet_as(new_run(), host, options).await
    }

    /// The same, for a run whose id was chosen before.
    pub(crate) async fn vet_as(
        &self,
        id: RunId,
        host: &HostRow,
        options: VetOptions,
    ) -> Result<Arc<RunView>, EngineError> {
        let profile: Profile = options
            .profile
            .parse()
            .map_err(|unknown: UnknownProfile| EngineError::Invalid(unknown.to_string()))?;
        let mut spec = match host.spec_yaml.trim() {
            "" => HostSpec::default(),
            yaml => HostSpec::from_yaml(yaml).map_err(|e| EngineError::Invalid(e.to_string()))?,
        };
        check_replaced(&options.options.replaced)?;
        if options.options.from_phase.is_some() {
            let why = "a host has no phases to go on from; only the run of an image has";
            return Err(EngineError::Invalid(why.to_owned()));
        }
        let replaced = options.options.replaced.clone();
        let outdated = read_as_replaced(&mut spec, &replaced);
        let (stages, left_out) = plan(&spec, profile, &options)?;
        for stage in stages.iter().filter(|stage| stage.owner == Owner::Runner) {
            outside::check_console(&stage.name, &host.power)?;
        }
        let created = RunCreated {
            number: 0,
            pipeline: Pipeline::Host,
            profile: options.profile,
            target: Target { id: host.id.into(), name: host.name.clone() },
            stages,
            spec: serde_json::to_value(&spec)
                .map_err(|e| EngineError::Invalid(format!("the spec does not serialise: {e}")))?,
            macs: host.macs.clone(),
            power: host.power.clone(),
            holds: options.holds,
            hold_s: options.hold_s,
            boot_timeout_s: options.boot_timeout_s,
            requested_by: options.by,
            machine: None,
            harness: env!("CARGO_PKG_VERSION").to_owned(),
            muted: options.muted,
            options: RunOptions { left_out, ..options.options },
        };
        let run = self.create_as(id, created).await?;
        if outdated.is_empty() {
            return Ok(run);
        }
        let events: Vec<_> = outdated.into_iter().map(|part| spec_outdated(&host.name, part)).collect();
        let committed = self.transact(run.id, |_| Ok(Changes { events, writes: Vec::new() })).await?;
        Ok(committed.view)
    }

    /// Writes a run down; the dispatcher takes it up. One target is never tested twice at once.
    pub(crate) async fn create(&self, created: RunCreated) -> Result<Arc<RunView>, EngineError> {
        self.create_as(new_run(), created).await
    }

    /// The same for whoever has drawn the run's id before, and may come again after a crash: the second time gives the run that is
    /// there.
    pub(crate) async fn create_as(
        &self,
        id: RunId,
        created: RunCreated,
    ) -> Result<Arc<RunView>, EngineError> {
        if let Some(run) = self.store.view(id).await? {
            return Ok(run);
        }
        let name = created.target.name.clone();
        let then = if created.has_machine() {
            "a host is never tested twice at once. Decide about that run first"
        } else {
            "an image is never tested twice at once under one name. Wait for that run, or cancel it"
        };
        let run = self.store.create_run(id, self.now(), created).await.map_err(|e| match e {
            CreateError::HostBusy { number, state } => {
                EngineError::Refused(format!("{name} is in run {number} ({state}); {then}"))
            }
            CreateError::Db(store) => EngineError::Store(store),
        })?;
        self.wake.notify_one();
        Ok(run)
    }

    /// The host's run that is not over yet.
    pub async fn open_run_of(&self, host: HostId) -> Result<Option<RunId>, EngineError> {
        let filter = RunFilter { target: Some(host.into()), limit: 1, ..RunFilter::default() };
        let latest = self.store.list_runs(filter).await?.into_iter().next();
        Ok(latest.filter(|run| !run.state.is_terminal()).map(|run| run.id))
    }

    /// Records a decision. The transition function says whether it fits.
    pub async fn decide(&self, run: RunId, mut decision: Decision) -> Result<Arc<RunView>, EngineError> {
        let reasonless = decision.why.trim().is_empty();
        match decision.kind {
            DecisionKind::Waive if reasonless => {
                return Err(EngineError::Invalid(
                    "a waiver needs a reason: it stays on the report for ever".to_owned(),
                ));
            }
            DecisionKind::Permit if reasonless => {
                return Err(EngineError::Invalid(
                    "a permit to erase needs a reason: it stays on the report for ever".to_owned(),
                ));
            }
            DecisionKind::Permit => {}
            _ if !decision.serials.is_empty() => {
                return Err(EngineError::Invalid("only a permit names disks".to_owned()));
            }
            _ => {}
        }
        let committed = self
            .transact(run, |fresh| {
                if decision.kind == DecisionKind::Waive && awaits_clearance(fresh) {
                    return Err(EngineError::Refused(format!(
                        "{CLEARANCE} cannot be waived: an installer would erase disks that nobody has given up. Permit \
                         each by its serial number, or take it out of the machine and retry"
                    )));
                }
                if decision.kind == DecisionKind::Permit {
                    decision.serials = permitted(fresh, &decision.serials)?;
                }
                let body = json!({
                    "decision": decision.kind, "by": decision.by, "why": decision.why, "serials": decision.serials,
                });
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

/// The id of a run that is to be.
pub(crate) fn new_run() -> RunId {
    RunId(uuid::Uuid::now_v7())
}

/// Whether the run stopped where somebody has to say that disks may be erased by an installer.
fn awaits_clearance(run: &RunView) -> bool {
    run.failed_stage().is_some_and(|stage| stage == CLEARANCE)
}

/// The registered spec is the operator's and often kept elsewhere, so it is never changed silently.
fn spec_outdated(host: &str, part: &Replacement) -> EventBody {
    let kind = part.kind.as_str();
    let finding = Finding::new(
        "SpecOutdated",
        Severity::Info,
        format!("the registered spec still names {kind} {}; this run reads it as {}", part.old, part.new),
        format!(
            "Once the run has passed, write {} in place of {} in the spec, or let `assay host adopt {host}` do it.",
            part.new, part.old
        ),
    )
    .part(kind, None, Some(&part.new));
    EventBody::FindingRaised { finding }
}

/// The plan of a run, and the stages of the whole plan that are not in it.
fn plan(
    spec: &HostSpec,
    profile: Profile,
    options: &VetOptions,
) -> Result<(Vec<StagePlan>, Vec<StageName>), EngineError> {
    let without = &options.options.left_out;
    for name in options.only.iter().chain(&options.with).chain(without) {
        if host::stage(name.as_str()).is_none() {
            let known: Vec<_> = host::STAGES.into_iter().map(|stage| stage.plan().name.0).collect();
            let known = known.join(", ");
            return Err(EngineError::Invalid(format!(
                "there is no stage `{}`; there are {known}",
                assay_model::text::clean_to(name.as_str(), 40)
            )));
        }
    }
    if without.iter().any(|name| name == LAST) {
        return Err(EngineError::Invalid(format!("{LAST} cannot be left out: it makes the verdict")));
    }
    let (mut stages, mut left_out) = (Vec::new(), Vec::new());
    for stage in host::STAGES {
        let mut plan = stage.plan();
        let named = options.only.contains(&plan.name) || options.with.contains(&plan.name);
        if stage.opt_in() && !named && !spec.stages.contains_key(plan.name.as_str()) {
            continue;
        }
        let wanted = options.only.is_empty() || named || plan.name == LAST;
        if !wanted || without.contains(&plan.name) {
            left_out.push(plan.name);
            continue;
        }
        plan.timeout_s = stage.limit_s(spec, profile);
        if let Some(over) = spec.stages.get(plan.name.as_str()) {
            plan.required = over.required;
        }
        stages.push(plan);
    }
    if stages.len() < 2 {
        return Err(EngineError::Invalid("no stage is left that would look at the machine".to_owned()));
    }
    Ok((stages, left_out))
}

/// The stage without which there is no verdict.
const LAST: &str = "Reporting";
/// Most parts that one run may be told of.
const MAX_REPLACED: usize = 64;

fn check_replaced(replaced: &[Replacement]) -> Result<(), EngineError> {
    let invalid = |why: String| Err(EngineError::Invalid(why));
    if replaced.len() > MAX_REPLACED {
        return invalid(format!("more than {MAX_REPLACED} replaced parts: register it as a new machine"));
    }
    for (place, part) in replaced.iter().enumerate() {
        let kind = part.kind.as_str();
        if [&part.old, &part.new].into_iter().any(|id| id.trim().is_empty() || id.len() > 128) {
            return invalid(format!(
                "a replaced {kind} needs the old and the new serial number, each at most 128 long"
            ));
        }
        if same_identity(&part.old, &part.new) {
            return invalid(format!("{kind} {} cannot replace itself", part.old));
        }
        let twice = replaced[..place].iter().any(|other| {
            other.kind == part.kind
                && (same_identity(&other.old, &part.old) || same_identity(&other.new, &part.new))
        });
        if twice {
            return invalid(format!("{kind} {} or {} is named twice", part.old, part.new));
        }
    }
    Ok(())
}

/// The disks that a permit may name: those that the failed stage asks a word for. In their own spelling.
fn permitted(run: &RunView, typed: &[String]) -> Result<Vec<String>, EngineError> {
    let stage = run.failed_stage().and_then(|name| run.stages.iter().find(|s| s.plan.name == name));
    let findings = stage.and_then(StageView::judgement).map_or(&[][..], |judgement| &judgement.findings);
    let holding: Vec<&str> = findings
        .iter()
        .filter(|finding| [UNEXPECTED_DATA, ERASE_NOT_PERMITTED].contains(&finding.code.as_str()))
        .filter_map(|finding| finding.part.as_ref()?.serial.as_deref())
        .collect();
    if holding.is_empty() {
        return Err(EngineError::Refused(format!(
            "run {} did not stop at a disk with data, so there is nothing to permit",
            run.created.number
        )));
    }
    if typed.is_empty() {
        return Err(EngineError::Invalid(format!(
            "name the disks by serial number; data is on {}",
            holding.join(", ")
        )));
    }
    let mut serials = Vec::new();
    for one in typed {
        let Some(known) = holding.iter().find(|serial| same_identity(serial, one)) else {
            return Err(EngineError::Invalid(format!(
                "disk {} is none of those on which data was found ({}); type the serial number as it stands there",
                assay_model::text::clean_to(one, 128),
                holding.join(", ")
            )));
        };
        if !serials.contains(&(*known).to_owned()) {
            serials.push((*known).to_owned());
        }
    }
    Ok(serials)
}
