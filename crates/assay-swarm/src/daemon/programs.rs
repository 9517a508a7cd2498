//! Programs of this machine that run beside the daemon's containers: in its namespaces for network, mounts and processes, so that
//! they end with it, however that ends, and in a control group below its own, which is removed with it.
//!
//! What they may take is limited for all of them together. Their disk is a file system in memory, mounted where only the
//! daemon's namespaces see it: there is nothing to unmount and nothing to sweep. What is in it counts as their memory, too.
//!
//! On a swarm that others use, there are no namespaces to be in: programs run on the machine as it is ([`Programs::here`]).
//!
//! Namespaces are held open here, so that an id which has become somebody else's is never entered.

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    time::Duration,
};

use assay_process::{Cmd, Sandbox, find_program};

use super::leftovers::remove_control_group;
use super::{CONTROL_GROUPS, Daemon, control_group};
use crate::SwarmError;

/// The name of theirs, below the daemon's.
pub(super) const GROUP: &str = "programs";
/// In which a share of processor time is measured, in microseconds.
const PERIOD: u64 = 100_000;
/// Files on their disk.
const FILES: u32 = 200_000;
/// How long a file system in memory may take to be mounted.
const MOUNTED: Duration = Duration::from_secs(30);
/// Puts the shell into control groups (the files before `--`), and becomes the program behind it.
///
/// In a machine for strangers' recipes the one who starts it is never killed for want of memory; programs are.
const JOIN: &str = r#"set -e
(echo 0 >/proc/self/oom_score_adj) 2>/dev/null || true
while [ "$1" != -- ]; do echo 0 >"$1"; shift; done
shift
exec "$@""#;

/// What all programs beside a daemon may take together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramLimits {
    /// Bytes of memory, with what is on their disk. Who takes more is killed.
    pub memory: u64,
    /// Processes and threads at a time. More are refused.
    pub processes: u64,
    /// Processors' worth of time. Who wants more waits.
    pub processors: u64,
    /// Bytes on their disk. More are refused.
    pub disk: u64,
}

/// A place for programs beside a daemon. Of no use any more once the daemon is gone.
#[derive(Debug)]
pub struct Programs {
    place: Place,
    disk: PathBuf,
    groups: Groups,
}

/// Where programs run.
#[derive(Debug)]
enum Place {
    /// In a daemon's namespaces.
    Beside(Box<Namespaces>),
    /// On this machine as it is, for the owner of this folder.
    Here(PathBuf),
}

#[derive(Debug)]
struct Namespaces {
    network: File,
    mounts: File,
    processes: File,
    root: File,
}

/// How often a limit was reached since the place was made, and what is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Processes that were killed for want of memory.
    pub killed: u64,
    /// Processes and threads that were refused.
    pub refused: u64,
    /// Bytes that are free on the disk.
    pub disk_free: u64,
    /// Files that can still be made on it.
    pub files_free: u64,
}

