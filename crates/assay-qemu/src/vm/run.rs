//! A running machine: started frozen, with somebody on every channel before it says its first word.
//!
//! The channels are connected by QEMU to sockets that are listened on before it starts, so there is nothing to wait
//! for in steps, and nothing to miss.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use assay_process::{Child, Cmd};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::command::{Places, arguments, firmware_images};
use super::spec::{VmNetwork, VmNic, VmSpec};
use super::{screen, told, tpm};
use crate::error::io_error;
use crate::{Accel, QemuError, Qmp, QmpEvent};

/// QEMU answers after about a tenth of a second; this is for a machine that is busy with other things.
const START_LIMIT: Duration = Duration::from_mins(1);
/// Events that wait for their reader; then QEMU waits, and with it the guest's serial port.
const EVENTS_HELD: usize = 1024;
/// How long QEMU may take to end after SIGTERM.
const TERM_LIMIT: Duration = Duration::from_secs(15);

/// Something that happened to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmEvent {
    /// It wrote to its serial port.
    Serial(Vec<u8>),
    /// It wrote to the out-of-band port.
    Progress(Vec<u8>),
    /// Its screen has changed; at most one a second.
    Screen,
    /// The monitor has news: `RESET`, `SHUTDOWN`, `GUEST_PANICKED`, `BLOCK_IO_ERROR` …
    Monitor(QmpEvent),
    /// QEMU has ended; nothing comes after this.
    Ended {
        /// Its exit code; none after a signal.
        code: Option<i32>,
        /// Its last words.
        said: String,
    },
}

/// Where a machine's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmFiles {
    /// What outlives a start: UEFI variables, TPM state, packets.
    pub folder: PathBuf,
}

/// A machine of this process. Dropping it kills QEMU.
#[derive(Debug)]
pub struct Vm {
    qmp: Qmp,
    events: mpsc::Receiver<(Instant, VmEvent)>,
    serial: Mutex<OwnedWriteHalf>,
    typed: AtomicU64,
    born: Instant,
    paused: Duration,
    end: watch::Sender<bool>,
    ended: Option<(Option<i32>, String)>,
    command: String,
    pub(super) places: Places,
    pub(super) sockets: tempfile::TempDir,
    tasks: JoinSet<()>,
    _tpm: Option<Child>,
}

impl Vm {
    /// Starts a machine, frozen before its first instruction.
    ///
    /// # Errors
    /// [`QemuError`] with QEMU's own words when it does not come up, or what is to be installed.
    pub async fn start(spec: &VmSpec, files: &VmFiles, accel: &Accel) -> Result<Self, QemuError> {
        Self::launch(spec, files, accel, false).await
    }

