//! Applies a tree to a cluster as Argo CD's automated sync does, and says what came of it.
//!
//! For tests on an isolated API server, where no Argo CD can be had: the same tree, the same Application, the same
//! status, so that the same oracle judges both. What it does that Argo CD does: everything named in `source.rs`,
//! `plan.rs` and `tracking.rs`; `CreateNamespace`; comparing by server-side apply in a dry run (user guide, page
//! "Diff Strategies", *Server-Side Diff*); one comparison before and one after an operation.
//! What it does not do: hooks other than `Skip` (refused), retries, waiting for the health of anything but definitions
//! between waves (nothing else gets healthy without controllers), foreground deletion.
//!
//! Faults of the tree and refusals of the API server are results, in the status. Only what keeps the reconciler from
//! working at all is an error.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
    time::Duration,
};

use assay_model::clock::Clock;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use kube::Client;
use serde_json::{Value, json};

use crate::{
    Application, Tracking, Tree,
    cluster::{AT_ONCE, Cluster, Kind, refusal},
    health,
    object::{ObjectKey, annotation, group_and_version, has_option, is_addressable, is_definition, text},
    plan::{Decision, Drift, Task, decide, waves},
    status::{
        ApplicationStatus, Condition, Health, OperationState, ResourceResult, ResourceStatus, SyncResult,
        SyncStatus,
    },
};

const HOOK: &str = "argocd.argoproj.io/hook";
const SYNC_OPTIONS: &str = "argocd.argoproj.io/sync-options";
const COMPARE_OPTIONS: &str = "argocd.argoproj.io/compare-options";
/// How long a new definition may take until the server serves it. It takes milliseconds.
const ESTABLISHED: Duration = Duration::from_secs(30);

/// Reconciles one Application with one cluster, call by call.
pub struct Reconciler {
    client: Client,
    application: Application,
    tracking: Tracking,
    clock: Arc<dyn Clock>,
    status: ApplicationStatus,
}

/// The API server could not be asked. What it refuses is not an error but part of the status.
#[derive(Debug, thiserror::Error)]
#[error("the API server could not be asked while {doing}: {source}; see its log")]
pub struct ReconcileError {
    /// What was being done.
    pub doing: &'static str,
    /// What the client says.
    #[source]
    pub source: Box<kube::Error>,
}

impl Reconciler {
    /// A reconciler that has not seen the cluster yet. Everything it needs to know later it reads from there.
    pub fn new(client: Client, application: Application, tracking: Tracking, clock: Arc<dyn Clock>) -> Self {
        Self { client, application, tracking, clock, status: ApplicationStatus::default() }
    }

    /// One reconciliation: compares the tree of `revision` with the cluster, and syncs where the policy says so.
    ///
    /// # Errors
    /// [`ReconcileError`].
    pub async fn reconcile(
        &mut self,
        revision: &str,
        tree: &Tree,
    ) -> Result<&ApplicationStatus, ReconcileError> {
        let mut compared = self.compare(revision, tree).await?;
        if self.decide(&compared, revision) == Decision::Sync {
            let operation = self.sync(&compared, revision).await?;
            self.status.operation_state = Some(operation);
            compared = self.compare(revision, tree).await?;
        }
        if let Decision::Refused(message) = self.decide(&compared, revision) {
            compared.conditions.push(Condition::new("SyncError", message));
        }
        self.status.sync = SyncStatus {
            status: compared.sync_status().to_owned(),
            // As Argo CD does: a tree that cannot be read has no revision.
            revision: if compared.failed { String::new() } else { revision.to_owned() },
            revisions: Vec::new(),
        };
        self.status.health = compared.health();
        self.status.resources = compared.resources();
        self.status.conditions = compared.conditions;
        self.status.reconciled_at = self.clock.now().rfc3339();
        Ok(&self.status)
    }

    /// What the last reconciliation found.
    pub fn status(&self) -> &ApplicationStatus {
        &self.status
    }

