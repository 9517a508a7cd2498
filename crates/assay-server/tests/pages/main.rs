//! The pages over a real server and a real store: signing in, looking, deciding; and what must be refused.

mod again;
mod boards;
#[path = "../common/mod.rs"]
mod common;
mod compat;
mod images;
mod queue;

use std::net::{Ipv4Addr, SocketAddr};

use assay_engine::Engine;
use assay_model::event::EventBody;
use assay_model::{DecisionKind, Finding, Judgement, Mac, RunResult, RunState, Severity};
use assay_server::{Server, Settings};
use common::{PASSWORD, Story, dimm_missing, open, pass, settings};
use reqwest::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, StatusCode};

/// Text that must never come out as markup.
const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";

const FORM: &str = "application/x-www-form-urlencoded";

/// A running server and a browser's worth of state.
struct Site {
    engine: Engine,
    base: String,
    client: Client,
    cookie: String,
    setup_code: Option<String>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    serving: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
    _data: tempfile::TempDir,
}

impl Site {
    async fn start(password: Option<&str>) -> Self {
        let data = tempfile::tempdir().expect("tempdir");
        let server = open(data.path(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), password).await;
        Self::over(server, data).await
    }

    /// With nobody signed in, and badges for everybody.
    async fn with_public_badges() -> Self {
        let data = tempfile::tempdir().expect("tempdir");
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let settings = Settings { public_badges: true, ..settings(data.path(), listen, Some(PASSWORD)) };
        let server = Server::open(settings).await.expect("opens");
        Self::over(server, data).await
    }

    async fn over(server: Server, data: tempfile::TempDir) -> Self {
        let base = format!("http://{}", server.addresses().expect("bound").operators);
        let engine = server.app().engine.clone();
        let setup_code = server.setup_code().await;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let serving = tokio::spawn(server.serve(async { drop(stopped.await) }));
        let client = Client::builder().redirect(Policy::none()).build().expect("client");
        let (cookie, stop, serving) = (String::new(), Some(stop), Some(serving));
        Self { engine, base, client, cookie, setup_code, stop, serving, _data: data }
    }

    /// With someone signed in.
    async fn signed_in() -> Self {
        let mut site = Self::start(Some(PASSWORD)).await;
        let fields = [("name", "operator"), ("password", PASSWORD), ("next", "/runs")];
        let answer = site
            .send(site.client.post(site.url("/login")).header(CONTENT_TYPE, FORM).body(form(&fields)))
            .await;
        assert_eq!((answer.status(), location(&answer)), (StatusCode::SEE_OTHER, "/runs"));
        site.take_cookie(&answer);
        site
    }

    fn take_cookie(&mut self, answer: &Response) {
        let set = answer.headers().get(SET_COOKIE).expect("a cookie").to_str().expect("text").to_owned();
        for wanted in ["HttpOnly", "SameSite=Strict", "Path=/"] {
            assert!(set.contains(wanted), "{set}");
        }
        set.split(';').next().unwrap_or_default().clone_into(&mut self.cookie);
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn send(&self, request: RequestBuilder) -> Response {
        request.header(COOKIE, &self.cookie).send().await.expect("answers")
    }

    async fn get(&self, path: &str) -> Response {
        self.send(self.client.get(self.url(path))).await
    }

    async fn html(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.text().await.expect("text")
    }

    /// Sends a form with the token that the page carries.
    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        let token = self.csrf().await;
        let mut all = vec![("csrf", token.as_str())];
        all.extend_from_slice(fields);
        self.send(self.client.post(self.url(path)).header(CONTENT_TYPE, FORM).body(form(&all))).await
    }

    /// The session's token against forged requests.
    async fn csrf(&self) -> String {
        let page = self.html("/hosts/new").await;
        let token = between(&page, "name=\"csrf\" value=\"", "\"").to_owned();
        assert_eq!(token.len(), 64);
        token
    }