    pub(super) async fn launch(
        spec: &VmSpec,
        files: &VmFiles,
        accel: &Accel,
        resume: bool,
    ) -> Result<Self, QemuError> {
        let folder = &files.folder;
        std::fs::create_dir_all(folder).map_err(io_error("making", folder))?;
        let sockets = tempfile::Builder::new().prefix("assay-vm-").tempdir();
        let sockets = sockets.map_err(io_error("making a folder in", std::env::temp_dir()))?;
        let places = Places { sockets: sockets.path().to_owned(), folder: folder.clone() };
        if let Some(images) = firmware_images(spec) {
            for path in [&images.code, &images.vars] {
                if !path.exists() {
                    return Err(QemuError::NoFirmware { path: path.clone(), package: images.package });
                }
            }
            if !places.vars().exists() {
                std::fs::copy(&images.vars, places.vars()).map_err(io_error("copying", &images.vars))?;
            }
        }
        let tpm = if spec.tpm { Some(tpm::start(&places).await?) } else { None };
        let listeners = [places.qmp(), places.serial(), places.progress()].map(|path| listen(&path));
        let [qmp, serial, progress] = listeners;
        let (qmp, serial, progress) = (qmp?, serial?, progress?);
        let is_told = |nic: &VmNic| matches!(nic.network, VmNetwork::Isolated { told: Some(_), .. });
        let told = spec.nics.iter().any(is_told).then(|| listen(&places.told())).transpose()?;

        let arguments = arguments(spec, &places, accel, resume);
        let command = Cmd::new(spec.arch.qemu()).args(arguments);
        let shown = command.to_string();
        std::fs::write(folder.join("qemu-command.txt"), format!("{shown}\n"))
            .map_err(io_error("writing the command to", folder))?;
        let mut child = command.spawn().await?;
        let all = async {
            let (qmp, _) = qmp.accept().await?;
            let (serial, _) = serial.accept().await?;
            let (progress, _) = progress.accept().await?;
            Ok::<_, std::io::Error>((qmp, serial, progress))
        };
        let connected = tokio::select! {
            connected = timeout(START_LIMIT, all) => connected,
            _ = child.wait_beside_lines() => Ok(Err(std::io::Error::other("QEMU has ended"))),
        };
        // QEMU opens its sockets before it opens its disks: it may also end after it has connected.
        let greeted = match connected {
            Ok(Ok((qmp, serial, progress))) => {
                Qmp::over(qmp, &places.qmp()).await.ok().map(|qmp| (qmp, serial, progress))
            }
            _ => None,
        };
        let Some((qmp, serial, progress)) = greeted else {
            let _ = child.stop(Duration::ZERO).await;
            return Err(QemuError::StartFailed {
                machine: spec.name.clone(),
                said: last_words(&mut child).await,
                command: folder.join("qemu-command.txt"),
            });
        };
        let (sender, events) = mpsc::channel(EVENTS_HELD);
        let (serial_reader, serial_writer) = serial.into_split();
        let (progress_reader, _progress_writer) = progress.into_split();
        let (end, ending) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(read(serial_reader, sender.clone(), VmEvent::Serial));
        tasks.spawn(read(progress_reader, sender.clone(), VmEvent::Progress));
        tasks.spawn(relay(qmp.events(), sender.clone()));
        if let Some(listener) = told {
            tasks.spawn(told::listen(listener, sender.clone()));
        }
        tasks.spawn(screen::watch(places.screen(), sender.clone()));
        tasks.spawn(supervise(child, ending, sender));
        Ok(Self {
            qmp,
            events,
            serial: Mutex::new(serial_writer),
            typed: AtomicU64::new(0),
            born: Instant::now(),
            paused: Duration::ZERO,
            end,
            ended: None,
            command: shown,
            places,
            sockets,
            tasks,
            _tpm: tpm,
        })
    }

    /// Lets it go. Times of events count from here.
    ///
    /// # Errors
    /// [`QemuError`] when QEMU does not take the command.
    pub async fn go(&mut self) -> Result<(), QemuError> {
        self.born = Instant::now();
        self.qmp.cont().await
    }

    /// What happens next, and when, counted from [`Vm::go`]. After [`VmEvent::Ended`] it is that again. Safe to cancel.
    pub async fn next_event(&mut self) -> (Duration, VmEvent) {
        if let Some((code, said)) = &self.ended {
            return (self.age(), VmEvent::Ended { code: *code, said: said.clone() });
        }
        let Some((at, event)) = self.events.recv().await else {
            let said = "QEMU's channels are closed".to_owned();
            self.ended = Some((None, said.clone()));
            return (self.age(), VmEvent::Ended { code: None, said });
        };
        if let VmEvent::Ended { code, said } = &event {
            self.ended = Some((*code, said.clone()));
        }
        (at.saturating_duration_since(self.born), event)
    }

    /// Time since it was let go.
    pub fn age(&self) -> Duration {
        self.born.elapsed().saturating_sub(self.paused)
    }

    /// The moment from which times count.
    pub fn born(&self) -> Instant {
        self.born
    }

    /// The monitor.
    pub fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// The command that started it, as one would type it.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Whether QEMU runs.
    pub fn is_alive(&self) -> bool {
        self.ended.is_none()
    }

    /// Types on the serial console.
    ///
    /// # Errors
    /// [`QemuError::QmpClosed`] when QEMU has ended.
    pub async fn type_serial(&self, text: &str) -> Result<(), QemuError> {
        self.typed.fetch_add(text.len() as u64, Ordering::Relaxed);
        let written = self.serial.lock().await.write_all(text.as_bytes()).await;
        written.map_err(|_| QemuError::QmpClosed { command: "typing on the serial console".to_owned() })
    }

