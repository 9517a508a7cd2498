//! Checkpoints, pins, and what sealed runs leave behind.

use assay_model::{RunId, StageName};
use assay_store::{CheckpointRow, Store, Swept};
use serde_json::json;

use crate::sample::{at, create, pass, run_id, seal};

pub(crate) async fn the_newest_checkpoint_counts(store: Store, url: String) {
    let run = run_id(1);
    create(&store, run, 1).await;
    let (storage, memory) = (StageName::from("Storage"), StageName::from("CPUStress"));
    let row = |attempt: u32, generation, n: i64| CheckpointRow {
        attempt,
        generation,
        saved_at: at(n),
        state: json!({ "done": n }),
    };
    assert_eq!(store.checkpoint(run, &storage).await.expect("read"), None);
    assert!(store.checkpoint_put(run, &storage, &row(1, 5, 1)).await.expect("stored"));
    assert!(store.checkpoint_put(run, &storage, &row(1, 5, 2)).await.expect("stored"));
    assert!(store.checkpoint_put(run, &storage, &row(2, 9, 3)).await.expect("stored"));
    assert!(
        !store.checkpoint_put(run, &storage, &row(1, 5, 4)).await.expect("asked"),
        "a newer try has saved one"
    );
    assert!(store.checkpoint_put(run, &memory, &row(1, 6, 5)).await.expect("stored"));
    store.close().await.expect("closes");
    let store = crate::open(&url).await;
    assert_eq!(store.checkpoint(run, &storage).await.expect("read"), Some(row(2, 9, 3)), "over a restart");
    assert_eq!(store.checkpoint(run, &memory).await.expect("read"), Some(row(1, 6, 5)));
}

pub(crate) async fn sealed_runs_leave_nothing_and_open_ones_keep_everything(store: Store, _url: String) {
    let (over, open) = (run_id(1), run_id(2));
    let stage = StageName::from("SMART");
    for (run, host) in [(over, 1), (open, 2)] {
        create(&store, run, host).await;
        let row = CheckpointRow { attempt: 1, generation: 1, saved_at: at(1), state: json!(1) };
        assert!(store.checkpoint_put(run, &stage, &row).await.expect("stored"));
        assert!(store.lease_put(run, 1, "agent", at(9)).await.expect("taken"));
    }
    pass(&store, over).await;
    seal(&store, over).await;
    let expected = Swept { leases: 1, checkpoints: 1, ..Swept::default() };
    assert_eq!(
        store.sweep(at(10), at(1000), false).await.expect("swept"),
        Swept::default(),
        "it ended at 10"
    );
    assert_eq!(store.sweep(at(11), at(1000), true).await.expect("counted"), expected);
    assert_eq!(
        store.sweep(at(11), at(1000), false).await.expect("swept"),
        expected,
        "counting removed nothing"
    );
    assert_eq!(store.sweep(at(11), at(1000), false).await.expect("swept"), Swept::default());
    assert!(store.checkpoint(open, &stage).await.expect("read").is_some());
    assert_eq!(store.leases().await.expect("read").len(), 1);
}

pub(crate) async fn pins_are_kept_until_they_are_taken_out(store: Store, _url: String) {
    let run = run_id(1);
    create(&store, run, 1).await;
    let pinned = async || -> Vec<(RunId, String)> {
        store.pins().await.expect("read").into_iter().map(|pin| (pin.run, pin.by)).collect()
    };
    store.pin(run, "ada", at(1)).await.expect("pinned");
    store.pin(run, "bob", at(2)).await.expect("pinned already");
    assert_eq!(pinned().await, [(run, "ada".to_owned())]);
    assert!(store.unpin(run).await.expect("taken out"));
    assert!(!store.unpin(run).await.expect("asked"));
    assert_eq!(pinned().await, []);
}

pub(crate) async fn one_control_plane_at_a_time(store: Store, url: String) {
    let other = crate::open(&url).await;
    assert!(store.control_plane_lease("a", at(0), at(30)).await.expect("taken"));
    assert!(!other.control_plane_lease("b", at(29), at(59)).await.expect("asked"), "a has it");
    assert!(store.control_plane_lease("a", at(20), at(50)).await.expect("kept"));
    assert!(!other.control_plane_lease("b", at(49), at(79)).await.expect("asked"));
    assert!(other.control_plane_lease("b", at(50), at(80)).await.expect("a has died"));
    assert!(!store.control_plane_lease("a", at(51), at(81)).await.expect("asked"), "and is not let back in");
    other.close().await.expect("closes");
}
