//! The fold: a journal folded at once, event by event, or in two halves is the same run; an event
//! that may not happen changes nothing.

use proptest::prelude::*;

use super::*;
use crate::event::Target;
use crate::{Owner, TargetId};

const RUN: RunId = RunId(uuid::Uuid::from_u128(7));

fn created() -> EventBody {
    let plan = |name: &str, required| StagePlan {
        name: StageName::from(name),
        owner: Owner::Agent,
        required,
        timeout_s: 60,
    };
    EventBody::RunCreated(Box::new(RunCreated {
        number: 1,
        pipeline: crate::Pipeline::Host,
        profile: "standard".into(),
        target: Target { id: TargetId(uuid::Uuid::from_u128(1)), name: "web-3".into() },
        stages: vec![plan("Inventory", true), plan("SMART", true), plan("PSU", false)],
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
    }))
}

/// An event that often fits where the run stands; which one it is, `pick` says.
fn likely(view: &RunView, pick: u8) -> EventBody {
    let index = view.status.stage.min(view.stages.len() - 1);
    let stage = view.stages[index].plan.name.clone();
    let attempt = view.stages[index].attempts.len() as u32;
    let required = view.stages[index].plan.required;
    let judged = |verdict| EventBody::StageJudged {
        stage: stage.clone(),
        index,
        attempt,
        required,
        judgement: Judgement { verdict, ..Judgement::error("m") },
    };
    let decided = |kind| EventBody::Decided {
        decision: Decision { kind, by: "mara".into(), why: "w".into(), serials: Vec::new() },
    };
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    match pick % 24 {
        0 => EventBody::Admitted { runner: "r".into() },
        1 => EventBody::PowerRequested { job: format!("p{}", view.power.len()), action: PowerAction::Cycle },
        2 => EventBody::PowerDone { job: "p0".into(), ok: true, message: "m".into() },
        3 => EventBody::BootServed { boot: view.boots + 1, mac },
        4 => EventBody::Enrolled {
            boot: view.boots,
            mac: Some(mac),
            system_uuid: None,
            agent: "0.1.0".into(),
            clock_skew_us: 0,
            generation: view.generation + 1,
        },
        5 | 6 => {
            EventBody::StageStarted { stage, index, attempt: attempt + 1, generation: view.generation + 1 }
        }
        7 => EventBody::EvidenceReceived { stage, attempt, digest: Sha256::ZERO, problem: None, late: false },
        8 => {
            EventBody::EvidenceReceived { stage, attempt: 9, digest: Sha256::ZERO, problem: None, late: true }
        }
        9 | 10 => judged(Verdict::Pass),
        11 => judged(Verdict::Fail),
        12 => judged(Verdict::Unverified),
        13 => EventBody::AttemptLost { stage, attempt, reason: "r".into() },
        14 => EventBody::Held { until: Micros(9) },
        15 => decided(DecisionKind::Retry),
        16 => decided(DecisionKind::Waive),
        17 => decided(DecisionKind::Abandon),
        18 => decided(DecisionKind::Cancel),
        19 => EventBody::BootFailed { message: "m".into() },
        20 => EventBody::RunCompleted { result: view.aggregate() },
        21 => EventBody::CancelConfirmed { how: "h".into() },
        22 => EventBody::AgentSuspect { last_seen: Micros(1) },
        _ => EventBody::AgentReturned,
    }
}

/// A legal journal: of all that is picked, what may happen.
fn journal(picks: &[u8]) -> (RunView, Vec<Event>) {
    let mut events = vec![Event { seq: 1, at: Micros(0), body: created() }];
    let mut view = RunView::begin(RUN, &events[0]).expect("a beginning");
    for pick in picks {
        let seq = view.seq + 1;
        let event = Event { seq, at: Micros(seq * 1_000_000), body: likely(&view, *pick) };
        let before = view.clone();
        match view.apply(&event) {
            Ok(()) => events.push(event),
            Err(refused) => {
                assert_eq!(view, before, "{refused}: an illegal event changes nothing");
            }
        }
    }
    (view, events)
}

proptest! {
    #[test]
    fn folded_at_once_or_event_by_event_it_is_the_same_run(
        picks in prop::collection::vec(any::<u8>(), 0..80),
        cut in any::<prop::sample::Index>(),
    ) {
        let (view, events) = journal(&picks);
        let folded = RunView::fold(RUN, &events).expect("legal").expect("not empty");
        prop_assert_eq!(&folded, &view);

        let cut = 1 + cut.index(events.len());
        let mut half = RunView::fold(RUN, &events[..cut]).expect("legal").expect("not empty");
        for event in &events[cut..] {
            half.apply(event).expect("legal");
        }
        prop_assert_eq!(&half, &view, "a cached half is carried on");

        let text = serde_json::to_string(&view).expect("plain data");
        let back: RunView = serde_json::from_str(&text).expect("reads back");
        prop_assert_eq!(back, view);
    }

    #[test]
    fn a_pass_has_its_reasons(picks in prop::collection::vec(any::<u8>(), 0..120)) {
        let (view, _) = journal(&picks);
        if view.result == Some(RunResult::Pass) {
            for stage in &view.stages {
                let fits = match stage.verdict() {
                    Some(Verdict::Pass) => true,
                    Some(Verdict::Skip | Verdict::Unverified) => !stage.plan.required || stage.waived,
                    // A stage may be waived before it was ever judged: its machine did not come back.
                    _ => stage.waived,
                };
                prop_assert!(fits, "{stage:?}");
            }
            let waived = view.stages.iter().any(|s| s.waived);
            prop_assert!(!waived || view.overridden, "a waiver is told for ever");
        }
        let decided = view.decisions.iter().any(|d| d.decision.kind == DecisionKind::Waive);
        prop_assert_eq!(view.overridden, decided);
        prop_assert_eq!(view.open_attempt().is_some(), view.status.open);
        let open = view.stages.iter().flat_map(|s| &s.attempts).filter(|a| a.outcome == AttemptOutcome::Open);
        prop_assert!(open.count() <= 1, "one attempt at a time");
        let mut tokens: Vec<i64> = view.stages.iter().flat_map(|s| &s.attempts).map(|a| a.generation).collect();
        tokens.sort_unstable();
        prop_assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]), "no fencing token is handed out twice");
    }
}

#[test]
fn the_random_journals_reach_every_end() {
    // A property over runs that never get anywhere would hold of nothing.
    let walk = |picks: &[u8]| journal(picks).0;
    let pass = [0, 3, 4, 5, 9, 5, 9, 5, 9, 20];
    assert_eq!(walk(&pass).result, Some(RunResult::Pass));
    let waived = [0, 3, 4, 5, 11, 14, 16, 5, 9, 5, 12, 20];
    let view = walk(&waived);
    assert_eq!(
        (view.result, view.overridden, view.state()),
        (Some(RunResult::Pass), true, RunState::Completed)
    );
    assert_eq!(walk(&[0, 3, 4, 5, 11, 14, 17]).state(), RunState::Released);
    assert_eq!(walk(&[0, 18, 21]).state(), RunState::Cancelled);
    assert_eq!(walk(&[0, 19, 14]).failed_stage(), Some(BOOT));
}

#[test]
fn an_empty_journal_is_no_run() {
    assert_eq!(RunView::fold(RUN, []).expect("legal"), None);
    let not_a_beginning = Event { seq: 1, at: Micros(0), body: EventBody::HoldExpired };
    assert!(RunView::fold(RUN, [&not_a_beginning]).is_err());
}
