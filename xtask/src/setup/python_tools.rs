//! Programs from PyPI that tests talk to, in an environment of their own under `target/`.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{place, tool};

/// A program and the package that brings it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PythonTool {
    program: &'static str,
    package: &'static str,
    version: &'static str,
}

/// The peer of the Redfish power driver's tests. It has no Debian package.
const TOOLS: [PythonTool; 1] =
    [PythonTool { program: "sushy-emulator", package: "sushy-tools", version: "2.2.0" }];

impl fmt::Display for PythonTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} (Python)", self.package, self.version)
    }
}

/// Where their programs are; `cargo xtask test` puts this on PATH.
pub(crate) fn programs() -> PathBuf {
    environment().join("bin")
}

/// What is not installed.
pub(super) fn missing() -> Vec<PythonTool> {
    TOOLS.into_iter().filter(|tool| !programs().join(tool.program).exists()).collect()
}

/// Installs each one.
pub(super) fn install(tools: &[PythonTool]) -> Result<()> {
    for wanted in tools {
        eprintln!("setup: installing {wanted} into {}", environment().display());
        let mut make = Command::new("python3");
        make.args(["-m", "venv"]).arg(environment());
        tool::run(make)?;
        let mut install = Command::new(programs().join("pip"));
        install.args(["install", "--quiet", "--disable-pip-version-check"]);
        install.arg(format!("{}=={}", wanted.package, wanted.version));
        tool::run(install)?;
    }
    Ok(())
}

fn environment() -> PathBuf {
    place::repository().join("target/python")
}
