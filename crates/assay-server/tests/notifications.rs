//! Who is told what happens, as operators see it: the page, its button, and the API, over a real
//! server and real receivers.

use std::net::{Ipv4Addr, SocketAddr};

use assay_api::notify::{Notifications, NotifyTested};
use assay_server::{Server, Settings, StartError};
use reqwest::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use tempfile::TempDir;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers};

const PASSWORD: &str = "correct horse battery";
const FORM: &str = "application/x-www-form-urlencoded";

/// A running server whose data folder has this `notify.toml`.
struct Site {
    base: String,
    token: String,
    client: Client,
    stop: tokio::sync::oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
    _data: TempDir,
}

fn settings(data: &TempDir) -> Settings {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Settings {
        data_dir: data.path().to_owned(),
        database: None,
        listen: any,
        boot_listen: any,
        agent_listen: any,
        agent_port: 8443,
        live_image: data.path().join("no-live-image"),
        notify: None,
        webhooks: Vec::new(),
        webhook_internal: false,
        public_badges: false,
        password: Some(PASSWORD.to_owned()),
        tuning: assay_engine::Tuning::default(),
    }
}

impl Site {
    async fn start(toml: Option<&str>) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        if let Some(toml) = toml {
            std::fs::write(data.path().join("notify.toml"), toml).expect("written");
        }
        let server = Server::open(settings(&data)).await.expect("opens");
        let base = format!("http://{}", server.addresses().expect("bound").operators);
        let token = std::fs::read_to_string(data.path().join("cli.token")).expect("a token");
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let serving = tokio::spawn(server.serve(async { drop(stopped.await) }));
        let client = Client::builder().redirect(Policy::none()).build().expect("client");
        Self { base, token: token.trim().to_owned(), client, stop, serving, _data: data }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// As the command line asks.
    async fn api(&self, method: Method, path: &str, body: &str) -> Response {
        let request = self.request(method, path).bearer_auth(&self.token);
        let request = request.header(CONTENT_TYPE, "application/json").body(body.to_owned());
        request.send().await.expect("answers")
    }

    /// Signs in; the session's cookie.
    async fn sign_in(&self) -> String {
        let fields = "name=operator&password=correct+horse+battery&next=%2F";
        let request = self.request(Method::POST, "/login").header(CONTENT_TYPE, FORM).body(fields);
        let answer = request.send().await.expect("answers");
        let cookie = answer.headers()[SET_COOKIE].to_str().expect("text");
        cookie.split(';').next().expect("a cookie").to_owned()
    }

    async fn html(&self, cookie: &str) -> String {
        let answer = self.request(Method::GET, "/notifications").header(COOKIE, cookie).send().await;
        let answer = answer.expect("answers");
        assert_eq!(answer.status(), StatusCode::OK);
        answer.text().await.expect("text")
    }

    async fn end(self) {
        self.stop.send(()).expect("it still serves");
        self.serving.await.expect("ends").expect("ends well");
    }
}

/// The page's CSRF token.
fn csrf(html: &str) -> &str {
    let begin = html.split("name=\"csrf\" value=\"").nth(1).expect("a form");
    begin.split('"').next().expect("a value")
}

/// A receiver that takes everything, and one that refuses; and the settings for both.
async fn two() -> (MockServer, MockServer, String) {
    let (good, bad) = (MockServer::start().await, MockServer::start().await);
    for (server, status) in [(&good, 200), (&bad, 403)] {
        Mock::given(matchers::any()).respond_with(ResponseTemplate::new(status)).mount(server).await;
    }
    let toml = format!(
        "[[webhook]]\nname = \"ops\"\nurl = \"{}/secret-path\"\nallow_internal = true\n\
         [[ntfy]]\nname = \"phone\"\nserver = \"{}\"\ntopic = \"rack7\"\nallow_internal = true\nevents = [\"RunHeld\"]\n",
        good.uri(),
        bad.uri()
    );
    (good, bad, toml)
}

