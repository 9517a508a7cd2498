//! A Docker daemon with a swarm of one node, for one run, and gone with it.
//!
//! A swarm of a run's own costs about a second and saves the rest: nothing to take down object by object, no names or
//! ports that collide, and nothing of an untrusted recipe that outlives its run. All of it lives in namespaces of its
//! own for network, mounts and processes (`inside.sh` is the first process in there). The end of the first process is
//! the end of all; mounts and interfaces go with the last of them. What is on this machine is one folder, one control
//! group and, while it runs, one process with its descendants.
//!
//! The owner is whoever called [`Daemon::start`]. It holds a lock in the folder; the first process inside waits for that
//! lock, so the daemon ends with its owner however that ends, SIGKILL included. (A parent-death signal would come when the
//! *thread* that started it ends.) The folder is then left to [`Daemon::sweep`].
//!
//! No way leads out of the namespace: images are imported, or pulled from whom the owner lets listen in there
//! ([`crate::Images`], [`Reach::listen`]). Who wants to reach a published port comes in
//! ([`Daemon::command_inside`]); programs of strangers have a place of their own beside the containers ([`Daemon::programs`]).

use std::{
    collections::VecDeque,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use assay_process::{Child, Cmd, Line, find_program};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{Swarm, SwarmError};

mod bounds;
mod leftovers;
mod pidfd;
mod programs;
mod reach;
mod sweep;

pub use programs::{ProgramLimits, Programs, Reached};
pub use reach::Reach;
pub use sweep::Swept;

use leftovers::{remove_control_group, remove_folder};
use pidfd::PidFd;

/// Its only address. Each daemon has a network of its own, so all can have the same.
const ADDRESS: &str = "10.77.0.1";
/// Of its network. Nothing but the runner listens in there with images, and that without TLS: see [`Reach::listen`].
const NETWORK: &str = "10.77.0.0/24";
/// Until it serves. Idle it takes half a second; the rest is for a busy machine.
const START: Duration = Duration::from_secs(90);
/// The longest path of a Unix socket, in bytes.
const SOCKET_PATH: usize = 107;
/// Lines kept for the error message.
const LAST_WORDS: usize = 15;
/// The log ends here; a daemon that says more is in a loop. In bytes.
const LOG: usize = 64 << 20;
/// Terminated tasks that the swarm remembers of each slot. Docker's own is 5, which is too few for evidence.
const TASK_HISTORY: i64 = 25;
/// The variable by which a daemon's processes are known. Its value is the folder.
const MARK: &str = "ASSAY_DAEMON";
/// Where the kernel has control groups.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
/// Put into every network namespace by the kernel if it can balance loads.
const IP_VS: &str = "net/ip_vs";

const INSIDE: &str = include_str!("inside.sh");

/// Where a daemon lives.
#[derive(Clone, Debug)]
pub struct DaemonConfig {
    /// A folder that does not exist yet: data root, socket, lock. It is removed with the daemon. Its path has to be short,
    /// since a socket's is (about 90 bytes), and its file system has to be one that overlay can lie upon.
    pub folder: PathBuf,
    /// Where everything is kept that the daemon says; outside of the folder.
    pub log: PathBuf,
}

/// A running daemon with a swarm. Dropping it kills it and leaves the folder to [`Daemon::sweep`]; [`Daemon::stop`] removes
/// that as well.
#[derive(Debug)]
pub struct Daemon {
    folder: PathBuf,
    log: PathBuf,
    child: Child,
    /// The first process in its namespaces, as it is seen from here.
    init: PidFd,
    swarm: Swarm,
    timings: DaemonTimings,
    ipvs: bool,
    reader: JoinHandle<()>,
    /// Let go of last.
    _owner: File,
}

/// How long the start took, from the first process on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DaemonTimings {
    /// Until the daemon served.
    pub serving: Duration,
    /// Until it was a swarm.
    pub swarm: Duration,
}

