//! The one way to start and stop a child process.
//!
//! Assay drives dozens of tools (dnsmasq, QEMU, smartctl, git …). Each start has the same traps: a child that
//! forks and leaves grandchildren behind, a full pipe that deadlocks both sides, a tool that hangs, a tool that
//! is not installed, output without end, a locale that changes what is parsed. They are handled here, once:
//!
//! - every child leads its own process group, and the whole group is stopped with it;
//! - a dropped future or [`Child`] kills the group;
//! - output is always drained, and kept only up to a cap that says when it was reached;
//! - a missing program is an error that names the Debian package to install;
//! - the locale is `C.UTF-8` unless the caller sets another.
//!
//! Four ways to start: [`Cmd::run`] for a command with an end, [`Cmd::spawn`] for a supervised service that
//! talks in lines, [`Cmd::spawn_terminal`] for what wants a terminal, [`Cmd::spawn_detached`] for what must outlive
//! this process.
//!
//! What nobody vouches for is started in a [`Sandbox`].
//!
//! Not covered: if this process itself is killed with SIGKILL, its children live on; finding them again is the
//! janitor's work.

mod child;
mod cmd;
mod detached;
mod error;
mod group;
mod output;
mod procfs;
mod resolve;
mod sandbox;
mod terminal;

pub use child::{Child, Line, Stream};
pub use cmd::Cmd;
pub use detached::Detached;
pub use error::ProcessError;
pub use output::Output;
pub use resolve::{find_program, package_of};
pub use rustix::process::Signal;
pub use sandbox::{SANDBOX_PATH, Sandbox};
pub use terminal::{Size, Terminal, TerminalInput, TerminalKind, TerminalOutput, TerminalProcess};
