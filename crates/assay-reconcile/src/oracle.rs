//! The verdict over an Application: is what was merged what runs, and does it stay so?
//!
//! A pure function, the same for Assay's reconciler and for a real Argo CD. No single field of the status is enough.
//! `Synced` can be the state of an older commit or of objects that are still starting; `Healthy` can be older than
//! `Synced`; both hold for a moment in a loop of syncs, and for objects whose fields the server threw away. So all of
//! it has to be right at once, for the commit in question, with the objects themselves compared, and twice.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Difference,
    object::{annotation, text},
    status::ApplicationStatus,
};

/// Set on an Application to have it reconciled again; Argo CD takes it away when it starts doing so.
pub(crate) const REFRESH: &str = "argocd.argoproj.io/refresh";
/// At most this many objects are named in one reason.
const NAMED: usize = 5;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The full hash of the commit that was merged.
    pub revision: String,
    /// Which operation must have succeeded.
    pub operation: Operation,
}

/// Which operation must have succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// One of the expected revision: the commit changes what is rendered.
    OfRevision,
    /// The last one, of whichever revision, or none at all: the commit changes nothing that is rendered, so Argo CD starts
    /// no operation for it.
    Any,
}

/// The Application at one moment, and what its objects differed in then.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The whole Application.
    pub application: Value,
    /// [`crate::compare()`] of the expected with the live objects.
    pub differences: Vec<Difference>,
}

/// What it comes to. `ok` is true if and only if there are no reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// Whether everything is right, twice.
    pub ok: bool,
    /// All that is not right.
    pub reasons: Vec<Reason>,
}

/// One thing that is not right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// What kind of thing. Stable.
    pub code: Code,
    /// What exactly, in a sentence.
    pub detail: String,
}

/// What can be wrong. The spelling is a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Code {
    /// Another commit was compared, or applied, than the one that was merged.
    RevisionWrong,
    /// The cluster does not have what the tree says.
    OutOfSync,
    /// Not everything works, or it is not known whether it does.
    NotHealthy,
    /// No operation succeeded, or it was not carried out.
    OperationFailed,
    /// An expected object is not there.
    ObjectMissing,
    /// An object is there that is not expected.
    ObjectExtra,
    /// A field is gone although its object was accepted: the server's schema does not know it.
    FieldPruned,
    /// A field has another value, or is not expected.
    FieldDifferent,
    /// It is right now, but was not seen right in two reconciliations, with nothing in between.
    NotStable,
    /// The tree could not be compared with the cluster, or the Application is not valid.
    ComparisonError,
}

/// Judges the last of several observations, oldest first, with the one before it as the proof that it lasts.
pub fn judge(expectation: &Expectation, observations: &[Observation]) -> Verdict {
    let mut reasons = match observations.last() {
        Some(last) => judge_one(expectation, last),
        None => vec![reason(Code::NotStable, "the Application was not observed")],
    };
    if reasons.is_empty()
        && let Some((last, before)) = observations.split_last()
    {
        reasons.extend(unstable(expectation, before.last(), last));
    }
    Verdict { ok: reasons.is_empty(), reasons }
}

/// All that is wrong with one observation, without its history.
fn judge_one(expectation: &Expectation, observation: &Observation) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let application = &observation.application;
    let status = application.get("status").cloned().map(without_nulls);
    let status = match status.map(serde_json::from_value::<ApplicationStatus>) {
        Some(Ok(status)) => status,
        Some(Err(error)) => {
            return vec![reason(
                Code::ComparisonError,
                format!("the Application's status is not understood: {error}"),
            )];
        }
        None => ApplicationStatus::default(),
    };
    judge_conditions(&status, &mut reasons);
    judge_sync(expectation, &status, &mut reasons);
    judge_operation(expectation, &status, &mut reasons);
    judge_differences(&observation.differences, &mut reasons);
    if application.pointer("/metadata/deletionTimestamp").is_some() {
        reasons.push(reason(Code::NotStable, "the Application is being deleted"));
    }
    if application.get("operation").is_some_and(|operation| !operation.is_null()) {
        reasons.push(reason(Code::NotStable, "an operation was requested and has not started"));
    }
    if annotation(application, REFRESH).is_some() {
        reasons.push(reason(
            Code::NotStable,
            "a refresh was requested and has not started: the status is from before",
        ));
    }
    reasons
}

fn judge_conditions(status: &ApplicationStatus, reasons: &mut Vec<Reason>) {
    for condition in status.conditions.iter().filter(|condition| condition.kind.ends_with("Error")) {
        let code = if condition.kind == "SyncError" { Code::OperationFailed } else { Code::ComparisonError };
        reasons.push(reason(code, format!("{}: {}", condition.kind, condition.message)));
    }
}

