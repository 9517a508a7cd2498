//! Bulk rows: stored once, summed up, bound to the chain, dropped by the day.

use assay_model::EventBody;
use assay_model::sensor::SensorBatch;
use assay_store::{Bulk, BulkRange, LogLine, SensorRow, Store, StoreErrorKind};
use sea_orm::{ConnectionTrait as _, Database, Statement};

use crate::journal::count;
use crate::sample::{append, at, batch, create, created, pass, run_id, seal};

fn row(run: u128, boot: u32, seq: i64, batch: SensorBatch) -> SensorRow {
    SensorRow { run: run_id(run), boot, seq, from: at(0), to: at(0), batch }
}

fn line(text: &str) -> Vec<LogLine> {
    vec![LogLine { at: at(1), source: "kernel".into(), text: text.into() }]
}

pub(crate) async fn readings_are_stored_once_and_summed_up(store: Store, url: String) {
    create(&store, run_id(1), 1).await;
    create(&store, run_id(2), 2).await;
    let first = batch(0, &[(Some(40.5), Some(12.0)), (Some(43.0), None)]);
    let second = batch(1, &[(Some(39.0), None)]);
    // Together in one group: two runs, a repetition, the second before the first.
    let appended = tokio::join!(
        store.sensors_append(row(1, 1, 2, second.clone())),
        store.sensors_append(row(1, 1, 1, first.clone())),
        store.sensors_append(row(1, 1, 1, first.clone())),
        store.sensors_append(row(2, 1, 1, second.clone())),
    );
    for result in [appended.0, appended.1, appended.2, appended.3] {
        result.expect("committed");
    }
    // Again later, and from another boot.
    store.sensors_append(row(1, 1, 2, second.clone())).await.expect("known already");
    store.sensors_append(row(1, 2, 1, second.clone())).await.expect("committed");

    let rows = store.sensor_batches(run_id(1), None, 10).await.expect("read");
    let places: Vec<_> = rows.iter().map(|r| (r.boot, r.seq)).collect();
    assert_eq!(places, [(1, 1), (1, 2), (2, 1)]);
    assert_eq!((&rows[0].batch, rows[0].from, rows[0].to), (&first, at(0), at(1)));
    let rest = store.sensor_batches(run_id(1), Some((1, 1)), 1).await.expect("read");
    assert_eq!(rest.iter().map(|r| (r.boot, r.seq)).collect::<Vec<_>>(), [(1, 2)]);

    let summaries = store.sensor_summaries(run_id(1)).await.expect("read");
    let told: Vec<_> =
        summaries.iter().map(|s| (s.sensor.kind.as_str(), s.samples, s.missing, s.min, s.max)).collect();
    assert_eq!(told, [("thermal", 4, 0, Some(39.0), Some(43.0)), ("psu", 1, 3, Some(12.0), Some(12.0))]);
    assert_eq!(summaries[0].sensor, first.sensors[0]);

    let db = Database::connect(&url).await.expect("connects");
    assert_eq!(
        count(&db, "measurements WHERE kind = 'thermal' AND unit = '°C' AND samples = 2 AND mean = 41.75")
            .await,
        1
    );
    assert_eq!(count(&db, "measurements WHERE kind = 'psu' AND samples = 0 AND mean IS NULL").await, 2);
    db.close().await.expect("closes");
}

pub(crate) async fn log_lines_have_a_stable_cursor(store: Store, _url: String) {
    let run = run_id(1);
    create(&store, run, 1).await;
    assert_eq!(store.log_after(run, 0, 10).await.expect("read"), []);
    store.log_append(run, 1, 2, &line("second, but first here")).await.expect("committed");
    store.log_append(run, 1, 1, &line("nul \0 and ü")).await.expect("committed");
    store.log_append(run, 1, 2, &line("sent again")).await.expect("known already");
    let all = store.log_after(run, 0, 10).await.expect("read");
    assert_eq!(all.iter().map(|c| (c.cursor, c.seq)).collect::<Vec<_>>(), [(1, 2), (2, 1)]);
    assert_eq!(all[1].lines, line("nul \0 and ü"));
    assert_eq!(store.log_after(run, 1, 10).await.expect("read"), all[1..]);
    assert_eq!(store.log_after(run, 2, 10).await.expect("read"), []);
}

