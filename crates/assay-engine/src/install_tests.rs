//! When an installer may be let loose, on both sides of every rule, and what a machine is told to boot meanwhile.

use assay_model::event::{RunCreated, Target};
use assay_model::host::order::RunOptions;
use assay_model::host::spec::{ClusterSpec, ProxmoxMember};
use assay_model::{Decision, DecisionKind, Event, Judgement, StagePlan, TargetId};
use serde_json::json;

use super::*;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const CLEARANCE: usize = 1;
const BOOT: usize = 2;

/// A run as it lives; the next event comes a second later.
struct Story(RunView, i64);

fn begun() -> Story {
    begun_with(Vec::new())
}

fn begun_with(muted: Vec<String>) -> Story {
    let plan =
        |name: &str, owner| StagePlan { name: StageName::from(name), owner, required: true, timeout_s: 900 };
    let created = RunCreated {
        number: 7,
        pipeline: Pipeline::Image,
        profile: "standard".into(),
        target: Target { id: TargetId(uuid::Uuid::from_u128(1)), name: "web-3".into() },
        stages: vec![
            plan("Prepare", Owner::Runner),
            plan(clearance::NAME, Owner::Agent),
            plan("Boot", Owner::Runner),
            plan("Install", Owner::Runner),
            plan("Identify", Owner::Runner),
            plan("Reporting", Owner::Orchestrator),
        ],
        spec: json!({"image": "/images/my.iso"}),
        macs: vec![MAC],
        power: json!({"method": "lab", "machine": "m"}),
        holds: true,
        hold_s: 3600,
        boot_timeout_s: 600,
        requested_by: "mara".into(),
        machine: Some(json!({"format": 1, "cluster": "none"})),
        harness: "0.1.0".into(),
        muted,
        options: RunOptions::default(),
    };
    let first = Event { seq: 1, at: Micros::seconds(100), body: EventBody::RunCreated(Box::new(created)) };
    let view = RunView::begin(RunId(uuid::Uuid::from_u128(7)), &first).expect("a beginning");
    Story(view, 100).then(EventBody::Admitted { runner: "rack-2".into() })
}

impl Story {
    fn after(mut self, seconds: i64) -> Self {
        self.1 += seconds;
        self
    }

    fn then(mut self, body: EventBody) -> Self {
        self.1 += 1;
        let event = Event { seq: self.0.seq + 1, at: Micros::seconds(self.1), body };
        self.0.apply(&event).expect("a legal story");
        self
    }

    fn started(self, index: usize) -> Self {
        let attempt = self.0.stages[index].attempts.len() as u32 + 1;
        let (stage, generation) = (self.0.stages[index].plan.name.clone(), self.0.generation + 1);
        self.then(EventBody::StageStarted { stage, index, attempt, generation })
    }

    fn evidence(self, index: usize) -> Self {
        let (stage, attempt) = self.open(index);
        let digest = Sha256::ZERO;
        self.then(EventBody::EvidenceReceived { stage, attempt, digest, problem: None, late: false })
    }

    fn judged(self, index: usize, verdict: Verdict) -> Self {
        let (stage, attempt) = self.open(index);
        let judgement = Judgement { verdict, ..Judgement::error("m") };
        self.then(EventBody::StageJudged { stage, index, attempt, required: true, judgement })
    }

    fn open(&self, index: usize) -> (StageName, u32) {
        let stage = &self.0.stages[index];
        (stage.plan.name.clone(), stage.attempts.len() as u32)
    }

    fn through(self, index: usize, verdict: Verdict) -> Self {
        self.started(index).evidence(index).judged(index, verdict)
    }

    fn power(self, action: PowerAction, ok: bool) -> Self {
        let job = format!("7-power-{}", self.0.power.len() + 1);
        let asked = self.then(EventBody::PowerRequested { job: job.clone(), action });
        asked.then(EventBody::PowerDone { job, ok, message: "said the BMC".into() })
    }

