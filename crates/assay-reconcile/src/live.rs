//! A real Argo CD, and the objects of a real cluster: reads them and waits for them, and changes nothing but one annotation.

use std::{path::Path, time::Duration};

use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use kube::{
    Client, Config,
    api::{Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{GroupVersionKind, Request},
    discovery::ApiResource,
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::{
    Code, Difference, Expectation, Expected, Observation, Rules, Verdict,
    cluster::{AT_ONCE, Cluster, Following, refusal},
    compare::compare,
    object::{ObjectKey, is_addressable, text},
    oracle::{REFRESH, Reason, judge},
};

/// An Application of a cluster with Argo CD.
#[derive(Clone)]
pub struct LiveApplication {
    client: Client,
    namespace: String,
    name: String,
}

/// What waiting came to.
#[derive(Clone, Debug)]
pub struct Waited<T> {
    /// The verdict of the last look.
    pub verdict: Verdict,
    /// The last two looks at most, oldest first, each with what was kept of it.
    pub looks: Vec<(Observation, T)>,
}

/// How thoroughly Argo CD is to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// At the repository, whether there is a new commit.
    Normal,
    /// Without any of its caches.
    Hard,
}

/// The cluster could not be asked.
#[derive(Debug, thiserror::Error)]
#[error(
    "the cluster could not be asked while {doing}: {source}; check the kubeconfig, its rights and that Argo CD is installed"
)]
pub struct LiveError {
    /// What was being done.
    pub doing: &'static str,
    /// What the client says.
    #[source]
    pub source: Box<kube::Error>,
}

/// A client of a cluster: that of a kubeconfig file, or of the one that `kubectl` would use here.
///
/// # Errors
/// Why there is none, for people.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, String> {
    let config = match kubeconfig {
        Some(path) => {
            let named = |error: &dyn std::fmt::Display| {
                format!("{}: {error}; is it the cluster's kubeconfig?", path.display())
            };
            let read = Kubeconfig::read_from(path).map_err(|error| named(&error))?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(read, &options).await.map_err(|error| named(&error))?
        }
        None => Config::infer().await.map_err(|error| {
            format!("no cluster is configured here ({error}); name its kubeconfig in the profile, or in KUBECONFIG")
        })?,
    };
    Client::try_from(config).map_err(|error| format!("the cluster's kubeconfig cannot be used: {error}"))
}

/// The version of a cluster's API server, such as `v1.31.4`.
///
/// # Errors
/// [`LiveError`].
pub async fn version(client: &Client) -> Result<String, LiveError> {
    let version = client.apiserver_version().await.map_err(while_("asking for its version"))?;
    Ok(version.git_version)
}

impl LiveApplication {
    /// The Application `name` in `namespace` (`argocd`, mostly). Nothing is asked yet.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The Application as it is, if it is there.
    ///
    /// # Errors
    /// [`LiveError`].
    pub async fn get(&self) -> Result<Option<Value>, LiveError> {
        let resource = resource();
        let mut application = Following::new(&self.client, &resource, Some(&self.namespace), &self.name);
        application.next().await.map_err(while_("reading the Application"))
    }

    /// Has Argo CD reconcile now instead of within its period (two to three minutes by default).
    ///
    /// # Errors
    /// [`LiveError`], also when the Application is not there.
    pub async fn refresh(&self, refresh: Refresh) -> Result<(), LiveError> {
        self.request_refresh(refresh).await.map_err(while_("requesting a refresh"))
    }

