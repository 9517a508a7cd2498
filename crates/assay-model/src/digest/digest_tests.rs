//! Weeks that were made up, and what is told of them.

use super::*;
use crate::{RunResult, TargetId};

fn week() -> Week {
    "2026-W47".parse().expect("a week")
}

/// An instant so many hours into the week.
fn hour(hours: i64) -> Micros {
    week().start().plus(Micros::seconds(hours * 3600))
}

fn key(pipeline: Pipeline, target: &str) -> TargetKey {
    (pipeline, TargetId::named(pipeline, target))
}

/// A run of a recipe that ended so many hours into the week, after so many seconds.
fn ended(run: i64, target: &str, hours: i64, result: Option<RunResult>, seconds: i64) -> Ended {
    Ended {
        key: key(Pipeline::Recipe, target),
        target: target.to_owned(),
        run,
        profile: "standard".to_owned(),
        result,
        broken_off: false,
        whole: true,
        of_pull_request: false,
        started_at: Some(hour(hours).plus(Micros::seconds(-seconds))),
        ended_at: hour(hours),
    }
}

fn stands(target: &str, run: i64, hours: i64, red_since: Option<(i64, i64)>) -> Standing {
    Standing {
        key: key(Pipeline::Recipe, target),
        target: target.to_owned(),
        run,
        ended_at: hour(hours),
        failure: red_since.map(|(since_run, since)| Failure {
            stage: Some("Install".to_owned()),
            code: Some("CrashLoop".to_owned()),
            since_run,
            since: hour(since),
        }),
    }
}

const PASS: Option<RunResult> = Some(RunResult::Pass);
const FAIL: Option<RunResult> = Some(RunResult::Fail);

fn nothing(to: Micros) -> Input {
    Input {
        week: week(),
        to,
        ended: Vec::new(),
        before: Vec::new(),
        after: Vec::new(),
        drifted: Vec::new(),
        flaky: Vec::new(),
        waiting: Vec::new(),
    }
}

fn full() -> Input {
    Input {
        ended: vec![
            ended(1, "slow", -100, PASS, 60),
            ended(2, "slow", -50, PASS, 62),
            ended(3, "wiki", -10, FAIL, 10),
            ended(10, "wiki", 5, FAIL, 10),
            ended(11, "wiki", 20, PASS, 40),
            ended(12, "wiki", 40, PASS, 40),
            ended(13, "blog", 50, FAIL, 10),
            ended(14, "blog", 60, FAIL, 10),
            ended(15, "slow", 70, PASS, 95),
            Ended { whole: false, ..ended(16, "quick", 71, PASS, 5) },
            Ended { broken_off: true, started_at: None, ..ended(17, "blog", 72, None, 0) },
            ended(18, "dull", 73, None, 10),
            Ended { key: key(Pipeline::Image, "my"), ..ended(19, "my", 74, PASS, 600) },
        ],
        before: vec![stands("wiki", 3, -10, Some((3, -10))), stands("old", 4, -90, Some((2, -500)))],
        after: vec![
            stands("blog", 14, 60, Some((13, 50))),
            stands("old", 4, -90, Some((2, -500))),
            stands("slow", 15, 70, None),
            stands("wiki", 12, 40, None),
        ],
        drifted: vec![Drift {
            recipe: "wiki".to_owned(),
            reference: "nginx:1.27".to_owned(),
            was: "111111111111".to_owned(),
            is: "abababababab".to_owned(),
            run: 10,
            red: true,
        }],
        flaky: vec![Flaky {
            recipe: "wiki".to_owned(),
            what: "functional/a.sh".to_owned(),
            commit: "a".repeat(40),
            failed: 1,
            passed: 2,
            run: 10,
            codes: vec!["TestFailed".to_owned()],
        }],
        waiting: vec![
            Waits::Held {
                pipeline: Pipeline::Host,
                target: "node7".to_owned(),
                run: 20,
                stage: Some("SMART".to_owned()),
                until: Some(instant(hour(200))),
            },
            Waits::Queue {
                draining: false,
                by: "ada".to_owned(),
                why: "a switch is replaced".to_owned(),
                since: instant(hour(100)),
            },
        ],
        ..nothing(week().end())
    }
}

