//! A recipe's folder of tests, from what is in it to what a run is told about it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use assay_recipe::customise::{
    Customisation, HookName, Manifest, OperationName, Options, Placement, Redactor,
};
use insta::{assert_json_snapshot, assert_snapshot};

const SCRIPT: &str = "#!/bin/sh\nexit 0\n";

/// Writes files below a folder; those that begin with `#!` are executable.
fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn discover(folder: &Path, options: Options) -> Customisation {
    Customisation::discover(folder, options).unwrap()
}

/// What is refused, without the folder's name.
fn refused(folder: &Path) -> String {
    let error = Customisation::discover(folder, Options::default()).unwrap_err().to_string();
    error.replace(&*folder.to_string_lossy(), "FOLDER")
}

fn names(customisation: &Customisation, placement: Placement) -> Vec<&str> {
    customisation.tests_at(placement).iter().map(|test| test.name.as_str()).collect()
}

fn a_whole_one(folder: &Path) {
    write(
        folder,
        &[
            (
                "assay.toml",
                "[deploy]\nenv = { KEYCLOAK_URL = \"https://sso.test\", ADMIN_PASSWORD = \"swordfish-1\", MOTD = \"log in with swordfish-2\" }\nsecrets = { smtp = \"swordfish-2\" }\n[http]\npath = \"/health\"\ntimeout = \"60s\"\n[[databases]]\nkind = \"postgres\"\nservice = \"db\"\npassword_file = \"/run/secrets/db\"\n",
            ),
            ("compose.assay.yml", "services:\n  app:\n    environment:\n      DEBUG: \"1\"\n"),
            ("README.md", "How it is tested.\n"),
            ("hooks/install_steps.sh", SCRIPT),
            ("hooks/pre_upgrade.py", "#!/usr/bin/env python3\n# assay-context: 1\n"),
            ("hooks/_lib.sh", "helper() { echo \"$1\"; }\n"),
            ("test_upgrade.sh", SCRIPT),
            ("test_install.py", "#!/usr/bin/env python3\n"),
            ("test_login.py", "#!/usr/bin/env python3\n"),
            ("functional/b_second.sh", SCRIPT),
            ("functional/a_first.sh", SCRIPT),
            ("functional/data.json", "{}\n"),
            ("functional/deeper/test_never.sh", SCRIPT),
            ("browser/login.py", "#!/usr/bin/env python3\n"),
            ("extra/load.sh", SCRIPT),
            ("fucntional/lost.sh", SCRIPT),
        ],
    );
}

#[test]
fn what_is_in_the_folder_is_found_and_told() {
    let folder = tempfile::tempdir().unwrap();
    a_whole_one(folder.path());
    let found = discover(folder.path(), Options::default());
    assert_eq!(found.settings.settings.http.path, "/health");
    assert!(found.hook(HookName::InstallSteps).is_some() && found.hook(HookName::Ready).is_none());
    assert_eq!(found.hook(HookName::PreUpgrade).unwrap().interpreter, "/usr/bin/env python3");
    assert_eq!(names(&found, Placement::After(OperationName::Install)), ["test_install.py"]);
    assert_eq!(names(&found, Placement::Functional), ["functional/a_first.sh", "functional/b_second.sh"]);
    assert_eq!(names(&found, Placement::Extra), [""; 0], "only when asked for");
    assert!(found.overlay.as_ref().unwrap().text.contains("DEBUG"));

    let manifest = Manifest::of(&found, &Redactor::new(["swordfish-1"]));
    assert_snapshot!(manifest, @r#"
    setting  deploy.env = { KEYCLOAK_URL = "https://sso.test", ADMIN_PASSWORD = "[redacted]", MOTD = "log in with [redacted]" }
    setting  deploy.secrets = { smtp = "[redacted]" }
    setting  http.path = "/health"
    setting  databases = [{ kind = "postgres", service = "db", password_file = "/run/secrets/db" }]
    overlay  compose.assay.yml (sha256 372f48ddf77d)
    hook     hooks/install_steps.sh (sha256 306c6ca74075)
    hook     hooks/pre_upgrade.py (sha256 221718c7f1a5)
    test     test_install.py (sha256 d682cbdb4c8b)
    test     test_upgrade.sh (sha256 306c6ca74075)
    test     functional/a_first.sh (sha256 306c6ca74075)
    test     functional/b_second.sh (sha256 306c6ca74075)
    test     browser/login.py (sha256 d682cbdb4c8b)
    not run  extra/load.sh: ask for it with --extra
    ignored  README.md: it is no part of the tests
    ignored  fucntional: it is no folder that tests are looked for in; did you mean `functional`?
    ignored  functional/data.json: it is not executable, and its name and first line are no test's
    ignored  functional/deeper: it is a folder, and nothing is looked for any deeper
    ignored  hooks/_lib.sh: its name begins with `_` or `.`
    ignored  test_login.py: it stands at the top and is no `test_OPERATION`; tests of the app belong into `functional/`
    "#);
    let json = serde_json::to_string(&manifest).unwrap();
    assert!(!json.contains("swordfish") && !manifest.to_string().contains("swordfish"));
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
    assert_json_snapshot!(manifest.settings, @r#"
    {
      "deploy.env": {
        "KEYCLOAK_URL": "https://sso.test",
        "ADMIN_PASSWORD": "[redacted]",
        "MOTD": "log in with [redacted]"
      },
      "deploy.secrets": {
        "smtp": "[redacted]"
      },
      "http.path": "/health",
      "databases": [
        {
          "kind": "postgres",
          "service": "db",
          "password_file": "/run/secrets/db"
        }
      ]
    }
    "#);
}

#[test]
fn extra_tests_run_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("extra/load.sh", SCRIPT)]);
    let found = discover(folder.path(), Options { extra: true, ..Options::default() });
    assert_eq!(names(&found, Placement::Extra), ["extra/load.sh"]);
    assert_snapshot!(Manifest::of(&found, &Redactor::default()), @"
    switch   extra
    test     extra/load.sh (sha256 306c6ca74075)
    ");
}

