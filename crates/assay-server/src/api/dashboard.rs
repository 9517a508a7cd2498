//! `/api/v1/dashboard` and `/api/v1/digest`: how everything stands, and what a week has brought.

use assay_api::dashboard::{BoardRecipe, BoardRun, Dashboard};
use assay_api::recipes::GreenRun;
use assay_model::digest::{Digest, Week};
use assay_model::recipe::level;
use assay_model::{RunState, text};
use assay_store::{RecipeRun, RecipeVersion};
use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use crate::auth::Operator;
use crate::error::ApiError;
use crate::state::App;

/// Runs of each recipe that are looked at.
pub(crate) const EACH: u32 = 12;
/// Longest text of a recipe's.
const LONGEST: usize = 80;
/// Digits of a commit, as `abra` shows it.
const COMMIT: usize = 8;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/api/v1/dashboard", get(show)).route("/api/v1/digest", get(week))
}

/// How every recipe stands: two questions to the store, however many there are.
pub(crate) async fn dashboard(app: &App) -> Result<Dashboard, ApiError> {
    let store = app.engine.store();
    let (runs, greens) = futures::try_join!(store.recipe_runs(EACH), store.recipe_greens())?;
    Ok(fold(runs, greens))
}

/// The digest of the week that is asked for, or of this one.
pub(crate) async fn digest(app: &App, wanted: &Wanted) -> Result<Digest, ApiError> {
    let week = wanted.week.as_deref().filter(|week| !week.is_empty());
    let week: Option<Week> = week
        .map(str::parse)
        .transpose()
        .map_err(|e: assay_model::digest::UnknownWeek| ApiError::invalid(e.to_string()))?;
    Ok(app.engine.digest(week).await?)
}

/// Which week is asked for.
#[derive(Default, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) week: Option<String>,
}

async fn show(State(app): State<App>, _: Operator) -> Result<Json<Dashboard>, ApiError> {
    Ok(Json(dashboard(&app).await?))
}

