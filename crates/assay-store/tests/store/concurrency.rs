//! Many writers at once: nothing lost, nothing twice.

use assay_model::{EventBody, Sha256};
use assay_store::{Changes, Store};

use crate::sample::{admitted, append, at, create, record, run_id};

pub(crate) async fn fifty_at_once_lose_nothing(store: Store, _url: String) {
    let run = run_id(1);
    create(&store, run, 1).await;
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                let decide = |view: &assay_model::RunView| {
                    // What is decided on is what is there: the event says what it saw.
                    let text = format!("{n} after {}", view.seq);
                    Ok::<_, String>(Changes { events: vec![record(&text)], writes: Vec::new() })
                };
                store.transact(run, at(n), decide).await.expect("committed").events[0].seq
            })
        })
        .collect();
    let mut told = Vec::new();
    for task in tasks {
        told.push(task.await.expect("ran"));
    }
    told.sort_unstable();
    assert_eq!(told, (2..=51).collect::<Vec<_>>());

    let journal = store.journal(run).await.expect("read");
    assay_model::journal::verify(run, Sha256::ZERO, &journal).expect("holds together");
    for event in store.events_after(run, 1, 100).await.expect("read") {
        let EventBody::FindingRaised { finding } = &event.body else { panic!("{event:?}") };
        assert!(
            finding.message.ends_with(&format!(" after {}", event.seq - 1)),
            "{finding:?} at {}",
            event.seq
        );
    }
    assert_eq!(store.view(run).await.expect("read").expect("there").run_findings.len(), 50);
}

pub(crate) async fn two_stores_on_one_database_agree(store: Store, url: String) {
    let run = run_id(1);
    create(&store, run, 1).await;
    let other = crate::open(&url).await;
    // Each has the run cached when the other appends.
    append(&other, run, at(1), vec![admitted()]).await;
    append(&store, run, at(2), vec![record("here")]).await;
    append(&other, run, at(3), vec![record("there")]).await;
    let writers = [store.clone(), other.clone()].map(|store| {
        tokio::spawn(async move {
            for n in 0..20 {
                append(&store, run, at(n), vec![record("both")]).await;
            }
        })
    });
    for writer in writers {
        writer.await.expect("ran");
    }
    let journal = store.journal(run).await.expect("read");
    assert_eq!(journal.len(), 44);
    assay_model::journal::verify(run, Sha256::ZERO, &journal).expect("holds together");
    assert_eq!(store.view(run).await.expect("read"), other.view(run).await.expect("read"));
    other.close().await.expect("closes");
}
