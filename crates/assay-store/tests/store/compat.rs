//! What images were tried on: rows that follow the journal, and what a fold of it would say again.

use assay_model::compat::{self, Component, ComponentKind, Fingerprint, Lacking, Trial, TrialVerdict};
use assay_model::{
    DecisionKind, EventBody, Finding, Owner, Pipeline, RunId, RunResult, RunView, Severity, Sha256,
    StagePlan, TargetId, Verdict,
};
use assay_store::{Changes, ImageSeen, MachineSeen, Store, Write};
use serde_json::json;

use crate::sample::{admitted, append, at, created, run_id};

fn machine(board: &str) -> Fingerprint {
    let board =
        Component { kind: ComponentKind::Board, name: board.to_owned(), count: 1, drivers: Vec::new() };
    Fingerprint { components: vec![board] }
}

/// A run of `my-installer` on a host, open and admitted.
async fn begin(store: &Store, n: u128, host: u128) -> RunId {
    let stage = |name: &str, owner| StagePlan { name: name.into(), owner, required: true, timeout_s: 60 };
    let mut created = created(host);
    created.pipeline = Pipeline::Image;
    created.machine = Some(json!({ "format": 1 }));
    created.spec = json!({ "profile": { "name": "my-installer" } });
    created.stages = vec![stage("Inventory", Owner::Agent), stage("Boot", Owner::Runner)];
    store.create_run(run_id(n), at(n as i64), created).await.expect("created");
    append(store, run_id(n), at(n as i64), vec![admitted()]).await;
    run_id(n)
}

async fn says(store: &Store, run: RunId, writes: Vec<Write>) {
    let changes = Changes { events: Vec::new(), writes };
    store.transact(run, at(50), |_| Ok::<_, String>(changes)).await.expect("committed");
}

fn image(content: &[u8]) -> Write {
    let digest = Sha256::of(content);
    Write::Image(ImageSeen { digest, bytes: 4096, volume: Some("MINE".to_owned()), whole: true })
}

async fn judged(store: &Store, run: RunId, index: usize, name: &str, verdict: Verdict, codes: &[&str]) {
    let findings = codes.iter().map(|code| Finding::new(code, Severity::Critical, "m", "n")).collect();
    let judgement = assay_model::Judgement { verdict, findings, ..assay_model::Judgement::error("as told") };
    let stage = || name.into();
    let started = EventBody::StageStarted { stage: stage(), index, attempt: 1, generation: 1 };
    let judged = EventBody::StageJudged { stage: stage(), index, attempt: 1, required: true, judgement };
    append(store, run, at(60), vec![started, judged]).await;
}

async fn ends(store: &Store, run: RunId, second: i64, verdict: Verdict, codes: &[&str]) {
    judged(store, run, 0, "Inventory", Verdict::Pass, &[]).await;
    judged(store, run, 1, "Boot", verdict, codes).await;
    let end = match verdict {
        Verdict::Pass => vec![EventBody::RunCompleted { result: Some(RunResult::Pass) }],
        _ => vec![EventBody::Held { until: at(99) }, EventBody::HoldExpired],
    };
    append(store, run, at(second), end).await;
}

/// What the journal says when it is folded anew, beside what the store says.
async fn is_the_fold(store: &Store, trial: &Trial) {
    let events = store.events_after(trial.run, 0, u32::MAX >> 1).await.expect("read");
    let view = RunView::fold(trial.run, &events).expect("legal").expect("not empty");
    assert_eq!(compat::outcome(&view).as_ref(), Some(&trial.outcome));
    assert_eq!(
        (trial.number, trial.host, &trial.host_name),
        (view.created.number, view.created.target.id, &view.created.target.name)
    );
}

