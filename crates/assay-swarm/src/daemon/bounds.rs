//! What everything in a daemon may take of this machine, however a recipe is written: a fork bomb ends at a number, and what
//! containers say ends at a size. Far more than any stack needs, and far less than a machine has.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::programs::{GROUP, made, number, set};

/// Processes and threads at a time, of containers and of programs beside them.
pub(super) const PROCESSES: u64 = 4096;
/// What is kept of what one container says: so much, and as much again before it.
const LOG: &str = "32m";
const LOGS: &str = "2";

/// The daemon's settings that bound what is kept of what containers say. A service that says otherwise has it otherwise.
pub(super) fn logs() -> (String, Value) {
    ("log-opts".to_owned(), json!({ "max-size": LOG, "max-file": LOGS }))
}

/// Makes the daemon's control group, with a limit of processes. Where the kernel has none, there is no limit, and that is logged.
pub(super) fn processes(top: &Path, daemon: &str) {
    let limited = if top.join("cgroup.controllers").exists() {
        // What was not handed down shows when the limit is set.
        let _ = set(&top.join("cgroup.subtree_control"), "+pids");
        fs::create_dir_all(top.join(daemon))
    } else {
        made(top, &top.join("pids").join(daemon))
    };
    let limit = || set(&group(top, daemon).join("pids.max"), &PROCESSES.to_string());
    if let Err(error) = limited.and_then(|()| limit()) {
        tracing::warn!(%error, "the processes of a daemon's containers are not limited");
    }
}

/// How often a container was refused a process, as far as they are still there to be asked.
pub(super) fn refused(top: &Path, daemon: &str) -> u64 {
    let group = group(top, daemon);
    // Newer kernels count where the limit is, older ones where the process would have been.
    let own = fs::read_to_string(group.join("pids.events.local")).ok();
    let own = own.and_then(|text| number(&text, "max")).unwrap_or_default();
    let containers = folders(&group).filter(|folder| !folder.ends_with(GROUP));
    containers.fold(own, |sum, folder| sum.saturating_add(in_tree(&folder)))
}

fn in_tree(group: &Path) -> u64 {
    let own = fs::read_to_string(group.join("pids.events")).ok();
    let own = own.and_then(|text| number(&text, "max")).unwrap_or_default();
    folders(group).fold(own, |sum, folder| sum.saturating_add(in_tree(&folder)))
}

fn folders(group: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).filter(|path| path.is_dir())
}

fn group(top: &Path, daemon: &str) -> PathBuf {
    if top.join("cgroup.controllers").exists() { top.join(daemon) } else { top.join("pids").join(daemon) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_limited_in_either_hierarchy_and_refusals_of_containers_are_counted() {
        for (unified, group) in [(true, "assay-1"), (false, "pids/assay-1")] {
            let top = tempfile::tempdir().unwrap();
            if unified {
                for file in ["cgroup.controllers", "cgroup.subtree_control"] {
                    fs::write(top.path().join(file), "").unwrap();
                }
            }
            let group = top.path().join(group);
            fs::create_dir_all(&group).unwrap();
            fs::write(group.join("pids.max"), "").unwrap();
            processes(top.path(), "assay-1");
            assert_eq!(fs::read_to_string(group.join("pids.max")).unwrap(), "4096");
            assert_eq!(refused(top.path(), "assay-1"), 0);
            for (folder, events) in [("one", "max 3\n"), ("two/below", "max 4\n"), (GROUP, "max 5\n")] {
                fs::create_dir_all(group.join(folder)).unwrap();
                fs::write(group.join(folder).join("pids.events"), events).unwrap();
            }
            assert_eq!(refused(top.path(), "assay-1"), 7, "programs have a limit of their own");
        }
    }
}
