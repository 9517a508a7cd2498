//! `matrix.html`: all cases of a matrix on one page, a grid first.
//!
//! The same rules as for a report's page hold: text is cleaned when it is made and escaped when it is shown, there is no
//! script, nothing is fetched. The page links to the reports beside it, by relative addresses.

use std::collections::BTreeMap;

use askama::Template;
use assay_model::matrix::{
    CaseVerdict, Matrix, MatrixAxis, MatrixCase, MatrixTry, QuarantineState, TryVerdict, Worst,
};
use assay_model::text::plural;
use base64::Engine as _;

use super::{Fact, Text, readable};
use crate::words;

/// Pictures that are shown; a page of gigabytes helps nobody.
const MAX_PICTURES: usize = 40;
/// The largest picture that is shown, in bytes.
const MAX_PICTURE: usize = 2 << 20;

/// Renders the page.
pub(crate) fn render(matrix: &Matrix, pictures: &BTreeMap<String, Vec<u8>>) -> String {
    MatrixPage::of(matrix, pictures).render().expect("writing to a string does not fail")
}

#[derive(Template)]
#[template(path = "matrix.html")]
struct MatrixPage {
    name: Text,
    image: Text,
    headline: &'static str,
    why: Text,
    tone: &'static str,
    tally: Vec<Tally>,
    shouts: Vec<Text>,
    notes: Vec<Text>,
    down: Vec<Text>,
    across_axis: Option<Text>,
    across: Vec<Text>,
    rows: Vec<Row>,
    reds: Vec<Red>,
    quarantine: Vec<Known>,
    tries: Vec<Try>,
    facts: Vec<Fact>,
}

struct Tally {
    tone: &'static str,
    words: String,
}

struct Row {
    heads: Vec<Head>,
    cells: Vec<Place>,
}

/// A value of an axis, beside so many rows.
struct Head {
    axis: Text,
    value: Text,
    span: usize,
}

struct Place {
    /// Why there is no case.
    without: &'static str,
    /// The column's value, for screens without columns.
    label: Option<Text>,
    case: Option<Cell>,
}

struct Cell {
    tone: &'static str,
    word: Text,
    href: Option<Text>,
    lines: Vec<Text>,
}

/// A try that did not pass.
struct Red {
    case: Text,
    at: Text,
    message: Text,
    next: Option<Text>,
    known: Option<Text>,
    passed_then: bool,
    href: Text,
    /// In base64: only letters, digits, `+`, `/` and `=`.
    picture: Option<String>,
}

struct Known {
    what: Text,
    state: &'static str,
    tone: &'static str,
    until: Text,
    owner: Text,
    reason: Text,
    cases: Text,
}

struct Try {
    case: Text,
    number: u32,
    earlier: bool,
    verdict: &'static str,
    tone: &'static str,
    href: Option<Text>,
    time: String,
    message: Text,
    limits: Vec<Text>,
}

impl MatrixPage {
    fn of(matrix: &Matrix, pictures: &BTreeMap<String, Vec<u8>>) -> Self {
        let (headline, why, tone) = verdict(matrix);
        let (down, across_axis, across, rows) = grid(matrix);
        Self {
            name: Text::new(&matrix.name),
            image: Text::new(&matrix.image),
            headline,
            why: Text::new(&why),
            tone,
            tally: tally(matrix),
            shouts: shouts(matrix),
            notes: notes(matrix),
            down,
            across_axis,
            across,
            rows,
            reds: reds(matrix, pictures),
            quarantine: matrix.quarantine.iter().map(known).collect(),
            tries: matrix.cases.iter().flat_map(tries).collect(),
            facts: facts(matrix),
        }
    }
}

