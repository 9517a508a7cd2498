//! An installation on a physical machine, read off its serial console: nothing else is known of it.
//!
//! It is told what was heard and when, and says what is to be done and which stage has come to an end, with the same
//! evidence that a virtual machine's bench brings. What a console cannot tell (disks from outside, the screen, the
//! network, what was typed at the machine) stays empty, and the judges make `unverified` of that. It reads no clock and
//! waits for nothing by itself: what is due when is asked by [`Installation::deadline`].
//!
//! Times are the profile's own, not calibrated, with what the machine's firmware needs before a boot in addition. Silence
//! is no failure by itself: nobody sees whether a quiet machine writes. A console that was interrupted may have said
//! what is waited for, so nothing is held against the image then that time alone shows.

mod heed;
mod transcript;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use assay_console::{Console, Marker, Rung, Sighting, Watch};
use serde::Serialize;
use serde_json::Value;

use self::heed::Heed;
use self::transcript::Transcript;
use super::machine::watch;
use super::sightings::{cut, or_starved, phase_seen, stalled};
use crate::image::evidence::{Booted, Installed, Outcome, Rebooted, RungSeen, Watched};
use crate::image::profile::{Channel, Ends, Phase, Profile, Within};

/// How long a console may be away before nobody waits for it any more: a BMC that is reset needs some minutes.
const AWAY: Duration = Duration::from_mins(5);
/// How long after the last phase of an installation its medium may still be in. An installer runs from it to its end, so
/// it goes out with the kernel's last words, or with the first ones of the next boot; a machine that tells neither must
/// not come back to it all the same.
const GRACE: Duration = Duration::from_secs(5);
/// What is said together with the last line that was waited for, such as a name after a greeting.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How a machine is followed.
#[derive(Clone, Debug)]
pub struct Following {
    /// The stages that are followed, from the first on: `Boot`, `Install`, `Reboot`.
    pub stages: Vec<Within>,
    /// How long the machine may take from power-on, and from its reset, to what the firmware boots.
    pub boot: Duration,
    /// By how much the profile's limits are stretched: 1 for a machine of metal.
    pub stretch: f64,
    /// Whether the machine's processors are emulated in software, in a lab: then a kernel that got no time is no news of
    /// the image.
    pub emulated: bool,
    /// What the machine is, for people.
    pub machine: String,
}

/// An installation that is followed on a console.
pub struct Installation {
    profile: Profile,
    following: Following,
    console: Console,
    /// The stages that are still to come; the first is watched.
    stages: VecDeque<Within>,
    /// Phases of this stage that are still to come.
    phases: VecDeque<Phase>,
    doing: Doing,
    now: Duration,
    last_heard: Duration,
    stage_began: Duration,
    phase_began: Duration,
    /// Which boot the console's reader is in.
    boot: u32,
    /// Whether a boot began in this stage.
    restarted: bool,
    pending: VecDeque<Sighting>,
    standing: Option<Sighting>,
    /// Since when the console is away, and why.
    away: Option<(Duration, String)>,
    /// When it was away in this stage.
    interrupted: Option<Duration>,
    ejection: Ejection,
    /// When the medium goes out at the latest.
    eject_by: Option<Duration>,
    done: BTreeSet<String>,
    /// A line of the installer, heard after it was to be gone.
    installer_again: Option<String>,
    watched: Watched,
    transcript: Transcript,
    news: Vec<News>,
}

/// What is to be done, or was brought.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// A step, for those who look on.
    Step(String),
    /// The medium is to be ejected now; [`Installation::ejected`] is told what became of it.
    Eject,
    /// A stage is over.
    Brought(StageBrought),
    /// Nothing more comes.
    Over,
}

/// The evidence of a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct StageBrought {
    /// Its name.
    pub stage: &'static str,
    /// What its judge reads.
    pub evidence: Value,
    /// The transcript, by the name of its file.
    pub texts: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Waiting for phases and a rung.
    Watching,
    /// Everything was installed; what the machine does then is waited for.
    Ending {
        until: Duration,
    },
    /// The last line may not have come alone.
    Listening {
        until: Duration,
    },
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ejection {
    Not,
    Asked,
    Done,
    Failed(String),
}

