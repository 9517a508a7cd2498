//! Compose files, read as `docker stack deploy` reads them.
//!
//! In this order: each file is parsed (anchors and merge keys expanded), its variables are filled in, it becomes types, and
//! is put over the files before it. [`load()`] reports everything that is wrong in all files at once; [`check()`] says what is
//! wrong with the whole, such as a secret that is read and nowhere declared.

mod check;
mod deploy;
mod merge;
pub mod model;
mod mounts;
mod objects;
mod ports;
mod read;
mod service;
mod units;

use std::collections::BTreeSet;

use indexmap::IndexMap;
use serde::Serialize;

pub use check::check;
pub(crate) use check::{clashes, modes, undeclared};
use model::{Compose, Note, NoteKind};
use read::{At, Reader};

use crate::{
    problem::{Problem, Problems, shown},
    yaml::{self, Node, Yaml},
};

/// What a stack is read from.
pub struct Sources<'a> {
    /// Names and texts of the files, in the order of `COMPOSE_FILE`.
    pub files: Vec<(String, String)>,
    /// What variables stand for.
    pub variables: &'a IndexMap<String, String>,
    /// The text of a file that `env_file` names, or why it cannot be read.
    pub env_file: &'a dyn Fn(&str) -> Result<String, String>,
}

/// What the files come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// The whole.
    pub compose: Compose,
    /// File and line by path (`services.app.secrets.db_password`); of the last file that has it.
    pub places: IndexMap<String, (String, u32)>,
    /// `name:` of secrets and configs by path (`secrets.db_password`), with its variables.
    pub written_names: IndexMap<String, String>,
    /// Variables that are not set and have no default: they became empty.
    pub unset: Vec<Unset>,
}

/// A variable that became an empty text, as it does for Docker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unset {
    /// The variable.
    pub name: String,
    /// The file with it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Where in the file.
    pub path: String,
}

impl Loaded {
    /// Where something is; the whole stack where that is not known.
    pub fn place(&self, path: &str) -> (&str, u32) {
        self.places.get(path).map_or(("compose.yml", 0), |(file, line)| (file.as_str(), *line))
    }

    pub(crate) fn problem(&self, path: &str, message: impl Into<String>) -> Problem {
        let (file, line) = self.place(path);
        Problem::new(file, line, path, message)
    }
}

/// Reads and merges compose files.
///
/// # Errors
/// [`Problems`]: everything in all files that cannot be read.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, Problems> {
    let mut problems = Vec::new();
    let mut whole: Option<Layer> = None;
    for (file, text) in &sources.files {
        let layer = match yaml::parse(file, text) {
            Ok(yaml) => layer(file, yaml, sources, &mut problems),
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        match &mut whole {
            None => whole = Some(layer),
            Some(below) => {
                if let Some(problem) = other_version(below, &layer) {
                    problems.push(problem);
                }
                merge::merge(below, layer);
            }
        }
    }
    let Some(mut whole) = whole else {
        if problems.is_empty() {
            let message = "no compose file was named; set COMPOSE_FILE to one, such as `compose.yml`";
            problems.push(Problem::new("COMPOSE_FILE", 0, "", message));
        }
        return Err(Problems(problems));
    };
    whole.compose.notes = merge::once(std::mem::take(&mut whole.compose.notes));
    let Layer { compose, places, written_names, unset, .. } = whole;
    Problems::or(problems, Loaded { compose, places, written_names, unset })
}

/// What one file says.
#[derive(Debug, Default)]
struct Layer {
    file: String,
    compose: Compose,
    modes_given: BTreeSet<String>,
    places: IndexMap<String, (String, u32)>,
    written_names: IndexMap<String, String>,
    unset: Vec<Unset>,
}

fn layer(file: &str, mut yaml: Yaml, sources: &Sources<'_>, problems: &mut Vec<Problem>) -> Layer {
    let mut layer = Layer { file: file.to_owned(), written_names: written_names(&yaml), ..Layer::default() };
    let mut reader = Reader::new(file, sources.variables);
    if !matches!(yaml.node, Node::Map(_)) {
        let message = format!("a compose file is a map with `services`, and this is {}", yaml.kind());
        problems.push(Problem::new(file, yaml.line, "", message));
        return layer;
    }
    if let Node::Map(map) = &mut yaml.node {
        for (section, value) in map {
            if matches!(section.as_str(), "services" | "networks" | "volumes" | "secrets" | "configs") {
                reader.fill_in(value, section);
            }
        }
    }
    read_sections(&mut reader, yaml, sources, &mut layer);
    reader.problems.sort_by_key(|problem| problem.line);
    problems.append(&mut reader.problems);
    layer.compose.notes = reader.notes;
    layer.unset = reader.unset;
    layer.places = reader.places.into_iter().map(|(path, line)| (path, (file.to_owned(), line))).collect();
    layer
}

fn read_sections(reader: &mut Reader<'_>, yaml: Yaml, sources: &Sources<'_>, layer: &mut Layer) {
    let Some(mut fields) = reader.fields(At { yaml, path: String::new() }) else { return };
    if let Some(at) = fields.take("version") {
        layer.compose.version = reader.text(&at);
        reader.mark("version", at.yaml.line);
    }
    if let Some(at) = fields.take("services") {
        for (name, at) in reader.entries(at) {
            if let Some(read) = service::read(reader, at, sources.env_file) {
                if read.mode_given {
                    layer.modes_given.insert(name.clone());
                }
                layer.compose.services.insert(name, read.service);
            }
        }
    }
    let compose = &mut layer.compose;
    compose.networks = fields.take("networks").map(|at| objects::networks(reader, at)).unwrap_or_default();
    compose.volumes = fields.take("volumes").map(|at| objects::volumes(reader, at)).unwrap_or_default();
    compose.secrets = fields.take("secrets").map(|at| objects::objects(reader, at)).unwrap_or_default();
    compose.configs = fields.take("configs").map(|at| objects::objects(reader, at)).unwrap_or_default();
    if let Some(at) = fields.take("name") {
        let message =
            "a stack is named when it is deployed, and `docker stack deploy` refuses `name`; remove it";
        reader.note(&at.path, NoteKind::Unsupported, message);
    }
    reader.leftovers(fields);
}

/// `name:` of secrets and configs before variables are filled in: the one place that says which variable has the version.
fn written_names(yaml: &Yaml) -> IndexMap<String, String> {
    let mut names = IndexMap::new();
    for section in ["secrets", "configs"] {
        for (key, value) in yaml.get(section).into_iter().flat_map(Yaml::entries) {
            let external = value.get("external").and_then(|external| external.get("name"));
            if let Some(name) = value.get("name").or(external).and_then(Yaml::text) {
                names.insert(format!("{section}.{key}"), name.to_owned());
            }
        }
    }
    names
}

fn other_version(below: &Layer, over: &Layer) -> Option<Problem> {
    let (first, second) = (below.compose.version.as_ref()?, over.compose.version.as_ref()?);
    if first == second {
        return None;
    }
    let line = over.places.get("version").map_or(0, |(_, line)| *line);
    let message = format!(
        "the files before it have version `{}`, this one `{}`, and `docker stack deploy` refuses to mix them; write the \
         same in all",
        shown(first),
        shown(second)
    );
    Some(Problem::new(&over.file, line, "version", message))
}

impl Compose {
    /// Notes of one kind.
    pub fn notes_of(&self, kind: NoteKind) -> impl Iterator<Item = &Note> {
        self.notes.iter().filter(move |note| note.kind == kind)
    }
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
