//! A healthy test of a small installer, as a profile and as evidence: what the judges' tests bend in one place each.

mod laws;

use std::collections::BTreeMap;
use std::path::PathBuf;

use assay_console::Rung;
use assay_model::{Judgement, Sha256, StageName};
use serde::Serialize;
use serde_json::{Value, json};

pub(super) use self::laws::{
    Row, a_guest_s_words_are_shown_clean, each_raises_its_own_code, nothing_is_missed_in_silence,
    on_the_page, the_page_has_them_all, walk, with,
};
use super::evidence::{
    BootEntry, Booted, Deregistered, DiskAfter, DiskBefore, FileSeen, Identified, Inspected, Installed,
    Joined, NameSeen, OtherMachine, Outcome, PhaseSeen, Prepared, Rebooted, ReconcileLook, ReconcilePass,
    Reconciled, Registration, RungSeen, Staged, Volume, Watched,
};
use super::{ImageInput, ImageSpec, Profile, stage};

/// What the machine is held to: everything that a profile can ask for.
pub(super) const PROFILE: &str = r#"
name = "small"

[[machine.disk]]
name = "NV0"
bus = "nvme"
size = "3GiB"
expect = "boot"
labels = ["root"]

[[machine.disk]]
name = "SSD0"
bus = "sata"
size = "1GiB"
expect = "data"
labels = ["data1"]

[[machine.disk]]
name = "USB0"
bus = "usb"
size = "512MiB"
removable = true
holds = "vfat"
expect = "untouched"

[[machine.disk]]
name = "SMALL0"
bus = "scsi"
size = "64MiB"
expect = "untouched"

[medium]
as = "usb"
zero-typing = true

[[medium.file]]
path = "/join-token"
content = "{token}\n"
secret = true
read = 'read /join-token'

[inspect]
volume-id = "^SMALL_INSTALLER$"
required = ["/live/*.squashfs"]
forbidden = ["/**/id_ed25519"]
max-size = "64MiB"

[[phase]]
name = "menu"
stage = "boot"
marker = "loading the installer"
timeout = "30s"

[[phase]]
name = "partitioned"
marker = "partitioned"
timeout = "60s"

[[phase]]
name = "installed"
marker = "INSTALL COMPLETE"
timeout = "180s"

[[phase]]
name = "welcome"
stage = "reboot"
marker = 'Welcome to \S+'
timeout = "60s"

[install]
ends = "reboot"

[identify]
hostname = "node-[0-9a-f]{6}"
announced = 'generated: (?P<host>\S+)'
machines = 2
stable-on-repair = true

[[identify.content]]
disk = "boot"
label = "root"
fs = "ext4"
files = ["/boot/vmlinuz"]
hostname-in = "/etc/hostname"

[join]
by = "git"
joins = true
schema = "node.schema.json"
times = ["/registeredAt"]
macs = ["/mac"]

[join.fields]
"/name" = "{host}"
"/maintainer" = "{operator}"

[reconcile]
application = "application.yaml"
definitions = ["crd.yaml"]
"#;

/// The name of the first machine.
pub(super) const HOST: &str = "node-00a1b2";

/// What such a text must not do to whoever reads it: repaint the terminal, turn the line around, fill the page.
pub(super) fn hostile() -> String {
    format!("\u{1b}[2J\u{202e}evil\u{7}\n::error::{}", "x".repeat(10_000))
}

/// A test, and what was seen in it.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) profile: Profile,
    pub(super) prepared: Prepared,
    pub(super) inspected: Inspected,
    pub(super) booted: Booted,
    pub(super) installed: Installed,
    pub(super) rebooted: Rebooted,
    pub(super) identified: Identified,
    pub(super) joined: Joined,
    pub(super) reconciled: Reconciled,
    pub(super) record: Value,
}

