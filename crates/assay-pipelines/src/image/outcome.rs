//! What watching a machine came to, as checks and findings: the same words in every stage that watches one.

use assay_console::Rung;
use assay_model::{Check, Coverage, Finding, Severity, Verdict, text};

use super::evidence::{Leak, Outcome, Watched};
use super::profile::{Profile, Within};

/// The longest line that is shown in a finding, in characters.
const LINE: usize = 200;

/// What the machine did, drawn together.
pub(super) struct Told {
    pub(super) checks: Vec<Check>,
    pub(super) findings: Vec<Finding>,
    pub(super) coverage: Vec<Coverage>,
}

/// Checks the outcome and the phases of a stage.
pub(super) fn told(watched: &Watched, profile: &Profile, within: Within, rung: Rung) -> Told {
    let mut told = Told { checks: Vec::new(), findings: Vec::new(), coverage: Vec::new() };
    let wanted: Vec<_> = profile.phases.iter().filter(|phase| phase.stage == within).collect();
    for phase in &wanted {
        let seen = watched.phases.iter().find(|seen| seen.name == phase.name);
        told.checks.push(Check {
            name: format!("phase {}", phase.name),
            verdict: if seen.is_some() { Verdict::Pass } else { Verdict::Fail },
            expected: format!("`{}` within {}", text::clean_to(&phase.marker, LINE), phase.timeout),
            seen: seen.map_or_else(
                || "not seen".to_owned(),
                |seen| format!("after {:.1} s on {}: {}", seen.took_s, seen.channel, line(&seen.line)),
            ),
        });
    }
    let best = watched.rungs.iter().map(|seen| seen.rung).max();
    let implied = if watched.phases.is_empty() { None } else { Some(within.implies()) };
    if within != Within::Install {
        let reached = best.max(implied) >= Some(rung);
        told.checks.push(Check {
            name: "boot ladder".to_owned(),
            verdict: if reached { Verdict::Pass } else { Verdict::Fail },
            expected: format!("{rung} or higher"),
            seen: watched.rungs.last().map_or_else(
                || "nothing was recognised".to_owned(),
                |seen| format!("{} after {:.1} s: {}", seen.rung, seen.at_s, line(&seen.line)),
            ),
        });
    }
    let seen = watched.phases.len() as u64;
    if !wanted.is_empty() {
        told.coverage.push(Coverage { what: "phases".to_owned(), covered: seen, total: wanted.len() as u64 });
    }
    told.findings.extend(outcome(watched));
    for noted in watched.noted.iter().take(20) {
        let severity = if noted.allowed { Severity::Info } else { Severity::Warning };
        let what = format!("after {:.1} s: {}", noted.at_s, line(&noted.line));
        let next = if noted.allowed {
            "The profile allows it (console.allow).".to_owned()
        } else {
            format!("{} If it is harmless for this image, name its code under console.allow.", noted.meaning)
        };
        told.findings.push(Finding::new(&noted.code, severity, what, next));
    }
    told.findings.extend(watched.leaks.iter().map(leaked));
    told
}

/// The finding of an outcome other than success.
pub(super) fn outcome(watched: &Watched) -> Option<Finding> {
    let last = watched
        .phases
        .last()
        .map_or_else(|| "before the first phase".to_owned(), |phase| format!("after phase {}", phase.name));
    let critical =
        |code: &str, message: String, next: &str| Some(Finding::new(code, Severity::Critical, message, next));
    match &watched.outcome {
        // A fault of the runner is an error of the stage and no finding about the image.
        Outcome::Reached | Outcome::RunnerFault { .. } | Outcome::PowerCut => None,
        Outcome::Failed { code, line: said, meaning } => {
            critical(code, format!("{last} the machine said: {}", line(said)), meaning)
        }
        Outcome::Stalled { code, line: said, seconds } => {
            let (what, next) = match code.as_str() {
                "StuckPrompt" => (
                    "waits at a prompt",
                    "Find out why the installer asks: what it wanted to read was not there, or not as it should be.",
                ),
                "IdleShell" => (
                    "sits in an idle shell",
                    "The installer ended or was never started; look at what its service printed last.",
                ),
                _ => (
                    "says nothing any more",
                    "Look at the screen's picture and the end of the console; a longer `console.silence` is right only \
                     where the installer is known to be quiet for so long.",
                ),
            };
            critical(code, format!("{last} the machine {what} for {seconds:.0} s: {}", line(said)), next)
        }
        Outcome::TimedOut { waited_for, limit_s, line: said } => critical(
            super::TIMED_OUT,
            format!("{last} {waited_for} did not come within {limit_s:.0} s; the last line: {}", line(said)),
            "It was still at work. Compare with the times of earlier runs: either it hangs, or its time is too short.",
        ),
        Outcome::Ended { code, detail } => critical(
            code,
            format!("{last} the machine ended by itself: {}", line(detail)),
            "Look at the last lines of the console before it.",
        ),
    }
}

/// A secret where it should not be.
pub(super) fn leaked(leak: &Leak) -> Finding {
    Finding::new(
        "SecretOnConsole",
        Severity::Critical,
        format!("the secret {} was seen on {}", text::clean(&leak.secret), text::clean(&leak.place)),
        "Find what prints it. Whoever reads a console or its log has the secret; replace it where it was real.",
    )
}

/// Whether it is the runner that failed, and why.
pub(super) fn runner_fault(watched: &Watched) -> Option<&str> {
    match &watched.outcome {
        Outcome::RunnerFault { why } => Some(why),
        _ => None,
    }
}

/// What it comes to when a machine stops because it was given no time: where it is emulated in software, the runner has
/// failed and nobody knows anything of the image. Elsewhere this says nothing, and the same line is a failure by another
/// pattern.
#[cfg_attr(
    not(any(feature = "bench", test)),
    expect(dead_code, reason = "machines are watched by a runner alone")
)]
pub(super) fn starved(emulated: bool, code: &str, said: &str, next_step: &str) -> Option<Outcome> {
    let why = || {
        format!(
            "the host gave the emulated machine no time, and its kernel stopped ({code}: {}). That says nothing of the \
             image. {next_step}",
            line(said)
        )
    };
    emulated.then(|| Outcome::RunnerFault { why: why() })
}

/// A guest's line, fit for a sentence.
pub(super) fn line(said: &str) -> String {
    match text::clean_to(said, LINE) {
        said if said.is_empty() => "(nothing)".to_owned(),
        said => said,
    }
}