    /// Presses keys on the keyboard, one after the other: QEMU's names (`ret`, `a`, `f2`), joined by `-` where they are
    /// held together (`ctrl-alt-delete`).
    ///
    /// # Errors
    /// [`QemuError`] when QEMU knows no such key.
    pub async fn press(&self, keys: &[String]) -> Result<(), QemuError> {
        for chord in keys {
            self.typed.fetch_add(1, Ordering::Relaxed);
            let together: Vec<_> =
                chord.split('-').map(|key| serde_json::json!({"type": "qcode", "data": key})).collect();
            self.qmp.execute("send-key", serde_json::json!({ "keys": together })).await?;
        }
        Ok(())
    }

    /// How many bytes and keys were put in since the start.
    pub fn typed(&self) -> u64 {
        self.typed.load(Ordering::Relaxed)
    }

    /// The captured packets of a network card.
    pub fn packets(&self, nic: &str) -> PathBuf {
        self.places.packets(nic)
    }

    /// Pulls the plug: the machine stops where it is. What it had not flushed is lost like in a real one only where
    /// the disk's cache says so.
    ///
    /// # Errors
    /// [`QemuError`] when QEMU cannot be stopped.
    pub async fn cut_power(&mut self) -> Result<(), QemuError> {
        if self.is_alive() {
            match self.qmp.quit().await {
                Ok(()) | Err(QemuError::QmpTimeout { .. } | QemuError::QmpClosed { .. }) => {}
                Err(other) => return Err(other),
            }
            if !self.gone(TERM_LIMIT).await {
                self.end.send_replace(true);
                self.gone(TERM_LIMIT).await;
            }
        }
        Ok(())
    }

    /// Waits for QEMU's end, dropping all other events; says whether it came.
    pub(super) async fn gone(&mut self, limit: Duration) -> bool {
        let end = async { while !matches!(self.next_event().await, (_, VmEvent::Ended { .. })) {} };
        timeout(limit, end).await.is_ok()
    }

    /// SIGTERM, then SIGKILL.
    pub(super) fn terminate(&self) {
        self.end.send_replace(true);
    }

    /// A path for a file that QEMU writes for us.
    pub(super) fn scratch(&self, name: &str) -> PathBuf {
        self.sockets.path().join(name)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

fn listen(path: &Path) -> Result<UnixListener, QemuError> {
    UnixListener::bind(path).map_err(io_error("listening on", path))
}

async fn read(mut from: OwnedReadHalf, to: mpsc::Sender<(Instant, VmEvent)>, event: fn(Vec<u8>) -> VmEvent) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let at = Instant::now();
        if to.send((at, event(buffer[..count].to_vec()))).await.is_err() {
            return;
        }
    }
}

async fn relay(mut from: tokio::sync::broadcast::Receiver<QmpEvent>, to: mpsc::Sender<(Instant, VmEvent)>) {
    use tokio::sync::broadcast::error::RecvError;
    loop {
        match from.recv().await {
            Ok(event) => {
                if to.send((Instant::now(), VmEvent::Monitor(event))).await.is_err() {
                    return;
                }
            }
            Err(RecvError::Lagged(lost)) => tracing::warn!(lost, "events of the QEMU monitor came too fast"),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Waits for QEMU's end, or makes it.
async fn supervise(
    mut child: Child,
    mut ending: watch::Receiver<bool>,
    to: mpsc::Sender<(Instant, VmEvent)>,
) {
    let told = async {
        if ending.wait_for(|end| *end).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let status = tokio::select! {
        status = child.wait_beside_lines() => status.ok(),
        () = told => child.stop(TERM_LIMIT).await.ok(),
    };
    let said = last_words(&mut child).await;
    let code = status.and_then(|status| status.code());
    let _ = to.send((Instant::now(), VmEvent::Ended { code, said })).await;
}

/// What QEMU complained about, its last lines.
async fn last_words(child: &mut Child) -> String {
    let mut lines = std::collections::VecDeque::new();
    while let Ok(Some(line)) = timeout(Duration::from_secs(1), child.next_line()).await {
        lines.push_back(line.text);
        if lines.len() > 8 {
            lines.pop_front();
        }
    }
    if lines.is_empty() { "it said nothing".to_owned() } else { Vec::from(lines).join("; ") }
}

/// The arguments, for the tests of this module's neighbours.
#[cfg(test)]
pub(super) fn command_line(spec: &VmSpec, accel: &Accel) -> Vec<String> {
    let places = Places { sockets: PathBuf::from("/run/vm"), folder: PathBuf::from("/srv/vm") };
    arguments(spec, &places, accel, false)
}
