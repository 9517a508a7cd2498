use proptest::prelude::*;

use super::*;

use Stand::{Cancelled, Failed, Held, LeftOut, NoVerdict, Passed, UnderWay, Waits};

fn next(at_most: Option<u32>, stop_after: Option<u32>, stands: &[Stand]) -> Step {
    let items: Vec<(Stand, bool)> = stands.iter().map(|stand| (*stand, false)).collect();
    step(&BatchState::Running, Limits { at_most, stop_after }, &items)
}

/// How many at once, after how many failures it stops, where its targets stand; what it does next.
type Case<'a> = (Option<u32>, Option<u32>, &'a [Stand], Step);

fn stopped() -> BatchState {
    BatchState::Stopped { by: "mara".to_owned(), why: String::new() }
}

#[test]
fn it_begins_as_many_as_there_is_room_for_in_their_order_and_stops_where_too_many_fail() {
    let begin = |places: &[usize]| Step::Begin(places.to_vec());
    let cases: [Case<'_>; 15] = [
        (Some(2), Some(2), &[Waits, Waits, Waits], begin(&[0, 1])),
        (Some(2), Some(2), &[UnderWay, Waits, Waits], begin(&[1])),
        (Some(2), Some(2), &[UnderWay, UnderWay, Waits], Step::Rest),
        (Some(2), Some(2), &[Passed, UnderWay, LeftOut, Waits], begin(&[3])),
        (None, None, &[Waits, Waits, Waits], begin(&[0, 1, 2])),
        // A machine that is held is not back.
        (Some(1), Some(2), &[Held, Waits], Step::Rest),
        (Some(2), Some(2), &[Held, Waits, Waits], begin(&[1])),
        // Two failures of whatever kind, while something is left to be begun.
        (Some(5), Some(2), &[Held, Failed, UnderWay, Waits], Step::Stop { failed: vec![0, 1] }),
        (Some(5), Some(2), &[NoVerdict, Cancelled, Held, Waits], Step::Stop { failed: vec![0, 2] }),
        (Some(5), None, &[Failed, Failed, Failed, Waits], begin(&[3])),
        (Some(5), Some(2), &[Failed, Failed, UnderWay], Step::Rest),
        // The end: nothing waits, nothing is out.
        (Some(5), Some(2), &[Failed, Failed, Passed], Step::End),
        (Some(5), Some(2), &[Passed, LeftOut, Cancelled], Step::End),
        (Some(5), Some(2), &[Passed, Held], Step::Rest),
        (Some(5), Some(2), &[LeftOut], Step::End),
    ];
    for (at_most, stop_after, stands, expected) in cases {
        assert_eq!(next(at_most, stop_after, stands), expected, "{at_most:?} {stop_after:?} {stands:?}");
    }
}

#[test]
fn a_stopped_batch_begins_nothing_and_an_operator_who_goes_on_forgives_what_has_failed() {
    let limits = Limits { at_most: Some(3), stop_after: Some(2) };
    let of = |state: &BatchState, items: &[(Stand, bool)]| step(state, limits, items);
    let failed = [(Failed, false), (Failed, false), (Waits, false), (Waits, false)];
    assert_eq!(of(&stopped(), &failed), Step::Rest);
    let forgiven = [(Failed, true), (Failed, true), (Waits, false), (Waits, false)];
    assert_eq!(of(&BatchState::Running, &forgiven), Step::Begin(vec![2, 3]));
    let again = [(Failed, true), (Failed, true), (Failed, false), (Waits, false)];
    assert_eq!(of(&BatchState::Running, &again), Step::Begin(vec![3]), "one more is not two");
    let twice = [(Failed, true), (Failed, true), (Failed, false), (Held, false), (Waits, false)];
    assert_eq!(of(&BatchState::Running, &twice), Step::Stop { failed: vec![2, 3] });
    // Where nothing is left of it, it has ended, stopped or not.
    assert_eq!(of(&stopped(), &[(Failed, false), (Passed, false)]), Step::End);
    assert_eq!(of(&stopped(), &[(UnderWay, false), (Passed, false)]), Step::Rest);
    assert_eq!(of(&BatchState::Ended, &failed), Step::Rest);
}

#[test]
fn progress_is_told_in_one_line() {
    let told = |stands: &[Stand]| Progress::of(stands.iter().copied()).told();
    assert_eq!(told(&[Waits, Waits]), "0 of 2");
    let stands = [Passed, Passed, UnderWay, Held, Failed, NoVerdict, Cancelled, LeftOut, Waits];
    assert_eq!(
        told(&stands),
        "5 of 8, 1 under way, 1 held, 1 failed, 1 without a verdict, 1 cancelled, 1 left out"
    );
}

proptest! {
    /// A batch that is worked off by whoever does what it says, with verdicts at random: never more out than it may have, nothing
    /// begun that had begun, nothing begun once so many have failed, and it comes to its end.
    #[test]
    fn it_keeps_its_limits_and_comes_to_its_end(
        count in 1_usize..30,
        at_most in prop::option::of(1_u32..6),
        stop_after in prop::option::of(1_u32..5),
        verdicts in prop::collection::vec(prop::sample::select(vec![Passed, Failed, Held, NoVerdict, Cancelled, LeftOut]), 200),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 200),
    ) {
        let limits = Limits { at_most, stop_after };
        let mut state = BatchState::Running;
        let mut items = vec![(Waits, false); count];
        let mut begun = vec![0_u32; count];
        let (mut verdicts, mut picks) = (verdicts.into_iter().cycle(), picks.into_iter().cycle());
        let mut ended = false;
        for _ in 0..1000 {
            match step(&state, limits, &items) {
                Step::Begin(places) => {
                    for place in places {
                        prop_assert_eq!(items[place].0, Waits);
                        begun[place] += 1;
                        items[place].0 = UnderWay;
                    }
                    let out = items.iter().filter(|(stand, _)| stand.is_out()).count();
                    prop_assert!(at_most.is_none_or(|most| out <= most as usize), "{} out", out);
                }
                Step::Stop { failed } => {
                    prop_assert!(failed.len() >= stop_after.expect("a limit") as usize);
                    // An operator looks, and goes on.
                    state = stopped();
                    prop_assert!(!matches!(step(&state, limits, &items), Step::Begin(_)));
                    for item in items.iter_mut().filter(|(stand, _)| stand.is_failure()) {
                        item.1 = true;
                    }
                    state = BatchState::Running;
                }
                Step::End => {
                    ended = true;
                    break;
                }
                Step::Rest => {
                    let out: Vec<usize> = (0..count).filter(|place| items[*place].0.is_out()).collect();
                    prop_assert!(!out.is_empty(), "it rests for something: {:?}", items);
                    let place = out[picks.next().expect("endless").index(out.len())];
                    items[place].0 = match (items[place].0, verdicts.next().expect("endless")) {
                        // Somebody decides about the held one.
                        (Held, _) => Failed,
                        (_, verdict) => verdict,
                    };
                }
            }
        }
        prop_assert!(ended, "{:?}", items);
        prop_assert!(begun.iter().all(|n| *n == 1), "each once: {:?}", begun);
    }
}