/// How long the end took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopTimings {
    /// Until the last process was gone.
    pub killed: Duration,
    /// Until the folder was gone, too.
    pub removed: Duration,
}

impl Daemon {
    /// Whether a daemon could be started here: root, Docker's programs, the kernel. Cheap, and changes nothing.
    ///
    /// # Errors
    /// [`SwarmError`]: the first thing that is missing, and what to do about it.
    pub fn check() -> Result<(), SwarmError> {
        for program in ["dockerd", "containerd", "runc", "iptables", "ip", "unshare", "nsenter", "flock"] {
            find_program(program)?;
        }
        let uid = rustix::process::geteuid();
        if !uid.is_root() {
            return Err(SwarmError::NotRoot { uid: uid.as_raw() });
        }
        let file_systems = Path::new("/proc/filesystems");
        let known =
            std::fs::read_to_string(file_systems).map_err(SwarmError::folder("reading", file_systems))?;
        if known.lines().any(|line| line.split_whitespace().next_back() == Some("overlay")) {
            Ok(())
        } else {
            Err(SwarmError::NoOverlay)
        }
    }

    /// Starts one and makes it a swarm.
    ///
    /// # Errors
    /// [`SwarmError`]; where the daemon gave up, with what it said. Nothing of it is left then.
    pub async fn start(config: &DaemonConfig) -> Result<Self, SwarmError> {
        Self::check()?;
        let started = Instant::now();
        let folder = std::path::absolute(&config.folder)
            .map_err(SwarmError::folder("using", config.folder.as_path()))?;
        let owner = own(&folder)?;
        bounds::processes(Path::new(CONTROL_GROUPS), &control_group(&folder));
        let mut starting = Starting::spawn(&folder, &config.log).await?;
        match starting.until_swarm(&folder, started).await {
            Ok((swarm, init, timings)) => {
                let ipvs = Path::new("/proc").join(init.pid().to_string()).join(IP_VS).exists();
                tracing::info!(
                    daemon.folder = %folder.display(),
                    daemon.ipvs = ipvs,
                    duration_ms = timings.swarm.as_millis(),
                    "a Docker daemon with a swarm of its own is up"
                );
                let Starting { child, reader, .. } = starting;
                let log = config.log.clone();
                Ok(Self { folder, log, child, init, swarm, timings, ipvs, reader, _owner: owner })
            }
            Err(error) => {
                // What is wrong with it matters more than what is wrong with its end.
                let _ = starting.child.stop(Duration::ZERO).await;
                drop(owner);
                let _ = Self::sweep(&folder).await;
                Err(error)
            }
        }
    }

    /// Its swarm.
    pub fn swarm(&self) -> &Swarm {
        &self.swarm
    }

    /// Whether the kernel can balance loads between the tasks of a service (IPVS). Without it a service's own address and
    /// ports published in ingress mode lead nowhere; see [`crate::Endpoints::WithoutIpvs`].
    pub fn ipvs(&self) -> bool {
        self.ipvs
    }

    /// How long the start took.
    pub fn timings(&self) -> DaemonTimings {
        self.timings
    }

    /// Whether its containers wanted more processes than all in it may have, as far as they are still there; how many that are, threads
    /// included.
    pub fn refused_processes(&self) -> Option<u64> {
        let refused = bounds::refused(Path::new(CONTROL_GROUPS), &control_group(&self.folder));
        (refused > 0).then_some(bounds::PROCESSES)
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        socket_in(&self.folder)
    }

