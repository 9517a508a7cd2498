//! The transition function is total: every kind of event in every state, legal or refused for a
//! named reason. The matrix below is the contract; a change to it is a change to the product.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::event::{PowerAction, Refusal, RunCreated, Sealed, Target};
use crate::{
    Decision, Finding, Judgement, Mac, Micros, Owner, RunResult, Severity, Sha256, StageName, StagePlan,
    TargetId, Verdict,
};

const STAGES: usize = 2;

fn created() -> RunCreated {
    let plan = |name: &str| StagePlan {
        name: StageName::from(name),
        owner: Owner::Agent,
        required: true,
        timeout_s: 60,
    };
    RunCreated {
        number: 1,
        pipeline: crate::Pipeline::Host,
        profile: "standard".into(),
        target: Target { id: TargetId(uuid::Uuid::from_u128(1)), name: "web-3".into() },
        stages: vec![plan("Inventory"), plan("SMART")],
        spec: serde_json::json!({}),
        macs: vec![Mac([2, 0, 0, 0, 0, 1])],
        power: serde_json::json!({}),
        holds: true,
        hold_s: 60,
        boot_timeout_s: 60,
        requested_by: "mara".into(),
        machine: None,
        harness: "0.1.0".into(),
        muted: Vec::new(),
        options: crate::host::order::RunOptions::default(),
    }
}

fn judged(index: usize, verdict: Verdict) -> EventBody {
    let judgement = Judgement { verdict, ..Judgement::error("m") };
    EventBody::StageJudged { stage: "Inventory".into(), index, attempt: 1, required: true, judgement }
}

fn decided(kind: DecisionKind) -> EventBody {
    EventBody::Decided {
        decision: Decision { kind, by: "mara".into(), why: "because".into(), serials: Vec::new() },
    }
}

fn started(index: usize) -> EventBody {
    EventBody::StageStarted { stage: "Inventory".into(), index, attempt: 1, generation: 1 }
}

