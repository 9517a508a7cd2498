//! What a sighting on a machine's console means for what is waited for.

use assay_console::{Rung, Sighting, What};

use super::super::sightings::{Context, MAX_NOTED, before_work, cut, failure, out_of_order};
use super::{Doing, Ejection, Installation};
use crate::image::evidence::{Leak, NameSeen, Outcome, RungSeen};
use crate::image::profile::{Phase, Within};

/// What is to be done about a sighting.
pub(super) enum Heed {
    Nothing,
    Done(Phase),
    /// It belongs to the next stage, which has begun.
    On,
    End(Outcome),
}

impl Installation {
    /// What a sighting means for what is waited for.
    pub(super) fn heed(&mut self, sighting: &Sighting) -> Heed {
        let line = cut(&sighting.text);
        let at_s = sighting.at.as_secs_f64();
        match &sighting.what {
            What::Marker { name, captures, .. } => {
                let (kind, rest) = name.split_once(':').unwrap_or((name, ""));
                match kind {
                    "phase" => match self.phases.front() {
                        Some(phase) if phase.name == rest => Heed::Done(phase.clone()),
                        _ => self.out_of_turn(rest, sighting),
                    },
                    "fail" => {
                        // `fail:` alone holds all the time, `fail:PHASE` within that phase.
                        let within = self.phases.front().is_some_and(|phase| phase.name == rest);
                        if !rest.is_empty() && !within {
                            return Heed::Nothing;
                        }
                        let meaning = "The profile names this line as a failure.".to_owned();
                        Heed::End(Outcome::Failed { code: "FailMarker".to_owned(), line, meaning })
                    }
                    "name" => {
                        let name = captures.get("host").map(|name| cut(name));
                        let names = &mut self.watched.names;
                        if let Some(name) = name
                            && !names.iter().any(|known| known.by == rest && known.name == name)
                            && names.len() < MAX_NOTED
                        {
                            let (by, channel) = (rest.to_owned(), "serial".to_owned());
                            names.push(NameSeen { at_s, by, name, channel, line });
                        }
                        Heed::Nothing
                    }
                    "staged" => {
                        self.watched.staged_read.entry(rest.to_owned()).or_insert(line);
                        Heed::Nothing
                    }
                    "secret" => {
                        let leak = Leak { secret: rest.to_owned(), place: "the serial console".to_owned() };
                        if !self.watched.leaks.contains(&leak) {
                            self.watched.leaks.push(leak);
                        }
                        Heed::Nothing
                    }
                    "down" => {
                        if let Doing::Ending { .. } = self.doing {
                            self.eject();
                        }
                        Heed::Nothing
                    }
                    // Nobody types, and no power is cut here.
                    _ => Heed::Nothing,
                }
            }
            What::Rung { rung, boot } => {
                if *boot > self.boot
                    && let Some(heed) = self.another_boot(*boot, &line)
                {
                    return heed;
                }
                if self.stages.front() == Some(&Within::Reboot) && *rung < Rung::Userspace {
                    self.restarted = true;
                }
                if self.highest() < Some(*rung) {
                    self.standing = None;
                    self.watched.rungs.push(RungSeen { rung: *rung, at_s, line });
                }
                Heed::Nothing
            }
            // An installer whose medium is gone complains of it, and has done its work.
            What::Failure { .. }
                if matches!(self.doing, Doing::Ending { .. }) && self.ejection != Ejection::Not =>
            {
                Heed::Nothing
            }
            What::Failure { .. } => {
                let context = Context { profile: &self.profile, emulated: self.following.emulated };
                failure(&mut self.watched, &context, sighting).map_or(Heed::Nothing, Heed::End)
            }
            // Firmware says which keys lead into its setup, and is quiet for minutes.
            What::StuckPrompt { .. } if self.console.rung() < Some(Rung::Kernel) => Heed::Nothing,
            What::StuckPrompt { .. } | What::IdleShell { .. } => {
                self.standing = Some(sighting.clone());
                Heed::Nothing
            }
            What::IdleLogin { .. } | What::Silent { .. } => Heed::Nothing,
        }
    }

    /// The machine boots anew, after its kernel ran.
    fn another_boot(&mut self, boot: u32, line: &str) -> Option<Heed> {
        if let Doing::Ending { .. } = self.doing {
            self.restarted = true;
            // `boot` stays as it is: the next stage looks at this sighting as the beginning of its own boot.
            return Some(Heed::On);
        }
        self.boot = boot;
        let first = self.stages.front() == Some(&Within::Reboot) && self.watched.rungs.is_empty();
        if first || self.doing != Doing::Watching {
            return None;
        }
        let waited_for = match (self.phases.front(), self.rung()) {
            (Some(phase), _) => format!("phase {}", phase.name),
            (None, Some((rung, _))) => format!("rung {rung}"),
            (None, None) => "its end".to_owned(),
        };
        let detail = format!("waiting for {waited_for}; the first line of the next boot: {line}");
        Some(Heed::End(Outcome::Ended { code: "UnexpectedReset".to_owned(), detail }))
    }

    /// A marker of a phase that is not the next one.
    fn out_of_turn(&mut self, name: &str, sighting: &Sighting) -> Heed {
        let Some(phase) = self.profile.phases.iter().find(|phase| phase.name == name).cloned() else {
            return Heed::Nothing;
        };
        let Some(stage) = self.stages.front().copied() else { return Heed::Nothing };
        match (stage, phase.stage) {
            // What comes later has begun.
            (Within::Boot, Within::Install) if self.doing == Doing::Watching => {
                self.begun(sighting);
                Heed::On
            }
            (Within::Install, Within::Reboot) if matches!(self.doing, Doing::Ending { .. }) => Heed::On,
            (Within::Reboot, Within::Install) if self.restarted => {
                self.installer_again.get_or_insert_with(|| cut(&sighting.text));
                Heed::Nothing
            }
            _ => {
                let seen = self.done.contains(name);
                let success = self.profile.success_phase().is_some_and(|success| success.name == name);
                if !seen && success && stage == Within::Install {
                    return Heed::End(before_work(&sighting.text));
                }
                if !seen && phase.stage == stage && self.watched.noted.len() < MAX_NOTED {
                    self.watched.noted.push(out_of_order(name, sighting));
                }
                Heed::Nothing
            }
        }
    }
}
