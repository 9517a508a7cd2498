//! What this crate asks of an API server: which kinds it serves, read, apply, delete, watch.
//!
//! Objects go in and out as the JSON that they are (see `object.rs`), which is why this does not use the client's typed
//! interface but its requests.

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Client,
    api::{
        DeleteParams, DynamicObject, GetParams, ListParams, Patch, PatchParams, PropagationPolicy,
        WatchEvent, WatchParams,
    },
    core::{Request, Resource},
    discovery::{ApiResource, Discovery, Scope, verbs},
};
use serde_json::Value;

use crate::object::{ObjectKey, is_step, text};

/// Who is written down as the owner of fields that are applied here.
pub(crate) const FIELD_MANAGER: &str = "assay-reconcile";
/// Requests in flight at once; more gain nothing from a server on the same machine.
pub(crate) const AT_ONCE: usize = 8;

/// Between two watches.
const BREATH: Duration = Duration::from_millis(100);

/// Kinds that Argo CD leaves out (`resource.exclusions`), or that cannot be anybody's.
const NOT_WATCHED: [&str; 5] = ["Event", "Endpoints", "EndpointSlice", "Lease", "ComponentStatus"];

/// An API server and the kinds that it served when it was asked.
pub(crate) struct Cluster {
    client: Client,
    kinds: BTreeMap<(String, String), Kind>,
}

/// A kind in one version.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) resource: ApiResource,
    pub(crate) namespaced: bool,
    /// Whether it is the version that the server prefers, and can be listed: one way to see every object once.
    watched: bool,
}

impl Cluster {
    /// Asks which kinds there are.
    pub(crate) async fn discover(client: &Client) -> Result<Self, kube::Error> {
        let discovery = Discovery::new(client.clone()).run().await?;
        let mut kinds = BTreeMap::new();
        for group in discovery.groups() {
            let preferred = group.preferred_version_or_latest().to_owned();
            for version in group.versions() {
                for (resource, abilities) in group.versioned_resources(version) {
                    let watched = version == preferred
                        && abilities.supports_operation(verbs::LIST)
                        && !NOT_WATCHED.contains(&resource.kind.as_str());
                    let namespaced = abilities.scope == Scope::Namespaced;
                    let key = (resource.api_version.clone(), resource.kind.clone());
                    kinds.insert(key, Kind { resource, namespaced, watched });
                }
            }
        }
        Ok(Self { client: client.clone(), kinds })
    }

    /// A kind by the `apiVersion` and `kind` of an object.
    pub(crate) fn kind(&self, api_version: &str, kind: &str) -> Option<&Kind> {
        self.kinds.get(&(api_version.to_owned(), kind.to_owned()))
    }

    /// All kinds that may hold tracked objects.
    pub(crate) fn watched(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.values().filter(|kind| kind.watched)
    }

    /// All objects of a kind, in one namespace or in all.
    pub(crate) async fn list(&self, kind: &Kind, namespace: Option<&str>) -> Result<Vec<Value>, kube::Error> {
        let request = built(Request::new(kind.path(namespace)).list(&ListParams::default()))?;
        Ok(items(kind, found(self.client.request(request).await)?))
    }

    /// The metadata of all objects of many kinds in all namespaces.
    pub(crate) async fn metadata(&self, kinds: Vec<Kind>) -> Result<Vec<Value>, kube::Error> {
        let lists = stream::iter(kinds).map(|kind| async move {
            let request = built(Request::new(kind.path(None)).list_metadata(&ListParams::default()))?;
            Ok::<_, kube::Error>(items(&kind, found(self.client.request(request).await)?))
        });
        let lists: Vec<Vec<Value>> = lists.buffered(AT_ONCE).try_collect().await?;
        Ok(lists.into_iter().flatten().collect())
    }