/// Every event, with the variations that the transition function tells apart. The exhaustive match
/// below makes sure that a new kind is added here, too.
fn events() -> Vec<(&'static str, EventBody)> {
    let job = || "1-power-1".to_owned();
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let stage = || StageName::from("Inventory");
    let finding = Finding::new("C", Severity::Info, "m", "n");
    let all = vec![
        ("RunCreated", EventBody::RunCreated(Box::new(created()))),
        ("Admitted", EventBody::Admitted { runner: "r".into() }),
        ("PowerRequested", EventBody::PowerRequested { job: job(), action: PowerAction::Cycle }),
        ("PowerDone", EventBody::PowerDone { job: job(), ok: true, message: String::new() }),
        ("ServicesReady", EventBody::ServicesReady { iperf: Vec::new() }),
        ("BootServed", EventBody::BootServed { boot: 1, mac }),
        (
            "Enrolled",
            EventBody::Enrolled {
                boot: 1,
                mac: Some(mac),
                system_uuid: None,
                agent: "0.1.0".into(),
                clock_skew_us: 0,
                generation: 1,
            },
        ),
        (
            "EnrolmentRefused",
            EventBody::EnrolmentRefused { reason: Refusal::TokenReused, detail: String::new() },
        ),
        ("BootFailed", EventBody::BootFailed { message: String::new() }),
        ("StageStarted 0", started(0)),
        ("StageStarted 1", started(1)),
        ("StageStarted 2", started(2)),
        ("AttemptLost", EventBody::AttemptLost { stage: stage(), attempt: 1, reason: String::new() }),
        (
            "EvidenceReceived",
            EventBody::EvidenceReceived {
                stage: stage(),
                attempt: 1,
                digest: Sha256::ZERO,
                problem: None,
                late: false,
            },
        ),
        (
            "ArtifactStored",
            EventBody::ArtifactStored {
                stage: None,
                attempt: 0,
                name: "a".into(),
                digest: Sha256::ZERO,
                bytes: 0,
                late: false,
            },
        ),
        (
            "BulkSealed",
            EventBody::BulkSealed { what: "log".into(), from: 1, to: 1, rows: 1, digest: Sha256::ZERO },
        ),
        ("StageJudged 0 pass", judged(0, Verdict::Pass)),
        ("StageJudged 0 fail", judged(0, Verdict::Fail)),
        ("StageJudged 1 pass", judged(1, Verdict::Pass)),
        ("FindingRaised", EventBody::FindingRaised { finding }),
        ("AgentSuspect", EventBody::AgentSuspect { last_seen: Micros(0) }),
        ("AgentReturned", EventBody::AgentReturned),
        ("PostMortem", EventBody::PostMortem { boot: 1, records: Vec::new(), cause: None }),
        ("MemtestServed", EventBody::MemtestServed { stage: stage(), attempt: 1, mac }),
        ("MediumServed", EventBody::MediumServed { stage: stage(), attempt: 1, mac }),
        ("Held", EventBody::Held { until: Micros(0) }),
        ("Decided retry", decided(DecisionKind::Retry)),
        ("Decided permit", decided(DecisionKind::Permit)),
        ("Decided waive", decided(DecisionKind::Waive)),
        ("Decided abandon", decided(DecisionKind::Abandon)),
        ("Decided cancel", decided(DecisionKind::Cancel)),
        ("HoldExpired", EventBody::HoldExpired),
        ("RunCompleted", EventBody::RunCompleted { result: Some(RunResult::Pass) }),
        ("CancelConfirmed", EventBody::CancelConfirmed { how: String::new() }),
        ("Superseded", EventBody::Superseded { by: 2 }),
        ("Sealed", EventBody::Sealed(Box::new(seal()))),
    ];
    for (_, event) in &all {
        match event {
            EventBody::RunCreated(_)
            | EventBody::Admitted { .. }
            | EventBody::PowerRequested { .. }
            | EventBody::PowerDone { .. }
            | EventBody::ServicesReady { .. }
            | EventBody::BootServed { .. }
            | EventBody::Enrolled { .. }
            | EventBody::EnrolmentRefused { .. }
            | EventBody::BootFailed { .. }
            | EventBody::StageStarted { .. }
            | EventBody::AttemptLost { .. }
            | EventBody::EvidenceReceived { .. }
            | EventBody::ArtifactStored { .. }
            | EventBody::BulkSealed { .. }
            | EventBody::StageJudged { .. }
            | EventBody::FindingRaised { .. }
            | EventBody::AgentSuspect { .. }
            | EventBody::AgentReturned
            | EventBody::PostMortem { .. }
            | EventBody::MemtestServed { .. }
            | EventBody::MediumServed { .. }
            | EventBody::Held { .. }
            | EventBody::HoldExpired
            | EventBody::Decided { .. }
            | EventBody::RunCompleted { .. }
            | EventBody::CancelConfirmed { .. }
            | EventBody::Superseded { .. }
            | EventBody::Sealed(_) => {}
        }
    }
    all
}

fn seal() -> Sealed {
    Sealed {
        head: Sha256::ZERO,
        result: Some(RunResult::Pass),
        overridden: false,
        envelope: serde_json::Value::Null,
    }
}

fn status(state: RunState) -> Status {
    Status {
        state,
        stage: 0,
        stages: STAGES,
        open: false,
        holds: true,
        failed_at: None,
        sealed: false,
        back: None,
        goes_on: false,
    }
}

/// Every situation that a run can be in, as far as the transition function tells them apart.
fn situations() -> Vec<(&'static str, Status)> {
    use RunState as S;
    let failed = |state, at| Status { failed_at: Some(at), ..status(state) };
    vec![
        ("Queued", status(S::Queued)),
        ("Booting", status(S::Booting)),
        ("Running 0", status(S::Running)),
        ("Running 0 open", Status { open: true, ..status(S::Running) }),
        ("Running all behind", Status { stage: STAGES, ..status(S::Running) }),
        ("Failed boot", failed(S::Failed, FailedAt::Boot)),
        ("Failed 0", failed(S::Failed, FailedAt::Stage(0))),
        ("Failed 0 no hold", Status { holds: false, ..failed(S::Failed, FailedAt::Stage(0)) }),
        ("FailedHolding boot", failed(S::FailedHolding, FailedAt::Boot)),
        ("FailedHolding 0", failed(S::FailedHolding, FailedAt::Stage(0))),
        ("Cancelling", status(S::Cancelling)),
        ("Cancelling open", Status { open: true, ..status(S::Cancelling) }),
        ("Completed", Status { stage: STAGES, ..status(S::Completed) }),
        ("Released", failed(S::Released, FailedAt::Stage(0))),
        ("Cancelled", status(S::Cancelled)),
        ("Superseded", status(S::Superseded)),
        ("Completed sealed", Status { stage: STAGES, sealed: true, ..status(S::Completed) }),
    ]
}

