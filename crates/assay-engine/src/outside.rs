//! Stages that the runner collects from outside, while the machine runs something else than the live image.
//!
//! Here: memtest86+ in a vet. What a run over an image wants of a machine is in [`crate::install`].
//!
//! The way there and back is a power cycle each, both asked for here: what the machine fetches to boot depends on
//! whether such a stage is open. So the reboots of such a stage are none of the machine's own, and its silence is none.

use assay_model::event::PowerAction;
use assay_model::host::memtest::MemtestEvidence;
use assay_model::view::{AttemptView, PowerView, StageView};
use assay_model::{EventBody, Mac, Micros, Owner, RunId, RunState, RunView, StageName, text};
use assay_pipelines::host::memtest;
use assay_store::Changes;

use crate::decide::{Action, Snapshot, cycled};
use crate::{Engine, EngineError, install};

/// Power methods with which the runner reaches the machine's serial console.
const WITH_CONSOLE: [&str; 2] = ["ipmi", "lab"];
/// The longest text kept of a console, in characters.
const MAX_CONSOLE: usize = 64 << 10;

/// What a runner is to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The stage.
    pub stage: StageName,
    /// Which try.
    pub attempt: u32,
    /// Its fencing token.
    pub generation: i64,
    /// The power job with which the machine was booted for it.
    pub job: String,
    /// Passes that are asked for.
    pub passes: u32,
    /// Whether nothing was drawn is known after this time.
    pub boot_until: Micros,
    /// The reading ends then, whatever it has seen.
    pub until: Micros,
}

/// What the runner read.
#[derive(Clone, Debug)]
pub struct Console {
    /// The stage.
    pub stage: StageName,
    /// Which try.
    pub attempt: u32,
    /// Its fencing token.
    pub generation: i64,
    /// What was seen.
    pub evidence: MemtestEvidence,
    /// The console in plain text.
    pub text: String,
}

/// The open attempt of a stage that the runner collects, as long as it has not brought its evidence.
pub(crate) fn open(run: &RunView) -> Option<(&StageView, &AttemptView)> {
    let open = run.open_attempt().filter(|(stage, _)| stage.plan.owner == Owner::Runner);
    open.filter(|(_, attempt)| attempt.evidence.is_none() && run.state() == RunState::Running)
}

/// The next thing to do in an open attempt without evidence.
pub(crate) fn decide(s: &Snapshot<'_>, stage: &StageView, attempt: &AttemptView, now: Micros) -> Action {
    if install::is_it(s.run) {
        return install::decide(s, stage, attempt, now);
    }
    let Some(power) = cycled(s.run, attempt) else {
        return Action::Power { action: PowerAction::Cycle };
    };
    let name = &stage.plan.name;
    if let Some((false, message)) = &power.outcome {
        return Action::GiveUp { reason: format!("the machine could not be booted for {name}: {message}") };
    }
    // The runner ends in time by itself; a runner that is gone for good does not.
    let deadline = ends(stage, attempt).plus(s.tuning.lease);
    if now < deadline {
        return Action::Wait { until: Some(deadline) };
    }
    let reason = format!(
        "the runner brought nothing of the machine's console within {} s; look whether it runs, and retry",
        stage.plan.timeout_s
    );
    Action::GiveUp { reason }
}

/// When the latest try of such a stage ended: from then on the machine is wanted back in the live image.
pub(crate) fn ended_at(run: &RunView) -> Option<Micros> {
    let outside = run.stages.iter().filter(|stage| stage.plan.owner == Owner::Runner);
    outside.flat_map(|stage| &stage.attempts).filter_map(|attempt| attempt.ended_at).max()
}

/// Whether a held run's machine still runs what the stage had it boot: then nobody could look at it from within.
pub(crate) fn is_away(run: &RunView) -> bool {
    if install::is_it(run) {
        return install::is_away(run);
    }
    let stage = run.current_stage().filter(|stage| stage.plan.owner == Owner::Runner);
    let Some(attempt) = stage.and_then(StageView::latest) else { return false };
    let (Some(_), Some(ended_at)) = (cycled(run, attempt), attempt.ended_at) else { return false };
    run.power.last().is_some_and(|power| power.requested_at < ended_at)
}

