//! What services are taken for, what their clients are asked, and that the scripts run: against clients that only show how they
//! were called.

use assay_process::Cmd;
use assay_recipe::compose::model::{Compose, Service};

use super::{Database, DatabaseKind, Found, Setting, compared, detect, insert, payload};

fn service(image: &str, environment: &[(&str, &str)]) -> Service {
    let environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
    Service { image: Some(image.to_owned()), environment, ..Service::default() }
}

#[test]
fn servers_are_known_by_their_image_and_settings_by_their_variables() {
    let mut compose = Compose::default();
    let services = [
        ("app", service("docker.io/shop:1", &[("POSTGRES_PASSWORD", "x"), ("MYSQL_PASSWORD", "x")])),
        (
            "db",
            service(
                "registry:5000/library/postgres:15-alpine",
                &[("POSTGRES_USER", "shop"), ("POSTGRES_PASSWORD_FILE", "/run/secrets/db_password")],
            ),
        ),
        ("old", service("mysql:8", &[("MYSQL_ROOT_PASSWORD", "swordfish"), ("MYSQL_DATABASE", "shop")])),
        (
            "new",
            service(
                "mariadb:11@sha256:aa",
                &[
                    ("MARIADB_USER", "shop"),
                    ("MARIADB_PASSWORD", "swordfish"),
                    ("MARIADB_DATABASE", "shop"),
                    ("MARIADB_ROOT_PASSWORD_FILE", "/run/secrets/root"),
                ],
            ),
        ),
    ];
    compose.services.extend(services.map(|(name, service)| (name.to_owned(), service)));
    let told: Vec<String> = detect(&compose)
        .iter()
        .map(|found| {
            let Database { service, kind, user, password, database } = found;
            format!("{service}: {kind:?} user {user:?} password {password:?} database {database:?}")
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    db: PostgreSql user Some(Text(…)) password Some(File("/run/secrets/db_password")) database None
    old: MariaDb user None password Some(Text(…)) database Some(Text(…))
    new: MariaDb user Some(Text(…)) password Some(Text(…)) database Some(Text(…))
    "#);
}

/// Runs a database's command here, with clients that show what they were called with.
async fn shown(database: &Database, clients: &[&str]) -> String {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().unwrap();
    for client in clients {
        let path = place.path().join(client);
        let script = format!("#!/bin/sh\necho {client} \"$@\"\necho $PGPASSWORD$MYSQL_PWD\ncat\n");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::write(place.path().join("secret"), "sword fish\n").unwrap();
    for program in ["cat", "sh"] {
        std::os::unix::fs::symlink(format!("/bin/{program}"), place.path().join(program)).unwrap();
    }
    let command = database.command("SELECT 1;\n");
    let mut local = Cmd::new("/bin/sh").args(&command.argv[1..]).cwd(place.path()).stdin(command.input);
    for (name, value) in command.environment {
        local = local.env(name, value);
    }
    let output = local.env("PATH", place.path()).run().await.unwrap();
    format!("{}{}", output.stdout_text(), output.stderr_text())
}

#[tokio::test]
async fn a_client_gets_its_settings_and_no_password_in_its_arguments() {
    let mut database = Database {
        service: "db".to_owned(),
        kind: DatabaseKind::PostgreSql,
        user: Some(Setting::Text("shop".to_owned())),
        password: Some(Setting::File("secret".to_owned())),
        database: None,
    };
    assert_eq!(
        shown(&database, &["psql"]).await,
        "psql -X -q -A -t -v ON_ERROR_STOP=1 -U shop -d shop\nsword fish\nSELECT 1;\n"
    );
    assert_eq!(shown(&database, &[]).await, "there is no psql in the container\n");
    database.password = Some(Setting::File("nothing".to_owned()));
    assert!(shown(&database, &["psql"]).await.contains("nothing: No such file"));

    database.kind = DatabaseKind::MariaDb;
    database.password = Some(Setting::Text("a'b\"c".to_owned()));
    database.database = Some(Setting::Text("shop data".to_owned()));
    let expected =
        "--batch --skip-column-names --connect-timeout=20 --user=shop shop data\na'b\"c\nSELECT 1;\n";
    assert_eq!(shown(&database, &["mysql"]).await, format!("mysql {expected}"));
    assert_eq!(shown(&database, &["mysql", "mariadb"]).await, format!("mariadb {expected}"));

    let lite = Database::sqlite("app", "/nowhere/app.db");
    assert_eq!(shown(&lite, &["sqlite3"]).await, "there is no file /nowhere/app.db in the container\n");
    let lite = Database::sqlite("app", "secret");
    assert_eq!(
        shown(&lite, &["sqlite3"]).await,
        "sqlite3 -batch -bail -noheader -cmd .timeout 20000 secret\n\nSELECT 1;\n"
    );
    assert!(shown(&lite, &["python3"]).await.starts_with("python3 -c import sqlite3, sys"));
}

#[test]
fn rows_are_counted_only_as_they_were_planted() {
    let sql = insert("t", 2);
    assert!(sql.contains(&format!("VALUES ('t', 1, '{}'), ('t', 2, '", payload("t", 1))), "{sql}");
    let whole = format!("1|{}\n2\t{}\n", payload("t", 1), payload("t", 2));
    assert_eq!(compared(&whole, "t", 2), Found::Rows { right: 2, wrong: 0 });
    let swapped = format!("1|{}\n2|{}\n", payload("t", 2), payload("t", 1));
    assert_eq!(compared(&swapped, "t", 2), Found::Rows { right: 0, wrong: 2 });
    // A row twice, a row of another token.
    let twice = format!("1|{0}\n1|{0}\n2|{1}\n", payload("t", 1), payload("u", 2));
    assert_eq!(compared(&twice, "t", 2), Found::Rows { right: 1, wrong: 2 });
    assert_eq!(compared("", "t", 2), Found::Rows { right: 0, wrong: 0 });
}