    fn enrolled(self) -> Self {
        let boot = self.0.boots + 1;
        let generation = self.0.generation + 1;
        let served = self.then(EventBody::BootServed { boot, mac: MAC });
        served.then(EventBody::Enrolled {
            boot,
            mac: Some(MAC),
            system_uuid: None,
            agent: "0".into(),
            clock_skew_us: 0,
            generation,
        })
    }

    fn decided(self, kind: DecisionKind) -> Self {
        let decision = Decision { kind, by: "jonas".into(), why: "w".into(), serials: Vec::new() };
        self.then(EventBody::Held { until: Micros::seconds(9000) }).then(EventBody::Decided { decision })
    }

    fn cleared(&self, guard: &GuardAnswer) -> Result<(), String> {
        let now = Micros::seconds(self.1 + 1);
        cleared(&self.0, &spec(), guard, now).map_err(|why| why.to_string())
    }

    fn served(&self) -> String {
        match served(&self.0, MAC) {
            None => "live".to_owned(),
            Some(Served::Medium(event)) => event.kind().to_owned(),
            Some(Served::Local(why)) => why,
        }
    }
}

fn spec() -> HostSpec {
    HostSpec { cluster: Some(ClusterSpec::None), ..HostSpec::default() }
}

fn member() -> HostSpec {
    let member = ProxmoxMember { url: "https://pve".into(), node: "pve3".into(), fingerprint: None };
    HostSpec { cluster: Some(ClusterSpec::Proxmox(member)), ..HostSpec::default() }
}

/// Looked at, switched on, in the live image.
fn live() -> Story {
    begun().through(0, Verdict::Pass).power(PowerAction::Cycle, true).enrolled()
}

/// Cleared, with the stage open that wants the medium.
fn about_to_boot() -> Story {
    live().through(CLEARANCE, Verdict::Pass).started(BOOT)
}

#[test]
fn a_cleared_machine_is_let_go() {
    assert_eq!(about_to_boot().cleared(&GuardAnswer::NoCluster), Ok(()));
    assert_eq!(about_to_boot().after(1790).cleared(&GuardAnswer::NoCluster), Ok(()));
}

#[test]
fn whatever_is_missing_stops_it() {
    let waived = live().through(CLEARANCE, Verdict::Fail).decided(DecisionKind::Waive).started(BOOT);
    let no_evidence = live().started(CLEARANCE).judged(CLEARANCE, Verdict::Pass).started(BOOT);
    let muted = begun_with(vec!["UnexpectedData".into()]);
    let muted = muted.through(0, Verdict::Pass).power(PowerAction::Cycle, true).enrolled();
    let twice = about_to_boot().power(PowerAction::Medium, true);
    for (story, why) in [
        (live(), "not in an open try of a stage that boots a medium"),
        (live().through(CLEARANCE, Verdict::Pass), "not in an open try"),
        (live().started(CLEARANCE), "not in an open try"),
        (waived, "was waived"),
        (no_evidence, "its disks did not pass"),
        (muted.through(CLEARANCE, Verdict::Pass).started(BOOT), "checks are switched off"),
        (about_to_boot().enrolled(), "booted anew"),
        (twice, "power was switched"),
        (about_to_boot().power(PowerAction::Off, true), "power was switched"),
        (about_to_boot().after(1801), "too much time"),
        (live().through(CLEARANCE, Verdict::Pass).after(1801).started(BOOT), "too much time"),
    ] {
        let refused = story.cleared(&GuardAnswer::NoCluster).expect_err(why);
        assert!(refused.contains(why), "{why}: {refused}");
    }
    // Unverified is no pass: it blocks as a required stage does, and a waiver is none either.
    let unverified =
        live().through(CLEARANCE, Verdict::Unverified).decided(DecisionKind::Waive).started(BOOT);
    assert!(unverified.cleared(&GuardAnswer::NoCluster).is_err());
}

