//! What runs outside of containers for a recipe's run: hooks, tests, browsers. Each is in a sandbox beside the run's daemon, sees
//! the app as the world would, and ends with the run, however that ends.
//!
//! What they see, what their environment has and what they may take stands in `docs/guide/recipe-tests.md`; this is the one place
//! that it is made in.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use assay_process::{Cmd, Sandbox};
use assay_swarm::{ProgramLimits, Programs, Reached};
use uuid::Uuid;

use super::Test;
use super::dependencies::CA_VARIABLES;
use super::stand::Stand;

/// What all hooks, tests and browsers of a run may take together.
pub(super) const LIMITS: ProgramLimits =
    ProgramLimits { memory: 3 << 30, processes: 1024, processors: 2, disk: 1 << 30 };
/// Less than this is a full disk, in bytes.
const FULL: u64 = 64 << 10;
/// What programs say when they are refused room.
const NO_ROOM: &str = "No space left on device";
/// Where a program's own files are, as it sees them.
const TEMPORARY: &str = "/tmp";
/// The one folder that all hooks and tests have in common, in the run's folder.
const WORK: &str = "work";

/// A sandbox that a program can be started in. Its `/tmp` goes with it.
pub(super) struct Sandboxed {
    sandbox: Sandbox,
    programs: Arc<Programs>,
    /// Its `/tmp` on the programs' disk.
    temporary: PathBuf,
    before: Reached,
}

impl Drop for Sandboxed {
    fn drop(&mut self) {
        // What stays is gone with the disk.
        let _ = std::fs::remove_dir_all(self.programs.seen(&self.temporary));
    }
}

impl Test {
    /// A sandbox in which the app is seen as the world would see it.
    pub(super) fn sandboxed(&self, stand: &Stand) -> Result<Sandboxed, String> {
        let programs = Arc::clone(&stand.programs);
        let temporary = programs.disk().join(Uuid::new_v4().simple().to_string());
        for folder in [&temporary, &work_on(&programs)] {
            let seen = programs.seen(folder);
            std::fs::create_dir_all(&seen)
                .map_err(|error| format!("making a folder for programs of the recipe: {error}"))?;
        }
        let run = self.folder.path();
        let (hosts, nothing) = (run.join("hosts"), run.join("resolv.conf"));
        let names = format!("127.0.0.1 localhost\n{} {}\n", stand.address(), self.served().join(" "));
        let written = std::fs::write(&hosts, names).and_then(|()| std::fs::write(&nothing, ""));
        written.map_err(|error| format!("{}: {error}", hosts.display()))?;

        let mut sandbox = Sandbox::new()
            .setting(hosts, "/etc/hosts")
            .setting(nothing, "/etc/resolv.conf")
            .write(&temporary, TEMPORARY)
            // Other runs', wherever that is.
            .hide(&self.settings.folder)
            .write(work_on(&programs), run.join(WORK))
            .read(&stand.front.ca_file, &stand.front.ca_file)
            .cwd(run.join(WORK));
        for version in
            self.sources.iter().flat_map(|found| [Some(&found.head), found.base.as_ref()]).flatten()
        {
            sandbox = sandbox.read(&version.folder, &version.folder);
        }
        if let Some(tests) = &self.customisation.folder {
            sandbox = self.with_recipe_around(sandbox, tests).read(tests, tests);
            // What they share lies beside them.
            sandbox = sandbox.env("PYTHONPATH", tests);
        }
        // What the usual clients read the authority from.
        for name in CA_VARIABLES {
            sandbox = sandbox.env(name, &stand.front.ca_file);
        }
        let before = programs.reached();
        Ok(Sandboxed { sandbox, programs, temporary, before })
    }

    /// Tests in the recipe see the recipe around them, as it is under test: not its owner's folder, which may hold what is nobody's
    /// business.
    fn with_recipe_around(&self, sandbox: Sandbox, tests: &Path) -> Sandbox {
        let recipe = &self.spec.folder;
        let Some(head) = self.sources.as_ref().map(|found| &found.head.folder) else { return sandbox };
        let Ok(place) = tests.strip_prefix(recipe) else { return sandbox };
        // A mount needs a place to lie on.
        let is_there = head.join(place).symlink_metadata().is_ok_and(|found| found.is_dir());
        if is_there && !self.settings.folder.starts_with(recipe) {
            sandbox.read(head, recipe)
        } else {
            sandbox
        }
    }

    /// The folder that all hooks and tests have in common, as they see it.
    pub(super) fn common_folder(&self) -> PathBuf {
        self.folder.path().join(WORK)
    }
}

impl Sandboxed {
    /// Shows something else.
    pub(super) fn with(mut self, more: impl FnOnce(Sandbox) -> Sandbox) -> Self {
        self.sandbox = more(self.sandbox.clone());
        self
    }

    /// Starts a program in it; arguments may follow.
    pub(super) fn command(&self, program: &Path) -> Cmd {
        self.programs.command(&self.sandbox, program)
    }

    /// Reads what a program left in its `/tmp`.
    pub(super) fn read_temporary(&self, name: &str, most: u64) -> io::Result<Vec<u8>> {
        read_plain(&self.programs.seen(&self.temporary).join(name), most)
    }

    /// The limit that was reached since it was made, in words; `said` is what the program said.
    pub(super) fn limit_reached(&self, said: &str) -> Option<String> {
        reached(&self.before, &self.programs.reached(), said)
    }
}

