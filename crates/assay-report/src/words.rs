//! How a run's verdict is said, in words that need no colour, and how text from a machine is shown.

use assay_model::recipe::{Ladder, Rung, RungStatus};
use assay_model::{Pipeline, RunResult, RunState, RunView, text};

/// How strongly a verdict is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Fit.
    Good,
    /// Look twice.
    Caution,
    /// Not fit.
    Bad,
    /// Nothing is known.
    Neutral,
}

/// A verdict for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// `PASS`, `FAIL – HELD` …
    pub(crate) headline: String,
    /// One sentence behind it.
    pub(crate) why: String,
    /// How to show it.
    pub(crate) tone: Tone,
}

impl Said {
    /// Both, on one line.
    pub(crate) fn sentence(&self) -> String {
        format!("{}. {}", self.headline, self.why)
    }
}

/// Longest text shown for one field.
const LIMIT: usize = 2000;

/// Text that a machine or a person chose, without what could disturb a terminal or reorder a line.
pub(crate) fn clean(raw: &str) -> String {
    let one_line: String =
        raw.chars().map(|c| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { c }).collect();
    text::clean_to(&one_line, LIMIT)
}

/// The verdict as it stands.
pub(crate) fn verdict(view: &RunView) -> Said {
    let failed_at = || match view.failed_stage() {
        Some(stage) => format!("It failed at {stage}."),
        None => "It did not pass.".to_owned(),
    };
    let (headline, why, tone) = match (view.state(), view.result) {
        (RunState::FailedHolding, _) => (
            "FAIL – HELD",
            format!("{} The machine is kept as it is until an operator decides.", failed_at()),
            Tone::Bad,
        ),
        (RunState::Failed, _) | (RunState::Completed, Some(RunResult::Fail)) => {
            ("FAIL", failed_at(), Tone::Bad)
        }
        (RunState::Released, _) => {
            ("FAIL", format!("{} The machine was given back without a pass.", failed_at()), Tone::Bad)
        }
        (RunState::Completed, Some(RunResult::Pass)) => return pass(view),
        (RunState::Completed, None) => (
            "NO RESULT – RUNNER ERROR",
            format!("The runner failed, so nothing is known about the {}. Run it again.", subject(view)),
            Tone::Neutral,
        ),
        (RunState::Cancelling | RunState::Cancelled, _) => (
            "NO RESULT – CANCELLED",
            format!("An operator stopped the run. It says nothing for the {}.", subject(view)),
            Tone::Neutral,
        ),
        (RunState::Superseded, _) => (
            "NO RESULT – SUPERSEDED",
            view.superseded_by.map_or_else(
                || "A newer run took its place.".to_owned(),
                |by| format!("Run {by} took its place."),
            ),
            Tone::Neutral,
        ),
        (RunState::Queued | RunState::Booting | RunState::Running, _) => {
            let at = view
                .current_stage()
                .map_or_else(String::new, |s| format!(" It has come to {}.", s.plan.name));
            ("NO RESULT YET", format!("The run is still going.{at}"), Tone::Neutral)
        }
    };
    let headline = if view.overridden { format!("{headline} – OVERRIDDEN") } else { headline.to_owned() };
    let (headline, why) = match ladder(view).filter(|_| view.result.is_some()) {
        Some(ladder) => {
            let broken = ladder.rungs.iter().filter(|rung| rung.status == RungStatus::Fail);
            let broken: Vec<&str> = broken.map(|rung| rung.rung.as_str()).collect();
            let rungs = if broken.is_empty() {
                String::new()
            } else {
                format!(" Rungs that do not hold: {}.", broken.join(", "))
            };
            (format!("{headline} – LEVEL {}", ladder.level), format!("{why}{rungs}"))
        }
        None => (headline, why),
    };
    Said { headline: with_profile(view, headline), why, tone }
}

/// How far a recipe got.
fn ladder(view: &RunView) -> Option<Ladder> {
    (view.created.pipeline == Pipeline::Recipe).then(|| Ladder::of(view))
}