    /// The Application as a cluster with Argo CD would show it: what [`crate::judge`] takes.
    pub fn application(&self) -> Value {
        let Application { name, namespace, .. } = &self.application;
        json!({
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": { "name": name, "namespace": namespace },
            "status": self.status,
        })
    }

    fn decide(&self, compared: &Compared, revision: &str) -> Decision {
        if compared.failed {
            return Decision::Nothing;
        }
        decide(self.application.automated, compared.drift(), revision, self.status.operation_state.as_ref())
    }

    async fn compare(&self, revision: &str, tree: &Tree) -> Result<Compared, ReconcileError> {
        let cluster = Cluster::discover(&self.client).await.map_err(while_("asking for its kinds"))?;
        let mut conditions = Vec::new();
        let (wanted, failed) = match self.render(&cluster, tree, &mut conditions) {
            Ok(wanted) => (wanted, false),
            Err(problem) => {
                tracing::info!(application = %self.application.name, revision, problem, "the tree cannot be rendered");
                conditions.push(Condition::new(
                    "ComparisonError",
                    format!("Failed to load target state: {problem}"),
                ));
                (Vec::new(), true)
            }
        };
        let mut targets = self.targets(&cluster, wanted).await?;
        let kinds = cluster.watched().cloned().collect();
        let live = cluster.metadata(kinds).await.map_err(while_("listing what is tracked"))?;
        let extra = self.sort_out(&targets, live, &mut conditions);
        targets.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Compared { cluster, targets, extra, conditions, failed })
    }

    /// The objects of the tree as they are to be applied: with namespace and mark, each once.
    fn render(
        &self,
        cluster: &Cluster,
        tree: &Tree,
        conditions: &mut Vec<Condition>,
    ) -> Result<Vec<Value>, String> {
        let manifests = self.application.source.manifests(tree).map_err(|error| error.to_string())?;
        let definitions: Vec<Value> = manifests
            .iter()
            .map(|manifest| &manifest.object)
            .filter(|object| is_definition(object))
            .cloned()
            .collect();
        let mut by_key: BTreeMap<ObjectKey, (usize, Value)> = BTreeMap::new();
        for manifest in manifests {
            let mut object = manifest.object;
            match annotation(&object, HOOK) {
                Some("Skip") => continue,
                Some(hook) => {
                    return Err(format!(
                        "{}: the hook {hook} is not run by this reconciler; test it on a live cluster",
                        manifest.path
                    ));
                }
                None => {}
            }
            if ObjectKey::of(&object).name.is_empty() {
                return Err(format!(
                    "{}: an object has no metadata.name, and none is generated here",
                    manifest.path
                ));
            }
            let namespaced = is_namespaced(cluster, &definitions, &object);
            self.place(&mut object, namespaced);
            self.tracking.mark(&mut object, &self.application.name);
            let entry = by_key.entry(ObjectKey::of(&object)).or_default();
            *entry = (entry.0 + 1, object);
        }
        for (key, (count, _)) in by_key.iter().filter(|(_, (count, _))| *count > 1) {
            let message = format!("Resource {key} appeared {count} times among application resources.");
            conditions.push(Condition::new("RepeatedResourceWarning", message));
        }
        Ok(by_key.into_values().map(|(_, object)| object).collect())
    }

    fn place(&self, object: &mut Value, namespaced: bool) {
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
        if !namespaced {
            metadata.remove("namespace");
        } else if metadata.get("namespace").and_then(Value::as_str).unwrap_or_default().is_empty() {
            metadata.insert("namespace".to_owned(), self.application.destination.clone().into());
        }
    }

    /// Looks up each object of the tree in the cluster and finds out whether applying it would change it.
    async fn targets(&self, cluster: &Cluster, wanted: Vec<Value>) -> Result<Vec<Target>, ReconcileError> {
        let kind_of = |object: &Value| cluster.kind(text(object, "/apiVersion"), text(object, "/kind"));
        // One list for each kind and namespace instead of one request for each object.
        let mut lists = BTreeMap::new();
        for object in &wanted {
            if let Some(kind) = kind_of(object).filter(|_| is_addressable(object)) {
                let namespace = kind.scoped(text(object, "/metadata/namespace")).map(str::to_owned);
                lists.insert(kind.path(namespace.as_deref()), (kind, namespace));
            }
        }
        let mut live = BTreeMap::new();
        for (kind, namespace) in lists.into_values() {
            let list =
                cluster.list(kind, namespace.as_deref()).await.map_err(while_("reading live objects"))?;
            live.extend(list.into_iter().map(|object| (ObjectKey::of(&object), object)));
        }
        let targets = wanted.into_iter().map(|object| {
            let key = ObjectKey::of(&object);
            let kind = kind_of(&object).cloned();
            Target { live: live.remove(&key), key, object, kind, in_sync: false }
        });
        let targets: Vec<Target> = targets.collect();
        let compared = stream::iter(targets).map(|mut target| async move {
            if let (Some(live), Some(kind)) = (&target.live, &target.kind) {
                target.in_sync = match cluster.apply(kind, &target.object, true).await {
                    Ok(predicted) => meaning(&predicted) == meaning(live),
                    // Refused: it cannot be in sync. The operation will say why.
                    Err(error) if refusal(&error).is_some() => false,
                    Err(error) => return Err(while_("comparing an object")(error)),
                };
            }
            Ok(target)
        });
        compared.buffered(AT_ONCE).try_collect().await
    }

    /// Which of the live objects are tracked and no longer wanted; the others are reported where they are odd.
    fn sort_out(&self, targets: &[Target], live: Vec<Value>, conditions: &mut Vec<Condition>) -> Vec<Value> {
        let wanted: BTreeSet<&ObjectKey> = targets.iter().map(|target| &target.key).collect();
        // The same object can be served by two groups.
        let mut seen: BTreeSet<String> = targets
            .iter()
            .filter_map(|target| target.live.as_ref())
            .map(|live| text(live, "/metadata/uid").to_owned())
            .collect();
        let mut extra = Vec::new();
        let mut orphans = 0;
        for object in live {
            let key = ObjectKey::of(&object);
            let of_another = object.pointer("/metadata/ownerReferences/0").is_some();
            let owner = self.tracking.owner(&object);
            if wanted.contains(&key) {
                if let Some(other) = owner.filter(|owner| *owner != self.application.name) {
                    let message =
                        format!("{key} is part of applications {} and {other}", self.application.name);
                    conditions.push(Condition::new("SharedResourceWarning", message));
                }
                continue;
            }
            if of_another || !seen.insert(text(&object, "/metadata/uid").to_owned()) {
                continue;
            }
            if owner == Some(&self.application.name) {
                extra.push(object);
            } else if owner.is_none()
                && key.namespace == self.application.destination
                && !comes_with_namespaces(&key)
            {
                orphans += 1;
            }
        }
        if orphans > 0 {
            let message = format!("Application has {orphans} orphaned resources");
            conditions.push(Condition::new("OrphanedResourceWarning", message));
        }
        extra
    }

    async fn sync(&self, compared: &Compared, revision: &str) -> Result<OperationState, ReconcileError> {
        let started_at = self.clock.now().rfc3339();
        let mut resources = Vec::new();
        let outcome = self.carry_out(compared, &mut resources).await?;
        let (phase, message) = match outcome {
            Ok(()) => ("Succeeded", "successfully synced (all tasks run)".to_owned()),
            Err(message) => ("Failed", message),
        };
        tracing::info!(application = %self.application.name, revision, phase, message, "synced");
        Ok(OperationState {
            phase: phase.to_owned(),
            message,
            started_at,
            finished_at: self.clock.now().rfc3339(),
            sync_result: Some(SyncResult { revision: revision.to_owned(), revisions: Vec::new(), resources }),
        })
    }

    /// The inner result says why the operation failed.
    async fn carry_out(
        &self,
        compared: &Compared,
        results: &mut Vec<ResourceResult>,
    ) -> Result<Result<(), String>, ReconcileError> {
        let wanted: Vec<Value> = compared.targets.iter().map(|target| target.object.clone()).collect();
        let definitions: Vec<&Value> = wanted.iter().filter(|object| is_definition(object)).collect();
        // Before anything is changed: no kind may be unknown.
        for object in &wanted {
            if kind_of(&compared.cluster, &definitions, object).is_none() {
                let message = format!(
                    "The Kubernetes API could not find {}/{} for requested resource {}",
                    text(object, "/apiVersion"),
                    text(object, "/kind"),
                    ObjectKey::of(object)
                );
                results.push(result(object, "SyncFailed", &message));
            }
        }
        if !results.is_empty() {
            return Ok(Err(with_reasons("one or more synchronization tasks are not valid", results)));
        }
        if self.application.create_namespace {
            self.create_namespace(compared, &wanted, results).await?;
        }
        for wave in waves(&wanted, &compared.extra) {
            let mut group: Vec<&Value> = Vec::new();
            for task in wave {
                match task {
                    Task::Prune(object) => results.push(self.prune(&compared.cluster, object).await?),
                    Task::Apply(object) => {
                        // Equal kinds go at once; what comes after them may need them.
                        if group.first().is_some_and(|first| text(first, "/kind") != text(object, "/kind")) {
                            results.extend(
                                apply_all(&compared.cluster, &definitions, std::mem::take(&mut group))
                                    .await?,
                            );
                        }
                        group.push(object);
                    }
                }
            }
            results.extend(apply_all(&compared.cluster, &definitions, group).await?);
            if results.iter().any(|result| result.status == "SyncFailed") {
                return Ok(Err(with_reasons("one or more objects failed to apply", results)));
            }
        }
        Ok(Ok(()))
    }

    /// Makes the destination's namespace, unmarked, unless the tree has it itself.
    async fn create_namespace(
        &self,
        compared: &Compared,
        wanted: &[Value],
        results: &mut Vec<ResourceResult>,
    ) -> Result<(), ReconcileError> {
        let name = &self.application.destination;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let Some(kind) = compared.cluster.kind("v1", "Namespace") else { return Ok(()) };
        let in_tree = wanted.iter().any(|object| ObjectKey::of(object) == ObjectKey::of(&namespace));
        let live =
            compared.cluster.get(kind, None, name).await.map_err(while_("looking for the namespace"))?;
        if in_tree || live.is_some() {
            return Ok(());
        }
        let applied = apply(&compared.cluster, kind, &namespace, false).await?;
        results.push(ResourceResult { sync_phase: "PreSync".to_owned(), ..applied });
        Ok(())
    }

    async fn prune(&self, cluster: &Cluster, object: &Value) -> Result<ResourceResult, ReconcileError> {
        let allowed = self.application.automated.is_some_and(|automated| automated.prune);
        if !allowed || has_option(object, SYNC_OPTIONS, "Prune=false") {
            return Ok(result(object, "PruneSkipped", "ignored (no prune)"));
        }
        let Some(kind) = cluster.kind(text(object, "/apiVersion"), text(object, "/kind")) else {
            return Ok(result(object, "Pruned", "its kind is gone"));
        };
        match cluster.delete(kind, &ObjectKey::of(object)).await {
            Ok(()) => Ok(result(object, "Pruned", "pruned")),
            Err(error) => refused(object, error, "pruning an object"),
        }
    }
}

