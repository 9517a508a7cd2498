//! What happened, as sinks are told it: the event, and the facts about its run at that moment.

use assay_model::view::BOOT;
use assay_model::{Finding, Micros, RunResult, RunView, Severity, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::event;
use crate::message::Message;

/// Most findings that go along; the rest stand on the run's page.
const MOST_FINDINGS: usize = 5;

/// The event of a delivery that somebody asks for to see whether a sink works. Every sink takes it.
pub const TEST_EVENT: &str = "Test";

/// Something to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// Unique, and the same for every try: receivers tell repeats apart by it.
    pub id: String,
    /// `RunHeld`, `RunCompleted` …: see [`crate::EVENTS`].
    pub event: String,
    /// When it happened.
    pub at: Micros,
    /// The event's own facts; with `run` (its number) and `host`, except in a test.
    pub payload: Value,
    /// The run when it happened.
    pub about: About,
    /// Where people find the control plane, if they have been told: `https://assay.example.net`.
    pub base_url: Option<String>,
}

/// A run in the moment in which something happened to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// The run's profile.
    pub profile: Option<String>,
    /// The stage that it is about.
    pub stage: Option<String>,
    /// How that stage was judged. Only `fail` blames the machine.
    pub verdict: Option<Verdict>,
    /// Why, in a sentence.
    pub reason: Option<String>,
    /// The run's verdict, once there is one.
    pub result: Option<RunResult>,
    /// Whether something was waived.
    pub overridden: bool,
    /// The checks that were switched off, by code.
    pub muted: Vec<String>,
    /// The stages that were left out by request.
    pub left_out: Vec<String>,
    /// The phase of an image's profile from which the run was to go on, on a machine that an earlier run left there.
    pub from_phase: Option<String>,
    /// The stages that could not be verified and did not have to be.
    pub unverified: Vec<String>,
    /// The findings that led to it, the worst first; at most five.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more_findings: usize,
}

impl About {
    /// What a run looks like to somebody who is told this event about it.
    pub fn of(run: &RunView, event: &str, payload: &Value) -> Self {
        let told = |key: &str| payload.get(key).and_then(Value::as_str).map(str::to_owned);
        let stage = told("stage").or_else(|| told("failed_stage")).or_else(|| match event {
            "SpecMismatch" => Some("SpecValidate".to_owned()),
            "BootFailed" => Some(BOOT.to_owned()),
            "UnexpectedData" | "StageFailed" | "RunHeld" | "HoldExpiring" | "RunReleased" => {
                run.failed_stage().map(str::to_owned)
            }
            "MachineSuspect" | "RunStale" => run.current_stage().map(|s| s.plan.name.to_string()),
            "Decided" => run.decisions.last().and_then(|d| d.stage.clone()),
            "RunCompleted" if run.result != Some(RunResult::Pass) => run.failed_stage().map(str::to_owned),
            _ => None,
        });
        let judged = run.stages.iter().find(|s| Some(s.plan.name.as_str()) == stage.as_deref());
        let judgement = judged.and_then(|stage| stage.judgement());
        let tells_findings =
            !matches!(event, "RunStarted" | "MachineSuspect" | "RunStale" | "Decided" | "BatchStopped");
        let mut findings = if tells_findings { run.findings() } else { Vec::new() };
        findings.retain(|finding| match (&stage, event) {
            (Some(stage), "RunHeld" | "HoldExpiring" | "SpecMismatch" | "StageFailed" | "UnexpectedData") => {
                finding.stage.as_ref().is_none_or(|of| of == stage.as_str())
            }
            (_, "BootFailed") => finding.stage.is_none(),
            _ => finding.severity >= Severity::Warning,
        });
        // Stable: within a severity they stay in the order in which they were found.
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        let more_findings = findings.len().saturating_sub(MOST_FINDINGS);
        findings.truncate(MOST_FINDINGS);
        Self {
            profile: Some(run.created.profile.clone()),
            stage,
            verdict: judgement.map(|j| j.verdict),
            reason: judgement.map(|j| j.message.clone()),
            result: if event == "RunCompleted" { run.result } else { None },
            overridden: run.overridden,
            muted: run.created.muted.clone(),
            left_out: run.created.options.left_out.iter().map(ToString::to_string).collect(),
            from_phase: run.created.options.from_phase.clone(),
            unverified: unverified(run),
            findings,
            more_findings,
        }
    }
}

/// The stages that could not be verified; required ones among them were waived.
fn unverified(run: &RunView) -> Vec<String> {
    let open = run.stages.iter().filter(|stage| stage.verdict() == Some(Verdict::Unverified));
    open.map(|stage| stage.plan.name.to_string()).collect()
}

impl Notification {
    /// A delivery to see whether a sink works.
    pub fn test(id: String, at: Micros, asked_by: &str, base_url: Option<String>) -> Self {
        let payload = json!({ "asked_by": asked_by });
        Self { id, event: TEST_EVENT.to_owned(), at, payload, about: About::default(), base_url }
    }

    /// The run's number.
    pub fn run(&self) -> Option<i64> {
        self.payload.get("run").and_then(Value::as_i64)
    }

    /// The machine.
    pub fn host(&self) -> Option<&str> {
        self.payload.get("host").and_then(Value::as_str)
    }

    /// The run's page; the batch's, where it is about one.
    pub fn link(&self) -> Option<String> {
        let base = self.base_url.as_deref()?.trim_end_matches('/');
        if let Some(batch) = self.payload.get("batch").and_then(Value::as_i64) {
            return Some(format!("{base}/batches/{batch}"));
        }
        Some(self.run().map_or_else(|| base.to_owned(), |run| format!("{base}/runs/{run}")))
    }

    /// As it goes over the wire to programs, with the words that people get.
    pub fn wire(&self, message: &Message) -> Value {
        json!({
            "id": self.id,
            "event": self.event,
            "at": self.at.rfc3339(),
            "level": event::level(&self.event, &self.about),
            "run": self.run(),
            "host": self.host(),
            "link": self.link(),
            "title": message.title,
            "text": message.body,
            "profile": self.about.profile,
            "stage": self.about.stage,
            "verdict": self.about.verdict,
            "result": self.about.result,
            "findings": self.about.findings,
            "more_findings": self.about.more_findings,
            "payload": self.payload,
        })
    }
}
