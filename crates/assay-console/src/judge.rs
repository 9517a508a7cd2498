//! Looks at lines, wherever they come from: markers, ladder, catalogue.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use regex::bytes::{RegexSet, RegexSetBuilder};

use crate::armed::{Armed, Found, Shown};
use crate::catalogue::{self, CATALOGUE_VERSION, Pattern};
use crate::ladder::{GOING_DOWN, Ladder, Rung, STEPS, Step, Writer};
use crate::line::{Line, Source};
use crate::marker::Marker;
use crate::row::Row;
use crate::sighting::{Sighting, What};

/// How often one failure is reported in a boot. A broken disk fills consoles; the count goes on.
const REPEATS: u64 = 16;

/// What is looked for in every line.
enum Builtin {
    Step(&'static Step),
    Failure(&'static Pattern),
    GoingDown,
}

impl Builtin {
    fn writer(&self) -> Writer {
        match self {
            Self::Step(step) => step.writer,
            Self::Failure(pattern) => pattern.writer,
            Self::GoingDown => Writer::Kernel,
        }
    }

    fn regexes(&self) -> Vec<&'static str> {
        match self {
            Self::Step(step) => vec![step.regex],
            Self::Failure(pattern) => pattern.regexes.to_vec(),
            Self::GoingDown => vec![GOING_DOWN],
        }
    }

    fn unfinished(&self) -> bool {
        match self {
            Self::Step(step) => step.unfinished,
            Self::Failure(pattern) => pattern.unfinished,
            Self::GoingDown => false,
        }
    }
}

/// A set of expressions and, for each, the builtin that it belongs to.
struct Set {
    regexes: RegexSet,
    owners: Vec<usize>,
}

impl Set {
    fn new(builtins: &[Builtin], wanted: impl Fn(&Builtin, &str) -> bool) -> Self {
        let (owners, regexes): (Vec<usize>, Vec<&str>) = builtins
            .iter()
            .enumerate()
            .flat_map(|(owner, builtin)| builtin.regexes().into_iter().map(move |regex| (owner, regex)))
            .filter(|(owner, regex)| wanted(&builtins[*owner], regex))
            .unzip();
        // In bytes: everything looked for is ASCII, and the automaton of Unicode's spaces is many times larger.
        let set = RegexSetBuilder::new(regexes).unicode(false).build().expect("the patterns are tested");
        Self { regexes: set, owners }
    }

    fn matches(&self, text: &str, found: &mut Vec<usize>) {
        if self.regexes.is_match(text.as_bytes()) {
            found.extend(self.regexes.matches(text.as_bytes()).into_iter().map(|index| self.owners[index]));
        }
    }
}

struct Builtins {
    all: Vec<Builtin>,
    /// Those that begin with `^`: most, and on most lines decided after a few bytes.
    anchored: Set,
    floating: Set,
    unfinished: Set,
}

static BUILTINS: LazyLock<Builtins> = LazyLock::new(|| {
    let all: Vec<Builtin> = STEPS
        .iter()
        .map(Builtin::Step)
        .chain([Builtin::GoingDown])
        .chain(catalogue::patterns().map(Builtin::Failure))
        .collect();
    let anchored = Set::new(&all, |_, regex| regex.starts_with('^'));
    let floating = Set::new(&all, |_, regex| !regex.starts_with('^'));
    let unfinished = Set::new(&all, |builtin, _| builtin.unfinished());
    Builtins { all, anchored, floating, unfinished }
});

/// A line to look at.
#[derive(Clone, Copy)]
pub(crate) struct Passage<'a> {
    pub(crate) at: Duration,
    pub(crate) number: u64,
    pub(crate) source: Source,
    /// The kernel wrote it.
    pub(crate) is_kernel: bool,
    /// Where the message begins.
    pub(crate) message: usize,
    /// The whole text.
    pub(crate) text: &'a str,
}

