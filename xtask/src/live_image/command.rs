//! Runs the build tools (apt, mmdebstrap, mksquashfs …) and turns a failure into a message that shows the
//! command and the end of what it said. Only for this chore; the product starts processes through `assay-process`.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// A command with an environment that does not depend on who builds.
pub(crate) fn tool(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("SOURCE_DATE_EPOCH", "0")
        .env_remove("APT_CONFIG")
        .stdin(Stdio::null());
    command
}

/// Runs to the end and returns stdout; an exit status other than 0 is an error that carries stderr's end.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let shown = show(command);
    let done = command
        .output()
        .with_context(|| format!("cannot start {shown}; is the package that has it installed?"))?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let mut said = String::from_utf8_lossy(&done.stderr).into_owned();
    if said.trim().is_empty() {
        said = String::from_utf8_lossy(&done.stdout).into_owned();
    }
    let lines: Vec<&str> = said.lines().collect();
    bail!("{shown}: {}\n{}", done.status, lines[lines.len().saturating_sub(25)..].join("\n"))
}

/// [`output`] as text.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&output(command)?).into_owned())
}

fn show(command: &Command) -> String {
    let mut shown = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        shown.push(' ');
        shown.push_str(&argument.to_string_lossy());
    }
    if let Some((end, _)) = shown.char_indices().nth(300) {
        shown.truncate(end);
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_command_and_what_it_said() {
        let error = text(tool("sh").args(["-c", "echo no disk >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("no disk") && error.contains('3'), "{error}");
        assert_eq!(text(tool("sh").args(["-c", "echo $LC_ALL"])).unwrap(), "C.UTF-8\n");
    }
}
