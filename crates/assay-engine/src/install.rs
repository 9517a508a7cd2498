//! An image that is installed on a registered machine: when its medium goes in, what the machine is told to boot, and
//! what the runner is to do for each stage.
//!
//! The live image has cleared the machine in stages of its own before. What stands here must not be got around: the
//! medium goes in only after [`cleared`] has looked once more, from the journal alone, and after the cluster was asked
//! once more. From then on the machine boots no live image until the run brings it back there.
//!
//! One insertion is one session: Boot, Install and Reboot are three stages of it, and none of them is repeated alone.

use std::collections::BTreeMap;
use std::path::PathBuf;

use assay_model::event::PowerAction;
use assay_model::host::permit::GuardAnswer;
use assay_model::host::spec::HostSpec;
use assay_model::view::{AttemptOutcome, AttemptView, PowerView, StageView};
use assay_model::{
    EventBody, Finding, Judgement, Mac, Micros, Owner, Pipeline, RunId, RunState, RunView, Sha256, StageName,
    Verdict, text,
};
use assay_pipelines::host::{self, clearance};
use assay_pipelines::image::evidence::Prepared;
use assay_pipelines::image::hardware::{self, Wants, wants};
use assay_pipelines::image::{self, ImageSpec, Profile};
use assay_store::Changes;
use serde_json::Value;

use crate::decide::{Action, Snapshot};
use crate::{Engine, EngineError, outside, permits};

/// How long a machine stays cleared: then somebody may have put in another disk.
const FRESH: Micros = Micros::seconds(1800);
/// The longest transcript that is kept, in bytes.
const MAX_TEXT: usize = 2 << 20;
/// Most transcripts of one stage.
const MAX_TEXTS: usize = 8;

/// A try of a stage whose evidence is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The stage.
    pub stage: StageName,
    /// Which try.
    pub attempt: u32,
    /// Its fencing token.
    pub generation: i64,
    /// When its time is over.
    pub until: Micros,
}

/// An installation that the runner is to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Following {
    /// The power job that inserted the medium.
    pub job: String,
    /// The stages of this session, in their order.
    pub stages: Vec<StageName>,
    /// What is waited for now; none between two stages.
    pub open: Option<Open>,
}

/// What the firmware of a machine is told while an image's run has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Served {
    /// To go on to the medium; the event that says so.
    Medium(EventBody),
    /// To go on to whatever it has, and why.
    Local(String),
}

/// What the runner brings of a stage.
#[derive(Clone, Debug)]
pub struct Brought {
    /// The stage.
    pub stage: StageName,
    /// Which try.
    pub attempt: u32,
    /// Its fencing token.
    pub generation: i64,
    /// What the judge reads.
    pub evidence: Value,
    /// Why the work could not be done at all.
    pub problem: Option<String>,
    /// Transcripts, by name.
    pub texts: BTreeMap<String, String>,
}

/// The image that goes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Medium {
    /// Its file on the runner.
    pub image: PathBuf,
    /// Its digest when it was looked at.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Why the medium does not go in.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotCleared {
    /// It is not what the run is doing.
    #[error("run {run} is not in an open try of a stage that boots a medium on a machine")]
    NotNow {
        /// The run's number.
        run: i64,
    },
    /// Checks are switched off: what passed without them does not let an installer loose.
    #[error("checks are switched off in run {run}")]
    Muted {
        /// The run's number.
        run: i64,
    },
    /// The machine was never cleared, or not by evidence.
    #[error("the machine is not cleared: {0}")]
    NotPassed(String),
    /// Something came in between.
    #[error("the machine was cleared, and then {0}")]
    Since(String),
    /// The cluster, or the lack of one, stands against it.
    #[error("{}", .0.message)]
    Cluster(Box<Finding>),
}

impl NotCleared {
    /// The judgement of the stage that would have begun.
    pub(crate) fn judgement(self) -> Judgement {
        match self {
            Self::Cluster(finding) => {
                let message = finding.message.clone();
                let mut judgement = Judgement::error(message);
                judgement.verdict = Verdict::Fail;
                judgement.findings.push(*finding);
                judgement
            }
            other => Judgement::error(format!(
                "the medium was not inserted: {other}. A retry of this stage clears the machine anew"
            )),
        }
    }
}

