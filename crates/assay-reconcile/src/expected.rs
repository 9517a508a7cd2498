//! What a cluster should have, rendered from the tree a second time and in another way than the reconciler does.
//!
//! Two programs that share their parsing share its faults, and then agree on them. So this shares only the YAML library,
//! reads less, and reads what the *writer* of a registration means: YAML 1.2, where `no` is a text; one glob over the whole path,
//! whose `*` stops at a `/`. Where Argo CD reads it otherwise, the comparison finds a difference, as it should.

use std::collections::BTreeMap;

use globset::GlobBuilder;
use serde_json::Value;

use crate::{ObjectKey, Tree};

/// The objects that a tree stands for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    /// As written: an object without a namespace has none here.
    pub objects: Vec<Value>,
    /// Where objects without a namespace are expected, if their kind has namespaces.
    pub namespace: String,
}

/// Why a tree stands for nothing in particular.
#[derive(Debug, thiserror::Error)]
pub enum ExpectedError {
    /// The pattern is not a glob.
    #[error("the pattern of expected files is not understood: {0}")]
    Pattern(#[from] globset::Error),
    /// A file that should be an object is none.
    #[error("{path} is not an object with apiVersion, kind and metadata.name: {problem}")]
    File {
        /// The file, from the root of the repository.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Two files say what one object is.
    #[error("{first} and {second} are both {object}; one of them has to go")]
    Twice {
        /// The object.
        object: Box<ObjectKey>,
        /// A file.
        first: String,
        /// Another file.
        second: String,
    },
}

impl Expected {
    /// Renders the files that match `pattern`, such as `maintainers/*/cluster-nodes/*/node.yaml`, one object each.
    ///
    /// # Errors
    /// [`ExpectedError`].
    pub fn render(tree: &Tree, pattern: &str, namespace: &str) -> Result<Self, ExpectedError> {
        let files = GlobBuilder::new(pattern).literal_separator(true).build()?.compile_matcher();
        let mut by_key: BTreeMap<ObjectKey, (&str, Value)> = BTreeMap::new();
        for (path, content) in tree.iter().filter(|(path, _)| files.is_match(path)) {
            let object =
                object(content).map_err(|problem| ExpectedError::File { path: path.clone(), problem })?;
            let key = ObjectKey::of(&object);
            if let Some((first, _)) = by_key.get(&key) {
                let (first, second) = ((*first).to_owned(), path.clone());
                return Err(ExpectedError::Twice { object: Box::new(key), first, second });
            }
            by_key.insert(key, (path, object));
        }
        let objects = by_key.into_values().map(|(_, object)| object).collect();
        Ok(Self { objects, namespace: namespace.to_owned() })
    }
}

fn object(content: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(content).map_err(|error| error.to_string())?;
    let options =
        serde_saphyr::options! { strict_booleans: true, legacy_octal_numbers: false, with_snippet: false };
    let object: Value =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
    let there =
        |pointer: &str| object.pointer(pointer).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    for pointer in ["/apiVersion", "/kind", "/metadata/name"] {
        if !there(pointer) {
            return Err(format!("there is no text at {pointer}"));
        }
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Expected, ExpectedError};
    use crate::Tree;

    const PATTERN: &str = "maintainers/*/cluster-nodes/*/node.yaml";

    fn node(name: &str) -> Vec<u8> {
        format!("apiVersion: zeta.example/v1\nkind: ClusterNode\nmetadata: {{name: {name}}}\nspec: {{gpu: no, mode: 010}}\n").into()
    }

    fn tree(files: &[(&str, Vec<u8>)]) -> Tree {
        files.iter().map(|(path, content)| ((*path).to_owned(), content.clone())).collect()
    }

    #[test]
    fn registrations_are_expected_as_their_writer_means_them() {
        let files = [
            ("maintainers/alice/cluster-nodes/a/node.yaml", node("a")),
            ("maintainers/alice/cluster-nodes/a/more/node.yaml", node("b")),
            ("maintainers/alice/cluster-nodes/node.yaml", node("c")),
            ("README.md", b"\xff".to_vec()),
        ];
        let expected = Expected::render(&tree(&files), PATTERN, "zeta-cluster").unwrap();
        assert_eq!(
            expected.objects,
            [
                json!({"apiVersion": "zeta.example/v1", "kind": "ClusterNode", "metadata": {"name": "a"}, "spec": {"gpu": "no", "mode": 10.0}})
            ]
        );
    }

    #[test]
    fn what_is_no_registration_is_an_error() {
        for content in ["", "[", "kind: ClusterNode\n", "apiVersion: v1\nkind: X\nmetadata: {name: 7}\n"] {
            let files = [("maintainers/alice/cluster-nodes/a/node.yaml", content.into())];
            let error = Expected::render(&tree(&files), PATTERN, "n").unwrap_err();
            assert!(matches!(error, ExpectedError::File { .. }), "{content:?}: {error}");
        }
    }

    #[test]
    fn two_registrations_of_one_name_are_an_error() {
        let files = [
            ("maintainers/alice/cluster-nodes/a/node.yaml", node("a")),
            ("maintainers/bob/cluster-nodes/a/node.yaml", node("a")),
        ];
        let error = Expected::render(&tree(&files), PATTERN, "n").unwrap_err().to_string();
        assert!(error.contains("alice") && error.contains("bob"), "{error}");
    }
}
