//! The HTTP sinks against real HTTP servers on local ports: what arrives, and what each answer means.

use std::time::Duration;

use assay_model::{Finding, Micros, Severity};
use assay_notify::{About, DeliveryError, Fate, Notification, Settings, Sink, signature};
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const NOW: Micros = Micros::seconds(1_795_253_400);

fn held() -> Notification {
    let finding = Finding::new(
        "DimmMissing",
        Severity::Critical,
        "slot DIMM_B1 is empty – größer",
        "Reseat the module.",
    )
    .part("dimm", Some("DIMM_B1"), None);
    Notification {
        id: "0199-run:RunHeld:7".into(),
        event: "RunHeld".into(),
        at: NOW,
        payload: json!({ "run": 12, "host": "web-3", "hold_until": 1_795_339_800_000_000_i64 }),
        about: About {
            profile: Some("standard".into()),
            stage: Some("SpecValidate".into()),
            findings: vec![finding],
            ..About::default()
        },
        base_url: Some("https://assay.example.net".into()),
    }
}

fn sink(kind: &str, keys: &str) -> Sink {
    let text = format!("[[{kind}]]\nname = \"s\"\nallow_internal = true\n{keys}");
    Settings::parse(&text, "notify.toml".as_ref()).unwrap_or_else(|e| panic!("{e}")).sinks.remove(0)
}