    /// Where everything is that it said.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The folder that it lives in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The address at which ports published in host mode answer, from inside of its network.
    pub fn address(&self) -> &'static str {
        ADDRESS
    }

    /// How somebody at a shell gets into the daemon's network: what is put before a command.
    pub fn command_line_inside(&self) -> String {
        format!("nsenter --target {} --net --", self.init.pid())
    }

    /// A program of this machine, run inside of the daemon's network: how published ports are reached.
    pub fn command_inside(&self, program: &str) -> Cmd {
        Cmd::new("nsenter").args(["--target", &self.init.pid().to_string(), "--net", "--", program])
    }

    /// Ends it with everything in it, and removes its folder and control group. Nothing is asked to stop: what is to be
    /// kept has been taken out before.
    ///
    /// # Errors
    /// [`SwarmError::Residue`] when something is still there; [`SwarmError::Folder`] when the folder cannot be removed.
    pub async fn stop(mut self) -> Result<StopTimings, SwarmError> {
        let started = Instant::now();
        // The leader alone is our child; when it ends, the kernel kills the first process inside.
        self.child.signal(assay_process::Signal::KILL)?;
        self.child.wait_beside_lines().await?;
        self.init.ended(&self.folder).await?;
        let killed = started.elapsed();
        // The end of its output; an error means that it was read before.
        let _ = (&mut self.reader).await;
        remove_control_group(&self.folder).await?;
        remove_folder(&self.folder).await?;
        Ok(StopTimings { killed, removed: started.elapsed() })
    }
}

/// A daemon that does not serve yet.
struct Starting {
    child: Child,
    reader: JoinHandle<()>,
    serves: watch::Receiver<bool>,
    last_words: LastWords,
    log: PathBuf,
}

type LastWords = Arc<Mutex<VecDeque<String>>>;

impl Starting {
    async fn spawn(folder: &Path, log: &Path) -> Result<Self, SwarmError> {
        let open = std::fs::OpenOptions::new().create(true).append(true).open(log);
        let file = open.map_err(SwarmError::folder("writing", log))?;
        let mut child = command(folder)?.spawn().await?;
        let last_words = LastWords::default();
        let (seen, serves) = watch::channel(false);
        let reader = match child.take_lines() {
            Some(lines) => tokio::spawn(keep(lines, file, Arc::clone(&last_words), seen)),
            None => tokio::spawn(async {}),
        };
        Ok(Self { child, reader, serves, last_words, log: log.to_owned() })
    }

    async fn until_swarm(
        &mut self,
        folder: &Path,
        started: Instant,
    ) -> Result<(Swarm, PidFd, DaemonTimings), SwarmError> {
        let mut serves = self.serves.clone();
        tokio::select! {
            biased;
            // The daemon says so itself, once; there is nothing to try again and again.
            gone = async { serves.wait_for(|seen| *seen).await.is_err() } => if gone {
                return Err(self.ended().await);
            },
            _ = self.child.wait_beside_lines() => return Err(self.ended().await),
            () = tokio::time::sleep(START) => {
                return Err(self.failed(format!("did not serve within {START:?}")));
            }
        }
        let serving = started.elapsed();
        let init = PidFd::of_child(self.child.pid())?;
        let swarm = Swarm::connect(&socket_in(folder)).await?;
        swarm.init(ADDRESS, TASK_HISTORY).await?;
        Ok((swarm, init, DaemonTimings { serving, swarm: started.elapsed() }))
    }

    async fn ended(&mut self) -> SwarmError {
        let how = match self.child.wait_beside_lines().await {
            Ok(status) => format!("ended ({status}) before it served"),
            Err(error) => format!("ended before it served ({error})"),
        };
        let _ = (&mut self.reader).await;
        self.failed(how)
    }

    fn failed(&self, how: String) -> SwarmError {
        let kept = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let last_words = kept.iter().cloned().collect::<Vec<_>>().join("\n");
        SwarmError::Start { how, log: self.log.clone(), last_words }
    }
}