/// Whether the run is over an image and has a machine.
pub(crate) fn is_it(run: &RunView) -> bool {
    run.created.pipeline == Pipeline::Image && run.created.has_machine()
}

/// Whether an installation can be asked for at all, as far as that can be known without asking anybody.
///
/// # Errors
/// What stands against it, and what to do.
pub fn may_be_asked(
    profile: &Profile,
    runner: Option<&str>,
    muted: &[String],
    power: &Value,
) -> Result<(), EngineError> {
    let invalid = |why: String| Err(EngineError::Invalid(why));
    if !muted.is_empty() {
        return invalid(format!(
            "checks are switched off ({}); with a machine under an installer none may be",
            text::clean_to(&muted.join(", "), 200)
        ));
    }
    if let Some(runner) = runner {
        return invalid(format!(
            "runner {} was named; a registered host is switched and booted by the runner of its network, which needs \
             the image's file",
            text::clean_to(runner, 64)
        ));
    }
    hardware::suits(profile).map_err(|why| EngineError::Invalid(why.to_string()))?;
    let method = power.get("method").and_then(Value::as_str).unwrap_or("manual");
    match method {
        "lab" => Ok(()),
        // Redfish carries no console by itself.
        "redfish" if power.get("console").is_some() => Ok(()),
        _ => invalid(format!(
            "the medium is inserted by the host's management controller and its serial console is read through it, \
             which its power settings (`{}`) do not do; give it the method redfish with a `console`, such as \
             ttyS1,115200",
            text::clean_to(method, 64)
        )),
    }
}

/// Whether the machine's power may be cut for this: asked before anything else, as a member that was switched off looks
/// like one that is gone.
///
/// # Errors
/// What the cluster says, or that nobody said whether there is one.
pub fn may_be_switched_off(host: &str, spec: &HostSpec, guard: &GuardAnswer) -> Result<(), EngineError> {
    let Some(finding) = host::stands_against(spec, guard) else { return Ok(()) };
    Err(EngineError::Refused(format!(
        "{host}: {} ({}). {}",
        finding.message, finding.code, finding.next_step
    )))
}

/// The second look, right before an installer is let loose: everything that [`clearance`] rests on still holds. From
/// the journal alone, but for what the cluster says now.
///
/// # Errors
/// The first thing that stands against it.
pub fn cleared(run: &RunView, spec: &HostSpec, guard: &GuardAnswer, now: Micros) -> Result<(), NotCleared> {
    let number = run.created.number;
    let open = run.open_attempt().filter(|(stage, _)| {
        stage.plan.owner == Owner::Runner && wants(stage.plan.name.as_str()) == Some(Wants::Medium)
    });
    let Some((_, attempt)) = open.filter(|_| is_it(run) && run.state() == RunState::Running) else {
        return Err(NotCleared::NotNow { run: number });
    };
    if !run.created.muted.is_empty() {
        return Err(NotCleared::Muted { run: number });
    }
    let not_passed = |why: &str| Err(NotCleared::NotPassed(why.to_owned()));
    let Some(stage) = run.stages.iter().find(|stage| stage.plan.name == clearance::NAME) else {
        return not_passed("its plan does not ask for that");
    };
    let Some(last) = stage.latest() else { return not_passed("nobody looked at its disks") };
    if stage.waived {
        return not_passed("that was waived, which starts no installer");
    }
    let passed = matches!(&last.outcome, AttemptOutcome::Judged(judged) if judged.verdict == Verdict::Pass);
    let evidence = last.evidence.as_ref().filter(|evidence| evidence.problem.is_none());
    let (true, Some(_), Some(ended)) = (passed, evidence, last.ended_at) else {
        return not_passed("its disks did not pass");
    };
    let since = |what: &str| Err(NotCleared::Since(what.to_owned()));
    if ended > attempt.started_at || now.since(ended) > FRESH {
        return since("too much time went by; somebody may have put in another disk");
    }
    if run.enrolled.as_ref().is_none_or(|enrolled| enrolled.at > last.started_at) {
        return since("it booted anew; its disks may be others");
    }
    // One insertion for one clearance: what ran in between may have written to any disk.
    if run.power.iter().any(|power| power.requested_at > last.started_at) {
        return since("its power was switched; its disks may be others, or written to");
    }
    match host::stands_against(spec, guard) {
        Some(finding) => Err(NotCleared::Cluster(Box::new(finding))),
        None => Ok(()),
    }
}

