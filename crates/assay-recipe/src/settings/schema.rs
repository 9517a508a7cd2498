//! The JSON Schema of `assay.toml`, made from the list of keys: for editors that complete and check TOML.
//!
//! It says what one key may have. What keys have to do with each other, the loader alone says.

use serde_json::{Map, Value, json};

use super::registry::{Form, KEYS, Key, Kind, Status};

/// The schema of the file.
pub fn settings_schema() -> Value {
    let mut tables = Map::new();
    let mut names: Vec<(&str, bool)> = KEYS.iter().map(|key| (key.table(), key.is_of_list())).collect();
    names.dedup();
    for (table, is_list) in names {
        let keys: Vec<&Key> = KEYS.iter().filter(|key| key.table() == table).collect();
        let fields = self::table(&keys);
        let schema = if is_list { json!({ "type": "array", "items": fields }) } else { fields };
        tables.insert(table.to_owned(), schema);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Assay recipe settings",
        "description": "tests/assay.toml: how a recipe's tests are run.",
        "type": "object",
        "properties": tables,
        "additionalProperties": false,
    })
}

fn table(keys: &[&Key]) -> Value {
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.field().to_owned(), property(key))).collect();
    let required: Vec<&str> =
        keys.iter().filter(|key| key.status == Status::Required).map(|key| key.field()).collect();
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = of_kind(key.kind);
    schema["description"] = json!(format!("{}.", key.doc));
    if let Some(default) = default(key) {
        schema["default"] = default;
    }
    if let Status::Replaced { since, by } = key.status {
        schema["deprecated"] = json!(true);
        schema["description"] = json!(format!("Called `{by}` since {since}."));
    }
    schema
}

fn of_kind(kind: Kind) -> Value {
    let whole = |least: u32, most: u32| json!({ "type": "integer", "minimum": least, "maximum": most });
    match kind {
        Kind::Time(least, most) => json!({ "oneOf": [
            { "type": "string", "pattern": "^ *([0-9]+h)? *([0-9]+m)? *([0-9]+s)? *$", "minLength": 2 },
            { "type": "integer", "minimum": least, "maximum": most },
        ] }),
        Kind::Whole(least, most) => whole(least, most),
        Kind::Switch => json!({ "type": "boolean" }),
        Kind::Text(form) => text(form),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::Wholes(least, most) => {
            json!({ "type": "array", "items": whole(least, most), "minItems": 1, "uniqueItems": true })
        }
        Kind::Texts(form) => json!({ "type": "array", "items": text(form), "uniqueItems": true }),
        Kind::TextTable(name, form) => {
            json!({ "type": "object", "propertyNames": text(name), "additionalProperties": text(form) })
        }
        Kind::WholeTable(name, least, most) => {
            json!({ "type": "object", "propertyNames": text(name), "additionalProperties": whole(least, most) })
        }
        Kind::ChoiceTable(words, form) => {
            json!({ "type": "object", "propertyNames": { "enum": words }, "additionalProperties": text(form) })
        }
    }
}

fn text(form: Form) -> Value {
    match form.pattern() {
        Some(pattern) => json!({ "type": "string", "pattern": pattern }),
        None => json!({ "type": "string" }),
    }
}

/// The default as JSON; `None` where nothing counts without the key.
pub(crate) fn default(key: &Key) -> Option<Value> {
    if key.default.is_empty() {
        return None;
    }
    let table: toml::Table =
        toml::from_str(&format!("value = {}", key.default)).expect("a test reads every default");
    serde_json::to_value(&table["value"]).ok()
}
