//! Forges: how far each repository was heard, what comments asked for, and what each pull request was told.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0012_forges",
    statements: &[
        // `part` is `assay_forge::poll::RepoState`, kept in the transaction that stores what came of it.
        "CREATE TABLE forge_repos (
            forge text NOT NULL,
            repo text NOT NULL,
            part text NOT NULL,
            PRIMARY KEY (forge, repo)
        ) {clustered}",
        // `run` is drawn when the comment is heard: a run that is created twice for it is created once.
        "CREATE TABLE forge_commands (
            forge text NOT NULL,
            repo text NOT NULL,
            comment bigint NOT NULL,
            pull bigint NOT NULL,
            author text,
            said text NOT NULL,
            heard_at bigint NOT NULL,
            run {uuid} NOT NULL,
            state text NOT NULL,
            attempts bigint NOT NULL,
            due_at bigint NOT NULL,
            outcome text,
            status text,
            PRIMARY KEY (forge, repo, comment)
        )",
        "CREATE INDEX forge_commands_open ON forge_commands (forge, due_at) WHERE state = 'open'",
        "CREATE INDEX forge_commands_run ON forge_commands (forge) WHERE state = 'run'",
        "CREATE TABLE forge_pulls (
            forge text NOT NULL,
            repo text NOT NULL,
            pull bigint NOT NULL,
            comment bigint,
            subject bigint,
            standing text NOT NULL,
            notes text NOT NULL,
            shown {blob},
            shown_at bigint NOT NULL,
            attempts bigint NOT NULL,
            due_at bigint,
            PRIMARY KEY (forge, repo, pull)
        ) {clustered}",
    ],
};