pub(crate) async fn bulk_rows_are_bound_to_the_chain(store: Store, url: String) {
    let run = run_id(1);
    create(&store, run, 1).await;
    assert_eq!(store.bulk_unsealed(run, Bulk::Log).await.expect("read"), None);
    for seq in 1..=3 {
        store.log_append(run, 1, seq, &line(&format!("line {seq}"))).await.expect("committed");
    }
    let open = store.bulk_unsealed(run, Bulk::Log).await.expect("read").expect("rows");
    assert_eq!((open.from, open.to, open.rows), (1, 3, 3));
    let BulkRange { from, to, rows, digest } = open;
    let sealed = EventBody::BulkSealed { what: Bulk::Log.as_str().into(), from, to, rows, digest };
    append(&store, run, at(60), vec![sealed]).await;
    assert_eq!(store.bulk_unsealed(run, Bulk::Log).await.expect("read"), None);
    assert_eq!(store.bulk_unsealed(run, Bulk::Sensors).await.expect("read"), None);
    store.log_append(run, 1, 4, &line("line 4")).await.expect("committed");
    assert_eq!(
        store.bulk_unsealed(run, Bulk::Log).await.expect("read").map(|r| (r.from, r.to)),
        Some((4, 4))
    );
    assert_eq!(store.bulk_digest(run, Bulk::Log, 1, 3).await.expect("read"), Some(open));

    let db = Database::connect(&url).await.expect("connects");
    let altered = serde_json::to_vec(&line("line X")).expect("JSON");
    let sql = "UPDATE log_20261121 SET body = $1 WHERE id = 2";
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, [altered.into()]);
    assert_eq!(db.execute_raw(statement).await.expect("altered").rows_affected(), 1);
    db.close().await.expect("closes");
    let now = store.bulk_digest(run, Bulk::Log, 1, 3).await.expect("read").expect("rows");
    assert_eq!((now.rows, now.digest == open.digest), (3, false), "an altered row shows");
}

pub(crate) async fn a_bad_row_fails_alone(store: Store, _url: String) {
    create(&store, run_id(1), 1).await;
    let mut short = batch(0, &[(None, None)]);
    short.samples[0].values.pop();
    let (good, nobody, bad) = tokio::join!(
        store.sensors_append(row(1, 1, 1, batch(0, &[(Some(1.0), None)]))),
        store.sensors_append(row(9, 1, 1, batch(0, &[(Some(1.0), None)]))),
        store.sensors_append(row(1, 1, 2, short)),
    );
    good.expect("committed");
    assert!(matches!(nobody.expect_err("no such run").kind, StoreErrorKind::Conflict(_)));
    assert!(matches!(bad.expect_err("does not fit").kind, StoreErrorKind::Invalid(_)));
    assert_eq!(store.sensor_summaries(run_id(1)).await.expect("read")[0].samples, 1);
    assert_eq!(store.sensor_batches(run_id(9), None, 10).await.expect("read"), []);
}

pub(crate) async fn retention_drops_whole_days(store: Store, _url: String) {
    const DAY: i64 = 86_400;
    let (old, held, new) = (run_id(1), run_id(2), run_id(3));
    for (run, day, host) in [(old, 0, 1), (held, 1, 2), (new, 2, 3)] {
        store.create_run(run, at(day * DAY), created(host)).await.expect("created");
        let reading = SensorRow { run, ..row(1, 1, 1, batch(0, &[(Some(1.0), None)])) };
        store.sensors_append(reading).await.expect("committed");
    }
    pass(&store, old).await;
    seal(&store, old).await;
    let dropped = store.measurements_drop_before(at(2 * DAY)).await.expect("dropped");
    assert_eq!(dropped, ["sensors_20261121"], "the day of an unsealed run stays");
    assert_eq!(store.measurements_drop_before(at(2 * DAY)).await.expect("dropped"), [""; 0]);

    assert_eq!(store.sensor_batches(old, None, 10).await.expect("read"), []);
    assert_eq!(store.bulk_digest(old, Bulk::Sensors, 1, 1).await.expect("read"), None);
    assert_eq!(store.sensor_summaries(old).await.expect("read")[0].samples, 1, "roll-ups stay");
    let late = store.sensors_append(SensorRow { run: old, ..row(1, 1, 2, batch(1, &[(None, None)])) }).await;
    assert!(matches!(late.expect_err("too late").kind, StoreErrorKind::Pruned));
    for run in [held, new] {
        assert_eq!(store.sensor_batches(run, None, 10).await.expect("read").len(), 1);
    }
}
