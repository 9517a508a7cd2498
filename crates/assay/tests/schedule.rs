//! `assay schedule`, `assay batch` and `assay host vet --all` as somebody would use them, with a real server.

use std::path::Path;

use assay_process::{Cmd, Output};
use assay_testkit::{PATIENCE, ServerProcess, free_ports};
use serde_json::Value;

const ASSAY: &str = env!("CARGO_BIN_EXE_assay");

async fn assay(data: &Path, args: &[&str]) -> Output {
    Cmd::new(ASSAY).args(args.iter().copied()).env("ASSAY_DATA", data).run().await.expect("runs")
}

/// What a command says, as it would stand in a terminal.
async fn said(data: &Path, line: &str) -> String {
    let args: Vec<String> = words(line);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = assay(data, &args).await;
    let code = output.code().map(|code| format!("[{code}]")).filter(|code| code != "[0]");
    let parts =
        [format!("$ assay {line}"), output.stdout_text().into_owned(), output.stderr_text().into_owned()];
    let parts = parts.into_iter().chain(code).map(|part| part.trim_end().to_owned());
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// A command line's words; those in single quotes are one.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (place, part) in line.split('\'').enumerate() {
        if place % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

async fn transcript(data: &Path, lines: &[&str]) -> String {
    let mut out = Vec::new();
    for line in lines {
        out.push(said(data, line).await);
    }
    out.join("\n")
}

/// Until a command says so. Each look takes as long as a program does to start.
async fn until(data: &Path, line: &str, wanted: &str) {
    let looks = async { while !said(data, line).await.contains(wanted) {} };
    tokio::time::timeout(PATIENCE, looks).await.unwrap_or_else(|_| panic!("`{line}` never says {wanted}"));
}

fn redacted() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "[time]");
    settings
        .add_filter(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \d+ [A-Z][a-z]{2} (\d\d):\d\d:\d\d [A-Z]+", "[day $2 h]");
    // How long a date is depends on the day.
    settings.add_filter(r"NEXT +LAST", "NEXT  LAST");
    settings.add_filter(r"\] +never", "]  never");
    // Its run begins within a second of being asked for.
    settings.add_filter(r"batch 1: 0 of 1(, 1 under way)?", "batch 1: [progress]");
    settings
}

