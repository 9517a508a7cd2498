//! Runs as they happen, written event by event into a real journal: what every test here reads.

use std::collections::BTreeMap;

use assay_model::event::{PowerAction, RunCreated, Target};
use assay_model::host::inventory::{Bios, Cpu, Dimm, Disk, Inventory, Memory, Nic, System, Transport};
use assay_model::journal::StoredEvent;
use assay_model::{
    Check, Coverage, Decision, DecisionKind, Event, EventBody, Finding, Judgement, Mac, Micros, Owner, RunId,
    RunResult, RunView, Severity, Sha256, StageName, StagePlan, TargetId, Verdict,
};
use assay_report::{Bundle, Extras, LastRed, Series, SigningKey, attest};

/// 2026-03-02 09:00:00 UTC.
const START: i64 = 1_772_442_000;

/// A run in the making.
pub(crate) struct Story {
    pub(crate) id: RunId,
    pub(crate) journal: Vec<StoredEvent>,
    pub(crate) blobs: BTreeMap<Sha256, Vec<u8>>,
    now: i64,
}

impl Story {
    pub(crate) fn begin(number: i64, change: impl FnOnce(&mut RunCreated)) -> Self {
        let id = RunId(uuid::Uuid::from_u128(0x0195_5555_0000_7000_8000_0000_0000_0000 + number as u128));
        let mut created = RunCreated {
            number,
            pipeline: assay_model::Pipeline::Host,
            profile: "standard".into(),
            target: Target { id: TargetId(uuid::Uuid::from_u128(5)), name: "pve-07".into() },
            stages: ["Inventory", "SpecValidate", "SMART", "CPUStress", "Network"]
                .into_iter()
                .map(|name| StagePlan {
                    name: name.into(),
                    owner: Owner::Agent,
                    required: name != "Network",
                    timeout_s: 600,
                })
                .collect(),
            spec: serde_json::json!({"memory_gib": 256, "disks": 2}),
            macs: vec![Mac([0x3c, 0xec, 0xef, 0x12, 0x34, 0x56])],
            power: serde_json::json!({"method": "redfish"}),
            holds: true,
            hold_s: 86_400,
            boot_timeout_s: 600,
            requested_by: "mara".into(),
            machine: None,
            harness: "0.1.0".into(),
            muted: Vec::new(),
            options: assay_model::host::order::RunOptions::default(),
        };
        change(&mut created);
        let mut story = Self { id, journal: Vec::new(), blobs: BTreeMap::new(), now: START };
        story.add(0, EventBody::RunCreated(Box::new(created)));
        story
    }

    #[expect(clippy::needless_pass_by_value, reason = "a story reads better without a borrow in every line")]
    pub(crate) fn add(&mut self, after_s: i64, body: EventBody) -> &mut Self {
        self.now += after_s;
        let (kind, bytes) = body.encode();
        let seq = self.journal.len() as i64 + 1;
        self.journal.push(StoredEvent::chain(
            self.id,
            seq,
            Micros::seconds(self.now),
            kind,
            bytes,
            self.head(),
        ));
        self
    }

    pub(crate) fn boot(&mut self) -> &mut Self {
        let mac = Mac([0x3c, 0xec, 0xef, 0x12, 0x34, 0x56]);
        self.add(4, EventBody::Admitted { runner: "rack-2".into() })
            .add(0, EventBody::PowerRequested { job: "p1".into(), action: PowerAction::Cycle })
            .add(
                3,
                EventBody::PowerDone { job: "p1".into(), ok: true, message: "ForceRestart accepted".into() },
            )
            .add(71, EventBody::BootServed { boot: 1, mac })
            .add(
                38,
                EventBody::Enrolled {
                    boot: 1,
                    mac: Some(mac),
                    system_uuid: None,
                    agent: "0.1.0".into(),
                    clock_skew_us: -2_000_000,
                    generation: 1,
                },
            )
    }

    pub(crate) fn stage(
        &mut self,
        index: usize,
        attempt: u32,
        took_s: i64,
        judgement: Judgement,
    ) -> &mut Self {
        let plan = self.view().created.stages[index].clone();
        let (stage, required) = (plan.name, plan.required);
        let generation = self.journal.len() as i64;
        self.add(0, EventBody::StageStarted { stage: stage.clone(), index, attempt, generation });
        let digest = self.blob(format!("{{\"stage\":\"{stage}\",\"attempt\":{attempt}}}"));
        self.add(
            took_s,
            EventBody::EvidenceReceived { stage: stage.clone(), attempt, digest, problem: None, late: false },
        );
        self.add(0, EventBody::StageJudged { stage, index, attempt, required, judgement })
    }

