//! Settings that differ from the defaults: for the manifest, and as TOML that reads back.

use indexmap::IndexMap;
use serde_json::Value;

use super::{Settings, registry::KEYS};

impl Settings {
    /// What differs from the defaults, by the whole names of keys, in the order of the list of keys. A list of tables is one
    /// entry: `databases`. Values are not redacted.
    pub fn changed(&self) -> IndexMap<String, Value> {
        let (own, default) = (json(self), json(&Self::default()));
        let mut changed = IndexMap::new();
        for key in KEYS {
            let (name, place) = if key.is_of_list() {
                (key.table(), format!("/{}", key.table()))
            } else {
                (key.name, format!("/{}", key.name.replace('.', "/")))
            };
            match own.pointer(&place) {
                Some(value) if default.pointer(&place) != Some(value) => {
                    changed.insert(name.to_owned(), without_nulls(value));
                }
                _ => {}
            }
        }
        changed
    }

    /// What differs from the defaults, as an `assay.toml` that reads back to the same settings.
    pub fn to_toml(&self) -> String {
        let mut lines = Vec::new();
        let mut open = "";
        for (name, value) in &self.changed() {
            if let Some((table, field)) = name.split_once('.') {
                if open != table {
                    open = table;
                    heading(&mut lines, format!("[{table}]"));
                }
                lines.push(format!("{field} = {}", inline(value)));
            } else {
                for item in value.as_array().into_iter().flatten() {
                    heading(&mut lines, format!("[[{name}]]"));
                    let fields = item.as_object().into_iter().flatten().filter(|(_, value)| !is_empty(value));
                    lines.extend(fields.map(|(field, value)| format!("{field} = {}", inline(value))));
                }
            }
        }
        lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }
}

fn json(settings: &Settings) -> Value {
    serde_json::to_value(settings).expect("plain data always serialises")
}

/// A table's first line, after an empty one.
fn heading(lines: &mut Vec<String>, heading: String) {
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines.push(heading);
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty)
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(entries) => {
            let kept = entries.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

/// A value on one line of TOML.
pub(crate) fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Object(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(name, value)| format!("{} = {}", bare_or_quoted(name), inline(value)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string(),
    }
}

pub(crate) fn bare_or_quoted(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if bare { name.to_owned() } else { quoted(name) }
}

/// Text on one line, whatever is in it. JSON's escapes are TOML's, but for one character.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}
