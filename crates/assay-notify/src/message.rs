//! The words: what happened, to which machine, why, and what to do next; for people, in one go.

use std::fmt::Write as _;

use assay_model::host::order::Profile;
use assay_model::text::clean_to;
use assay_model::{Finding, RunResult, Verdict};
use serde_json::Value;

use crate::event::{self, Level};
use crate::news::{Notification, TEST_EVENT};

/// Longest title, in characters.
const MAX_TITLE: usize = 200;
/// Longest body, in characters.
const MAX_BODY: usize = 8000;
/// Longest text taken from a finding.
const MAX_FINDING: usize = 300;

/// What a person is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// One line.
    pub title: String,
    /// Plain text; the first line is the sentence to act on, the last one the link.
    pub body: String,
    /// The run's page, if people have been told where the control plane is.
    pub link: Option<String>,
    /// How loud.
    pub level: Level,
}

impl Message {
    /// The words for a notification when the settings have none of their own.
    pub fn of(news: &Notification) -> Self {
        let mut body = sentence(news);
        for finding in &news.about.findings {
            let _ = write!(body, "\n• {}", line(finding));
        }
        if news.about.more_findings > 0 {
            let _ = write!(body, "\n… and {} more", news.about.more_findings);
        }
        let link = news.link();
        if let Some(link) = &link {
            let _ = write!(body, "\n{link}");
        }
        Self {
            title: bounded_line(&title(news)),
            body: bounded(&body),
            link,
            level: event::level(&news.event, &news.about),
        }
    }

    /// With other words, as a template made them.
    pub(crate) fn reworded(&mut self, title: Option<&str>, body: Option<&str>) {
        if let Some(title) = title.map(bounded_line).filter(|t| !t.is_empty()) {
            self.title = title;
        }
        if let Some(body) = body.map(bounded).filter(|b| !b.is_empty()) {
            self.body = body;
        }
    }

    /// The body as HTML: escaped, its lines kept, the link a link.
    pub(crate) fn html(&self) -> String {
        let mut html = escape(&self.body).replace('\n', "<br>\n");
        if let Some(link) = &self.link {
            let link = escape(link);
            html = html.replace(&link, &format!("<a href=\"{link}\">{link}</a>"));
        }
        html
    }
}

/// Makes text safe inside an HTML element and inside a quoted attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn bounded_line(text: &str) -> String {
    clean_to(&text.split_whitespace().collect::<Vec<_>>().join(" "), MAX_TITLE)
}

/// Text may come from a machine: each line is cleaned on its own, so that line breaks stay.
fn bounded(text: &str) -> String {
    let lines: Vec<_> = text.trim().lines().map(|line| clean_to(line, MAX_BODY)).collect();
    let whole = lines.join("\n");
    match whole.char_indices().nth(MAX_BODY) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}

fn title(news: &Notification) -> String {
    if news.event == TEST_EVENT {
        return "Assay: a test".to_owned();
    }
    let host = news.host().unwrap_or("a machine");
    let stage = news.about.stage.as_deref();
    let at = stage.map_or_else(String::new, |stage| format!(" at {stage}"));
    match news.event.as_str() {
        "RunStarted" => format!("{host}: being vetted"),
        "RunCompleted" => format!("{host}: {}", verdict(news)),
        "RunHeld" => format!("{host}: {}{at}, held for a decision", became(news).0),
        "HoldExpiring" => format!("{host}: the hold runs out soon"),
        "RunReleased" => format!("{host}: released without a pass"),
        "Decided" => format!("{host}: {} decided", text(news, "by").unwrap_or("somebody")),
        "BootFailed" => format!("{host}: did not come up"),
        "StageFailed" => format!("{host}: {}{at}", became(news).0),
        "SpecMismatch" => format!("{host}: is not what its spec says"),
        "UnexpectedData" => format!("{host}: a disk holds data"),
        "MachineSuspect" => format!("{host}: has fallen silent"),
        "RunStale" => format!("{host}: makes no progress"),
        "BatchStopped" => format!("batch {} has stopped itself", batch(news)),
        other => format!("{host}: {other}"),
    }
}

