use assay_model::schedule::{CATCH_UP_S, SPREAD_S};

use super::*;

fn timing(cron: &str, zone: &str) -> Timing {
    Timing { cron: cron.to_owned(), zone: zone.to_owned(), catch_up_s: CATCH_UP_S, spread_s: SPREAD_S }
}

fn times(cron: &str, zone: &str) -> Times {
    Times::of(&timing(cron, zone)).expect("reads")
}

fn at(text: &str) -> Micros {
    Micros(DateTime::parse_from_rfc3339(text).expect("a time").timestamp_micros())
}

/// The times after one, as UTC and as the zone shows them.
fn following(cron: &str, zone: &str, from: &str, count: usize) -> String {
    let times = times(cron, zone);
    let mut out = Vec::new();
    let mut from = at(from);
    for _ in 0..count {
        from = times.after(from).expect("comes");
        out.push(format!("{} {}", &from.rfc3339()[..16], times.shown(from)));
        assert_eq!(times.latest(from), Some(from), "it is its own latest");
    }
    out.join("\n")
}

#[test]
fn a_time_that_does_not_exist_comes_right_after_the_gap_and_one_that_exists_twice_comes_once() {
    insta::assert_snapshot!(following("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3), @"
    2026-03-28T01:30 Sat 28 Mar 02:30:00 CET
    2026-03-29T01:00 Sun 29 Mar 03:00:00 CEST
    2026-03-30T00:30 Mon 30 Mar 02:30:00 CEST
    ");
    insta::assert_snapshot!(following("30 2 * * *", "Europe/Berlin", "2026-10-24T00:00:00Z", 3), @"
    2026-10-24T00:30 Sat 24 Oct 02:30:00 CEST
    2026-10-25T00:30 Sun 25 Oct 02:30:00 CEST
    2026-10-26T01:30 Mon 26 Oct 02:30:00 CET
    ");
    // The hour before and the one after are as on every day.
    insta::assert_snapshot!(following("30 1,3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 3), @"
    2026-03-29T00:30 Sun 29 Mar 01:30:00 CET
    2026-03-29T01:30 Sun 29 Mar 03:30:00 CEST
    2026-03-29T23:30 Mon 30 Mar 01:30:00 CEST
    ");
    // Half an hour is repeated there.
    insta::assert_snapshot!(following("45 1 * * *", "Australia/Lord_Howe", "2026-04-03T00:00:00Z", 3), @"
    2026-04-03T14:45 Sat 4 Apr 01:45:00 +11
    2026-04-04T14:45 Sun 5 Apr 01:45:00 +11
    2026-04-05T15:15 Mon 6 Apr 01:45:00 +1030
    ");
}

#[test]
fn what_comes_every_so_often_keeps_its_distance_through_both() {
    let distances = |from: &str| {
        let times = times("*/20 * * * *", "America/New_York");
        let (mut at, mut seen) = (at(from), std::collections::BTreeSet::new());
        for _ in 0..30 {
            let next = times.after(at).expect("comes");
            seen.insert(next.since(at).0 / 60_000_000);
            at = next;
        }
        seen
    };
    assert_eq!(
        distances("2026-03-08T05:00:00Z"),
        [20].into(),
        "an hour is left out, and no time on the time line"
    );
    assert_eq!(
        distances("2026-11-01T04:00:00Z"),
        [20].into(),
        "an hour is there twice, and so are its times"
    );
}

#[test]
fn months_and_weekdays() {
    insta::assert_snapshot!(following("0 0 31 * *", "UTC", "2026-01-01T00:00:00Z", 3), @"
    2026-01-31T00:00 Sat 31 Jan 00:00:00 UTC
    2026-03-31T00:00 Tue 31 Mar 00:00:00 UTC
    2026-05-31T00:00 Sun 31 May 00:00:00 UTC
    ");
    insta::assert_snapshot!(following("0 12 29 2 *", "UTC", "2026-01-01T00:00:00Z", 2), @"
    2028-02-29T12:00 Tue 29 Feb 12:00:00 UTC
    2032-02-29T12:00 Sun 29 Feb 12:00:00 UTC
    ");
    // As cron has it: where both the day of the month and of the week are said, either will do.
    insta::assert_snapshot!(following("0 6 1 * mon", "UTC", "2026-08-25T00:00:00Z", 3), @"
    2026-08-31T06:00 Mon 31 Aug 06:00:00 UTC
    2026-09-01T06:00 Tue 1 Sep 06:00:00 UTC
    2026-09-07T06:00 Mon 7 Sep 06:00:00 UTC
    ");
}

#[test]
fn what_does_not_read_is_told_with_what_would() {
    let bad = |cron: &str, zone: &str| Times::of(&timing(cron, zone)).expect_err("does not read").to_string();
    for cron in
        ["", "0 3 * *", "0 0 3 * * *", "0 0 3 * * * 2030", "61 * * * *", "a b c d e", "* * * * * ; rm -rf /"]
    {
        assert!(bad(cron, "UTC").contains("write five fields"), "{cron}: {}", bad(cron, "UTC"));
    }
    assert!(bad(&"*".repeat(101), "UTC").contains("longer than 100"));
    assert!(bad("\u{1b}[2J", "UTC").contains('\u{fffd}'), "made harmless");
    assert!(bad("0 3 * * *", "Europe/Berln").contains("did you mean `Europe/Berlin`?"));
    assert!(bad("0 3 * * *", "").contains("there is no time zone"));
    let long = Timing { catch_up_s: 8 * 86_400, ..timing("0 3 * * *", "UTC") };
    assert!(Times::of(&long).expect_err("too long").to_string().contains("at most a week"));
    let never = times("0 3 30 2 *", "UTC").comes_after(Micros::seconds(0)).expect_err("never");
    assert_eq!(never.to_string(), "`0 3 30 2 *` never comes");
}

#[test]
fn fifty_schedules_of_one_time_do_not_begin_in_one_second() {
    let night = times("0 3 * * *", "UTC");
    let due = at("2026-11-22T03:00:00Z");
    let mut seconds: std::collections::BTreeMap<i64, u32> = std::collections::BTreeMap::new();
    for n in 0..50 {
        let offset = night.offset(&format!("nightly-{n}"), due);
        assert!(offset >= Micros::default() && offset <= Micros::seconds(i64::from(SPREAD_S)), "{offset:?}");
        assert_eq!(offset, night.offset(&format!("nightly-{n}"), due), "the same every night");
        *seconds.entry(offset.0).or_default() += 1;
    }
    assert!(seconds.len() >= 40 && seconds.values().all(|n| *n <= 3), "{seconds:?}");
    // What comes every minute has little room, and what is not spread has none.
    let minute = times("* * * * *", "UTC");
    assert!((0..50).all(|n| minute.offset(&format!("m{n}"), due) <= Micros::seconds(6)));
    let exact = Times::of(&Timing { spread_s: 0, ..timing("0 3 * * *", "UTC") }).expect("reads");
    assert!((0..50).all(|n| exact.offset(&format!("m{n}"), due) == Micros::default()));
}

#[test]
fn the_next_times_are_those_at_which_it_begins() {
    let night = times("0 3 * * *", "UTC");
    let (name, due) = ("nightly", at("2026-11-22T03:00:00Z"));
    let offset = night.offset(name, due);
    assert!(offset > Micros::seconds(1), "{offset:?}");
    let day = |n: i64| due.plus(Micros::seconds(n * 86_400)).plus(offset);
    let before = due.plus(Micros::seconds(-10));
    assert_eq!(night.next(name, before, before, 2), [day(0), day(1)]);
    // Its time has come, and its place among the others has not.
    let between = due.plus(Micros::seconds(1));
    assert_eq!(night.next(name, before, between, 2), [day(0), day(1)]);
    // It was written in between: then it begins tomorrow.
    assert_eq!(night.next(name, between, between, 2), [day(1), day(2)]);
    assert_eq!(night.next(name, due, due.plus(offset), 2), [day(1), day(2)]);
    assert_eq!(night.between(before, day(3), 999), 4);
    assert_eq!(night.between(before, day(3), 2), 2, "counted no further");
}
