//! For whom a permit is made, what it names, and what it does not.

use assay_model::event::{PowerAction, RunCreated, Target};
use assay_model::host::order::{PartKind, Replacement, RunOptions};
use assay_model::{
    Decision, Event, EventBody, Judgement, Mac, Owner, Pipeline, RunId, Sha256, StageName, StagePlan,
    TargetId, Verdict,
};
use serde_json::json;

use super::*;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

struct Story(RunView, i64);

/// A machine that has enrolled; its one stage erases disks.
fn enrolled(spec: serde_json::Value, options: RunOptions) -> Story {
    enrolled_for(Pipeline::Host, STAGE, spec, options)
}

/// A machine on which an installer is to be let loose.
fn before_an_installer() -> Story {
    enrolled_for(Pipeline::Image, clearance::NAME, spec(), RunOptions::default())
}

fn enrolled_for(pipeline: Pipeline, stage: &str, of: serde_json::Value, options: RunOptions) -> Story {
    let plan =
        StagePlan { name: StageName::from(stage), owner: Owner::Agent, required: true, timeout_s: 400 };
    // The spec of a run over an image is the image's; what the machine should be stands beside it.
    let (spec, machine) = match pipeline {
        Pipeline::Host => (of, None),
        Pipeline::Image => (json!({"image": "/images/my.iso"}), Some(of)),
        Pipeline::Recipe => unreachable!("a recipe has no machine to permit anything on"),
    };
    let created = RunCreated {
        number: 7,
        pipeline,
        profile: "standard".into(),
        target: Target { id: TargetId(uuid::Uuid::from_u128(1)), name: "web-3".into() },
        stages: vec![plan],
        spec,
        macs: vec![MAC],
        power: json!({}),
        holds: true,
        hold_s: 3600,
        boot_timeout_s: 600,
        requested_by: "mara".into(),
        machine,
        harness: "0.1.0".into(),
        muted: Vec::new(),
        options,
    };
    let first = Event { seq: 1, at: Micros::seconds(100), body: EventBody::RunCreated(Box::new(created)) };
    let view = RunView::begin(RunId(uuid::Uuid::from_u128(7)), &first).expect("a beginning");
    let job = "7-power-1".to_owned();
    Story(view, 100)
        .then(EventBody::Admitted { runner: "rack-2".into() })
        .then(EventBody::PowerRequested { job: job.clone(), action: PowerAction::Cycle })
        .then(EventBody::PowerDone { job, ok: true, message: String::new() })
        .then(EventBody::BootServed { boot: 1, mac: MAC })
        .then(EventBody::Enrolled {
            boot: 1,
            mac: Some(MAC),
            system_uuid: None,
            agent: "0".into(),
            clock_skew_us: 0,
            generation: 1,
        })
}

fn spec() -> serde_json::Value {
    json!({"format": 1, "cluster": "none", "disks": [
        {"serial": "S1", "class": "hdd", "size_bytes": 1_000_000_000_000_u64},
        {"wwn": "naa.5000c500a1b2c3d4"}, {"class": "ssd"}]})
}

fn ready() -> Story {
    enrolled(spec(), RunOptions::default())
}

impl Story {
    fn then(mut self, body: EventBody) -> Self {
        self.1 += 1;
        let event = Event { seq: self.0.seq + 1, at: Micros::seconds(self.1), body };
        self.0.apply(&event).expect("a legal story");
        self
    }

    fn stage(&self) -> StageName {
        self.0.stages[0].plan.name.clone()
    }

    fn started(self) -> Self {
        let attempt = self.0.stages[0].attempts.len() as u32 + 1;
        let (stage, generation) = (self.stage(), self.0.generation + 1);
        self.then(EventBody::StageStarted { stage, index: 0, attempt, generation })
    }

    fn lost(self) -> Self {
        let attempt = self.0.stages[0].attempts.len() as u32;
        let stage = self.stage();
        self.then(EventBody::AttemptLost { stage, attempt, reason: "r".into() })
    }

    fn failed(self) -> Self {
        let (stage, attempt) = (self.stage(), self.0.stages[0].attempts.len() as u32);
        let judgement = Judgement { verdict: Verdict::Fail, ..Judgement::error("m") };
        let digest = Sha256::ZERO;
        let evidence =
            EventBody::EvidenceReceived { stage: stage.clone(), attempt, digest, problem: None, late: false };
        let story = self.then(evidence);
        let judged = EventBody::StageJudged { stage, index: 0, attempt, required: true, judgement };
        story.then(judged).then(EventBody::Held { until: Micros::seconds(9000) })
    }

    fn decided(self, kind: DecisionKind, serials: &[&str]) -> Self {
        let serials = serials.iter().map(|serial| (*serial).to_owned()).collect();
        let decision = Decision { kind, by: "mara".into(), why: "old data".into(), serials };
        self.then(EventBody::Decided { decision })
    }

    fn mint(&self, guard: GuardAnswer) -> Result<ErasePermit, NoPermit> {
        let generation = self.0.generation;
        mint(&self.0, &spec_of(&self.0)?, guard, generation, Micros::seconds(self.1), "n".into())
    }

    fn with_data(&self) -> Vec<String> {
        self.mint(GuardAnswer::NoCluster).expect("a permit").with_data
    }
}

#[test]
fn a_permit_names_the_try_and_every_disk_that_the_spec_names() {
    let story = ready().started();
    let permit = story.mint(GuardAnswer::NoCluster).expect("a permit");
    assert_eq!(
        (permit.host.as_str(), permit.run, permit.generation),
        ("web-3", story.0.id, story.0.generation)
    );
    assert_eq!(permit.disks, ["S1", "naa.5000c500a1b2c3d4"]);
    assert!(permit.with_data.is_empty());
    // The stage's own limit and some air.
    assert!(permit.expires >= Micros::seconds(story.1 + 400 + 600));
}

