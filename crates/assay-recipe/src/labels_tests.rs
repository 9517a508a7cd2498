use insta::assert_snapshot;

use super::*;
use crate::compose::{Sources, load};

fn compose(text: &str) -> Compose {
    let variables = [("STACK_NAME".to_owned(), "a_b".to_owned())].into_iter().collect();
    let sources = Sources {
        files: vec![("compose.yml".to_owned(), text.to_owned())],
        variables: &variables,
        env_file: &|_| Err("none".to_owned()),
    };
    load(&sources).unwrap().compose
}

fn show(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

const STACK: &str = r#"
services:
  app:
    image: example/app:1
    volumes: ["data:/data", "uploads:/uploads", "cache:/cache"]
    deploy:
      labels:
        - "coop-cloud.${STACK_NAME}.version=1.2.0+4.5.6"
        - "coop-cloud.${STACK_NAME}.timeout=${TIMEOUT:-300}"
        - "coop-cloud.${STACK_NAME}.chaos=true"
        - "coop-cloud.${STACK_NAME}.chaos-version=eb96de94+U"
        - "coop-cloud.${STACK_NAME}.later=x"
        - "backupbot.backup=${ENABLE_BACKUPS:-true}"
        - "backupbot.backup.volumes.cache=false"
  db:
    image: example/db:1
    volumes: ["db:/var/lib/db"]
    deploy:
      labels:
        backupbot.backup.pre-hook: "/pg_backup.sh backup"
        backupbot.backup.volumes.db.path: "backup.sql, conf"
        backupbot.restore.post-hook: '/pg_backup.sh restore'
volumes: {data: , uploads: , cache: , db: , never_mounted: }
"#;

#[test]
fn the_labels_of_a_stack() {
    assert_snapshot!(show(&CoopLabels::read(&compose(STACK), "a_b")), @r#"
    {
      "version": "1.2.0+4.5.6",
      "timeout": 300,
      "chaos": true,
      "chaos_version": "eb96de94+U",
      "recipe": null,
      "autoupdate": null,
      "other": {
        "later": "x"
      }
    }
    "#);
    assert_snapshot!(show(&BackupPlan::read(&compose(STACK))), @r#"
    {
      "switched_on": [
        "app"
      ],
      "covered": {
        "data": "all",
        "uploads": "all",
        "db": {
          "only": [
            "backup.sql",
            "conf"
          ]
        }
      },
      "left_out": {
        "cache": "by_label"
      },
      "old_paths": [],
      "hooks": [
        {
          "service": "db",
          "moment": "before_backup",
          "command": "/pg_backup.sh backup"
        },
        {
          "service": "db",
          "moment": "after_restore",
          "command": "/pg_backup.sh restore"
        }
      ],
      "problems": []
    }
    "#);
}

#[test]
fn without_a_switch_nothing_is_covered() {
    let plan =
        BackupPlan::read(&compose(&STACK.replace("- \"backupbot.backup=${ENABLE_BACKUPS:-true}\"", "")));
    assert!(!plan.is_on());
    assert_snapshot!(show(&plan.problems), @r#"
    [
      {
        "problem": "hooks_without_switch",
        "services": [
          "db"
        ]
      }
    ]
    "#);
    assert_eq!(plan.left_out.len(), 4);
    let off = BackupPlan::read(&compose(&STACK.replace("ENABLE_BACKUPS:-true", "ENABLE_BACKUPS:-false")));
    assert_eq!(off.problems, []);
}

#[test]
fn labels_that_are_wrong() {
    let plan = BackupPlan::read(&compose(
        r#"
services:
  app:
    image: example/app:1
    volumes: ["whole:/x", "part:/data", "none:/none"]
    deploy: {labels: {backupbot.backup: "true", backupbot.backup.volumes.gone: "false", backupbot.backup.path: "/x,/data/y/"}}
  db:
    image: example/db:1
    deploy: {labels: {backupbot.backup: "true", backupbot.what: "x", backupbot.backup.pre-hook: ""}}
volumes: {whole: , part: , none: }
"#,
    ));
    assert_snapshot!(show(&plan), @r#"
    {
      "switched_on": [
        "app",
        "db"
      ],
      "covered": {
        "whole": "all",
        "part": {
          "only": [
            "y"
          ]
        }
      },
      "left_out": {
        "none": "no_old_path"
      },
      "old_paths": [
        {
          "service": "app",
          "path": "/x"
        },
        {
          "service": "app",
          "path": "/data/y/"
        }
      ],
      "hooks": [],
      "problems": [
        {
          "problem": "no_such_volume",
          "service": "app",
          "volume": "gone"
        },
        {
          "problem": "unreadable",
          "service": "db",
          "label": "backupbot.what",
          "value": "x"
        },
        {
          "problem": "unreadable",
          "service": "db",
          "label": "backupbot.backup.pre-hook",
          "value": ""
        },
        {
          "problem": "several_switches",
          "services": [
            "app",
            "db"
          ]
        }
      ]
    }
    "#);
}