/// What the runner is to read now.
pub(crate) fn reading(run: &RunView) -> Option<Reading> {
    let (stage, attempt) = open(run).filter(|_| !install::is_it(run))?;
    let power: &PowerView = cycled(run, attempt)?;
    // Not before the machine is on: what stands on its console until then is not about this try.
    if !matches!(power.outcome, Some((true, _))) {
        return None;
    }
    let spec = serde_json::from_value(run.created.spec.clone()).unwrap_or_default();
    let profile = run.created.profile.parse().unwrap_or_default();
    Some(Reading {
        stage: stage.plan.name.clone(),
        attempt: attempt.attempt,
        generation: attempt.generation,
        job: power.job.clone(),
        passes: memtest::passes(&spec, profile),
        boot_until: power.requested_at.plus(Micros::seconds(i64::from(run.created.boot_timeout_s))),
        until: ends(stage, attempt),
    })
}

/// Refuses a run with such a stage over a machine whose console nobody can read: it would boot into the dark.
pub(crate) fn check_console(stage: &StageName, power: &serde_json::Value) -> Result<(), EngineError> {
    let method = power.get("method").and_then(serde_json::Value::as_str).unwrap_or("manual");
    if WITH_CONSOLE.contains(&method) {
        return Ok(());
    }
    Err(EngineError::Invalid(format!(
        "{stage} is read off the machine's serial console, which the power method `{}` does not reach; give the host \
         the method {} or leave the stage out",
        text::clean(method),
        WITH_CONSOLE.join(" or ")
    )))
}

/// What the firmware of a machine with such an open attempt is served, as an event.
pub(crate) fn served(run: &RunView, mac: Mac) -> Option<EventBody> {
    let (stage, attempt) = open(run).filter(|_| !install::is_it(run))?;
    // Before the power job it may be anybody's boot; then the live image, which is switched off in a moment.
    cycled(run, attempt)?;
    Some(EventBody::MemtestServed { stage: stage.plan.name.clone(), attempt: attempt.attempt, mac })
}

/// When the time of a try is over.
pub(crate) fn ends(stage: &StageView, attempt: &AttemptView) -> Micros {
    attempt.started_at.plus(Micros::seconds(i64::from(stage.plan.timeout_s)))
}

impl Engine {
    /// The runner has read a console to the end. Said again, it changes nothing.
    pub async fn console(&self, run: RunId, read: Console) -> Result<bool, EngineError> {
        let Console { stage, attempt, generation, mut evidence, text } = read;
        let view = self.view(run).await?;
        let tried = view.stages.iter().find(|known| known.plan.name == stage);
        let tried = tried.filter(|known| known.plan.owner == Owner::Runner && !install::is_it(&view));
        let tried = tried.and_then(|known| known.attempts.iter().find(|known| known.attempt == attempt));
        let Some(tried) = tried else {
            return Err(EngineError::Invalid(format!("the run has no attempt {attempt} of {stage} to read")));
        };
        if tried.evidence.is_some() {
            return Ok(false);
        }
        evidence.served = Some(view.boot_served_at.is_some_and(|at| at >= tried.started_at));
        let text: String = text.chars().take(MAX_CONSOLE).collect();
        let digest = self.artifacts.put(text.clone().into_bytes()).await?;
        let name = memtest::CONSOLE.to_owned();
        self.artifact(run, stage.clone(), attempt, name, digest, text.len() as u64).await?;
        let evidence = serde_json::to_vec(&evidence)
            .map_err(|e| EngineError::Invalid(format!("the reading does not serialise: {e}")))?;
        self.result(run, stage, attempt, generation, evidence, None).await
    }

    /// The runner says how far a reading is.
    pub async fn console_step(&self, run: RunId, step: &str) -> Result<(), EngineError> {
        let view = self.view(run).await?;
        if open(&view).is_some() || install::following(&view).is_some() {
            self.heartbeat(run, Some(step));
        }
        Ok(())
    }

    /// Serves a machine the other system, if a stage wants that now.
    pub(crate) async fn serve_other(&self, run: RunId, mac: Mac) -> Result<bool, EngineError> {
        if served(&*self.view(run).await?, mac).is_none() {
            return Ok(false);
        }
        let committed = self
            .transact(run, |fresh| {
                let events = served(fresh, mac).into_iter().collect();
                Ok(Changes { events, writes: Vec::new() })
            })
            .await?;
        Ok(served(&committed.view, mac).is_some())
    }
}
