//! Reading `assay.toml`, as its author sees it.

use insta::{assert_json_snapshot, assert_snapshot};

use super::*;

const EVERY_KEY: &str = r#"
[deploy]
timeout = "20m"
env = { ZULU = "1", COMPOSE_FILE = "$COMPOSE_FILE:compose.smtp.yml", ALPHA = "" }
upgrade_env = { NEW = "yes" }
tolerate_restarts = { app = 60 }
tolerate_until = { app = "db" }
secrets = { smtp_password = "for tests" }

[http]
path = "/health?full=1"
status = [200, 302]
timeout = 90
contains = "Welcome"
content_type = "text/html"
service = "web"
port = 8080

[upgrade]
from = ["1.0.0+3.1", "1.1.0"]

[backup]
capable = true
recaptures = 3

[[databases]]
kind = "postgres"
service = "db"
user = "app"
database = "app"
password_file = "/run/secrets/db_password"

[[databases]]
kind = "sqlite"
service = "app"
path = "/data/app.db"

[[dependencies]]
name = "sso"
kind = "warm"
provider = "oidc"
env = { OIDC_ISSUER = "{issuer}" }
secrets = { oidc = "{client_secret}" }

[screenshot]
path = "/login"

[expect.not_applicable]
upgrade = "one release so far"

[stages]
idempotence = true
rollback = true

[needs]
mem_mib = 1024
cpu = 2
io = 3
"#;

fn settings(text: &str) -> Settings {
    let loaded = LoadedSettings::read(text).unwrap();
    assert_eq!(loaded.warnings, []);
    loaded.settings
}

fn refused(text: &str) -> String {
    LoadedSettings::read(text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(settings(""), Settings::default());
    assert_eq!(settings("# nothing yet\n[http]\n"), Settings::default());
}

#[test]
fn every_key_is_read_and_travels_as_json() {
    let read = settings(EVERY_KEY);
    assert_json_snapshot!(read, @r#"
    {
      "deploy": {
        "timeout": "20m",
        "env": {
          "ZULU": "1",
          "COMPOSE_FILE": "$COMPOSE_FILE:compose.smtp.yml",
          "ALPHA": ""
        },
        "upgrade_env": {
          "NEW": "yes"
        },
        "tolerate_restarts": {
          "app": 60
        },
        "tolerate_until": {
          "app": "db"
        },
        "secrets": {
          "smtp_password": "for tests"
        }
      },
      "http": {
        "path": "/health?full=1",
        "status": [
          200,
          302
        ],
        "timeout": "1m 30s",
        "contains": "Welcome",
        "content_type": "text/html",
        "service": "web",
        "port": 8080,
        "none": false
      },
      "upgrade": {
        "from": [
          "1.0.0+3.1",
          "1.1.0"
        ]
      },
      "backup": {
        "capable": true,
        "recaptures": 3
      },
      "databases": [
        {
          "kind": "postgres",
          "service": "db",
          "user": "app",
          "database": "app",
          "password_file": "/run/secrets/db_password",
          "path": null
        },
        {
          "kind": "sqlite",
          "service": "app",
          "user": null,
          "database": null,
          "password_file": null,
          "path": "/data/app.db"
        }
      ],
      "dependencies": [
        {
          "name": "sso",
          "kind": "warm",
          "recipe": null,
          "provider": "oidc",
          "env": {
            "OIDC_ISSUER": "{issuer}"
          },
          "secrets": {
            "oidc": "{client_secret}"
          }
        }
      ],
      "screenshot": {
        "path": "/login"
      },
      "expect": {
        "not_applicable": {
          "upgrade": "one release so far"
        }
      },
      "stages": {
        "idempotence": true,
        "rollback": true
      },
      "needs": {
        "mem_mib": 1024,
        "cpu": 2,
        "io": 3
      }
    }
    "#);
    let json = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), read);
    assert_eq!(
        read.deploy.env.keys().collect::<Vec<_>>(),
        ["ZULU", "COMPOSE_FILE", "ALPHA"],
        "in their order"
    );
}