fn judge_sync(expectation: &Expectation, status: &ApplicationStatus, reasons: &mut Vec<Reason>) {
    let sync = &status.sync;
    if !is_of(&expectation.revision, &sync.revision, &sync.revisions) {
        let detail = format!("compared is {}, expected {}", shown(&sync.revision), expectation.revision);
        reasons.push(reason(Code::RevisionWrong, detail));
    }
    if sync.status != "Synced" {
        let out = status.resources.iter().filter(|resource| resource.status != "Synced");
        let named = named(out.map(|resource| format!("{} {}", resource.kind, resource.name)).collect());
        reasons.push(reason(Code::OutOfSync, format!("the sync status is {}{named}", shown(&sync.status))));
    }
    if status.health.status != "Healthy" {
        let ill = status.resources.iter().filter_map(|resource| {
            let health = resource.health.as_ref().filter(|health| health.status != "Healthy")?;
            Some(format!("{} {} {}", resource.kind, resource.name, health.status))
        });
        let named = named(ill.collect());
        reasons
            .push(reason(Code::NotHealthy, format!("the health is {}{named}", shown(&status.health.status))));
    }
}

fn judge_operation(expectation: &Expectation, status: &ApplicationStatus, reasons: &mut Vec<Reason>) {
    let must = expectation.operation == Operation::OfRevision;
    let Some(operation) = &status.operation_state else {
        if must {
            reasons.push(reason(Code::OperationFailed, "no operation was carried out"));
        }
        return;
    };
    if operation.phase != "Succeeded" {
        let detail = format!("the operation is {}: {}", shown(&operation.phase), operation.message);
        reasons.push(reason(Code::OperationFailed, detail));
    }
    let result = operation.sync_result.clone().unwrap_or_default();
    if must && !is_of(&expectation.revision, &result.revision, &result.revisions) {
        let detail = format!(
            "the last operation is of {}, expected {}",
            shown(&result.revision),
            expectation.revision
        );
        reasons.push(reason(Code::RevisionWrong, detail));
    }
}

fn judge_differences(differences: &[Difference], reasons: &mut Vec<Reason>) {
    reasons.extend(differences.iter().map(|difference| {
        let Difference { code, object, pointer, expected, live } = difference;
        let value = |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), clipped);
        let detail = match code {
            Code::ObjectMissing => format!("{object} is not there"),
            Code::ObjectExtra => format!("{object} is there and not expected"),
            Code::FieldPruned => format!("{object} has no {pointer}, expected {}", value(expected)),
            _ => format!("{object} has {} at {pointer}, expected {}", value(live), value(expected)),
        };
        reason(*code, detail)
    }));
}

/// Why two observations, the last of which is right, prove nothing.
fn unstable(expectation: &Expectation, before: Option<&Observation>, last: &Observation) -> Option<Reason> {
    let Some(before) = before else {
        return Some(reason(
            Code::NotStable,
            "it was right in one reconciliation; the next one has to confirm it",
        ));
    };
    if let Some(first) = judge_one(expectation, before).first() {
        return Some(reason(Code::NotStable, format!("it was not right the time before: {}", first.detail)));
    }
    let at = |observation: &Observation, pointer: &str| text(&observation.application, pointer).to_owned();
    let reconciled = "/status/reconciledAt";
    let (now, then) = (at(last, reconciled), at(before, reconciled));
    if now.is_empty() || then.is_empty() {
        return Some(reason(Code::NotStable, "an observation does not say which reconciliation it is of"));
    }
    if now == then {
        return Some(reason(Code::NotStable, "both observations are of the same reconciliation"));
    }
    let started = "/status/operationState/startedAt";
    if at(last, started) != at(before, started) {
        return Some(reason(
            Code::NotStable,
            "another operation was carried out in between: it syncs in a loop, or was changed",
        ));
    }
    None
}

/// What is null is not there.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// An Application of several sources has several revisions, and one of them is that of the repository in question.
fn is_of(expected: &str, revision: &str, revisions: &[String]) -> bool {
    !expected.is_empty() && (revision == expected || revisions.iter().any(|revision| revision == expected))
}

fn named(mut names: Vec<String>) -> String {
    if names.is_empty() {
        return String::new();
    }
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(" ({}{and_more})", names.join(", "))
}

fn shown(text: &str) -> &str {
    if text.is_empty() { "empty" } else { text }
}

/// A value as JSON, no longer than a line.
fn clipped(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn reason(code: Code, detail: impl Into<String>) -> Reason {
    Reason { code, detail: detail.into() }
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;