    pub(crate) fn artifact(&mut self, stage: &str, name: &str, text: &str) -> &mut Self {
        let digest = self.blob(text.to_owned());
        let (stage, name, bytes) = (Some(StageName::from(stage)), name.to_owned(), text.len() as u64);
        self.add(1, EventBody::ArtifactStored { stage, attempt: 1, name, digest, bytes, late: false })
    }

    pub(crate) fn decide(&mut self, kind: DecisionKind, why: &str) -> &mut Self {
        self.add(
            1860,
            EventBody::Decided {
                decision: Decision { kind, by: "jonas".into(), why: why.into(), serials: Vec::new() },
            },
        )
    }

    pub(crate) fn hold(&mut self) -> &mut Self {
        let until = Micros::seconds(self.now + 86_400);
        self.add(0, EventBody::Held { until })
    }

    pub(crate) fn seal(&mut self, key: &SigningKey) -> &mut Self {
        let sealed = attest::seal(&self.view(), self.head(), key);
        self.add(1, EventBody::Sealed(Box::new(sealed)))
    }

    pub(crate) fn head(&self) -> Sha256 {
        self.journal.last().map_or(Sha256::ZERO, |e| e.hash)
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        let read = |e: &StoredEvent| Event {
            seq: e.seq,
            at: e.at,
            body: EventBody::decode(&e.kind, &e.body).expect("reads"),
        };
        self.journal.iter().map(read).collect()
    }

    pub(crate) fn view(&self) -> RunView {
        RunView::fold(self.id, &self.events()).expect("a legal journal").expect("not empty")
    }

    pub(crate) fn bundle<'a>(&'a self, extras: &'a Extras) -> Bundle<'a> {
        Bundle { run: self.id, journal: &self.journal, addendum: &[], extras, other_keys: &[] }
    }

    fn blob(&mut self, text: String) -> Sha256 {
        let digest = Sha256::of(text.as_bytes());
        self.blobs.insert(digest, text.into_bytes());
        digest
    }
}

pub(crate) fn check(name: &str, verdict: Verdict, expected: &str, seen: &str) -> Check {
    Check { name: name.into(), verdict, expected: expected.into(), seen: seen.into() }
}

pub(crate) fn good(message: &str, what: &str, n: u64) -> Judgement {
    let checks = vec![check(&format!("every one of {what}"), Verdict::Pass, &n.to_string(), &n.to_string())];
    let coverage = vec![Coverage { what: what.into(), covered: n, total: n }];
    Judgement::from_evidence(checks, Vec::new(), coverage, Vec::new(), message)
}

/// Everything passes; the optional network stage could not be verified.
pub(crate) fn passed(key: &SigningKey) -> Story {
    let mut story = Story::begin(41, |_| {});
    story
        .boot()
        .stage(0, 1, 9, good("2 processors, 256 GiB, 2 disks, 4 ports", "parts read", 31))
        .artifact("Inventory", "inventory.json", "{\"format\":1}")
        .stage(1, 1, 1, good("matches the expected spec", "spec fields", 42));
    story.add(0, EventBody::StageStarted { stage: "SMART".into(), index: 2, attempt: 1, generation: 90 });
    story.add(
        15,
        EventBody::AttemptLost { stage: "SMART".into(), attempt: 1, reason: "the agent restarted".into() },
    );
    let smart = Judgement::from_evidence(
        vec![
            check("disk NV1: critical warning", Verdict::Pass, "0", "0"),
            check("disk NV1: media errors", Verdict::Pass, "at most 0", "0"),
            check("disk NV1: percentage used", Verdict::Pass, "at most 90 %", "61 %"),
        ],
        vec![
            Finding::new(
                "DiskWearing",
                Severity::Warning,
                "disk NV1 has used 61 % of its rated writes",
                "Plan its replacement within a year.",
            )
            .part("disk", Some("bay 3"), Some("NV1"))
            .evidence("smart-NV1.txt"),
        ],
        vec![Coverage { what: "disks".into(), covered: 2, total: 2 }],
        Vec::new(),
        "2 disks healthy",
    );
    story.stage(2, 2, 128, smart).artifact("SMART", "smart-NV1.txt", "SMART overall-health: PASSED\n");
    story.stage(3, 1, 2710, good("no error in 45 m, 96 % of memory", "GiB of memory tested", 246));
    let network = Judgement::from_evidence(
        Vec::new(),
        Vec::new(),
        vec![Coverage { what: "ports".into(), covered: 0, total: 4 }],
        vec!["the runner's link (1 Gb/s) is too slow to judge 25 Gb/s ports".into()],
        "not verified: the runner's link is too slow",
    );
    story.stage(4, 1, 4, network);
    story.add(1, EventBody::RunCompleted { result: Some(RunResult::Pass) });
    story.seal(key);
    story
}