/// The next thing to do in an open attempt without evidence.
pub(crate) fn decide(s: &Snapshot<'_>, stage: &StageView, attempt: &AttemptView, now: Micros) -> Action {
    let name = &stage.plan.name;
    match wants(name.as_str()) {
        None => {
            return Action::GiveUp {
                reason: format!("this Assay does not know what {name} wants of a machine"),
            };
        }
        Some(Wants::Nothing) => {}
        Some(Wants::Medium) => {
            let inserted =
                |p: &&PowerView| p.action == PowerAction::Medium && p.requested_at >= attempt.started_at;
            match s.run.power.iter().rfind(inserted).map(|power| &power.outcome) {
                None => return Action::Power { action: PowerAction::Medium },
                Some(Some((false, message))) => {
                    let reason = format!("the machine could not be booted from the medium: {message}");
                    return Action::GiveUp { reason };
                }
                Some(_) => {}
            }
        }
        Some(Wants::GoesOn) => {
            if session(s.run).is_none() {
                let reason = format!(
                    "the machine does not run any more what was booted from the medium, and {name} goes on with \
                     nothing else. A retry begins with its clearance"
                );
                return Action::GiveUp { reason };
            }
        }
    }
    let deadline = outside::ends(stage, attempt).plus(s.tuning.lease);
    if now < deadline {
        return Action::Wait { until: Some(deadline) };
    }
    let reason = format!(
        "the runner brought nothing of {name} within {} s; look whether it runs, and retry",
        stage.plan.timeout_s
    );
    Action::GiveUp { reason }
}

/// The power job of the boot from the medium that still goes on.
fn session(run: &RunView) -> Option<&PowerView> {
    run.power.last().filter(|p| p.action == PowerAction::Medium && !matches!(p.outcome, Some((false, _))))
}

/// Whether a held run's machine was left with what the medium booted, or installed: nobody could look at it from within.
pub(crate) fn is_away(run: &RunView) -> bool {
    is_it(run) && run.power.last().is_some_and(|power| power.action == PowerAction::Medium)
}

/// What the runner is to look at now: a stage that needs no machine.
pub fn looking(run: &RunView) -> Option<Open> {
    let (stage, attempt) = outside::open(run).filter(|_| is_it(run))?;
    (wants(stage.plan.name.as_str()) == Some(Wants::Nothing)).then(|| open(stage, attempt))
}

/// The installation that the runner is to follow now.
pub fn following(run: &RunView) -> Option<Following> {
    if !is_it(run) || run.state() != RunState::Running {
        return None;
    }
    let on_machine = |stage: &StageView| {
        stage.plan.owner == Owner::Runner
            && matches!(wants(stage.plan.name.as_str()), Some(Wants::Medium | Wants::GoesOn))
    };
    run.current_stage().filter(|stage| on_machine(stage))?;
    let power = session(run).filter(|power| matches!(power.outcome, Some((true, _))))?;
    Some(Following {
        job: power.job.clone(),
        stages: run.stages.iter().filter(|s| on_machine(s)).map(|s| s.plan.name.clone()).collect(),
        open: outside::open(run).map(|(stage, attempt)| open(stage, attempt)),
    })
}

fn open(stage: &StageView, attempt: &AttemptView) -> Open {
    Open {
        stage: stage.plan.name.clone(),
        attempt: attempt.attempt,
        generation: attempt.generation,
        until: outside::ends(stage, attempt),
    }
}

/// What a machine's firmware is told; none where it is to boot the live image, as in any other run.
pub(crate) fn served(run: &RunView, mac: Mac) -> Option<Served> {
    if !is_it(run) {
        return None;
    }
    let number = run.created.number;
    let local = |what: &str| Some(Served::Local(format!("run {number}: {what}")));
    if run.state() == RunState::FailedHolding && run.power.is_empty() {
        return local("held before it wanted the machine");
    }
    if !matches!(run.state(), RunState::Booting | RunState::Running) {
        return None;
    }
    let Some(stage) = run.current_stage() else { return local("its test is over") };
    let name = stage.plan.name.as_str();
    match (stage.plan.owner, wants(name)) {
        // Between its clearance and its medium it may only boot what clears it again.
        (Owner::Runner, Some(Wants::Medium)) => {
            let (stage, attempt) = outside::open(run)?;
            session(run).filter(|power| power.requested_at >= attempt.started_at)?;
            let (stage, attempt) = (stage.plan.name.clone(), attempt.attempt);
            Some(Served::Medium(EventBody::MediumServed { stage, attempt, mac }))
        }
        (Owner::Runner, Some(Wants::GoesOn)) => local("it boots what was installed"),
        (Owner::Runner, _) if session(run).is_none() => {
            local("its image is looked at; the machine comes later")
        }
        (Owner::Agent, _) => None,
        _ => local("it stays with what was installed"),
    }
}

