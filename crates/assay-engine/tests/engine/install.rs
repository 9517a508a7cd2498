//! An image on a registered machine, from its request to its seal: who is asked, what is served, what is refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use assay_console::Rung;
use assay_engine::EngineError;
use assay_engine::agents::{Boot, Todo};
use assay_engine::images::{ImageRequest, OnHost};
use assay_engine::install::{Brought, Open};
use assay_engine::permits::{Asked, ClusterGuard};
use assay_engine::runners::{Order, Waiting, order};
use assay_model::event::PowerAction;
use assay_model::host::clearance::{ClearanceDisk, ClearanceEvidence};
use assay_model::host::permit::{ErasePermit, GuardAnswer};
use assay_model::host::spec::ProxmoxMember;
use assay_model::host::storage::{PermitOutcome, Signature, WipeProbe};
use assay_model::{Decision, DecisionKind, RunId, RunState, Sha256, Verdict};
use assay_pipelines::image::evidence::{
    Booted, Identified, Inspected, Installed, Outcome, PhaseSeen, Prepared, Rebooted, RungSeen, Watched,
};
use assay_pipelines::image::{ImageSpec, Profile};
use assay_testkit::{Bench, ScriptedAgent, canned};
use serde_json::{Value, json};

use crate::story;

const PROFILE: &str = r#"
name = "my"
[machine]
memory = "1GiB"
[[phase]]
name = "installed"
marker = "INSTALLED"
timeout = "60s"
[[phase]]
name = "welcome"
stage = "reboot"
marker = "Welcome"
timeout = "60s"
"#;

/// A cluster that says what the test has it say.
struct Cluster(Mutex<GuardAnswer>);

impl Cluster {
    fn says(&self, answer: GuardAnswer) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }
}

impl ClusterGuard for Cluster {
    fn ask<'a>(&'a self, _: &'a ProxmoxMember) -> Asked<'a> {
        let answer = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(std::future::ready(answer))
    }
}

/// A bench whose host is a lab machine: a console that can be read, a medium that can be inserted.
async fn bench() -> (Bench, Waiting) {
    with_spec(canned::SPEC).await
}

async fn with_spec(spec: &str) -> (Bench, Waiting) {
    let mut bench = Bench::with_spec(spec).await;
    bench.host.power = json!({ "method": "lab", "machine": "web-3" });
    bench.engine.store().host_put(&bench.host).await.expect("stored");
    let runner = bench.engine.waiting("rack-2", &["lab".to_owned()]);
    (bench, runner)
}

/// One whose host is a member of a cluster.
async fn member() -> (Bench, Waiting, Arc<Cluster>) {
    let cluster = "cluster: {proxmox: {url: 'https://pve1:8006', node: pve3}}";
    let spec = canned::SPEC.replace("cluster: none", cluster);
    let (mut bench, runner) = with_spec(&spec).await;
    let cluster = Arc::new(Cluster(Mutex::new(GuardAnswer::Offline { node: "pve3".to_owned() })));
    bench.engine = bench.engine.clone().with_guard(Arc::clone(&cluster) as _);
    (bench, runner, cluster)
}

fn request() -> ImageRequest {
    request_of(PROFILE)
}

fn request_of(profile: &str) -> ImageRequest {
    let spec = ImageSpec {
        image: "/images/my.iso".into(),
        sha256: None,
        profile: Profile::from_toml(profile).expect("a profile"),
        folder: "/images".into(),
        cell: BTreeMap::new(),
        on: None,
        main: false,
        from_phase: None,
        seed: 7,
        source: None,
    };
    ImageRequest { spec, runner: None, muted: Vec::new(), by: "mara".to_owned() }
}

const HOW: OnHost = OnHost { boot_timeout_s: 600, hold_s: 86_400, holds: true };

async fn asked(bench: &Bench) -> RunId {
    let run = bench.engine.test_image_on(&bench.host, request(), HOW).await.expect("queued").id;
    bench.turn().await;
    run
}

async fn now(bench: &Bench, run: RunId) -> Order {
    order(&*bench.view(run).await)
}

