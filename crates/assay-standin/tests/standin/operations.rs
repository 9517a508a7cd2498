//! What an operator does: merging, looking at the tree, taking a node out.

use assay_standin::{MergeKind, PullState, Refusal, StandInError, Who};
use serde_json::json;

use crate::bench::{Http, Machine, config, stand_in, start};

fn node(host: &str) -> String {
    format!("maintainers/ada/cluster-nodes/{host}/node.yaml")
}

async fn propose(http: &Http, branch: &str) {
    let body = json!({"title": format!("Register {branch}"), "head": branch, "base": "main"}).to_string();
    assert_eq!(http.send("POST /repos/fleet/cluster/pulls", body).await.status, 201);
}

fn refusal<T: std::fmt::Debug>(result: Result<T, StandInError>) -> Refusal {
    match result.expect_err("it is refused") {
        StandInError::Refused(refusal) => refusal,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn pull_requests_are_merged_by_moving_or_by_joining() {
    let standin = start(config().seed_file("charts/values.yaml", "a: 1\n")).await;
    let http = Http::of(&standin);
    let (first, second) = (Machine::cloned(&standin).await, Machine::cloned(&standin).await);
    assert!(first.push_new("one", &node("node-1"), "name: node-1\n").await.ok);
    assert!(second.push_new("two", &node("node-2"), "name: node-2\n").await.ok);
    let unproposed = refusal(standin.merge("one").await);
    assert_eq!(unproposed, Refusal::NoPull { branch: "one".into() });
    propose(&http, "one").await;
    propose(&http, "two").await;

    let one = standin.merge("one").await.expect("merged");
    assert_eq!((one.pull, one.how, &one.commit), (1, MergeKind::FastForward, &first.head().await));
    let two = standin.merge("two").await.expect("merged");
    assert_eq!((two.pull, two.how), (2, MergeKind::MergeCommit));
    let tree: Vec<String> = standin.tree().await.expect("a tree").into_iter().map(|file| file.path).collect();
    assert_eq!(tree, ["README.md", "charts/values.yaml", &node("node-1"), &node("node-2")]);
    let below = standin.files("main", "maintainers/ada/cluster-nodes/node-2").await.expect("files");
    assert_eq!(below.len(), 1);
    assert_eq!((below[0].size, below[0].mode.as_str()), (Some(13), "100644"));
    assert!(matches!(standin.files("nowhere", "").await, Err(StandInError::NoSuchRef { .. })));
    assert!(matches!(standin.read(&"f".repeat(40), "x").await, Err(StandInError::NoSuchRef { .. })));

    assert_eq!(refusal(standin.merge("one").await), Refusal::NoPull { branch: "one".into() });
    let pulls = http.get("/repos/fleet/cluster/pulls?state=closed").await.json();
    assert_eq!((&pulls[0]["merged"], &pulls[0]["merge_commit_sha"]), (&json!(true), &json!(two.commit)));
    first.git(&["fetch", "--quiet", "origin", "main"]).await;
    let log = first.git(&["log", "-1", "--format=%an %ae %s", "FETCH_HEAD"]).await;
    assert_eq!(log.trim(), "Operator operator@forge.invalid Merge branch 'two'");
}

#[tokio::test]
async fn a_merge_that_cannot_be_says_why_and_changes_nothing() {
    let standin = stand_in().await;
    let http = Http::of(&standin);
    let (first, second) = (Machine::cloned(&standin).await, Machine::cloned(&standin).await);
    assert!(first.push_new("one", &node("node-1"), "mac: 1\n").await.ok);
    assert!(second.push_new("two", &node("node-1"), "mac: 2\n").await.ok);
    propose(&http, "one").await;
    propose(&http, "two").await;
    let merged = standin.merge("one").await.expect("merged");
    let refused = refusal(standin.merge("two").await);
    assert_eq!(refused, Refusal::Conflict { branch: "two".into(), paths: vec![node("node-1")] });
    assert!(refused.to_string().contains("conflicts with the default branch in maintainers/ada"));
    assert_eq!(standin.read("main", &node("node-1")).await.expect("read").as_deref(), Some(&b"mac: 1\n"[..]));
    let ledger = standin.ledger();
    assert_eq!(ledger.pulls[1].state, PullState::Open);
    assert!(matches!(&ledger.pulls[0].state, PullState::Merged { commit, .. } if *commit == merged.commit));
}

#[tokio::test]
async fn a_node_is_taken_out_as_the_upstream_tool_does() {
    let config = config()
        .seed_file(node("node-1"), "name: node-1\n")
        .seed_file("maintainers/ada/cluster-nodes/node-1/extra.txt", "x")
        .seed_file(node("node-10"), "name: node-10\n");
    let standin = start(config).await;
    let gone = standin.deregister("ada", "node-1").await.expect("taken out");
    assert_eq!(gone.removed, ["maintainers/ada/cluster-nodes/node-1/extra.txt", &node("node-1")]);
    assert!(gone.branch.starts_with("deregister/node-1-"), "{}", gone.branch);
    let tree: Vec<String> = standin.tree().await.expect("a tree").into_iter().map(|file| file.path).collect();
    assert_eq!(tree, ["README.md", &node("node-10")], "its neighbour with the longer name is still there");
    let ledger = standin.ledger();
    assert_eq!((ledger.pulls[0].by.clone(), ledger.pulls[0].request), (Who::Owner, 0));
    assert_eq!(standin.orphans().await.expect("orphans"), []);

    let path = "maintainers/ada/cluster-nodes/node-1".to_owned();
    assert_eq!(refusal(standin.deregister("ada", "node-1").await), Refusal::NotRegistered { path });
    for name in ["..", "a/b", "", "*"] {
        assert!(matches!(refusal(standin.deregister("ada", name).await), Refusal::BadName { .. }), "{name}");
    }
}
