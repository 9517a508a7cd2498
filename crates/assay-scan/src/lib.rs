//! The surface scan: proves every sector of a disk by writing it and reading it back.
//!
//! A crate of its own because it is the only place that moves bytes at the device's own rate, and the only one with
//! unsafe code (`io_uring` and two ioctls; see `uring.rs`). It knows nothing of runs, specs or verdicts: it is given a
//! device and the identity that this device must have, and says what it found. Judging that is somebody else's work.
//!
//! The order of use: [`Target::open`] claims a device and reads who it is, [`Opened::admit`] compares that with what
//! the caller demands, and [`scan()`] (or [`scan_all`], for several disks at once) does the rest:
//!
//! - everything is written before anything is verified, with data that name their own address ([`Pattern`]), so that
//!   a device with less room than it claims, misdirected and forgotten writes are found and told apart ([`Class`]);
//! - a request that fails is tried again in pieces, down to the sector that is bad, and the scan goes on;
//! - it can be killed at any moment and resumed from its last [`Checkpoint`];
//! - [`Zone`]s say how fast the device was where, and [`limit_probe`] how fast it can be.

mod checkpoint;
mod device;
mod engine;
mod examine;
mod findings;
mod identity;
mod limit;
pub mod memory;
mod pattern;
mod plan;
mod report;
mod scan;
mod target;
mod uring;
mod zones;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use findings::{BadRange, Class, Counts, Reread};
pub use identity::{ExpectedIdentity, Identity, IdentityError};
pub use limit::{DepthRate, OwnLimit, limit_probe};
pub use pattern::{Pattern, SECTOR, Seed, SeedError};
pub use plan::{Leave, PassKind, Plan};
pub use report::{Event, PassReport, Progress, ScanResult, Stall, Stop};
pub use scan::{Job, Options, ScanError, Work, scan, scan_all};
pub use target::{OpenError, Opened, Scannable, Target};
pub use zones::{Speed, Zone};
