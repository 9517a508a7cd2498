//! `assay matrix` against the real server: what it prints, and what it ends with.

use assay_model::compat::{Component, ComponentKind, Fingerprint};
use assay_model::event::{EventBody, RunCreated, Target};
use assay_model::host::order::RunOptions;
use assay_model::{
    Finding, HostId, Judgement, Mac, Micros, Owner, Pipeline, RunId, RunResult, Severity, Sha256, StageName,
    StagePlan, Verdict,
};
use assay_process::Cmd;
use assay_store::{Changes, HostRow, ImageSeen, Store, Write};
use assay_testkit::{ServerProcess, free_ports};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Site {
    server: ServerProcess,
    folder: TempDir,
}

impl Site {
    /// A server over a store that was filled before it was started.
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        std::fs::create_dir_all(&data).expect("a folder");
        let store = Store::open(&format!("sqlite://{}/assay.db", data.display())).await.expect("opens");
        let (one, two, three) = (host(1), host(2), host(3));
        for host in [&one, &two, &three, &host(4)] {
            store.host_put(host).await.expect("stored");
        }
        ran(&store, &one, "b1", b"old", None, 20).await;
        ran(&store, &one, "b1", b"new", None, 3).await;
        ran(&store, &two, "b2", b"new", Some("KernelPanic"), 1).await;
        ran(&store, &three, "b3", b"old", None, 2).await;
        store.close().await.expect("closes");
        let mut server = ServerProcess::new(env!("CARGO_BIN_EXE_assay"), data, free_ports());
        server.start(&[("ASSAY_OPERATOR_PASSWORD", "correct horse battery")]).await;
        Self { server, folder }
    }

    /// What the command line ends with, and says.
    async fn cli(&self, args: &[&str]) -> (Option<i32>, String) {
        let data = self.server.data.display().to_string();
        cli(&[args, &["--data", &data]].concat(), self.folder.path()).await
    }

    async fn json(&self, args: &[&str]) -> (Option<i32>, Value) {
        let (code, said) = self.cli(&[args, &["--json"]].concat()).await;
        (code, serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}")))
    }
}

async fn cli(args: &[&str], folder: &std::path::Path) -> (Option<i32>, String) {
    let program = Cmd::new(env!("CARGO_BIN_EXE_assay")).args(args).cwd(folder);
    let done = program.run().await.expect("it runs");
    (done.status.code(), format!("{}{}", done.stdout_text(), done.stderr_text()))
}

fn host(n: u8) -> HostRow {
    HostRow {
        id: HostId(uuid::Uuid::from_u128(u128::from(n))),
        name: format!("web-{n}"),
        macs: vec![Mac([2, 0, 0, 0, 0, n])],
        spec_yaml: String::new(),
        power: json!({ "method": "manual" }),
        created_at: now(),
    }
}

fn now() -> Micros {
    assay_model::Clock::now(&assay_engine::clock::SystemClock::default())
}