#[derive(Default)]
pub(crate) struct Judge {
    armed: Armed,
    ladder: Ladder,
    /// The kernel stamps its lines, so one without a stamp is not the kernel's.
    stamped: bool,
    counts: BTreeMap<&'static str, u64>,
    reported: BTreeMap<&'static str, u64>,
    found: Vec<usize>,
}

impl Judge {
    pub(crate) fn new(markers: Vec<Marker>) -> Self {
        let mut judge = Self::default();
        judge.arm(markers);
        judge
    }

    pub(crate) fn arm(&mut self, markers: impl IntoIterator<Item = Marker>) {
        self.armed.arm(markers);
    }

    /// Arms markers and looks for them in lines that have ended already.
    pub(crate) fn arm_and_look<'l>(
        &mut self,
        markers: impl IntoIterator<Item = Marker>,
        lines: impl Iterator<Item = &'l Line>,
    ) -> Vec<Sighting> {
        let ids = self.armed.arm(markers);
        let mut out = Vec::new();
        for line in lines {
            let text = Passage {
                at: line.at,
                number: line.number,
                source: line.source,
                is_kernel: false,
                message: 0,
                text: &line.text,
            };
            report(self.armed.find_of(&ids, &line.text), text, &mut out);
        }
        out
    }

    pub(crate) fn disarm(&mut self, name: &str) -> bool {
        self.armed.disarm(name)
    }

    pub(crate) fn disarm_all(&mut self) {
        self.armed.disarm_all();
    }

    pub(crate) fn rung(&self) -> Option<Rung> {
        self.ladder.rung()
    }

    pub(crate) fn boot(&self) -> u32 {
        self.ladder.boot()
    }

    pub(crate) fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    pub(crate) fn restarted(&mut self) {
        self.ladder.restarted();
        self.new_boot();
    }

    fn new_boot(&mut self) {
        self.stamped = false;
        self.reported.clear();
    }

    /// A text that is complete: a line that ended, or what was visible before it was overwritten.
    pub(crate) fn complete(&mut self, text: Passage<'_>, shown: &mut Shown, out: &mut Vec<Sighting>) {
        report(self.armed.find(text.text.trim_end(), shown), text, out);
        if text.text.ends_with(' ') {
            report(self.armed.find(text.text, shown), text, out);
        }
        self.builtins_of(text, shown, out);
    }

    /// Ladder and catalogue in a text that is complete.
    pub(crate) fn builtins_of(&mut self, text: Passage<'_>, shown: &mut Shown, out: &mut Vec<Sighting>) {
        self.found.clear();
        let message = message_of(text);
        BUILTINS.anchored.matches(message, &mut self.found);
        BUILTINS.floating.matches(message, &mut self.found);
        if text.is_kernel {
            self.stamped = true;
            // What a kernel says while it goes down is no other boot: that begins with a line that only a beginning has.
            if self.rung() < Some(Rung::Kernel) {
                self.climb(Rung::Kernel, false, text, out);
            }
        }
        self.builtins(text, shown, out);
    }

    /// Markers alone, in part of a line.
    pub(crate) fn markers(
        &mut self,
        text: Passage<'_>,
        part: &str,
        shown: &mut Shown,
        out: &mut Vec<Sighting>,
    ) {
        report(self.armed.find(part, shown), text, out);
    }

    /// Markers across the joint of a wrapped line.
    pub(crate) fn wrapped(
        &mut self,
        text: Passage<'_>,
        joint: usize,
        shown: &mut Shown,
        out: &mut Vec<Sighting>,
    ) {
        report(self.armed.find_across(text.text, joint, shown), text, out);
    }

    /// An unfinished row: what no further text can change.
    pub(crate) fn open(
        &mut self,
        row: &Row,
        at: Duration,
        source: Source,
        shown: &mut Shown,
        out: &mut Vec<Sighting>,
    ) {
        let found = self.armed.find_final(row, shown);
        let number = row.number;
        if !found.is_empty() {
            let text = row.text();
            report(found, Passage { at, number, source, is_kernel: false, message: 0, text: &text }, out);
        }
        let ends_like_a_prompt = row.cells().last().is_some_and(|&c| c == ' ');
        if ends_like_a_prompt && row.cells().len() < 100 {
            let text = row.text();
            self.prompts(
                Passage { at, number, source, is_kernel: false, message: 0, text: &text },
                shown,
                out,
            );
        }
    }

    /// An unfinished line that did not change for a while.
    pub(crate) fn settled(&mut self, text: Passage<'_>, shown: &mut Shown, out: &mut Vec<Sighting>) {
        report(self.armed.find_settled(text.text, shown), text, out);
        self.prompts(text, shown, out);
    }

    /// The prompts among ladder and catalogue, in an unfinished line.
    pub(crate) fn prompts(&mut self, text: Passage<'_>, shown: &mut Shown, out: &mut Vec<Sighting>) {
        self.found.clear();
        BUILTINS.unfinished.matches(message_of(text), &mut self.found);
        self.builtins(text, shown, out);
    }

    /// Reports what `found` holds.
    fn builtins(&mut self, text: Passage<'_>, shown: &mut Shown, out: &mut Vec<Sighting>) {
        if self.found.is_empty() {
            return;
        }
        let mut found = std::mem::take(&mut self.found);
        found.sort_unstable();
        found.dedup();
        for &index in &found {
            let builtin = &BUILTINS.all[index];
            let is_written_so = match builtin.writer() {
                Writer::Any => true,
                Writer::Kernel => text.is_kernel || !self.stamped,
                Writer::Programs => !text.is_kernel,
            };
            if !is_written_so || shown.builtins.contains(&index) {
                continue;
            }
            match builtin {
                Builtin::Step(step) => {
                    // `Last login: …` is a greeting after the login.
                    if step.rung == Rung::Login && message_of(text).starts_with("Last ") {
                        continue;
                    }
                    self.climb(step.rung, step.begins, text, out);
                }
                Builtin::GoingDown => self.ladder.going_down(),
                Builtin::Failure(pattern) => {
                    if !pattern.fits(self.ladder.rung()) {
                        continue;
                    }
                    self.failed(pattern, text, out);
                }
            }
            shown.builtins.push(index);
        }
        self.found = found;
    }

    fn climb(&mut self, rung: Rung, begins: bool, text: Passage<'_>, out: &mut Vec<Sighting>) {
        let boot = self.ladder.boot();
        if !self.ladder.climb(rung, begins) {
            return;
        }
        if self.ladder.boot() != boot {
            self.new_boot();
            self.stamped = text.is_kernel;
        }
        out.push(sighting(text, What::Rung { rung, boot: self.ladder.boot() }));
    }

    fn failed(&mut self, pattern: &'static Pattern, text: Passage<'_>, out: &mut Vec<Sighting>) {
        *self.counts.entry(pattern.code).or_default() += 1;
        let reported = self.reported.entry(pattern.code).or_default();
        *reported += 1;
        if *reported > REPEATS {
            return;
        }
        let what = What::Failure {
            code: pattern.code.to_owned(),
            severity: pattern.severity,
            meaning: pattern.meaning.to_owned(),
            next_step: pattern.next_step.to_owned(),
            catalogue: CATALOGUE_VERSION,
        };
        out.push(sighting(text, what));
    }
}

/// The kernel's message without its stamp; of others, the text without leading spaces.
fn message_of(text: Passage<'_>) -> &str {
    let message = text.text[text.message..].trim_end();
    if text.is_kernel { message } else { message.trim_start() }
}

fn report(found: Vec<Found<'_>>, text: Passage<'_>, out: &mut Vec<Sighting>) {
    out.extend(found.into_iter().map(|(marker, captures)| {
        let what = What::Marker { name: marker.name().to_owned(), marker: marker.kind(), captures };
        sighting(text, what)
    }));
}

pub(crate) fn sighting(text: Passage<'_>, what: What) -> Sighting {
    Sighting {
        at: text.at,
        line: text.number,
        text: text.text.trim_end().to_owned(),
        source: text.source,
        what,
    }
}
