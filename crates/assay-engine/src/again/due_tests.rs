use assay_model::schedule::SPREAD_S;
use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn timing(cron: &str, catch_up_s: u32, spread_s: u32) -> Timing {
    Timing { cron: cron.to_owned(), zone: "UTC".to_owned(), catch_up_s, spread_s }
}

/// What is to be done at `now`, of a schedule at three in the morning that is done through `done`; seconds from midnight.
fn night(catch_up_s: u32, done: i64, now: i64) -> Due {
    let timing = timing("0 3 * * *", catch_up_s, 0);
    let times = Times::of(&timing).expect("reads");
    due("nightly", &timing, &times, Micros::seconds(done), Micros::seconds(now))
}

#[test]
fn one_time_is_dealt_with_however_many_were_missed_and_none_that_is_too_old() {
    let catch_up = 12 * 3600;
    let tick = |due: i64, late: i64, missed: u32| Tick {
        due: Micros::seconds(due),
        late: Micros::seconds(late),
        missed,
    };
    let wait = |until: i64| Due::Wait { until: Some(Micros::seconds(until)) };
    let three = 3 * HOUR;
    let cases = [
        // Before its time, at its time, and after it was dealt with.
        (0, three - 1, wait(three)),
        (0, three, Due::Now(tick(three, 0, 0))),
        (0, three + 1, Due::Now(tick(three, 1, 0))),
        (three, three, wait(DAY + three)),
        (three, three + 1, wait(DAY + three)),
        // A restart over its time; the same within its window, at its edge and after it.
        (0, three + 90, Due::Now(tick(three, 90, 0))),
        (0, 15 * HOUR, Due::Now(tick(three, 12 * HOUR, 0))),
        (0, 15 * HOUR + 1, Due::TooLate(tick(three, 12 * HOUR + 1, 0))),
        // Days without anybody: once, not once a day.
        (0, 5 * DAY + three + 60, Due::Now(tick(5 * DAY + three, 60, 5))),
        (0, 5 * DAY + 20 * HOUR, Due::TooLate(tick(5 * DAY + three, 17 * HOUR, 5))),
        // A clock that was set back: what is done stays done.
        (9 * DAY + three, DAY, wait(10 * DAY + three)),
    ];
    for (done, now, expected) in cases {
        assert_eq!(night(catch_up, done, now), expected, "done through {done}, at {now}");
    }
    assert!(!tick(0, 90, 0).is_caught_up() && tick(0, 300, 0).is_caught_up() && tick(0, 0, 1).is_caught_up());
    // Without catching up, what a restart takes is still in time.
    assert!(matches!(night(0, 0, three + 100), Due::Now(_)));
    assert!(matches!(night(0, 0, three + 200), Due::TooLate(_)));
}

#[test]
fn it_waits_for_its_place_and_counts_no_further_than_it_can_tell() {
    let timing = timing("0 3 * * *", 12 * 3600, SPREAD_S);
    let times = Times::of(&timing).expect("reads");
    let three = Micros::seconds(3 * HOUR);
    let begins = three.plus(times.offset("nightly", three));
    let at = |now| due("nightly", &timing, &times, Micros::default(), now);
    assert_eq!(at(Micros::default()), Due::Wait { until: Some(begins) });
    assert_eq!(at(three), Due::Wait { until: Some(begins) });
    assert_eq!(at(begins), Due::Now(Tick { due: three, late: Micros::default(), missed: 0 }));

    let minute = Timing { cron: "* * * * *".to_owned(), spread_s: 0, ..timing.clone() };
    let times = Times::of(&minute).expect("reads");
    let Due::Now(tick) = due("m", &minute, &times, Micros::default(), Micros::seconds(30 * DAY)) else {
        panic!("it is due")
    };
    assert_eq!(tick.missed, MOST_MISSED);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whoever looks at whatever moments, and is away as long as they like: a time is never taken twice nor out of order, the next is
    /// never put off for ever, and after each look at most one was taken.
    #[test]
    fn times_are_taken_once_and_in_order(
        cron in prop::sample::select(vec!["* * * * *", "*/7 * * * *", "15 2 * * *", "30 2 * * 0", "0 0 1 * *"]),
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
        spread in 0_u32..600,
        catch_up in 0_u32..100_000,
        start in 1_760_000_000_i64..1_800_000_000,
        looks in prop::collection::vec(prop_oneof![1_i64..120, 60_i64..8000, 10_000_i64..400_000], 1..60),
    ) {
        let timing = Timing { cron: cron.to_owned(), zone: zone.to_owned(), catch_up_s: catch_up, spread_s: spread };
        let times = Times::of(&timing).expect("reads");
        let (mut now, mut done) = (Micros::seconds(start), Micros::seconds(start));
        for look in looks {
            now = now.plus(Micros::seconds(look));
            match due("x", &timing, &times, done, now) {
                Due::Now(tick) | Due::TooLate(tick) => {
                    prop_assert!(tick.due > done && tick.due <= now);
                    prop_assert_eq!(times.latest(now), Some(tick.due), "the latest one");
                    prop_assert_eq!(times.between(done, tick.due, MOST_MISSED), tick.missed);
                    done = tick.due;
                    let again = due("x", &timing, &times, done, now);
                    prop_assert!(matches!(again, Due::Wait { .. }), "taken once: {:?}", again);
                }
                Due::Wait { until } => {
                    let until = until.expect("it comes");
                    prop_assert!(until > now, "it waits for something to come");
                    let then = due("x", &timing, &times, done, until);
                    prop_assert!(matches!(then, Due::Now(_)), "what it waits for comes: {:?}", then);
                }
            }
        }
    }

    /// The search forwards and the search backwards see the same times.
    #[test]
    fn forwards_and_backwards_agree(
        cron in prop::sample::select(vec!["*/20 * * * *", "30 2 * * *", "0 0,12 * * 1-5", "45 1 1-7 * *"]),
        zone in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
        start in 1_760_000_000_i64..1_800_000_000,
    ) {
        let timing = Timing { cron: cron.to_owned(), zone: zone.to_owned(), catch_up_s: 0, spread_s: 0 };
        let times = Times::of(&timing).expect("reads");
        let mut at = Micros::seconds(start);
        for _ in 0..20 {
            let next = times.after(at).expect("it comes");
            prop_assert!(next > at);
            prop_assert_eq!(times.latest(next), Some(next));
            prop_assert!(times.latest(Micros(next.0 - 1)).is_none_or(|latest| latest <= at));
            at = next;
        }
    }
}
