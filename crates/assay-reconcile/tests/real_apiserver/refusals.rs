//! What goes wrong: schemas, broken files, missing kinds and namespaces.

use assay_reconcile::{Code, Tracking, pruned_fields};

use crate::world::{
    APPLICATION, DEFINITION, PRUNING_DEFINITION, World, codes, registration, registration_path,
};

#[tokio::test]
async fn a_schema_that_prunes_is_found_although_everything_is_green() {
    let mut world = World::with(Some(PRUNING_DEFINITION)).await;
    world.register("alice", "node-0a1b2c");
    // Known before anything is applied, if somebody asks.
    world.put(serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "zeta-cluster"}})).await;
    let foreseen = pruned_fields(&world.client(), &world.expected()).await.unwrap();

    let verdict = world.verdict().await;
    let status = world.reconciler.status();
    assert_eq!((status.sync.status.as_str(), status.health.status.as_str()), ("Synced", "Healthy"));
    assert_eq!(status.operation_state.as_ref().unwrap().phase, "Succeeded");
    let details: Vec<&str> = verdict.reasons.iter().map(|reason| reason.detail.as_str()).collect();
    assert_eq!(
        details,
        [
            "ClusterNode.zeta.lucent-financial-group.com zeta-cluster/node-0a1b2c has no /spec/hardware/network/ip, expected \"10.0.2.15\"",
            "ClusterNode.zeta.lucent-financial-group.com zeta-cluster/node-0a1b2c has no /spec/hardware/network/mac, expected \"52:54:00:12:34:56\"",
        ]
    );
    assert_eq!(codes(&verdict), [Code::FieldPruned]);
    assert_eq!(foreseen, world.differences().await);

    // With a schema that keeps them, the same commit is right.
    world.define(DEFINITION).await;
    assert_eq!(pruned_fields(&world.client(), &world.expected()).await.unwrap(), []);
    let verdict = world.verdict().await;
    assert!(verdict.ok, "{verdict:?}");
}

#[tokio::test]
async fn a_malformed_registration_is_a_comparison_error_and_touches_nobody() {
    let mut world = World::with(Some(DEFINITION)).await;
    world.register("alice", "node-0a1b2c");
    world.register("bob", "node-3d4e5f");
    assert!(world.verdict().await.ok);
    let before = world.nodes().await;

    let broken = registration("carol", "node-666666").replace("spec:", "spec: {");
    world.merge(&registration_path("carol", "node-666666"), broken);
    let status = world.reconcile().await;
    assert_eq!(status.sync.status, "Unknown");
    assert_eq!(status.conditions.len(), 1);
    assert_eq!(status.conditions[0].kind, "ComparisonError");
    assert!(status.conditions[0].message.contains("maintainers/carol/cluster-nodes/node-666666/node.yaml"));
    assert_eq!(status.resources.len(), 2, "what is there is still known");
    assert_eq!(world.nodes().await, before, "and not even touched");
    let application = world.reconciler.application();
    let observation = assay_reconcile::Observation { application, differences: vec![] };
    let expectation = assay_reconcile::Expectation {
        revision: world.revision(),
        operation: assay_reconcile::Operation::Any,
    };
    let verdict = assay_reconcile::judge(&expectation, &[observation]);
    assert_eq!(codes(&verdict), [Code::ComparisonError, Code::RevisionWrong, Code::OutOfSync], "{verdict:?}");

    // Corrected, everybody is served again.
    world.register("carol", "node-666666");
    let verdict = world.verdict().await;
    assert!(verdict.ok, "{verdict:?}");
    assert_eq!(world.node_names().await, ["node-0a1b2c", "node-3d4e5f", "node-666666"]);
}

#[tokio::test]
async fn what_the_schema_refuses_fails_by_name_and_the_others_are_applied() {
    let mut world = World::with(Some(DEFINITION)).await;
    world.register("alice", "node-0a1b2c");
    let bad = registration("bob", "node-3d4e5f").replace("mac: \"52:54:00:12:34:56\"", "mac: \"unknown\"");
    world.merge(&registration_path("bob", "node-3d4e5f"), bad);
    let verdict = world.verdict().await;
    assert_eq!(world.node_names().await, ["node-0a1b2c"]);
    let codes = codes(&verdict);
    for code in [Code::OperationFailed, Code::OutOfSync, Code::ObjectMissing, Code::NotHealthy] {
        assert!(codes.contains(&code), "{code:?} in {verdict:?}");
    }
    let said = &verdict.reasons.iter().find(|reason| reason.code == Code::OperationFailed).unwrap().detail;
    assert!(said.contains("node-3d4e5f") && said.contains("spec.hardware.network.mac"), "{said}");

    // The same revision is not tried again; the corrected one is.
    let attempted = world.reconciler.status().operation_state.clone().unwrap().started_at;
    let status = world.reconcile().await;
    assert_eq!(status.operation_state.unwrap().started_at, attempted);
    assert!(status.conditions[0].message.starts_with("Failed sync attempt to"), "{:?}", status.conditions);
    world.register("bob", "node-3d4e5f");
    let verdict = world.verdict().await;
    assert!(verdict.ok, "{verdict:?}");
}

