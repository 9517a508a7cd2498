//! The one comment that a pull request gets, edited in place: what it is waiting for, how far it is, what came of it.
//!
//! A pure function from a plain value to Markdown. Sentences are ours; every text from outside is in code (`markdown`). What
//! matters most comes first, and what does not fit into the limit is left out from the end, so a verdict is always whole.

#[cfg(test)]
mod comment_tests;

use std::fmt::Write as _;

use assay_model::{Micros, RunResult, Severity, Verdict};
use serde::{Deserialize, Serialize};

use crate::markdown::{block, code, link, span};
use crate::name::Login;
use crate::what::Comment;

/// Longest comment, in bytes. GitHub takes 65536 characters; this leaves room.
pub const LONGEST: usize = 60_000;
/// Longest text taken over for one thing, in characters.
const MAX_TEXT: usize = 300;
const MAX_FINDINGS: usize = 25;
const MAX_ROWS: usize = 40;
const MAX_LINES: usize = 30;

/// The comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Which Assay this is, in letters, digits and `-`: two of them may serve one repository.
    pub instance: String,
    /// The pull request.
    pub number: u64,
    /// The commit under test, whole; empty where there is none yet.
    pub commit: String,
    /// The run, once there is one.
    pub run: Option<RunLink>,
    /// What is tested, where a pull request asks for more than its recipe: `image node`. Empty for the recipe.
    pub of: String,
    /// Who asked.
    pub asked_by: Option<Login>,
    /// The command, as [`crate::command::Command::line`] gives it, or `a push`.
    pub asked: String,
    /// Where it stands.
    pub stage: Standing,
    /// The last change of this text.
    pub at: Micros,
    /// What cannot be done, each a sentence of ours: `status` has the one about commit statuses.
    pub notes: Vec<String>,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunLink {
    /// Its number.
    pub number: u64,
    /// Its page, when people can reach it.
    pub page: Option<String>,
}

/// Where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is no run yet: something has to happen first.
    Awaits {
        /// A sentence of ours on what that is; texts from outside are bounded and plain.
        why: String,
    },
    /// Waits.
    Queued {
        /// 1 is next; `None` when there is no line (paused, for instance).
        position: Option<u32>,
        /// Why it waits; names other runs' targets.
        why: String,
        /// When it is expected to begin, in seconds.
        in_seconds: Option<u64>,
    },
    /// Is under way.
    Running {
        /// The stage.
        stage: String,
        /// Its place, counted from 1, and how many there are.
        place: (u32, u32),
        /// What is behind it.
        steps: Vec<Step>,
        /// Since when, in seconds.
        for_seconds: u64,
    },
    /// Has a verdict.
    Finished(Box<Finished>),
    /// A newer commit is tested instead.
    Superseded {
        /// That commit.
        by: String,
        /// Its run.
        run: Option<RunLink>,
    },
    /// Somebody stopped it.
    Cancelled {
        /// Who; `None` for an operator.
        by: Option<Login>,
    },
    /// Was not taken up.
    Refused(Refused),
    /// Assay could not do its work. Says nothing of the pull request.
    Error {
        /// What happened.
        what: String,
        /// What to do.
        next_step: String,
        /// Whether it is tried again by itself.
        is_retried: bool,
    },
}

/// Why a command was not taken up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// The author may not ask.
    NotAllowed {
        /// The author.
        who: Login,
        /// Who may, in words of ours: "members of coop".
        who_may: String,
    },
    /// The command was not understood.
    NotUnderstood {
        /// From [`crate::command::Misunderstood`].
        why: String,
    },
    /// The pull request is closed, or in.
    NotOpen,
    /// It comes from a fork, and those are not tested here.
    FromFork,
    /// Nothing to cancel.
    NothingToCancel,
    /// There is no recipe in the repository, and it touches none of its images.
    NothingTouched,
}

/// A stage or rung that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// What it concluded.
    pub verdict: Verdict,
    /// How long it took.
    pub seconds: Option<u64>,
    /// In a few words: why it was skipped, what failed.
    pub note: String,
}

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// `None`: it came to none.
    pub result: Option<RunResult>,
    /// Level reached, of how many.
    pub level: Option<(u8, u8)>,
    /// A short run: it does not gate.
    pub is_quick: bool,
    /// Something was waived.
    pub is_overridden: bool,
    /// How long it took.
    pub seconds: u64,
    /// Rungs or stages, in order.
    pub steps: Vec<Step>,
    /// Findings, worst first.
    pub findings: Vec<Found>,
    /// How many more there are than these.
    pub more_findings: usize,
    /// What was not verified.
    pub unverified: Vec<String>,
    /// What this pull request changes that was not taken from it: tests, hooks, settings.
    pub flagged: Vec<String>,
    /// Against the last green run.
    pub since_green: SinceGreen,
    /// The last lines of what failed.
    pub last_words: String,
    /// Other pages: words of ours and an address.
    pub links: Vec<(&'static str, String)>,
    /// The sealed run's head hash.
    pub head: Option<String>,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How bad.
    pub severity: Severity,
    /// Its code.
    pub code: String,
    /// What it blames; may be empty.
    pub part: String,
    /// What was seen.
    pub message: String,
    /// What to do.
    pub next_step: String,
}