/// Makes the folder and takes its lock.
fn own(folder: &Path) -> Result<File, SwarmError> {
    let length = socket_in(folder).as_os_str().len();
    if length > SOCKET_PATH {
        return Err(SwarmError::LongPath { folder: folder.to_owned(), length, most: SOCKET_PATH });
    }
    std::fs::create_dir(folder).map_err(|source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => SwarmError::Busy { folder: folder.to_owned() },
        _ => SwarmError::Folder { doing: "making", path: folder.to_owned(), source },
    })?;
    let path = owner_in(folder);
    let owner = File::create(&path).map_err(SwarmError::folder("making", path.as_path()))?;
    // Nobody else can have it: the folder is new.
    owner.lock().map_err(SwarmError::folder("locking", path))?;
    let settings = settings_in(folder);
    let (key, logs) = bounds::logs();
    let content = serde_json::json!({ "insecure-registries": [NETWORK], key: logs });
    std::fs::write(&settings, content.to_string()).map_err(SwarmError::folder("writing", settings))?;
    let data = data_in(folder);
    std::fs::create_dir(&data).map_err(SwarmError::folder("making", data))?;
    Ok(owner)
}

fn command(folder: &Path) -> Result<Cmd, SwarmError> {
    let dockerd = find_program("dockerd")?;
    let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
    Ok(Cmd::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .args(["/bin/sh", "-c", INSIDE, "assay-daemon"])
        .arg(folder)
        .arg(format!("{ADDRESS}/24"))
        .arg(dockerd)
        .args([
            // This machine's own settings for Docker are not this daemon's.
            flag("config-file", &settings_in(folder)),
            flag("data-root", &data_in(folder)),
            format!("--host=unix://{}", socket_in(folder).display()),
            "--pidfile=/run/docker.pid".to_owned(),
            "--exec-opt=native.cgroupdriver=cgroupfs".to_owned(),
            format!("--cgroup-parent=/{}", control_group(folder)),
            "--storage-driver=overlay2".to_owned(),
            "--bridge=none".to_owned(),
            "--raw-logs".to_owned(),
        ])
        // What this process was told is not the daemon's business, credentials least of all.
        .env_clear()
        .env(MARK, folder)
        // Found by dockerd: containerd, runc, iptables.
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"))
}

async fn keep(
    mut lines: mpsc::Receiver<Line>,
    mut file: File,
    last_words: LastWords,
    serves: watch::Sender<bool>,
) {
    let mut written = 0;
    while let Some(Line { text, .. }) = lines.recv().await {
        if written < LOG {
            written += text.len() + 1;
            // A full disk must not stop the daemon; its last words are kept in memory as well.
            let _ = writeln!(file, "{text}");
        }
        if text.contains("API listen on") {
            serves.send_replace(true);
        }
        let mut kept = last_words.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == LAST_WORDS {
            kept.pop_front();
        }
        kept.push_back(text);
    }
}

/// The name of the daemon's control group, below the top.
fn control_group(folder: &Path) -> String {
    use sha2::{Digest, Sha256};
    use std::os::unix::ffi::OsStrExt;
    let digest = Sha256::digest(folder.as_os_str().as_bytes());
    format!("assay-{}", hex::encode(&digest[..6]))
}

fn owner_in(folder: &Path) -> PathBuf {
    folder.join("owner")
}

fn data_in(folder: &Path) -> PathBuf {
    folder.join("data")
}

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("docker.sock")
}

fn settings_in(folder: &Path) -> PathBuf {
    folder.join("daemon.json")
}

#[cfg(test)]
mod tests {
    use super::{Path, SwarmError, control_group, own};

    #[test]
    fn a_folder_is_owned_by_one_daemon_and_must_be_new() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("d");
        let _owner = own(&folder).unwrap();
        let error = own(&folder).unwrap_err();
        assert!(matches!(error, SwarmError::Busy { .. }), "{error}");
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused_before_anything_starts() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("x".repeat(100));
        let error = own(&folder).unwrap_err();
        assert!(error.to_string().contains("choose a folder with a shorter path"), "{error}");
        assert!(!folder.exists());
    }

    #[test]
    fn a_daemon_s_control_group_is_named_after_its_folder() {
        assert_eq!(control_group(Path::new("/srv/a")), control_group(Path::new("/srv/a")));
        assert_ne!(control_group(Path::new("/srv/a")), control_group(Path::new("/srv/b")));
    }
}
