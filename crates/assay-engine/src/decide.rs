//! What to do next about a run: one pure function.
//!
//! Everything that it may look at is in the [`Snapshot`]; what comes out is one [`Action`] or the
//! time at which to look again. No I/O, no clock: every rule is a row in the tests below.

use assay_model::event::PowerAction;
use assay_model::view::AttemptOutcome;
use assay_model::{Micros, Owner, RunState, RunView};

use crate::Tuning;

/// All that deciding needs.
#[derive(Clone, Debug)]
pub struct Snapshot<'a> {
    /// The run.
    pub run: &'a RunView,
    /// When its agent was last heard (the server's start, if not since).
    pub last_seen: Micros,
    /// Whether it was really heard since the server's start.
    pub heard: bool,
    /// When the agent's lease ends; never within one lease time of the server's start.
    pub lease_until: Micros,
    /// Whether the agent has said that it is switching off.
    pub off: bool,
    /// A runner that waits for work and can do the run's power method.
    pub runner: Option<&'a str>,
    /// When bulk rows were last bound to the chain.
    pub bound_at: Micros,
    /// Time limits.
    pub tuning: Tuning,
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Give the run to a runner.
    Admit {
        /// Which.
        runner: String,
    },
    /// Ask the runner to switch power.
    Power {
        /// What.
        action: PowerAction,
    },
    /// The machine did not come up.
    BootFailed {
        /// What was seen and what was not.
        message: String,
    },
    /// Begin an attempt of the next stage.
    Start {
        /// Its place in the plan.
        index: usize,
        /// Which try.
        attempt: u32,
    },
    /// Collect what the orchestrator itself collects.
    Collect,
    /// Judge the evidence of the open attempt.
    Judge,
    /// Close the open attempt as a runner error.
    GiveUp {
        /// Why.
        reason: String,
    },
    /// Close the open attempt without evidence; it is tried again.
    Lose {
        /// Why.
        reason: String,
        /// Whether the machine came back by itself in a new boot.
        rebooted: bool,
    },
    /// Say that the agent is silent.
    Suspect,
    /// Say that it is heard again.
    Returned,
    /// Bind the bulk rows to the chain.
    Bind,
    /// Hold the failed run.
    Hold,
    /// The hold has run out.
    ExpireHold,
    /// The run is at its end.
    Complete,
    /// The cancellation is complete.
    ConfirmCancel {
        /// How that is known.
        how: String,
    },
    /// Sign the verdict.
    Seal,
    /// Nothing to do before this time (or before something happens).
    Wait {
        /// When to look again even if nothing happens.
        until: Option<Micros>,
    },
}

/// Decides. Pure and total.
pub fn decide(s: &Snapshot<'_>, now: Micros) -> Action {
    let run = s.run;
    if run.state().is_terminal() {
        return over(s, now);
    }
    if let Some(action) = liveness(s, now) {
        return action;
    }
    match run.state() {
        RunState::Queued => match s.runner {
            Some(runner) => Action::Admit { runner: runner.to_owned() },
            None => Action::Wait { until: None },
        },
        RunState::Booting => booting(s, now),
        RunState::Running => running(s, now),
        RunState::Failed if run.status.holds => Action::Hold,
        RunState::Failed => Action::Complete,
        RunState::FailedHolding => match run.hold_until {
            Some(until) if now >= until => Action::ExpireHold,
            until => Action::Wait { until },
        },
        RunState::Cancelling => cancelling(s, now),
        RunState::Completed | RunState::Released | RunState::Cancelled | RunState::Superseded => {
            unreachable!("terminal states were handled above")
        }
    }
}

/// An agent switches its machine off when its run is over. A machine that was switched on and from which no agent
/// came has nobody to do that: then the runner does, before the journal is closed, if it answers in time.
fn over(s: &Snapshot<'_>, now: Micros) -> Action {
    let run = s.run;
    if run.status.sealed {
        return Action::Wait { until: None };
    }
    let Some(power) = run.power.last() else { return Action::Seal };
    let came = run.enrolled.as_ref().is_some_and(|e| e.at >= power.requested_at);
    match (power.action, &power.outcome) {
        (PowerAction::Cycle, Some((true, _)) | None) if !came => Action::Power { action: PowerAction::Off },
        (PowerAction::Off, None) => {
            let until = power.requested_at.plus(s.tuning.lease);
            if now < until { Action::Wait { until: Some(until) } } else { Action::Seal }
        }
        _ => Action::Seal,
    }
}

fn liveness(s: &Snapshot<'_>, now: Micros) -> Option<Action> {
    let run = s.run;
    let enrolled = run.enrolled.as_ref()?;
    if !matches!(run.state(), RunState::Running | RunState::FailedHolding) {
        return None;
    }
    // A machine that was sent to reboot is expected to be silent.
    if run.power.last().is_some_and(|p| p.requested_at > enrolled.at) {
        return None;
    }
    match run.suspect_since {
        // A restart of the server makes nobody heard.
        Some(since) if s.heard && s.last_seen > since => Some(Action::Returned),
        None if now.since(s.last_seen) >= s.tuning.suspect_after => Some(Action::Suspect),
        _ if now.since(s.bound_at) >= s.tuning.bind_every => Some(Action::Bind),
        _ => None,
    }
}