fn pass(view: &RunView) -> Said {
    let waived: Vec<_> = view.stages.iter().filter(|s| s.waived).map(|s| s.plan.name.as_str()).collect();
    let mut headline = "PASS".to_owned();
    let mut why = Vec::new();
    let ladder = ladder(view);
    if let Some(ladder) = &ladder {
        headline = format!("PASS – LEVEL {} OF {}", ladder.level, Rung::ALL.len());
    }
    if view.overridden {
        headline.push_str(" – OVERRIDDEN");
        why.push(match waived.as_slice() {
            [] => "An operator waived a failure during this run.".to_owned(),
            stages => {
                format!("An operator accepted the failure of {}; it was not repaired.", stages.join(", "))
            }
        });
    }
    if !view.created.muted.is_empty() {
        headline.push_str(" – CHECKS MUTED");
        why.push(format!("Checks were switched off, so this run {}.", counts_not(view)));
    }
    if !view.created.options.left_out.is_empty() {
        headline.push_str(" – STAGES LEFT OUT");
        why.push(format!("Stages were left out by request, so this run {}.", counts_not(view)));
    }
    if let Some(phase) = &view.created.options.from_phase {
        headline.push_str(" – FROM A PHASE");
        why.push(format!(
            "It was to go on from the phase `{}`, where an earlier run had kept its machine; only a run from the beginning \
             speaks for the image.",
            clean(phase)
        ));
    }
    let tone = if why.is_empty() { Tone::Good } else { Tone::Caution };
    if why.is_empty() {
        why.push("Every required stage passed.".to_owned());
        // A rung that does not apply is stepped over, and said to be.
        let left =
            ladder.iter().flat_map(|ladder| &ladder.rungs).filter(|rung| rung.status == RungStatus::Skip);
        why.extend(left.map(|rung| format!("{} does not apply: {}.", rung.rung, clean(&rung.message))));
    }
    Said { headline: with_profile(view, headline), why: why.join(" "), tone }
}

/// What a run is about.
fn subject(view: &RunView) -> &'static str {
    match view.created.pipeline {
        Pipeline::Host => "machine",
        Pipeline::Image => "image",
        Pipeline::Recipe => "recipe",
    }
}

/// What a run in which something was spared does not do.
pub(crate) fn counts_not(view: &RunView) -> &'static str {
    match view.created.pipeline {
        Pipeline::Host => "can never admit the machine",
        Pipeline::Image => "does not speak for the whole of the image",
        Pipeline::Recipe => "does not speak for the whole of the recipe",
    }
}

/// The heading of what the run is about.
pub(crate) fn about(view: &RunView) -> &'static str {
    match view.created.pipeline {
        Pipeline::Host => "Machine and run",
        Pipeline::Image if view.created.has_machine() => "Image, machine and run",
        Pipeline::Image => "Image and run",
        Pipeline::Recipe => "Recipe and run",
    }
}

/// A pass on less than the standard profile carries the profile's name.
fn with_profile(view: &RunView, headline: String) -> String {
    match view.created.profile.as_str() {
        "standard" | "burnin" => headline,
        other => format!("{headline} ({} profile only)", clean(other)),
    }
}

/// A result as a word, for a sentence.
pub(crate) fn result(result: Option<RunResult>, overridden: bool) -> String {
    let word = result.map_or("no result", RunResult::as_str);
    if overridden { format!("{word}, overridden") } else { word.to_owned() }
}

/// A span of seconds: `48 s`, `12 m 03 s`, `3 h 07 m`.
pub(crate) fn span(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".to_owned();
    }
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} m {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} m", whole / 3600, whole % 3600 / 60),
    }
}

/// A size: `512 B`, `1.9 TB` (powers of ten, as disks are sold).
pub(crate) fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["kB", "MB", "GB", "TB", "PB"] {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_read_well() {
        let spans = [0.0, 4.26, 48.0, 723.0, 11_220.0, -1.0, f64::NAN].map(span);
        assert_eq!(spans, ["0.0 s", "4.3 s", "48 s", "12 m 03 s", "3 h 07 m", "–", "–"]);
        let sizes = [0, 999, 1000, 1_920_383_410_176].map(size);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "1.9 TB"]);
    }

    #[test]
    fn text_keeps_to_one_line_and_one_direction() {
        assert_eq!(clean("a\nb\u{202e}c\u{1b}[2J"), "a b\u{fffd}c\u{fffd}[2J");
    }
}