/// What a comparison found.
struct Compared {
    cluster: Cluster,
    targets: Vec<Target>,
    /// Tracked and no longer in the tree: metadata only.
    extra: Vec<Value>,
    conditions: Vec<Condition>,
    /// Whether the tree could not be rendered.
    failed: bool,
}

/// An object of the tree, and what the cluster has of it.
struct Target {
    key: ObjectKey,
    object: Value,
    kind: Option<Kind>,
    live: Option<Value>,
    in_sync: bool,
}

impl Compared {
    fn drift(&self) -> Drift {
        Drift {
            changed: self.targets.iter().filter(|target| !target.in_sync).count(),
            extra: self.extra.iter().filter(|object| counts(object)).count(),
            wanted: self.targets.len(),
        }
    }

    fn sync_status(&self) -> &'static str {
        let drift = self.drift();
        match (self.failed, drift.changed + drift.extra) {
            (true, _) => "Unknown",
            (false, 0) => "Synced",
            (false, _) => "OutOfSync",
        }
    }

    /// The worst of all objects; of no objects, healthy.
    fn health(&self) -> Health {
        let of_all = self.resources().into_iter().filter_map(|resource| resource.health);
        let worst = of_all.max_by(Health::compare_badness).unwrap_or_else(|| Health::new("Healthy", ""));
        Health { message: String::new(), ..worst }
    }

    fn resources(&self) -> Vec<ResourceStatus> {
        let of_target = |target: &Target| {
            let health = match &target.live {
                Some(live) => health::of(live),
                None => Some(Health::new("Missing", "")),
            };
            ResourceStatus {
                status: if target.in_sync { "Synced" } else { "OutOfSync" }.to_owned(),
                health,
                ..resource(&target.object)
            }
        };
        let of_extra = |object: &Value| ResourceStatus {
            status: if self.failed { "Unknown" } else { "OutOfSync" }.to_owned(),
            health: health::of(object),
            requires_pruning: !self.failed,
            ..resource(object)
        };
        self.targets.iter().map(of_target).chain(self.extra.iter().map(of_extra)).collect()
    }
}

