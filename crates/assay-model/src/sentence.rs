//! The journal in sentences, for people: the same words on the page, on the terminal and in the report.
//!
//! Sentences may contain text that a machine under test chose; escape them where they are shown.

use crate::event::{PowerAction, Refusal};
use crate::{EventBody, Micros, RunResult};

/// What an event says, in lower case and without a full stop.
pub fn of(body: &EventBody) -> String {
    match body {
        EventBody::RunCreated(c) => {
            format!(
                "run {} over {} asked for by {}, profile {}",
                c.number, c.target.name, c.requested_by, c.profile
            )
        }
        EventBody::Admitted { runner } => format!("taken by runner {runner}"),
        EventBody::PowerRequested { action: PowerAction::Cycle, .. } => {
            "asked the runner to boot the machine".into()
        }
        EventBody::PowerRequested { action: PowerAction::Medium, .. } => {
            "asked the runner to insert the medium and boot the machine from it".into()
        }
        EventBody::PowerRequested { action: PowerAction::Off, .. } => {
            "asked the runner to switch the machine off".into()
        }
        EventBody::PowerDone { ok: true, message, .. } => format!("power: {message}"),
        EventBody::ServicesReady { iperf } => format!("{} network speed servers stand ready", iperf.len()),
        EventBody::PostMortem { records, .. } if records.is_empty() => {
            "the machine kept no record of a crash".to_owned()
        }
        EventBody::PostMortem { records, cause, .. } => format!(
            "the machine kept {} records of a crash: {}",
            records.len(),
            cause.as_deref().unwrap_or("no line in them says why")
        ),
        EventBody::PowerDone { ok: false, message, .. } => format!("power FAILED: {message}"),
        EventBody::BootServed { boot, mac } => format!("{mac} fetched its boot script (boot {boot})"),
        EventBody::MemtestServed { mac, .. } => {
            format!("{mac} fetched memtest86+ in place of the live image")
        }
        EventBody::MediumServed { mac, .. } => {
            format!("{mac} asked for its boot script and was told to go on to the medium")
        }
        EventBody::Enrolled { agent, mac: None, .. } => format!("{agent} took up the work"),
        EventBody::Enrolled { boot, agent, clock_skew_us, .. } => {
            format!("agent {agent} enrolled (boot {boot}){}", skew(*clock_skew_us))
        }
        EventBody::EnrolmentRefused { reason, detail } => {
            format!("an enrolment was refused: {}: {detail}", refusal(*reason))
        }
        EventBody::BootFailed { message } => format!("the machine did not come up: {message}"),
        EventBody::StageStarted { stage, attempt: 1, .. } => format!("{stage} began"),
        EventBody::StageStarted { stage, attempt, .. } => format!("{stage} began (try {attempt})"),
        EventBody::AttemptLost { stage, attempt, reason } => {
            format!("{stage}: try {attempt} was lost: {reason}")
        }
        EventBody::EvidenceReceived { stage, problem, late, .. } => match problem {
            Some(problem) => {
                format!("{stage}: the collector reports a problem: {problem}{}", lateness(*late))
            }
            None => format!("{stage}: evidence arrived{}", lateness(*late)),
        },
        EventBody::ArtifactStored { name, bytes, late, .. } => {
            format!("kept {name}, {}{}", size(*bytes), lateness(*late))
        }
        EventBody::BulkSealed { what, rows, .. } => format!("bound {rows} rows of {what} to the chain"),
        EventBody::StageJudged { stage, judgement, .. } => {
            format!("{stage}: {}: {}", judgement.verdict, judgement.message)
        }
        EventBody::FindingRaised { finding } => {
            format!("{} {}: {}", finding.severity, finding.code, finding.message)
        }
        EventBody::AgentSuspect { .. } => "the agent has fallen silent".into(),
        EventBody::AgentReturned => "the agent is heard again".into(),
        EventBody::Held { until } => format!("held for a decision until {}", until.rfc3339()),
        EventBody::Decided { decision } => {
            let of = if decision.serials.is_empty() { "" } else { " to erase " };
            let what = format!("{}{of}{}", decision.kind, decision.serials.join(", "));
            match decision.why.trim() {
                "" => format!("{} decided: {what}", decision.by),
                why => format!("{} decided: {what}: {why}", decision.by),
            }
        }
        EventBody::HoldExpired => "nobody decided in time; the machine is released".into(),
        EventBody::RunCompleted { result } => match result {
            Some(result) => format!("completed: {}", RunResult::as_str(*result)),
            None => "completed without a verdict".into(),
        },
        EventBody::CancelConfirmed { how } => format!("cancelled: {how}"),
        EventBody::Superseded { by } => format!("run {by} took its place"),
        EventBody::Sealed(_) => "sealed and signed".into(),
    }
}