#[test]
fn a_run_without_the_generic_checks_says_so_loudly() {
    let folder = tempfile::tempdir().unwrap();
    let found = discover(folder.path(), Options { skip_generic: true, ..Options::default() });
    assert_eq!(found.warnings().len(), 1);
    assert_snapshot!(Manifest::of(&found, &Redactor::default()), @"
    WARNING  THE GENERIC CHECKS ARE OFF (ASSAY_SKIP_GENERIC=1). What passes here proves nothing about installing, upgrading, backing up or restoring; unset it for a result that counts.
    switch   skip_generic
    ");
}

#[test]
fn a_recipe_need_not_have_a_folder_of_tests_but_one_that_is_named_has_to_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let none = Customisation::of_recipe(folder.path(), Options::default()).unwrap();
    assert_eq!(none, Customisation::default());
    assert_eq!(Manifest::of(&none, &Redactor::default()).to_string(), "no customisation");
    let gone = folder.path().join("gone");
    let error = Customisation::discover(&gone, Options { required: true, ..Options::default() }).unwrap_err();
    assert!(error.to_string().ends_with("gone; name the one that has the recipe's tests"), "{error}");
}

#[test]
fn everything_that_is_not_right_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(
        path,
        &[
            ("assay.toml", "[http]\ntiemout = \"5m\"\n"),
            ("compose.assay.yml", "- services\n"),
            ("hooks/pre_upgarde.sh", SCRIPT),
            ("hooks/ready", SCRIPT),
            ("hooks/ready.py", "#!/usr/bin/env python3\n"),
            ("hooks/screenshot.sh", "echo no first line\n"),
            ("hooks/pre_backup.sh", "#!/bin/sh\n# assay-context: 0\n"),
            ("hooks/pre_install.sh", "#!/bin/bash\ncurl \"https://$1/\"\n"),
            ("test_install.sh", "echo\n"),
            ("functional/test_forgotten.py", "import json\n"),
            ("browser", "a file\n"),
        ],
    );
    // It has a first line, and nobody may run it.
    let forgotten = path.join("functional/shebang.sh");
    fs::write(&forgotten, SCRIPT).unwrap();
    assert_snapshot!(refused(path), @r#"
    the tests in FOLDER are refused:
    assay.toml:2: http: unknown key `tiemout`; `http` has path, status, timeout, contains, content_type, service, port, none; did you mean `timeout`?
      |
    2 | tiemout = "5m"
      | ^^^^^^^
    browser: it is no folder; rename it, or make it one
    compose.assay.yml: a compose file is a map with `services`, and this is a list
    functional/shebang.sh: it is not executable; run `chmod +x` on it and commit that (`git update-index --chmod=+x`)
    functional/test_forgotten.py: it is not executable; run `chmod +x` on it and commit that (`git update-index --chmod=+x`)
    hooks/pre_backup.sh:2: it was written for form `0` of the context, and this version of Assay calls with form 1
        old: # assay-context: 0
        new: # assay-context: 1, after comparing what it reads with schemas/recipe-context.schema.json
    hooks/pre_install.sh:2: it takes arguments (`$1`), and none are passed: everything is in the JSON file that $ASSAY_CONTEXT names
        old: domain=$1
        new: domain=$(jq -r .domain "$ASSAY_CONTEXT")
        arguments of its own functions and those after `set --` are fine
    hooks/pre_upgarde.sh: no hook is called `pre_upgarde`; hooks are install_steps, pre_install, pre_upgrade, pre_backup, pre_restore, ready, backup_verify, screenshot, and what they share may be called `_pre_upgarde.sh`; did you mean `pre_upgrade`?
    hooks/ready.py: `hooks/ready` is this hook already; keep one
    hooks/screenshot.sh: it is not executable; run `chmod +x` on it and commit that (`git update-index --chmod=+x`)
    test_install.sh: it is not executable; run `chmod +x` on it and commit that (`git update-index --chmod=+x`)
    "#);
}