async fn apply_all(
    cluster: &Cluster,
    definitions: &[&Value],
    objects: Vec<&Value>,
) -> Result<Vec<ResourceResult>, ReconcileError> {
    let applied: Vec<_> =
        objects.into_iter().map(|object| apply_one(cluster, definitions, object).boxed()).collect();
    stream::iter(applied).buffered(AT_ONCE).try_collect().await
}

async fn apply_one(
    cluster: &Cluster,
    definitions: &[&Value],
    object: &Value,
) -> Result<ResourceResult, ReconcileError> {
    let Some(kind) = kind_of(cluster, definitions, object) else {
        return Ok(result(object, "SyncFailed", "its kind is not served"));
    };
    if !is_addressable(object) {
        let message = format!("{} is not a name that an object can have", ObjectKey::of(object));
        return Ok(result(object, "SyncFailed", &message));
    }
    let is_new = cluster.kind(text(object, "/apiVersion"), text(object, "/kind")).is_none();
    let applied = apply(cluster, &kind, object, is_new).await?;
    if is_definition(object) && applied.status == "Synced" {
        return established(cluster, &kind, object, applied).await;
    }
    Ok(applied)
}

/// Applies one object. Of a kind `is_new`, the server may not know for some milliseconds after it has said that it does.
async fn apply(
    cluster: &Cluster,
    kind: &Kind,
    object: &Value,
    is_new: bool,
) -> Result<ResourceResult, ReconcileError> {
    let mut attempts = if is_new { 40 } else { 1 };
    loop {
        attempts -= 1;
        match cluster.apply(kind, object, false).await {
            Ok(_) => return Ok(result(object, "Synced", "serverside-applied")),
            Err(error) if attempts > 0 && refusal(&error).is_some_and(|status| status.code == 404) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return refused(object, error, "applying an object"),
        }
    }
}

