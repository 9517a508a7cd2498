//! Where a run is in its life, and the one function that moves it.
//!
//! ```text
//! Queued ─► Booting ─► Running (stage k) ─► … ─► Completed
//!              │             │ stage blocks
//!              ├─────────────┴─► Failed ─► FailedHolding ── retry ──► Booting / Running (k, or back before it)
//!              │                   │                    ├─ waive ──► Running (k+1)
//!              │                   │                    ├─ abandon, hold expires ─► Released
//!              │                   └─► Completed   (runs that do not hold)
//! any live state ─► Cancelling ─► Cancelled · Superseded
//! ```

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::clearance;
use crate::{DecisionKind, EventBody, Owner, StagePlan};

/// A run's state; the stored spellings are what operators script against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RunState {
    /// Waits for a runner.
    Queued,
    /// The machine is being switched on; nothing has enrolled yet.
    Booting,
    /// A stage is running or about to.
    Running,
    /// A stage blocked; about to hold or complete.
    Failed,
    /// Keeps its machine until an operator decides.
    FailedHolding,
    /// Came to its end.
    Completed,
    /// Failed, and its machine was given back.
    Released,
    /// Asked to stop; the machine is not yet confirmed off.
    Cancelling,
    /// Stopped.
    Cancelled,
    /// A newer run took its place.
    Superseded,
}

impl RunState {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Queued,
        Self::Booting,
        Self::Running,
        Self::Failed,
        Self::FailedHolding,
        Self::Completed,
        Self::Released,
        Self::Cancelling,
        Self::Cancelled,
        Self::Superseded,
    ];

    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "Queued",
            Self::Booting => "Booting",
            Self::Running => "Running",
            Self::Failed => "Failed",
            Self::FailedHolding => "FailedHolding",
            Self::Completed => "Completed",
            Self::Released => "Released",
            Self::Cancelling => "Cancelling",
            Self::Cancelled => "Cancelled",
            Self::Superseded => "Superseded",
        }
    }

    /// Whether the run is over: only the seal may follow.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Released | Self::Cancelled | Self::Superseded)
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Not a stored spelling of a state.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a run state")]
pub struct UnknownState(String);

impl FromStr for RunState {
    type Err = UnknownState;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == s)
            .ok_or_else(|| UnknownState(s.chars().take(40).collect()))
    }
}

/// Where a failed run failed: what a retry goes back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailedAt {
    /// Before any stage: the machine never enrolled.
    Boot,
    /// At this stage of the plan.
    Stage(usize),
}

/// Stages that follow from one another on a machine, so that a retry of one begins before all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepBack {
    /// The stage that a retry begins with.
    pub to: usize,
    /// The last stage that this is true of; the first is the one after `to`.
    pub last: usize,
}

/// The part of a run that decides what may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, stored by its name")]
pub struct Status {
    /// The state.
    pub state: RunState,
    /// The stage that is running or next, from 0; equal to `stages` when all are behind.
    pub stage: usize,
    /// How many stages the plan has.
    pub stages: usize,
    /// Whether an attempt is open.
    pub open: bool,
    /// Whether the run holds when it fails.
    pub holds: bool,
    /// Where it failed first; cleared when a decision lets it go on.
    pub failed_at: Option<FailedAt>,
    /// Whether the verdict is sealed.
    pub sealed: bool,
    /// What a retry goes back to, where the failed stage cannot be repeated alone: half an installation cannot, and the
    /// machine has to be cleared for the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<StepBack>,
    /// Whether the run goes on with its next stage after one has failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub goes_on: bool,
}

/// The event may not happen in this state. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a run that is {state} cannot take `{event}`: {why}")]
pub struct IllegalEvent {
    /// The state it is in.
    pub state: RunState,
    /// The event's kind.
    pub event: &'static str,
    /// Which rule it breaks.
    pub why: &'static str,
}

