//! Reads values of one file: every accessor takes what it wants, or says with file, line and path what is wrong instead.
//!
//! A [`Fields`] is a map that is emptied key by key. What is left in the end was not understood and becomes a note, so
//! that no key can be dropped in silence.

use std::time::Duration;

use indexmap::IndexMap;

use super::{
    Unset,
    model::{Note, NoteKind},
    units,
};
use crate::{
    interpolate::{Remark, interpolate},
    problem::{Problem, shown},
    yaml::{self, Node, Yaml},
};

/// Most bytes that the texts of one file come to once their variables are filled in.
const FILLED: usize = 16 << 20;
/// Most problems of one file; whoever has more mends these first.
const MOST: usize = 200;

/// A value and where it is.
#[derive(Clone, Debug)]
pub(crate) struct At {
    pub(crate) yaml: Yaml,
    pub(crate) path: String,
}

/// A map that is emptied key by key.
#[derive(Debug)]
pub(crate) struct Fields {
    map: IndexMap<String, Yaml>,
    /// Keys that were taken and have no value.
    nothing: Vec<String>,
    pub(crate) path: String,
    pub(crate) line: u32,
}

impl Fields {
    /// What is there and is not nothing.
    pub(crate) fn take(&mut self, key: &str) -> Option<At> {
        let yaml = self.map.shift_remove(key)?;
        let path = join(&self.path, key);
        if yaml.node == Node::Null {
            self.nothing.push(path);
            return None;
        }
        Some(At { yaml, path })
    }
}