impl Installation {
    /// From the moment on at which the machine was switched on with its medium.
    ///
    /// # Errors
    /// What of the profile cannot be looked for on a console.
    pub fn new(profile: &Profile, following: Following) -> Result<Self, String> {
        let elsewhere = |phase: &&Phase| matches!(phase.channel, Channel::Screen | Channel::Progress);
        if let Some(phase) = profile.phases.iter().find(elsewhere) {
            return Err(format!(
                "phase {} is looked for on a channel that a machine of metal does not have; its serial console is all that \
                 is read",
                phase.name
            ));
        }
        let watched = fresh(&following);
        let mut installation = Self {
            console: Console::new(looked_for(profile)?),
            profile: profile.clone(),
            stages: following.stages.iter().copied().collect(),
            following,
            phases: VecDeque::new(),
            doing: Doing::Watching,
            now: Duration::ZERO,
            last_heard: Duration::ZERO,
            stage_began: Duration::ZERO,
            phase_began: Duration::ZERO,
            boot: 1,
            restarted: false,
            pending: VecDeque::new(),
            standing: None,
            away: None,
            interrupted: None,
            ejection: Ejection::Not,
            eject_by: None,
            done: BTreeSet::new(),
            installer_again: None,
            watched,
            transcript: Transcript::default(),
            news: Vec::new(),
        };
        installation.begin();
        Ok(installation)
    }

    /// Bytes came, so long after the machine was switched on. Times do not go back.
    pub fn heard(&mut self, at: Duration, bytes: &[u8]) -> Vec<News> {
        self.there(at);
        if !bytes.is_empty() {
            self.last_heard = self.now;
            self.standing = None;
        }
        let sightings = self.console.push(self.now, bytes);
        self.pending.extend(sightings);
        self.work()
    }

    /// The console can be read, and nothing came. To be called at [`Self::deadline`].
    pub fn tick(&mut self, at: Duration) -> Vec<News> {
        self.there(at);
        let sightings = self.console.tick(self.now);
        self.pending.extend(sightings);
        self.work()
    }

    /// The console cannot be read. To be called again while that lasts.
    pub fn lost(&mut self, at: Duration, why: &str) -> Vec<News> {
        self.now = self.now.max(at);
        let (since, _) = self.away.get_or_insert_with(|| (self.now, why.to_owned()));
        self.interrupted.get_or_insert(*since);
        self.work()
    }

    /// The console cannot be had at all.
    pub fn give_up(&mut self, at: Duration, why: &str) -> Vec<News> {
        self.now = self.now.max(at);
        if self.doing != Doing::Over {
            self.fail(Outcome::RunnerFault { why: format!("the machine's console cannot be read: {why}") });
        }
        self.work()
    }

    /// What became of [`News::Eject`].
    pub fn ejected(&mut self, at: Duration, outcome: Result<(), String>) -> Vec<News> {
        self.now = self.now.max(at);
        self.ejection = match outcome {
            Ok(()) => Ejection::Done,
            Err(why) => Ejection::Failed(why),
        };
        if self.stages.front() == Some(&Within::Reboot) {
            self.must_be_out();
        }
        self.work()
    }

    /// When something is due although nothing is heard.
    pub fn deadline(&self) -> Duration {
        let due = match (&self.away, self.doing) {
            (_, Doing::Over) => return Duration::MAX,
            (Some((since, _)), _) => *since + AWAY,
            (None, Doing::Ending { until } | Doing::Listening { until }) => until,
            (None, Doing::Watching) => self.due().0,
        };
        let standing = self.standing.as_ref().map(|_| self.last_heard + self.patience());
        let eject_by = self.eject_by.filter(|_| self.ejection == Ejection::Not);
        [standing, eject_by, self.console.deadline()].into_iter().flatten().fold(due, Duration::min)
    }

    /// Whether nothing more comes.
    pub fn is_over(&self) -> bool {
        self.doing == Doing::Over
    }

