//! What a sighting means for what is waited for.

use assay_console::{Sighting, What};

use super::super::sightings::{Context, MAX_NOTED, before_work, cut, failure, out_of_order};
use super::channels::Over;
use super::{Goal, Machine};
use crate::image::evidence::{NameSeen, Outcome, RungSeen};
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
            What::Failure { .. } => {
                let context = Context { profile: &self.profile, emulated: self.emulated };
                failure(&mut self.watched, &context, sighting).map_or(Heed::Nothing, Heed::End)
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
