//! The state machine alone: what it asks, when, and what it takes.

use std::collections::BTreeSet;
use std::time::Duration;

use assay_model::Micros;

use super::{Action, Budget, GRACE, OVERLAP, PollState, SETTLED};
use crate::client::Rate;
use crate::error::{Doing, ForgeError};
use crate::forge::ForgeKind;
use crate::name::RepoName;
use crate::what::{Comment, Heard, Resume, Since};

/// Our clock and the forge's differ by a day here.
const OURS: Micros = Micros::seconds(1_000_000);
const THEIRS: Micros = Micros::seconds(1_086_400);

fn repo(name: &str) -> RepoName {
    name.parse().expect("a name")
}

fn watching(names: &[&str]) -> PollState {
    let mut state = PollState::new(Budget::usual(ForgeKind::Forgejo));
    let repos: BTreeSet<RepoName> = names.iter().map(|name| repo(name)).collect();
    state.watch(&repos, OURS);
    state
}

fn comment(id: u64, at: Micros, body: &str) -> Comment {
    let (body, digest) = Comment::text(body);
    Comment { id, number: 1, on_pull: true, author: None, body, digest, created_at: at, updated_at: at }
}

fn heard(server_time: Micros, comments: Vec<Comment>) -> Heard {
    Heard {
        comments: Some(comments),
        etag: None,
        server_time: Some(server_time),
        more: None,
        calls: 1,
        counted: 1,
        too_large: 0,
    }
}

fn asked(state: &PollState, now: Micros) -> (RepoName, Since) {
    match state.next(now, &BTreeSet::new()) {
        Action::Ask { repo, since } => (repo, since),
        other => panic!("{other:?}"),
    }
}

/// The next question, whenever it comes.
fn next_asked(state: &PollState, now: Micros) -> (Micros, RepoName, Since) {
    match state.next(now, &BTreeSet::new()) {
        Action::Ask { repo, since } => (now, repo, since),
        Action::Wait { until } => {
            assert!(until > now, "it waits for something");
            let (repo, since) = asked(state, until);
            (until, repo, since)
        }
        Action::Nothing => panic!("nobody to ask"),
    }
}

#[test]
fn what_was_said_before_does_not_count_and_everything_after_does_once() {
    let mut state = watching(&["a/b"]);
    let (name, since) = asked(&state, OURS);
    let old = comment(1, Micros(THEIRS.0 - 3_600_000_000), "!testme");
    assert_eq!(state.heard(&name, &since, heard(THEIRS, vec![old.clone()]), None, OURS).fresh, []);
    let (now, name, since) = next_asked(&state, OURS);
    assert_eq!(now, OURS.plus(Micros::seconds(30)), "hot or not, one repository is asked every half minute");
    assert_eq!(since.at, Micros(THEIRS.0 - GRACE.0), "by the forge's clock");
    let new = comment(2, THEIRS.plus(Micros::seconds(5)), "!testme");
    let later = THEIRS.plus(Micros::seconds(30));
    assert_eq!(
        state.heard(&name, &since, heard(later, vec![new.clone()]), None, now).fresh,
        std::slice::from_ref(&new)
    );
    let (now, name, since) = next_asked(&state, now);
    assert!(since.at <= new.updated_at, "the overlap is asked again");
    let mut edited = new.clone();
    (edited.body, edited.digest) = Comment::text("!testme --quick");
    edited.updated_at = later;
    let mut old_edited = old;
    old_edited.updated_at = later;
    let news = state.heard(&name, &since, heard(later, vec![old_edited, edited]), None, now);
    assert_eq!((news.fresh, news.edited), (vec![], vec![2]));
}

#[test]
fn a_comment_that_shows_late_is_heard() {
    let mut state = watching(&["a/b"]);
    let (name, since) = asked(&state, OURS);
    state.heard(&name, &since, heard(THEIRS, vec![]), None, OURS);
    let (now, _, since) = next_asked(&state, OURS);
    let first = comment(2, THEIRS.plus(Micros::seconds(100)), "hm");
    state.heard(&name, &since, heard(THEIRS.plus(Micros::seconds(101)), vec![first]), None, now);
    // It was written before the other, in a transaction that took longer.
    let late = comment(1, THEIRS.plus(Micros::seconds(40)), "!testme");
    let (now, _, since) = next_asked(&state, now);
    assert!(since.at <= late.updated_at);
    let news =
        state.heard(&name, &since, heard(THEIRS.plus(Micros::seconds(131)), vec![late.clone()]), None, now);
    assert_eq!((news.fresh, news.must_keep), (vec![late], true));
    let (now, _, since) = next_asked(&state, now);
    let news = state.heard(&name, &since, heard(THEIRS.plus(Micros::seconds(161)), vec![]), None, now);
    assert!(!news.must_keep, "nothing has changed but when to ask");
}

