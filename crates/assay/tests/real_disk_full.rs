//! The disk fills up under a running server: every refusal says so, nothing that was acknowledged is
//! lost, and the run goes on once there is room again. A real, tiny file system; mounting needs root.

use std::path::PathBuf;
use std::sync::Arc;

use assay_api::operator::RunDetail;
use assay_model::{RunState, Sha256, Verdict, journal};
use assay_process::Cmd;
use assay_store::Store;
use assay_testkit::{CannedMachine, FakeRunner, ServerProcess, canned, free_ports};
use serde_json::json;

/// A tmpfs of 8 MiB; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    async fn mount(at: PathBuf) -> Self {
        std::fs::create_dir_all(&at).expect("a folder");
        let mount = Cmd::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(at.as_os_str());
        mount.run_ok().await.expect("mounting needs root");
        Self(at)
    }

    /// Fills it to the last byte; what to delete for room.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let full = std::fs::write(&ballast, vec![0; 64 << 20]).expect_err("it is small");
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        ballast
    }
}

impl Drop for SmallDisk {
    #[expect(clippy::disallowed_methods, reason = "a destructor cannot wait for an async command")]
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_said_and_survived() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = SmallDisk::mount(folder.path().join("data")).await;
    let mut server = ServerProcess::new(env!("CARGO_BIN_EXE_assay"), &disk.0, free_ports());
    server.fake_live_image();
    server.start(&[]).await;
    let api = server.api();
    let host = json!({ "name": canned::HOST, "macs": [canned::MAC], "spec_yaml": canned::SPEC });
    let _ = api.post("/api/v1/hosts", &host).await.expect(201);
    let _ = api.post("/api/v1/hosts/web-3/vet", &json!({})).await.expect(201);
    let machine = Arc::new(CannedMachine::default());
    machine.collectors_finish(false);
    let runner = FakeRunner::start(&server.url(), &server.join_token(), server.ports, Arc::clone(&machine));
    let in_state = |state: RunState| {
        let api = api.clone();
        async move {
            api.until("/api/v1/runs/1", |answer| {
                let run: RunDetail = answer.clone().expect(200).json();
                (run.summary.state == state).then_some(run)
            })
            .await
        }
    };
    in_state(RunState::Running).await;

    let ballast = disk.fill();
    // What an operator asks now cannot be kept, and is refused with the reason.
    let big = json!({ "name": "web-5", "macs": ["02:00:00:00:00:05"],
        "spec_yaml": format!("format: 1\nsystem: {{product: {}}}\n", "x".repeat(200 << 10)) });
    let refused = api.post("/api/v1/hosts", &big).await.expect(500);
    assert!(refused.text.contains("the disk that holds the database is full"), "{}", refused.text);
    machine.readings_pass(5).await;
    let before: RunDetail = api.get("/api/v1/runs/1").await.expect(200).json();
    assert_eq!(before.summary.state, RunState::Running, "reading works, and the run waits");

    std::fs::remove_file(ballast).expect("room again");
    let _ = api
        .insist("POST", "/api/v1/hosts", Some(&json!({ "name": "web-6", "macs": ["02:00:00:00:00:06"] })))
        .await
        .expect(201);
    machine.collectors_finish(true);
    let run = tokio::time::timeout(std::time::Duration::from_secs(15), in_state(RunState::Completed)).await;
    let Ok(run) = run else {
        let seen = api.get("/api/v1/runs/1/report.json").await;
        panic!("it never goes on: {:#?} {:#?} {}", server.said(), runner.said(), seen.text)
    };
    // The canned machine has no GPU.
    let fine = |verdict| matches!(verdict, Some(Verdict::Pass | Verdict::Skip));
    assert!(run.report.stages.iter().all(|s| fine(s.verdict) && s.attempt == 1), "{:?}", run.report.stages);
    runner.machine_ended().await;
    let database = server.database();
    server.stop().await;

    let store = Store::open(&database).await.expect("opens");
    let id = store.run_id(1).await.expect("read").expect("there");
    journal::verify(id, Sha256::ZERO, &store.journal(id).await.expect("read")).expect("unbroken");
    let numbers: Vec<i64> =
        store.sensor_batches(id, None, 1 << 30).await.expect("read").iter().map(|b| b.seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>(), "no reading is lost or doubled");
    store.close().await.expect("closes");
}
