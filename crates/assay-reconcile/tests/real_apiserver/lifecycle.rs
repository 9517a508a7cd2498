//! Registered, changed, renamed, deregistered: what a cluster is to make of a tree that changes.

use assay_reconcile::{Code, Operation, Tracking};
use serde_json::json;

use crate::world::{APPLICATION, DEFINITION, World, codes};

#[tokio::test]
async fn a_merged_registration_becomes_an_object() {
    let mut world = World::with(Some(DEFINITION)).await;
    world.register("alice", "node-0a1b2c");
    let first = world.observe().await;
    let status = world.reconciler.status().clone();
    assert_eq!(first.differences, []);
    assert_eq!((status.sync.status.as_str(), status.health.status.as_str()), ("Synced", "Healthy"));
    assert_eq!(status.sync.revision, world.revision());
    let operation = status.operation_state.unwrap();
    let applied: Vec<_> = operation
        .sync_result
        .unwrap()
        .resources
        .into_iter()
        .map(|resource| (resource.kind, resource.name, resource.status, resource.sync_phase))
        .collect();
    let applied: Vec<_> =
        applied.iter().map(|(a, b, c, d)| (a.as_str(), b.as_str(), c.as_str(), d.as_str())).collect();
    assert_eq!(
        applied,
        [
            ("Namespace", "zeta-cluster", "Synced", "PreSync"),
            ("ClusterNode", "node-0a1b2c", "Synced", "Sync")
        ]
    );
    let verdict = world.verdict().await;
    assert!(verdict.ok, "{verdict:?}");
    let node = world.api().get("node-0a1b2c").await.unwrap();
    assert_eq!(node.data["spec"]["hardware"]["network"]["mac"], "52:54:00:12:34:56");
}

#[tokio::test]
async fn several_registrations_are_applied_and_one_is_removed() {
    let mut world = World::with(Some(DEFINITION)).await;
    world.register("alice", "node-0a1b2c");
    world.register("bob", "node-3d4e5f");
    assert!(world.verdict().await.ok);
    assert_eq!(world.node_names().await, ["node-0a1b2c", "node-3d4e5f"]);

    world.deregister("alice", "node-0a1b2c");
    // Before the reconciler has seen it, the oracle says what is wrong.
    assert_eq!(
        world.differences().await.iter().map(|difference| difference.code).collect::<Vec<_>>(),
        [Code::ObjectExtra]
    );
    let verdict = world.verdict().await;
    assert!(verdict.ok, "{verdict:?}");
    assert_eq!(world.node_names().await, ["node-3d4e5f"]);

    // The last one is another matter: Argo CD refuses to prune to nothing.
    world.deregister("bob", "node-3d4e5f");
    let verdict = world.verdict().await;
    let refused = "SyncError: Skipping sync attempt to ";
    assert!(verdict.reasons.iter().any(|reason| reason.detail.starts_with(refused)), "{verdict:?}");
    assert!(codes(&verdict).contains(&Code::ObjectExtra), "{verdict:?}");
    assert_eq!(world.node_names().await, ["node-3d4e5f"]);
}

#[tokio::test]
async fn the_last_registration_goes_where_that_is_allowed() {
    let allowed = APPLICATION.replace("selfHeal: true", "selfHeal: true\n      allowEmpty: true");
    let mut world = World::of(Some(DEFINITION), &allowed, Tracking::Label).await;
    world.register("alice", "node-0a1b2c");
    assert!(world.verdict().await.ok);
    world.deregister("alice", "node-0a1b2c");
    let verdict = world.verdict().await;
    assert!(verdict.ok, "{verdict:?}");
    assert_eq!(world.node_names().await, [""; 0]);
}