    async fn stop(mut self) {
        drop(self.stop.take());
        if let Some(serving) = self.serving.take() {
            serving.await.expect("no panic").expect("stops");
        }
    }
}

/// Fields as a browser sends them.
fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

fn location(answer: &Response) -> &str {
    answer.headers().get(LOCATION).map(|v| v.to_str().expect("text")).unwrap_or_default()
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let rest = text.split_once(from).map_or_else(|| panic!("no `{from}` in {text}"), |(_, rest)| rest);
    rest.split_once(to).map_or(rest, |(found, _)| found)
}

/// A host whose run failed over a missing DIMM and is held.
async fn held(site: &Site) -> Story {
    let host = Story::host(&site.engine, "node7", 1, "").await;
    let mut run = Story::begin(&site.engine, &host, "standard", 600).await;
    run.boots().await;
    run.stage(0, 1, 12, pass("read", "sources", 14)).await;
    run.stage(1, 1, 2, dimm_missing("4012AB9A")).await;
    run.held().await;
    run
}

#[tokio::test]
async fn whoever_is_not_signed_in_sees_nothing() {
    let site = Site::start(Some(PASSWORD)).await;
    for path in ["/", "/fleet", "/hosts/new", "/hosts/x", "/runs", "/runs/1", "/runs/1/log.txt"] {
        let answer = site.get(path).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{path}");
        assert!(location(&answer).starts_with("/login?next=%2F"), "{path}: {}", location(&answer));
    }
    let answer = site
        .send(site.client.post(site.url("/hosts")).header(CONTENT_TYPE, FORM).body(form(&[("name", "x")])))
        .await;
    assert_eq!(location(&answer), "/login?next=%2F");
    assert!(site.engine.store().hosts().await.expect("reads").is_empty());
    let fragment = site.client.get(site.url("/fleet")).header("hx-request", "true");
    let answer = site.send(fragment.header("hx-current-url", site.url("/runs/3"))).await;
    assert_eq!(answer.headers()["hx-redirect"], "/login?next=%2Fruns%2F3");
    assert_eq!(answer.text().await.expect("text"), "");
    assert_eq!(site.get("/login").await.status(), StatusCode::OK);
    site.stop().await;
}

#[tokio::test]
async fn a_wrong_password_gets_no_session() {
    let site = Site::start(Some(PASSWORD)).await;
    let fields = [("name", "operator"), ("password", "wrong"), ("next", "//evil.example")];
    let answer =
        site.send(site.client.post(site.url("/login")).header(CONTENT_TYPE, FORM).body(form(&fields))).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert!(answer.headers().get(SET_COOKIE).is_none());
    let page = answer.text().await.expect("text");
    assert!(page.contains("Name or password is wrong.") && !page.contains("evil"), "{page}");
    let cross = site
        .client
        .post(site.url("/login"))
        .header("sec-fetch-site", "cross-site")
        .header(CONTENT_TYPE, FORM)
        .body(form(&fields));
    assert_eq!(site.send(cross).await.status(), StatusCode::FORBIDDEN);
    site.stop().await;
}

