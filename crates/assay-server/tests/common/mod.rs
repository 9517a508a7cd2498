//! A made-up fleet with a run in every state that pages show, written through the real store, and a real
//! server over it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use assay_engine::{Engine, Tuning};
use assay_model::event::{EventBody, PowerAction, RunCreated, Target};
use assay_model::sensor::{SensorBatch, SensorInfo, SensorSample};
use assay_model::{
    Check, Coverage, Decision, DecisionKind, Finding, HostId, Judgement, Mac, Micros, Owner, RunId,
    RunResult, Severity, Sha256, StagePlan, Verdict,
};
use assay_server::{Server, Settings};
use assay_store::{Changes, HostRow, LogLine};
use serde_json::json;

/// The first operator's password.
pub(crate) const PASSWORD: &str = "correct horse battery";

const STAGES: [&str; 9] =
    ["Inventory", "SpecValidate", "SMART", "CPUStress", "Storage", "Network", "GPU", "PSU", "Reporting"];

/// A server over an empty or filled data folder, on ports that the system chooses.
pub(crate) async fn open(data: &Path, listen: SocketAddr, password: Option<&str>) -> Server {
    Server::open(settings(data, listen, password)).await.expect("opens")
}

/// How such a server is run.
pub(crate) fn settings(data: &Path, listen: SocketAddr, password: Option<&str>) -> Settings {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Settings {
        data_dir: data.to_owned(),
        database: None,
        listen,
        boot_listen: any,
        agent_listen: any,
        agent_port: 8443,
        live_image: data.join("no-live-image"),
        notify: None,
        webhooks: Vec::new(),
        webhook_internal: false,
        public_badges: false,
        password: password.map(str::to_owned),
        tuning: Tuning::default(),
    }
}

/// A host and its latest run, being written.
pub(crate) struct Story {
    engine: Engine,
    pub(crate) run: RunId,
    pub(crate) number: i64,
    at: Micros,
    mac: Mac,
}

impl Story {
    /// Registers a host.
    pub(crate) async fn host(engine: &Engine, name: &str, octet: u8, spec: &str) -> HostRow {
        let row = HostRow {
            id: HostId(uuid::Uuid::now_v7()),
            name: name.to_owned(),
            macs: vec![Mac([0x52, 0x54, 0, 0x1c, 0, octet])],
            spec_yaml: spec.to_owned(),
            power: json!({ "method": "manual" }),
            created_at: engine.now(),
        };
        engine.store().host_put(&row).await.expect("stores");
        row
    }

    /// Begins a run some time ago.
    pub(crate) async fn begin(engine: &Engine, host: &HostRow, profile: &str, seconds_ago: i64) -> Self {
        let at = engine.now().plus(Micros::seconds(-seconds_ago));
        let optional = ["GPU", "PSU"];
        let plan = |name: &str| StagePlan {
            name: name.into(),
            owner: if name == "Reporting" { Owner::Orchestrator } else { Owner::Agent },
            required: !optional.contains(&name),
            timeout_s: 3600,
        };
        let created = RunCreated {
            number: 0,
            pipeline: assay_model::Pipeline::Host,
            profile: profile.into(),
            target: Target { id: host.id.into(), name: host.name.clone() },
            stages: STAGES.into_iter().map(plan).collect(),
            spec: json!({ "format": 1, "limits": { "max_temp_c": 90 } }),
            macs: host.macs.clone(),
            power: host.power.clone(),
            holds: true,
            hold_s: 7 * 24 * 3600,
            boot_timeout_s: 600,
            requested_by: "operator".into(),
            machine: None,
            harness: "0.1.0".into(),
            muted: Vec::new(),
            options: assay_model::host::order::RunOptions::default(),
        };
        let id = RunId(uuid::Uuid::now_v7());
        let view = engine.store().create_run(id, at, created).await.expect("creates");
        Self { engine: engine.clone(), run: id, number: view.created.number, at, mac: host.macs[0] }
    }

    /// What happened next, some seconds later.
    pub(crate) async fn then(&mut self, seconds: i64, body: EventBody) {
        self.at = self.at.plus(Micros::seconds(seconds));
        let changes = Changes { events: vec![body], writes: Vec::new() };
        let done = self.engine.store().transact(self.run, self.at, |_| Ok::<_, String>(changes)).await;
        done.expect("may happen");
    }

    /// From the queue to an enrolled agent.
    pub(crate) async fn boots(&mut self) {
        self.then(3, EventBody::Admitted { runner: "rack7".into() }).await;
        self.then(0, EventBody::PowerRequested { job: "1".into(), action: PowerAction::Cycle }).await;
        let message = "switched on".to_owned();
        self.then(2, EventBody::PowerDone { job: "1".into(), ok: true, message }).await;
        let mac = self.mac;
        self.then(19, EventBody::BootServed { boot: 1, mac }).await;
        let enrolled = EventBody::Enrolled {
            boot: 1,
            mac: Some(mac),
            system_uuid: None,
            agent: "0.1.0".into(),
            clock_skew_us: -7_200_000_000,
            generation: 1,
        };
        self.then(21, enrolled).await;
    }

    /// A stage begins.
    pub(crate) async fn starts(&mut self, index: usize, attempt: u32) {
        let stage = STAGES[index].into();
        let generation = i64::from(attempt) + 10;
        self.then(1, EventBody::StageStarted { stage, index, attempt, generation }).await;
    }

