//! The fold: a run's journal as one picture.
//!
//! Pages, reports, the CLI, the dispatcher and the database's projections all read this; none of
//! them keeps a truth of its own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{CrashRecord, PowerAction, RunCreated, Sealed};
use crate::host::order::IperfServer;
use crate::state::{self, FailedAt, IllegalEvent, Status};
use crate::verdict::{StageOutcome, aggregate};
use crate::{
    Decision, DecisionKind, Event, EventBody, Finding, Judgement, Mac, Micros, RunId, RunResult, RunState,
    Sha256, StageName, StagePlan, Verdict,
};

/// The name under which a failure to boot is reported as the failed stage.
pub const BOOT: &str = "Boot";

/// A whole run, folded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunView {
    /// Its id.
    pub id: RunId,
    /// What it was created with.
    pub created: RunCreated,
    /// When it was created.
    pub created_at: Micros,
    /// Where it is in its life.
    pub status: Status,
    /// The runner that has it.
    pub runner: Option<String>,
    /// How often its boot script was served.
    pub boots: u32,
    /// When the boot script was last served.
    pub boot_served_at: Option<Micros>,
    /// The agent's current enrolment.
    pub enrolled: Option<Enrolment>,
    /// The highest generation handed out; the fencing token.
    pub generation: i64,
    /// The plan with what became of it.
    pub stages: Vec<StageView>,
    /// Findings about the run itself, in order.
    pub run_findings: Vec<Finding>,
    /// Files, in order of arrival.
    pub artifacts: Vec<ArtifactView>,
    /// Operators' decisions, in order.
    pub decisions: Vec<DecisionView>,
    /// Power requests, in order.
    pub power: Vec<PowerView>,
    /// Network speed servers that stand ready for the run.
    #[serde(default)]
    pub iperf: Vec<IperfServer>,
    /// What the latest boot told of the one before it.
    #[serde(default)]
    pub post_mortem: Option<PostMortemView>,
    /// Bulk rows bound to the chain.
    pub bulk: Vec<BulkView>,
    /// Since when the agent has been silent, if it is.
    pub suspect_since: Option<Micros>,
    /// When the current wait for the machine began: admission, or a retry after a failed boot.
    pub booting_since: Option<Micros>,
    /// Until when the run is held, if it is.
    pub hold_until: Option<Micros>,
    /// When the run left the queue.
    pub started_at: Option<Micros>,
    /// When it came to its end.
    pub completed_at: Option<Micros>,
    /// The result, once there is one.
    pub result: Option<RunResult>,
    /// Whether anything was ever waived.
    pub overridden: bool,
    /// The seal.
    pub seal: Option<Sealed>,
    /// The run that took this one's place.
    pub superseded_by: Option<i64>,
    /// Number of the last event.
    pub seq: i64,
    /// When the last event was committed.
    pub at: Micros,
}

/// The agent's enrolment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Enrolment {
    /// Which boot.
    pub boot: u32,
    /// Fencing token.
    pub generation: i64,
    /// When.
    pub at: Micros,
    /// The address it booted from; none where the runner does the work.
    pub mac: Option<Mac>,
    /// The agent's version.
    pub agent: String,
    /// The machine's clock minus the server's, in microseconds.
    pub clock_skew_us: i64,
}

/// One stage of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageView {
    /// As planned.
    pub plan: StagePlan,
    /// Every try, oldest first.
    pub attempts: Vec<AttemptView>,
    /// The decision that accepted its failure.
    pub waived: bool,
}

impl StageView {
    /// The latest try.
    pub fn latest(&self) -> Option<&AttemptView> {
        self.attempts.last()
    }

    /// The latest judgement.
    pub fn judgement(&self) -> Option<&Judgement> {
        self.attempts.iter().rev().find_map(|a| match &a.outcome {
            AttemptOutcome::Judged(judgement) => Some(judgement),
            _ => None,
        })
    }

    /// The verdict as it stands; none while the stage has an open try or has not been tried.
    pub fn verdict(&self) -> Option<Verdict> {
        match &self.latest()?.outcome {
            AttemptOutcome::Judged(judgement) => Some(judgement.verdict),
            AttemptOutcome::Open | AttemptOutcome::Lost(_) => None,
        }
    }