/// The sentence to act on.
fn sentence(news: &Notification) -> String {
    if news.event == TEST_EVENT {
        let who = text(news, "asked_by").unwrap_or("somebody");
        return format!("{who} asked for this test; nothing happened to any machine.");
    }
    let host = news.host().unwrap_or("a machine");
    let run = news.run().map_or_else(|| "a run".to_owned(), |run| format!("run {run}"));
    let profile = news.about.profile.as_ref().map_or_else(String::new, |p| format!(" ({p})"));
    let at = news.about.stage.as_ref().map_or_else(String::new, |stage| format!(" at {stage}"));
    let codes = codes(news);
    match news.event.as_str() {
        "RunStarted" => {
            let on = text(news, "runner").map_or_else(String::new, |runner| format!(" on runner {runner}"));
            format!("{host} is being vetted in {run}{profile}{on}; nothing is to be done.")
        }
        "RunCompleted" => completed(news, host, &format!("{run}{profile}"), &at, &codes),
        "RunHeld" => {
            let until = time(news, "hold_until").map_or_else(String::new, |t| format!(" until {t}"));
            format!("{host} {} {run}{at}{codes} and is held{until}: {}.", became(news).1, decide(news))
        }
        "HoldExpiring" => {
            let until = time(news, "hold_until").map_or_else(|| "soon".to_owned(), |t| format!("at {t}"));
            format!("{host} is held in {run}{at}{codes} and is released {until}: {}.", decide(news))
        }
        "RunReleased" => {
            let why = text(news, "why").map_or_else(String::new, |why| format!(" ({why})"));
            format!(
                "{host} {} {run}{at}{codes} and was let go{why}: it has not passed, do not use it.",
                became(news).1
            )
        }
        "Decided" => {
            let (by, what) = (text(news, "by").unwrap_or("somebody"), text(news, "decision").unwrap_or("?"));
            let why = text(news, "why").filter(|why| !why.trim().is_empty());
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            format!("{by} decided on {run} of {host}{at}: {what}{why}")
        }
        "BootFailed" => {
            let why = text(news, "message").map_or_else(String::new, |why| format!(": {why}"));
            format!("{host} did not come up for {run}{codes}{why}")
        }
        "StageFailed" => format!("{host} {} {run}{at}{codes}: {}.", became(news).1, decide(news)),
        "SpecMismatch" => {
            format!("{host} is not what its spec says ({run}{codes}): repair it, or correct the spec.")
        }
        "UnexpectedData" => format!(
            "A disk of {host} holds data that nobody announced ({run}{at}{codes}): look at it, then permit its erasure or abandon the run."
        ),
        "MachineSuspect" => {
            let since = time(news, "last_seen").map_or_else(String::new, |t| format!(" since {t}"));
            format!(
                "{host} has been silent{since} in {run}{at}: look at its console; nothing is lost if it comes back."
            )
        }
        "RunStale" => {
            format!("{run} of {host} makes no progress{at}: look at its page and at the machine's console.")
        }
        "BatchStopped" => {
            let what = text(news, "what").map_or_else(String::new, |what| format!(" ({what})"));
            let why = text(news, "why").unwrap_or("too many have failed");
            let number = batch(news);
            format!(
                "Batch {number}{what} begins nothing more, {why}. The last was {host} in {run}: look at what failed, then \
                 `assay batch resume {number}`."
            )
        }
        other => format!("{other}: {host}, {run}{at}{codes}."),
    }
}

fn completed(news: &Notification, host: &str, run: &str, at: &str, codes: &str) -> String {
    match news.about.result {
        Some(RunResult::Pass) => match (reservations(news), is_whole_profile(news)) {
            (Some(but), _) => format!("{host} passed {run}, but {but}: read the report before you trust it."),
            (None, true) => format!("{host} passed {run}: it can be used{}.", unverified(news)),
            (None, false) => format!(
                "{host} passed {run}: short tests found nothing. Vet it with `standard` before it goes to work."
            ),
        },
        Some(RunResult::Fail) => format!("{host} failed {run}{at}{codes}: do not use it."),
        None => format!("{host} has no verdict from {run}: it has not passed; vet it again."),
    }
}

