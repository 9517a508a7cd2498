//! PostgreSQL with the labels that real recipes have: a dump before, one file in the backup, the dump read back after.

use std::time::{Duration, Instant};

use assay_backup::{
    DumpKind, DumpState, PlantedAt, RestoreOptions, RowsState, WitnessState, compare, detect, plant, restore,
};
use assay_recipe::compose::model::{Compose, Healthcheck, Service};
use assay_swarm::ImageSettings;

use crate::world::{World, debian, service, stack};

const IMAGE: &str = "postgres:15";
const DATA: &str = "/var/lib/postgresql/data";
const START: &str = r#"set -e
as() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
mkdir -p /var/run/postgresql
chown postgres "$PGDATA" /var/run/postgresql
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    as initdb --auth=trust --username=shop --no-sync >/dev/null
    echo 'create database shop' | as postgres --single postgres >/dev/null
fi
exec setpriv --reuid=postgres --regid=postgres --clear-groups postgres -c fsync=off -c listen_addresses="#;

#[tokio::test]
async fn rows_come_through_a_dump_into_a_fresh_stack() {
    let tree = debian("postgresql", "postgresql-15").await;
    let world = World::start().await;
    let started = Instant::now();
    let settings = ImageSettings {
        command: Vec::new(),
        environment: vec![
            ("PATH".to_owned(), "/usr/lib/postgresql/15/bin:/usr/bin:/bin:/usr/sbin:/sbin".to_owned()),
            ("PGDATA".to_owned(), DATA.to_owned()),
        ],
    };
    world.import(&tree, IMAGE, &settings).await;
    eprintln!("image imported in {:.1?}", started.elapsed());
    let store = world.store().await;
    let compose = shop();
    let old = world.up("old", &compose).await;
    world
        .says(&old, "db", "psql -U shop -c 'create table goods as select generate_series(1, 5000) as n'")
        .await;

    let databases = detect(&compose);
    let witness = plant(&world.site(&old), &databases).await.unwrap();
    eprintln!("planted in {:.1?}", witness.took);
    assert_eq!(witness.rows[0].state, RowsState::Planted, "{witness:#?}");
    // The dump is made by the hook: there is no folder of the label's to plant anything in.
    assert_eq!(witness.folders[0].at, PlantedAt::NotThere);
    let backup = world.back_up(&old, &store, &witness).await;
    assert!(backup.is_ok(), "{backup:#?}");
    let capture = &backup.captures[0];
    eprintln!("hooks: {:?} {:?}", capture.before[0].took, capture.checked_took);
    let dump = &capture.dumps[0];
    assert_eq!((capture.dumps.len(), dump.path.as_str()), (1, "backup.sql"));
    assert_eq!((dump.kind, &dump.state), (DumpKind::PostgreSqlText, &DumpState::Whole));
    // One file, and nothing of the database that runs beside it.
    assert_eq!((backup.snapshot.as_ref().unwrap().files, backup.manifest.files.len()), (1, 1));

    let new = world.up("new", &compose).await;
    let options = RestoreOptions::default();
    let restored = restore(&world.site(&new), &store, &backup, &witness, &databases, &options).await.unwrap();
    eprintln!("restored in {:.1?}: restic {:.1?}", restored.took, restored.restic_took);
    assert!(restored.is_ok(), "{restored:#?}");
    // It was asked, and has none of the rows.
    assert_eq!(restored.unproven, [""; 0]);
    assert_eq!((restored.left_running.as_slice(), restored.paths[0].same), (["db".to_owned()].as_slice(), 1));
    world.converged(&new).await;
    let compared = compare(&world.site(&new), &witness, &backup, &databases).await.unwrap();
    assert!(compared.rows[0].is_same(), "{compared:#?}");
    assert_eq!(compared.witnesses[0].state, WitnessState::File { same: true });
    assert_eq!(
        world.says(&new, "db", "psql -U shop -A -t -c 'select count(*), sum(n) from goods'").await,
        "5000|12502500"
    );

    // A database that does not answer is said not to.
    let mut wrong = databases.clone();
    wrong[0].database = Some(assay_backup::Setting::Text("nowhere".to_owned()));
    let unreachable = plant(&world.site(&new), &wrong).await.unwrap();
    let RowsState::Unreachable { why } = &unreachable.rows[0].state else { panic!("{unreachable:#?}") };
    assert!(why.contains("database \"nowhere\" does not exist"), "{why}");
    world.daemon.stop().await.unwrap();
}

fn shop() -> Compose {
    let db = service(
        START,
        &[("db-data", DATA)],
        &[
            ("backup", "true"),
            ("backup.volumes.db-data.path", "backup.sql"),
            ("backup.pre-hook", "pg_dump -U shop shop > $PGDATA/backup.sql"),
            ("restore.post-hook", "psql -U shop -v ON_ERROR_STOP=1 -f $PGDATA/backup.sql shop"),
        ],
    );
    let test = ["CMD-SHELL", "pg_isready -q -U shop -d shop"].map(str::to_owned).to_vec();
    let healthcheck = Healthcheck {
        test,
        interval: Some(Duration::from_secs(1)),
        retries: Some(30),
        ..Healthcheck::default()
    };
    let environment = [("POSTGRES_USER".to_owned(), Some("shop".to_owned()))].into_iter().collect();
    let image = Some(IMAGE.to_owned());
    stack([("db", Service { image, environment, healthcheck: Some(healthcheck), ..db })])
}