fn seen(now: &Status) -> String {
    let open = if now.open { " open" } else { "" };
    let failed = match now.failed_at {
        None => String::new(),
        Some(FailedAt::Boot) => " (boot)".to_owned(),
        Some(FailedAt::Stage(index)) => format!(" ({index})"),
    };
    let sealed = if now.sealed { " sealed" } else { "" };
    format!("{} {}{open}{failed}{sealed}", now.state, now.stage)
}

#[test]
fn stored_spellings_are_what_operators_script_against() {
    let spelled: Vec<_> = RunState::ALL.iter().map(|s| s.as_str()).collect();
    assert_eq!(
        spelled,
        [
            "Queued",
            "Booting",
            "Running",
            "Failed",
            "FailedHolding",
            "Completed",
            "Released",
            "Cancelling",
            "Cancelled",
            "Superseded"
        ]
    );
    for state in RunState::ALL {
        assert_eq!(state.as_str().parse::<RunState>().expect("reads back"), state);
        assert_eq!(serde_json::to_value(state).expect("plain"), state.as_str());
        assert_eq!(format!("{state:>14}").len(), 14, "it can be put into a column");
    }
    let unknown = "queued".parse::<RunState>().expect_err("another spelling");
    assert_eq!(unknown.to_string(), "`queued` is not a run state");
    let terminal: Vec<_> = RunState::ALL.into_iter().filter(|s| s.is_terminal()).collect();
    assert_eq!(
        terminal,
        [RunState::Completed, RunState::Released, RunState::Cancelled, RunState::Superseded]
    );
}

