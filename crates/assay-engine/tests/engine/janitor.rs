//! What is thrown away, and what never is.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use assay_engine::janitor::Retention;
use assay_engine::requests::VetOptions;
use assay_model::{Micros, RunId, StageName};
use assay_testkit::Bench;

const DAY: i64 = 86_400;

/// A run that passed, with one raw file of its own and one that all runs have.
async fn passed(bench: &Bench, what: &str) -> RunId {
    let (run, agent) = bench.running_with(VetOptions { holds: false, ..Bench::options() }).await;
    for (name, text) in [("own.txt", what), ("same.txt", "the same in every run")] {
        let digest = bench.engine.artifacts().put(text.as_bytes().to_vec()).await.expect("stored");
        let (stage, size) = (StageName::from("Inventory"), text.len() as u64);
        bench.engine.artifact(run, stage, 1, name.to_owned(), digest, size).await.expect("taken");
    }
    bench.rest(&agent).await;
    bench.clock.advance(Micros::seconds(DAY));
    run
}

async fn left(bench: &Bench, run: RunId) -> Vec<String> {
    let mut names = Vec::new();
    for artifact in &bench.view(run).await.artifacts {
        if bench.engine.artifacts().exists(artifact.digest).await.expect("asked") {
            names.push(artifact.name.clone());
        }
    }
    names
}

#[tokio::test]
async fn old_raw_files_go_and_the_addendum_says_so() {
    let bench = Bench::new().await;
    let old = passed(&bench, "old").await;
    let pinned = passed(&bench, "pinned").await;
    bench.engine.pin(pinned, Some("ada")).await.expect("pinned");
    let newer = passed(&bench, "newer").await;
    bench.engine.set_retention(Retention { max_age_days: 30, max_gib: 0 }).await.expect("set");

    assert_eq!(bench.engine.clean(false).await.expect("cleaned").pruned, [], "nothing is old");
    bench.clock.advance(Micros::seconds(60 * DAY));
    let would = bench.engine.clean(true).await.expect("looked");
    let numbers = |cleaned: &assay_engine::janitor::Cleaned| {
        cleaned.pruned.iter().map(|r| r.number).collect::<Vec<_>>()
    };
    assert!(would.dry_run);
    assert_eq!(numbers(&would), [1], "not the pinned one, and not the last pass");
    assert_eq!(left(&bench, old).await.len(), 2, "it was only looked");

    let done = bench.engine.clean(false).await.expect("cleaned");
    assert_eq!((numbers(&done), done.pruned[0].files), (vec![1], 1), "a file that another run keeps stays");
    assert_eq!(left(&bench, old).await, ["same.txt"]);
    assert_eq!((left(&bench, pinned).await.len(), left(&bench, newer).await.len()), (2, 2));
    let kinds: Vec<_> =
        bench.engine.store().addenda(old).await.expect("read").into_iter().map(|a| a.kind).collect();
    assert_eq!(kinds, ["ReportStored@1", "ArtifactsPruned@1"]);
    let folder = bench.engine.artifacts().run_folder(1);
    assert!(folder.join("report.json").exists(), "the report stays where people look for it");
    assert!(!folder.join("own.txt").exists());
    bench.check(old).await;
    assert_eq!(numbers(&bench.engine.clean(false).await.expect("cleaned")), [0; 0], "once");

    bench.engine.pin(pinned, None).await.expect("no longer");
    assert_eq!(numbers(&bench.engine.clean(false).await.expect("cleaned")), [2]);
}

#[tokio::test]
async fn an_open_run_keeps_everything_however_old() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running_with(VetOptions { hold_s: 1_000_000_000, ..Bench::options() }).await;
    let digest = bench.engine.artifacts().put(b"raw".to_vec()).await.expect("stored");
    bench.engine.artifact(run, "Inventory".into(), 1, "raw.txt".to_owned(), digest, 3).await.expect("taken");
    bench.up_to(&agent, "SpecValidate").await;
    bench.collect(&agent, "SpecValidate", &crate::wrong_disk()).await;
    bench.clock.advance(Micros::seconds(1000 * DAY));
    let cleaned = bench.engine.clean(false).await.expect("cleaned");
    assert_eq!((cleaned.pruned, cleaned.leases, cleaned.tokens), (vec![], 0, 0));
    assert_eq!(left(&bench, run).await, ["raw.txt"]);
}

#[tokio::test]
async fn what_sealed_runs_left_is_swept_after_a_day() {
    let bench = Bench::new().await;
    passed(&bench, "x").await;
    let early = bench.engine.clean(false).await.expect("cleaned");
    assert_eq!((early.leases, early.tokens), (0, 0), "a late machine may still ask what to do");
    bench.clock.advance(Micros::seconds(1));
    let swept = bench.engine.clean(false).await.expect("cleaned");
    assert_eq!((swept.leases, swept.tokens), (1, 2), "its lease, its boot token and its credential");
}

#[tokio::test]
async fn files_that_no_run_speaks_of_go_after_a_day() {
    let bench = Bench::new().await;
    let run = passed(&bench, "named").await;
    let artifacts = bench.engine.artifacts();
    let orphan = artifacts.put(b"the control plane died before it wrote down whose this is".to_vec()).await;
    let orphan = orphan.expect("stored");
    let folder = artifacts.run_folder(1).parent().expect("the folder of all").to_owned();
    std::fs::create_dir_all(folder.join("incoming")).expect("made");
    std::fs::write(folder.join("incoming/half#1"), "half an uplo").expect("written");
    bench.clock.advance(Micros::seconds(DAY));
    let swept = async |dry_run| {
        let cleaned = bench.engine.clean(dry_run).await.expect("cleaned");
        (cleaned.orphans, cleaned.orphan_bytes)
    };
    // Files have the time of the real clock.
    let written = |seconds: i64| {
        let seconds = bench.engine.now().plus(Micros::seconds(seconds)).0 / 1_000_000;
        let when = UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).expect("after 1970"));
        for path in walk(&folder) {
            std::fs::File::open(path).and_then(|file| file.set_modified(when)).expect("set");
        }
    };
    written(-DAY + 60);
    assert_eq!(swept(true).await, (0, 0), "a run may be about to speak of it");
    written(-2 * DAY);
    assert_eq!(swept(true).await, (2, 57 + 12), "reports, evidence and raw files are named");
    assert!(artifacts.exists(orphan).await.expect("asked"), "it was only looked");

    assert_eq!(swept(false).await, (2, 57 + 12));
    assert!(!artifacts.exists(orphan).await.expect("asked"));
    assert_eq!(swept(false).await, (0, 0));
    bench.check(run).await;
    assert_eq!(left(&bench, run).await.len(), 2);
}

/// All files that are not links into a run's folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}
