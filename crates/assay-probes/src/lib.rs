//! Hardware facts, read on the machine under test.
//!
//! Probes return data and raw output; they judge nothing. Everything is read below a
//! [`Machine`]'s root with tools found on its path, so that a test can stand a captured machine
//! in front of the same code.

mod block;
mod bmc;
pub mod bmc_sensors;
pub mod counters;
mod cpu;
pub mod ethtool;
mod files;
pub mod fio;
pub mod gpu;
pub mod hwmon;
mod inventory;
pub mod iperf;
pub mod load;
mod machine;
mod net;
mod pci;
mod settle;
pub mod smart;
mod smbios;
pub mod stress;
pub mod throttle;
mod tools;
pub mod wipe_probe;

pub use inventory::{Artifact, facts, inventory};
pub use machine::Machine;
pub use settle::settle;
pub use smbios::{Smbios, parse as parse_smbios};