/// What changed since the last green run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinceGreen {
    /// Not asked, or this is green itself.
    NotTold,
    /// There was none.
    NeverGreen,
    /// Nothing did.
    Nothing {
        /// That run.
        run: RunLink,
    },
    /// These did.
    Changed {
        /// That run.
        run: RunLink,
        /// A line each.
        what: Vec<String>,
    },
}

/// A refusal as one sentence of plain words, for a comment that is about something else.
pub fn note(refused: &Refused) -> String {
    match refused {
        Refused::NotAllowed { who, who_may } => {
            format!("{who} may not ask for runs here; who may: {who_may}")
        }
        Refused::NotUnderstood { why } => format!("a command was not understood: {why}"),
        Refused::NotOpen => "the pull request is not open any more".to_owned(),
        Refused::FromFork => "what comes from a fork is not tested here".to_owned(),
        Refused::NothingToCancel => "there was nothing to cancel".to_owned(),
        Refused::NothingTouched => "it touches no image that is tested from here".to_owned(),
    }
}

/// What finds our comment again. It is the comment's first line; forges do not show it.
pub fn marker(instance: &str, number: u64) -> String {
    let instance: String =
        instance.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect();
    format!("<!-- assay:{instance}:{number} -->")
}

/// The newest of `comments` that is ours by author and marker: others can write the marker, too.
pub fn find_ours<'a>(comments: &'a [Comment], us: &Login, marker: &str) -> Option<&'a Comment> {
    let is_ours = |comment: &&Comment| {
        comment.author.as_ref() == Some(us)
            && comment.body.strip_prefix(marker).is_some_and(|rest| rest.starts_with(['\n', '\r']))
    };
    comments.iter().filter(is_ours).max_by_key(|comment| comment.id)
}

/// The text about one thing.
pub fn render(about: &About) -> String {
    render_all(std::slice::from_ref(about))
}

/// The text about all that one pull request has asked for, in this order. Empty for nothing.
pub fn render_all(all: &[About]) -> String {
    let Some(first) = all.first() else { return String::new() };
    let mut page = Page { text: marker(&first.instance, first.number), longest: 0, left_out: false };
    for (place, about) in all.iter().enumerate() {
        // Nobody's findings take the room of another one's verdict.
        page.longest = LONGEST / all.len() * (place + 1);
        section(&mut page, about);
    }
    let latest = all.iter().map(|about| about.at).max().unwrap_or(first.at);
    page.end(latest)
}

fn section(page: &mut Page, about: &About) {
    page.always(&headline(about));
    page.always(&asked(about));
    match &about.stage {
        Standing::Awaits { why } => page.always(&code(why, MAX_TEXT)),
        Standing::Queued { position, why, in_seconds } => page.always(&queued(*position, why, *in_seconds)),
        Standing::Running { steps, .. } => page.fits(&table(steps)),
        Standing::Finished(finished) => finish(page, finished),
        Standing::Refused(refused) => page.always(&refusal(refused)),
        Standing::Error { what, next_step, is_retried } => {
            page.always(&format!(
                "{}\n\n{} {}",
                code(what, MAX_TEXT),
                code(next_step, MAX_TEXT),
                if *is_retried { "It is tried again by itself." } else { "Then say `!testme` again." }
            ));
        }
        Standing::Superseded { .. } | Standing::Cancelled { .. } => {}
    }
    for note in about.notes.iter().take(5) {
        page.fits(&format!("_Note:_ {}", code(note, MAX_TEXT)));
    }
}

struct Page {
    text: String,
    /// So long it may be by now.
    longest: usize,
    left_out: bool,
}

impl Page {
    /// Bounded by what it is made of.
    fn always(&mut self, section: &str) {
        if !section.is_empty() {
            self.text.push_str(if self.text.ends_with("-->") { "\n" } else { "\n\n" });
            self.text.push_str(section);
        }
    }

