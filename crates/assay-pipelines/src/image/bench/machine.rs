//! A machine under watch: what comes over its channels is read as it comes, and turned into evidence.
//!
//! One loop waits for whatever happens first: a byte, a change of the screen, news of QEMU, or the next moment at
//! which something would be overdue. It looks at nothing on a schedule.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use assay_console::{Console, Font, Marker, Pixels, Rung, Screen, ScreenReader, Sighting, Watch, What};
use assay_qemu::{QemuError, QmpEvent, Vm, VmEvent, vga_font};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::secrets::Secrets;
use crate::image::evidence::{
    Leak, MachineEvent, NameSeen, Noted, Outcome, PhaseSeen, RungSeen, Shot, Typed, Watched,
};
use crate::image::profile::{Channel, DiskFault, Phase, Profile, Within};

/// Resets that firmware may do while it sets itself up (a boot order written, keys enrolled).
const FIRMWARE_RESETS: u32 = 3;
/// Sightings and events that are kept.
const MAX_NOTED: usize = 100;
/// How long a machine that has panicked may still be heard.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Bytes of the raw serial port that are kept.
const MAX_RAW: usize = 48 << 20;
/// The longest line that is kept as evidence, in characters.
const MAX_LINE: usize = 400;

/// A channel of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Over {
    Serial,
    Screen,
    Progress,
}

impl Over {
    const fn name(self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::Screen => "screen",
            Self::Progress => "progress",
        }
    }

    const fn counts(self, channel: Channel) -> bool {
        match channel {
            Channel::Any => matches!(self, Self::Serial | Self::Screen),
            Channel::Serial => matches!(self, Self::Serial),
            Channel::Screen => matches!(self, Self::Screen),
            Channel::Progress => matches!(self, Self::Progress),
        }
    }
}

/// Where a machine is to get.
pub(super) struct Goal<'a> {
    /// The stage whose phases are waited for.
    pub(super) within: Within,
    /// The rung, beside the phases, and how long it may take.
    pub(super) rung: Option<(Rung, Duration)>,
    /// A sighting of a phase of this stage counts as having got there: what comes later has begun.
    pub(super) or_begun: Option<Within>,
    /// Told of each step.
    pub(super) progress: &'a (dyn Fn(&str) + Sync),
}

/// A machine, watched.
pub(super) struct Machine {
    pub(super) vm: Vm,
    profile: Profile,
    stretch: f64,
    accel: String,
    readers: BTreeMap<Over, Console>,
    screen: ScreenReader,
    /// The font of graphics modes and that of the text mode; none where no font is installed.
    fonts: Option<[Font; 2]>,
    /// The rows of the screen as they were read last, without a cursor.
    drawn: Vec<String>,
    pending: VecDeque<(Over, Sighting, Instant)>,
    standing: BTreeMap<Over, Sighting>,
    last_activity: Duration,
    written: u64,
    resets: u32,
    panicked_at: Option<Duration>,
    secrets: Secrets,
    raw: Vec<u8>,
    texts: BTreeMap<Over, String>,
    pub(super) artifacts: Vec<(String, Vec<u8>)>,
    /// Pictures taken so far.
    shots: u32,
    name: String,
    watched: Watched,
    /// How the machine went off, once it has.
    pub(super) off: Option<Off>,
}

/// How a machine went off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Off {
    /// It reset itself.
    Reset,
    /// It switched itself off.
    PowerOff,
}

impl Machine {
    /// Takes over a machine that was started and not let go yet. `name` is the beginning of its artifacts' names.
    pub(super) fn new(
        vm: Vm,
        profile: &Profile,
        name: &str,
        accel: &str,
        stretch: f64,
        secrets: &Secrets,
    ) -> Result<Self, String> {
        let watch = watch(profile)?;
        let consoles = [Over::Serial, Over::Progress].map(|over| (over, Console::new(watch.clone())));
        Ok(Self {
            vm,
            profile: profile.clone(),
            stretch,
            accel: accel.to_owned(),
            readers: BTreeMap::from(consoles),
            screen: ScreenReader::new(watch),
            fonts: fonts(),
            drawn: Vec::new(),
            pending: VecDeque::new(),
            standing: BTreeMap::new(),
            last_activity: Duration::ZERO,
            written: 0,
            resets: 0,
            panicked_at: None,
            secrets: secrets.clone(),
            raw: Vec::new(),
            texts: BTreeMap::new(),
            artifacts: Vec::new(),
            shots: 0,
            name: name.to_owned(),
            watched: fresh(accel, stretch),
            off: None,
        })
    }

