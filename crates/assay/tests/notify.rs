//! `assay notify` as somebody would use it who sets up a sink: check, start, list, test; and what a
//! mistake looks like.

use assay_process::{Cmd, Output};
use assay_testkit::{ServerProcess, WebhookSink, free_ports};
use serde_json::Value;

const ASSAY: &str = env!("CARGO_BIN_EXE_assay");

async fn assay(data: &std::path::Path, args: &[&str]) -> Output {
    let cmd = Cmd::new(ASSAY).arg("notify").args(args.iter().copied()).env("ASSAY_DATA", data);
    cmd.run().await.expect("runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_is_set_up_checked_listed_and_tried() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("made");
    let receiver = WebhookSink::start().await;
    let url = receiver.url();
    let toml = format!(
        "[[webhook]]\nname = \"ops\"\nurl = \"{url}\"\nallow_internal = true\nevents = [\"RunHeld\"]\n\
         [[webhook]]\nname = \"inside\"\nurl = \"{url}\"\n"
    );

    std::fs::write(data.join("notify.toml"), toml.replace("RunHeld", "RunHold")).expect("written");
    let wrong = assay(&data, &["check"]).await;
    assert_eq!(wrong.code(), Some(2));
    let said = wrong.stderr_text().into_owned();
    assert!(said.contains("notify.toml:5:11: there is no event `RunHold`; there are RunStarted"), "{said}");
    assert!(said.contains("5 | events = [\"RunHold\"]\n  |           ^^^^^^^^^"), "{said}");

    std::fs::write(data.join("notify.toml"), toml).expect("written");
    let right = assay(&data, &["check"]).await;
    assert_eq!(right.code(), Some(0), "{}", right.stderr_text());
    assert_eq!(
        right.stdout_text(),
        "ops (webhook, 127.0.0.1): RunHeld\ninside (webhook, 127.0.0.1): everything\n"
    );

    let mut server = ServerProcess::new(ASSAY, &data, free_ports());
    server.fake_live_image();
    server.start(&[]).await;
    let listed = assay(&data, &["list"]).await;
    let table = listed.stdout_text().into_owned();
    assert!(
        table.starts_with("SINK    KIND     TO         EVENTS   PENDING  LAST SUCCESS  LAST ERROR"),
        "{table}"
    );
    assert!(table.contains("ops     webhook  127.0.0.1  RunHeld  0        never         none"), "{table}");

    let one = assay(&data, &["test", "ops"]).await;
    assert_eq!((one.code(), one.stdout_text().as_ref()), (Some(0), "ok   ops: accepted\n"));
    let all = assay(&data, &["test", "--json"]).await;
    assert_eq!(all.code(), Some(1), "one of two refuses");
    let all: Value = serde_json::from_slice(&all.stdout).expect("JSON");
    assert_eq!((&all[0]["ok"], &all[1]["ok"]), (&true.into(), &false.into()));
    assert!(all[1]["message"].as_str().expect("text").contains("is an internal address"), "{all}");
    let nobody = assay(&data, &["test", "pager"]).await;
    assert_eq!(nobody.code(), Some(2));
    let events: Vec<_> = receiver.received().into_iter().map(|r| r.event).collect();
    assert_eq!(events, ["Test", "Test"]);
    server.stop().await;
}

#[tokio::test]
async fn every_event_is_listed_and_documented() {
    let folder = tempfile::tempdir().expect("a folder");
    let listed = assay(folder.path(), &["events"]).await.stdout_text().into_owned();
    let guide = include_str!("../../../docs/guide/notifications.md");
    let mut count = 0;
    for line in listed.lines().skip(1) {
        let (name, about) = line.split_once(' ').expect("two columns");
        assert!(guide.contains(&format!("| `{name}` | {} |", about.trim())), "the guide lacks: {line}");
        count += 1;
    }
    assert!(count >= 12, "{listed}");
}
