//! A program that nobody vouches for, in a sandbox of its own (bubblewrap): it sees the system's programs, what it is shown, and
//! nothing else of this machine.
//!
//! It has namespaces of its own for processes, mounts, users, IPC, the host's name and control groups; no capability, and none to
//! get; an empty environment but for what is set here. It ends with whoever started it, and whatever it started ends with it. To the
//! kernel that is the *thread* which started it, and a runtime's threads come and go: have it started by a process that waits for it,
//! as `nsenter` does which gives it a network ([`Cmd::started_by`]).
//!
//! It is still user 0 to the file system, where files belong to root. So what is not to be read must not be there, and what is there
//! of `/etc` is only what everybody may read.
//!
//! Limits of memory, processes and processor time are not made here: they are a control group's.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::Cmd;

/// Where programs are looked for in there. This machine's own PATH may lead to folders that are not there.
pub const SANDBOX_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Beside `/usr`: links into it, or folders of their own on older systems.
const PROGRAMS: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// What else belongs to a system's programs, where it is there.
const MORE: [&str; 3] = ["/opt", "/nix/store", "/var/cache/fontconfig"];
/// Where things are kept from everybody but root, and how deep that is looked for.
const PRIVATE: [(&str, usize); 3] = [("/etc", 16), ("/usr/local/etc", 16), ("/opt", 3)];
/// Files of the kernel's through which root changes the machine. Bubblewrap covers some, by a check that does not see all.
const KERNEL: [&str; 9] = [
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/irq",
    "/proc/bus",
    "/proc/fs",
    "/proc/acpi",
    "/proc/scsi",
    "/proc/driver",
    "/proc/mtrr",
];
/// Of `/dev/shm`, in bytes.
const SHARED_MEMORY: u64 = 256 << 20;
/// Of a folder that only hides what is there, in bytes: mount points are made in it.
const HIDING: u64 = 1 << 20;

/// A sandbox to start programs in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sandbox {
    mounts: Vec<Mount>,
    env: Vec<(OsString, OsString)>,
    folder: PathBuf,
}

#[derive(Clone, Debug)]
struct Mount {
    at: PathBuf,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// A file or folder of this machine's, to be read.
    Read(PathBuf),
    /// One to be written as well.
    Write(PathBuf),
    /// A device.
    Device(PathBuf),
    /// An empty folder in place of what is there, read-only in the end.
    Hidden,
    /// An empty file in place of what is there.
    Blank,
    Link(PathBuf),
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// One with the system's programs and settings. It has no folder to write into yet.
    pub fn new() -> Self {
        let mut this = Self { mounts: Vec::new(), env: Vec::new(), folder: PathBuf::from("/") };
        this = this.read("/usr", "/usr").read("/etc", "/etc");
        for name in PROGRAMS.map(Path::new) {
            if let Ok(target) = fs::read_link(name) {
                this.mount(name, What::Link(target));
            } else if name.is_dir() {
                this = this.read(name, name);
            }
        }
        for name in MORE.map(Path::new).into_iter().filter(|name| name.is_dir()) {
            this = this.read(name, name);
        }
        for (folder, depth) in PRIVATE {
            this.mounts.extend(private_in(Path::new(folder), depth));
        }
        for name in ["/home", "/root", "/run"] {
            this = this.hide(name);
        }
        this.mount("/var/run", What::Link(PathBuf::from("/run")));
        this.mount("/var/tmp", What::Link(PathBuf::from("/tmp")));
        this.env("PATH", SANDBOX_PATH).env("HOME", "/tmp").env("TMPDIR", "/tmp")
    }

    /// Shows a file or folder at a place, to be read. A place inside of another's comes after it, in whichever order they are named.
    #[must_use]
    pub fn read(mut self, path: impl Into<PathBuf>, at: impl Into<PathBuf>) -> Self {
        self.mount(at, What::Read(path.into()));
        self
    }

    /// As [`Sandbox::read`], and to be written as well.
    #[must_use]
    pub fn write(mut self, path: impl Into<PathBuf>, at: impl Into<PathBuf>) -> Self {
        self.mount(at, What::Write(path.into()));
        self
    }

    /// Shows a device of this machine's, to be used: whoever is in there may do with it what it lets user 0 do.
    #[must_use]
    pub fn device(mut self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.mount(path.clone(), What::Device(path));
        self
    }

    /// Shows an empty folder at a place.
    #[must_use]
    pub fn hide(mut self, at: impl Into<PathBuf>) -> Self {
        self.mount(at, What::Hidden);
        self
    }

