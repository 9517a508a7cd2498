//! The queue's simulator as a program: prints `docs/reference/scheduler.md`, or with `bench` how long one look takes.
//!
//! Run by `cargo xtask scheduler` and `cargo xtask bench`. The bench prints one JSON object, times in milliseconds.

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use assay_engine::queue::{self, Place, Policy, Snapshot, Used, Waiting};
use assay_testkit::queue_simulator::page::{RUNS, SEED, Simulations, page};
use assay_testkit::queue_simulator::{Load, START};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        None | Some("page") => {
            let text = page(&Simulations::of(RUNS, SEED));
            match args.next() {
                Some(file) => std::fs::write(file, text)?,
                None => print!("{text}"),
            }
        }
        Some("bench") => {
            let rounds = args.next().map_or(Ok(9), |n| n.parse())?;
            let sizes: BTreeMap<String, f64> =
                [2500, 5000, 10_000, 20_000].map(|n| (n.to_string(), look(n, rounds))).into();
            println!("{}", json!({ "value": sizes["10000"], "sizes": sizes, "rounds": rounds }));
        }
        Some(other) => return Err(format!("`{other}`: say `page [FILE]` or `bench [ROUNDS]`").into()),
    }
    Ok(())
}

/// The median time of one look at so many waiting runs, in milliseconds, with the runners as full as they get.
fn look(waiting: usize, rounds: usize) -> f64 {
    let load = Load::drawn(waiting + 100, SEED);
    let mut queued: Vec<Waiting> = load.waiting().collect();
    let (used, policy) = (Used::default(), Policy::default());
    let mut holding = Vec::new();
    let now = load.jobs.last().map_or(START, |job| job.asked_at);
    let snapshot =
        Snapshot { offers: &load.offers, holding: &holding, waiting: &queued, used: &used, policy: &policy };
    let started: BTreeMap<_, _> = queue::decide(&snapshot, now).into_iter().collect();
    let mut rest = Vec::new();
    for (run, job) in queued.drain(..).zip(&load.jobs) {
        match &started[&run.id] {
            Place::Admit { runner } => holding.push(job.holding(&run, runner, now)),
            Place::Wait(_) => rest.push(run),
        }
    }
    rest.truncate(waiting);
    let snapshot =
        Snapshot { offers: &load.offers, holding: &holding, waiting: &rest, used: &used, policy: &policy };
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let begun = Instant::now();
            black_box(queue::decide(black_box(&snapshot), now));
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
