//! Does this image work on this machine? What finished runs have shown, per component and image.
//!
//! A machine is reduced to its [`Fingerprint`]: which kind of machine it is, never which one. A finished run over an
//! image on a machine is one [`Trial`] of every component of that fingerprint. A [`Cell`] is a fold of trials, so it
//! changes only with them; time alone makes it stale and nothing else. No trial is `unknown`, a state of its own.
//!
//! This is not [`crate::matrix`]: that one is the cases of one profile on virtual machines.

mod cell;
mod due;
mod fingerprint;
mod grid;
mod trial;

pub use cell::{Cell, CellState, cell};
pub use due::{Due, DueReason, Standing, due};
pub use fingerprint::{Component, ComponentKind, Fingerprint, Lacking, UnknownKind};
pub use grid::{Filter, Grid, Image, Machine, Row, current_images, grid, known_images};
pub use trial::{Outcome, Trial, TrialVerdict, UnknownTrialVerdict, outcome};

use crate::Micros;

/// Days after which evidence is stale unless the question says otherwise. A quarter: firmware, kernels and the parts on
/// the shelf have moved on by then, and a test takes less than an hour.
pub const MAX_AGE_DAYS: u32 = 90;

/// A number of days as a span of time.
pub const fn days(days: u32) -> Micros {
    Micros::seconds(days as i64 * 86_400)
}
