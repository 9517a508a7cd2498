//! A queue per target: runs of pull requests wait while their target is under test, and one is active at a time.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0011_queue",
    statements: &[
        "DROP INDEX runs_one_live_per_host",
        "CREATE UNIQUE INDEX runs_one_active_per_target ON runs (target_id)
            WHERE state NOT IN ('Queued', 'Completed', 'Released', 'Cancelled', 'Superseded')",
        // What ended lately counts for fair shares.
        "CREATE INDEX runs_completed ON runs (completed_at)",
    ],
};
