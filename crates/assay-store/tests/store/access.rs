//! Tokens, leases, notifications, hosts, people: who may do what, once.

use assay_model::journal::verify;
use assay_model::{HostId, Micros, RunId, Sha256};
use assay_store::{
    AUDIT_CHAIN, ApiToken, BootTokenState, Changes, Committed, HostError, HostRow, Operator, Role, Session,
    Store, StoreErrorKind, TransactError, Write,
};
use serde_json::json;
use uuid::Uuid;

use crate::sample::{at, create, enrolled, mac, pass, run_id, seal};

async fn write(store: &Store, run: RunId, writes: Vec<Write>) -> Result<Committed, TransactError<String>> {
    store.transact(run, at(1), |_| Ok(Changes { events: Vec::new(), writes })).await
}

pub(crate) async fn tokens_open_once_and_only_while_live(store: Store, _url: String) {
    let run = run_id(1);
    create(&store, run, 1).await;
    let [first, second, credential, newer] = ["t1", "t2", "c1", "c2"].map(|t| Sha256::of(t.as_bytes()));
    let mint = |hash, boot| Write::MintBootToken { hash, boot, mac: mac(1), expires: at(600) };
    write(&store, run, vec![mint(first, 1)]).await.expect("minted");
    write(&store, run, vec![mint(second, 2)]).await.expect("minted");
    let state = async |hash| {
        store.boot_token(hash).await.expect("read").map(|t| (t.run, t.boot, t.mac, t.expires, t.state))
    };
    assert_eq!(state(first).await, Some((run, 1, mac(1), at(600), BootTokenState::Voided)));
    assert_eq!(state(second).await, Some((run, 2, mac(1), at(600), BootTokenState::Live)));
    assert_eq!(state(credential).await, None);

    // A voided token, and the same live one twice at once.
    let enrol = |hash| Changes {
        events: vec![crate::sample::admitted(), enrolled()],
        writes: vec![
            Write::SpendBootToken { hash },
            Write::AgentCredential { hash: credential, generation: 1 },
        ],
    };
    let voided = store.transact(run, at(2), |_| Ok::<_, String>(enrol(first))).await.expect_err("refused");
    assert!(
        matches!(&voided, TransactError::Store(e) if matches!(e.kind, StoreErrorKind::Conflict(_))),
        "{voided}"
    );
    assert_eq!(store.view(run).await.expect("read").expect("there").seq, 1, "no event without its token");
    store.transact(run, at(2), |_| Ok::<_, String>(enrol(second))).await.expect("enrolled");
    let twice = write(&store, run, vec![Write::SpendBootToken { hash: second }]).await;
    assert!(matches!(twice, Err(TransactError::Store(_))), "{twice:?}");
    assert_eq!(state(second).await.map(|t| t.4), Some(BootTokenState::Spent));

    assert_eq!(store.agent_by_credential(credential).await.expect("read"), Some((run, 1)));
    let replace = vec![
        Write::AgentCredential { hash: newer, generation: 2 },
        Write::RunnerToken { hash: first, runner: "r1".into() },
    ];
    write(&store, run, replace).await.expect("replaced");
    assert_eq!(store.agent_by_credential(credential).await.expect("read"), None);
    assert_eq!(store.agent_by_credential(newer).await.expect("read"), Some((run, 2)));
    assert_eq!(store.runner_by_token(first).await.expect("read"), Some((run, "r1".into())));
    assert_eq!(store.runs_of_runner("r1").await.expect("read"), [run]);
    assert_eq!(store.runs_of_runner("r2").await.expect("read"), []);

    write(&store, run, vec![mint(credential, 3), Write::VoidTokens]).await.expect("voided");
    assert_eq!(state(credential).await.map(|t| t.4), Some(BootTokenState::Voided));
    assert_eq!(store.agent_by_credential(newer).await.expect("read"), None);
    assert_eq!(store.runner_by_token(first).await.expect("read"), None);

    let sealed = run_id(2);
    create(&store, sealed, 2).await;
    write(&store, sealed, vec![Write::RunnerToken { hash: newer, runner: "r1".into() }])
        .await
        .expect("stored");
    pass(&store, sealed).await;
    assert_eq!(store.runs_of_runner("r1").await.expect("read"), [sealed]);
    seal(&store, sealed).await;
    assert_eq!(store.runs_of_runner("r1").await.expect("read"), []);
}