    /// How long the latest closed try took.
    pub fn seconds(&self) -> Option<f64> {
        let last = self.latest()?;
        Some(last.ended_at?.since(last.started_at).as_seconds())
    }
}

/// One try of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptView {
    /// Counts from 1.
    pub attempt: u32,
    /// Fencing token.
    pub generation: i64,
    /// When it began.
    pub started_at: Micros,
    /// When it was closed.
    pub ended_at: Option<Micros>,
    /// What became of it.
    pub outcome: AttemptOutcome,
    /// The evidence, once it arrived in time.
    pub evidence: Option<Evidence>,
}

/// Evidence of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// Its digest in the artifact store.
    pub digest: Sha256,
    /// What the collector said if it could not do its work.
    pub problem: Option<String>,
}

/// What became of a try.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub enum AttemptOutcome {
    /// Still running, or waiting to be judged.
    Open,
    /// Ended without evidence; the reason.
    Lost(String),
    /// Judged.
    Judged(Judgement),
}

/// A stored file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactView {
    /// The stage it belongs to, if any.
    pub stage: Option<StageName>,
    /// Which try; 0 without a stage.
    pub attempt: u32,
    /// Its name.
    pub name: String,
    /// Its digest.
    pub digest: Sha256,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether it came after its attempt was closed.
    pub late: bool,
}

/// A decision and when it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DecisionView {
    /// When.
    pub at: Micros,
    /// The stage it was about, if any.
    pub stage: Option<String>,
    /// Who, what, why.
    pub decision: Decision,
}

/// A power request and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PowerView {
    /// Names the request.
    pub job: String,
    /// What was asked.
    pub action: PowerAction,
    /// When.
    pub requested_at: Micros,
    /// Success and message, once the runner has answered.
    pub outcome: Option<(bool, String)>,
}

/// What a boot told of the end of the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PostMortemView {
    /// The boot that told it.
    pub boot: u32,
    /// The records; empty when the machine kept none.
    pub records: Vec<CrashRecord>,
    /// The line that says most.
    pub cause: Option<String>,
}

/// Rows outside the chain, bound to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BulkView {
    /// `sensors` or `log`.
    pub what: String,
    /// First row.
    pub from: i64,
    /// Last row.
    pub to: i64,
    /// How many.
    pub rows: u64,
    /// Over the rows' stored bytes.
    pub digest: Sha256,
}

impl RunView {
    /// Starts the fold. The first event must create the run.
    pub fn begin(id: RunId, first: &Event) -> Result<Self, IllegalEvent> {
        let status = state::next(None, &first.body)?;
        let EventBody::RunCreated(created) = &first.body else {
            unreachable!("only RunCreated begins a run");
        };
        let stages = created
            .stages
            .iter()
            .map(|plan| StageView { plan: plan.clone(), attempts: Vec::new(), waived: false })
            .collect();
        Ok(Self {
            id,
            created: RunCreated::clone(created),
            created_at: first.at,
            status,
            runner: None,
            boots: 0,
            boot_served_at: None,
            enrolled: None,
            generation: 0,
            stages,
            run_findings: Vec::new(),
            artifacts: Vec::new(),
            decisions: Vec::new(),
            power: Vec::new(),
            iperf: Vec::new(),
            post_mortem: None,
            bulk: Vec::new(),
            suspect_since: None,
            booting_since: None,
            hold_until: None,
            started_at: None,
            completed_at: None,
            result: None,
            overridden: false,
            seal: None,
            superseded_by: None,
            seq: first.seq,
            at: first.at,
        })
    }

