//! Many writers at once: nothing lost, nothing twice.

use assay_model::{EventBody, Sha256};
use assay_store::{Changes, Store, StoreErrorKind, TransactError, Write};

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

/// Appends that wait for one another go into one commit where the database has one writer; whoever fails among them
/// fails alone.
pub(crate) async fn of_many_at_once_each_stands_for_itself(store: Store, _url: String) {
    let runs: Vec<_> = (1..=12).map(run_id).collect();
    for (host, run) in (1..).zip(&runs) {
        create(&store, *run, host).await;
    }
    let spend = || Write::SpendBootToken { hash: Sha256::of(b"never minted") };
    let appends = runs.iter().enumerate().map(|(n, run)| {
        let store = store.clone();
        async move {
            store
                .transact(*run, at(5), move |_| match n {
                    3 => Err("not today".to_owned()),
                    5 => Ok(Changes { events: vec![record("spends")], writes: vec![spend()] }),
                    7 => Ok(Changes::default()),
                    _ => Ok(Changes { events: vec![record("stands")], writes: Vec::new() }),
                })
                .await
        }
    });
    let nobody = store.transact(run_id(99), at(5), |_| Ok::<_, String>(Changes::default()));
    let (outcomes, nobody) = futures::join!(futures::future::join_all(appends), nobody);
    assert!(matches!(nobody, Err(TransactError::NoSuchRun)), "{nobody:?}");
    for (n, (run, outcome)) in runs.iter().zip(outcomes).enumerate() {
        let length = store.journal(*run).await.expect("read").len();
        match (n, outcome) {
            (3, Err(TransactError::Refused(why))) => assert_eq!((why.as_str(), length), ("not today", 1)),
            (5, Err(TransactError::Store(error))) => {
                assert!(matches!(error.kind, StoreErrorKind::Conflict(_)), "{error:?}");
                assert_eq!(length, 1, "nothing of it stays");
            }
            (7, Ok(done)) => assert_eq!((done.events.len(), length), (0, 1)),
            (_, Ok(done)) => {
                assert_eq!((done.events.len(), done.view.seq, length), (1, 2, 2), "run {n}");
                assert_eq!(store.view(*run).await.expect("read").expect("there"), done.view);
            }
            (_, Err(error)) => panic!("run {n}: {error}"),
        }
    }
}

/// A caller that goes away before its turn leaves nothing, and keeps nobody waiting.
pub(crate) async fn a_caller_that_went_away_is_left_out(store: Store, _url: String) {
    let run = run_id(1);
    create(&store, run, 1).await;
    // While somebody else decides about the run, it is nobody's turn. (About another run it may be: PostgreSQL has many writers.)
    let (deciding, decides) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let slow = tokio::spawn({
        let store = store.clone();
        async move {
            let decide = move |_: &assay_model::RunView| {
                deciding.send(()).expect("awaited");
                may_go_on.recv().expect("told");
                Ok::<_, String>(Changes { events: vec![record("here")], writes: Vec::new() })
            };
            store.transact(run, at(1), decide).await
        }
    });
    decides.await.expect("its turn came");
    let mut asked = Box::pin(store.transact(run, at(2), |_| {
        Ok::<_, String>(Changes { events: vec![record("never")], writes: Vec::new() })
    }));
    if let std::task::Poll::Ready(outcome) = futures::poll!(&mut asked) {
        panic!("it waits for its turn, but had {outcome:?}");
    }
    drop(asked);
    go_on.send(()).expect("still there");
    slow.await.expect("ran").expect("appended");
    assert_eq!(store.journal(run).await.expect("read").len(), 2, "created, and the one who stayed");
    append(&store, run, at(3), vec![record("later")]).await;
    assert_eq!(store.journal(run).await.expect("read").len(), 3);
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