#[test]
fn the_cluster_is_asked_once_more_and_its_answer_counts() {
    let story = about_to_boot();
    let node = || "pve3".to_owned();
    let now = Micros::seconds(story.1 + 1);
    for (spec, guard, allowed) in [
        (spec(), GuardAnswer::NoCluster, true),
        (member(), GuardAnswer::Offline { node: node() }, true),
        (member(), GuardAnswer::NotMember { node: node() }, true),
        (member(), GuardAnswer::Live { node: node() }, false),
        (member(), GuardAnswer::Unreachable { node: node(), why: "no quorum".into() }, false),
        (member(), GuardAnswer::NoCluster, false),
        (spec(), GuardAnswer::Undeclared, false),
        (HostSpec::default(), GuardAnswer::Undeclared, false),
        (HostSpec::default(), GuardAnswer::NoCluster, false),
    ] {
        let answer = cleared(&story.0, &spec, &guard, now);
        assert_eq!(answer.is_ok(), allowed, "{spec:?} {guard:?}");
        // The same answer at creation, before its power is cut.
        assert_eq!(may_be_switched_off("web-3", &spec, &guard).is_ok(), allowed, "{guard:?}");
        if let Err(why) = answer {
            let judgement = why.judgement();
            assert!(judgement.verdict.blocks(true), "{judgement:?}");
        }
    }
    let live = GuardAnswer::Live { node: node() };
    let said = may_be_switched_off("web-3", &member(), &live).expect_err("a live member").to_string();
    assert!(said.contains("NodeIsLiveMember") && said.starts_with("web-3: "), "{said}");
}

#[test]
fn what_cannot_be_asked_of_a_machine_is_refused_before_anything_happens() {
    let profile = |more: &str| {
        let text = format!("name = \"my\"\n[machine]\nmemory = \"1GiB\"\n{more}");
        Profile::from_toml(&text).expect("a profile")
    };
    let lab = json!({"method": "lab", "machine": "m"});
    let asked = |more: &str, runner: Option<&str>, muted: &[&str], power: &Value| {
        let muted: Vec<String> = muted.iter().map(|code| (*code).to_owned()).collect();
        may_be_asked(&profile(more), runner, &muted, power).map_err(|why| why.to_string())
    };
    assert_eq!(asked("", None, &[], &lab), Ok(()));
    let redfish = json!({"method": "redfish", "url": "https://bmc", "console": "ttyS1,115200"});
    assert_eq!(asked("", None, &[], &redfish), Ok(()));
    for (more, runner, muted, power, why) in [
        ("", Some("rack-2"), &[][..], &lab, "rack-2"),
        ("", None, &["UnexpectedData"][..], &lab, "checks are switched off"),
        ("", None, &[][..], &json!({"method": "manual"}), "management controller"),
        ("", None, &[][..], &json!({"method": "wol", "mac": "0c:c4:7a:12:34:56"}), "management controller"),
        ("", None, &[][..], &json!({}), "management controller"),
        ("", None, &[][..], &json!({"method": "redfish", "url": "https://bmc"}), "with a `console`"),
        ("[medium]\nas = \"usb\"\n", None, &[][..], &lab, "as a CD"),
    ] {
        let refused = asked(more, runner, muted, power).expect_err(why);
        assert!(refused.contains(why), "{why}: {refused}");
    }
}

