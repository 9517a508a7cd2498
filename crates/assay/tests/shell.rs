//! A terminal on a held machine: the real command line, the real server, the real agent and a real shell.

use std::sync::Arc;

use assay_api::operator::RunDetail;
use assay_model::{RunState, Sha256};
use assay_process::{Child, Cmd, Size, Terminal, TerminalKind};
use assay_testkit::{
    Agent, Api, CannedMachine, ExitReason, FakeRunner, PATIENCE, Said, ServerProcess, canned, free_ports,
    hurried,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

const ASSAY: &str = env!("CARGO_BIN_EXE_assay");

/// A server whose one machine is held.
struct Site {
    server: ServerProcess,
    api: Api,
    machine: Arc<CannedMachine>,
    runner: FakeRunner,
    _folder: TempDir,
}

impl Site {
    /// With the machine in the middle of its run.
    async fn vetting() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = ServerProcess::new(ASSAY, folder.path().join("data"), free_ports());
        server.fake_live_image();
        server.start(&[("ASSAY_OPERATOR_PASSWORD", "correct horse battery")]).await;
        let api = server.api();
        let host = json!({ "name": canned::HOST, "macs": [canned::MAC], "spec_yaml": canned::SPEC });
        let _ = api.post("/api/v1/hosts", &host).await.expect(201);
        let machine = Arc::new(CannedMachine::default());
        machine.brings("SpecValidate", serde_json::to_value(canned::swapped_disk()).expect("plain data"));
        machine.collectors_finish(false);
        let runner =
            FakeRunner::start(&server.url(), &server.join_token(), server.ports, Arc::clone(&machine));
        let _ = api.post("/api/v1/hosts/web-3/vet", &json!({})).await.expect(201);
        let site = Self { server, api, machine, runner, _folder: folder };
        site.until(RunState::Running).await;
        site
    }

    async fn held() -> Self {
        let site = Self::vetting().await;
        site.fails().await;
        site
    }

    async fn fails(&self) {
        self.machine.collectors_finish(true);
        self.until(RunState::FailedHolding).await;
    }

    async fn until(&self, state: RunState) {
        self.api
            .until("/api/v1/runs/1", |answer| {
                let run: RunDetail = answer.clone().expect(200).json();
                (run.summary.state == state).then_some(())
            })
            .await;
    }

    async fn token(&self, name: &str, role: &str) -> Api {
        let made = self.api.post("/api/v1/tokens", &json!({ "name": name, "role": role })).await.expect(201);
        self.api.with_token(made.json::<Value>()["token"].as_str())
    }

    /// The command line, with this server's data folder.
    fn cli(&self, args: &[&str]) -> Cmd {
        Cmd::new(ASSAY).args(args).args(["--data".to_owned(), self.server.data.display().to_string()])
    }

    /// A command on the machine, as it runs.
    async fn command(&self, command: &str) -> Child {
        let args = ["host", "shell", "web-3", "--reason", "a look around", "--command", command];
        self.cli(&args).spawn().await.expect("it starts")
    }

    /// The transcript, once it is among the run's files: its header and its events.
    async fn transcript(&self, name: &str) -> (Value, Vec<(String, String)>) {
        let path = format!("/api/v1/runs/1/artifacts/{name}");
        let text = self.api.until(&path, |answer| (answer.status == 200).then(|| answer.text.clone())).await;
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
        let header = lines.next().expect("a header");
        let word = |value: &Value| value.as_str().expect("text").to_owned();
        (header, lines.map(|event| (word(&event[1]), word(&event[2]))).collect())
    }

    /// What the audit trail says of terminals.
    async fn audit(&self) -> Vec<Value> {
        let entries: Vec<Value> = self.api.get("/api/v1/audit").await.expect(200).json();
        let entries = entries.into_iter().map(|mut entry| entry["entry"].take());
        entries.filter(|entry| entry["what"].as_str().is_some_and(|what| what.contains("shell"))).collect()
    }
}

/// All of one kind, in a row.
fn joined(events: &[(String, String)], code: &str) -> String {
    events.iter().filter(|(kind, _)| kind == code).map(|(_, text)| text.as_str()).collect()
}

/// The process that the machine's shell said it was.
async fn pid_said(child: &mut Child) -> u32 {
    loop {
        let line = child.next_line().await.expect("a line before the end").text;
        if let Some(pid) = line.strip_prefix("pid ") {
            return pid.trim().parse().expect("a number");
        }
    }
}