    /// Watches until the goal is reached or cannot be any more.
    pub(super) async fn watch(&mut self, goal: Goal<'_>) -> Watched {
        let began = self.vm.age();
        let outcome = self.follow(&goal).await;
        let failed = outcome != Outcome::Reached;
        self.watched.outcome = outcome;
        self.watched.seconds = (self.vm.age().saturating_sub(began)).as_secs_f64();
        self.watched.input = self.vm.typed();
        if failed {
            self.shoot("failure").await;
        }
        self.keep_lines();
        std::mem::replace(&mut self.watched, fresh(&self.accel, self.stretch))
    }

    async fn follow(&mut self, goal: &Goal<'_>) -> Outcome {
        let profile = self.profile.clone();
        let mut phases: VecDeque<&Phase> = profile.phases.iter().filter(|p| p.stage == goal.within).collect();
        let began = self.vm.age();
        let rung_by = goal.rung.map(|(_, limit)| began + limit.mul_f64(self.stretch));
        let mut phase_began = began;
        loop {
            // What was seen already goes first: it may have come with the end of the stage before.
            while let Some((over, sighting, read_at)) = self.pending.pop_front() {
                let current = phases.front().copied();
                match self.heed(over, &sighting, current, goal) {
                    Heed::Nothing => {}
                    Heed::Done(phase) => {
                        self.phase_seen(phase, over, &sighting, phase_began, read_at);
                        let written: u64 = self.written().await.values().sum();
                        if let Some(seen) = self.watched.phases.last_mut() {
                            seen.written = Some(written);
                        }
                        (goal.progress)(&format!("{} after {:.1} s", phase.name, sighting.at.as_secs_f64()));
                        phases.pop_front();
                        phase_began = sighting.at;
                        self.shoot(&phase.name).await;
                        self.pull_disks(&phase.name).await;
                    }
                    Heed::Reply(text, keys) => {
                        if let Err(problem) = self.reply(&sighting, text.as_deref(), &keys).await {
                            return Outcome::RunnerFault { why: problem.to_string() };
                        }
                    }
                    Heed::Begun => {
                        // Whoever prints a marker of an installation is a program.
                        if self.highest() < Some(Rung::Userspace) {
                            let (at_s, line) = (sighting.at.as_secs_f64(), cut(&sighting.text));
                            self.watched.rungs.push(RungSeen { rung: Rung::Userspace, at_s, line });
                        }
                        self.pending.push_front((over, sighting, read_at));
                        return Outcome::Reached;
                    }
                    Heed::End(outcome) => return outcome,
                }
            }
            let rung_reached = goal.rung.is_none_or(|(rung, _)| self.highest() >= Some(rung));
            if phases.is_empty() && rung_reached {
                return Outcome::Reached;
            }
            // The next thing that would be overdue.
            let (due, waited_for, limit) = if let Some(phase) = phases.front() {
                let limit = phase.timeout.0.mul_f64(self.stretch);
                (phase_began + limit, format!("phase {}", phase.name), limit)
            } else {
                let (rung, limit) = goal.rung.unwrap_or((Rung::Login, Duration::ZERO));
                (rung_by.unwrap_or(began), format!("rung {rung}"), limit.mul_f64(self.stretch))
            };
            match self.next(due).await {
                Next::Seen => {}
                Next::Overdue => {
                    let line = self.last_line();
                    return Outcome::TimedOut { waited_for, limit_s: limit.as_secs_f64(), line };
                }
                Next::Stalled(outcome) | Next::Gone(outcome) => return outcome,
                Next::Off(off) => {
                    if self.may_reset(&off, goal) {
                        if let Err(problem) = self.start_again().await {
                            return Outcome::RunnerFault { why: problem.to_string() };
                        }
                        continue;
                    }
                    let code = match off {
                        Off::Reset => "UnexpectedReset",
                        Off::PowerOff => "UnexpectedPowerOff",
                    };
                    self.off = Some(off);
                    let detail = format!("waiting for {waited_for}; the last line: {}", self.last_line());
                    return Outcome::Ended { code: code.to_owned(), detail };
                }
            }
        }
    }

