//! What a daemon leaves on the machine, found by its folder and removed: mounts, the control group, the folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::mount::{UnmountFlags, unmount};

use super::{CONTROL_GROUPS, control_group};
use crate::SwarmError;

/// How long a control group may count processes that have ended.
const EMPTY: Duration = Duration::from_secs(5);

/// Unmounts what is mounted in the folder, the innermost first; says how many.
pub(super) fn remove_mounts(folder: &Path) -> Result<usize, SwarmError> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(table).map_err(SwarmError::folder("reading", table))?;
    let mounts = mounts_below(&text, folder);
    for mount in &mounts {
        unmount(mount, UnmountFlags::DETACH).map_err(|error| SwarmError::Residue {
            what: format!("mount {}", mount.display()),
            folder: folder.to_owned(),
            why: error.to_string(),
        })?;
    }
    Ok(mounts.len())
}

/// Removes the daemon's control group from every hierarchy.
pub(super) async fn remove_control_group(folder: &Path) -> Result<(), SwarmError> {
    let name = control_group(folder);
    let give_up = Instant::now() + EMPTY;
    for top in hierarchies() {
        let group = top.join(&name);
        // Version 1 has no event for a group that is empty, and a process is counted for a moment after its end.
        while let Err(error) = remove_tree_of_groups(&group) {
            if Instant::now() >= give_up {
                return Err(SwarmError::Residue {
                    what: format!("control group {}", group.display()),
                    folder: folder.to_owned(),
                    why: error.to_string(),
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// Removes the folder with all that is in it.
pub(super) async fn remove_folder(folder: &Path) -> Result<(), SwarmError> {
    let owned = folder.to_owned();
    let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(owned)).await;
    match removed.unwrap_or_else(|panic| Err(io::Error::other(panic.to_string()))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(SwarmError::folder("removing", folder)(error))
        }
        _ => Ok(()),
    }
}

/// The one of version 2, and those of version 1.
fn hierarchies() -> Vec<PathBuf> {
    let top = PathBuf::from(CONTROL_GROUPS);
    let below = fs::read_dir(&top).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let below: Vec<PathBuf> = below.filter(|path| path.is_dir() && !path.is_symlink()).collect();
    [top].into_iter().chain(below).collect()
}

/// A group's files go with it; only the groups in it have to be removed before.
fn remove_tree_of_groups(group: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree_of_groups(&entry.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Mount points in or at the folder, the latest first: `proc_pid_mountinfo(5)`, field 5.
fn mounts_below(table: &str, folder: &Path) -> Vec<PathBuf> {
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(folder)).collect();
    below.reverse();
    below
}

/// Blanks, tabs, line ends and backslashes are written as three octal digits.
fn unescaped(field: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\')
            .then(|| field.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(octal.unwrap_or(bytes[at]));
        at += if octal.is_some() { 4 } else { 1 };
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::{Path, PathBuf, mounts_below};

    #[test]
    fn mounts_in_a_folder_are_found_innermost_first_and_no_others() {
        let table = "\
22 1 253:1 / / rw - ext4 /dev/root rw
80 22 0:50 / /srv/run\\0401/data/overlay rw - overlay overlay rw
81 80 0:51 / /srv/run\\0401/data/overlay/tmp rw - tmpfs tmpfs rw
82 22 0:52 / /srv/run\\04010 rw - tmpfs tmpfs rw
";
        let found = mounts_below(table, Path::new("/srv/run 1"));
        let expected = ["/srv/run 1/data/overlay/tmp", "/srv/run 1/data/overlay"].map(PathBuf::from);
        assert_eq!(found, expected);
    }
}