/// What each situation takes, and where that leads. Everything else is refused.
#[test]
fn the_legal_moves() {
    let mut text = String::new();
    for (name, now) in situations() {
        let _ = writeln!(text, "{name}");
        let mut records = Vec::new();
        for (event, body) in events() {
            match next(Some(&now), &body) {
                Ok(then) if then == now => records.push(event),
                Ok(then) => {
                    let _ = writeln!(text, "  {event} -> {}", seen(&then));
                }
                Err(_) => {}
            }
        }
        let _ = writeln!(
            text,
            "  = {}",
            if records.is_empty() { "nothing".to_owned() } else { records.join(", ") }
        );
    }
    insta::assert_snapshot!(text, @r"
        Queued
          Admitted -> Booting 0
          Decided cancel -> Cancelling 0
          Superseded -> Superseded 0
          = PowerRequested, PowerDone, ServicesReady, EnrolmentRefused, EvidenceReceived, ArtifactStored, BulkSealed, FindingRaised, AgentSuspect, AgentReturned, PostMortem, MemtestServed, MediumServed
        Booting
          BootFailed -> Failed 0 (boot)
          StageStarted 0 -> Running 0 open
          Decided cancel -> Cancelling 0
          Superseded -> Superseded 0
          = PowerRequested, PowerDone, ServicesReady, BootServed, Enrolled, EnrolmentRefused, EvidenceReceived, ArtifactStored, BulkSealed, FindingRaised, AgentSuspect, AgentReturned, PostMortem, MemtestServed, MediumServed
        Running 0
          BootFailed -> Failed 0 (0)
          StageStarted 0 -> Running 0 open
          Decided cancel -> Cancelling 0
          Superseded -> Superseded 0
          = PowerRequested, PowerDone, ServicesReady, BootServed, Enrolled, EnrolmentRefused, EvidenceReceived, ArtifactStored, BulkSealed, FindingRaised, AgentSuspect, AgentReturned, PostMortem, MemtestServed, MediumServed
        Running 0 open
          AttemptLost -> Running 0
          StageJudged 0 pass -> Running 1
          StageJudged 0 fail -> Failed 0 (0)
          Decided cancel -> Cancelling 0 open
          Superseded -> Superseded 0
          = PowerRequested, PowerDone, ServicesReady, BootServed, Enrolled, EnrolmentRefused, EvidenceReceived, ArtifactStored, BulkSealed, FindingRaised, AgentSuspect, AgentReturned, PostMortem, MemtestServed, MediumServed
        Running all behind
          Decided cancel -> Cancelling 2
          RunCompleted -> Completed 2
          Superseded -> Superseded 2
          = PowerRequested, PowerDone, ServicesReady, BootServed, Enrolled, EnrolmentRefused, EvidenceReceived, ArtifactStored, BulkSealed, FindingRaised, AgentSuspect, AgentReturned, PostMortem, MemtestServed, MediumServed
        Failed boot
          Held -> FailedHolding 0 (boot)
          Decided cancel -> Cancelling 0 (boot)
          Superseded -> Superseded 0 (boot)
          = PowerRequested, PowerDone, ServicesReady, BootServed, Enrolled, EnrolmentRefused, EvidenceReceived, ArtifactStored, BulkSealed, FindingRaised, AgentSuspect, AgentReturned, PostMortem, MemtestServed, MediumServed
        Failed 0
          Held -> FailedHolding 0 (0)
          Decided cancel -> Cancelling 0 (0)
          Superseded -> Superseded 0 (0)
          = PowerRequested, PowerDone, ServicesReady, BootServed, Enrolled, EnrolmentRefused, EvidenceReceived, ArtifactStored, BulkSealed, FindingRaised, AgentSuspect, AgentReturned, PostMortem, MemtestServed, MediumServed
        Failed 0 no hold
          Decided cancel -> Cancelling 0 (0)
          RunCompleted -> Completed 0 (0)
          Superseded -> Superseded 0 (0)
          = PowerRequested, PowerDone, ServicesReady, BootServed, Enrolled, EnrolmentRefused, EvidenceReceived, ArtifactStored, BulkSealed, FindingRaised, AgentSuspect, AgentReturned, PostMortem, MemtestServed, MediumServed
        FailedHolding boot
          Decided retry -> Booting 0
          Decided abandon -> Released 0 (boot)
          Decided cancel -> Cancelling 0 (boot)
          HoldExpired -> Released 0 (boot)
          Superseded -> Superseded 0 (boot)
          = PowerRequested, PowerDone, ServicesReady, BootServed, Enrolled, EnrolmentRefused, EvidenceReceived, ArtifactStored, BulkSealed, FindingRaised, AgentSuspect, AgentReturned, PostMortem, MemtestServed, MediumServed
        FailedHolding 0
          Decided retry -> Running 0
          Decided permit -> Running 0
          Decided waive -> Running 1
          Decided abandon -> Released 0 (0)
          Decided cancel -> Cancelling 0 (0)
          HoldExpired -> Released 0 (0)
          Superseded -> Superseded 0 (0)
          = PowerRequested, PowerDone, ServicesReady, BootServed, Enrolled, EnrolmentRefused, EvidenceReceived, ArtifactStored, BulkSealed, FindingRaised, AgentSuspect, AgentReturned, PostMortem, MemtestServed, MediumServed
        Cancelling
          CancelConfirmed -> Cancelled 0
          Superseded -> Superseded 0
          = PowerRequested, PowerDone, ServicesReady, EnrolmentRefused, EvidenceReceived, ArtifactStored, BulkSealed, FindingRaised, AgentSuspect, AgentReturned, PostMortem, MemtestServed, MediumServed
        Cancelling open
          CancelConfirmed -> Cancelled 0
          Superseded -> Superseded 0
          = PowerRequested, PowerDone, ServicesReady, EnrolmentRefused, EvidenceReceived, ArtifactStored, BulkSealed, FindingRaised, AgentSuspect, AgentReturned, PostMortem, MemtestServed, MediumServed
        Completed
          Sealed -> Completed 2 sealed
          = PowerRequested, PowerDone, ServicesReady, EnrolmentRefused, EvidenceReceived, ArtifactStored, BulkSealed, FindingRaised, AgentSuspect, AgentReturned, PostMortem, MemtestServed, MediumServed
        Released
          Sealed -> Released 0 (0) sealed
          = PowerRequested, PowerDone, ServicesReady, EnrolmentRefused, EvidenceReceived, ArtifactStored, BulkSealed, FindingRaised, AgentSuspect, AgentReturned, PostMortem, MemtestServed, MediumServed
        Cancelled
          Sealed -> Cancelled 0 sealed
          = PowerRequested, PowerDone, ServicesReady, EnrolmentRefused, EvidenceReceived, ArtifactStored, BulkSealed, FindingRaised, AgentSuspect, AgentReturned, PostMortem, MemtestServed, MediumServed
        Superseded
          Sealed -> Superseded 0 sealed
          = PowerRequested, PowerDone, ServicesReady, EnrolmentRefused, EvidenceReceived, ArtifactStored, BulkSealed, FindingRaised, AgentSuspect, AgentReturned, PostMortem, MemtestServed, MediumServed
        Completed sealed
          = nothing
    ");
}

/// Why everything else is refused, in words for people.
#[test]
fn the_refusals() {
    let mut reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (_, now) in situations() {
        for (event, body) in events() {
            if let Err(refused) = next(Some(&now), &body) {
                assert_eq!((refused.state, refused.event), (now.state, body.kind()));
                let who = reasons.entry(format!("{}: {}", now.state, refused.why)).or_default();
                if !who.contains(&event) {
                    who.push(event);
                }
            }
        }
    }
    let text: Vec<_> =
        reasons.into_iter().map(|(why, events)| format!("{why} | {}", events.join(", "))).collect();
    insta::assert_snapshot!(text.join("\n"), @r"
        Booting: it exists already | RunCreated
        Booting: it is not held | HoldExpired
        Booting: it is not running | StageJudged 0 pass, StageJudged 0 fail, StageJudged 1 pass, RunCompleted
        Booting: no attempt is open | AttemptLost
        Booting: nobody asked to cancel it | CancelConfirmed
        Booting: only a failed run is held | Held
        Booting: only a finished run is sealed | Sealed
        Booting: only a held run (FailedHolding) can be retried, permitted, waived or abandoned | Decided retry, Decided permit, Decided waive, Decided abandon
        Booting: only a queued run is admitted | Admitted
        Booting: that stage is not the next one | StageStarted 1, StageStarted 2
        Cancelled: the run is over | RunCreated, Admitted, BootServed, Enrolled, BootFailed, StageStarted 0, StageStarted 1, StageStarted 2, AttemptLost, StageJudged 0 pass, StageJudged 0 fail, StageJudged 1 pass, Held, Decided retry, Decided permit, Decided waive, Decided abandon, Decided cancel, HoldExpired, RunCompleted, CancelConfirmed, Superseded
        Cancelling: it exists already | RunCreated
        Cancelling: it is being cancelled | Decided retry, Decided permit, Decided waive, Decided abandon
        Cancelling: it is being cancelled already | Decided cancel
        Cancelling: it is not booting | BootFailed
        Cancelling: it is not held | HoldExpired
        Cancelling: it is not running | StageStarted 0, StageStarted 1, StageStarted 2, StageJudged 0 pass, StageJudged 0 fail, StageJudged 1 pass, RunCompleted
        Cancelling: its machine may not boot now | BootServed
        Cancelling: its machine may not enrol now | Enrolled
        Cancelling: no attempt is open | AttemptLost
        Cancelling: only a failed run is held | Held
        Cancelling: only a finished run is sealed | Sealed
        Cancelling: only a queued run is admitted | Admitted
        Completed: its verdict is sealed; later news go to the addendum | RunCreated, Admitted, PowerRequested, PowerDone, ServicesReady, BootServed, Enrolled, EnrolmentRefused, BootFailed, StageStarted 0, StageStarted 1, StageStarted 2, AttemptLost, EvidenceReceived, ArtifactStored, BulkSealed, StageJudged 0 pass, StageJudged 0 fail, StageJudged 1 pass, FindingRaised, AgentSuspect, AgentReturned, PostMortem, MemtestServed, MediumServed, Held, Decided retry, Decided permit, Decided waive, Decided abandon, Decided cancel, HoldExpired, RunCompleted, CancelConfirmed, Superseded, Sealed
        Completed: the run is over | RunCreated, Admitted, BootServed, Enrolled, BootFailed, StageStarted 0, StageStarted 1, StageStarted 2, AttemptLost, StageJudged 0 pass, StageJudged 0 fail, StageJudged 1 pass, Held, Decided retry, Decided permit, Decided waive, Decided abandon, Decided cancel, HoldExpired, RunCompleted, CancelConfirmed, Superseded
        Failed: it does not hold | Held
        Failed: it exists already | RunCreated
        Failed: it holds for an operator first | RunCompleted
        Failed: it is not booting | BootFailed
        Failed: it is not held | HoldExpired
        Failed: it is not running | StageStarted 0, StageStarted 1, StageStarted 2, StageJudged 0 pass, StageJudged 0 fail, StageJudged 1 pass
        Failed: no attempt is open | AttemptLost
        Failed: nobody asked to cancel it | CancelConfirmed
        Failed: only a finished run is sealed | Sealed
        Failed: only a held run (FailedHolding) can be retried, permitted, waived or abandoned | Decided retry, Decided permit, Decided waive, Decided abandon
        Failed: only a queued run is admitted | Admitted
        FailedHolding: a machine that never came up has nothing to permit; retry or abandon | Decided permit
        FailedHolding: a machine that never came up has nothing to waive; retry or abandon | Decided waive
        FailedHolding: it exists already | RunCreated
        FailedHolding: it is not booting | BootFailed
        FailedHolding: it is not running | StageStarted 0, StageStarted 1, StageStarted 2, StageJudged 0 pass, StageJudged 0 fail, StageJudged 1 pass, RunCompleted
        FailedHolding: no attempt is open | AttemptLost
        FailedHolding: nobody asked to cancel it | CancelConfirmed
        FailedHolding: only a failed run is held | Held
        FailedHolding: only a finished run is sealed | Sealed
        FailedHolding: only a queued run is admitted | Admitted
        Queued: it exists already | RunCreated
        Queued: it is not booting | BootFailed
        Queued: it is not held | HoldExpired
        Queued: it is not running | StageStarted 0, StageStarted 1, StageStarted 2, StageJudged 0 pass, StageJudged 0 fail, StageJudged 1 pass, RunCompleted
        Queued: its machine may not boot now | BootServed
        Queued: its machine may not enrol now | Enrolled
        Queued: no attempt is open | AttemptLost
        Queued: nobody asked to cancel it | CancelConfirmed
        Queued: only a failed run is held | Held
        Queued: only a finished run is sealed | Sealed
        Queued: only a held run (FailedHolding) can be retried, permitted, waived or abandoned | Decided retry, Decided permit, Decided waive, Decided abandon
        Released: the run is over | RunCreated, Admitted, BootServed, Enrolled, BootFailed, StageStarted 0, StageStarted 1, StageStarted 2, AttemptLost, StageJudged 0 pass, StageJudged 0 fail, StageJudged 1 pass, Held, Decided retry, Decided permit, Decided waive, Decided abandon, Decided cancel, HoldExpired, RunCompleted, CancelConfirmed, Superseded
        Running: an attempt is open | BootFailed
        Running: an attempt is open already | StageStarted 0, StageStarted 1, StageStarted 2
        Running: it exists already | RunCreated
        Running: it is not held | HoldExpired
        Running: no attempt is open | AttemptLost
        Running: no stage is left to boot for | BootFailed
        Running: nobody asked to cancel it | CancelConfirmed
        Running: only a failed run is held | Held
        Running: only a finished run is sealed | Sealed
        Running: only a held run (FailedHolding) can be retried, permitted, waived or abandoned | Decided retry, Decided permit, Decided waive, Decided abandon
        Running: only a queued run is admitted | Admitted
        Running: stages are left | RunCompleted
        Running: that stage is not open | StageJudged 0 pass, StageJudged 0 fail, StageJudged 1 pass
        Running: that stage is not the next one | StageStarted 1, StageStarted 2, StageStarted 0
        Superseded: the run is over | RunCreated, Admitted, BootServed, Enrolled, BootFailed, StageStarted 0, StageStarted 1, StageStarted 2, AttemptLost, StageJudged 0 pass, StageJudged 0 fail, StageJudged 1 pass, Held, Decided retry, Decided permit, Decided waive, Decided abandon, Decided cancel, HoldExpired, RunCompleted, CancelConfirmed, Superseded
    ");
}

#[test]
fn only_its_creation_begins_a_run() {
    for (name, body) in events() {
        let begun = next(None, &body);
        match &body {
            EventBody::RunCreated(_) => assert_eq!(begun, Ok(status(RunState::Queued))),
            _ => assert_eq!(begun.expect_err(name).why, "the first event of a run is its creation"),
        }
    }
}

#[test]
fn every_verdict_blocks_or_does_not_as_the_plan_says() {
    let open = Status { open: true, ..status(RunState::Running) };
    let cases = [
        (Verdict::Pass, true, RunState::Running),
        (Verdict::Pass, false, RunState::Running),
        (Verdict::Fail, true, RunState::Failed),
        (Verdict::Fail, false, RunState::Failed),
        (Verdict::Error, true, RunState::Failed),
        (Verdict::Error, false, RunState::Failed),
        (Verdict::Skip, true, RunState::Failed),
        (Verdict::Skip, false, RunState::Running),
        (Verdict::Unverified, true, RunState::Failed),
        (Verdict::Unverified, false, RunState::Running),
    ];
    for (verdict, required, expected) in cases {
        let judgement = Judgement { verdict, ..Judgement::error("m") };
        let event =
            EventBody::StageJudged { stage: "Inventory".into(), index: 0, attempt: 1, required, judgement };
        let then = next(Some(&open), &event).expect("legal");
        let blocked = expected == RunState::Failed;
        assert_eq!((then.state, then.open), (expected, false), "{verdict} required {required}");
        assert_eq!(then.failed_at, blocked.then_some(FailedAt::Stage(0)), "{verdict}");
        assert_eq!(then.stage, usize::from(!blocked), "{verdict}");
    }
}

proptest! {
    /// Whatever comes in whatever order: the rules below hold after every step.
    #[test]
    fn no_order_of_events_breaks_the_rules(picks in prop::collection::vec(any::<prop::sample::Index>(), 0..60)) {
        let events = events();
        let mut now = status(RunState::Queued);
        let mut sealed_at = None;
        for (step, pick) in picks.into_iter().enumerate() {
            let (_, body) = pick.get(&events);
            match next(Some(&now), body) {
                Err(refused) => prop_assert!(!refused.why.is_empty()),
                Ok(then) => {
                    prop_assert_eq!(sealed_at, None, "a sealed run takes nothing");
                    prop_assert!(!now.state.is_terminal() || then.state == now.state, "an end is an end");
                    prop_assert!(then.stage <= then.stages && then.stages == STAGES);
                    prop_assert!(!then.open || matches!(then.state, RunState::Running | RunState::Cancelling));
                    prop_assert!(!then.sealed || then.state.is_terminal());
                    let stands_failed = matches!(then.state, RunState::Failed | RunState::FailedHolding);
                    prop_assert!(!stands_failed || then.failed_at.is_some(), "it says where it failed");
                    let goes_on = matches!(then.state, RunState::Queued | RunState::Booting | RunState::Running);
                    prop_assert!(!goes_on || then.failed_at.is_none(), "a run that goes on has not failed");
                    if then.sealed {
                        sealed_at = Some(step);
                    }
                    now = then;
                }
            }
        }
    }
}
