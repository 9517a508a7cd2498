//! The traps that are known from the field, each as the status that Argo CD shows in it.

use serde_json::{Value, json};

use super::{Code, Expectation, Observation, Operation, Verdict, judge};
use crate::{Difference, ObjectKey};

const MERGED: &str = "8f2c1de0a4b95c7760d1b2a3948576f0e1d2c3b4";
const OLDER: &str = "1111111111111111111111111111111111111111";

fn expectation() -> Expectation {
    Expectation { revision: MERGED.to_owned(), operation: Operation::OfRevision }
}

/// An Application in which everything is right, reconciled at `minute`.
fn good(minute: u32) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": "cluster-nodes-reconciler", "namespace": "argocd"},
        "status": {
            "sync": {"status": "Synced", "revision": MERGED, "comparedTo": {"source": {}}},
            "health": {"status": "Healthy"},
            "operationState": {
                "phase": "Succeeded", "message": "successfully synced (all tasks run)",
                "startedAt": "2025-01-01T00:00:00Z", "finishedAt": "2025-01-01T00:00:03Z",
                "syncResult": {"revision": MERGED, "resources": []},
            },
            "resources": [{"group": "zeta.example", "version": "v1", "kind": "ClusterNode", "namespace": "zeta-cluster", "name": "a", "status": "Synced"}],
            "history": [], "reconciledAt": format!("2025-01-01T00:{minute:02}:00Z"),
        },
    })
}

fn seen(application: Value) -> Observation {
    Observation { application, differences: Vec::new() }
}

fn with(minute: u32, pointer: &str, value: Value) -> Value {
    let mut application = good(minute);
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let name = name.replace("~1", "/");
    application.pointer_mut(parent).unwrap()[name] = value;
    application
}

/// The codes for an Application that was good before and is this now.
fn codes(now: Value) -> Vec<Code> {
    codes_of(&judge(&expectation(), &[seen(good(1)), seen(now)]))
}

fn codes_of(verdict: &Verdict) -> Vec<Code> {
    assert_eq!(verdict.ok, verdict.reasons.is_empty());
    verdict.reasons.iter().map(|reason| reason.code).collect()
}

#[test]
fn right_twice_is_ok() {
    assert_eq!(judge(&expectation(), &[seen(good(1)), seen(good(2))]), Verdict { ok: true, reasons: vec![] });
}

#[test]
fn each_trap_has_its_code() {
    let failed = json!({"phase": "Failed", "message": "one or more objects failed to apply", "startedAt": "x", "syncResult": {"revision": MERGED}});
    for (trap, now, expected) in [
        // ovotech/circleci-orbs#304: "Synced" says that it was applied, not that it runs.
        (
            "synced and still rolling",
            with(2, "/status/health/status", json!("Progressing")),
            Code::NotHealthy,
        ),
        ("synced and degraded", with(2, "/status/health/status", json!("Degraded")), Code::NotHealthy),
        ("suspended", with(2, "/status/health/status", json!("Suspended")), Code::NotHealthy),
        ("missing", with(2, "/status/health/status", json!("Missing")), Code::NotHealthy),
        // argo-cd#9620: an Unknown that stays.
        ("health unknown", with(2, "/status/health/status", json!("Unknown")), Code::NotHealthy),
        ("no health at all", with(2, "/status/health", json!({})), Code::NotHealthy),
        // argo-cd#14666: out of sync although no difference can be seen.
        (
            "out of sync with an empty diff",
            with(2, "/status/sync/status", json!("OutOfSync")),
            Code::OutOfSync,
        ),
        ("sync unknown", with(2, "/status/sync/status", json!("Unknown")), Code::OutOfSync),
        // argo-cd#22558, argo-cd#2049: green, but of the commit before.
        ("green of an older commit", with(2, "/status/sync/revision", json!(OLDER)), Code::RevisionWrong),
        ("an abbreviated hash", with(2, "/status/sync/revision", json!(&MERGED[..12])), Code::RevisionWrong),
        (
            "the branch instead of the commit",
            with(2, "/status/sync/revision", json!("main")),
            Code::RevisionWrong,
        ),
        ("no revision", with(2, "/status/sync/revision", json!("")), Code::RevisionWrong),
        (
            "compared, applied earlier",
            with(2, "/status/operationState/syncResult/revision", json!(OLDER)),
            Code::RevisionWrong,
        ),
        (
            "an operation still running",
            with(2, "/status/operationState/phase", json!("Running")),
            Code::OperationFailed,
        ),
        (
            "an operation being ended",
            with(2, "/status/operationState/phase", json!("Terminating")),
            Code::OperationFailed,
        ),
        ("an operation that failed", with(2, "/status/operationState", failed), Code::OperationFailed),
        ("no operation", with(2, "/status/operationState", Value::Null), Code::OperationFailed),
        (
            "a tree that cannot be read",
            with(
                2,
                "/status/conditions",
                json!([{"type": "ComparisonError", "message": "Failed to unmarshal"}]),
            ),
            Code::ComparisonError,
        ),
        (
            "an Application that is not valid",
            with(2, "/status/conditions", json!([{"type": "InvalidSpecError", "message": "no such path"}])),
            Code::ComparisonError,
        ),
        (
            "a sync that is refused",
            with(
                2,
                "/status/conditions",
                json!([{"type": "SyncError", "message": "auto-sync will wipe out all resources"}]),
            ),
            Code::OperationFailed,
        ),
        ("a status of another shape", with(2, "/status/conditions", json!("none")), Code::ComparisonError),
        (
            "a refresh that is pending",
            with(2, "/metadata/annotations", json!({"argocd.argoproj.io/refresh": "normal"})),
            Code::NotStable,
        ),
        (
            "an operation that is pending",
            with(2, "/operation", json!({"sync": {"revision": OLDER}})),
            Code::NotStable,
        ),
        (
            "an Application being deleted",
            with(2, "/metadata/deletionTimestamp", json!("2025-01-01T00:00:00Z")),
            Code::NotStable,
        ),
        // argo-cd#21497: an operation per reconciliation, and green after each.
        (
            "a loop of syncs",
            with(2, "/status/operationState/startedAt", json!("2025-01-01T00:01:58Z")),
            Code::NotStable,
        ),
        ("the same reconciliation twice", good(1), Code::NotStable),
        ("a status that never says when", with(2, "/status/reconciledAt", Value::Null), Code::NotStable),
    ] {
        assert_eq!(codes(now), [expected], "{trap}");
    }
}