    /// Only while there is room; the footer's is kept free.
    fn fits(&mut self, section: &str) {
        if self.text.len() + section.len() + 1024 > self.longest {
            self.left_out = true;
        } else {
            self.always(section);
        }
    }

    fn end(mut self, at: Micros) -> String {
        if self.left_out {
            self.always("_More is left out here for its length; the run's page has all of it._");
        }
        let at = at.rfc3339();
        let time = at.get(..16).unwrap_or(&at).replace('T', " ");
        self.always(&format!("<sub>Assay, {time} UTC. Commands: `!testme`, `--quick`, `--extra`, `--stages a,b`, `!testme cancel`.</sub>"));
        self.text.push('\n');
        self.text
    }
}

fn headline(about: &About) -> String {
    let run = about.run.as_ref().map(|run| format!(" · {}", of_run(run))).unwrap_or_default();
    let words = match &about.stage {
        Standing::Awaits { .. } => "⏸️ waits".to_owned(),
        Standing::Queued { .. } => "⏳ queued".to_owned(),
        Standing::Running { stage, place: (place, of), for_seconds, .. } => {
            format!("▶️ running: {}, {place} of {of}, for {}", code(stage, 40), span(*for_seconds))
        }
        Standing::Finished(finished) => verdict(finished),
        Standing::Superseded { by, run } => {
            let run = run.as_ref().map(|run| format!(", {}", of_run(run))).unwrap_or_default();
            format!("⏭️ superseded by {}{run}", code(short(by), 12))
        }
        Standing::Cancelled { by } => match by {
            Some(by) => format!("⏹️ cancelled by {}", code(by.as_str(), 100)),
            None => "⏹️ cancelled by an operator".to_owned(),
        },
        Standing::Refused(Refused::NothingToCancel) => "ℹ️ nothing to cancel".to_owned(),
        Standing::Refused(_) => "🚫 not taken up".to_owned(),
        Standing::Error { .. } => {
            "⚠️ error: Assay could not do its work; this says nothing about the change".to_owned()
        }
    };
    let of = if about.of.is_empty() { String::new() } else { format!("{}: ", code(&about.of, 60)) };
    format!("### {of}{words}{run}")
}

fn verdict(finished: &Finished) -> String {
    let mut words = match finished.result {
        Some(RunResult::Pass) => "✅ pass".to_owned(),
        Some(RunResult::Fail) => "❌ fail".to_owned(),
        None => "⚠️ no verdict".to_owned(),
    };
    if let Some((level, of)) = finished.level {
        let _ = write!(words, ", level {level} of {of}");
    }
    if finished.is_quick {
        words.push_str(", quick");
    }
    if finished.is_overridden {
        words.push_str(", overridden");
    }
    let _ = write!(words, ", in {}", span(finished.seconds));
    words
}

fn asked(about: &About) -> String {
    let mut words = String::new();
    if !about.commit.is_empty() {
        let _ = write!(words, "Commit {}", code(&about.commit, 64));
    }
    if !about.asked.is_empty() {
        let _ = write!(
            words,
            "{}{}",
            if words.is_empty() { "Asked: " } else { ", asked: " },
            code(&about.asked, 120)
        );
    }
    if let Some(by) = &about.asked_by {
        // A command that was not taken up has neither commit nor words.
        let _ =
            write!(words, "{} by {}", if words.is_empty() { "Asked" } else { "" }, code(by.as_str(), 100));
    }
    if words.is_empty() { words } else { words + "." }
}

fn queued(position: Option<u32>, why: &str, in_seconds: Option<u64>) -> String {
    let mut words = match position {
        Some(1) => "Next in line".to_owned(),
        Some(n) => format!("Place {n} in line"),
        None => "Waiting".to_owned(),
    };
    if !why.is_empty() {
        let _ = write!(words, ": {}", code(why, MAX_TEXT));
    }
    match in_seconds {
        Some(seconds) => {
            let _ = write!(words, "; begins in about {}.", span(seconds));
        }
        None => words.push_str("; nobody can say yet when it begins."),
    }
    words
}