async fn server(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

async fn only(server: &MockServer) -> Request {
    let mut received = server.received_requests().await.expect("recorded");
    assert_eq!(received.len(), 1);
    received.remove(0)
}

fn text(request: &Request, name: &str) -> String {
    request.headers.get(name).map(|v| v.to_str().expect("text").to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn a_webhook_gets_signed_json_with_words_and_facts() {
    let server = server(ResponseTemplate::new(200)).await;
    let key = "a secret that nobody can guess";
    let hook = sink("webhook", &format!("url = \"{}/hook\"\nsecret = \"{key}\"\n", server.uri()));
    assert_eq!(hook.deliver(&held(), NOW).await.expect("taken"), "accepted");
    let request = only(&server).await;
    assert_eq!((request.method.as_str(), request.url.path()), ("POST", "/hook"));
    assert_eq!(text(&request, "content-type"), "application/json");
    for name in ["idempotency-key", "webhook-id"] {
        assert_eq!(text(&request, name), "0199-run:RunHeld:7");
    }
    assert_eq!(text(&request, "webhook-timestamp"), "1795253400");
    let signed = text(&request, "webhook-signature");
    assert_eq!(signed, signature(key.as_bytes(), "0199-run:RunHeld:7", 1_795_253_400, &request.body));
    let body: Value = request.body_json().expect("JSON");
    assert_eq!(body["findings"][0]["code"], "DimmMissing");
    assert_eq!(body["findings"][0]["part"]["location"], "DIMM_B1");
    assert_eq!((&body["level"], &body["stage"]), (&json!("urgent"), &json!("SpecValidate")));
    assert_eq!(body["at"], "2026-11-21T09:30:00.000Z");
    assert_eq!(body["payload"]["run"], 12);
    assert!(
        body["text"].as_str().expect("text").starts_with("web-3 failed run 12 at SpecValidate [DimmMissing]")
    );

    // A later try has the same id and a time of its own: a recorded request is of no use by then.
    let later = NOW.plus(Micros::seconds(600));
    hook.deliver(&held(), later).await.expect("taken");
    let second = server.received_requests().await.expect("recorded").remove(1);
    assert_eq!(text(&second, "webhook-id"), "0199-run:RunHeld:7");
    assert_eq!(text(&second, "webhook-timestamp"), "1795254000");
    assert_ne!(text(&second, "webhook-signature"), signed);
}

#[tokio::test]
async fn a_topic_gets_title_priority_tags_and_click() {
    let server = server(ResponseTemplate::new(200)).await;
    let keys = format!("server = \"{}/base\"\ntopic = \"rack7\"\ntoken = \"tk_x\"\n", server.uri());
    sink("ntfy", &keys).deliver(&held(), NOW).await.expect("published");
    let request = only(&server).await;
    assert_eq!((request.method.as_str(), request.url.path()), ("POST", "/base/rack7"));
    for (name, value) in [
        ("authorization", "Bearer tk_x"),
        ("title", "web-3: failed at SpecValidate, held for a decision"),
        ("priority", "4"),
        ("tags", "rotating_light,RunHeld"),
        ("click", "https://assay.example.net/runs/12"),
    ] {
        assert_eq!(text(&request, name), value);
    }
    let body = String::from_utf8(request.body).expect("text");
    assert!(body.contains("slot DIMM_B1 is empty – größer") && body.ends_with("/runs/12"), "{body}");
}

#[tokio::test]
async fn a_room_gets_a_message_whose_transaction_is_the_delivery() {
    let server = server(ResponseTemplate::new(200).set_body_json(json!({ "event_id": "$1" }))).await;
    let keys = format!("homeserver = \"{}\"\nroom = \"!abc:example.net\"\ntoken = \"syt_x\"\n", server.uri());
    let room = sink("matrix", &keys);
    room.deliver(&held(), NOW).await.expect("accepted");
    room.deliver(&held(), NOW.plus(Micros::seconds(60))).await.expect("accepted");
    let received = server.received_requests().await.expect("recorded");
    assert_eq!(received[0].url, received[1].url, "a repeat is the same transaction");
    assert_eq!(received[0].method.as_str(), "PUT");
    assert_eq!(
        received[0].url.path(),
        "/_matrix/client/v3/rooms/!abc:example.net/send/m.room.message/0199-run:RunHeld:7"
    );
    assert_eq!(text(&received[0], "authorization"), "Bearer syt_x");
    let body: Value = received[0].body_json().expect("JSON");
    assert_eq!((&body["msgtype"], &body["format"]), (&json!("m.text"), &json!("org.matrix.custom.html")));
    let html = body["formatted_body"].as_str().expect("text");
    assert!(html.contains("<a href=\"https://assay.example.net/runs/12\">"), "{html}");
}

#[tokio::test]
async fn templates_choose_the_words() {
    let server = server(ResponseTemplate::new(200)).await;
    let keys = format!(
        "server = \"{}\"\ntopic = \"t\"\ntitle = \"{{{{ host }}}} {{{{ codes|join(',') }}}}\"\nbody = \"{{{{ next_step }}}} {{{{ link }}}}\"\n",
        server.uri()
    );
    sink("ntfy", &keys).deliver(&held(), NOW).await.expect("published");
    let request = only(&server).await;
    assert_eq!(text(&request, "title"), "web-3 DimmMissing");
    assert_eq!(request.body, b"Reseat the module. https://assay.example.net/runs/12");
}

#[tokio::test]
async fn every_answer_has_its_consequence() {
    for (status, fate) in
        [(400, Fate::Never), (401, Fate::Never), (500, Fate::Later { after: None }), (504, Fate::Unclear)]
    {
        let server = server(ResponseTemplate::new(status).set_body_string("no\u{1b}[2J")).await;
        let hook = sink("webhook", &format!("url = \"{}\"\n", server.uri()));
        let refused = hook.deliver(&held(), NOW).await.expect_err("refused");
        assert_eq!(hook.fate(&refused), fate, "{status}");
        let said = refused.to_string();
        assert!(said.contains(&format!("answered {status}: no\u{fffd}[2J")), "{said}");
    }
    let busy = server(ResponseTemplate::new(429).insert_header("Retry-After", "120")).await;
    let hook = sink("webhook", &format!("url = \"{}\"\n", busy.uri()));
    let refused = hook.deliver(&held(), NOW).await.expect_err("refused");
    assert_eq!(hook.fate(&refused), Fate::Later { after: Some(Duration::from_mins(2)) });
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let inside = server(ResponseTemplate::new(200)).await;
    let outside = server(ResponseTemplate::new(302).insert_header("Location", inside.uri())).await;
    let hook = sink("webhook", &format!("url = \"{}\"\n", outside.uri()));
    let refused = hook.deliver(&held(), NOW).await.expect_err("not followed");
    assert_eq!(hook.fate(&refused), Fate::Never);
    assert!(refused.to_string().contains("redirects are not followed"), "{refused}");
    assert!(inside.received_requests().await.expect("recorded").is_empty());
}

#[tokio::test]
async fn a_receiver_that_breaks_off_may_have_understood() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let breaks_off = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            // Reads something, then hangs up without a word.
            let mut some = [0; 64];
            tokio::io::AsyncReadExt::read(&mut stream, &mut some).await.expect("a request");
        }
    });
    let plain = sink("webhook", &format!("url = \"{url}\"\n"));
    let cut = plain.deliver(&held(), NOW).await.expect_err("no answer");
    assert!(matches!(cut, DeliveryError::Cut { .. }), "{cut:?}");
    assert_eq!(plain.fate(&cut), Fate::Unclear);
    let careful = sink("webhook", &format!("url = \"{url}\"\ndeduplicates = true\n"));
    let cut = careful.deliver(&held(), NOW).await.expect_err("no answer");
    assert_eq!(careful.fate(&cut), Fate::Later { after: None });
    breaks_off.await.expect("it broke off twice");
}

#[tokio::test]
async fn internal_addresses_are_refused_by_number_and_by_name() {
    let inside = server(ResponseTemplate::new(200)).await;
    let port = inside.address().port();
    let urls = [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://0x7f.1:{port}/"),
        format!("http://2130706433:{port}/"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "http://10.0.0.1/".to_owned(),
    ];
    for url in urls {
        let hook = Sink::webhook("s", &url, false).expect("an address");
        let refused = hook.deliver(&held(), NOW).await.expect_err("refused");
        assert!(matches!(refused, DeliveryError::Internal { .. }), "{url}: {refused:?}");
        assert_eq!(hook.fate(&refused), Fate::Never);
    }
    assert!(inside.received_requests().await.expect("recorded").is_empty());
    assert!(Sink::webhook("s", "file:///etc/passwd", true).is_err());
}
