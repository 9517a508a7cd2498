//! The program inside the live image, on the machine under test.
//!
//! It exchanges the boot token for a credential, asks what to do, gathers evidence, reads the sensors all the
//! while, and delivers everything it has seen exactly in order, whatever happens to the network, to the control
//! plane or to itself. It judges nothing and decides nothing.
//!
//! Reading order: [`Agent`] (what runs beside what), `session` (enrolment), `stages` (commands), `spool` and
//! `deliver` (nothing is lost), `client` and `tls` (the wire).

mod agent;
mod backoff;
mod checkpoint;
mod client;
mod clock;
mod collector;
mod console;
mod deliver;
mod heartbeat;
mod kmsg;
mod machine;
mod post_mortem;
mod session;
mod settings;
mod shell;
mod shipping;
mod sidecar;
mod spool;
mod stages;
mod tls;

pub use agent::{Agent, Enrolled, ExitReason};
pub use collector::{Collector, Evidence, Identity, Readings, Task};
pub use machine::MachineCollector;
pub use settings::{BootSettings, Bounds, Pacing, Settings, SettingsError};