    /// One object, if it is there.
    pub(crate) async fn get(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Value>, kube::Error> {
        let request = Request::new(kind.path(namespace)).get(name, &GetParams::default());
        found(self.client.request(built(request)?).await)
    }

    /// Server-side apply. What comes back is the object as it is stored, or would be with `dry_run`.
    pub(crate) async fn apply(
        &self,
        kind: &Kind,
        object: &Value,
        dry_run: bool,
    ) -> Result<Value, kube::Error> {
        let key = ObjectKey::of(object);
        let params = PatchParams { dry_run, ..PatchParams::apply(FIELD_MANAGER).force() };
        let request = Request::new(kind.path(kind.scoped(&key.namespace))).patch(
            &key.name,
            &params,
            &Patch::Apply(object),
        );
        self.client.request(built(request)?).await
    }

    /// Deletes an object; it is no error if it is gone already.
    ///
    /// In the background, not in the foreground as Argo CD does: behind an isolated server no garbage collector runs, and an
    /// object would wait for it for ever.
    pub(crate) async fn delete(&self, kind: &Kind, key: &ObjectKey) -> Result<(), kube::Error> {
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        let request = Request::new(kind.path(kind.scoped(&key.namespace))).delete(&key.name, &params);
        found(self.client.request::<Value>(built(request)?).await).map(|_| ())
    }

    /// See [`follow`].
    pub(crate) async fn follow<T>(
        &self,
        kind: &Kind,
        key: &ObjectKey,
        limit: Duration,
        mut look: impl FnMut(Option<&Value>) -> ControlFlow<T>,
    ) -> Result<Option<T>, kube::Error> {
        let namespace = kind.scoped(&key.namespace);
        follow(&self.client, &kind.resource, namespace, &key.name, limit, async |object| {
            Ok(look(object.as_ref()))
        })
        .await
    }
}

impl Kind {
    /// The kind that a definition defines in one version, if it does: for objects that are applied right after it.
    pub(crate) fn defined_by(definition: &Value, version: &str) -> Option<Self> {
        let plural = text(definition, "/spec/names/plural");
        let versions = definition.pointer("/spec/versions").and_then(Value::as_array)?;
        if !versions.iter().any(|known| text(known, "/name") == version)
            || ![text(definition, "/spec/group"), version, plural].into_iter().all(is_step)
        {
            return None;
        }
        let group = text(definition, "/spec/group").to_owned();
        let resource = ApiResource {
            api_version: format!("{group}/{version}"),
            version: version.to_owned(),
            kind: text(definition, "/spec/names/kind").to_owned(),
            plural: plural.to_owned(),
            group,
        };
        Some(Self { resource, namespaced: text(definition, "/spec/scope") == "Namespaced", watched: false })
    }

    /// The path of its collection.
    pub(crate) fn path(&self, namespace: Option<&str>) -> String {
        DynamicObject::url_path(&self.resource, namespace)
    }

    /// The namespace to ask in, if it has namespaces.
    pub(crate) fn scoped<'a>(&self, namespace: &'a str) -> Option<&'a str> {
        self.namespaced.then_some(namespace)
    }
}

/// Looks at one object now and whenever it changes, until `look` breaks off or `limit` has passed (`None` then).
/// An object that is not there is looked at as `None`.
pub(crate) async fn follow<T>(
    client: &Client,
    resource: &ApiResource,
    namespace: Option<&str>,
    name: &str,
    limit: Duration,
    mut look: impl AsyncFnMut(Option<Value>) -> Result<ControlFlow<T>, kube::Error>,
) -> Result<Option<T>, kube::Error> {
    let path = DynamicObject::url_path(resource, namespace);
    let followed = async {
        // A watch ends by itself now and then, and at once when the server has forgotten where it was to start.
        loop {
            let params = WatchParams::default().fields(&format!("metadata.name={name}"));
            let list = ListParams::default().fields(&format!("metadata.name={name}"));
            let list: Value = client.request(built(Request::new(path.as_str()).list(&list))?).await?;
            let object = list.pointer("/items/0").cloned().map(|item| named(resource, item));
            if let ControlFlow::Break(value) = look(object).await? {
                return Ok(value);
            }
            let watch = Request::new(path.as_str()).watch(&params, text(&list, "/metadata/resourceVersion"));
            let mut events = client.request_events::<Value>(built(watch)?).await?.boxed();
            while let Some(event) = events.next().await {
                let object = match event {
                    Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => Some(object),
                    Ok(WatchEvent::Deleted(_)) => None,
                    Ok(WatchEvent::Bookmark(_)) => continue,
                    Ok(WatchEvent::Error(_)) | Err(_) => break,
                };
                if let ControlFlow::Break(value) = look(object).await? {
                    return Ok(value);
                }
            }
            // A server that ends every watch at once is not to be asked without a pause.
            tokio::time::sleep(BREATH).await;
        }
    };
    tokio::time::timeout(limit, followed).await.map_or(Ok(None), |result| result.map(Some))
}

/// The items of a list, each with what it is: in a list they do not say, or say that they are metadata.
fn items(kind: &Kind, list: Option<Value>) -> Vec<Value> {
    let Some(Value::Array(items)) = list.and_then(|mut list| list.get_mut("items").map(Value::take)) else {
        return Vec::new();
    };
    items.into_iter().map(|item| named(&kind.resource, item)).collect()
}

fn named(resource: &ApiResource, mut item: Value) -> Value {
    if let Some(item) = item.as_object_mut() {
        item.insert("apiVersion".to_owned(), resource.api_version.clone().into());
        item.insert("kind".to_owned(), resource.kind.clone().into());
    }
    item
}

/// What the server said about this one request; `None` when it could not be asked.
pub(crate) fn refusal(error: &kube::Error) -> Option<&kube::core::Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

fn built<R>(request: Result<R, kube::core::request::Error>) -> Result<R, kube::Error> {
    request.map_err(kube::Error::BuildRequest)
}

fn found<T>(answer: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}
