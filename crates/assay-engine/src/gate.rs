//! May this machine go back to work? Only on a fresh, signed pass of everything, for exactly the machine that stands
//! there now.
//!
//! The gate is closed unless every question is answered with yes, and it says each reason why it is.

use assay_model::host::inventory::Inventory;
use assay_model::host::order::Profile;
use assay_model::host::parts::{PartId, missing, parts};
use assay_model::host::smart::same_identity;
use assay_model::host::spec::HostSpec;
use assay_model::{
    HostId, Micros, Pipeline, RunResult, RunState, RunView, Sha256, StageName, Verdict, journal,
};
use assay_store::{HostRow, RunFilter};

use crate::act::inventory_of;
use crate::{Engine, EngineError};

/// How many of a host's newest runs are looked at for what the machine was last seen to be.
const RECENT: u32 = 50;

/// What is asked of the pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateRule {
    /// How old the verdict may be.
    pub max_age: Micros,
    /// Whether a pass counts that an operator waived something for.
    pub allow_waived: bool,
    /// The lightest profile that counts.
    pub least: Profile,
}

impl GateRule {
    /// A pass of at least `standard`, of this age, in which nothing was waived.
    pub const fn standard(max_age: Micros) -> Self {
        Self { max_age, allow_waived: false, least: Profile::Standard }
    }
}

/// A reason why the gate is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateReason {
    /// Stable, for scripts.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

/// The gate's answer: open when there is no reason against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateAnswer {
    /// The run that was asked about: the host's newest one that was not cancelled or superseded.
    pub run: Option<i64>,
    /// Its profile.
    pub profile: Option<String>,
    /// When it came to its end.
    pub completed_at: Option<Micros>,
    /// Why the gate is closed; open when empty.
    pub reasons: Vec<GateReason>,
}

/// All that the gate looks at.
struct Seen<'a> {
    run: &'a RunView,
    /// What is wrong with the journal or its seal, if anything.
    forged: Option<String>,
    /// What the machine was in the run.
    then: Option<Inventory>,
    /// What it was seen to be last, and in which run.
    now: Option<(i64, Inventory)>,
}

impl Engine {
    /// Whether a host may go back to work.
    pub async fn gate(&self, host: &HostRow, rule: GateRule) -> Result<GateAnswer, EngineError> {
        // An installation of an image on the machine says nothing of whether the machine is sound.
        let pipeline = Some(Pipeline::Host);
        let filter =
            RunFilter { target: Some(host.id.into()), pipeline, limit: RECENT, ..RunFilter::default() };
        let rows = self.store.list_runs(filter).await?;
        let counts =
            |state| !matches!(state, RunState::Cancelled | RunState::Superseded | RunState::Cancelling);
        let Some(row) = rows.iter().find(|row| counts(row.state)) else {
            let message = format!("{} was never vetted", host.name);
            let reasons = vec![reason("NeverVetted", message)];
            return Ok(GateAnswer { run: None, profile: None, completed_at: None, reasons });
        };
        let run = self.view(row.id).await?;
        let seen = Seen {
            forged: self.forged(&run).await?,
            then: self.inventory(inventory_of(&run)).await,
            now: self.last_seen(host.id).await?,
            run: &run,
        };
        Ok(GateAnswer {
            run: Some(run.created.number),
            profile: Some(run.created.profile.clone()),
            completed_at: run.completed_at,
            reasons: reasons(&seen, rule, self.now()),
        })
    }

    /// The spec that a host's newest inventory comes to, as YAML, and the run that it is of. What people wrote into
    /// the registered spec and no inventory tells is kept: limits, severities, stages, the cluster, bays.
    pub async fn capture(&self, host: &HostRow) -> Result<(i64, String), EngineError> {
        let (run, inventory) = self.last_seen(host.id).await?.ok_or_else(|| {
            EngineError::Refused(format!("no inventory of {} is known; vet it first", host.name))
        })?;
        let mut spec = HostSpec::capture(&inventory);
        if !host.spec_yaml.trim().is_empty() {
            let known =
                HostSpec::from_yaml(&host.spec_yaml).map_err(|e| EngineError::Invalid(e.to_string()))?;
            for disk in &mut spec.disks {
                let same = |a: &Option<String>, b: &Option<String>| matches!((a, b), (Some(a), Some(b)) if same_identity(a, b));
                let was =
                    known.disks.iter().find(|d| same(&d.serial, &disk.serial) || same(&d.wwn, &disk.wwn));
                disk.bay = was.and_then(|was| was.bay.clone());
            }
            (spec.limits, spec.severity, spec.stages) = (known.limits, known.severity, known.stages);
            (spec.cluster, spec.pci) = (known.cluster, known.pci);
        }
        Ok((run, spec.to_yaml()))
    }

