//! Who may do what, against the real server: viewers look, operators start runs and decide, admins say who may do what.
//! And the gate and the permit, as scripts and people ask for them.

use std::sync::Arc;

use assay_api::operator::{Gate, RunDetail};
use assay_model::RunState;
use assay_model::host::permit::{CONTEXT, ErasePermit};
use assay_process::Cmd;
use assay_testkit::{Api, CannedMachine, FakeRunner, Given, ServerProcess, canned, free_ports};
use ed25519_dalek::{Signature, VerifyingKey};
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

    /// Waits until `Storage` was tried so often and the run is held again.
    async fn tries(&self, count: u32) {
        self.admin
            .until("/api/v1/runs/1", |answer| {
                let run: RunDetail = answer.clone().expect(200).json();
                let tried = run.report.stages.iter().find(|stage| stage.name == "Storage")?.attempt;
                (tried == count && run.summary.state == RunState::FailedHolding).then_some(())
            })
            .await;
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

/// The permit that came with a try, once its signature is seen to be the control plane's.
fn permit_of(given: &Given) -> ErasePermit {
    let signed = given.input.permit.as_ref().expect("each try of the stage has a permit");
    let key: [u8; 32] = hex::decode(&given.verify_key).expect("hex").try_into().expect("a key");
    let key = VerifyingKey::from_bytes(&key).expect("a key");
    let signature: [u8; 64] = hex::decode(&signed.signature).expect("hex").try_into().expect("a signature");
    let message = [CONTEXT, signed.permit.as_bytes()].concat();
    key.verify_strict(&message, &Signature::from_bytes(&signature)).expect("the control plane signed it");
    assert!(key.verify_strict(signed.permit.as_bytes(), &Signature::from_bytes(&signature)).is_err());
    let permit: ErasePermit = serde_json::from_str(&signed.permit).expect("a permit");
    assert_eq!((permit.host.as_str(), permit.generation), (given.host.as_str(), given.generation));
    permit
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_with_data_is_erased_only_when_an_operator_types_its_serial() {
    let site = Site::start().await;
    let viewer = site.token("display", "viewer").await;
    let machine = Arc::new(CannedMachine::default());
    machine.disk_holds_data("S2");
    let _runner = site.runner(&machine);
    let (_, said) = site.cli(&["host", "vet", "web-3", "--watch"]).await;
    assert!(said.contains("FailedHolding") && said.contains("UnexpectedData"), "{said}");
    let held = site.until(RunState::FailedHolding).await;
    assert_eq!(held.report.run.failed_stage.as_deref(), Some("Storage"));

    // Whoever may only look may not erase, and that somebody tried is on the record.
    let decisions = "/api/v1/runs/1/decisions";
    let wanted = json!({ "kind": "permit", "why": "old", "serials": ["S2"] });
    let refused = viewer.post(decisions, &wanted).await.expect(403);
    assert_eq!(refused.json::<Value>()["message"], "token display is viewer; this needs operator");
    // A serial number of a disk that holds nothing, or of no disk; no serial number; no reason.
    for (args, why) in [
        (&["--disk", "S1", "--reason", "old"][..], "disk S1 is none of those on which data was found (S2)"),
        (&["--disk", "S", "--reason", "old"], "disk S is none of those"),
        (&["--disk", "S2", "--disk", "nvme1n1", "--reason", "old"], "disk nvme1n1 is none of those"),
        (&["--disk", "S2", "--reason", " "], "a permit to erase needs a reason"),
        (&["--disk", "S2"], "--reason"),
        (&["--reason", "old"], "--disk"),
    ] {
        let (code, said) = site.cli(&[&["run", "permit", "1"], args].concat()).await;
        assert!(code == Some(2) && said.contains(why), "{args:?}: {code:?} {said}");
    }
    let unnamed = site.admin.post(decisions, &json!({ "kind": "permit", "why": "old" })).await.expect(422);
    assert!(unnamed.text.contains("data is on S2"), "{}", unnamed.text);
    assert_eq!(site.until(RunState::FailedHolding).await.report.decisions, []);

    // A retry alone permits nothing.
    let (code, said) = site.cli(&["run", "retry", "1"]).await;
    assert_eq!(code, Some(0), "{said}");
    site.tries(2).await;

    let (code, said) = site.cli(&["run", "permit", "1", "--disk", "s2", "--reason", "copied to tape"]).await;
    assert_eq!(code, Some(0), "{said}");
    let done = site.until(RunState::Completed).await;
    assert_eq!(done.summary.result.map(assay_model::RunResult::as_str), Some("pass"));
    assert!(!done.summary.overridden, "nothing was accepted: the disk was tested");
    let made = done.report.decisions.last().expect("a decision");
    assert_eq!(
        (made.kind.as_str(), made.stage.as_deref(), made.why.as_str()),
        ("permit", Some("Storage"), "copied to tape")
    );
    assert_eq!(made.disks, ["S2"], "in the disk's own spelling");
    let html = site.admin.get("/api/v1/runs/1/report.html").await.expect(200);
    assert!(html.text.contains("permit to erase S2 at Storage"), "the report says which disk");

    // Each try had a permit of its own; only the last one named the disk for what it held.
    let permits: Vec<ErasePermit> = machine.given("Storage").iter().map(permit_of).collect();
    let with_data: Vec<_> = permits.iter().map(|permit| permit.with_data.join(",")).collect();
    assert_eq!(with_data, ["", "", "S2"]);
    assert!(
        permits
            .iter()
            .all(|permit| permit.disks == ["S1", "S2"] && permit.run.to_string() == done.summary.id)
    );
    assert!(
        permits.windows(2).all(|two| two[0].generation < two[1].generation && two[0].nonce != two[1].nonce)
    );

    let audit: Vec<Value> = site.admin.get("/api/v1/audit").await.expect(200).json();
    let entries: Vec<&Value> = audit.iter().map(|entry| &entry["entry"]).collect();
    let tried = entries.iter().find(|entry| entry["who"] == "token display").expect("the viewer's try");
    assert_eq!(
        (&tried["what"], &tried["detail"]["status"]),
        (&json!(format!("POST {decisions}")), &json!(403))
    );
    let erased: Vec<_> = entries.iter().filter(|entry| entry["what"] == "permit to erase").collect();
    let detail = json!({ "run": 1, "host": "web-3", "disks": ["S2"], "why": "copied to tape" });
    assert_eq!((erased.len(), &erased[0]["detail"]), (1, &detail));
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
