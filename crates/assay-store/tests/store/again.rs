//! Schedules and batches as rows: a time is taken once, a batch's target has one run, labels go with their host.

use std::collections::BTreeSet;

use assay_model::{HostId, TargetId};
use assay_store::{BatchState, HostRow, NewBatch, NewItem, NewTick, Pause, ScheduleRow, Store, TickKind};
use serde_json::json;
use uuid::Uuid;

use crate::sample::{at, create, mac, run_id};

fn schedule(name: &str) -> ScheduleRow {
    ScheduleRow {
        name: name.to_owned(),
        body: json!({"x": 1}),
        created_by: "mara".to_owned(),
        created_at: at(0),
        changed_at: at(0),
        paused: None,
        done_through: at(0),
    }
}

fn batch(runs: &[u128]) -> NewBatch {
    let item = |n: &u128| NewItem {
        target_id: TargetId(Uuid::from_u128(*n)),
        target: format!("node{n}"),
        run: run_id(*n),
        left_out: (*n == 9).then(|| "it is\0 live".to_owned()),
    };
    let asked_by = "schedule nightly".to_owned();
    NewBatch { body: json!({"y": 2}), asked_by, items: runs.iter().map(item).collect() }
}

fn tick(done_through: i64, due: i64, kind: TickKind, batch: Option<NewBatch>) -> NewTick {
    NewTick {
        schedule: "nightly".to_owned(),
        done_through: at(done_through),
        due: at(due),
        at: at(due + 1),
        kind,
        missed: 2,
        note: "said".to_owned(),
        batch,
    }
}

pub(crate) async fn a_time_is_taken_once(store: Store, _url: String) {
    store.schedule_put(&schedule("nightly")).await.expect("stored");
    store.schedule_put(&schedule("a")).await.expect("stored");
    let names: Vec<String> = store.schedules().await.expect("read").into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["a", "nightly"]);
    assert_eq!(store.schedule("nightly").await.expect("read"), Some(schedule("nightly")));
    assert_eq!(store.schedule("b").await.expect("read"), None);

    let first = tick(0, 60, TickKind::Due, Some(batch(&[1, 2, 9])));
    assert_eq!(store.schedule_take(&first).await.expect("taken"), (true, Some(1)));
    // Somebody who saw the schedule before that comes too late; nothing of theirs stays.
    assert_eq!(store.schedule_take(&first).await.expect("asked"), (false, None));
    let other = tick(0, 120, TickKind::Due, Some(batch(&[3])));
    assert_eq!(store.schedule_take(&other).await.expect("asked"), (false, None));
    assert_eq!(store.batches(None, 10).await.expect("read").len(), 1);
    let row = store.schedule("nightly").await.expect("read").expect("there");
    assert_eq!((row.done_through, store.batch_items(1).await.expect("read").len()), (at(60), 3));

    // Asked for out of turn, the mark stays where it is; missed, there is no batch.
    let asked = tick(60, 70, TickKind::Asked, Some(batch(&[4])));
    assert_eq!(store.schedule_take(&asked).await.expect("taken"), (true, Some(2)));
    assert_eq!(store.schedule("nightly").await.expect("read").expect("there").done_through, at(60));
    assert_eq!(
        store.schedule_take(&tick(60, 120, TickKind::Missed, None)).await.expect("taken"),
        (true, None)
    );
    let ticks = store.schedule_ticks("nightly", 2).await.expect("read");
    let seen: Vec<_> = ticks.iter().map(|tick| (tick.due, tick.kind, tick.missed, tick.batch)).collect();
    assert_eq!(seen, [(at(120), TickKind::Missed, 2, None), (at(70), TickKind::Asked, 2, Some(2))]);
    assert_eq!(ticks[0].note, "said");

    // A rest leaves times out; going on twice leaves out no more.
    assert!(store.schedule_pause("nightly", Some("ole"), at(130)).await.expect("paused"));
    let paused = store.schedule("nightly").await.expect("read").expect("there").paused;
    assert_eq!(paused, Some(Pause { by: "ole".to_owned(), at: at(130) }));
    assert!(!store.schedule_take(&tick(120, 180, TickKind::Due, None)).await.expect("asked").0, "it rests");
    for (now, done) in [(200, 200), (300, 200)] {
        assert!(store.schedule_pause("nightly", None, at(now)).await.expect("goes on"));
        let row = store.schedule("nightly").await.expect("read").expect("there");
        assert_eq!((row.paused, row.done_through), (None, at(done)));
    }
    assert!(!store.schedule_pause("b", None, at(0)).await.expect("asked"));

    // Written anew it stays as it was paused and who wrote it first.
    store.schedule_pause("nightly", Some("ole"), at(300)).await.expect("paused");
    let anew = ScheduleRow {
        created_by: "ole".to_owned(),
        changed_at: at(400),
        done_through: at(400),
        ..schedule("nightly")
    };
    store.schedule_put(&anew).await.expect("stored");
    let row = store.schedule("nightly").await.expect("read").expect("there");
    assert!(row.paused.is_some());
    assert_eq!((row.created_by.as_str(), row.created_at, row.done_through), ("mara", at(0), at(400)));

    store.schedule_pause("nightly", None, at(400)).await.expect("goes on");
    // A hundred times later the first ones are forgotten, and with them the batches that have ended.
    assert!(store.batch_move(1, &BatchState::Running, &BatchState::Ended, at(400)).await.expect("moved"));
    for n in 0..100 {
        let next = tick(400 + n, 401 + n, TickKind::Due, None);
        assert!(store.schedule_take(&next).await.expect("taken").0, "{n}");
    }
    assert_eq!(store.schedule_ticks("nightly", 200).await.expect("read").len(), 100);
    let left: Vec<i64> =
        store.batches(None, 10).await.expect("read").iter().map(|batch| batch.number).collect();
    assert_eq!(left, [2], "one that has not ended stays");

    assert!(store.schedule_remove("nightly").await.expect("removed"));
    assert!(!store.schedule_remove("nightly").await.expect("asked"));
    assert!(store.schedule_ticks("nightly", 200).await.expect("read").is_empty());
    assert_eq!(store.batches(None, 10).await.expect("read").len(), 1, "its batches stay");
}

