//! One line per event, for the journal's timeline.

use assay_model::event::{PowerAction, Refusal};
use assay_model::{EventBody, StageName};

use crate::words::{result, size};

/// What happened, in one sentence; not cleaned.
pub(super) fn tell(body: &EventBody) -> String {
    match body {
        EventBody::RunCreated(c) => {
            format!("Requested by {}: {} stages, {} profile", c.requested_by, c.stages.len(), c.profile)
        }
        EventBody::Admitted { runner } => format!("Taken by runner {runner}"),
        EventBody::PowerRequested { action, .. } => match action {
            PowerAction::Cycle => "Power cycle requested, booting from the network".to_owned(),
            PowerAction::Off => "Power-off requested".to_owned(),
        },
        EventBody::PowerDone { ok: true, message, .. } => format!("Power done: {message}"),
        EventBody::PowerDone { ok: false, message, .. } => format!("Power failed: {message}"),
        EventBody::BootServed { boot, mac } => format!("Boot {boot} served to {mac}"),
        EventBody::Enrolled { mac, agent, .. } => format!("Agent {agent} enrolled from {mac}"),
        EventBody::EnrolmentRefused { reason, detail } => {
            format!("Enrolment refused, {}: {detail}", refusal(*reason))
        }
        EventBody::BootFailed { message } => format!("Boot failed: {message}"),
        EventBody::StageStarted { stage, attempt, .. } => format!("{stage} started{}", try_of(*attempt)),
        EventBody::AttemptLost { stage, attempt, reason } => {
            format!("{stage}, attempt {attempt}, lost: {reason}")
        }
        EventBody::EvidenceReceived { stage, problem, late, .. } => match problem {
            Some(problem) => {
                format!("Evidence of {stage} received{}, with a problem: {problem}", lateness(*late))
            }
            None => format!("Evidence of {stage} received{}", lateness(*late)),
        },
        EventBody::ArtifactStored { stage, name, bytes, late, .. } => {
            format!("{name} stored{}, {}{}", of(stage.as_ref()), size(*bytes), lateness(*late))
        }
        EventBody::BulkSealed { what, rows, .. } => format!("{rows} rows of {what} bound to the journal"),
        EventBody::StageJudged { stage, judgement, .. } => {
            format!("{stage}: {}. {}", judgement.verdict, judgement.message)
        }
        EventBody::FindingRaised { finding } => {
            format!("{} ({}): {}", finding.code, finding.severity, finding.message)
        }
        EventBody::AgentSuspect { last_seen } => format!("Agent silent since {}", last_seen.rfc3339()),
        EventBody::AgentReturned => "Agent heard again".to_owned(),
        EventBody::Held { until } => format!("Held for an operator until {}", until.rfc3339()),
        EventBody::Decided { decision } => {
            format!("{} decided: {}. {}", decision.by, decision.kind, decision.why)
        }
        EventBody::HoldExpired => "Nobody decided in time; the machine was released".to_owned(),
        EventBody::RunCompleted { result: r } => format!("Completed: {}", result(*r, false)),
        EventBody::CancelConfirmed { how } => format!("Cancellation confirmed: {how}"),
        EventBody::Superseded { by } => format!("Superseded by run {by}"),
        EventBody::Sealed(seal) => format!("Sealed: {}", result(seal.result, seal.overridden)),
    }
}

const fn refusal(reason: Refusal) -> &'static str {
    match reason {
        Refusal::TokenReused => "token used before",
        Refusal::TokenVoided => "token voided by a newer boot",
        Refusal::TokenExpired => "token too old",
        Refusal::WrongMachine => "another machine",
    }
}

fn try_of(attempt: u32) -> String {
    if attempt > 1 { format!(", attempt {attempt}") } else { String::new() }
}

fn of(stage: Option<&StageName>) -> String {
    stage.map_or_else(String::new, |s| format!(" by {s}"))
}

const fn lateness(late: bool) -> &'static str {
    if late { " late" } else { "" }
}
