//! What is too much, too slow, or not HTTP at all.

use std::fmt::Write as _;

use assay_standin::{Config, Limits, Listen, StandIn, TroubleKind};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::bench::{Http, Machine, PATIENCE, TOKEN, config, stand_in, start};

fn limited(limits: Limits) -> Config {
    Config { limits, ..config() }
}

async fn connect(standin: &StandIn) -> TcpStream {
    let url = standin.url().expect("an address");
    TcpStream::connect(url.trim_start_matches("http://")).await.expect("connected")
}

/// Sends bytes and reads whatever comes until the other side is done; a reset is an end like any other.
async fn say(standin: &StandIn, bytes: &[u8]) -> String {
    let mut stream = connect(standin).await;
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(PATIENCE, reading).await.expect("an end");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn rubbish_is_answered_400_and_recorded_and_the_next_one_is_served() {
    let standin = stand_in().await;
    for rubbish in [
        &b"hello there\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    ] {
        let answer = say(&standin, rubbish).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(100_000));
    assert!(say(&standin, long.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    let mut many = String::from("GET / HTTP/1.1\r\n");
    for n in 0..200 {
        let _ = write!(many, "x{n}: x\r\n");
    }
    assert!(say(&standin, format!("{many}\r\n").as_bytes()).await.starts_with("HTTP/1.1 431 "));

    let troubles = standin
        .wait_for(PATIENCE, |ledger| (ledger.troubles.len() >= 5).then(|| ledger.troubles.clone()))
        .await
        .expect("each is in the ledger");
    let kinds: Vec<_> = troubles.iter().map(|it| (it.kind, it.answered)).collect();
    let (not_http, too_large) =
        ((TroubleKind::NotHttp, Some(400)), (TroubleKind::HeadersTooLarge, Some(431)));
    assert_eq!(kinds, [not_http, not_http, not_http, too_large, too_large]);
    assert_eq!(Http::of(&standin).get("/user").await.status, 200);
}

#[tokio::test]
async fn git_bodies_that_are_none_are_refused_and_nothing_breaks() {
    let standin = stand_in().await;
    let http = Http::of(&standin);
    let post = async |service: &str, kind: &str, body: Vec<u8>| {
        let line = format!("POST /fleet/cluster.git/git-{service}-pack");
        let sent =
            http.request(&line).header("content-type", format!("application/x-git-{kind}-pack-request"));
        sent.body(body).send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(post("receive", "receive", b"rubbish".to_vec()).await, 400);
    assert_eq!(post("receive", "receive", Vec::new()).await, 400);
    assert_eq!(post("receive", "upload", b"0000".to_vec()).await, 415);
    let (a, b) = ("a".repeat(40), "b".repeat(40));
    let line = |n: usize| {
        let text = format!("{a} {b} refs/heads/x{n}");
        format!("{:04x}{text}", text.len() + 4)
    };
    let many: String = (0..200).map(line).collect();
    assert_eq!(post("receive", "receive", format!("{many}0000").into_bytes()).await, 400, "too many refs");
    let status = post("receive", "receive", format!("{}0000PACKrubbish", line(1)).into_bytes()).await;
    assert!(status == 200 || status == 500, "git itself refuses the pack: {status}");
    let status = post("upload", "upload", vec![0xff; 1000]).await;
    assert!((200..=599).contains(&status), "{status}");
    let ledger = standin.ledger();
    assert!(
        ledger.pushes.iter().all(|push| push.outcome != assay_standin::Outcome::Applied),
        "{:?}",
        ledger.pushes
    );
    assert_eq!(ledger.requests.len(), 6);
    Machine::cloned(&standin).await;
}

#[tokio::test]
async fn bodies_and_pushes_have_their_limits() {
    let standin = start(limited(Limits {
        body_bytes: 1000,
        push_bytes: 20_000,
        all_push_bytes: 16_000,
        ..Limits::default()
    }))
    .await;
    let http = Http::of(&standin);
    assert_eq!(
        http.send("POST /v1/nodes", format!("name: node-1\nx: {}\n", "x".repeat(900))).await.status,
        201
    );
    assert_eq!(http.send("POST /v1/nodes", "x".repeat(1001)).await.status, 413);
    assert_eq!(http.send("POST /v1/nodes", "x".repeat(100_000)).await.status, 413);

    let machine = Machine::cloned(&standin).await;
    // Not compressible, or the limit would say nothing.
    let noise = |count: u32| {
        (0..count).fold(String::new(), |mut text, n| {
            let _ = write!(text, "{:08x}", n.wrapping_mul(2_654_435_761));
            text
        })
    };
    let said = machine.push_new("large", "large", &noise(6000)).await;
    assert!(!said.ok && said.text.contains("413"), "{}", said.text);
    machine.git(&["reset", "--quiet", "--hard", "HEAD~1"]).await;
    assert!(machine.push_new("one", "one", &noise(2400)).await.ok);
    machine.git(&["reset", "--quiet", "--hard", "HEAD~1"]).await;
    let said = machine.push_new("two", "two", &noise(3000)[200..]).await;
    assert!(!said.ok && said.text.contains("507"), "{}", said.text);
    assert_eq!(standin.ledger().pushes.len(), 1);
    assert!(matches!(
        start(limited(Limits { file_bytes: 3, ..Limits::default() })).await.read("main", "README.md").await,
        Err(assay_standin::StandInError::TooLarge { limit: 3, .. })
    ));
}

#[tokio::test]
async fn a_client_that_stalls_is_let_go() {
    let standin = start(limited(Limits { header_s: 1, request_s: 1, ..Limits::default() })).await;
    let answer = say(&standin, b"GET /user HTTP/1.1\r\nhost: x\r\n").await;
    assert_eq!(answer, "", "headers that do not come are not answered");
    let trouble =
        standin.wait_for(PATIENCE, |ledger| ledger.troubles.first().cloned()).await.expect("trouble");
    assert_eq!(trouble.kind, TroubleKind::TooSlow);
    let head =
        format!("POST /v1/nodes HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 10\r\n\r\nabc");
    let answer = say(&standin, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let request = standin.look(|ledger| ledger.requests[0].clone());
    assert_eq!((request.status, request.bytes_in), (Some(408), 3));
}

#[tokio::test]
async fn a_client_that_goes_away_is_recorded() {
    let standin = stand_in().await;
    let mut stream = connect(&standin).await;
    let head =
        format!("POST /v1/nodes HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 10\r\n\r\nabc");
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.shutdown().await.expect("shut down");
    let request =
        standin.wait_for(PATIENCE, |ledger| ledger.requests.first().cloned()).await.expect("a request");
    assert_eq!(request.status, None);
    assert!(request.note.as_deref().is_some_and(|note| note.contains("went away")), "{request:?}");
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_recorded() {
    let standin = start(limited(Limits { connections: 2, ..Limits::default() })).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&standin).await;
        stream.write_all(b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        let mut first = [0; 1];
        stream.read_exact(&mut first).await.expect("an answer: this connection has its place");
        held.push(stream);
    }
    assert_eq!(say(&standin, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await, "");
    let trouble =
        standin.wait_for(PATIENCE, |ledger| ledger.troubles.first().cloned()).await.expect("trouble");
    assert_eq!(trouble.kind, TroubleKind::TooManyConnections);
}

#[tokio::test]
async fn a_full_ledger_takes_nothing_more_and_says_how_much_it_missed() {
    let standin = start(limited(Limits { ledger_bytes: 40_000, ..Limits::default() })).await;
    let http = Http::of(&standin);
    let mut refused = 0;
    for n in 0..20 {
        let text = format!("name: node-{n}\nx: {}\n", "x".repeat(2000));
        match http.send("POST /v1/nodes", text).await.status {
            201 => {}
            503 => refused += 1,
            other => panic!("{other}"),
        }
    }
    for _ in 0..200 {
        http.get("/nothing").await;
    }
    let ledger = standin.ledger();
    assert_eq!(ledger.registrations.len() + refused, 20, "what was answered 201 is there");
    assert!(refused > 0 && ledger.left_out > 0);
    assert!(serde_json::to_string(&ledger).expect("it serialises").len() < 60_000);
}

#[tokio::test]
async fn settings_that_cannot_work_say_what_to_do() {
    let cases: [(&str, Config); 8] = [
        ("owner", Config { owner: "../x".into(), ..config() }),
        ("email", Config { email: "a@b>\nx".into(), ..config() }),
        ("tokens", config().token("short", "abc")),
        ("tokens", config().token("installer", "another-s3cret")),
        ("seed", config().seed_file("../x", "")),
        ("listen", Config { listen: Vec::new(), ..config() }),
        ("listen", Config { listen: vec![Listen::Unix("x".repeat(200).into())], ..config() }),
        ("limits.header_bytes", limited(Limits { header_bytes: 10, ..Limits::default() })),
    ];
    for (field, config) in cases {
        let error = StandIn::start(config).await.expect_err("it does not start").to_string();
        assert!(error.starts_with(&format!("stand-in setting `{field}`")), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}
