//! Settings of package_check's `tests.toml`, by which YunoHost's packages say how they are tested.
//!
//! The two systems test different things: a package has installer's questions and shell code where a recipe has variables
//! and hooks. What means the same is carried over, the rest is listed.

use serde_json::{Value, json};

use super::{Draft, ImportError, Imported};

const FILE: &str = "tests.toml";
/// The tests that a package can leave out, and the rung that they stand for here.
const EXCLUDED: &[(&str, &str)] =
    &[("package_linter", "lint"), ("upgrade", "upgrade"), ("backup_restore", "backup")];
/// Characters by which an expectation is a pattern and not a text.
const OF_PATTERNS: &[char] = &['.', '*', '+', '?', '[', ']', '(', ')', '{', '}', '^', '$', '|', '\\'];

/// Makes an `assay.toml` of a `tests.toml`, of its suite `default`. Other suites are listed.
///
/// # Errors
/// [`ImportError`] where it is no TOML, or of a format that is not known.
pub fn from_package_check(text: &str) -> Result<Imported, ImportError> {
    let mut draft = Draft::new(FILE, text)?;
    let refused = |why: String| ImportError { file: FILE, why };
    let table: toml::Table =
        toml::from_str(text).map_err(|error| refused(error.to_string().trim_end().to_owned()))?;
    let json = serde_json::to_value(&table).map_err(|error| refused(error.to_string()))?;
    match json["test_format"].as_f64() {
        Some(format) if (format - 1.0).abs() < f64::EPSILON => {}
        _ => return Err(refused("its `test_format` is not 1.0, and no other is known".to_owned())),
    }
    for (suite, value) in json.as_object().into_iter().flatten() {
        match suite.as_str() {
            "test_format" => {}
            "default" => default_suite(&mut draft, value),
            other => draft.leave(
                0,
                other,
                "only the suite `default` is carried over; a recipe has one suite",
                value,
            ),
        }
    }
    Ok(draft.finish())
}

fn default_suite(draft: &mut Draft, suite: &Value) {
    for (name, value) in suite.as_object().into_iter().flatten() {
        match name.as_str() {
            "exclude" => excluded(draft, value),
            "curl_tests" => curl_tests(draft, value),
            "preinstall" => draft.leave(0, name, "write it as the hook `hooks/pre_install`", value),
            "preupgrade" => draft.leave(0, name, "write it as the hook `hooks/pre_upgrade`", value),
            "args" => {
                let why =
                    "answers to an installer's questions; a recipe has variables: write them to `deploy.env`";
                draft.leave(0, name, why, value);
            }
            "test_upgrade_from" => {
                for (commit, value) in value.as_object().into_iter().flatten() {
                    let why = "it is a commit of the package; name the recipe's release in `upgrade.from`";
                    draft.leave(0, &format!("test_upgrade_from.{commit}"), why, value);
                }
            }
            "only" => {
                draft.leave(0, name, "stages are chosen for a run, not for a recipe: `--stages`", value);
            }
            other => draft.leave(0, other, "it is not known", value),
        }
    }
}

fn excluded(draft: &mut Draft, value: &Value) {
    let mut rungs = serde_json::Map::new();
    for test in value.as_array().into_iter().flatten() {
        match EXCLUDED.iter().find(|(known, _)| test == known) {
            Some((known, rung)) => {
                rungs.insert((*rung).to_owned(), json!(format!("`{known}` is excluded in {FILE}")));
            }
            None => {
                draft.leave(0, "exclude", "there is no such test here, so nothing is to be excluded", test);
            }
        }
    }
    if !rungs.is_empty() {
        draft.carry(0, "exclude", "expect.not_applicable", Value::Object(rungs));
    }
}

/// The first page that is asked for becomes `http`; further ones are listed.
fn curl_tests(draft: &mut Draft, value: &Value) {
    let tests: Vec<(&String, &Value)> = value.as_object().into_iter().flatten().collect();
    let home = tests.iter().position(|(id, _)| *id == "home").unwrap_or(0);
    for (index, (id, test)) in tests.into_iter().enumerate() {
        let name = format!("curl_tests.{id}");
        if index != home {
            draft.leave(
                0,
                &name,
                "one page is asked for by every run; write this as a test in `functional/`",
                test,
            );
            continue;
        }
        for (field, value) in test.as_object().into_iter().flatten() {
            let name = format!("{name}.{field}");
            match field.as_str() {
                "path" => draft.carry(0, &name, "http.path", value.clone()),
                "expect_return_code" => draft.carry(0, &name, "http.status", json!([value])),
                "expect_title" | "expect_content" => match value.as_str() {
                    Some(text) if !text.contains(OF_PATTERNS) => {
                        draft.carry(0, &name, "http.contains", value.clone());
                    }
                    _ => draft.leave(0, &name, "`http.contains` is a text, and this is a pattern", value),
                },
                _ => {
                    draft.leave(
                        0,
                        &name,
                        "it has no counterpart; write it as a test in `functional/`",
                        value,
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::LoadedSettings;

    #[test]
    fn settings_are_carried_over_and_the_rest_is_listed() {
        let text = r#"
test_format = 1.0

[default]
    exclude = ["change_url", "backup_restore"]
    preinstall = """
sudo ynh user create alice
sudo ynh user permission add
"""
    args.language = "en"

    [default.curl_tests]
    home.path = "/"
    home.expect_title = "Log in"
    home.expect_return_code = 200
    home.logged_on_sso = true
    admin.path = "/admin"
    admin.expect_content = "Welcome.*"

    [default.test_upgrade_from.abcdef0]
    name = "Upgrade from 1.2"

[some_additional_suite]
    only = ["install.subdir"]
"#;
        let imported = from_package_check(text).unwrap();
        insta::assert_snapshot!(imported.toml, @r#"
        # From tests.toml.
        # 7 things in it were not carried over; see the end.

        [http]
        path = "/"
        status = [200]
        contains = "Log in"

        [expect]
        not_applicable = { backup = "`backup_restore` is excluded in tests.toml" }

        # Not carried over: args: answers to an installer's questions; a recipe has variables: write them to `deploy.env`
        #     {"language":"en"}

        # Not carried over: curl_tests.admin: one page is asked for by every run; write this as a test in `functional/`
        #     {"expect_content":"Welcome.*","path":"/admin"}

        # Not carried over: curl_tests.home.logged_on_sso: it has no counterpart; write it as a test in `functional/`
        #     true

        # Not carried over: exclude: there is no such test here, so nothing is to be excluded
        #     change_url

        # Not carried over: preinstall: write it as the hook `hooks/pre_install`
        #     sudo ynh user create alice
        #     sudo ynh user permission add

        # Not carried over: test_upgrade_from.abcdef0: it is a commit of the package; name the recipe's release in `upgrade.from`
        #     {"name":"Upgrade from 1.2"}

        # Not carried over: some_additional_suite: only the suite `default` is carried over; a recipe has one suite
        #     {"only":["install.subdir"]}
        "#);
        let read = LoadedSettings::read(&imported.toml).unwrap().settings;
        assert_eq!(read.http.contains.as_deref(), Some("Log in"));
        assert_eq!(imported.left.len(), 7);
    }

    #[test]
    fn what_is_no_tests_toml_is_refused() {
        insta::assert_snapshot!(from_package_check("[default]\n").unwrap_err(), @"tests.toml is not imported: its `test_format` is not 1.0, and no other is known");
        assert!(from_package_check("test_format = 2.0\n").is_err());
        assert!(from_package_check("= 1\n").unwrap_err().to_string().contains("line 1"));
    }
}
