//! Forges: what was heard is kept with what was asked, and a pull request is told what has changed.

use assay_model::Sha256;
use assay_store::{Answer, CommandKey, ForgePull, Heard, NewCommand, PullKey, Store, Subject};

use crate::sample::{at, run_id};

const FORGE: &str = "coop";
const REPO: &str = "apps/wiki";

fn said(comment: i64, said: &str) -> NewCommand {
    let run = run_id(u128::from(comment.unsigned_abs()));
    NewCommand { comment, pull: 12, author: Some("alice\0".into()), said: said.into(), run }
}

fn heard(part: &str, commands: Vec<NewCommand>) -> Heard {
    Heard { forge: FORGE.into(), repo: REPO.into(), part: part.into(), commands }
}

fn key(comment: i64) -> CommandKey {
    CommandKey { forge: FORGE.into(), repo: REPO.into(), comment }
}

fn pull() -> PullKey {
    PullKey { forge: FORGE.into(), repo: REPO.into(), pull: 12 }
}

async fn due(store: &Store, now: i64) -> Vec<i64> {
    let due = store.forge_commands_due(FORGE, at(now), 9).await.expect("read");
    due.into_iter().map(|command| command.key.comment).collect()
}

async fn told(store: &Store) -> ForgePull {
    store.forge_pull(&pull()).await.expect("read").expect("there")
}

async fn answer(store: &Store, comment: i64, answer: Answer, now: i64) {
    let command = store.forge_command(&key(comment)).await.expect("read").expect("heard");
    store.forge_answered(&command, &answer, at(now)).await.expect("stored");
}

pub(crate) async fn what_was_asked_is_answered_once(store: Store, _url: String) {
    store.forge_heard(&heard("one", vec![said(5, "test"), said(6, "cancel")]), at(1)).await.expect("stored");
    // Heard again, by a webhook say, with another id drawn for its run.
    let again = NewCommand { run: run_id(99), ..said(5, "another") };
    store.forge_heard(&heard("two", vec![again]), at(2)).await.expect("stored");
    let parts = store.forge_parts(FORGE).await.expect("read");
    assert_eq!(parts, [(REPO.to_owned(), "two".to_owned())]);
    assert_eq!(store.forge_parts("other").await.expect("read"), []);
    assert_eq!(due(&store, 3).await, [5, 6]);
    let first = store.forge_command(&key(5)).await.expect("read").expect("there");
    assert_eq!((first.said.as_str(), first.run), ("test", run_id(5)), "as it was heard first");
    assert_eq!(first.author.as_deref(), Some("alice\u{fffd}"), "PostgreSQL takes no NUL");

    store.forge_command_later(&key(5), at(10), "the forge is away").await.expect("stored");
    assert_eq!(due(&store, 3).await, [6]);
    assert_eq!(due(&store, 10).await, [5, 6]);
    let later = store.forge_command(&key(5)).await.expect("read").expect("there");
    assert_eq!((later.attempts, later.outcome.as_deref()), (1, Some("the forge is away")));

    let run = Answer {
        outcome: "run 3".into(),
        has_run: true,
        subject: Some(Subject::Run { comment: 5 }),
        standing: String::new(),
        note: None,
    };
    answer(&store, 5, run.clone(), 11).await;
    let refused = Answer { outcome: "refused".into(), has_run: false, ..run.clone() };
    answer(&store, 5, refused, 12).await;
    assert_eq!(due(&store, 20).await, [6], "answered is answered");
    let running = store.forge_commands_running(FORGE).await.expect("read");
    assert_eq!(running.iter().map(|c| c.key.comment).collect::<Vec<_>>(), [5]);
    store.forge_status_told(&key(5), Some("pending"), false).await.expect("stored");
    store.forge_status_told(&key(5), None, true).await.expect("stored");
    assert_eq!(store.forge_commands_running(FORGE).await.expect("read"), []);
    let settled = store.forge_commands_of(&pull(), 5).await.expect("read");
    assert_eq!(settled.len(), 1, "settled, and known still");
    assert_eq!(settled[0].status.as_deref(), Some("pending"), "what it was told last");
}

pub(crate) async fn a_pull_request_is_told_what_has_changed(store: Store, _url: String) {
    let commands = (1..=6).map(|comment| said(comment, "asked")).collect();
    store.forge_heard(&heard("one", commands), at(1)).await.expect("stored");
    let no = |note: &str| Answer {
        outcome: "refused".into(),
        has_run: false,
        subject: Some(Subject::Kept),
        standing: note.into(),
        note: Some(note.into()),
    };
    answer(&store, 1, no("mallory may not"), 2).await;
    let first = told(&store).await;
    assert_eq!((first.standing.as_str(), first.subject, first.shown), ("mallory may not", None, None));
    assert!(first.notes.is_empty(), "it is what the comment says");
    assert_eq!(store.forge_pulls_due(FORGE, at(1), 9).await.expect("read"), []);
    assert_eq!(store.forge_pulls_due(FORGE, at(2), 9).await.expect("read"), std::slice::from_ref(&first));

    // While it is told, a run comes: what was told is kept, and it stays due.
    let run = Answer { has_run: true, subject: Some(Subject::Run { comment: 2 }), ..no("") };
    answer(&store, 2, Answer { note: None, ..run.clone() }, 3).await;
    store.forge_told(&first, Some(77), Sha256::of(b"text"), None, at(4)).await.expect("stored");
    let second = told(&store).await;
    assert_eq!((second.comment, second.subject), (Some(77), Some(2)));
    assert_eq!(second.shown, Some(Sha256::of(b"text")));
    assert_eq!(store.forge_pulls_due(FORGE, at(4), 9).await.expect("read").len(), 1);

    for (comment, text) in [(3, "mallory may not"), (4, "two"), (5, "two")] {
        answer(&store, comment, no(text), 5).await;
    }
    store.forge_tell_later(&told(&store).await, true, Some(at(30))).await.expect("stored");
    let third = told(&store).await;
    assert_eq!((third.notes.clone(), third.subject), (vec!["mallory may not".into(), "two".into()], Some(2)));
    assert_eq!(third.attempts, 1);
    assert_eq!(store.forge_pulls_due(FORGE, at(29), 9).await.expect("read"), []);

    answer(&store, 6, Answer { subject: Some(Subject::Run { comment: 6 }), note: None, ..run }, 6).await;
    let fourth = told(&store).await;
    assert_eq!(
        (fourth.subject, fourth.notes.len(), fourth.attempts),
        (Some(6), 0, 0),
        "said beside another run"
    );
    store.forge_told(&fourth, None, Sha256::of(b"green"), None, at(7)).await.expect("stored");
    assert_eq!(store.forge_pulls_due(FORGE, at(99), 9).await.expect("read"), [], "it was told all");
    assert_eq!(told(&store).await.comment, Some(77));
}
