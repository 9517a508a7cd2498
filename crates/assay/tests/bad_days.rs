//! The protocol's bad days, against the real server over real HTTP and TLS: too much, the wrong
//! thing, hostile text, a torn network, a port or a folder that is taken, nobody's token.

use std::net::TcpListener as StdListener;
use std::sync::Arc;

use assay_api::operator::RunDetail;
use assay_model::{RunState, Verdict};
use assay_process::Cmd;
use assay_store::Store;
use assay_testkit::{Api, CannedMachine, ExitReason, FakeRunner, ServerProcess, canned, free_ports};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const PASSWORD: &str = "correct horse battery";

/// A running server in a folder of its own.
struct Day {
    server: ServerProcess,
    api: Api,
    folder: TempDir,
}

impl Day {
    async fn begin() -> Self {
        Self::with(|server| server).await
    }

    async fn with(change: impl FnOnce(ServerProcess) -> ServerProcess) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let server = new_server(&folder);
        let mut server = change(server);
        server.fake_live_image();
        server.start(&[("ASSAY_OPERATOR_PASSWORD", PASSWORD)]).await;
        let api = server.api();
        Self { server, api, folder }
    }

    /// Registers the canned host and asks for a run.
    async fn vet(&self) {
        let host = json!({ "name": canned::HOST, "macs": [canned::MAC], "spec_yaml": canned::SPEC });
        let _ = self.api.post("/api/v1/hosts", &host).await.expect(201);
        let _ = self.api.post("/api/v1/hosts/web-3/vet", &json!({})).await.expect(201);
    }

    fn runner(&self, machine: &Arc<CannedMachine>) -> FakeRunner {
        FakeRunner::start(
            &self.server.url(),
            &self.server.join_token(),
            self.server.ports,
            Arc::clone(machine),
        )
    }

    async fn until(&self, state: RunState) -> RunDetail {
        self.api
            .until("/api/v1/runs/1", |answer| {
                let run: RunDetail = answer.clone().expect(200).json();
                (run.summary.state == state).then_some(run)
            })
            .await
    }

    /// An agent that the test speaks for: enrolled, with its first stage begun.
    async fn misbehaving_agent(&self, runner: &FakeRunner) -> Api {
        runner.cut_power().await;
        let firmware = Api::new(&format!("http://127.0.0.1:{}", self.server.ports.boot), None);
        let script = firmware.get(&format!("/boot/{}.ipxe", canned::MAC)).await.expect(200).text;
        let word = |key: &str| {
            script.split_whitespace().find_map(|w| w.strip_prefix(key)).expect("the script has it").to_owned()
        };
        let credential = "0123456789abcdef".repeat(4);
        let hello = json!({
            "protocol": 1, "token": word("assay.token="), "credential": credential,
            "macs": [canned::MAC], "system_uuid": null, "agent": "0.1.0", "clock": 0,
        });
        let agent = Api::trusting(&word("assay.url="), Some(&credential));
        let _ = agent.post("/agent/v1/hello", &hello).await.expect(200);
        agent
    }
}

fn new_server(folder: &TempDir) -> ServerProcess {
    ServerProcess::new(env!("CARGO_BIN_EXE_assay"), folder.path().join("data"), free_ports())
}

/// A day with a machine whose agent the test speaks for, told to collect the inventory.
async fn misbehaving() -> (Day, FakeRunner, Api, Value) {
    let day = Day::begin().await;
    day.vet().await;
    let runner = day.runner(&Arc::new(CannedMachine::default()));
    day.until(RunState::Booting).await;
    // The machine is switched on once; from then on the test boots it.
    day.api
        .until("/api/v1/runs/1", |answer| (answer.status == 200 && runner.jobs().len() == 1).then_some(()))
        .await;
    let agent = day.misbehaving_agent(&runner).await;
    let command: Value = agent.get("/agent/v1/next?wait_s=20").await.expect(200).json();
    assert_eq!((&command["cmd"], &command["stage"]), (&json!("stage"), &json!("Inventory")), "{command}");
    (day, runner, agent, command)
}