#[tokio::test]
async fn a_renamed_machine_is_a_new_object_and_the_old_one_goes() {
    let mut world = World::with(Some(DEFINITION)).await;
    world.register("alice", "node-0a1b2c");
    world.register("alice", "node-111111");
    assert!(world.verdict().await.ok);
    world.deregister("alice", "node-0a1b2c");
    world.register("alice", "node-999999");
    let verdict = world.verdict().await;
    assert!(verdict.ok, "{verdict:?}");
    assert_eq!(world.node_names().await, ["node-111111", "node-999999"]);
    let operation = world.reconciler.status().operation_state.clone().unwrap();
    let mut done: Vec<String> = operation
        .sync_result
        .unwrap()
        .resources
        .iter()
        .map(|resource| format!("{} {}", resource.name, resource.status))
        .collect();
    // Deleted first; then all of the tree is applied.
    assert_eq!(done.remove(0), "node-0a1b2c Pruned");
    assert_eq!(done, ["node-111111 Synced", "node-999999 Synced"]);
}

#[tokio::test]
async fn drift_is_healed_or_found() {
    let mut world = World::with(Some(DEFINITION)).await;
    world.register("alice", "node-0a1b2c");
    assert!(world.verdict().await.ok);

    let elsewhere = json!({"spec": {"hardware": {"network": {"mac": "52:54:00:00:00:00"}}}});
    world.tamper("node-0a1b2c", elsewhere.clone()).await;
    let found = world.differences().await;
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].code, found[0].pointer.as_str()),
        (Code::FieldDifferent, "/spec/hardware/network/mac")
    );
    assert_eq!(found[0].live, Some(json!("52:54:00:00:00:00")));
    let verdict = world.verdict().await;
    assert!(verdict.ok, "{verdict:?}");

    // Deleted by hand, it comes back.
    world.api().delete("node-0a1b2c", &kube::api::DeleteParams::default()).await.unwrap();
    assert_eq!(world.differences().await[0].code, Code::ObjectMissing);
    assert!(world.verdict().await.ok);

    // A field that the tree does not have is not Argo CD's to heal: it stays Synced, and only the comparison sees it.
    world.tamper("node-0a1b2c", json!({"spec": {"hardware": {"kernel": "by hand"}}})).await;
    let verdict = world.verdict().await;
    assert_eq!(world.reconciler.status().sync.status, "Synced");
    assert_eq!(codes(&verdict), [Code::FieldDifferent], "{verdict:?}");
}

#[tokio::test]
async fn without_self_heal_a_drift_stays_and_is_out_of_sync() {
    let application = APPLICATION.replace("selfHeal: true", "selfHeal: false");
    let mut world = World::of(Some(DEFINITION), &application, Tracking::Annotation).await;
    world.register("alice", "node-0a1b2c");
    assert!(world.verdict().await.ok);
    world.tamper("node-0a1b2c", json!({"spec": {"roles": ["worker"]}})).await;
    let verdict = world.verdict().await;
    assert_eq!(codes(&verdict), [Code::OutOfSync, Code::FieldDifferent], "{verdict:?}");
    assert_eq!(verdict.reasons[0].detail, "the sync status is OutOfSync (ClusterNode node-0a1b2c)");
}

#[tokio::test]
async fn a_file_that_is_no_registration_changes_nothing() {
    let mut world = World::with(Some(DEFINITION)).await;
    world.register("alice", "node-0a1b2c");
    assert!(world.verdict().await.ok);
    let before = world.nodes().await;
    // Below the source path and no registration; a registration outside of it; one with another suffix.
    let stray = crate::world::registration("alice", "node-ffffff");
    for path in [
        "maintainers/alice/machines/node-ffffff/node.yaml",
        "elsewhere/alice/cluster-nodes/node-ffffff/node.yaml",
        "maintainers/alice/cluster-nodes/node-ffffff/node.yaml.orig",
        "maintainers/../maintainers/alice/node.yaml",
    ] {
        world.merge(path, stray.clone());
    }
    let verdict = world.verdict_with(Operation::Any).await;
    assert!(verdict.ok, "{verdict:?}");
    assert_eq!(world.nodes().await, before, "not even touched");
    // Nothing was applied for that commit, and who asks for it is told so.
    assert_eq!(codes(&world.verdict().await), [Code::RevisionWrong]);
}
