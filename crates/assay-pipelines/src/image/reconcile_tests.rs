//! `Reconcile`: what is in the tree is in the cluster, whole, and goes away with it.

use assay_model::Verdict;
use serde_json::{Value, json};

use super::super::evidence::ReconcilePass;
use super::super::fixtures::{
    HOST, Row, Seen, a_guest_s_words_are_shown_clean, each_raises_its_own_code, nothing_is_missed_in_silence,
    the_page_has_them_all,
};
use super::super::profile::{InstallExpect, JoinExpect, ReconcileSpec, When};
use super::super::{ImageSpec, stage};

const ROWS: &[Row] = &[
    ("RevisionWrong", |seen| {
        for look in looks(seen) {
            look["status"]["sync"]["revision"] = json!("0".repeat(40));
        }
    }),
    ("OutOfSync", |seen| {
        for look in looks(seen) {
            look["status"]["sync"]["status"] = json!("OutOfSync");
        }
    }),
    ("NotHealthy", |seen| {
        for look in looks(seen) {
            look["status"]["health"]["status"] = json!("Degraded");
        }
    }),
    ("OperationFailed", |seen| {
        for look in looks(seen) {
            look["status"]["operationState"]["phase"] = json!("Failed");
        }
    }),
    ("ObjectMissing", |seen| {
        for look in &mut pass(seen).looks {
            look.objects.remove(1);
        }
    }),
    ("ObjectExtra", |seen| {
        for look in &mut pass(seen).looks {
            let mut other = look.objects[0].clone();
            other["metadata"]["name"] = json!("node-ffffff");
            look.objects.push(other);
        }
    }),
    ("FieldPruned", |seen| {
        for look in &mut pass(seen).looks {
            look.objects[0]["spec"]["network"] = json!({});
        }
    }),
    ("FieldDifferent", |seen| {
        for look in &mut pass(seen).looks {
            look.objects[0]["spec"]["gpu"] = json!(false);
        }
    }),
    ("NotStable", |seen| {
        pass(seen).looks.remove(0);
    }),
    ("ComparisonError", |seen| {
        let file = pass(seen).files.values_mut().next().expect("a file");
        *file = "kind: [".into();
    }),
];

/// The commit with the machine in it.
fn pass(seen: &mut Seen) -> &mut ReconcilePass {
    &mut seen.reconciled.passes[0]
}

fn looks(seen: &mut Seen) -> impl Iterator<Item = &mut Value> {
    pass(seen).looks.iter_mut().map(|look| &mut look.application)
}

fn spec(seen: &mut Seen) -> &mut ReconcileSpec {
    seen.profile.reconcile.as_mut().expect("a profile that reconciles")
}

#[test]
fn each_fault_of_a_cluster_has_its_code() {
    each_raises_its_own_code("Reconcile", ROWS);
    the_page_has_them_all("Reconcile", ROWS);
}

#[test]
fn it_is_told_in_one_sentence() {
    let judgement = Seen::good().judged("Reconcile");
    assert_eq!(judgement.message, "node-00a1b2 was applied, and taken out again, by kube-apiserver v1.20.2");
    assert!(judgement.unverified.is_empty(), "{judgement:#?}");
    assert_eq!((judgement.coverage[0].covered, judgement.coverage[0].total), (3, 3));
}

#[test]
fn without_a_cluster_nothing_is_verified_and_nothing_passes() {
    let mut seen = Seen::good();
    seen.reconciled.absent = Some("kube-apiserver is not here; build it".into());
    let judgement = seen.judged("Reconcile");
    assert_eq!(judgement.verdict, Verdict::Unverified);
    assert_eq!(
        judgement.unverified,
        ["whether a cluster takes the registration: kube-apiserver is not here; build it"]
    );
    // A cluster that was never asked anything is no cluster that agreed.
    let mut seen = Seen::good();
    seen.reconciled.passes.clear();
    assert_eq!(seen.judged("Reconcile").verdict, Verdict::Unverified);
    // Nor was it seen that the object goes away, where only the merge was shown to it.
    let mut seen = Seen::good();
    seen.reconciled.passes.pop();
    let judgement = seen.judged("Reconcile");
    assert_eq!(
        judgement.unverified,
        ["whether the machine's object goes away with its registration: it was not seen"]
    );
}

