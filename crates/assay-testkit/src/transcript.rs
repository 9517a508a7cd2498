//! A journal as lines that a person can read, for snapshots. Ids, times and digests are left out.

use assay_model::{Event, EventBody};

/// One line per event. Bulk digests come whenever a batch happens to be stored, so they are left out.
pub fn lines(events: &[Event]) -> Vec<String> {
    let worth_it = |e: &&Event| !matches!(e.body, EventBody::BulkSealed { .. });
    events.iter().filter(worth_it).map(|e| line(&e.body)).collect()
}

/// The kinds of the events, in order.
pub fn kinds(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(|e| e.body.kind()).collect()
}

fn line(body: &EventBody) -> String {
    let rest = match body {
        EventBody::RunCreated(created) => created.target.name.clone(),
        EventBody::Admitted { runner } => runner.clone(),
        EventBody::PowerRequested { action, .. } => format!("{action:?}").to_lowercase(),
        EventBody::PowerDone { ok, message, .. } => {
            format!("{}: {message}", if *ok { "ok" } else { "failed" })
        }
        EventBody::ServicesReady { iperf } => format!("{} speed servers", iperf.len()),
        EventBody::PostMortem { boot, records, .. } => format!("boot {boot}, {} records", records.len()),
        EventBody::MemtestServed { stage, attempt, .. } | EventBody::MediumServed { stage, attempt, .. } => {
            format!("{stage} {attempt}")
        }
        EventBody::BootServed { boot, .. } => format!("boot {boot}"),
        EventBody::Enrolled { boot, generation, .. } => format!("boot {boot}, generation {generation}"),
        EventBody::EnrolmentRefused { reason, .. } => format!("{reason:?}"),
        EventBody::BootFailed { message } => message.clone(),
        EventBody::StageStarted { stage, attempt, generation, .. } => {
            format!("{stage} {attempt}, generation {generation}")
        }
        EventBody::AttemptLost { stage, attempt, reason } => format!("{stage} {attempt}: {reason}"),
        EventBody::EvidenceReceived { stage, attempt, problem, late, .. } => {
            let problem = problem.as_ref().map_or_else(String::new, |p| format!(", problem: {p}"));
            format!("{stage} {attempt}{}{problem}", if *late { ", late" } else { "" })
        }
        EventBody::ArtifactStored { name, late, .. } => {
            format!("{name}{}", if *late { ", late" } else { "" })
        }
        EventBody::BulkSealed { what, .. } => what.clone(),
        EventBody::StageJudged { stage, attempt, judgement, .. } => {
            format!("{stage} {attempt}: {}", judgement.verdict)
        }
        EventBody::FindingRaised { finding } => format!("{} ({})", finding.code, finding.severity),
        EventBody::Decided { decision } => format!("{} by {}", decision.kind, decision.by),
        EventBody::RunCompleted { result } => {
            result.map_or_else(|| "no result".to_owned(), |r| r.to_string())
        }
        EventBody::CancelConfirmed { how } => how.clone(),
        EventBody::Superseded { by } => format!("by run {by}"),
        EventBody::AgentSuspect { .. }
        | EventBody::AgentReturned
        | EventBody::Held { .. }
        | EventBody::HoldExpired
        | EventBody::Sealed(_) => String::new(),
    };
    format!("{} {rest}", body.kind()).trim_end().to_owned()
}