#[test]
fn links_may_lead_anywhere_in_the_folder_and_nowhere_out_of_it() {
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), &[("secret.sh", SCRIPT), ("folder/test.sh", SCRIPT)]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, &[("hooks/pre_install.sh", SCRIPT), ("functional/one.sh", SCRIPT)]);
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, path.join(name)).unwrap();
    link(Path::new("pre_install.sh"), "hooks/pre_upgrade.sh");
    assert!(discover(path, Options::default()).hook(HookName::PreUpgrade).is_some());

    link(&outside.path().join("secret.sh"), "hooks/ready.sh");
    link(&outside.path().join("secret.sh"), "functional/test_secret.sh");
    link(&outside.path().join("folder"), "browser");
    link(Path::new("/etc/hostname"), "assay.toml");
    link(Path::new("/nowhere"), "compose.assay.yml");
    link(Path::new("/nowhere"), "test_install.sh");
    assert_snapshot!(refused(path), @"
    the tests in FOLDER are refused:
    assay.toml: it is a link that leads out of the folder of tests; put the file itself there
    browser: it is a link that leads out of the folder of tests; put the file itself there
    compose.assay.yml: it is a link that leads nowhere; remove it
    functional/test_secret.sh: it is a link that leads out of the folder of tests; put the file itself there
    hooks/ready.sh: it is a link that leads out of the folder of tests; put the file itself there
    test_install.sh: it is a link that leads nowhere; remove it
    ");

    let recipe = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), recipe.path().join("tests")).unwrap();
    let error = Customisation::of_recipe(recipe.path(), Options::default()).unwrap_err().to_string();
    assert!(error.contains("is a link that leads out of the recipe"), "{error}");
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("hooks/pre_install.sh", SCRIPT)]);
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("hooks/ready.sh"), 0o755.into()).unwrap();
    fs::create_dir(folder.path().join("assay.toml")).unwrap();
    assert_snapshot!(refused(folder.path()), @"
    the tests in FOLDER are refused:
    assay.toml: it is no file; remove or rename it
    hooks/ready.sh: it is no file; remove or rename it
    ");
}

#[test]
fn settings_that_need_a_hook_or_a_test_are_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "[backup]\nrecaptures = 2\n[expect.not_applicable]\nfunctional = \"has no face\"\n";
    write(folder.path(), &[("assay.toml", settings), ("functional/one.sh", SCRIPT)]);
    assert_snapshot!(Manifest::of(&discover(folder.path(), Options::default()), &Redactor::default()), @r#"
    WARNING  assay.toml: backup.recaptures: nothing refuses a backup without the hook `backup_verify`, so none is taken again
    WARNING  assay.toml: expect.not_applicable.functional: there are functional tests all the same; they run, and the rung is theirs
    setting  backup.recaptures = 2
    setting  expect.not_applicable = { functional = "has no face" }
    test     functional/one.sh (sha256 306c6ca74075)
    "#);
}

#[test]
fn a_test_that_was_rewritten_meanwhile_is_not_started() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("functional/one.sh", "#!/bin/sh\nexit 1\n")]);
    let found = discover(folder.path(), Options::default());
    let [test] = found.tests_at(Placement::Functional) else { panic!("one test") };
    test.check_unchanged().unwrap();
    write(folder.path(), &[("functional/one.sh", SCRIPT)]);
    assert_snapshot!(test.check_unchanged().unwrap_err(), @"`functional/one.sh` is not what it was when the run began, so it is not started; keep hooks from writing to the folder of tests");
    fs::remove_file(&test.path).unwrap();
    assert!(test.check_unchanged().is_err());
}

#[test]
fn what_strangers_write_does_not_look_like_a_line_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "[deploy]\nenv = { A = \"x\\nhook     hooks/ready.sh\" }\n";
    write(folder.path(), &[("assay.toml", settings)]);
    assert_snapshot!(Manifest::of(&discover(folder.path(), Options::default()), &Redactor::default()), @r#"setting  deploy.env = { A = "x\nhook     hooks/ready.sh" }"#);
    write(folder.path(), &[("functional/a\nWARNING  b", SCRIPT)]);
    assert_snapshot!(refused(folder.path()), @"
    the tests in FOLDER are refused:
    functional: the name `a WARNING  b` has control characters; rename it
    ");
}
