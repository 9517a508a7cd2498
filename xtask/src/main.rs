//! The project's own chores, run as `cargo xtask <chore>`. Nothing here ships to users.

mod assets;
mod live_image;

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
    /// Fetches and copies what the pages load in a browser; run it before building the server.
    Assets(assets::Assets),
    /// Builds and checks the netbooted live image.
    LiveImage(live_image::LiveImage),
}

fn main() -> Result<()> {
    match Cli::parse().chore {
        Chore::Assets(options) => assets::run(&options),
        Chore::LiveImage(options) => live_image::run(&options),
    }
}
