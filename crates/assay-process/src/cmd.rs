//! The builder: what to start, with what around it, and the three ways to start it.

use std::{
    ffi::{OsStr, OsString},
    fmt, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use process_wrap::tokio::{CommandWrap, KillOnDrop, ProcessGroup, ProcessSession};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::ChildStdin,
    task::JoinSet,
    time::timeout,
};

use crate::{
    Child, Detached, Output, ProcessError, Size, Terminal, TerminalKind,
    group::Group,
    output::{Collector, Keep, tail},
    resolve::find_on,
    terminal,
};

/// Kept per stream unless [`Cmd::max_output`] says otherwise.
const DEFAULT_CAP: usize = 16 * 1024 * 1024;
/// Between SIGTERM and SIGKILL when a time limit is reached.
const TIMEOUT_GRACE: Duration = Duration::from_secs(2);
/// How long output is still read after the end. Only a process that left the group can hold a pipe open then.
pub(crate) const DRAIN: Duration = Duration::from_secs(1);

/// A command to start. Cheap to clone, printable, and started as often as wanted.
#[derive(Clone, Debug)]
pub struct Cmd {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    env_cleared: bool,
    cwd: Option<PathBuf>,
    stdin: Option<Arc<[u8]>>,
    limit: Option<Duration>,
    netns: Option<String>,
    cap: usize,
}