/// Whether an event is bookkeeping that a reader who follows the run does not need.
pub const fn is_quiet(body: &EventBody) -> bool {
    matches!(
        body,
        EventBody::PowerRequested { .. }
            | EventBody::EvidenceReceived { late: false, problem: None, .. }
            | EventBody::ArtifactStored { late: false, .. }
            | EventBody::BulkSealed { .. }
    )
}

/// Why an enrolment was refused.
pub const fn refusal(reason: Refusal) -> &'static str {
    match reason {
        Refusal::TokenReused => "the token was used before",
        Refusal::TokenVoided => "a newer boot has voided the token",
        Refusal::TokenExpired => "the token has expired",
        Refusal::WrongMachine => "the machine has none of the registered addresses",
    }
}

const fn lateness(late: bool) -> &'static str {
    if late { ", too late to count" } else { "" }
}

fn skew(us: i64) -> String {
    /// A difference that a first DHCP lease and a slow answer explain.
    const ORDINARY: f64 = 5.0;
    let seconds = Micros(us).as_seconds();
    let way = if us < 0 { "behind" } else { "ahead" };
    match seconds.abs() {
        s if s < ORDINARY => String::new(),
        s if s < 3600.0 => format!(", its clock {s:.0} s {way}"),
        s if s < 172_800.0 => format!(", its clock {:.0} h {way}", s / 3600.0),
        s => format!(", its clock {:.0} days {way}", s / 86_400.0),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decision, DecisionKind};

    #[test]
    fn a_decision_says_who_what_and_why() {
        let decide = |why: &str| {
            let decision = Decision {
                kind: DecisionKind::Waive,
                by: "ada".into(),
                why: why.into(),
                serials: Vec::new(),
            };
            of(&EventBody::Decided { decision })
        };
        assert_eq!(decide("known and harmless"), "ada decided: waive: known and harmless");
        assert_eq!(decide(" "), "ada decided: waive");
        let decision = Decision {
            kind: DecisionKind::Permit,
            by: "ada".into(),
            why: "copied".into(),
            serials: vec!["S1".into(), "S2".into()],
        };
        assert_eq!(of(&EventBody::Decided { decision }), "ada decided: permit to erase S1, S2: copied");
    }

    #[test]
    fn a_clock_that_is_off_is_said_in_a_unit_that_fits() {
        assert_eq!(skew(1_000_000), "");
        assert_eq!(skew(-90_000_000), ", its clock 90 s behind");
        assert_eq!(skew(-1_795_000_000_000_000), ", its clock 20775 days behind");
    }

    #[test]
    fn late_evidence_is_never_quiet() {
        let stored = |late| EventBody::ArtifactStored {
            stage: None,
            attempt: 0,
            name: "inventory.json".into(),
            digest: crate::Sha256::ZERO,
            bytes: 2048,
            late,
        };
        assert!(is_quiet(&stored(false)));
        assert!(!is_quiet(&stored(true)));
        assert_eq!(of(&stored(true)), "kept inventory.json, 2 KiB, too late to count");
    }
}
