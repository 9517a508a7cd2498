//! The recipe pipeline, in order: an app recipe is installed at its previous release, upgraded in place to the commit under
//! test, backed up, destroyed, restored, and held to its own tests. A new stage is one file beside this one and one line in
//! [`STAGES`].
//!
//! A run goes on after a failed stage: what it brought up must be taken down, and what does not depend on the failure is told as
//! well. A stage that cannot begin says what it waits for and is `unverified`. The runner collects (feature `bench`), with a Docker
//! daemon that lives through the stages; the judges are here, pure, and see evidence only.

mod backup;
#[cfg(feature = "bench")]
pub mod bench;
mod custom;
mod deployed;
pub mod evidence;
pub mod harness;
mod idempotence;
mod images;
mod install;
#[cfg(test)]
mod judge_tests;
pub mod kept;
mod lint;
pub mod over_time;
pub mod pressure;
mod reporting;
mod restore;
mod rollback;
mod spec;
mod teardown;
mod told;
mod upgrade;

use assay_model::{Finding, Judgement, Owner, Severity, StageName, StagePlan, Verdict, recipe::Rung, text};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use images::{MovedTag, moved_tags};
pub use spec::{Asked, Isolation, PinnedImage, RecipeSpec, Source};

use self::evidence::{Ground, Reached, RunnerSeen};

/// The stage without which there is no verdict.
pub const LAST: &str = "Reporting";

/// The code of a stack that was still on its way when its time was over.
const NOT_CONVERGED: &str = "NotConverged";
/// A service whose health check failed.
const UNHEALTHY: &str = "Unhealthy";

/// Codes of the checks that are off where the generic ones are skipped: what the app answers.
pub const GENERIC: [&str; 4] = ["NoAnswer", "WrongStatus", "WrongContent", "WrongContentType"];

/// The stages in the order in which they run.
pub static STAGES: [&dyn RecipeStage; 10] = [
    &lint::Lint,
    &install::Install,
    &upgrade::Upgrade,
    &idempotence::Idempotence,
    &backup::Backup,
    &restore::Restore,
    &custom::Custom,
    &rollback::Rollback,
    &teardown::Teardown,
    &reporting::Reporting,
];

/// A stage of the recipe pipeline.
pub trait RecipeStage: Sync {
    /// Its name, owner, whether it is required by default, and its time limit.
    fn plan(&self) -> StagePlan;

    /// The rung that it decides, where it decides one: the settings may say that it does not apply.
    fn rung(&self) -> Option<Rung> {
        None
    }

    /// Whether it is part of a run only where the settings ask for it.
    fn opt_in(&self) -> bool {
        false
    }

    /// Whether it is left out of a quick run.
    fn is_long(&self) -> bool {
        false
    }

    /// Evidence in, verdict out. Pure.
    fn judge(&self, input: &RecipeInput<'_>) -> Judgement;
}

/// All that a judge may look at.
pub struct RecipeInput<'a> {
    /// The recipe and its settings.
    pub spec: &'a RecipeSpec,
    /// The evidence of the attempt being judged.
    pub evidence: &'a Value,
    /// The evidence of earlier stages of this run (their latest attempts).
    pub earlier: &'a [(StageName, Value)],
}

impl<'a> RecipeInput<'a> {
    /// What is judged, and what came before.
    pub const fn new(spec: &'a RecipeSpec, evidence: &'a Value, earlier: &'a [(StageName, Value)]) -> Self {
        Self { spec, evidence, earlier }
    }
}

/// The stage with this name.
pub fn stage(name: &str) -> Option<&'static dyn RecipeStage> {
    STAGES.into_iter().find(|stage| stage.plan().name == name)
}

/// Why a stage has nothing to do in this run, where that is known before it begins.
pub fn declared_not_applicable(stage: &dyn RecipeStage, spec: &RecipeSpec) -> Option<String> {
    let rung = stage.rung()?;
    let why = spec.settings.expect.not_applicable.get(&declared_as(rung))?;
    Some(format!("declared in assay.toml: {}", text::clean(why)))
}

/// A rung as the settings spell it.
const fn declared_as(rung: Rung) -> assay_recipe::settings::Rung {
    use assay_recipe::settings::Rung as Declared;
    match rung {
        Rung::Install => Declared::Install,
        Rung::Upgrade => Declared::Upgrade,
        Rung::Backup => Declared::Backup,
        Rung::Functional => Declared::Functional,
        Rung::Lint => Declared::Lint,
    }
}

/// The stages of a run, and those of the pipeline that are not in it.
///
/// # Errors
/// A stage that there is not.
pub fn plan(spec: &RecipeSpec, only: &[String]) -> Result<(Vec<StagePlan>, Vec<StageName>), String> {
    for name in only {
        if stage(name).is_none() {
            let names: Vec<String> = STAGES.iter().map(|stage| stage.plan().name.0).collect();
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            let hint = text::did_you_mean(name, &known);
            return Err(format!("there is no stage `{name}`{hint}; there are {}", names.join(", ")));
        }
    }
    let (mut stages, mut left_out) = (Vec::new(), Vec::new());
    for stage in STAGES {
        let planned = planned(stage, spec);
        let name = planned.name.clone();
        let opted = match name.as_str() {
            "Idempotence" => spec.settings.stages.idempotence,
            "Rollback" => spec.settings.stages.rollback,
            _ => !stage.opt_in(),
        };
        // Nothing is looked at that was not installed, what was brought up goes, and without the last one there is no verdict.
        let always = ["Install", "Teardown", LAST].contains(&name.as_str());
        let named = only.is_empty() || only.iter().any(|only| name == only.as_str());
        if always || (named && opted && !(spec.asked.quick && stage.is_long())) {
            stages.push(planned);
        } else if opted {
            left_out.push(name);
        }
    }
    Ok((stages, left_out))
}