impl Cmd {
    /// A command without arguments, time limit or input. A bare name is looked for on PATH and in `sbin`.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            env_cleared: false,
            cwd: None,
            stdin: None,
            limit: None,
            netns: None,
            cap: DEFAULT_CAP,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable. A `PATH` set here is also the one, and the only one, that the program is looked for on.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Starts from an empty environment (and `LC_ALL`) instead of this process's own.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.env_cleared = true;
        self
    }

    /// The working directory.
    #[must_use]
    pub fn cwd(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cwd = Some(folder.into());
        self
    }

    /// Bytes for standard input, which is closed after them. Without this, it is `/dev/null`.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(Arc::from(bytes.into()));
        self
    }

    /// The longest that [`Cmd::run`] waits before it stops the group. [`Cmd::spawn`] takes no notice of it.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Runs inside a named network namespace (`ip netns exec`); `None` changes nothing.
    #[must_use]
    pub fn netns(mut self, name: Option<&str>) -> Self {
        self.netns = name.map(str::to_owned);
        self
    }

    /// The same, started by another program: `PROGRAM ARGUMENTS… THIS`. That is what is looked for, then; see [`find_program`]
    /// for this one.
    ///
    /// [`find_program`]: crate::find_program
    #[must_use]
    pub fn started_by<A: Into<OsString>>(
        mut self,
        program: impl Into<OsString>,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        let own = std::mem::replace(&mut self.program, program.into());
        let before = args.into_iter().map(Into::into).chain([own]).collect::<Vec<_>>();
        self.args.splice(0..0, before);
        self
    }

    /// Bytes kept per stream by [`Cmd::run`]; 16 MiB unless set. More is read and dropped.
    #[must_use]
    pub fn max_output(mut self, bytes: usize) -> Self {
        self.cap = bytes;
        self
    }

    /// Runs to the end. A status other than 0 is not an error here: see [`Cmd::run_ok`].
    ///
    /// Dropping the future kills the group. Processes that the command leaves in its group are killed.
    ///
    /// # Errors
    /// [`ProcessError`] when it cannot be started or does not end in time.
    pub async fn run(&self) -> Result<Output, ProcessError> {
        let started = Instant::now();
        let mut group = self.start()?;
        let stdout = Arc::new(Collector::new(Keep::Head, self.cap));
        let stderr = Arc::new(Collector::new(Keep::Tail, self.cap));
        let mut readers = JoinSet::new();
        if let Some(pipe) = group.child().stdout().take() {
            readers.spawn(collect(pipe, Arc::clone(&stdout)));
        }
        if let Some(pipe) = group.child().stderr().take() {
            readers.spawn(collect(pipe, Arc::clone(&stderr)));
        }
        let _writer = self.feed(&mut group);

        let waited = match self.limit {
            Some(limit) => timeout(limit, group.wait()).await.map_err(|_| limit),
            None => Ok(group.wait().await),
        };
        let status = match waited {
            Ok(status) => status.map_err(|source| self.io("waiting for it", source))?,
            Err(after) => {
                group.stop(TIMEOUT_GRACE).await.map_err(|source| self.io("stopping it", source))?;
                drained(&mut readers).await;
                let program = self.program_name();
                return Err(ProcessError::Timeout { program, after, stderr_tail: tail(&stderr.take().0) });
            }
        };
        drained(&mut readers).await;
        let (stdout, stdout_truncated) = stdout.take();
        let (stderr, stderr_truncated) = stderr.take();
        let elapsed = started.elapsed();
        Ok(Output { status, stdout, stderr, stdout_truncated, stderr_truncated, elapsed })
    }

    /// As [`Cmd::run`]; a status other than 0 is [`ProcessError::Failed`].
    ///
    /// # Errors
    /// [`ProcessError`].
    pub async fn run_ok(&self) -> Result<Output, ProcessError> {
        let output = self.run().await?;
        if output.success() {
            return Ok(output);
        }
        Err(ProcessError::Failed {
            program: self.program_name(),
            code: output.code(),
            signal: output.signal(),
            stderr_tail: output.last_words(),
        })
    }

    /// Starts a supervised child whose output arrives as lines.
    ///
    /// # Errors
    /// [`ProcessError`] when it cannot be started.
    #[expect(
        clippy::unused_async,
        reason = "starting needs a runtime; an async signature makes that visible"
    )]
    pub async fn spawn(&self) -> Result<Child, ProcessError> {
        let mut group = self.start()?;
        let writer = self.feed(&mut group);
        Ok(Child::new(self.program_name(), group, writer))
    }

    /// Starts a process in its own session that outlives this one, its output appended to the file `log`.
    ///
    /// # Errors
    /// [`ProcessError`] when it cannot be started or the log cannot be opened.
    #[expect(
        clippy::unused_async,
        reason = "starting needs a runtime; an async signature makes that visible"
    )]
    pub async fn spawn_detached(&self, log: &Path) -> Result<Detached, ProcessError> {
        let open = || std::fs::OpenOptions::new().create(true).append(true).open(log);
        let log = open().map_err(|source| self.io("opening its log", source))?;
        let again = log.try_clone().map_err(|source| self.io("opening its log", source))?;
        let (mut wrap, path) = self.prepare()?;
        wrap.command_mut().stdin(Stdio::null()).stdout(log).stderr(again);
        wrap.wrap(ProcessSession);
        let child = wrap.spawn().map_err(|source| self.spawn_error(path, source))?;
        let pid =
            child.id().ok_or_else(|| self.io("reading its process id", io::Error::other("it has ended")))?;
        Detached::of(pid).map_err(|source| self.io("reading its start time", source))
    }

    /// Starts a child that leads a session of its own on a terminal of its own.
    ///
    /// # Errors
    /// [`ProcessError`] when it cannot be started or the system gives no terminal.
    #[expect(
        clippy::unused_async,
        reason = "starting needs a runtime; an async signature makes that visible"
    )]
    pub async fn spawn_terminal(&self, size: Size, kind: TerminalKind) -> Result<Terminal, ProcessError> {
        let (mut wrap, path) = self.prepare()?;
        let failed = |source| self.io("opening a terminal", source);
        let (pty, pts) = terminal::open(size, kind).map_err(failed)?;
        let std = wrap.command_mut().as_std();
        let mut command =
            pty_process::Command::new(std.get_program()).args(std.get_args()).kill_on_drop(true);
        if self.env_cleared {
            command = command.env_clear();
        }
        for (name, value) in std.get_envs() {
            command = match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = &self.cwd {
            command = command.current_dir(folder);
        }
        if kind == TerminalKind::Output {
            command = command.stdin(Stdio::null());
        }
        let child =
            command.spawn(pts).map_err(|problem| self.spawn_error(path, terminal::io_error(problem)))?;
        let group =
            Group::new(Box::new(child)).map_err(|source| self.io("reading its process id", source))?;
        Ok(Terminal::new(self.program_name(), group, pty))
    }

    fn start(&self) -> Result<Group, ProcessError> {
        let (mut wrap, path) = self.prepare()?;
        let input = if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        wrap.command_mut().stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        wrap.wrap(KillOnDrop).wrap(ProcessGroup::leader());
        let child = wrap.spawn().map_err(|source| self.spawn_error(path, source))?;
        Group::new(child).map_err(|source| self.io("reading its process id", source))
    }

    fn prepare(&self) -> Result<(CommandWrap, PathBuf), ProcessError> {
        let path_override =
            self.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
        let program = find_on(&self.program, path_override)?;
        let (file, before) = match &self.netns {
            None => (program.clone(), Vec::new()),
            Some(name) => {
                if !netns_exists(name) {
                    return Err(ProcessError::NoNamespace {
                        program: self.program_name(),
                        name: name.clone(),
                    });
                }
                let before = ["netns", "exec", name].map(OsString::from).to_vec();
                let before = before.into_iter().chain([program.clone().into_os_string()]).collect();
                (find_on(OsStr::new("ip"), None)?, before)
            }
        };
        let wrap = CommandWrap::with_new(file, |command| {
            command.args(before).args(&self.args);
            if self.env_cleared {
                command.env_clear();
            }
            command.env("LC_ALL", "C.UTF-8");
            command.envs(self.env.iter().map(|(name, value)| (name, value)));
            if let Some(folder) = &self.cwd {
                command.current_dir(folder);
            }
        });
        Ok((wrap, program))
    }

    /// Writes standard input in the background. A child that does not want all of it is not an error.
    fn feed(&self, group: &mut Group) -> JoinSet<()> {
        let mut writer = JoinSet::new();
        if let (Some(bytes), Some(pipe)) = (self.stdin.clone(), group.child().stdin().take()) {
            writer.spawn(write_all(pipe, bytes));
        }
        writer
    }

    fn program_name(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }

    fn spawn_error(&self, path: PathBuf, source: io::Error) -> ProcessError {
        ProcessError::Spawn { program: self.program_name(), path, source }
    }

    fn io(&self, doing: &'static str, source: io::Error) -> ProcessError {
        ProcessError::Io { program: self.program_name(), doing, source }
    }
}

