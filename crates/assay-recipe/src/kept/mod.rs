//! A recipe as a run has read it, in one file: so that the run can be done again where none of its folders is.
//!
//! The file is a tar that depends on nothing but what was read: entries in order, without times and owners.
//!
//! | entry | what it is |
//! |---|---|
//! | `kept.json` | a [`Manifest`]: what is in here, and what was read and is not |
//! | `recipe/history.bundle` | of a checkout: the commit and all tags, with everything that leads to them, as Git bundles it |
//! | `recipe/files/…` | what differs from that commit; of a folder without history all its files |
//! | `tests/…` | the folder with tests, hooks and settings as it was |
//! | `recipes/<name>/history.bundle` | a recipe that it depends on, with its tags |
//!
//! What Git ignores never goes in, and neither does a file named `.env` that is not committed: an operator's secrets are in such
//! files. Where the run has read them, the manifest names them.

mod list;
mod pack;
mod unpack;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::versions::VersionsError;

pub use pack::{Packed, Parts, pack};
pub use unpack::{UnpackError, Unpacked, unpack};

/// What the file is called among a run's.
pub const FILE: &str = "recipe.tar";
/// The most that it may have, in bytes.
pub const MOST: u64 = 32 << 20;
/// The most files in it.
const FILES: usize = 20_000;
/// How many files are named that are not in it.
const NAMED: usize = 50;

/// The form that is written and read here.
const FORMAT: u32 = 1;
const MANIFEST: &str = "kept.json";
const RECIPE: &str = "recipe";
const TESTS: &str = "tests";
const RECIPES: &str = "recipes";
const HISTORY: &str = "history.bundle";
const CHANGED: &str = "files";

/// What is in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of the file.
    format: u32,
    /// The recipe's name.
    name: String,
    /// Its history; none for a folder without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    history: Option<History>,
    /// Where its tests were; none where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tests: Option<TestsAt>,
    /// The recipes that it depends on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    recipes: Vec<Other>,
    /// What was read and is not in here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<LeftOut>,
}

/// Where a run's tests come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestsAt {
    /// The folder `tests` of the recipe's own.
    Recipe,
    /// Another folder.
    Apart,
}

/// A recipe's commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct History {
    /// In full.
    commit: String,
    /// Commits whose parents are not there: those of a checkout that was cut short.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shallow: Vec<String>,
    /// Files of the commit that were gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gone: Vec<String>,
}

/// Another recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Other {
    name: String,
    history: History,
}

/// Files that were read and are not in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Where they are, below the recipe's folder or that of its tests.
    pub path: String,
    /// Why not, as the rest of a sentence about it.
    pub why: String,
}

/// The recipe is not put into a file.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// It is more than is put away with every run.
    #[error("{what} {amount}, and at most {most} are kept with a run", most = most(*.of_files))]
    TooMuch {
        /// What is, in words.
        what: String,
        /// How much of it there is, with the verb.
        amount: String,
        /// Whether files are counted, and not bytes.
        of_files: bool,
    },
    /// Something of it cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `git` has no answer.
    #[error(transparent)]
    Git(#[from] VersionsError),
}

fn most(of_files: bool) -> String {
    if of_files { format!("{FILES} files") } else { format!("{} MiB", MOST >> 20) }
}
