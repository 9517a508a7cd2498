//! `assay`: one program for operators, the control plane and the runner.
//!
//! stdout is data, stderr is talk. Exit codes are a contract, listed in [`exit::Exit`].

mod client;
mod commands;
mod exit;
mod place;
mod ui;

use std::process::ExitCode;

use clap::Parser as _;

use crate::commands::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    ui::logging(cli.verbose, cli.command.is_daemon());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            ui::error(&anyhow::Error::new(e).context("starting"));
            return exit::Exit::Error.into();
        }
    };
    match runtime.block_on(cli.run()) {
        Ok(exit) => exit.into(),
        Err(problem) => {
            ui::error(&problem);
            exit::of(&problem).into()
        }
    }
}