pub(crate) async fn trials_follow_the_journal(store: Store, _url: String) {
    assert_eq!(store.trials().await.expect("read"), []);
    let (old, new) = (machine("b1"), machine("b2"));

    let failed = begin(&store, 1, 1).await;
    says(&store, failed, vec![image(b"a"), Write::Machine(Ok(machine("misread")))]).await;
    says(&store, failed, vec![Write::Machine(Ok(old.clone()))]).await;
    judged(&store, failed, 0, "Inventory", Verdict::Pass, &[]).await;
    judged(&store, failed, 1, "Boot", Verdict::Fail, &["KernelPanic"]).await;
    append(&store, failed, at(61), vec![EventBody::Held { until: at(99) }]).await;
    assert_eq!(store.trials().await.expect("read"), [], "an operator may still decide");
    append(&store, failed, at(99), vec![EventBody::HoldExpired]).await;
    // Until the seal there may be news of a run that is over.
    let late = Finding::new("DiskPulled", Severity::Warning, "m", "n");
    append(&store, failed, at(100), vec![EventBody::FindingRaised { finding: late }]).await;

    let passed = begin(&store, 2, 2).await;
    says(&store, passed, vec![image(b"b"), Write::Machine(Ok(new.clone()))]).await;
    ends(&store, passed, 200, Verdict::Pass, &[]).await;

    let trials = store.trials().await.expect("read");
    let told: Vec<_> = trials
        .iter()
        .map(|t| (t.number, t.host_name.as_str(), t.machine, t.digest, t.outcome.verdict))
        .collect();
    assert_eq!(
        told,
        [
            (2, "node2", new.digest(), Sha256::of(b"b"), TrialVerdict::Pass),
            (1, "node1", old.digest(), Sha256::of(b"a"), TrialVerdict::Fail),
        ],
        "newest first"
    );
    assert_eq!(trials[1].outcome.codes, ["KernelPanic", "DiskPulled"]);
    assert_eq!(trials[1].outcome.at, at(99), "what is known later makes it no younger");
    assert_eq!(
        (trials[0].outcome.image.as_str(), trials[0].volume.as_deref()),
        ("my-installer", Some("MINE"))
    );
    for trial in &trials {
        is_the_fold(&store, trial).await;
    }
    let tried: Vec<_> = store.machines_tried().await.expect("read").into_iter().map(|(_, m)| m).collect();
    assert!(tried.len() == 2 && tried.contains(&old) && tried.contains(&new), "{tried:?}");
}

pub(crate) async fn what_says_nothing_is_no_trial(store: Store, _url: String) {
    // A machine that tells too little, an image that was never read, a run that was broken off.
    let lacking: MachineSeen = Err(Lacking(vec!["what board it has (SMBIOS)"]));
    let nameless = begin(&store, 1, 1).await;
    says(&store, nameless, vec![image(b"a"), Write::Machine(Ok(machine("b1")))]).await;
    says(&store, nameless, vec![Write::Machine(lacking)]).await;
    ends(&store, nameless, 100, Verdict::Pass, &[]).await;
    let unread = begin(&store, 2, 2).await;
    says(&store, unread, vec![Write::Machine(Ok(machine("b2")))]).await;
    ends(&store, unread, 100, Verdict::Pass, &[]).await;
    let stopped = begin(&store, 3, 3).await;
    says(&store, stopped, vec![image(b"a"), Write::Machine(Ok(machine("b3")))]).await;
    judged(&store, stopped, 0, "Inventory", Verdict::Pass, &[]).await;
    judged(&store, stopped, 1, "Boot", Verdict::Pass, &[]).await;
    let decision = assay_model::Decision {
        kind: DecisionKind::Cancel,
        by: "ada".into(),
        why: String::new(),
        serials: Vec::new(),
    };
    let events = vec![EventBody::Decided { decision }, EventBody::CancelConfirmed { how: "off".into() }];
    append(&store, stopped, at(70), events).await;
    assert_eq!(store.trials().await.expect("read"), []);

    // What each host was last seen to be is known all the same.
    let seen = store.machines_last_seen().await.expect("read");
    let told: Vec<_> = seen
        .iter()
        .map(|seen| (seen.run, seen.machine.as_ref().map(Fingerprint::name).map_err(String::as_str)))
        .collect();
    assert_eq!(
        told,
        [
            (1, Err("the machine does not tell what board it has (SMBIOS)")),
            (2, Ok("b2".to_owned())),
            (3, Ok("b3".to_owned())),
        ]
    );
}

pub(crate) async fn an_image_is_as_old_as_its_first_run(store: Store, _url: String) {
    let on_vm = async |n: u128, name: &str, content: &[u8]| {
        let mut created = created(1);
        created.pipeline = Pipeline::Image;
        created.target.id = TargetId::named(Pipeline::Image, name);
        created.target.name = name.into();
        store.create_run(run_id(n), at(n as i64), created).await.expect("created");
        says(&store, run_id(n), vec![image(content)]).await;
        append(&store, run_id(n), at(60), vec![admitted(), EventBody::Superseded { by: 99 }]).await;
    };
    on_vm(1, "my", b"a").await;
    on_vm(2, "my[firmware=uefi]", b"b").await;
    on_vm(3, "other", b"x").await;
    on_vm(4, "my", b"c").await;
    on_vm(6, "my", b"a").await;
    let on_host = begin(&store, 5, 1).await;
    says(&store, on_host, vec![image(b"d")]).await;
    let newest = store.images_on_virtual_machines().await.expect("read");
    let told: Vec<_> = newest.iter().map(|i| (i.run, i.name.as_str(), i.digest)).collect();
    let digest = |content: &[u8]| Sha256::of(content);
    assert_eq!(
        told,
        [
            (1, "my", digest(b"a")),
            (2, "my", digest(b"b")),
            (3, "other", digest(b"x")),
            (4, "my", digest(b"c"))
        ],
        "once each, and a host's name is no image's"
    );
}
