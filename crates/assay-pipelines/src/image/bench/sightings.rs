//! What a sighting comes to as evidence, whichever machine it was seen on: a virtual one with all its channels, or a real
//! one behind its serial console.

use std::collections::BTreeMap;
use std::time::Duration;

use assay_console::catalogue::Severity;
use assay_console::{Sighting, What};

use crate::image::evidence::{Noted, Outcome, PhaseSeen, Watched};
use crate::image::outcome;
use crate::image::profile::Profile;

/// Sightings and events that are kept.
pub(super) const MAX_NOTED: usize = 100;
/// The longest line that is kept as evidence, in characters.
const MAX_LINE: usize = 400;

/// What a failure is weighed by.
pub(super) struct Context<'a> {
    /// What the image is held to.
    pub(super) profile: &'a Profile,
    /// Whether the machine's processors are emulated in software: then one that got no time is no news of the image.
    pub(super) emulated: bool,
}

/// Nothing seen yet.
pub(super) fn fresh(accel: &str, stretch: f64) -> Watched {
    Watched {
        accel: accel.to_owned(),
        stretch,
        outcome: Outcome::Reached,
        rungs: Vec::new(),
        phases: Vec::new(),
        noted: Vec::new(),
        typed: Vec::new(),
        input: 0,
        events: Vec::new(),
        shots: Vec::new(),
        lines: BTreeMap::new(),
        seconds: 0.0,
        leaks: Vec::new(),
        staged_read: BTreeMap::new(),
        names: Vec::new(),
    }
}

/// A phase whose marker this is, waited for since `began`.
pub(super) fn phase_seen(
    name: &str,
    channel: &str,
    sighting: &Sighting,
    began: Duration,
    limit: Duration,
) -> Option<PhaseSeen> {
    let What::Marker { captures, .. } = &sighting.what else { return None };
    Some(PhaseSeen {
        name: name.to_owned(),
        at_s: sighting.at.as_secs_f64(),
        took_s: sighting.at.saturating_sub(began).as_secs_f64(),
        limit_s: limit.as_secs_f64(),
        written: None,
        reacted_ms: 0.0,
        line: cut(&sighting.text),
        channel: channel.to_owned(),
        captures: captures.iter().map(|(group, text)| (group.clone(), cut(text))).collect(),
    })
}

/// What waits at a prompt or in a shell, and has for too long.
pub(super) fn stalled(standing: &Sighting, now: Duration) -> Outcome {
    let (code, asks) = match &standing.what {
        What::IdleShell { prompt, .. } => ("IdleShell", prompt),
        // A window on the screen is told by its title and its text, not by the line that its prompt was seen in.
        What::StuckPrompt { prompt, .. } => ("StuckPrompt", prompt),
        _ => ("StuckPrompt", &standing.text),
    };
    let seconds = now.saturating_sub(standing.at).as_secs_f64();
    Outcome::Stalled { code: code.to_owned(), line: cut(asks), seconds }
}

/// What a failure on the console comes to: the end of the watching, or a note.
pub(super) fn failure(watched: &mut Watched, context: &Context<'_>, sighting: &Sighting) -> Option<Outcome> {
    let What::Failure { code, severity, meaning, next_step, .. } = &sighting.what else { return None };
    let line = cut(&sighting.text);
    let allowed = context.profile.console.allow.contains(code);
    if *severity == Severity::Starved {
        return outcome::starved(context.emulated && !allowed, code, &line, next_step);
    }
    let meaning = format!("{meaning} {next_step}");
    if sighting.is_fatal() && !allowed {
        return Some(Outcome::Failed { code: code.clone(), line, meaning });
    }
    let known = watched.noted.iter().any(|noted| noted.code == *code && noted.line == line);
    if !known && watched.noted.len() < MAX_NOTED {
        let at_s = sighting.at.as_secs_f64();
        watched.noted.push(Noted { at_s, code: code.clone(), line, meaning, allowed });
    }
    None
}

/// What a machine that was late came to, once it is known what its kernel went through: an emulated one whose processors
/// waited for each other, or for a timer, for many seconds was given no time by its host.
pub(super) fn or_starved(came: Outcome, watched: &Watched, emulated: bool) -> Outcome {
    if !matches!(came, Outcome::TimedOut { .. }) {
        return came;
    }
    let stalled = watched.noted.iter().find(|noted| noted.code == "RcuStall" && !noted.allowed);
    let next_step = "Run it again with less load on the host, or on one with KVM.";
    let starved = stalled.and_then(|noted| outcome::starved(emulated, &noted.code, &noted.line, next_step));
    starved.unwrap_or(came)
}

/// A success that was told too early.
pub(super) fn before_work(line: &str) -> Outcome {
    Outcome::Failed {
        code: "SuccessBeforeWork".to_owned(),
        line: cut(line),
        meaning: "The marker of success came before phases that belong before it. Print it after everything is written, \
                  synced and read back."
            .to_owned(),
    }
}

/// A marker that came before its turn.
pub(super) fn out_of_order(name: &str, sighting: &Sighting) -> Noted {
    Noted {
        at_s: sighting.at.as_secs_f64(),
        code: "PhaseOutOfOrder".to_owned(),
        line: cut(&sighting.text),
        meaning: format!("The marker of phase {name} came before its turn; it has to come again."),
        allowed: false,
    }
}

/// A guest's line, as evidence.
pub(super) fn cut(line: &str) -> String {
    assay_model::text::clean_to(line, MAX_LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulated_machine_that_was_late_and_starved_says_nothing_of_its_image() {
        let late =
            || Outcome::TimedOut { waited_for: "rung userspace".into(), limit_s: 90.0, line: "x".into() };
        let mut watched = fresh("software emulation", 1.0);
        assert_eq!(or_starved(late(), &watched, true), late(), "nothing was said");
        let line = "rcu: rcu_preempt kthread timer wakeup didn't happen for 5251 jiffies!".to_owned();
        let (code, meaning) = ("RcuStall".to_owned(), String::new());
        watched.noted.push(Noted { at_s: 47.6, code, line, meaning, allowed: false });
        assert!(matches!(
            or_starved(late(), &watched, true),
            Outcome::RunnerFault { why } if why.contains("gave the emulated machine no time") && why.contains("5251")
        ));
        assert_eq!(or_starved(late(), &watched, false), late(), "a real processor has no such excuse");
        assert_eq!(or_starved(Outcome::Reached, &watched, true), Outcome::Reached);
        watched.noted[0].allowed = true;
        assert_eq!(or_starved(late(), &watched, true), late());
    }
}
