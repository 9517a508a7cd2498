//! `/runs/{number}/files/{name}`: what a machine wrote, to be read in a browser.
//!
//! Only texts, a line each, escaped like everything that a machine under test chose. Files themselves are one link away.

use askama::Template;
use assay_model::text;
use assay_pipelines::image::evidence::Watched;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::Value;

use super::run::find;
use super::shell::{PageError, Shell, Signed, page as finished};
use crate::error::ApiError;
use crate::state::App;

/// Most lines on the page; the file has them all.
const MAX_LINES: usize = 5000;
/// Longest line on the page, in characters.
const MAX_LINE: usize = 2000;
/// Most bytes that are looked at.
const MAX_BYTES: usize = 4 << 20;

#[derive(Template)]
#[template(path = "transcript.html")]
struct TranscriptPage {
    shell: Shell,
    number: i64,
    target: String,
    name: String,
    lines: Vec<Line>,
    /// What of the page is worth jumping to.
    jumps: Vec<(usize, String)>,
    /// Whether there is more than is shown.
    cut: bool,
}

struct Line {
    number: usize,
    /// Seconds since the machine was switched on, where the line begins with them.
    at: String,
    text: String,
    /// What it was taken for: a phase, a rung, a code.
    mark: Option<String>,
}

pub(super) async fn page(
    State(app): State<App>,
    Signed(operator): Signed,
    Path((number, name)): Path<(String, String)>,
) -> Result<Response, PageError> {
    let run = find(&app, &number).await?;
    let found = run.artifacts.iter().rfind(|artifact| artifact.name == name);
    let missing = || {
        ApiError::not_found(format!("text `{}` in run {}", text::clean_to(&name, 100), run.created.number))
    };
    let artifact = found.filter(|artifact| is_text(&artifact.name)).ok_or_else(missing)?;
    let bytes = app.engine.artifacts().get(artifact.digest).await.map_err(ApiError::from)?;
    let evidence = app.engine.evidence(&run).await;
    let known = known(evidence.iter().map(|(_, value)| value));
    let (lines, cut) = lines(&bytes, &known);
    let jumps = lines.iter().filter_map(|line| Some((line.number, line.mark.clone()?))).collect();
    finished(&TranscriptPage {
        shell: Shell::new(&operator, "runs"),
        number: run.created.number,
        target: run.created.target.name.clone(),
        name: artifact.name.clone(),
        lines,
        jumps,
        cut,
    })
}

fn is_text(name: &str) -> bool {
    let path = std::path::Path::new(name);
    path.extension()
        .is_some_and(|end| ["txt", "json", "log"].iter().any(|text| end.eq_ignore_ascii_case(text)))
}

/// Lines that mean something, with what they mean, from all that was watched in the run.
fn known<'a>(evidence: impl Iterator<Item = &'a Value>) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for value in evidence {
        let Some(watched) = value.get("watched") else { continue };
        let Ok(watched) = serde_json::from_value::<Watched>(watched.clone()) else { continue };
        out.extend(
            watched
                .phases
                .into_iter()
                .map(|phase| (phase.line, format!("phase {}", text::clean(&phase.name)))),
        );
        out.extend(watched.noted.into_iter().map(|noted| (noted.line, text::clean(&noted.code))));
        out.extend(watched.rungs.into_iter().map(|rung| (rung.line, format!("rung {}", rung.rung))));
    }
    out.retain(|(line, _)| !line.trim().is_empty());
    out
}

/// The lines and whether that is not all. Each meaning is given to the first line that has it.
fn lines(bytes: &[u8], known: &[(String, String)]) -> (Vec<Line>, bool) {
    let shown = &bytes[..bytes.len().min(MAX_BYTES)];
    let whole = String::from_utf8_lossy(shown);
    let mut left: Vec<&(String, String)> = known.iter().collect();
    let mut out = Vec::new();
    let mut all = whole.lines();
    for (number, line) in (1..=MAX_LINES).zip(all.by_ref()) {
        let (at, rest) = timed(line);
        let found = left.iter().position(|(known, _)| known.trim() == rest.trim());
        out.push(Line {
            number,
            at: at.to_owned(),
            text: text::clean_to(rest, MAX_LINE),
            mark: found.map(|place| left.remove(place).1.clone()),
        });
    }
    (out, all.next().is_some() || bytes.len() > MAX_BYTES)
}

/// `   0.468 GRUB`: the time and the rest; no time where the line does not begin with one.
fn timed(line: &str) -> (&str, &str) {
    let start = line.trim_start();
    match start.split_once(' ') {
        Some((at, rest)) if at.contains('.') && at.parse::<f64>().is_ok() => (at, rest),
        _ => ("", line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, known: &[(&str, &str)]) -> Vec<(String, String, Option<String>)> {
        let known: Vec<_> = known.iter().map(|(l, m)| ((*l).to_owned(), (*m).to_owned())).collect();
        let (lines, _) = lines(text.as_bytes(), &known);
        lines.into_iter().map(|line| (line.at, line.text, line.mark)).collect()
    }

    #[test]
    fn lines_have_their_time_and_what_they_were_taken_for_once() {
        let line =
            |at: &str, text: &str, mark: Option<&str>| (at.into(), text.into(), mark.map(str::to_owned));
        assert_eq!(
            told(
                "    0.468 GRUB\n   19.457 login:\n   20.001 login:\nno time\n",
                &[("login:", "rung login")]
            ),
            [
                line("0.468", "GRUB", None),
                line("19.457", "login:", Some("rung login")),
                line("20.001", "login:", None),
                line("", "no time", None),
            ]
        );
    }

    #[test]
    fn a_flood_is_cut_and_said_to_be() {
        let (shown, cut) = lines("x\n".repeat(MAX_LINES).as_bytes(), &[]);
        assert_eq!((shown.len(), cut), (MAX_LINES, false));
        let (shown, cut) = lines("x\n".repeat(MAX_LINES + 1).as_bytes(), &[]);
        assert_eq!((shown.len(), cut), (MAX_LINES, true));
        let (shown, cut) = lines(&vec![b'y'; MAX_BYTES + 1], &[]);
        assert_eq!((shown[0].text.chars().count() <= MAX_LINE + 1, cut), (true, true));
        assert!(
            lines(&[0xff, 0, b'\n'], &[]).0[0].text.chars().all(|c| !c.is_control()),
            "bytes of any kind"
        );
    }

    #[test]
    fn only_texts_are_read() {
        assert!(is_text("installer-serial.txt") && is_text("control-plane.json"));
        assert!(!is_text("installer-serial.raw") && !is_text("screen.png") && !is_text("txt"));
    }
}
