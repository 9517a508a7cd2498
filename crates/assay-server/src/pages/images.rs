//! `/images`: every image that was ever tested, and the history of one.

use askama::Template;
use assay_api::images::{Image, ImageChange, ImageTest};
use assay_model::{Micros, RunResult, RunState, Verdict, bytes};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::Deserialize;

use super::format::{self, When};
use super::shell::{Badge, PageError, RunFacts, Shell, Signed, Spared, page as finished};
use crate::api;
use crate::state::App;

/// Stages that take so little that they have no place in the chart.
const TOO_SHORT_S: f64 = 0.2;
/// The chart's height and the width of one of its bars, in its own units.
const CHART: (f64, f64) = (120.0, 26.0);
/// Colours of stages in the style sheet.
const HUES: usize = 10;

#[derive(Template)]
#[template(path = "images.html", blocks = ["state"])]
struct ImagesPage {
    shell: Shell,
    counts: String,
    images: Vec<ImageLine>,
}

/// An image in the list.
struct ImageLine {
    name: String,
    badge: Badge,
    run: i64,
    when: When,
    /// What it waits for, what is going on, or what went wrong.
    detail: String,
    digest: Option<String>,
    volume: String,
    trend: Trend,
    /// For the order: what needs eyes first.
    rank: u8,
}

/// The latest runs as a small strip, oldest first.
pub(super) struct Trend {
    pub(super) marks: Vec<(&'static str, &'static str)>,
    /// The same in words.
    pub(super) words: String,
}

impl Trend {
    /// From the badges of runs, newest first.
    pub(super) fn of(mut badges: Vec<Badge>) -> Self {
        badges.reverse();
        let words: Vec<_> = badges.iter().map(|badge| badge.word.to_lowercase()).collect();
        Self {
            marks: badges.iter().map(|badge| (badge.tone, badge.mark())).collect(),
            words: format!("latest runs, oldest first: {}", words.join(", ")),
        }
    }
}

#[derive(Template)]
#[template(path = "image.html")]
struct ImagePage {
    shell: Shell,
    name: String,
    line: ImageLine,
    file: Option<(String, String, String)>,
    rows: Vec<TestLine>,
    stages: Vec<String>,
    chart: Option<Chart>,
    changes: Vec<ImageChange>,
    next: Option<String>,
    older: bool,
}

/// A run in the history.
struct TestLine {
    number: i64,
    badge: Badge,
    when: When,
    digest: Option<String>,
    /// Whether the image is another one than in the run before.
    new_image: bool,
    failed: String,
    took: String,
    stages: Vec<Option<(Badge, String)>>,
}

/// How long runs took, oldest first, as bars of stages.
struct Chart {
    width: f64,
    height: f64,
    bars: Vec<Bar>,
    top: String,
    words: String,
    legend: Vec<(usize, String)>,
}

struct Bar {
    number: i64,
    title: String,
    x: f64,
    mark: &'static str,
    parts: Vec<Part>,
}

struct Part {
    y: f64,
    height: f64,
    hue: usize,
}

pub(super) async fn page(State(app): State<App>, Signed(operator): Signed) -> Result<Response, PageError> {
    finished(&gather(&app, Shell::new(&operator, "images")).await?)
}

/// The part that changes, alone.
pub(super) async fn fragment(
    State(app): State<App>,
    Signed(operator): Signed,
) -> Result<Response, PageError> {
    let whole = gather(&app, Shell::new(&operator, "images")).await?;
    finished(&whole.as_state())
}

async fn gather(app: &App, shell: Shell) -> Result<ImagesPage, PageError> {
    let images = lines(app).await?;
    Ok(ImagesPage { shell, counts: counts(&images.iter().map(|line| line.rank).collect::<Vec<_>>()), images })
}

/// Every image as it stands in lists, with what needs eyes first.
async fn lines(app: &App) -> Result<Vec<ImageLine>, PageError> {
    let now = app.engine.now();
    let mut lines: Vec<ImageLine> = api::images(app)
        .await?
        .iter()
        .filter_map(|image: &Image| line(&image.name, &image.tests, now))
        .collect();
    lines.sort_by(|a, b| (a.rank, &a.name).cmp(&(b.rank, &b.name)));
    Ok(lines)
}

