//! What to do next about a run: one pure function.
//!
//! Everything that it may look at is in the [`Snapshot`]; what comes out is one [`Action`] or the
//! time at which to look again. No I/O, no clock: every rule is a row in the tests below.

use std::collections::BTreeSet;

use assay_model::event::PowerAction;
use assay_model::view::{AttemptOutcome, AttemptView, PowerView, StageView};
use assay_model::{Micros, Owner, RunState, RunView};

use crate::{Tuning, indoors, outside};

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
    /// The runner that a queued run is given to now, if its turn has come.
    pub runner: Option<&'a str>,
    /// Whether it stands in a line that moves: its turn comes, and nobody has to be told that it waits.
    pub in_line: bool,
    /// The later run that has taken this one's place, if there is one.
    pub superseded_by: Option<i64>,
    /// Another run on the same runner that has its network stage open: the two would share one wire.
    pub network_busy: Option<i64>,
    /// What was told about the run already, by its key.
    pub told: &'a BTreeSet<String>,
    /// Since when the agent has been saying the same about what it does.
    pub step_since: Micros,
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
    },
    /// The machine died in the open attempt: the stage fails.
    Died {
        /// How.
        how: Death,
    },
    /// Tell people something that moves nothing; once.
    Tell {
        /// What.
        news: News,
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
    /// Stop a run that a later one has overtaken.
    Overtake {
        /// The later one's number.
        by: i64,
    },
    /// The run is over: a later one has taken its place.
    Supersede {
        /// The later one's number.
        by: i64,
    },
    /// Sign the verdict.
    Seal,
    /// Nothing to do before this time (or before something happens).
    Wait {
        /// When to look again even if nothing happens.
        until: Option<Micros>,
    },
}

/// How a machine died in an open attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Death {
    /// It rebooted by itself and kept a record of why.
    Crashed,
    /// It rebooted, nobody here asked for that, and it kept no record.
    Rebooted,
    /// It fell silent and came back only after its power was cycled.
    Hung,
    /// It fell silent and never came back.
    Gone {
        /// What was tried and what was seen.
        message: String,
    },
}

impl Death {
    /// The finding's code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Crashed => "MachineCrashed",
            Self::Rebooted => "MachineRebooted",
            Self::Hung => "MachineHung",
            Self::Gone { .. } => "MachineDidNotReturn",
        }
    }
}

/// News that no event of the journal carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The hold that ends then runs out soon.
    HoldExpiring {
        /// When it ends.
        until: Micros,
    },
    /// The run has made no progress since then.
    RunStale {
        /// Since when.
        since: Micros,
    },
}

impl News {
    /// Names it within its run; what was told under a key is not told again.
    pub fn key(self) -> String {
        match self {
            Self::HoldExpiring { until } => format!("HoldExpiring:{}", until.0),
            Self::RunStale { since } => format!("RunStale:{}", since.0),
        }
    }
}

/// The stage of which at most one is open on a runner at a time.
pub const NETWORK: &str = "Network";

