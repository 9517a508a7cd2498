//! Who made something, so that somebody else can tell later whether that one is still there.
//!
//! A swarm outlives its runners. A process is known by the node, the boot, the namespace of process ids, its id in there and when it
//! started: together no two processes ever have them. What cannot be told is said to be unknown, and nothing is taken from it.

use std::{collections::BTreeMap, fs, io};

use serde::{Deserialize, Serialize};

/// A process that owns something in a swarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The swarm's id of the node that it runs on.
    pub node: String,
    /// The machine's boot, as the kernel names it.
    pub boot: String,
    /// The namespace that its process id is of: `pid:[4026531836]`.
    pub namespace: String,
    /// Its process id there.
    pub pid: u32,
    /// When it started, in clock ticks since the boot.
    pub started: u64,
}

/// Whether an owner is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    /// It runs.
    Alive,
    /// It has ended.
    Dead,
    /// It is on another node, or in a container of its own: from here nobody can tell.
    Unknown,
}

/// Where an owner is described among an object's labels.
const LABELS: [&str; 5] = [
    "assay.owner.node",
    "assay.owner.boot",
    "assay.owner.namespace",
    "assay.owner.pid",
    "assay.owner.started",
];

impl Owner {
    /// This process, on a node.
    ///
    /// # Errors
    /// `/proc` does not read.
    pub fn here(node: &str) -> io::Result<Self> {
        let pid = std::process::id();
        let started =
            started(pid)?.ok_or_else(|| io::Error::other("this process is not in /proc; is it mounted?"))?;
        Ok(Self {
            node: node.to_owned(),
            boot: fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
            namespace: fs::read_link("/proc/self/ns/pid")?.to_string_lossy().into_owned(),
            pid,
            started,
        })
    }

    /// Whether it is still there, as `here` can tell, which is on a node of the same swarm. `find` says when a process started, by
    /// its id; none where there is no such process.
    pub fn state(&self, here: &Self, find: impl FnOnce(u32) -> io::Result<Option<u64>>) -> OwnerState {
        if self.node != here.node {
            return OwnerState::Unknown;
        }
        if self.boot != here.boot {
            return OwnerState::Dead;
        }
        if self.namespace != here.namespace {
            return OwnerState::Unknown;
        }
        match find(self.pid) {
            Ok(Some(started)) if started == self.started => OwnerState::Alive,
            // Another process has its id now, or none.
            Ok(_) => OwnerState::Dead,
            Err(_) => OwnerState::Unknown,
        }
    }

    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let values = [
            self.node.clone(),
            self.boot.clone(),
            self.namespace.clone(),
            self.pid.to_string(),
            self.started.to_string(),
        ];
        LABELS.into_iter().map(str::to_owned).zip(values).collect()
    }

    /// From labels that [`Owner::labels`] made; none where something is missing or does not read.
    pub(super) fn of_labels(label: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let [node, boot, namespace, pid, started] = LABELS.map(label);
        Some(Self {
            node: node?,
            boot: boot?,
            namespace: namespace?,
            pid: pid?.parse().ok()?,
            started: started?.parse().ok()?,
        })
    }
}

/// When a process started, in clock ticks since the boot; none where there is none, or where it has ended and nobody has asked how.
pub(super) fn started(pid: u32) -> io::Result<Option<u64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // The name in parentheses may hold anything: fields are counted after the last one.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace().collect::<Vec<_>>());
    let fields = fields.filter(|fields| fields.len() > 19).ok_or(io::ErrorKind::InvalidData)?;
    if fields[0] == "Z" || fields[0] == "X" {
        return Ok(None);
    }
    fields[19].parse().map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner {
            node: "n1".to_owned(),
            boot: "b1".to_owned(),
            namespace: "pid:[1]".to_owned(),
            pid: 7,
            started: 100,
        }
    }

    #[test]
    fn an_owner_is_dead_only_where_that_is_certain() {
        let here = Owner { pid: 9, started: 300, ..owner() };
        let cases = [
            ("it runs", owner(), Ok(Some(100)), OwnerState::Alive),
            ("it has ended", owner(), Ok(None), OwnerState::Dead),
            ("its id is another's now", owner(), Ok(Some(200)), OwnerState::Dead),
            (
                "the machine was started anew",
                Owner { boot: "b0".to_owned(), ..owner() },
                Ok(Some(100)),
                OwnerState::Dead,
            ),
            ("another node's", Owner { node: "n2".to_owned(), ..owner() }, Ok(None), OwnerState::Unknown),
            (
                "in a container",
                Owner { namespace: "pid:[2]".to_owned(), ..owner() },
                Ok(None),
                OwnerState::Unknown,
            ),
            ("/proc is hidden", owner(), Err(io::ErrorKind::PermissionDenied.into()), OwnerState::Unknown),
        ];
        for (case, owner, found, expected) in cases {
            assert_eq!(owner.state(&here, |_| found), expected, "{case}");
        }
    }

    #[test]
    fn this_process_finds_itself_and_comes_back_from_its_labels() {
        let this = Owner::here("n1").unwrap();
        assert_eq!(this.state(&this, started), OwnerState::Alive);
        let labels = this.labels();
        assert_eq!(Owner::of_labels(|name| labels.get(name).cloned()), Some(this));
        assert_eq!(Owner::of_labels(|_| None), None);
    }
}
