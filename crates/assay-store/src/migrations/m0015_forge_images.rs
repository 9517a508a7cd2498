//! Forges: up to which commit each pull request was looked at, and the images that pull requests ask for.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0015_forge_images",
    statements: &[
        // Pull request 0 says that the repository was looked at, also where it has none.
        "CREATE TABLE forge_heads (
            forge text NOT NULL,
            repo text NOT NULL,
            pull bigint NOT NULL,
            head text NOT NULL,
            PRIMARY KEY (forge, repo, pull)
        ) {clustered}",
        // Kept in the transaction that stores the commit as looked at: a commit asks once. `run` is the run that it will get.
        "CREATE TABLE forge_images (
            run {uuid} PRIMARY KEY,
            forge text NOT NULL,
            repo text NOT NULL,
            pull bigint NOT NULL,
            image text NOT NULL,
            head text NOT NULL,
            author text,
            said text NOT NULL,
            heard_at bigint NOT NULL,
            state text NOT NULL,
            attempts bigint NOT NULL,
            due_at bigint NOT NULL,
            standing text NOT NULL,
            outcome text,
            status text
        )",
        "CREATE INDEX forge_images_pull ON forge_images (forge, repo, pull, heard_at)",
        "CREATE INDEX forge_images_open ON forge_images (forge, due_at) WHERE state = 'open'",
        "CREATE INDEX forge_images_run ON forge_images (forge) WHERE state = 'run'",
    ],
};
