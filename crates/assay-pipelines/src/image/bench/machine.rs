//! A machine under watch: what comes over its channels is read as it comes, and turned into evidence.
//!
//! One loop waits for whatever happens first: a byte, a change of the screen, news of QEMU, or the next moment at
//! which something would be overdue. It looks at nothing on a schedule.

mod asleep;
mod channels;
mod heed;

pub(super) use self::channels::watch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use assay_console::{Console, Font, Rung, ScreenReader, Sighting};
use assay_qemu::{Accel, DiskRule, QemuError, QmpEvent, ServedDisk, Vm};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

pub(super) use self::asleep::{Asleep, CONTROL_PLANE, Keeping, MEMORY, SEEN};
use self::channels::{Over, fonts};
use self::heed::Heed;
use super::secrets::Secrets;
use super::sightings::{cut, fresh, or_starved, phase_seen, stalled};
use crate::image::evidence::{Leak, Outcome, PhaseSeen, RungSeen, Shot, Typed, Watched};
use crate::image::profile::{DiskFault, Phase, Profile, Within};

/// Resets that firmware may do while it sets itself up (a boot order written, keys enrolled).
const FIRMWARE_RESETS: u32 = 3;
/// How long a machine that has panicked may still be heard.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Bytes of the raw serial port that are kept.
const MAX_RAW: usize = 48 << 20;

/// Where a machine is to get.
pub(super) struct Goal<'a> {
    /// The stage whose phases are waited for.
    pub(super) within: Within,
    /// The rung, beside the phases, and how long it may take.
    pub(super) rung: Option<(Rung, Duration)>,
    /// A sighting of a phase of these stages counts as having got there: what comes later has begun.
    pub(super) or_begun: &'a [Within],
    /// When its power is to be cut.
    pub(super) cut: Option<&'a Cut>,
    /// Told of each step.
    pub(super) progress: &'a (dyn Fn(&str) + Sync),
}

/// When a machine's power is to be cut.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    /// Not before the end of this phase.
    pub(super) after: Option<String>,
    /// So long after that.
    pub(super) moment: Option<Duration>,
    /// At the latest at the end of this phase.
    pub(super) before: String,
}

