//! Who may do what, against the real server: viewers look, operators start runs and decide, admins say who may do what.
//! And the gate and the permit, as scripts and people ask for them.

use std::sync::Arc;

use assay_api::operator::{Gate, RunDetail};
use assay_model::RunState;
use assay_process::Cmd;
use assay_testkit::{Api, CannedMachine, FakeRunner, ServerProcess, canned, free_ports};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Site {
    server: ServerProcess,
    admin: Api,
    _folder: TempDir,
}

impl Site {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let mut server = ServerProcess::new(env!("CARGO_BIN_EXE_assay"), data, free_ports());
        server.fake_live_image();
        server.start(&[("ASSAY_OPERATOR_PASSWORD", "correct horse battery")]).await;
        let admin = server.api();
        let host = json!({ "name": canned::HOST, "macs": [canned::MAC], "spec_yaml": canned::SPEC });
        let _ = admin.post("/api/v1/hosts", &host).await.expect(201);
        Self { server, admin, _folder: folder }
    }

    async fn token(&self, name: &str, role: &str) -> Api {
        let made =
            self.admin.post("/api/v1/tokens", &json!({ "name": name, "role": role })).await.expect(201);
        self.admin.with_token(made.json::<Value>()["token"].as_str())
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
        self.admin
            .until("/api/v1/runs/1", |answer| {
                let run: RunDetail = answer.clone().expect(200).json();
                (run.summary.state == state).then_some(run)
            })
            .await
    }

    /// What the command line ends with, and says.
    async fn cli(&self, args: &[&str]) -> (Option<i32>, String) {
        let data = self.server.data.display().to_string();
        let done = Cmd::new(env!("CARGO_BIN_EXE_assay"))
            .args(args)
            .args(["--data", &data])
            .run()
            .await
            .expect("it runs");
        (done.status.code(), format!("{}{}", done.stdout_text(), done.stderr_text()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_may_do_its_own_and_no_more() {
    let site = Site::start().await;
    let viewer = site.token("display", "viewer").await;
    let operator = site.token("mara", "operator").await;
    let nobody = site.admin.post("/api/v1/tokens", &json!({ "name": "x", "role": "king" })).await.expect(422);
    assert!(nobody.text.contains("viewer, operator or admin"), "{}", nobody.text);

    // A viewer sees everything that is no secret.
    for path in ["/api/v1/hosts", "/api/v1/runs", "/api/v1/hosts/web-3/gate", "/api/v1/audit"] {
        let _ = viewer.get(path).await.expect(200);
    }
    let machine = Arc::new(CannedMachine::default());
    machine.brings("SpecValidate", serde_json::to_value(canned::swapped_disk()).expect("plain data"));
    let refused = viewer.post("/api/v1/hosts/web-3/vet", &json!({})).await.expect(403);
    assert_eq!(refused.json::<Value>()["message"], "token display is viewer; this needs operator");
    let _ = operator.post("/api/v1/hosts/web-3/vet", &json!({})).await.expect(201);
    let _runner = site.runner(&machine);
    site.until(RunState::FailedHolding).await;

    for kind in ["permit", "waive", "retry", "abandon", "cancel"] {
        let body = json!({ "kind": kind, "why": "because", "serials": [] });
        let _ = viewer.post("/api/v1/runs/1/decisions", &body).await.expect(403);
    }
    for (method, path) in [
        ("POST", "/api/v1/hosts"),
        ("PUT", "/api/v1/hosts/web-3"),
        ("DELETE", "/api/v1/hosts/web-3"),
        ("POST", "/api/v1/hosts/web-3/adopt"),
        ("PUT", "/api/v1/runs/1/pin"),
    ] {
        let answer = viewer.send(method, path, Some(&json!({}))).await.expect("an answer");
        assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text);
    }
    // An operator decides; people, tokens and what is thrown away are the admins'.
    for (method, path) in [
        ("GET", "/api/v1/tokens"),
        ("POST", "/api/v1/tokens"),
        ("DELETE", "/api/v1/tokens/display"),
        ("GET", "/api/v1/operators"),
        ("POST", "/api/v1/operators"),
        ("DELETE", "/api/v1/operators/operator"),
        ("GET", "/api/v1/janitor"),
        ("PUT", "/api/v1/janitor"),
        ("POST", "/api/v1/janitor/clean"),
    ] {
        for who in [&viewer, &operator] {
            let body = json!({});
            let answer = who.send(method, path, (method != "GET").then_some(&body)).await.expect("an answer");
            assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text);
        }
    }
    let permit = json!({ "kind": "permit", "why": "old", "serials": ["S1"] });
    let refused = operator.post("/api/v1/runs/1/decisions", &permit).await.expect(409);
    assert!(refused.text.contains("did not stop at a disk with data"), "{}", refused.text);
    let waiver = json!({ "kind": "waive", "why": "it is the spare" });
    let _ = operator.post("/api/v1/runs/1/decisions", &waiver).await.expect(200);
    let done = site.until(RunState::Completed).await;
    assert_eq!(done.report.decisions[0].by, "token mara");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_come_and_go_and_one_admin_stays() {
    let site = Site::start().await;
    let (code, said) = site.cli(&["operator", "add", "vera", "--role", "viewer"]).await;
    assert_eq!(code, Some(0), "{said}");
    let password =
        said.lines().find(|line| line.len() == 20 && !line.contains(' ')).expect("told once").to_owned();
    let (code, said) = site.cli(&["operator", "add", "vera", "--role", "boss"]).await;
    assert_eq!(code, Some(2), "{said}");
    let last = site.admin.send("DELETE", "/api/v1/operators/operator", None).await.expect("an answer");
    assert_eq!(last.expect(409).json::<Value>()["code"], "last_admin");
    let demoted = json!({ "name": "operator", "role": "viewer" });
    let _ = site.admin.post("/api/v1/operators", &demoted).await.expect(409);

    // In a browser a viewer sees the pages, and every form is refused, with a valid CSRF token, too.
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client");
    let url = |path: &str| format!("{}{path}", site.server.url());
    let form = |path: &str, body: String| {
        http.post(url(path)).header("content-type", "application/x-www-form-urlencoded").body(body)
    };
    let signed_in = form("/login", format!("name=vera&password={password}")).send().await.expect("an answer");
    assert_eq!(signed_in.status().as_u16(), 303);
    let cookie = signed_in.headers()["set-cookie"].to_str().expect("text");
    let cookie = cookie.split(';').next().expect("a pair").to_owned();
    let page = http.get(url("/hosts/web-3")).header("cookie", &cookie).send().await.expect("an answer");
    assert_eq!(page.status().as_u16(), 200);
    let text = page.text().await.expect("a page");
    let token = text.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let csrf = token.expect("the page carries its token");
    let vet = form("/hosts/web-3/vet", format!("csrf={csrf}&profile=standard")).header("cookie", &cookie);
    assert_eq!(vet.send().await.expect("an answer").status().as_u16(), 403);
    let out =
        form("/logout", format!("csrf={csrf}")).header("cookie", &cookie).send().await.expect("an answer");
    assert_eq!(out.status().as_u16(), 303, "everyone may sign out");
    let runs: Vec<Value> = site.admin.get("/api/v1/runs").await.expect(200).json();
    assert!(runs.is_empty(), "and nothing has happened");

    let (code, said) = site.cli(&["operator", "remove", "vera"]).await;
    assert_eq!(code, Some(0), "{said}");
    let again = form("/login", format!("name=vera&password={password}")).send().await.expect("an answer");
    assert_ne!(again.status().as_u16(), 303);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gate_is_an_exit_code() {
    let site = Site::start().await;
    let (code, said) = site.cli(&["gate", "host", "web-3"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("web-3: closed") && said.contains("NeverVetted"), "{said}");
    let (code, said) = site.cli(&["gate", "host", "web-9"]).await;
    assert_eq!(code, Some(2), "an unknown host is a mistake: {said}");
    let (code, said) = site.cli(&["gate", "host", "web-3", "--max-age", "7w"]).await;
    assert_eq!(code, Some(2), "{said}");

    let machine = Arc::new(CannedMachine::default());
    let _runner = site.runner(&machine);
    let (code, said) = site.cli(&["host", "vet", "web-3", "--watch"]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = site.cli(&["gate", "host", "web-3"]).await;
    assert_eq!((code, said.as_str()), (Some(0), "web-3: open (run 1)\n"));
    let answer: Gate = site.admin.get("/api/v1/hosts/web-3/gate").await.expect(200).json();
    assert_eq!((answer.open, answer.run, answer.profile.as_deref()), (true, Some(1), Some("standard")));

    let (code, said) = site.cli(&["host", "vet", "web-3", "--without", "SMART", "--watch"]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = site.cli(&["gate", "host", "web-3", "--json"]).await;
    let told: Value = serde_json::from_str(said.trim()).expect("JSON on stdout");
    assert_eq!(
        (code, &told["open"], &told["reasons"][0]["code"]),
        (Some(1), &json!(false), &json!("StagesLeftOut"))
    );

    let (code, said) = site.cli(&["host", "adopt", "web-3"]).await;
    assert_eq!(code, Some(1), "nobody has agreed: {said}");
    assert!(said.contains("serial: S2") && said.contains("nothing was changed"), "{said}");
    let (code, said) = site.cli(&["host", "adopt", "web-3", "--yes"]).await;
    assert_eq!(code, Some(0), "{said}");
    let host: Value = site.admin.get("/api/v1/hosts/web-3").await.expect(200).json();
    assert!(host["spec_yaml"].as_str().expect("a spec").contains("7XK2M33"), "{host}");

    let (code, said) = site.cli(&["run", "pin", "1"]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = site.cli(&["janitor", "run", "--dry-run"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("would go: the raw files of 0 runs"), "{said}");
    let (code, said) = site.cli(&["janitor", "keep", "--days", "30"]).await;
    assert!(code == Some(0) && said.contains("kept for: 30 days"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_with_data_is_erased_only_when_an_operator_types_its_serial() {
    let site = Site::start().await;
    let machine = Arc::new(CannedMachine::default());
    machine.brings("SpecValidate", serde_json::to_value(canned::swapped_disk()).expect("plain data"));
    let _runner = site.runner(&machine);
    let (_, said) = site.cli(&["host", "vet", "web-3", "--watch"]).await;
    assert!(said.contains("FailedHolding"), "{said}");
    let (code, said) = site.cli(&["run", "permit", "1", "--disk", "S1", "--reason", "old"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("did not stop at a disk with data"), "{said}");
    let (code, said) = site.cli(&["run", "permit", "1", "--disk", "S1"]).await;
    assert!(code == Some(2) && said.contains("--reason"), "{said}");
    let (code, said) = site.cli(&["run", "permit", "1", "--reason", "x"]).await;
    assert!(code == Some(2) && said.contains("--disk"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_control_plane_is_refused_its_database() {
    let mut site = Site::start().await;
    let url = site.server.database();
    let folder = tempfile::tempdir().expect("a folder");
    let second = || {
        let data = folder.path().join("data");
        let second =
            ServerProcess::new(env!("CARGO_BIN_EXE_assay"), data, free_ports()).args(["--database", &url]);
        second.fake_live_image();
        second
    };
    let mut refused = second();
    let status = refused.try_start(&[]).await.expect_err("it cannot start");
    assert!(!status.success());
    let said = refused.said().join("\n");
    assert!(said.contains("another control plane works on this database; stop that one"), "{said}");
    // The first goes on, and may come back at once, even after SIGKILL.
    let _ = site.admin.get("/api/v1/runs").await.expect(200);
    site.server.kill().await;
    let status = second().try_start(&[]).await.expect_err("it may be back in a moment");
    assert!(!status.success());
    site.server.start(&[]).await;
    let _ = site.admin.get("/api/v1/runs").await.expect(200);
}
