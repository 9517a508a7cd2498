//! Objects as plain JSON, and what names one.
//!
//! Everything here keeps an object as the JSON that it was written in. A typed object would drop the fields that it does
//! not know, and dropping fields silently is what this crate is to find in others.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which object: what stays the same when the object changes. The version is not part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ObjectKey {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind, such as `ClusterNode`.
    pub kind: String,
    /// Namespace; empty for what has none.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectKey {
    /// The key of an object; what is missing in it is empty.
    pub fn of(object: &Value) -> Self {
        Self {
            group: group_and_version(text(object, "/apiVersion")).0.to_owned(),
            kind: text(object, "/kind").to_owned(),
            namespace: text(object, "/metadata/namespace").to_owned(),
            name: text(object, "/metadata/name").to_owned(),
        }
    }
}

/// `ClusterNode.zeta.example zeta-cluster/node-0a1b2c`
impl fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.kind)?;
        if !self.group.is_empty() {
            write!(formatter, ".{}", self.group)?;
        }
        formatter.write_str(" ")?;
        if !self.namespace.is_empty() {
            write!(formatter, "{}/", self.namespace)?;
        }
        formatter.write_str(&self.name)
    }
}

/// `group/version` in its parts; the core group is empty.
pub(crate) fn group_and_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// The text at a JSON pointer; empty where there is none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// One annotation.
pub(crate) fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(name)?.as_str()
}

/// Whether a comma-separated annotation such as `argocd.argoproj.io/sync-options` has this entry.
pub(crate) fn has_option(object: &Value, name: &str, option: &str) -> bool {
    annotation(object, name).is_some_and(|list| list.split(',').any(|entry| entry.trim() == option))
}

/// Whether a text can be one step of a request's path. What a tree says is not to be trusted: a name such as
/// `../secrets/x` would be a request for something else.
pub(crate) fn is_step(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/%?#".contains(&byte))
}

/// Whether an object can be asked for by its name.
pub(crate) fn is_addressable(object: &Value) -> bool {
    let ObjectKey { namespace, name, .. } = ObjectKey::of(object);
    is_step(&name) && (namespace.is_empty() || is_step(&namespace))
}

/// Sets `metadata.<field>.<name>`, making the maps on the way. An object that is not one stays as it is.
pub(crate) fn set_metadata(object: &mut Value, field: &str, name: &str, value: &str) {
    let Some(metadata) = map_in(object, "metadata") else { return };
    let Some(map) = map_in(metadata, field) else { return };
    if let Value::Object(map) = map {
        map.insert(name.to_owned(), Value::String(value.to_owned()));
    }
}

/// The map at `name`, made or put in the place of a `null`.
fn map_in<'a>(object: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let entry = object.as_object_mut()?.entry(name).or_insert(Value::Null);
    if entry.is_null() {
        *entry = Value::Object(serde_json::Map::new());
    }
    entry.is_object().then_some(entry)
}

/// Whether it defines a kind.
pub(crate) fn is_definition(object: &Value) -> bool {
    text(object, "/kind") == "CustomResourceDefinition"
        && group_and_version(text(object, "/apiVersion")).0 == "apiextensions.k8s.io"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ObjectKey, has_option, is_addressable, set_metadata};

    #[test]
    fn a_key_reads_well() {
        let node = json!({"apiVersion": "zeta.example/v1", "kind": "ClusterNode", "metadata": {"name": "a", "namespace": "n"}});
        assert_eq!(ObjectKey::of(&node).to_string(), "ClusterNode.zeta.example n/a");
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
        assert_eq!(ObjectKey::of(&namespace).to_string(), "Namespace n");
        assert_eq!(ObjectKey::of(&json!([1])), ObjectKey::default());
    }

    #[test]
    fn metadata_is_set_where_there_is_a_place_for_it() {
        let mut object = json!({"metadata": {"labels": null}});
        set_metadata(&mut object, "labels", "a", "b");
        set_metadata(&mut object, "annotations", "c", "d");
        assert_eq!(object, json!({"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}}));
        let mut odd = json!({"metadata": "text"});
        set_metadata(&mut odd, "labels", "a", "b");
        assert_eq!(odd, json!({"metadata": "text"}));
    }

    #[test]
    fn a_name_that_is_a_path_is_none() {
        let addressable = |name: &str, namespace: &str| {
            is_addressable(&json!({"metadata": {"name": name, "namespace": namespace}}))
        };
        assert!(addressable("node-0a1b2c", "") && addressable("system:node.a", "zeta-cluster"));
        for name in ["", ".", "..", "../secrets/x", "a/b", "a%2fb", "a?dryRun=All", "a#b", "a b", "ä", "a\n"]
        {
            assert!(!addressable(name, "n"), "{name:?}");
            assert!(name.is_empty() || !addressable("a", name), "{name:?}");
        }
    }

    #[test]
    fn options_are_a_list() {
        let object = json!({"metadata": {"annotations": {"o": "Prune=false, Validate=false"}}});
        assert!(has_option(&object, "o", "Validate=false") && !has_option(&object, "o", "Prune"));
    }
}
