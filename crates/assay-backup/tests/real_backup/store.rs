//! The repository by itself: what restic says when something is wrong, in our words.

use std::time::Duration;

use assay_backup::{BackupError, Store};
use assay_process::Cmd;

#[tokio::test]
async fn a_store_says_what_is_wrong_with_it() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("store");
    let error = Store::open(&folder).await.unwrap_err();
    assert!(error.to_string().ends_with("make one there with `Store::create`"), "{error}");
    let store = Store::create(&folder).await.unwrap();
    assert!(store.version().await.unwrap().starts_with("restic 0."));
    assert_eq!(store.snapshots().await.unwrap(), [""; 0]);
    assert_eq!(store.stats().await.unwrap().blobs, 0);
    store.check(Duration::from_mins(1)).await.unwrap();
    let error = Store::create(&folder).await.unwrap_err();
    assert!(matches!(error, BackupError::Repository { .. }), "{error}");

    // A lock of a process that is no more, as one that was killed leaves it, is taken away.
    let restic = |arguments: &[&str]| {
        Cmd::new("restic")
            .args(arguments.to_vec())
            .arg("--no-cache")
            .env("RESTIC_REPOSITORY", folder.join("repository"))
            .env("RESTIC_PASSWORD_FILE", folder.join("password"))
    };
    let mut holder = restic(&["backup", "--stdin"]).stdin(vec![0; 64 << 20]).spawn().await.unwrap();
    let locks = folder.join("repository/locks");
    // A lock that is being written has a longer name.
    let held = || {
        std::fs::read_dir(&locks)
            .unwrap()
            .filter(|lock| lock.as_ref().unwrap().file_name().len() == 64)
            .count()
    };
    while held() == 0 {
        tokio::task::yield_now().await;
    }
    holder.signal(assay_process::Signal::KILL).unwrap();
    holder.wait().await.unwrap();
    assert_eq!(held(), 1);
    store.check(Duration::from_mins(1)).await.unwrap();
    assert_eq!(held(), 0);

    std::fs::write(folder.join("password"), "another").unwrap();
    let error = Store::open(&folder).await.unwrap_err();
    assert!(matches!(error, BackupError::WrongPassword { .. }), "{error}");
    // Nothing is mounted here, and nothing was written but into the folder.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(folder.to_str().unwrap()), "{mounts}");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
    let mut names: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["cache", "password", "repository", "root", "tmp"]);
}

#[tokio::test]
async fn a_full_disk_is_told() {
    let place = tempfile::tempdir().unwrap();
    let disk = place.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    Cmd::new("mount").args(["-t", "tmpfs", "-o", "size=8k", "none"]).arg(&disk).run_ok().await.unwrap();
    let error = Store::create(&disk.join("store")).await.unwrap_err();
    assert_eq!(std::fs::read_dir(&disk).unwrap().count(), 0);
    Cmd::new("umount").arg(&disk).run_ok().await.unwrap();
    assert!(matches!(error, BackupError::NoSpace { .. }), "{error}");
}

#[tokio::test]
async fn what_restic_sees_is_the_volumes_and_nothing_else_of_this_machine() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    for folder in ["root", "store", "volume", "host"] {
        std::fs::create_dir(at(folder)).unwrap();
    }
    std::fs::write(at("host/secret"), "the host's own").unwrap();
    std::fs::write(at("volume/file"), "the volume's own").unwrap();
    std::os::unix::fs::symlink(at("host"), at("volume/link")).unwrap();
    std::os::unix::fs::symlink("../../../../../../etc", at("volume/etc")).unwrap();
    // Another program in its place shows what there is to see.
    let inside = async |program: &str, mode: &str, arguments: &[&str]| {
        let run = Cmd::new("unshare")
            .args(["--mount", "--propagation", "private", "--", "/bin/sh", "-c"])
            .arg(include_str!("../../src/sandbox.sh"))
            .arg("sandbox")
            .args([at("root"), at("store")])
            .args([program, mode, "v"])
            .arg(at("volume"))
            .arg("--")
            .args(arguments.to_vec());
        let output = run.run().await.unwrap();
        (output.success(), format!("{}{}", output.stdout_text(), output.stderr_text()))
    };
    assert_eq!(inside("/bin/cat", "ro", &["/data/v/file"]).await, (true, "the volume's own".to_owned()));
    for path in ["/data/v/link/secret", "/data/v/etc/passwd", "/etc/passwd"] {
        let (read, said) = inside("/bin/cat", "ro", &[path]).await;
        assert!(!read && said.contains("No such file"), "{path}: {said}");
    }
    let (_, all) = inside("/bin/ls", "ro", &["-A", "/"]).await;
    let beside: Vec<_> = all.lines().filter(|name| !name.starts_with("lib")).collect();
    assert_eq!(beside, ["bin", "data", "dev", "program", "sbin", "store", "usr"]);
    let (written, said) = inside("/bin/touch", "ro", &["/data/v/new"]).await;
    assert!(!written && said.contains("Read-only file system"), "{said}");
    assert!(inside("/bin/touch", "rw", &["/data/v/new"]).await.0);
    assert!(!inside("/bin/touch", "rw", &["/usr/new"]).await.0);
}
