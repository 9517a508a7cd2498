//! `assay recipe`: app recipes.

mod ab;
mod children;
mod dev;
mod history;
mod images;
mod import;
mod inside;
mod lint;
mod proposals;
mod spec;
mod sweep;
mod test;

use anyhow::Result;
use clap::Subcommand;

use crate::exit::Exit;

pub(crate) use ab::Ab;
pub(crate) use sweep::Sweep;

/// Where Docker's own daemon is.
pub(crate) const DOCKER: &str = "/var/run/docker.sock";

#[derive(Subcommand)]
pub(crate) enum Recipe {
    /// Read a recipe and say what will go wrong with it, without deploying anything; the exit code is the answer
    Lint(lint::Lint),
    /// Deploy a recipe and deploy it again with every change, while it is written; nothing of it is a result
    Dev(dev::Dev),
    /// Print settings that were written for another system as an assay.toml; the exit code says whether all was carried over
    Import(import::Import),
    /// Test a recipe: install, upgrade, back up, restore, run its own tests, take it down; the exit code is the answer
    Test(Box<test::Test>),
    /// The images that are kept from registries: which, where, how much; and letting go of them
    Images(images::Images),
    /// Work for the runner outside of the machine that this is; the guest image starts it
    #[command(hide = true)]
    Inside(inside::Inside),
    /// Newer images than those that a recipe pins, and what its next release needs; nothing is written
    Proposals(proposals::Propose),
    /// All recipes that a server has tested, each with its latest run
    List(history::List),
    /// One recipe over time: its runs, what changed since it was green, and what is flaky
    Show(history::Show),
    /// What passed and failed with the same commit, build of Assay, configuration and images
    Flakes(history::Flakes),
}

impl Recipe {
    pub(crate) async fn run(self) -> Result<Exit> {
        match self {
            Self::Lint(lint) => lint.run().await,
            Self::Dev(dev) => Box::pin(dev.run()).await,
            Self::Import(import) => import.run(),
            Self::Test(test) => test.run().await,
            Self::Images(images) => images.run().await,
            Self::Inside(inside) => inside.run().await,
            Self::Proposals(propose) => propose.run().await,
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Flakes(flakes) => flakes.run().await,
        }
    }
}