/// The runner brings a stage that needs no machine.
async fn looked(bench: &Bench, run: RunId, stage: &str, evidence: &impl serde::Serialize) {
    let Order::Look(open) = now(bench, run).await else { panic!("{:?}", now(bench, run).await) };
    assert_eq!(open.stage.as_str(), stage);
    bring(bench, run, open, evidence).await;
}

/// The runner brings a stage of the installation that it follows.
async fn followed(bench: &Bench, run: RunId, stage: &str, evidence: &impl serde::Serialize) {
    let Order::Install(following) = now(bench, run).await else { panic!("{:?}", now(bench, run).await) };
    let open = following.open.expect("a stage is open");
    assert_eq!(open.stage.as_str(), stage);
    bring(bench, run, open, evidence).await;
}

async fn bring(bench: &Bench, run: RunId, open: Open, evidence: &impl serde::Serialize) {
    let Open { stage, attempt, generation, .. } = open;
    let evidence = serde_json::to_value(evidence).expect("plain");
    let texts =
        BTreeMap::from([(format!("{}-console.txt", stage.as_str().to_lowercase()), "said".to_owned())]);
    let brought = Brought { stage, attempt, generation, evidence, problem: None, texts };
    assert!(!bench.engine.brought(run, brought).await.expect("taken"));
    bench.after(1).await;
}

fn prepared() -> Prepared {
    Prepared {
        taken_up: None,
        bytes: 32 << 20,
        sha256: Sha256::of(b"my.iso"),
        medium: "as a CD that the management controller shows".to_owned(),
        stick_bytes: None,
        flash: None,
        staged: Vec::new(),
        problem: None,
        accel: "a registered machine".to_owned(),
        payload_ms: None,
        disks: Vec::new(),
    }
}

fn inspected() -> Inspected {
    let entry = |firmware: &str| assay_pipelines::image::evidence::BootEntry {
        firmware: firmware.to_owned(),
        usable: true,
        detail: String::new(),
    };
    Inspected {
        problem: None,
        volume_id: "MY".to_owned(),
        said_bytes: 32 << 20,
        bytes: 32 << 20,
        entries: vec![entry("BIOS"), entry("UEFI")],
        stick_bios: true,
        stick_uefi: true,
        files: 3,
        required: BTreeMap::new(),
        empty: Vec::new(),
        forbidden: Vec::new(),
    }
}

fn watched(phase: Option<&str>) -> Watched {
    let phases = phase.map(|name| PhaseSeen {
        name: name.to_owned(),
        at_s: 9.0,
        took_s: 9.0,
        limit_s: 60.0,
        reacted_ms: 1.0,
        written: None,
        line: "said".to_owned(),
        channel: "serial".to_owned(),
        captures: BTreeMap::new(),
    });
    let rung = |rung, line: &str| RungSeen { rung, at_s: 5.0, line: line.to_owned() };
    Watched {
        accel: "a registered machine".to_owned(),
        stretch: 1.0,
        outcome: Outcome::Reached,
        rungs: vec![rung(Rung::Kernel, "Linux version"), rung(Rung::Login, "login:")],
        phases: phases.into_iter().collect(),
        noted: Vec::new(),
        typed: Vec::new(),
        input: 0,
        events: Vec::new(),
        shots: Vec::new(),
        lines: BTreeMap::new(),
        seconds: 10.0,
        leaks: Vec::new(),
        staged_read: BTreeMap::new(),
        names: Vec::new(),
    }
}

fn booted() -> Booted {
    Booted { watched: watched(None), command: String::new() }
}

fn installed() -> Installed {
    Installed {
        watched: watched(Some("installed")),
        ended: "rebooted".to_owned(),
        shutdown: String::new(),
        written: 0,
        disks: Vec::new(),
        egress: Vec::new(),
        disk_errors: 0,
        faults: Vec::new(),
        cut: None,
    }
}

fn rebooted() -> Rebooted {
    Rebooted { watched: watched(Some("welcome")), egress: Vec::new() }
}

fn empty_disks(permit: &ErasePermit) -> Value {
    disks(permit, Vec::new())
}