/// A server with three machines, one of which says nothing of a cluster. What is begun stays in the queue, so that what is said of
/// it is the same every time.
async fn server(folder: &Path) -> ServerProcess {
    let mut server = ServerProcess::new(ASSAY, folder.join("data"), free_ports());
    server.fake_live_image();
    server.start(&[]).await;
    let spec = folder.join("spec.yaml");
    std::fs::write(&spec, "format: 1\ncluster: none\n").expect("written");
    let spec = spec.to_str().expect("text");
    for (n, name) in ["db-1", "db-2", "db-3"].into_iter().enumerate() {
        let mac = format!("52:54:00:00:00:0{n}");
        let mut args = vec!["host", "add", name, "--mac", mac.as_str()];
        if name != "db-3" {
            args.extend(["--spec", spec]);
        }
        let added = assay(&server.data, &args).await;
        assert_eq!(added.code(), Some(0), "{}", added.stderr_text());
    }
    assert_eq!(assay(&server.data, &["queue", "pause"]).await.code(), Some(0));
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fleet_is_vetted_some_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = server(folder.path()).await;
    let data = server.data.clone();
    let _redacted = redacted().bind_to_scope();
    let planned =
        transcript(&data, &["batch list", "host vet --all --dry-run --profile quick", "batch list"]).await;
    insta::assert_snapshot!(planned, @"
    $ assay batch list
    there is no batch; `assay host vet --all --dry-run` shows what one would be
    $ assay host vet --all --dry-run --profile quick
    vet all hosts (quick); 1 at once, stops after 2 failures
       1  db-1  never tested
       2  db-2  never tested
       -  db-3  left out: the spec says nothing of a cluster (ClusterUndeclared). Add `cluster: none` to the spec if nobody counts on its disks, or the cluster's address, and vet the host again.
    2 targets, 1 left out
    nothing was begun
    $ assay batch list
    there is no batch; `assay host vet --all --dry-run` shows what one would be
    ");
    insta::assert_snapshot!(said(&data, "host vet --all --profile quick").await, @"
    $ assay host vet --all --profile quick
    vet all hosts (quick); 1 at once, stops after 2 failures
       1  db-1  never tested
       2  db-2  never tested
       -  db-3  left out: the spec says nothing of a cluster (ClusterUndeclared). Add `cluster: none` to the spec if nobody counts on its disks, or the cluster's address, and vet the host again.
    2 targets, 1 left out
    batch 1 has begun; follow it with `assay batch show 1`, stop it with `assay batch stop 1`
    ");
    until(&data, "batch show 1", "under way, ").await;
    let shown = transcript(
        &data,
        &[
            "batch show 1",
            "batch stop 1 --why 'the power is going'",
            "batch resume 1",
            "batch resume 1",
            "batch list",
            "batch show 7",
        ],
    )
    .await;
    insta::assert_snapshot!(shown, @"
    $ assay batch show 1
    batch 1: vet all hosts (quick), for token cli; 1 at once, stops after 2 failures
    running: 0 of 2, 1 under way, 1 left out
    TARGET  STANDS             RUN  WHY
    db-1    under way, Queued  1    no runner is connected; start one with `assay runner`
    db-2    waits
    db-3    left out                the spec says nothing of a cluster (ClusterUndeclared). Add `cluster: none` to the spec if nobody counts on its disks, or the cluster's address, and vet the host again.
    $ assay batch stop 1 --why 'the power is going'
    batch 1: vet all hosts (quick), for token cli; 1 at once, stops after 2 failures
    stopped by token cli (the power is going): 0 of 2, 1 under way, 1 left out
    nothing more is begun; `assay batch resume 1` goes on
    TARGET  STANDS             RUN  WHY
    db-1    under way, Queued  1    no runner is connected; start one with `assay runner`
    db-2    waits
    db-3    left out                the spec says nothing of a cluster (ClusterUndeclared). Add `cluster: none` to the spec if nobody counts on its disks, or the cluster's address, and vet the host again.
    $ assay batch resume 1
    batch 1: vet all hosts (quick), for token cli; 1 at once, stops after 2 failures
    running: 0 of 2, 1 under way, 1 left out
    TARGET  STANDS             RUN  WHY
    db-1    under way, Queued  1    no runner is connected; start one with `assay runner`
    db-2    waits
    db-3    left out                the spec says nothing of a cluster (ClusterUndeclared). Add `cluster: none` to the spec if nobody counts on its disks, or the cluster's address, and vet the host again.
    $ assay batch resume 1
    error: batch 1 is running; only one that is stopped can go on
    [2]
    $ assay batch list
    BATCH  STATE    PROGRESS                         WHAT                   FOR
    1      running  0 of 2, 1 under way, 1 left out  vet all hosts (quick)  token cli
    $ assay batch show 7
    error: there is no batch 7
    [2]
    ");

    // A program gets the same in parts, also after a restart.
    server.stop().await;
    server.start(&[]).await;
    let batch = assay(&data, &["batch", "show", "1", "--json"]).await;
    let batch: Value = serde_json::from_slice(&batch.stdout).expect("JSON");
    assert_eq!((&batch["counts"]["all"], &batch["counts"]["left_out"]), (&2.into(), &1.into()));
    assert_eq!(batch["state"], "running");
    assert_eq!(assay(&data, &["host", "label", "db-2", "rack7"]).await.code(), Some(0));
    let plan = assay(&data, &["host", "vet", "--label", "rack7", "--dry-run", "--json"]).await;
    let plan: Value = serde_json::from_slice(&plan.stdout).expect("JSON");
    assert_eq!(plan["targets"][0]["name"], "db-2");
    let both = assay(&data, &["host", "vet", "db-1", "--all"]).await;
    assert_eq!(both.code(), Some(2), "{}", both.stderr_text());
    let alone = assay(&data, &["host", "vet", "db-1", "--at-most", "3"]).await;
    assert!(alone.stderr_text().contains("go with --all"), "{}", alone.stderr_text());
    assert_eq!(assay(&data, &["host", "vet"]).await.code(), Some(2));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedules_are_written_run_rested_and_forgotten() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = server(folder.path()).await;
    let data = server.data.clone();
    let _redacted = redacted().bind_to_scope();
    let written = transcript(
        &data,
        &[
            "host label db-2 rack7",
            "schedule list",
            "schedule add rack --cron '0 3 * * 1-5' --zone Europe/Berlin --label rack7 --at-most 2",
            "schedule add recipes --cron '30 2 * * 0' --recipe wiki",
            "schedule add x --cron '0 3 * *' --all",
            "schedule add x --cron '0 3 * * *' --zone Europe/Berln --all",
            "schedule add x --cron '0 3 * * *'",
            "schedule add rack --cron '0 4 * * *' --label rack7",
            "schedule list",
        ],
    )
    .await;
    insta::assert_snapshot!(written, @"
    $ assay host label db-2 rack7
    db-2: rack7
    $ assay schedule list
    there is no schedule; add one with `assay schedule add nightly --cron '0 3 * * *' --all-recipes`
    $ assay schedule add rack --cron '0 3 * * 1-5' --zone Europe/Berlin --label rack7 --at-most 2
    schedule rack: vet those labelled rack7 (standard); 2 at once, stops after 2 failures
    when    0 3 * * 1-5 Europe/Berlin
    next    [day 03 h]
            [day 03 h]
            [day 03 h]
            [day 03 h]
            [day 03 h]
    $ assay schedule add recipes --cron '30 2 * * 0' --recipe wiki
    error: there is no recipe `wiki`; have it tested once with `assay recipe test --server`
    [2]
    $ assay schedule add x --cron '0 3 * *' --all
    error: `0 3 * *` does not read (Invalid pattern: Pattern must have 5 fields when seconds are disallowed); write five fields, minute hour day-of-month month day-of-week: `0 3 * * 1-5` is every weekday at three
    [2]
    $ assay schedule add x --cron '0 3 * * *' --zone Europe/Berln --all
    error: there is no time zone `Europe/Berln`; did you mean `Europe/Berlin`?
    [2]
    $ assay schedule add x --cron '0 3 * * *'
    error: say what is tested: --all, --host, --label or --kind; --all-recipes or --recipe; or --image
    [2]
    $ assay schedule add rack --cron '0 4 * * *' --label rack7
    error: there is a schedule rack already; `assay schedule add --replace` changes it
    [2]
    $ assay schedule list
    SCHEDULE  WHEN                       WHAT                                 NEXT  LAST
    rack      0 3 * * 1-5 Europe/Berlin  vet those labelled rack7 (standard)  [day 03 h]  never
    ");
    let ruled = transcript(
        &data,
        &[
            "schedule run rack",
            "schedule pause rack",
            "schedule resume rack",
            "schedule remove rack",
            "schedule show rack",
        ],
    )
    .await;
    insta::assert_snapshot!(ruled, @"
    $ assay schedule run rack
    schedule rack: vet those labelled rack7 (standard); 2 at once, stops after 2 failures
    when    0 3 * * 1-5 Europe/Berlin
    next    [day 03 h]
            [day 03 h]
            [day 03 h]
            [day 03 h]
            [day 03 h]
    last    [time] (out of turn): batch 1: [progress]; asked for by token cli; 1 target
    $ assay schedule pause rack
    schedule rack: vet those labelled rack7 (standard); 2 at once, stops after 2 failures
    when    0 3 * * 1-5 Europe/Berlin
    paused by token cli since [time]
    last    [time] (out of turn): batch 1: [progress]; asked for by token cli; 1 target
    $ assay schedule resume rack
    schedule rack: vet those labelled rack7 (standard); 2 at once, stops after 2 failures
    when    0 3 * * 1-5 Europe/Berlin
    next    [day 03 h]
            [day 03 h]
            [day 03 h]
            [day 03 h]
            [day 03 h]
    last    [time] (out of turn): batch 1: [progress]; asked for by token cli; 1 target
    $ assay schedule remove rack
    rack is forgotten; its batches and runs stay
    $ assay schedule show rack
    error: there is no schedule `rack`
    [2]
    ");
    server.stop().await;
}
