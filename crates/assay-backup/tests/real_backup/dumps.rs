//! Backups that are none: each is told for what it is, and a dump that succeeds when it is made again is one.

use assay_backup::{
    BackupFailure, BackupOptions, DumpState, HookMoment, PlantedAt, RestoreFailure, RestoreOptions,
    WitnessState, back_up, compare, plant, restore,
};
use assay_recipe::compose::model::Compose;

use crate::world::{World, service, stack, told};

/// What a whole dump looks like.
const DUMP: &str = "printf -- '-- PostgreSQL database dump\\n\\n-- PostgreSQL database dump complete\\n'";

#[tokio::test]
async fn backups_that_are_none_are_told_for_what_they_are() {
    let world = World::with_tools().await;
    let store = world.store().await;
    let failures = async |name: &str, pre: &str, recaptures: u32| {
        let up = world.up(name, &app(&format!("{pre} > /data/dump/backup.sql.gz"), "true")).await;
        let witness = plant(&world.site(&up), &[]).await.unwrap();
        let backup = world.back_up_again(&up, &store, &witness, recaptures).await;
        // Hooks after are run whatever the ones before did.
        let after: Vec<_> = backup.captures.iter().flat_map(|capture| told(&capture.after)).collect();
        assert_eq!(after, vec!["app AfterBackup Some(0)"; backup.captures.len()]);
        backup
    };
    // A pipe hides that its first part failed.
    let empty = failures("empty", "cat /nothing | gzip", 0).await;
    insta::assert_json_snapshot!(empty.failures, @r#"
    [
      {
        "failure": "dump_refused",
        "dump": {
          "volume": "data",
          "path": "dump/backup.sql.gz",
          "kind": "gzip",
          "within": "empty",
          "bytes": 20,
          "state": "empty"
        },
        "tries": 1
      }
    ]
    "#);
    assert_eq!((empty.snapshot, empty.captures[0].before[0].exit_code), (None, Some(0)));

    let cut = failures("cut", &format!("{DUMP} | gzip | head -c 40"), 1).await;
    let Some(BackupFailure::DumpRefused { dump, tries: 2 }) = cut.failures.first() else {
        panic!("{cut:#?}");
    };
    assert!(matches!(dump.state, DumpState::Truncated { .. }), "{dump:?}");
    assert_eq!(cut.captures.len(), 2);

    let failed = failures("failed", "echo no such database >&2; exit 3; true", 2).await;
    let hook = BackupFailure::HookFailed {
        service: "app".to_owned(),
        moment: HookMoment::BeforeBackup,
        exit_code: Some(3),
    };
    assert_eq!((failed.failures.as_slice(), failed.captures.len()), ([hook].as_slice(), 1));
    assert_eq!(failed.captures[0].before[0].stderr, "no such database");

    let json = serde_json::to_string(&cut).unwrap();
    assert_eq!(serde_json::from_str::<assay_backup::Backup>(&json).unwrap(), cut);

    // The database comes up in the meantime.
    let flaky = format!("if [ -f /data/up ]; then {DUMP}; else touch /data/up; fi | gzip");
    let flaky = failures("flaky", &flaky, 3).await;
    assert!(flaky.is_ok(), "{flaky:#?}");
    let dumps = flaky.captures.iter().flat_map(|capture| &capture.dumps);
    let states: Vec<_> = dumps.map(|dump| (dump.path.as_str(), dump.state.clone())).collect();
    // The empty file beside it is called nothing, and may be anything.
    assert_eq!(
        states,
        [
            ("dump/backup.sql.gz", DumpState::Empty),
            ("up", DumpState::NotJudged),
            ("dump/backup.sql.gz", DumpState::Whole),
        ]
    );
    world.daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_restore_hook_that_fails_is_told_and_services_come_back() {
    let world = World::with_tools().await;
    let store = world.store().await;
    let compose = app(
        &format!("{DUMP} > /data/dump/backup.sql"),
        "cat /data/dump/backup.sql; echo it is broken >&2; exit 7",
    );
    let old = world.up("old", &compose).await;
    let witness = plant(&world.site(&old), &[]).await.unwrap();
    assert!(matches!(witness.folders[0].at, PlantedAt::Planted(_)), "{witness:#?}");
    let backup = world.back_up(&old, &store, &witness).await;
    assert!(backup.is_ok(), "{backup:#?}");

    let new = world.up("new", &compose).await;
    let options = RestoreOptions::default();
    let restored = restore(&world.site(&new), &store, &backup, &witness, &[], &options).await.unwrap();
    let hook = RestoreFailure::HookFailed {
        service: "app".to_owned(),
        moment: HookMoment::AfterRestore,
        exit_code: Some(7),
    };
    assert_eq!(restored.failures, [hook]);
    assert_eq!(
        (restored.after[0].stdout.lines().count(), restored.after[0].stderr.as_str()),
        (3, "it is broken")
    );
    // The hook's own service runs on; the other one was stopped and is back.
    assert_eq!(restored.left_running, ["app"]);
    assert_eq!(restored.stopped.len(), 1);
    world.converged(&new).await;
    assert_eq!(world.says(&new, "reader", "ls /data/dump").await, "backup.sql");
    // The files are there nevertheless.
    let compared = compare(&world.site(&new), &witness, &backup, &[]).await.unwrap();
    assert_eq!(compared.witnesses[0].state, WitnessState::Same, "{compared:#?}");

    // A path that a label names and that nobody makes is no backup, though the rest of it is one.
    let mut lacking = app("true", "true");
    let labels = &mut lacking.services.get_mut("app").unwrap().deploy.labels;
    labels.insert("backupbot.backup.volumes.data.path".to_owned(), "dump,nothing,escape/x,../up".to_owned());
    let lacking = world.up("lacking", &lacking).await;
    std::os::unix::fs::symlink("/etc", world.volume(&lacking, "data").join("escape")).unwrap();
    let witness = plant(&world.site(&lacking), &[]).await.unwrap();
    let backup = world.back_up(&lacking, &store, &witness).await;
    insta::assert_json_snapshot!((&backup.covered, &backup.failures, &backup.uncovered), @r#"
    [
      [
        {
          "volume": "data",
          "path": "dump",
          "captured": true
        },
        {
          "volume": "data",
          "path": "escape/x",
          "captured": false
        },
        {
          "volume": "data",
          "path": "nothing",
          "captured": false
        }
      ],
      [
        {
          "failure": "refused_path",
          "volume": "data",
          "path": "escape/x",
          "why": "a link is in the way"
        },
        {
          "failure": "missing_path",
          "volume": "data",
          "path": "nothing"
        }
      ],
      [
        {
          "volume": "data",
          "path": "../up",
          "reason": "bad_path"
        }
      ]
    ]
    "#);

    // One that hangs, and one whose container nobody runs, are hooks that failed.
    let mut hanging = app("sleep 1000", "true");
    let line = hanging.services["reader"].clone();
    hanging.services.insert("none".to_owned(), line);
    let none = &mut hanging.services.get_mut("none").unwrap().deploy;
    none.replicas = Some(0);
    none.labels.insert("backupbot.backup.post-hook".to_owned(), "true".to_owned());
    let hanging = world.up("hanging", &hanging).await;
    let options =
        BackupOptions { hook_limit: std::time::Duration::from_millis(700), ..BackupOptions::default() };
    let backup = back_up(&world.site(&hanging), &store, "hanging", &options).await.unwrap();
    let capture = &backup.captures[0];
    assert_eq!(told(&capture.before), ["app BeforeBackup None"]);
    assert!(capture.before[0].trouble.ends_with("was not done within 700ms"), "{capture:#?}");
    assert_eq!(told(&capture.after), ["app AfterBackup Some(0)", "none AfterBackup None"]);
    assert!(capture.after[1].trouble.contains("running container of service `hanging_none`"), "{capture:#?}");
    assert_eq!((backup.failures.len(), backup.snapshot), (2, None));
    world.daemon.stop().await.unwrap();
}

/// An app with one hook before a backup and one after a restore, and a reader without any.
fn app(pre: &str, restored: &str) -> Compose {
    let app = service(
        "mkdir -p /data/dump; sleep 1000",
        &[("data", "/data")],
        &[
            ("backup", "true"),
            ("backup.pre-hook", pre),
            ("backup.post-hook", "true"),
            ("restore.post-hook", restored),
        ],
    );
    stack([("app", app), ("reader", service("sleep 1000", &[("data", "/data")], &[]))])
}