/// What the agent says of the canned machine's disks; `on_s2` is what it found on the second.
fn disks(permit: &ErasePermit, on_s2: Vec<Signature>) -> Value {
    let disk = |name: &str, serial: &str, signatures: Vec<Signature>| ClearanceDisk {
        name: name.to_owned(),
        serial: Some(serial.to_owned()),
        size_bytes: Some(960_197_124_096),
        probe: Some(WipeProbe { signatures, read_bytes: 32 << 20, ..WipeProbe::default() }),
        named: permit.names(Some(serial), None),
        data_permitted: permit.names_with_data(Some(serial), None),
        ..ClearanceDisk::default()
    };
    let evidence = ClearanceEvidence {
        format: 1,
        permit: PermitOutcome::Valid { guard: permit.guard.clone() },
        disks: vec![disk("nvme0n1", "S1", Vec::new()), disk("nvme1n1", "S2", on_s2)],
        ..ClearanceEvidence::default()
    };
    serde_json::to_value(evidence).expect("plain")
}

/// The permit that comes with the open try.
async fn permit(bench: &Bench, agent: &ScriptedAgent) -> ErasePermit {
    let Todo::Stage { stage, generation, .. } = bench.todo(agent).await else { panic!("no stage is open") };
    let view = bench.view(agent.run).await;
    let input = bench.engine.stage_input(&view, &stage, generation).await.expect("an input");
    serde_json::from_str(&input.permit.expect("a permit").permit).expect("reads")
}

/// Looked at, switched on, in the live image, its parts known: `Clearance` is open.
async fn before_clearance(bench: &Bench) -> (RunId, ScriptedAgent) {
    let run = asked(bench).await;
    looked(bench, run, "Prepare", &prepared()).await;
    looked(bench, run, "Inspect", &inspected()).await;
    let cycle = bench.power(run, true).await;
    assert!(matches!(cycle, Order::Power { action: PowerAction::Cycle, .. }), "{cycle:?}");
    bench.after(60).await;
    let agent = bench.enrol().await;
    bench.collect(&agent, "Inventory", &canned::evidence("Inventory")).await;
    (run, agent)
}

async fn cleared(bench: &Bench) -> (RunId, ScriptedAgent) {
    let (run, agent) = before_clearance(bench).await;
    let evidence = empty_disks(&permit(bench, &agent).await);
    bench.collect(&agent, "Clearance", &evidence).await;
    (run, agent)
}

/// The medium is in, and the machine was told to go on to it.
async fn on_the_medium(bench: &Bench) -> RunId {
    let (run, _) = cleared(bench).await;
    let medium = bench.power(run, true).await;
    assert!(matches!(medium, Order::Power { action: PowerAction::Medium, .. }), "{medium:?}");
    let boot = bench.engine.boot(canned::MAC).await.expect("an answer");
    assert!(matches!(boot, Boot::Medium { .. }), "{boot:?}");
    run
}

async fn local(bench: &Bench) -> bool {
    matches!(bench.engine.boot(canned::MAC).await.expect("an answer"), Boot::Local { .. })
}

