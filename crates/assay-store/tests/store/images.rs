//! Images: every name with its latest runs, and which bytes stood behind it.

use assay_model::{EventBody, Pipeline, RunResult, Sha256, TargetId};
use assay_store::{Changes, ImageSeen, Store, Write};

use crate::sample::{admitted, append, at, created, run_id};

async fn image(store: &Store, n: u128, name: &str) {
    let mut created = created(1);
    created.pipeline = Pipeline::Image;
    created.target.id = TargetId::named(Pipeline::Image, name);
    created.target.name = name.into();
    store.create_run(run_id(n), at(n as i64), created).await.expect("created");
}

async fn read(store: &Store, n: u128, volume: Option<&str>, bytes: &[u8]) {
    let seen = ImageSeen {
        digest: Sha256::of(bytes),
        bytes: bytes.len() as u64,
        volume: volume.map(str::to_owned),
        whole: true,
    };
    let changes = Changes { events: Vec::new(), writes: vec![Write::Image(seen)] };
    store.transact(run_id(n), at(50), |_| Ok::<_, String>(changes)).await.expect("committed");
}

async fn ended(store: &Store, n: u128) {
    append(store, run_id(n), at(60), vec![admitted()]).await;
    let decision = assay_model::Decision {
        kind: assay_model::DecisionKind::Cancel,
        by: "ada".into(),
        why: String::new(),
        serials: Vec::new(),
    };
    let events = vec![EventBody::Decided { decision }, EventBody::CancelConfirmed { how: "off".into() }];
    append(store, run_id(n), at(61), events).await;
}

pub(crate) async fn names_stay_and_what_is_behind_them_changes(store: Store, _url: String) {
    assert_eq!(store.images(5).await.expect("read"), []);
    crate::sample::create(&store, run_id(90), 9).await;
    for n in 1..=4 {
        image(&store, n, "my-installer").await;
        read(&store, n, None, if n < 3 { b"old" } else { b"newer" }).await;
        read(&store, n, Some("MINE\0"), if n < 3 { b"old" } else { b"newer" }).await;
        // What a later try does not know does not take away what an earlier one knew.
        read(&store, n, None, if n < 3 { b"old" } else { b"newer" }).await;
        ended(&store, n).await;
    }
    image(&store, 5, "other").await;

    let all = store.images(2).await.expect("read");
    let told: Vec<_> = all.iter().map(|i| (i.run.number, i.run.target.as_str(), i.image.is_some())).collect();
    assert_eq!(told, [(6, "other", false), (5, "my-installer", true), (4, "my-installer", true)], "no hosts");
    let seen = all[1].image.as_ref().expect("it was read");
    assert_eq!((seen.digest, seen.bytes, seen.whole), (Sha256::of(b"newer"), 5, true));
    assert_eq!(seen.volume.as_deref(), Some("MINE\u{fffd}"), "PostgreSQL takes no NUL");
    assert_eq!(store.image_of(run_id(5)).await.expect("read"), None);

    let id = TargetId::named(Pipeline::Image, "my-installer");
    let page = async |before, limit| -> Vec<_> {
        let runs = store.image_runs(id, before, limit).await.expect("read");
        runs.into_iter().map(|i| (i.run.number, i.image.expect("it was read").digest)).collect()
    };
    let (old, newer) = (Sha256::of(b"old"), Sha256::of(b"newer"));
    assert_eq!(page(None, 3).await, [(5, newer), (4, newer), (3, old)]);
    assert_eq!(page(Some(3), 3).await, [(2, old)]);
    assert_eq!(all[1].run.result, None::<RunResult>);
}
