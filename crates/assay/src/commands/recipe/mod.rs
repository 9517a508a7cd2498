//! `assay recipe`: app recipes.

mod lint;

use anyhow::Result;
use clap::Subcommand;

use crate::exit::Exit;

#[derive(Subcommand)]
pub(crate) enum Recipe {
    /// Read a recipe and say what will go wrong with it, without deploying anything; the exit code is the answer
    Lint(lint::Lint),
}

impl Recipe {
    pub(crate) async fn run(self) -> Result<Exit> {
        match self {
            Self::Lint(lint) => lint.run().await,
        }
    }
}
