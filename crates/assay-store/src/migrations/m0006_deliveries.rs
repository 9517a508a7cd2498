//! A notification goes to several sinks, each of which takes it, refuses it or is away by itself.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0006_deliveries",
    statements: &[
        // When the sinks of a notification were settled; before that it has no deliveries.
        "ALTER TABLE outbox ADD COLUMN routed_at bigint",
        "CREATE TABLE deliveries (
            notification text NOT NULL REFERENCES outbox (id),
            sink text NOT NULL,
            state text NOT NULL,
            attempts bigint NOT NULL,
            due_at bigint NOT NULL,
            changed_at bigint NOT NULL,
            message text,
            PRIMARY KEY (notification, sink)
        )",
        "CREATE INDEX deliveries_due ON deliveries (sink, due_at) WHERE state = 'pending'",
        "CREATE INDEX deliveries_sink ON deliveries (sink, state, changed_at)",
        // What an older version was sending when it was stopped may have gone out.
        "UPDATE outbox SET state = 'unknown' WHERE state = 'sending'",
    ],
};