#[test]
fn a_week_in_markdown() {
    insta::assert_snapshot!(Digest::of(full()).markdown(), @"
    # Week 2026-W47, 16 to 22 November 2026

    10 runs: 4 passed, 1 passed in part, 3 failed, 1 without a verdict, 1 broken off. 1 went red, 1 still red from before, 1 green again. 2 things wait for an operator.

    | | targets | passed | in part | failed | no verdict | broken off |
    |---|---:|---:|---:|---:|---:|---:|
    | image | 1 | 1 | 0 | 0 | 0 | 0 |
    | recipe | 5 | 3 | 1 | 3 | 1 | 1 |

    ## Waits for an operator

    - `node7` (host): run 20 is held after it failed at `SMART`, until 2026-11-24
    - The queue is paused since 2026-11-20, by `ada`: `a switch is replaced`

    ## Went red and is still red

    - `blog` (recipe): `CrashLoop` at `Install`, run 14, red since 2026-11-18 (run 13)

    ## Was red before, and still is

    - `old` (recipe): `CrashLoop` at `Install`, run 4, red since 2026-10-26 (run 2)

    ## Green again

    - `wiki` (recipe): run 11 on 2026-11-16, after run 10 was red

    ## Drifted: tags that were moved upstream

    - `nginx:1.27` in `wiki`: `abababababab`, was `111111111111`; first seen by run 10, which failed

    ## Flaky: passed and failed under the same circumstances

    - `wiki`: `functional/a.sh` failed in 1 of 3 runs of `aaaaaaaaaaaa`, last in run 10 (`TestFailed`)

    ## Slower than in the four weeks before

    - `slow` (recipe, `standard`): 1 m 35 s, was 1 m 00 s (1.6 times as long), 1 run, last run 15
    ");
}

#[test]
fn a_week_without_anything_says_so_everywhere() {
    let digest = Digest::of(nothing(hour(60)));
    assert!(digest.unfinished && digest.is_empty());
    insta::assert_snapshot!(digest.markdown(), @"
    # Week 2026-W47, 16 to 22 November 2026

    The week is not over: this is how it stood on 2026-11-18 at 12:00 UTC.

    No run ended.

    ## Waits for an operator

    Nothing waits for anybody.

    ## Went red and is still red

    Nothing went red.

    ## Was red before, and still is

    Nothing has been red for longer.

    ## Green again

    Nothing had to become green.

    ## Drifted: tags that were moved upstream

    No tag was seen to be moved.

    ## Flaky: passed and failed under the same circumstances

    Nothing was flaky.

    ## Slower than in the four weeks before

    Nothing became slower.
    ");
}

#[test]
fn a_finished_week_is_the_same_whenever_it_is_asked_for() {
    let later = Input { to: hour(5000), ..full() };
    assert_eq!(Digest::of(later), Digest::of(full()));
    assert!(!Digest::of(full()).unfinished);
    // What ended after the moment that is looked at is left for a later look.
    let early = Digest::of(Input { to: hour(6), after: Vec::new(), ..full() });
    assert_eq!((early.proven.len(), early.proven[0].failed, early.unfinished), (1, 1, true));
}

#[test]
fn only_a_whole_pass_makes_green_and_a_pull_request_says_nothing() {
    let told = |ended: Vec<Ended>| {
        let after = vec![stands("wiki", 12, 40, None)];
        Digest::of(Input { ended, after, ..nothing(week().end()) }).became_green
    };
    let [red, green] = [ended(10, "wiki", 5, FAIL, 1), ended(12, "wiki", 40, PASS, 1)];
    let partly = Ended { whole: false, ..ended(11, "wiki", 20, PASS, 1) };
    let found = told(vec![red.clone(), partly, green.clone()]);
    assert_eq!((found[0].run, found[0].red_run), (12, 10));
    let elsewhere = Ended { of_pull_request: true, ..red };
    assert!(told(vec![elsewhere, green]).is_empty(), "it was never red");
}

#[test]
fn text_from_outside_stays_inside_of_its_code_span() {
    let hostile = "`\u{2028}# x\n<img src=x>|[a](javascript:x)\u{1b}[31m";
    let mut input = full();
    for standing in &mut input.after {
        standing.target = hostile.to_owned();
    }
    let Waits::Queue { why, by, .. } = &mut input.waiting[1] else { panic!("the queue") };
    *why = hostile.to_owned();
    *by = hostile.to_owned();
    let markdown = Digest::of(input).markdown();
    for line in markdown.lines() {
        assert_eq!(line.matches('`').count() % 2, 0, "{line}");
        assert!(!line.starts_with("# x"), "{line}");
    }
    assert!(!markdown.contains('\u{1b}') && !markdown.contains('\u{2028}'), "{markdown}");
}

#[test]
fn it_reads_back_from_json() {
    let digest = Digest::of(full());
    let text = serde_json::to_string(&digest).expect("plain data");
    assert_eq!(serde_json::from_str::<Digest>(&text).expect("it reads"), digest);
}
