//! `cargo xtask setup`: installs what is missing, and says so before it does. Instant when nothing is.
//!
//! Debian 12 only: every version named in this project was measured there. On another system it lists what is
//! needed and leaves the installing to whoever runs that system.

mod cargo_tools;
mod debian;
pub(crate) mod python_tools;

use anyhow::{Result, bail};
use clap::Args;

#[derive(Args)]
pub(crate) struct Setup {
    /// Only say what is missing; exit 1 if anything is.
    #[arg(long)]
    check: bool,
    /// Leave out the cargo tools and the Python programs, which only `cargo xtask test` needs.
    #[arg(long)]
    no_cargo_tools: bool,
}

pub(crate) fn run(options: &Setup) -> Result<()> {
    let packages = debian::missing()?;
    let tools = if options.no_cargo_tools { Vec::new() } else { cargo_tools::missing() };
    let python = if options.no_cargo_tools { Vec::new() } else { python_tools::missing() };
    if packages.is_empty() && tools.is_empty() && python.is_empty() {
        eprintln!("setup: everything is there");
        return Ok(());
    }
    for package in &packages {
        eprintln!("setup: missing: {package}");
    }
    for tool in &tools {
        eprintln!("setup: missing: {tool}");
    }
    for tool in &python {
        eprintln!("setup: missing: {tool}");
    }
    if options.check {
        let count = packages.len() + tools.len() + python.len();
        bail!("{count} things are missing; `cargo xtask setup` installs them");
    }
    if !packages.is_empty() {
        debian::install(&packages)?;
    }
    python_tools::install(&python)?;
    cargo_tools::install(&tools)
}