    fn there(&mut self, at: Duration) {
        self.now = self.now.max(at);
        if self.away.take().is_some() {
            // What was due meanwhile could not be heard.
            self.phase_began = self.now;
        }
    }

    fn work(&mut self) -> Vec<News> {
        while self.doing != Doing::Over && self.look() {}
        self.keep_lines();
        std::mem::take(&mut self.news)
    }

    /// Looks at what was heard and at the time; whether that led on, so that there may be more to see.
    fn look(&mut self) -> bool {
        while let Some(sighting) = self.pending.pop_front() {
            match self.heed(&sighting) {
                Heed::Nothing => {}
                Heed::Done(phase) => self.phase_done(&phase, &sighting),
                Heed::On => {
                    self.pending.push_front(sighting);
                    self.next_stage();
                    return true;
                }
                // What a machine says that has done its work is evidence, and changes nothing.
                Heed::End(_) if self.doing != Doing::Watching => {}
                Heed::End(outcome) => {
                    self.fail(outcome);
                    return false;
                }
            }
        }
        match self.doing {
            Doing::Watching => self.reached() || self.overdue(),
            Doing::Ending { until } | Doing::Listening { until } => {
                if self.eject_by.is_some_and(|by| self.now >= by) {
                    self.eject();
                }
                let over = self.now >= until && self.ejection != Ejection::Asked;
                if over {
                    self.next_stage();
                }
                over
            }
            Doing::Over => false,
        }
    }

    fn phase_done(&mut self, phase: &Phase, sighting: &Sighting) {
        self.standing = None;
        self.done.insert(phase.name.clone());
        let limit = phase.timeout.0.mul_f64(self.following.stretch) + self.allowance();
        self.watched.phases.extend(phase_seen(&phase.name, "serial", sighting, self.phase_began, limit));
        self.news.push(News::Step(format!("{} after {:.1} s", phase.name, sighting.at.as_secs_f64())));
        self.phases.pop_front();
        self.phase_began = sighting.at;
    }

    /// Has the medium ejected, unless it was.
    fn eject(&mut self) {
        if self.ejection == Ejection::Not {
            self.ejection = Ejection::Asked;
            self.news.push(News::Eject);
        }
    }

    /// Whether the stage has come to where it was to come.
    fn reached(&mut self) -> bool {
        let rung = self.rung().is_none_or(|(rung, _)| self.highest() >= Some(rung));
        if !self.phases.is_empty() || !rung {
            return false;
        }
        self.doing = match self.stages.front() {
            Some(Within::Install) => {
                self.eject_by = Some(self.now + GRACE);
                let install = &self.profile.install;
                // What follows a reset is heard when the firmware is done with it.
                let wait = match install.ends {
                    Ends::StaysOn => LAST_WORDS,
                    Ends::PowerOff => install.timeout.0.mul_f64(self.following.stretch),
                    _ => install.timeout.0.mul_f64(self.following.stretch) + self.following.boot,
                };
                Doing::Ending { until: self.now + wait }
            }
            Some(Within::Reboot) => Doing::Listening { until: self.now + LAST_WORDS },
            _ => {
                self.next_stage();
                return true;
            }
        };
        true
    }

    /// Whether the time for something is over; then the stage is.
    fn overdue(&mut self) -> bool {
        let outcome = if let Some((since, why)) = &self.away {
            if self.now < *since + AWAY {
                return false;
            }
            let away = self.now.saturating_sub(*since).as_secs();
            Outcome::RunnerFault {
                why: format!("the machine's console could not be read for {away} s: {why}"),
            }
        } else if let Some(standing) =
            self.standing.as_ref().filter(|_| self.now >= self.last_heard + self.patience())
        {
            stalled(standing, self.now)
        } else {
            let (due, waited_for, limit) = self.due();
            if self.now < due {
                return false;
            }
            Outcome::TimedOut { waited_for, limit_s: limit.as_secs_f64(), line: self.last_line() }
        };
        self.fail(outcome);
        false
    }

