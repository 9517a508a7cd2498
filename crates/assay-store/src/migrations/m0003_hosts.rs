//! Registered hosts, machines that nobody registered, and runners.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0003_hosts",
    statements: &[
        "CREATE TABLE hosts (
            id {uuid} PRIMARY KEY,
            name text NOT NULL UNIQUE,
            spec_yaml text NOT NULL,
            power text NOT NULL,
            created_at bigint NOT NULL
        )",
        "CREATE TABLE host_macs (
            mac text PRIMARY KEY,
            host {uuid} NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
            ordinal bigint NOT NULL
        )",
        "CREATE INDEX host_macs_host ON host_macs (host)",
        "CREATE TABLE unknown_machines (
            mac text PRIMARY KEY,
            runner text NOT NULL,
            first_seen bigint NOT NULL,
            last_seen bigint NOT NULL,
            times bigint NOT NULL
        )",
        "CREATE TABLE runners (
            name text PRIMARY KEY,
            version text NOT NULL,
            problem text,
            first_seen bigint NOT NULL,
            last_seen bigint NOT NULL
        )",
    ],
};