#[test]
fn an_answer_that_does_not_let_the_machine_go_is_passed_on_and_names_no_disk() {
    let story = ready().started();
    let live = GuardAnswer::Live { node: "pve3".into() };
    for guard in [live, GuardAnswer::Undeclared] {
        let permit = story.mint(guard.clone()).expect("a permit for nothing");
        assert_eq!((permit.guard, permit.disks, permit.with_data), (guard, Vec::new(), Vec::new()));
    }
}

#[test]
fn only_an_open_try_of_the_stage_has_a_permit_and_only_under_its_own_token() {
    let none = |story: &Story| story.mint(GuardAnswer::NoCluster).expect_err("no permit");
    assert!(matches!(none(&ready()), NoPermit::NotErasing { run: 7, .. }));
    assert!(matches!(none(&ready().started().failed()), NoPermit::NotErasing { .. }));
    let open = ready().started();
    for generation in [open.0.generation - 1, open.0.generation + 1] {
        let spec = spec_of(&open.0).expect("reads");
        let stale = mint(&open.0, &spec, GuardAnswer::NoCluster, generation, Micros(0), "n".into());
        assert_eq!(stale, Err(NoPermit::NotErasing { run: 7, generation }));
    }
}

#[test]
fn a_run_that_nobody_asked_for_erases_nothing() {
    let mut story = ready().started();
    story.0.created.requested_by = " ".into();
    assert_eq!(story.mint(GuardAnswer::NoCluster), Err(NoPermit::NobodyAsked(7)));
    story.0.created.spec = json!({"format": 99});
    assert!(matches!(spec_of(&story.0), Err(NoPermit::Spec { run: 7, .. })));
}

#[test]
fn what_was_permitted_counts_from_the_failure_on_and_until_the_next() {
    let permitted = ready().started().failed().decided(DecisionKind::Permit, &["s1", "S9"]).started();
    assert_eq!(
        permitted.with_data(),
        ["s1"],
        "a disk that the spec does not name is not permitted by naming it"
    );
    // A try that is lost is not a failure: what was said still stands.
    let again = permitted.lost().started();
    assert_eq!(again.with_data(), ["s1"]);
    // The next failure ends it.
    let retried = again.failed().decided(DecisionKind::Retry, &[]).started();
    assert!(retried.with_data().is_empty());
}

#[test]
fn before_an_installer_an_operator_may_give_up_any_disk_and_nobody_else_can() {
    let story = before_an_installer().started();
    let permit = story.mint(GuardAnswer::NoCluster).expect("a permit");
    assert_eq!(
        permit.disks,
        ["S1", "naa.5000c500a1b2c3d4"],
        "the disks of the host's spec, as long as they are empty"
    );
    assert!(permit.with_data.is_empty());

    let permitted = story.failed().decided(DecisionKind::Permit, &["s1", "S9"]).started();
    let permit = permitted.mint(GuardAnswer::NoCluster).expect("a permit");
    assert_eq!(permit.with_data, ["s1", "S9"], "a disk that no spec names, too");
    assert!(permit.names(Some("S9"), None) && !permit.names(Some("S8"), None));

    let live = permitted.mint(GuardAnswer::Live { node: "pve3".into() }).expect("a permit for nothing");
    assert_eq!((live.disks, live.with_data), (Vec::<String>::new(), Vec::new()));
    let retried = permitted.failed().decided(DecisionKind::Retry, &[]).started();
    assert!(retried.with_data().is_empty(), "what was said of one failure is not said of the next");
}

#[test]
fn the_disk_that_was_put_in_is_named_instead_of_the_old_one() {
    let part = Replacement { kind: PartKind::Disk, old: "S1".into(), new: "N1".into() };
    let options = RunOptions { replaced: vec![part], ..RunOptions::default() };
    let permit = enrolled(spec(), options).started().mint(GuardAnswer::NoCluster).expect("a permit");
    assert_eq!(permit.disks, ["N1", "naa.5000c500a1b2c3d4"]);
}

#[test]
fn what_is_signed_is_the_permit_under_its_own_context() {
    let permit = ready().started().mint(GuardAnswer::NoCluster).expect("a permit");
    let signed = sign(&permit, |message| {
        assert!(message.starts_with(CONTEXT));
        let mut signature = [0; 64];
        signature.copy_from_slice(&message[message.len() - 64..]);
        signature
    });
    assert_eq!(serde_json::from_str::<ErasePermit>(&signed.permit).expect("reads"), permit);
    assert_eq!(signed.signature, hex::encode(&signed.permit.as_bytes()[signed.permit.len() - 64..]));
}

struct Answers;

impl ClusterGuard for Answers {
    fn ask<'a>(&'a self, member: &'a ProxmoxMember) -> Asked<'a> {
        Box::pin(async { GuardAnswer::Offline { node: member.node.clone() } })
    }
}

#[tokio::test]
async fn only_a_declared_cluster_is_asked() {
    let asked = async |cluster: serde_json::Value| {
        let spec = serde_json::from_value(json!({"format": 1, "cluster": cluster})).expect("a spec");
        ask_cluster(&spec, &Answers).await
    };
    assert_eq!(asked(json!(null)).await, GuardAnswer::Undeclared);
    assert_eq!(asked(json!("none")).await, GuardAnswer::NoCluster);
    let member = json!({"proxmox": {"url": "https://pve1:8006", "node": "pve3"}});
    assert_eq!(asked(member).await, GuardAnswer::Offline { node: "pve3".into() });
}
