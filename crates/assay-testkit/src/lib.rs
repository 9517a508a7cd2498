//! What tests share. Fakes stand only at the world's edge: the clock, a machine's hardware, a power
//! switch, a receiver of notifications, a forge, a cluster that is asked about its members. Everything between them is the real thing: the real store,
//! the real engine, the real agent, the real server in its own process.
//!
//! Two levels. [`Bench`] drives the engine in this process, turn by turn, on a simulated clock and
//! without HTTP: every rule about time is tested there. [`ServerProcess`] is the real `assay serve`,
//! which can be killed and started again; [`FakeRunner`] switches its [`CannedMachine`]s on.
//!
//! What it is not: part of the product. Nothing outside of `[dev-dependencies]` may name it, and it
//! panics with a sentence where a product would return an error.

mod api;
mod bench;
pub mod canned;
mod clock;
mod cluster;
pub mod forge;
mod machine;
pub mod queue_simulator;
mod runner;
mod sealer;
mod server;
mod transcript;
mod webhook;

pub use api::{Answer, Api};
pub use assay_agent::{Agent, ExitReason};
pub use bench::{Bench, ScriptedAgent};
pub use clock::SimClock;
pub use cluster::ProxmoxCluster;
pub use forge::ForgeDouble;
pub use machine::{CannedMachine, Given, Said, hurried};
pub use runner::FakeRunner;
pub use sealer::TestSealer;
pub use server::{Ports, ServerProcess, free_ports};
pub use transcript::{kinds, lines};
pub use webhook::{Received, WebhookSink};

use std::time::Duration;

/// No test waits longer than this for anything that must happen.
pub const PATIENCE: Duration = Duration::from_mins(1);