#[test]
fn what_differs_from_the_defaults_is_written_and_reads_back() {
    let read = settings(EVERY_KEY);
    assert_eq!(settings(&read.to_toml()), read);
    assert_snapshot!(read.to_toml(), @r#"
    [deploy]
    timeout = "20m"
    env = { ZULU = "1", COMPOSE_FILE = "$COMPOSE_FILE:compose.smtp.yml", ALPHA = "" }
    upgrade_env = { NEW = "yes" }
    tolerate_restarts = { app = 60 }
    tolerate_until = { app = "db" }
    secrets = { smtp_password = "for tests" }

    [http]
    path = "/health?full=1"
    status = [200, 302]
    timeout = "1m 30s"
    contains = "Welcome"
    content_type = "text/html"
    service = "web"
    port = 8080

    [upgrade]
    from = ["1.0.0+3.1", "1.1.0"]

    [backup]
    capable = true
    recaptures = 3

    [[databases]]
    kind = "postgres"
    service = "db"
    user = "app"
    database = "app"
    password_file = "/run/secrets/db_password"

    [[databases]]
    kind = "sqlite"
    service = "app"
    path = "/data/app.db"

    [[dependencies]]
    name = "sso"
    kind = "warm"
    provider = "oidc"
    env = { OIDC_ISSUER = "{issuer}" }
    secrets = { oidc = "{client_secret}" }

    [screenshot]
    path = "/login"

    [expect]
    not_applicable = { upgrade = "one release so far" }

    [stages]
    idempotence = true
    rollback = true

    [needs]
    mem_mib = 1024
    cpu = 2
    io = 3
    "#);
    assert_eq!(settings("[http]\nnone = true\n").to_toml(), "[http]\nnone = true\n");
    assert_eq!(Settings::default().to_toml(), "");
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_one() {
    assert_snapshot!(refused("[http]\npath = \"/\"\ntiemout = \"5m\"\n\n[htpp]\nstatus = [200]\n"), @r#"
    assay.toml:3: http: unknown key `tiemout`; `http` has path, status, timeout, contains, content_type, service, port, none; did you mean `timeout`?
      |
    3 | tiemout = "5m"
      | ^^^^^^^
    assay.toml:5: unknown key `htpp`; tables are deploy, http, upgrade, backup, databases, dependencies, screenshot, expect, stages, needs; did you mean `http`?
      |
    5 | [htpp]
      |  ^^^^
    "#);
    assert_snapshot!(refused("timeout = \"5m\"\n[backup]\nmem_mib = 5\n[[databases]]\nkind = \"postgres\"\nservice = \"db\"\nfile = \"/x\"\n"), @r#"
    assay.toml:1: unknown key `timeout`; tables are deploy, http, upgrade, backup, databases, dependencies, screenshot, expect, stages, needs; did you mean `deploy.timeout` or `http.timeout`?
      |
    1 | timeout = "5m"
      | ^^^^^^^
    assay.toml:3: backup: unknown key `mem_mib`; `backup` has capable, recaptures; did you mean `needs.mem_mib`?
      |
    3 | mem_mib = 5
      | ^^^^^^^
    assay.toml:7: databases[0]: unknown key `file`; `databases` has kind, service, user, database, password_file, path
      |
    7 | file = "/x"
      | ^^^^
    "#);
    assert_snapshot!(refused("[expect.not_applicable]\nbackups = \"no data\"\n"), @r#"
    assay.toml:2: expect.not_applicable.backups: unknown `backups`; known are install, upgrade, backup, functional, lint; did you mean `backup`?
      |
    2 | backups = "no data"
      | ^^^^^^^
    "#);
}

#[test]
fn wrong_types_are_refused_with_what_was_expected() {
    let text = r#"
[deploy]
timeout = "soon"
env = { PORT = 80 }
tolerate_restarts = { app = "many" }
[http]
path = "health"
status = "200"
port = 0
none = "yes"
[upgrade]
from = ["yesterday"]
[backup]
recaptures = 4
[stages]
rollback = 1
"#;
    assert_snapshot!(refused(text), @r#"
    assay.toml:3: deploy.timeout: `soon` is no time; write one such as "90s", "10m" or "1h 30m"
      |
    3 | timeout = "soon"
      |           ^^^^^^
    assay.toml:4: deploy.env.PORT: expected text in quotes, found the number 80; put it in quotes
      |
    4 | env = { PORT = 80 }
      |                ^^
    assay.toml:5: deploy.tolerate_restarts.app: expected a whole number from 1 to 1000, found the text "many"
      |
    5 | tolerate_restarts = { app = "many" }
      |                             ^^^^^^
    assay.toml:7: http.path: expected a path such as "/health", without spaces, found the text "health"
      |
    7 | path = "health"
      |        ^^^^^^^^
    assay.toml:8: http.status: expected a list of whole numbers from 100 to 599, such as [100], found the text "200"
      |
    8 | status = "200"
      |          ^^^^^
    assay.toml:9: http.port: expected a whole number from 1 to 65535, found the number 0
      |
    9 | port = 0
      |        ^
    assay.toml:10: http.none: expected true or false, without quotes, found the text "yes"
       |
    10 | none = "yes"
       |        ^^^^^
    assay.toml:12: upgrade.from[0]: expected a release such as "1.2.0+3.1", found the text "yesterday"
       |
    12 | from = ["yesterday"]
       |         ^^^^^^^^^^^
    assay.toml:14: backup.recaptures: expected a whole number from 0 to 3, found the number 4
       |
    14 | recaptures = 4
       |              ^
    assay.toml:16: stages.rollback: expected true or false, without quotes, found the number 1
       |
    16 | rollback = 1
       |            ^
    "#);
    assert_snapshot!(refused("[http]\nstatus = []\ntimeout = \"2h\"\n[deploy]\nenv = [\"A=1\"]\n[databases]\nkind = \"x\"\n"), @r#"
    assay.toml:2: http.status: expected a list of whole numbers from 100 to 599, such as [100], found an empty list
      |
    2 | status = []
      |          ^^
    assay.toml:3: http.timeout: it may be 1s to 1h
      |
    3 | timeout = "2h"
      |           ^^^^
    assay.toml:5: deploy.env: expected a table of texts, such as { NAME = "value" }, found a list
      |
    5 | env = ["A=1"]
      |       ^^^^^^^
    assay.toml:6: databases: expected a list of tables, found a table; write `[[databases]]` and its keys below
      |
    6 | [databases]
      | ^^^^^^^^^^^
    "#);
    assert_snapshot!(refused("http = 5\ndatabases = [1]\n"), @"
    assay.toml:1: http: expected a table, found the number 5; write `[http]` and its keys below
      |
    1 | http = 5
      |        ^
    assay.toml:2: databases[0]: expected a table; write `[[databases]]` and its keys below, found the number 1
      |
    2 | databases = [1]
      |              ^
    ");
    assert_snapshot!(refused("[http]\nstatus = [200, 999, 200]\n[deploy]\nenv = { \"MY VAR\" = \"x\" }\nupgrade_env = { \"1\" = \"x\" }\n"), @r#"
    assay.toml:2: http.status[1]: expected a whole number from 100 to 599, found the number 999
      |
    2 | status = [200, 999, 200]
      |                ^^^
    assay.toml:2: http.status[2]: it is there twice; keep one
      |
    2 | status = [200, 999, 200]
      |                     ^^^
    assay.toml:4: deploy.env.MY VAR: `MY VAR` is not a variable's name: letters, digits and `_`, no digit first
      |
    4 | env = { "MY VAR" = "x" }
      |         ^^^^^^^^
    assay.toml:5: deploy.upgrade_env.1: `1` is not a variable's name: letters, digits and `_`, no digit first
      |
    5 | upgrade_env = { "1" = "x" }
      |                 ^^^
    "#);
}

#[test]
fn what_is_no_toml_is_refused_at_its_place() {
    assert_snapshot!(refused("[http]\npath = /health\n"), @"
    assay.toml:2: string values must be quoted, expected literal string
      |
    2 | path = /health
      |        ^^^^^^^
    ");
    assert_snapshot!(refused("[http]\npath = \"/a\"\npath = \"/b\"\n"), @r#"
    assay.toml:3: duplicate key
      |
    3 | path = "/b"
      | ^^^^
    "#);
    assert_eq!(
        refused(&"#".repeat(MAX_BYTES + 1)),
        "assay.toml: it has 262145 bytes, and at most 262144 are read; shorten it"
    );
}

#[test]
fn a_file_that_is_something_else_is_not_told_line_by_line() {
    let lines: Vec<String> = (0..10_000).map(|number| format!("key{number} = 1")).collect();
    let problems = LoadedSettings::read(&lines.join("\n")).unwrap_err().0;
    assert_eq!(problems.len(), 51);
    assert_eq!(problems[50].to_string(), "assay.toml: there is more that is wrong; mend this first");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let text = r#"
[deploy.env]
DOMAIN = "mine.example"
[http]
none = true
port = 80
[screenshot]
path = "/"
[backup]
capable = true
[expect.not_applicable]
backup = "no data"
[[databases]]
kind = "sqlite"
service = "app"
user = "root"
[[databases]]
kind = "mariadb"
service = "db"
path = "/x"
[[databases]]
kind = "postgre"
[[dependencies]]
name = "sso"
[[dependencies]]
name = "sso"
recipe = "keycloak"
provider = "oidc"
"#;
    // The misspelt kind hides the rest: relations are looked at once everything has its type.
    assert_snapshot!(refused(text), @r#"
    assay.toml:22: databases[2].kind: expected "postgres" or "mariadb" or "sqlite", found "postgre"; did you mean `postgres`?
       |
    22 | kind = "postgre"
       |        ^^^^^^^^^
    assay.toml:21: databases[2]: `service` is missing: a name of letters, digits, `.`, `_` and `-`, a letter or digit first
       |
    21 | [[databases]]
       | ^^^^^^^^^^^^^
    "#);
    assert_snapshot!(refused(&text.replace("kind = \"postgre\"", "kind = \"postgres\"\nservice = \"db\"")), @r#"
    assay.toml:3: deploy.env.DOMAIN: each run sets `DOMAIN` for itself; remove it
      |
    3 | DOMAIN = "mine.example"
      | ^^^^^^
    assay.toml:6: http.port: `http.none` says that nothing is asked; remove this or that
      |
    6 | port = 80
      |        ^^
    assay.toml:8: screenshot.path: `http.none` says that there is no web face; remove this or that
      |
    8 | path = "/"
      |        ^^^
    assay.toml:12: expect.not_applicable.backup: `backup.capable` says that it can be backed up; remove this or that
       |
    12 | backup = "no data"
       | ^^^^^^
    assay.toml:13: databases[0]: `path` is missing: the database's file in the container
       |
    13 | [[databases]]
       | ^^^^^^^^^^^^^
    assay.toml:16: databases[0].user: SQLite has no such thing; remove it
       |
    16 | user = "root"
       |        ^^^^^^
    assay.toml:20: databases[1].path: `path` is for SQLite alone; remove it
       |
    20 | path = "/x"
       |        ^^^^
    assay.toml:24: dependencies[0]: `recipe` or `provider` is missing: what is to be deployed first
       |
    24 | [[dependencies]]
       | ^^^^^^^^^^^^^^^^
    assay.toml:27: dependencies[1].name: another dependency has this name; give it one of its own
       |
    27 | name = "sso"
       |        ^^^^^
    assay.toml:29: dependencies[1].provider: it has `recipe` and `provider`; keep one
       |
    29 | provider = "oidc"
       |            ^^^^^^
    "#);
}

#[test]
fn a_secret_is_not_shown_even_where_it_is_wrong() {
    let error = refused("[deploy.secrets]\nsmtp = [\"hunter2\"]\n[deploy.env]\nDB_PASSWORD = 12345678\n");
    assert_snapshot!(error, @"
    assay.toml:2: deploy.secrets.smtp: expected text in quotes that is not empty, found a list
    assay.toml:4: deploy.env.DB_PASSWORD: expected text in quotes, found a number; put it in quotes
    ");
    assert!(!error.contains("hunter2") && !error.contains("1234"));
    let error = refused("[deploy]\nenv = { API_KEY = \"hunter2\", PORT = 80 }\n");
    assert_snapshot!(error, @"assay.toml:2: deploy.env.PORT: expected text in quotes, found the number 80; put it in quotes");
    assert!(!error.contains("hunter2"));
    let error = refused("[deploy.env]\nAPI_KEY = \"hunter2\n");
    assert!(!error.contains("hunter2"), "{error}");
}

/// The keys of a later version, one of which was called otherwise.
fn later() -> Vec<Key> {
    let mut keys = KEYS.to_vec();
    keys.push(Key {
        name: "http.wait",
        kind: Kind::Time(1, 60),
        default: "",
        doc: "",
        since: "0.1",
        status: Status::Replaced { since: "0.2", by: "http.timeout" },
    });
    keys
}

#[test]
fn an_old_key_is_read_as_the_new_one_with_a_warning() {
    let loaded = read(&later(), FILE, "[http]\nwait = \"5m\"\n").unwrap();
    assert_eq!(loaded.settings.http.timeout, std::time::Duration::from_mins(5));
    assert_eq!(loaded.warnings.len(), 1);
    assert_snapshot!(loaded.warnings[0], @r#"
    assay.toml:2: http.wait: `http.wait` is called `http.timeout` since 0.2; it is read as that, write it so
      |
    2 | wait = "5m"
      | ^^^^
    "#);
    assert_snapshot!(read(&later(), FILE, "[http]\nwait = \"5m\"\ntimeout = \"6m\"\n").unwrap_err(), @r#"
    assay.toml:3: http.timeout: `http.timeout` is there already, under its new or old name; keep one
      |
    3 | timeout = "6m"
      | ^^^^^^^
    "#);
    // A misspelt key is never led to the old name.
    assert!(!read(&later(), FILE, "[http]\nwiat = \"5m\"\n").unwrap_err().to_string().contains("`wait`"));
}

proptest::proptest! {
    #[test]
    fn whatever_stands_there_is_settings_or_a_clear_refusal(text in "[\\[\\]a-z_={}\"'0-9.,\n\t é🙂#-]{0,120}") {
        match LoadedSettings::read(&text) {
            Ok(loaded) => proptest::prop_assert_eq!(&LoadedSettings::read(&loaded.settings.to_toml()).unwrap().settings, &loaded.settings),
            Err(problems) => proptest::prop_assert!(!problems.0.is_empty()),
        }
    }

    #[test]
    fn env_reads_back_from_the_toml_that_is_written(value in "(\\PC|[\\x01-\\x1f\\x7f]){0,40}") {
        let mut settings = Settings::default();
        settings.deploy.env.insert("X".to_owned(), value);
        proptest::prop_assert_eq!(LoadedSettings::read(&settings.to_toml()).unwrap().settings, settings);
    }
}

#[test]
fn who_is_waited_for_is_another_and_failing_meanwhile_has_an_end() {
    let text =
        "[deploy]\ntolerate_restarts = { app = 60 }\ntolerate_until = { app = \"app\", worker = \"db\" }\n";
    assert_snapshot!(refused(text), @r#"
    assay.toml:3: deploy.tolerate_until.app: it waits for itself; name the service that it waits for
      |
    3 | tolerate_until = { app = "app", worker = "db" }
      |                    ^^^
    assay.toml:3: deploy.tolerate_until.worker: `deploy.tolerate_restarts` does not name it; say there how often it may fail until then
      |
    3 | tolerate_until = { app = "app", worker = "db" }
      |                                 ^^^^^^
    "#);
}