/// Moves a run. Total and pure: for every status and event there is either a next status or the
/// rule that the event breaks. `None` is a run that does not exist yet.
pub fn next(status: Option<&Status>, event: &EventBody) -> Result<Status, IllegalEvent> {
    use RunState as S;

    let Some(now) = status else {
        return match event {
            EventBody::RunCreated(created) => Ok(Status {
                state: S::Queued,
                stage: 0,
                stages: created.stages.len(),
                open: false,
                holds: created.holds,
                failed_at: None,
                sealed: false,
                back: step_back(&created.stages),
                goes_on: created.pipeline.goes_on(),
            }),
            _ => Err(illegal(S::Queued, event, "the first event of a run is its creation")),
        };
    };
    let refuse = |why| Err(illegal(now.state, event, why));
    if now.sealed {
        return refuse("its verdict is sealed; later news go to the addendum");
    }
    if now.state.is_terminal() {
        return match event {
            EventBody::Sealed(_) => Ok(Status { sealed: true, ..*now }),
            _ if is_record(event) => Ok(*now),
            _ => refuse("the run is over"),
        };
    }
    let to = |state| Ok(Status { state, ..*now });

    match event {
        EventBody::RunCreated(_) => refuse("it exists already"),
        EventBody::Sealed(_) => refuse("only a finished run is sealed"),
        EventBody::Superseded { .. } => Ok(Status { open: false, state: S::Superseded, ..*now }),

        EventBody::Admitted { .. } => match now.state {
            S::Queued => to(S::Booting),
            _ => refuse("only a queued run is admitted"),
        },
        EventBody::BootServed { .. } => match now.state {
            S::Booting | S::Running | S::Failed | S::FailedHolding => to(now.state),
            _ => refuse("its machine may not boot now"),
        },
        EventBody::Enrolled { .. } => match now.state {
            S::Booting | S::Running | S::Failed | S::FailedHolding => to(now.state),
            _ => refuse("its machine may not enrol now"),
        },
        EventBody::BootFailed { .. } => match now.state {
            S::Booting => Ok(Status { state: S::Failed, failed_at: Some(FailedAt::Boot), ..*now }),
            S::Running if now.open => refuse("an attempt is open"),
            S::Running if now.stage >= now.stages => refuse("no stage is left to boot for"),
            S::Running => {
                Ok(Status { state: S::Failed, failed_at: Some(FailedAt::Stage(now.stage)), ..*now })
            }
            _ => refuse("it is not booting"),
        },
        EventBody::StageStarted { index, .. } => match now.state {
            S::Booting | S::Running if now.open => refuse("an attempt is open already"),
            S::Booting | S::Running if *index != now.stage || *index >= now.stages => {
                refuse("that stage is not the next one")
            }
            S::Booting | S::Running => Ok(Status { state: S::Running, open: true, ..*now }),
            _ => refuse("it is not running"),
        },
        EventBody::AttemptLost { .. } => match now.state {
            S::Running if now.open => Ok(Status { open: false, ..*now }),
            _ => refuse("no attempt is open"),
        },
        EventBody::StageJudged { index, required, judgement, .. } => match now.state {
            S::Running if !now.open || *index != now.stage => refuse("that stage is not open"),
            S::Running if judgement.verdict.blocks(*required) && now.goes_on => Ok(Status {
                stage: index + 1,
                open: false,
                failed_at: now.failed_at.or(Some(FailedAt::Stage(*index))),
                ..*now
            }),
            S::Running if judgement.verdict.blocks(*required) => {
                Ok(Status { state: S::Failed, open: false, failed_at: Some(FailedAt::Stage(*index)), ..*now })
            }
            S::Running => Ok(Status { stage: index + 1, open: false, ..*now }),
            _ => refuse("it is not running"),
        },
        EventBody::Held { .. } => match now.state {
            S::Failed if now.holds => to(S::FailedHolding),
            S::Failed => refuse("it does not hold"),
            _ => refuse("only a failed run is held"),
        },
        EventBody::HoldExpired => match now.state {
            S::FailedHolding => to(S::Released),
            _ => refuse("it is not held"),
        },
        EventBody::RunCompleted { .. } => match now.state {
            S::Running if now.stage == now.stages && !now.open => to(S::Completed),
            S::Running => refuse("stages are left"),
            S::Failed if !now.holds => to(S::Completed),
            S::Failed => refuse("it holds for an operator first"),
            _ => refuse("it is not running"),
        },
        EventBody::CancelConfirmed { .. } => match now.state {
            S::Cancelling => Ok(Status { open: false, state: S::Cancelled, ..*now }),
            _ => refuse("nobody asked to cancel it"),
        },
        EventBody::Decided { decision } => decide(now, event, decision.kind),

        // Records move nothing; the terminal states above welcome them too, until the seal.
        EventBody::PowerRequested { .. }
        | EventBody::PowerDone { .. }
        | EventBody::ServicesReady { .. }
        | EventBody::PostMortem { .. }
        | EventBody::MemtestServed { .. }
        | EventBody::MediumServed { .. }
        | EventBody::EnrolmentRefused { .. }
        | EventBody::EvidenceReceived { .. }
        | EventBody::ArtifactStored { .. }
        | EventBody::BulkSealed { .. }
        | EventBody::FindingRaised { .. }
        | EventBody::AgentSuspect { .. }
        | EventBody::AgentReturned => to(now.state),
    }
}

