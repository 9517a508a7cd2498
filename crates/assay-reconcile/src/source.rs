//! From a tree of files to manifests, as Argo CD's *directory source* does it.
//!
//! What counts is what Argo CD does with a commit, also where that is surprising, so this follows its code
//! (`findManifests` and `getObjsFromYAMLOrJson` in `reposerver/repository/repository.go`; user guide, page "Directory"):
//!
//! - only `.yaml`, `.yml` and `.json` count, at any depth with `recurse`, in the folder itself without;
//! - `exclude` goes before `include`; both see the path relative to the source path (see [`Glob`]);
//! - a YAML file holds any number of documents, a JSON file one; empty documents are nothing;
//! - a file that cannot be read as objects is an error, and then *nothing* of the commit is rendered, but only if it
//!   looks like a manifest: without all of the texts `apiVersion:`, `kind:` and `metadata:` it is silently left out;
//! - a list stands for its items;
//! - more than 10 MB in all is an error (`reposerver.max.combined.directory.manifests.size`).
//!
//! YAML is read as Argo CD's library reads it: version 1.1, where an unquoted `no` is false and `010` is eight, and
//! the last of two equal keys wins. Not covered: symbolic links (a tree of bytes has none) and Jsonnet, which is an error here.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Glob, object::text};

/// A tree of files: path from the root of the repository, with `/`, to content.
pub type Tree = BTreeMap<String, Vec<u8>>;

/// Argo CD's default for all files of a source together, in bytes.
const LARGEST: usize = 10_000_000;

/// Which files of a tree are manifests: `spec.source` of an Application, for a directory.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Folder in the repository, without a slash at either end; empty or `.` for its root.
    pub path: String,
    /// Whether the folders below count, too.
    pub recurse: bool,
    /// Which files count; all without it.
    pub include: Option<Glob>,
    /// Which files do not count, whatever `include` says.
    pub exclude: Option<Glob>,
}

/// An object and the file that it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The file, from the root of the repository.
    pub path: String,
    /// The object, as written.
    pub object: Value,
}

/// Why nothing of a tree can be rendered. Argo CD reports each as a `ComparisonError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// No file of the tree is below the source path. Git keeps no empty folders: the last file went.
    #[error("{path}: app path does not exist; no file of the tree is below it")]
    NoPath {
        /// The source path.
        path: String,
    },
    /// A file that looks like a manifest and is none.
    #[error("Failed to unmarshal {path:?}: {problem}")]
    Unreadable {
        /// The file, from the root of the repository.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The files together are larger than what Argo CD reads.
    #[error("exceeded max combined manifest file size: more than {LARGEST} bytes; narrow `include`")]
    TooLarge,
    /// A file that would have to be run.
    #[error("{path:?} is Jsonnet, which is not evaluated here: exclude it, or test on a live cluster")]
    Jsonnet {
        /// The file, from the root of the repository.
        path: String,
    },
}

impl Source {
    /// All manifests, in the order of their paths and within a file in the order of writing.
    ///
    /// # Errors
    /// [`SourceError`]: nothing is rendered then, not even from the files that are sound.
    pub fn manifests(&self, tree: &Tree) -> Result<Vec<Manifest>, SourceError> {
        let mut manifests = Vec::new();
        for (path, content) in self.files(tree)? {
            let unreadable = |problem: String| SourceError::Unreadable { path: path.to_owned(), problem };
            let objects = if has_suffix(path, "json") {
                vec![json_object(content).map_err(unreadable)?]
            } else {
                yaml_objects(content).map_err(unreadable)?
            };
            let objects = objects.into_iter().flat_map(items);
            manifests.extend(objects.map(|object| Manifest { path: path.to_owned(), object }));
        }
        Ok(manifests)
    }

