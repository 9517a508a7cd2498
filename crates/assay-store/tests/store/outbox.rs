//! Notifications on their way out: each sink by itself, nothing twice, nothing forgotten.

use assay_model::{Micros, RunId};
use assay_store::{Changes, OutboxState, Outcome, SinkTally, Store, Write};
use serde_json::json;

use crate::sample::{at, created, run_id};

async fn put(store: &Store, run: RunId, id: &str, n: i64) {
    let write = Write::Notify { id: id.into(), event: "RunCompleted".into(), payload: json!({ "n": n }) };
    let changes = Changes { events: vec![], writes: vec![write] };
    store.transact(run, at(n), |_| Ok::<_, String>(changes)).await.expect("put");
}

/// A run whose two notifications go to `ops` and `phone`.
async fn two_for_two(store: &Store) -> RunId {
    let run = run_id(1);
    store.create_run(run, at(0), created(1)).await.expect("created");
    for (id, n) in [("a", 1), ("b", 2)] {
        put(store, run, id, n).await;
        assert!(store.outbox_route(id, &json!({ "n": n }), &["ops", "phone"], at(3)).await.expect("routed"));
    }
    run
}

async fn states(store: &Store, run: RunId) -> Vec<(String, OutboxState)> {
    let rows = store.outbox_of(run).await.expect("read");
    rows.into_iter().map(|row| (row.outgoing.id, row.state)).collect()
}

async fn claim(store: &Store, sink: &str, now: Micros) -> Option<(String, u32)> {
    let claimed = store.outbox_claim(sink, now).await.expect("claimed");
    claimed.map(|claimed| (claimed.outgoing.id, claimed.attempts))
}

pub(crate) async fn sinks_are_settled_once(store: Store, _url: String) {
    let run = run_id(1);
    store.create_run(run, at(0), created(1)).await.expect("created");
    put(&store, run, "a", 1).await;
    put(&store, run, "a", 7).await;
    let waiting = store.outbox_unrouted(9).await.expect("read");
    assert_eq!(waiting.len(), 1, "the same news is put in once");
    assert_eq!((waiting[0].outgoing.payload.clone(), waiting[0].created_at), (json!({ "n": 1 }), at(1)));
    assert_eq!(claim(&store, "ops", at(9)).await, None, "nobody is to be told yet");

    let told = json!({ "n": 1, "about": {} });
    assert!(store.outbox_route("a", &told, &["ops"], at(3)).await.expect("routed"));
    assert!(!store.outbox_route("a", &told, &["ops", "phone"], at(3)).await.expect("too late"));
    assert_eq!(store.outbox_unrouted(9).await.expect("read"), []);
    let claimed = store.outbox_claim("ops", at(3)).await.expect("claimed").expect("due");
    assert_eq!((claimed.outgoing.payload, claimed.created_at, claimed.attempts), (told, at(1), 1));
    assert_eq!(claim(&store, "phone", at(9)).await, None);

    put(&store, run, "c", 5).await;
    assert!(store.outbox_route("c", &json!({}), &[], at(6)).await.expect("routed"));
    let nobody = store.outbox_of(run).await.expect("read").remove(1);
    assert_eq!((nobody.state, nobody.message.as_deref()), (OutboxState::Sent, Some("no sink wants it")));
}

