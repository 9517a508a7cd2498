//! Which image a run tested: its digest stands in the evidence, and lists cannot read that.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0009_images",
    statements: &[
        "CREATE TABLE image_runs (
            run {uuid} PRIMARY KEY REFERENCES runs (id),
            digest {blob} NOT NULL,
            bytes bigint NOT NULL,
            volume text,
            whole boolean NOT NULL
        )",
        "CREATE INDEX image_runs_digest ON image_runs (digest)",
        "CREATE INDEX runs_of_images ON runs (target_id, number) WHERE pipeline = 'image'",
    ],
};
