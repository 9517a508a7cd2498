//! Leases, tokens of machines and runners, and the people who sign in.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0002_access",
    statements: &[
        "CREATE TABLE leases (
            run {uuid} PRIMARY KEY REFERENCES runs (id),
            generation bigint NOT NULL,
            holder text NOT NULL,
            expires bigint NOT NULL
        )",
        "CREATE TABLE boot_tokens (
            hash {blob} PRIMARY KEY,
            run {uuid} NOT NULL REFERENCES runs (id),
            boot bigint NOT NULL,
            mac text NOT NULL,
            expires bigint NOT NULL,
            state text NOT NULL
        )",
        "CREATE INDEX boot_tokens_run ON boot_tokens (run)",
        "CREATE TABLE agent_credentials (
            run {uuid} PRIMARY KEY REFERENCES runs (id),
            hash {blob} NOT NULL UNIQUE,
            generation bigint NOT NULL
        )",
        "CREATE TABLE runner_tokens (
            run {uuid} PRIMARY KEY REFERENCES runs (id),
            hash {blob} NOT NULL UNIQUE,
            runner text NOT NULL
        )",
        "CREATE INDEX runner_tokens_runner ON runner_tokens (runner)",
        "CREATE TABLE operators (
            name text PRIMARY KEY,
            password_hash text NOT NULL,
            role text NOT NULL
        )",
        "CREATE TABLE sessions (
            hash {blob} PRIMARY KEY,
            operator text NOT NULL REFERENCES operators (name) ON DELETE CASCADE,
            csrf text NOT NULL,
            expires bigint NOT NULL
        )",
        "CREATE TABLE api_tokens (
            hash {blob} PRIMARY KEY,
            name text NOT NULL UNIQUE,
            role text NOT NULL,
            created_at bigint NOT NULL,
            revoked_at bigint
        )",
    ],
};