#[tokio::test]
async fn a_name_that_is_a_path_reaches_nothing_else() {
    let mut world = World::with(Some(DEFINITION)).await;
    world.register("alice", "node-0a1b2c");
    assert!(world.verdict().await.ok);
    let before = world.nodes().await;
    let hostile =
        registration("mallory", "node-666666").replace("name: node-666666", "name: x/../node-0a1b2c");
    world.merge(&registration_path("mallory", "node-666666"), hostile);
    let verdict = world.verdict().await;
    let said = &verdict.reasons.iter().find(|reason| reason.code == Code::OperationFailed).unwrap().detail;
    assert!(said.contains("x/../node-0a1b2c is not a name that an object can have"), "{said}");
    assert_eq!(world.nodes().await, before, "not even touched");
}

#[tokio::test]
async fn an_unquoted_no_is_false_for_argo_cd_and_the_schema_refuses_it() {
    let mut world = World::with(Some(DEFINITION)).await;
    let unquoted = registration("alice", "node-0a1b2c").replace("\"pci 1234:1111\"", "no");
    world.merge(&registration_path("alice", "node-0a1b2c"), unquoted);
    let verdict = world.verdict().await;
    let said = &verdict.reasons.iter().find(|reason| reason.code == Code::OperationFailed).unwrap().detail;
    assert!(said.contains("spec.hardware.gpu: expected string"), "{said}");
}

#[tokio::test]
async fn without_the_definition_nothing_is_applied_until_there_is_a_new_commit() {
    let mut world = World::with(None).await;
    world.register("alice", "node-0a1b2c");
    let verdict = world.verdict().await;
    let said = &verdict.reasons.iter().find(|reason| reason.code == Code::OperationFailed).unwrap().detail;
    assert!(
        said.contains("The Kubernetes API could not find zeta.lucent-financial-group.com/v1/ClusterNode"),
        "{said}"
    );
    assert!(codes(&verdict).contains(&Code::ObjectMissing));

    // The definition alone does not help: what failed is not tried again for the same commit.
    world.define(DEFINITION).await;
    assert!(!world.verdict().await.ok);
    world.register("bob", "node-3d4e5f");
    let verdict = world.verdict().await;
    assert!(verdict.ok, "{verdict:?}");
}

#[tokio::test]
async fn a_definition_in_the_same_commit_comes_first() {
    let application =
        APPLICATION.replace("'**/cluster-nodes/**/*.yaml'", "'{crds/*.yaml,**/cluster-nodes/**/*.yaml}'");
    let mut world = World::of(None, &application, Tracking::Annotation).await;
    world.register("alice", "node-0a1b2c");
    world.merge("maintainers/crds/clusternode.yaml", DEFINITION);
    let verdict = world.verdict().await;
    assert!(verdict.ok, "{verdict:?}");
    let kinds: Vec<_> =
        world.reconciler.status().resources.iter().map(|resource| resource.kind.clone()).collect();
    assert_eq!(kinds, ["CustomResourceDefinition", "ClusterNode"]);
    // A definition that leaves the tree stays in the cluster, with everything of its kind.
    world.tree.remove("maintainers/crds/clusternode.yaml");
    world.register("bob", "node-3d4e5f");
    assert!(world.verdict().await.ok);
    assert_eq!(world.node_names().await, ["node-0a1b2c", "node-3d4e5f"]);
}

#[tokio::test]
async fn without_its_namespace_nothing_is_applied() {
    let application = APPLICATION.replace("      - CreateNamespace=true\n", "");
    let mut world = World::of(Some(DEFINITION), &application, Tracking::Annotation).await;
    world.register("alice", "node-0a1b2c");
    let verdict = world.verdict().await;
    let said = &verdict.reasons.iter().find(|reason| reason.code == Code::OperationFailed).unwrap().detail;
    assert!(said.contains("namespaces \"zeta-cluster\" not found"), "{said}");
    assert!(codes(&verdict).contains(&Code::ObjectMissing), "{verdict:?}");
}