/// Held at SpecValidate: a memory module is missing, a disk was swapped for another.
pub(crate) fn held() -> Story {
    let mut story = Story::begin(42, |_| {});
    story.boot().stage(0, 1, 9, good("2 processors, 240 GiB, 2 disks, 4 ports", "parts read", 30));
    let spec = Judgement::from_evidence(
        vec![
            check("memory, slot A2", Verdict::Fail, "16 GiB", "empty"),
            check("memory, all slots", Verdict::Fail, "256 GiB", "240 GiB"),
            check("disk, bay 3: serial", Verdict::Fail, "S6PNNX0T812345", "S6PNNX0T899999"),
            check("firmware version", Verdict::Pass, "3.8", "3.8"),
            check("processor model", Verdict::Pass, "2 × EPYC 7443P", "2 × EPYC 7443P"),
        ],
        vec![
            Finding::new("BiosDate", Severity::Info, "the firmware is of 2023", "Nothing to do."),
            Finding::new(
                "DimmMissing",
                Severity::Critical,
                "slot A2 is empty; a 16 GiB module is expected there",
                "Power off, seat the module in slot A2, and retry the stage.",
            )
            .part("dimm", Some("A2"), None)
            .evidence("inventory.json"),
            Finding::new(
                "DiskSwapped",
                Severity::Critical,
                "bay 3 holds S6PNNX0T899999 where S6PNNX0T812345 is expected",
                "Put the expected disk back into bay 3, or enter the new serial in the host's spec.",
            )
            .part("disk", Some("bay 3"), Some("S6PNNX0T899999")),
        ],
        vec![Coverage { what: "spec fields".into(), covered: 41, total: 42 }],
        vec!["slot A2: nothing to compare, the slot is empty".into()],
        "2 critical differences from the expected spec",
    );
    story.stage(1, 1, 1, spec).artifact("Inventory", "inventory.json", "{\"format\":1,\"held\":true}").hold();
    story
}

/// The same, waived and carried to its end.
pub(crate) fn overridden(key: &SigningKey) -> Story {
    let mut story = held();
    story.decide(DecisionKind::Waive, "module is on order, node is needed as a witness only");
    for (index, name) in [(2, "disks"), (3, "GiB of memory tested"), (4, "ports")] {
        story.stage(index, 1, 60, good("fine", name, 4));
    }
    story.add(1, EventBody::RunCompleted { result: Some(RunResult::Pass) });
    story.seal(key);
    story
}

/// Stopped by an operator before any stage.
pub(crate) fn cancelled(key: &SigningKey) -> Story {
    let mut story = Story::begin(44, |_| {});
    story.boot().decide(DecisionKind::Cancel, "wrong machine");
    story.add(5, EventBody::CancelConfirmed { how: "power is off".into() });
    story.seal(key);
    story
}

/// A run with every check of one code switched off.
pub(crate) fn muted(key: &SigningKey) -> Story {
    let mut story = Story::begin(45, |c| {
        c.muted = vec!["DimmMissing".into()];
        c.profile = "quick".into();
        c.stages.truncate(1);
    });
    story.boot().stage(0, 1, 9, good("fine", "parts read", 30));
    story.add(1, EventBody::RunCompleted { result: Some(RunResult::Pass) });
    story.seal(key);
    story
}

/// A run without one of its stages.
pub(crate) fn left_out(key: &SigningKey) -> Story {
    let mut story = Story::begin(46, |c| {
        c.options.left_out = vec!["Storage".into()];
        c.stages.truncate(1);
    });
    story.boot().stage(0, 1, 9, good("fine", "parts read", 30));
    story.add(1, EventBody::RunCompleted { result: Some(RunResult::Pass) });
    story.seal(key);
    story
}

