//! What a sighting means for what is waited for.

use assay_console::catalogue::Severity;
use assay_console::{Sighting, What};

use super::channels::Over;
use super::{Goal, MAX_NOTED, Machine, cut};
use crate::image::evidence::{NameSeen, Noted, Outcome, RungSeen};
use crate::image::outcome;
use crate::image::power::{OLD, REFUSED};
use crate::image::profile::{Phase, Within};

/// What is to be done about a sighting.
pub(super) enum Heed<'p> {
    Nothing,
    Done(&'p Phase),
    Reply(Option<String>, Vec<String>),
    Begun,
    End(Outcome),
}

impl Machine {
    /// What a sighting means for what is waited for.
    pub(super) fn heed<'p>(
        &mut self,
        over: Over,
        sighting: &Sighting,
        current: Option<&'p Phase>,
        goal: &Goal<'_>,
    ) -> Heed<'p> {
        let line = cut(&sighting.text);
        let at_s = sighting.at.as_secs_f64();
        match &sighting.what {
            What::Marker { name, captures, .. } => {
                let (kind, rest) = name.split_once(':').unwrap_or((name, ""));
                match kind {
                    "phase" => match current {
                        Some(phase) if phase.name == rest => {
                            if over.counts(phase.channel) {
                                Heed::Done(phase)
                            } else {
                                Heed::Nothing
                            }
                        }
                        _ => self.out_of_turn(rest, over, goal, sighting),
                    },
                    "reply" => {
                        let asked = current.and_then(|phase| {
                            let number = rest.strip_prefix(&format!("{}:", phase.name))?;
                            phase.replies.get(number.parse::<usize>().ok()?)
                        });
                        asked.map_or(Heed::Nothing, |reply| {
                            Heed::Reply(reply.text.clone(), reply.keys.clone())
                        })
                    }
                    "fail" => {
                        // `fail:` alone holds all the time, `fail:PHASE` within that phase.
                        let now = rest.is_empty() || current.is_some_and(|phase| phase.name == rest);
                        if !now {
                            return Heed::Nothing;
                        }
                        let meaning = "The profile names this line as a failure.".to_owned();
                        Heed::End(Outcome::Failed { code: "FailMarker".to_owned(), line, meaning })
                    }
                    "refusal" | "old" if self.after_cut => {
                        let (code, meaning) = if kind == "old" {
                            (OLD, "The profile names this line as the old system's.")
                        } else {
                            (REFUSED, "The profile names this line as a refusal.")
                        };
                        Heed::End(Outcome::Failed {
                            code: code.to_owned(),
                            line,
                            meaning: meaning.to_owned(),
                        })
                    }
                    "name" => {
                        if let Some(name) = captures.get("host") {
                            self.name_seen(NameSeen {
                                at_s,
                                by: rest.to_owned(),
                                name: cut(name),
                                channel: over.name().to_owned(),
                                line,
                            });
                        }
                        Heed::Nothing
                    }
                    "staged" => {
                        self.watched.staged_read.entry(rest.to_owned()).or_insert(line);
                        Heed::Nothing
                    }
                    "secret" => {
                        self.leak(rest, over);
                        Heed::Nothing
                    }
                    _ => Heed::Nothing,
                }
            }
            What::Rung { rung, .. } => {
                if self.highest() < Some(*rung) {
                    // A boot menu on a serial port stays there when the kernel speaks on the screen.
                    self.standing.clear();
                    self.watched.rungs.push(RungSeen { rung: *rung, at_s, line });
                }
                Heed::Nothing
            }
            What::Failure { code, severity, meaning, next_step, .. } => {
                let allowed = self.profile.console.allow.contains(code);
                if *severity == Severity::Starved {
                    let starved = outcome::starved(self.emulated && !allowed, code, &line, next_step);
                    return starved.map_or(Heed::Nothing, Heed::End);
                }
                let meaning = format!("{meaning} {next_step}");
                if sighting.is_fatal() && !allowed {
                    return Heed::End(Outcome::Failed { code: code.clone(), line, meaning });
                }
                let known = self.watched.noted.iter().any(|noted| noted.code == *code && noted.line == line);
                if !known && self.watched.noted.len() < MAX_NOTED {
                    self.watched.noted.push(Noted { at_s, code: code.clone(), line, meaning, allowed });
                }
                Heed::Nothing
            }
            What::StuckPrompt { .. } | What::IdleShell { .. } => {
                self.standing.insert(over, sighting.clone());
                Heed::Nothing
            }
            What::IdleLogin { .. } | What::Silent { .. } => Heed::Nothing,
        }
    }

    /// A name on the serial port is as it was written. One on the screen may be read while it is drawn, so it counts
    /// only where the serial port is silent, and the later reading counts more.
    fn name_seen(&mut self, seen: NameSeen) {
        let drawn = Over::Screen.name();
        let names = &mut self.watched.names;
        if seen.channel == drawn {
            if names.iter().any(|known| known.by == seen.by && known.channel != drawn) {
                return;
            }
            names.retain(|known| known.by != seen.by);
        } else {
            names.retain(|known| known.by != seen.by || known.channel != drawn);
        }
        if !names.iter().any(|known| known.by == seen.by && known.name == seen.name) {
            names.push(seen);
        }
    }

    /// A marker of a phase that is not the next one.
    fn out_of_turn<'p>(&mut self, name: &str, over: Over, goal: &Goal<'_>, sighting: &Sighting) -> Heed<'p> {
        let Some(phase) = self.profile.phases.iter().find(|phase| phase.name == name) else {
            return Heed::Nothing;
        };
        if !over.counts(phase.channel) {
            return Heed::Nothing;
        }
        if goal.or_begun.contains(&phase.stage) {
            return Heed::Begun;
        }
        // The other channel may bring it once more, when the stage is over already.
        let seen = self.done.contains(name);
        let success = self.profile.success_phase().is_some_and(|success| success.name == name);
        if !seen && success && goal.within == Within::Install {
            return Heed::End(before_work(&sighting.text));
        }
        if !seen && phase.stage == goal.within && self.watched.noted.len() < MAX_NOTED {
            self.watched.noted.push(out_of_order(name, sighting));
        }
        Heed::Nothing
    }
}

/// A success that was told too early.
pub(in crate::image::bench) fn before_work(line: &str) -> Outcome {
    Outcome::Failed {
        code: "SuccessBeforeWork".to_owned(),
        line: cut(line),
        meaning: "The marker of success came before phases that belong before it. Print it after everything is written, \
                  synced and read back."
            .to_owned(),
    }
}

/// A marker that came before its turn.
pub(in crate::image::bench) fn out_of_order(name: &str, sighting: &Sighting) -> Noted {
    Noted {
        at_s: sighting.at.as_secs_f64(),
        code: "PhaseOutOfOrder".to_owned(),
        line: cut(&sighting.text),
        meaning: format!("The marker of phase {name} came before its turn; it has to come again."),
        allowed: false,
    }
}
