//! `/api/v1/recipes`: app recipes, their history, and new runs over them.

use std::collections::HashMap;
use std::sync::Arc;

use assay_api::operator::{RunSummary, TestRecipe};
use assay_api::recipes::{GreenRun, Recipe, RecipeFlake, RecipeHistory, RecipeTest};
use assay_engine::recipes::RecipeRequest;
use assay_model::recipe::{Ladder, Rung, RungResult};
use assay_model::{Pipeline, RunView, TargetId, text};
use assay_pipelines::recipe::RecipeSpec;
use assay_pipelines::recipe::over_time::changed::SinceGreen;
use assay_pipelines::recipe::over_time::{Flake, Results, flakes};
use assay_store::{RecipeSeen, RunFilter, RunRow};
use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::dashboard::green as green_row;
use crate::auth::Operator;
use crate::error::ApiError;
use crate::state::App;
use crate::wire::JsonBody;

/// Longest name of a recipe, in characters.
const NAME: usize = 64;
/// Runs of each recipe in the list of recipes.
const EACH: u32 = 12;
/// Runs of one recipe in one answer.
const HISTORY: u32 = 30;
/// Most of them.
const MAX_HISTORY: u32 = 200;
/// The latest runs of a recipe in which flakes are looked for.
const LEDGER: u32 = 100;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/recipes", get(list))
        .route("/api/v1/recipes/runs", post(test))
        .route("/api/v1/recipes/{name}", get(show))
}

/// Every recipe, those with the newest runs first.
pub(crate) async fn recipes(app: &App) -> Result<Vec<Recipe>, ApiError> {
    let mut out: Vec<Recipe> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for row in app.engine.store().recipe_runs(EACH).await? {
        let name = row.run.target.clone();
        let test = match row.seen {
            Some(seen) => test_of_row(row.run, seen),
            // It is not over, or has no row yet.
            None => test_of(app, &*app.engine.view(row.run.id).await?, None),
        };
        let place = *places.entry(name.clone()).or_insert(out.len());
        match out.get_mut(place) {
            Some(recipe) => recipe.tests.push(test),
            None => out.push(Recipe { name, tests: vec![test], last_green: None }),
        }
    }
    for row in app.engine.store().recipe_greens().await? {
        if let Some(recipe) = places.get(&row.run.target).and_then(|place| out.get_mut(*place)) {
            recipe.last_green = Some(green_row(row));
        }
    }
    Ok(out)
}

/// A run that is over, from its row.
fn test_of_row(run: RunRow, seen: RecipeSeen) -> RecipeTest {
    let RecipeSeen { rungs, messages, code, checks_off, stages_left_out, .. } = seen;
    let seconds = run.started_at.zip(run.completed_at).map(|(began, ended)| ended.since(began).as_seconds());
    let rungs =
        Rung::ALL.into_iter().zip(rungs).zip(messages.into_iter().chain(std::iter::repeat(String::new())));
    let rungs = rungs.map(|((rung, status), message)| RungResult { rung, status, message });
    RecipeTest {
        run: super::runs::row_summary(run, None),
        ladder: Ladder::from_rungs(rungs.collect()),
        checks_off,
        stages_left_out,
        code,
        step: None,
        seconds,
        version: None,
        since_green: Vec::new(),
    }
}

/// One recipe and its runs, newest first.
pub(crate) async fn history(
    app: &App,
    name: &str,
    before: Option<i64>,
    limit: Option<u32>,
) -> Result<RecipeHistory, ApiError> {
    let limit = limit.unwrap_or(HISTORY).clamp(1, MAX_HISTORY);
    let views = latest(app, name, before, limit + 1).await?;
    if views.is_empty() && before.is_none() {
        return Err(ApiError::not_found(format!("recipe `{}`", text::clean_to(name, 100))).hint(
            "recipes are known by the name of their folder once this server had one tested: `assay recipe list`",
        ));
    }
    let mut tests = Vec::new();
    for view in views.iter().take(limit as usize) {
        let results = app.engine.recipe_results(view).await.ok();
        tests.push(test_of(app, view, results.as_ref()));
    }
    let more = views.len() > limit as usize;
    let next = tests.last().filter(|_| more).map(|last| last.run.number);
    let mut ledger = Vec::new();
    for view in latest(app, name, None, LEDGER).await? {
        // One that this server cannot read has nothing to say here.
        ledger.extend(app.engine.recipe_results(&view).await);
    }
    Ok(RecipeHistory {
        name: name.to_owned(),
        tests,
        next,
        last_green: app.engine.recipe_baseline(name, None).await?.map(green),
        looked_at: u32::try_from(ledger.len()).unwrap_or(u32::MAX),
        flakes: flakes(&ledger).into_iter().map(flake).collect(),
    })
}

