//! The project's own chores, run as `cargo xtask <chore>`. Nothing here ships to users.

#![expect(
    clippy::disallowed_methods,
    reason = "build tooling starts build tools itself, with the terminal handed through; the product uses assay-process"
)]

mod assets;
mod bench;
mod boundaries;
mod chore;
mod demo;
mod live_image;
mod place;
mod providers;
mod scheduler;
mod schemas;
mod setup;
mod test;
mod tool;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Assay's own chores")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Installs what is missing to build, test and run Assay on Debian 12.
    Setup(setup::Setup),
    /// Runs everything that must hold before a change is good, in order.
    Test(test::Test),
    /// Vets two simulated machines before your eyes, one good and one broken.
    Demo(demo::Demo),
    /// Fetches and copies what the pages load in a browser; run it before building the server.
    Assets(assets::Assets),
    /// Fetches and bundles what recipes under test may depend on: an OpenID Connect provider.
    Providers(providers::Providers),
    /// Builds and checks the netbooted live image.
    LiveImage(live_image::LiveImage),
    /// Builds the system of the virtual machines that strangers' recipes are tested in.
    GuestImage(live_image::GuestImage),
    /// Writes the JSON schemas of what Assay reads and writes.
    Schemas(schemas::Schemas),
    /// Simulates the queue and writes the page about it, docs/reference/scheduler.md; a test holds it against the simulator.
    Scheduler,
    /// Measures the speeds that Assay promises.
    Bench(bench::Bench),
    /// Checks that no crate depends on one that it must not know.
    Boundaries,
}

fn main() -> ExitCode {
    match run(Cli::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<()> {
    match chore {
        Chore::Setup(options) => setup::run(&options),
        Chore::Test(options) => test::run(&options),
        Chore::Demo(options) => demo::run(&options),
        Chore::Assets(options) => assets::run(&options),
        Chore::Providers(options) => providers::run(&options),
        Chore::LiveImage(options) => live_image::run(&options),
        Chore::GuestImage(options) => live_image::run_guest(&options),
        Chore::Schemas(options) => schemas::run(&options),
        Chore::Scheduler => scheduler::run(),
        Chore::Bench(options) => bench::run(&options),
        Chore::Boundaries => boundaries::run(),
    }
}