    /// Shows a file in place of one of the system's settings, also where that is a link to a place that is not there
    /// (`/etc/resolv.conf` often is). Where the system has no such file, there is none.
    #[must_use]
    pub fn setting(self, path: impl Into<PathBuf>, at: &str) -> Self {
        match end_of_links(Path::new(at)) {
            Some(end) => self.read(path, end),
            None => self,
        }
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The working directory, as it is called in there.
    #[must_use]
    pub fn cwd(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = folder.into();
        self
    }

    /// Starts a program in there; arguments may follow. Its exit code is the program's, or 128 and the number of the signal that
    /// ended it.
    pub fn command(&self, program: impl Into<OsString>) -> Cmd {
        let mut command = Cmd::new("bwrap").args([
            "--unshare-user",
            "--disable-userns",
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-uts",
            "--unshare-cgroup-try",
            "--hostname",
            "assay",
            "--die-with-parent",
            "--new-session",
            "--cap-drop",
            "ALL",
            "--dev",
            "/dev",
            "--size",
            &SHARED_MEMORY.to_string(),
            "--perms",
            "1777",
            "--tmpfs",
            "/dev/shm",
            "--proc",
            "/proc",
        ]);
        for name in KERNEL {
            command = command.args(["--ro-bind-try", name, name]);
        }
        let mut mounts: Vec<&Mount> = self.mounts.iter().collect();
        // The sort is stable: of two at one place, the later one is seen.
        mounts.sort_by_key(|mount| mount.at.components().count());
        for Mount { at, what } in &mounts {
            command = match what {
                What::Read(path) => command.arg("--ro-bind").arg(path).arg(at),
                What::Write(path) => command.arg("--bind").arg(path).arg(at),
                What::Device(path) => command.arg("--dev-bind").arg(path).arg(at),
                What::Hidden => {
                    command.args(["--perms", "0755", "--size", &HIDING.to_string(), "--tmpfs"]).arg(at)
                }
                What::Blank => command.args(["--ro-bind", "/dev/null"]).arg(at),
                What::Link(target) => command.arg("--symlink").arg(target).arg(at),
            };
        }
        // In the end, since mount points were made in them.
        for hidden in mounts.iter().filter(|mount| matches!(mount.what, What::Hidden)) {
            command = command.arg("--remount-ro").arg(&hidden.at);
        }
        command = command.args(["--remount-ro", "/dev", "--remount-ro", "/", "--chdir"]).arg(&self.folder);
        command = command.arg("--").arg(program).env_clear();
        self.env.iter().fold(command, |command, (name, value)| command.env(name, value))
    }

    fn mount(&mut self, at: impl Into<PathBuf>, what: What) {
        self.mounts.push(Mount { at: at.into(), what });
    }
}

/// What in a folder not everybody may read, hidden. Links are left alone: what they lead to is looked at where it is.
fn private_in(folder: &Path, depth: usize) -> Vec<Mount> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), depth)];
    while let Some((folder, depth)) = folders.pop() {
        // Not all systems have each of these folders.
        for entry in fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok) {
            let Ok(metadata) = entry.metadata() else { continue };
            let (at, mode) = (entry.path(), metadata.permissions().mode());
            if metadata.is_dir() && mode & 0o005 != 0o005 {
                found.push(Mount { at, what: What::Hidden });
            } else if metadata.is_dir() && depth > 0 {
                folders.push((at, depth - 1));
            } else if metadata.is_file() && mode & 0o004 == 0 {
                found.push(Mount { at, what: What::Blank });
            }
        }
    }
    found
}

/// Where a path of the system's leads to, whether or not something is there; nothing where the path itself is not there, or where
/// it goes round in circles.
fn end_of_links(path: &Path) -> Option<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..8 {
        match fs::read_link(&path) {
            Ok(target) => path = plain(&path.parent()?.join(target)),
            Err(_) if path.starts_with("/etc") => return path.exists().then_some(path),
            Err(_) => return Some(path),
        }
    }
    None
}

/// Without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                plain.pop();
            }
            std::path::Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::{Path, PathBuf, PermissionsExt, Sandbox, What, end_of_links, fs, plain, private_in};

    #[test]
    fn what_only_root_may_read_is_hidden_and_what_all_may_read_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str, mode: u32| {
            let path = folder.path().join(name);
            fs::write(&path, "x").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        fs::create_dir(folder.path().join("ssl")).unwrap();
        fs::create_dir(folder.path().join("private")).unwrap();
        fs::set_permissions(folder.path().join("private"), fs::Permissions::from_mode(0o710)).unwrap();
        make("shadow", 0o640);
        make("passwd", 0o644);
        make("ssl/key", 0o600);
        make("private/inside", 0o600);
        std::os::unix::fs::symlink("shadow", folder.path().join("link")).unwrap();
        let mut found: Vec<_> = private_in(folder.path(), 16)
            .into_iter()
            .map(|mount| {
                let how = if matches!(mount.what, What::Hidden) { "folder" } else { "file" };
                format!("{how} {}", mount.at.strip_prefix(folder.path()).unwrap().display())
            })
            .collect();
        found.sort();
        assert_eq!(found, ["file shadow", "file ssl/key", "folder private"]);
        assert_eq!(private_in(folder.path(), 0).len(), 2, "no deeper than asked for");
    }

    #[test]
    fn a_place_inside_of_another_comes_after_it() {
        let sandbox = Sandbox::new().write("/a/work", "/srv/run/work").hide("/srv/run").read("/b", "/srv");
        let line = sandbox.command("true").to_string();
        let place = |what: &str| line.find(what).unwrap_or_else(|| panic!("{what} is not in {line}"));
        assert!(place("--ro-bind /b /srv ") < place("--tmpfs /srv/run"));
        assert!(place("--tmpfs /srv/run") < place("--bind /a/work /srv/run/work"));
        assert!(place("--bind /a/work") < place("--remount-ro /srv/run "));
        assert!(line.ends_with("--chdir / -- true"), "{line}");
    }

    #[test]
    fn a_setting_that_is_a_link_is_put_where_it_leads_to() {
        assert_eq!(plain(Path::new("/etc/../run/./x")), PathBuf::from("/run/x"));
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("resolv.conf");
        std::os::unix::fs::symlink("../nowhere/stub.conf", &link).unwrap();
        let end = folder.path().parent().unwrap().join("nowhere/stub.conf");
        assert_eq!(end_of_links(&link), Some(end));
        let circle = folder.path().join("circle");
        std::os::unix::fs::symlink("circle", &circle).unwrap();
        assert_eq!(end_of_links(&circle), None);
        assert_eq!(end_of_links(Path::new("/etc/assay-no-such-setting")), None);
    }
}