/// A stage's place in a run over this recipe.
fn planned(stage: &dyn RecipeStage, spec: &RecipeSpec) -> StagePlan {
    /// What a stage needs beside waiting: images, hooks, tests, a daemon on a busy machine. In seconds.
    const BESIDE: u64 = 3600;
    let plan = stage.plan();
    if plan.owner == Owner::Orchestrator {
        return plan;
    }
    // Restore deploys, and waits once more when it has restored.
    let waits = 3 * spec.settings.deploy.timeout.as_secs();
    let limit = waits.saturating_add(BESIDE);
    // Each further release to begin at is installed and upgraded by itself.
    let times = match plan.name.as_str() {
        "Upgrade" => spec.settings.upgrade.from.len().max(1) as u64,
        _ => 1,
    };
    StagePlan { timeout_s: u32::try_from(limit.saturating_mul(times)).unwrap_or(u32::MAX), ..plan }
}

/// Reads the evidence of a stage and has it judged, unless there is none for a reason.
pub(crate) fn judged<E: DeserializeOwned>(
    stage: &dyn RecipeStage,
    input: &RecipeInput<'_>,
    judge: impl FnOnce(&E) -> Judgement,
) -> Judgement {
    let name = stage.plan().name;
    if let Some(why) = elsewhere_than_asked(input) {
        return Judgement::error(why);
    }
    let judgement = match serde_json::from_value::<Reached<E>>(input.evidence.clone()) {
        Ok(Reached::Done(evidence)) => {
            // In a machine, which may be emulated, a health check that was not answered in time is late as well.
            let is_late =
                |code: &str| code == NOT_CONVERGED || (code == UNHEALTHY && in_machine(input.evidence));
            unless_overloaded(judge(&evidence), input.evidence, is_late)
        }
        Ok(Reached::NotReached { because }) => {
            let because = text::clean(&because);
            let unverified = vec![because.clone()];
            let message = format!("not reached: {because}");
            Judgement { verdict: Verdict::Unverified, unverified, ..Judgement::error(message) }
        }
        Ok(Reached::DoesNotApply { why }) => {
            Judgement { verdict: Verdict::Skip, ..Judgement::error(text::clean(&why)) }
        }
        Err(problem) => Judgement::error(format!(
            "the evidence of {name} cannot be read ({}); are runner and server of the same version?",
            text::clean(&problem.to_string())
        )),
    };
    kept::or_not_kept(judgement, input.evidence)
}

/// Why evidence counts for nothing: a stranger's recipe was not where it had to be.
fn elsewhere_than_asked(input: &RecipeInput<'_>) -> Option<String> {
    let seen: RunnerSeen = serde_json::from_value(input.evidence.get("runner")?.clone()).ok()?;
    (input.spec.isolation == Isolation::Machine && seen.ground != Ground::Machine).then(|| {
        format!(
            "this was to be tested in a virtual machine, and was in {}; upgrade the runner, and look at what was run there",
            seen.ground.as_str()
        )
    })
}

/// What was still on its way when its time was over (a stack, a machine) says nothing, where the runner had nothing left to give it.
/// Which findings are of that kind `is_late` says by their codes.
pub(crate) fn unless_overloaded(
    judgement: Judgement,
    evidence: &Value,
    is_late: impl Fn(&str) -> bool,
) -> Judgement {
    let mut grave =
        judgement.findings.iter().filter(|finding| finding.severity == Severity::Critical).peekable();
    if judgement.verdict != Verdict::Fail
        || grave.peek().is_none()
        || !grave.all(|finding| is_late(&finding.code))
    {
        return judgement;
    }
    match overload_in(evidence) {
        Some(why) => overloaded(judgement, &why),
        None => judgement,
    }
}

/// Whether the stack was in a virtual machine.
fn in_machine(evidence: &Value) -> bool {
    let seen = evidence.get("runner").cloned().and_then(|seen| serde_json::from_value(seen).ok());
    seen.is_some_and(|seen: RunnerSeen| seen.ground == Ground::Machine)
}

/// Why the runner counts as overloaded in the stage with this evidence.
fn overload_in(evidence: &Value) -> Option<String> {
    over_time::results::pressure_of(evidence)?.overload()
}

/// A judgement that would be held against a recipe, and says nothing about it since the runner had nothing left.
fn overloaded(judgement: Judgement, why: &str) -> Judgement {
    let message = format!("the runner was overloaded: {why}; so it says nothing that {}", judgement.message);
    let next = "Run it again when the runner has less to do, or give the runner less at once (its capacity).";
    let finding = Finding::new("RunnerOverloaded", Severity::Warning, message.clone(), next);
    let seen = judgement.findings.into_iter().map(|finding| match finding.severity {
        // Still told, and no longer held against the recipe.
        Severity::Critical => Finding { severity: Severity::Warning, ..finding },
        _ => finding,
    });
    let findings = std::iter::once(finding).chain(seen).collect();
    Judgement { verdict: Verdict::Error, message, findings, ..judgement }
}

/// A stage that the runner collects.
fn by_runner(name: &str, required: bool) -> StagePlan {
    StagePlan { name: StageName::from(name), owner: Owner::Agent, required, timeout_s: 3600 }
}

#[cfg(test)]
#[path = "overload_tests.rs"]
mod overload_tests;