/// Everything that is said from here to the end, and what it ends with.
async fn rest(mut child: Child) -> (Option<i32>, String) {
    let mut said = String::new();
    while let Some(line) = child.next_line().await {
        said.push_str(&line.text);
        said.push('\n');
    }
    (child.wait().await.expect("it ends").code(), said)
}

/// Until a process that was killed has ended.
async fn ended(pid: u32) {
    let ending = async {
        while runs(pid) {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, ending).await;
    assert!(in_time.is_ok(), "process {pid} of the shell lives on");
}

fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').expect("a stat line").1.starts_with(" Z"))
}

/// What a terminal shows, until it shows `wanted`.
async fn shows(terminal: &mut Terminal, wanted: &str) -> String {
    let (mut seen, mut buffer) = (String::new(), [0; 4096]);
    let showing = async {
        while !seen.contains(wanted) {
            let count = terminal.output.read(&mut buffer).await.expect("the terminal reads");
            assert_ne!(count, 0, "`{wanted}` was never shown: {seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, showing).await;
    assert!(in_time.is_ok(), "`{wanted}` was not shown: {seen}");
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_held_machine_and_only_for_an_operator_with_a_reason() {
    let site = Site::vetting().await;
    let (viewer, mara) = (site.token("display", "viewer").await, site.token("mara", "operator").await);
    let path = "/api/v1/hosts/web-3/shell";
    let wanted = json!({ "reason": "fan 3 is loud" });
    let refused = mara.post(path, &wanted).await.expect(409);
    assert!(refused.text.contains("web-3 is not held: run 1 is Running"), "{}", refused.text);
    site.fails().await;

    let _ = viewer.post(path, &wanted).await.expect(403);
    let _ = mara.post(path, &json!({ "reason": "  " })).await.expect(422);
    let _ = mara.post(path, &json!({ "reason": "x", "size": { "cols": 0, "rows": 1 } })).await.expect(422);
    let _ = mara.post("/api/v1/hosts/web-9/shell", &wanted).await.expect(404);
    let opened: Value = mara.post(path, &wanted).await.expect(201).json();
    assert_eq!((&opened["run"], &opened["transcript"]), (&json!(1), &json!("shell-1.cast")));
    let taken = site.api.post(path, &wanted).await.expect(409);
    assert!(taken.text.contains("token mara has a terminal on web-3"), "{}", taken.text);

    // Nobody else sees it or types into it, not even an admin; but an admin may close it.
    let id = opened["id"].as_str().expect("an id");
    let (input, output) = (format!("/api/v1/shells/{id}/input"), format!("/api/v1/shells/{id}/output"));
    for who in [&viewer, &site.api] {
        let _ = who.get(&output).await.expect(403);
        let _ = who.post(&input, &json!({ "at": 0, "data": "bHMN" })).await.expect(403);
    }
    let closed = viewer.send("DELETE", &format!("/api/v1/shells/{id}"), None).await.expect("an answer");
    assert_eq!(closed.status, 403, "{}", closed.text);
    let _ = mara.post(&input, &json!({ "at": 0, "data": "ZWNobyBoaQ0=" })).await.expect(200);
    let closed = site.api.send("DELETE", &format!("/api/v1/shells/{id}"), None).await.expect("an answer");
    assert_eq!(closed.status, 204, "{}", closed.text);
    let (header, events) = site.transcript("shell-1.cast").await;
    assert_eq!(header["title"], "run 1, web-3: token mara: fan 3 is loud");
    assert_eq!(joined(&events, "i"), "echo hi\r");
    assert_eq!(joined(&events, "m"), "token cli closed it");
    let _ = mara.post(&input, &json!({ "at": 8, "data": "bHMN" })).await.expect(410);

    let audit = site.audit().await;
    let deeds: Vec<_> = audit.iter().filter_map(|entry| entry["what"].as_str()).collect();
    assert!(deeds.contains(&"shell opened") && deeds.contains(&"shell ended"), "{deeds:?}");
    assert!(!deeds.iter().any(|deed| deed.ends_with("/input")), "keys are in the transcript: {deeds:?}");
    let opened = audit.iter().find(|entry| entry["what"] == "shell opened").expect("it is there");
    assert_eq!((&opened["who"], &opened["detail"]["why"]), (&json!("token mara"), &json!("fan 3 is loud")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_runs_and_its_transcript_is_part_of_the_sealed_evidence() {
    let site = Site::held().await;
    let script = "printf 'to out\\n'; printf 'to err\\n' >&2; cat; echo \"$TERM $HOME\"; exit 7";
    let (code, said) = rest(site.command(script).await).await;
    assert_eq!(code, Some(7), "{said}");
    for line in ["to out", "to err", "dumb /", "its transcript is shell-1.cast of run 1"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let args = [
        "host",
        "shell",
        "web-3",
        "--reason",
        "again",
        "--command",
        "head -c 3000000 /dev/zero | tr '\\0' x",
        "--json",
    ];
    let done = site.cli(&args).run().await.expect("it runs");
    let told: Value = serde_json::from_slice(&done.stdout).expect("JSON on stdout");
    assert_eq!(
        (done.code(), &told["status"], &told["transcript"]),
        (Some(0), &json!(0), &json!("shell-2.cast"))
    );
    assert_eq!(told["output"].as_str().map(str::len), Some(3_000_000));
    let (_, said) = rest(site.command("kill -9 $$").await).await;
    assert!(said.contains("shell-3.cast"), "{said}");

    let (header, events) = site.transcript("shell-1.cast").await;
    assert_eq!((&header["version"], &header["command"]), (&json!(2), &json!(script)));
    assert!(joined(&events, "o").contains("to out\nto err\n"), "{events:?}");
    assert_eq!(joined(&events, "m"), "it ended with 7");
    let (_, events) = site.transcript("shell-3.cast").await;
    assert_eq!(joined(&events, "m"), "it ended with 137");

    let abandon = json!({ "kind": "abandon", "why": "enough seen" });
    let _ = site.api.post("/api/v1/runs/1/decisions", &abandon).await.expect(200);
    assert_eq!(site.runner.machine_ended().await, [ExitReason::PoweredOff]);
    let bundle = site.server.data.join("run-1.tar");
    let bundle = bundle.display().to_string();
    let done = site.cli(&["report", "1", "--format", "bundle", "-o", &bundle]).run().await.expect("it runs");
    assert!(done.success(), "{}", done.stderr_text());
    let done = Cmd::new(ASSAY).args(["verify", &bundle]).run().await.expect("it runs");
    assert!(done.success(), "{}{}", done.stdout_text(), done.stderr_text());
    let listed = Cmd::new("tar").args(["-tf", &bundle]).run_ok().await.expect("it lists");
    for name in ["shell-1.cast", "shell-2.cast", "shell-3.cast"] {
        let text = site.api.get(&format!("/api/v1/runs/1/artifacts/{name}")).await.expect(200).text;
        let blob = format!("/artifacts/{}\n", Sha256::of(text.as_bytes()));
        assert!(listed.stdout_text().contains(&blob), "{name}: {}", listed.stdout_text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_types_resizes_leaves_and_has_their_terminal_back() {
    let site = Site::held().await;
    let data = site.server.data.display().to_string();
    let script = format!("'{ASSAY}' host shell web-3 --data '{data}'; echo left with $?; stty -a");
    let person = Cmd::new("sh").args(["-c", &script]).env("TERM", "xterm-256color");
    let mut person = person
        .spawn_terminal(Size { cols: 100, rows: 30 }, TerminalKind::Interactive)
        .await
        .expect("a terminal");
    shows(&mut person, "why?").await;
    person.input.write_all(b"fan 3\r").await.expect("typed");
    let banner = shows(&mut person, "closes it").await;
    assert!(banner.contains("held by run 1; all that is typed and shown is recorded"), "{banner}");
    // Quotes keep the echo of what is typed apart from what it shows.
    person.input.write_all(b"stty size; echo \"$TERM\" an''swer $((6*7))\r").await.expect("typed");
    let seen = shows(&mut person, "answer 42").await;
    assert!(seen.contains("30 100\r\n") && seen.contains("xterm-256color"), "{seen}");
    person.input.resize(Size { cols: 133, rows: 44 }).expect("resized");
    person
        .input
        .write_all(b"until [ \"$(stty size)\" = '44 133' ]; do :; done; echo re''sized\r")
        .await
        .expect("typed");
    shows(&mut person, "resized").await;
    // Ctrl-C is the machine's, not ours.
    person.input.write_all(b"echo wa''iting; sleep 1000\r").await.expect("typed");
    shows(&mut person, "waiting").await;
    person.input.write_all(b"\x03").await.expect("typed");
    person.input.write_all(b"echo still he''re\r").await.expect("typed");
    shows(&mut person, "still here").await;
    person.input.write_all(b"~.").await.expect("typed");
    let after = shows(&mut person, "echoctl").await;
    assert!(after.contains("left with 0"), "{after}");
    let modes: Vec<_> = after.split_whitespace().collect();
    for mode in ["icanon", "isig", "echo", "opost", "icrnl"] {
        assert!(modes.contains(&mode), "{mode} is not restored: {after}");
    }

    let (header, events) = site.transcript("shell-1.cast").await;
    assert_eq!((&header["width"], &header["title"]), (&json!(100), &json!("run 1, web-3: token cli: fan 3")));
    assert!(joined(&events, "i").contains("echo still he''re\r"), "{events:?}");
    assert!(joined(&events, "o").contains("answer 42"), "{events:?}");
    assert!(joined(&events, "r").ends_with("133x44"), "{events:?}");
    assert_eq!(joined(&events, "m"), "token cli closed it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_hold_is_the_end_of_the_session() {
    let site = Site::held().await;
    let mut child = site.command("trap '' HUP; echo pid $$; while :; do sleep 1000; done").await;
    let pid = pid_said(&mut child).await;
    assert!(runs(pid));
    let abandon = json!({ "kind": "abandon", "why": "enough seen" });
    let _ = site.api.post("/api/v1/runs/1/decisions", &abandon).await.expect(200);
    let (code, said) = rest(child).await;
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("the run is not held any more"), "{said}");
    assert_eq!(site.runner.machine_ended().await, [ExitReason::PoweredOff]);
    ended(pid).await;
    // Sealed or not by then: it is found under the run.
    let (_, events) = site.transcript("shell-1.cast").await;
    assert!(joined(&events, "m").starts_with("the run is not held any more"), "{events:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_started_anew_ends_the_session() {
    let site = Site::held().await;
    // From here on the machine is ours: one boot, whose agent is started twice.
    site.runner.cut_power().await;
    let firmware = Api::new(&format!("http://127.0.0.1:{}", site.server.ports.boot), None);
    let script = firmware.get(&format!("/boot/{}.ipxe", canned::MAC)).await.expect(200).text;
    let kept = tempfile::tempdir().expect("a folder");
    let said = Said::default();
    let start = || {
        let settings = hurried(&script, Some(kept.path()), &said).expect("the script boots");
        let mut agent = JoinSet::new();
        agent.spawn(Agent::run(settings, Arc::clone(&site.machine) as _));
        agent
    };
    let mut agent = start();
    let mut child = site.command("echo pid $$; sleep 1000").await;
    let pid = pid_said(&mut child).await;
    agent.shutdown().await;
    let _agent = start();
    let (code, told) = rest(child).await;
    assert_eq!(code, Some(5), "{told} {:#?}", said.lines());
    assert!(told.contains("the agent was started anew"), "{told}");
    ended(pid).await;
    // The next one is as good as any.
    let (code, told) = rest(site.command("echo well").await).await;
    assert!(code == Some(0) && told.contains("well\n"), "{told}");
    let _ = site.transcript("shell-2.cast").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_control_plane_puts_the_transcript_away_when_it_is_back() {
    let mut site = Site::held().await;
    let mut child = site.command("echo pid $$; sleep 1000").await;
    let pid = pid_said(&mut child).await;
    site.server.kill().await;
    site.server.start(&[]).await;
    let (code, said) = rest(child).await;
    assert_eq!(code, Some(2), "the new one does not know it: {said}");
    assert!(said.contains("no such terminal session any more"), "{said}");
    let (_, events) = site.transcript("shell-1.cast").await;
    assert!(joined(&events, "o").contains(&format!("pid {pid}")), "{events:?}");
    assert!(joined(&events, "m").contains("the control plane ended here"), "{events:?}");
    let audit = site.audit().await;
    assert!(audit.iter().any(|entry| entry["what"] == "shell ended" && entry["who"] == "assay"), "{audit:?}");
    let (code, said) = rest(site.command("echo well").await).await;
    assert!(code == Some(0) && said.contains("shell-2.cast"), "{said}");
    ended(pid).await;
}
