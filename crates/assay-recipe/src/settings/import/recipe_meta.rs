//! Settings of `recipe_meta.py`, the file by which recipes customised the system that this pipeline descends from.
//!
//! Names are taken as they are documented for that system, with spellings that were in use beside them. Code in it becomes
//! hooks by hand: each function is listed with the hook that takes its place.

use serde_json::{Map, Value, json};

use super::{
    Draft, ImportError, Imported,
    python::{Statement, statements},
    refusal, text_of,
};
use crate::settings::{Rung, nearest};

const FILE: &str = "recipe_meta.py";

/// How a value gets to its place.
#[derive(Clone, Copy)]
enum Way {
    /// As it is.
    Same,
    /// Seconds to a time.
    Seconds,
    /// One or several to a list.
    List,
    /// A table; numbers in it become texts.
    Texts,
    /// Rungs, with or without reasons.
    Rungs,
}

const NAMES: &[(&str, &str, Way)] = &[
    ("DEPLOY_TIMEOUT", "deploy.timeout", Way::Seconds),
    ("HTTP_TIMEOUT", "http.timeout", Way::Seconds),
    ("HEALTH_PATH", "http.path", Way::Same),
    ("HEALTH_OK", "http.status", Way::List),
    ("HEALTH_STATUS", "http.status", Way::List),
    ("HEALTH_CODES", "http.status", Way::List),
    ("UPGRADE_BASE_VERSION", "upgrade.from", Way::List),
    ("EXTRA_ENV", "deploy.env", Way::Texts),
    ("INSTALL_EXTRA_ENV", "deploy.env", Way::Texts),
    ("UPGRADE_EXTRA_ENV", "deploy.upgrade_env", Way::Texts),
    ("UPGRADE_ENV", "deploy.upgrade_env", Way::Texts),
    ("BACKUP_CAPABLE", "backup.capable", Way::Same),
    ("BACKUP_RECAPTURES", "backup.recaptures", Way::Same),
    ("EXPECTED_NA", "expect.not_applicable", Way::Rungs),
    ("NOT_APPLICABLE", "expect.not_applicable", Way::Rungs),
    ("SCREENSHOT_PATH", "screenshot.path", Way::Same),
];

/// Code, or a value that only code uses, and what takes its place.
const CODE: &[(&str, &str)] = &[
    ("READY_PROBE", "write it as the hook `hooks/ready`"),
    ("BACKUP_VERIFY", "write it as the hook `hooks/backup_verify`, and set `backup.recaptures`"),
    ("SCREENSHOT", "write it as the hook `hooks/screenshot`, or set `screenshot.path`"),
    ("INSTALL_STEPS", "write it as the hook `hooks/install_steps`"),
    ("PRE_INSTALL", "write it as the hook `hooks/pre_install`"),
    ("PRE_UPGRADE", "write it as the hook `hooks/pre_upgrade`"),
    ("PRE_BACKUP", "write it as the hook `hooks/pre_backup`"),
    ("PRE_RESTORE", "write it as the hook `hooks/pre_restore`"),
    ("WARM_CANONICAL", "data is not kept between runs; remove it"),
    ("CANONICAL", "data is not kept between runs; remove it"),
];

/// Makes an `assay.toml` of a `recipe_meta.py`. Values that are no literals are listed.
///
/// # Errors
/// [`ImportError`] where the file is too long.
pub fn from_recipe_meta(text: &str) -> Result<Imported, ImportError> {
    let mut draft = Draft::new(FILE, text)?;
    for statement in statements(text) {
        match statement {
            Statement::Assignment { line, name, value } => assignment(&mut draft, line, &name, &value),
            Statement::Other { line, name, text } => {
                let why = code(&name).unwrap_or(match text.split_whitespace().next() {
                    Some("import" | "from") => "nothing is imported; remove it",
                    _ => "it is code; write it as a hook, or its value as a literal",
                });
                draft.leave_text(line, &name, why, &text);
            }
        }
    }
    Ok(draft.finish())
}

/// What takes the place of a name that stands for code. Functions had the names in small letters.
fn code(name: &str) -> Option<&'static str> {
    let name = name.to_uppercase();
    CODE.iter().find(|(known, _)| *known == name).map(|(_, why)| *why)
}