async fn latest(
    app: &App,
    name: &str,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<Arc<RunView>>, ApiError> {
    let filter = RunFilter {
        target: Some(TargetId::named(Pipeline::Recipe, name)),
        pipeline: Some(Pipeline::Recipe),
        before_number: before,
        limit,
        ..RunFilter::default()
    };
    let mut views = Vec::new();
    for row in app.engine.store().list_runs(filter).await? {
        views.push(app.engine.view(row.id).await?);
    }
    Ok(views)
}

fn test_of(app: &App, view: &RunView, results: Option<&Results>) -> RecipeTest {
    let open = !view.state().is_terminal();
    let end = view.completed_at.unwrap_or_else(|| app.engine.now());
    let since = results.and_then(|results| results.since_green.as_ref());
    RecipeTest {
        run: super::summary(app, view),
        ladder: Ladder::of(view),
        checks_off: !view.created.muted.is_empty(),
        stages_left_out: !view.created.options.left_out.is_empty(),
        code: super::images::code(view),
        step: app.engine.live().step(view.id).filter(|_| open),
        seconds: view.started_at.map(|at| end.since(at).as_seconds()),
        version: results
            .and_then(|results| results.version.as_ref())
            .map(|version| text::clean_to(&version.name(), 80)),
        since_green: since
            .map(SinceGreen::findings)
            .unwrap_or_default()
            .into_iter()
            .map(|found| found.message)
            .collect(),
    }
}

fn green(results: Results) -> GreenRun {
    let version = text::clean_to(&results.version_name(), 80);
    GreenRun { number: results.run.number, at: results.run.created_at, version }
}

fn flake(found: Flake) -> RecipeFlake {
    RecipeFlake {
        recipe: found.recipe,
        what: text::clean_to(&found.what, 120),
        commit: found.commit,
        passed: found.passed,
        failed: found.failed,
        first: found.first,
        last_failed: found.last_failed,
        failed_runs: found.failed_runs,
        codes: found.codes,
    }
}

async fn list(State(app): State<App>, _: Operator) -> Result<Json<Vec<Recipe>>, ApiError> {
    Ok(Json(recipes(&app).await?))
}

#[derive(Deserialize)]
struct Page {
    before: Option<i64>,
    limit: Option<u32>,
}

async fn show(
    State(app): State<App>,
    _: Operator,
    Path(name): Path<String>,
    Query(page): Query<Page>,
) -> Result<Json<RecipeHistory>, ApiError> {
    Ok(Json(history(&app, &name, page.before, page.limit).await?))
}

async fn test(
    State(app): State<App>,
    operator: Operator,
    JsonBody(asked): JsonBody<TestRecipe>,
) -> Result<Json<RunSummary>, ApiError> {
    let spec = RecipeSpec::of(&asked.spec).map_err(ApiError::invalid)?;
    check_name(&spec.name)?;
    let TestRecipe { only, runner, muted, asked, .. } = asked;
    let request = RecipeRequest { spec, only, runner, muted, by: operator.name, asked };
    let run = app.engine.test_recipe(request).await?;
    Ok(Json(super::summary(&app, &run)))
}

/// A name stands in addresses and in lists.
fn check_name(name: &str) -> Result<(), ApiError> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if plain && !name.is_empty() && name.len() <= NAME {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "a recipe's name has letters, digits, `.`, `_` and `-`, at most {NAME}; it is the name of its folder"
    )))
}
