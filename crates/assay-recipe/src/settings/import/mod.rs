//! Settings from elsewhere, as an `assay.toml`: for recipes whose tests were written for another system.
//!
//! What has a place here is carried over and checked by the one loader; everything else is listed, in the file as comments,
//! with what to do about it. Nothing is dropped, and no code is run.

mod package_check;
mod python;
mod recipe_meta;

use std::fmt;

use serde_json::Value;

pub use package_check::from_package_check;
pub use recipe_meta::from_recipe_meta;

use super::{
    LoadedSettings,
    registry::KEYS,
    write::{bare_or_quoted, inline},
};
use crate::problem::shown;

/// Longest file that is imported, in bytes.
const LONGEST: usize = 256 << 10;
/// Longest part of something that is listed, in lines.
const MOST_LINES: usize = 40;

/// What an import came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The text of an `assay.toml`, with comments on what was not carried over.
    pub toml: String,
    /// What was not carried over.
    pub left: Vec<Left>,
}

/// Something that was not carried over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Where it stood: a line, from 1, or 0 where that is not known.
    pub line: u32,
    /// What it is called there.
    pub name: String,
    /// Why, and what to do.
    pub why: String,
    /// What stood there, cleaned and bounded.
    pub text: String,
}

/// A file that cannot be imported at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} is not imported: {why}")]
pub struct ImportError {
    /// The file.
    pub file: &'static str,
    /// Why, and what to do.
    pub why: String,
}

impl fmt::Display for Left {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(out, "line {}: ", self.line)?;
        }
        write!(out, "{}: {}", self.name, self.why)
    }
}

/// Collects what is carried over.
struct Draft {
    file: &'static str,
    /// Whole names and values, in the order in which they came.
    values: Vec<(&'static str, Value)>,
    /// Tables of lists: the list's name, and its fields.
    items: Vec<(&'static str, Value)>,
    left: Vec<Left>,
}

impl Draft {
    fn new(file: &'static str, text: &str) -> Result<Self, ImportError> {
        if text.len() > LONGEST {
            let why = format!("it has {} bytes, and at most {LONGEST} are read", text.len());
            return Err(ImportError { file, why });
        }
        Ok(Self { file, values: Vec::new(), items: Vec::new(), left: Vec::new() })
    }

    /// Carries a value over to a key, unless the loader refuses it there.
    fn carry(&mut self, line: u32, name: &str, key: &'static str, value: Value) {
        if self.values.iter().any(|(other, _)| *other == key) {
            return self.leave(line, name, &format!("`{key}` was carried over from something else"), &value);
        }
        match refusal(&text_of(&[(key, value.clone())], &[])) {
            None => self.values.push((key, value)),
            Some(why) => self.leave(line, name, &format!("it does not fit `{key}`: {why}"), &value),
        }
    }

    /// Carries a table of a list over, unless the loader refuses it.
    fn carry_item(&mut self, line: u32, name: &str, list: &'static str, item: Value) {
        match refusal(&text_of(&[], &[(list, item.clone())])) {
            None => self.items.push((list, item)),
            Some(why) => self.leave(line, name, &format!("it does not fit `[[{list}]]`: {why}"), &item),
        }
    }

    fn leave(&mut self, line: u32, name: &str, why: &str, value: &Value) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.leave_text(line, name, why, &text);
    }

    fn leave_text(&mut self, line: u32, name: &str, why: &str, text: &str) {
        let mut lines: Vec<String> = text.trim().lines().take(MOST_LINES).map(shown).collect();
        if text.trim().lines().count() > MOST_LINES {
            lines.push("…".to_owned());
        }
        self.left.push(Left { line, name: shown(name), why: why.to_owned(), text: lines.join("\n") });
    }

    fn finish(mut self) -> Imported {
        let order = |key: &str| KEYS.iter().position(|known| known.name == key);
        self.values.sort_by_key(|(key, _)| order(key));
        let body = text_of(&self.values, &self.items);
        // Each fits on its own; together they may not.
        if let Some(why) = refusal(&body) {
            self.leave_text(
                0,
                "the whole",
                &format!("what was carried over does not fit together: {why}"),
                "",
            );
        }
        let mut lines = vec![format!("# From {}.", self.file)];
        if !self.left.is_empty() {
            lines.push(format!("# {} not carried over; see the end.", count(self.left.len())));
        }
        lines.push(String::new());
        lines.extend(body.lines().map(str::to_owned));
        for left in &self.left {
            lines.extend([String::new(), format!("# Not carried over: {left}")]);
            lines.extend(left.text.lines().map(|line| format!("#     {line}")));
        }
        Imported { toml: lines.join("\n") + "\n", left: self.left }
    }
}

fn count(things: usize) -> String {
    if things == 1 { "One thing in it was".to_owned() } else { format!("{things} things in it were") }
}

/// The first thing that the loader has against a text.
fn refusal(text: &str) -> Option<String> {
    let problems = LoadedSettings::read(text).err()?;
    let message = problems.0.first().map(|problem| problem.message.as_str()).unwrap_or_default();
    Some(message.lines().next().unwrap_or_default().to_owned())
}

fn text_of(values: &[(&str, Value)], items: &[(&str, Value)]) -> String {
    let mut lines = Vec::new();
    let mut open = "";
    for (key, value) in values {
        let (table, field) = key.split_once('.').unwrap_or((key, ""));
        if table != open {
            open = table;
            lines.extend([String::new(), format!("[{table}]")]);
        }
        lines.push(format!("{field} = {}", inline(value)));
    }
    for (list, item) in items {
        lines.extend([String::new(), format!("[[{list}]]")]);
        let fields = item.as_object().into_iter().flatten();
        lines.extend(fields.map(|(field, value)| format!("{} = {}", bare_or_quoted(field), inline(value))));
    }
    lines.iter().skip(1).flat_map(|line| [line.as_str(), "\n"]).collect()
}