fn assignment(draft: &mut Draft, line: u32, name: &str, value: &Value) {
    if let Some((_, key, way)) = NAMES.iter().find(|(known, ..)| *known == name) {
        // `None` is what counts without it.
        if value.is_null() {
            return draft.leave(line, name, "`None` is the default here, too; nothing to write", value);
        }
        return match way {
            Way::Rungs => rungs(draft, line, name, key, value),
            Way::Texts => texts(draft, line, name, key, value),
            Way::Same | Way::Seconds | Way::List => match converted(*way, value) {
                Ok(value) => draft.carry(line, name, key, value),
                Err(why) => draft.leave(line, name, why, value),
            },
        };
    }
    if name == "DEPS" || name == "DEPENDENCIES" {
        return dependencies(draft, line, name, value);
    }
    if let Some(why) = code(name) {
        return draft.leave(line, name, why, value);
    }
    if name.starts_with('_') {
        return draft.leave(line, name, "names that begin with `_` were the recipe's own", value);
    }
    let known: Vec<&str> = NAMES.iter().map(|(known, ..)| *known).collect();
    let hint = nearest(name, &known).map(|near| format!("; `{near}` is")).unwrap_or_default();
    draft.leave(line, name, &format!("it is not known{hint}"), value);
}

fn converted(way: Way, value: &Value) -> Result<Value, &'static str> {
    match (way, value) {
        (Way::Same, _) | (Way::List, Value::Array(_)) => Ok(value.clone()),
        (Way::Seconds, Value::Number(number)) => match number.as_u64() {
            Some(seconds) => {
                Ok(json!(crate::settings::duration::format(std::time::Duration::from_secs(seconds))))
            }
            None => Err("it is no whole number of seconds"),
        },
        (Way::List, Value::Number(_) | Value::String(_)) => Ok(json!([value])),
        _ => Err("its type is not the one that was documented"),
    }
}

/// Each text on its own: one that does not fit keeps none of the others.
fn texts(draft: &mut Draft, line: u32, name: &str, key: &'static str, value: &Value) {
    let Value::Object(entries) = value else {
        return draft.leave(line, name, "its type is not the one that was documented", value);
    };
    let mut fitting = Map::new();
    for (entry, value) in entries {
        let text = match value {
            Value::String(text) => Ok(json!(text)),
            Value::Number(number) => Ok(json!(number.to_string())),
            // Whether `True` became `True`, `true` or `1` was up to the code that used it.
            _ => Err("it is neither a text nor a number; write it as the text that the app reads".to_owned()),
        };
        let fits = text.and_then(|text| {
            refusal(&text_of(&[(key, json!({ entry: text.clone() }))], &[])).map_or(Ok(text), Err)
        });
        match fits {
            Ok(text) => {
                fitting.insert(entry.clone(), text);
            }
            Err(why) => draft.leave(line, &format!("{name}: {entry}"), &why, value),
        }
    }
    if !fitting.is_empty() {
        draft.carry(line, name, key, Value::Object(fitting));
    }
}

/// Each rung on its own: one that there is not here keeps none of the others.
fn rungs(draft: &mut Draft, line: u32, name: &str, key: &'static str, value: &Value) {
    let given: Vec<(String, Value)> = match value {
        Value::Object(entries) => entries.iter().map(|(rung, why)| (rung.clone(), why.clone())).collect(),
        Value::Array(items) => {
            let text = |item: &Value| item.as_str().map_or_else(|| item.to_string(), str::to_owned);
            let reason = json!(format!("declared in {FILE}, without a reason"));
            items.iter().map(|item| (text(item), reason.clone())).collect()
        }
        _ => return draft.leave(line, name, "its type is not the one that was documented", value),
    };
    let mut known = Map::new();
    for (given, why) in given {
        let here = rung(&given);
        if Rung::ALL.iter().any(|rung| rung.name() == here) {
            known.insert(here, why);
        } else {
            draft.leave(line, &format!("{name}: {given}"), "there is no such rung here", &why);
        }
    }
    if !known.is_empty() {
        draft.carry(line, name, key, Value::Object(known));
    }
}

/// Rungs and tiers had other names there.
fn rung(name: &str) -> String {
    match name {
        "backup_restore" | "backup/restore" | "restore" => "backup".to_owned(),
        "custom" => "functional".to_owned(),
        other => other.to_owned(),
    }
}

