//! The journal in sentences, for people.

use assay_model::event::{EventBody, PowerAction, Refusal};
use assay_model::{Micros, RunResult};

use super::format;

/// What an event says.
pub(super) fn of(body: &EventBody) -> String {
    match body {
        EventBody::RunCreated(c) => format!("asked for by {}, profile {}", c.requested_by, c.profile),
        EventBody::Admitted { runner } => format!("taken by runner {runner}"),
        EventBody::PowerRequested { action: PowerAction::Cycle, .. } => "asked the runner to boot the machine".into(),
        EventBody::PowerRequested { action: PowerAction::Off, .. } => "asked the runner to switch the machine off".into(),
        EventBody::PowerDone { ok: true, message, .. } => format!("power: done: {message}"),
        EventBody::PowerDone { ok: false, message, .. } => format!("power: failed: {message}"),
        EventBody::BootServed { boot, mac } => format!("{mac} fetched its boot script (boot {boot})"),
        EventBody::Enrolled { boot, agent, clock_skew_us, .. } => {
            format!("agent {agent} enrolled (boot {boot}){}", skew(*clock_skew_us))
        }
        EventBody::EnrolmentRefused { reason, detail } => format!("an enrolment was refused: {}: {detail}", refusal(*reason)),
        EventBody::BootFailed { message } => format!("the machine did not come up: {message}"),
        EventBody::StageStarted { stage, attempt, .. } => format!("{stage} began (try {attempt})"),
        EventBody::AttemptLost { stage, attempt, reason } => format!("{stage}: try {attempt} was lost: {reason}"),
        EventBody::EvidenceReceived { stage, problem, late, .. } => {
            let late = if *late { ", too late to count" } else { "" };
            match problem {
                Some(problem) => format!("{stage}: the collector reports a problem: {problem}{late}"),
                None => format!("{stage}: evidence arrived{late}"),
            }
        }
        EventBody::ArtifactStored { name, bytes, late, .. } => {
            format!("kept {name}, {}{}", format::bytes(*bytes), if *late { ", late" } else { "" })
        }
        EventBody::BulkSealed { what, rows, .. } => format!("bound {rows} rows of {what} to the chain"),
        EventBody::StageJudged { stage, judgement, .. } => format!("{stage}: {}: {}", judgement.verdict, judgement.message),
        EventBody::FindingRaised { finding } => format!("{} {}: {}", finding.severity, finding.code, finding.message),
        EventBody::AgentSuspect { .. } => "the agent has fallen silent".into(),
        EventBody::AgentReturned => "the agent is heard again".into(),
        EventBody::Held { until } => format!("held for a decision until {}", until.rfc3339()),
        EventBody::Decided { decision } => match decision.why.trim() {
            "" => format!("{} decided: {}", decision.by, decision.kind),
            why => format!("{} decided: {}: {why}", decision.by, decision.kind),
        },
        EventBody::HoldExpired => "nobody decided in time; the machine is released".into(),
        EventBody::RunCompleted { result: Some(RunResult::Pass) } => "completed: pass".into(),
        EventBody::RunCompleted { result: Some(RunResult::Fail) } => "completed: fail".into(),
        EventBody::RunCompleted { result: None } => "completed without a verdict".into(),
        EventBody::CancelConfirmed { how } => format!("cancelled: {how}"),
        EventBody::Superseded { by } => format!("run {by} took its place"),
        EventBody::Sealed(_) => "sealed and signed".into(),
    }
}

/// Whether an event is bookkeeping that people rarely ask for.
pub(super) const fn is_quiet(body: &EventBody) -> bool {
    matches!(body, EventBody::BulkSealed { .. })
}

fn skew(us: i64) -> String {
    let seconds = Micros(us).as_seconds();
    if seconds.abs() < 5.0 {
        return String::new();
    }
    let way = if us < 0 { "behind" } else { "ahead" };
    format!(", its clock {} {way}", format::duration(seconds.abs()))
}

const fn refusal(reason: Refusal) -> &'static str {
    match reason {
        Refusal::TokenReused => "the token had been used before",
        Refusal::TokenVoided => "a newer boot has voided the token",
        Refusal::TokenExpired => "the token is too old",
        Refusal::WrongMachine => "it has none of the run's addresses",
    }
}

#[cfg(test)]
mod tests {
    use assay_model::{Decision, DecisionKind};

    use super::*;

    #[test]
    fn a_decision_says_who_what_and_why() {
        let decide = |why: &str| {
            let decision = Decision { kind: DecisionKind::Waive, by: "ada".into(), why: why.into() };
            of(&EventBody::Decided { decision })
        };
        assert_eq!(decide("spare part ordered"), "ada decided: waive: spare part ordered");
        assert_eq!(decide(" "), "ada decided: waive");
    }

    #[test]
    fn a_wrong_clock_is_mentioned_and_a_right_one_is_not() {
        assert_eq!(skew(1_200_000), "");
        assert_eq!(skew(-7_200_000_000), ", its clock 2 h 00 m behind");
    }
}