/// `2 failed · 1 running · 5 passed`, from the ranks of all lines.
pub(super) fn counts(ranks: &[u8]) -> String {
    let of = |rank: u8| ranks.iter().copied().filter(|known| rank.eq(known)).count();
    let words =
        [(0, "failed"), (1, "being tested"), (2, "queued"), (3, "without a clean verdict"), (4, "passed")];
    let told: Vec<String> = words
        .into_iter()
        .filter(|(rank, _)| of(*rank) > 0)
        .map(|(rank, word)| format!("{} {word}", of(rank)))
        .collect();
    told.join(" · ")
}

fn line(name: &str, tests: &[ImageTest], now: Micros) -> Option<ImageLine> {
    // A change that is not taken yet says nothing of the image as it is, unless there is nothing else.
    let own: Vec<&ImageTest> = tests.iter().filter(|test| test.pull_request.is_none()).collect();
    let tests: Vec<&ImageTest> = if own.is_empty() { tests.iter().collect() } else { own };
    let latest = *tests.first()?;
    let badge = badge(latest);
    let read = tests.iter().find_map(|test| test.image.as_ref());
    let detail = match (&latest.run.waiting, &latest.run.failed_stage, &latest.code) {
        (Some(why), _, _) => format::sentence(why),
        (None, Some(stage), Some(code)) => format!("{code} at {stage}"),
        (None, Some(stage), None) => format!("at {stage}"),
        (None, None, _) => latest.step.clone().unwrap_or_default(),
    };
    Some(ImageLine {
        name: name.to_owned(),
        rank: rank(latest.run.state, badge.tone),
        run: latest.run.number,
        when: When::new(latest.run.completed_at.unwrap_or(latest.run.created_at), now),
        detail,
        digest: read.map(|file| short(&file.sha256.to_string())),
        volume: read.and_then(|file| file.volume.clone()).unwrap_or_default(),
        trend: Trend::of(tests.iter().copied().map(self::badge).collect()),
        badge,
    })
}

pub(super) const fn rank(state: RunState, tone: &str) -> u8 {
    match (state, tone.as_bytes()) {
        (RunState::Queued, _) => 2,
        (RunState::Booting | RunState::Running | RunState::Cancelling, _) => 1,
        (_, b"fail") => 0,
        (_, b"pass") => 4,
        _ => 3,
    }
}

/// A pass is green only when it is a whole one.
fn badge(test: &ImageTest) -> Badge {
    let run = &test.run;
    Badge::run(&RunFacts {
        state: run.state,
        result: run.result,
        overridden: run.overridden,
        spared: Spared {
            muted: test.checks_off,
            left_out: test.stages_left_out,
            begun_late: test.from_phase.is_some(),
        },
        profile: &run.profile,
        stage: run.stage.as_deref(),
    })
}

/// The beginning of a digest: enough to tell images apart, and to find the whole one.
fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
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
    let history = api::image_history(&app, &name, before, None).await?;
    let now = app.engine.now();
    let none = || crate::error::ApiError::not_found(format!("older run of {name}"));
    let line = line(&history.name, &history.tests, now).ok_or_else(none)?;
    let stages = stages(&history.tests);
    let own = history.tests.iter().filter(|test| test.pull_request.is_none());
    let file = own
        .chain(&history.tests)
        .find_map(|test| test.image.as_ref())
        .map(|file| (file.sha256.to_string(), bytes(file.bytes), file.volume.clone().unwrap_or_default()));
    finished(&ImagePage {
        shell: Shell::new(&operator, "images"),
        chart: chart(&history.tests, &stages),
        rows: rows(&history.tests, &stages, now),
        next: history.next.map(|before| format!("?before={before}")),
        older: before.is_some(),
        changes: history.changes,
        name: history.name,
        line,
        file,
        stages,
    })
}

/// The stages that any of these runs had, in the pipeline's order; those that this server does not know come last.
fn stages(tests: &[ImageTest]) -> Vec<String> {
    let mut names: Vec<String> =
        assay_pipelines::image::STAGES.iter().map(|stage| stage.plan().name.0).collect();
    names.retain(|name| tests.iter().any(|test| test.stages.iter().any(|stage| stage.name == *name)));
    for stage in tests.iter().flat_map(|test| &test.stages) {
        if !names.contains(&stage.name) {
            names.push(stage.name.clone());
        }
    }
    names
}

