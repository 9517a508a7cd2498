//! Migrations run on databases that have rows in them. Each step has its sample rows here; a later
//! step must carry them over.

use assay_model::journal::StoredEvent;
use assay_model::{EventBody, Micros, Sha256};
use assay_store::{BootTokenState, OutboxState, Role, RunFilter, Store, StoreErrorKind, TickKind};
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, Statement, Value};
use serde_json::json;

use crate::sample::{at, created, mac, run_id};

/// Rows as each step would have found them, oldest step first.
fn sample_rows() -> [Vec<(&'static str, Vec<Value>)>; 15] {
    let run = run_id(1);
    let mut created = created(1);
    created.number = 7;
    let host = created.target.id.0;
    let (kind, body) = EventBody::RunCreated(Box::new(created)).encode();
    let event = StoredEvent::chain(run, 1, at(0), kind, body, Sha256::ZERO);
    let hash = || Value::from(Sha256::of(b"x").0.to_vec());
    [
        vec![
            ("UPDATE counters SET value = $1 WHERE name = 'run'", vec![7_i64.into()]),
            (
                "INSERT INTO runs VALUES ($1, 7, $2, 'node1', 'host', 'standard', 'Queued', 0, 'Inventory', NULL, $3,
                    NULL, $4, NULL, NULL, $3, 1, $5)",
                vec![run.0.into(), host.into(), false.into(), at(0).0.into(), event.hash.0.to_vec().into()],
            ),
            (
                "INSERT INTO events VALUES ($1, 1, $2, $3, $4, $5, $6)",
                vec![
                    run.0.into(),
                    event.at.0.into(),
                    event.kind.into(),
                    event.body.into(),
                    event.prev_hash.0.to_vec().into(),
                    event.hash.0.to_vec().into(),
                ],
            ),
        ],
        vec![
            (
                "INSERT INTO boot_tokens VALUES ($1, $2, 1, $3, 5, 'live')",
                vec![hash(), run.0.into(), mac(1).to_string().into()],
            ),
            ("INSERT INTO leases VALUES ($1, 1, 'agent', 5)", vec![run.0.into()]),
            ("INSERT INTO operators VALUES ('ada', '$argon2id$', 'admin')", vec![]),
            ("INSERT INTO api_tokens VALUES ($1, 'ci', 'viewer', 1, 2)", vec![hash()]),
        ],
        vec![
            ("INSERT INTO hosts VALUES ($1, 'node1', 'memory: 1', '{}', 1)", vec![host.into()]),
            ("INSERT INTO host_macs VALUES ($1, $2, 0)", vec![mac(1).to_string().into(), host.into()]),
            ("INSERT INTO runners VALUES ('r1', '0.1.0', NULL, 1, 2)", vec![]),
        ],
        vec![
            ("INSERT INTO sensors VALUES ($1, 1, 'a', 'thermal', '°C', NULL, 95.5)", vec![run.0.into()]),
            ("INSERT INTO rollups VALUES ($1, 1, 0, 2, 1, 3.5, 4.5, 8.0)", vec![run.0.into()]),
        ],
        vec![
            ("INSERT INTO outbox VALUES ('n', $1, 'RunCompleted', '{\"a\":1}', 1, 'sent', 1, 'ok')", vec![run.0.into()]),
            ("INSERT INTO outbox VALUES ('s', $1, 'RunHeld', '{}', 2, 'sending', 2, NULL)", vec![run.0.into()]),
            ("INSERT INTO settings VALUES ('k', '1')", vec![]),
        ],
        vec![("INSERT INTO deliveries VALUES ('n', 'ops', 'sent', 1, 1, 1, 'ok')", vec![])],
        vec![
            ("INSERT INTO checkpoints VALUES ($1, 'Storage', 1, 3, 1, '{\"pass\":2}')", vec![run.0.into()]),
            ("INSERT INTO pins VALUES ($1, 'ada', 1)", vec![run.0.into()]),
        ],
        // It renames a column, which the rows above have.
        vec![],
        vec![(
            "INSERT INTO image_runs VALUES ($1, $2, 4096, 'MY_INSTALLER', $3)",
            vec![run.0.into(), hash(), true.into()],
        )],
        vec![
            ("INSERT INTO machines VALUES ($1, '{\"components\":[]}')", vec![hash()]),
            ("INSERT INTO run_machines VALUES ($1, $2, NULL)", vec![run.0.into(), hash()]),
            ("INSERT INTO image_trials VALUES ($1, 'my', 'pass', 5, '[\"SlowBoot\"]', 2)", vec![run.0.into()]),
        ],
        vec![("INSERT INTO settings VALUES ('queue', '{\"limits\":{\"recipe\":4}}')", vec![])],
        vec![
            ("INSERT INTO forge_repos VALUES ('coop', 'apps/wiki', '{}')", vec![]),
            (
                "INSERT INTO forge_commands VALUES ('coop', 'apps/wiki', 5, 12, 'alice', '{}', 1, $1, 'open', 0, 2, NULL, NULL)",
                vec![run.0.into()],
            ),
            ("INSERT INTO forge_pulls VALUES ('coop', 'apps/wiki', 12, NULL, NULL, '{}', '[]', NULL, 1, 0, 2)", vec![]),
        ],
        vec![(
            "INSERT INTO recipe_runs VALUES ($1, 'pass fail skip unver pass', 'a', 'CrashLoop', $2, $2, '1.0.0+1',
                NULL, $2, $2, NULL)",
            vec![run.0.into(), false.into()],
        )],
        vec![
            ("INSERT INTO schedules VALUES ('nightly', '{\"a\":1}', 'ada', 1, 2, 'mara', 3, 4)", vec![]),
            ("INSERT INTO batches VALUES (3, '{}', 'schedule nightly', 'nightly', 1, 'stopped', 'assay', 'why', 2)", vec![]),
            ("INSERT INTO schedule_ticks VALUES ('nightly', 4, 5, 'caught_up', 6, 3, 'note')", vec![]),
            (
                "INSERT INTO batch_items VALUES (3, 0, $1, 'node1', $2, NULL, $3)",
                vec![host.into(), run.0.into(), true.into()],
            ),
            ("INSERT INTO host_labels VALUES ($1, 'rack7')", vec![host.into()]),
        ],
        vec![
            ("INSERT INTO forge_heads VALUES ('coop', 'infra/images', 12, 'c0ffee')", vec![]),
            (
                "INSERT INTO forge_images VALUES ($1, 'coop', 'infra/images', 12, 'node', 'c0ffee', 'alice', 'a push', 1, 'open',
                    2, 3, '{}', 'waits', NULL)",
                vec![run.0.into()],
            ),
        ],
    ]
}

