//! What a recipe's runs come to over time. Everything here is pure: [`Results`] folds one run, the rest compares and counts them.

pub mod ab;
pub mod changed;
pub mod drift;
pub mod flakes;
pub mod kept;
pub mod results;
pub mod sweep;

pub use changed::{Aspect, Change, SinceGreen, Values};
pub use flakes::{Flake, flakes};
pub use results::{Results, SCHEMA};

#[cfg(test)]
mod sample;
