//! A repository, a cluster and a reconciler between them.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use assay_model::clock::{Clock, Micros};
use assay_reconcile::{
    ApiServer, Application, Code, Difference, Expectation, Expected, Observation, Operation, Reconciler,
    Rules, Tracking, Tree, Verdict, compare, judge, objects, status::ApplicationStatus,
};
use kube::{
    Client,
    api::{Api, DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const APPLICATION: &str =
    include_str!("../../../../examples/images/cluster-nodes/application.yaml");
pub(crate) const DEFINITION: &str =
    include_str!("../../../../examples/images/cluster-nodes/clusternode-crd.yaml");
pub(crate) const PRUNING_DEFINITION: &str =
    include_str!("../../../../examples/images/cluster-nodes/clusternode-crd-prunes.yaml");
pub(crate) const NODE: (&str, &str) = ("zeta.lucent-financial-group.com/v1", "ClusterNode");
pub(crate) const NAMESPACE: &str = "zeta-cluster";
const REGISTRATIONS: &str = "maintainers/*/cluster-nodes/*/node.yaml";
const DEFINITIONS: &str = "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: definitions}\nspec:\n  source: {repoURL: r, path: crds, directory: {}}\n  destination: {namespace: default}\n  syncPolicy: {automated: {}}\n";

/// A repository and a cluster.
pub(crate) struct World {
    pub(crate) server: ApiServer,
    pub(crate) tree: Tree,
    pub(crate) reconciler: Reconciler,
    commits: u32,
    clock: Arc<Counting>,
    _folder: TempDir,
}

/// A second later each time it is asked.
struct Counting(AtomicI64);

impl Clock for Counting {
    fn now(&self) -> Micros {
        Micros(self.0.fetch_add(1_000_000, Ordering::Relaxed))
    }
}

/// A server, with its folder. Says how to get one where there is none.
pub(crate) async fn server() -> (ApiServer, TempDir) {
    let files = ApiServer::find().unwrap_or_else(|error| panic!("NOT RUN, there is no API server: {error}"));
    let folder = tempfile::tempdir().unwrap();
    let server = ApiServer::start(&files, folder.path()).await.unwrap_or_else(|error| panic!("{error}"));
    (server, folder)
}

impl World {
    /// A cluster that knows `definition`, if any, and a repository with a file that is nobody's registration.
    pub(crate) async fn with(definition: Option<&str>) -> Self {
        Self::of(definition, APPLICATION, Tracking::Annotation).await
    }

    pub(crate) async fn of(definition: Option<&str>, application: &str, tracking: Tracking) -> Self {
        let (server, folder) = server().await;
        let clock = Arc::new(Counting(AtomicI64::new(1_735_689_600_000_000)));
        let application = Application::from_yaml(application).unwrap();
        let reconciler =
            Reconciler::new(server.client(), application, tracking, Arc::clone(&clock) as Arc<dyn Clock>);
        let tree = Tree::from([("maintainers/README.md".to_owned(), b"Who looks after what.".to_vec())]);
        let world = Self { server, tree, reconciler, commits: 0, clock, _folder: folder };
        if let Some(definition) = definition {
            world.define(definition).await;
        }
        world
    }

    /// Applies a definition beside the Application, as an administrator would.
    pub(crate) async fn define(&self, definition: &str) {
        let application = Application::from_yaml(DEFINITIONS).unwrap();
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let mut reconciler = Reconciler::new(self.client(), application, Tracking::Annotation, clock);
        let tree = Tree::from([("crds/definition.yaml".to_owned(), definition.as_bytes().to_vec())]);
        let status = reconciler.reconcile("crds", &tree).await.unwrap();
        assert_eq!(status.operation_state.as_ref().unwrap().phase, "Succeeded", "{status:?}");
        assert_eq!(
            (status.sync.status.as_str(), status.health.status.as_str()),
            ("Synced", "Healthy"),
            "{status:?}"
        );
    }

    pub(crate) fn client(&self) -> Client {
        self.server.client()
    }

    /// Merges a file.
    pub(crate) fn merge(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.tree.insert(path.to_owned(), content.into());
        self.commits += 1;
    }

    /// Merges a registration.
    pub(crate) fn register(&mut self, operator: &str, host: &str) {
        self.merge(&registration_path(operator, host), registration(operator, host));
    }

    /// Merges the removal of a registration.
    pub(crate) fn deregister(&mut self, operator: &str, host: &str) {
        self.tree.remove(&registration_path(operator, host)).expect("it is registered");
        self.commits += 1;
    }

    /// The commit that the repository is at.
    pub(crate) fn revision(&self) -> String {
        format!("{:040x}", u64::from(self.commits) + 0xabc_0000)
    }

    pub(crate) async fn reconcile(&mut self) -> ApplicationStatus {
        let revision = self.revision();
        self.reconciler.reconcile(&revision, &self.tree).await.unwrap().clone()
    }

    /// Reconciles once, and compares.
    pub(crate) async fn observe(&mut self) -> Observation {
        self.reconcile().await;
        Observation { application: self.reconciler.application(), differences: self.differences().await }
    }

    /// Reconciles twice, and judges: the merged commit must have been applied.
    pub(crate) async fn verdict(&mut self) -> Verdict {
        self.verdict_with(Operation::OfRevision).await
    }

    pub(crate) async fn verdict_with(&mut self, operation: Operation) -> Verdict {
        let observations = [self.observe().await, self.observe().await];
        judge(&Expectation { revision: self.revision(), operation }, &observations)
    }

    pub(crate) async fn differences(&self) -> Vec<Difference> {
        let expected = Expected::render(&self.tree, REGISTRATIONS, NAMESPACE).unwrap();
        compare(&expected, &self.nodes().await, &Rules::default())
    }

    pub(crate) fn expected(&self) -> Expected {
        Expected::render(&self.tree, REGISTRATIONS, NAMESPACE).unwrap()
    }

    /// The live nodes.
    pub(crate) async fn nodes(&self) -> Vec<Value> {
        objects(&self.client(), &[NODE], NAMESPACE).await.unwrap()
    }

    pub(crate) async fn node_names(&self) -> Vec<String> {
        self.nodes().await.iter().map(|node| node["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn api(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client(), NAMESPACE, &resource(NODE.0, NODE.1, "clusternodes"))
    }

    /// Changes a live node behind the reconciler's back.
    pub(crate) async fn tamper(&self, host: &str, patch: Value) {
        self.api().patch(host, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Puts an object into the cluster that the reconciler knows nothing of.
    pub(crate) async fn put(&self, object: Value) {
        put(&self.client(), object).await;
    }
}

/// Applies an object as somebody else.
pub(crate) async fn put(client: &Client, object: Value) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let plural = format!("{}s", text("/kind").to_lowercase());
    let resource = resource(&text("/apiVersion"), &text("/kind"), &plural);
    let api: Api<DynamicObject> = match text("/metadata/namespace").as_str() {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    api.patch(&text("/metadata/name"), &PatchParams::apply("somebody"), &Patch::Apply(&object))
        .await
        .unwrap();
}

pub(crate) fn resource(api_version: &str, kind: &str, plural: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

pub(crate) fn registration_path(operator: &str, host: &str) -> String {
    format!("maintainers/{operator}/cluster-nodes/{host}/node.yaml")
}

/// A registration as the reference installer writes it.
pub(crate) fn registration(operator: &str, host: &str) -> String {
    format!(
        r#"apiVersion: zeta.lucent-financial-group.com/v1
kind: ClusterNode
metadata:
  name: {host}
  namespace: zeta-cluster
  labels:
    zeta.lucent-financial-group.com/maintainer: {operator}
  annotations:
    zeta.lucent-financial-group.com/registered-at: "2025-01-01T00:00:00Z"
    zeta.lucent-financial-group.com/flake-commit: "0123456789ab"
    zeta.lucent-financial-group.com/flake-host: "reference"
    zeta.lucent-financial-group.com/registered-via: "iter-5.4.1"
spec:
  hostname: {host}
  roles:
    - "control-plane"
  registration:
    maintainer: {operator}
    timestamp: "2025-01-01T00:00:00Z"
    flake-commit: "0123456789ab"
    flake-host: "reference"
    registered-via: "iter-5.4.1"
  hardware:
    cpu: "QEMU Virtual CPU version 2.5+"
    cores: 2
    memory: "1987Mi"
    gpu: "pci 1234:1111"
    storage:
      - "/dev/nvme0n1 nvme 3221225472 bytes serial NV0"
    network:
      ip: "10.0.2.15"
      mac: "52:54:00:12:34:56"
"#
    )
}

/// The codes of a verdict, in order, each once.
pub(crate) fn codes(verdict: &Verdict) -> Vec<Code> {
    let mut codes: Vec<Code> = verdict.reasons.iter().map(|reason| reason.code).collect();
    codes.dedup();
    codes
}

pub(crate) fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE}, "data": {"a": "b"}})
}
