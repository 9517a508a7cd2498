use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::compat::{MAX_AGE_DAYS, Outcome, days};
use crate::{RunId, Sha256, TargetId};

const NOW: Micros = Micros::seconds(1_000 * 86_400);

/// A trial that ended so many days ago.
fn trial(number: i64, verdict: TrialVerdict, days_ago: u32) -> Trial {
    Trial {
        run: RunId(Uuid::from_u128(number as u128)),
        number,
        host: TargetId(Uuid::from_u128(1)),
        host_name: "web-3".to_owned(),
        machine: Sha256::of(b"machine"),
        digest: Sha256::of(b"image"),
        volume: None,
        outcome: Outcome {
            image: "my".to_owned(),
            verdict,
            at: NOW.since(days(days_ago)),
            codes: Vec::new(),
            unverified: 0,
        },
    }
}

use CellState as S;
use TrialVerdict::{Fail, Pass, Unverified};

#[test]
fn trials_add_up() {
    type Told = &'static [(TrialVerdict, u32)];
    let cases: [(Told, S, Option<i64>, bool); 11] = [
        (&[], S::Unknown, None, false),
        (&[(Pass, 1)], S::Works, Some(0), false),
        (&[(Fail, 1)], S::Fails, Some(0), false),
        (&[(Unverified, 1)], S::Unverified, Some(0), false),
        (&[(Pass, 9), (Pass, 2)], S::Works, Some(1), false),
        (&[(Fail, 9), (Pass, 2)], S::Mixed, Some(1), false),
        (&[(Pass, 9), (Fail, 2)], S::Mixed, Some(1), false),
        // What came to no verdict takes nothing away, and makes nothing younger.
        (&[(Pass, 95), (Unverified, 1)], S::Works, Some(0), true),
        (&[(Fail, 3), (Unverified, 1)], S::Fails, Some(0), false),
        (&[(Pass, 90)], S::Works, Some(0), false),
        (&[(Fail, 91), (Unverified, 200)], S::Fails, Some(0), true),
    ];
    for (told, state, newest, stale) in cases {
        let trials: Vec<_> = (0..).zip(told).map(|(n, (verdict, ago))| trial(n, *verdict, *ago)).collect();
        let cell = cell(&trials, NOW, days(MAX_AGE_DAYS));
        assert_eq!(
            (cell.state, cell.newest().map(|t| t.number), cell.stale),
            (state, newest, stale),
            "{told:?}"
        );
        assert_eq!(cell.holds(), state == S::Works && !stale);
    }
}

#[test]
fn evidence_of_the_future_is_not_stale() {
    let trials = [trial(1, Pass, 0)];
    assert!(cell(&trials, Micros(0), days(1)).holds());
}

#[test]
fn states_have_stable_spellings() {
    for state in [S::Works, S::Fails, S::Mixed, S::Unverified, S::Unknown] {
        assert_eq!(serde_json::to_value(state).expect("plain"), state.as_str());
    }
}

fn some_trials() -> impl Strategy<Value = Vec<Trial>> {
    let verdict = prop_oneof![Just(Pass), Just(Fail), Just(Unverified)];
    proptest::collection::vec((verdict, 0_u32..200), 0..12)
        .prop_map(|told| (0..).zip(told).map(|(n, (verdict, ago))| trial(n, verdict, ago)).collect())
}

proptest! {
    #[test]
    fn the_order_in_which_trials_are_read_changes_nothing(
        (trials, shuffled) in some_trials().prop_flat_map(|t| (Just(t.clone()), Just(t).prop_shuffle())),
        max in 1_u32..200,
    ) {
        let (a, b) = (cell(&trials, NOW, days(max)), cell(&shuffled, NOW, days(max)));
        prop_assert_eq!(&a, &b);
        prop_assert!(a.evidence.is_sorted_by_key(|t| std::cmp::Reverse(t.outcome.at)), "newest first");
    }

    #[test]
    fn unknown_is_no_evidence_and_nothing_else(trials in some_trials()) {
        let cell = cell(&trials, NOW, days(MAX_AGE_DAYS));
        prop_assert_eq!(cell.state == S::Unknown, trials.is_empty());
        prop_assert_eq!(cell.at.is_none(), trials.is_empty());
        prop_assert_eq!(cell.evidence.len(), trials.len());
    }

    #[test]
    fn time_alone_makes_a_cell_stale_and_nothing_else(trials in some_trials(), later in 0_u32..400) {
        let now = cell(&trials, NOW, days(MAX_AGE_DAYS));
        let then = cell(&trials, NOW.plus(days(later)), days(MAX_AGE_DAYS));
        prop_assert_eq!((now.state, now.at, &now.evidence), (then.state, then.at, &then.evidence));
        prop_assert!(!now.stale || then.stale, "it never grows younger");
    }

    #[test]
    fn one_failure_is_never_outvoted(trials in some_trials()) {
        let cell = cell(&trials, NOW, days(MAX_AGE_DAYS));
        let failed = trials.iter().any(|t| t.outcome.verdict == Fail);
        prop_assert!(!(failed && cell.holds()));
        let passed = trials.iter().any(|t| t.outcome.verdict == Pass);
        prop_assert!(passed || !cell.holds(), "and nothing works that was not seen to work");
    }
}
