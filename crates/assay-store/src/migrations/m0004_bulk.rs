//! Sensors, their roll-ups, and which days have tables of bulk rows.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0004_bulk",
    statements: &[
        // The day tables themselves (`sensors_20261121`, `log_20261121`) are made with a day's first run.
        "CREATE TABLE bulk_days (
            what text NOT NULL,
            day bigint NOT NULL,
            dropped boolean NOT NULL,
            PRIMARY KEY (what, day)
        )",
        "CREATE TABLE sensor_sets (digest {blob} PRIMARY KEY, body {blob} NOT NULL)",
        "CREATE TABLE sensors (
            run {uuid} NOT NULL REFERENCES runs (id),
            id bigint NOT NULL,
            name text NOT NULL,
            kind text NOT NULL,
            unit text NOT NULL,
            upper double precision,
            critical double precision,
            PRIMARY KEY (run, id),
            UNIQUE (run, name)
        )",
        "CREATE TABLE rollups (
            run {uuid} NOT NULL,
            sensor bigint NOT NULL,
            minute bigint NOT NULL,
            samples bigint NOT NULL,
            missing bigint NOT NULL,
            low double precision,
            high double precision,
            total double precision NOT NULL,
            PRIMARY KEY (run, sensor, minute)
        ) {clustered}",
        // What people query; `kind` is `thermal`, `psu` …
        "CREATE VIEW measurements AS
            SELECT s.run AS run, s.kind AS kind, s.name AS sensor, s.unit AS unit, r.minute AS at,
                r.samples AS samples, r.missing AS missing, r.low AS min, r.high AS max,
                CASE WHEN r.samples > 0 THEN r.total / r.samples END AS mean
            FROM rollups r JOIN sensors s ON s.run = r.run AND s.id = r.sensor",
    ],
};
