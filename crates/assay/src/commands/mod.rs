//! The subcommands: one file each.

mod again;
mod batch;
mod digest;
mod doctor;
mod follow;
mod forge;
mod gate;
mod guests;
mod history;
mod host;
mod image;
mod janitor;
mod key;
mod lab;
mod local;
mod matrix;
mod notify;
mod operator;
mod out;
mod prove;
mod queue;
mod recipe;
mod registries;
mod report;
mod reproduce;
mod run;
mod runner;
mod schedule;
mod serve;
mod shell;
mod token;
mod up;
mod verify;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::Client;
use crate::exit::Exit;
use crate::place;

/// Proves infrastructure before anyone trusts it.
#[derive(Parser)]
#[command(name = "assay", version, about, propagate_version = true)]
pub(crate) struct Cli {
    /// Say more.
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Start control plane and runner together on this machine (as root)
    Up(up::Up),
    /// Start the control plane (without privileges)
    Serve(serve::Serve),
    /// Start a runner (with privileges)
    Runner(runner::Runner),
    /// Say what works on this machine, and what to do about what does not
    Doctor(doctor::Doctor),
    /// Registered machines
    #[command(subcommand)]
    Host(host::Host),
    /// Installer images: tested end to end without a USB stick
    #[command(subcommand)]
    Image(image::Image),
    /// App recipes
    #[command(subcommand)]
    Recipe(recipe::Recipe),
    /// Two builds of Assay at two commits of a recipe: which of them is to blame for a red run?
    Ab(Box<recipe::Ab>),
    /// Test many recipes and hold them against a baseline
    Sweep(Box<recipe::Sweep>),
    /// Runs and decisions about them
    #[command(subcommand)]
    Run(run::Run),
    /// Do a run again from its evidence, on this machine: the same recipe, tests and settings by digest
    Reproduce(Box<reproduce::Reproduce>),
    /// Forges: which repositories are listened to, and what was asked in pull requests
    #[command(subcommand)]
    Forge(forge::Forge),
    /// The queue: what runs, what waits and why, and letting nothing start
    #[command(subcommand)]
    Queue(queue::Queue),
    /// What is tested again by itself, and when
    #[command(subcommand)]
    Schedule(schedule::Schedule),
    /// Many targets that are tested again, some at a time: `assay host vet --all`
    #[command(subcommand)]
    Batch(batch::Batch),
    /// Which image works on which machine, and what is to be tested again
    Matrix(matrix::Matrix),
    /// What a week has brought: what was proven, what is red, what drifted, what waits for somebody
    Digest(digest::Digest),
    /// Ask whether a machine may go back to work; the exit code is the answer
    #[command(subcommand)]
    Gate(gate::Gate),
    /// Fetch a run's report or evidence bundle
    Report(report::Report),
    /// Check an evidence bundle offline: chain, digests, signature
    Verify(verify::Verify),
    /// Print the public key that verdicts are signed with, for `assay verify --key`
    Key(key::Key),
    /// Prove the checks: break machines on purpose and see each check go red
    Prove(prove::Prove),
    /// Simulated machines
    #[command(subcommand)]
    Lab(lab::Lab),
    /// Notifications: who is told what happens
    #[command(subcommand)]
    Notify(notify::Notify),
    /// What is thrown away, and when
    #[command(subcommand)]
    Janitor(janitor::Janitor),
    /// The people who may sign in, and what each may do
    #[command(subcommand)]
    Operator(operator::Operator),
    /// API tokens
    #[command(subcommand)]
    Token(token::Token),
    /// Connect a unix socket to stdin and stdout: how a machine under test reaches its control plane
    #[command(hide = true)]
    Relay(image::Relay),
    /// Print shell completions
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Whether the command keeps running and talks while it does.
    pub(crate) const fn is_daemon(&self) -> bool {
        matches!(self, Self::Up(_) | Self::Serve(_) | Self::Runner(_))
    }
}

/// How to reach the server, and how to print.
#[derive(Args, Clone, Debug)]
pub(crate) struct Remote {
    /// The server; read from the data folder without it.
    #[arg(long, env = "ASSAY_SERVER")]
    server: Option<String>,
    /// An API token; read from the data folder without it.
    #[arg(long, env = "ASSAY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The data folder of a server on this machine.
    #[arg(long, env = "ASSAY_DATA", default_value_os_t = place::default_data())]
    data: PathBuf,
    /// Print JSON on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Remote {
    /// Where the server is.
    pub(crate) fn server(&self) -> Result<String> {
        Ok(match &self.server {
            Some(server) => server.clone(),
            None => format!("http://{}", place::Addresses::read(&self.data)?.operators),
        })
    }

    pub(crate) fn client(&self) -> Result<Client> {
        let server = self.server()?;
        let token = match &self.token {
            Some(token) => token.clone(),
            None => place::token(&self.data, "cli")?,
        };
        Client::new(&server, &token)
    }
}

impl Cli {
    pub(crate) async fn run(self) -> Result<Exit> {
        match self.command {
            Command::Up(up) => up.run().await,
            Command::Serve(serve) => serve.run().await,
            Command::Runner(runner) => Box::pin(runner.run()).await,
            Command::Doctor(doctor) => doctor.run().await,
            Command::Host(host) => host.run().await,
            Command::Image(image) => image.run().await,
            Command::Recipe(recipe) => recipe.run().await,
            Command::Ab(ab) => ab.run().await,
            Command::Sweep(sweep) => sweep.run().await,
            Command::Relay(relay) => relay.run().await,
            Command::Run(run) => run.run().await,
            Command::Reproduce(reproduce) => Box::pin(reproduce.run()).await,
            Command::Forge(forge) => forge.run().await,
            Command::Queue(queue) => queue.run().await,
            Command::Schedule(schedule) => schedule.run().await,
            Command::Batch(batch) => batch.run().await,
            Command::Matrix(matrix) => matrix.run().await,
            Command::Digest(digest) => digest.run().await,
            Command::Gate(gate) => gate.run().await,
            Command::Janitor(janitor) => janitor.run().await,
            Command::Operator(operator) => operator.run().await,
            Command::Report(report) => report.run().await,
            Command::Verify(verify) => verify.run(),
            Command::Key(key) => key.run().await,
            Command::Prove(prove) => prove.run().await,
            Command::Lab(lab) => lab.run().await,
            Command::Notify(notify) => notify.run().await,
            Command::Token(token) => token.run().await,
            Command::Completions { shell } => {
                clap_complete::generate(shell, &mut Self::command(), "assay", &mut std::io::stdout());
                Ok(Exit::Ok)
            }
        }
    }
}

/// Resolves on Ctrl-C, SIGTERM, or when the terminal is closed.
pub(crate) async fn told_to_stop() {
    let listen = |kind| signal(kind).ok();
    let (mut term, mut hangup) = (listen(SignalKind::terminate()), listen(SignalKind::hangup()));
    let heard = async |signal: &mut Option<Signal>| match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = heard(&mut term) => {}
        () = heard(&mut hangup) => {}
    }
}