/// A finished run of `my` on a host, so many days ago.
async fn ran(store: &Store, host: &HostRow, board: &str, image: &[u8], failed: Option<&str>, days_ago: i64) {
    let part = |kind, name: &str| Component { kind, name: name.to_owned(), count: 1, drivers: Vec::new() };
    let machine = Fingerprint {
        components: vec![part(ComponentKind::Board, board), part(ComponentKind::Network, "8086:1533")],
    };
    let boot = || StageName::from("Boot");
    let created = RunCreated {
        number: 0,
        pipeline: Pipeline::Image,
        profile: "standard".into(),
        target: Target { id: host.id.into(), name: host.name.clone() },
        stages: vec![StagePlan { name: boot(), owner: Owner::Runner, required: true, timeout_s: 60 }],
        spec: json!({ "image": "/images/my.iso", "profile": { "name": "my" } }),
        machine: Some(json!({ "format": 1 })),
        macs: host.macs.clone(),
        power: host.power.clone(),
        holds: false,
        hold_s: 0,
        boot_timeout_s: 600,
        requested_by: "ada".into(),
        harness: "0.1.0".into(),
        muted: Vec::new(),
        options: RunOptions::default(),
    };
    let at = now().plus(Micros::seconds(-days_ago * 86_400 - 60));
    let id = RunId(uuid::Uuid::now_v7());
    store.create_run(id, at, created).await.expect("created");
    let (verdict, result) = match failed {
        None => (Verdict::Pass, RunResult::Pass),
        Some(_) => (Verdict::Fail, RunResult::Fail),
    };
    let findings = failed.iter().map(|code| Finding::new(code, Severity::Critical, "m", "n")).collect();
    let judgement = Judgement { verdict, findings, ..Judgement::error("as told") };
    let events = vec![
        EventBody::Admitted { runner: "rack7".into() },
        EventBody::StageStarted { stage: boot(), index: 0, attempt: 1, generation: 1 },
        EventBody::StageJudged { stage: boot(), index: 0, attempt: 1, required: true, judgement },
        EventBody::RunCompleted { result: Some(result) },
    ];
    let digest = Sha256::of(image);
    let writes = vec![
        Write::Image(ImageSeen { digest, bytes: 4096, volume: None, whole: true }),
        Write::Machine(Ok(machine)),
    ];
    let changes = Changes { events, writes };
    store.transact(id, at, |_| Ok::<_, String>(changes)).await.expect("may happen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exit_code_says_whether_an_image_works_on_a_host() {
    let site = Site::start().await;
    let new = Sha256::of(b"new").to_string();
    let check = async |host: &str, image: &str, more: &[&str]| {
        let args = [&["matrix", "check", "--host", host, "--image", image], more].concat();
        site.cli(&args).await
    };
    let (code, said) = check("web-1", "my", &[]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("web-1: works\n") && said.contains("(run 2, 3 days ago)"), "{said}");
    assert!(said.contains("looked at: b1 (fingerprint") && !said.contains("next:"), "{said}");

    let (code, said) = check("web-2", &new, &[]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("web-2: fails") && said.contains("(run 3, 1 day ago: KernelPanic)"), "{said}");

    // Never tried there: the parts say what is known of them elsewhere, and what to do comes last.
    let (code, said) = check("web-3", "my", &[]).await;
    assert_eq!(code, Some(4), "{said}");
    let lines: Vec<_> =
        said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert!(
        lines[0] == "web-3: not known" && lines[1].ends_with("was never tried on a machine of web-3's kind"),
        "{said}"
    );
    assert!(lines.contains(&"board b3 unknown".to_owned()), "{said}");
    assert!(lines.contains(&"network 8086:1533 mixed, 1 d old, run 3 3 2".to_owned()), "{said}");
    assert!(
        lines.last().is_some_and(|l| l.contains("assay image test") && l.contains("--on web-3")),
        "{said}"
    );

    let (code, said) = check("web-1", &new[..12], &["--max-age", "2"]).await;
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("that is more than 2 days"), "{said}");
    let (code, answer) = site.json(&["matrix", "check", "--host", "web-1", "--image", "my"]).await;
    assert_eq!((code, &answer["answer"], &answer["cell"]["run"]), (Some(0), &json!("works"), &json!(2)));

    // What cannot be asked is said with what to do, and never passes for an answer.
    let (code, said) = check("web-4", "my", &[]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("assay host vet web-4 --profile quick"), "{said}");
    for (host, image, words) in [("web-7", "my", "web-7"), ("web-1", "your", "assay image list")] {
        let (code, said) = check(host, image, &[]).await;
        assert!(code == Some(2) && said.contains(words), "{code:?}: {said}");
    }
    assert_eq!(check("web-1", "my", &["--max-age", "0"]).await.0, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_grid_and_what_is_due() {
    let site = Site::start().await;
    let (code, said) = site.cli(&["matrix", "--kind", "board"]).await;
    assert_eq!(code, Some(0), "{said}");
    let lines: Vec<_> =
        said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert!(lines.contains(&"board b1 works, 3 d old, run 2 works, 20 d old, run 1".to_owned()), "{said}");
    assert!(lines.contains(&"board b2 fails, 1 d old, run 3 unknown".to_owned()), "{said}");
    assert!(said.contains("web-4 is not in here"), "{said}");
    let (code, matrix) = site.json(&["matrix", "--image", "my", "--component", "b2", "--max-age", "5"]).await;
    assert_eq!((code, matrix["rows"].as_array().map(Vec::len)), (Some(0), Some(2)), "{matrix}");
    assert_eq!(site.cli(&["matrix", "--kind", "disk"]).await.0, Some(2));

    let (code, said) = site.cli(&["matrix", "due"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("image_changed: my") && said.contains("--on web-3"), "{said}");
    let (code, due) = site.json(&["matrix", "due", "--max-age", "2"]).await;
    assert_eq!(
        (code, due["due"].as_array().map(Vec::len)),
        (Some(1), Some(2)),
        "web-1 is stale by then: {due}"
    );
}

#[tokio::test]
async fn changed_files_are_asked_about_without_a_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let due =
        async |more: &[&str]| cli(&[&["matrix", "due", "--changed"], more].concat(), folder.path()).await;
    let (code, said) = due(&["kernel/x.c"]).await;
    assert!(
        code == Some(5) && said.contains("hardware-paths.toml") && said.contains("--paths"),
        "{code:?}: {said}"
    );
    let paths = "format = 1\n[paths]\nkernel = [\"kernel/**\"]\n";
    std::fs::write(folder.path().join("hardware-paths.toml"), paths).expect("written");
    let (code, said) = due(&["docs/a.md", "kernel/x.c"]).await;
    assert!(code == Some(1) && said.contains("kernel: kernel/x.c (kernel/**)"), "{code:?}: {said}");
    assert_eq!(due(&["docs/a.md"]).await.0, Some(0));
    assert_eq!(due(&[]).await.0, Some(0), "nothing has changed");
    std::fs::write(folder.path().join("other.toml"), "format = 1\n[paths]\n").expect("written");
    let (code, said) = due(&["docs/a.md", "--paths", "other.toml"]).await;
    assert!(code == Some(5) && said.contains("names nothing"), "{code:?}: {said}");
}