    /// Folds a whole journal. `None` when it is empty.
    pub fn fold<'a>(
        id: RunId,
        events: impl IntoIterator<Item = &'a Event>,
    ) -> Result<Option<Self>, IllegalEvent> {
        let mut events = events.into_iter();
        let Some(first) = events.next() else { return Ok(None) };
        let mut view = Self::begin(id, first)?;
        for event in events {
            view.apply(event)?;
        }
        Ok(Some(view))
    }

    /// Folds one more event in. An illegal one changes nothing.
    pub fn apply(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        let before = self.status;
        self.status = state::next(Some(&before), &event.body)?;
        self.seq = event.seq;
        self.at = event.at;
        self.record(before, event);
        if self.status.state.is_terminal() && !before.state.is_terminal() {
            self.completed_at = Some(event.at);
            self.hold_until = None;
        }
        Ok(())
    }

    /// The run's state.
    pub const fn state(&self) -> RunState {
        self.status.state
    }

    /// The stage at which the run failed, as it is stored; `Boot` when it never came up.
    pub fn failed_stage(&self) -> Option<&str> {
        match self.status.failed_at? {
            FailedAt::Boot => Some(BOOT),
            FailedAt::Stage(index) => self.stages.get(index).map(|s| s.plan.name.as_str()),
        }
    }

    /// The stage that is running or next.
    pub fn current_stage(&self) -> Option<&StageView> {
        self.stages.get(self.status.stage)
    }

    /// The open try of the current stage.
    pub fn open_attempt(&self) -> Option<(&StageView, &AttemptView)> {
        let stage = self.status.open.then(|| self.current_stage()).flatten()?;
        Some((stage, stage.latest()?))
    }

    /// The result that the stages add up to as they stand.
    pub fn aggregate(&self) -> Option<RunResult> {
        if self.status.failed_at == Some(FailedAt::Boot) {
            return Some(RunResult::Fail);
        }
        let outcomes: Vec<_> = self
            .stages
            .iter()
            .map(|s| StageOutcome { required: s.plan.required, verdict: s.verdict(), waived: s.waived })
            .collect();
        aggregate(&outcomes)
    }

    /// The findings that count: those about the run, and of each stage its latest judgement's.
    pub fn findings(&self) -> Vec<Finding> {
        let of_stages = self.stages.iter().flat_map(|stage| {
            stage.judgement().into_iter().flat_map(|j| &j.findings).map(|f| {
                let mut finding = f.clone();
                finding.stage.get_or_insert_with(|| stage.plan.name.clone());
                finding
            })
        });
        self.run_findings.iter().cloned().chain(of_stages).collect()
    }

    /// What was not verified, one sentence each.
    pub fn unverified(&self) -> Vec<String> {
        let mut out = Vec::new();
        for stage in &self.stages {
            let name = &stage.plan.name;
            match stage.judgement() {
                Some(j) => out.extend(j.unverified.iter().map(|u| format!("{name}: {u}"))),
                None if self.status.state.is_terminal() => out.push(format!("{name}: never judged")),
                None => {}
            }
        }
        let left_out = &self.created.options.left_out;
        if !left_out.is_empty() {
            let names: Vec<&str> = left_out.iter().map(StageName::as_str).collect();
            out.push(format!("stages left out by request: {}", names.join(", ")));
        }
        if !self.created.muted.is_empty() {
            out.push(format!("checks switched off: {}", self.created.muted.join(", ")));
        }
        out
    }

    fn record(&mut self, before: Status, event: &Event) {
        match &event.body {
            EventBody::Admitted { runner } => {
                self.runner = Some(runner.clone());
                self.started_at = Some(event.at);
                self.booting_since = Some(event.at);
            }
            EventBody::PowerRequested { job, action } => self.power.push(PowerView {
                job: job.clone(),
                action: *action,
                requested_at: event.at,
                outcome: None,
            }),
            EventBody::PowerDone { job, ok, message } => {
                if let Some(power) = self.power.iter_mut().find(|p| p.job == *job) {
                    power.outcome = Some((*ok, message.clone()));
                }
            }
            EventBody::ServicesReady { iperf } => self.iperf.clone_from(iperf),
            EventBody::PostMortem { boot, records, cause } => {
                self.post_mortem =
                    Some(PostMortemView { boot: *boot, records: records.clone(), cause: cause.clone() });
            }
            EventBody::BootServed { boot, .. } => {
                self.boots = *boot;
                self.boot_served_at = Some(event.at);
            }
            EventBody::MemtestServed { .. } | EventBody::MediumServed { .. } => {
                self.boot_served_at = Some(event.at);
            }
            EventBody::Enrolled { boot, mac, agent, clock_skew_us, generation, .. } => {
                self.generation = self.generation.max(*generation);
                self.suspect_since = None;
                self.enrolled = Some(Enrolment {
                    boot: *boot,
                    generation: *generation,
                    at: event.at,
                    mac: *mac,
                    agent: agent.clone(),
                    clock_skew_us: *clock_skew_us,
                });
            }
            EventBody::StageStarted { index, attempt, generation, .. } => {
                self.generation = self.generation.max(*generation);
                if let Some(stage) = self.stages.get_mut(*index) {
                    stage.waived = false;
                    stage.attempts.push(AttemptView {
                        attempt: *attempt,
                        generation: *generation,
                        started_at: event.at,
                        ended_at: None,
                        outcome: AttemptOutcome::Open,
                        evidence: None,
                    });
                }
            }
            EventBody::AttemptLost { reason, .. } => {
                self.close(before.stage, event.at, AttemptOutcome::Lost(reason.clone()));
            }
            EventBody::StageJudged { index, judgement, .. } => {
                self.close(*index, event.at, AttemptOutcome::Judged(judgement.clone()));
            }
            EventBody::EvidenceReceived { stage, attempt, digest, problem, late: false } => {
                if let Some(attempt) = self.attempt_mut(stage, *attempt) {
                    attempt.evidence = Some(Evidence { digest: *digest, problem: problem.clone() });
                }
            }
            EventBody::ArtifactStored { stage, attempt, name, digest, bytes, late } => {
                self.artifacts.push(ArtifactView {
                    stage: stage.clone(),
                    attempt: *attempt,
                    name: name.clone(),
                    digest: *digest,
                    bytes: *bytes,
                    late: *late,
                });
            }
            EventBody::BulkSealed { what, from, to, rows, digest } => self.bulk.push(BulkView {
                what: what.clone(),
                from: *from,
                to: *to,
                rows: *rows,
                digest: *digest,
            }),
            EventBody::FindingRaised { finding } => self.run_findings.push(finding.clone()),
            EventBody::AgentSuspect { last_seen } => self.suspect_since = Some(*last_seen),
            EventBody::AgentReturned => self.suspect_since = None,
            EventBody::Held { until } => self.hold_until = Some(*until),
            EventBody::Decided { decision } => self.record_decision(before, event.at, decision),
            EventBody::RunCompleted { result } => self.result = *result,
            EventBody::HoldExpired => self.result = Some(RunResult::Fail),
            EventBody::Superseded { by } => self.superseded_by = Some(*by),
            EventBody::Sealed(sealed) => self.seal = Some(Sealed::clone(sealed)),
            EventBody::RunCreated(_)
            | EventBody::EnrolmentRefused { .. }
            | EventBody::EvidenceReceived { .. }
            | EventBody::BootFailed { .. }
            | EventBody::CancelConfirmed { .. } => {}
        }
    }

    fn record_decision(&mut self, before: Status, at: Micros, decision: &Decision) {
        let stage = match before.failed_at {
            Some(FailedAt::Boot) => Some(BOOT.to_owned()),
            Some(FailedAt::Stage(index)) => self.stages.get(index).map(|s| s.plan.name.0.clone()),
            None => None,
        };
        self.decisions.push(DecisionView { at, stage, decision: decision.clone() });
        match decision.kind {
            DecisionKind::Waive => {
                self.overridden = true;
                if let Some(FailedAt::Stage(index)) = before.failed_at
                    && let Some(stage) = self.stages.get_mut(index)
                {
                    stage.waived = true;
                }
                self.hold_until = None;
            }
            DecisionKind::Retry | DecisionKind::Permit => {
                self.hold_until = None;
                if self.status.state == RunState::Booting {
                    self.booting_since = Some(at);
                }
            }
            DecisionKind::Abandon => self.result = Some(RunResult::Fail),
            DecisionKind::Cancel => {}
        }
    }

    fn close(&mut self, index: usize, at: Micros, outcome: AttemptOutcome) {
        if let Some(attempt) = self.stages.get_mut(index).and_then(|s| s.attempts.last_mut()) {
            attempt.ended_at = Some(at);
            attempt.outcome = outcome;
        }
    }

    fn attempt_mut(&mut self, stage: &StageName, attempt: u32) -> Option<&mut AttemptView> {
        self.stages
            .iter_mut()
            .find(|s| s.plan.name == *stage)?
            .attempts
            .iter_mut()
            .find(|a| a.attempt == attempt)
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
