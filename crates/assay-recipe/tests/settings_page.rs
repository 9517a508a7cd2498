//! The documentation of settings, hooks and tests against what is read: the page of keys has each as it is, and the guide's
//! examples are accepted.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use assay_recipe::{
    customise::{Customisation, HookName, OperationName, Options, Placement},
    settings::{LoadedSettings, docs::docs_table},
};

#[test]
fn the_page_lists_every_key_as_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let page = fs::read_to_string(root.join("docs/reference/recipe-settings.md")).unwrap();
    let (_, tables) = page.split_once("\n## ").expect("tables");
    assert_eq!(format!("## {tables}"), docs_table(), "put these tables into the page:\n{}", docs_table());
}

/// The blocks of a page in some language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let open = format!("\n```{language}\n");
    page.split(&open).skip(1).filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect()
}

#[test]
fn what_the_guide_shows_is_what_is_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let page = fs::read_to_string(root.join("docs/guide/recipe-tests.md")).unwrap();
    let settings = blocks(&page, "toml");
    assert!(settings.len() >= 3, "{settings:?}");
    for text in settings {
        assert_eq!(LoadedSettings::read(&text).unwrap().warnings, []);
    }
    let scripts: Vec<String> = ["sh", "python"].iter().flat_map(|language| blocks(&page, language)).collect();
    assert_eq!(scripts.len(), 3);
    for script in scripts {
        let folder = tempfile::tempdir().unwrap();
        let test = folder.path().join("test_install");
        fs::write(&test, script).unwrap();
        fs::set_permissions(&test, fs::Permissions::from_mode(0o755)).unwrap();
        let found = Customisation::discover(folder.path(), Options::default()).unwrap();
        assert_eq!(found.tests_at(Placement::After(OperationName::Install)).len(), 1);
    }
    for name in HookName::ALL {
        assert!(page.contains(&format!("`{}`", name.name())), "the guide says nothing of `{}`", name.name());
    }
}
