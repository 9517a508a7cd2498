//! `cargo xtask test`: everything that must hold before a change is good, in one order, on any machine.
//!
//! `.ci/run` is this and nothing else, so that what CI says can be had at home. Each step is a command that one
//! could type; its output is shown as it comes, and a table at the end says what ran and how long it took.

mod steps;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use clap::builder::PossibleValuesParser;

use steps::{STEPS, Step};

#[derive(Args)]
pub(crate) struct Test {
    /// Leave out the steps that boot machines.
    #[arg(long)]
    fast: bool,
    /// Only this step; may be given more than once. The order stays.
    #[arg(long, value_name = "STEP", value_parser = PossibleValuesParser::new(STEPS.iter().map(|step| step.name)))]
    only: Vec<String>,
    /// Go on after a step that failed; the exit status stays 1.
    #[arg(long)]
    keep_going: bool,
    /// Say which steps there are.
    #[arg(long)]
    list: bool,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Ok(Duration),
    Failed(Duration, String),
    /// A step before it failed.
    NotRun,
}

pub(crate) fn run(options: &Test) -> Result<()> {
    let steps = selected(&STEPS, &options.only, options.fast);
    if options.list {
        for step in steps {
            println!("{:<12} {}", step.name, step.what);
        }
        return Ok(());
    }
    let outcomes = run_all(&steps, options.keep_going);
    println!("\n{}", table(&steps, &outcomes));
    let failed: Vec<&str> = steps
        .iter()
        .zip(&outcomes)
        .filter(|(_, outcome)| matches!(outcome, Outcome::Failed(..)))
        .map(|(step, _)| step.name)
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{} failed; again with `cargo xtask test --only {}`", failed.join(", "), failed.join(" --only "))
}

fn selected(steps: &'static [Step], only: &[String], fast: bool) -> Vec<&'static Step> {
    let wanted = |step: &&Step| only.is_empty() || only.iter().any(|name| name == step.name);
    steps.iter().filter(wanted).filter(|step| !(fast && step.boots_machines)).collect()
}

fn run_all(steps: &[&Step], keep_going: bool) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        if !keep_going && matches!(outcomes.last(), Some(Outcome::Failed(..) | Outcome::NotRun)) {
            outcomes.push(Outcome::NotRun);
            continue;
        }
        eprintln!("\n==== {} ({} of {}): {}", step.name, index + 1, steps.len(), step.what);
        let started = Instant::now();
        let result = (step.run)();
        let took = started.elapsed();
        outcomes.push(match result {
            Ok(()) => {
                eprintln!("==== {}: ok, {:.1} s", step.name, took.as_secs_f64());
                Outcome::Ok(took)
            }
            Err(problem) => {
                eprintln!("==== {}: FAILED, {:.1} s: {problem:#}", step.name, took.as_secs_f64());
                Outcome::Failed(took, format!("{problem:#}"))
            }
        });
    }
    outcomes
}

fn table(steps: &[&Step], outcomes: &[Outcome]) -> String {
    let mut table = format!("{:<12} {:<8} {:>8}\n", "STEP", "RESULT", "SECONDS");
    for (step, outcome) in steps.iter().zip(outcomes) {
        let (word, seconds, why) = match outcome {
            Outcome::Ok(took) => ("ok", format!("{:.1}", took.as_secs_f64()), ""),
            Outcome::Failed(took, why) => {
                ("FAILED", format!("{:.1}", took.as_secs_f64()), why.lines().next().unwrap_or_default())
            }
            Outcome::NotRun => ("not run", "-".to_owned(), ""),
        };
        let line = format!("{:<12} {word:<8} {seconds:>8}  {why}", step.name);
        // Writing to a String cannot fail.
        let _ = writeln!(table, "{}", line.trim_end());
    }
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| wanted(outcome)).count();
    let _ = write!(
        table,
        "{} steps: {} ok, {} failed, {} not run",
        outcomes.len(),
        count(|outcome| matches!(outcome, Outcome::Ok(_))),
        count(|outcome| matches!(outcome, Outcome::Failed(..))),
        count(|outcome| matches!(outcome, Outcome::NotRun)),
    );
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    static MADE_UP: [Step; 3] = [
        Step { name: "one", what: "works", boots_machines: false, run: || Ok(()) },
        Step { name: "two", what: "fails", boots_machines: true, run: || bail!("no disk\nand more") },
        Step { name: "three", what: "works", boots_machines: false, run: || Ok(()) },
    ];

    fn words(steps: &[&Step], keep_going: bool) -> Vec<&'static str> {
        let word = |outcome: &Outcome| match outcome {
            Outcome::Ok(_) => "ok",
            Outcome::Failed(..) => "failed",
            Outcome::NotRun => "not run",
        };
        run_all(steps, keep_going).iter().map(word).collect()
    }

    #[test]
    fn the_first_failure_stops_unless_told_otherwise() {
        let steps = selected(&MADE_UP, &[], false);
        assert_eq!(words(&steps, false), ["ok", "failed", "not run"]);
        assert_eq!(words(&steps, true), ["ok", "failed", "ok"]);
    }

    #[test]
    fn steps_are_chosen_by_name_and_by_speed() {
        let names = |only: &[&str], fast| -> Vec<&str> {
            let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
            selected(&MADE_UP, &only, fast).iter().map(|step| step.name).collect()
        };
        assert_eq!(names(&[], true), ["one", "three"]);
        assert_eq!(names(&["three", "two"], false), ["two", "three"]);
        assert_eq!(names(&["two"], true), [""; 0]);
    }

    #[test]
    fn the_table_says_what_ran_and_why_it_failed() {
        let steps = selected(&MADE_UP, &[], false);
        let outcomes = [
            Outcome::Ok(Duration::from_millis(1240)),
            Outcome::Failed(Duration::from_secs(70), "no disk\nand more".to_owned()),
            Outcome::NotRun,
        ];
        assert_eq!(
            table(&steps, &outcomes),
            "STEP         RESULT    SECONDS\n\
             one          ok            1.2\n\
             two          FAILED       70.0  no disk\n\
             three        not run         -\n\
             3 steps: 1 ok, 1 failed, 1 not run"
        );
    }

    #[test]
    fn every_real_step_has_a_name_of_its_own() {
        let mut names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
