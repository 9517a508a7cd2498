//! Where long stages stand, runs that are kept whatever retention says, and the control plane that works on the database.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0007_stages",
    statements: &[
        "CREATE TABLE checkpoints (
            run {uuid} NOT NULL REFERENCES runs (id),
            stage text NOT NULL,
            attempt bigint NOT NULL,
            generation bigint NOT NULL,
            saved_at bigint NOT NULL,
            state text NOT NULL,
            PRIMARY KEY (run, stage)
        )",
        "CREATE TABLE pins (
            run {uuid} PRIMARY KEY REFERENCES runs (id),
            pinned_by text NOT NULL,
            pinned_at bigint NOT NULL
        )",
        // At most one row: who moves runs.
        "CREATE TABLE control_plane (one bigint PRIMARY KEY, holder text NOT NULL, expires bigint NOT NULL)",
    ],
};