async fn established(
    cluster: &Cluster,
    kind: &Kind,
    definition: &Value,
    applied: ResourceResult,
) -> Result<ResourceResult, ReconcileError> {
    let look = |live: Option<&Value>| match live.and_then(health::of) {
        Some(health) if health.status == "Healthy" => ControlFlow::Break(Ok(())),
        Some(health) if health.status == "Degraded" => ControlFlow::Break(Err(health.message)),
        _ => ControlFlow::Continue(()),
    };
    let followed = cluster.follow(kind, &ObjectKey::of(definition), ESTABLISHED, look).await;
    match followed.map_err(while_("waiting for a definition"))? {
        Some(Ok(())) => Ok(applied),
        Some(Err(message)) => Ok(result(definition, "SyncFailed", &message)),
        None => Ok(result(definition, "SyncFailed", "the server did not establish it within 30 s")),
    }
}

fn kind_of(cluster: &Cluster, definitions: &[&Value], object: &Value) -> Option<Kind> {
    let (api_version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
    if let Some(kind) = cluster.kind(api_version, kind) {
        return Some(kind.clone());
    }
    let definition = definitions.iter().find(|definition| defines(definition, object))?;
    Kind::defined_by(definition, group_and_version(api_version).1)
}

fn is_namespaced(cluster: &Cluster, definitions: &[Value], object: &Value) -> bool {
    if let Some(kind) = cluster.kind(text(object, "/apiVersion"), text(object, "/kind")) {
        return kind.namespaced;
    }
    let definition = definitions.iter().find(|definition| defines(definition, object));
    definition.is_none_or(|definition| text(definition, "/spec/scope") == "Namespaced")
}

fn defines(definition: &Value, object: &Value) -> bool {
    let key = ObjectKey::of(object);
    text(definition, "/spec/group") == key.group && text(definition, "/spec/names/kind") == key.kind
}

/// An object without what changes although nobody changed it.
fn meaning(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "resourceVersion", "generation", "selfLink"] {
            metadata.remove(field);
        }
    }
    object
}

