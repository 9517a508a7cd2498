//! The digest in words: once, for every face of it. What is ours and what a recipe, an image or a machine said is kept apart, so
//! that each face can make the latter safe in its own way.

use std::fmt::Write as _;

use super::{Digest, Drift, Flaky, Green, Red, Slower, Waits};
use crate::text::{clean_to, plural};

/// Longest foreign text in a line, in characters.
const LONGEST: usize = 120;

/// A part of the digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Names it in addresses: `went-red`.
    pub id: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What is said where it has no items.
    pub none: &'static str,
    /// One a line.
    pub items: Vec<Item>,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item(pub Vec<Word>);

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Our own words.
    Ours(String),
    /// A text from outside.
    Theirs(String),
    /// A run, by its number.
    Run(i64),
}

/// A line being written.
struct Line(Vec<Word>);

impl Line {
    fn new(theirs: &str) -> Self {
        Self(vec![Word::Theirs(clean_to(theirs, LONGEST))])
    }

    fn ours(mut self, words: impl Into<String>) -> Self {
        self.0.push(Word::Ours(words.into()));
        self
    }

    fn theirs(mut self, text: &str) -> Self {
        self.0.push(Word::Theirs(clean_to(text, LONGEST)));
        self
    }

    fn run(mut self, number: i64) -> Self {
        self.0.push(Word::Run(number));
        self
    }
}

pub(super) fn sections(digest: &Digest) -> Vec<Section> {
    let section = |id, title, none, items: Vec<Line>| {
        let items = items.into_iter().map(|line| Item(line.0)).collect();
        Section { id, title, none, items }
    };
    vec![
        section(
            "waiting",
            "Waits for an operator",
            "Nothing waits for anybody.",
            digest.waiting.iter().map(waits).collect(),
        ),
        section(
            "went-red",
            "Went red and is still red",
            "Nothing went red.",
            digest.went_red.iter().map(red).collect(),
        ),
        section(
            "still-red",
            "Was red before, and still is",
            "Nothing has been red for longer.",
            digest.still_red.iter().map(red).collect(),
        ),
        section(
            "became-green",
            "Green again",
            "Nothing had to become green.",
            digest.became_green.iter().map(green).collect(),
        ),
        section(
            "drifted",
            "Drifted: tags that were moved upstream",
            "No tag was seen to be moved.",
            digest.drifted.iter().map(drift).collect(),
        ),
        section(
            "flaky",
            "Flaky: passed and failed under the same circumstances",
            "Nothing was flaky.",
            digest.flaky.iter().map(flaky).collect(),
        ),
        section(
            "slower",
            "Slower than in the four weeks before",
            "Nothing became slower.",
            digest.slower.iter().map(slower).collect(),
        ),
    ]
}

fn waits(waits: &Waits) -> Line {
    match waits {
        Waits::Held { pipeline, target, run, stage, until } => {
            let mut line = Line::new(target).ours(format!(" ({pipeline}): ")).run(*run).ours(" is held");
            if let Some(stage) = stage {
                line = line.ours(" after it failed at ").theirs(stage);
            }
            match until {
                Some(until) => line.ours(format!(", until {}", day(until))),
                None => line,
            }
        }
        Waits::Queue { draining, by, why, since } => {
            let how = if *draining { "being drained" } else { "paused" };
            let line =
                Line(vec![Word::Ours(format!("The queue is {how} since {}, by ", day(since)))]).theirs(by);
            if why.is_empty() { line } else { line.ours(": ").theirs(why) }
        }
    }
}

fn red(red: &Red) -> Line {
    let mut line = Line::new(&red.target).ours(format!(" ({})", red.pipeline));
    line = match (&red.code, &red.stage) {
        (Some(code), Some(stage)) => line.ours(": ").theirs(code).ours(" at ").theirs(stage),
        (None, Some(stage)) => line.ours(": at ").theirs(stage),
        (Some(code), None) => line.ours(": ").theirs(code),
        (None, None) => line,
    };
    line = line.ours(", ").run(red.run).ours(format!(", red since {}", day(&red.since)));
    if red.since_run == red.run { line } else { line.ours(" (").run(red.since_run).ours(")") }
}

fn green(green: &Green) -> Line {
    let line = Line::new(&green.target).ours(format!(" ({}): ", green.pipeline)).run(green.run);
    line.ours(format!(" on {}, after ", day(&green.at))).run(green.red_run).ours(" was red")
}

fn drift(drift: &Drift) -> Line {
    let line = Line::new(&drift.reference).ours(" in ").theirs(&drift.recipe).ours(": ").theirs(&drift.is);
    let line = line.ours(", was ").theirs(&drift.was).ours("; first seen by ").run(drift.run);
    line.ours(if drift.red { ", which failed" } else { ", which did not fail" })
}

