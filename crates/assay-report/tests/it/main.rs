//! The crate as its users see it: one binary, so that the shared stories are compiled once.

mod bundle;
mod common;
mod keys;
mod matrix;
mod render;
mod report;
