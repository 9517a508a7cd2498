//! `cargo xtask demo`: two simulated machines are vetted before your eyes by the whole product: one in good order,
//! which must pass, and one with a memory module missing and a disk swapped, which must be held.
//!
//! It uses the program as an operator would, and prints each command. Whatever happens, it leaves nothing running.

mod folder;
mod stack;
mod verdicts;
mod vet;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::chore::chore;
use crate::{assets, live_image, place, setup, tool};
use folder::Folder;
use stack::Stack;

/// Where everything lies; outside the checkout, which the control plane's user may not be able to enter.
const FOLDER: &str = "/var/tmp/assay-demo";

#[derive(Args)]
pub(crate) struct Demo {
    /// End after the two verdicts instead of waiting for Ctrl-C.
    #[arg(long)]
    exit: bool,
    /// The port of the web page.
    #[arg(long, default_value_t = 7300)]
    port: u16,
    /// Take the programs that are built, as they are: `cargo xtask test` has built them with everything else.
    #[arg(long, hide = true)]
    built: bool,
}

pub(crate) fn run(options: &Demo) -> Result<()> {
    if !place::is_root() {
        bail!("the demo makes a network for its machines, which needs root: sudo -E cargo xtask demo");
    }
    let folder = Folder::claim(Path::new(FOLDER))?;
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let runtime = tokio::runtime::Runtime::new().context("starting")?;
    runtime.block_on(stack::stop_leftover(&folder))?;
    // Before the minutes of building, and not after.
    refuse_taken(listen)?;
    prepare(options.built)?;
    folder.fill()?;
    runtime.block_on(show(options, &folder, listen))
}

/// Everything that takes long and leaves nothing running; Ctrl-C simply ends it.
fn prepare(built: bool) -> Result<()> {
    if built {
        return chore::<live_image::LiveImage>(&[], live_image::run);
    }
    chore::<setup::Setup>(&["--no-cargo-tools"], setup::run)?;
    chore::<assets::Assets>(&[], assets::run)?;
    let mut cargo = Command::new(place::cargo());
    cargo.args(["build", "-p", "assay", "-p", "assay-agent"]).current_dir(place::repository());
    eprintln!("demo: {}", tool::show(&cargo));
    tool::run(cargo)?;
    chore::<live_image::LiveImage>(&[], live_image::run)
}

async fn show(options: &Demo, folder: &Folder, listen: SocketAddr) -> Result<()> {
    // From here on a signal is heard by us, and nobody ends without cleaning up.
    let mut stop = Stop::listen()?;
    folder.clear()?;

    let mut stack = None;
    let outcome = tokio::select! {
        outcome = perform(options, folder, listen, &mut stack) => outcome,
        () = stop.told() => Err(anyhow::anyhow!("stopped before both verdicts were there")),
    };
    let outcome = match (outcome, options.exit) {
        (Ok(()), false) => {
            println!("\nCtrl-C stops the demo and removes its machines; the reports stay.");
            tokio::select! {
                () = stop.told() => Ok(()),
                ended = ended(&mut stack) => ended,
            }
        }
        (outcome, _) => outcome,
    };
    eprintln!("demo: stopping");
    let cleared = stack::clear(stack, folder).await;
    match (outcome, cleared) {
        (Ok(()), cleared) => cleared,
        (Err(problem), Ok(())) => Err(problem),
        (Err(problem), Err(left)) => Err(problem.context(format!("and the clean-up failed, too: {left:#}"))),
    }
}

/// The demo itself, up to the two verdicts.
async fn perform(
    options: &Demo,
    folder: &Folder,
    listen: SocketAddr,
    running: &mut Option<Stack>,
) -> Result<()> {
    let password = stack::random_password()?;
    // Kept outside before anything is waited for: who is stopped in the meantime must find it.
    let (stack, ready) = Stack::spawn(folder, listen, &password).await?;
    let stack = running.insert(stack);
    stack.ready(ready).await?;
    let verdicts = tokio::select! {
        verdicts = vet::both(folder) => verdicts?,
        problem = stack.ended() => return Err(problem),
    };
    println!("\n{verdicts}");
    println!("The reports    {}", folder.reports().display());
    if !options.exit {
        println!("The page       http://{listen}   name: operator   password: {password}");
        println!("\n{}", vet::look_around(folder, &verdicts));
    }
    verdicts.check()
}

async fn ended(stack: &mut Option<Stack>) -> Result<()> {
    match stack {
        Some(stack) => Err(stack.ended().await),
        None => bail!("nothing is running"),
    }
}

fn refuse_taken(listen: SocketAddr) -> Result<()> {
    match TcpListener::bind(listen) {
        Ok(_) => Ok(()),
        Err(e) => bail!(
            "{listen} cannot be used ({e}): is another server running there? Stop it, or choose another port with --port"
        ),
    }
}

/// Ctrl-C and SIGTERM, from now on.
struct Stop {
    term: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { term: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn told(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_refused_with_what_to_do() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let at = taken.local_addr().expect("an address");
        let problem = refuse_taken(at).expect_err("it is taken").to_string();
        assert!(problem.contains(&at.to_string()) && problem.contains("--port"), "{problem}");
        drop(taken);
        refuse_taken(at).expect("it is free again");
    }
}