    /// What does not hold of a run's journal or its seal.
    async fn forged(&self, run: &RunView) -> Result<Option<String>, EngineError> {
        let events = self.store.journal(run.id).await?;
        if let Err(broken) = journal::verify(run.id, Sha256::ZERO, &events) {
            return Ok(Some(broken.to_string()));
        }
        Ok(self.sealer.check(run).err())
    }

    /// What a host was last seen to be, in whatever run, and that run's number.
    pub(crate) async fn last_seen(&self, host: HostId) -> Result<Option<(i64, Inventory)>, EngineError> {
        let filter = RunFilter { target: Some(host.into()), limit: RECENT, ..RunFilter::default() };
        for row in self.store.list_runs(filter).await? {
            let run = self.view(row.id).await?;
            if let Some(digest) = inventory_of(&run) {
                let inventory = self.inventory(Some(digest)).await;
                return Ok(inventory.map(|inventory| (row.number, inventory)));
            }
        }
        Ok(None)
    }

    /// An inventory that reads; one that is gone or broken is none.
    async fn inventory(&self, digest: Option<Sha256>) -> Option<Inventory> {
        Inventory::from_evidence(&self.json(digest?).await.ok()?).ok()
    }
}

fn reason(code: &'static str, message: String) -> GateReason {
    GateReason { code, message }
}

fn reasons(seen: &Seen<'_>, rule: GateRule, now: Micros) -> Vec<GateReason> {
    let run = seen.run;
    let number = run.created.number;
    if !run.state().is_terminal() {
        let message = format!("run {number} is {}: wait for its verdict, or decide about it", run.state());
        return vec![reason("BeingTested", message)];
    }
    let mut out = Vec::new();
    let mut closed = |code, message: String| out.push(reason(code, message));
    match run.result {
        Some(RunResult::Pass) => {}
        Some(RunResult::Fail) => {
            let at = run.failed_stage().map_or_else(String::new, |stage| format!(" at {stage}"));
            closed("Failed", format!("run {number} failed{at}"));
        }
        None => closed("NoVerdict", format!("run {number} came to no verdict: vet it again")),
    }
    match &seen.forged {
        None if run.status.sealed => {}
        None => closed("NotSealed", format!("the verdict of run {number} is not signed yet")),
        Some(problem) => closed("NotGenuine", format!("run {number} does not verify: {problem}")),
    }
    let profile: Profile = run.created.profile.parse().unwrap_or(Profile::Quick);
    if profile < rule.least {
        let counting: Vec<&str> =
            Profile::ALL.into_iter().filter(|p| *p >= rule.least).map(Profile::as_str).collect();
        let counting = counting.join(" and ");
        closed("ProfileTooLow", format!("run {number} was `{profile}`; what counts is {counting}"));
    }
    if run.overridden && !rule.allow_waived {
        closed("Waived", format!("an operator waived a failure in run {number}"));
    }
    if !run.created.muted.is_empty() {
        closed(
            "ChecksOff",
            format!("checks were switched off in run {number}: {}", run.created.muted.join(", ")),
        );
    }
    let left_out: Vec<&str> = run.created.options.left_out.iter().map(StageName::as_str).collect();
    if !left_out.is_empty() {
        closed("StagesLeftOut", format!("stages were left out of run {number}: {}", left_out.join(", ")));
    }
    let compared = run.stages.iter().find(|stage| stage.plan.name == "SpecValidate");
    if compared.is_none_or(|stage| stage.verdict() != Some(Verdict::Pass) && !stage.waived) {
        closed("NotCompared", format!("run {number} did not compare the machine with a spec"));
    }
    let age = run.completed_at.map_or(i64::MAX, |at| now.since(at).0);
    if age > rule.max_age.0 {
        let days = |span: Micros| span.as_seconds() / 86_400.0;
        let message = format!(
            "the verdict of run {number} is {:.1} days old, at most {:.1} are allowed: vet it again",
            days(Micros(age)),
            days(rule.max_age)
        );
        closed("TooOld", message);
    }
    match (&seen.then, &seen.now) {
        (Some(then), Some((last, now))) => {
            let changed = changed(&parts(then), &parts(now));
            if !changed.is_empty() {
                closed(
                    "PartsChanged",
                    format!(
                        "since run {number} the machine was seen with other parts (run {last}): {changed}"
                    ),
                );
            }
        }
        _ => closed(
            "InventoryUnknown",
            format!("what the machine was in run {number} cannot be read any more"),
        ),
    }
    out
}

/// What is gone and what has come, for people. Empty when it is the same machine.
fn changed(then: &[PartId], now: &[PartId]) -> String {
    let said = |part: &PartId, what: &str| format!("{} {} {what}", part.kind.as_str(), part.name());
    let gone = missing(then, now).into_iter().map(|part| said(part, "is gone"));
    let come = missing(now, then).into_iter().map(|part| said(part, "is new"));
    gone.chain(come).take(8).collect::<Vec<_>>().join(", ")
}
