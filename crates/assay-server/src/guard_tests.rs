//! The guard against a cluster that answers over real TLS, and its judgement of what clusters say.

use std::net::SocketAddr;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use serde_json::json;

use super::*;

const TOKEN: &str = "assay@pve!guard=11111111-2222-3333-4444-555555555555";

/// pve1 is asked; pve3 is as given in both lists.
fn lists(online: i64, status: &str) -> (Value, Value) {
    (
        json!({"data": [
            {"type": "cluster", "name": "c", "quorate": 1, "nodes": 2},
            {"type": "node", "name": "pve1", "online": 1, "local": 1},
            {"type": "node", "name": "pve3", "online": online, "local": 0}]}),
        json!({"data": [{"node": "pve1", "status": "online"}, {"node": "pve3", "status": status}]}),
    )
}

fn said(lists: &(Value, Value), node: &str) -> Result<GuardAnswer, String> {
    answer(node, &lists.0, &lists.1)
}

#[test]
fn a_node_is_let_go_only_by_a_whole_answer() {
    let node = || "pve3".to_owned();
    assert_eq!(said(&lists(0, "offline"), "pve3"), Ok(GuardAnswer::Offline { node: node() }));
    assert_eq!(said(&lists(0, "offline"), "pve9"), Ok(GuardAnswer::NotMember { node: "pve9".to_owned() }));
    for online in [lists(1, "online"), lists(1, "offline"), lists(0, "online"), lists(1, "unknown")] {
        assert_eq!(said(&online, "pve3"), Ok(GuardAnswer::Live { node: node() }));
    }
    assert!(matches!(said(&lists(1, "online"), "PVE3"), Ok(GuardAnswer::Live { .. })), "names know no case");
    assert!(matches!(said(&lists(0, "offline"), "pve1"), Ok(GuardAnswer::Live { .. })), "it answered itself");
    assert!(said(&lists(0, "unknown"), "pve3").is_err());
}

/// What is done to the two lists, members and nodes.
type Spoil = fn(&mut (Value, Value));

#[test]
fn an_answer_that_may_be_old_or_short_lets_nobody_go() {
    let change = |change: Spoil| {
        let mut lists = lists(0, "offline");
        change(&mut lists);
        lists
    };
    let cases: [(&str, Spoil); 7] = [
        ("no quorum", |lists| lists.0["data"][0]["quorate"] = 0.into()),
        ("no word on quorum", |lists| lists.0["data"][0]["quorate"] = Value::Null),
        ("no cluster", |lists| lists.0["data"][0] = json!({})),
        ("a node more than is listed", |lists| lists.0["data"][0]["nodes"] = 3.into()),
        ("a list that is shortened", |lists| lists.1["data"] = json!([{"node": "pve1", "status": "online"}])),
        ("no list", |lists| lists.1 = json!({"data": null})),
        ("no status", |lists| lists.0 = json!("x")),
    ];
    for (what, spoil) in cases {
        for node in ["pve3", "pve9"] {
            assert!(said(&change(spoil), node).is_err(), "{what}: {node}");
        }
    }
    let gone = change(|lists| lists.0["data"] = json!([]));
    assert!(said(&gone, "pve3").is_err());
}

#[test]
fn tokens_are_read_line_by_line_and_go_nowhere_else() {
    let tokens = ClusterTokens::parse(&format!("# ours\n\nhttps://pve1:8006 {TOKEN}\n")).expect("reads");
    let of = |url: &str| tokens.for_address(&Url::parse(url).expect("a URL")).map(str::to_owned);
    assert_eq!(of("https://pve1:8006/").as_deref(), Some(TOKEN));
    assert_eq!(of("https://PVE1:8006/x").as_deref(), Some(TOKEN));
    assert_eq!((of("https://pve2:8006"), of("https://pve1:443")), (None, None));
    assert!(!format!("{tokens:?}").contains("1111"), "a secret is not printed");
    for wrong in [
        "https://pve1",
        "http://pve1:8006 a@b!c=d",
        "https://pve1 a@b=d",
        "https://pve1 a@b!c=",
        "pve1 a@b!c=d",
    ] {
        let problem = ClusterTokens::parse(wrong).expect_err(wrong);
        assert!(problem.to_string().starts_with("line 1 "), "{problem}");
    }
}