/// Whether a tracked object that the tree does not have makes the Application out of sync.
fn counts(object: &Value) -> bool {
    !has_option(object, COMPARE_OPTIONS, "IgnoreExtraneous")
}

/// What the API server itself puts into every namespace.
fn comes_with_namespaces(key: &ObjectKey) -> bool {
    let ObjectKey { group, kind, namespace, name } = key;
    group.is_empty()
        && matches!(
            (kind.as_str(), name.as_str(), namespace.as_str()),
            ("ServiceAccount", "default", _)
                | ("ConfigMap", "kube-root-ca.crt", _)
                | ("Service", "kubernetes", "default")
        )
}

fn resource(object: &Value) -> ResourceStatus {
    let ObjectKey { group, kind, namespace, name } = ObjectKey::of(object);
    let version = group_and_version(text(object, "/apiVersion")).1.to_owned();
    ResourceStatus { group, version, kind, namespace, name, ..ResourceStatus::default() }
}

fn result(object: &Value, status: &str, message: &str) -> ResourceResult {
    let ResourceStatus { group, version, kind, namespace, name, .. } = resource(object);
    let (status, message, sync_phase) = (status.to_owned(), message.to_owned(), "Sync".to_owned());
    ResourceResult { group, version, kind, namespace, name, status, message, sync_phase }
}

/// What the server refuses is a result; that it does not answer is an error.
fn refused(
    object: &Value,
    error: kube::Error,
    doing: &'static str,
) -> Result<ResourceResult, ReconcileError> {
    match refusal(&error) {
        Some(status) => Ok(result(object, "SyncFailed", &status.message)),
        None => Err(while_(doing)(error)),
    }
}

fn with_reasons(message: &str, results: &[ResourceResult]) -> String {
    let failed = results.iter().filter(|result| result.status == "SyncFailed");
    let reasons: Vec<&str> = failed.map(|result| result.message.as_str()).collect();
    format!("{message}, reason: {}", reasons.join(","))
}

fn while_(doing: &'static str) -> impl Fn(kube::Error) -> ReconcileError {
    move |source| ReconcileError { doing, source: Box::new(source) }
}