    /// The next thing that would be overdue, what it is, and how long it may take.
    fn due(&self) -> (Duration, String, Duration) {
        let stretched = |limit: Duration| limit.mul_f64(self.following.stretch) + self.allowance();
        if let Some(phase) = self.phases.front() {
            let limit = stretched(phase.timeout.0);
            return (self.phase_began + limit, format!("phase {}", phase.name), limit);
        }
        let (rung, limit) = self.rung().unwrap_or((Rung::Login, Duration::ZERO));
        let limit = stretched(limit);
        let began = if self.interrupted.is_some() { self.phase_began } else { self.stage_began };
        (began + limit, format!("rung {rung}"), limit)
    }

    /// What the firmware may take before what is waited for can come.
    fn allowance(&self) -> Duration {
        let boots = self.stages.front() != Some(&Within::Install);
        if boots && self.watched.phases.is_empty() { self.following.boot } else { Duration::ZERO }
    }

    fn rung(&self) -> Option<(Rung, Duration)> {
        match self.stages.front()? {
            Within::Boot => Some((self.profile.boot.rung, self.profile.boot.timeout.0)),
            Within::Install => None,
            Within::Reboot => Some((self.profile.reboot.rung, self.profile.reboot.timeout.0)),
        }
    }

    /// How long a prompt may stand.
    fn patience(&self) -> Duration {
        self.profile.console.prompt.0.mul_f64(self.following.stretch)
    }

    fn highest(&self) -> Option<Rung> {
        self.watched.rungs.iter().map(|seen| seen.rung).max()
    }

    fn last_line(&self) -> String {
        let line = self.console.tail(1).into_iter().next_back();
        line.map_or_else(|| "nothing was heard".to_owned(), |line| cut(&line.text))
    }

    /// The stage did not get to where it was to get; no other follows.
    fn fail(&mut self, outcome: Outcome) {
        let outcome = self.excused(outcome);
        self.watched.outcome = or_starved(outcome, &self.watched, self.following.emulated);
        self.bring();
        self.stages.clear();
        self.end();
    }

    /// What is not the image's doing, as far as anybody knows.
    fn excused(&self, outcome: Outcome) -> Outcome {
        let late = matches!(outcome, Outcome::TimedOut { .. });
        let why = match (&self.installer_again, self.interrupted) {
            (Some(line), _) if late || matches!(outcome, Outcome::Ended { .. }) => format!(
                "the machine came up from its medium again, which was ejected: {line}. Look at its boot order, and whether its \
                 management controller really ejects"
            ),
            (_, Some(at)) if late => format!(
                "the machine's console was interrupted after {:.0} s, so what was waited for may have been said \
                 unheard ({outcome:?})",
                at.as_secs_f64()
            ),
            (None, None) if late && self.is_unheard() => {
                "nothing was heard of the machine's reset: neither its firmware nor the kernel of what was installed speaks on \
                 this console. Give that kernel the serial port as its console"
                    .to_owned()
            }
            _ => return outcome,
        };
        Outcome::RunnerFault { why }
    }

    /// Whether all that is known of the first boot is that time passed.
    fn is_unheard(&self) -> bool {
        let first_boot = self.stages.front() == Some(&Within::Reboot);
        first_boot && !self.restarted && self.watched.rungs.is_empty() && self.watched.phases.is_empty()
    }

    /// The stage is over; the next begins, or nothing more comes.
    fn next_stage(&mut self) {
        self.bring();
        let ended = self.stages.pop_front();
        if ended == Some(Within::Install) {
            self.eject();
        }
        if self.stages.is_empty() {
            return self.end();
        }
        self.begin();
        if ended == Some(Within::Install) {
            self.must_be_out();
        }
    }

    /// A machine whose medium is in boots from that again, and nothing is known of what was installed.
    fn must_be_out(&mut self) {
        if let Ejection::Failed(why) = &self.ejection {
            let why = format!("the medium could not be ejected, and the machine boots from it again: {why}");
            self.fail(Outcome::RunnerFault { why });
        }
    }