impl Seen {
    /// Everything went well.
    pub(super) fn good() -> Self {
        Self {
            profile: Profile::from_toml(PROFILE).expect("the fixture's profile"),
            prepared: prepared(),
            inspected: inspected(),
            booted: Booted { watched: watched(&[("menu", 4.0)], Rung::Userspace), command: "qemu".into() },
            installed: installed(),
            rebooted: Rebooted { watched: first_boot(HOST), egress: Vec::new() },
            identified: Identified { others: vec![other("node-00a1b3")], repaired: Some(other(HOST)) },
            joined: joined(),
            reconciled: reconciled(),
            record: json!({
                "chain_ok": true, "events": 40, "artifacts": 12, "missing_artifacts": [], "altered_artifacts": []
            }),
        }
    }

    /// The evidence of a stage, as the runner sends it.
    pub(super) fn evidence(&self, stage: &str) -> Value {
        fn sent(evidence: &impl Serialize) -> Value {
            serde_json::to_value(evidence).expect("evidence is plain data")
        }
        match stage {
            "Prepare" => sent(&self.prepared),
            "Inspect" => sent(&self.inspected),
            "Boot" => sent(&self.booted),
            "Install" => sent(&self.installed),
            "Reboot" => sent(&self.rebooted),
            "Identify" => sent(&self.identified),
            "Join" => sent(&self.joined),
            "Reconcile" => sent(&self.reconciled),
            "Reporting" => self.record.clone(),
            other => panic!("there is no stage {other}"),
        }
    }

    /// What the judge of a stage says of it.
    pub(super) fn judged(&self, name: &str) -> Judgement {
        self.judged_on(name, &self.evidence(name))
    }

    /// What the judge of a stage says when the runner brings this.
    pub(super) fn judged_on(&self, name: &str, evidence: &Value) -> Judgement {
        let earlier: Vec<(StageName, Value)> = ["Prepare", "Inspect", "Boot", "Install", "Reboot"]
            .into_iter()
            .take_while(|earlier| *earlier != name)
            .map(|earlier| (StageName::from(earlier), self.evidence(earlier)))
            .collect();
        self.judged_after(name, evidence, &earlier)
    }

    /// The same, after these stages alone.
    pub(super) fn judged_after(
        &self,
        name: &str,
        evidence: &Value,
        earlier: &[(StageName, Value)],
    ) -> Judgement {
        stage(name).expect("a stage").judge(&ImageInput::new(&self.spec(), evidence, earlier))
    }

    /// The image that was tested.
    pub(super) fn spec(&self) -> ImageSpec {
        ImageSpec {
            from_phase: None,
            image: PathBuf::from("small.iso"),
            sha256: None,
            profile: self.profile.clone(),
            folder: PathBuf::from("."),
            cell: BTreeMap::new(),
            on: None,
            main: false,
            seed: 7,
            source: None,
        }
    }

    /// The watched machine of a stage that watches one.
    pub(super) fn watched(&mut self, stage: &str) -> &mut Watched {
        match stage {
            "Boot" => &mut self.booted.watched,
            "Install" => &mut self.installed.watched,
            "Reboot" => &mut self.rebooted.watched,
            other => panic!("{other} watches no machine"),
        }
    }

    /// A disk after the installation.
    pub(super) fn disk(&mut self, name: &str) -> &mut DiskAfter {
        self.installed.disks.iter_mut().find(|disk| disk.name == name).expect("a disk of the fixture")
    }
}

fn prepared() -> Prepared {
    let disk = |name: &str, bytes: u64, holds: &str| DiskBefore {
        name: name.into(),
        bytes,
        content: "0".repeat(64),
        holds: holds.into(),
    };
    Prepared {
        taken_up: None,
        bytes: 34 << 20,
        sha256: Sha256::of(b"small.iso"),
        medium: "flashed to a USB stick, files staged on its EFI partition".into(),
        stick_bytes: Some(1 << 30),
        flash: None,
        staged: vec![Staged { path: "/join-token".into(), bytes: 41, secret: true, read_back: true }],
        problem: None,
        accel: "software emulation: there is no /dev/kvm".into(),
        payload_ms: Some(900),
        disks: vec![
            disk("NV0", 3 << 30, "nothing"),
            disk("SSD0", 1 << 30, "nothing"),
            disk("USB0", 512 << 20, "vfat"),
            disk("SMALL0", 64 << 20, "nothing"),
        ],
    }
}