pub(crate) async fn leases_are_fenced(store: Store, _url: String) {
    let run = run_id(1);
    create(&store, run, 1).await;
    assert!(store.lease_put(run, 2, "agent", at(100)).await.expect("taken"));
    assert!(!store.lease_put(run, 1, "old agent", at(900)).await.expect("refused"), "an older generation");
    assert!(!store.lease_renew(run, 1, at(900)).await.expect("refused"));
    assert!(store.lease_renew(run, 2, at(220)).await.expect("renewed"));
    assert!(store.lease_renew(run, 2, at(120)).await.expect("late news do not shorten it"));
    let leases = store.leases().await.expect("read");
    assert_eq!(leases.len(), 1);
    assert_eq!((leases[0].generation, leases[0].holder.as_str(), leases[0].expires), (2, "agent", at(220)));
    assert!(store.lease_put(run, 3, "new agent", at(110)).await.expect("taken over"));
    assert!(!store.lease_renew(run, 2, at(900)).await.expect("refused"));
    assert!(!store.lease_drop(run, 2).await.expect("refused"));
    assert!(store.lease_drop(run, 3).await.expect("given back"));
    assert_eq!(store.leases().await.expect("read"), []);
    assert!(store.lease_put(run_id(9), 1, "x", at(1)).await.is_err(), "a lease on no run");
}

pub(crate) async fn hosts_own_their_addresses(store: Store, _url: String) {
    let host = |n: u128, name: &str, macs: &[u8]| HostRow {
        id: HostId(Uuid::from_u128(n)),
        name: name.into(),
        macs: macs.iter().map(|m| mac(*m)).collect(),
        spec_yaml: "memory: 64GiB\n".into(),
        power: json!({"method": "wol"}),
        created_at: at(0),
    };
    let one = host(1, "one", &[3, 1, 2]);
    assert_eq!(store.host_put(&one).await.expect("stored"), one.id);
    let taken = store.host_put(&host(2, "two", &[4, 1])).await.expect_err("refused");
    assert_eq!(
        taken.to_string(),
        "52:54:00:00:00:01 belongs to host `one`; remove it there first, or check the address"
    );
    assert!(matches!(taken, HostError::MacTaken { host, .. } if host == "one"));
    assert_eq!(store.hosts().await.expect("read"), std::slice::from_ref(&one), "nothing of the refused one");

    // The same name again: new addresses, old id.
    assert_eq!(store.host_put(&host(7, "one", &[1])).await.expect("updated"), one.id);
    store.host_put(&host(2, "two", &[2, 4])).await.expect("the address is free now");
    assert_eq!(store.host_by_mac(mac(2)).await.expect("read").map(|h| h.name), Some("two".into()));
    assert_eq!(store.host_by_mac(mac(2)).await.expect("read").map(|h| h.macs), Some(vec![mac(2), mac(4)]));
    assert_eq!(store.host_by_mac(mac(3)).await.expect("read"), None);
    assert_eq!(store.host_by_name("one").await.expect("read").map(|h| h.macs), Some(vec![mac(1)]));
    assert!(store.host_remove("one").await.expect("removed"));
    assert!(!store.host_remove("one").await.expect("gone"));
    assert_eq!(store.host_by_mac(mac(1)).await.expect("read"), None);
}