fn verdict(matrix: &Matrix) -> (&'static str, String, &'static str) {
    let excused = matrix.cases.iter().filter(|case| case.excused.is_some()).count();
    let passes = matrix.cases.iter().filter(|case| case.verdict() == CaseVerdict::Pass);
    let partial = passes.filter(|case| case.decisive().is_some_and(|one| !one.limits().is_empty())).count();
    match matrix.worst() {
        Worst::Fail => ("FAIL", "At least one case did not pass.".to_owned(), "bad"),
        Worst::NoVerdict => (
            "NO RESULT",
            "Not every case has a verdict: nothing is known about those that have none.".to_owned(),
            "neutral",
        ),
        Worst::Flaky => (
            "FLAKY",
            "Every case passed, and at least one of them only when it was run again. Nothing was changed in between: \
             look at the try that did not pass before you trust the one that did."
                .to_owned(),
            "caution",
        ),
        Worst::Pass if excused > 0 => (
            "PASS – FAILURES IN QUARANTINE",
            format!("{} did not pass and is known; everything else passed.", plural(excused, "case")),
            "caution",
        ),
        Worst::Pass if partial > 0 || !matrix.not_asked.is_empty() => (
            "PASS – NOT THE WHOLE",
            "What was run passed. It was not everything that the profile asks for.".to_owned(),
            "caution",
        ),
        Worst::Pass => ("PASS", "Every case passed.".to_owned(), "good"),
    }
}

fn tally(matrix: &Matrix) -> Vec<Tally> {
    let one = |(verdict, excused, count): (CaseVerdict, bool, usize)| Tally {
        tone: if excused { "caution" } else { tone(verdict) },
        words: format!("{count} {}{}", verdict.as_str(), if excused { " in quarantine" } else { "" }),
    };
    matrix.counts().into_iter().map(one).collect()
}

/// What must not be overlooked, in red words.
fn shouts(matrix: &Matrix) -> Vec<Text> {
    let over = matrix.quarantine.iter().filter(|entry| entry.state == QuarantineState::Over);
    let mut shouts: Vec<_> = over
        .map(|entry| {
            Text::new(&format!(
                "The quarantine of {} was over on {}: it counts again. {} looks after it.",
                entry.what, entry.excuse.until, entry.excuse.owner
            ))
        })
        .collect();
    if matrix.cases.iter().flat_map(|case| &case.tries).any(|one| !one.muted.is_empty()) {
        shouts.push(Text::new("Checks were switched off in some tries: these prove nothing of them."));
    }
    shouts
}

fn notes(matrix: &Matrix) -> Vec<Text> {
    let mut notes = Vec::new();
    for case in &matrix.cases {
        if let Some(excuse) = &case.excused {
            notes.push(format!(
                "{} is in quarantine until {}: {} ({} looks after it).",
                case.name, excuse.until, excuse.reason, excuse.owner
            ));
        }
        let unverified = case.decisive().map_or(0, |one| one.unverified);
        if unverified > 0 && case.verdict() == CaseVerdict::Pass {
            notes.push(format!(
                "{}: {} not verified beside its verdict; its report names them.",
                case.name,
                plural(unverified, "thing")
            ));
        }
    }
    for entry in &matrix.quarantine {
        let why = match entry.state {
            QuarantineState::NotNeeded => "nothing fails that it speaks of",
            QuarantineState::NoSuchCase => "there is no such case",
            _ => continue,
        };
        notes.push(format!("Take out the quarantine of {} ({}): {why}.", entry.what, entry.excuse.owner));
    }
    if !matrix.not_asked.is_empty() {
        notes.push(format!("Not asked for, and not in this report: {}.", matrix.not_asked.join("; ")));
    }
    notes.iter().map(|note| Text::new(note)).collect()
}

type Grid = (Vec<Text>, Option<Text>, Vec<Text>, Vec<Row>);