pub(crate) async fn a_sink_that_is_away_holds_up_no_other(store: Store, _url: String) {
    let run = two_for_two(&store).await;
    // `phone` takes both, `ops` is down.
    for id in ["a", "b"] {
        assert_eq!(claim(&store, "phone", at(4)).await, Some((id.into(), 1)));
        assert!(store.outbox_done(id, "phone", Outcome::Sent, "published", at(4)).await.expect("closed"));
        assert_eq!(claim(&store, "ops", at(4)).await, Some((id.into(), 1)));
        let later = Outcome::Retry(at(34));
        assert!(store.outbox_done(id, "ops", later, "connection refused", at(4)).await.expect("closed"));
    }
    assert_eq!(
        states(&store, run).await,
        [("a".into(), OutboxState::Pending), ("b".into(), OutboxState::Pending)]
    );
    assert_eq!(claim(&store, "ops", at(33)).await, None, "not before its time");
    let troubles = store.outbox_troubles(9).await.expect("read");
    let seen: Vec<_> = troubles
        .iter()
        .map(|d| (d.notification.as_str(), d.sink.as_str(), d.state, d.due_at, d.run_number))
        .collect();
    let waits = |id| (id, "ops", OutboxState::Pending, at(34), 1);
    assert_eq!(seen, [waits("a"), waits("b")]);
    let away = SinkTally {
        pending: 2,
        last_error: Some((at(4), "connection refused".into())),
        ..SinkTally::default()
    };
    assert_eq!(store.outbox_tally("ops").await.expect("read"), away);

    assert_eq!(claim(&store, "ops", at(34)).await, Some(("a".into(), 2)));
    assert!(store.outbox_done("a", "ops", Outcome::Sent, "accepted", at(35)).await.expect("closed"));
    assert!(!store.outbox_done("a", "ops", Outcome::Failed, "again", at(36)).await.expect("closed already"));
    assert_eq!(claim(&store, "ops", at(34)).await, Some(("b".into(), 2)));
    assert!(store.outbox_done("b", "ops", Outcome::Failed, "answered 404", at(36)).await.expect("closed"));
    assert_eq!(
        states(&store, run).await,
        [("a".into(), OutboxState::Sent), ("b".into(), OutboxState::Failed)]
    );
    let told = store.outbox_of(run).await.expect("read").remove(1).message;
    assert_eq!(told.as_deref(), Some("ops: answered 404; phone: published"));
    let back = SinkTally {
        failed: 1,
        last_success: Some(at(35)),
        last_error: Some((at(36), "answered 404".into())),
        ..SinkTally::default()
    };
    assert_eq!(store.outbox_tally("ops").await.expect("read"), back);
    let healthy = SinkTally { last_success: Some(at(4)), ..SinkTally::default() };
    assert_eq!(store.outbox_tally("phone").await.expect("read"), healthy);
}

pub(crate) async fn notifications_leave_once(store: Store, url: String) {
    let run = two_for_two(&store).await;
    assert_eq!(claim(&store, "ops", at(4)).await, Some(("a".into(), 1)));
    assert_eq!(claim(&store, "ops", at(4)).await, Some(("b".into(), 1)));
    assert_eq!(claim(&store, "ops", at(4)).await, None, "claimed is not pending");
    assert!(store.outbox_done("a", "ops", Outcome::Sent, "200 OK", at(4)).await.expect("closed"));
    assert_eq!(claim(&store, "phone", at(4)).await, Some(("a".into(), 1)));

    // The server dies between claiming and sending. `ops` cannot tell a repeat, `phone` can.
    let restarted = crate::open(&url).await;
    let sinks = [("ops", false), ("phone", true)];
    let stuck = restarted.outbox_stuck(&sinks, at(5)).await.expect("marked");
    let lost: Vec<_> = stuck.iter().map(|d| (d.notification.as_str(), d.sink.as_str(), d.state)).collect();
    assert_eq!(lost, [("b", "ops", OutboxState::Unknown)]);
    assert_eq!(restarted.outbox_stuck(&sinks, at(5)).await.expect("marked"), []);
    assert_eq!(claim(&restarted, "ops", at(9)).await, None, "never again by itself");
    assert_eq!(claim(&restarted, "phone", at(9)).await, Some(("a".into(), 2)), "it drops repeats");
    assert_eq!(claim(&restarted, "phone", at(9)).await, Some(("b".into(), 1)), "in the order of the news");
    for id in ["a", "b"] {
        assert!(restarted.outbox_done(id, "phone", Outcome::Sent, "ok", at(9)).await.expect("closed"));
    }
    assert_eq!(
        states(&restarted, run).await,
        [("a".into(), OutboxState::Sent), ("b".into(), OutboxState::Unknown)]
    );
    restarted.close().await.expect("closes");
}

pub(crate) async fn a_sink_that_was_taken_away_is_not_waited_for(store: Store, _url: String) {
    let run = two_for_two(&store).await;
    assert_eq!(claim(&store, "phone", at(4)).await, Some(("a".into(), 1)));
    let gone = store.outbox_stuck(&[("ops", false)], at(5)).await.expect("marked");
    let seen: Vec<_> = gone.iter().map(|d| (d.notification.as_str(), d.state)).collect();
    assert_eq!(seen, [("a", OutboxState::Unknown), ("b", OutboxState::Failed)]);
    assert!(gone.iter().all(|d| d.sink == "phone"), "{gone:?}");
    assert_eq!(claim(&store, "ops", at(5)).await, Some(("a".into(), 1)), "the other goes on");
    assert_eq!(states(&store, run).await[1].1, OutboxState::Pending);
}
