//! The runner protocol over real HTTP: what a runner says of its services, whose word counts, and which power settings
//! a host may have at all.

use assay_api::runner::Grant;
use assay_model::EventBody;
use assay_store::Store;
use assay_testkit::{Api, ServerProcess, canned, free_ports};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Plane {
    server: ServerProcess,
    operator: Api,
    _folder: TempDir,
}

impl Plane {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut server =
            ServerProcess::new(env!("CARGO_BIN_EXE_assay"), folder.path().join("data"), free_ports());
        server.fake_live_image();
        server.start(&[("ASSAY_OPERATOR_PASSWORD", "correct horse battery")]).await;
        let operator = server.api();
        Self { server, operator, _folder: folder }
    }

    /// A run that this runner was given.
    async fn granted(&self, runner: &str) -> Grant {
        let host = json!({ "name": canned::HOST, "macs": [canned::MAC], "spec_yaml": canned::SPEC });
        let _ = self.operator.post("/api/v1/hosts", &host).await.expect(201);
        let _ = self.operator.post("/api/v1/hosts/web-3/vet", &json!({})).await.expect(201);
        self.claim(runner).await
    }

    async fn claim(&self, runner: &str) -> Grant {
        let join = Api::new(&self.server.url(), Some(&self.server.join_token()));
        let claim = json!({ "name": runner, "version": "1", "holding": [], "power": ["manual"] });
        join.post("/runner/v1/claim?wait_s=20", &claim).await.expect(200).json()
    }

    /// Every list of speed servers that the journal has.
    async fn told(&self, grant: &Grant) -> Vec<Vec<u16>> {
        let store = Store::open(&self.server.database()).await.expect("opens beside the server");
        let events = store.events_after(grant.run, 0, 1000).await.expect("reads");
        let told = events.into_iter().filter_map(|event| match event.body {
            EventBody::ServicesReady { iperf } => Some(iperf.iter().map(|server| server.port).collect()),
            _ => None,
        });
        told.collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_ready_for_a_run_is_said_by_its_runner_alone() {
    let plane = Plane::start().await;
    let grant = plane.granted("rack-1").await;
    let run = Api::new(&plane.server.url(), Some(&grant.token));
    let services = |ports: &[u16]| {
        let servers = ports.iter().map(|port| json!({ "address": "10.77.0.1", "port": port }));
        json!({ "iperf": servers.collect::<Vec<_>>() })
    };

    // Neither an operator, nor the runners' join token, nor a made-up one speaks for a run.
    let join = plane.server.join_token();
    for stranger in [None, Some(join.as_str()), Some("made-up")] {
        let refused = run.with_token(stranger).post("/runner/v1/services", &services(&[9])).await;
        assert_eq!(refused.expect(401).json::<Value>()["code"], "unauthorized");
    }
    let _ = plane.operator.post("/runner/v1/services", &services(&[9])).await.expect(401);

    // What does not read is refused, with what is wrong.
    for (body, why) in [
        (json!({}), "iperf"),
        (json!({ "iperf": [{ "address": "the rack", "port": 5201 }] }), "invalid IP address"),
        (json!({ "iperf": [{ "address": "10.77.0.1", "port": 70000 }] }), "u16"),
    ] {
        let refused = run.post("/runner/v1/services", &body).await.expect(422);
        assert!(refused.text.contains(why), "{}", refused.text);
    }
    assert_eq!(plane.told(&grant).await, Vec::<Vec<u16>>::new());

    // Said twice it is one event; said otherwise, the last one counts.
    for ports in [&[5201, 5202][..], &[5201, 5202], &[5301]] {
        let _ = run.post("/runner/v1/services", &services(ports)).await.expect(204);
    }
    assert_eq!(plane.told(&grant).await, [vec![5201, 5202], vec![5301]]);
    // However many it says it has, a run has a bounded number.
    let many: Vec<u16> = (1000..3000).collect();
    let _ = run.post("/runner/v1/services", &services(&many)).await.expect(204);
    let last = plane.told(&grant).await.pop().expect("told");
    assert!(last.len() >= 64 && last.len() < many.len(), "{}", last.len());

    // A runner that starts anew gets a new token, and the one before it is void.
    let again = plane.claim("rack-1").await;
    assert_eq!(again.run, grant.run);
    let _ = run.post("/runner/v1/services", &services(&[9])).await.expect(401);
    let now = run.with_token(Some(&again.token));
    let _ = now.post("/runner/v1/services", &services(&[5401])).await.expect(204);
    assert_eq!(plane.told(&grant).await.last(), Some(&vec![5401]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_settings_that_cannot_work_are_refused_when_a_host_is_registered() {
    let plane = Plane::start().await;
    let host = |power: Value| json!({ "name": canned::HOST, "macs": [canned::MAC], "power": power });
    let good =
        json!({ "method": "ipmi", "address": "10.20.0.31", "credential": "rack1", "firmware": "uefi" });
    for (power, why) in [
        (json!({}), "need a `method`"),
        (json!({ "method": "pigeon" }), "manual, lab, ipmi, redfish, wol"),
        (json!({ "method": "lab", "machine": "../x" }), "`machine`"),
        (json!({ "method": "ipmi", "address": "10.20.0.31" }), "missing field `credential`"),
        // A password would stand in the control plane's database.
        (
            json!({ "method": "ipmi", "address": "a", "credential": "c", "password": "secret" }),
            "unknown field `password`",
        ),
        (json!({ "method": "ipmi", "address": "-oProxy", "credential": "rack1" }), "`address`"),
        (json!({ "method": "redfish", "url": "http://10.20.0.31", "credential": "rack1" }), "clear text"),
        (json!({ "method": "wol", "mac": "01:00:5e:00:00:01" }), "many cards"),
    ] {
        let refused = plane.operator.post("/api/v1/hosts", &host(power.clone())).await.expect(422);
        assert!(refused.text.contains(why), "{power}: {}", refused.text);
        assert!(!refused.text.contains("secret"), "{}", refused.text);
    }
    let none: Vec<Value> = plane.operator.get("/api/v1/hosts").await.expect(200).json();
    assert!(none.is_empty(), "{none:?}");

    let _ = plane.operator.post("/api/v1/hosts", &host(good.clone())).await.expect(201);
    let changed =
        plane.operator.send("PUT", "/api/v1/hosts/web-3", Some(&host(json!({ "method": "x" })))).await;
    let _ = changed.expect("an answer").expect(422);
    let kept: Value = plane.operator.get("/api/v1/hosts/web-3").await.expect(200).json();
    assert_eq!(kept["power"], good);
}