/// A run that was to go on from the snapshot of an earlier one.
pub(crate) fn begun_late(key: &SigningKey) -> Story {
    let mut story = Story::begin(47, |c| {
        c.options.from_phase = Some("welcome".into());
        c.stages.truncate(1);
    });
    story.boot().stage(0, 1, 9, good("fine", "parts read", 30));
    story.add(1, EventBody::RunCompleted { result: Some(RunResult::Pass) });
    story.seal(key);
    story
}

/// A recipe that was green.
pub(crate) fn red_recipe(key: &SigningKey) -> Story {
    let mut story = Story::begin(48, |c| {
        c.pipeline = assay_model::Pipeline::Recipe;
        c.target.name = "shop".into();
        c.stages.truncate(1);
    });
    story.boot().stage(0, 1, 9, Judgement::error("nobody answers"));
    story.add(1, EventBody::RunCompleted { result: Some(RunResult::Fail) });
    story.seal(key);
    story
}

/// What a server would add: the machine, its temperatures, the checks' last red.
pub(crate) fn extras(story: &Story) -> Extras {
    let wave = |base: f64, rise: f64, wobble: f64| {
        (0..600)
            .map(|i| {
                let t = f64::from(i) * 5.0;
                let heat = (1.0 - (-(t - 400.0).max(0.0) / 300.0).exp()) * rise;
                (t, base + heat + wobble * (f64::from(i) * 0.7).sin())
            })
            .collect()
    };
    let series = |name: &str, unit: &str, points| Series { name: name.into(), unit: unit.into(), points };
    let text = |t: &str| Some(t.to_owned());
    let dimm = |slot: &str, serial: &str| Dimm {
        locator: text(slot),
        size_mib: Some(16_384),
        part: text("M393A2K43DB3-CWE"),
        serial: text(serial),
        speed_mts: Some(3200),
        ..Dimm::default()
    };
    let disk = |name: &str, serial: &str| Disk {
        name: name.into(),
        serial: text(serial),
        model: text("SAMSUNG MZQL21T9HCJR-00A07"),
        firmware: text("GDC5902Q"),
        size_bytes: Some(1_920_383_410_176),
        transport: Transport::Nvme,
        ..Disk::default()
    };
    Extras {
        inventory: Some(Inventory {
            system: System {
                manufacturer: text("Supermicro"),
                product: text("AS-1114S-WN10RT"),
                serial: text("S452911X2A04217"),
                uuid: text("7d2f0c00-3c1a-11ec-8000-3cecef123456"),
                asset_tag: text("DC1-R07-U22"),
                ..System::default()
            },
            bios: Bios { vendor: text("AMI"), version: text("3.8"), date: text("06/14/2023") },
            cpus: vec![Cpu { model: text("AMD EPYC 7443P 24-Core Processor"), ..Cpu::default() }],
            memory: Memory {
                total_mib: Some(32_768),
                dimms: vec![dimm("A1", "80CE01223412AB34CD"), dimm("B1", "80CE01223412AB34CE")],
            },
            disks: vec![disk("nvme0n1", "S6PNNX0T899999"), disk("nvme1n1", "S6PNNX0T812346")],
            nics: vec![Nic {
                name: "enp65s0f0".into(),
                mac: text("3c:ec:ef:12:34:56"),
                driver: text("mlx5_core"),
                speed_mbps: Some(25_000),
                ..Nic::default()
            }],
            ..Inventory::default()
        }),
        series: vec![
            series("k10temp/Tctl@pci0000:00", "°C", wave(38.0, 41.0, 0.9)),
            series("nvme/Composite@0000:41:00.0", "°C", wave(34.0, 17.0, 0.4)),
            series("jc42/DIMM A1@i2c-2", "°C", wave(31.0, 12.0, 0.2)),
            series("ipmi/FAN1", "RPM", wave(5200.0, 4100.0, 60.0)),
        ],
        events: story.events(),
        last_red: vec![
            LastRed { code: "DimmMissing".into(), at: Some(Micros::seconds(START - 86_400)) },
            LastRed { code: "DiskSwapped".into(), at: None },
        ],
        pictures: vec![("installer-screen-01.png".to_owned(), b"\x89PNG".to_vec())],
        ..Extras::default()
    }
}