    /// Waits, by watching, until the Application is as expected, and says what it came to. Each time it was reconciled
    /// its objects are looked at anew with `look_at_objects`, which says what they differ in, and keeps what it likes;
    /// once they are right, a refresh is requested for the second look. When `limit` has passed, the verdict is that of
    /// the last look.
    ///
    /// # Errors
    /// [`LiveError`]; those of `look_at_objects` count as well.
    pub async fn wait<'a, T>(
        &self,
        expectation: &Expectation,
        limit: Duration,
        mut look_at_objects: impl FnMut() -> BoxFuture<'a, Result<(Vec<Difference>, T), LiveError>>,
    ) -> Result<Waited<T>, LiveError> {
        let resource = resource();
        let mut followed = Following::new(&self.client, &resource, Some(&self.namespace), &self.name);
        let mut waited = Waited { verdict: self.not_there(), looks: Vec::new() };
        let until = Instant::now() + limit;
        loop {
            let Ok(application) = timeout_at(until, followed.next()).await else { return Ok(waited) };
            let Some(application) = application.map_err(while_("watching the Application"))? else {
                waited = Waited { verdict: self.not_there(), looks: Vec::new() };
                continue;
            };
            let pending = !text(&application, REFRESH_POINTER).is_empty();
            if pending && !waited.looks.is_empty() {
                // The status is the one that was seen before; the next one counts.
                continue;
            }
            let (differences, objects) = look_at_objects().await?;
            let looks = &mut waited.looks;
            let same_reconciliation = looks
                .last()
                .is_some_and(|(last, _)| reconciled_at(&last.application) == reconciled_at(&application));
            if same_reconciliation {
                looks.pop();
            }
            looks.push((Observation { application, differences }, objects));
            // Only two are ever looked at.
            looks.drain(..looks.len().saturating_sub(2));
            let seen: Vec<Observation> = looks.iter().map(|(seen, _)| seen.clone()).collect();
            waited.verdict = judge(expectation, &seen);
            if waited.verdict.ok {
                return Ok(waited);
            }
            // Right, and only to be confirmed.
            if !pending && waited.verdict.reasons.iter().all(|reason| reason.code == Code::NotStable) {
                self.request_refresh(Refresh::Normal).await.map_err(while_("requesting a refresh"))?;
            }
        }
    }

    async fn request_refresh(&self, refresh: Refresh) -> Result<(), kube::Error> {
        let word = if refresh == Refresh::Hard { "hard" } else { "normal" };
        let patch = Patch::Merge(json!({"metadata": {"annotations": {REFRESH: word}}}));
        let request = Request::new(self.path())
            .patch(&self.name, &PatchParams::default(), &patch)
            .map_err(kube::Error::BuildRequest)?;
        self.client.request::<Value>(request).await.map(|_| ())
    }

    fn path(&self) -> String {
        <kube::api::DynamicObject as kube::Resource>::url_path(&resource(), Some(&self.namespace))
    }

    fn not_there(&self) -> Verdict {
        let detail = format!("the Application {}/{} is not there", self.namespace, self.name);
        Verdict { ok: false, reasons: vec![Reason { code: Code::ObjectMissing, detail }] }
    }
}

const REFRESH_POINTER: &str = "/metadata/annotations/argocd.argoproj.io~1refresh";

/// All objects of some kinds (`apiVersion`, `kind`) in one namespace, for [`compare()`]. A kind that is not served has none;
/// a kind without namespaces has all of its objects here.
///
/// # Errors
/// [`LiveError`].
pub async fn objects(
    client: &Client,
    kinds: &[(&str, &str)],
    namespace: &str,
) -> Result<Vec<Value>, LiveError> {
    let cluster = Cluster::discover(client).await.map_err(while_("asking for its kinds"))?;
    let mut objects = Vec::new();
    for kind in kinds.iter().filter_map(|(api_version, kind)| cluster.kind(api_version, kind)) {
        objects.extend(cluster.list(kind, kind.scoped(namespace)).await.map_err(while_("listing objects"))?);
    }
    Ok(objects)
}

/// Which fields the server would drop without a word, object by object: each is applied in a dry run, and what would be
/// stored is compared with what was sent. Nothing changes. An object that the server refuses, or whose kind it does not
/// serve, is [`Code::ObjectMissing`].
///
/// # Errors
/// [`LiveError`].
pub async fn pruned_fields(client: &Client, expected: &Expected) -> Result<Vec<Difference>, LiveError> {
    let cluster = Cluster::discover(client).await.map_err(while_("asking for its kinds"))?;
    let tries: Vec<_> = expected
        .objects
        .iter()
        .map(|object| would_be_stored(&cluster, object, &expected.namespace).boxed())
        .collect();
    let stored: Vec<Option<Value>> = stream::iter(tries).buffered(AT_ONCE).try_collect().await?;
    let stored: Vec<Value> = stored.into_iter().flatten().collect();
    let mut differences = compare(expected, &stored, &Rules::default());
    // Defaults and objects that were there before add fields; only what goes missing is asked for.
    differences.retain(|difference| matches!(difference.code, Code::FieldPruned | Code::ObjectMissing));
    Ok(differences)
}

async fn would_be_stored(
    cluster: &Cluster,
    object: &Value,
    namespace: &str,
) -> Result<Option<Value>, LiveError> {
    let Some(kind) = cluster.kind(text(object, "/apiVersion"), text(object, "/kind")) else {
        return Ok(None);
    };
    let mut object = object.clone();
    if kind.namespaced
        && ObjectKey::of(&object).namespace.is_empty()
        && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    if !is_addressable(&object) {
        return Ok(None);
    }
    match cluster.apply(kind, &object, true).await {
        Ok(stored) => Ok(Some(stored)),
        Err(error) if refusal(&error).is_some() => Ok(None),
        Err(error) => Err(while_("trying an object")(error)),
    }
}

fn resource() -> ApiResource {
    let gvk = GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Application");
    ApiResource::from_gvk_with_plural(&gvk, "applications")
}

fn reconciled_at(application: &Value) -> &str {
    text(application, "/status/reconciledAt")
}

fn while_(doing: &'static str) -> impl Fn(kube::Error) -> LiveError {
    move |source| LiveError { doing, source: Box::new(source) }
}