impl Engine {
    /// Tells a machine of an image's run what to boot, if that is not the live image.
    pub(crate) async fn serve_medium(&self, run: RunId, mac: Mac) -> Result<Option<Served>, EngineError> {
        match served(&*self.view(run).await?, mac) {
            Some(Served::Medium(_)) => {}
            other => return Ok(other),
        }
        let committed = self
            .transact(run, |fresh| {
                let events = match served(fresh, mac) {
                    Some(Served::Medium(event)) => vec![event],
                    _ => Vec::new(),
                };
                Ok(Changes { events, writes: Vec::new() })
            })
            .await?;
        Ok(served(&committed.view, mac))
    }

    /// What the host's cluster says now, and whether the medium may go in. Nothing is changed.
    pub(crate) async fn ask_again(&self, run: &RunView) -> Result<GuardAnswer, Box<Judgement>> {
        let spec = permits::spec_of(run).map_err(|why| Box::new(Judgement::error(why.to_string())))?;
        let answer = permits::ask_cluster(&spec, self.guard.as_ref()).await;
        cleared(run, &spec, &answer, self.now()).map_err(|why| Box::new(why.judgement()))?;
        Ok(answer)
    }

    /// The image that the runner is to insert: the file that was looked at, and no other one.
    pub async fn medium(&self, run: &RunView) -> Result<Medium, EngineError> {
        let spec = ImageSpec::of(&run.created.spec).map_err(EngineError::Invalid)?;
        let earlier = self.earlier(run).await?;
        let prepared = earlier.into_iter().find(|(name, _)| name == "Prepare");
        let prepared = prepared.and_then(|(_, value)| serde_json::from_value::<Prepared>(value).ok());
        let Some(prepared) = prepared else {
            return Err(EngineError::Refused(
                "nobody has looked at the image that is to be inserted".to_owned(),
            ));
        };
        Ok(Medium { image: spec.image, sha256: prepared.sha256, bytes: prepared.bytes })
    }

    /// The runner brings what came of a stage. Said again, it changes nothing; returns whether it was late.
    pub async fn brought(&self, run: RunId, brought: Brought) -> Result<bool, EngineError> {
        let Brought { stage, attempt, generation, evidence, problem, texts } = brought;
        let view = self.view(run).await?;
        let tried = view.stages.iter().find(|known| known.plan.name == stage);
        let tried = tried.filter(|known| known.plan.owner == Owner::Runner && is_it(&view));
        let tried = tried.filter(|known| image::stage(known.plan.name.as_str()).is_some());
        let tried = tried.and_then(|known| known.attempts.iter().find(|known| known.attempt == attempt));
        let Some(tried) = tried.filter(|tried| tried.generation == generation) else {
            return Err(EngineError::Invalid(format!(
                "the run has no attempt {attempt} of {stage} to bring"
            )));
        };
        if tried.evidence.is_some() {
            return Ok(false);
        }
        if texts.len() > MAX_TEXTS || texts.keys().any(|name| !is_name(name)) {
            return Err(EngineError::Invalid(format!(
                "at most {MAX_TEXTS} transcripts belong to a stage, with names of letters, digits, `.`, `_` and `-`"
            )));
        }
        for (name, mut text) in texts {
            text.truncate(text.floor_char_boundary(MAX_TEXT));
            let bytes = text.len() as u64;
            let digest = self.artifacts.put(text.into_bytes()).await?;
            self.artifact(run, stage.clone(), attempt, name, digest, bytes).await?;
        }
        let evidence = serde_json::to_vec(&evidence)
            .map_err(|e| EngineError::Invalid(format!("the evidence does not serialise: {e}")))?;
        let problem = problem.map(|problem| text::clean_to(&problem, 2000));
        self.result(run, stage, attempt, generation, evidence, problem).await
    }
}

fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.bytes().all(plain)
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