fn finish(page: &mut Page, finished: &Finished) {
    if finished.is_quick {
        page.always("A quick run does not gate: not all stages were run.");
    }
    if finished.is_overridden {
        page.always(
            "Something that failed was accepted by an operator; the run's page says what, by whom and why.",
        );
    }
    if let Some(head) = &finished.head {
        page.always(&format!("Sealed: {}", code(head, 80)));
    }
    let links: Vec<String> = finished.links.iter().take(6).map(|(words, to)| link(words, to)).collect();
    page.always(&links.join(" · "));
    page.fits(&table(&finished.steps));
    page.fits(&list(
        "**This pull request changes what it is tested with**; the trusted ones were taken instead:",
        &finished.flagged,
        10,
    ));
    page.fits(&findings(finished));
    page.fits(&list("**Not verified:**", &finished.unverified, 10));
    match &finished.since_green {
        SinceGreen::NotTold => {}
        SinceGreen::NeverGreen => page.fits("**Since green:** this has never been green."),
        SinceGreen::Nothing { run } => {
            page.fits(&format!("**Since green** ({}): nothing that we look at has changed.", of_run(run)));
        }
        SinceGreen::Changed { run, what } => {
            page.fits(&list(&format!("**Changed since green** ({}):", of_run(run)), what, 15));
        }
    }
    if !finished.last_words.trim().is_empty() {
        let words = block(&finished.last_words, MAX_LINES, 200);
        page.fits(&format!("<details><summary>Last lines</summary>\n\n{words}\n\n</details>"));
    }
}

fn table(steps: &[Step]) -> String {
    if steps.is_empty() {
        return String::new();
    }
    let mut rows = String::from("| | stage | took | |\n|---|---|---:|---|");
    for step in steps.iter().take(MAX_ROWS) {
        let took = step.seconds.map(span).unwrap_or_default();
        let note = if step.note.is_empty() { String::new() } else { code(&step.note, 160) };
        let name = code(&step.name, 40);
        let _ = write!(rows, "\n| {} {} | {name} | {took} | {note} |", sign(step.verdict), step.verdict);
    }
    if steps.len() > MAX_ROWS {
        let _ = write!(rows, "\n\n… and {} more", steps.len() - MAX_ROWS);
    }
    rows
}

fn findings(finished: &Finished) -> String {
    let shown = &finished.findings[..finished.findings.len().min(MAX_FINDINGS)];
    if shown.is_empty() {
        return String::new();
    }
    let mut lines = String::from("**Findings:**\n");
    for found in shown {
        let part = if found.part.is_empty() { String::new() } else { format!(" {}", code(&found.part, 80)) };
        let _ = write!(
            lines,
            "\n- **{}** {}{part}: {}",
            found.severity.as_str(),
            code(&found.code, 60),
            code(&found.message, MAX_TEXT)
        );
        if !found.next_step.is_empty() {
            let _ = write!(lines, "\n  → {}", code(&found.next_step, MAX_TEXT));
        }
    }
    let more = finished.findings.len() - shown.len() + finished.more_findings;
    if more > 0 {
        let _ = write!(lines, "\n- … and {more} more");
    }
    lines
}

fn list(title: &str, what: &[String], most: usize) -> String {
    if what.is_empty() {
        return String::new();
    }
    let mut lines = format!("{title}\n");
    for line in what.iter().take(most) {
        let _ = write!(lines, "\n- {}", code(line, MAX_TEXT));
    }
    if what.len() > most {
        let _ = write!(lines, "\n- … and {} more", what.len() - most);
    }
    lines
}

fn refusal(refused: &Refused) -> String {
    match refused {
        Refused::NotAllowed { who, who_may } => format!(
            "{} may not ask for runs here. Who may: {}. One of them can say `!testme` instead; this is said once.",
            code(who.as_str(), 100),
            code(who_may, 160)
        ),
        Refused::NotUnderstood { why } => {
            format!(
                "The command was not understood: {}\n\nWrite it as the first line of a new comment.",
                code(why, MAX_TEXT)
            )
        }
        Refused::FromFork => {
            "It comes from a fork, and code that nobody with a right to push has looked at is not run here. Who may push can bring \
             the branch into the repository and open a pull request from there."
                .to_owned()
        }
        Refused::NotOpen => "The pull request is not open. Open it again, then say `!testme`.".to_owned(),
        Refused::NothingToCancel => "Nothing is waiting or running for this pull request.".to_owned(),
        Refused::NothingTouched => {
            "There is no recipe in this repository, and the pull request touches none of the files that its images are made of. \
             Whoever runs this Assay says which files those are."
                .to_owned()
        }
    }
}

fn of_run(run: &RunLink) -> String {
    let words = format!("run {}", run.number);
    run.page.as_ref().map_or_else(|| words.clone(), |page| link(&words, page))
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

const fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "✅",
        Verdict::Fail => "❌",
        Verdict::Skip => "➖",
        Verdict::Unverified => "❔",
        Verdict::Error => "⚠️",
    }
}
