//! The list of keys against the structs: neither knows a key that the other does not, and both have the same defaults.

use std::collections::BTreeSet;

use schemars::schema_for;
use serde_json::{Value, json};

use super::*;
use crate::settings::{
    Database, DatabaseKind, Dependency, DependencyKind, Provider, Settings,
    schema::{default, settings_schema},
};

/// The fields of a struct by its schema, with whether each may be null.
fn fields<'v>(root: &'v Value, schema: &'v Value) -> Vec<(&'v str, &'v Value)> {
    let schema = resolve(root, schema);
    schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, field)| (name.as_str(), field))
        .collect()
}

fn resolve<'v>(root: &'v Value, schema: &'v Value) -> &'v Value {
    match schema["$ref"].as_str() {
        Some(place) => root.pointer(place.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

#[test]
fn the_list_of_keys_and_the_structs_agree() {
    let root = schema_for!(Settings).to_value();
    let mut of_structs = BTreeSet::new();
    for (table, schema) in fields(&root, &root) {
        let (schema, between) =
            if schema["type"] == "array" { (&schema["items"], "[].") } else { (schema, ".") };
        for (field, _) in fields(&root, schema) {
            of_structs.insert(format!("{table}{between}{field}"));
        }
    }
    let of_list: BTreeSet<String> = (KEYS.iter())
        .filter(|key| !matches!(key.status, Status::Replaced { .. }))
        .map(|key| key.name.to_owned())
        .collect();
    assert_eq!(of_list, of_structs);
    assert_eq!(of_list.len(), KEYS.len(), "no key is there twice");
}

#[test]
fn the_list_of_keys_and_the_structs_have_the_same_defaults() {
    let settings = serde_json::to_value(Settings::default()).unwrap();
    let dependency: Dependency = serde_json::from_value(json!({ "name": "x" })).unwrap();
    let database: Database = serde_json::from_value(json!({ "kind": "sqlite", "service": "x" })).unwrap();
    assert_eq!((dependency.kind, database.kind), (DependencyKind::Cold, DatabaseKind::Sqlite));
    let (dependency, database) =
        (serde_json::to_value(dependency).unwrap(), serde_json::to_value(database).unwrap());
    for key in KEYS.iter().filter(|key| key.status == Status::Current) {
        let value = match key.table() {
            "dependencies" => &dependency[key.field()],
            "databases" => &database[key.field()],
            table => &settings[table][key.field()],
        };
        let mut wanted = default(key).unwrap_or(Value::Null);
        if let (Kind::Time(..), Some(text)) = (key.kind, wanted.as_str()) {
            let time = crate::settings::duration::parse(text).unwrap();
            wanted = json!(crate::settings::duration::format(time));
        }
        assert_eq!(*value, wanted, "{}", key.name);
    }
}

#[test]
fn the_list_of_keys_and_the_structs_have_the_same_types() {
    // Whatever the list lets through is read by the structs: the least and the most of each kind.
    let of_form = |form: Form| match form {
        Form::Any => "",
        Form::Filled | Form::Name => "x",
        Form::UrlPath | Form::ContainerPath => "/x",
        Form::Variable => "X",
        Form::Release => "1.2.3+4",
    };
    for key in KEYS {
        let values: Vec<Value> = match key.kind {
            Kind::Time(least, most) => [least, most]
                .map(|seconds| {
                    json!(crate::settings::duration::format(std::time::Duration::from_secs(seconds)))
                })
                .to_vec(),
            Kind::Whole(least, most) => vec![json!(least), json!(most)],
            Kind::Switch => vec![json!(true), json!(false)],
            Kind::Text(form) => vec![json!(of_form(form))],
            Kind::Choice(words) => words.iter().map(|word| json!(word)).collect(),
            Kind::Wholes(least, most) => vec![json!([least, most])],
            Kind::Texts(form) => vec![json!([of_form(form)])],
            Kind::TextTable(name, form) => vec![json!({ (of_form(name)): of_form(form) })],
            Kind::WholeTable(name, _, most) => vec![json!({ (of_form(name)): most })],
            Kind::ChoiceTable(words, form) => {
                words.iter().map(|word| json!({ (*word): of_form(form) })).collect()
            }
        };
        for value in values {
            let whole = if key.is_of_list() {
                let mut item = if key.table() == "databases" {
                    json!({ "kind": "postgres", "service": "db" })
                } else {
                    json!({ "name": "x" })
                };
                item[key.field()] = value.clone();
                json!({ (key.table()): [item] })
            } else {
                json!({ (key.table()): { (key.field()): value.clone() } })
            };
            serde_json::from_value::<Settings>(whole)
                .unwrap_or_else(|error| panic!("{} = {value}: {error}", key.name));
        }
    }
    // And the other way round: every word that an enum knows is in the list.
    let words = |name: &str| match KEYS.iter().find(|key| key.name == name).unwrap().kind {
        Kind::Choice(words) | Kind::ChoiceTable(words, _) => {
            words.iter().map(|word| json!(word)).collect::<Vec<_>>()
        }
        other => panic!("{name} is {other:?}"),
    };
    let kinds = [DatabaseKind::Postgres, DatabaseKind::Mariadb, DatabaseKind::Sqlite];
    assert_eq!(words("databases[].kind"), kinds.map(|kind| json!(kind)));
    assert_eq!(
        words("dependencies[].kind"),
        [DependencyKind::Cold, DependencyKind::Warm].map(|kind| json!(kind))
    );
    assert_eq!(words("dependencies[].provider"), [json!(Provider::Oidc)]);
    assert_eq!(words("expect.not_applicable"), Rung::ALL.map(|rung| json!(rung)));
}

#[test]
fn a_replaced_key_is_replaced_by_one_that_there_is() {
    for key in KEYS {
        if let Status::Replaced { by, .. } = key.status {
            let new = KEYS.iter().find(|other| other.name == by).unwrap_or_else(|| panic!("{by}"));
            assert_eq!((new.table(), new.status), (key.table(), Status::Current), "{}", key.name);
        }
        assert!(
            !key.doc.ends_with('.') && key.doc.len() > 10,
            "{}: a sentence without its full stop",
            key.name
        );
    }
    assert_eq!(settings_schema()["properties"]["http"]["properties"]["timeout"]["default"], "60s");
}
