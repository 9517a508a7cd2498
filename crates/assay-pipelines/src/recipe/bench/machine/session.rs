//! A machine at work, as the runner sees it: booted, asked, listened to, thrown away.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use assay_model::{RunId, StageName, text};
use assay_qemu::{Accel, Guest, GuestConsole, GuestDisk, GuestFolder, GuestSpec};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{interval, timeout};

use super::images::{Shelf, Taken};
use super::patience::EMULATED;
use super::wire::{ARTIFACTS, Ask, Frame, ImageAnswer, MOST_ARTIFACTS, Told, WantedImage, WireError};
use super::{MachineSettings, inputs, sweep_one};
use crate::recipe::RecipeSpec;
use crate::recipe::bench::Brought;
use crate::recipe::bench::meanwhile::Meanwhile;
use crate::recipe::evidence::Ground;
use crate::recipe::pressure::Pressure;

/// How long a machine may say nothing at all. It says that it is alive every few seconds.
const SILENCE: Duration = Duration::from_mins(3);
/// How long it may take to read what it was sent. Less than this is no machine that works.
const TAKES: Duration = Duration::from_mins(3);
/// How long it may take to switch itself off, once the program in it has ended.
const ENDS: Duration = Duration::from_secs(30);
/// How often people are told how long it has been booting.
const TICK: Duration = Duration::from_secs(5);
/// Between two words about its progress; what comes in between is not passed on.
const WORDS: Duration = Duration::from_millis(100);
/// The longest of them.
const WORDS_LENGTH: usize = 300;
/// How many images one machine may ask for.
const IMAGES: u32 = 500;
/// What the console is called among a stage's files.
const CONSOLE: &str = "machine-console.log";
/// Files in the run's folder.
const INPUTS: &str = "inputs.tar";
const SCRATCH: &str = "scratch.raw";

/// A machine that waits to be asked.
pub(super) struct Session {
    /// None where a test plays the machine.
    guest: Option<Guest>,
    console: GuestConsole,
    /// Until its first stage has taken it: what was said while it booted.
    booted: bool,
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    /// As the machine sees it.
    spec: RecipeSpec,
    shelf: Shelf,
    asked_for: u32,
    folder: PathBuf,
    how: &'static str,
    /// How long it may say nothing at all.
    silence: Duration,
}

/// Why a stage came to nothing.
#[derive(Debug)]
pub(super) struct Broken {
    /// For people.
    pub(super) why: String,
    /// Whether the machine is of no use any more.
    pub(super) is_gone: bool,
    /// Whether another one like it would come to the same.
    pub(super) exhausted: bool,
}