    /// A stage begins and is judged.
    pub(crate) async fn stage(&mut self, index: usize, attempt: u32, seconds: i64, judgement: Judgement) {
        self.starts(index, attempt).await;
        let stage = STAGES[index].into();
        let required = !["GPU", "PSU"].contains(&STAGES[index]);
        self.then(seconds, EventBody::StageJudged { stage, index, attempt, required, judgement }).await;
    }

    /// A kept file.
    pub(crate) async fn file(&mut self, stage: usize, name: &str, content: &[u8]) {
        let digest = Sha256::of(content);
        let stream = futures::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::copy_from_slice(content))]);
        let stored = self.engine.artifacts().put_stream(stream, 1 << 20, Some(digest)).await;
        stored.expect("stores");
        let event = EventBody::ArtifactStored {
            stage: Some(STAGES[stage].into()),
            attempt: 1,
            name: name.into(),
            digest,
            bytes: content.len() as u64,
            late: false,
        };
        self.then(0, event).await;
    }

    /// Held until a decision.
    pub(crate) async fn held(&mut self) {
        let until = self.at.plus(Micros::seconds(7 * 24 * 3600));
        self.then(0, EventBody::Held { until }).await;
    }

    /// An operator decides.
    pub(crate) async fn decided(&mut self, kind: DecisionKind, why: &str) {
        let decision = Decision { kind, by: "ada".into(), why: why.into(), serials: Vec::new() };
        self.then(600, EventBody::Decided { decision }).await;
    }

    /// The end.
    pub(crate) async fn completed(&mut self, result: RunResult) {
        self.then(1, EventBody::RunCompleted { result: Some(result) }).await;
    }

    /// Readings every 5 s from `from` seconds ago; one sensor drops out for a while.
    pub(crate) async fn readings(&self, seq: i64, from: i64, count: usize) {
        let sensor = |name: &str| SensorInfo {
            name: name.into(),
            kind: "thermal".into(),
            unit: "°C".into(),
            max: Some(85.0),
            critical: Some(95.0),
        };
        let names =
            ["coretemp/Package id 0", "coretemp/Package id 1", "nvme/Composite@0000:01:00.0", "acpitz/temp1"];
        let start = self.engine.now().plus(Micros::seconds(-from));
        let sample = |i: usize| {
            let x = i as f64;
            let heat = 38.0 + 38.0 * (1.0 - (-x / 25.0).exp()) + (x / 3.0).sin();
            let nvme = (!(30..42).contains(&i)).then(|| 34.0 + x / 12.0);
            SensorSample {
                at: start.plus(Micros::seconds(5 * i as i64)),
                values: vec![Some(heat), Some(heat - 4.0 + (x / 5.0).cos()), nvme, Some(27.8)],
            }
        };
        let batch =
            SensorBatch { sensors: names.map(sensor).into(), samples: (0..count).map(sample).collect() };
        self.engine.sensors(self.run, seq, batch).await.expect("stores");
    }

    /// Lines of the machine's log.
    pub(crate) async fn says(&self, seq: i64, lines: &[(&str, &str)]) {
        let at = self.engine.now();
        let lines: Vec<LogLine> =
            lines.iter().map(|(s, t)| LogLine { at, source: (*s).into(), text: (*t).into() }).collect();
        self.engine.log(self.run, seq, &lines).await.expect("stores");
    }
}

/// A judgement that passes.
pub(crate) fn pass(message: &str, what: &str, n: u64) -> Judgement {
    let check = |i: u64| Check {
        name: format!("{what} {i}"),
        verdict: Verdict::Pass,
        expected: "as in the spec".into(),
        seen: "the same".into(),
    };
    let coverage = vec![Coverage { what: what.into(), covered: n, total: n }];
    Judgement::from_evidence((1..=n).map(check).collect(), vec![], coverage, vec![], message)
}

/// A judgement that fails over a missing DIMM.
pub(crate) fn dimm_missing(serial: &str) -> Judgement {
    let finding = Finding::new(
        "DimmMissing",
        Severity::Critical,
        format!("slot DIMM_B1 is empty; expected 65536 MiB, serial {serial}"),
        "Reseat the module in DIMM_B1, or put the replacement's serial into the spec.",
    )
    .part("dimm", Some("DIMM_B1"), Some(serial))
    .evidence("inventory.json");
    let firmware = Finding::new(
        "FirmwareNewer",
        Severity::Warning,
        "the BIOS is 2.21.0, newer than the expected 2.19.1",
        "If the update was meant, put 2.21.0 into the spec.",
    );
    let check = |name: &str, verdict, expected: &str, seen: &str| Check {
        name: name.into(),
        verdict,
        expected: expected.into(),
        seen: seen.into(),
    };
    Judgement::from_evidence(
        vec![
            check("system.serial", Verdict::Pass, "7XK2M33", "7XK2M33"),
            check("memory.dimms[DIMM_B1]", Verdict::Fail, "65536 MiB", "empty"),
            check("memory.total_mib", Verdict::Fail, "131072", "65536"),
            check("bios_version", Verdict::Unverified, "2.19.1", "2.21.0"),
        ],
        vec![firmware, finding],
        vec![Coverage { what: "spec fields".into(), covered: 41, total: 43 }],
        vec!["the BMC did not answer, so its firmware version was not compared".into()],
        "2 of 43 fields differ critically",
    )
}
