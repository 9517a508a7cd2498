//! `assay up` as the demo's child: started, watched, stopped, and found again when a demo died without a word.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use assay_process::{Child, Cmd};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::folder::Folder;

/// How long the control plane and the lab's network may take.
const READY: Duration = Duration::from_mins(2);
/// How long they may take to stop; `assay up` itself gives each side ten seconds.
const GRACE: Duration = Duration::from_secs(40);
/// How many lines of the log an error shows.
const LAST_WORDS: usize = 25;
/// The demo's own network namespace: a lab that runs on this machine already is left alone.
const NETNS: &str = "assay-demo";

/// `assay up`, running.
pub(super) struct Stack {
    up: Child,
    words: Arc<Mutex<VecDeque<String>>>,
    reader: JoinHandle<()>,
    log: String,
}

impl Stack {
    /// Starts it. What it says goes to a file, so that the machines can be followed on the terminal.
    pub(super) async fn spawn(
        folder: &Folder,
        listen: SocketAddr,
        password: &str,
    ) -> Result<(Self, oneshot::Receiver<()>)> {
        let up = dying_with_us(folder)
            .args(["up", "--listen", &listen.to_string(), "--data"])
            .arg(folder.data())
            .arg("--lab")
            .arg(folder.machines())
            .args(["--lab-netns", NETNS])
            .arg("--live-image")
            .arg(folder.live_image());
        // In the environment and not on the command line, where every user of this machine could read it.
        let up = own_environment(up).env("ASSAY_OPERATOR_PASSWORD", password);
        println!("$ assay up --listen {listen} --data {} --lab … --live-image …", folder.data().display());
        let mut up = up.spawn().await.context("cannot start assay")?;
        remember(folder, up.pid())?;
        let words = Arc::new(Mutex::new(VecDeque::new()));
        let (reader, ready) = follow(&mut up, folder, &words)?;
        Ok((Self { up, words, reader, log: folder.log().display().to_string() }, ready))
    }

    /// Waits until machines can be vetted.
    pub(super) async fn ready(&mut self, ready: oneshot::Receiver<()>) -> Result<()> {
        let told = async {
            match tokio::time::timeout(READY, ready).await {
                Ok(Ok(())) => true,
                Err(_) => false,
                // Its output is closed: the other branch tells why.
                Ok(Err(_)) => std::future::pending().await,
            }
        };
        let ready = tokio::select! {
            ready = told => ready,
            problem = self.ended() => return Err(problem),
        };
        if ready {
            return Ok(());
        }
        bail!("assay up was not ready after {} s; {}", READY.as_secs(), self.last_words())
    }

    /// Resolves with the reason when it ends by itself.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        let status = match self.up.wait_beside_lines().await {
            Ok(status) => status.to_string(),
            Err(problem) => problem.to_string(),
        };
        // What it said last may still be on its way; a grandchild that keeps the pipe open is not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(1), &mut self.reader).await;
        anyhow!("assay up ended by itself ({status}); {}", self.last_words())
    }

    fn last_words(&self) -> String {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = words.iter().map(String::as_str).collect();
        format!("its last words (all of them are in {}):\n  {}", self.log, lines.join("\n  "))
    }
}

/// Stops the servers, switches the machines off and removes their network; says so if anything is left.
pub(super) async fn clear(stack: Option<Stack>, folder: &Folder) -> Result<()> {
    if let Some(mut stack) = stack {
        stack.up.stop(GRACE).await.context("cannot stop assay up")?;
    }
    lab_down(folder).await?;
    forget(folder)?;
    refuse_network()?;
    eprintln!("demo: the servers are stopped, every machine is off and the network is gone");
    Ok(())
}

/// Stops what a demo left that was killed.
pub(super) async fn stop_leftover(folder: &Folder) -> Result<()> {
    if let Some(process) = Process::read(&folder.serving()) {
        if process.is_alive() {
            eprintln!("demo: stopping process {}, which an earlier demo left", process.pid);
            process.stop().await?;
        }
        forget(folder)?;
    }
    // Machines outlive the program that switched them on.
    if folder.runner_state().exists() && folder.program().exists() {
        lab_down(folder).await?;
    }
    refuse_network()
}

/// The namespace must not be there when no demo runs.
fn refuse_network() -> Result<()> {
    if Path::new("/run/netns").join(NETNS).exists() {
        bail!(
            "the network namespace {NETNS} is there, and no demo runs; remove it with `ip netns delete {NETNS}`"
        );
    }
    Ok(())
}

/// The environment that commands of the demo run in: what the caller set for another server must not lead here.
pub(super) fn own_environment(cmd: Cmd) -> Cmd {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    cmd.env_clear().env("PATH", path)
}

/// The program, told to stop should we be killed without a word; `assay up` then stops its own children.
pub(super) fn dying_with_us(folder: &Folder) -> Cmd {
    Cmd::new("setpriv").args(["--pdeathsig", "TERM", "--"]).arg(folder.program())
}