impl Session {
    /// Boots it and waits until it can be asked. The recipe may be in a bundle.
    pub(super) async fn boot(
        settings: &MachineSettings,
        accel: &Accel,
        run: RunId,
        (spec, bundle): (&RecipeSpec, Option<PathBuf>),
        folder: GuestFolder,
        shelf: Shelf,
        tell: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, String> {
        tell("copying the recipe for the machine");
        let at = folder.path().to_owned();
        let (from, disk) = (spec.clone(), at.join(INPUTS));
        let packed = {
            let disk = disk.clone();
            tokio::task::spawn_blocking(move || inputs::write(&from, bundle.as_deref(), &disk)).await
        };
        let mut spec = packed.map_err(|error| error.to_string())??;
        if matches!(accel, Accel::Tcg { .. }) {
            // It is the machine that is slow, and not the recipe.
            spec.settings.deploy.timeout *= EMULATED;
        }
        let made = File::create(at.join(SCRATCH)).and_then(|file| file.set_len(settings.disk_mib << 20));
        made.map_err(|error| format!("the machine's disk: {error}"))?;
        let guest = GuestSpec {
            name: format!("assay-{run}"),
            kernel: settings.image.join("vmlinuz"),
            initrd: settings.image.join("base.initrd"),
            arguments: "quiet loglevel=4".to_owned(),
            cpus: settings.cpus,
            memory_mib: settings.memory_mib,
            // As the image's first program expects them.
            disks: vec![
                GuestDisk::Read(disk),
                GuestDisk::Read(settings.program.clone()),
                GuestDisk::Scratch(SCRATCH.to_owned()),
            ],
        };
        let how = match accel {
            Accel::Kvm => "on the processor",
            Accel::Tcg { .. } => "software emulation",
        };
        let (guest, stream) = Guest::start(&guest, folder, accel).await.map_err(|error| error.to_string())?;
        let (from, to) = UnixStream::into_split(stream);
        let console = guest.console();
        let mut session = Self {
            guest: Some(guest),
            console,
            booted: false,
            from,
            to,
            spec,
            shelf,
            asked_for: 0,
            folder: at,
            how,
            silence: SILENCE,
        };
        match session.until_up(settings.boot, tell).await {
            Ok(seconds) => {
                tell(&format!("the machine is up ({how}), after {seconds} s"));
                if matches!(accel, Accel::Tcg { .. }) {
                    tell(&format!("in software emulation services are waited for {EMULATED} times as long"));
                }
                Ok(session)
            }
            Err(broken) => {
                session.end().await;
                Err(broken.why)
            }
        }
    }

    /// Collects a stage's evidence in there.
    pub(super) async fn collect(
        &mut self,
        run: RunId,
        stage: &StageName,
        tell: &(dyn Fn(&str) + Sync),
    ) -> Result<Brought, Broken> {
        let meanwhile = Meanwhile::begin();
        let ask = Ask::Collect { run, stage: stage.clone(), spec: Box::new(self.spec.clone()) };
        self.send(Frame::of_message(&ask)).await?;
        let mut told = Instant::now().checked_sub(WORDS);
        let (evidence, artifacts) = loop {
            match self.hear().await? {
                Told::Alive | Told::Up => {}
                Told::Progress { words } => {
                    if told.is_none_or(|at| at.elapsed() >= WORDS) {
                        told = Some(Instant::now());
                        tell(&text::clean_to(&words, WORDS_LENGTH));
                    }
                }
                Told::WantsImage(wanted) => self.hand_over(&wanted, tell).await?,
                Told::Failed { why, exhausted } => {
                    let why = format!("in the machine: {}; {}", text::clean(&why), self.last_words());
                    return Err(Broken { why, is_gone: exhausted, exhausted });
                }
                Told::Brought { evidence, artifacts } => break (evidence, artifacts),
            }
        };
        let mut artifacts = self.files(artifacts).await?;
        if !std::mem::replace(&mut self.booted, true) {
            artifacts.push((CONSOLE.to_owned(), self.console.text().into_bytes()));
        }
        Ok(Brought { evidence: vouched(evidence, meanwhile).await, artifacts })
    }

    /// Throws it away.
    pub(super) async fn end(self) {
        let Self { guest, folder, shelf, .. } = self;
        shelf.close().await;
        if let Some(guest) = guest
            && let Err(error) = guest.stop().await
        {
            tracing::warn!(%error, "a machine was not ended");
        }
        sweep_one(&folder);
    }

    /// Seconds until it was up.
    async fn until_up(&mut self, limit: Duration, tell: &(dyn Fn(&str) + Sync)) -> Result<u64, Broken> {
        let began = Instant::now();
        let mut tick = interval(TICK);
        let how = self.how;
        let heard = {
            let up = timeout(limit, Frame::next(&mut self.from));
            tokio::pin!(up);
            loop {
                tokio::select! {
                    heard = &mut up => break heard,
                    _ = tick.tick() => {
                        tell(&format!("booting the machine ({how}), {} s", began.elapsed().as_secs()));
                    }
                }
            }
        };
        match heard.map(|frame| frame.and_then(Frame::message)) {
            Ok(Ok(Told::Up)) => Ok(began.elapsed().as_secs()),
            Ok(Ok(_)) => Err(self.broken("it said something else than that it is up")),
            Ok(Err(error)) => Err(self.lost(&error).await),
            Err(_) => Err(self.broken(&format!("it was not up after {limit:?} ({how})"))),
        }
    }

    /// The next that it says.
    async fn hear(&mut self) -> Result<Told, Broken> {
        match timeout(self.silence, Frame::next(&mut self.from)).await {
            Ok(Ok(frame)) => match frame.message() {
                Ok(told) => Ok(told),
                Err(error) => Err(self.lost(&error).await),
            },
            Ok(Err(error)) => Err(self.lost(&error).await),
            Err(_) => Err(self.broken(&format!("it has said nothing for {:?}", self.silence))),
        }
    }

    /// The files that were announced.
    async fn files(&mut self, announced: Vec<(String, u64)>) -> Result<Vec<(String, Vec<u8>)>, Broken> {
        let together = announced.iter().fold(0_u64, |sum, (_, length)| sum.saturating_add(*length));
        if announced.len() > ARTIFACTS || together > MOST_ARTIFACTS {
            let why = format!(
                "it brings {} files of {together} bytes together, and {ARTIFACTS} of {MOST_ARTIFACTS} are the most",
                announced.len()
            );
            return Err(self.broken(&why));
        }
        let mut files = Vec::new();
        for (name, length) in announced {
            let mut file = Vec::new();
            while (file.len() as u64) < length {
                match timeout(self.silence, Frame::next(&mut self.from)).await {
                    Ok(Ok(Frame::Piece(piece))) if !piece.is_empty() => file.extend(piece),
                    // Its heart goes on beating.
                    Ok(Ok(Frame::Message(_))) => {}
                    Ok(Ok(Frame::Piece(_))) | Err(_) => {
                        return Err(self.broken("it did not go on with a file"));
                    }
                    Ok(Err(error)) => return Err(self.lost(&error).await),
                }
            }
            if file.len() as u64 > length {
                return Err(self.broken("a file is longer than it was said to be"));
            }
            files.push((plain_name(&name), file));
        }
        Ok(files)
    }

    /// Answers it about an image.
    async fn hand_over(&mut self, wanted: &WantedImage, tell: &(dyn Fn(&str) + Sync)) -> Result<(), Broken> {
        self.asked_for += 1;
        if self.asked_for > IMAGES {
            return Err(self.broken(&format!("it asks for more than {IMAGES} images")));
        }
        let reference = text::clean_to(&wanted.reference, WORDS_LENGTH);
        let (answer, archive) = match self.shelf.take(wanted).await {
            Ok(Ok(Taken { archive, bytes, found })) => {
                tell(&format!("bringing the image {reference} into the machine"));
                (ImageAnswer::Archive { bytes, found }, Some(archive))
            }
            Ok(Err(why)) => (ImageAnswer::Missing { why }, None),
            Err(why) => (ImageAnswer::Failed { why }, None),
        };
        self.send(Frame::of_message(&Ask::Image(answer))).await?;
        let Some(archive) = archive else { return Ok(()) };
        let mut pieces = archive.pieces();
        loop {
            match pieces.next().await {
                Ok(Some(piece)) => self.send(Ok(Frame::of_piece(piece))).await?,
                Ok(None) => return Ok(()),
                // The machine waits for the rest of it, and there is none.
                Err(error) => {
                    return Err(self.broken(&format!("the archive of {reference} cannot be read: {error}")));
                }
            }
        }
    }

    async fn send(&mut self, frame: Result<Vec<u8>, WireError>) -> Result<(), Broken> {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Err(self.broken(&error.to_string())),
        };
        match timeout(TAKES, self.to.write_all(&frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost(&error.into()).await),
            Err(_) => Err(self.broken(&format!("it has taken nothing of what it was sent for {TAKES:?}"))),
        }
    }

