//! A recipe is put away as a run has read it, and is the same where it is taken out again.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use assay_process::Cmd;
use assay_recipe::kept::{LeftOut, MOST, NotKept, Packed, Parts, TestsAt, Unpacked, pack, unpack};
use assay_recipe::versions::Checkout;
use insta::assert_snapshot;

async fn git(folder: &Path, arguments: &[&str]) {
    let who = ["-c", "user.name=Author", "-c", "user.email=author@example.org", "-c", "commit.gpgsign=false"];
    Cmd::new("git").args(who).args(arguments.iter().copied()).cwd(folder).run_ok().await.unwrap();
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

async fn commit(folder: &Path, files: &[(&str, &str)]) {
    write(folder, files);
    git(folder, &["add", "-A"]).await;
    git(folder, &["commit", "-q", "--allow-empty", "-m", "a change"]).await;
}

/// A recipe with a release, a commit after it, and changes on top.
async fn shop(all: &Path) -> PathBuf {
    let folder = all.join("shop");
    fs::create_dir(&folder).unwrap();
    git(&folder, &["init", "-q", "-b", "main"]).await;
    let files = [
        ("compose.yml", "services: {}\n"),
        ("old.conf", "x\n"),
        (".gitignore", "*.secret\n__pycache__/\n.env.local\n"),
        ("tests/assay.toml", ""),
    ];
    commit(&folder, &files).await;
    git(&folder, &["tag", "-a", "1.0.0+1.0", "-m", "first"]).await;
    commit(&folder, &[("app.conf", "listen 80\n"), ("tests/hooks/ready", "#!/bin/sh\n")]).await;
    let more = [
        ("app.conf", "listen 8080\n"),
        ("new.conf", "new\n"),
        (".env", "PASSWORD=hunter2\n"),
        (".env.local", "PASSWORD=hunter2\n"),
        ("db.secret", "hunter2\n"),
        ("tests/.env", "PASSWORD=hunter2\n"),
        ("tests/__pycache__/a.pyc", "hunter2\n"),
        ("tests/functional/front", "#!/bin/sh\n"),
    ];
    write(&folder, &more);
    fs::remove_file(folder.join("old.conf")).unwrap();
    fs::set_permissions(folder.join("tests/functional/front"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("app.conf", folder.join("link.conf")).unwrap();
    folder
}

/// What the bench makes of a checkout: a clone with what was changed.
async fn read_by_a_run(checkout: &Path, to: &Path) -> Vec<String> {
    let opened = Checkout::open(checkout).await.unwrap();
    let changed = opened.changed_files().await.unwrap();
    opened.clone_at("HEAD", to).await.unwrap();
    for name in &changed {
        let (from, to) = (checkout.join(name), to.join(name));
        match from.symlink_metadata() {
            Err(_) => fs::remove_file(to).unwrap(),
            Ok(found) => {
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                if found.is_symlink() {
                    std::os::unix::fs::symlink(fs::read_link(from).unwrap(), to).unwrap();
                } else {
                    fs::copy(from, to).unwrap();
                }
            }
        }
    }
    changed
}

/// Each file with its mode and what is in it; histories aside.
fn files(folder: &Path) -> String {
    let mut told = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(here) = folders.pop() {
        for entry in fs::read_dir(here).unwrap().map(|entry| entry.unwrap()) {
            let (path, found) = (entry.path(), entry.path().symlink_metadata().unwrap());
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            if found.is_symlink() {
                told.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
            } else if !found.is_dir() {
                let mark = if found.permissions().mode() & 0o100 == 0 { "" } else { "*" };
                told.push(format!("{name}{mark}: {}", fs::read_to_string(&path).unwrap().trim_end()));
            } else if entry.file_name() != ".git" {
                folders.push(path);
            }
        }
    }
    told.sort();
    told.join("\n")
}

fn left_out(all: &[LeftOut]) -> String {
    let mut told: Vec<String> = all.iter().map(|left| format!("{}: {}", left.path, left.why)).collect();
    told.sort();
    told.join("\n")
}

async fn taken_out(packed: &Packed, to: &Path) -> Unpacked {
    fs::create_dir(to).unwrap();
    unpack(&packed.bytes, to).await.unwrap()
}

#[tokio::test]
async fn a_checkout_with_changes_comes_back_as_it_was_read() {
    let all = tempfile::tempdir().unwrap();
    let all = all.path();
    let recipe = shop(all).await;
    let other = all.join("forge");
    fs::create_dir(&other).unwrap();
    git(&other, &["init", "-q"]).await;
    commit(&other, &[("compose.yml", "services: {}\n")]).await;
    git(&other, &["tag", "-a", "3.1.0+9", "-m", "x"]).await;
    let head = all.join("head");
    let changed = read_by_a_run(&recipe, &head).await;
    let (tests, recipes) = (recipe.join("tests"), [("forge".to_owned(), other)]);
    let parts = Parts {
        name: "shop",
        folder: &head,
        origin: &recipe,
        changed: Some(&changed),
        tests: Some((TestsAt::Recipe, &tests)),
        recipes: &recipes,
        scratch: all,
    };
    let packed = pack(&parts).await.unwrap();
    assert_eq!(packed.bytes, pack(&parts).await.unwrap().bytes, "the same files, the same bytes");
    let operators = b"hunter2";
    assert!(!packed.bytes.windows(operators.len()).any(|bytes| bytes == operators), "no secret is in it");
    assert_snapshot!(left_out(&packed.left_out), @r"
    .env: it is not committed, and operators have secrets in files of that name
    tests/.env: it is not committed, and operators have secrets in files of that name
    tests/__pycache__/: Git ignores it
    ");

    let commit = Checkout::open(&recipe).await.unwrap().head().await.unwrap();
    fs::remove_dir_all(&recipe).unwrap();
    let out = taken_out(&packed, &all.join("there")).await;
    assert_eq!((&out.folder, &out.tests), (&all.join("there/recipe/shop"), &None));
    let again = Checkout::open(&out.folder).await.unwrap();
    assert_eq!(again.head().await.unwrap(), commit);
    assert_eq!(again.previous("HEAD").await.unwrap().unwrap().tag, "1.0.0+1.0");
    assert_snapshot!(again.changed_files().await.unwrap().join("\n"), @r"
    app.conf
    old.conf
    link.conf
    new.conf
    tests/functional/front
    ");
    assert_snapshot!(files(&out.folder), @r"
    .gitignore: *.secret
    __pycache__/
    .env.local
    app.conf: listen 8080
    compose.yml: services: {}
    link.conf -> app.conf
    new.conf: new
    tests/assay.toml: 
    tests/functional/front*: #!/bin/sh
    tests/hooks/ready: #!/bin/sh
    ");
    let forge = Checkout::open(&out.recipes.unwrap().join("forge")).await.unwrap();
    assert_eq!(forge.releases().await.unwrap().releases.pop().unwrap().tag, "3.1.0+9");
    assert_eq!(out.left_out, packed.left_out);
}

#[tokio::test]
async fn a_checkout_that_was_cut_short_comes_back_as_short() {
    let all = tempfile::tempdir().unwrap();
    let all = all.path();
    let recipe = shop(all).await;
    git(&recipe, &["stash", "-q"]).await;
    let from = format!("file://{}", recipe.display());
    git(all, &["clone", "-q", "--depth", "1", &from, "short"]).await;
    let short = all.join("short");
    // What is named is tested as it is in history, with the tests that lie there now.
    let head = all.join("head");
    Checkout::open(&short).await.unwrap().clone_at("HEAD", &head).await.unwrap();
    write(&short, &[("tests/hooks/ready", "#!/bin/bash\n")]);
    let tests = short.join("tests");
    let parts = Parts {
        name: "shop",
        folder: &head,
        origin: &short,
        changed: Some(&[]),
        tests: Some((TestsAt::Recipe, &tests)),
        recipes: &[],
        scratch: all,
    };
    let packed = pack(&parts).await.unwrap();
    let out = taken_out(&packed, &all.join("there")).await;
    let again = Checkout::open(&out.folder).await.unwrap();
    assert_eq!(again.previous("HEAD").await.unwrap(), None);
    assert_eq!(again.changed_files().await.unwrap(), ["tests/hooks/ready"]);
}

#[tokio::test]
async fn a_folder_without_history_is_its_files() {
    let all = tempfile::tempdir().unwrap();
    let all = all.path();
    let (recipe, tests) = (all.join("shop"), all.join("trusted"));
    let more = [
        ("compose.yml", "services: {}\n"),
        (".env", "PASSWORD=hunter2\n"),
        (".gitignore", "*.secret\n"),
        ("db.secret", "hunter2\n"),
        ("deep/er/a.conf", "a\n"),
    ];
    write(&recipe, &more);
    write(&tests, &[("assay.toml", "")]);
    let parts = Parts {
        name: "shop",
        folder: &recipe,
        origin: &recipe,
        changed: None,
        tests: Some((TestsAt::Apart, &tests)),
        recipes: &[],
        scratch: all,
    };
    let packed = pack(&parts).await.unwrap();
    assert_snapshot!(left_out(&packed.left_out), @r"
    .env: it is not committed, and operators have secrets in files of that name
    db.secret: Git ignores it
    ");
    let out = taken_out(&packed, &all.join("there")).await;
    assert_snapshot!(files(&out.folder), @r"
    .gitignore: *.secret
    compose.yml: services: {}
    deep/er/a.conf: a
    ");
    assert_eq!(out.tests, Some(all.join("there/tests")));
    assert!(all.join("there/tests/assay.toml").exists() && out.recipes.is_none());

    fs::File::create(recipe.join("large.bin")).unwrap().set_len(MOST + 1).unwrap();
    let error = pack(&parts).await.unwrap_err();
    assert!(matches!(error, NotKept::TooMuch { .. }));
    assert_snapshot!(error, @"the recipe with its tests has 33 MiB, and at most 32 MiB are kept with a run");
}