/// A control group in the hierarchies that there are.
#[derive(Debug, Default)]
struct Groups {
    /// The files by which a process joins.
    join: Vec<PathBuf>,
    /// The files that tell how often a limit was reached, with the word before the number.
    killed: Option<(PathBuf, &'static str)>,
    refused: Option<(PathBuf, &'static str)>,
    unlimited: Vec<&'static str>,
}

impl Daemon {
    /// Makes a place for programs beside its containers.
    ///
    /// # Errors
    /// [`SwarmError`]: no bubblewrap, no disk for them, or the daemon is gone. A limit that the kernel does not know is no error:
    /// see [`Programs::unlimited`].
    pub async fn programs(&self, limits: ProgramLimits) -> Result<Programs, SwarmError> {
        find_program("bwrap")?;
        let process = Path::new("/proc").join(self.init.pid().to_string());
        let open = |name: &str| {
            let path = process.join(name);
            File::open(&path).map_err(SwarmError::folder("opening", path))
        };
        let disk = self.folder.join(GROUP);
        fs::create_dir(&disk).map_err(SwarmError::folder("making", disk.as_path()))?;
        let programs = Programs {
            place: Place::Beside(Box::new(Namespaces {
                network: open("ns/net")?,
                mounts: open("ns/mnt")?,
                processes: open("ns/pid")?,
                root: open("root")?,
            })),
            disk,
            groups: Groups::make(Path::new(CONTROL_GROUPS), &control_group(&self.folder), limits),
        };
        let options =
            format!("size={},nr_inodes={FILES},mode=0755,nosuid,nodev", limits.disk.next_multiple_of(4096));
        let mount = Cmd::new("mount").args(["-t", "tmpfs", "-o", &options, "assay"]).arg(&programs.disk);
        programs.entering(mount).timeout(MOUNTED).run_ok().await?;
        Ok(programs)
    }
}

impl Programs {
    /// A place on this machine as it is: its network, and a plain folder below `folder` for a disk, which is limited by nothing but
    /// the machine's. Without root there are no other limits either: see [`Programs::unlimited`]. Programs end with this process
    /// as their sandbox does; [`Programs::end`] takes the control group away.
    ///
    /// # Errors
    /// [`SwarmError`]: no bubblewrap, or the folder cannot be made.
    pub fn here(folder: &Path, limits: ProgramLimits) -> Result<Self, SwarmError> {
        find_program("bwrap")?;
        let disk = folder.join(GROUP);
        fs::create_dir_all(&disk).map_err(SwarmError::folder("making", disk.as_path()))?;
        let mut groups = Groups::make(Path::new(CONTROL_GROUPS), &control_group(folder), limits);
        groups.unlimited.push("disk");
        Ok(Self { place: Place::Here(folder.to_owned()), disk, groups })
    }

    /// Ends the place. What is in a daemon's namespaces ends with the daemon.
    ///
    /// # Errors
    /// [`SwarmError::Residue`]: a control group stays.
    pub async fn end(&self) -> Result<(), SwarmError> {
        match &self.place {
            Place::Beside(_) => Ok(()),
            Place::Here(folder) => remove_control_group(folder).await,
        }
    }

    /// A program in a sandbox, beside the containers and within the limits; arguments may follow.
    pub fn command(&self, sandbox: &Sandbox, program: impl Into<std::ffi::OsString>) -> Cmd {
        let joining = ["-c", JOIN, "assay-program"].map(std::ffi::OsString::from).into_iter();
        let groups = self.groups.join.iter().map(|file| file.clone().into_os_string());
        let joining = joining.chain(groups).chain(["--".into()]);
        self.entering(sandbox.command(program)).started_by("/bin/sh", joining)
    }

    /// Their disk, as a [`Sandbox`] is told.
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// A path on their disk, as this process gets at it. What lies there is of strangers: no link in it is to be followed.
    pub fn seen(&self, path: &Path) -> PathBuf {
        match &self.place {
            Place::Beside(namespaces) => held(&namespaces.root).join(path.strip_prefix("/").unwrap_or(path)),
            Place::Here(_) => path.to_owned(),
        }
    }

    /// How often a limit was reached, and what is left. What cannot be told counts as not reached.
    pub fn reached(&self) -> Reached {
        let count = |from: &Option<(PathBuf, &'static str)>| {
            from.as_ref().and_then(|(file, word)| number(&fs::read_to_string(file).ok()?, word))
        };
        let disk = rustix::fs::statvfs(self.seen(&self.disk)).ok();
        Reached {
            killed: count(&self.groups.killed).unwrap_or_default(),
            refused: count(&self.groups.refused).unwrap_or_default(),
            disk_free: disk.as_ref().map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
            files_free: disk.as_ref().map_or(u64::MAX, |disk| disk.f_ffree),
        }
    }

    /// What is not limited here: `memory`, `processes`, `processor time`, `disk`.
    pub fn unlimited(&self) -> &[&'static str] {
        &self.groups.unlimited
    }

    fn entering(&self, command: Cmd) -> Cmd {
        let Place::Beside(namespaces) = &self.place else { return command };
        let Namespaces { network, mounts, processes, .. } = &**namespaces;
        let flag = |name: &str, file: &File| format!("--{name}={}", held(file).display());
        let flags = [flag("net", network), flag("mount", mounts), flag("pid", processes)];
        command.started_by("nsenter", flags.into_iter().chain(["--".to_owned()]))
    }
}

/// A file that this process has open, as others of this machine find it.
fn held(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()))
}

impl Groups {
    /// Makes the group below the daemon's, whose name is `daemon`, in whatever hierarchies `top` has.
    fn make(top: &Path, daemon: &str, limits: ProgramLimits) -> Self {
        let unified = top.join("cgroup.controllers").exists();
        let mut this = Self::default();
        if unified {
            this.make_unified(top, daemon, limits);
        } else {
            this.make_apart(top, daemon, limits);
        }
        this
    }

    /// Version 2: one group.
    fn make_unified(&mut self, top: &Path, daemon: &str, limits: ProgramLimits) {
        let above = top.join(daemon);
        let group = above.join(GROUP);
        let made = fs::create_dir_all(&group);
        // One by one: a controller that is missing must not keep the others away.
        for controller in ["+memory", "+pids", "+cpu"] {
            for parent in [top, above.as_path()] {
                // What was not handed down shows when the limit is set.
                let _ = set(&parent.join("cgroup.subtree_control"), controller);
            }
        }
        let quota = format!("{} {PERIOD}", limits.processors * PERIOD);
        self.limit("memory", &set(&group.join("memory.max"), &limits.memory.to_string()));
        // Without swap on the machine there is no such file.
        let _ = set(&group.join("memory.swap.max"), "0");
        self.limit("processes", &set(&group.join("pids.max"), &limits.processes.to_string()));
        self.limit("processor time", &set(&group.join("cpu.max"), &quota));
        self.killed = Some((group.join("memory.events"), "oom_kill"));
        self.refused = Some((group.join("pids.events"), "max"));
        if made.is_ok() {
            self.join.push(group.join("cgroup.procs"));
        }
    }