/// The last of several axes goes across, the others down, nested.
fn grid(matrix: &Matrix) -> Grid {
    let (down, across) = match matrix.axes.as_slice() {
        [] => (Vec::new(), None),
        [one] => (vec![one], None),
        [down @ .., across] => (down.iter().collect::<Vec<_>>(), Some(across)),
    };
    let mut places: Vec<(Vec<&str>, Vec<Option<&MatrixCase>>)> = Vec::new();
    let columns = across.map_or(1, |across| across.values.len());
    for case in &matrix.cases {
        let value = |axis: &str| case.values.get(axis).map_or("", String::as_str);
        let place: Vec<&str> = down.iter().map(|axis| value(&axis.name)).collect();
        let column = across.and_then(|axis| axis.values.iter().position(|v| v == value(&axis.name)));
        if places.last().is_none_or(|(known, _)| *known != place) {
            places.push((place, vec![None; columns]));
        }
        if let Some((_, cells)) = places.last_mut() {
            cells[column.unwrap_or(0)] = Some(case);
        }
    }
    let mut rows = Vec::new();
    for (number, (place, cells)) in places.iter().enumerate() {
        let mut heads = Vec::new();
        for (depth, axis) in down.iter().enumerate() {
            let same = |other: &(Vec<&str>, Vec<_>)| other.0[..=depth] == place[..=depth];
            if number > 0 && same(&places[number - 1]) {
                continue;
            }
            let span = places[number..].iter().take_while(|other| same(other)).count();
            heads.push(Head { axis: Text::new(&axis.name), value: Text::new(place[depth]), span });
        }
        let cells = cells.iter().enumerate().map(|(column, case)| Place {
            without: if not_asked(matrix, place, across, column) { "not asked for" } else { "left out" },
            label: across.map(|across| Text::new(&format!("{} {}", across.name, across.values[column]))),
            case: case.map(cell),
        });
        rows.push(Row { heads, cells: cells.collect() });
    }
    let heads = down.iter().map(|axis| Text::new(&axis.name)).collect();
    match across {
        Some(across) => {
            let values = across.values.iter().map(|value| Text::new(value)).collect();
            (heads, Some(Text::new(&across.name)), values, rows)
        }
        None => (heads, None, vec![Text::new("verdict")], rows),
    }
}

/// Whether the combination at a place is a case that was not asked for, and not one that the profile leaves out.
fn not_asked(matrix: &Matrix, place: &[&str], across: Option<&MatrixAxis>, column: usize) -> bool {
    let last = across.and_then(|across| across.values.get(column)).map(String::as_str);
    let values = place.iter().copied().chain(last);
    let name: Vec<_> =
        matrix.axes.iter().zip(values).map(|(axis, value)| format!("{}={value}", axis.name)).collect();
    matrix.not_asked.contains(&name.join(","))
}

fn cell(case: &MatrixCase) -> Cell {
    let verdict = case.verdict();
    let mut lines = Vec::new();
    let decisive = case.decisive();
    if let Some(one) = decisive {
        if one.is_red() {
            lines.push(at(one));
        }
        if matches!(verdict, CaseVerdict::Pass | CaseVerdict::Flaky) {
            lines.extend(one.limits());
        }
    }
    lines.extend(
        case.failed_before().map(|red| format!("try {} {}: {}", red.number, red.verdict.as_str(), at(red))),
    );
    if let Some(excuse) = &case.excused {
        lines.push(format!("in quarantine until {}, {}", excuse.until, excuse.owner));
    }
    let seconds = decisive.and_then(|one| one.seconds).map(words::span);
    let tries = (case.tries.len() > 1).then(|| format!("{} tries", case.tries.len()));
    let earlier = case.tries.last().filter(|last| last.earlier).map(|_| "carried over".to_owned());
    let last: Vec<_> = [seconds, tries, earlier].into_iter().flatten().collect();
    if !last.is_empty() {
        lines.push(last.join(" · "));
    }
    let limited = verdict == CaseVerdict::Pass && decisive.is_some_and(|one| !one.limits().is_empty());
    Cell {
        tone: if case.excused.is_some() || limited { "caution" } else { tone(verdict) },
        word: Text::new(if verdict == CaseVerdict::Fail { "FAIL" } else { verdict.as_str() }),
        href: decisive.map(href),
        lines: lines.iter().map(|line| Text::new(line)).collect(),
    }
}

/// Where it failed, and by what.
fn at(one: &MatrixTry) -> String {
    let words: Vec<&str> =
        one.stage.as_deref().into_iter().chain(one.codes.first().map(String::as_str)).collect();
    words.join(" · ")
}

/// The report beside this page. The dot keeps a name from being read as the scheme of an address.
fn href(one: &MatrixTry) -> Text {
    Text::new(&format!("./{}/report.html", one.folder))
}

const fn tone(verdict: CaseVerdict) -> &'static str {
    match verdict {
        CaseVerdict::Pass => "good",
        CaseVerdict::Flaky => "caution",
        CaseVerdict::NotRun | CaseVerdict::NoVerdict => "neutral",
        CaseVerdict::Unverified | CaseVerdict::Fail => "bad",
    }
}