fn rows(tests: &[ImageTest], stages: &[String], now: Micros) -> Vec<TestLine> {
    let digest = |test: &ImageTest| test.image.as_ref().map(|file| file.sha256);
    let mut rows = Vec::new();
    for (place, test) in tests.iter().enumerate() {
        let before = tests[place + 1..].iter().find_map(digest);
        let run = &test.run;
        let failed = match (&run.failed_stage, &test.code, &run.waiting) {
            (Some(stage), Some(code), _) => format!("{stage}: {code}"),
            (Some(stage), None, _) => stage.clone(),
            (None, _, Some(why)) => why.clone(),
            (None, _, None) => no_verdict(test),
        };
        let of = test.pull_request.as_ref().map(|name| format!("of pull request {name}"));
        let told = [Some(failed), of].into_iter().flatten().filter(|words| !words.is_empty());
        rows.push(TestLine {
            number: run.number,
            badge: badge(test),
            when: When::new(run.created_at, now),
            digest: digest(test).map(|sha256| short(&sha256.to_string())),
            new_image: before.is_some_and(|before| digest(test).is_some_and(|now| now != before)),
            failed: told.collect::<Vec<_>>().join("; "),
            took: test.seconds.map_or_else(String::new, format::duration),
            stages: stages.iter().map(|name| cell(test, name)).collect(),
        });
    }
    rows
}

/// The runner failed, not the image: at which stage.
fn no_verdict(test: &ImageTest) -> String {
    let open = !test.run.state.is_terminal();
    if open || test.run.result.is_some() {
        return String::new();
    }
    let failed = test.stages.iter().find(|stage| stage.verdict == Some(Verdict::Error));
    failed.map_or_else(String::new, |stage| format!("{}: runner error", stage.name))
}

fn cell(test: &ImageTest, name: &str) -> Option<(Badge, String)> {
    let stage = test.stages.iter().find(|stage| stage.name == name)?;
    let verdict = stage.verdict?;
    let took = stage.seconds.filter(|_| verdict != Verdict::Skip).map_or_else(String::new, format::duration);
    Some((Badge::verdict(verdict), took))
}

/// Only of what came to a verdict: a run that was broken off says nothing of how long it takes.
fn chart(tests: &[ImageTest], stages: &[String]) -> Option<Chart> {
    let finished: Vec<&ImageTest> = tests.iter().filter(|test| test.run.result.is_some()).collect();
    if finished.len() < 2 {
        return None;
    }
    let seconds = |test: &ImageTest| -> f64 { test.stages.iter().filter_map(|stage| stage.seconds).sum() };
    let longest = finished.iter().map(|test| seconds(test)).fold(1.0, f64::max);
    let (height, width) = CHART;
    let mut bars = Vec::new();
    for (place, test) in finished.iter().rev().enumerate() {
        let mut y = height;
        let mut parts = Vec::new();
        for (hue, name) in stages.iter().enumerate() {
            let took = test.stages.iter().find(|stage| stage.name == *name).and_then(|stage| stage.seconds);
            let Some(took) = took.filter(|took| *took >= TOO_SHORT_S) else { continue };
            let part = took / longest * height;
            y -= part;
            parts.push(Part { y, height: part, hue: hue % HUES });
        }
        let word = if test.run.result == Some(RunResult::Pass) { "passed" } else { "failed" };
        bars.push(Bar {
            number: test.run.number,
            title: format!("run {}: {word} after {}", test.run.number, format::duration(seconds(test))),
            x: place as f64 * width,
            mark: badge(test).mark(),
            parts,
        });
    }
    let drawn = |hue: usize| bars.iter().any(|bar| bar.parts.iter().any(|part| part.hue == hue));
    let legend = stages.iter().enumerate().map(|(hue, name)| (hue % HUES, name.clone()));
    let legend = legend.filter(|(hue, _)| drawn(*hue)).collect();
    Some(Chart {
        width: bars.len() as f64 * width,
        height,
        top: format::duration(longest),
        words: format!(
            "How long the last {} finished runs took, oldest first: {}",
            bars.len(),
            bars.iter().map(|bar| bar.title.as_str()).collect::<Vec<_>>().join("; ")
        ),
        bars,
        legend,
    })
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
