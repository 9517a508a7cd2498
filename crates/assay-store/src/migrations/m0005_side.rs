//! Notifications to send, settings, and the audit trail.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0005_side",
    statements: &[
        "CREATE TABLE outbox (
            id text PRIMARY KEY,
            run {uuid} NOT NULL REFERENCES runs (id),
            event text NOT NULL,
            payload text NOT NULL,
            created_at bigint NOT NULL,
            state text NOT NULL,
            claimed_at bigint,
            message text
        )",
        "CREATE INDEX outbox_pending ON outbox (created_at) WHERE state = 'pending'",
        "CREATE INDEX outbox_run ON outbox (run)",
        "CREATE TABLE settings (key text PRIMARY KEY, value text NOT NULL)",
        "CREATE TABLE audit (
            seq bigint PRIMARY KEY,
            at bigint NOT NULL,
            kind text NOT NULL,
            body {blob} NOT NULL,
            prev_hash {blob} NOT NULL,
            hash {blob} NOT NULL
        )",
    ],
};
