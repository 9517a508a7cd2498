//! `/recipes`: every recipe that was ever tested, rung by rung, and the history of one.

use askama::Template;
use assay_api::recipes::{GreenRun, RecipeFlake, RecipeTest};
use assay_model::Micros;
use assay_model::recipe::{Rung, RungResult, RungStatus};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::Deserialize;

use super::format::{self, When};
use super::images::{Trend, counts, rank};
use super::shell::{Badge, PageError, RunFacts, Shell, Signed, Spared, page as finished};
use crate::api;
use crate::error::ApiError;
use crate::state::App;

#[derive(Template)]
#[template(path = "recipes.html", blocks = ["state"])]
struct RecipesPage {
    shell: Shell,
    counts: String,
    rungs: [&'static str; 5],
    recipes: Vec<RecipeLine>,
}

/// A recipe in the list.
struct RecipeLine {
    name: String,
    badge: Badge,
    run: i64,
    when: When,
    /// What it waits for, what is going on, or what went wrong.
    detail: String,
    level: String,
    rungs: Vec<RungCell>,
    took: String,
    green: Option<(i64, String, String)>,
    trend: Trend,
    /// For the order: what needs eyes first.
    rank: u8,
}

/// A rung of a run.
struct RungCell {
    tone: &'static str,
    mark: &'static str,
    word: &'static str,
    /// The sentence that decided it.
    message: String,
}

#[derive(Template)]
#[template(path = "recipe.html")]
struct RecipePage {
    shell: Shell,
    name: String,
    line: RecipeLine,
    rungs: [&'static str; 5],
    rows: Vec<TestLine>,
    flakes: Vec<FlakeLine>,
    looked_at: u32,
    next: Option<String>,
    older: bool,
}

/// A run in the history.
struct TestLine {
    number: i64,
    badge: Badge,
    when: When,
    version: String,
    level: String,
    failed: String,
    since: Vec<String>,
    took: String,
    rungs: Vec<RungCell>,
}

struct FlakeLine {
    what: String,
    commit: String,
    times: String,
    last: String,
    runs: Vec<i64>,
    codes: String,
}

pub(super) async fn page(State(app): State<App>, Signed(operator): Signed) -> Result<Response, PageError> {
    finished(&gather(&app, Shell::new(&operator, "recipes")).await?)
}

/// The part that changes, alone.
pub(super) async fn fragment(
    State(app): State<App>,
    Signed(operator): Signed,
) -> Result<Response, PageError> {
    let whole = gather(&app, Shell::new(&operator, "recipes")).await?;
    finished(&whole.as_state())
}

async fn gather(app: &App, shell: Shell) -> Result<RecipesPage, PageError> {
    let now = app.engine.now();
    let recipes = api::recipes(app).await?;
    let line = |recipe: &assay_api::recipes::Recipe| {
        line(&recipe.name, &recipe.tests, recipe.last_green.as_ref(), now)
    };
    let mut recipes: Vec<RecipeLine> = recipes.iter().filter_map(line).collect();
    recipes.sort_by(|a, b| (a.rank, &a.name).cmp(&(b.rank, &b.name)));
    let ranks: Vec<u8> = recipes.iter().map(|line| line.rank).collect();
    Ok(RecipesPage { shell, counts: counts(&ranks), rungs: names(), recipes })
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    before: Option<String>,
}

pub(super) async fn one(
    State(app): State<App>,
    Signed(operator): Signed,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, PageError> {
    // Anything else than a number is as good as nothing: the newest are shown.
    let before: Option<i64> = wanted.before.as_deref().and_then(|n| n.parse().ok());
    let history = api::recipe_history(&app, &name, before, None).await?;
    let now = app.engine.now();
    let none = || ApiError::not_found(format!("older run of {name}"));
    let line = line(&history.name, &history.tests, history.last_green.as_ref(), now).ok_or_else(none)?;
    finished(&RecipePage {
        shell: Shell::new(&operator, "recipes"),
        rungs: names(),
        rows: history.tests.iter().map(|test| row(test, now)).collect(),
        flakes: history.flakes.iter().map(flake).collect(),
        looked_at: history.looked_at,
        next: history.next.map(|before| format!("?before={before}")),
        older: before.is_some(),
        name: history.name,
        line,
    })
}

fn names() -> [&'static str; 5] {
    Rung::ALL.map(|rung| match rung {
        Rung::Install => "Install",
        Rung::Upgrade => "Upgrade",
        Rung::Backup => "Backup",
        Rung::Functional => "Functional",
        Rung::Lint => "Lint",
    })
}

fn line(name: &str, tests: &[RecipeTest], green: Option<&GreenRun>, now: Micros) -> Option<RecipeLine> {
    let latest = tests.first()?;
    let badge = badge(latest);
    let detail = match (&latest.run.waiting, &latest.run.failed_stage, &latest.code) {
        (Some(why), _, _) => format::sentence(why),
        (None, Some(_), _) => failed(latest),
        (None, None, _) => latest.step.clone().unwrap_or_default(),
    };
    Some(RecipeLine {
        name: name.to_owned(),
        rank: rank(latest.run.state, badge.tone),
        run: latest.run.number,
        when: When::new(latest.run.completed_at.unwrap_or(latest.run.created_at), now),
        detail,
        level: level(latest),
        rungs: latest.ladder.rungs.iter().map(|rung| cell(rung, latest)).collect(),
        took: latest.seconds.map_or_else(String::new, format::duration),
        green: green.map(|green| (green.number, day(&green.at), green.version.clone())),
        trend: Trend::of(tests.iter().map(self::badge).collect()),
        badge,
    })
}

fn row(test: &RecipeTest, now: Micros) -> TestLine {
    TestLine {
        number: test.run.number,
        badge: badge(test),
        when: When::new(test.run.created_at, now),
        version: test.version.clone().unwrap_or_default(),
        level: level(test),
        failed: test.run.waiting.clone().unwrap_or_else(|| failed(test)),
        since: test.since_green.clone(),
        took: test.seconds.map_or_else(String::new, format::duration),
        rungs: test.ladder.rungs.iter().map(|rung| cell(rung, test)).collect(),
    }
}

fn flake(found: &RecipeFlake) -> FlakeLine {
    FlakeLine {
        what: found.what.clone(),
        commit: found.commit.chars().take(12).collect(),
        times: format!("{} of {}", found.failed, found.failed + found.passed),
        last: day(&found.last_failed),
        runs: found.failed_runs.clone(),
        codes: found.codes.join(", "),
    }
}

/// `CrashLoop at Install`.
fn failed(test: &RecipeTest) -> String {
    match (&test.run.failed_stage, &test.code) {
        (Some(stage), Some(code)) => format!("{code} at {stage}"),
        (Some(stage), None) => format!("at {stage}"),
        (None, _) => String::new(),
    }
}

/// Of a run that is over: before, it is not known.
fn level(test: &RecipeTest) -> String {
    if test.run.state.is_terminal() {
        format!("{} of {}", test.ladder.level, Rung::ALL.len())
    } else {
        String::new()
    }
}

fn cell(rung: &RungResult, test: &RecipeTest) -> RungCell {
    let (tone, mark, word) = match rung.status {
        RungStatus::Pass => ("pass", "✓", "passed"),
        RungStatus::Fail => ("fail", "✕", "failed"),
        RungStatus::Skip => ("idle", "–", "does not apply"),
        // What a run has not come to yet is not what it failed to try.
        RungStatus::Unver if test.run.state.is_terminal() => ("warn", "?", "not verified"),
        RungStatus::Unver => ("idle", "·", "not yet known"),
    };
    RungCell { tone, mark, word, message: rung.message.clone() }
}

/// The day of an RFC 3339 instant.
fn day(at: &str) -> String {
    at.get(..10).unwrap_or(at).to_owned()
}

/// A pass is green only when it is a whole one.
fn badge(test: &RecipeTest) -> Badge {
    let run = &test.run;
    Badge::run(&RunFacts {
        state: run.state,
        result: run.result,
        overridden: run.overridden,
        spared: Spared { muted: test.checks_off, left_out: test.stages_left_out, begun_late: false },
        profile: &run.profile,
        stage: run.stage.as_deref(),
    })
}

#[cfg(test)]
mod tests {
    use assay_api::operator::RunSummary;
    use assay_model::recipe::Ladder;
    use assay_model::{Pipeline, RunResult, RunState};

    use super::*;

    fn test(state: RunState, result: Option<RunResult>, statuses: [RungStatus; 5]) -> RecipeTest {
        let rungs = Rung::ALL.into_iter().zip(statuses);
        let rungs = rungs.map(|(rung, status)| RungResult { rung, status, message: format!("{rung} <b>") });
        RecipeTest {
            run: RunSummary {
                number: 9,
                id: "9".to_owned(),
                target: "web".to_owned(),
                pipeline: Pipeline::Recipe,
                on_host: false,
                profile: "standard".to_owned(),
                state,
                result,
                overridden: false,
                stage: None,
                failed_stage: None,
                created_at: Micros::seconds(10),
                completed_at: None,
                waiting: None,
                position: None,
                starts_in_s: None,
            },
            ladder: Ladder::from_rungs(rungs.collect()),
            checks_off: false,
            stages_left_out: false,
            code: None,
            step: None,
            seconds: Some(61.0),
            version: None,
            since_green: Vec::new(),
        }
    }

    #[test]
    fn a_rung_that_a_run_has_not_come_to_is_not_one_that_it_failed_to_try() {
        use RungStatus::{Fail, Pass, Skip, Unver};
        let statuses = [Pass, Fail, Skip, Unver, Unver];
        let words = |test: &RecipeTest| {
            row(test, Micros::seconds(20)).rungs.iter().map(|cell| cell.word).collect::<Vec<_>>()
        };
        let over = test(RunState::Completed, Some(RunResult::Fail), statuses);
        assert_eq!(words(&over), ["passed", "failed", "does not apply", "not verified", "not verified"]);
        assert_eq!(level(&over), "1 of 5");
        let open = test(RunState::Running, None, statuses);
        assert_eq!(words(&open)[3..], ["not yet known", "not yet known"]);
        assert_eq!(level(&open), "");
    }

    #[test]
    fn what_needs_eyes_comes_first_and_where_it_failed_is_said() {
        let mut red = test(RunState::Completed, Some(RunResult::Fail), [RungStatus::Fail; 5]);
        red.run.failed_stage = Some("Install".to_owned());
        red.code = Some("CrashLoop".to_owned());
        let red = line("web", &[red], None, Micros::seconds(20)).expect("a run");
        assert_eq!(
            (red.rank, red.detail.as_str(), red.level.as_str()),
            (0, "CrashLoop at Install", "0 of 5")
        );
        let good = test(RunState::Completed, Some(RunResult::Pass), [RungStatus::Pass; 5]);
        let green = GreenRun { number: 3, at: "2026-01-02T03:04:05Z".to_owned(), version: "1.0".to_owned() };
        let good = line("web", &[good], Some(&green), Micros::seconds(20)).expect("a run");
        assert_eq!((good.rank, good.green), (4, Some((3, "2026-01-02".to_owned(), "1.0".to_owned()))));
        assert!(line("web", &[], None, Micros::seconds(20)).is_none());
    }
}
