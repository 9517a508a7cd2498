//! What `--from-phase` saves: the reference installer to its registration from the beginning, and from a snapshot.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::super::{Figure, Goal, median};
use super::Bench;
use crate::place;

/// At least so many times as fast.
const GOAL: Goal = Goal::RatioAtLeast(5.0);
/// Runs from the snapshot.
const ROUNDS: usize = 3;

pub(super) fn measure(bench: &Bench) -> Result<Figure> {
    let examples = place::repository().join("examples/images");
    let profile = fs::read_to_string(examples.join("reference.toml"))?;
    // QEMU keeps no machine with an NVMe disk while it runs; the other one is slower, as it was.
    let profile = profile.replace("bus = \"sata\"", "bus = \"sata\"\nrotational = true");
    let profile = bench.profile("late", &profile.replace("bus = \"nvme\"", "bus = \"sata\""))?;
    std::os::unix::fs::symlink(examples.join("cluster-nodes"), bench.folder.join("cluster-nodes"))
        .context("the files that the profile names")?;
    let until = ["--until", "Join"];
    let timed = |name: &str, more: &[&str]| {
        let began = Instant::now();
        bench.test(name, &bench.iso, &profile, &[&until, more].concat())?;
        anyhow::Ok(began.elapsed().as_secs_f64())
    };
    let from = ["--from-phase", "welcome"];
    // Whatever an earlier bench has left: this one makes the snapshot, if there is none.
    timed("late-first", &from)?;
    let whole = timed("late-whole", &[])?;
    let late =
        median((0..ROUNDS).map(|round| timed(&format!("late-{round}"), &from)).collect::<Result<_>>()?);
    let ratio = whole / late;
    Ok(Figure {
        name: "reference installer to its registration, from its last phase".to_owned(),
        value: late,
        unit: "s",
        peer: Some("from the beginning"),
        peer_value: Some(whole),
        ratio: Some(ratio),
        goal: GOAL,
        ok: GOAL.is_met(f64::NAN, Some(ratio)),
        command: String::new(),
        note: format!("median of {ROUNDS}; from the beginning once"),
    })
}