/// A cluster's API over TLS with a certificate of its own.
struct Cluster {
    address: SocketAddr,
    fingerprint: String,
    handle: Handle<SocketAddr>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

async fn cluster(lists: (Value, Value)) -> Cluster {
    let _ = CryptoProvider::install_default(ring::default_provider());
    let made = rcgen::generate_simple_self_signed(vec!["pve1".to_owned()]).expect("a certificate");
    let fingerprint = Sha256::of(made.cert.der()).to_string();
    let key = made.signing_key.serialize_pem();
    let tls = RustlsConfig::from_pem(made.cert.pem().into_bytes(), key.into_bytes()).await.expect("TLS");
    let allowed = |headers: &HeaderMap, body: Value| {
        let token = headers.get("authorization").and_then(|value| value.to_str().ok());
        match token {
            Some(token) if token == format!("PVEAPIToken={TOKEN}") => Ok(axum::Json(body)),
            _ => Err(StatusCode::UNAUTHORIZED),
        }
    };
    let (status, nodes) = lists;
    let app = Router::new()
        .route("/api2/json/cluster/status", get(async move |headers: HeaderMap| allowed(&headers, status)))
        .route("/api2/json/nodes", get(async move |headers: HeaderMap| allowed(&headers, nodes)));
    let handle = Handle::new();
    let server = axum_server::bind_rustls(SocketAddr::from(([127, 0, 0, 1], 0)), tls).handle(handle.clone());
    tokio::spawn(server.serve(app.into_make_service()));
    let address = handle.listening().await.expect("it listens");
    Cluster { address, fingerprint, handle }
}

async fn ask(cluster: &Cluster, fingerprint: Option<String>, token: &str) -> GuardAnswer {
    let url = format!("https://{}", cluster.address);
    let tokens = ClusterTokens::parse(&format!("{url} {token}")).expect("reads");
    let member = ProxmoxMember { url, node: "pve3".to_owned(), fingerprint };
    ProxmoxGuard::new(tokens).ask(&member).await
}

fn why(answer: GuardAnswer) -> String {
    match answer {
        GuardAnswer::Unreachable { why, .. } => why,
        other => panic!("it could not have been asked, and said {other:?}"),
    }
}

#[tokio::test]
async fn a_cluster_is_asked_over_tls_with_the_token() {
    let offline = cluster(lists(0, "offline")).await;
    let pin = || Some(offline.fingerprint.clone());
    assert_eq!(ask(&offline, pin(), TOKEN).await, GuardAnswer::Offline { node: "pve3".to_owned() });
    let colons: Vec<String> = offline
        .fingerprint
        .to_uppercase()
        .as_bytes()
        .chunks(2)
        .map(|two| String::from_utf8_lossy(two).into_owned())
        .collect();
    assert!(ask(&offline, Some(colons.join(":")), TOKEN).await.allows());
    let live = cluster(lists(1, "online")).await;
    assert_eq!(
        ask(&live, Some(live.fingerprint.clone()), TOKEN).await,
        GuardAnswer::Live { node: "pve3".to_owned() }
    );
}

#[tokio::test]
async fn whoever_cannot_be_asked_lets_nobody_go() {
    let cluster = cluster(lists(0, "offline")).await;
    let pin = || Some(cluster.fingerprint.clone());
    let refused = why(ask(&cluster, pin(), "assay@pve!guard=wrong").await);
    assert!(refused.contains("401"), "{refused}");
    why(ask(&cluster, Some("00".repeat(32)), TOKEN).await);
    why(ask(&cluster, None, TOKEN).await);
    let short = why(ask(&cluster, Some("abc".to_owned()), TOKEN).await);
    assert!(short.contains("64 hexadecimal digits"), "{short}");

    let url = format!("https://{}", cluster.address);
    let member = ProxmoxMember { url, node: "pve3".to_owned(), fingerprint: pin() };
    let without = why(ProxmoxGuard::default().ask(&member).await);
    assert!(without.contains("no token for this address"), "{without}");
    let plain = ProxmoxMember { url: format!("http://{}", cluster.address), ..member.clone() };
    assert!(why(ProxmoxGuard::default().ask(&plain).await).contains("https://"));

    let address = cluster.address;
    let member = ProxmoxMember { url: format!("https://{address}"), ..member };
    cluster.handle.shutdown();
    let tokens = ClusterTokens::parse(&format!("https://{address} {TOKEN}")).expect("reads");
    why(ProxmoxGuard::new(tokens).ask(&member).await);
}