/// A password that nobody can guess, in letters that read well.
pub(super) fn random_password() -> Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    // 32 letters without those that look alike: five bits each, 80 in all.
    let letters = b"abcdefghijkmnpqrstuvwxyz23456789";
    Ok(bytes.iter().map(|byte| char::from(letters[usize::from(byte % 32)])).collect())
}

async fn lab_down(folder: &Folder) -> Result<()> {
    let down = Cmd::new(folder.program())
        .args(["lab", "down", "--netns", NETNS, "--machines"])
        .arg(folder.machines())
        .arg("--data")
        .arg(folder.data());
    own_environment(down)
        .timeout(Duration::from_mins(1))
        .run_ok()
        .await
        .context("cannot switch the machines off")?;
    Ok(())
}

/// Writes every line to the log and tells when the one comes that says "ready".
fn follow(
    up: &mut Child,
    folder: &Folder,
    words: &Arc<Mutex<VecDeque<String>>>,
) -> Result<(JoinHandle<()>, oneshot::Receiver<()>)> {
    let (tell, ready) = oneshot::channel();
    let mut log =
        File::create(folder.log()).with_context(|| format!("cannot write {}", folder.log().display()))?;
    let mut lines = up.take_lines().context("the lines of assay up were taken already")?;
    let words = Arc::clone(words);
    let reader = tokio::spawn(async move {
        let mut tell = Some(tell);
        while let Some(line) = lines.recv().await {
            // A full disk must not stop the demo; the last words are kept in memory anyway.
            let _ = writeln!(log, "{}", line.text);
            if line.text.starts_with("ready;")
                && let Some(tell) = tell.take()
            {
                // Nobody listens any more if the demo was stopped.
                let _ = tell.send(());
            }
            let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
            if words.len() == LAST_WORDS {
                words.pop_front();
            }
            words.push_back(line.text);
        }
    });
    Ok((reader, ready))
}

fn remember(folder: &Folder, pid: u32) -> Result<()> {
    // One that has ended already is told with its last words by whoever waits for it to be ready.
    let Some(process) = Process::of(pid) else { return Ok(()) };
    let path = folder.serving();
    fs::write(&path, format!("{} {}\n", process.pid, process.started))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn forget(folder: &Folder) -> Result<()> {
    match fs::remove_file(folder.serving()) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).context("cannot forget the server's process"),
        _ => Ok(()),
    }
}

/// A process that is told from a later one with the same number by the time it started.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    pid: u32,
    started: u64,
}

impl Process {
    fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may contain anything; after its end, the 20th field is the start time.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        // A zombie has ended; only its parent has not looked yet.
        if fields.next()? == "Z" {
            return None;
        }
        Some(Self { pid, started: fields.nth(18)?.parse().ok()? })
    }

    fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, started: started.parse().ok()? })
    }

    fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    async fn stop(&self) -> Result<()> {
        for (signal, patience) in [(Signal::TERM, GRACE), (Signal::KILL, Duration::from_secs(5))] {
            let pid = i32::try_from(self.pid)
                .ok()
                .and_then(Pid::from_raw)
                .context("no process has such a number")?;
            // It may have ended by itself in the meantime.
            let _ = kill_process(pid, signal);
            let gone = async {
                while self.is_alive() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            if tokio::time::timeout(patience, gone).await.is_ok() {
                return Ok(());
            }
        }
        bail!("process {} of an earlier demo does not end; stop it yourself", self.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_and_never_the_same() {
        let (one, two) = (random_password().expect("random"), random_password().expect("random"));
        assert_eq!(one.len(), 16);
        assert_ne!(one, two);
    }

    #[tokio::test]
    async fn a_leftover_is_known_by_its_start_and_stopped() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = Folder::claim(&parent.path().join("demo")).expect("it is free");
        let mut child = Cmd::new("sleep").arg("600").spawn().await.expect("started");
        remember(&folder, child.pid()).expect("remembered");
        let process = Process::read(&folder.serving()).expect("it reads");
        assert!(process.is_alive());
        let later = Process { started: process.started + 1, ..process.clone() };
        assert!(!later.is_alive(), "another process with the same number is not ours to stop");

        stop_leftover(&folder).await.expect("stopped");
        assert!(!process.is_alive() && !folder.serving().exists());
        assert!(!child.wait().await.expect("waited").success());
    }

    #[tokio::test]
    async fn a_server_that_ends_by_itself_is_quoted() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = Folder::claim(&parent.path().join("demo")).expect("it is free");
        fs::create_dir_all(folder.program().parent().expect("it has one")).expect("made");
        fs::write(folder.program(), "#!/bin/sh\necho no live image >&2\nexit 3\n").expect("written");
        fs::set_permissions(folder.program(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("executable");
        let listen = SocketAddr::from(([127, 0, 0, 1], 7300));
        let (mut stack, ready) = Stack::spawn(&folder, listen, "password").await.expect("started");
        let problem = stack.ready(ready).await.expect_err("it ended").to_string();
        assert!(problem.contains("ended by itself") && problem.contains("no live image"), "{problem}");
    }
}
