//! Webhooks: they are registered where that is asked for, believed for their signature, and make hearing faster, not otherwise.

use assay_testkit::forge::Dialect;
use reqwest::StatusCode;

use crate::site::{REPO, Site};

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_heard_at_once_and_polling_hears_nothing_new() {
    let more = "webhook = { secret_file = \"hook\", register = true }";
    // Polled so seldom that only a delivery can have brought it.
    let site = Site::start(Dialect::Forgejo, &format!("{more}\ncalls_per_hour = 2")).await;
    site.forge.until("it is registered", |forge| !forge.hooks(REPO).is_empty()).await;
    let hooks = site.forge.hooks(REPO);
    assert_eq!(hooks.len(), 1, "registered once");
    assert_eq!(hooks[0].0, "https://assay.example.org/hooks/forge/coop");
    let (pull, _) = site.pull("work", "README.md", "one").await;
    site.say(pull, "alice", "!testme");
    let waiting = site.forge.waiting_deliveries();
    let delivery = waiting.last().expect("it waits").clone();
    let mut to_us = delivery.clone();
    to_us.url = site.url("/hooks/forge/coop");
    assert_eq!(to_us.clone().send().await, 204);
    site.told(pull, "[run 1]").await;
    // Once more, and with another number: a recording is worth nothing.
    assert_eq!(to_us.clone().send().await, 204);
    let mut again = to_us.clone();
    for (name, value) in &mut again.headers {
        if name.ends_with("-delivery") {
            "another-number".clone_into(value);
        }
    }
    assert_eq!(again.send().await, 204);
    let mut forged = to_us.clone();
    forged.body = String::from_utf8(forged.body).expect("JSON").replace("alice", "mallo").into_bytes();
    assert_eq!(forged.send().await, StatusCode::UNAUTHORIZED.as_u16());
    let mut nowhere = to_us;
    nowhere.url = site.url("/hooks/forge/other");
    assert_eq!(nowhere.send().await, 404);
    assert_eq!(site.runs().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_registered_where_nobody_asked_for_it() {
    let site = Site::start(Dialect::Forgejo, "webhook = { secret_file = \"hook\" }").await;
    assert!(site.forge.hooks(REPO).is_empty());
    let other = site.url("/hooks/forge/coop");
    let answer = reqwest::Client::new().post(other).body("{}").send().await.expect("answers");
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "unsigned");
}
