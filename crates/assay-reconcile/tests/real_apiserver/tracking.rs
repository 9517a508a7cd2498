//! Whose an object is: what is pruned, what is left alone, what is said about it.

use assay_reconcile::Tracking;
use serde_json::json;

use crate::world::{APPLICATION, DEFINITION, World, config_map};

#[tokio::test]
async fn orphans_are_reported_and_stay() {
    let mut world = World::with(Some(DEFINITION)).await;
    world.register("alice", "node-0a1b2c");
    assert!(world.verdict().await.ok);
    world.put(config_map("by-hand")).await;
    // A copy of a tracked object, with its mark, is not tracked.
    let mut copy = world.nodes().await.remove(0);
    copy["metadata"] = json!({
        "name": "copy", "namespace": "zeta-cluster", "annotations": copy["metadata"]["annotations"],
    });
    world.put(copy).await;
    let status = world.reconcile().await;
    assert_eq!(status.sync.status, "Synced");
    assert_eq!(status.conditions.len(), 1);
    assert_eq!(status.conditions[0].kind, "OrphanedResourceWarning");
    assert_eq!(status.conditions[0].message, "Application has 2 orphaned resources");
    assert_eq!(world.node_names().await, ["copy", "node-0a1b2c"]);
}

#[tokio::test]
async fn a_label_is_believed_also_on_a_copy() {
    let mut world = World::of(Some(DEFINITION), APPLICATION, Tracking::Label).await;
    world.register("alice", "node-0a1b2c");
    assert!(world.verdict().await.ok);
    let mut labelled = config_map("labelled");
    labelled["metadata"]["labels"] = json!({"app.kubernetes.io/instance": "cluster-nodes-reconciler"});
    world.put(labelled).await;
    let mut kept = config_map("kept");
    kept["metadata"]["labels"] = json!({"app.kubernetes.io/instance": "cluster-nodes-reconciler"});
    kept["metadata"]["annotations"] = json!({"argocd.argoproj.io/sync-options": "Prune=false"});
    world.put(kept).await;
    let status = world.reconcile().await;
    let results = status.operation_state.unwrap().sync_result.unwrap().resources;
    let of = |name: &str| results.iter().find(|result| result.name == name).unwrap().status.as_str();
    assert_eq!((of("labelled"), of("kept")), ("Pruned", "PruneSkipped"));
    assert_eq!(status.sync.status, "OutOfSync", "what may not be pruned stays extra");
}

#[tokio::test]
async fn twice_the_same_object_is_a_warning_and_a_hook_to_skip_is_skipped() {
    let mut world = World::with(Some(DEFINITION)).await;
    world.register("alice", "node-0a1b2c");
    let skipped = config_map("skipped");
    let mut skipped = skipped;
    skipped["metadata"]["annotations"] = json!({"argocd.argoproj.io/hook": "Skip"});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [config_map("listed"), config_map("listed"), skipped]});
    world.merge("maintainers/x/cluster-nodes/extra/list.yaml", list.to_string());
    let status = world.reconcile().await;
    assert_eq!(status.sync.status, "Synced");
    assert_eq!(status.conditions.len(), 1);
    assert_eq!(status.conditions[0].kind, "RepeatedResourceWarning");
    assert_eq!(
        status.conditions[0].message,
        "Resource ConfigMap zeta-cluster/listed appeared 2 times among application resources."
    );
    let names: Vec<_> = status.resources.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!(names, ["listed", "node-0a1b2c"]);

    // Any other hook would have to be run, and is refused instead of forgotten.
    let mut hook = config_map("hook");
    hook["metadata"]["annotations"] = json!({"argocd.argoproj.io/hook": "PreSync"});
    world.merge("maintainers/x/cluster-nodes/extra/hook.yaml", hook.to_string());
    let status = world.reconcile().await;
    assert!(status.conditions[0].message.contains("the hook PreSync is not run"), "{:?}", status.conditions);
}
