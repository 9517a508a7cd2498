//! What kind of machine a run was on, and what a finished run says about its image on it.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0010_compat",
    statements: &[
        // Each kind of machine once: thousands of runs share a few.
        "CREATE TABLE machines (
            fingerprint {blob} PRIMARY KEY,
            body text NOT NULL
        )",
        // Without a fingerprint: the machine told too little, and `lacking` says what.
        "CREATE TABLE run_machines (
            run {uuid} PRIMARY KEY REFERENCES runs (id),
            fingerprint {blob} REFERENCES machines (fingerprint),
            lacking text
        )",
        "CREATE INDEX run_machines_fingerprint ON run_machines (fingerprint)",
        "CREATE TABLE image_trials (
            run {uuid} PRIMARY KEY REFERENCES runs (id),
            image text NOT NULL,
            verdict text NOT NULL,
            ended_at bigint NOT NULL,
            codes text NOT NULL,
            unverified bigint NOT NULL
        )",
        "CREATE INDEX image_trials_image ON image_trials (image)",
    ],
};
