//! What a finished run over a recipe came to: it stands in its journal and its evidence, and boards cannot read both of
//! thousands of runs. And of every run, whether it is of the whole, and of which pull request.

use super::Step;

pub(super) const STEP: Step = Step {
    name: "m0013_recipe_runs",
    statements: &[
        // Runs from before count as whole here, but images' runs, of which it is known.
        "ALTER TABLE runs ADD COLUMN whole boolean NOT NULL DEFAULT true",
        "ALTER TABLE runs ADD COLUMN pull_request text",
        "UPDATE runs SET whole = false WHERE id IN (SELECT run FROM image_runs WHERE NOT whole)",
        // Rungs are words with a space between them, their messages lines. The release and the commit are told by the run's evidence; neither where it was not read. `results` is what
        // other runs are compared by, as JSON; none where this version of Assay could not read the run.
        "CREATE TABLE recipe_runs (
            run {uuid} PRIMARY KEY REFERENCES runs (id),
            rungs text NOT NULL,
            messages text NOT NULL,
            code text,
            checks_off boolean NOT NULL,
            stages_left_out boolean NOT NULL,
            release text,
            commit_id text,
            changed boolean NOT NULL,
            baseline boolean NOT NULL,
            results text
        )",
        "CREATE INDEX recipe_runs_baseline ON recipe_runs (run) WHERE baseline",
        "CREATE INDEX audit_at ON audit (at)",
    ],
};
