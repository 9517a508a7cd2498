//! Each fault, as a real client sees it.

use std::time::{Duration, Instant};

use assay_standin::{Effect, Fault, Outcome, RouteClass};

use crate::bench::{Http, Machine, config, stand_in, start, whole};

const NODE: &str = "name: node-1\n";

#[tokio::test]
async fn a_status_is_answered_as_often_as_it_was_asked_for_and_each_use_is_recorded() {
    let standin = stand_in().await;
    let http = Http::of(&standin);
    standin.inject(Fault::times(RouteClass::Register, Effect::Status { code: 503 }, 2)).expect("a fault");
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let answer = http.send("POST /v1/nodes", NODE).await;
        statuses.push((answer.status, answer.headers.contains_key("retry-after")));
    }
    assert_eq!(statuses, [(503, true), (503, true), (201, false)]);
    for code in [401, 403, 409, 422, 429, 500] {
        let id = standin.inject(Fault::always(RouteClass::User, Effect::Status { code })).expect("a fault");
        for path in ["/user", "/api/v1/user"] {
            let answer = http.get(path).await;
            assert_eq!(answer.status, code);
            assert!(answer.json()["message"].is_string(), "in the forge's words");
        }
        assert_eq!(http.get("/v1/nodes").await.status, 200, "and nowhere else");
        assert!(standin.heal(id));
    }
    assert_eq!(http.get("/user").await.status, 200);
    let ledger = standin.ledger();
    assert_eq!(ledger.faults.len(), 2 + 6 * 2);
    let first = &ledger.faults[0];
    assert_eq!((first.route, first.effect), (RouteClass::Register, Effect::Status { code: 503 }));
    let struck = ledger.requests.iter().find(|it| it.id == first.request).expect("its request");
    assert_eq!((struck.status, struck.note.as_deref()), (Some(503), Some("a fault answered")));
    assert_eq!(ledger.registrations.len(), 1, "what was answered by a fault was not carried out");
    assert!(standin.inject(Fault::always(RouteClass::Any, Effect::Status { code: 200 })).is_err());
}

#[tokio::test]
async fn a_fault_for_git_does_not_strike_the_probe_without_a_token() {
    let standin = start(config().fault(Fault::once(RouteClass::GitRead, Effect::Status { code: 500 }))).await;
    let address = Machine::address(&standin, crate::bench::TOKEN);
    let said = Machine::new().try_git(&["clone", &address]).await;
    assert!(!said.ok && said.text.contains("500"), "{}", said.text);
    Machine::new().git(&["clone", "--quiet", &address]).await;
    assert_eq!(standin.faults()[0].used, 1);
}

#[tokio::test]
async fn a_slow_answer_is_late_and_right() {
    let standin = stand_in().await;
    let http = Http::of(&standin);
    standin.inject(Fault::once(RouteClass::User, Effect::Slow { seconds: 0.3 })).expect("a fault");
    let began = Instant::now();
    assert_eq!(http.get("/user").await.status, 200);
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(standin.ledger().requests[0].duration.0 >= 300_000);
    let impatient = Http::with(reqwest::Client::builder(), standin.url().expect("an address"));
    standin.inject(Fault::once(RouteClass::Register, Effect::Slow { seconds: 0.5 })).expect("a fault");
    let sent = impatient.request("POST /v1/nodes").timeout(Duration::from_millis(50)).body(NODE).send().await;
    assert!(sent.expect_err("it does not wait").is_timeout());
    let carried_out =
        standin.wait_for(crate::bench::PATIENCE, |ledger| ledger.registrations.first().cloned());
    assert_eq!(carried_out.await.expect("a slow server goes on without its client").name, "node-1");
}

#[tokio::test]
async fn a_connection_is_closed_or_reset_and_nothing_was_done() {
    let standin = stand_in().await;
    let http = Http::of(&standin);
    for (effect, words, note) in [
        (Effect::DropAfterRequest, "connection closed before message completed", "closed by a fault"),
        (Effect::Reset, "Connection reset by peer", "reset by a fault"),
    ] {
        standin.inject(Fault::once(RouteClass::Register, effect)).expect("a fault");
        let error = http.try_send("POST /v1/nodes", NODE).await.expect_err("no answer");
        assert!(whole(&error).contains(words), "{effect:?}: {}", whole(&error));
        let request = standin.look(|ledger| ledger.requests.last().cloned()).expect("a request");
        assert_eq!(request.status, None);
        assert!(request.note.as_deref().is_some_and(|it| it.starts_with(note)), "{request:?}");
    }
    assert_eq!(standin.ledger().registrations, []);
    assert_eq!(http.send("POST /v1/nodes", NODE).await.status, 201);
}