/// Decides. Pure and total.
pub fn decide(s: &Snapshot<'_>, now: Micros) -> Action {
    let run = s.run;
    if run.state().is_terminal() {
        return over(s, now);
    }
    if let Some(action) = s.superseded_by.and_then(|by| overtaken(s, by, now)) {
        return action;
    }
    if let Some(action) = liveness(s, now) {
        return action;
    }
    if let Some(news) = news(s, now).filter(|news| !s.told.contains(&news.key())) {
        return Action::Tell { news };
    }
    let machine = run.created.has_machine();
    match run.state() {
        RunState::Queued => match s.runner {
            Some(runner) => Action::Admit { runner: runner.to_owned() },
            None => Action::Wait { until: None },
        },
        RunState::Booting if !machine => indoors::booting(s),
        RunState::Running if !machine => indoors::running(s, now),
        RunState::Cancelling if !machine => indoors::cancelling(s, now),
        RunState::Booting => booting(s, now),
        RunState::Running => running(s, now),
        RunState::Failed if run.status.holds => Action::Hold,
        RunState::Failed => Action::Complete,
        RunState::FailedHolding => match run.hold_until {
            Some(until) if now >= until => Action::ExpireHold,
            _ if outside::is_away(run) => Action::Power { action: PowerAction::Cycle },
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
        (action, Some((true, _)) | None) if action.boots() && !came => {
            Action::Power { action: PowerAction::Off }
        }
        (PowerAction::Off, None) => {
            let until = power.requested_at.plus(s.tuning.lease);
            if now < until { Action::Wait { until: Some(until) } } else { Action::Seal }
        }
        _ => Action::Seal,
    }
}

/// Nobody wants the verdict of a commit that has a newer one. One that waits is over at once; one that has begun is stopped
/// as a cancelled one is, and gives its target back when that is done.
fn overtaken(s: &Snapshot<'_>, by: i64, now: Micros) -> Option<Action> {
    match s.run.state() {
        RunState::Queued => Some(Action::Supersede { by }),
        RunState::Cancelling => {
            let stopping =
                if s.run.created.has_machine() { cancelling(s, now) } else { indoors::cancelling(s, now) };
            matches!(stopping, Action::ConfirmCancel { .. }).then_some(Action::Supersede { by })
        }
        _ => Some(Action::Overtake { by }),
    }
}

fn liveness(s: &Snapshot<'_>, now: Micros) -> Option<Action> {
    let run = s.run;
    let enrolled = run.enrolled.as_ref()?;
    if !matches!(run.state(), RunState::Running | RunState::FailedHolding) {
        return None;
    }
    // A restart of the server makes nobody heard.
    if run.suspect_since.is_some_and(|since| s.heard && s.last_seen > since) {
        return Some(Action::Returned);
    }
    // A machine that was sent to reboot is expected to be silent.
    if run.power.last().is_some_and(|p| p.requested_at > enrolled.at) {
        return None;
    }
    match run.suspect_since {
        None if now.since(s.last_seen) >= s.tuning.suspect_after => Some(Action::Suspect),
        _ if now.since(s.bound_at) >= s.tuning.bind_every => Some(Action::Bind),
        _ => None,
    }
}

/// What people should be told by now, whether or not they were.
fn news(s: &Snapshot<'_>, now: Micros) -> Option<News> {
    let run = s.run;
    let stuck =
        |since: Micros| (now.since(since) >= s.tuning.stale_after).then_some(News::RunStale { since });
    match run.state() {
        RunState::FailedHolding => {
            let until = run.hold_until?;
            let (hour, tenth) =
                (Micros::seconds(3600), Micros::seconds(i64::from(run.created.hold_s)).0 / 10);
            // A short hold is told of at nine tenths, not from its beginning on.
            let before = hour.0.min(tenth);
            (now.0 >= until.0 - before && now < until).then_some(News::HoldExpiring { until })
        }
        RunState::Queued if s.in_line => None,
        RunState::Queued => stuck(run.created_at),
        RunState::Cancelling => stuck(run.decisions.last().map_or(run.created_at, |d| d.at)),
        RunState::Running => {
            let (stage, attempt) =
                run.open_attempt().filter(|(stage, _)| stage.plan.owner == Owner::Agent)?;
            // What has no more time than that anyway is not stale but over soon.
            let long = Micros::seconds(i64::from(stage.plan.timeout_s)) > s.tuning.stale_after;
            if long { stuck(attempt.started_at.max(s.step_since)) } else { None }
        }
        _ => None,
    }
}

fn booting(s: &Snapshot<'_>, now: Micros) -> Action {
    let run = s.run;
    let since = run.booting_since.unwrap_or(run.created_at);
    if run.current_stage().is_some_and(|stage| stage.plan.owner == Owner::Runner) {
        return start(run);
    }
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
    let deadline = power.requested_at.plus(boot_timeout(run));
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
    if stage.plan.owner == Owner::Runner {
        return outside::decide(s, stage, attempt, now);
    }
    if run.enrolled.as_ref().is_some_and(|e| e.generation > attempt.generation) {
        return came_back(s, attempt, now);
    }
    silent_or_slow(s, stage, attempt, now)
}

/// Another boot of the machine has enrolled: the one that the attempt was given to is dead.
fn came_back(s: &Snapshot<'_>, attempt: &AttemptView, now: Micros) -> Action {
    let run = s.run;
    let Some(enrolled) = &run.enrolled else { return Action::Wait { until: None } };
    let told = run.post_mortem.as_ref().filter(|told| told.boot == enrolled.boot);
    // Its agent tells first of all what the machine kept of its last moments.
    let patience = enrolled.at.plus(s.tuning.post_mortem);
    if told.is_none() && now < patience {
        return Action::Wait { until: Some(patience) };
    }
    let how = if cycled(run, attempt).is_some() {
        Death::Hung
    } else if told.is_some_and(|told| !told.records.is_empty()) {
        Death::Crashed
    } else {
        Death::Rebooted
    };
    if run.created.muted.iter().any(|code| code == how.code()) {
        return lose(s, format!("the machine rebooted in the middle of it ({} is switched off)", how.code()));
    }
    Action::Died { how }
}

/// The boot that the attempt was given to has not answered yet: it works, is slow, or is silent.
fn silent_or_slow(s: &Snapshot<'_>, stage: &StageView, attempt: &AttemptView, now: Micros) -> Action {
    let run = s.run;
    if let Some(power) = cycled(run, attempt) {
        let back = power.requested_at.plus(boot_timeout(run));
        if now < back {
            return Action::Wait { until: Some(back) };
        }
        let heard_since = s.lease_until > power.requested_at.plus(s.tuning.lease);
        if now >= s.lease_until && !heard_since {
            return Action::Died { how: Death::Gone { message: gone(run, power) } };
        }
    }
    let deadline = attempt.started_at.plus(Micros::seconds(i64::from(stage.plan.timeout_s)));
    if now >= deadline {
        return lose(s, format!("it did not end within {} s", stage.plan.timeout_s));
    }
    if now >= s.lease_until {
        return Action::Power { action: PowerAction::Cycle };
    }
    Action::Wait { until: Some(deadline.min(s.lease_until)) }
}

/// Our latest request to cycle the machine's power since the attempt began.
pub(crate) fn cycled<'a>(run: &'a RunView, attempt: &AttemptView) -> Option<&'a PowerView> {
    let since = |p: &&PowerView| p.action == PowerAction::Cycle && p.requested_at >= attempt.started_at;
    run.power.iter().rfind(since)
}