#[test]
fn an_object_that_stays_after_its_removal_is_red() {
    let mut seen = Seen::good();
    let there = seen.reconciled.passes[0].looks[1].objects.clone();
    for look in &mut seen.reconciled.passes[1].looks {
        look.objects.clone_from(&there);
    }
    let judgement = seen.judged("Reconcile");
    assert_eq!(judgement.findings[0].code, "ObjectExtra", "{judgement:#?}");
    assert!(judgement.message.starts_with("after it was taken out again: "), "{}", judgement.message);
}

#[test]
fn a_registration_that_the_tree_does_not_have_is_missed_even_where_all_is_in_sync() {
    let mut seen = Seen::good();
    seen.reconciled.passes.swap(0, 1);
    assert_eq!(seen.judged("Reconcile").findings[0].code, "ObjectMissing");
}

#[test]
fn a_field_may_be_left_out_by_the_profile() {
    let mut seen = Seen::good();
    spec(&mut seen).ignore = vec!["/spec/gpu".into()];
    for look in &mut pass(&mut seen).looks {
        look.objects[0]["spec"]["gpu"] = json!(false);
    }
    assert_eq!(seen.judged("Reconcile").verdict, Verdict::Pass);
}

#[test]
fn on_the_main_branch_alone_where_the_profile_says_so() {
    let mut seen = Seen::good();
    spec(&mut seen).when = When::Main;
    let stage = stage("Reconcile").expect("a stage");
    let asked = |main: bool| stage.asked_for(&ImageSpec { main, ..seen.spec() });
    assert!(asked(true).is_ok());
    assert!(asked(false).unwrap_err().contains("main branch"));
    let judgement = seen.judged("Reconcile");
    assert_eq!(judgement.verdict, Verdict::Skip, "{judgement:#?}");
}

#[test]
fn where_nothing_is_to_arrive_there_is_nothing_to_apply() {
    let mut refused = Seen::good();
    refused.profile.join.as_mut().expect("a registration").expect = JoinExpect::Refused;
    let mut nothing = Seen::good();
    nothing.profile.install.expect = InstallExpect::Refused;
    for (seen, why) in
        [(refused, "the registration is to be refused"), (nothing, "the installation is to be")]
    {
        let judgement = seen.judged("Reconcile");
        assert_eq!(judgement.verdict, Verdict::Skip, "{judgement:#?}");
        assert!(judgement.message.starts_with(why), "{}", judgement.message);
    }
}

#[test]
fn whether_it_is_required_is_the_profile_s_to_say() {
    let mut seen = Seen::good();
    let required =
        |seen: &Seen| super::super::planned(stage("Reconcile").expect("a stage"), &seen.spec()).required;
    assert!(!required(&seen));
    spec(&mut seen).required = true;
    assert!(required(&seen));
}

#[test]
fn nothing_of_the_evidence_is_missed_in_silence() {
    let for_people = [
        "/server",
        "/seconds",
        "/dropped",
        "/operationState/startedAt",
        "/operationState/finishedAt",
        "/metadata/uid",
        // An object without one is of a kind that has none.
        "/metadata/namespace",
    ];
    nothing_is_missed_in_silence("Reconcile", &for_people);
}

#[test]
fn what_a_cluster_says_is_shown_clean() {
    a_guest_s_words_are_shown_clean("Reconcile", |_| ());
    a_guest_s_words_are_shown_clean("Reconcile", |seen| seen.reconciled.absent = Some("gone".into()));
    a_guest_s_words_are_shown_clean("Reconcile", |seen| {
        seen.reconciled.host = HOST.to_owned();
        for look in looks(seen) {
            look["status"]["conditions"] = json!([{"type": "SyncError", "message": "no"}]);
        }
    });
}
