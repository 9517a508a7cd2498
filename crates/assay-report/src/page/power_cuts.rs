//! `power-cuts.html`: every power cut of one installation on one page, the line of moments first.
//!
//! The same rules as for a report's page hold: text is cleaned when it is made and escaped when it is shown, there is no
//! script, nothing is fetched. Each kind has a letter, so that colour never carries a meaning alone.

use askama::Template;
use assay_model::bytes;
use assay_model::power_cuts::{Became, CutsVerdict, PowerCuts};
use assay_model::text::plural;

use super::{Fact, Text};

/// The drawing's width in its own units, and the line's place in it.
const WIDTH: f64 = 760.0;
const LEFT: f64 = 8.0;
const RIGHT: f64 = WIDTH - 8.0;
/// What a letter needs.
const LETTER: f64 = 12.0;
/// What a character of a label needs, about.
const CHARACTER: f64 = 6.4;
/// Rows of labels below the line; what finds no room in any is left to the table.
const ROWS: usize = 3;
/// Stretches and red states that are listed; the file beside the page has all of them.
const MAX_LISTED: usize = 400;

/// Renders the page.
pub(crate) fn render(cuts: &PowerCuts) -> String {
    CutsPage::of(cuts).render().expect("writing to a string does not fail")
}

#[derive(Template)]
#[template(path = "power-cuts.html")]
struct CutsPage {
    profile: Text,
    image: Text,
    headline: &'static str,
    why: Text,
    tone: &'static str,
    problems: Vec<Text>,
    not_covered: Vec<Text>,
    kinds: Vec<Kind>,
    pieces: Vec<Piece>,
    phases: Vec<Phase>,
    reds: Vec<Red>,
    stretches: Vec<Row>,
    left_out: usize,
    facts: Vec<Fact>,
}

/// A kind, with what came to it.
struct Kind {
    letter: char,
    class: &'static str,
    words: &'static str,
    states: String,
    moments: String,
}

/// A piece of the line.
struct Piece {
    x: String,
    width: String,
    class: &'static str,
    letter: Option<(char, String)>,
    title: String,
}

/// Where a phase had ended.
struct Phase {
    x: String,
    label: Option<(Text, String, u32)>,
}

/// A state that no installer may leave behind, or that was not seen.
struct Red {
    what: &'static str,
    tone: &'static str,
    at: Text,
    why: Text,
    code: Text,
    transcript: Option<Text>,
}

struct Row {
    from: String,
    phase: Text,
    moments: String,
    letter: char,
    class: &'static str,
    words: &'static str,
    why: Text,
}

impl CutsPage {
    fn of(cuts: &PowerCuts) -> Self {
        let verdict = cuts.verdict();
        let stretches = cuts.stretches();
        let left_out = stretches.len().saturating_sub(MAX_LISTED);
        Self {
            profile: Text::new(&cuts.profile),
            image: Text::new(&cuts.image),
            headline: verdict.headline(),
            why: Text::new(&cuts.why()),
            tone: match verdict {
                CutsVerdict::Pass => "good",
                CutsVerdict::PassInPart => "caution",
                CutsVerdict::Fail => "bad",
                CutsVerdict::NoResult => "neutral",
            },
            problems: cuts.problems.iter().skip(1).take(20).map(|problem| Text::new(problem)).collect(),
            not_covered: cuts.not_covered.iter().map(|one| Text::new(one)).collect(),
            kinds: kinds(cuts),
            pieces: pieces(cuts),
            phases: phases(cuts),
            reds: reds(cuts),
            stretches: stretches.iter().take(MAX_LISTED).map(|one| row(cuts, one)).collect(),
            left_out,
            facts: facts(cuts),
        }
    }
}

const fn class(became: Became) -> &'static str {
    match became {
        Became::New => "k-new",
        Became::Old => "k-old",
        Became::Refused => "k-refused",
        Became::Half => "k-half",
        Became::Broken => "k-broken",
        Became::Unseen => "k-unseen",
        Became::NotTried => "k-none",
    }
}

fn kinds(cuts: &PowerCuts) -> Vec<Kind> {
    let seen = |became: Became| {
        let (states, moments) = cuts.count(became);
        // What is right or wrong is said also where there is none of it.
        let always = matches!(became, Became::New | Became::Refused | Became::Half | Became::Broken);
        (states > 0 || always).then(|| Kind {
            letter: became.letter(),
            class: class(became),
            words: became.words(),
            states: plural(states, "state"),
            moments: plural(moments, "moment"),
        })
    };
    Became::ALL.into_iter().filter_map(seen).collect()
}

/// Where a moment is on the line; its end is where the next one is.
fn place(number: usize, moments: usize) -> f64 {
    LEFT + (RIGHT - LEFT) * number as f64 / moments.max(1) as f64
}