    /// The files that are read as manifests.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn files<'a>(&self, tree: &'a Tree) -> Result<Vec<(&'a str, &'a [u8])>, SourceError> {
        let prefix = match self.path.trim_matches('/') {
            "" | "." => String::new(),
            path => format!("{path}/"),
        };
        let mut below =
            tree.iter().filter_map(|(path, content)| Some((path, path.strip_prefix(&prefix)?, content)));
        let mut found_any = false;
        let mut size = 0;
        let mut files = Vec::new();
        for (path, relative, content) in &mut below {
            found_any = true;
            if !self.selects(relative) {
                continue;
            }
            if has_suffix(relative, "jsonnet") {
                return Err(SourceError::Jsonnet { path: path.clone() });
            }
            size += content.len();
            if size > LARGEST {
                return Err(SourceError::TooLarge);
            }
            files.push((path.as_str(), content.as_slice()));
        }
        if !found_any {
            return Err(SourceError::NoPath { path: self.path.clone() });
        }
        Ok(files)
    }

    fn selects(&self, relative: &str) -> bool {
        ["yaml", "yml", "json", "jsonnet"].iter().any(|suffix| has_suffix(relative, suffix))
            && (self.recurse || !relative.contains('/'))
            && !self.exclude.as_ref().is_some_and(|glob| glob.matches(relative))
            && self.include.as_ref().is_none_or(|glob| glob.matches(relative))
    }
}

/// Case counts, as it does for Argo CD.
fn has_suffix(path: &str, suffix: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, found)| found == suffix)
}

fn json_object(content: &[u8]) -> Result<Value, String> {
    let mut documents = serde_json::Deserializer::from_slice(without_mark(content)).into_iter::<Value>();
    let first = documents.next().ok_or("it is empty")?.map_err(|error| error.to_string())?;
    if documents.next().is_some() {
        return Err("found multiple objects; only single objects are allowed in JSON files".to_owned());
    }
    checked(first)
}

fn yaml_objects(content: &[u8]) -> Result<Vec<Value>, String> {
    let content = without_mark(content);
    let mut objects = Vec::new();
    let Err(problem) = read_documents(content, &mut objects) else { return Ok(objects) };
    let contains = |text: &str| content.windows(text.len()).any(|window| window == text.as_bytes());
    let looks_like_one = ["apiVersion:", "kind:", "metadata:"].into_iter().all(contains);
    if !objects.is_empty() || looks_like_one { Err(problem) } else { Ok(objects) }
}

/// What is read before the error stays in `objects`.
fn read_documents(content: &[u8], objects: &mut Vec<Value>) -> Result<(), String> {
    let content = std::str::from_utf8(content).map_err(|_| "it is not UTF-8")?;
    for document in documents(content) {
        // A `---` with a comment behind it does not part documents for Argo CD, which then reads the first alone.
        let parsed: Vec<Value> = serde_saphyr::from_multiple_with_options(&document, options())
            .map_err(|error| first_line(&error))?;
        if let Some(object) = parsed.into_iter().next() {
            objects.push(checked(object)?);
        }
    }
    Ok(())
}

/// The parts between lines of `---` and nothing else.
fn documents(content: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in content.split_inclusive('\n') {
        let ends = line.strip_prefix("---").is_some_and(|rest| rest.trim().is_empty());
        match documents.last_mut() {
            Some(last) if !ends => last.push_str(line),
            _ => documents.push(String::new()),
        }
    }
    documents
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
        strict_booleans: false,
        with_snippet: false,
    }
}

fn first_line(error: &serde_saphyr::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// An object has a kind; everything else is left to the API server.
fn checked(object: Value) -> Result<Value, String> {
    if !object.is_object() {
        return Err("a document is not an object".to_owned());
    }
    if text(&object, "/kind").is_empty() {
        return Err("Object 'Kind' is missing".to_owned());
    }
    Ok(object)
}

/// A list stands for its items, whatever its kind is called; so does a list of nothing.
fn items(mut object: Value) -> Vec<Value> {
    let of_list_kind = text(&object, "/kind").ends_with("List");
    match object.get_mut("items") {
        Some(Value::Array(items)) => std::mem::take(items),
        Some(Value::Null) if of_list_kind => Vec::new(),
        _ => vec![object],
    }
}

fn without_mark(content: &[u8]) -> &[u8] {
    content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content)
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