    /// Waits for the machine to go off by itself; says how, or nothing when it did not.
    pub(super) async fn wait_for_off(&mut self, limit: Duration) -> Result<Option<Off>, String> {
        let due = self.vm.age() + limit.mul_f64(self.stretch);
        loop {
            if let Some(off) = &self.off {
                return Ok(Some(off.clone()));
            }
            match self.next(due).await {
                Next::Seen => self.drain(),
                // Quiet is what is expected of a machine that has done its work.
                Next::Stalled(_) => {}
                Next::Off(off) => self.off = Some(off),
                Next::Gone(Outcome::RunnerFault { why }) => return Err(why),
                Next::Overdue | Next::Gone(_) => return Ok(None),
            }
        }
    }

    /// Bytes written to each disk so far, by its id.
    pub(super) async fn written(&mut self) -> BTreeMap<String, u64> {
        let answer = self.vm.qmp().execute("query-blockstats", Value::Null).await.unwrap_or_default();
        let mut written = BTreeMap::new();
        for device in answer.as_array().into_iter().flatten() {
            let node = device.get("node-name").and_then(Value::as_str).unwrap_or_default();
            let Some(id) = node.strip_prefix("disk-") else { continue };
            let bytes = device.pointer("/stats/wr_bytes").and_then(Value::as_u64).unwrap_or(0);
            *written.entry(id.to_owned()).or_default() += bytes;
        }
        written
    }

    /// Takes a picture of the screen. One that cannot be taken is none: the machine may be gone.
    pub(super) async fn shoot(&mut self, of: &str) {
        let Ok(png) = self.vm.picture().await else { return };
        let number = self.shots + 1;
        let artifact = format!("{}-screen-{number:02}-{of}.png", self.name);
        self.artifacts.push((artifact.clone(), png));
        self.shots += 1;
        let at_s = self.vm.age().as_secs_f64();
        self.watched.shots.push(Shot { at_s, of: of.to_owned(), artifact });
    }

    /// The transcripts, as files.
    pub(super) fn transcripts(&mut self) -> Vec<(String, Vec<u8>)> {
        self.keep_lines();
        let mut files = std::mem::take(&mut self.artifacts);
        files.push((format!("{}-serial.raw", self.name), std::mem::take(&mut self.raw)));
        for (over, text) in std::mem::take(&mut self.texts) {
            files.push((format!("{}-{}.txt", self.name, over.name()), text.into_bytes()));
        }
        files.retain(|(_, content)| !content.is_empty());
        files
    }