fn booting(s: &Snapshot<'_>, now: Micros) -> Action {
    let run = s.run;
    let since = run.booting_since.unwrap_or(run.created_at);
    if run.enrolled.as_ref().is_some_and(|e| e.at >= since) {
        return start(run);
    }
    wait_for_boot(s, since, now)
}

/// Asks for power once after `since`, then waits for the machine as long as it may take.
fn wait_for_boot(s: &Snapshot<'_>, since: Micros, now: Micros) -> Action {
    let run = s.run;
    let Some(power) = run.power.iter().rfind(|p| p.requested_at >= since) else {
        return Action::Power { action: PowerAction::Cycle };
    };
    if let Some((false, message)) = &power.outcome {
        let message = format!("The machine could not be switched on: {message}");
        return Action::BootFailed { message };
    }
    let deadline = power.requested_at.plus(Micros::seconds(i64::from(run.created.boot_timeout_s)));
    if now < deadline {
        return Action::Wait { until: Some(deadline) };
    }
    let switched = match &power.outcome {
        Some((_, message)) => format!("power: {message}"),
        None => "the runner never said what became of the power request".to_owned(),
    };
    let fetched = if run.boot_served_at.is_some_and(|at| at >= since) {
        "it fetched its boot script, and then nothing more was heard"
    } else {
        "it never asked for its boot script"
    };
    let message =
        format!("No agent enrolled within {} s ({switched}; {fetched})", run.created.boot_timeout_s);
    Action::BootFailed { message }
}

fn running(s: &Snapshot<'_>, now: Micros) -> Action {
    let run = s.run;
    let Some((stage, attempt)) = run.open_attempt() else {
        return between_stages(s, now);
    };
    if attempt.evidence.is_some() {
        return Action::Judge;
    }
    if stage.plan.owner == Owner::Orchestrator {
        return Action::Collect;
    }
    let enrolled = run.enrolled.as_ref();
    let deadline = attempt.started_at.plus(Micros::seconds(i64::from(stage.plan.timeout_s)));
    let lost = if enrolled.is_some_and(|e| e.generation > attempt.generation) {
        Some(("the machine rebooted in the middle of it".to_owned(), true))
    } else if now >= deadline {
        Some((format!("it did not end within {} s", stage.plan.timeout_s), false))
    } else if now >= s.lease_until {
        let silent = now.since(s.last_seen).as_seconds();
        Some((format!("the agent was silent for {silent:.0} s"), false))
    } else {
        None
    };
    let Some((reason, rebooted)) = lost else {
        return Action::Wait { until: Some(deadline.min(s.lease_until)) };
    };
    if tries_lost(run) + 1 >= s.tuning.attempts {
        let reason = format!("{} tries without evidence; the last: {reason}", s.tuning.attempts);
        return Action::GiveUp { reason };
    }
    Action::Lose { reason, rebooted }
}

fn between_stages(s: &Snapshot<'_>, now: Micros) -> Action {
    let run = s.run;
    let Some(stage) = run.current_stage() else {
        return Action::Complete;
    };
    if stage.plan.owner == Owner::Orchestrator {
        return start(run);
    }
    // Since when a machine is wanted: a decision let the run go on, or a try was lost.
    let last_try = stage.latest().and_then(|a| a.ended_at);
    let last_decision = run.decisions.last().map(|d| d.at);
    let since = last_try.max(last_decision).unwrap_or(run.created_at);
    let alive = run.enrolled.as_ref().is_some_and(|e| {
        let power_after = run.power.last().is_some_and(|p| p.requested_at > e.at);
        !power_after && now < s.lease_until
    });
    if alive { start(run) } else { wait_for_boot(s, since, now) }
}

fn start(run: &RunView) -> Action {
    let attempt = run.current_stage().and_then(|s| s.latest()).map_or(1, |a| a.attempt + 1);
    Action::Start { index: run.status.stage, attempt }
}

/// How many tries in a row ended without evidence.
fn tries_lost(run: &RunView) -> u32 {
    let since = run.decisions.last().map(|d| d.at);
    let lost = run.current_stage().into_iter().flat_map(|stage| {
        stage.attempts.iter().rev().skip(1).take_while(|a| {
            matches!(a.outcome, AttemptOutcome::Lost(_)) && since.is_none_or(|t| a.started_at > t)
        })
    });
    u32::try_from(lost.count()).unwrap_or(u32::MAX)
}

fn cancelling(s: &Snapshot<'_>, now: Micros) -> Action {
    let run = s.run;
    let confirm = |how: &str| Action::ConfirmCancel { how: how.to_owned() };
    if run.power.is_empty() {
        return confirm("the machine was never switched on for this run");
    }
    if s.off {
        return confirm("the agent said that it is switching the machine off");
    }
    let asked = run.decisions.last().map_or(run.created_at, |d| d.at);
    match run.power.iter().rfind(|p| p.action == PowerAction::Off && p.requested_at >= asked) {
        None => Action::Power { action: PowerAction::Off },
        Some(power) => match &power.outcome {
            Some((true, message)) => confirm(&format!("power off: {message}")),
            Some((false, _)) if run.enrolled.is_none() => {
                confirm("nothing ever enrolled, and power could not be switched off from here")
            }
            Some((false, _)) if now >= s.lease_until => {
                confirm("power could not be switched off from here; the agent is silent")
            }
            Some((false, _)) => Action::Wait { until: Some(s.lease_until) },
            None => Action::Wait { until: None },
        },
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