#[tokio::test]
async fn the_first_password_needs_the_code_from_the_terminal_once() {
    let mut site = Site::start(None).await;
    assert_eq!(location(&site.get("/login").await), "/setup");
    assert!(site.html("/setup").await.contains("Setup code"));
    let code = site.setup_code.clone().expect("there is no operator yet");
    let setup = async |code: &str, password: &str, again: &str| {
        let fields = [("code", code), ("password", password), ("again", again)];
        site.send(site.client.post(site.url("/setup")).header(CONTENT_TYPE, FORM).body(form(&fields))).await
    };
    assert_eq!(setup("0000000000000000", PASSWORD, PASSWORD).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(setup(&code, PASSWORD, "another one").await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(setup(&code, "short", "short").await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let done = setup(&code, PASSWORD, PASSWORD).await;
    assert_eq!(location(&done), "/");
    assert_eq!(setup(&code, "another password", "another password").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(location(&site.get("/setup").await), "/login");
    site.take_cookie(&done);
    assert!(site.html("/").await.contains("No machine is registered yet"));
    site.stop().await;
}

#[tokio::test]
async fn a_form_without_the_token_changes_nothing() {
    let site = Site::signed_in().await;
    let run = held(&site).await;
    let decide = format!("/runs/{}/decide", run.number);
    for csrf in [None, Some(""), Some("0000")] {
        let mut fields = vec![("kind", "abandon")];
        fields.extend(csrf.map(|t| ("csrf", t)));
        let answer = site
            .send(site.client.post(site.url(&decide)).header(CONTENT_TYPE, FORM).body(form(&fields)))
            .await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{csrf:?}");
        assert!(answer.text().await.expect("text").contains("This form is out of date."));
    }
    let api = format!("/api/v1/runs/{}/decisions", run.number);
    let json = site.client.post(site.url(&api)).json(&serde_json::json!({ "kind": "abandon" }));
    let answer = site.send(json).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert!(answer.text().await.expect("text").starts_with('{'), "programs are told in JSON");
    let logout = site.client.post(site.url("/logout")).header(CONTENT_TYPE, FORM).body(form(&[("x", "y")]));
    assert_eq!(site.send(logout).await.status(), StatusCode::FORBIDDEN);
    let now = site.engine.view(run.run).await.expect("reads");
    assert_eq!(now.state(), RunState::FailedHolding);
    site.stop().await;
}

#[tokio::test]
async fn a_held_run_shows_its_finding_and_takes_a_waiver_only_with_a_reason() {
    let site = Site::signed_in().await;
    let run = held(&site).await;
    let path = format!("/runs/{}", run.number);
    let page = site.html(&path).await;
    for part in
        ["Failed, held", "DIMM_B1 (serial 4012AB9A)", "Reseat the module in DIMM_B1", "Waive SpecValidate"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(site.html("/").await.contains("Reseat the module"), "the fleet tells the next step");

    let decide = format!("{path}/decide");
    let answer = site.post(&decide, &[("kind", "waive"), ("why", "  ")]).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.text().await.expect("text").contains("needs a reason"));
    assert_eq!(site.post(&decide, &[("kind", "explode")]).await.status(), StatusCode::UNPROCESSABLE_ENTITY);

    let answer = site.post(&decide, &[("kind", "waive"), ("why", HOSTILE)]).await;
    assert_eq!((answer.status(), location(&answer)), (StatusCode::SEE_OTHER, path.as_str()));
    let page = site.html(&path).await;
    assert!(page.contains("operator waived the failure at SpecValidate"), "{page}");
    assert!(page.contains("Waived") && !page.contains("Your decision"));
    assert!(!page.contains("<script>alert") && !page.contains("<img src=x"), "escaped");

    let answer = site.post(&decide, &[("kind", "retry")]).await;
    assert_eq!(answer.status(), StatusCode::CONFLICT, "it is not held any longer");
    site.stop().await;
}

#[tokio::test]
async fn a_machine_is_registered_vetted_changed_and_removed_by_forms() {
    let site = Site::signed_in().await;
    site.engine
        .store()
        .unknown_seen(&[Mac([2, 0, 0, 0, 0, 9])], "rack7", site.engine.now())
        .await
        .expect("stores");
    assert!(site.html("/").await.contains("/hosts/new?mac=02:00:00:00:00:09"));
    assert!(site.html("/hosts/new?mac=02:00:00:00:00:09").await.contains(">02:00:00:00:00:09</textarea>"));

    let wrong = [
        ("name", "node9"),
        ("macs", "02:00:00:00:00:09"),
        ("spec", "format: 1\nmemry: 3\n"),
        ("method", "manual"),
    ];
    let answer = site.post("/hosts", &wrong).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = answer.text().await.expect("text");
    assert!(
        page.contains("line 2, column 1") && page.contains("memry: 3\n"),
        "what was typed is kept: {page}"
    );

    let good =
        [("name", "node9"), ("macs", "02:00:00:00:00:09"), ("spec", "format: 1\r\n"), ("method", "manual")];
    assert_eq!(location(&site.post("/hosts", &good).await), "/hosts/node9");
    assert_eq!(
        site.post("/hosts", &good).await.status(),
        StatusCode::UNPROCESSABLE_ENTITY,
        "the name is taken"
    );
    assert!(!site.html("/").await.contains("mac=02:00:00:00:00:09"), "it is known now");
    let taken = [("name", "other"), ("macs", "02:00:00:00:00:09"), ("method", "manual")];
    let answer = site.post("/hosts", &taken).await.text().await.expect("text");
    assert!(answer.contains("belongs to node9 already"), "{answer}");

    let changed = [("macs", "02:00:00:00:00:0a"), ("spec", ""), ("method", "lab"), ("place", "m1")];
    assert_eq!(location(&site.post("/hosts/node9", &changed).await), "/hosts/node9");
    assert!(site.html("/hosts/node9").await.contains("lab machine m1"));
    let bmc = |credential, more| {
        [
            ("macs", "02:00:00:00:00:0a"),
            ("method", "ipmi"),
            ("place", "10.20.0.31"),
            ("credential", credential),
            ("more", more),
        ]
    };
    for (credential, more, field) in [("", "", "credential"), ("rack1", "password=x", "more")] {
        let answer = site.post("/hosts/node9", &bmc(credential, more)).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let page = answer.text().await.expect("text");
        assert!(
            page.contains(&format!("data-field=\"{field}\"")) && page.contains("value=\"10.20.0.31\""),
            "{page}"
        );
    }
    let stored = site.post("/hosts/node9", &bmc("rack1", "firmware=uefi\r\nport=6230\r\n")).await;
    assert_eq!(location(&stored), "/hosts/node9");
    let row = site.engine.store().host_by_name("node9").await.expect("reads").expect("is there");
    let power = serde_json::json!({ "method": "ipmi", "address": "10.20.0.31", "credential": "rack1",
        "firmware": "uefi", "port": 6230 });
    assert_eq!(row.power, power);
    let form = site.html("/hosts/node9/edit").await;
    assert!(form.contains("value=\"rack1\"") && form.contains("port=6230"), "{form}");
    assert_eq!(location(&site.post("/hosts/node9", &changed).await), "/hosts/node9");

    let answer = site.post("/hosts/node9/vet", &[("profile", "quick")]).await;
    assert_eq!(location(&answer), "/runs/1");
    let page = site.html("/runs/1").await;
    assert!(page.contains("Queued") && page.contains("quick") && page.contains("operator"), "{page}");
    assert!(site.html("/").await.contains("No runner is connected"), "and why it waits");
    let again = site.post("/hosts/node9/vet", &[("profile", "quick")]).await;
    assert_eq!(again.status(), StatusCode::CONFLICT);
    assert_eq!(site.post("/hosts/node9/remove", &[]).await.status(), StatusCode::CONFLICT);

    assert_eq!(location(&site.post("/runs/1/decide", &[("kind", "cancel")]).await), "/runs/1");
    until(&site, 1, RunState::Cancelled).await;
    assert_eq!(location(&site.post("/hosts/node9/remove", &[]).await), "/");
    assert_eq!(site.get("/hosts/node9").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(site.html("/runs?state=Cancelled").await.matches("href=\"/runs/1\"").count(), 1);
    assert!(site.html("/runs?state=Running").await.contains("No run is like that"));
    site.stop().await;
}

/// Until the dispatcher has brought a run there; every commit is heard of.
async fn until(site: &Site, number: i64, state: RunState) {
    let mut changes = site.engine.store().subscribe();
    let id = site.engine.store().run_id(number).await.expect("reads").expect("is there");
    let there = async {
        while site.engine.view(id).await.expect("reads").state() != state {
            drop(changes.recv().await);
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), there).await.expect("gets there");
}

#[tokio::test]
async fn what_a_machine_says_of_itself_is_only_ever_text() {
    let site = Site::signed_in().await;
    let host = Story::host(&site.engine, "node7", 1, HOSTILE).await;
    let mut run = Story::begin(&site.engine, &host, "standard", 600).await;
    run.boots().await;
    run.file(0, "inventory.json", b"{}").await;
    run.stage(0, 1, 12, pass(HOSTILE, HOSTILE, 2)).await;
    run.stage(1, 1, 2, dimm_missing(HOSTILE)).await;
    run.held().await;
    run.says(1, &[(HOSTILE, HOSTILE)]).await;
    run.then(1, EventBody::AgentReturned).await;
    site.engine
        .store()
        .runner_seen(HOSTILE, HOSTILE, Some(HOSTILE), site.engine.now())
        .await
        .expect("stores");
    let unknown = [Mac([2, 0, 0, 0, 0, 9])];
    site.engine.store().unknown_seen(&unknown, HOSTILE, site.engine.now()).await.expect("stores");
    let number = run.number;
    for path in [
        "/",
        "/fleet",
        "/runs",
        "/hosts/node7",
        "/hosts/node7/edit",
        "/hosts/new?mac=%3Cscript%3Ealert(1)%3C/script%3E",
    ] {
        let page = site.html(path).await;
        assert!(!page.contains("<script>alert") && !page.contains("<img src=x"), "{path}");
    }
    for path in [format!("/runs/{number}"), format!("/runs/{number}/state")] {
        let page = site.html(&path).await;
        assert!(!page.contains("<script>alert") && !page.contains("<img src=x"), "{path}");
        assert!(page.contains("&#60;script&#62;alert"), "{path} shows it as text");
    }
    let log = site.get(&format!("/runs/{number}/log.txt")).await;
    assert_eq!(log.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(log.headers()["x-content-type-options"], "nosniff");
    assert!(log.text().await.expect("text").contains(HOSTILE));
    let nowhere = site.get("/runs/%3Cscript%3Ealert(1)%3C%2Fscript%3E").await;
    assert_eq!(nowhere.status(), StatusCode::NOT_FOUND);
    assert!(!nowhere.text().await.expect("text").contains("<script>alert"));
    site.stop().await;
}

#[tokio::test]
async fn the_page_and_the_stream_fit_together_without_gap_or_double() {
    let site = Site::signed_in().await;
    let run = held(&site).await;
    run.says(1, &[("agent", "first")]).await;
    run.readings(1, 60, 3).await;
    let page = site.html(&format!("/runs/{}", run.number)).await;
    let cursor = between(&page, "data-cursor=\"", "\"");
    let seq = site.engine.view(run.run).await.expect("reads").seq;
    assert_eq!(cursor, format!("j{seq}.l0.s0-0"));

    let live = format!("/api/v1/runs/{}/live?after={cursor}", run.number);
    let mut stream = site.get(&live).await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    site.engine
        .decide(
            run.run,
            assay_model::Decision {
                kind: DecisionKind::Abandon,
                by: "ada".into(),
                why: String::new(),
                serials: Vec::new(),
            },
        )
        .await
        .expect("held runs can be abandoned");
    let mut told = String::new();
    while !(told.contains("event: journal") && told.contains("event: log") && told.contains("event: sensors"))
    {
        let chunk = stream.chunk().await.expect("reads").expect("goes on");
        told.push_str(&String::from_utf8_lossy(&chunk));
    }
    let journal = told.split("\n\n").find(|e| e.contains("event: journal")).expect("one");
    assert!(
        journal.contains(&format!("\"seq\":{}", seq + 1)),
        "what the page has does not come again: {journal}"
    );
    assert!(told.contains("\"text\":\"first\"") && told.contains("coretemp"), "{told}");
    drop(stream);
    site.stop().await;
}

#[tokio::test]
async fn a_finished_run_is_signed_and_leads_to_its_report() {
    let site = Site::signed_in().await;
    let host = Story::host(&site.engine, "node7", 1, "").await;
    let mut run = Story::begin(&site.engine, &host, "standard", 6000).await;
    run.boots().await;
    for index in 0..9 {
        run.stage(index, 1, 30, pass("fine", "items", 3)).await;
    }
    run.completed(RunResult::Pass).await;
    let mut changes = site.engine.store().subscribe();
    while site.engine.view(run.run).await.expect("reads").seal.is_none() {
        drop(changes.recv().await);
    }
    let page = site.html(&format!("/runs/{}", run.number)).await;
    for part in
        ["Passed", "Everything that was asked for was verified.", ">signed<", "data-running=\"false\""]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("Cancel this run"));
    // Kept, the page has no links; shown by a server, it has those that this server answers.
    let report = format!("/api/v1/runs/{}/report.html?linked=true", run.number);
    assert_eq!(location(&site.get(&format!("/runs/{}/report", run.number)).await), report);
    assert!(site.html(&report).await.contains("node7"));
    site.stop().await;
}

#[tokio::test]
async fn a_pass_with_a_waiver_is_never_shown_as_a_clean_one() {
    let site = Site::signed_in().await;
    let mut run = held(&site).await;
    run.decided(DecisionKind::Waive, "the spare comes on Friday").await;
    for index in 2..9 {
        run.stage(index, 1, 30, pass("fine", "items", 3)).await;
    }
    run.completed(RunResult::Pass).await;
    for path in ["/", "/runs", "/hosts/node7", &format!("/runs/{}", run.number)] {
        let page = site.html(path).await;
        assert!(page.contains("Passed, waived"), "{path}");
    }
    let page = site.html(&format!("/runs/{}", run.number)).await;
    assert!(page.contains("the spare comes on Friday") && page.contains("class=\"verdict warn\""), "{page}");
    site.stop().await;
}

#[tokio::test]
async fn a_disk_with_data_is_given_up_on_the_page_by_its_serial_and_a_reason() {
    let site = Site::signed_in().await;
    let host = Story::host(&site.engine, "node7", 1, "").await;
    let mut run = Story::begin(&site.engine, &host, "standard", 900).await;
    run.boots().await;
    for index in 0..4 {
        run.stage(index, 1, 12, pass("fine", "items", 3)).await;
    }
    let message = "nvme1n1 holds data: an XFS file system; nothing was written";
    let data =
        Finding::new("UnexpectedData", Severity::Critical, message, "Look at it, then permit it or abandon.")
            .part("disk", Some("nvme1n1"), Some("S2"));
    let halted =
        Judgement::from_evidence(Vec::new(), vec![data], Vec::new(), Vec::new(), "a disk holds data");
    run.stage(4, 1, 2, halted).await;
    run.held().await;

    let page = site.html("/runs/1").await;
    assert!(page.contains("Permit erasing…") && page.contains("disk nvme1n1 (serial S2)"), "{page}");
    let permit = |disks, why| [("kind", "permit"), ("disks", disks), ("why", why)];
    for (disks, why, problem) in [
        ("S9", "old", "disk S9 is none of those on which data was found (S2)"),
        ("nvme1n1", "old", "disk nvme1n1 is none of those"),
        (" \r\n", "old", "name the disks by serial number"),
        ("S2", " ", "a permit to erase needs a reason"),
    ] {
        let refused = site.post("/runs/1/decide", &permit(disks, why)).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let text = refused.text().await.expect("text").to_lowercase();
        assert!(text.contains(&problem.to_lowercase()), "{text}");
    }
    let refused = site.engine.view(run.run).await.expect("reads");
    assert!(refused.decisions.is_empty() && refused.state() == RunState::FailedHolding);

    let taken = site.post("/runs/1/decide", &permit(" s2 \r\n", "copied to tape")).await;
    assert_eq!(location(&taken), "/runs/1");
    let made = site.engine.view(run.run).await.expect("reads").decisions[0].decision.clone();
    assert_eq!(
        (made.by.as_str(), made.serials, made.why.as_str()),
        ("operator", vec!["S2".to_owned()], "copied to tape")
    );
    let page = site.html("/runs/1").await;
    assert!(page.contains("operator permitted to erase S2 and ran it again at Storage"), "{page}");
    site.stop().await;
}

#[tokio::test]
async fn a_machine_that_never_came_up_can_be_retried_and_not_waived() {
    let site = Site::signed_in().await;
    let host = Story::host(&site.engine, "dark", 1, "").await;
    let mut run = Story::begin(&site.engine, &host, "standard", 700).await;
    run.then(2, EventBody::Admitted { runner: "rack7".into() }).await;
    run.then(600, EventBody::BootFailed { message: "no boot script was fetched".into() }).await;
    run.held().await;
    let path = format!("/runs/{}", run.number);
    let page = site.html(&path).await;
    assert!(page.contains("Retry Boot") && page.contains("Power (failed)"), "{page}");
    assert!(!page.contains("value=\"waive\""), "there is nothing to accept");
    let waive = [("kind", "waive"), ("why", "because")];
    assert_eq!(site.post(&format!("{path}/decide"), &waive).await.status(), StatusCode::CONFLICT);
    site.stop().await;
}

#[tokio::test]
async fn pages_load_only_from_here_and_unknown_ones_say_so() {
    let site = Site::signed_in().await;
    let answer = site.get("/runs").await;
    let policy = answer.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe-eval"), "{policy}");
    let page = answer.text().await.expect("text");
    let loaded = ["<script src=\"", "<link rel=\"stylesheet\" href=\""];
    let urls: Vec<&str> =
        loaded.iter().flat_map(|l| page.split(l).skip(1)).filter_map(|r| r.split('"').next()).collect();
    assert_eq!(urls.len(), 3, "{page}");
    assert!(urls.iter().all(|url| url.starts_with("/static/")), "{urls:?}");
    assert!(!page.contains("//cdn") && !page.contains("<script>") && !page.contains(" onclick"), "{page}");
    let style = format!("/static/{}", between(&page, "/static/", "\""));
    let answer = site.get(&style).await;
    assert!(answer.headers()["cache-control"].to_str().expect("text").contains("immutable"), "{style}");
    assert_eq!(site.get("/static/app.css?v=old").await.headers()["cache-control"], "no-cache");
    assert_eq!(site.get("/static/.inputs").await.status(), StatusCode::NOT_FOUND);

    let lost = site.get("/nowhere").await;
    assert_eq!(lost.status(), StatusCode::NOT_FOUND);
    assert!(lost.text().await.expect("text").contains("Not here"));
    let lost = site.get("/api/v1/nowhere").await;
    assert_eq!(lost.status(), StatusCode::NOT_FOUND);
    assert!(lost.text().await.expect("text").starts_with('{'));
    for path in ["/runs/99", "/runs/twelve", "/hosts/nobody"] {
        assert_eq!(site.get(path).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
    site.stop().await;
}

#[tokio::test]
async fn signing_out_ends_the_session() {
    let site = Site::signed_in().await;
    assert_eq!(site.html("/session").await, "yes");
    assert_eq!(location(&site.post("/logout", &[]).await), "/login");
    assert_eq!(site.html("/session").await, "no");
    assert!(location(&site.get("/").await).starts_with("/login"));
    site.stop().await;
}
