//! The other end of the channel: the program in the machine. It works as any runner's bench does, for the one run that it is asked
//! about, and ends when nobody asks any more.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc as blocking};
use std::thread;
use std::time::Duration;

use assay_process::find_program;
use assay_qemu::GUEST_CHANNEL;
use futures::future::BoxFuture;
use tokio::sync::{Mutex, mpsc};

use super::super::{Brought, Bundles, GivenImage, ImageGiver, RecipeBench, RecipeBenchSettings, Warm};
use super::inputs::{BUNDLE, INPUTS};
use super::wire::{Ask, Frame, ImageAnswer, LONGEST_PIECE, Told, WantedImage, WireError};
use crate::recipe::Source;

/// Where the kernel lists the channels.
const PORTS: &str = "/sys/class/virtio-ports";
/// How often it says that it is alive.
const BEAT: Duration = Duration::from_secs(10);
/// How often it is looked how much room there is.
const LOOK: Duration = Duration::from_millis(500);
/// Less than this is a full disk, in bytes: the file system keeps some of it for itself.
const FULL: u64 = 32 << 20;
/// Pieces that wait for their reader.
const PIECES_HELD: usize = 8;

/// Collects what it is asked for until nobody asks any more; `folder` is on the machine's disk.
///
/// # Errors
/// There is no channel, or what comes over it is not understood.
pub async fn serve(folder: &Path) -> Result<(), String> {
    let port = channel()?;
    spare_from_the_want_of_memory();
    thread::spawn(read_ahead);
    let again = port.try_clone().map_err(|error| format!("the channel: {error}"))?;
    let (say, said) = blocking::channel::<Vec<u8>>();
    let (asks, mut asked) = mpsc::channel(1);
    let (pieces, answers) = mpsc::channel(PIECES_HELD);
    thread::spawn(move || speak(port, &said));
    let listener = thread::spawn(move || listen(again, &asks, &pieces));
    let voice = Voice(say);
    let room = Arc::new(AtomicU64::new(u64::MAX));
    let (lowest, disk) = (Arc::clone(&room), folder.to_owned());
    thread::spawn(move || {
        loop {
            if let Ok(found) = rustix::fs::statvfs(&disk) {
                lowest.fetch_min(found.f_bavail.saturating_mul(found.f_frsize), Ordering::Relaxed);
            }
            thread::sleep(LOOK);
        }
    });

    let outside =
        Outside { voice: voice.clone(), answers: Mutex::new(answers), folder: folder.join("images") };
    let bench = RecipeBench::new(RecipeBenchSettings {
        folder: folder.join("runs"),
        images: Vec::new(),
        cache: None,
        warm: Warm::default(),
        shared_swarm: None,
        outside: Some(Arc::new(outside)),
    });
    let bench = bench.with_bundles(Arc::new(OnTheDisk));
    // That it is up is the first that is heard of it.
    voice.say(&Told::Up)?;
    let heart = voice.clone();
    thread::spawn(move || {
        while heart.say(&Told::Alive).is_ok() {
            thread::sleep(BEAT);
        }
    });
    while let Some(Ask::Collect { run, stage, spec }) = asked.recv().await {
        room.store(u64::MAX, Ordering::Relaxed);
        let progress = |words: &str| {
            // Nobody listens any more: then everything ends in a moment.
            let _ = voice.say(&Told::Progress { words: words.to_owned() });
        };
        let collected = bench.collect(run, &stage, &spec, &progress).await;
        let left = room.load(Ordering::Relaxed);
        match collected {
            // Whatever came of it: an app without room says nothing about itself.
            _ if left < FULL => {
                let why = format!(
                    "its disk was full ({} MiB were left); give machines a larger one (--guest-disk)",
                    left >> 20
                );
                voice.say(&Told::Failed { why, exhausted: true })?;
            }
            Err(why) => voice.say(&Told::Failed { why, exhausted: false })?,
            Ok(Brought { evidence, artifacts }) => {
                let announced =
                    artifacts.iter().map(|(name, file)| (name.clone(), file.len() as u64)).collect();
                voice.say(&Told::Brought { evidence, artifacts: announced })?;
                for (_, file) in &artifacts {
                    for piece in file.chunks(LONGEST_PIECE) {
                        voice.frame(Frame::of_piece(piece))?;
                    }
                }
            }
        }
    }
    match listener.join() {
        Ok(Err(WireError::Closed(_)) | Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the channel's reader ended by itself".to_owned()),
    }
}

/// Brings the daemon's programs into memory while the recipe is read. A daemon gives its helper a quarter of a minute to start, which
/// is little in software emulation, where they are unpacked at the speed of that.
fn read_ahead() {
    for program in ["containerd", "dockerd", "runc"].into_iter().filter_map(|name| find_program(name).ok()) {
        // What cannot be read is found out later, by whoever needs it.
        let _ = File::open(program).and_then(|mut file| std::io::copy(&mut file, &mut std::io::sink()));
    }
}

/// Whoever else takes all the memory is ended for it, and not the one who tells of that. A machine's kernel is its own: nobody outside
/// is the worse for it. Daemons and containers have settings of their own, and programs beside them are told to.
fn spare_from_the_want_of_memory() {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "-1000") {
        tracing::warn!(%error, "this program may be ended for want of memory");
    }
}

