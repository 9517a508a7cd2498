//! `/dashboard`: every recipe against its rungs, with its level and where that is going, how long it takes, and when it was green
//! last. It shows how recipes stand; what is going on right now is on `/recipes`.

use std::fmt::Write as _;

use askama::Template;
use assay_api::dashboard::{BoardRecipe, BoardRun};
use assay_api::recipes::GreenRun;
use assay_model::recipe::{Rung, RungStatus};
use assay_model::{Micros, RunResult, RunState};
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;

use super::format::{self, When};
use super::shell::{Badge, PageError, RunFacts, Shell, Signed, Spared, page as finished};
use crate::api;
use crate::state::App;

/// A bar of the trend, with the space after it, and the height of a level, in the picture's own units.
const BAR: (u32, u32) = (6, 3);
/// Longest text that is looked for.
const LONGEST: usize = 64;

#[derive(Template)]
#[template(path = "dashboard.html", blocks = ["state"])]
struct DashboardPage {
    shell: Shell,
    /// What is looked for in names.
    wanted: String,
    /// Its fragment, with what is looked for.
    address: String,
    counts: String,
    rungs: [(&'static str, &'static str); 5],
    looked_at: u32,
    any: bool,
    lines: Vec<Line>,
}

/// A recipe.
struct Line {
    name: String,
    badge: Badge,
    /// The run that it stands by.
    run: i64,
    when: When,
    /// What went wrong, or that the run is no whole one.
    detail: String,
    level: Option<u8>,
    rungs: Vec<Cell>,
    trend: Trend,
    took: String,
    usual: String,
    green: Option<Green>,
    /// A run that is not over.
    now: Option<(i64, &'static str)>,
    /// For the order: what needs eyes first.
    rank: u8,
}

struct Cell {
    tone: &'static str,
    mark: &'static str,
    word: &'static str,
}

struct Green {
    run: i64,
    day: String,
    version: String,
}

/// Levels of whole runs, oldest first, as bars.
struct Trend {
    width: u32,
    height: u32,
    /// Outlines of the bars of runs that passed, and of those that failed.
    passed: String,
    failed: String,
    /// `1 → 4`, `steady`.
    short: String,
    /// All of it in words.
    words: String,
}

#[derive(Default, Deserialize)]
pub(super) struct Wanted {
    q: Option<String>,
}

pub(super) async fn page(
    State(app): State<App>,
    Signed(operator): Signed,
    Query(wanted): Query<Wanted>,
) -> Result<Response, PageError> {
    finished(&gather(&app, Shell::new(&operator, "dashboard"), wanted).await?)
}

/// The part that changes, alone.
pub(super) async fn fragment(
    State(app): State<App>,
    Signed(operator): Signed,
    Query(wanted): Query<Wanted>,
) -> Result<Response, PageError> {
    finished(&gather(&app, Shell::new(&operator, "dashboard"), wanted).await?.as_state())
}

async fn gather(app: &App, shell: Shell, wanted: Wanted) -> Result<DashboardPage, PageError> {
    let board = api::dashboard(app).await?;
    Ok(draw(shell, &board.recipes, &wanted.q.unwrap_or_default(), app.engine.now()))
}

fn draw(shell: Shell, recipes: &[BoardRecipe], wanted: &str, now: Micros) -> DashboardPage {
    let wanted = assay_model::text::clean_to(wanted, LONGEST);
    let letters = wanted.to_lowercase();
    let fits = |recipe: &&BoardRecipe| recipe.name.to_lowercase().contains(&letters);
    let mut lines: Vec<Line> = recipes.iter().filter(fits).filter_map(|recipe| line(recipe, now)).collect();
    lines.sort_by(|a, b| (a.rank, a.level, &a.name).cmp(&(b.rank, b.level, &b.name)));
    let query: String = url::form_urlencoded::byte_serialize(wanted.as_bytes()).collect();
    DashboardPage {
        shell,
        address: format!("/dashboard/state?q={query}"),
        wanted,
        counts: counts(&lines),
        rungs: names(),
        looked_at: api::EACH,
        any: !recipes.is_empty(),
        lines,
    }
}

fn names() -> [(&'static str, &'static str); 5] {
    Rung::ALL.map(|rung| match rung {
        Rung::Install => ("L1", "Install"),
        Rung::Upgrade => ("L2", "Upgrade"),
        Rung::Backup => ("L3", "Backup"),
        Rung::Functional => ("L4", "Functional"),
        Rung::Lint => ("L5", "Lint"),
    })
}

/// `3 at level 5 · 1 at level 2 · 1 not known`, the highest first.
fn counts(lines: &[Line]) -> String {
    let of = |level: Option<u8>| lines.iter().filter(|line| line.level == level).count();
    let levels = (0..=5).rev().map(|level| (of(Some(level)), format!("at level {level}")));
    let all = levels.chain([(of(None), "not known".to_owned())]);
    let told: Vec<String> = all.filter(|(n, _)| *n > 0).map(|(n, words)| format!("{n} {words}")).collect();
    told.join(" · ")
}

fn line(recipe: &BoardRecipe, now: Micros) -> Option<Line> {
    let latest = recipe.runs.first()?;
    let over = || recipe.runs.iter().find(|run| run.level.is_some());
    let shown = recipe.standing.as_ref().or_else(over).unwrap_or(latest);
    let badge = badge(shown);
    let open = |run: &&BoardRun| !run.state.is_terminal();
    let trend = Trend::of(&recipe.runs);
    Some(Line {
        name: recipe.name.clone(),
        rank: match badge.tone {
            "fail" => 0,
            "warn" => 1,
            "pass" => 3,
            _ => 2,
        },
        run: shown.run,
        when: When::new(shown.completed_at.unwrap_or(shown.asked_at), now),
        detail: detail(shown),
        level: shown.level,
        rungs: (0..Rung::ALL.len()).map(|at| cell(shown.rungs.get(at).copied())).collect(),
        took: shown.seconds.map_or_else(String::new, format::duration),
        usual: usual(&recipe.runs).map_or_else(String::new, format::duration),
        green: recipe.last_green.as_ref().map(green),
        now: recipe
            .runs
            .iter()
            .find(open)
            .map(|run| (run.run, if run.state == RunState::Queued { "queued" } else { "being tested" })),
        trend,
        badge,
    })
}

fn detail(run: &BoardRun) -> String {
    let failed = match (&run.failed_stage, &run.code) {
        (Some(stage), Some(code)) => format!("{code} at {stage}"),
        (Some(stage), None) => format!("at {stage}"),
        (None, _) => String::new(),
    };
    let of = run.pull_request.as_ref().map(|name| format!("of pull request {name}"));
    [Some(failed).filter(|text| !text.is_empty()), of].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// A pass is green only when it is a whole one.
fn badge(run: &BoardRun) -> Badge {
    let badge = Badge::run(&RunFacts {
        state: run.state,
        result: run.result,
        overridden: run.overridden,
        spared: Spared::default(),
        profile: &run.profile,
        stage: run.stage.as_deref(),
    });
    if badge.tone == "pass" && !run.whole { Badge::warning("Passed in part") } else { badge }
}

fn cell(status: Option<RungStatus>) -> Cell {
    let (tone, mark, word) = match status {
        Some(RungStatus::Pass) => ("pass", "✓", "passed"),
        Some(RungStatus::Fail) => ("fail", "✕", "failed"),
        Some(RungStatus::Skip) => ("idle", "–", "does not apply"),
        Some(RungStatus::Unver) => ("warn", "?", "not verified"),
        None => ("idle", "·", "not yet known"),
    };
    Cell { tone, mark, word }
}

fn green(green: &GreenRun) -> Green {
    Green {
        run: green.number,
        day: green.at.get(..10).unwrap_or(&green.at).to_owned(),
        version: green.version.clone(),
    }
}

/// The median of the whole runs that passed: the lower one of the two in the middle, where there are two.
fn usual(runs: &[BoardRun]) -> Option<f64> {
    let passed = runs.iter().filter(|run| run.whole && run.result == Some(RunResult::Pass));
    let mut seconds: Vec<f64> = passed.filter_map(|run| run.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len().saturating_sub(1) / 2).copied()
}

impl Trend {
    /// From runs, newest first. A quick run or a broken one says nothing of the level.
    fn of(runs: &[BoardRun]) -> Self {
        let told = runs.iter().rev().filter(|run| run.whole && run.result.is_some());
        let levels: Vec<(u8, bool)> =
            told.filter_map(|run| Some((run.level?, run.result == Some(RunResult::Pass)))).collect();
        let (step, unit) = BAR;
        let height = unit * 5 + 1;
        let (mut passed, mut failed) = (String::new(), String::new());
        for (place, (level, pass)) in (0_u32..).zip(&levels) {
            // A run at level 0 has a bar as well: it was there.
            let tall = u32::from(*level) * unit + 1;
            let bars = if *pass { &mut passed } else { &mut failed };
            let _ = write!(bars, "M{} {height}v-{tall}h{}v{tall}z", place * step, step - 1);
        }
        let short = match (levels.first(), levels.last()) {
            (Some((first, _)), Some((last, _))) if first != last => format!("{first} → {last}"),
            (Some(_), Some(_)) if levels.windows(2).all(|two| two[0].0 == two[1].0) => "steady".to_owned(),
            (Some(_), Some(_)) => "up and down".to_owned(),
            _ => String::new(),
        };
        let words: Vec<String> = levels
            .iter()
            .map(|(level, pass)| if *pass { level.to_string() } else { format!("{level} (failed)") })
            .collect();
        Self {
            width: u32::try_from(levels.len()).unwrap_or(0) * step,
            height,
            passed,
            failed,
            short,
            words: format!("levels, oldest first: {}", words.join(", ")),
        }
    }
}

#[cfg(test)]
#[path = "dashboard_tests.rs"]
mod tests;
