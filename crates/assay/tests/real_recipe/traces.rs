//! What runs leave on a machine, found by the folder that they worked in.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// What a daemon's processes have in their environment, before its folder.
const MARK: &[u8] = b"ASSAY_DAEMON=";
const KINDS: [&str; 3] = ["net", "mnt", "pid"];
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
/// How long the kernel may take to be done with a process that was killed.
const ENDS: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

/// Processes, namespaces, mounts and control groups of runs below a folder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traces {
    /// With their command lines.
    pub(crate) processes: Vec<String>,
    /// Their namespaces of network, mounts and processes, which are not this test's.
    pub(crate) namespaces: BTreeSet<PathBuf>,
    /// Held open: the kernel gives the number of one that is gone to the next, which may be another test's.
    held: Vec<Arc<File>>,
    pub(crate) mounts: Vec<String>,
    pub(crate) control_groups: Vec<PathBuf>,
}

impl Traces {
    pub(crate) fn of(folder: &Path) -> Self {
        let mut traces = Self::default();
        let name = folder.as_os_str().as_bytes();
        for process in numbered("/proc") {
            let read = |file: &str| std::fs::read(process.join(file)).unwrap_or_default();
            let (environment, command) = (read("environ"), read("cmdline"));
            let marked = environment
                .split(|byte| *byte == 0)
                .any(|entry| entry.strip_prefix(MARK).is_some_and(|daemon| daemon.starts_with(name)));
            if marked || contains(&command, name) {
                let words = String::from_utf8_lossy(&command).replace('\0', " ");
                traces.processes.push(format!("{} {words}", process.display()));
                traces.hold(&process);
                traces.control_groups.extend(control_groups(&String::from_utf8_lossy(&command)));
            }
        }
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let name = folder.display().to_string();
        traces.mounts = table.lines().filter(|line| line.contains(&name)).map(str::to_owned).collect();
        traces
    }

    /// Takes a process's namespaces down that are not this test's, as they are while they are held.
    fn hold(&mut self, process: &Path) {
        let own = namespaces(Path::new("/proc/self"));
        for kind in KINDS {
            let Ok(file) = File::open(process.join("ns").join(kind)) else { continue };
            let Ok(name) = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())) else {
                continue;
            };
            if !own.contains(&name) && self.namespaces.insert(name) {
                self.held.push(Arc::new(file));
            }
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        self.processes.is_empty() && self.mounts.is_empty() && self.control_groups.is_empty()
    }

    /// What is still there of what was seen: namespaces that some process is in, control groups, mounts. A process that was
    /// killed is waited for, since it is there until the kernel is done with it.
    pub(crate) fn still_there(&self) -> Vec<String> {
        let mut left = Vec::new();
        for process in numbered("/proc") {
            if let Some(namespace) = namespaces(&process).intersection(&self.namespaces).next()
                && !ended(&process)
            {
                left.push(format!("{} is in {}", process.display(), namespace.display()));
            }
        }
        left.extend(
            self.control_groups
                .iter()
                .filter(|group| group.exists())
                .map(|group| group.display().to_string()),
        );
        left
    }
}

/// Waits for the end of a process; whether it came.
fn ended(process: &Path) -> bool {
    let number = process.file_name().and_then(OsStr::to_str).and_then(|name| name.parse().ok());
    let Some(pid) = number.and_then(Pid::from_raw) else { return true };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&ENDS)).expect("it can be waited for") > 0
}

/// A process's namespaces, as the kernel names them: `net:[4026532008]`.
fn namespaces(process: &Path) -> BTreeSet<PathBuf> {
    KINDS.iter().filter_map(|kind| std::fs::read_link(process.join("ns").join(kind)).ok()).collect()
}

/// The control group that a daemon was told to make for its containers, in every hierarchy that has it.
fn control_groups(command: &str) -> Vec<PathBuf> {
    let mut arguments = command.split('\0');
    let Some(name) = arguments.find_map(|argument| argument.strip_prefix("--cgroup-parent=/")) else {
        return Vec::new();
    };
    let below = std::fs::read_dir(CONTROL_GROUPS).into_iter().flatten().filter_map(Result::ok);
    let tops = below.map(|entry| entry.path()).chain([PathBuf::from(CONTROL_GROUPS)]);
    tops.map(|top| top.join(name)).filter(|group| group.exists()).collect()
}

fn numbered(folder: &str) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries
        .filter(|entry| OsStr::as_bytes(&entry.file_name()).iter().all(u8::is_ascii_digit))
        .map(|entry| entry.path())
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
