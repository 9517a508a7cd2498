//! Not only hosts are tested: what a run is about is its target.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0008_targets",
    // The indexes go with the column, on SQLite and PostgreSQL alike.
    statements: &["ALTER TABLE runs RENAME COLUMN host TO target_id"],
};
