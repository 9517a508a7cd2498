//! A guest: a virtual machine that works for its owner and is thrown away, because what it works on is a stranger's.
//!
//! It boots a kernel and an initrd straight away, and has disks, a serial console that is only listened to, and one channel: a
//! stream of bytes to its owner. It has no network card, no screen, no monitor and no shared folder; whatever takes it over has
//! gained a machine without a way out.
//!
//! Whoever breaks out of it as well is in a sandbox: QEMU runs with nothing but its own files, without a network, without a
//! capability, and with the system calls filtered that it does not need. The owner holds a lock, and the first process around QEMU
//! waits for that, so a guest ends with its owner however that ends, SIGKILL included ([`Guest::sweep`] takes the folder away).

mod command;

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assay_process::{Child, Line, Stream};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::error::io_error;
use crate::{Accel, QemuError};

/// The name of the channel in the guest, below `/sys/class/virtio-ports`.
pub const GUEST_CHANNEL: &str = "org.assay.guest.0";

/// QEMU connects after about a tenth of a second; this is for a machine that is busy with other things.
const START_LIMIT: Duration = Duration::from_mins(1);
/// Lines of the console that are kept.
const CONSOLE_LINES: usize = 400;
/// How many of them are told when something went wrong.
const LAST_WORDS: usize = 20;
/// The longest path of a Unix socket, in bytes.
const SOCKET_PATH: usize = 107;
/// Files in a guest's folder.
const OWNER: &str = "owner";
const CHANNEL: &str = "channel";
const COMMAND: &str = "qemu-command.txt";

/// What a guest is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestSpec {
    /// For people and for QEMU's process list.
    pub name: String,
    /// The kernel.
    pub kernel: PathBuf,
    /// Its initrd.
    pub initrd: PathBuf,
    /// The kernel's command line, beside the console. Everybody on this machine can read it.
    pub arguments: String,
    /// Processors.
    pub cpus: u16,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Disks in the order in which the guest finds them: `/dev/vda`, `/dev/vdb` …
    pub disks: Vec<GuestDisk>,
}

/// A disk of a guest's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestDisk {
    /// Any file, to be read. What is missing of its last sector reads as zeros.
    Read(PathBuf),
    /// A file in the guest's folder, by its name, to be written. It does not outlive the guest, so nothing is flushed for it.
    Scratch(String),
}

/// A folder of a guest's own: the socket, and all disks that it may write on. It is somebody's for as long as this lives, and then
/// [`Guest::sweep`]'s.
#[derive(Debug)]
pub struct GuestFolder {
    path: PathBuf,
    owner: File,
}

