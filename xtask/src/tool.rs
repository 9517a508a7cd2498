//! Runs a tool with the terminal handed through, and stops it when this chore is told to stop.
//!
//! Ctrl-C reaches the tool by itself, since it stays in the terminal's process group. SIGTERM reaches only us, so
//! it is passed on: otherwise a cancelled CI job would leave its tests running.

use std::process::{Command, ExitStatus};

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
    fn a_tool_that_is_not_there_is_named_with_what_to_do() {
        let problem = format!("{:#}", run(Command::new("assay-no-such-tool")).expect_err("not there"));
        assert!(problem.contains("assay-no-such-tool") && problem.contains("cargo xtask setup"), "{problem}");
        assert_eq!(ask("assay-no-such-tool", &[]), None);
        assert_eq!(ask("false", &[]), None);
        assert_eq!(ask("echo", &["yes"]).as_deref(), Some("yes\n"));
    }
}
