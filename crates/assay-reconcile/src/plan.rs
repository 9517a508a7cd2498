//! Decisions of a reconciliation, without any I/O: whether to sync, and in which order.
//!
//! Both follow Argo CD: `autoSync` in `controller/appcontroller.go` (user guide, page "Automated Sync Policy"), and the
//! order of `pkg/sync/sync_tasks.go` in gitops-engine (user guide, page "Sync Phases and Waves").

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    Automated,
    object::{ObjectKey, annotation, group_and_version, is_definition, text},
    status::OperationState,
};

/// The annotation that moves an object to an earlier or later wave.
const WAVE: &str = "argocd.argoproj.io/sync-wave";

/// First things first. A kind that is not listed, as custom resources are, comes last.
const KIND_ORDER: [&str; 34] = [
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodSecurityPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "SecretList",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleList",
    "ClusterRoleBinding",
    "ClusterRoleBindingList",
    "Role",
    "RoleList",
    "RoleBinding",
    "RoleBindingList",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "Ingress",
    "APIService",
];

/// What a comparison found, as far as the decision depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drift {
    /// Objects of the tree that the cluster does not have, or has otherwise.
    pub(crate) changed: usize,
    /// Tracked objects that the tree no longer has.
    pub(crate) extra: usize,
    /// Objects of the tree.
    pub(crate) wanted: usize,
}

/// What to do about a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing is to be done, or nothing may be done.
    Nothing,
    /// Apply, and prune where the policy says so.
    Sync,
    /// Something is to be done and is not; reported as `SyncError`.
    Refused(String),
}