/// Says things, from wherever.
#[derive(Clone, Debug)]
struct Voice(blocking::Sender<Vec<u8>>);

impl Voice {
    fn say(&self, told: &Told) -> Result<(), String> {
        self.frame(Frame::of_message(told).map_err(|error| error.to_string())?)
    }

    fn frame(&self, frame: Vec<u8>) -> Result<(), String> {
        self.0.send(frame).map_err(|_| "the channel is closed".to_owned())
    }
}

fn speak(mut port: File, said: &blocking::Receiver<Vec<u8>>) {
    while let Ok(frame) = said.recv() {
        if let Err(error) = port.write_all(&frame) {
            tracing::error!(%error, "the channel takes nothing any more");
            return;
        }
    }
}

/// Reads what is said, and passes on questions to the one and answers about images to the other.
fn listen(mut port: File, asks: &mpsc::Sender<Ask>, answers: &mpsc::Sender<Answer>) -> Result<(), WireError> {
    let gone = || WireError::Nonsense("nobody waits for it".to_owned());
    loop {
        match Frame::read(&mut port)? {
            Frame::Piece(piece) => answers.blocking_send(Answer::Piece(piece)).map_err(|_| gone())?,
            message @ Frame::Message(_) => match message.message()? {
                Ask::Image(answer) => answers.blocking_send(Answer::Image(answer)).map_err(|_| gone())?,
                ask @ Ask::Collect { .. } => asks.blocking_send(ask).map_err(|_| gone())?,
            },
        }
    }
}

/// What is said about an image that was asked for.
enum Answer {
    Image(ImageAnswer),
    Piece(Vec<u8>),
}

/// Asks the runner outside for images.
#[derive(Debug)]
struct Outside {
    voice: Voice,
    answers: Mutex<mpsc::Receiver<Answer>>,
    folder: PathBuf,
}

impl ImageGiver for Outside {
    fn image<'a>(
        &'a self,
        wanted: &'a WantedImage,
    ) -> BoxFuture<'a, Result<Result<GivenImage, String>, String>> {
        Box::pin(async move {
            // One at a time.
            let mut answers = self.answers.lock().await;
            self.voice.say(&Told::WantsImage(wanted.clone()))?;
            let closed = || "the channel is closed".to_owned();
            let (bytes, found) = match answers.recv().await.ok_or_else(closed)? {
                Answer::Image(ImageAnswer::Archive { bytes, found }) => (bytes, found),
                Answer::Image(ImageAnswer::Missing { why }) => return Ok(Err(why)),
                Answer::Image(ImageAnswer::Failed { why }) => return Err(why),
                Answer::Piece(_) => return Err("a piece came before what it is of".to_owned()),
            };
            let archive = self.folder.join("image.tar");
            let failed = |error: std::io::Error| format!("keeping an image: {error}");
            std::fs::create_dir_all(&self.folder).map_err(failed)?;
            let mut file = File::create(&archive).map_err(failed)?;
            let mut left = bytes;
            while left > 0 {
                let Answer::Piece(piece) = answers.recv().await.ok_or_else(closed)? else {
                    return Err("an image ended before it was whole".to_owned());
                };
                left = left.checked_sub(piece.len() as u64).ok_or("an image is longer than was said")?;
                file.write_all(&piece).map_err(failed)?;
            }
            Ok(Ok(GivenImage { archive, from: found.from, digests: found.digests, fetched: found.fetched }))
        })
    }
}

/// The bundle that the runner has put onto the disk of the recipe.
struct OnTheDisk;

impl Bundles for OnTheDisk {
    fn fetch<'a>(&'a self, _source: &'a Source, to: &'a Path) -> BoxFuture<'a, Result<(), String>> {
        let from = Path::new(INPUTS).join(BUNDLE);
        let copied = std::fs::copy(&from, to).map(drop);
        let copied = copied.map_err(|error| format!("{}: {error}", from.display()));
        Box::pin(std::future::ready(copied))
    }
}

/// The channel to the runner.
fn channel() -> Result<File, String> {
    let failed = |error: std::io::Error| format!("{PORTS}: {error}; this is for the inside of a machine");
    for entry in std::fs::read_dir(PORTS).map_err(failed)?.filter_map(Result::ok) {
        let name = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim() == GUEST_CHANNEL {
            let device = Path::new("/dev").join(entry.file_name());
            return OpenOptions::new()
                .read(true)
                .write(true)
                .open(&device)
                .map_err(|error| format!("{}: {error}", device.display()));
        }
    }
    Err(format!("this machine has no channel {GUEST_CHANNEL}"))
}