    /// What this stage waits for, from now on.
    fn begin(&mut self) {
        let stage = self.stages.front().copied();
        self.phases =
            self.profile.phases.iter().filter(|phase| Some(phase.stage) == stage).cloned().collect();
        self.doing = if stage.is_some() { Doing::Watching } else { Doing::Over };
        (self.stage_began, self.phase_began) = (self.now, self.now);
        (self.standing, self.interrupted) = (None, None);
        if stage == Some(Within::Reboot) && !self.restarted {
            // Its firmware is silent here. What comes is looked at as of a new boot, whether it says so or not.
            self.console.restarted();
            self.boot = self.console.boot();
        }
    }

    fn end(&mut self) {
        self.doing = Doing::Over;
        // Whatever became of it, the medium does not stay in.
        self.eject();
        self.news.push(News::Over);
    }

    /// The evidence of the stage.
    fn bring(&mut self) {
        let Some(stage) = self.stages.front().copied() else { return };
        self.keep_lines();
        let mut watched = std::mem::replace(&mut self.watched, fresh(&self.following));
        watched.seconds = self.now.saturating_sub(self.stage_began).as_secs_f64();
        let restarted = matches!(self.doing, Doing::Ending { .. }) && self.restarted;
        let (stage, file, evidence) = match stage {
            Within::Boot => ("Boot", "boot", sent(&Booted { watched, command: String::new() })),
            Within::Install => {
                let failed = watched.outcome != Outcome::Reached;
                let ended = if failed {
                    "failed"
                } else if restarted {
                    "rebooted"
                } else {
                    "unknown"
                };
                ("Install", "install", sent(&installed(watched, ended)))
            }
            Within::Reboot => ("Reboot", "reboot", sent(&Rebooted { watched, egress: Vec::new() })),
        };
        let text = std::mem::take(&mut self.transcript).text();
        let texts = BTreeMap::from([(format!("{file}-serial.txt"), text)]);
        self.news.push(News::Brought(StageBrought { stage, evidence, texts }));
    }

    fn keep_lines(&mut self) {
        let lines = self.console.take_lines();
        *self.watched.lines.entry("serial".to_owned()).or_default() += lines.len() as u64;
        for line in lines {
            self.transcript.push(&format!("{:9.3} {}\n", line.at.as_secs_f64(), line.text));
        }
    }

    /// Whoever prints a marker of an installation is a program.
    fn begun(&mut self, sighting: &Sighting) {
        if self.highest() < Some(Rung::Userspace) {
            let (at_s, line) = (sighting.at.as_secs_f64(), cut(&sighting.text));
            self.watched.rungs.push(RungSeen { rung: Rung::Userspace, at_s, line });
        }
    }
}

/// What is looked for: the profile's markers, and a kernel's last words.
fn looked_for(profile: &Profile) -> Result<Watch, String> {
    let mut watch = watch(profile)?;
    let down = r"reboot: (?:Restarting system|machine restart|Power down|System halted)";
    watch.markers.push(Marker::new("down:", down).map_err(|problem| problem.to_string())?);
    Ok(watch)
}

/// The stage of this name, where it is one that is followed on a console.
pub fn followed(stage: &str) -> Option<Within> {
    match stage {
        "Boot" => Some(Within::Boot),
        "Install" => Some(Within::Install),
        "Reboot" => Some(Within::Reboot),
        _ => None,
    }
}

/// Evidence of an installation of which nothing is known but what was heard.
fn installed(watched: Watched, ended: &str) -> Installed {
    Installed {
        watched,
        ended: ended.to_owned(),
        shutdown: String::new(),
        written: 0,
        disks: Vec::new(),
        egress: Vec::new(),
        disk_errors: 0,
        faults: Vec::new(),
        cut: None,
    }
}

fn fresh(following: &Following) -> Watched {
    super::sightings::fresh(&following.machine, following.stretch)
}

fn sent(evidence: &impl Serialize) -> Value {
    // Numbers, texts and lists of them.
    serde_json::to_value(evidence).unwrap_or_default()
}

#[cfg(test)]
mod tests;
