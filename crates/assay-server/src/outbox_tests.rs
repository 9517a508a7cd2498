//! The outbox over a real store and real HTTP receivers, with a clock that the test moves.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};

use assay_model::{Micros, RunId};
use assay_notify::{Settings, signature};
use assay_testkit::Bench;
use socket2::{Domain, Socket, Type};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers};

use super::*;

const MINUTE: Micros = Micros::seconds(60);
const KEY: &str = "a secret that nobody can guess";

/// A bench whose first run has started: one notification waits.
async fn news() -> (Bench, RunId) {
    let bench = Bench::new().await;
    let run = bench.vet().await;
    assert_eq!(bench.news(run).await, ["RunStarted"]);
    (bench, run)
}

fn sinks(toml: &str) -> Sinks {
    let settings = Settings::parse(toml, "notify.toml".as_ref()).expect("valid");
    Sinks { file: "notify.toml".into(), file_exists: true, base_url: settings.base_url, all: settings.sinks }
}

/// One webhook.
fn hook(url: &str, more: &str) -> Sinks {
    sinks(&format!(
        "base_url = \"https://assay.example.net\"\n[[webhook]]\nname = \"ops\"\nurl = \"{url}\"\nallow_internal = true\n{more}"
    ))
}

async fn turn(bench: &Bench, sinks: &Sinks) -> Option<OutboxState> {
    route(&bench.engine, sinks).await.expect("routed");
    send_one(&bench.engine, &sinks.all[0], sinks.base_url.as_deref()).await.expect("worked off")
}

async fn state(bench: &Bench, run: RunId) -> (OutboxState, String) {
    let row = bench.outbox(run).await.remove(0);
    (row.state, row.message.unwrap_or_default())
}

async fn answering(status: u16) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(matchers::any()).respond_with(ResponseTemplate::new(status)).mount(&server).await;
    server
}

/// A port that refuses connections until it is told to listen, and that nobody else can get.
struct Port(Socket);

impl Port {
    fn reserve() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
        Self(socket)
    }

    fn url(&self) -> String {
        let address = self.0.local_addr().expect("bound").as_socket().expect("an IP address");
        format!("http://{address}/hook")
    }

    fn listen(self) -> TcpListener {
        self.0.listen(16).expect("listens");
        self.0.into()
    }
}

#[tokio::test]
async fn a_sink_that_is_down_for_an_hour_is_told_once_when_it_is_back() {
    let (bench, run) = news().await;
    let port = Port::reserve();
    let sinks = hook(&port.url(), "");
    let mut tries = 0;
    for _ in 0..60 {
        tries += usize::from(turn(&bench, &sinks).await == Some(OutboxState::Pending));
        bench.clock.advance(MINUTE);
    }
    assert_eq!(tries, 7, "30 s, 1 min, 2 min … apart");
    let (waits, why) = state(&bench, run).await;
    assert_eq!(waits, OutboxState::Pending);
    assert!(why.contains("could not be reached"), "{why}");

    let server = MockServer::builder().listener(port.listen()).start().await;
    Mock::given(matchers::method("POST")).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    let mut told = Vec::new();
    for _ in 0..180 {
        told.extend(turn(&bench, &sinks).await);
        bench.clock.advance(MINUTE);
    }
    assert_eq!(told, [OutboxState::Sent], "once, and never again");
    let received = server.received_requests().await.expect("recorded");
    assert_eq!(received.len(), 1);
    let body: Value = received[0].body_json().expect("JSON");
    assert_eq!(
        (&body["event"], &body["run"], &body["host"]),
        (&"RunStarted".into(), &1.into(), &"web-3".into())
    );
    assert_eq!(body["link"], "https://assay.example.net/runs/1");
    assert_eq!(body["payload"].get(ABOUT), None, "the facts are told in their own fields");
    assert_eq!(body["profile"], "standard");
    assert_eq!(state(&bench, run).await.0, OutboxState::Sent);
}

