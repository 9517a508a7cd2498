//! Ten thousand simulated runs: nobody starves, waits are bounded, what hangs delays nobody, and the page says what was seen.

use std::collections::BTreeMap;
use std::path::Path;

use assay_model::{Micros, Priority};
use assay_testkit::queue_simulator::page::{RUNS, SEED, Simulations, page};
use assay_testkit::queue_simulator::{Load, Outcome, Rule, Tally, simulate};

/// With this set, the page is written instead of compared.
const WRITE: &str = "ASSAY_WRITE_PAGES";

#[test]
fn ten_thousand_runs_and_the_page_about_them() {
    let simulations = Simulations::of(RUNS, SEED);
    let all = |outcomes: &[Outcome]| outcomes.len() == simulations.load.jobs.len();
    assert!(all(&simulations.fair) && all(&simulations.fifo), "every run was started and came to its end");
    let (fair, fifo) =
        (Tally::of(&simulations.load, &simulations.fair), Tally::of(&simulations.load, &simulations.fifo));
    let people = "people, for pull requests";
    assert!(fair.all.p50 * 10.0 < fifo.all.p50, "{} s beside {} s", fair.all.p50, fifo.all.p50);
    assert!(fair.groups[people].p95 < fifo.groups[people].p95, "{fair:?}");
    assert!(fair.groups["people, quick"].p95 < 1800.0, "{fair:?}");
    assert!(fair.fairness > fifo.fairness, "{} beside {}", fair.fairness, fifo.fairness);
    assert!(fair.used > fifo.used - 0.02, "the fleet is as full: {} beside {}", fair.used, fifo.used);
    assert!(fair.lasted < fifo.lasted * 1.05, "{} s beside {} s", fair.lasted, fifo.lasted);

    // One run hangs for half a day, and a runner is silent for an hour.
    let (without, with) = simulations.beside_the_wedges();
    assert_eq!(with.all.runs, without.all.runs, "nobody is left behind");
    assert!(with.all.p50 < without.all.p50 + 1200.0, "{} s beside {} s", with.all.p50, without.all.p50);

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/scheduler.md");
    let text = page(&simulations);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    let stored = std::fs::read_to_string(&path).expect("the page is there");
    assert!(
        stored == text,
        "docs/reference/scheduler.md is out of date: run `cargo xtask scheduler`, and read what changed"
    );
}

/// What a run that is on its runner for ever would do to others, if it could.
#[test]
fn a_run_that_hangs_and_a_runner_that_is_silent_hold_up_nobody() {
    let load = Load::drawn(4000, 3).with_wedges();
    let outcomes = simulate(&load, Rule::Fair);
    assert_eq!(outcomes.len(), load.jobs.len());
    let hangs = load.wedged().expect("one does");
    let hang = outcomes.iter().find(|o| o.job == hangs).expect("it is stopped at last");
    assert!(hang.ended_at.since(hang.started_at) >= Micros::seconds(12 * 3600));
    let meanwhile = outcomes.iter().filter(|o| o.started_at > hang.started_at && o.ended_at < hang.ended_at);
    assert!(meanwhile.count() > 300, "others came and went all the time");
    let silence = &load.silences[0];
    let began = outcomes.iter().filter(|o| o.started_at >= silence.from && o.started_at < silence.until);
    let began: Vec<&Outcome> = began.collect();
    assert!(began.len() > 10, "and while a runner was silent: {}", began.len());
    assert!(began.iter().all(|o| o.runner != silence.runner || o.job == hangs), "none of them there");
}

/// More is asked for than the fleet can do, all the time, by people who go before sweeps: the sweeps' turn comes as well.
#[test]
fn what_nobody_waits_for_is_not_starved_by_more_than_the_fleet_can_do() {
    let mut load = Load::drawn(2500, 5);
    // Everything in half the time.
    let start = load.jobs[0].asked_at;
    for (place, job) in load.jobs.iter_mut().enumerate() {
        job.asked_at = Micros(start.0 + job.asked_at.since(start).0 / 2);
        if place % 20 == 0 {
            job.priority = Priority::Schedule;
            job.requester = "nightly".to_owned();
        }
    }
    let outcomes = simulate(&load, Rule::Fair);
    assert_eq!(outcomes.len(), load.jobs.len());
    let mut longest: BTreeMap<Priority, i64> = BTreeMap::new();
    for outcome in &outcomes {
        let job = &load.jobs[outcome.job];
        let hours = outcome.started_at.since(job.asked_at).0 / 3_600_000_000;
        let class = longest.entry(job.priority).or_default();
        *class = hours.max(*class);
    }
    let (people, sweeps) = (longest[&Priority::PullRequest], longest[&Priority::Schedule]);
    assert!(sweeps <= people + 6, "sweeps waited {sweeps} h at most, pull requests {people} h");
}