#[tokio::test]
async fn from_the_request_to_the_seal() {
    let (bench, _runner) = bench().await;
    let run = on_the_medium(&bench).await;
    let medium = bench.engine.medium(&*bench.view(run).await).await.expect("known");
    assert_eq!((medium.sha256, medium.image.to_str()), (Sha256::of(b"my.iso"), Some("/images/my.iso")));
    followed(&bench, run, "Boot", &booted()).await;
    // It installs, and reboots by itself: it must see neither live image nor medium again.
    assert!(local(&bench).await);
    followed(&bench, run, "Install", &installed()).await;
    assert!(local(&bench).await);
    followed(&bench, run, "Reboot", &rebooted()).await;
    for stage in ["Identify", "Join", "Reconcile"] {
        looked(&bench, run, stage, &Identified::default()).await;
        assert!(local(&bench).await);
    }
    // No agent of ours runs on it any more: the runner switches it off.
    let off = bench.power(run, true).await;
    assert!(matches!(off, Order::Power { action: PowerAction::Off, .. }), "{off:?}");
    insta::assert_snapshot!(story(&bench, run).await, @r"
    RunCreated web-3
    Admitted rack-2
    StageStarted Prepare 1, generation 1
    ArtifactStored prepare-console.txt
    EvidenceReceived Prepare 1
    StageJudged Prepare 1: pass
    StageStarted Inspect 1, generation 2
    ArtifactStored inspect-console.txt
    EvidenceReceived Inspect 1
    StageJudged Inspect 1: pass
    PowerRequested cycle
    PowerDone ok: ForceRestart accepted
    BootServed boot 1
    Enrolled boot 1, generation 3
    StageStarted Inventory 1, generation 4
    PostMortem boot 1, 0 records
    EvidenceReceived Inventory 1
    StageJudged Inventory 1: pass
    StageStarted Clearance 1, generation 5
    EvidenceReceived Clearance 1
    StageJudged Clearance 1: pass
    StageStarted Boot 1, generation 6
    PowerRequested medium
    PowerDone ok: ForceRestart accepted
    MediumServed Boot 1
    ArtifactStored boot-console.txt
    EvidenceReceived Boot 1
    StageJudged Boot 1: pass
    StageStarted Install 1, generation 7
    ArtifactStored install-console.txt
    EvidenceReceived Install 1
    StageJudged Install 1: unverified
    StageStarted Reboot 1, generation 8
    ArtifactStored reboot-console.txt
    EvidenceReceived Reboot 1
    StageJudged Reboot 1: pass
    StageStarted Identify 1, generation 9
    ArtifactStored identify-console.txt
    EvidenceReceived Identify 1
    StageJudged Identify 1: skip
    StageStarted Join 1, generation 10
    ArtifactStored join-console.txt
    EvidenceReceived Join 1
    StageJudged Join 1: skip
    StageStarted Reconcile 1, generation 11
    ArtifactStored reconcile-console.txt
    EvidenceReceived Reconcile 1
    StageJudged Reconcile 1: skip
    StageStarted Reporting 1, generation 12
    EvidenceReceived Reporting 1
    StageJudged Reporting 1: pass
    RunCompleted pass
    PowerRequested off
    PowerDone ok: ForceRestart accepted
    Sealed
    ");
    let view = bench.check(run).await;
    let verdicts: Vec<_> = view.stages.iter().map(|s| (s.plan.name.as_str(), s.verdict())).collect();
    let pass = Some(Verdict::Pass);
    assert_eq!(
        verdicts[..5],
        [("Prepare", pass), ("Inspect", pass), ("Inventory", pass), ("Clearance", pass), ("Boot", pass)]
    );
    assert_eq!(verdicts[6], ("Reboot", pass));
    assert_ne!(verdicts[5].1, pass, "nobody has read its disks: {:?}", view.stages[5].judgement());
    assert!(view.artifacts.iter().any(|a| a.name == "boot-console.txt"), "{:?}", view.artifacts);
}

#[tokio::test]
async fn a_live_member_is_refused_before_its_power_is_cut() {
    let (bench, _runner, cluster) = member().await;
    cluster.says(GuardAnswer::Live { node: "pve3".to_owned() });
    let refused = bench.engine.test_image_on(&bench.host, request(), HOW).await.expect_err("it is in use");
    assert!(matches!(&refused, EngineError::Refused(why) if why.contains("NodeIsLiveMember")), "{refused:?}");
    let unreachable = GuardAnswer::Unreachable { node: "pve3".to_owned(), why: "no quorum".to_owned() };
    cluster.says(unreachable);
    let refused = bench.engine.test_image_on(&bench.host, request(), HOW).await.expect_err("who knows");
    assert!(refused.to_string().contains("ClusterGuardUnreachable"), "{refused}");
    assert_eq!(bench.engine.open_run_of(bench.host.id).await.expect("read"), None, "there is no run");
}

#[tokio::test]
async fn the_cluster_is_asked_again_before_the_medium_goes_in() {
    let (bench, _runner, cluster) = member().await;
    let (run, agent) = before_clearance(&bench).await;
    let evidence = empty_disks(&permit(&bench, &agent).await);
    // It came back to its cluster, say under another system that somebody booted with the same name.
    cluster.says(GuardAnswer::Live { node: "pve3".to_owned() });
    bench.collect(&agent, "Clearance", &evidence).await;
    let view = bench.view(run).await;
    assert_eq!((view.state(), view.failed_stage()), (RunState::FailedHolding, Some("Boot")));
    let judgement = view.stages[4].judgement().expect("judged");
    assert_eq!((judgement.verdict, judgement.findings[0].code.as_str()), (Verdict::Fail, "NodeIsLiveMember"));
    assert!(!view.power.iter().any(|power| power.action == PowerAction::Medium), "{:?}", view.power);
}

#[tokio::test]
async fn a_host_of_which_nobody_said_whether_it_has_a_cluster_is_refused() {
    let (bench, _runner) = with_spec("format: 1\nsystem: {product: R650}\n").await;
    let refused = bench.engine.test_image_on(&bench.host, request(), HOW).await.expect_err("undeclared");
    assert!(refused.to_string().contains("ClusterUndeclared"), "{refused}");
    let muted = ImageRequest { muted: vec!["UnexpectedData".to_owned()], ..request() };
    let refused = bench.engine.test_image_on(&bench.host, muted, HOW).await.expect_err("checks are off");
    assert!(matches!(refused, EngineError::Invalid(_)), "{refused:?}");
}

#[tokio::test]
async fn an_occupied_disk_stops_it_before_the_medium_and_a_permit_lets_it_go_on() {
    let (bench, _runner) = bench().await;
    let (run, agent) = before_clearance(&bench).await;
    let ext4 = || vec![Signature { what: "ext4 file system".to_owned(), offset: 0, label: None }];
    let evidence = disks(&permit(&bench, &agent).await, ext4());
    bench.collect(&agent, "Clearance", &evidence).await;
    let view = bench.view(run).await;
    assert_eq!((view.state(), view.failed_stage()), (RunState::FailedHolding, Some("Clearance")));
    assert_eq!(now(&bench, run).await, Order::Wait, "nothing is inserted");
    let waived = bench.decide(run, DecisionKind::Waive, "it will be fine").await.expect_err("never");
    assert!(waived.to_string().contains("cannot be waived"), "{waived}");

    let serials = vec!["S2".to_owned()];
    let permitted =
        Decision { kind: DecisionKind::Permit, by: "jonas".to_owned(), why: "old".to_owned(), serials };
    bench.engine.decide(run, permitted).await.expect("permitted");
    bench.turn().await;
    let evidence = disks(&permit(&bench, &agent).await, ext4());
    bench.collect(&agent, "Clearance", &evidence).await;
    let medium = bench.power(run, true).await;
    assert!(matches!(medium, Order::Power { action: PowerAction::Medium, .. }), "{medium:?}");
}

#[tokio::test]
async fn a_failed_installation_is_held_in_the_live_image_and_a_retry_clears_the_machine_anew() {
    let (bench, _runner) = bench().await;
    let run = on_the_medium(&bench).await;
    let failed =
        Outcome::Failed { code: "FailMarker".to_owned(), line: "no".to_owned(), meaning: String::new() };
    let dead = Booted { watched: Watched { outcome: failed, ..watched(None) }, ..booted() };
    followed(&bench, run, "Boot", &dead).await;
    let view = bench.view(run).await;
    assert_eq!((view.state(), view.failed_stage()), (RunState::FailedHolding, Some("Boot")));
    let cycle = bench.power(run, true).await;
    assert!(
        matches!(cycle, Order::Power { action: PowerAction::Cycle, .. }),
        "back to be looked at: {cycle:?}"
    );
    let agent = bench.enrol().await;
    assert!(matches!(bench.todo(&agent).await, Todo::Hold { .. }));

    bench.decide(run, DecisionKind::Retry, "another cable").await.expect("held");
    let Todo::Stage { stage, .. } = bench.todo(&agent).await else { panic!("no stage is open") };
    assert_eq!(stage.as_str(), "Clearance", "it may have written to any disk");
    let evidence = empty_disks(&permit(&bench, &agent).await);
    bench.collect(&agent, "Clearance", &evidence).await;
    let medium = bench.power(run, true).await;
    assert!(matches!(medium, Order::Power { action: PowerAction::Medium, .. }), "{medium:?}");
    followed(&bench, run, "Boot", &booted()).await;
    assert_eq!(bench.view(run).await.stages[4].verdict(), Some(Verdict::Pass));
}

#[tokio::test]
async fn a_medium_that_cannot_be_inserted_says_so_and_nothing_is_followed() {
    let (bench, _runner) = bench().await;
    let (run, _) = cleared(&bench).await;
    bench.power(run, false).await;
    let view = bench.view(run).await;
    assert_eq!(view.failed_stage(), Some("Boot"));
    let said = &view.stages[4].judgement().expect("judged").message;
    assert!(said.contains("could not be booted from the medium: the BMC does not answer"), "{said}");
    assert!(!matches!(now(&bench, run).await, Order::Install(_)));
}

#[tokio::test]
async fn a_runner_that_is_gone_ends_it_and_a_restart_of_the_server_does_not() {
    let (mut bench, runner) = bench().await;
    let run = on_the_medium(&bench).await;
    let before = now(&bench, run).await;
    drop(runner);
    bench.restart().await;
    assert_eq!(now(&bench, run).await, before);
    let Order::Install(following) = before else { panic!("{before:?}") };
    let until = following.open.expect("open").until;
    let left = until.since(assay_model::Clock::now(&bench.clock)).0 / 1_000_000;
    bench.after(left + 119).await;
    assert!(bench.view(run).await.status.open, "the runner has a moment to tell");
    bench.after(2).await;
    let view = bench.view(run).await;
    assert_eq!(view.stages[4].verdict(), Some(Verdict::Error));
    // What comes late changes nothing.
    let late = Brought {
        stage: "Boot".into(),
        attempt: 1,
        generation: view.stages[4].attempts[0].generation,
        evidence: serde_json::to_value(booted()).expect("plain"),
        problem: None,
        texts: BTreeMap::new(),
    };
    assert!(bench.engine.brought(run, late).await.expect("kept"), "late");
    assert_eq!(bench.view(run).await.stages[4].verdict(), Some(Verdict::Error));
}

#[tokio::test]
async fn a_cancelled_run_switches_the_machine_off_and_ends_the_session() {
    let (bench, _runner) = bench().await;
    let run = on_the_medium(&bench).await;
    bench.decide(run, DecisionKind::Cancel, "").await.expect("open");
    let off = bench.power(run, true).await;
    assert!(matches!(off, Order::Power { action: PowerAction::Off, .. }), "{off:?}");
    assert_eq!(bench.view(run).await.state(), RunState::Cancelled);
    assert_eq!(now(&bench, run).await, Order::End);
}

#[tokio::test]
async fn only_what_the_run_is_about_may_be_brought() {
    let (bench, _runner) = bench().await;
    let run = on_the_medium(&bench).await;
    let view = bench.view(run).await;
    let generation = view.stages[4].attempts[0].generation;
    let brought = |stage: &str, attempt, generation, name: &str| Brought {
        stage: stage.into(),
        attempt,
        generation,
        evidence: Value::Null,
        problem: None,
        texts: BTreeMap::from([(name.to_owned(), String::new())]),
    };
    for (what, refused) in [
        ("the agent's stage", brought("Clearance", 1, view.stages[3].attempts[0].generation, "a.txt")),
        ("another try", brought("Boot", 2, generation, "a.txt")),
        ("another generation", brought("Boot", 1, generation + 1, "a.txt")),
        ("a stage that has not begun", brought("Install", 1, generation, "a.txt")),
        ("a name that leads elsewhere", brought("Boot", 1, generation, "../a.txt")),
    ] {
        let said = bench.engine.brought(run, refused).await.expect_err(what);
        assert!(matches!(said, EngineError::Invalid(_)), "{what}: {said:?}");
    }
}
