//! Runs a tool with the terminal handed through, and stops it when this chore is told to stop.
//!
//! Ctrl-C reaches the tool by itself, since it stays in the terminal's process group. SIGTERM reaches only us, so
//! it is passed on: otherwise a cancelled CI job would leave its tests running.

use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// Runs to the end; a tool that fails is an error that names the command.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let shown = show(&command);
    forget_our_package(&mut command);
    let status = status(command, &shown)?;
    if status.success() {
        return Ok(());
    }
    bail!("`{shown}` failed ({status})")
}

/// Runs quietly and returns what it printed; `None` when it is not installed or fails.
pub(crate) fn ask(program: &str, args: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(args).env("LC_ALL", "C.UTF-8");
    forget_our_package(&mut command);
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let envs = command.get_envs().filter_map(|(name, value)| {
        Some(format!("{}={}", name.to_string_lossy(), quoted(&value?.to_string_lossy())))
    });
    let program = std::path::Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program.to_string_lossy().into_owned())
        .chain(command.get_args().map(|argument| quoted(&argument.to_string_lossy())));
    envs.chain(words).collect::<Vec<_>>().join(" ")
}

/// `cargo xtask` tells us that we are the package xtask. Passed on, this makes other tools believe that they are:
/// cargo-machete then takes its own name for a folder.
fn forget_our_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let told_by_cargo = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_MANIFEST_")
                || name == "CARGO_PRIMARY_PACKAGE"
        });
        if told_by_cargo {
            command.env_remove(name);
        }
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_=./:,^+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

fn status(command: Command, shown: &str) -> Result<ExitStatus> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting")?;
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut child = tokio::process::Command::from(command).spawn().with_context(|| {
            format!("cannot start `{shown}`; `cargo xtask setup` installs what is needed")
        })?;
        tokio::select! {
            status = child.wait() => return Ok(status?),
            _ = interrupt.recv() => {}
            _ = term.recv() => pass_on(&child),
        }
        child.wait().await?;
        bail!("told to stop while `{shown}` ran")
    })
}

/// From now on a signal ends this program and whatever it has started, wherever it is in its work; each is told to end, and waited
/// for, so that what it brought up is taken down.
pub(crate) fn end_with_children() -> Result<()> {
    /// Longest time that a program may take for that.
    const GRACE: Duration = Duration::from_secs(90);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting")?;
    let (mut term, mut interrupt) = runtime.block_on(async {
        std::io::Result::Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
    })?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        eprintln!("stopping");
        for child in children() {
            let _ = kill_process(child, Signal::TERM);
        }
        let told = Instant::now();
        while !children().is_empty() && told.elapsed() < GRACE {
            std::thread::sleep(Duration::from_millis(100));
        }
        std::process::exit(130);
    });
    Ok(())
}

/// The programs that this one has started and that have not ended.
fn children() -> Vec<Pid> {
    let me = std::process::id().to_string();
    let all = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let of_mine = all.filter_map(|entry| {
        // `PID (NAME) STATE PARENT …`; a name may hold anything, also a bracket.
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let mut rest = stat.rsplit_once(") ")?.1.split(' ');
        let (state, parent) = (rest.next()?, rest.next()?);
        let pid = entry.file_name().to_str()?.parse().ok()?;
        (parent == me && state != "Z").then(|| Pid::from_raw(pid)).flatten()
    });
    of_mine.collect()
}

fn pass_on(child: &tokio::process::Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended in this moment, which is what we want.
        let _ = kill_process(pid, Signal::TERM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_as_one_would_type_it() {
        let mut command = Command::new("sh");
        command.args(["-c", "exit 3"]).env("CI", "1");
        let problem = run(command).expect_err("it fails").to_string();
        assert!(problem.starts_with("`CI=1 sh -c 'exit 3'` failed") && problem.contains('3'), "{problem}");
        run(Command::new("true")).expect("it works");
    }

    #[test]
    fn a_tool_does_not_believe_that_it_is_xtask() {
        // The test runner tells us, too.
        assert!(
            std::env::var_os("CARGO_PKG_NAME").is_some() && std::env::var_os("CARGO_MANIFEST_DIR").is_some()
        );
        let seen = ask("env", &[]).expect("it prints");
        assert!(
            !seen.contains("CARGO_PKG_") && !seen.contains("CARGO_MANIFEST_") && seen.contains("PATH="),
            "{seen}"
        );
    }

    #[test]
    fn what_was_started_is_known_until_it_has_ended() {
        let mut sleeping = Command::new("sleep").arg("60").spawn().expect("it starts");
        let pid = Pid::from_child(&sleeping);
        assert!(children().contains(&pid));
        sleeping.kill().expect("it runs");
        sleeping.wait().expect("its end is seen");
        assert!(!children().contains(&pid));
    }

    #[test]
    fn a_tool_that_is_not_there_is_named_with_what_to_do() {
        let problem = format!("{:#}", run(Command::new("assay-no-such-tool")).expect_err("not there"));
        assert!(problem.contains("assay-no-such-tool") && problem.contains("cargo xtask setup"), "{problem}");
        assert_eq!(ask("assay-no-such-tool", &[]), None);
        assert_eq!(ask("false", &[]), None);
        assert_eq!(ask("echo", &["yes"]).as_deref(), Some("yes\n"));
    }
}