fn inspected() -> Inspected {
    let entry = |firmware: &str| BootEntry {
        firmware: firmware.into(),
        usable: true,
        detail: "2048 bytes at block 96".into(),
    };
    Inspected {
        problem: None,
        volume_id: "SMALL_INSTALLER".into(),
        said_bytes: 34 << 20,
        bytes: 34 << 20,
        entries: vec![entry("BIOS"), entry("UEFI")],
        stick_bios: true,
        stick_uefi: true,
        files: 40,
        required: BTreeMap::from([("/live/*.squashfs".into(), vec!["/live/system.squashfs".into()])]),
        empty: Vec::new(),
        forbidden: Vec::new(),
    }
}

/// A machine that got there, by these phases and up to this rung.
fn watched(phases: &[(&str, f64)], rung: Rung) -> Watched {
    let phase = |(name, at_s): &(&str, f64)| PhaseSeen {
        name: (*name).into(),
        at_s: *at_s,
        took_s: 2.0,
        limit_s: 60.0,
        reacted_ms: 0.4,
        written: Some(if *name == "installed" { 300 << 20 } else { 1 << 20 }),
        line: format!("[installer] {name}"),
        channel: "serial".into(),
        captures: BTreeMap::new(),
    };
    let seen = |rung: Rung, at_s: f64, line: &str| RungSeen { rung, at_s, line: line.into() };
    Watched {
        accel: "kvm".into(),
        stretch: 1.0,
        outcome: Outcome::Reached,
        rungs: vec![seen(Rung::Firmware, 0.3, "SeaBIOS (version 1.16.2)"), seen(rung, 9.0, "small login:")],
        phases: phases.iter().map(phase).collect(),
        noted: Vec::new(),
        typed: Vec::new(),
        input: 0,
        events: Vec::new(),
        shots: Vec::new(),
        lines: BTreeMap::from([("serial".into(), 400)]),
        seconds: 30.0,
        leaks: Vec::new(),
        staged_read: BTreeMap::new(),
        names: Vec::new(),
    }
}

fn name(by: &str, host: &str) -> NameSeen {
    NameSeen {
        at_s: 12.0,
        by: by.into(),
        name: host.into(),
        channel: "serial".into(),
        line: format!("{by} {host}"),
    }
}

fn installing(host: &str) -> Watched {
    let mut machine = watched(&[("partitioned", 14.0), ("installed", 30.0)], Rung::Userspace);
    machine.staged_read = BTreeMap::from([("/join-token".into(), "read /join-token (secret)".into())]);
    machine.names = vec![name("announced", host)];
    machine
}

fn first_boot(host: &str) -> Watched {
    let mut machine = watched(&[("welcome", 10.0)], Rung::Login);
    machine.names = vec![name("banner", host)];
    machine
}

fn other(host: &str) -> OtherMachine {
    OtherMachine { install: installing(host), reboot: Some(first_boot(host)) }
}

