//! Runs, their chained events, and the rows that are a fold of them.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0001_journal",
    statements: &[
        // Gapless numbers: taken inside the transaction that uses them.
        "CREATE TABLE counters (name text PRIMARY KEY, value bigint NOT NULL)",
        "INSERT INTO counters (name, value) VALUES ('run', 0), ('audit', 0)",
        "CREATE TABLE runs (
            id {uuid} PRIMARY KEY,
            number bigint NOT NULL UNIQUE,
            host {uuid} NOT NULL,
            target text NOT NULL,
            pipeline text NOT NULL,
            profile text NOT NULL,
            state text NOT NULL,
            stage_index bigint NOT NULL,
            stage_name text,
            result text,
            overridden boolean NOT NULL,
            failed_stage text,
            created_at bigint NOT NULL,
            started_at bigint,
            completed_at bigint,
            sealed boolean NOT NULL,
            head_seq bigint NOT NULL,
            head_hash {blob} NOT NULL
        )",
        // One target is never tested twice at once.
        "CREATE UNIQUE INDEX runs_one_live_per_host ON runs (host)
            WHERE state NOT IN ('Completed', 'Released', 'Cancelled', 'Superseded')",
        "CREATE INDEX runs_host_number ON runs (host, number)",
        "CREATE INDEX runs_unsealed ON runs (number) WHERE NOT sealed",
        "CREATE TABLE events (
            run {uuid} NOT NULL REFERENCES runs (id),
            seq bigint NOT NULL,
            at bigint NOT NULL,
            kind text NOT NULL,
            body {blob} NOT NULL,
            prev_hash {blob} NOT NULL,
            hash {blob} NOT NULL,
            PRIMARY KEY (run, seq)
        ) {clustered}",
        "CREATE TABLE addenda (
            run {uuid} NOT NULL REFERENCES runs (id),
            seq bigint NOT NULL,
            at bigint NOT NULL,
            kind text NOT NULL,
            body {blob} NOT NULL,
            prev_hash {blob} NOT NULL,
            hash {blob} NOT NULL,
            PRIMARY KEY (run, seq)
        ) {clustered}",
        "CREATE TABLE stages (
            run {uuid} NOT NULL REFERENCES runs (id),
            idx bigint NOT NULL,
            attempt bigint NOT NULL,
            name text NOT NULL,
            required boolean NOT NULL,
            waived boolean NOT NULL,
            generation bigint NOT NULL,
            verdict text,
            passed boolean,
            started_at bigint NOT NULL,
            completed_at bigint,
            message text,
            summary_json text,
            PRIMARY KEY (run, idx, attempt)
        )",
        "CREATE TABLE findings (
            run {uuid} NOT NULL REFERENCES runs (id),
            stage_idx bigint NOT NULL,
            ordinal bigint NOT NULL,
            stage text,
            code text NOT NULL,
            severity text NOT NULL,
            part text,
            message text NOT NULL,
            next_step text NOT NULL,
            PRIMARY KEY (run, stage_idx, ordinal)
        )",
        "CREATE INDEX findings_code ON findings (code)",
        "CREATE TABLE artifacts (
            run {uuid} NOT NULL REFERENCES runs (id),
            ordinal bigint NOT NULL,
            stage text,
            attempt bigint NOT NULL,
            name text NOT NULL,
            digest {blob} NOT NULL,
            bytes bigint NOT NULL,
            late boolean NOT NULL,
            PRIMARY KEY (run, ordinal)
        )",
        "CREATE INDEX artifacts_digest ON artifacts (digest)",
    ],
};