    /// What a sighting means for what is waited for.
    fn heed<'p>(
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
                    self.watched.rungs.push(RungSeen { rung: *rung, at_s, line });
                }
                Heed::Nothing
            }
            What::Failure { code, meaning, next_step, .. } => {
                let allowed = self.profile.console.allow.contains(code);
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
        if goal.or_begun == Some(phase.stage) {
            return Heed::Begun;
        }
        let seen = self.watched.phases.iter().any(|seen| seen.name == name);
        let success = self.profile.success_phase().is_some_and(|success| success.name == name);
        if !seen && success && goal.within == Within::Install {
            return Heed::End(Outcome::Failed {
                code: "SuccessBeforeWork".to_owned(),
                line: cut(&sighting.text),
                meaning: "The marker of success came before phases that belong before it. Print it after everything is \
                          written, synced and read back."
                    .to_owned(),
            });
        }
        if !seen && phase.stage == goal.within && self.watched.noted.len() < MAX_NOTED {
            self.watched.noted.push(Noted {
                at_s: sighting.at.as_secs_f64(),
                code: "PhaseOutOfOrder".to_owned(),
                line: cut(&sighting.text),
                meaning: format!("The marker of phase {name} came before its turn; it has to come again."),
                allowed: false,
            });
        }
        Heed::Nothing
    }

    fn phase_seen(
        &mut self,
        phase: &Phase,
        over: Over,
        sighting: &Sighting,
        began: Duration,
        read_at: Instant,
    ) {
        let What::Marker { captures, .. } = &sighting.what else { return };
        self.watched.phases.push(PhaseSeen {
            name: phase.name.clone(),
            at_s: sighting.at.as_secs_f64(),
            took_s: sighting.at.saturating_sub(began).as_secs_f64(),
            limit_s: phase.timeout.0.mul_f64(self.stretch).as_secs_f64(),
            written: None,
            reacted_ms: read_at.elapsed().as_secs_f64() * 1000.0,
            line: cut(&sighting.text),
            channel: over.name().to_owned(),
            captures: captures.iter().map(|(group, text)| (group.clone(), cut(text))).collect(),
        });
    }

    async fn reply(
        &mut self,
        sighting: &Sighting,
        text: Option<&str>,
        keys: &[String],
    ) -> Result<(), QemuError> {
        if let Some(text) = text {
            self.vm.type_serial(text).await?;
        }
        self.vm.press(keys).await?;
        self.standing.clear();
        let typed = text.map_or_else(|| keys.join(" "), str::to_owned);
        let at_s = self.vm.age().as_secs_f64();
        self.watched.typed.push(Typed { at_s, prompt: cut(&sighting.text), typed });
        Ok(())
    }

    /// Disks that are to be pulled at the end of this phase.
    async fn pull_disks(&mut self, phase: &str) {
        let pulled =
            |fault: &Option<DiskFault>| matches!(fault, Some(DiskFault::Pulled { after }) if after == phase);
        let names: Vec<_> =
            self.profile.machine.disks.iter().filter(|d| pulled(&d.fault)).map(|d| d.name.clone()).collect();
        for name in names {
            let done = self.vm.qmp().device_del(&name).await;
            let data = done.err().map_or(Value::Null, |problem| Value::String(problem.to_string()));
            self.event(&QmpEvent { name: format!("ASSAY_PULLED_{name}"), data });
        }
    }

    /// The next thing that happens, at the latest when `due` is over.
    async fn next(&mut self, due: Duration) -> Next {
        let born = self.vm.born();
        let silence = self.profile.console.silence.0.mul_f64(self.stretch);
        let prompt = self.profile.console.prompt.0.mul_f64(self.stretch);
        let quiet_at = self.last_activity + silence;
        let standing_at = self.standing.values().next().map(|_| self.last_activity + prompt);
        let reader_at =
            self.readers.values().filter_map(Console::deadline).chain(self.screen.deadline()).min();
        let last_words_at = self.panicked_at.map(|at| at + LAST_WORDS);
        let wake = [Some(due), Some(quiet_at), standing_at, reader_at, last_words_at]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(due);
        tokio::select! {
            biased;
            (at, event) = self.vm.next_event() => self.take(at, event).await,
            () = sleep_until(born + wake) => {
                let now = self.vm.age();
                self.tick(now);
                if last_words_at.is_some_and(|at| now >= at) {
                    return Next::Gone(Outcome::Ended {
                        code: "GuestPanicked".to_owned(),
                        detail: format!("the guest's kernel says that it has panicked; the last line: {}", self.last_line()),
                    });
                }
                if now >= due {
                    return Next::Overdue;
                }
                if standing_at.is_some_and(|at| now >= at)
                    && let Some(standing) = self.standing.values().next()
                {
                    return Next::Stalled(stalled(standing, now));
                }
                if now >= quiet_at && !self.works().await {
                    let seconds = now.saturating_sub(self.last_activity).as_secs_f64();
                    let line = self.last_line();
                    return Next::Stalled(Outcome::Stalled { code: "Silent".to_owned(), line, seconds });
                }
                Next::Seen
            }
        }
    }

    /// Whether a machine that says nothing at least writes: then it is not silent yet.
    async fn works(&mut self) -> bool {
        let written: u64 = self.written().await.values().sum();
        let works = written > self.written;
        self.written = written;
        if works {
            self.last_activity = self.vm.age();
        }
        works
    }

    async fn take(&mut self, at: Duration, event: VmEvent) -> Next {
        let read_at = Instant::now();
        match event {
            VmEvent::Serial(bytes) => {
                let room = MAX_RAW.saturating_sub(self.raw.len());
                self.raw.extend_from_slice(&bytes[..bytes.len().min(room)]);
                self.heard(Over::Serial, at, &bytes, read_at);
            }
            VmEvent::Progress(bytes) => self.heard(Over::Progress, at, &bytes, read_at),
            VmEvent::Screen => self.look(at, read_at).await,
            VmEvent::Monitor(event) => return self.news(at, &event),
            VmEvent::Ended { code, said } => {
                let code = code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
                return Next::Gone(Outcome::RunnerFault { why: format!("QEMU ended with {code}: {said}") });
            }
        }
        Next::Seen
    }

    fn heard(&mut self, over: Over, at: Duration, bytes: &[u8], read_at: Instant) {
        self.last_activity = self.last_activity.max(at);
        self.standing.remove(&over);
        for secret in self.secrets.seen(over.name(), bytes) {
            self.leak(&secret, over);
        }
        let Some(reader) = self.readers.get_mut(&over) else { return };
        let sightings = reader.push(at, bytes);
        self.pending.extend(sightings.into_iter().map(|sighting| (over, sighting, read_at)));
    }

    /// Reads the screen. What cannot be read is not there: the picture is kept all the same.
    async fn look(&mut self, at: Duration, read_at: Instant) {
        /// What a PC's text mode measures in pixels: 80 by 25 cells of 9 by 16.
        const TEXT_MODE: (usize, usize) = (720, 400);
        let Some(fonts) = &self.fonts else { return };
        let Ok(picture) = self.vm.screen().await else { return };
        let font = if (picture.width, picture.height) == TEXT_MODE { &fonts[1] } else { &fonts[0] };
        let Ok(pixels) = Pixels::new(picture.width, picture.height, picture.rgb) else { return };
        let screen = Screen::from_pixels(&pixels, font);
        // A cursor blinks for ever, and is no sign of life.
        let text: Vec<String> =
            screen.rows().iter().map(|row| row.replace('\u{fffd}', " ").trim_end().to_owned()).collect();
        if text != self.drawn {
            self.drawn = text;
            self.last_activity = self.last_activity.max(at);
            self.standing.remove(&Over::Screen);
            for secret in self.secrets.within(self.drawn.join("\n").as_bytes()) {
                self.leak(&secret, Over::Screen);
            }
        }
        let sightings = self.screen.push(at, &screen);
        self.pending.extend(sightings.into_iter().map(|sighting| (Over::Screen, sighting, read_at)));
    }

    fn tick(&mut self, now: Duration) {
        let read_at = Instant::now();
        for (over, reader) in &mut self.readers {
            let sightings = reader.tick(now);
            self.pending.extend(sightings.into_iter().map(|sighting| (*over, sighting, read_at)));
        }
        let sightings = self.screen.tick(now);
        self.pending.extend(sightings.into_iter().map(|sighting| (Over::Screen, sighting, read_at)));
    }

    fn news(&mut self, at: Duration, event: &QmpEvent) -> Next {
        self.last_activity = self.last_activity.max(at);
        self.event(event);
        let reason = event.data.get("reason").and_then(Value::as_str).unwrap_or_default();
        match event.name.as_str() {
            "SHUTDOWN" if reason == "guest-reset" => Next::Off(Off::Reset),
            "SHUTDOWN" if reason == "guest-shutdown" => Next::Off(Off::PowerOff),
            "GUEST_PANICKED" => {
                // Its last words may still be on their way, and say more.
                self.panicked_at.get_or_insert(at);
                Next::Seen
            }
            "WATCHDOG" => Next::Gone(Outcome::Ended {
                code: "WatchdogFired".to_owned(),
                detail: format!("the watchdog was not fed any more; the last line: {}", self.last_line()),
            }),
            _ => Next::Seen,
        }
    }

    fn event(&mut self, event: &QmpEvent) {
        if self.watched.events.len() < MAX_NOTED {
            let at_s = self.vm.age().as_secs_f64();
            self.watched.events.push(MachineEvent {
                at_s,
                name: event.name.clone(),
                data: event.data.clone(),
            });
        }
    }

    /// Firmware resets a machine while it sets itself up; nothing else may.
    fn may_reset(&mut self, off: &Off, goal: &Goal<'_>) -> bool {
        let early = goal.within != Within::Install && self.highest() < Some(Rung::Kernel);
        self.resets += 1;
        *off == Off::Reset && early && self.resets <= FIRMWARE_RESETS
    }

    async fn start_again(&self) -> Result<(), QemuError> {
        self.vm.qmp().system_reset().await?;
        self.vm.qmp().cont().await
    }

    /// Handles what was seen and nobody waits for.
    fn drain(&mut self) {
        let goal = Goal { within: Within::Install, rung: None, or_begun: None, progress: &|_| () };
        while let Some((over, sighting, _)) = self.pending.pop_front() {
            let _ = self.heed(over, &sighting, None, &goal);
        }
    }

    /// The rest of what is seen is evidence, too: it is added to what a stage has already brought.
    pub(super) fn after(&mut self, watched: &mut Watched) {
        self.drain();
        self.keep_lines();
        let rest = std::mem::replace(&mut self.watched, fresh(&self.accel, self.stretch));
        watched.noted.extend(rest.noted);
        watched.events.extend(rest.events);
        watched.shots.extend(rest.shots);
        watched
            .leaks
            .extend(rest.leaks.into_iter().filter(|leak| !watched.leaks.contains(leak)).collect::<Vec<_>>());
        watched.names.extend(rest.names);
        watched.staged_read.extend(rest.staged_read);
        watched.rungs.extend(rest.rungs);
        for (channel, lines) in rest.lines {
            *watched.lines.entry(channel).or_default() += lines;
        }
    }

    fn leak(&mut self, secret: &str, over: Over) {
        let leak = Leak { secret: secret.to_owned(), place: format!("the {}", place(over)) };
        if !self.watched.leaks.contains(&leak) {
            self.watched.leaks.push(leak);
        }
    }

    fn highest(&self) -> Option<Rung> {
        self.watched.rungs.iter().map(|seen| seen.rung).max()
    }

    fn last_line(&self) -> String {
        let serial = self.readers.get(&Over::Serial).map(|reader| reader.tail(1)).unwrap_or_default();
        let line = serial.into_iter().next_back().or_else(|| self.screen.tail(1).into_iter().next_back());
        line.map_or_else(|| "nothing was heard".to_owned(), |line| cut(&line.text))
    }

    /// Moves the readers' finished lines into the transcripts.
    fn keep_lines(&mut self) {
        for (over, reader) in &mut self.readers {
            write_lines(self.texts.entry(*over).or_default(), &mut self.watched, *over, reader.take_lines());
        }
        let lines = self.screen.take_lines();
        write_lines(self.texts.entry(Over::Screen).or_default(), &mut self.watched, Over::Screen, lines);
    }
}

