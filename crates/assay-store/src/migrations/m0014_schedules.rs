//! Schedules, what became of each of their times, batches over many targets, and labels of hosts.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0014_schedules",
    statements: &[
        "INSERT INTO counters (name, value) VALUES ('batch', 0)",
        "CREATE TABLE schedules (
            name text PRIMARY KEY,
            body text NOT NULL,
            created_by text NOT NULL,
            created_at bigint NOT NULL,
            changed_at bigint NOT NULL,
            paused_by text,
            paused_at bigint,
            done_through bigint NOT NULL
        )",
        // The schedule's own batches go with it; what operators asked for has none.
        "CREATE TABLE batches (
            number bigint PRIMARY KEY,
            body text NOT NULL,
            asked_by text NOT NULL,
            schedule text,
            created_at bigint NOT NULL,
            state text NOT NULL,
            state_by text,
            why text,
            since bigint NOT NULL
        )",
        "CREATE INDEX batches_state ON batches (state)",
        "CREATE INDEX batches_schedule ON batches (schedule)",
        // A time of a schedule is dealt with once: that is this table's key.
        "CREATE TABLE schedule_ticks (
            schedule text NOT NULL REFERENCES schedules (name) ON DELETE CASCADE,
            due bigint NOT NULL,
            at bigint NOT NULL,
            kind text NOT NULL,
            missed bigint NOT NULL,
            batch bigint REFERENCES batches (number),
            note text NOT NULL,
            PRIMARY KEY (schedule, due)
        )",
        // Its run has its id from the beginning, so whether it has begun is whether there is a run of that id.
        "CREATE TABLE batch_items (
            batch bigint NOT NULL REFERENCES batches (number) ON DELETE CASCADE,
            ordinal bigint NOT NULL,
            target_id {uuid} NOT NULL,
            target text NOT NULL,
            run {uuid} NOT NULL UNIQUE,
            left_out text,
            forgiven boolean NOT NULL,
            PRIMARY KEY (batch, ordinal)
        )",
        "CREATE TABLE host_labels (
            host {uuid} NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
            label text NOT NULL,
            PRIMARY KEY (host, label)
        )",
    ],
};
