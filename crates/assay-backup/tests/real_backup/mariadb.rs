//! MariaDB with a volume for its dumps, which is in the backup, and one for its data, which is not.

use std::time::Duration;

use assay_backup::{
    DumpKind, DumpState, NotCovered, RestoreOptions, RowsState, WitnessState, compare, detect, plant, restore,
};
use assay_recipe::compose::model::{Compose, Healthcheck, Service};
use assay_swarm::ImageSettings;

use crate::world::{World, debian, service, stack};

const IMAGE: &str = "mariadb:10.11";
const START: &str = r"set -e
mkdir -p /run/mysqld
chown mysql /run/mysqld /var/lib/data
if [ ! -d /var/lib/data/mysql ]; then
    mariadb-install-db --user=mysql --datadir=/var/lib/data --skip-test-db >/dev/null
fi
cat > /init.sql <<SQL
create database if not exists $MARIADB_DATABASE;
create user if not exists $MARIADB_USER@localhost identified by '$MARIADB_PASSWORD';
grant all on $MARIADB_DATABASE.* to $MARIADB_USER@localhost;
SQL
exec mariadbd --user=mysql --datadir=/var/lib/data --skip-networking --init-file=/init.sql";
const DUMP: &str = "mariadb-dump -u root shop | gzip > /backup/backup.sql.gz";
const READ: &str = "gunzip < /backup/backup.sql.gz | mariadb -u root shop";

#[tokio::test]
async fn rows_come_through_a_packed_dump_into_a_fresh_stack() {
    let tree = debian("mariadb", "mariadb-server").await;
    let world = World::start().await;
    world.import(&tree, IMAGE, &ImageSettings::default()).await;
    let store = world.store().await;
    let compose = shop();
    let old = world.up("old", &compose).await;
    world
        .says(
            &old,
            "db",
            "mariadb -u root shop -e 'create table goods as select seq as n from seq_1_to_5000'",
        )
        .await;

    let databases = detect(&compose);
    let witness = plant(&world.site(&old), &databases).await.unwrap();
    assert_eq!(witness.rows[0].state, RowsState::Planted, "{witness:#?}");
    assert_eq!(
        (witness.uncovered[0].volume.as_str(), witness.uncovered[0].reason),
        ("data", NotCovered::ByLabel)
    );
    let backup = world.back_up(&old, &store, &witness).await;
    assert!(backup.is_ok(), "{backup:#?}");
    let dump = &backup.captures[0].dumps[0];
    assert_eq!((dump.kind, dump.within), (DumpKind::Gzip, Some(DumpKind::MySqlText)));
    assert_eq!((&dump.state, dump.path.as_str()), (&DumpState::Whole, "backup.sql.gz"));

    let new = world.up("new", &compose).await;
    let options = RestoreOptions::default();
    let restored = restore(&world.site(&new), &store, &backup, &witness, &databases, &options).await.unwrap();
    assert!(restored.is_ok() && restored.unproven.is_empty(), "{restored:#?}");
    world.converged(&new).await;
    let compared = compare(&world.site(&new), &witness, &backup, &databases).await.unwrap();
    assert!(compared.rows[0].is_same(), "{compared:#?}");
    assert_eq!(compared.witnesses[0].state, WitnessState::Same);
    assert_eq!(
        world.says(&new, "db", "mariadb -u root shop -N -e 'select count(*), sum(n) from goods'").await,
        "5000\t12502500"
    );
    world.daemon.stop().await.unwrap();
}

fn shop() -> Compose {
    let db = service(
        START,
        &[("data", "/var/lib/data"), ("dumps", "/backup")],
        &[
            ("backup", "true"),
            ("backup.volumes.data", "false"),
            ("backup.pre-hook", DUMP),
            ("restore.post-hook", READ),
        ],
    );
    let healthcheck = Healthcheck {
        test: ["CMD-SHELL", "mariadb -u root -e 'select 1' shop"].map(str::to_owned).to_vec(),
        interval: Some(Duration::from_secs(1)),
        retries: Some(60),
        ..Healthcheck::default()
    };
    let environment =
        [("MARIADB_USER", "shop"), ("MARIADB_PASSWORD", "sword fish"), ("MARIADB_DATABASE", "shop")]
            .map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    let environment = environment.into_iter().collect();
    let image = Some(IMAGE.to_owned());
    stack([("db", Service { image, environment, healthcheck: Some(healthcheck), ..db })])
}