fn write_lines(text: &mut String, watched: &mut Watched, over: Over, lines: Vec<assay_console::Line>) {
    use std::fmt::Write as _;
    *watched.lines.entry(over.name().to_owned()).or_default() += lines.len() as u64;
    for line in lines {
        let _ = writeln!(text, "{:9.3} {}", line.at.as_secs_f64(), line.text);
    }
}

enum Heed<'p> {
    Nothing,
    Done(&'p Phase),
    Reply(Option<String>, Vec<String>),
    Begun,
    End(Outcome),
}

enum Next {
    Seen,
    Overdue,
    Stalled(Outcome),
    Off(Off),
    Gone(Outcome),
}

fn stalled(standing: &Sighting, now: Duration) -> Outcome {
    let code = if matches!(standing.what, What::IdleShell { .. }) { "IdleShell" } else { "StuckPrompt" };
    let seconds = now.saturating_sub(standing.at).as_secs_f64();
    Outcome::Stalled { code: code.to_owned(), line: cut(&standing.text), seconds }
}

const fn place(over: Over) -> &'static str {
    match over {
        Over::Serial => "serial console",
        Over::Screen => "screen",
        Over::Progress => "out-of-band port",
    }
}

/// What is looked for on every channel from the first byte on; whose turn it is decides what counts.
fn watch(profile: &Profile) -> Result<Watch, String> {
    let mut markers = Vec::new();
    let mut add = |name: String, pattern: &str| -> Result<(), String> {
        markers.push(Marker::new(&name, pattern).map_err(|error| error.to_string())?);
        Ok(())
    };
    for phase in &profile.phases {
        add(format!("phase:{}", phase.name), &phase.marker)?;
        for (number, reply) in phase.replies.iter().enumerate() {
            add(format!("reply:{}:{number}", phase.name), &reply.on)?;
        }
        for fail in &phase.fail {
            add(format!("fail:{}", phase.name), fail)?;
        }
    }
    for fail in &profile.console.fail {
        add("fail:".to_owned(), fail)?;
    }
    for secret in &profile.console.secrets {
        add(format!("secret:{secret}"), secret)?;
    }
    for file in &profile.medium.files {
        if let Some(read) = &file.read {
            add(format!("staged:{}", file.path), read)?;
        }
    }
    if let Some(identify) = &profile.identify {
        add("name:banner".to_owned(), &identify.banner)?;
        if let Some(announced) = &identify.announced {
            add("name:announced".to_owned(), announced)?;
        }
    }
    Ok(Watch { markers, stuck_after: Some(Duration::from_secs(3)), silent_after: None, ..Watch::default() })
}

fn fresh(accel: &str, stretch: f64) -> Watched {
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

/// The fonts that consoles are drawn with.
fn fonts() -> Option<[Font; 2]> {
    let font = Font::from_vga(&vga_font()?).ok()?;
    let wide = font.nine_wide();
    Some([font, wide])
}

/// A guest's line, as evidence.
fn cut(line: &str) -> String {
    assay_model::text::clean_to(line, MAX_LINE)
}