fn decide(now: &Status, event: &EventBody, kind: DecisionKind) -> Result<Status, IllegalEvent> {
    use RunState as S;
    let refuse = |why| Err(illegal(now.state, event, why));
    match (kind, now.state, now.failed_at) {
        (DecisionKind::Cancel, S::Cancelling, _) => refuse("it is being cancelled already"),
        (DecisionKind::Cancel, _, _) => Ok(Status { state: S::Cancelling, ..*now }),
        (_, S::Cancelling, _) => refuse("it is being cancelled"),
        (DecisionKind::Retry, S::FailedHolding, Some(FailedAt::Boot)) => {
            Ok(Status { state: S::Booting, failed_at: None, ..*now })
        }
        (DecisionKind::Retry | DecisionKind::Permit, S::FailedHolding, Some(FailedAt::Stage(stage))) => {
            let back = now.back.filter(|back| (back.to + 1..=back.last).contains(&stage));
            let stage = back.map_or(stage, |back| back.to);
            Ok(Status { state: S::Running, stage, failed_at: None, ..*now })
        }
        (DecisionKind::Waive, S::FailedHolding, Some(FailedAt::Stage(stage))) => {
            Ok(Status { state: S::Running, stage: stage + 1, failed_at: None, ..*now })
        }
        (DecisionKind::Waive, S::FailedHolding, _) => {
            refuse("a machine that never came up has nothing to waive; retry or abandon")
        }
        (DecisionKind::Permit, S::FailedHolding, _) => {
            refuse("a machine that never came up has nothing to permit; retry or abandon")
        }
        (DecisionKind::Abandon, S::FailedHolding, _) => Ok(Status { state: S::Released, ..*now }),
        _ => refuse("only a held run (FailedHolding) can be retried, permitted, waived or abandoned"),
    }
}

/// A machine that an installer was let loose on is cleared anew before the next one is.
fn step_back(stages: &[StagePlan]) -> Option<StepBack> {
    let to = stages.iter().position(|stage| stage.name == clearance::STAGE)?;
    let last = stages.iter().rposition(|stage| stage.owner == Owner::Runner).filter(|last| *last > to)?;
    Some(StepBack { to, last })
}

/// Events that record something and move nothing; welcome until the seal.
const fn is_record(event: &EventBody) -> bool {
    matches!(
        event,
        EventBody::PowerRequested { .. }
            | EventBody::PowerDone { .. }
            | EventBody::ServicesReady { .. }
            | EventBody::PostMortem { .. }
            | EventBody::MemtestServed { .. }
            | EventBody::MediumServed { .. }
            | EventBody::EnrolmentRefused { .. }
            | EventBody::EvidenceReceived { .. }
            | EventBody::ArtifactStored { .. }
            | EventBody::BulkSealed { .. }
            | EventBody::FindingRaised { .. }
            | EventBody::AgentSuspect { .. }
            | EventBody::AgentReturned
    )
}

fn illegal(state: RunState, event: &EventBody, why: &'static str) -> IllegalEvent {
    IllegalEvent { state, event: event.kind(), why }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