#[tokio::test]
async fn the_page_shows_the_sinks_and_its_button_tries_them() {
    let (good, bad, toml) = two().await;
    let site = Site::start(Some(&toml)).await;
    let cookie = site.sign_in().await;
    let html = site.html(&cookie).await;
    for wanted in ["ops", "phone", "RunHeld", "everything", "Not used yet", "Send a test to all", "base_url"]
    {
        assert!(html.contains(wanted), "{wanted}: {html}");
    }
    assert!(!html.contains("secret-path"), "a webhook's path may be its password");

    let press = |fields: String| {
        let request = site.request(Method::POST, "/notifications/test").header(COOKIE, &cookie);
        request.header(CONTENT_TYPE, FORM).body(fields).send()
    };
    let refused = press("sink=ops".to_owned()).await.expect("answers");
    assert_eq!(refused.status(), StatusCode::FORBIDDEN, "a form without its token");
    assert!(good.received_requests().await.expect("recorded").is_empty());

    let one = press(format!("csrf={}&sink=ops", csrf(&html))).await.expect("answers");
    let one = one.text().await.expect("text");
    assert!(one.contains("Test to ops: taken.") && !one.contains("Test to phone"), "{one}");
    let all = press(format!("csrf={}", csrf(&html))).await.expect("answers").text().await.expect("text");
    assert!(all.contains("Test to ops: taken.") && all.contains("Test to phone: not taken."), "{all}");
    assert!(all.contains("answered 403; check the sink&#39;s secret, token or password."), "{all}");

    let told = good.received_requests().await.expect("recorded");
    let bodies: Vec<serde_json::Value> = told.iter().map(|r| r.body_json().expect("JSON")).collect();
    assert_eq!(bodies.len(), 2);
    assert_eq!((&bodies[0]["event"], &bodies[0]["run"]), (&"Test".into(), &serde_json::Value::Null));
    assert_eq!(bodies[0]["text"], "operator asked for this test; nothing happened to any machine.");
    assert_ne!(bodies[0]["id"], bodies[1]["id"]);
    assert_eq!(bad.received_requests().await.expect("recorded").len(), 1, "a test goes past `events`");
    site.end().await;
}

#[tokio::test]
async fn the_api_says_the_same_and_refuses_strangers() {
    let (_good, _bad, toml) = two().await;
    let site = Site::start(Some(&toml)).await;
    let status: Notifications = site.api(Method::GET, "/api/v1/notify", "").await.json().await.expect("JSON");
    let sinks: Vec<_> = status.sinks.iter().map(|s| (s.name.as_str(), s.kind.as_str(), s.pending)).collect();
    assert_eq!(sinks, [("ops", "webhook", 0), ("phone", "ntfy", 0)]);
    assert_eq!(status.sinks[1].events, Some(vec!["RunHeld".to_owned()]));
    assert!(status.file_exists && status.troubles.is_empty());

    let all = site.api(Method::POST, "/api/v1/notify/test", "{}").await;
    let all: Vec<NotifyTested> = all.json().await.expect("JSON");
    assert_eq!(
        all.iter().map(|t| (t.sink.as_str(), t.ok)).collect::<Vec<_>>(),
        [("ops", true), ("phone", false)]
    );
    let nobody = site.api(Method::POST, "/api/v1/notify/test", r#"{"sink": "pager"}"#).await;
    assert_eq!(nobody.status(), StatusCode::NOT_FOUND);
    assert!(nobody.text().await.expect("text").contains("there is no sink `pager`"));
    let typo = site.api(Method::POST, "/api/v1/notify/test", r#"{"snik": "ops"}"#).await;
    assert_eq!(typo.status(), StatusCode::UNPROCESSABLE_ENTITY);

    for (method, path) in [(Method::GET, "/api/v1/notify"), (Method::POST, "/api/v1/notify/test")] {
        let stranger = site.request(method, path).header(CONTENT_TYPE, "application/json").body("{}").send();
        assert_eq!(stranger.await.expect("answers").status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    site.end().await;
}

#[tokio::test]
async fn without_sinks_the_page_says_how_to_begin() {
    let site = Site::start(None).await;
    let cookie = site.sign_in().await;
    let html = site.html(&cookie).await;
    assert!(html.contains("Nobody is told anything yet") && html.contains("notify.toml"), "{html}");
    let nobody = site.api(Method::POST, "/api/v1/notify/test", "{}").await;
    assert_eq!(nobody.status(), StatusCode::UNPROCESSABLE_ENTITY);
    site.end().await;
}

#[tokio::test]
async fn a_wrong_file_stops_the_start_and_is_shown() {
    let data = tempfile::tempdir().expect("a folder");
    std::fs::write(data.path().join("notify.toml"), "[[ntfy]]\nname = \"a\"\nsever = \"x\"\n")
        .expect("written");
    let Err(problem) = Server::open(settings(&data)).await else { panic!("it opened") };
    assert!(matches!(problem, StartError::Notify(_)), "{problem}");
    let said = problem.to_string();
    assert!(said.contains("notify.toml:3:1: unknown field `sever`"), "{said}");
    assert!(said.ends_with("  |\n3 | sever = \"x\"\n  | ^^^^^"), "{said}");
}