#[tokio::test]
async fn news_of_an_hour_without_the_sink_comes_once_and_in_order_also_after_a_restart() {
    let mut bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    let port = Port::reserve();
    let sinks = hook(&port.url(), "");
    let minutes = async |bench: &Bench, count: u32| {
        for _ in 0..count {
            while turn(bench, &sinks).await.is_some() {}
            bench.clock.advance(MINUTE);
        }
    };
    // The first is tried and put off again and again before the others come up, so their pauses end at other times.
    minutes(&bench, 20).await;
    bench.up_to(&agent, "SpecValidate").await;
    let evidence = serde_json::to_value(assay_testkit::canned::swapped_disk()).expect("plain data");
    bench.collect(&agent, "SpecValidate", &evidence).await;
    minutes(&bench, 25).await;
    bench.restart().await;
    let left = bench.engine.store().outbox_stuck(&[("ops", false)], bench.engine.now()).await.expect("read");
    assert_eq!(left, [], "nothing was under way");
    bench.decide(run, assay_model::DecisionKind::Abandon, "no spare").await.expect("held");
    minutes(&bench, 20).await;
    let news: Vec<String> = bench.outbox(run).await.into_iter().map(|row| row.outgoing.event).collect();
    assert!(news.len() >= 4 && news[0] == "RunStarted" && news.contains(&"Decided".to_owned()), "{news:?}");

    let server = MockServer::builder().listener(port.listen()).start().await;
    Mock::given(matchers::method("POST")).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    minutes(&bench, 180).await;
    let received = server.received_requests().await.expect("recorded");
    let events: Vec<String> = received
        .iter()
        .map(|request| {
            request.body_json::<Value>().expect("JSON")["event"].as_str().expect("text").to_owned()
        })
        .collect();
    assert_eq!(events, news);
}

#[tokio::test]
async fn one_piece_of_news_that_is_never_taken_holds_up_no_other() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    let server = MockServer::start().await;
    let poison =
        Mock::given(matchers::body_string_contains("RunStarted")).respond_with(ResponseTemplate::new(500));
    poison.with_priority(1).mount(&server).await;
    Mock::given(matchers::any()).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    let sinks = hook(&format!("{}/hook", server.uri()), "");
    assert_eq!(turn(&bench, &sinks).await, Some(OutboxState::Pending));
    bench.clock.advance(Micros::seconds(1));
    bench.up_to(&agent, "SpecValidate").await;
    let evidence = serde_json::to_value(assay_testkit::canned::swapped_disk()).expect("plain data");
    bench.collect(&agent, "SpecValidate", &evidence).await;
    while turn(&bench, &sinks).await.is_some() {}
    let states: Vec<_> = bench.outbox(run).await.into_iter().map(|row| row.state).collect();
    assert_eq!(states[0], OutboxState::Pending);
    assert!(states.len() > 2 && states[1..].iter().all(|state| *state == OutboxState::Sent), "{states:?}");
}

#[tokio::test]
async fn after_three_days_it_is_given_up_and_says_so() {
    let (bench, run) = news().await;
    let port = Port::reserve();
    let sinks = hook(&port.url(), "");
    let mut ended = None;
    for _ in 0..(3 * 24 + 2) {
        ended = turn(&bench, &sinks).await.or(ended);
        bench.clock.advance(Micros::seconds(3600));
    }
    assert_eq!(ended, Some(OutboxState::Failed));
    let (failed, why) = state(&bench, run).await;
    assert_eq!(failed, OutboxState::Failed);
    assert!(why.starts_with("ops: given up after three days: "), "{why}");
}

