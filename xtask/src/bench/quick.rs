//! How long a machine in good order takes from the request to its sealed verdict, in the shortest profile: the whole
//! product, in whatever emulation there is.
//!
//! Every time is the journal's own, and so is what each stage did in it: the note names the seconds of each stage and
//! the amount that its verdict speaks for.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::boot::Lab;
use super::{Figure, median};

/// Two ports, three disks, BIOS firmware: a disk more than the goal asks for.
const MACHINE: &str = "healthy-bios";
/// Seconds from the request to the seal.
const GOAL_S: f64 = 480.0;

pub(super) fn measure(rounds: usize) -> Result<Figure> {
    let lab = Lab::start("quick")?;
    lab.add(MACHINE)?;
    let runs = (0..rounds).map(|_| round(&lab)).collect::<Result<Vec<_>>>();
    lab.end()?;
    let mut runs = runs?;
    runs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let value = median(runs.iter().map(|run| run.seconds).collect());
    let shown = runs.iter().find(|run| run.seconds >= value).context("no round was run")?;
    let note = format!("median of {rounds}; {}", shown.stages.join("; "));
    Ok(Figure::limit(format!("quick verdict, {MACHINE}"), value, "s", GOAL_S, note))
}

/// One run, from its first event to its last.
#[derive(Debug, Default, PartialEq)]
struct Run {
    seconds: f64,
    /// What each part of it took, and what it did in that time.
    stages: Vec<String>,
}

fn round(lab: &Lab) -> Result<Run> {
    let number = lab.vet(MACHINE, &["--profile", "quick", "--no-hold"])?;
    let mut events = Vec::new();
    lab.watch(&number, |event| {
        events.push(event);
        None::<()>
    })?;
    read(&events).with_context(|| format!("run {number} of {MACHINE}"))
}

/// What a journal says of the times; an error unless the machine passed.
fn read(events: &[Value]) -> Result<Run> {
    let at = |event: &Value| event["at"].as_i64().unwrap_or_default();
    let seconds = |from: &Value, to: &Value| (at(to) - at(from)) as f64 / 1e6;
    let first = |kind: &str| events.iter().find(|event| event["kind"] == kind);
    let (Some(begun), Some(enrolled)) = (first("RunCreated"), first("Enrolled")) else {
        bail!("its machine never enrolled");
    };
    let completed = first("RunCompleted").context("it did not come to a verdict")?;
    if completed["body"]["result"] != "pass" {
        bail!("a machine in good order did not pass: {}", completed["body"]);
    }
    let sealed = first("Sealed").context("it was not sealed")?;
    let mut stages = vec![format!("power and boot {:.0} s", seconds(begun, enrolled))];
    let mut started = enrolled;
    for event in events {
        match event["kind"].as_str() {
            Some("StageStarted") => started = event,
            Some("StageJudged") => {
                let name = event["body"]["stage"].as_str().unwrap_or("?");
                stages.push(format!("{name} {:.0} s{}", seconds(started, event), done(&event["body"])));
            }
            _ => {}
        }
    }
    Ok(Run { seconds: seconds(begun, sealed), stages })
}

/// ` (3 of 3 disks)`, from the verdict's coverage.
fn done(judged: &Value) -> String {
    let coverage = judged["judgement"]["coverage"].as_array().map_or(&[][..], Vec::as_slice);
    let each = |one: &Value| {
        Some(format!("{} of {} {}", one["covered"].as_u64()?, one["total"].as_u64()?, one["what"].as_str()?))
    };
    let all: Vec<String> = coverage.iter().filter_map(each).collect();
    if all.is_empty() { String::new() } else { format!(" ({})", all.join(", ")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, second: i64, body: &Value) -> Value {
        json!({ "seq": 1, "at": second * 1_000_000, "kind": kind, "body": body })
    }

    fn journal(result: &str) -> Vec<Value> {
        let coverage = json!([{ "what": "disks", "covered": 3, "total": 3 }]);
        let judged = json!({ "stage": "SMART", "judgement": { "verdict": "pass", "coverage": coverage } });
        let plain = json!({});
        vec![
            event("RunCreated", 10, &plain),
            event("Enrolled", 30, &plain),
            event("StageStarted", 31, &json!({ "stage": "SMART" })),
            event("StageJudged", 46, &judged),
            event("RunCompleted", 47, &json!({ "result": result })),
            event("Sealed", 48, &plain),
        ]
    }

    #[test]
    fn the_stages_of_a_run_are_timed_by_its_journal() {
        let run = read(&journal("pass")).expect("it passed");
        let stages = vec!["power and boot 20 s".to_owned(), "SMART 15 s (3 of 3 disks)".to_owned()];
        assert_eq!(run, Run { seconds: 38.0, stages });
    }

    #[test]
    fn a_run_without_a_pass_says_nothing_about_speed() {
        assert!(read(&journal("fail")).expect_err("failed").to_string().contains("did not pass"));
        let cut = &journal("pass")[..4];
        assert!(read(cut).is_err());
        assert!(read(&[]).is_err());
    }
}
