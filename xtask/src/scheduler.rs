//! `cargo xtask scheduler`: simulates ten thousand runs with the engine's own queue and writes what came out to
//! `docs/reference/scheduler.md`. The ordinary tests compare the page with the simulator, so a change of the queue's rules is
//! seen in figures before it is merged.

use std::process::Command;

use anyhow::Result;

use crate::{place, tool};

const PAGE: &str = "docs/reference/scheduler.md";

pub(crate) fn run() -> Result<()> {
    let mut simulate = Command::new(place::cargo());
    simulate
        .args(["run", "--package", "assay-testkit", "--example", "queue_simulator", "--", "page", PAGE])
        .current_dir(place::repository());
    eprintln!("scheduler: {}", tool::show(&simulate));
    tool::run(simulate)?;
    eprintln!("scheduler: wrote {PAGE}");
    Ok(())
}