fn installed() -> Installed {
    let volume = |number: u32, label: &str, fs: &str, bytes: u64| Volume {
        number,
        label: format!("part-{label}"),
        fs: fs.into(),
        fs_label: label.into(),
        bytes,
        files: BTreeMap::new(),
    };
    let disk = |name: &str, changed: bool, volumes: Vec<Volume>| DiskAfter {
        name: name.into(),
        changed,
        first_change: changed.then_some(512),
        changed_blocks: if changed { 70_000 } else { 0 },
        written: if changed { 280 << 20 } else { 0 },
        table: "gpt".into(),
        bootable: false,
        volumes,
        problem: None,
    };
    let mut root = volume(2, "root", "ext4", 2 << 30);
    root.files = BTreeMap::from([
        ("/boot/vmlinuz".into(), FileSeen { bytes: Some(8 << 20), first_line: None }),
        ("/etc/hostname".into(), FileSeen { bytes: Some(12), first_line: Some(HOST.into()) }),
    ]);
    let boot = disk("NV0", true, vec![volume(1, "esp", "vfat", 288 << 20), root]);
    Installed {
        watched: installing(HOST),
        ended: "rebooted".into(),
        shutdown: "it had gone off by itself".into(),
        written: 301 << 20,
        disks: vec![
            DiskAfter { bootable: true, ..boot },
            disk("SSD0", true, vec![volume(1, "data1", "ext4", 1 << 30)]),
            disk("USB0", false, vec![volume(0, "FORGOTTEN", "vfat", 512 << 20)]),
            disk("SMALL0", false, Vec::new()),
        ],
        egress: Vec::new(),
        disk_errors: 0,
        faults: Vec::new(),
        cut: None,
    }
}

fn joined() -> Joined {
    let payload = format!(
        "name: {HOST}\nmaintainer: operator\nregisteredAt: '2026-01-02T03:04:30Z'\nmac: '52:54:00:00:00:07'\n"
    );
    Joined {
        ledger: json!({"requests": [{"id": 1, "path": "/operator/cluster.git/info/refs"}], "faults": []}),
        registrations: vec![Registration {
            at: 52.0,
            by: "git".into(),
            branch: format!("register-{HOST}"),
            author: "Node <node@small>".into(),
            message: "register".into(),
            paths: vec![(format!("maintainers/operator/cluster-nodes/{HOST}/node.yaml"), "A".into())],
            payload: Some(payload),
            pull_request: true,
            schema_problems: Vec::new(),
            leaks: Vec::new(),
        }],
        joins: vec![(HOST.into(), 95.0)],
        orphans: Vec::new(),
        installed_at: Some(50.0),
        up_at: Some(80.0),
        deregistered: Some(Deregistered { merged: true, left: Vec::new(), problem: None }),
        macs: vec!["52:54:00:00:00:07".into()],
        began: "2026-01-02T03:04:00Z".into(),
        ended: "2026-01-02T03:06:00Z".into(),
    }
}

/// What is registered of a machine.
fn node(host: &str) -> Value {
    json!({
        "apiVersion": "small.example/v1", "kind": "Node", "metadata": {"name": host},
        "spec": {"gpu": "no", "network": {"mac": "52:54:00:00:00:07"}},
    })
}

/// Another machine was there before; the first one comes, and goes.
fn reconciled() -> Reconciled {
    let pass = |revision: char, hosts: &[&str]| {
        let revision = revision.to_string().repeat(40);
        let place = |host: &str| format!("maintainers/operator/cluster-nodes/{host}/node.yaml");
        let live = |host: &&str| {
            let mut node = node(host);
            node["metadata"]["namespace"] = json!("small");
            node
        };
        let look = |minute: u32| ReconcileLook {
            application: json!({"status": {
                "sync": {"status": "Synced", "revision": revision},
                "health": {"status": "Healthy"},
                "operationState": {
                    "phase": "Succeeded", "startedAt": "2026-01-02T03:07:00Z", "finishedAt": "2026-01-02T03:07:01Z",
                    "syncResult": {"revision": revision},
                },
                "reconciledAt": format!("2026-01-02T03:{minute:02}:00Z"),
            }}),
            objects: hosts.iter().map(live).collect(),
        };
        ReconcilePass {
            files: hosts.iter().map(|host| (place(host), node(host).to_string())).collect(),
            looks: vec![look(8), look(9)],
            dropped: Vec::new(),
            seconds: 1.5,
            revision: revision.clone(),
        }
    };
    Reconciled {
        server: "kube-apiserver v1.20.2".into(),
        absent: None,
        host: HOST.into(),
        namespace: "small".into(),
        passes: vec![pass('a', &[HOST, "node-0a1b2c"]), pass('b', &["node-0a1b2c"])],
    }
}
