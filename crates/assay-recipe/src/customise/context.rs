//! What hooks and tests are told: one JSON file, named by `$ASSAY_CONTEXT`, and nothing else.
//!
//! It is a contract with code that others wrote, so its form has a number, and a form that was published does not change:
//! fields may be added, none is renamed, removed or given another meaning. Arguments are not passed.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::settings::Settings;

/// The variable that names the file.
pub const VARIABLE: &str = "ASSAY_CONTEXT";

/// The number of the form described here.
pub const FORMAT: u32 = 1;

/// What a hook or a test is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Assay recipe context")]
pub struct Context {
    /// The number of this form: 1.
    pub format: u32,
    /// The recipe under test.
    pub recipe: RecipeIdentity,
    /// The app's domain.
    pub domain: String,
    /// Where the app answers, without a slash at the end: `https://app.test`. Null where it has no web face, or is not deployed yet.
    pub base_url: Option<String>,
    /// The stack's name: what the names of its services, volumes and secrets begin with.
    pub stack: String,
    /// The operation that this is about; null in `install_steps`, `ready`, `screenshot` and the recipe's own tests.
    pub op: Option<Operation>,
    /// The recipe's settings, all of them, with defaults filled in.
    pub meta: Settings,
    /// Credentials of its dependencies, by the dependency's name and the credential's.
    #[schemars(with = "std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>>")]
    pub deps: IndexMap<String, IndexMap<String, String>>,
    /// Files and folders.
    pub paths: Paths,
    /// The browser of tests in `browser/`; not there for anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<Browser>,
}

/// A browser that a test drives by WebDriver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Browser {
    /// The address of the WebDriver server, without a slash at the end: sessions are made at `…/session`. It has a word in it that
    /// nobody else is told.
    pub webdriver_url: String,
    /// What a session has to be asked for with: `capabilities.alwaysMatch`.
    pub capabilities: Value,
}

/// Which recipe it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecipeIdentity {
    /// Its name.
    pub name: String,
    /// The version that is deployed, such as `1.2.0+3.1`; null where it has none.
    pub version: Option<String>,
    /// The commit that is deployed, in full; null outside of a checkout.
    pub commit: Option<String>,
}

/// An operation, and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Operation {
    /// Which.
    pub name: OperationName,
    /// How far it is.
    pub state: OperationState,
    /// What the operation has to tell, such as the versions before and after an upgrade. Which ones there are depends on
    /// the operation; a fact that is not known yet is left out.
    #[serde(default)]
    pub facts: serde_json::Map<String, Value>,
}

/// Operations that change the app. Assay performs each once; hooks prepare, tests only look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationName {
    /// Deployed for the first time.
    Install,
    /// Deployed in place, from a release to the commit under test.
    Upgrade,
    /// Backed up.
    Backup,
    /// Restored.
    Restore,
}

impl OperationName {
    /// Every operation, in the order of a run.
    pub const ALL: [Self; 4] = [Self::Install, Self::Upgrade, Self::Backup, Self::Restore];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Upgrade => "upgrade",
            Self::Backup => "backup",
            Self::Restore => "restore",
        }
    }
}

/// How far an operation is. A failed one has no state here: nothing is called after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// About to be performed: hooks `pre_…` see this.
    Pending,
    /// Performed, and the app has converged where it should: `backup_verify` and `test_…` see this.
    Done,
}

/// Files and folders that a hook or test may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Paths {
    /// The working folder, which is also the current one: the recipe's checkout of this run for `install_steps`, a folder
    /// for notes and pictures that is kept between hooks and tests of a run for all others.
    pub work: PathBuf,
    /// The certificate of the authority that signed the app's certificate; null where `base_url` is not `https`.
    pub ca_file: Option<PathBuf>,
}

/// A context that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the context cannot be written to {}: {source}; a context is written once, into a folder that Assay owns", path.display())]
pub struct ContextError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl Context {
    /// As the file has it.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("plain data always serialises");
        format!("{text}\n")
    }

    /// Writes it to a new file that nobody but its owner reads (it has credentials) and nobody writes again. Its path is
    /// what [`VARIABLE`] is set to.
    ///
    /// # Errors
    /// [`ContextError`], also where something is there already, be it a link.
    pub fn write(&self, path: &Path) -> Result<(), ContextError> {
        let failed = |source| ContextError { path: path.to_owned(), source };
        // `create_new` follows no link.
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o400).open(path).map_err(failed)?;
        file.write_all(self.to_json().as_bytes()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn context() -> Context {
        let text = |text: &str| text.to_owned();
        Context {
            format: FORMAT,
            recipe: RecipeIdentity { name: text("ghost"), version: Some(text("1.2.0+5.1")), commit: None },
            domain: text("ghost.test"),
            base_url: Some(text("https://ghost.test")),
            stack: text("ghost_test"),
            op: Some(Operation {
                name: OperationName::Upgrade,
                state: OperationState::Pending,
                facts: serde_json::Map::from_iter([(text("from"), Value::from("1.1.0+5.0"))]),
            }),
            meta: Settings::default(),
            deps: IndexMap::from([(text("sso"), IndexMap::from([(text("client_id"), text("app"))]))]),
            paths: Paths {
                work: PathBuf::from("/tests/notes"),
                ca_file: Some(PathBuf::from("/tests/ca.pem")),
            },
            browser: None,
        }
    }

    /// Others' code reads this. A change that is no addition needs another number.
    #[test]
    fn the_form_is_frozen() {
        let context = context();
        let mut json: Value = serde_json::from_str(&context.to_json()).unwrap();
        assert_eq!(serde_json::from_value::<Context>(json.clone()).unwrap(), context);
        // The settings have their own test.
        json["meta"] = Value::from("…");
        insta::assert_snapshot!(format!("{json:#}"), @r#"
        {
          "format": 1,
          "recipe": {
            "name": "ghost",
            "version": "1.2.0+5.1",
            "commit": null
          },
          "domain": "ghost.test",
          "base_url": "https://ghost.test",
          "stack": "ghost_test",
          "op": {
            "name": "upgrade",
            "state": "pending",
            "facts": {
              "from": "1.1.0+5.0"
            }
          },
          "meta": "…",
          "deps": {
            "sso": {
              "client_id": "app"
            }
          },
          "paths": {
            "work": "/tests/notes",
            "ca_file": "/tests/ca.pem"
          }
        }
        "#);
    }

    #[test]
    fn it_is_written_once_for_its_owner_and_through_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("context.json");
        context().write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o400);
        assert!(context().write(&path).unwrap_err().to_string().contains("a context is written once"));
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        context().write(&link).unwrap_err();
        assert!(!target.exists());
    }
}