/// Why a pass does not speak for the whole machine, if it does not.
fn reservations(news: &Notification) -> Option<String> {
    let about = &news.about;
    let mut out = Vec::new();
    if about.overridden {
        out.push("something was waived".to_owned());
    }
    for (names, what) in
        [(&about.muted, "checks were switched off"), (&about.left_out, "stages were left out")]
    {
        if !names.is_empty() {
            out.push(clean_to(&format!("{what} ({})", names.join(", ")), MAX_FINDING));
        }
    }
    if let Some(phase) = &about.from_phase {
        out.push(clean_to(&format!("it was to go on from the phase `{phase}`"), MAX_FINDING));
    }
    (!out.is_empty()).then(|| out.join(" and "))
}

/// What nobody could look at and nobody had asked for.
fn unverified(news: &Notification) -> String {
    let names = &news.about.unverified;
    if names.is_empty() { String::new() } else { format!("; not verified: {}", names.join(", ")) }
}

/// Whether the run went as far as a machine has to go before it may be used. What is not known is not.
fn is_whole_profile(news: &Notification) -> bool {
    let profile = news.about.profile.as_deref().and_then(|profile| profile.parse::<Profile>().ok());
    profile.is_some_and(|profile| profile >= Profile::Standard)
}

fn verdict(news: &Notification) -> String {
    let profile = news.about.profile.as_deref().unwrap_or("profile unknown");
    match news.about.result {
        Some(RunResult::Pass) if reservations(news).is_some() => {
            format!("passed ({profile}), with reservations")
        }
        Some(RunResult::Pass) => format!("passed ({profile})"),
        Some(RunResult::Fail) => "failed".to_owned(),
        None => "no verdict".to_owned(),
    }
}

/// What became of the machine at the stage, for a title and for a sentence. Only a `fail` is the
/// machine's: where the tester stumbled or could not see, it has neither passed nor failed.
fn became(news: &Notification) -> (&'static str, &'static str) {
    match news.about.verdict {
        Some(Verdict::Error) => ("could not be tested", "could not be tested in"),
        Some(Verdict::Unverified) => ("was not verified", "was not verified in"),
        Some(Verdict::Fail | Verdict::Pass | Verdict::Skip) | None => ("failed", "failed"),
    }
}

/// The first finding's next step stands for what is to be done before deciding; without one, why.
fn decide(news: &Notification) -> String {
    let step = news.about.findings.first().map(|f| f.next_step.as_str());
    let step = step.or(news.about.reason.as_deref()).map(|s| clean_to(s, MAX_FINDING));
    match step.map(|s| s.trim_end_matches('.').to_owned()).filter(|s| !s.is_empty()) {
        Some(step) => format!("{step}; then retry, waive or abandon"),
        None => "look at the run, then retry, waive or abandon".to_owned(),
    }
}

/// ` [DimmMissing, DiskSwapped]`, or nothing.
fn codes(news: &Notification) -> String {
    let mut codes: Vec<&str> = news.about.findings.iter().map(|f| f.code.as_str()).collect();
    codes.dedup();
    if codes.is_empty() { String::new() } else { format!(" [{}]", codes.join(", ")) }
}

fn line(finding: &Finding) -> String {
    let part = finding.part.as_ref().map_or_else(String::new, |part| format!(" ({part})"));
    let (message, next) =
        (clean_to(&finding.message, MAX_FINDING), clean_to(&finding.next_step, MAX_FINDING));
    format!("{} {}{part}: {message} → {next}", finding.severity, finding.code)
}

fn batch(news: &Notification) -> String {
    news.payload
        .get("batch")
        .and_then(Value::as_i64)
        .map_or_else(|| "?".to_owned(), |batch| batch.to_string())
}

fn text<'a>(news: &'a Notification, key: &str) -> Option<&'a str> {
    news.payload.get(key).and_then(Value::as_str)
}

/// A time in the payload, to the minute, UTC.
fn time(news: &Notification, key: &str) -> Option<String> {
    let micros = news.payload.get(key).and_then(Value::as_i64).filter(|at| *at > 0)?;
    let full = assay_model::Micros(micros).rfc3339();
    let (day, hour) = full.split_once('T')?;
    Some(format!("{day} {} UTC", hour.get(..5)?))
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