#[tokio::test]
async fn an_answer_breaks_off_in_its_middle() {
    let standin = stand_in().await;
    let http = Http::of(&standin);
    standin.inject(Fault::once(RouteClass::User, Effect::TruncateBody)).expect("a fault");
    let response = http.request("GET /user").send().await.expect("the headers come");
    let announced = response.content_length().expect("a length");
    let error = response.text().await.expect_err("the body does not");
    assert!(error.is_body() || error.is_decode(), "{}", whole(&error));
    let request = standin.look(|ledger| ledger.requests[0].clone());
    assert_eq!((request.status, request.bytes_out), (Some(200), announced / 2));

    standin.inject(Fault::times(RouteClass::GitRead, Effect::TruncateBody, 2)).expect("a fault");
    let address = Machine::address(&standin, crate::bench::TOKEN);
    let said = Machine::new().try_git(&["clone", &address]).await;
    assert!(!said.ok, "{}", said.text);
    http.send("POST /v1/nodes", NODE).await;
    standin.inject(Fault::once(RouteClass::Deregister, Effect::TruncateBody)).expect("a fault");
    http.try_send("DELETE /v1/nodes/node-1", "").await.expect_err("204 has nothing to break off");
}

#[tokio::test]
async fn a_push_that_is_taken_and_never_answered_leaves_an_orphan() {
    let standin = stand_in().await;
    let machine = Machine::cloned(&standin).await;
    standin.inject(Fault::once(RouteClass::GitPush, Effect::DropAfterPush)).expect("a fault");
    let said = machine.push_new("register-node-1", "node.yaml", NODE).await;
    assert!(!said.ok, "the client is told nothing good: {}", said.text);

    let orphans = standin.orphans().await.expect("orphans");
    assert_eq!(orphans.len(), 1);
    assert_eq!((orphans[0].branch.as_str(), &orphans[0].commit), ("register-node-1", &machine.head().await));
    let ledger = standin.ledger();
    assert_eq!(ledger.pushes[0].outcome, Outcome::Applied);
    assert_eq!(orphans[0].request, Some(ledger.pushes[0].request));
    assert_eq!(
        ledger.faults[0].request, ledger.pushes[0].request,
        "the push was struck, not what came before"
    );
    let request = ledger.requests.iter().find(|it| it.id == ledger.pushes[0].request).expect("a request");
    assert_eq!(request.status, None);

    let http = Http::of(&standin);
    let deleted = http.send("DELETE /repos/fleet/cluster/git/refs/heads/register-node-1", "").await;
    assert_eq!(deleted.status, 204, "an installer that cleans up behind itself");
    assert_eq!(standin.orphans().await.expect("orphans"), []);
}

#[tokio::test]
async fn a_registration_is_taken_and_never_answered_and_reading_does_not_use_that_up() {
    let standin = stand_in().await;
    let http = Http::of(&standin);
    standin.inject(Fault::once(RouteClass::Any, Effect::DropAfterPush)).expect("a fault");
    assert_eq!(http.get("/v1/nodes").await.status, 200);
    http.try_send("POST /v1/nodes", NODE).await.expect_err("no answer");
    assert_eq!(http.send("POST /v1/nodes", NODE).await.status, 409, "it is there");
}

#[tokio::test]
async fn a_push_is_refused_by_status_and_goes_through_once_that_is_over() {
    let standin = stand_in().await;
    let machine = Machine::cloned(&standin).await;
    let id =
        standin.inject(Fault::always(RouteClass::GitPush, Effect::Status { code: 403 })).expect("a fault");
    let said = machine.push_new("register-node-1", "node.yaml", NODE).await;
    assert!(!said.ok && said.text.contains("403"), "{}", said.text);
    assert_eq!(standin.ledger().pushes, []);
    standin.heal(id);
    machine.git(&["push", "origin", "register-node-1"]).await;
    standin.inject(Fault::always(RouteClass::Any, Effect::Reset)).expect("a fault");
    standin.heal_all();
    assert_eq!(standin.faults(), []);
    machine.git(&["fetch", "--quiet"]).await;
}
