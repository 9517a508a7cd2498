//! An image that is to be installed on a registered host: the live image goes first, and nobody gets around it.

use assay_engine::EngineError;
use assay_engine::agents::Todo;
use assay_engine::gate::GateRule;
use assay_model::event::{RunCreated, Target};
use assay_model::host::clearance::{ClearanceDisk, ClearanceEvidence};
use assay_model::host::order::RunOptions;
use assay_model::host::permit::{ErasePermit, GuardAnswer};
use assay_model::host::storage::{PermitOutcome, Signature, WipeProbe};
use assay_model::{
    Clock as _, Decision, DecisionKind, Micros, Owner, Pipeline, RunId, RunResult, RunState, StageName,
    StagePlan, TargetId,
};
use assay_pipelines::image;
use assay_testkit::{Bench, ScriptedAgent, canned};
use serde_json::{Value, json};

/// The stages of such a run that are collected in the live image.
async fn installing(bench: &Bench) -> (RunId, ScriptedAgent) {
    let plan =
        |name: &str, owner| StagePlan { name: StageName::from(name), owner, required: true, timeout_s: 600 };
    let created = RunCreated {
        number: 0,
        pipeline: Pipeline::Image,
        profile: "standard".to_owned(),
        target: Target { id: TargetId::from(bench.host.id), name: bench.host.name.clone() },
        stages: vec![
            plan("Inventory", Owner::Agent),
            plan("Clearance", Owner::Agent),
            plan("Reporting", Owner::Orchestrator),
        ],
        spec: json!({ "image": "/images/my.iso", "folder": "/images", "seed": 7, "profile": profile() }),
        machine: Some(serde_json::to_value(spec()).expect("plain")),
        macs: bench.host.macs.clone(),
        power: bench.host.power.clone(),
        holds: true,
        hold_s: 3600,
        boot_timeout_s: 600,
        requested_by: "mara".to_owned(),
        harness: "0".to_owned(),
        muted: Vec::new(),
        options: RunOptions::default(),
    };
    let id = RunId(uuid::Uuid::now_v7());
    bench.engine.store().create_run(id, bench.clock.now(), created).await.expect("queued");
    bench.turn().await;
    bench.power(id, true).await;
    bench.after(60).await;
    (id, bench.enrol().await)
}

fn profile() -> image::Profile {
    let profile =
        "name = \"my\"\n[machine]\nmemory = \"1GiB\"\n[boot]\nrung = \"userspace\"\ntimeout = \"60s\"\n";
    image::Profile::from_toml(profile).expect("a profile")
}

fn spec() -> assay_model::host::spec::HostSpec {
    assay_model::host::spec::HostSpec::from_yaml(canned::SPEC).expect("the canned spec")
}

/// What the agent says of the canned machine's disks, when one of them holds a file system.
fn occupied(permit: &ErasePermit) -> Value {
    let disk = |name: &str, serial: &str, signatures: Vec<Signature>| ClearanceDisk {
        name: name.to_owned(),
        serial: Some(serial.to_owned()),
        size_bytes: Some(960_197_124_096),
        probe: Some(WipeProbe { signatures, read_bytes: 32 << 20, ..WipeProbe::default() }),
        named: permit.names(Some(serial), None),
        data_permitted: permit.names_with_data(Some(serial), None),
        ..ClearanceDisk::default()
    };
    let ext4 = Signature { what: "ext4 file system".to_owned(), offset: 0, label: None };
    let evidence = ClearanceEvidence {
        format: 1,
        permit: PermitOutcome::Valid { guard: permit.guard.clone() },
        disks: vec![disk("nvme0n1", "S1", Vec::new()), disk("nvme1n1", "S2", vec![ext4])],
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

#[tokio::test]
async fn a_disk_with_data_stops_the_installer_until_it_is_permitted_by_name() {
    let bench = Bench::new().await;
    let (run, agent) = installing(&bench).await;
    bench.collect(&agent, "Inventory", &canned::evidence("Inventory")).await;
    let first = permit(&bench, &agent).await;
    assert_eq!((first.guard.clone(), first.with_data.len()), (GuardAnswer::NoCluster, 0));
    bench.collect(&agent, "Clearance", &occupied(&first)).await;

    let view = bench.view(run).await;
    assert_eq!(view.state(), RunState::FailedHolding);
    let judgement = view.stages[1].judgement().expect("judged");
    let found: Vec<_> = judgement
        .findings
        .iter()
        .map(|finding| (finding.code.as_str(), finding.part.as_ref().and_then(|part| part.serial.as_deref())))
        .collect();
    assert_eq!(found, [("UnexpectedData", Some("S2"))]);

    let waived = bench.decide(run, DecisionKind::Waive, "it will be fine").await.expect_err("never");
    assert!(matches!(&waived, EngineError::Refused(why) if why.contains("cannot be waived")), "{waived:?}");

    let serials = vec!["S2".to_owned()];
    let permitted =
        Decision { kind: DecisionKind::Permit, by: "jonas".to_owned(), why: "old".to_owned(), serials };
    bench.engine.decide(run, permitted).await.expect("permitted");
    bench.turn().await;
    let second = permit(&bench, &agent).await;
    assert_eq!(second.with_data, ["S2"]);
    bench.collect(&agent, "Clearance", &occupied(&second)).await;
    let (view, _) = bench.sealed(run).await;
    assert_eq!((view.state(), view.result), (RunState::Completed, Some(RunResult::Pass)));
}

#[tokio::test]
async fn an_installation_that_passed_does_not_open_the_gate() {
    let bench = Bench::new().await;
    let (run, agent) = installing(&bench).await;
    bench.collect(&agent, "Inventory", &canned::evidence("Inventory")).await;
    let mut permit = permit(&bench, &agent).await;
    permit.with_data = permit.disks.clone();
    bench.collect(&agent, "Clearance", &occupied(&permit)).await;
    let (view, _) = bench.sealed(run).await;
    assert_eq!(view.result, Some(RunResult::Pass));
    let rule = GateRule::standard(Micros::seconds(3600));
    let answer = bench.engine.gate(&bench.host, rule).await.expect("an answer");
    let codes: Vec<_> = answer.reasons.iter().map(|reason| reason.code).collect();
    assert_eq!(codes, ["NeverVetted"]);
}

#[tokio::test]
async fn a_host_is_vetted_or_installed_and_never_both() {
    let bench = Bench::new().await;
    let (run, _) = installing(&bench).await;
    let busy = bench.engine.vet(&bench.host, Bench::options()).await.expect_err("one at a time");
    let number = bench.view(run).await.created.number;
    assert!(
        matches!(&busy, EngineError::Refused(why) if why.contains(&format!("is in run {number}"))),
        "{busy:?}"
    );
}