fn result(command: &Value, evidence: &Value) -> Value {
    let (stage, attempt, generation) = (&command["stage"], &command["attempt"], &command["generation"]);
    json!({ "stage": stage, "attempt": attempt, "generation": generation, "evidence": evidence, "problem": null })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_of_fifty_mebibytes_ends_the_stage_and_not_the_server() {
    let day = Day::begin().await;
    day.vet().await;
    let machine = Arc::new(CannedMachine::default());
    machine.brings("Inventory", json!({ "format": 1, "kernel": "x".repeat(50 << 20) }));
    let _runner = day.runner(&machine);
    let before = day.server.peak_memory_kib();
    let run = day.until(RunState::FailedHolding).await;
    let stage = &run.report.stages[0];
    assert_eq!((stage.name.as_str(), stage.verdict), ("Inventory", Some(Verdict::Error)));
    assert!(stage.message.starts_with("the evidence has 524"), "{}", stage.message);
    assert!(stage.message.contains("Large files belong into artifacts"), "{}", stage.message);
    let grown = day.server.peak_memory_kib() - before;
    assert!(grown < 48 << 10, "the server took {grown} KiB for what it refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_too_large_is_refused_and_the_run_goes_on() {
    let (day, _runner, agent, command) = misbehaving().await;
    let before = day.server.peak_memory_kib();
    let huge = result(&command, &json!("x".repeat(50 << 20)));
    // Refused before it is read, so the connection may break under what is still being sent.
    if let Ok(answer) = agent.send("POST", "/agent/v1/result", Some(&huge)).await {
        assert_eq!(answer.status, 413, "{}", answer.text);
    }
    let barely = result(&command, &json!("x".repeat(8 << 20)));
    let answer = agent.post("/agent/v1/result", &barely).await.expect(413);
    assert!(answer.text.contains("larger than 8 MiB"), "{}", answer.text);
    assert!(day.server.peak_memory_kib() - before < 48 << 10);

    let good = result(&command, &canned::evidence("Inventory"));
    let _ = agent.post("/agent/v1/result", &good).await.expect(200);
    let next: Value = agent.get("/agent/v1/next?wait_s=20").await.expect(200).json();
    assert_eq!(next["stage"], "SpecValidate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_types_are_refused_one_by_one_and_nothing_falls_over() {
    let (day, _runner, agent, command) = misbehaving().await;
    let stage = |change: fn(&mut Value)| {
        let mut body = result(&command, &json!({}));
        change(&mut body);
        body
    };
    let cases = [
        ("result", json!(null)),
        ("result", json!([1, 2])),
        ("result", stage(|b| b["attempt"] = json!(-1))),
        ("result", stage(|b| b["attempt"] = json!("one"))),
        ("result", stage(|b| b["generation"] = json!(1e300))),
        ("result", stage(|b| b["stage"] = json!({"name": "Inventory"}))),
        ("result", stage(|b| b["stage"] = json!("Telepathy"))),
        ("result", stage(|b| b["attempt"] = json!(99))),
        ("heartbeat", json!({"stage": 3})),
        ("log", json!({"seq": 1, "lines": "no list"})),
        ("sensor", json!({"seq": "one"})),
        ("sensor", json!({"seq": 1, "batch": {"sensors": [], "samples": [{"at": 1, "values": [1.0]}]}})),
    ];
    for (path, body) in cases {
        let answer = agent.post(&format!("/agent/v1/{path}"), &body).await;
        assert_eq!(answer.status, 422, "{path} {body}: {}", answer.text);
        let problem: Value = answer.json();
        assert_eq!(problem["code"], "invalid", "{path} {body}: {problem}");
    }
    let sum = "0".repeat(64);
    for name in ["..%2Fetc%2Fpasswd", ".hidden", "a%20b", "a%2Fb", &"n".repeat(129), ""] {
        let path = format!("/agent/v1/artifact?stage=Inventory&attempt=1&name={name}&sha256={sum}");
        let answer = agent.send("PUT", &path, Some(&json!("x"))).await.expect("an answer");
        assert!(matches!(answer.status, 400 | 422), "{name}: {} {}", answer.status, answer.text);
    }
    let path = format!("/agent/v1/artifact?stage=Inventory&attempt=1&name=a.txt&sha256={sum}");
    let altered = agent.send("PUT", &path, Some(&json!("x"))).await.expect("an answer").expect(422);
    assert!(altered.text.contains("digest_mismatch"), "{}", altered.text);
    let run: RunDetail = day.api.get("/api/v1/runs/1").await.expect(200).json();
    assert_eq!((run.summary.state, run.report.artifacts.len()), (RunState::Running, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_text_comes_out_as_text() {
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u{1b}[31mred\u{202e}desrever";
    let mut inventory = canned::inventory();
    inventory.system.product = Some(evil.to_owned());
    inventory.disks[1].serial = Some(evil.to_owned());
    let day = Day::begin().await;
    day.vet().await;
    let machine = Arc::new(CannedMachine::default());
    for stage in ["Inventory", "SpecValidate"] {
        machine.brings(stage, serde_json::to_value(&inventory).expect("plain data"));
    }
    let _runner = day.runner(&machine);
    let held = day.until(RunState::FailedHolding).await;
    assert_eq!(held.summary.failed_stage.as_deref(), Some("SpecValidate"));

    let json = day.api.get("/api/v1/runs/1/report.json").await.expect(200);
    let html = day.api.get("/api/v1/runs/1/report.html").await.expect(200);
    for (what, text) in [("report.json", &json.text), ("report.html", &html.text)] {
        assert!(text.contains("alert(1)"), "{what} tells what the machine said");
        assert!(!text.contains('\u{1b}') && !text.contains("\\u001b"), "{what}: an escape sequence");
        assert!(!text.contains('\u{202e}') && !text.contains("\\u202e"), "{what}: a bidirectional override");
    }
    assert!(!html.text.contains("<script"), "the report has no script at all");
    assert!(!html.text.contains("<img src=x"), "nor anything that a machine made up");
    let _: Value = json.json();
}

/// Lets agents through, or not.
struct Proxy {
    port: u16,
    target: u16,
    tasks: JoinSet<()>,
}

impl Proxy {
    async fn start(target: u16) -> Self {
        let mut proxy = Self { port: free_ports().agents, target, tasks: JoinSet::new() };
        proxy.mend().await;
        proxy
    }

    /// Every connection breaks, and nobody answers any more.
    async fn tear(&mut self) {
        self.tasks.shutdown().await;
    }

    async fn mend(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("the port is free");
        let target = self.target;
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut here, _)) = listener.accept().await {
                connections.spawn(async move {
                    if let Ok(mut there) = TcpStream::connect(("127.0.0.1", target)).await {
                        // Either side may break it: that is what this is for.
                        let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                    }
                });
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_network_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let ports = free_ports();
    let mut proxy = Proxy::start(ports.agents).await;
    let server = ServerProcess::new(env!("CARGO_BIN_EXE_assay"), folder.path().join("data"), ports);
    let mut server = server.agents_come_by(proxy.port);
    server.fake_live_image();
    server.start(&[]).await;
    let api = server.api();
    let day = Day { server, api, folder };
    day.vet().await;
    let machine = Arc::new(CannedMachine::default());
    machine.collectors_finish(false);
    let runner = day.runner(&machine);
    day.until(RunState::Running).await;
    for _ in 0..3 {
        machine.readings_pass(3).await;
        proxy.tear().await;
        machine.readings_pass(6).await;
        proxy.mend().await;
    }
    machine.collectors_finish(true);
    let run = day.until(RunState::Completed).await;
    let stages: Vec<_> = run.report.stages.iter().map(|s| (&s.name, s.verdict, s.attempt)).collect();
    // The canned machine has no GPU.
    let fine = |verdict| matches!(verdict, Some(Verdict::Pass | Verdict::Skip));
    assert!(stages.iter().all(|s| fine(s.1) && s.2 == 1), "{stages:?}");
    assert_eq!(runner.machine_ended().await, [ExitReason::PoweredOff]);
    let Day { mut server, folder, .. } = day;
    let database = server.database();
    server.stop().await;

    let store = Store::open(&database).await.expect("opens");
    let id = store.run_id(1).await.expect("read").expect("there");
    let batches = store.sensor_batches(id, None, i32::MAX as u32).await.expect("read");
    let numbers: Vec<i64> = batches.iter().map(|b| b.seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>(), "each number once, without a gap");
    let samples: Vec<_> = batches.iter().flat_map(|b| &b.batch.samples).collect();
    assert!(samples.len() >= 27, "{} readings", samples.len());
    // The canned sensor counts its readings in tenths: none is missing in between.
    let tenths: Vec<i64> =
        samples.iter().map(|s| (s.values[0].expect("read") * 10.0).round() as i64).collect();
    assert!(tenths.windows(2).all(|w| (w[1] - w[0]).rem_euclid(100) == 1), "{tenths:?}");
    store.close().await.expect("closes");
    drop(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_loses_and_doubles_nothing_in_a_torn_network() {
    let folder = tempfile::tempdir().expect("a folder");
    let ports = free_ports();
    let mut proxy = Proxy::start(ports.agents).await;
    let server = ServerProcess::new(env!("CARGO_BIN_EXE_assay"), folder.path().join("data"), ports);
    let mut server = server.agents_come_by(proxy.port);
    server.fake_live_image();
    server.start(&[]).await;
    let api = server.api();
    let day = Day { server, api, folder };
    day.vet().await;
    let machine = Arc::new(CannedMachine::default());
    machine.brings("SpecValidate", serde_json::to_value(canned::swapped_disk()).expect("plain data"));
    let _runner = day.runner(&machine);
    day.until(RunState::FailedHolding).await;
    let args = ["host", "shell", "web-3", "--reason", "a look", "--json", "--data"];
    let talk = "for n in $(seq 300); do echo line $n; sleep 0.01; done";
    let command = Cmd::new(env!("CARGO_BIN_EXE_assay")).args(args).arg(day.server.data.as_os_str());
    let command = command.args(["--command", talk]);
    let done = tokio::spawn(async move { command.run().await });
    for _ in 0..4 {
        machine.readings_pass(2).await;
        proxy.tear().await;
        machine.readings_pass(4).await;
        proxy.mend().await;
    }
    let done = done.await.expect("it was awaited").expect("it runs");
    let told: Value = serde_json::from_slice(&done.stdout).expect("JSON on stdout");
    let expected: String = (1..=300).fold(String::new(), |text, n| text + &format!("line {n}\n"));
    assert_eq!(
        (told["status"].as_u64(), told["output"].as_str()),
        (Some(0), Some(expected.as_str())),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = new_server(&folder);
    let port = server.ports.boot;
    let taken = StdListener::bind(("127.0.0.1", port)).expect("the port is free");
    let status = server.try_start(&[]).await.expect_err("it cannot start");
    assert!(!status.success());
    let said = server.said().join("\n");
    assert!(said.contains(&format!("boot files: cannot listen on 127.0.0.1:{port}")), "{said}");
    assert!(said.contains("another program listens there already; stop it or choose another port"), "{said}");
    drop(taken);
    server.start(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_do_not_share_a_data_folder() {
    let day = Day::begin().await;
    let mut second = new_server(&day.folder);
    let status = second.try_start(&[]).await.expect_err("it cannot start");
    assert!(!status.success());
    let said = second.said().join("\n");
    assert!(
        said.contains("is in use by another `assay serve`; stop that one or name another folder"),
        "{said}"
    );
    // The first has not noticed, and once it is gone, even by SIGKILL, the second may.
    let _ = day.api.get("/api/v1/runs").await.expect(200);
    let Day { mut server, .. } = day;
    server.kill().await;
    second.start(&[]).await;
    let _ = second.api().get("/api/v1/runs").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_spec_says_where() {
    let day = Day::begin().await;
    let cases = [
        ("format: 1\ndisks:\n  - serial: S1\n   model: x\n", "line 4"),
        ("format: 1\nsystem: {product: R650}\ndiscs: []\n", "line 3"),
    ];
    for (spec, place) in cases {
        let host = json!({ "name": "web-4", "macs": ["02:00:00:00:00:04"], "spec_yaml": spec });
        let problem: Value = day.api.post("/api/v1/hosts", &host).await.expect(422).json();
        let message = problem["message"].as_str().expect("a sentence");
        assert!(message.contains(place) && message.contains("column"), "{message}");
    }
    let hosts: Vec<Value> = day.api.get("/api/v1/hosts").await.expect(200).json();
    assert!(hosts.is_empty(), "nothing was registered");
}

/// Method and path of every route under `folder`, read off its source: a new one is covered at once.
fn routes(folder: &str) -> Vec<(&'static str, String)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../assay-server/src").join(folder);
    let mut found = Vec::new();
    let files: Vec<_> = if folder.is_dir() {
        std::fs::read_dir(folder).expect("the source").map(|entry| entry.expect("a file").path()).collect()
    } else {
        vec![folder]
    };
    for file in files {
        let source = std::fs::read_to_string(&file).expect("the source");
        for route in source.split(".route(").skip(1) {
            let mut parts = route.splitn(3, '"');
            let (Some(_), Some(path), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let handlers =
                rest.split(".route(").next().unwrap_or_default().lines().next().unwrap_or_default();
            for (word, method) in [
                ("get(", "GET"),
                ("post(", "POST"),
                ("put(", "PUT"),
                ("delete(", "DELETE"),
                ("patch(", "PATCH"),
            ] {
                if handlers.contains(word) {
                    found.push((method, path.replace("{number}", "1").replace("{name}", "web-3")));
                }
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_in_without_the_right_token() {
    let day = Day::begin().await;
    day.vet().await;
    let operators = routes("api");
    let (runners, agents) = (routes("runner.rs"), routes("agent.rs"));
    assert!(
        operators.len() >= 18 && runners.len() >= 4 && agents.len() >= 8,
        "{operators:?} {runners:?} {agents:?}"
    );
    let join = day.server.join_token();
    let cli = std::fs::read_to_string(day.server.data.join("cli.token")).expect("a token");
    let machines = Api::trusting(&format!("https://127.0.0.1:{}", day.server.ports.agents), None);
    let wrong = "0".repeat(64);
    let mut tried = 0;
    // Each with no token, a made-up one, and one that is good elsewhere.
    for (api, routes, elsewhere) in [
        (&day.api, &operators, join.as_str()),
        (&day.api, &runners, cli.trim()),
        (&machines, &runners, cli.trim()),
        (&machines, &agents, cli.trim()),
    ] {
        for (method, path) in routes {
            // The way in for machines: its token is in its body.
            if path == "/agent/v1/hello" {
                continue;
            }
            for token in [None, Some(""), Some(wrong.as_str()), Some(elsewhere)] {
                let body = json!({});
                let body = (*method != "GET").then_some(&body);
                let answer = api.with_token(token).send(method, path, body).await.expect("an answer");
                assert_eq!(answer.status, 401, "{method} {path} with {token:?}: {}", answer.text);
                let problem: Value = answer.json();
                assert_eq!(problem["code"], "unauthorized", "{method} {path}: {problem}");
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
    let run: RunDetail = day.api.get("/api/v1/runs/1").await.expect(200).json();
    assert_eq!(run.summary.state, RunState::Queued, "and nothing has happened");

    // A revoked token is nobody's token.
    let made: Value = day.api.post("/api/v1/tokens", &json!({ "name": "ci" })).await.expect(201).json();
    let ci = day.api.with_token(made["token"].as_str());
    let _ = ci.get("/api/v1/runs").await.expect(200);
    let revoked = day.api.send("DELETE", "/api/v1/tokens/ci", None).await.expect("an answer");
    assert_eq!(revoked.status, 204);
    let _ = ci.get("/api/v1/runs").await.expect(401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_changes_nothing_without_its_csrf_token() {
    let day = Day::begin().await;
    day.vet().await;
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client");
    let url = |path: &str| format!("{}{path}", day.server.url());
    let form = |path: &str, body: String| {
        http.post(url(path)).header("content-type", "application/x-www-form-urlencoded").body(body)
    };
    let login = form("/login", format!("name=operator&password={}", PASSWORD.replace(' ', "+")));
    let signed_in = login.send().await.expect("an answer");
    assert_eq!(signed_in.status().as_u16(), 303);
    let cookie = signed_in.headers()["set-cookie"].to_str().expect("text");
    for guard in ["HttpOnly", "SameSite=Strict"] {
        assert!(cookie.contains(guard), "{cookie}");
    }
    let cookie = cookie.split(';').next().expect("a pair").to_owned();

    let page = http.get(url("/hosts/web-3")).header("cookie", &cookie).send().await.expect("an answer");
    assert_eq!(page.status().as_u16(), 200);
    let decide = |body: &str| form("/runs/1/decide", body.to_owned()).header("cookie", &cookie);
    for body in ["kind=cancel", "kind=cancel&csrf=", "kind=cancel&csrf=0000"] {
        let refused = decide(body).send().await.expect("an answer");
        assert_eq!(refused.status().as_u16(), 403, "{body}");
    }
    let by_api = http
        .post(url("/api/v1/runs/1/decisions"))
        .header("cookie", &cookie)
        .json(&json!({ "kind": "cancel" }));
    let refused = by_api.send().await.expect("an answer");
    assert_eq!(refused.status().as_u16(), 403);
    let run: RunDetail = day.api.get("/api/v1/runs/1").await.expect(200).json();
    assert_eq!(run.summary.state, RunState::Queued);

    // With the token from the page it goes through: the refusals above were about the token.
    let text = page.text().await.expect("a page");
    let token = text.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let token = token.expect("the page carries its token");
    let done = decide(&format!("kind=cancel&csrf={token}")).send().await.expect("an answer");
    assert!(done.status().is_redirection() || done.status().is_success(), "{}", done.status());
    day.until(RunState::Cancelled).await;
}
