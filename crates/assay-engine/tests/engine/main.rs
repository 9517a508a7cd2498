//! The engine with a simulated clock and scripted agents: runs as they live, fail, wait and die.
//!
//! Each test reads as a transcript of one run. At its end the journal is verified, folded anew, and
//! compared with the signed statement ([`Bench::check`]).

mod again;
mod again_ends;
mod boots;
mod compat;
mod decisions;
mod evidence;
mod gate;
mod hardware;
mod indoors;
mod install;
mod janitor;
mod liveness;
mod older_recipes;
mod orders;
mod outside;
mod queue;
mod restarts;

use assay_testkit::{Bench, canned};

/// What the run's journal says, as one text for a snapshot.
async fn story(bench: &Bench, run: assay_model::RunId) -> String {
    bench.lines(run).await.join("\n")
}

/// The canned machine with a wrong disk, as evidence.
fn wrong_disk() -> serde_json::Value {
    serde_json::to_value(canned::swapped_disk()).expect("plain data")
}
