//! Runs for which no machine boots: the runner does the work itself and is the run's agent.
//!
//! It is enrolled in the moment in which it is given the run, and speaks the agent protocol from then on. So there is
//! no power to switch and nothing to wait for but the runner: where one dies, the attempt is lost and the next claim
//! takes the run up again.

use assay_model::{EventBody, Micros, Owner, RunView, Sha256, text};
use assay_store::{Changes, Write};

use crate::decide::{Action, Snapshot, lose, start, tries_lost};
use crate::{Engine, EngineError, secret};

/// The runner is to take the run up.
pub(crate) fn booting(s: &Snapshot<'_>) -> Action {
    let since = s.run.booting_since.unwrap_or(s.run.created_at);
    if s.run.enrolled.as_ref().is_some_and(|e| e.at >= since) {
        start(s.run)
    } else {
        Action::Wait { until: None }
    }
}

/// The next thing to do in a run that is running.
pub(crate) fn running(s: &Snapshot<'_>, now: Micros) -> Action {
    let run = s.run;
    let Some((stage, attempt)) = run.open_attempt() else {
        return between_stages(s, now);
    };
    if let Some(evidence) = &attempt.evidence {
        // What the runner could not do is taken up again, as what a silent one left is; the last try is judged.
        return match &evidence.problem {
            Some(problem) if tries_lost(run) + 1 < s.tuning.attempts => {
                Action::Lose { reason: problem.clone() }
            }
            _ => Action::Judge,
        };
    }
    if stage.plan.owner == Owner::Orchestrator {
        return Action::Collect;
    }
    if run.enrolled.as_ref().is_some_and(|e| e.generation > attempt.generation) {
        return lose(s, "the runner was started anew in the middle of it".to_owned());
    }
    let deadline = attempt.started_at.plus(Micros::seconds(i64::from(stage.plan.timeout_s)));
    if now >= deadline {
        return lose(s, format!("it did not end within {} s", stage.plan.timeout_s));
    }
    if now >= s.lease_until {
        return lose(s, "the runner fell silent".to_owned());
    }
    Action::Wait { until: Some(deadline.min(s.lease_until)) }
}

fn between_stages(s: &Snapshot<'_>, now: Micros) -> Action {
    let Some(stage) = s.run.current_stage() else {
        return Action::Complete;
    };
    if stage.plan.owner != Owner::Agent {
        return start(s.run);
    }
    let lost_at = stage.latest().and_then(|a| a.ended_at).unwrap_or(s.run.created_at);
    // A runner that fell silent is not trusted to begin again by itself: it has to claim the run anew.
    let here = s.run.enrolled.as_ref().is_some_and(|e| e.at >= lost_at || now < s.lease_until);
    if here { start(s.run) } else { Action::Wait { until: None } }
}

/// The runner ends what it does and says so; if it is silent, nobody is left who could.
pub(crate) fn cancelling(s: &Snapshot<'_>, now: Micros) -> Action {
    let confirm = |how: &str| Action::ConfirmCancel { how: how.to_owned() };
    if s.run.enrolled.is_none() {
        return confirm("no runner had begun");
    }
    if s.off {
        return confirm("the runner has ended what it did");
    }
    if now >= s.lease_until {
        return confirm("the runner is silent");
    }
    Action::Wait { until: Some(s.lease_until) }
}

/// Enrols a runner as the agent of the run that it is given: what to append, and the credential it is to use.
pub(crate) fn take_up(fresh: &RunView, runner: &str) -> (Changes, String) {
    let credential = secret();
    let generation = fresh.generation + 1;
    let boot = fresh.enrolled.as_ref().map_or(1, |e| e.boot + 1);
    let enrolled = EventBody::Enrolled {
        boot,
        mac: None,
        system_uuid: None,
        agent: format!("runner {}", text::clean(runner)),
        clock_skew_us: 0,
        generation,
    };
    let hash = Sha256::of(credential.as_bytes());
    let writes = vec![Write::AgentCredential { hash, generation }];
    (Changes { events: vec![enrolled], writes }, credential)
}

impl Engine {
    /// From now on silence counts.
    pub(crate) async fn taken_up(&self, run: &RunView) -> Result<(), EngineError> {
        let now = self.now();
        self.live.heard(run.id, now);
        self.live.set_off(run.id, false);
        self.store.lease_put(run.id, run.generation, "agent", now.plus(self.tuning.lease)).await?;
        Ok(())
    }
}