pub(crate) async fn people_and_programs(store: Store, _url: String) {
    let ada = |hash: &str| Operator { name: "ada".into(), password_hash: hash.into(), role: Role::Admin };
    let session =
        Session { hash: Sha256::of(b"s"), operator: "ada".into(), csrf: "x".into(), expires: at(50) };
    assert!(store.session_put(&session).await.is_err(), "a session of nobody");
    store.operator_put(&ada("$argon2id$1")).await.expect("stored");
    store.session_put(&session).await.expect("signed in");
    store.operator_put(&Operator { role: Role::Viewer, ..ada("$argon2id$1") }).await.expect("new role");
    assert_eq!(store.session(session.hash).await.expect("read"), Some(session.clone()));
    store.operator_put(&ada("$argon2id$2")).await.expect("new password");
    assert_eq!(store.session(session.hash).await.expect("read"), None, "a new password ends sessions");
    assert_eq!(store.operator("ada").await.expect("read"), Some(ada("$argon2id$2")));

    store.session_put(&session).await.expect("signed in");
    assert_eq!(store.sessions_expire(at(49)).await.expect("expired"), 0);
    assert_eq!(store.sessions_expire(at(50)).await.expect("expired"), 1);
    store.session_put(&session).await.expect("signed in");
    assert!(store.session_remove(session.hash).await.expect("signed out"));
    store.session_put(&session).await.expect("signed in");
    assert!(store.operator_remove("ada").await.expect("removed"));
    assert_eq!(store.session(session.hash).await.expect("read"), None);
    assert_eq!(store.operators().await.expect("read"), []);

    let token = ApiToken {
        hash: Sha256::of(b"t"),
        name: "ci".into(),
        role: Role::Operator,
        created_at: at(1),
        revoked_at: None,
    };
    store.api_token_put(&token).await.expect("stored");
    let again = store
        .api_token_put(&ApiToken { hash: Sha256::of(b"u"), ..token.clone() })
        .await
        .expect_err("refused");
    assert!(matches!(again.kind, StoreErrorKind::Conflict(_)), "{again}");
    assert_eq!(store.api_token(token.hash).await.expect("read"), Some(token.clone()));
    assert!(store.api_token_revoke("ci", at(9)).await.expect("revoked"));
    assert!(!store.api_token_revoke("ci", at(10)).await.expect("revoked already"));
    assert_eq!(store.api_tokens().await.expect("read"), [ApiToken { revoked_at: Some(at(9)), ..token }]);
}

pub(crate) async fn runners_unknown_machines_settings_and_audit(store: Store, url: String) {
    store.runner_seen("r1", "0.1.0", Some("dnsmasq is missing"), at(1)).await.expect("noted");
    store.runner_seen("r1", "0.1.1", None, at(2)).await.expect("noted");
    let runner = store.runners().await.expect("read").remove(0);
    assert_eq!(
        (runner.version.as_str(), runner.problem, runner.first_seen, runner.last_seen),
        ("0.1.1", None, at(1), at(2))
    );
    store.runner_problem("r1", Some("dnsmasq died")).await.expect("noted");
    store.runner_problem("nobody", Some("not heard of")).await.expect("dropped");
    let told: Vec<_> =
        store.runners().await.expect("read").into_iter().map(|r| (r.name, r.problem)).collect();
    assert_eq!(told, [("r1".to_owned(), Some("dnsmasq died".to_owned()))]);
    store.runner_problem("r1", None).await.expect("noted");
    assert_eq!(store.runners().await.expect("read").remove(0).problem, None);

    store.unknown_seen(&[mac(2), mac(1)], "r1", at(1)).await.expect("noted");
    store.unknown_seen(&[mac(2)], "r1", at(5)).await.expect("noted");
    let unknown: Vec<_> = store
        .unknown_list()
        .await
        .expect("read")
        .into_iter()
        .map(|u| (u.mac, u.last_seen, u.times))
        .collect();
    assert_eq!(unknown, [(mac(2), at(5), 2), (mac(1), at(1), 1)]);
    assert!(store.unknown_forget(mac(2)).await.expect("forgotten"));
    assert!(!store.unknown_forget(mac(2)).await.expect("not there"));
    let flood: Vec<_> =
        (0..1100_u32).map(|n| assay_model::Mac([2, 0, 0, 0, (n >> 8) as u8, n as u8])).collect();
    store.unknown_seen(&flood, "r1", at(9)).await.expect("noted");
    assert_eq!(store.unknown_list().await.expect("read").len(), 1000, "made-up addresses are bounded");

    assert_eq!(store.setting("k").await.expect("read"), None);
    assert_eq!(store.setting_or_insert("k", &json!(1)).await.expect("stored"), json!(1));
    assert_eq!(store.setting_or_insert("k", &json!(2)).await.expect("kept"), json!(1));
    store.set_setting("k", &json!({"a": [2]})).await.expect("stored");
    assert_eq!(store.setting("k").await.expect("read"), Some(json!({"a": [2]})));

    let other = crate::open(&url).await;
    for (store, n) in [(&store, 1), (&other, 2), (&store, 3)] {
        store.audit(at(n), "ada", "host.put", &json!({"n": n})).await.expect("appended");
    }
    let trail = store.audit_after(0, 10).await.expect("read");
    verify(AUDIT_CHAIN, Sha256::ZERO, &trail).expect("holds together");
    assert_eq!(trail[2].body, br#"{"who":"ada","what":"host.put","detail":{"n":3}}"#);
    assert_eq!(store.audit_after(2, 10).await.expect("read")[0].at, Micros(at(3).0));
    other.close().await.expect("closes");
}
