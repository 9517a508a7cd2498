//! The guard against a cluster that answers over real TLS, and its judgement of what clusters say.

use assay_testkit::ProxmoxCluster;
use serde_json::json;

use super::*;

const TOKEN: &str = ProxmoxCluster::TOKEN;

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

async fn ask(cluster: &ProxmoxCluster, fingerprint: Option<String>, token: &str) -> GuardAnswer {
    let _ = CryptoProvider::install_default(ring::default_provider());
    let url = cluster.url();
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
    let cluster = ProxmoxCluster::start("pve3").await;
    let pin = || Some(cluster.fingerprint().to_owned());
    assert_eq!(ask(&cluster, pin(), TOKEN).await, GuardAnswer::Offline { node: "pve3".to_owned() });
    let colons: Vec<String> = cluster
        .fingerprint()
        .to_uppercase()
        .as_bytes()
        .chunks(2)
        .map(|two| String::from_utf8_lossy(two).into_owned())
        .collect();
    assert!(ask(&cluster, Some(colons.join(":")), TOKEN).await.allows());
    cluster.set_online(true);
    assert_eq!(ask(&cluster, pin(), TOKEN).await, GuardAnswer::Live { node: "pve3".to_owned() });
}

#[tokio::test]
async fn whoever_cannot_be_asked_lets_nobody_go() {
    let cluster = ProxmoxCluster::start("pve3").await;
    let pin = || Some(cluster.fingerprint().to_owned());
    let refused = why(ask(&cluster, pin(), "assay@pve!guard=wrong").await);
    assert!(refused.contains("401"), "{refused}");
    why(ask(&cluster, Some("00".repeat(32)), TOKEN).await);
    why(ask(&cluster, None, TOKEN).await);
    let short = why(ask(&cluster, Some("abc".to_owned()), TOKEN).await);
    assert!(short.contains("64 hexadecimal digits"), "{short}");

    let url = cluster.url();
    let member = ProxmoxMember { url: url.clone(), node: "pve3".to_owned(), fingerprint: pin() };
    let without = why(ProxmoxGuard::default().ask(&member).await);
    assert!(without.contains("no token for this address"), "{without}");
    let plain = ProxmoxMember { url: url.replace("https://", "http://"), ..member.clone() };
    assert!(why(ProxmoxGuard::default().ask(&plain).await).contains("https://"));

    drop(cluster);
    let tokens = ClusterTokens::parse(&format!("{url} {TOKEN}")).expect("reads");
    why(ProxmoxGuard::new(tokens).ask(&member).await);
}
