//! The memory test beside a plain copy of as much memory with as many threads, in turns.
//!
//! A copy is bound by nothing but the memory itself, so the ratio says how much of that the test leaves unused. Each
//! thread has hundreds of megabytes, so that no cache helps either.

use std::num::NonZero;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::Result;

use super::{Figure, Goal, PROFILE, measure as ask, number};
use crate::{place, tool};

/// More than any processor's caches hold.
const MIB: u32 = 1024;

pub(super) fn measure(rounds: u32) -> Result<Figure> {
    let mut build = Command::new(place::cargo());
    build
        .args(["build", "--profile", PROFILE, "-p", "assay-scan", "--example", "bench_memory"])
        .current_dir(place::repository());
    eprintln!("bench: {}", tool::show(&build));
    tool::run(build)?;
    let program = place::debug_builds().with_file_name(PROFILE).join("examples/bench_memory");
    let threads = available_parallelism().map_or(1, NonZero::get);
    let said = ask(&program, &[MIB.to_string(), threads.to_string(), rounds.to_string()].map(Into::into))?;
    let ratio = number(&said, "ratio")?;
    // One thread is bound by making the words, all of them together by the memory: more threads, better ratio.
    let goal = Goal::RatioAtLeast(0.3);
    Ok(Figure {
        name: "memory test, written and verified".into(),
        value: number(&said, "value")?,
        unit: "GB/s",
        peer: Some("copying as much memory with as many threads"),
        peer_value: Some(number(&said, "peer_value")?),
        ratio: Some(ratio),
        goal,
        ok: goal.is_met(f64::NAN, Some(ratio)),
        command: String::new(),
        note: format!("median of {rounds} rounds, {MIB} MiB, {threads} threads"),
    })
}