/// Whether to sync by itself. An operation that failed is not tried again for the same revision.
pub(crate) fn decide(
    automated: Option<Automated>,
    drift: Drift,
    revision: &str,
    last: Option<&OperationState>,
) -> Decision {
    let Some(automated) = automated else { return Decision::Nothing };
    if drift.changed == 0 && (drift.extra == 0 || !automated.prune) {
        return Decision::Nothing;
    }
    let attempted =
        |last: &&OperationState| last.sync_result.as_ref().is_some_and(|result| result.revision == revision);
    if let Some(last) = last.filter(attempted) {
        if last.phase != "Succeeded" {
            return Decision::Refused(format!("Failed sync attempt to {revision}: {}", last.message));
        }
        if !automated.self_heal {
            return Decision::Nothing;
        }
    }
    if automated.prune && !automated.allow_empty && drift.wanted == 0 && drift.extra > 0 {
        return Decision::Refused(format!(
            "Skipping sync attempt to {revision}: auto-sync will wipe out all resources"
        ));
    }
    Decision::Sync
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Task<'a> {
    /// Delete this tracked object.
    Prune(&'a Value),
    /// Apply this object of the tree.
    Apply(&'a Value),
}

/// What to do, wave by wave; within a wave deletions come first, then what others need.
pub(crate) fn waves<'a>(wanted: &'a [Value], extra: &'a [Value]) -> Vec<Vec<Task<'a>>> {
    let mut waves: BTreeMap<i64, Vec<Task<'a>>> = BTreeMap::new();
    let turned = turned_waves(extra);
    for object in extra {
        let wave = turned.get(&wave(object)).copied().unwrap_or_default();
        waves.entry(wave).or_default().push(Task::Prune(object));
    }
    for object in wanted {
        // Few objects are needed by others; for all of them this would be quadratic.
        let may_be_needed = is_definition(object) || text(object, "/kind") == "Namespace";
        let needing = wanted.iter().filter(|other| may_be_needed && needs(other, object));
        let needed_by = needing.map(wave).min();
        let wave = wave(object).min(needed_by.unwrap_or(i64::MAX));
        waves.entry(wave).or_default().push(Task::Apply(object));
    }
    let mut waves: Vec<_> = waves.into_values().collect();
    for tasks in &mut waves {
        tasks.sort_by_key(|task| match task {
            Task::Prune(object) => (0, std::cmp::Reverse(rank(object)), ObjectKey::of(object)),
            Task::Apply(object) => (1 + rank(object), std::cmp::Reverse(0), ObjectKey::of(object)),
        });
    }
    waves
}

/// Deletion goes through the waves backwards: the first becomes the last.
fn turned_waves(extra: &[Value]) -> BTreeMap<i64, i64> {
    let mut of_extra: Vec<i64> = extra.iter().map(wave).collect();
    of_extra.sort_unstable();
    of_extra.dedup();
    of_extra.iter().copied().zip(of_extra.iter().rev().copied()).collect()
}

fn wave(object: &Value) -> i64 {
    annotation(object, WAVE).and_then(|wave| wave.parse::<i32>().ok()).unwrap_or_default().into()
}

fn rank(object: &Value) -> usize {
    let kind = text(object, "/kind");
    KIND_ORDER.iter().position(|known| *known == kind).unwrap_or(KIND_ORDER.len())
}

/// Whether `object` can only be there after `other`, its namespace or the definition of its kind.
fn needs(object: &Value, other: &Value) -> bool {
    if is_definition(other) {
        let (group, _) = group_and_version(text(object, "/apiVersion"));
        return group == text(other, "/spec/group")
            && text(object, "/kind") == text(other, "/spec/names/kind");
    }
    text(other, "/kind") == "Namespace"
        && text(other, "/apiVersion") == "v1"
        && !text(object, "/metadata/namespace").is_empty()
        && text(object, "/metadata/namespace") == text(other, "/metadata/name")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Decision, Drift, Task, decide, waves};
    use crate::{
        Automated,
        object::text,
        status::{OperationState, SyncResult},
    };

    const ALL: Automated = Automated { prune: true, self_heal: true, allow_empty: false };

    fn operation(phase: &str, revision: &str) -> OperationState {
        OperationState {
            phase: phase.to_owned(),
            message: "why".to_owned(),
            sync_result: Some(SyncResult { revision: revision.to_owned(), ..SyncResult::default() }),
            ..OperationState::default()
        }
    }

    #[test]
    fn whether_to_sync() {
        let drift = |changed, extra, wanted| Drift { changed, extra, wanted };
        let healed_not = Automated { self_heal: false, ..ALL };
        let pruned_not = Automated { prune: false, ..ALL };
        let emptied = Automated { allow_empty: true, ..ALL };
        let (done, failed, older) =
            (operation("Succeeded", "r2"), operation("Failed", "r2"), operation("Failed", "r1"));
        let refused = |text: &str| Decision::Refused(text.to_owned());
        let wiped = || refused("Skipping sync attempt to r2: auto-sync will wipe out all resources");
        for (automated, drift, last, expected) in [
            (Some(ALL), drift(0, 0, 2), None, Decision::Nothing),
            (Some(ALL), drift(1, 0, 2), None, Decision::Sync),
            (None, drift(1, 1, 2), None, Decision::Nothing),
            (Some(ALL), drift(0, 1, 2), None, Decision::Sync),
            (Some(pruned_not), drift(0, 1, 2), None, Decision::Nothing),
            // The last one is not pruned unless that is allowed.
            (Some(ALL), drift(0, 1, 0), None, wiped()),
            (Some(emptied), drift(0, 1, 0), None, Decision::Sync),
            // A drift of a revision that was applied is healed, or left.
            (Some(ALL), drift(1, 0, 2), Some(&done), Decision::Sync),
            (Some(healed_not), drift(1, 0, 2), Some(&done), Decision::Nothing),
            // What failed is not tried again before there is a new revision.
            (Some(ALL), drift(1, 0, 2), Some(&failed), refused("Failed sync attempt to r2: why")),
            (Some(ALL), drift(1, 0, 2), Some(&older), Decision::Sync),
        ] {
            assert_eq!(decide(automated, drift, "r2", last), expected, "{automated:?} {drift:?} {last:?}");
        }
    }

    fn object(api_version: &str, kind: &str, name: &str, wave: &str) -> Value {
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "n", "annotations": {"argocd.argoproj.io/sync-wave": wave}}})
    }

    fn order(wanted: &[Value], extra: &[Value]) -> Vec<Vec<String>> {
        let name = |task: &Task<'_>| match task {
            Task::Prune(object) => format!("-{}", text(object, "/metadata/name")),
            Task::Apply(object) => text(object, "/metadata/name").to_owned(),
        };
        waves(wanted, extra).iter().map(|wave| wave.iter().map(name).collect()).collect()
    }

    #[test]
    fn kinds_come_in_order_and_custom_resources_last() {
        let wanted = [
            object("zeta.example/v1", "ClusterNode", "node", ""),
            object("apps/v1", "Deployment", "deployment", ""),
            object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "definition", "not a number"),
            object("v1", "Namespace", "n", ""),
        ];
        assert_eq!(order(&wanted, &[]), [["n", "definition", "deployment", "node"]]);
    }

    #[test]
    fn waves_are_kept_and_deletions_go_backwards() {
        let map = |name: &str, wave: &str| object("v1", "ConfigMap", name, wave);
        let wanted = [map("late", "5"), map("early", "-1"), map("middle", "0")];
        assert_eq!(order(&wanted, &[]), [["early"], ["middle"], ["late"]]);
        let extra = [map("a", "-1"), map("b", "0"), map("c", "5")];
        assert_eq!(order(&[map("new", "0")], &extra), [vec!["-c"], vec!["-b", "new"], vec!["-a"]]);
    }

    #[test]
    fn what_others_need_is_not_later_than_they_are() {
        let mut definition = object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "definition", "7");
        definition["spec"] = json!({"group": "zeta.example", "names": {"kind": "ClusterNode"}});
        let wanted = [
            object("zeta.example/v1", "ClusterNode", "node", "1"),
            definition,
            object("v1", "Namespace", "n", "9"),
        ];
        assert_eq!(order(&wanted, &[]), [["n", "definition", "node"]]);
    }
}