fn reds(matrix: &Matrix, pictures: &BTreeMap<String, Vec<u8>>) -> Vec<Red> {
    let mut shown = 0;
    let mut reds = Vec::new();
    for case in &matrix.cases {
        let red_tries: Vec<_> = case.tries.iter().filter(|one| one.is_red()).collect();
        for (place, one) in red_tries.iter().enumerate() {
            // The picture is of the last one.
            let of_this = place + 1 == red_tries.len();
            let png = pictures
                .get(&case.name)
                .filter(|png| of_this && png.len() <= MAX_PICTURE && shown < MAX_PICTURES);
            shown += usize::from(png.is_some());
            let again = if case.tries.len() > 1 {
                format!(" · try {} of {}", one.number, case.tries.len())
            } else {
                String::new()
            };
            let verdict = if one.verdict == TryVerdict::Unverified { "not verified · " } else { "" };
            let passed_then = case.verdict() == CaseVerdict::Flaky;
            reds.push(Red {
                case: Text::new(&case.name),
                at: Text::new(&format!("{verdict}{}{again}", at(one))),
                message: Text::new(&one.message),
                next: one.next_step.as_deref().map(Text::new),
                known: case
                    .excused
                    .as_ref()
                    .map(|e| {
                        Text::new(&format!("In quarantine until {}: {} ({})", e.until, e.reason, e.owner))
                    })
                    .or_else(|| passed_then.then(|| Text::new("It passed when it was run again: flaky."))),
                passed_then,
                href: href(one),
                picture: png.map(|png| base64::engine::general_purpose::STANDARD.encode(png)),
            });
        }
    }
    reds
}

fn known(entry: &assay_model::matrix::QuarantineEntry) -> Known {
    let (state, tone) = match entry.state {
        QuarantineState::Holds => ("holds", "caution"),
        QuarantineState::Over => ("OVER", "bad"),
        QuarantineState::NotNeeded => ("not needed", "caution"),
        QuarantineState::NoSuchCase => ("no such case", "caution"),
        QuarantineState::NotAsked => ("not run", "neutral"),
    };
    Known {
        what: Text::new(&entry.what),
        state,
        tone,
        until: Text::new(&entry.excuse.until),
        owner: Text::new(&entry.excuse.owner),
        reason: Text::new(&entry.excuse.reason),
        cases: Text::new(&entry.cases.join("; ")),
    }
}

fn tries(case: &MatrixCase) -> Vec<Try> {
    if case.tries.is_empty() {
        return vec![Try {
            case: Text::new(&case.name),
            number: 0,
            earlier: false,
            verdict: "not run",
            tone: "neutral",
            href: None,
            time: "–".to_owned(),
            message: Text::new(""),
            limits: Vec::new(),
        }];
    }
    let one = |one: &MatrixTry| Try {
        case: Text::new(&case.name),
        number: one.number,
        earlier: one.earlier,
        verdict: one.verdict.as_str(),
        tone: match one.verdict {
            TryVerdict::Pass => "good",
            TryVerdict::Fail | TryVerdict::Unverified => "bad",
            TryVerdict::NoVerdict => "neutral",
        },
        href: Some(href(one)),
        time: one.seconds.map_or_else(|| "–".to_owned(), words::span),
        message: Text::new(&one.message),
        limits: one.limits().iter().map(|limit| Text::new(limit)).collect(),
    };
    case.tries.iter().map(one).collect()
}

fn facts(matrix: &Matrix) -> Vec<Fact> {
    let tries: Vec<_> = matrix.cases.iter().flat_map(|case| &case.tries).collect();
    let earlier = tries.iter().filter(|one| one.earlier).count();
    let mut ran = plural(tries.len() - earlier, "run");
    if earlier > 0 {
        ran = format!("{ran}, and {earlier} of an earlier matrix");
    }
    vec![
        Fact::new("Image", &matrix.image),
        Fact::new("SHA-256", &matrix.sha256.to_string()),
        Fact::new("Cases", &matrix.counts_in_words()),
        Fact::new("Runs", &ran),
        Fact::new("Began", &readable(&matrix.began_at)),
        Fact::new("Written", &readable(&matrix.ended_at)),
        Fact::new("Assay", &matrix.assay),
    ]
}
