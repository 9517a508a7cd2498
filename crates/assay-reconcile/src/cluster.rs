//! What this crate asks of an API server: which kinds it serves, read, apply, delete, watch.
//!
//! Objects go in and out as the JSON that they are (see `object.rs`), which is why this does not use the client's typed
//! interface but its requests.

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
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

    /// Looks at one object now and whenever it changes, until `look` breaks off or `limit` has passed (`None` then).
    pub(crate) async fn follow<T>(
        &self,
        kind: &Kind,
        key: &ObjectKey,
        limit: Duration,
        mut look: impl FnMut(Option<&Value>) -> ControlFlow<T>,
    ) -> Result<Option<T>, kube::Error> {
        let namespace = kind.scoped(&key.namespace);
        let mut object = Following::new(&self.client, &kind.resource, namespace, &key.name);
        let followed = async {
            loop {
                if let ControlFlow::Break(value) = look(object.next().await?.as_ref()) {
                    return Ok(value);
                }
            }
        };
        tokio::time::timeout(limit, followed).await.map_or(Ok(None), |result| result.map(Some))
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

/// One object, now and whenever it changes.
pub(crate) struct Following<'a> {
    client: &'a Client,
    resource: &'a ApiResource,
    path: String,
    name: &'a str,
    events: Option<BoxStream<'static, kube::Result<WatchEvent<Value>>>>,
    asked: bool,
}

impl<'a> Following<'a> {
    pub(crate) fn new(
        client: &'a Client,
        resource: &'a ApiResource,
        namespace: Option<&str>,
        name: &'a str,
    ) -> Self {
        let path = DynamicObject::url_path(resource, namespace);
        Self { client, resource, path, name, events: None, asked: false }
    }

    /// The object as it is, the first time; then as it is after its next change. One that is not there is `None`.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, kube::Error> {
        loop {
            // A watch ends by itself now and then, and at once when the server has forgotten where it was to start.
            let Some(events) = &mut self.events else { return self.begin().await };
            match events.next().await {
                Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    return Ok(Some(object));
                }
                Some(Ok(WatchEvent::Deleted(_))) => return Ok(None),
                Some(Ok(WatchEvent::Bookmark(_))) => {}
                Some(Ok(WatchEvent::Error(_)) | Err(_)) | None => self.events = None,
            }
        }
    }

    async fn begin(&mut self) -> Result<Option<Value>, kube::Error> {
        if self.asked {
            // A server that ends every watch at once is not to be asked without a pause.
            tokio::time::sleep(BREATH).await;
        }
        self.asked = true;
        let field = format!("metadata.name={}", self.name);
        let list = ListParams::default().fields(&field);
        let list: Value = self.client.request(built(Request::new(self.path.as_str()).list(&list))?).await?;
        let params = WatchParams::default().fields(&field);
        let watch = Request::new(self.path.as_str()).watch(&params, text(&list, "/metadata/resourceVersion"));
        self.events = Some(self.client.request_events::<Value>(built(watch)?).await?.boxed());
        Ok(list.pointer("/items/0").cloned().map(|item| named(self.resource, item)))
    }
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