fn flaky(flaky: &Flaky) -> Line {
    let commit: String = flaky.commit.chars().take(12).collect();
    let tries = flaky.failed + flaky.passed;
    let mut line = Line::new(&flaky.recipe)
        .ours(": ")
        .theirs(&flaky.what)
        .ours(format!(" failed in {} of {tries} runs of ", flaky.failed))
        .theirs(&commit)
        .ours(", last in ")
        .run(flaky.run);
    if !flaky.codes.is_empty() {
        line = line.ours(" (").theirs(&flaky.codes.join(", ")).ours(")");
    }
    line
}

fn slower(slower: &Slower) -> Line {
    let (now, before) = (span(slower.seconds), span(slower.before_seconds));
    let factor = slower.seconds / slower.before_seconds.max(0.1);
    Line::new(&slower.target)
        .ours(format!(" ({}, ", slower.pipeline))
        .theirs(&slower.profile)
        .ours(format!("): {now}, was {before} ({factor:.1} times as long), {}, last ", runs(slower.runs)))
        .run(slower.run)
}

pub(super) fn summary(digest: &Digest) -> String {
    let sum = |of: fn(&super::Proven) -> u32| digest.proven.iter().map(of).sum::<u32>();
    let told = [
        (sum(|proven| proven.passed), "passed"),
        (sum(|proven| proven.passed_in_part), "passed in part"),
        (sum(|proven| proven.failed), "failed"),
        (sum(|proven| proven.no_verdict), "without a verdict"),
        (sum(|proven| proven.broken_off), "broken off"),
    ];
    let all: u32 = told.iter().map(|(n, _)| n).sum();
    let told: Vec<String> =
        told.iter().filter(|(n, _)| *n > 0).map(|(n, words)| format!("{n} {words}")).collect();
    let mut out =
        if all == 0 { "No run ended.".to_owned() } else { format!("{}: {}.", runs(all), told.join(", ")) };
    let now = [
        (digest.went_red.len(), "went red"),
        (digest.still_red.len(), "still red from before"),
        (digest.became_green.len(), "green again"),
    ];
    let now: Vec<String> =
        now.iter().filter(|(n, _)| *n > 0).map(|(n, words)| format!("{n} {words}")).collect();
    if !now.is_empty() {
        let _ = write!(out, " {}.", now.join(", "));
    }
    if !digest.waiting.is_empty() {
        let things = plural(digest.waiting.len(), "thing");
        let verb = if digest.waiting.len() == 1 { "waits" } else { "wait" };
        let _ = write!(out, " {things} {verb} for an operator.");
    }
    out
}

pub(super) fn markdown(digest: &Digest) -> String {
    let mut out = format!("# {}\n\n", digest.title());
    if digest.unfinished {
        let _ = writeln!(out, "The week is not over: this is how it stood on {}.\n", moment(&digest.to));
    }
    let _ = writeln!(out, "{}\n", digest.summary());
    if !digest.proven.is_empty() {
        out.push_str("| | targets | passed | in part | failed | no verdict | broken off |\n");
        out.push_str("|---|---:|---:|---:|---:|---:|---:|\n");
        for row in &digest.proven {
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} |",
                row.pipeline,
                row.targets,
                row.passed,
                row.passed_in_part,
                row.failed,
                row.no_verdict,
                row.broken_off
            );
        }
        out.push('\n');
    }
    for section in sections(digest) {
        let _ = writeln!(out, "## {}\n", section.title);
        if section.items.is_empty() {
            let _ = writeln!(out, "{}\n", section.none);
            continue;
        }
        for Item(words) in &section.items {
            out.push_str("- ");
            for word in words {
                match word {
                    Word::Ours(words) => out.push_str(words),
                    Word::Theirs(text) => out.push_str(&code(text)),
                    Word::Run(number) => {
                        let _ = write!(out, "run {number}");
                    }
                }
            }
            out.push('\n');
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// A text as a code span: inside of one nothing is looked for. A backtick could end it, a line's end the list.
fn code(text: &str) -> String {
    let clean = clean_to(text, LONGEST).replace(['\u{2028}', '\u{2029}'], "\u{fffd}").replace('`', "'");
    if clean.is_empty() { "`-`".to_owned() } else { format!("`{clean}`") }
}

/// The day of an RFC 3339 instant.
fn day(at: &str) -> &str {
    at.get(..10).unwrap_or(at)
}

/// `2026-11-18 at 12:00 UTC`.
fn moment(at: &str) -> String {
    format!("{} at {} UTC", day(at), at.get(11..16).unwrap_or_default())
}

fn runs(n: u32) -> String {
    plural(n as usize, "run")
}

/// `45 s`, `2 m 10 s`, `1 h 05 m`.
fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} m {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} m", whole / 3600, whole % 3600 / 60),
    }
}
