//! Backs up a stack by its labels, restores it into a fresh one, and proves that the data came through.
//!
//! A backup that was never restored is a hope. So something that nobody else knows is put into everything that the labels cover
//! before it ([`plant`]): files into volumes, rows into databases. [`back_up`] does what the labels say, with real restic
//! ([`Store`]), and looks at what the hooks left ([`dump`]); [`restore()`] brings it into a stack that has none of it; [`compare()`]
//! says what came through.
//!
//! The volumes of a run's own daemon are folders on this machine ([`Site`]). What lies in them is a stranger's, and this
//! process is root: every path in there is walked from an open folder and no link is followed ([`folder`]), and restic sees
//! the volumes and nothing else of this machine.
//!
//! This crate knows nothing of runs, stages or verdicts: what is wrong with a recipe's backup is data ([`BackupFailure`],
//! [`RestoreFailure`], [`Comparison`]); a [`BackupError`] is this machine's trouble. Reading order: `site`, `witness`, `rows`,
//! `capture`, `restore`, `compare`.

mod capture;
mod compare;
pub mod dump;
mod error;
pub mod folder;
mod hooks;
mod manifest;
mod restore;
mod rows;
mod site;
mod store;
mod witness;

pub use capture::{Backup, BackupFailure, BackupOptions, Capture, CoveredPath, back_up};
pub use compare::{Comparison, FileChange, RowsComparison, WitnessComparison, WitnessState, compare};
pub use dump::{DumpCheck, DumpKind, DumpState};
pub use error::BackupError;
pub use hooks::{HookMoment, HookRun};
pub use manifest::{FileRecord, Manifest};
pub use restore::{Restore, RestoreFailure, RestoreOptions, RestoredPath, Stopped, restore};
pub use rows::{Database, DatabaseKind, RowsState, Setting, detect};
pub use site::{NotCovered, Site, UncoveredVolume};
pub use store::{Snapshot, Store, StoreStats};
pub use witness::{PlantedAt, PlantedEntry, PlantedFolder, PlantedRows, Planting, RESERVED, Witness, plant};