#[test]
fn the_question_stays_the_same_while_nothing_is_said_and_narrows_once() {
    let mut state = watching(&["a/b"]);
    let (name, since) = asked(&state, OURS);
    state.heard(&name, &since, heard(THEIRS, vec![]), None, OURS);
    let said_at = THEIRS.plus(Micros::seconds(500));
    let (mut now, _, mut since) = next_asked(&state, OURS);
    state.heard(&name, &since, heard(said_at, vec![comment(1, said_at, "x")]), None, now);
    let mut asked_from = Vec::new();
    for step in 1..40 {
        let server_time = said_at.plus(Micros::seconds(30 * step));
        (now, _, since) = next_asked(&state, now);
        asked_from.push(since.at.since(said_at));
        let answer = if since.at <= said_at { vec![comment(1, said_at, "x")] } else { vec![] };
        assert_eq!(state.heard(&name, &since, heard(server_time, answer), None, now).fresh, []);
    }
    asked_from.dedup();
    assert_eq!(asked_from, [Micros(-OVERLAP.0), Micros::seconds(1)], "{}", SETTLED.as_seconds());
}

#[test]
fn a_tag_goes_along_with_the_same_question_only() {
    let mut state = watching(&["a/b"]);
    let (name, since) = asked(&state, OURS);
    state.heard(&name, &since, heard(THEIRS, vec![]), None, OURS);
    let (now, name, since) = next_asked(&state, OURS);
    let mut answer = heard(THEIRS, vec![]);
    answer.etag = Some("tag".into());
    state.heard(&name, &since, answer, None, now);
    let (now, name, since) = next_asked(&state, now);
    assert_eq!(since.etag.as_deref(), Some("tag"));
    let mut unchanged = heard(THEIRS, vec![]);
    (unchanged.comments, unchanged.etag, unchanged.counted) = (None, Some("tag".into()), 0);
    state.heard(&name, &since, unchanged, None, now);
    let (now, name, since) = next_asked(&state, now);
    assert_eq!(since.etag.as_deref(), Some("tag"));
    let new = comment(1, THEIRS.plus(Micros::seconds(200)), "x");
    let mut answer = heard(THEIRS.plus(Micros::seconds(201)), vec![new]);
    answer.etag = Some("other".into());
    state.heard(&name, &since, answer, None, now);
    let (_, _, since) = next_asked(&state, now);
    assert_eq!(since.etag, None, "another time, another question");
}

#[test]
fn a_long_list_is_read_on_before_the_mark_moves() {
    let mut state = watching(&["a/b"]);
    let (name, since) = asked(&state, OURS);
    state.heard(&name, &since, heard(THEIRS, vec![]), None, OURS);
    let (mut now, _, first) = next_asked(&state, OURS);
    let mut answer =
        heard(THEIRS.plus(Micros::seconds(9000)), vec![comment(1, THEIRS.plus(Micros::seconds(8000)), "x")]);
    answer.more = Some(Resume::Page(21));
    state.heard(&name, &first, answer, None, now);
    let second;
    (now, _, second) = next_asked(&state, now);
    assert_eq!((second.at, second.page), (first.at, 21));
    let missed = comment(2, THEIRS.plus(Micros::seconds(7000)), "y");
    let news = state.heard(
        &name,
        &second,
        heard(THEIRS.plus(Micros::seconds(9000)), vec![missed.clone()]),
        None,
        now,
    );
    assert_eq!(news.fresh, [missed]);
    let (_, _, third) = next_asked(&state, now);
    assert_eq!((third.at, third.page), (THEIRS.plus(Micros::seconds(8001)), 1));
}

#[test]
fn a_forge_in_trouble_is_left_alone_longer_and_longer_and_told_once() {
    let mut state = watching(&["a/b", "a/c"]);
    let host = "forge.example".to_owned();
    let gone = ForgeError::Unreachable { host: host.clone(), why: "connection refused".into() };
    let mut now = OURS;
    let mut pauses = Vec::new();
    let mut told = 0;
    for _ in 0..9 {
        let (at, name, _) = next_asked(&state, now);
        pauses.push(at.since(now).as_seconds());
        now = at;
        told += usize::from(state.failed(&name, &gone, now).is_some());
    }
    assert_eq!(pauses[..7], [0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0]);
    assert!(pauses.iter().all(|pause| *pause <= 600.0), "{pauses:?}");
    assert_eq!(told, 1);
    let (at, name, since) = next_asked(&state, now);
    state.heard(&name, &since, heard(THEIRS, vec![]), None, at);
    assert!(state.failed(&name, &gone, at).is_some(), "new trouble is told again");

    let mut state = watching(&["a/b", "a/c"]);
    let limited = ForgeError::RateLimited { host, after: Duration::from_secs(777) };
    state.failed(&repo("a/b"), &limited, OURS);
    assert_eq!(state.next(OURS, &BTreeSet::new()), Action::Wait { until: OURS.plus(Micros::seconds(777)) });
    // An answer that was under way does not end the pause.
    let since = Since { at: OURS, page: 1, etag: None };
    state.heard(&repo("a/c"), &since, heard(THEIRS, vec![]), None, OURS.plus(Micros::seconds(1)));
    assert_eq!(next_asked(&state, OURS).0, OURS.plus(Micros::seconds(777)));
}