#[test]
fn a_machine_is_told_to_go_on_to_its_medium_and_later_to_its_disks() {
    assert_eq!(begun().started(0).served(), "run 7: its image is looked at; the machine comes later");
    assert_eq!(live().served(), "live");
    assert_eq!(live().started(CLEARANCE).served(), "live");
    // Between its clearance and its medium it may only boot what clears it again.
    assert_eq!(about_to_boot().served(), "live");
    let booted = about_to_boot().power(PowerAction::Medium, true);
    assert_eq!(booted.served(), "MediumServed");
    let installing = booted.evidence(BOOT).judged(BOOT, Verdict::Pass);
    assert_eq!(installing.served(), "run 7: it boots what was installed");
    let installing = installing.started(3);
    assert_eq!(installing.served(), "run 7: it boots what was installed");
    let after = installing.evidence(3).judged(3, Verdict::Pass);
    assert_eq!(after.served(), "run 7: it stays with what was installed");
    assert_eq!(after.started(4).served(), "run 7: it stays with what was installed");
    let failed = about_to_boot().power(PowerAction::Medium, true).evidence(BOOT).judged(BOOT, Verdict::Fail);
    assert_eq!(failed.served(), "live", "whoever looks at it does so from within");
    let held = begun().through(0, Verdict::Fail).then(EventBody::Held { until: Micros::seconds(9000) });
    assert_eq!(held.served(), "run 7: held before it wanted the machine");
}

#[test]
fn one_session_from_the_medium_to_the_end_of_the_installation() {
    assert_eq!(following(&about_to_boot().0), None, "nothing is inserted yet");
    assert_eq!(following(&about_to_boot().power(PowerAction::Medium, false).0), None);
    let booted = about_to_boot().power(PowerAction::Medium, true);
    let now = following(&booted.0).expect("it is to be followed");
    assert_eq!(now.stages, [StageName::from("Boot"), StageName::from("Install")]);
    assert_eq!(now.open.as_ref().map(|open| open.stage.as_str()), Some("Boot"));
    let judging = booted.evidence(BOOT);
    let between = following(&judging.0).expect("it goes on");
    assert_eq!((between.job.as_str(), between.open), (now.job.as_str(), None));
    let installing = judging.judged(BOOT, Verdict::Pass);
    assert_eq!(following(&installing.0).map(|f| f.open), Some(None));
    let installing = installing.started(3);
    let now = following(&installing.0).and_then(|f| f.open).expect("the next stage");
    assert_eq!((now.stage.as_str(), now.attempt), ("Install", 1));
    let done = installing.evidence(3).judged(3, Verdict::Pass).started(4);
    assert_eq!(following(&done.0), None, "nobody follows it any more, and the medium is to be ejected");
    assert_eq!(looking(&done.0).map(|open| open.stage), Some(StageName::from("Identify")));
}

#[test]
fn a_retry_clears_the_machine_anew_and_nothing_is_repeated_alone() {
    let failed = || {
        let booted = about_to_boot().power(PowerAction::Medium, true);
        booted.evidence(BOOT).judged(BOOT, Verdict::Pass).started(3).evidence(3).judged(3, Verdict::Fail)
    };
    assert!(is_away(&failed().then(EventBody::Held { until: Micros::seconds(9000) }).0));
    let retried = failed().decided(DecisionKind::Retry);
    assert_eq!(retried.0.current_stage().map(|stage| stage.plan.name.as_str()), Some("Clearance"));
    // Brought back into the live image, it is cleared again, and only then the medium goes in.
    let back = retried.power(PowerAction::Cycle, true).enrolled();
    assert!(!is_away(&back.0));
    let again = back.through(CLEARANCE, Verdict::Pass).started(BOOT);
    assert_eq!(again.cleared(&GuardAnswer::NoCluster), Ok(()));
    // What was waived goes on to a stage that has nothing to go on with.
    let waived = failed().decided(DecisionKind::Waive);
    assert_eq!(waived.0.current_stage().map(|stage| stage.plan.name.as_str()), Some("Identify"));
    let boot_failed = about_to_boot().judged(BOOT, Verdict::Error).decided(DecisionKind::Waive).started(3);
    assert_eq!(following(&boot_failed.0), None);
    assert_eq!(session(&boot_failed.0), None);
    // A stage before the clearance is repeated alone.
    let looked_at = begun().through(0, Verdict::Fail).decided(DecisionKind::Retry);
    assert_eq!(looked_at.0.current_stage().map(|stage| stage.plan.name.as_str()), Some("Prepare"));
}
