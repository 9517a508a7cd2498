//! How a recipe changes its own tests: settings, hooks, tests and a compose overlay, found by their names in one folder.
//!
//! ```text
//! tests/assay.toml            settings
//! tests/compose.assay.yml     overlay for the deployment under test
//! tests/hooks/NAME[.EXT]      called at fixed points
//! tests/test_OPERATION[.EXT]  looks at the app after an operation, on top of the generic checks
//! tests/functional/*          the recipe's own tests
//! tests/browser/*             those that drive a browser
//! tests/extra/*               those that run only when asked for
//! ```
//!
//! [`Customisation::discover`] is the only reader of that folder: the run uses what it returns, and the manifest that every
//! report embeds is made from the same value, so neither can disagree with the other. Nothing is looked for any deeper. What
//! is found and not used is named with the reason. Nothing here runs anything.

pub mod context;
mod discover;
pub mod hooks;
pub mod manifest;
pub mod redact;
mod shell;

use std::path::PathBuf;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use context::{Context, ContextError, Operation, OperationName, OperationState, Paths, RecipeIdentity};
pub use discover::{Changed, CustomiseError};
pub use hooks::HookName;
pub use manifest::Manifest;
pub use redact::Redactor;

use crate::settings::LoadedSettings;

/// The folder in a recipe.
pub const FOLDER: &str = "tests";
/// The compose overlay in it.
pub const OVERLAY: &str = "compose.assay.yml";

/// How the folder is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Tests in `extra/` run, too.
    pub extra: bool,
    /// The generic checks do not run: on a developer's machine alone, and never without a warning.
    pub skip_generic: bool,
    /// The folder was named by somebody, so it has to be there. A recipe without a folder of tests is fine.
    pub required: bool,
}

/// What a recipe's folder of tests comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Customisation {
    /// The folder, with links resolved; `None` where there is none.
    pub folder: Option<PathBuf>,
    /// How it was looked at.
    pub options: Options,
    /// The settings; defaults where there is no file.
    pub settings: LoadedSettings,
    /// The hooks that there are.
    pub hooks: IndexMap<HookName, Executable>,
    /// Tests by placement, each in the order of their names; placements without one are left out.
    pub tests: IndexMap<Placement, Vec<Executable>>,
    /// The compose overlay.
    pub overlay: Option<Overlay>,
    /// What is there and is not used.
    pub ignored: Vec<Ignored>,
}

/// A hook or test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    /// Its path from the folder of tests: `functional/login.sh`.
    pub name: String,
    /// Its path, with links resolved.
    pub path: PathBuf,
    /// What it is run by: its first line, after `#!`.
    pub interpreter: String,
    /// The form of the context that it was written for.
    pub format: u32,
    /// SHA-256 of what it was when it was found, in hex.
    pub sha256: String,
}

/// The compose overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Its path, with links resolved.
    pub path: PathBuf,
    /// Its text as it was when it was found; this is what is copied, not the file.
    pub text: String,
    /// SHA-256 of it, in hex.
    pub sha256: String,
}

/// Something in the folder that is not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ignored {
    /// Its path from the folder of tests.
    pub name: String,
    /// Why, and what to do if it was meant to be used.
    pub why: String,
}

/// Where a test stands, which says when it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Placement {
    /// `test_OPERATION`: right after the operation.
    After(OperationName),
    /// `functional/`.
    Functional,
    /// `browser/`.
    Browser,
    /// `extra/`: only when asked for.
    Extra,
}

impl Placement {
    /// Every placement, in the order of a run.
    pub const ALL: [Self; 7] = [
        Self::After(OperationName::Install),
        Self::After(OperationName::Upgrade),
        Self::After(OperationName::Backup),
        Self::After(OperationName::Restore),
        Self::Functional,
        Self::Browser,
        Self::Extra,
    ];

    /// As files and folders are called: `test_install`, `functional`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::After(OperationName::Install) => "test_install",
            Self::After(OperationName::Upgrade) => "test_upgrade",
            Self::After(OperationName::Backup) => "test_backup",
            Self::After(OperationName::Restore) => "test_restore",
            Self::Functional => "functional",
            Self::Browser => "browser",
            Self::Extra => "extra",
        }
    }
}

impl Customisation {
    /// Tests that a run executes at a placement: those of `extra/` only when they were asked for.
    pub fn tests_at(&self, placement: Placement) -> &[Executable] {
        if placement == Placement::Extra && !self.options.extra {
            return &[];
        }
        self.tests.get(&placement).map_or(&[], Vec::as_slice)
    }

    /// A hook.
    pub fn hook(&self, name: HookName) -> Option<&Executable> {
        self.hooks.get(&name)
    }

    /// What its reader should hear before anything runs: of settings, and of switches that take checks away.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.settings.warnings.iter().map(ToString::to_string).collect();
        if self.options.skip_generic {
            warnings.insert(0, manifest::SKIP_GENERIC_WARNING.to_owned());
        }
        warnings
    }
}
