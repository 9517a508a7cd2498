//! A stand-in that was kept in a folder goes on as another one.

use assay_standin::{Config, Listen, StandInError};
use tempfile::TempDir;

use crate::bench::{Http, Machine, PATIENCE, TOKEN, config, start};

fn with_tls() -> Config {
    let mut config = config();
    config.listen.push(Listen::TcpTls(([127, 0, 0, 1], 0).into()));
    config
}

#[tokio::test]
async fn what_was_pushed_registered_and_trusted_is_still_so() {
    let folder = TempDir::new().expect("a folder");
    let kept = folder.path().join("kept");
    let first = start(with_tls()).await;
    let machine = Machine::cloned(&first).await;
    assert!(machine.push_new("register-node-1", "node.yaml", "kind: Node").await.ok);
    let authority = first.ca_pem().expect("an authority").to_owned();
    first.keep(&kept).await.expect("kept");
    let before = first.ledger();
    // What happens afterwards is not in it.
    assert!(machine.push_new("register-node-2", "other.yaml", "x").await.ok);
    first.stop().await;

    let second = start(Config { kept: Some(kept.clone()), ..with_tls() }).await;
    assert_eq!(second.ca_pem(), Some(authority.as_str()), "staged files name this authority");
    assert_eq!(second.ledger(), before);
    let content = second.read("register-node-1", "node.yaml").await.expect("the branch is there");
    assert_eq!(content.as_deref(), Some(b"kind: Node".as_slice()));
    assert!(second.read("register-node-2", "other.yaml").await.is_err(), "that one came later");

    // It takes pushes, still refuses what is not to be pushed, and counts requests on.
    let late = Machine::cloned(&second).await;
    assert!(late.push_new("register-node-3", "third.yaml", "y").await.ok);
    late.git(&["checkout", "--quiet", "main"]).await;
    assert!(!late.try_git(&["push", "origin", "register-node-3:main"]).await.ok, "the hook is in place");
    let pushed = second
        .wait_for(PATIENCE, |ledger| {
            ledger.pushes.iter().find(|push| push.reference.ends_with("-3")).cloned()
        })
        .await
        .expect("a push");
    let last = before.requests.iter().map(|request| request.id).max().expect("there were requests");
    assert!(pushed.request > last);
    assert_eq!(Http::of(&second).get("/user").await.status, 200, "{TOKEN} is still accepted");
}

#[tokio::test]
async fn a_folder_that_holds_no_stand_in_is_named() {
    let folder = TempDir::new().expect("a folder");
    let problem = assay_standin::StandIn::start(Config { kept: Some(folder.path().to_owned()), ..config() });
    match problem.await.expect_err("nothing was kept there") {
        StandInError::Folder { folder: named, .. } => assert_eq!(named, folder.path()),
        other => panic!("{other}"),
    }
}
