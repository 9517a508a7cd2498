//! The journal: appending, refusing, folding, verifying.

use assay_model::event::Sealed;
use assay_model::journal::verify;
use assay_model::{Decision, DecisionKind, EventBody, RunResult, RunState, RunView, Sha256, Verdict};
use assay_store::{Changed, Changes, CreateError, RunFilter, Store, StoreErrorKind, TransactError, Write};
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, Statement};
use serde_json::json;

use crate::sample::{
    admitted, append, at, create, created, enrolled, finding, judged, pass, record, run_id, seal, started,
};

pub(crate) async fn a_run_from_creation_to_addendum(store: Store, url: String) {
    let run = run_id(1);
    let mut changes = store.subscribe();
    let view = create(&store, run, 1).await;
    assert_eq!((view.created.number, view.state(), view.seq), (1, RunState::Queued, 1));
    assert_eq!(store.run_id(1).await.expect("read"), Some(run));
    assert_eq!(store.run_id(2).await.expect("read"), None);
    assert_eq!(store.open_runs().await.expect("read"), [run]);

    pass(&store, run).await;
    let unsealed = store.addendum(run, at(15), "Comment@1", &json!({})).await.expect_err("refused");
    assert!(matches!(unsealed.kind, StoreErrorKind::Conflict(_)), "{unsealed}");
    seal(&store, run).await;
    assert_eq!(changes.recv().await, Ok(Changed { run, seq: 1 }));
    assert_eq!(changes.recv().await, Ok(Changed { run, seq: 8 }));
    assert_eq!(changes.recv().await, Ok(Changed { run, seq: 9 }));
    assert_eq!(store.open_runs().await.expect("read"), []);

    let journal = store.journal(run).await.expect("read");
    let head = verify(run, Sha256::ZERO, &journal).expect("holds together");
    assert_eq!(store.head(run).await.expect("read"), Some((9, head)));
    store.addendum(run, at(30), "Comment@1", &json!({"b": 1, "a": 2})).await.expect("appended");
    store.addendum(run, at(31), "Comment@1", &json!("again")).await.expect("appended");
    let addenda = store.addenda(run).await.expect("read");
    assert_eq!(addenda[0].body, br#"{"b":1,"a":2}"#, "verbatim");
    verify(run, head, &addenda).expect("follows the seal");

    let events = store.events_after(run, 6, 2).await.expect("read");
    let told: Vec<_> = events.iter().map(|e| (e.seq, e.body.kind())).collect();
    assert_eq!(told, [(7, "StageJudged"), (8, "RunCompleted")]);

    // Another process folds the same run from the same rows.
    let elsewhere = crate::open(&url).await;
    let folded = elsewhere.view(run).await.expect("read").expect("there");
    assert_eq!(folded, store.view(run).await.expect("read").expect("there"));
    assert_eq!((folded.result, folded.status.sealed), (Some(RunResult::Pass), true));
    elsewhere.close().await.expect("closes");
}

pub(crate) async fn what_may_not_happen_changes_nothing(store: Store, _url: String) {
    let run = run_id(1);
    create(&store, run, 1).await;
    let before = (store.journal(run).await.expect("read"), store.view(run).await.expect("read"));

    // Legal first, illegal second: not even the legal one stays, nor the write beside them.
    let hash = Sha256::of(b"runner token");
    let changes = Changes {
        events: vec![admitted(), admitted()],
        writes: vec![Write::RunnerToken { hash, runner: "r1".into() }],
    };
    let illegal = store.transact(run, at(1), |_| Ok::<_, String>(changes)).await.expect_err("refused");
    assert!(matches!(&illegal, TransactError::Illegal(e) if e.event == "Admitted"), "{illegal}");
    let refused = store.transact(run, at(1), |view| Err::<Changes, _>(format!("{}, no", view.state()))).await;
    assert!(matches!(refused, Err(TransactError::Refused(why)) if why == "Queued, no"));
    let nothing =
        store.transact(run, at(1), |_| Ok::<_, String>(Changes::default())).await.expect("nothing to do");
    assert_eq!((nothing.events.len(), nothing.view.seq), (0, 1));
    let nobody = store.transact(run_id(9), at(1), |_| Ok::<_, String>(Changes::default())).await;
    assert!(matches!(nobody, Err(TransactError::NoSuchRun)));

    assert_eq!((store.journal(run).await.expect("read"), store.view(run).await.expect("read")), before);
    assert_eq!(store.runner_by_token(hash).await.expect("read"), None);

    // A seal over a head that is not the head any more.
    pass(&store, run).await;
    let (_, old) = store.head(run).await.expect("read").expect("there");
    append(&store, run, at(11), vec![record("late news")]).await;
    let seal = Sealed { head: old, result: Some(RunResult::Pass), overridden: false, envelope: json!({}) };
    let changes = Changes { events: vec![EventBody::Sealed(Box::new(seal))], writes: Vec::new() };
    let stale = store.transact(run, at(12), |_| Ok::<_, String>(changes)).await.expect_err("refused");
    assert!(
        matches!(&stale, TransactError::Store(e) if matches!(e.kind, StoreErrorKind::Conflict(_))),
        "{stale}"
    );
    assert!(!store.view(run).await.expect("read").expect("there").status.sealed);
}

pub(crate) async fn a_host_is_tested_once_at_a_time(store: Store, _url: String) {
    create(&store, run_id(1), 1).await;
    append(&store, run_id(1), at(1), vec![admitted()]).await;
    let busy = store.create_run(run_id(2), at(2), created(1)).await.expect_err("refused");
    assert_eq!(busy.to_string(), "the host has run 1 (Booting); wait for it, or cancel it");
    assert!(matches!(busy, CreateError::HostBusy { number: 1, state: RunState::Booting }));

    // The refused run took no number; another host's is the next.
    assert_eq!(create(&store, run_id(3), 2).await.created.number, 2);
    let cancel = Decision {
        kind: DecisionKind::Cancel,
        by: "ada".into(),
        why: "wrong host".into(),
        serials: Vec::new(),
    };
    let events = vec![
        EventBody::Decided { decision: cancel },
        EventBody::CancelConfirmed { how: "powered off".into() },
    ];
    append(&store, run_id(1), at(3), events).await;
    // Over, though not sealed: the host is free.
    assert_eq!(create(&store, run_id(4), 1).await.created.number, 3);
    assert_eq!(store.open_runs().await.expect("read"), [run_id(1), run_id(3), run_id(4)]);
}

pub(crate) async fn rows_follow_the_journal(store: Store, url: String) {
    let run = run_id(1);
    create(&store, run, 1).await;
    let bad = || vec![finding("it says \0 FAILING"), finding("twice")];
    append(&store, run, at(1), vec![admitted(), enrolled(), started(0, 1)]).await;
    append(&store, run, at(2), vec![judged(0, 1, Verdict::Fail, bad()), record("about the run")]).await;
    let artifact = EventBody::ArtifactStored {
        stage: Some("Inventory".into()),
        attempt: 1,
        name: "inventory.json".into(),
        digest: Sha256::of(b"{}"),
        bytes: 2,
        late: true,
    };
    append(&store, run, at(3), vec![artifact, EventBody::Held { until: at(4000) }]).await;

    let db = Database::connect(&url).await.expect("connects");
    let rows = store.list_runs(RunFilter::default()).await.expect("read");
    assert_eq!(
        (rows[0].state, rows[0].failed_stage.as_deref()),
        (RunState::FailedHolding, Some("Inventory"))
    );
    assert_eq!(count(&db, "findings WHERE stage = 'Inventory' AND part LIKE '%bay 3%'").await, 2);
    assert_eq!(count(&db, "findings WHERE stage_idx = -1").await, 1);
    assert_eq!(count(&db, "artifacts WHERE name = 'inventory.json' AND late").await, 1);
    assert_eq!(
        count(&db, "stages WHERE verdict = 'fail' AND NOT passed AND summary_json LIKE '%FAILING%'").await,
        1
    );

    // Waived: the failed stage stays on record, the run goes on, and it shows for ever.
    let waive =
        Decision { kind: DecisionKind::Waive, by: "ada".into(), why: "known".into(), serials: Vec::new() };
    append(&store, run, at(5), vec![EventBody::Decided { decision: waive }, started(1, 1)]).await;
    assert_eq!(count(&db, "stages WHERE idx = 0 AND waived").await, 1);
    append(
        &store,
        run,
        at(6),
        vec![EventBody::AttemptLost { stage: "SMART".into(), attempt: 1, reason: "silent".into() }],
    )
    .await;
    append(&store, run, at(7), vec![started(1, 2), judged(1, 2, Verdict::Pass, Vec::new())]).await;
    assert_eq!(count(&db, "stages WHERE idx = 1").await, 2);
    assert_eq!(
        count(&db, "stages WHERE idx = 1 AND attempt = 1 AND message = 'silent' AND passed IS NULL").await,
        1
    );
    append(&store, run, at(8), vec![EventBody::RunCompleted { result: Some(RunResult::Pass) }]).await;

    let row = store.list_runs(RunFilter::default()).await.expect("read").remove(0);
    let view = store.view(run).await.expect("read").expect("there");
    assert_eq!((row.state, row.result, row.overridden), (RunState::Completed, Some(RunResult::Pass), true));
    assert_eq!((row.stage_index, row.stage_name, row.failed_stage), (2, None, None));
    assert_eq!((row.started_at, row.completed_at), (view.started_at, view.completed_at));

    create(&store, run_id(2), 2).await;
    let of = |filter: RunFilter| {
        let store = store.clone();
        async move { store.list_runs(filter).await.expect("read").iter().map(|r| r.number).collect::<Vec<_>>() }
    };
    assert_eq!(of(RunFilter::default()).await, [2, 1]);
    assert_eq!(of(RunFilter { before_number: Some(2), ..RunFilter::default() }).await, [1]);
    assert_eq!(of(RunFilter { limit: 1, ..RunFilter::default() }).await, [2]);
    assert_eq!(of(RunFilter { state: Some(RunState::Completed), ..RunFilter::default() }).await, [1]);
    let target = Some(view.created.target.id);
    assert_eq!(of(RunFilter { target, state: Some(RunState::Queued), ..RunFilter::default() }).await, [0; 0]);
    db.close().await.expect("closes");
}

pub(crate) async fn an_altered_journal_is_refused(store: Store, url: String) {
    let run = run_id(1);
    create(&store, run, 1).await;
    append(&store, run, at(1), vec![admitted()]).await;
    let db = Database::connect(&url).await.expect("connects");
    let forged = br#"{"runner":"r2"}"#.to_vec();
    let sql = "UPDATE events SET body = $1 WHERE seq = 2";
    db.execute_raw(Statement::from_sql_and_values(db.get_database_backend(), sql, [forged.into()]))
        .await
        .expect("altered");
    db.close().await.expect("closes");

    let elsewhere = crate::open(&url).await;
    let refused = elsewhere.view(run).await.expect_err("noticed");
    assert!(matches!(refused.kind, StoreErrorKind::Broken { .. }), "{refused}");
    let decide = |_: &RunView| Ok::<_, String>(Changes { events: vec![record("x")], writes: Vec::new() });
    assert!(matches!(elsewhere.transact(run, at(2), decide).await, Err(TransactError::Store(_))));
    elsewhere.close().await.expect("closes");
}

pub(crate) async fn count(db: &DatabaseConnection, what: &str) -> i64 {
    let sql = format!("SELECT COUNT(*) AS n FROM {what}");
    let row =
        db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await.expect("counted");
    row.expect("a row").try_get("", "n").expect("a number")
}