#[test]
fn warnings_are_no_errors() {
    let warned = with(
        2,
        "/status/conditions",
        json!([{"type": "OrphanedResourceWarning", "message": "Application has 1 orphaned resources"}]),
    );
    assert_eq!(codes(warned), []);
}

#[test]
fn nothing_observed_or_no_status_is_never_ok() {
    assert_eq!(codes_of(&judge(&expectation(), &[])), [Code::NotStable]);
    for nothing in [json!({}), json!(null), json!([]), json!({"status": {}})] {
        let all = [Code::RevisionWrong, Code::OutOfSync, Code::NotHealthy, Code::OperationFailed];
        assert_eq!(codes(nothing), all);
    }
}

#[test]
fn right_once_is_not_stable() {
    assert_eq!(codes_of(&judge(&expectation(), &[seen(good(1))])), [Code::NotStable]);
    // Flapping: wrong, then right.
    let wrong = with(1, "/status/health/status", json!("Progressing"));
    let verdict = judge(&expectation(), &[seen(wrong), seen(good(2))]);
    assert_eq!(codes_of(&verdict), [Code::NotStable]);
    assert!(verdict.reasons[0].detail.contains("Progressing"), "{:?}", verdict.reasons);
}

#[test]
fn objects_count_however_green_the_status_is() {
    let object = ObjectKey {
        group: "zeta.example".to_owned(),
        kind: "ClusterNode".to_owned(),
        namespace: "zeta-cluster".to_owned(),
        name: "a".to_owned(),
    };
    let difference = |code, pointer: &str| Difference {
        code,
        object: object.clone(),
        pointer: pointer.to_owned(),
        expected: Some(json!("52:54:00:12:34:56")),
        live: None,
    };
    let differences = vec![
        difference(Code::ObjectMissing, ""),
        difference(Code::ObjectExtra, ""),
        difference(Code::FieldPruned, "/spec/hardware/network/mac"),
        difference(Code::FieldDifferent, "/spec/roles/0"),
    ];
    let now = Observation { application: good(2), differences };
    let verdict = judge(&expectation(), &[seen(good(1)), now]);
    insta::assert_json_snapshot!(verdict, @r#"
    {
      "ok": false,
      "reasons": [
        {
          "code": "ObjectMissing",
          "detail": "ClusterNode.zeta.example zeta-cluster/a is not there"
        },
        {
          "code": "ObjectExtra",
          "detail": "ClusterNode.zeta.example zeta-cluster/a is there and not expected"
        },
        {
          "code": "FieldPruned",
          "detail": "ClusterNode.zeta.example zeta-cluster/a has no /spec/hardware/network/mac, expected \"52:54:00:12:34:56\""
        },
        {
          "code": "FieldDifferent",
          "detail": "ClusterNode.zeta.example zeta-cluster/a has nothing at /spec/roles/0, expected \"52:54:00:12:34:56\""
        }
      ]
    }
    "#);
}

#[test]
fn a_commit_that_changes_nothing_needs_no_operation_of_its_own() {
    let any = Expectation { operation: Operation::Any, ..expectation() };
    let older = |minute| seen(with(minute, "/status/operationState/syncResult/revision", json!(OLDER)));
    assert!(judge(&any, &[older(1), older(2)]).ok);
    let none = |minute| seen(with(minute, "/status/operationState", Value::Null));
    assert!(judge(&any, &[none(1), none(2)]).ok);
    let failed = seen(with(2, "/status/operationState/phase", json!("Failed")));
    assert_eq!(codes_of(&judge(&any, &[older(1), failed])), [Code::OperationFailed]);
}

#[test]
fn of_several_sources_one_has_the_revision() {
    let several = |minute| {
        let mut application =
            with(minute, "/status/sync", json!({"status": "Synced", "revisions": [OLDER, MERGED]}));
        application["status"]["operationState"]["syncResult"] = json!({"revisions": [OLDER, MERGED]});
        seen(application)
    };
    assert!(judge(&expectation(), &[several(1), several(2)]).ok);
    let nothing_expected = Expectation { revision: String::new(), ..expectation() };
    assert!(!judge(&nothing_expected, &[seen(good(1)), seen(good(2))]).ok);
}

#[test]
fn many_objects_are_not_all_named() {
    let resource =
        |index: usize| json!({"kind": "ClusterNode", "name": format!("n{index}"), "status": "OutOfSync"});
    let mut application = with(2, "/status/sync/status", json!("OutOfSync"));
    application["status"]["resources"] = (0..9).map(resource).collect();
    let verdict = judge(&expectation(), &[seen(application)]);
    assert_eq!(
        verdict.reasons[0].detail,
        "the sync status is OutOfSync (ClusterNode n0, ClusterNode n1, ClusterNode n2, ClusterNode n3, ClusterNode n4 and 4 more)"
    );
}