impl GuestFolder {
    /// Takes a folder that is there, and empty.
    ///
    /// # Errors
    /// [`QemuError`] when it is somebody's, or cannot be written.
    pub fn take(path: &Path) -> Result<Self, QemuError> {
        let path = std::path::absolute(path).map_err(io_error("using", path))?;
        let lock = path.join(OWNER);
        let owner = File::create_new(&lock).map_err(io_error("making", &lock))?;
        owner.lock().map_err(io_error("locking", &lock))?;
        Ok(Self { path, owner })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A guest that runs. Dropping it kills QEMU and leaves the folder to [`Guest::sweep`].
#[derive(Debug)]
pub struct Guest {
    child: Child,
    console: Console,
    reader: JoinHandle<()>,
    /// Let go of last.
    _owner: File,
}

impl Guest {
    /// Starts one; the channel to it comes with it.
    ///
    /// # Errors
    /// [`QemuError`] with QEMU's own words when it does not come up.
    pub async fn start(
        spec: &GuestSpec,
        folder: GuestFolder,
        accel: &Accel,
    ) -> Result<(Self, UnixStream), QemuError> {
        let GuestFolder { path: folder, owner } = folder;
        let channel = folder.join(CHANNEL);
        if channel.as_os_str().len() > SOCKET_PATH {
            return Err(QemuError::Invalid {
                machine: spec.name.clone(),
                field: "folder".to_owned(),
                problem: format!(
                    "the path of the socket {} is longer than {SOCKET_PATH} bytes; choose a shorter folder",
                    channel.display()
                ),
            });
        }
        let listener = UnixListener::bind(&channel).map_err(io_error("listening on", &channel))?;
        let command = command::around(spec, &folder, accel);
        let shown = folder.join(COMMAND);
        std::fs::write(&shown, format!("{command}\n")).map_err(io_error("writing", &shown))?;
        let mut child = command.spawn().await?;
        let console = Console::default();
        let reader = match child.take_lines() {
            Some(lines) => tokio::spawn(listen(lines, console.clone())),
            None => tokio::spawn(async {}),
        };
        let connected = tokio::select! {
            connected = timeout(START_LIMIT, listener.accept()) => connected.ok(),
            _ = child.wait_beside_lines() => None,
        };
        let mut guest = Self { child, console, reader, _owner: owner };
        if let Some(Ok((stream, _))) = connected {
            return Ok((guest, stream));
        }
        let _ = guest.child.stop(Duration::ZERO).await;
        let said = guest.ended().await;
        Err(QemuError::StartFailed { machine: spec.name.clone(), said, command: shown })
    }

    /// Waits for its end: QEMU's last words. Safe to cancel and to call again.
    pub async fn ended(&mut self) -> String {
        let status = self.child.wait_beside_lines().await;
        self.read_to_the_end().await;
        let said = self.console.lock().said.iter().cloned().collect::<Vec<_>>().join("; ");
        match (said.is_empty(), status) {
            (false, _) => said,
            (true, Ok(status)) => format!("it ended ({status}) and said nothing"),
            (true, Err(error)) => error.to_string(),
        }
    }

    /// What it can be asked for from elsewhere: its console. Clones are the same one.
    pub fn console(&self) -> Console {
        self.console.clone()
    }

    /// Kills it and waits for its end. The folder stays.
    ///
    /// # Errors
    /// [`QemuError`] when it cannot be killed.
    pub async fn stop(mut self) -> Result<(), QemuError> {
        self.child.stop(Duration::ZERO).await?;
        // The last process in there holds its output open.
        self.read_to_the_end().await;
        Ok(())
    }

    async fn read_to_the_end(&mut self) {
        if !self.reader.is_finished() {
            let _ = (&mut self.reader).await;
        }
    }

    /// Removes the folder of a guest that nobody owns any more; whether it went. QEMU has ended by then, or is about to.
    ///
    /// # Errors
    /// [`QemuError`] when it cannot be removed.
    pub fn sweep(folder: &Path) -> Result<bool, QemuError> {
        let Ok(owner) = File::open(folder.join(OWNER)) else {
            // Nobody had begun, or everything but the folder is gone.
            return Ok(std::fs::remove_dir(folder).is_ok());
        };
        if owner.try_lock().is_err() {
            return Ok(false);
        }
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(io_error("removing", folder)(error))
            }
            _ => Ok(true),
        }
    }
}

/// What a guest said on its serial console. A stranger's words.
#[derive(Clone, Debug, Default)]
pub struct Console(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// The console's lines.
    lines: VecDeque<String>,
    /// What QEMU itself said.
    said: VecDeque<String>,
}

impl Console {
    /// All that is kept of it: the last 400 lines.
    pub fn text(&self) -> String {
        let kept = self.lock();
        let mut text = String::new();
        for line in &kept.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Its last lines, 20 at most.
    pub fn last_words(&self) -> Vec<String> {
        let kept = self.lock();
        let words = kept.lines.iter().rev().filter(|line| !line.trim().is_empty()).take(LAST_WORDS);
        let mut words: Vec<String> = words.cloned().collect();
        words.reverse();
        words
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, Line { stream, text }: Line) {
        let mut kept = self.lock();
        let (lines, most) = match stream {
            Stream::Stdout => (&mut kept.lines, CONSOLE_LINES),
            Stream::Stderr => (&mut kept.said, LAST_WORDS),
        };
        if lines.len() == most {
            lines.pop_front();
        }
        lines.push_back(text);
    }
}

async fn listen(mut lines: mpsc::Receiver<Line>, console: Console) {
    while let Some(line) = lines.recv().await {
        console.push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(stream: Stream, text: &str) -> Line {
        Line { stream, text: text.to_owned() }
    }

    #[test]
    fn of_a_console_that_never_stops_the_end_is_kept() {
        let console = Console::default();
        for n in 0..1000 {
            console.push(said(Stream::Stdout, &format!("line {n}")));
            console.push(said(Stream::Stdout, ""));
        }
        console.push(said(Stream::Stderr, "qemu: terminating"));
        assert_eq!(console.text().lines().count(), CONSOLE_LINES);
        let words = console.last_words();
        assert_eq!((words.len(), words[0].as_str(), words[19].as_str()), (20, "line 980", "line 999"));
    }

    #[test]
    fn a_folder_is_swept_when_its_owner_is_gone() {
        let all = tempfile::tempdir().expect("a folder");
        let folder = all.path().join("run-1");
        std::fs::create_dir(&folder).expect("made");
        let owner = GuestFolder::take(&folder).expect("locked");
        std::fs::write(owner.path().join("disk"), "").expect("written");
        assert!(GuestFolder::take(&folder).is_err(), "it has an owner");
        assert!(!Guest::sweep(&folder).expect("looked"), "somebody works in it");
        drop(owner);
        assert!(Guest::sweep(&folder).expect("swept"));
        assert!(!folder.exists());
    }
}