fn gone(run: &RunView, power: &PowerView) -> String {
    let switched = match &power.outcome {
        Some((true, message)) => format!("power: {message}"),
        Some((false, message)) => format!("its power could not be cycled: {message}"),
        None => "the runner never said what became of the power request".to_owned(),
    };
    let fetched = if run.boot_served_at.is_some_and(|at| at >= power.requested_at) {
        "it fetched its boot script, and then nothing more was heard"
    } else {
        "it never asked for its boot script"
    };
    format!(
        "The machine fell silent and did not come back within {} s ({switched}; {fetched})",
        run.created.boot_timeout_s
    )
}

pub(crate) fn lose(s: &Snapshot<'_>, reason: String) -> Action {
    if tries_lost(s.run) + 1 >= s.tuning.attempts {
        let reason = format!("{} tries without evidence; the last: {reason}", s.tuning.attempts);
        return Action::GiveUp { reason };
    }
    Action::Lose { reason }
}

fn boot_timeout(run: &RunView) -> Micros {
    Micros::seconds(i64::from(run.created.boot_timeout_s))
}

fn between_stages(s: &Snapshot<'_>, now: Micros) -> Action {
    let run = s.run;
    let Some(stage) = run.current_stage() else {
        return Action::Complete;
    };
    if stage.plan.owner != Owner::Agent {
        return start(run);
    }
    // Since when a machine is wanted: a decision let the run go on, a try was lost, or a stage had it
    // boot something else.
    let last_try = stage.latest().and_then(|a| a.ended_at);
    let last_decision = run.decisions.last().map(|d| boot_under_way(run, d.at).unwrap_or(d.at));
    let since = last_try.max(last_decision).max(outside::ended_at(run)).unwrap_or(run.created_at);
    let alive = run.enrolled.as_ref().is_some_and(|e| {
        let power_after = run.power.last().is_some_and(|p| p.requested_at > e.at && !outlived(run, p));
        !power_after && now < s.lease_until
    });
    if !alive {
        return wait_for_boot(s, since, now);
    }
    if stage.plan.name == NETWORK && s.network_busy.is_some() {
        return Action::Wait { until: None };
    }
    start(run)
}

/// When a boot was asked for that may yet succeed at this time: it is not asked for twice.
fn boot_under_way(run: &RunView, at: Micros) -> Option<Micros> {
    let power = run.power.last().filter(|power| power.action == PowerAction::Cycle)?;
    let failed = matches!(power.outcome, Some((false, _)));
    let came = run.enrolled.as_ref().is_some_and(|e| e.at >= power.requested_at);
    let in_time = at < power.requested_at.plus(boot_timeout(run));
    (!failed && !came && in_time).then_some(power.requested_at)
}

/// Whether the boot that was to be cut off has brought evidence after that: its power was not cut after all.
fn outlived(run: &RunView, power: &PowerView) -> bool {
    let e = run.enrolled.as_ref().map_or(0, |e| e.generation);
    let from_within = run.stages.iter().filter(|stage| stage.plan.owner == Owner::Agent);
    from_within.flat_map(|stage| &stage.attempts).any(|a| {
        a.generation > e
            && a.evidence.is_some()
            && a.started_at <= power.requested_at
            && a.ended_at.is_some_and(|at| at > power.requested_at)
    })
}

pub(crate) fn start(run: &RunView) -> Action {
    let attempt = run.current_stage().and_then(|s| s.latest()).map_or(1, |a| a.attempt + 1);
    Action::Start { index: run.status.stage, attempt }
}

/// How many tries in a row ended without evidence.
pub(crate) fn tries_lost(run: &RunView) -> u32 {
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