fn dependencies(draft: &mut Draft, line: u32, name: &str, value: &Value) {
    let names: Vec<&str> = match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        Value::String(one) => vec![one],
        _ => Vec::new(),
    };
    let expected = value.as_array().map_or(1, Vec::len);
    if names.len() != expected {
        return draft.leave(line, name, "it is no list of recipes; write each as `[[dependencies]]`", value);
    }
    for recipe in names {
        draft.carry_item(line, name, "dependencies", json!({ "name": recipe, "recipe": recipe }));
        let why = format!(
            "which variables take its credentials was code; write them as `env` and `secrets` of the dependency `{recipe}`"
        );
        draft.leave_text(line, &format!("credentials of {recipe}"), &why, "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::LoadedSettings;

    #[test]
    fn settings_are_carried_over_and_the_rest_is_listed() {
        let text = r#""""Ghost."""
import os

DEPLOY_TIMEOUT = 1200
HTTP_TIMEOUT = 90
HEALTH_PATH = "/ghost/api"
HEALTH_OK = (200, 301)
UPGRADE_BASE_VERSION = "1.0.0+5.2"
EXTRA_ENV = {"MAIL_PORT": 25, "NAME": "it's \"quoted\""}
UPGRADE_EXTRA_ENV = {"DEBUG": True, "DOMAIN": "ghost.example", "LEVEL": 2}
BACKUP_CAPABLE = None
EXPECTED_NA = {"backup_restore": "stateless", "browser": "none"}
DEPS = ["keycloak"]
HEALHT_PATH = "/x"
_PRIVATE = 3
SMTP = os.environ["SMTP"]

def READY_PROBE(ctx):
    return ctx.get("/ready") == 200

BACKUP_VERIFY = lambda ctx: True
"#;
        let imported = from_recipe_meta(text).unwrap();
        insta::assert_snapshot!(imported.toml, @r#"
        # From recipe_meta.py.
        # 11 things in it were not carried over; see the end.

        [deploy]
        timeout = "20m"
        env = { MAIL_PORT = "25", NAME = "it's \"quoted\"" }
        upgrade_env = { LEVEL = "2" }

        [http]
        path = "/ghost/api"
        status = [200, 301]
        timeout = "1m 30s"

        [upgrade]
        from = ["1.0.0+5.2"]

        [expect]
        not_applicable = { backup = "stateless" }

        [[dependencies]]
        name = "keycloak"
        recipe = "keycloak"

        # Not carried over: line 2: import: nothing is imported; remove it
        #     import os

        # Not carried over: line 10: UPGRADE_EXTRA_ENV: DEBUG: it is neither a text nor a number; write it as the text that the app reads
        #     true

        # Not carried over: line 10: UPGRADE_EXTRA_ENV: DOMAIN: each run sets `DOMAIN` for itself; remove it
        #     ghost.example

        # Not carried over: line 11: BACKUP_CAPABLE: `None` is the default here, too; nothing to write
        #     null

        # Not carried over: line 12: EXPECTED_NA: browser: there is no such rung here
        #     none

        # Not carried over: line 13: credentials of keycloak: which variables take its credentials was code; write them as `env` and `secrets` of the dependency `keycloak`

        # Not carried over: line 14: HEALHT_PATH: it is not known; `HEALTH_PATH` is
        #     /x

        # Not carried over: line 15: _PRIVATE: names that begin with `_` were the recipe's own
        #     3

        # Not carried over: line 16: SMTP: it is code; write it as a hook, or its value as a literal
        #     SMTP = os.environ["SMTP"]

        # Not carried over: line 18: READY_PROBE: write it as the hook `hooks/ready`
        #     def READY_PROBE(ctx):
        #         return ctx.get("/ready") == 200

        # Not carried over: line 21: BACKUP_VERIFY: write it as the hook `hooks/backup_verify`, and set `backup.recaptures`
        #     BACKUP_VERIFY = lambda ctx: True
        "#);
        assert_eq!(imported.left.len(), 11);
        let read = LoadedSettings::read(&imported.toml).unwrap().settings;
        assert_eq!(read.deploy.timeout, std::time::Duration::from_mins(20));
        assert_eq!(read.deploy.env["NAME"], "it's \"quoted\"");
        assert_eq!(read.dependencies[0].recipe.as_deref(), Some("keycloak"));
    }

    #[test]
    fn what_does_not_fit_together_is_said() {
        let imported = from_recipe_meta(
            "BACKUP_CAPABLE = True\nEXPECTED_NA = [\"backup\"]\nHEALTH_OK = 200\nHEALTH_STATUS = 204\n",
        )
        .unwrap();
        insta::assert_snapshot!(imported.toml, @r#"
        # From recipe_meta.py.
        # 2 things in it were not carried over; see the end.

        [http]
        status = [200]

        [backup]
        capable = true

        [expect]
        not_applicable = { backup = "declared in recipe_meta.py, without a reason" }

        # Not carried over: line 4: HEALTH_STATUS: `http.status` was carried over from something else
        #     [204]

        # Not carried over: the whole: what was carried over does not fit together: `backup.capable` says that it can be backed up; remove this or that
        "#);
    }
}
