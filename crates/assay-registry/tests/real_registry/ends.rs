//! Ends: of the store, of its owner, and two commands at once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use assay_process::Cmd;

use crate::world::{Upstream, bring};

/// Tells this program, run as another process, which cache to hold.
const HOLD: &str = "ASSAY_TEST_HOLD_CACHE";
const UPSTREAM: &str = "ASSAY_TEST_UPSTREAM";

#[tokio::test]
async fn a_store_that_dies_is_started_again() {
    let upstream = Upstream::start().await;
    upstream.push("shop/web:1", "before").await;
    let folder = tempfile::tempdir().unwrap();
    let session = upstream.cache(folder.path()).open().await.unwrap();
    bring(&session, "docker.io/shop/web:1").await.unwrap();
    let [store] = registries_of(folder.path())[..] else { panic!("there is one store") };
    kill(store).await;
    upstream.push("shop/web:2", "after").await;
    let after = bring(&session, "docker.io/shop/web:2").await.unwrap();
    assert!(after.fetched.blob_bytes > 0);
    let [again] = registries_of(folder.path())[..] else { panic!("there is one store") };
    assert_ne!(store, again);
    session.close().await;
    assert!(registries_of(folder.path()).is_empty());
    assert!(!folder.path().join("running").exists());
}

#[tokio::test]
async fn two_at_once_take_turns() {
    let upstream = Upstream::start().await;
    upstream.push("shop/web:1", "turns").await;
    let folder = tempfile::tempdir().unwrap();
    // As in two commands: nothing is shared but the folder.
    let (one, other) = (upstream.cache(folder.path()), upstream.cache(folder.path()));
    let session = one.open().await.unwrap();
    let shared = one.open().await.unwrap();
    let second = tokio::spawn(async move {
        let session = other.open().await.unwrap();
        let brought = bring(&session, "docker.io/shop/web:1").await.unwrap();
        session.close().await;
        brought
    });
    let first = bring(&session, "docker.io/shop/web:1").await.unwrap();
    assert!(first.fetched.blob_bytes > 0);
    session.close().await;
    // The other session of this command still has it.
    assert_eq!(bring(&shared, "docker.io/shop/web:1").await.unwrap().fetched.blob_bytes, 0);
    assert!(!second.is_finished());
    shared.close().await;
    assert_eq!(second.await.unwrap().fetched.blob_bytes, 0);
}

#[tokio::test]
async fn an_owner_that_is_killed_leaves_nothing_but_what_it_had_fetched() {
    let upstream = Upstream::start().await;
    upstream.push("shop/web:1", "survives").await;
    let folder = tempfile::tempdir().unwrap();
    let mut owner = Cmd::new(std::env::current_exe().unwrap())
        .args(["--exact", "ends::holds_a_cache_for_another_test", "--ignored", "--nocapture"])
        .env(HOLD, folder.path())
        .env(UPSTREAM, upstream.port.to_string())
        .spawn()
        .await
        .unwrap();
    while !owner.next_line().await.expect("it says that it has the cache").text.contains("holding") {}
    assert_eq!(registries_of(folder.path()).len(), 1);
    kill(owner.pid()).await;

    // The lock that the store itself holds is its end.
    let alive = File::open(folder.path().join("alive")).unwrap();
    tokio::task::spawn_blocking(move || alive.lock()).await.unwrap().unwrap();
    assert!(registries_of(folder.path()).is_empty());
    assert!(folder.path().join("running").exists());

    let session = upstream.cache(folder.path()).open().await.unwrap();
    assert_eq!(bring(&session, "docker.io/shop/web:1").await.unwrap().fetched.blob_bytes, 0);
    session.close().await;
}

/// The process that is killed.
#[tokio::test]
#[ignore = "it is run by another test, as another process, and waits to be killed"]
async fn holds_a_cache_for_another_test() {
    let folder = PathBuf::from(std::env::var_os(HOLD).expect("the other test says which cache"));
    let port: u16 = std::env::var(UPSTREAM).unwrap().parse().unwrap();
    let mut registries = assay_registry::Registries::default();
    registries.add(&format!("docker.io=http://127.0.0.1:{port}")).unwrap();
    let settings = assay_registry::CacheSettings {
        folder,
        registries,
        credentials: assay_registry::Credentials::default(),
    };
    let session = assay_registry::ImageCache::new(settings).unwrap().open().await.unwrap();
    bring(&session, "docker.io/shop/web:1").await.unwrap();
    println!("holding");
    std::future::pending::<()>().await;
}

/// The registries that run on a folder's settings.
fn registries_of(folder: &Path) -> Vec<u32> {
    let settings = folder.join("registry.json");
    let runs = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.first().is_some_and(|program| program.ends_with(b"docker-registry"))
            && words.contains(&settings.as_os_str().as_encoded_bytes())
    };
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(runs).collect()
}

async fn kill(pid: u32) {
    Cmd::new("kill").args(["-KILL", &pid.to_string()]).run_ok().await.unwrap();
}
