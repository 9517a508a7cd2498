//! The agent against a control plane over real TLS: what it says, what it survives, and how it ends.

mod ends;
mod machine;
mod outages;
mod plane;
mod process;
mod stages;

use std::path::Path;
use std::sync::Arc;

use assay_agent::{Agent, ExitReason};
use assay_api::agent::Command;
use tokio::task::JoinHandle;

use crate::machine::{Canned, Said, hurried};
use crate::plane::Plane;

/// An agent in this process.
struct Running {
    machine: Arc<Canned>,
    said: Said,
    task: JoinHandle<ExitReason>,
}

impl Running {
    fn start(plane: &Plane, dir: Option<&Path>) -> Self {
        let (machine, said) = (Arc::new(Canned::default()), Said::default());
        let task = tokio::spawn(Agent::run(hurried(plane, dir, &said), Arc::clone(&machine) as _));
        Self { machine, said, task }
    }

    async fn end(self) -> (ExitReason, Vec<String>) {
        (self.task.await.expect("it does not panic"), self.said.lines())
    }

    /// As a kill does it: nothing more is said or written.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.expect_err("it ran").is_cancelled());
    }
}

fn stage(name: &str, attempt: u32) -> Command {
    Command::Stage { stage: name.into(), attempt, generation: 8, timeout_s: 500, input: Box::default() }
}

fn shutdown() -> Command {
    Command::Shutdown { reason: "the run is over".to_owned() }
}