/// A checkout that a program may change, within the limits: a copy on the programs' disk, put in place of the checkout afterwards.
pub(super) struct Copied {
    programs: Arc<Programs>,
    checkout: PathBuf,
    /// On the programs' disk.
    copy: PathBuf,
}

impl Drop for Copied {
    fn drop(&mut self) {
        // What stays is gone with the disk.
        let _ = std::fs::remove_dir_all(self.programs.seen(&self.copy));
    }
}

impl Copied {
    pub(super) async fn of(checkout: &Path, stand: &Stand) -> Result<Self, String> {
        let programs = Arc::clone(&stand.programs);
        let copy = programs.disk().join(Uuid::new_v4().simple().to_string());
        let this = Self { programs, checkout: checkout.to_owned(), copy };
        copy_all(checkout, &this.programs.seen(&this.copy)).await?;
        Ok(this)
    }

    /// Shows it in place of the checkout, to be changed.
    pub(super) fn shown(&self, sandbox: Sandbox) -> Sandbox {
        sandbox.write(&self.copy, &self.checkout).cwd(&self.checkout)
    }

    /// Puts it in place of the checkout.
    pub(super) async fn put_back(&self) -> Result<(), String> {
        let mut name = self.checkout.as_os_str().to_owned();
        name.push(".changed");
        let changed = PathBuf::from(name);
        copy_all(&self.programs.seen(&self.copy), &changed).await?;
        let moved =
            std::fs::remove_dir_all(&self.checkout).and_then(|()| std::fs::rename(&changed, &self.checkout));
        moved.map_err(|error| format!("{}: {error}", self.checkout.display()))
    }
}

/// Reads what a program left in the folder that all have in common.
pub(super) fn read_from_work(stand: &Stand, name: &str, most: u64) -> io::Result<Vec<u8>> {
    read_plain(&stand.programs.seen(&work_on(&stand.programs)).join(name), most)
}

fn work_on(programs: &Programs) -> PathBuf {
    programs.disk().join(WORK)
}

/// Links stay links, and holes holes.
async fn copy_all(from: &Path, to: &Path) -> Result<(), String> {
    let copied = Cmd::new("cp").args(["-a", "-T", "--"]).arg(from).arg(to).run_ok().await;
    copied.map(drop).map_err(|error| format!("copying the checkout for the hook that prepares it: {error}"))
}

/// Reads a stranger's file: no link is followed, nothing else than a file is opened for long, and it ends.
fn read_plain(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if metadata.len() > most {
        return Err(io::Error::other(format!("it has {} bytes; {most} are read at most", metadata.len())));
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Which limit was reached in between, in words.
fn reached(before: &Reached, after: &Reached, said: &str) -> Option<String> {
    let together = "hooks, tests and browsers of a run have together";
    if after.killed > before.killed {
        let words =
            format!("a process was killed for want of memory: {} are what {together}", size(LIMITS.memory));
        Some(words)
    } else if after.refused > before.refused {
        let words = format!(
            "it was refused more processes: {} of them, threads included, are what {together}",
            LIMITS.processes
        );
        Some(words)
    } else if after.disk_free < FULL || after.files_free == 0 || said.contains(NO_ROOM) {
        let words = format!(
            "its disk was full: {} for the work folder and /tmp are what {together}",
            size(LIMITS.disk)
        );
        Some(words)
    } else {
        None
    }
}

fn size(bytes: u64) -> String {
    format!("{} GiB", bytes >> 30)
}

#[cfg(test)]
mod tests {
    use super::{Reached, reached, read_plain};

    #[test]
    fn the_limit_that_was_reached_is_named() {
        let none = Reached { killed: 1, refused: 7, disk_free: 1 << 20, files_free: 9 };
        let told = |after: Reached, said: &str| reached(&none, &after, said).unwrap_or_default();
        assert_eq!(told(none, "all is well"), "");
        insta::assert_snapshot!(
            told(Reached { killed: 2, refused: 8, ..none }, ""),
            @"a process was killed for want of memory: 3 GiB are what hooks, tests and browsers of a run have together"
        );
        insta::assert_snapshot!(
            told(Reached { refused: 8, ..none }, ""),
            @"it was refused more processes: 1024 of them, threads included, are what hooks, tests and browsers of a run have together"
        );
        insta::assert_snapshot!(
            told(none, "dd: error writing 'x': No space left on device"),
            @"its disk was full: 1 GiB for the work folder and /tmp are what hooks, tests and browsers of a run have together"
        );
        assert!(told(Reached { disk_free: 0, ..none }, "").starts_with("its disk was full"));
        assert!(told(Reached { files_free: 0, ..none }, "").starts_with("its disk was full"));
    }

    #[test]
    fn what_a_stranger_left_is_read_if_it_is_a_file_and_not_too_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("picture"), "abc").unwrap();
        std::os::unix::fs::symlink("picture", path("link")).unwrap();
        assert_eq!(read_plain(&path("picture"), 3).unwrap(), b"abc");
        assert!(read_plain(&path("picture"), 2).unwrap_err().to_string().contains("2 are read at most"));
        assert!(read_plain(&path("link"), 9).is_err());
        assert_eq!(read_plain(folder.path(), 9).unwrap_err().to_string(), "it is no file");
    }
}
