//! What a waiting run is told: why it waits, where it stands, whom it waits behind, and about how long.

use std::fmt::Write as _;

use assay_model::{Micros, Pipeline};

use super::{Holding, Waiting};

/// Whom a run waits behind.
#[derive(Clone, Copy)]
pub(super) enum Behind<'a> {
    /// One that runs.
    Running(&'a Holding),
    /// One that waits, too.
    Waiting(&'a Waiting),
    /// One whose turn has just come.
    Starting(&'a Waiting),
}

/// `3rd in line; needs 4096 MiB of mem, 1024 free; behind run 41 (plausible, Upgrade, 2 m 10 s); about 3 min`.
pub(super) fn in_line(
    position: u32,
    short: &str,
    behind: Option<Behind<'_>>,
    starts_in: Option<Micros>,
    now: Micros,
) -> String {
    let mut out = String::with_capacity(96);
    push_ordinal(&mut out, position);
    out.push_str(" in line");
    if !short.is_empty() {
        out.push_str("; needs ");
        out.push_str(short);
    }
    if let Some(behind) = behind {
        out.push_str("; behind ");
        push_run(&mut out, behind, now);
    }
    if let Some(span) = starts_in {
        out.push_str("; ");
        push_about(&mut out, span);
    }
    out
}

/// Another run of the same target is first.
pub(super) fn same_target(behind: Behind<'_>, starts_in: Option<Micros>, now: Micros) -> String {
    let mut out = "one run of a target at a time; behind ".to_owned();
    push_run(&mut out, behind, now);
    if let Some(span) = starts_in {
        out.push_str("; ");
        push_about(&mut out, span);
    }
    out
}

/// As many runs of its pipeline as may run at once do.
pub(super) fn over_the_limit(
    position: u32,
    pipeline: Pipeline,
    limit: u32,
    starts_in: Option<Micros>,
) -> String {
    let mut out = String::new();
    push_ordinal(&mut out, position);
    let runs = if limit == 1 { "run" } else { "runs" };
    let _ = write!(out, " in line for {limit} {pipeline} {runs} at once, as operators have limited them");
    if let Some(span) = starts_in {
        out.push_str("; ");
        push_about(&mut out, span);
    }
    out
}

/// `4096 MiB of mem, 1024 free; 1 vm, 0 free`.
pub(super) fn lacking(short: &[(usize, u64, u64)], pools: &[&str], word: &str) -> String {
    let mut out = String::new();
    for (pool, needed, there) in short {
        if !out.is_empty() {
            out.push_str("; ");
        }
        let _ = match pools[*pool].strip_suffix("_mib") {
            Some(name) => write!(out, "{needed} MiB of {name}, {there} {word}"),
            None => write!(out, "{needed} {}, {there} {word}", pools[*pool]),
        };
    }
    out
}

fn push_run(out: &mut String, run: Behind<'_>, now: Micros) {
    let _ = match run {
        Behind::Running(run) => {
            let _ = write!(out, "run {} ({}, {}, ", run.number, run.target, run.doing);
            push_span(out, now.since(run.since));
            write!(out, ")")
        }
        Behind::Waiting(run) => write!(out, "run {} ({}, waits, too)", run.number, run.target),
        Behind::Starting(run) => write!(out, "run {} ({}, about to start)", run.number, run.target),
    };
}

/// `2 m 10 s`: how long something has been going on.
fn push_span(out: &mut String, span: Micros) {
    let seconds = span.0.max(0) / 1_000_000;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let _ = match (hours, minutes) {
        (0, 0) => write!(out, "{rest} s"),
        (0, _) => write!(out, "{minutes} m {rest} s"),
        _ => write!(out, "{hours} h {minutes} m"),
    };
}

/// `about 3 min`: how long something may take.
fn push_about(out: &mut String, span: Micros) {
    // Rounded up: who is told less than it takes is told wrong.
    let minutes = (span.0.max(0) + 59_999_999) / 60_000_000;
    let _ = match minutes {
        0 | 1 => write!(out, "about a minute"),
        2..=90 => write!(out, "about {minutes} min"),
        91..=2880 => write!(out, "about {} h", (minutes + 30) / 60),
        _ => write!(out, "about {} days", (minutes + 720) / 1440),
    };
}

fn push_ordinal(out: &mut String, n: u32) {
    let end = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    let _ = write!(out, "{n}{end}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals() {
        let word = |n| {
            let mut out = String::new();
            push_ordinal(&mut out, n);
            out
        };
        let words: Vec<_> = [1, 2, 3, 4, 11, 12, 13, 21, 102, 111].into_iter().map(word).collect();
        assert_eq!(words, ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th"]);
    }

    #[test]
    fn spans_and_guesses() {
        let span = |seconds| {
            let mut out = String::new();
            push_span(&mut out, Micros::seconds(seconds));
            out
        };
        assert_eq!([5, 130, 7500].map(span), ["5 s", "2 m 10 s", "2 h 5 m"]);
        let about = |seconds| {
            let mut out = String::new();
            push_about(&mut out, Micros::seconds(seconds));
            out
        };
        assert_eq!(
            [0, 30, 61, 179, 5400, 5401, 7200, 172_800, 259_200].map(about),
            [
                "about a minute",
                "about a minute",
                "about 2 min",
                "about 3 min",
                "about 90 min",
                "about 2 h",
                "about 2 h",
                "about 48 h",
                "about 3 days"
            ]
        );
    }
}
