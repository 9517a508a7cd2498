//! A daemon comes, and goes without a trace, whoever ends it.

use std::{
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::Path,
    time::Duration,
};

use assay_process::{Cmd, Signal};
use assay_swarm::{Daemon, DaemonConfig, SwarmError, Swept};

use crate::world::{World, service, stack};

/// The folder that [`owner_that_gets_killed`] is to use.
const FOLDER: &str = "ASSAY_TEST_DAEMON_FOLDER";

#[tokio::test]
async fn a_daemon_comes_and_goes_with_everything_in_it() {
    let world = World::start().await;
    let (folder, timings) = (world.daemon.folder().to_owned(), world.daemon.timings());
    eprintln!("served after {:.2?}, a swarm after {:.2?}", timings.serving, timings.swarm);
    assert!(world.swarm().version().await.unwrap().starts_with(|c: char| c.is_ascii_digit()));
    assert!(world.daemon.log().metadata().unwrap().len() > 0);
    // A shell that does not care for SIGTERM, and its grace period would be ten seconds.
    let mut stubborn = service("trap '' TERM; while :; do sleep 1000; done");
    stubborn.stop_grace_period = None;
    world.up("stubborn", &stack([("app", stubborn)])).await;
    assert!(!traces(&folder).await.is_empty());
    // Nobody else can have the folder, and nobody sweeps it, while its owner lives.
    assert_eq!(Daemon::sweep(&folder).await.unwrap(), Swept::Alive);
    let config = DaemonConfig { folder: folder.clone(), log: world.folder().join("other.log") };
    assert!(matches!(Daemon::start(&config).await.unwrap_err(), SwarmError::Busy { .. }));

    let stopped = world.daemon.stop().await.unwrap();
    eprintln!("killed after {:.2?}, removed after {:.2?}", stopped.killed, stopped.removed);
    assert_eq!(traces(&folder).await, Vec::<String>::new());
    assert!(stopped.removed < Duration::from_secs(10), "{stopped:?}");
    assert_eq!(Daemon::sweep(&folder).await.unwrap(), Swept::Nothing);
}

#[tokio::test]
async fn a_killed_owner_leaves_a_folder_that_is_swept() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("d");
    let mut owner = Cmd::new(std::env::current_exe().unwrap())
        .args(["--exact", "daemon::owner_that_gets_killed", "--ignored", "--nocapture"])
        .env(FOLDER, &folder)
        .spawn()
        .await
        .unwrap();
    while !owner.next_line().await.expect("the owner says when it is up").text.contains("is up") {}
    assert!(traces(&folder).await.len() > 3, "{:?}", traces(&folder).await);
    // SIGKILL for the owner alone: nobody tidies up behind it, and nobody kills its children for it.
    owner.signal(Signal::KILL).unwrap();
    let started = std::time::Instant::now();
    while Daemon::sweep(&folder).await.unwrap() == Swept::Alive {
        // The lock goes with the owner, in the moment in which the kernel has ended it.
        tokio::task::yield_now().await;
    }
    eprintln!("swept after {:.2?}", started.elapsed());
    assert_eq!(traces(&folder).await, Vec::<String>::new());
    owner.wait().await.unwrap();
}

#[tokio::test]
async fn what_outlived_its_owner_is_found_by_the_folder_and_removed_and_nothing_else() {
    let parent = tempfile::tempdir().unwrap();
    let (folder, neighbour) = (parent.path().join("d"), parent.path().join("d2"));
    std::fs::create_dir_all(folder.join("data/overlay2")).unwrap();
    std::fs::write(folder.join("owner"), "").unwrap();
    let mount = Cmd::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(folder.join("data/overlay2"));
    mount.run_ok().await.unwrap();
    let mut left = Cmd::new("sleep").arg("1000").env("ASSAY_DAEMON", &folder).spawn().await.unwrap();
    let other = Cmd::new("sleep").arg("1000").env("ASSAY_DAEMON", &neighbour).spawn().await.unwrap();
    assert_eq!(Daemon::sweep(&folder).await.unwrap(), Swept::Removed { processes: 1, mounts: 1 });
    assert_eq!(left.wait().await.unwrap().signal(), Some(9));
    assert_eq!(traces(&folder).await, Vec::<String>::new());
    assert_eq!(traces(&neighbour).await, ["process sleep"]);
    drop(other);
}

#[tokio::test]
#[ignore = "is the process that another test starts and kills"]
async fn owner_that_gets_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let world = World::start_in(folder).await;
    world.up("left", &stack([("app", service("sleep 1000"))])).await;
    println!("the daemon is up");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_daemon_that_gives_up_is_an_error_with_its_own_words_and_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let fake = parent.path().join("bin");
    std::fs::create_dir(&fake).unwrap();
    let script = "#!/bin/sh\necho 'failed to start daemon: the moon is full' >&2\nexit 3\n";
    std::fs::write(fake.join("dockerd"), script).unwrap();
    std::fs::set_permissions(fake.join("dockerd"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let folder = parent.path().join("d");
    let path = format!("{}:{}", fake.display(), std::env::var("PATH").unwrap());
    let told = Cmd::new(std::env::current_exe().unwrap())
        .args(["--exact", "daemon::owner_of_one_that_gives_up", "--ignored", "--nocapture"])
        .env(FOLDER, &folder)
        .env("PATH", path)
        .run_ok()
        .await
        .unwrap();
    let told = told.stdout_text().into_owned();
    assert!(told.contains("the Docker daemon ended (exit status: 0) before it served"), "{told}");
    assert!(told.contains("failed to start daemon: the moon is full\ndockerd ended with status 3"), "{told}");
    assert_eq!(traces(&folder).await, Vec::<String>::new());
}

#[tokio::test]
#[ignore = "is the process that another test starts"]
async fn owner_of_one_that_gives_up() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let config = DaemonConfig { folder: folder.to_owned(), log: folder.with_extension("log") };
    println!("{}", Daemon::start(&config).await.unwrap_err());
}

/// Everything on this machine that bears the folder's name: itself, mounts, processes, control groups.
async fn traces(folder: &Path) -> Vec<String> {
    let mut traces = Vec::new();
    if folder.exists() {
        traces.push(format!("folder {}", folder.display()));
    }
    let name = folder.to_str().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    traces.extend(
        mounts.lines().filter(|line| line.contains(&format!("{name}/"))).map(|line| format!("mount {line}")),
    );
    for entry in std::fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let read = |file: &str| {
            String::from_utf8_lossy(&std::fs::read(path.join(file)).unwrap_or_default()).into_owned()
        };
        let marked = read("environ").split('\0').any(|entry| entry == format!("ASSAY_DAEMON={name}"));
        // A container's processes know nothing of the folder; their mounts do.
        if marked || read("mountinfo").contains(&format!("{name}/data/overlay2")) {
            traces.push(format!("process {}", read("comm").trim()));
        }
    }
    let groups =
        Cmd::new("find").args(["/sys/fs/cgroup", "-maxdepth", "2", "-name", "assay-*"]).run().await.unwrap();
    let digest = {
        use sha2::{Digest, Sha256};
        hex::encode(&Sha256::digest(name.as_bytes())[..6])
    };
    let groups = String::from_utf8_lossy(&groups.stdout).into_owned();
    traces.extend(groups.lines().filter(|line| line.contains(&digest)).map(|line| format!("group {line}")));
    traces
}
