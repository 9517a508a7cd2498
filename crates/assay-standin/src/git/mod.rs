//! The repository: a bare one in the private folder, served and read by the real `git`.
//!
//! Whoever changes a ref (a push, a merge, a deletion) holds [`Repository::change`] meanwhile, so what a push did can be
//! told by looking at the refs before and after it, and the record is exact however many push at once.

mod backend;
mod capture;
mod change;
mod pktline;

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use assay_model::Micros;
use assay_process::{Cmd, Output};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard, Semaphore};

pub(crate) use backend::{Call, Served};
pub(crate) use capture::About;
pub(crate) use change::Author;

use crate::{Config, Limits, PushPolicy, StandInError, Who, kept::Kept, workspace::Workspace};

/// The longest that one of the stand-in's own `git` commands may take.
const GIT_LIMIT: Duration = Duration::from_mins(1);
/// The most that one `git` process may allocate at once: an object that claims to be larger is refused by it.
const GIT_ALLOC_LIMIT: &str = "256m";
/// Stands for "no commit" on the wire.
pub(crate) const NONE: &str = "0000000000000000000000000000000000000000";

/// `$1` is the ref, `$2` its old and `$3` its new value. Git itself refuses what is not a fast-forward, before this.
const UPDATE_HOOK: &str = r#"#!/bin/sh
case "$1" in
    "$STANDIN_DEFAULT")
        [ "$STANDIN_MAY_DEFAULT" = true ] && exit 0
        echo "error: GH006: Protected branch update failed for $1." >&2
        exit 1 ;;
    refs/heads/* | refs/tags/*) ;;
    *)
        echo "error: only branches and tags can be pushed, not $1." >&2
        exit 1 ;;
esac
[ "$STANDIN_MAY_EXISTING" = true ] && exit 0
none=0000000000000000000000000000000000000000
{ [ "$2" = $none ] || [ "$3" = $none ]; } && exit 0
echo "error: $1 exists, and only new branches can be pushed." >&2
exit 1
"#;

/// One pushed ref.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Push {
    /// When it was taken or refused.
    pub at: Micros,
    /// The request.
    pub request: u64,
    /// The full name of the ref.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The commit before, as the client saw it; 40 zeros where there was none.
    pub old: String,
    /// The commit after; 40 zeros for a deletion.
    pub new: String,
    /// What was to be done.
    pub kind: PushKind,
    /// Whether it was.
    pub outcome: Outcome,
    /// The commits that the repository did not have before, oldest first. None for a refused push: Git keeps nothing of
    /// those.
    pub commits: Vec<Commit>,
    /// Older new commits that are not described ([`Limits::commits_per_push`]).
    pub commits_left_out: u64,
    /// Who pushed.
    pub by: Who,
    /// Labels of tokens that names and messages held. Files are not searched.
    pub leaks: Vec<String>,
}

/// What a push does to a ref.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PushKind {
    /// Makes it.
    Create,
    /// Moves it.
    Update,
    /// Deletes it.
    Delete,
}

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The repository has it.
    Applied,
    /// The repository does not have it; this is what the client was told.
    Refused(String),
}

/// One commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Its id: 40 hexadecimal digits.
    pub id: String,
    /// The commits it follows.
    pub parents: Vec<String>,
    /// Who wrote it.
    pub author: Person,
    /// Who committed it.
    pub committer: Person,
    /// The message, invalid UTF-8 replaced.
    pub message: String,
    /// What it changed against its first parent; nothing for an empty commit.
    pub files: Vec<Change>,
    /// Changed files that are not described ([`Limits::files_per_commit`]).
    pub files_left_out: u64,
}

/// Who wrote or made a commit, and when they say that it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The name.
    pub name: String,
    /// The e-mail address.
    pub email: String,
    /// The time, by that machine's clock.
    pub at: Micros,
    /// That machine's distance from UTC, as `+0200`.
    pub offset: String,
}

/// One file that a commit changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its path, invalid UTF-8 replaced.
    pub path: String,
    /// `A` added, `M` modified, `D` deleted, `T` changed its type.
    pub status: char,
    /// Its mode as Git writes it (`100644`, `100755`, `120000` symbolic link, `160000` submodule); `000000` when deleted.
    pub mode: String,
    /// Its size in bytes; `None` when deleted, or no file.
    pub size: Option<u64>,
}

/// One file of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeFile {
    /// Its path, invalid UTF-8 replaced.
    pub path: String,
    /// Its mode as Git writes it.
    pub mode: String,
    /// Its size in bytes; `None` for a submodule.
    pub size: Option<u64>,
    /// The id of its content.
    pub id: String,
}

/// The bare repository.
#[derive(Debug)]
pub(crate) struct Repository {
    folder: PathBuf,
    git_dir: PathBuf,
    pub(crate) default_branch: String,
    policy: PushPolicy,
    limits: Limits,
    change: Mutex<()>,
    processes: Semaphore,
}

impl Repository {
    /// Makes it, with the seed as the first commit of the default branch, or with what was kept of another one.
    pub(crate) async fn create(workspace: &Workspace, config: &Config) -> Result<Self, StandInError> {
        let repository = Self {
            folder: workspace.path().to_path_buf(),
            git_dir: workspace.join("repository.git"),
            default_branch: config.default_branch.clone(),
            policy: config.pushes,
            limits: config.limits,
            change: Mutex::new(()),
            processes: Semaphore::new(config.limits.git_processes.max(1)),
        };
        let init = repository
            .plain_git()
            .args(["init", "--quiet", "--bare", "--template=", "--object-format=sha1"])
            .arg(format!("--initial-branch={}", config.default_branch))
            .arg(repository.git_dir.as_os_str());
        done("making the repository", init.run_ok().await)?;
        fs::write(repository.git_dir.join("config"), repository.settings())
            .map_err(|source| workspace.failed(source))?;
        repository.install_hook(workspace).await?;
        match &config.kept {
            Some(kept) => Kept::new(kept).fill(&repository.git_dir)?,
            None => repository.seed(config).await?,
        }
        repository.prove_backend().await?;
        Ok(repository)
    }

    /// Where it is.
    pub(crate) fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// Held by whoever changes refs.
    pub(crate) async fn change(&self) -> MutexGuard<'_, ()> {
        self.change.lock().await
    }

    /// Waits until no request's `git` runs and lets no new one start, for at most `limit`.
    pub(crate) async fn settle(&self, limit: Duration) {
        let all = u32::try_from(self.limits.git_processes.max(1)).unwrap_or(u32::MAX);
        if let Ok(Ok(permits)) = tokio::time::timeout(limit, self.processes.acquire_many(all)).await {
            permits.forget();
        }
    }

    /// Every ref and its commit (or tag).
    pub(crate) async fn refs(&self) -> Result<BTreeMap<String, String>, StandInError> {
        let listed =
            self.run("listing the refs", ["for-each-ref", "--format=%(objectname) %(refname)"]).await?;
        let lines = listed.stdout_text();
        Ok(lines
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(id, name)| (name.to_owned(), id.to_owned()))
            .collect())
    }

    /// The commit of a branch.
    pub(crate) async fn branch(&self, name: &str) -> Result<Option<String>, StandInError> {
        Ok(self.refs().await?.remove(&format!("refs/heads/{name}")))
    }

    /// The files of a branch or commit, below a folder unless that is empty.
    pub(crate) async fn files(&self, reference: &str, under: &str) -> Result<Vec<TreeFile>, StandInError> {
        let commit = self.resolve(reference).await?;
        let under = under.trim_matches('/');
        let mut args = vec!["ls-tree", "-r", "-l", "-z", "--full-tree", commit.as_str(), "--"];
        if !under.is_empty() {
            args.push(under);
        }
        let doing = "listing the files of a tree";
        let listed = self.run(doing, args).await?;
        let entries = listed.stdout.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
        entries.map(|entry| tree_file(entry).ok_or_else(|| odd(doing, entry))).collect()
    }

    /// A file's content; `None` where the commit has no file of that path.
    pub(crate) async fn read(&self, reference: &str, path: &str) -> Result<Option<Vec<u8>>, StandInError> {
        let commit = self.resolve(reference).await?;
        let limit = self.limits.file_bytes;
        let doing = "reading a file";
        // The question goes in on standard input and ends with a zero, so no path can be taken for anything else.
        let question = format!("{commit}:{path}\0").into_bytes();
        if path.contains('\0') {
            return Ok(None);
        }
        let size = self.git().args(["cat-file", "--batch-check", "-z"]).stdin(question.clone());
        let size = done(doing, size.run_ok().await)?;
        let said = size.stdout_text();
        let mut words = said.trim_end().rsplit(' ');
        let (last, kind) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if kind != "blob" {
            return Ok(None);
        }
        let bytes: usize = last.parse().map_err(|_| odd(doing, &size.stdout))?;
        if bytes > limit {
            return Err(StandInError::TooLarge { path: path.to_owned(), limit });
        }
        let read = self
            .git()
            .args(["cat-file", "--batch", "-z"])
            .stdin(question)
            .max_output(limit.saturating_add(1024));
        let read = done(doing, read.run_ok().await)?;
        let start = read.stdout.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let content = start.and_then(|start| read.stdout.get(start..start + bytes));
        content.map(|content| Some(content.to_vec())).ok_or_else(|| odd(doing, &read.stdout))
    }

    /// How many commits `head` has that `base` has not.
    pub(crate) async fn ahead(&self, base: &str, head: &str) -> Result<u64, StandInError> {
        let doing = "counting commits";
        let counted = self.run(doing, ["rev-list", "--count", head, "--not", base, "--"]).await?;
        counted.stdout_text().trim().parse().map_err(|_| odd(doing, &counted.stdout))
    }

    /// The commit that a branch or a commit's id names.
    async fn resolve(&self, reference: &str) -> Result<String, StandInError> {
        let no_such = || StandInError::NoSuchRef { name: reference.to_owned() };
        if !is_id(reference) {
            return self.branch(reference).await?.ok_or_else(no_such);
        }
        let kind = self.git().args(["cat-file", "-t", reference]).run().await;
        let kind = done("looking for a commit", kind)?;
        if kind.stdout_text().trim() == "commit" { Ok(reference.to_owned()) } else { Err(no_such()) }
    }

    async fn run<A: Into<OsString>>(
        &self,
        doing: &'static str,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Output, StandInError> {
        done(doing, self.git().args(args).run_ok().await)
    }

    /// `git` on this repository.
    fn git(&self) -> Cmd {
        self.plain_git().arg("--git-dir").arg(self.git_dir.as_os_str())
    }

    /// `git` without anybody's configuration, name, pager or prompt.
    fn plain_git(&self) -> Cmd {
        self.environment(Cmd::new("git"))
    }

    fn environment(&self, cmd: Cmd) -> Cmd {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        cmd.env_clear()
            .env("PATH", path)
            .env("HOME", self.folder.join("home"))
            .env("TMPDIR", self.folder.join("spool"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOC_LIMIT", GIT_ALLOC_LIMIT)
            .cwd(&self.folder)
            .timeout(GIT_LIMIT)
    }

    fn settings(&self) -> String {
        format!(
            "[core]\n\trepositoryformatversion = 0\n\tbare = true\n\thooksPath = {hooks}\n\
             \tbigFileThreshold = 16m\n\tfsync = none\n\
             [http]\n\tuploadpack = true\n\treceivepack = true\n\
             [receive]\n\tfsckObjects = true\n\tdenyNonFastForwards = true\n\tdenyDeletes = false\n\
             \tunpackLimit = 1\n\tautogc = false\n\tmaxInputSize = {most}\n\
             [uploadpack]\n\tallowFilter = true\n\tallowReachableSHA1InWant = true\n\
             [gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n",
            hooks = config_value(&self.git_dir.join("hooks")),
            most = self.limits.push_bytes,
        )
    }

    /// Writes the hook, and proves that it runs and refuses: on a `noexec` mount Git would pass it over in silence.
    async fn install_hook(&self, workspace: &Workspace) -> Result<(), StandInError> {
        let failed = |source| workspace.failed(source);
        let hook = self.git_dir.join("hooks/update");
        fs::create_dir_all(self.git_dir.join("hooks")).map_err(failed)?;
        fs::write(&hook, UPDATE_HOOK).map_err(failed)?;
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        let no_exec = |source| StandInError::NoExec { folder: workspace.path().to_path_buf(), source };
        let tried = self.environment(Cmd::new(&hook)).args(["refs/heads/x", NONE, NONE]);
        tried.env("STANDIN_MAY_EXISTING", "true").run_ok().await.map_err(no_exec)?;
        Ok(())
    }

    /// A `git` without its HTTP backend is found now and not by the first client.
    async fn prove_backend(&self) -> Result<(), StandInError> {
        let doing = "asking `git http-backend` for the refs";
        let served = self.serve(&Call::probe()).await?;
        if served.status == 200 { Ok(()) } else { Err(odd(doing, served.status.to_string().as_bytes())) }
    }
}

/// A value in Git's configuration, quoted.
fn config_value(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""))
}

fn done(
    doing: &'static str,
    result: Result<Output, assay_process::ProcessError>,
) -> Result<Output, StandInError> {
    result.map_err(|source| StandInError::Git { doing, source })
}

fn odd(doing: &'static str, said: &[u8]) -> StandInError {
    let said = String::from_utf8_lossy(&said[..said.len().min(200)]).into_owned();
    StandInError::GitSaid { doing, said }
}

/// A full object id.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == NONE.len()
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// `MODE KIND ID    SIZE\tPATH`.
fn tree_file(entry: &[u8]) -> Option<TreeFile> {
    let tab = entry.iter().position(|byte| *byte == b'\t')?;
    let head = std::str::from_utf8(&entry[..tab]).ok()?;
    let mut words = head.split_ascii_whitespace();
    let (mode, _, id, size) = (words.next()?, words.next()?, words.next()?, words.next()?);
    Some(TreeFile {
        path: String::from_utf8_lossy(&entry[tab + 1..]).into_owned(),
        mode: mode.to_owned(),
        size: size.parse().ok(),
        id: id.to_owned(),
    })
}

/// `values` of several ids, as one question on standard input.
fn lines_of<'a>(ids: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    ids.into_iter().flat_map(|id| [id.as_bytes(), b"\n"].concat()).collect()
}

/// The sizes of objects by id, for the blobs among them.
type Sizes = HashMap<String, u64>;
