//! `cargo xtask setup`: installs what is missing, and says so before it does. Instant when nothing is.
//!
//! Debian 12 only: every version named in this project was measured there. On another system it lists what is
//! needed and leaves the installing to whoever runs that system.

mod cargo_tools;
mod debian;

use anyhow::{Result, bail};
use clap::Args;

#[derive(Args)]
pub(crate) struct Setup {
    /// Only say what is missing; exit 1 if anything is.
    #[arg(long)]
    check: bool,
    /// Leave out the cargo tools, which only `cargo xtask test` needs.
    #[arg(long)]
    no_cargo_tools: bool,
}

pub(crate) fn run(options: &Setup) -> Result<()> {
    let packages = debian::missing()?;
    let tools = if options.no_cargo_tools { Vec::new() } else { cargo_tools::missing() };
    if packages.is_empty() && tools.is_empty() {
        eprintln!("setup: everything is there");
        return Ok(());
    }
    for package in &packages {
        eprintln!("setup: missing: {package}");
    }
    for tool in &tools {
        eprintln!("setup: missing: {tool}");
    }
    if options.check {
        bail!("{} things are missing; `cargo xtask setup` installs them", packages.len() + tools.len());
    }
    if !packages.is_empty() {
        debian::install(&packages)?;
    }
    cargo_tools::install(&tools)
}