#[tokio::test]
async fn a_refusal_for_good_is_not_repeated_and_one_for_now_is() {
    let (bench, run) = news().await;
    let gone = answering(404).await;
    assert_eq!(turn(&bench, &hook(&gone.uri(), "")).await, Some(OutboxState::Failed));
    bench.clock.advance(Micros::seconds(7200));
    assert_eq!(turn(&bench, &hook(&gone.uri(), "")).await, None);
    assert_eq!(gone.received_requests().await.expect("recorded").len(), 1);
    let why = state(&bench, run).await.1;
    assert!(why.contains("answered 404; check the sink's address"), "{why}");

    let (bench, run) = news().await;
    let busy = answering(503).await;
    let sinks = hook(&busy.uri(), "");
    assert_eq!(turn(&bench, &sinks).await, Some(OutboxState::Pending));
    assert_eq!(turn(&bench, &sinks).await, None, "not at once");
    busy.reset().await;
    Mock::given(matchers::any()).respond_with(ResponseTemplate::new(200)).mount(&busy).await;
    bench.clock.advance(MINUTE);
    assert_eq!(turn(&bench, &sinks).await, Some(OutboxState::Sent));
    assert_eq!(state(&bench, run).await.0, OutboxState::Sent);
}

/// A receiver that checks signatures, as one should.
struct Checks(&'static str);

impl Respond for Checks {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let header = |name: &str| request.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let timestamp = header("webhook-timestamp").parse().unwrap_or_default();
        let right = signature(self.0.as_bytes(), header("webhook-id"), timestamp, &request.body);
        ResponseTemplate::new(if right == header("webhook-signature") { 200 } else { 401 })
    }
}

#[tokio::test]
async fn the_wrong_secret_is_refused_and_named() {
    let server = MockServer::start().await;
    Mock::given(matchers::any()).respond_with(Checks(KEY)).mount(&server).await;

    let (bench, run) = news().await;
    let right = hook(&server.uri(), &format!("secret = \"{KEY}\""));
    assert_eq!(turn(&bench, &right).await, Some(OutboxState::Sent), "{:?}", state(&bench, run).await);

    let (bench, run) = news().await;
    let wrong = hook(&server.uri(), "secret = \"a secret that somebody guessed\"");
    assert_eq!(turn(&bench, &wrong).await, Some(OutboxState::Failed));
    let why = state(&bench, run).await.1;
    assert!(why.contains("answered 401; check the sink's secret"), "{why}");

    let (bench, _) = news().await;
    assert_eq!(turn(&bench, &hook(&server.uri(), "")).await, Some(OutboxState::Failed), "unsigned");
}

#[tokio::test]
async fn an_internal_address_is_refused_before_anything_is_sent() {
    let (bench, run) = news().await;
    let server = answering(200).await;
    let url = server.uri().replace("127.0.0.1", "localhost");
    for url in [server.uri(), url] {
        let refused = sinks(&format!("[[webhook]]\nname = \"ops\"\nurl = \"{url}\"\n"));
        let told = turn(&bench, &refused).await;
        assert!(matches!(told, Some(OutboxState::Failed) | None), "{told:?}");
    }
    let why = state(&bench, run).await.1;
    assert!(why.contains("is an internal address (127.0.0.1)") && why.contains("allow_internal"), "{why}");
    assert!(server.received_requests().await.expect("recorded").is_empty());
}

#[tokio::test]
async fn after_a_crash_while_sending_only_a_sink_that_drops_repeats_is_told_again() {
    for (more, expected) in [("", None), ("deduplicates = true", Some(OutboxState::Sent))] {
        let (mut bench, run) = news().await;
        let server = answering(200).await;
        let sinks = hook(&server.uri(), more);
        // The server claims, sends, and dies before it can write down that it did.
        route(&bench.engine, &sinks).await.expect("routed");
        let claimed = bench.engine.store().outbox_claim("ops", bench.engine.now()).await.expect("claimed");
        let sent = notification(claimed.expect("due"), None);
        sinks.all[0].deliver(&sent, bench.engine.now()).await.expect("taken");
        bench.restart().await;

        recover(&bench.engine, &sinks).await;
        assert_eq!(turn(&bench, &sinks).await, expected);
        let received = server.received_requests().await.expect("recorded");
        let ids: Vec<_> = received.iter().map(|r| r.headers["idempotency-key"].clone()).collect();
        if expected.is_some() {
            assert_eq!(ids.len(), 2);
            assert_eq!(ids[0], ids[1], "the receiver can tell that it is the same");
            assert_eq!(state(&bench, run).await.0, OutboxState::Sent);
        } else {
            assert_eq!(ids.len(), 1, "never a second time");
            let (unknown, why) = state(&bench, run).await;
            assert_eq!(unknown, OutboxState::Unknown);
            assert!(why.contains("may have arrived"), "{why}");
        }
    }
}