    /// It went away, or cannot be understood.
    async fn lost(&mut self, error: &WireError) -> Broken {
        match error {
            WireError::Closed(_) => {
                // Its channel closes when QEMU ends, or when the program in it does; the latter switches the machine off.
                let said = match &mut self.guest {
                    Some(guest) => timeout(ENDS, guest.ended()).await.ok(),
                    None => None,
                };
                let said = said.unwrap_or_else(|| error.to_string());
                self.broken(&format!("it ended by itself: {}", text::clean(&said)))
            }
            other => self.broken(&other.to_string()),
        }
    }

    /// Something is wrong with the machine itself: with what it said last.
    fn broken(&self, why: &str) -> Broken {
        let why = format!("the virtual machine failed: {why}; {}", self.last_words());
        Broken { why, is_gone: true, exhausted: false }
    }

    /// The end of its console, as half a sentence.
    fn last_words(&self) -> String {
        let words = self.console.last_words();
        let words: Vec<String> = words.iter().map(|line| text::clean_to(line, WORDS_LENGTH)).collect();
        if words.is_empty() {
            "its console is empty".to_owned()
        } else {
            format!("the end of its console: {}", words.join(" | "))
        }
    }
}

/// What a machine brings is a stranger's word. Who the runner is and what it was tested in is said by the runner, and how short of
/// everything it was as well; the machine's own pressure counts where the runner's was none.
async fn vouched(mut evidence: Value, meanwhile: Meanwhile) -> Value {
    let ipvs = evidence.pointer("/runner/ipvs").and_then(Value::as_bool);
    let own = evidence.as_object_mut().and_then(|evidence| evidence.remove("pressure"));
    let own: Option<Pressure> = own.and_then(|own| serde_json::from_value(own).ok());
    let mut evidence = meanwhile.beside(evidence, ipvs, Ground::Machine).await;
    let around: Option<Pressure> =
        evidence.get("pressure").and_then(|around| serde_json::from_value(around.clone()).ok());
    let overloaded = |pressure: &Option<Pressure>| pressure.as_ref().is_some_and(|p| p.overload().is_some());
    if (around.is_none() || !overloaded(&around))
        && overloaded(&own)
        && let Some(beside) = evidence.as_object_mut()
    {
        beside.insert("pressure".to_owned(), serde_json::to_value(own).unwrap_or_default());
    }
    evidence
}

/// A file's name as it is kept: no path, and nothing that only looks like a name.
fn plain_name(name: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || "-_.+".contains(c) { c } else { '-' };
    let name: String = name.chars().take(120).map(kept).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() { "file".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