/// The command as one would type it, for transcripts. Input and environment are left out: they may be secret.
impl fmt::Display for Cmd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.netns {
            write!(formatter, "ip netns exec {name} ")?;
        }
        formatter.write_str(&quoted(&self.program))?;
        self.args.iter().try_for_each(|arg| write!(formatter, " {}", quoted(arg)))
    }
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn netns_exists(name: &str) -> bool {
    !name.is_empty()
        && !name.contains('/')
        && ["/run/netns", "/var/run/netns"].iter().any(|folder| Path::new(folder).join(name).exists())
}

async fn collect(mut pipe: impl AsyncRead + Unpin, into: Arc<Collector>) {
    let mut buffer = vec![0; 64 * 1024];
    // A read error on a pipe means that there is nothing more to read.
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        into.push(&buffer[..count]);
    }
}

async fn write_all(mut pipe: ChildStdin, bytes: Arc<[u8]>) {
    if let Err(error) = pipe.write_all(&bytes).await {
        tracing::debug!(%error, "a child closed its standard input before reading all of it");
    }
}

async fn drained(readers: &mut JoinSet<()>) {
    let all = async { while readers.join_next().await.is_some() {} };
    if timeout(DRAIN, all).await.is_err() {
        tracing::debug!("a process that left its group still holds the output pipe; reading stopped");
    }
}

#[cfg(test)]
mod tests {
    use super::Cmd;

    #[test]
    fn a_command_prints_as_one_would_type_it() {
        let cmd = Cmd::new("sh").args(["-c", "echo it's"]).netns(Some("lab")).env("TOKEN", "secret");
        assert_eq!(cmd.to_string(), r"ip netns exec lab sh -c 'echo it'\''s'");
        let cmd = Cmd::new("true").arg("-x").started_by("nice", ["-n", "5"]).started_by("env", ["-i"]);
        assert_eq!(cmd.to_string(), "env -i nice -n 5 true -x");
    }
}