/// A machine, watched.
pub(super) struct Machine {
    pub(super) vm: Vm,
    profile: Profile,
    stretch: f64,
    accel: String,
    readers: BTreeMap<Over, Console>,
    screen: ScreenReader,
    /// What graphics modes and the text mode are drawn with.
    fonts: [Font; 2],
    /// The rows of the screen as they were read last, without a cursor.
    drawn: Vec<String>,
    /// Phases whose markers were seen.
    done: BTreeSet<String>,
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
    /// Whether the guest's processors are emulated in software.
    emulated: bool,
    /// The processes behind disks that fail on demand.
    pub(super) served: BTreeMap<String, Arc<ServedDisk>>,
    /// Whether its disks are what a power cut has left: then refusals and the old system are what they are.
    pub(super) after_cut: bool,
    /// Bytes written to each disk, and requests to it that failed. A disk that is pulled is not counted on from there.
    counted: BTreeMap<String, (u64, u64)>,
    /// The same, of the machine that this one was woken from.
    counted_before: BTreeMap<String, (u64, u64)>,
    /// Bytes and keys that were put into that one.
    typed_before: u64,
    /// Since when it is watched for the stage that is under way.
    watching: Option<Duration>,
    /// What is to be kept of the machine, and when.
    pub(super) keeping: Option<Keeping>,
    /// What was kept of it, or why nothing could be.
    pub(super) kept: Option<Result<Asleep, String>>,
    /// Disks that the guest has lost.
    pub(super) lost: BTreeSet<String>,
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
        accel: &Accel,
        stretch: f64,
        secrets: &Secrets,
    ) -> Result<Self, String> {
        let watch = watch(profile)?;
        let consoles = [Over::Serial, Over::Progress].map(|over| (over, Console::new(watch.clone())));
        Ok(Self {
            vm,
            profile: profile.clone(),
            stretch,
            emulated: matches!(accel, Accel::Tcg { .. }),
            accel: accel_words(accel),
            readers: BTreeMap::from(consoles),
            screen: ScreenReader::new(watch),
            fonts: fonts(),
            drawn: Vec::new(),
            done: BTreeSet::new(),
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
            watched: fresh(&accel_words(accel), stretch),
            off: None,
            served: BTreeMap::new(),
            after_cut: false,
            counted: BTreeMap::new(),
            counted_before: BTreeMap::new(),
            typed_before: 0,
            watching: None,
            keeping: None,
            kept: None,
            lost: BTreeSet::new(),
        })
    }

    /// Watches until the goal is reached or cannot be any more.
    pub(super) async fn watch(&mut self, goal: Goal<'_>) -> Watched {
        let now = self.vm.age();
        let began = *self.watching.get_or_insert(now);
        let outcome = self.follow(&goal).await;
        self.watching = None;
        let failed = !matches!(outcome, Outcome::Reached | Outcome::PowerCut);
        self.watched.outcome = or_starved(outcome, &self.watched, self.emulated);
        self.watched.seconds = (self.vm.age().saturating_sub(began)).as_secs_f64();
        self.watched.input = self.typed_before + self.vm.typed();
        if failed {
            self.shoot("failure").await;
        }
        self.keep_lines();
        std::mem::replace(&mut self.watched, fresh(&self.accel, self.stretch))
    }

    async fn follow(&mut self, goal: &Goal<'_>) -> Outcome {
        let profile = self.profile.clone();
        // A machine that was woken has some of them behind it.
        let open = |phase: &&Phase| phase.stage == goal.within && !self.done.contains(&phase.name);
        let mut phases: VecDeque<&Phase> = profile.phases.iter().filter(open).collect();
        let began = self.vm.age();
        let rung_by = goal.rung.map(|(_, limit)| began + limit.mul_f64(self.stretch));
        let mut phase_began = began;
        // When the power is cut, once that is known.
        let mut cut_at = goal.cut.filter(|cut| cut.after.is_none()).and_then(|cut| Some(began + cut.moment?));
        loop {
            // What was seen already goes first: it may have come with the end of the stage before.
            while let Some((over, sighting, read_at)) = self.pending.pop_front() {
                let current = phases.front().copied();
                match self.heed(over, &sighting, current, goal) {
                    Heed::Nothing => {}
                    Heed::Done(phase) => {
                        self.phase_seen(phase, over, &sighting, phase_began, read_at);
                        // It went on, so what stood on another channel was no prompt, or is answered.
                        self.standing.clear();
                        let written: u64 = self.written().await.values().sum();
                        if let Some(seen) = self.watched.phases.last_mut() {
                            seen.written = Some(written);
                        }
                        (goal.progress)(&format!("{} after {:.1} s", phase.name, sighting.at.as_secs_f64()));
                        phases.pop_front();
                        phase_began = sighting.at;
                        self.shoot(&phase.name).await;
                        if let Some(cut) = goal.cut {
                            if cut.before == phase.name {
                                return Outcome::PowerCut;
                            }
                            if cut.after.as_ref() == Some(&phase.name) {
                                cut_at = cut.moment.map(|moment| self.vm.age() + moment);
                            }
                        }
                        self.pull_disks(&phase.name).await;
                        if let Err(problem) = self.keep_after(&phase.name).await {
                            return Outcome::RunnerFault { why: problem.to_string() };
                        }
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
            let cut_due = cut_at.filter(|at| *at <= due);
            match self.next(cut_due.unwrap_or(due)).await {
                Next::Seen => {}
                Next::Overdue if cut_due.is_some() => return Outcome::PowerCut,
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
        self.count().await;
        self.counted.iter().map(|(disk, (written, _))| (disk.clone(), *written)).collect()
    }

    /// Requests to each disk that failed, as the guest was told, by its id.
    pub(super) async fn failed(&mut self) -> BTreeMap<String, u64> {
        self.count().await;
        self.counted.iter().map(|(disk, (_, failed))| (disk.clone(), *failed)).collect()
    }

    async fn count(&mut self) {
        const FAILED: [&str; 3] = ["failed_rd_operations", "failed_wr_operations", "failed_flush_operations"];
        let answer = self.vm.qmp().execute("query-blockstats", Value::Null).await.unwrap_or_default();
        for device in answer.as_array().into_iter().flatten() {
            let node = device.get("node-name").and_then(Value::as_str).unwrap_or_default();
            let Some(id) = node.strip_prefix("disk-") else { continue };
            let stat = |name: &str| device.pointer(&format!("/stats/{name}")).and_then(Value::as_u64);
            let written = stat("wr_bytes").unwrap_or(0);
            let failed: u64 = FAILED.iter().filter_map(|name| stat(name)).sum();
            let before = self.counted_before.get(id).copied().unwrap_or_default();
            let (most, errors) = self.counted.entry(id.to_owned()).or_default();
            (*most, *errors) = ((before.0 + written).max(*most), (before.1 + failed).max(*errors));
        }
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

    /// The transcripts, as files, of a machine that says no more: a line that it did not finish is its last one.
    pub(super) fn transcripts(&mut self) -> Vec<(String, Vec<u8>)> {
        self.keep_lines();
        let now = self.vm.age().as_secs_f64();
        for (over, reader) in &self.readers {
            let unfinished = reader.open_text();
            if !unfinished.trim().is_empty() {
                let text = self.texts.entry(*over).or_default();
                let _ = writeln!(text, "{now:9.3} {}", unfinished.trim_end());
            }
        }
        let mut files = std::mem::take(&mut self.artifacts);
        files.push((format!("{}-serial.raw", self.name), std::mem::take(&mut self.raw)));
        for (over, text) in std::mem::take(&mut self.texts) {
            files.push((format!("{}-{}.txt", self.name, over.name()), text.into_bytes()));
        }
        files.retain(|(_, content)| !content.is_empty());
        files
    }

    fn phase_seen(
        &mut self,
        phase: &Phase,
        over: Over,
        sighting: &Sighting,
        began: Duration,
        read_at: Instant,
    ) {
        self.done.insert(phase.name.clone());
        let limit = phase.timeout.0.mul_f64(self.stretch);
        let seen = phase_seen(&phase.name, over.name(), sighting, began, limit);
        self.watched.phases.extend(
            seen.map(|seen| PhaseSeen { reacted_ms: read_at.elapsed().as_secs_f64() * 1000.0, ..seen }),
        );
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
            let gone = self.served.get(&name).map(|served| served.obey(&[DiskRule::Gone]));
            if let Some(Err(problem)) = gone {
                let data = Value::String(problem.to_string());
                self.event(&QmpEvent { name: format!("ASSAY_NOT_PULLED_{name}"), data });
                continue;
            }
            // PCIe and SATA ports here lose no disk while they run: there, it is dead in its place.
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
        let goal = Goal { within: Within::Install, rung: None, or_begun: &[], cut: None, progress: &|_| () };
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
        let leak = Leak { secret: secret.to_owned(), place: format!("the {}", over.place()) };
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
    *watched.lines.entry(over.name().to_owned()).or_default() += lines.len() as u64;
    for line in lines {
        let _ = writeln!(text, "{:9.3} {}", line.at.as_secs_f64(), line.text);
    }
}

enum Next {
    Seen,
    Overdue,
    Stalled(Outcome),
    Off(Off),
    Gone(Outcome),
}

/// How guests are run, for people.
pub(super) fn accel_words(accel: &Accel) -> String {
    match accel {
        Accel::Kvm => "kvm".to_owned(),
        Accel::Tcg { reason } => format!("software emulation: {reason}"),
    }
}