fn pieces(cuts: &PowerCuts) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = &cuts.cuts[..];
    while let Some(first) = rest.first() {
        let became = cuts.became(first);
        let length = rest.iter().take_while(|cut| cuts.became(cut) == became).count();
        let start = cuts.cuts.len() - rest.len();
        let (from, to) = (place(start, cuts.cuts.len()), place(start + length, cuts.cuts.len()));
        let last = &rest[length - 1];
        let letter = (to - from >= LETTER && became != Became::NotTried)
            .then(|| (became.letter(), format!("{:.1}", f64::midpoint(from, to))));
        pieces.push(Piece {
            x: format!("{from:.2}"),
            // One moment of thousands is still to be seen.
            width: format!("{:.2}", (to - from).max(0.8)),
            class: class(became),
            letter,
            title: format!(
                "{}: {}, {:.1} s to {:.1} s",
                became.words(),
                plural(length, "moment"),
                first.at_s,
                last.at_s
            ),
        });
        rest = &rest[length..];
    }
    pieces
}

fn phases(cuts: &PowerCuts) -> Vec<Phase> {
    let mut free = [LEFT; ROWS];
    let mut phases = Vec::new();
    for (number, pair) in cuts.cuts.windows(2).enumerate() {
        let [before, cut] = pair else { continue };
        if before.phase == cut.phase {
            continue;
        }
        let x = place(number + 1, cuts.cuts.len());
        let label = Text::new(&format!("{} {:.1} s", cut.phase, cut.at_s));
        let width = label.0.chars().count() as f64 * CHARACTER;
        let at = x.min(RIGHT - width).max(LEFT);
        let room = free.iter().position(|free| *free <= at);
        let label = room.map(|row| {
            free[row] = at + width + CHARACTER;
            (label, format!("{at:.1}"), 78 + 15 * u32::try_from(row).unwrap_or(0))
        });
        phases.push(Phase { x: format!("{x:.1}"), label });
    }
    phases
}

fn reds(cuts: &PowerCuts) -> Vec<Red> {
    let red = cuts.states.iter().filter(|state| state.became.is_red() || state.became == Became::Unseen);
    red.take(MAX_LISTED)
        .map(|state| {
            let cut = cuts.cuts.get(state.first);
            let at = cut.map_or_else(String::new, |cut| {
                format!("after {:.1} s, after {} (moment {})", cut.at_s, cut.phase, cut.number)
            });
            Red {
                what: state.became.words(),
                tone: if state.became.is_red() { "" } else { " accepted" },
                at: Text::new(&format!("{}, the first {at}", plural(state.moments, "moment"))),
                why: Text::new(&state.why),
                code: Text::new(&state.code),
                transcript: state.transcript.as_deref().map(Text::new),
            }
        })
        .collect()
}

fn row(cuts: &PowerCuts, one: &assay_model::power_cuts::Stretch) -> Row {
    let at = |number: usize| cuts.cuts.get(number).map_or(0.0, |cut| cut.at_s);
    let from = if one.first == one.last {
        format!("{:.1} s", at(one.first))
    } else {
        format!("{:.1}–{:.1} s", at(one.first), at(one.last))
    };
    let moments = if one.booted == one.moments {
        one.moments.to_string()
    } else {
        format!("{} of {} booted", one.booted, one.moments)
    };
    let why = cuts.states.get(one.state).map_or("", |state| state.why.as_str());
    Row {
        from,
        phase: Text::new(&one.phase),
        moments,
        letter: one.became.letter(),
        class: class(one.became),
        words: one.became.words(),
        why: Text::new(why),
    }
}

fn facts(cuts: &PowerCuts) -> Vec<Fact> {
    let booted = cuts.booted();
    let seconds: f64 = cuts.states.iter().map(|state| state.seconds).sum();
    let mut facts = vec![
        Fact::new("Image", &cuts.image),
        Fact::new("SHA-256", &cuts.sha256.to_string()),
        Fact::new(
            "Installation",
            &format!(
                "success after {:.1} s, ended after {:.1} s, {} written",
                cuts.success_s,
                cuts.ended_s,
                bytes(cuts.written)
            ),
        ),
        Fact::new(
            "Moments",
            &format!(
                "{}, {}",
                plural(cuts.cuts.len(), "moment"),
                plural(cuts.states.len(), "different state")
            ),
        ),
        Fact::new("Booted", &format!("{}, watched for {seconds:.0} s in all", plural(booted, "state"))),
    ];
    if let Some(limit) = cuts.limit.filter(|limit| *limit < cuts.states.len()) {
        facts.push(Fact::new(
            "Limit",
            &format!("{}: the first, the last, and evenly between", plural(limit, "state")),
        ));
    }
    facts.push(Fact::new("Guests run by", &cuts.accel));
    if cuts.stretch > 1.0 {
        facts.push(Fact::new("Limits", &format!("stretched by {:.1}", cuts.stretch)));
    }
    facts.push(Fact::new("Seed", &cuts.seed.to_string()));
    facts.push(Fact::new("Assay", &cuts.assay));
    facts
}

#[cfg(test)]
#[path = "power_cuts_tests.rs"]
mod tests;