    /// Version 1: one group for each.
    fn make_apart(&mut self, top: &Path, daemon: &str, limits: ProgramLimits) {
        let group = |controller: &str| top.join(controller).join(daemon).join(GROUP);
        let (memory, processes, time) = (group("memory"), group("pids"), group("cpu"));
        let limited = made(top, &memory)
            .and_then(|()| set(&memory.join("memory.limit_in_bytes"), &limits.memory.to_string()));
        if self.limit("memory", &limited) {
            // With swap, where the kernel counts it.
            let _ = set(&memory.join("memory.memsw.limit_in_bytes"), &limits.memory.to_string());
            self.killed = Some((memory.join("memory.oom_control"), "oom_kill"));
            self.join.push(memory.join("cgroup.procs"));
        }
        let limited = made(top, &processes)
            .and_then(|()| set(&processes.join("pids.max"), &limits.processes.to_string()));
        if self.limit("processes", &limited) {
            self.refused = Some((processes.join("pids.events"), "max"));
            self.join.push(processes.join("cgroup.procs"));
        }
        let limited = made(top, &time)
            .and_then(|()| set(&time.join("cpu.cfs_period_us"), &PERIOD.to_string()))
            .and_then(|()| set(&time.join("cpu.cfs_quota_us"), &(limits.processors * PERIOD).to_string()));
        if self.limit("processor time", &limited) {
            self.join.push(time.join("cgroup.procs"));
        }
    }

    /// Takes down whether a limit was set; whether it was.
    fn limit(&mut self, what: &'static str, set: &io::Result<()>) -> bool {
        if let Err(error) = set {
            tracing::warn!(limit = what, %error, "programs beside a daemon are not limited");
            self.unlimited.push(what);
        }
        set.is_ok()
    }
}

/// Makes a group in a hierarchy that is there: a folder beside the hierarchies would be none.
pub(super) fn made(top: &Path, group: &Path) -> io::Result<()> {
    let hierarchy = group.strip_prefix(top).ok().and_then(|path| path.components().next());
    match hierarchy {
        Some(name) if top.join(name).is_dir() => fs::create_dir_all(group),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Writes into a file of the kernel's, which has to be there.
pub(super) fn set(file: &Path, value: &str) -> io::Result<()> {
    use io::Write as _;
    fs::OpenOptions::new().write(true).open(file)?.write_all(value.as_bytes())
}

/// The number behind a word, a word a line.
pub(super) fn number(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::{GROUP, Groups, Path, ProgramLimits, fs, number};

    const LIMITS: ProgramLimits =
        ProgramLimits { memory: 1 << 30, processes: 9, processors: 2, disk: 1 << 20 };

    fn put(folder: &Path, names: &[&str]) {
        fs::create_dir_all(folder).unwrap();
        for name in names {
            fs::write(folder.join(name), "").unwrap();
        }
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn in_one_hierarchy_the_limits_are_of_one_group() {
        let top = tempfile::tempdir().unwrap();
        let group = top.path().join("assay-x").join(GROUP);
        put(top.path(), &["cgroup.controllers", "cgroup.subtree_control"]);
        put(&top.path().join("assay-x"), &["cgroup.subtree_control"]);
        // As a kernel without the controller for processor time.
        put(&group, &["memory.max", "pids.max", "cgroup.procs"]);
        let groups = Groups::make(top.path(), "assay-x", LIMITS);
        assert_eq!(groups.join, [group.join("cgroup.procs")]);
        assert_eq!(groups.unlimited, ["processor time"]);
        assert_eq!(text(&group.join("memory.max")), "1073741824");
        assert_eq!(text(&group.join("pids.max")), "9");
        assert!(
            text(&top.path().join("cgroup.subtree_control")).contains("+cpu"),
            "the last that was written"
        );
    }

    #[test]
    fn in_hierarchies_apart_each_limit_has_its_group_and_a_missing_one_is_told() {
        let top = tempfile::tempdir().unwrap();
        let group = |name: &str| top.path().join(name).join("assay-x").join(GROUP);
        put(&group("memory"), &["memory.limit_in_bytes", "cgroup.procs"]);
        put(&group("cpu"), &["cpu.cfs_period_us", "cpu.cfs_quota_us", "cgroup.procs"]);
        let groups = Groups::make(top.path(), "assay-x", LIMITS);
        assert_eq!(groups.join, [group("memory").join("cgroup.procs"), group("cpu").join("cgroup.procs")]);
        assert_eq!(groups.unlimited, ["processes"]);
        assert_eq!(text(&group("cpu").join("cpu.cfs_quota_us")), "200000");
        assert!(!top.path().join("pids").exists(), "a folder is no hierarchy");
    }

    #[test]
    fn the_kernel_s_counts_are_read_by_their_words() {
        let events = "low 0\nhigh 0\nmax 5\noom 2\noom_kill 1\noom_group_kill 0\n";
        assert_eq!(number(events, "oom_kill"), Some(1));
        assert_eq!(number(events, "max"), Some(5));
        assert_eq!(number("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), Some(3));
        assert_eq!(number("", "max"), None);
    }
}
