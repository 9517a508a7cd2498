//! TLS: trusted with its own authority, refused with any wrong certificate, by `git` and by an HTTP client.

use std::fs;

use assay_standin::{Certificate, Config, Effect, Fault, Listen, RouteClass, StandIn, TroubleKind};

use crate::bench::{Http, Machine, PATIENCE, TOKEN, config, start, whole};

fn with_tls() -> Config {
    let mut config = config();
    config.listen.push(Listen::TcpTls(([127, 0, 0, 1], 0).into()));
    config
}

fn trusting(standin: &StandIn) -> Http {
    let ca = reqwest::Certificate::from_pem(standin.ca_pem().expect("an authority").as_bytes()).expect("PEM");
    Http::with(reqwest::Client::builder().tls_certs_only([ca]), standin.tls_url().expect("an address"))
}

/// A machine that trusts the stand-in's authority and no other.
fn machine(standin: &StandIn) -> (Machine, String) {
    let machine = Machine::new();
    let ca = machine.home().join("ca.pem");
    fs::write(&ca, standin.ca_pem().expect("an authority")).expect("written");
    fs::write(machine.home().join(".gitconfig"), format!("[http]\n\tsslCAInfo = {}\n", ca.display()))
        .expect("written");
    let url = standin.tls_url().expect("an address").replace("https://", &format!("https://x:{TOKEN}@"));
    (machine, format!("{url}{}", standin.git_path()))
}

#[tokio::test]
async fn whoever_trusts_the_authority_clones_pushes_and_asks() {
    let standin = start(with_tls()).await;
    let (machine, address) = machine(&standin);
    machine.git(&["clone", "--quiet", "--depth", "1", &address, "cluster"]).await;
    let said = machine.push_new("register-node-1", "node.yaml", "x").await;
    assert!(said.ok, "{}", said.text);
    let https = trusting(&standin);
    assert_eq!(https.get("/user").await.status, 200);
    let clone = https.get("/repos/fleet/cluster").await.json()["clone_url"].clone();
    assert!(clone.as_str().is_some_and(|url| url.starts_with("https://127.0.0.1:")), "{clone}");
    assert_eq!(Http::of(&standin).get("/user").await.status, 200, "the plain address serves the same");

    let stranger = Machine::new().try_git(&["clone", &address]).await;
    assert!(!stranger.ok && stranger.text.contains("certificate"), "{}", stranger.text);
    let refused =
        standin.wait_for(PATIENCE, |ledger| ledger.troubles.first().cloned()).await.expect("trouble");
    let kinds = [TroubleKind::TlsRefused, TroubleKind::NoRequest];
    assert!(kinds.contains(&refused.kind), "whoever does not trust it asks for nothing: {refused:?}");
    let ledger = standin.ledger();
    assert_eq!(ledger.pushes.len(), 1);
    assert!(ledger.requests.iter().filter(|it| it.tls).count() >= 4);
    assert!(ledger.requests.iter().any(|it| !it.tls));
}

#[tokio::test]
async fn a_wrong_certificate_is_refused_whichever_way_it_is_wrong() {
    let standin = start(with_tls()).await;
    let (machine, address) = machine(&standin);
    for certificate in [Certificate::OtherName, Certificate::Expired, Certificate::OtherAuthority] {
        let fault = Fault::always(RouteClass::Any, Effect::WrongCertificate { certificate });
        let id = standin.inject(fault).expect("a fault");
        let error = trusting(&standin).try_send("GET /user", "").await.expect_err("refused");
        let words = match certificate {
            Certificate::OtherName => "NotValidForName",
            Certificate::Expired => "expired",
            Certificate::OtherAuthority => "UnknownIssuer",
        };
        assert!(
            whole(&error).contains(words) || format!("{error:?}").contains(words),
            "{certificate:?}: {error:?}"
        );
        let said = machine.try_git(&["clone", &address, "never"]).await;
        assert!(
            !said.ok && said.text.to_lowercase().contains("certificate"),
            "{certificate:?}: {}",
            said.text
        );
        assert!(standin.heal(id));
    }
    assert_eq!(trusting(&standin).get("/user").await.status, 200, "healed");
    let troubles = standin
        .wait_for(PATIENCE, |ledger| (ledger.troubles.len() >= 6).then(|| ledger.troubles.clone()))
        .await
        .expect("each refusal is in the ledger");
    // Some clients look at the name only after the handshake, and then hang up.
    let refused = |kind| matches!(kind, TroubleKind::TlsRefused | TroubleKind::NoRequest);
    assert!(troubles.iter().all(|it| refused(it.kind) && it.tls), "{troubles:?}");
    let ledger = standin.ledger();
    assert_eq!(ledger.faults.len(), 6);
    assert_eq!(ledger.requests.len(), 1, "nobody asked anything over a connection that they did not trust");
}

#[tokio::test]
async fn a_wrong_certificate_from_the_start_on_and_once() {
    let standin = start(with_tls().certificate(Certificate::Expired)).await;
    trusting(&standin).try_send("GET /user", "").await.expect_err("refused");
    standin.heal_all();
    let certificate = Certificate::OtherName;
    standin.inject(Fault::once(RouteClass::Any, Effect::WrongCertificate { certificate })).expect("a fault");
    let https = trusting(&standin);
    https.try_send("GET /user", "").await.expect_err("refused");
    assert_eq!(https.get("/user").await.status, 200, "that was once");
}

#[tokio::test]
async fn plain_http_on_the_tls_port_and_faults_over_tls() {
    let standin = start(with_tls()).await;
    let plain = standin.tls_url().expect("an address").replace("https", "http");
    let http = Http::with(reqwest::Client::builder(), plain);
    http.try_send("GET /user", "").await.expect_err("TLS is spoken there");
    let trouble =
        standin.wait_for(PATIENCE, |ledger| ledger.troubles.first().cloned()).await.expect("trouble");
    assert_eq!(trouble.kind, TroubleKind::TlsRefused);
    for effect in [Effect::Reset, Effect::DropAfterRequest, Effect::TruncateBody] {
        standin.inject(Fault::once(RouteClass::User, effect)).expect("a fault");
        trusting(&standin).try_send("GET /user", "").await.expect_err("a fault struck");
    }
    assert_eq!(trusting(&standin).get("/user").await.status, 200);
}