#[test]
fn one_repository_in_trouble_does_not_keep_the_others_waiting() {
    let mut state = watching(&["a/bad", "a/good"]);
    let missing = ForgeError::NotFound {
        host: "h".into(),
        doing: Doing::ReadComments,
        of: "a/bad".into(),
        said: String::new(),
    };
    let broken = ForgeError::Unwell {
        host: "h".into(),
        doing: Doing::ReadComments,
        status: 500,
        said: String::new(),
        after: None,
    };
    for error in [missing, broken] {
        let mut now = OURS;
        let mut good = 0;
        for _ in 0..60 {
            let (at, name, since) = next_asked(&state, now);
            now = at;
            if name == repo("a/bad") {
                state.failed(&name, &error, now);
            } else {
                good += 1;
                state.heard(&name, &since, heard(THEIRS, vec![]), None, now);
            }
        }
        assert!(good > 45, "{good} of 60 for {error}");
    }
}

#[test]
fn several_are_asked_at_once_and_none_twice() {
    let state = watching(&["a/b", "a/c", "a/d"]);
    let mut busy = BTreeSet::new();
    let mut now = OURS;
    while busy.len() < 3 {
        match state.next(now, &busy) {
            Action::Ask { repo, .. } => assert!(busy.insert(repo)),
            Action::Wait { until } => now = until,
            Action::Nothing => panic!("three are there"),
        }
    }
    assert!(matches!(state.next(now, &busy), Action::Wait { until } if until > now));
    assert_eq!(watching(&[]).next(OURS, &BTreeSet::new()), Action::Nothing);
}

#[test]
fn something_is_kept_back_for_answers() {
    let mut state = watching(&["a/b"]);
    let (name, since) = asked(&state, OURS);
    let rate = |remaining| Some(Rate { limit: 5000, remaining, resets_in: Duration::from_mins(15) });
    state.heard(&name, &since, heard(THEIRS, vec![]), rate(1001), OURS);
    assert_eq!(next_asked(&state, OURS).0, OURS.plus(Micros::seconds(30)));
    state.heard(&name, &since, heard(THEIRS, vec![]), rate(1000), OURS);
    assert_eq!(next_asked(&state, OURS).0, OURS.plus(Micros::seconds(900)));
}

#[test]
fn five_hundred_repositories_keep_to_the_budget() {
    for (kind, quiet_every) in [(ForgeKind::Forgejo, 250), (ForgeKind::GitHub, 75)] {
        let budget = Budget::usual(kind);
        let plan = budget.plan(0, 500);
        assert_eq!(plan.quiet_every_s, quiet_every);
        for hot in [0, 1, 20, 200, 500] {
            let plan = budget.plan(hot, 500 - hot);
            assert!(plan.calls_per_hour <= budget.asked_per_hour + 2, "{plan:?}");
            assert!(plan.hot_every_s <= plan.quiet_every_s || hot == 500, "{plan:?}");
        }
        assert_eq!(budget.plan(5, 495).hot_every_s, 30);

        // And what is asked in fact, over an hour, one question after another.
        let names: Vec<String> = (0..500).map(|n| format!("coop/r{n:03}")).collect();
        let mut state = watching(&names.iter().map(String::as_str).collect::<Vec<_>>());
        state.set_budget(budget.clone());
        let (mut now, mut count, mut waits) = (OURS, 0_u64, 0);
        let mut last = std::collections::BTreeMap::new();
        while now < OURS.plus(Micros::seconds(3600)) {
            let (at, name, since) = next_asked(&state, now);
            now = at;
            count += 1;
            if let Some(before) = last.insert(name.clone(), now) {
                waits = waits.max(now.since(before).0 / 1_000_000);
            }
            state.heard(&name, &since, heard(THEIRS, vec![]), None, now);
        }
        assert!(count <= u64::from(budget.asked_per_hour) + 20, "{count}");
        assert!(waits <= i64::from(quiet_every) + 10, "{kind}: {waits}");
        assert_eq!(last.len(), 500);
        let plan = state.plan(now);
        assert!(plan.asked_last_hour <= u64::from(budget.asked_per_hour) + 20, "{plan:?}");
    }
}

#[test]
fn the_state_is_a_value_that_reads_back_as_itself() {
    let mut state = watching(&["a/b", "a/c"]);
    let (name, since) = asked(&state, OURS);
    state.heard(&name, &since, heard(THEIRS, vec![comment(1, THEIRS, "x")]), None, OURS);
    state.hooked(&name, &comment(7, THEIRS, "y"), OURS);
    let stored = serde_json::to_string(&state).expect("a value");
    assert_eq!(serde_json::from_str::<PollState>(&stored).expect("the same"), state);
    let only: BTreeSet<RepoName> = [repo("a/c")].into();
    state.watch(&only, OURS);
    assert_eq!(state.hooked(&repo("a/b"), &comment(8, THEIRS, "z"), OURS), None);
}