pub(crate) async fn a_batchs_targets_have_their_runs(store: Store, _url: String) {
    let number = store.batch_create(&batch(&[1, 2, 9]), at(5)).await.expect("stored");
    let next = store.batch_create(&batch(&[3]), at(6)).await.expect("stored");
    assert_eq!((number, next), (1, 2));
    let numbers =
        |rows: Vec<assay_store::BatchRow>| rows.into_iter().map(|row| row.number).collect::<Vec<_>>();
    assert_eq!(numbers(store.batches(None, 10).await.expect("read")), [2, 1]);
    assert_eq!(numbers(store.batches(Some(2), 10).await.expect("read")), [1]);
    assert_eq!(numbers(store.open_batches().await.expect("read")), [1, 2]);
    // A run belongs to one target of one batch.
    store.batch_create(&batch(&[3]), at(7)).await.expect_err("the run's id is taken");

    create(&store, run_id(1), 1).await;
    let items = store.batch_items(1).await.expect("read");
    let seen: Vec<_> = items
        .iter()
        .map(|item| (item.target.as_str(), item.run.as_ref().map(|run| run.number), item.left_out.as_deref()))
        .collect();
    assert_eq!(
        seen,
        [("node1", Some(1), None), ("node2", None, None), ("node9", None, Some("it is\u{fffd} live"))]
    );
    store.batch_leave_out(1, 1, "busy").await.expect("stored");
    store.batch_leave_out(1, 1, "something else").await.expect("stored");
    assert_eq!(store.batch_items(1).await.expect("read")[1].left_out.as_deref(), Some("busy"));

    let row = store.batch(1).await.expect("read").expect("there");
    assert_eq!((row.body, row.schedule, row.state), (json!({"y": 2}), None, BatchState::Running));
    let stopped = BatchState::Stopped { by: "mara".to_owned(), why: String::new() };
    assert!(store.batch_move(1, &BatchState::Running, &stopped, at(8)).await.expect("moved"));
    assert!(!store.batch_move(1, &BatchState::Running, &BatchState::Ended, at(8)).await.expect("asked"));
    let row = store.batch(1).await.expect("read").expect("there");
    assert_eq!((row.state, row.since), (stopped, at(8)));
    assert!(store.batch_resume(1, &[0], at(9)).await.expect("goes on"));
    assert!(!store.batch_resume(1, &[0], at(9)).await.expect("asked"));
    let forgiven: Vec<bool> =
        store.batch_items(1).await.expect("read").iter().map(|item| item.forgiven).collect();
    assert_eq!(forgiven, [true, false, false]);
    assert_eq!(store.batch(1).await.expect("read").expect("there").state, BatchState::Running);
    assert_eq!(store.batch(7).await.expect("read"), None);
}

pub(crate) async fn labels_go_with_their_host(store: Store, _url: String) {
    let host = HostRow {
        id: HostId(Uuid::from_u128(7)),
        name: "db-1".to_owned(),
        macs: vec![mac(1)],
        spec_yaml: String::new(),
        power: json!({}),
        created_at: at(0),
    };
    store.host_put(&host).await.expect("stored");
    let labels = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    store.host_label(host.id, &labels(&["rack7", "db"])).await.expect("stored");
    store.host_label(host.id, &labels(&["rack8"])).await.expect("stored");
    store.host_put(&host).await.expect("stored again");
    assert_eq!(store.host_labels().await.expect("read"), [(host.id, labels(&["rack8"]))].into());
    store.host_label(HostId(Uuid::from_u128(8)), &labels(&["x"])).await.expect_err("there is no such host");
    store.host_remove("db-1").await.expect("removed");
    assert!(store.host_labels().await.expect("read").is_empty());
}
