//! A child on a terminal of its own: what a person types goes in, what it shows comes out.
//!
//! The child leads a session, as a login shell does, so that its jobs are process groups of their own. All of the
//! session ends with the handle: first the line is hung up, as when somebody closes a window, then what is left is
//! killed. A daemon that made itself a session of its own is not followed.

use std::{io, process::ExitStatus, time::Duration};

use pty_process::{OwnedReadPty, OwnedWritePty, Pts, Pty};
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
    termios::{InputModes, LocalModes, OptionalActions, OutputModes, tcgetattr, tcsetattr},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{ProcessError, group::Group, procfs::of_session};

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// What a terminal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminalKind {
    /// For a person: what is typed is shown, and ^C interrupts.
    Interactive,
    /// For a command's output, which comes out byte for byte. Its standard input is empty.
    Output,
}

/// A child on a terminal. Its parts can be used beside each other.
#[derive(Debug)]
pub struct Terminal {
    /// What it shows.
    pub output: TerminalOutput,
    /// What is typed.
    pub input: TerminalInput,
    /// The child itself. Dropping it ends its session.
    pub process: TerminalProcess,
}

/// What a child shows on its terminal.
#[derive(Debug)]
pub struct TerminalOutput(OwnedReadPty);

/// The keyboard of a child's terminal.
#[derive(Debug)]
pub struct TerminalInput(OwnedWritePty);

/// A child that leads the session on a terminal. Dropping it kills the session.
#[derive(Debug)]
pub struct TerminalProcess {
    program: String,
    group: Group,
    /// Its end was seen and its jobs are killed. From then on the id may belong to somebody else.
    over: bool,
}

impl Terminal {
    pub(crate) fn new(program: String, group: Group, pty: Pty) -> Self {
        let (output, input) = pty.into_split();
        Self {
            output: TerminalOutput(output),
            input: TerminalInput(input),
            process: TerminalProcess { program, group, over: false },
        }
    }
}

impl TerminalOutput {
    /// Reads some of what it shows; 0 once nobody has the terminal any more. Safe to cancel.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into).await {
            // How Linux says that the other end is closed.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(0),
            other => other,
        }
    }
}

impl TerminalInput {
    /// Types.
    ///
    /// # Errors
    /// When nobody has the terminal any more.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Changes the size; programs on the terminal are told.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn resize(&self, size: Size) -> io::Result<()> {
        self.0.resize(pty_process::Size::new(size.rows, size.cols)).map_err(io_error)
    }
}

impl TerminalProcess {
    /// The id of the child, of its group and of its session.
    pub fn pid(&self) -> u32 {
        self.group.pid()
    }

    /// Waits for the child to end, then kills what it left in its session. Safe to cancel and call again.
    ///
    /// # Errors
    /// [`ProcessError::Io`] when waiting is impossible.
    pub async fn wait(&mut self) -> Result<ExitStatus, ProcessError> {
        let program = self.program.clone();
        let failed = |source| ProcessError::Io { program, doing: "waiting for it", source };
        let status = self.group.wait().await.map_err(failed)?;
        self.end();
        Ok(status)
    }

    /// Ends the session: SIGHUP, as when the line is cut, and SIGKILL for what is left after `grace`.
    ///
    /// # Errors
    /// [`ProcessError::Io`] when waiting is impossible.
    pub async fn hang_up(mut self, grace: Duration) -> Result<ExitStatus, ProcessError> {
        signal_session(self.pid(), Signal::HUP);
        if let Ok(status) = timeout(grace, self.wait()).await {
            return status;
        }
        self.end();
        self.wait().await
    }

    fn end(&mut self) {
        if !self.over {
            signal_session(self.pid(), Signal::KILL);
            self.over = self.group.ended().is_some();
        }
    }
}

impl Drop for TerminalProcess {
    fn drop(&mut self) {
        self.end();
    }
}

fn signal_session(session: u32, signal: Signal) {
    for pid in of_session(session) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // It may have ended in between.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Opens a terminal.
pub(crate) fn open(size: Size, kind: TerminalKind) -> io::Result<(Pty, Pts)> {
    let (pty, pts) = pty_process::open().map_err(io_error)?;
    pty.resize(pty_process::Size::new(size.rows, size.cols)).map_err(io_error)?;
    let mut modes = tcgetattr(&pts)?;
    match kind {
        // A letter that takes more than one byte is erased whole.
        TerminalKind::Interactive => modes.input_modes |= InputModes::IUTF8,
        TerminalKind::Output => {
            modes.output_modes -= OutputModes::OPOST;
            modes.local_modes -= LocalModes::ECHO;
        }
    }
    tcsetattr(&pts, OptionalActions::Now, &modes)?;
    Ok((pty, pts))
}

pub(crate) fn io_error(problem: pty_process::Error) -> io::Error {
    match problem {
        pty_process::Error::Io(error) => error,
        pty_process::Error::Rustix(error) => error.into(),
        other => io::Error::other(other.to_string()),
    }
}