/// Reads one file.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    pub(crate) file: &'a str,
    pub(crate) variables: &'a IndexMap<String, String>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<Note>,
    /// Line of each path that a later check may have to name.
    pub(crate) places: IndexMap<String, u32>,
    pub(crate) unset: Vec<Unset>,
    filled: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(file: &'a str, variables: &'a IndexMap<String, String>) -> Self {
        Self {
            file,
            variables,
            problems: Vec::new(),
            notes: Vec::new(),
            places: IndexMap::new(),
            unset: Vec::new(),
            filled: 0,
        }
    }

    pub(crate) fn problem(&mut self, line: u32, path: &str, message: impl Into<String>) {
        match self.problems.len() {
            MOST => {
                let message =
                    format!("only the first {MOST} problems of this file are told; mend them first");
                self.problems.push(Problem::new(self.file, 0, "", message));
            }
            more if more > MOST => {}
            _ => self.problems.push(Problem::new(self.file, line, path, message)),
        }
    }

    pub(crate) fn note(&mut self, path: &str, kind: NoteKind, message: impl Into<String>) {
        let (path, file) = (path.to_owned(), self.file.to_owned());
        self.notes.push(Note { path, file, kind, message: message.into() });
    }

    pub(crate) fn mark(&mut self, path: impl Into<String>, line: u32) {
        self.places.insert(path.into(), line);
    }

    /// Fills in the variables of all texts below; not of keys, as Docker does not either.
    pub(crate) fn fill_in(&mut self, yaml: &mut Yaml, path: &str) {
        self.mark(path, yaml.line);
        match &mut yaml.node {
            Node::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.fill_in(item, &format!("{path}[{index}]"));
                }
            }
            Node::Map(map) => {
                for (key, value) in map {
                    let path = join(path, key);
                    if key.contains("${") {
                        let message = "variables are not filled in in keys; write the entry as an item of a list, \
                                       `- \"key=value\"`";
                        self.note(&path, NoteKind::Unsupported, message);
                    }
                    self.fill_in(value, &path);
                }
            }
            Node::Scalar(scalar) if scalar.text.contains('$') => {
                if self.filled > FILLED {
                    let message = "variables make the file too long to be read; shorten their values";
                    self.problem(yaml.line, path, message);
                    return;
                }
                let variables = self.variables;
                match interpolate(&scalar.text, &|name| variables.get(name).cloned()) {
                    Err(error) => self.problem(yaml.line, path, error.to_string()),
                    Ok(filled) => {
                        scalar.text = filled.text;
                        // What had a variable in it is a text, whatever it looks like now.
                        scalar.plain = false;
                        self.filled += scalar.text.len();
                        for remark in filled.remarks {
                            self.remark(path, yaml.line, &remark);
                        }
                    }
                }
            }
            Node::Null | Node::Scalar(_) => {}
        }
    }

    fn remark(&mut self, path: &str, line: u32, remark: &Remark) {
        let message = match remark {
            Remark::Unset { name } => {
                let (name, file, path) = (name.clone(), self.file.to_owned(), path.to_owned());
                self.unset.push(Unset { name, file, line, path });
                return;
            }
            Remark::NotInStackDeploy { form } => format!(
                "`docker stack deploy` reads `{}` differently or refuses it; write it without a form in a form, and \
                 with braces",
                shown(form)
            ),
        };
        self.note(path, NoteKind::Unsupported, message);
    }

    pub(crate) fn wrong(&mut self, at: &At, wanted: &str) {
        let found = match &at.yaml.node {
            Node::Scalar(scalar) => format!("`{}`", shown(&scalar.text)),
            _ => at.yaml.kind().to_owned(),
        };
        self.problem(at.yaml.line, &at.path, format!("{found} is not {wanted}"));
    }

    /// A map; nothing is an empty one.
    pub(crate) fn fields(&mut self, at: At) -> Option<Fields> {
        let line = at.yaml.line;
        match at.yaml.node {
            Node::Map(map) => Some(Fields { map, nothing: Vec::new(), path: at.path, line }),
            Node::Null => Some(Fields { map: IndexMap::new(), nothing: Vec::new(), path: at.path, line }),
            _ => {
                self.wrong(&at, "a map: write `key: value`, one a line");
                None
            }
        }
    }

    /// The entries of a map, each with its path.
    pub(crate) fn entries(&mut self, at: At) -> Vec<(String, At)> {
        let Some(fields) = self.fields(at) else { return Vec::new() };
        let path = fields.path;
        fields
            .map
            .into_iter()
            .map(|(key, yaml)| (key.clone(), At { path: join(&path, &key), yaml }))
            .collect()
    }

    pub(crate) fn items(&mut self, at: At) -> Vec<At> {
        let path = at.path.clone();
        let Node::List(items) = at.yaml.node else {
            self.wrong(&at, "a list: write `- item`, one a line");
            return Vec::new();
        };
        let numbered = items.into_iter().enumerate();
        numbered.map(|(index, yaml)| At { yaml, path: format!("{path}[{index}]") }).collect()
    }

    /// What is left was not understood. Keys with `x-` are the author's own.
    pub(crate) fn leftovers(&mut self, fields: Fields) {
        // A section without entries is no mistake; a key of a service without a value is refused.
        for path in fields.nothing.iter().filter(|_| !fields.path.is_empty()) {
            let message =
                "there is no value, which `docker stack deploy` refuses; give it one, or remove the key";
            self.note(path, NoteKind::Unsupported, message);
        }
        for (key, _) in fields.map {
            if !key.starts_with("x-") {
                let path = join(&fields.path, &key);
                let key = shown(&key);
                let message = format!(
                    "this reader does not know `{key}` and does not heed it; remove it, or name it `x-{key}` if it is your \
                     own"
                );
                self.note(&path, NoteKind::Unsupported, message);
            }
        }
    }

    pub(crate) fn text(&mut self, at: &At) -> Option<String> {
        if let Some(text) = at.yaml.text() {
            return Some(text.to_owned());
        }
        self.wrong(at, "a text");
        None
    }

    pub(crate) fn one_of(&mut self, at: &At, words: &[&str]) -> Option<String> {
        let text = self.text(at)?;
        if words.contains(&text.as_str()) {
            return Some(text);
        }
        self.wrong(at, &format!("one of {}", words.join(", ")));
        None
    }

    pub(crate) fn boolean(&mut self, at: &At) -> Option<bool> {
        let found = at.yaml.text().and_then(yaml::boolean);
        if found.is_none() {
            self.wrong(at, "true or false");
        }
        found
    }

    pub(crate) fn integer(&mut self, at: &At) -> Option<i64> {
        let found = at.yaml.text().and_then(|text| yaml::integer(text.trim()));
        if found.is_none() {
            self.wrong(at, "a whole number");
        }
        found
    }

    pub(crate) fn count(&mut self, at: &At) -> Option<u64> {
        let found = at.yaml.text().and_then(|text| yaml::integer(text.trim()));
        let found = found.and_then(|number| u64::try_from(number).ok());
        if found.is_none() {
            self.wrong(at, "a whole number, 0 or more");
        }
        found
    }

    pub(crate) fn duration(&mut self, at: &At) -> Option<Duration> {
        let found = at.yaml.text().and_then(units::duration);
        if found.is_none() {
            self.wrong(at, "a duration; write `1m30s`, `10s` or `500ms`");
        }
        found
    }

    pub(crate) fn bytes(&mut self, at: &At) -> Option<i64> {
        let found = at.yaml.text().and_then(units::bytes);
        if found.is_none() {
            self.wrong(at, "a size; write `512M`, `1G` or a number of bytes");
        }
        found
    }

    /// A list of texts; a note where Docker wants one to be in quotes.
    pub(crate) fn texts(&mut self, at: At) -> Vec<String> {
        let mut texts = Vec::new();
        for item in self.items(at) {
            let Some(text) = self.text(&item) else { continue };
            let plain = matches!(&item.yaml.node, Node::Scalar(scalar) if scalar.plain);
            let truth = text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false");
            if plain && (truth || units::docker_spelling(&text).is_some()) {
                let message = format!("`docker stack deploy` wants texts here; write `{text}` in quotes");
                self.note(&item.path, NoteKind::Unsupported, message);
            }
            texts.push(text);
        }
        texts
    }

    /// One text, or a list of them.
    pub(crate) fn text_or_texts(&mut self, at: At) -> Vec<String> {
        if let Some(text) = at.yaml.text() { vec![text.to_owned()] } else { self.texts(at) }
    }

    /// A command: a list as it is, a text split as a shell splits it.
    pub(crate) fn command(&mut self, at: At) -> Option<Vec<String>> {
        let Some(text) = at.yaml.text() else { return Some(self.texts(at)) };
        let words = units::words(text);
        if words.is_none() {
            self.wrong(&at, "a command: a quote is not closed, or a `\\` ends it");
        }
        words
    }

    /// A map of texts, or a list of `key=value`; a key alone has no value.
    pub(crate) fn mapping(&mut self, at: At) -> IndexMap<String, Option<String>> {
        let mut mapping = IndexMap::new();
        if matches!(at.yaml.node, Node::List(_)) {
            for item in self.items(at) {
                let Some(text) = self.text(&item) else { continue };
                match text.split_once('=') {
                    Some((key, value)) => mapping.insert(key.to_owned(), Some(value.to_owned())),
                    None => mapping.insert(text, None),
                };
            }
            return mapping;
        }
        for (key, value) in self.entries(at) {
            let text = match value.yaml.node {
                Node::Null => None,
                _ => match self.value(&value) {
                    Some(text) => Some(text),
                    None => continue,
                },
            };
            mapping.insert(key, text);
        }
        mapping
    }

    /// As [`Self::mapping`]; a key alone is an empty text.
    pub(crate) fn labels(&mut self, at: At) -> IndexMap<String, String> {
        self.mapping(at).into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect()
    }

    /// A text among many, as written; a note where Docker makes something else of it.
    fn value(&mut self, at: &At) -> Option<String> {
        let text = self.text(at)?;
        let Node::Scalar(scalar) = &at.yaml.node else { return Some(text) };
        if !scalar.plain {
            return Some(text);
        }
        if yaml::boolean(&text).is_some() {
            let older = if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") {
                ""
            } else {
                " in older releases"
            };
            let message = format!(
                "without quotes `{text}` is a boolean, which `docker stack deploy` refuses here{older}; quote it"
            );
            self.note(&at.path, NoteKind::Unsupported, message);
        } else if let Some(docker) = units::docker_spelling(&text).filter(|docker| *docker != text) {
            let message = format!(
                "without quotes `{text}` is a number, of which `docker stack deploy` makes `{docker}`; here it stays as \
                 written: quote it"
            );
            self.note(&at.path, NoteKind::Unsupported, message);
        }
        Some(text)
    }
}

pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
