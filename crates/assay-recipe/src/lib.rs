//! Reads an app recipe as its author wrote it: Co-op Cloud's format, unmodified.
//!
//! [`Recipe::open`] reads a folder; [`Recipe::stack`] says what would be deployed with an app's settings, or everything that
//! is wrong with it; [`lint::lint`] says what will go wrong later; [`customise::Customisation`] says how its tests are its own
//! ([`settings`], hooks, tests, an overlay). Nothing here deploys anything, asks the network or runs a
//! recipe's code: `abra.sh` is read, and `git` alone is started, for tags and earlier files.
//!
//! A recipe comes from strangers. Files outside of its folder are not read, and what is too long, too deep or repeats itself
//! too often is refused.

pub mod abra_sh;
pub mod compose;
pub mod configs;
pub mod customise;
pub mod env;
pub mod interpolate;
pub mod kept;
pub mod labels;
pub mod lint;
pub mod names;
pub mod problem;
pub mod proposals;
pub mod readme;
mod recipe;
pub mod secrets;
pub mod settings;
pub mod versions;
pub mod yaml;

pub use problem::{Problem, Problems};
pub use recipe::{Recipe, RecipeError, Stack};
