//! Cargo subcommands from crates.io that `cargo xtask test` uses.

use std::fmt;
use std::process::Command;

use anyhow::Result;

use crate::{place, tool};

/// A cargo subcommand with the oldest version that will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CargoTool {
    subcommand: &'static str,
    at_least: [u64; 3],
    /// What cargo is asked for; a range, since a tool's next breaking release may read our settings differently.
    wanted: &'static str,
}

const TOOLS: [CargoTool; 3] = [
    CargoTool { subcommand: "nextest", at_least: [0, 9, 100], wanted: "^0.9.100" },
    CargoTool { subcommand: "deny", at_least: [0, 20, 0], wanted: "^0.20" },
    CargoTool { subcommand: "machete", at_least: [0, 9, 0], wanted: "^0.9" },
];

impl fmt::Display for CargoTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cargo-{} {}", self.subcommand, self.wanted)
    }
}

/// What is not installed, or too old.
pub(super) fn missing() -> Vec<CargoTool> {
    TOOLS.into_iter().filter(|tool| !tool.is_installed()).collect()
}

/// Compiles each one; cargo shows its own progress.
pub(super) fn install(tools: &[CargoTool]) -> Result<()> {
    for wanted in tools {
        eprintln!("setup: compiling {wanted}; this takes minutes, once");
        let mut install = Command::new(place::cargo());
        install.args([
            "install",
            "--locked",
            &format!("cargo-{}", wanted.subcommand),
            "--version",
            wanted.wanted,
        ]);
        // The tools are not part of this workspace's build.
        install.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
        tool::run(install)?;
    }
    Ok(())
}

impl CargoTool {
    fn is_installed(self) -> bool {
        let cargo = place::cargo();
        let said = tool::ask(&cargo.to_string_lossy(), &[self.subcommand, "--version"]);
        said.as_deref().and_then(version).is_some_and(|found| found >= self.at_least)
    }
}

/// The first word that is a version: some print their name before it, some do not.
fn version(said: &str) -> Option<[u64; 3]> {
    said.split_whitespace().find_map(|word| {
        let mut numbers = word.split('-').next()?.split('.').map(|part| part.parse().ok());
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(major), Some(minor), Some(patch), None) => Some([major?, minor?, patch?]),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_tools_print_them() {
        assert_eq!(
            version("cargo-nextest 0.9.143 (60fa45f63 2026-08-04)\nrelease: 0.9.143"),
            Some([0, 9, 143])
        );
        assert_eq!(version("0.9.1\n"), Some([0, 9, 1]));
        assert_eq!(version("cargo-deny 0.20.0-rc1"), Some([0, 20, 0]));
        assert_eq!(version("no version here, only 7.x"), None);
    }

    #[test]
    fn a_tool_that_is_not_there_is_missing() {
        let tool = CargoTool { subcommand: "assay-no-such-tool", at_least: [0, 0, 1], wanted: "*" };
        assert!(!tool.is_installed());
        let tool = CargoTool { subcommand: "clippy", at_least: [9999, 0, 0], wanted: "*" };
        assert!(!tool.is_installed(), "it is older than that");
        let tool = CargoTool { subcommand: "clippy", at_least: [0, 1, 0], wanted: "*" };
        assert!(tool.is_installed());
    }
}