async fn week(
    State(app): State<App>,
    _: Operator,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Digest>, ApiError> {
    Ok(Json(digest(&app, &wanted).await?))
}

/// Rows, newest first, by their recipes.
fn fold(rows: Vec<RecipeRun>, greens: Vec<RecipeRun>) -> Dashboard {
    let mut recipes: std::collections::BTreeMap<String, BoardRecipe> = std::collections::BTreeMap::new();
    for row in rows {
        let name = row.run.target.clone();
        let new = || BoardRecipe { name: name.clone(), standing: None, last_green: None, runs: Vec::new() };
        recipes.entry(name.clone()).or_insert_with(new).runs.push(board_run(row));
    }
    for row in greens {
        if let Some(recipe) = recipes.get_mut(&row.run.target) {
            recipe.last_green = Some(green(row));
        }
    }
    for recipe in recipes.values_mut() {
        recipe.standing = standing(&recipe.runs).cloned();
    }
    Dashboard { recipes: recipes.into_values().collect() }
}

/// Of a recipe's runs, newest first, the one that says how it stands: the latest whole one with a verdict. A pull request's says
/// something of the pull request, so it counts only where there is nothing else.
pub(crate) fn standing(runs: &[BoardRun]) -> Option<&BoardRun> {
    let decisive = || runs.iter().filter(|run| run.result.is_some() && run.whole && run.level.is_some());
    decisive().find(|run| run.pull_request.is_none()).or_else(|| decisive().next())
}

pub(crate) fn board_run(row: RecipeRun) -> BoardRun {
    let RecipeRun { run, whole, pull_request, seen } = row;
    let (rungs, code, version) =
        seen.map_or((Vec::new(), None, None), |seen| (seen.rungs, seen.code, seen.version));
    let seconds = run.started_at.zip(run.completed_at).map(|(began, ended)| ended.since(began).as_seconds());
    BoardRun {
        run: run.number,
        state: run.state,
        result: run.result,
        overridden: run.overridden,
        whole,
        profile: run.profile,
        pull_request: pull_request.map(|name| text::clean_to(&name, LONGEST)),
        stage: run.stage_name.filter(|_| run.state == RunState::Running),
        level: (!rungs.is_empty()).then(|| level(rungs.iter().copied())),
        rungs,
        failed_stage: run.failed_stage,
        code,
        version: version.as_ref().map(version_name),
        commit: version.and_then(|version| version.commit),
        asked_at: run.created_at,
        completed_at: run.completed_at,
        seconds,
    }
}

/// The run that others were or are compared with.
pub(super) fn green(row: RecipeRun) -> GreenRun {
    let version = row.seen.and_then(|seen| seen.version);
    GreenRun {
        number: row.run.number,
        at: row.run.created_at.rfc3339(),
        version: version.as_ref().map_or_else(|| "a version that was not read".to_owned(), version_name),
    }
}

/// As everywhere else: the release, or the commit's first digits; `+U` for changed files.
fn version_name(version: &RecipeVersion) -> String {
    let short = |commit: &String| commit.chars().take(COMMIT).collect::<String>();
    let name = version.release.clone().or_else(|| version.commit.as_ref().map(short)).unwrap_or_default();
    text::clean_to(&if version.changed { format!("{name}+U") } else { name }, LONGEST)
}

#[cfg(test)]
mod tests {
    use assay_model::recipe::RungStatus::{self, Fail, Pass, Skip, Unver};
    use assay_model::{Micros, Pipeline, RunId, RunResult, TargetId};
    use assay_store::{RecipeSeen, RunRow};

    use super::*;

    fn row(number: i64, target: &str, result: Option<RunResult>, rungs: [RungStatus; 5]) -> RecipeRun {
        RecipeRun {
            run: RunRow {
                number,
                id: RunId(uuid::Uuid::from_u128(u128::from(number.unsigned_abs()))),
                target_id: TargetId::named(Pipeline::Recipe, target),
                target: target.to_owned(),
                pipeline: Pipeline::Recipe,
                profile: "standard".to_owned(),
                state: RunState::Completed,
                stage_index: 7,
                stage_name: None,
                result,
                overridden: false,
                failed_stage: None,
                created_at: Micros::seconds(number),
                started_at: Some(Micros::seconds(number)),
                completed_at: Some(Micros::seconds(number + 30)),
                sealed: true,
            },
            whole: true,
            pull_request: None,
            seen: Some(RecipeSeen {
                rungs: rungs.to_vec(),
                messages: vec![String::new(); 5],
                code: None,
                checks_off: false,
                stages_left_out: false,
                version: Some(RecipeVersion {
                    release: None,
                    commit: Some("abcdef0123456789".to_owned()),
                    changed: true,
                }),
                baseline: false,
            }),
        }
    }

    #[test]
    fn a_recipe_stands_as_its_latest_whole_run_with_a_verdict_that_is_of_no_pull_request() {
        let (pass, fail) = (Some(RunResult::Pass), Some(RunResult::Fail));
        let pull_request = RecipeRun {
            pull_request: Some("git.example.org/wiki#1".to_owned()),
            ..row(9, "wiki", fail, [Fail, Unver, Unver, Unver, Pass])
        };
        let quick = RecipeRun { whole: false, ..row(8, "wiki", pass, [Pass, Unver, Unver, Pass, Pass]) };
        let open = RecipeRun { seen: None, ..row(10, "wiki", None, [Pass; 5]) };
        let lost = row(7, "wiki", None, [Unver; 5]);
        let good = row(6, "wiki", pass, [Pass, Skip, Pass, Pass, Fail]);
        let rows = vec![open, pull_request.clone(), quick, lost, good, row(5, "blog", fail, [Fail; 5])];
        let board = fold(rows, vec![row(6, "wiki", pass, [Pass; 5]), row(1, "gone", pass, [Pass; 5])]);
        let names: Vec<_> = board.recipes.iter().map(|recipe| recipe.name.as_str()).collect();
        assert_eq!(names, ["blog", "wiki"]);
        let wiki = &board.recipes[1];
        let standing = wiki.standing.as_ref().expect("it has one");
        assert_eq!((standing.run, standing.level, standing.seconds), (6, Some(4), Some(30.0)));
        assert_eq!(standing.version.as_deref(), Some("abcdef01+U"));
        assert_eq!(wiki.runs.iter().map(|run| run.run).collect::<Vec<_>>(), [10, 9, 8, 7, 6]);
        assert_eq!(wiki.last_green.as_ref().map(|green| green.number), Some(6));
        assert_eq!(board.recipes[0].standing.as_ref().and_then(|run| run.level), Some(0));
        // Where there is nothing else, it is better than nothing.
        let board = fold(vec![pull_request], Vec::new());
        assert_eq!(board.recipes[0].standing.as_ref().map(|run| run.run), Some(9));
        assert_eq!(board.recipes[0].last_green, None);
    }
}