pub(crate) async fn a_filled_database_is_carried_over(_store: Store, url: String) {
    let url = sibling(&url, "older").await;
    for (steps, rows) in (1..).zip(sample_rows()) {
        Store::migrate_first(&url, steps).await.expect("migrated");
        let db = Database::connect(&url).await.expect("connects");
        for (sql, values) in rows {
            insert(&db, sql, values).await;
        }
        db.close().await.expect("closes");
    }
    let store = crate::open(&url).await;
    let run = run_id(1);
    let row = store.list_runs(RunFilter::default()).await.expect("read").remove(0);
    assert_eq!((row.number, row.id), (7, run));
    assert_eq!(store.view(run).await.expect("read").expect("there").created.spec, json!({"memory": "64GiB"}));
    let token = store.boot_token(Sha256::of(b"x")).await.expect("read").expect("there");
    assert_eq!((token.state, token.mac), (BootTokenState::Live, mac(1)));
    assert_eq!(store.leases().await.expect("read").len(), 1);
    assert_eq!(store.operator("ada").await.expect("read").map(|o| o.role), Some(Role::Admin));
    assert!(store.api_tokens().await.expect("read")[0].revoked_at.is_some());
    assert_eq!(store.host_by_mac(mac(1)).await.expect("read").map(|h| h.name), Some("node1".into()));
    assert_eq!(store.runners().await.expect("read").len(), 1);
    let summary = store.sensor_summaries(run).await.expect("read").remove(0);
    assert_eq!((summary.samples, summary.missing, summary.max), (2, 1, Some(4.5)));
    let told: Vec<_> = store.outbox_of(run).await.expect("read").into_iter().map(|row| row.state).collect();
    assert_eq!(told, [OutboxState::Sent, OutboxState::Unknown], "what was being sent may have gone out");
    assert_eq!(store.outbox_tally("ops").await.expect("read").last_success, Some(Micros(1)));
    assert!(store.setting("queue").await.expect("read").is_some());
    assert_eq!(store.forge_parts("coop").await.expect("read").len(), 1);
    let asked = store.forge_commands_due("coop", Micros(2), 9).await.expect("read").remove(0);
    assert_eq!((asked.key.comment, asked.pull, asked.run), (5, 12, run));
    assert_eq!(store.forge_pulls_due("coop", Micros(2), 9).await.expect("read").len(), 1);
    assert_eq!(store.forge_heads("coop", "infra/images").await.expect("read"), [(12, "c0ffee".to_owned())]);
    let image = store.forge_images_due("coop", Micros(3), 9).await.expect("read").remove(0);
    assert_eq!((image.image.as_str(), image.attempts, image.run), ("node", 2, run));
    assert_eq!(store.setting("k").await.expect("read"), Some(json!(1)));
    let checkpoint = store.checkpoint(run, &"Storage".into()).await.expect("read").expect("there");
    assert_eq!((checkpoint.generation, checkpoint.state), (3, json!({"pass": 2})));
    assert_eq!(store.pins().await.expect("read")[0].by, "ada");
    let image = store.image_of(run).await.expect("read").expect("there");
    assert_eq!((image.digest, image.volume.as_deref()), (Sha256::of(b"x"), Some("MY_INSTALLER")));
    let trial = store.trials().await.expect("read").remove(0);
    assert_eq!((trial.number, trial.machine, trial.outcome.unverified), (7, Sha256::of(b"x"), 2));
    let target = store.view(run).await.expect("read").expect("there").created.target.id;
    assert!(store.recipe_runs_of(target, None, 9).await.expect("read").is_empty(), "it is a host's");
    assert!(store.recipe_greens().await.expect("read").is_empty());
    let schedule = store.schedule("nightly").await.expect("read").expect("there");
    assert_eq!(
        (schedule.paused.map(|pause| pause.by), schedule.done_through),
        (Some("mara".to_owned()), Micros(4))
    );
    assert_eq!(store.schedule_ticks("nightly", 9).await.expect("read")[0].kind, TickKind::CaughtUp);
    assert_eq!(store.batch(3).await.expect("read").expect("there").schedule.as_deref(), Some("nightly"));
    let item = store.batch_items(3).await.expect("read").remove(0);
    assert_eq!((item.run.map(|run| run.number), item.forgiven), (Some(7), true));
    assert_eq!(store.host_labels().await.expect("read").len(), 1);
    // Numbers go on where they were.
    let next = store.create_run(run_id(2), at(1), created(2)).await.expect("created");
    assert_eq!(next.created.number, 8);
    store.close().await.expect("closes");
}

pub(crate) async fn a_newer_database_is_refused(store: Store, url: String) {
    store.close().await.expect("closes");
    let db = Database::connect(&url).await.expect("connects");
    insert(&db, "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_future', 1)", vec![])
        .await;
    db.close().await.expect("closes");
    let refused = Store::open(&url).await.expect_err("refused");
    assert!(
        matches!(&refused.kind, StoreErrorKind::Newer { migration } if migration == "m9999_future"),
        "{refused}"
    );
}

async fn insert(db: &DatabaseConnection, sql: &str, values: Vec<Value>) {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    assert_eq!(db.execute_raw(statement).await.expect(sql).rows_affected(), 1, "{sql}");
}

/// The URL of a second, empty database beside this one.
async fn sibling(url: &str, name: &str) -> String {
    let (base, _) = url.rsplit_once('/').expect("a path");
    if url.starts_with("postgres") {
        let db = Database::connect(url).await.expect("connects");
        db.execute_unprepared(&format!("CREATE DATABASE {name}")).await.expect("created");
        db.close().await.expect("closes");
    }
    format!("{base}/{name}{}", if url.starts_with("sqlite") { ".db" } else { "" })
}