#[tokio::test]
async fn a_sink_that_hears_only_some_events_is_not_told_the_others() {
    let (bench, run) = news().await;
    let server = answering(200).await;
    let sinks = hook(&server.uri(), "events = [\"RunHeld\"]");
    assert_eq!(turn(&bench, &sinks).await, None);
    assert_eq!(state(&bench, run).await, (OutboxState::Sent, "no sink wants it".to_owned()));
    assert!(server.received_requests().await.expect("recorded").is_empty());
}

/// Says that a request is here, then takes its time.
struct Slow(Arc<tokio::sync::Notify>, Arc<AtomicBool>);

impl Respond for Slow {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        self.1.store(true, Ordering::SeqCst);
        self.0.notify_one();
        ResponseTemplate::new(200).set_delay(Duration::from_millis(300))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_waits_for_what_is_being_sent() {
    let (bench, run) = news().await;
    let (here, was_here) = (Arc::new(tokio::sync::Notify::new()), Arc::new(AtomicBool::new(false)));
    let server = MockServer::start().await;
    Mock::given(matchers::any())
        .respond_with(Slow(Arc::clone(&here), Arc::clone(&was_here)))
        .mount(&server)
        .await;
    let outbox = Outbox::start(&bench.engine, &Arc::new(hook(&server.uri(), "")));
    here.notified().await;
    outbox.stop(Duration::from_secs(20)).await;
    assert!(was_here.load(Ordering::SeqCst));
    assert_eq!(state(&bench, run).await.0, OutboxState::Sent, "not in doubt");
}

/// What a held run's news says, with the sink's own words.
async fn words(bench: &Bench, sinks: &Sinks, event: &str) -> (String, About) {
    loop {
        let claimed = bench.engine.store().outbox_claim("ops", bench.engine.now()).await.expect("claimed");
        let news = notification(claimed.unwrap_or_else(|| panic!("no {event}")), sinks.base_url.as_deref());
        if news.event == event {
            return (sinks.all[0].words(&news).body, news.about);
        }
    }
}

#[tokio::test]
async fn a_sink_that_comes_back_late_is_told_what_was_the_case() {
    let bench = Bench::new().await;
    let (run, agent) = bench.running().await;
    bench.up_to(&agent, "SpecValidate").await;
    let evidence = serde_json::to_value(assay_testkit::canned::swapped_disk()).expect("plain data");
    bench.collect(&agent, "SpecValidate", &evidence).await;
    assert_eq!(bench.news(run).await, ["RunStarted", "SpecMismatch", "RunHeld"]);

    let sinks = hook("http://127.0.0.1:9/", "");
    route(&bench.engine, &sinks).await.expect("routed");
    // Meanwhile somebody waives the failure: nothing is held any more.
    bench.decide(run, assay_model::DecisionKind::Waive, "it is the spare").await.expect("decided");
    let (told, about) = words(&bench, &sinks, "RunHeld").await;
    assert_eq!(about.stage.as_deref(), Some("SpecValidate"));
    let codes: Vec<_> = about.findings.iter().map(|f| f.code.as_str()).collect();
    assert!(!codes.is_empty() && about.findings[0].severity == assay_model::Severity::Critical, "{about:?}");
    let sentence = told.lines().next().expect("a sentence");
    assert!(sentence.starts_with("web-3 failed run 1 at SpecValidate ["), "{sentence}");
    assert!(sentence.contains(codes[0]) && sentence.contains("and is held until "), "{sentence}");
    assert!(told.ends_with("\nhttps://assay.example.net/runs/1"), "{told}");
    route(&bench.engine, &sinks).await.expect("routed");
    let (decided, about) = words(&bench, &sinks, "Decided").await;
    assert!(
        decided.starts_with("jonas decided on run 1 of web-3 at SpecValidate: waive: it is the spare"),
        "{decided}"
    );
    assert!(about.findings.is_empty());
}
