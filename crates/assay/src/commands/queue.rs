//! `assay queue`: what runs, what waits and why; and letting nothing start.

use std::time::Duration;

use anyhow::{Result, ensure};
use assay_api::queue::{Queue as Shown, Rule};
use assay_model::Pipeline;
use clap::{Args, Subcommand};

use crate::commands::Remote;
use crate::exit::Exit;
use crate::ui;

/// Between two looks at a queue that is being drained.
const LOOK_EVERY: Duration = Duration::from_secs(2);

#[derive(Subcommand)]
pub(crate) enum Queue {
    /// What runs, what waits and why, and what the runners have
    Show(Show),
    /// Let nothing new start; what runs goes on
    Pause(Stop),
    /// Let nothing new start until nothing runs: before Assay is replaced by another version
    Drain(Drain),
    /// Let runs start again
    Resume(Show),
    /// How many runs of a pipeline may run at once
    Limit(Limit),
    /// Let a requester count for more than one
    Weigh(Weigh),
}

#[derive(Args)]
pub(crate) struct Show {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct Stop {
    /// Why; every run that waits says so.
    #[arg(long, default_value = "")]
    why: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    stop: Stop,
    /// Come back only once nothing runs.
    #[arg(long)]
    wait: bool,
}

#[derive(Args)]
pub(crate) struct Limit {
    /// host, image or recipe.
    pipeline: Pipeline,
    /// How many at once, or `none`.
    #[arg(value_parser = number_or_none)]
    at_once: Count,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct Weigh {
    /// Who asks for runs, as it stands in `assay queue show`.
    requester: String,
    /// For how many they count, or `none`.
    #[arg(value_parser = number_or_none)]
    weight: Count,
    #[command(flatten)]
    remote: Remote,
}

/// A number, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(Option<u32>);

fn number_or_none(text: &str) -> Result<Count, String> {
    match text {
        "none" => Ok(Count(None)),
        number => match number.parse() {
            Ok(n @ 1..) => Ok(Count(Some(n))),
            _ => Err("a whole number from 1, or none".to_owned()),
        },
    }
}

impl Queue {
    pub(crate) async fn run(self) -> Result<Exit> {
        match self {
            Self::Show(Show { remote }) => {
                let queue: Shown = remote.client()?.get("/api/v1/queue").await?;
                print(&queue, remote.json)
            }
            Self::Pause(Stop { why, remote }) => rule(&remote, Rule::Pause { why }).await,
            Self::Drain(drain) => drain.run().await,
            Self::Resume(Show { remote }) => rule(&remote, Rule::Resume).await,
            Self::Limit(Limit { pipeline, at_once: Count(at_once), remote }) => {
                rule(&remote, Rule::Limit { pipeline, at_once }).await
            }
            Self::Weigh(Weigh { requester, weight: Count(weight), remote }) => {
                rule(&remote, Rule::Weigh { requester, weight }).await
            }
        }
    }
}

impl Drain {
    async fn run(self) -> Result<Exit> {
        let Stop { why, remote } = self.stop;
        let client = remote.client()?;
        let mut queue: Shown = client.post("/api/v1/queue", &Rule::Drain { why }).await?;
        while self.wait && queue.active > 0 {
            let left = assay_model::text::plural(queue.active, "run");
            ui::say(&format!("{left} to wait for: {}", running_words(&queue)));
            tokio::time::sleep(LOOK_EVERY).await;
            queue = client.get("/api/v1/queue").await?;
            ensure!(queue.state == "draining", "somebody ended the draining: the queue is {}", queue.state);
        }
        print(&queue, remote.json)
    }
}

async fn rule(remote: &Remote, rule: Rule) -> Result<Exit> {
    let queue: Shown = remote.client()?.post("/api/v1/queue", &rule).await?;
    print(&queue, remote.json)
}

fn print(queue: &Shown, json: bool) -> Result<Exit> {
    if json {
        ui::json(queue)?;
        return Ok(Exit::Ok);
    }
    ui::line(&headline(queue));
    for room in &queue.runners {
        let pools: Vec<_> = room
            .pools
            .iter()
            .map(|(pool, slots)| match slots.capacity {
                Some(all) => format!("{pool} {} of {all}", slots.used),
                None => format!("{pool} {}", slots.used),
            })
            .collect();
        let silent = if room.connected { "" } else { " (nothing is heard from it)" };
        ui::line(&format!("runner {}{silent}: {}", room.name, pools.join(", ")));
    }
    let running: Vec<_> = queue
        .running
        .iter()
        .map(|run| {
            vec![
                run.number.to_string(),
                run.target.clone(),
                run.doing.clone(),
                run.runner.clone(),
                run.requester.clone(),
            ]
        })
        .collect();
    if !running.is_empty() {
        ui::table(&["RUNS", "TARGET", "DOING", "WHERE", "FOR"], &running);
    }
    let waiting: Vec<_> = queue
        .waiting
        .iter()
        .map(|run| {
            let (number, class) = (run.number.to_string(), run.priority.to_string());
            vec![number, run.target.clone(), class, run.requester.clone(), run.reason.clone()]
        })
        .collect();
    if !waiting.is_empty() {
        ui::table(&["WAITS", "TARGET", "CLASS", "FOR", "WHY"], &waiting);
    }
    Ok(Exit::Ok)
}

/// `the queue is paused by mara since …; 2 run, 5 wait`.
fn headline(queue: &Shown) -> String {
    let state = match (&queue.stopped, queue.active) {
        (None, _) => "the queue is open".to_owned(),
        (Some(stop), active) => {
            let word = match (queue.state.as_str(), active) {
                ("draining", 0) => "drained",
                ("draining", _) => "being drained",
                _ => "paused",
            };
            let why = if stop.why.is_empty() { String::new() } else { format!(" ({})", stop.why) };
            format!("the queue is {word}, by {} since {}{why}", stop.by, stop.since.rfc3339())
        }
    };
    let limits: Vec<_> =
        queue.limits.iter().map(|(pipeline, n)| format!("at most {n} {pipeline} at once")).collect();
    let weights: Vec<_> = queue.weights.iter().map(|(who, n)| format!("{who} counts for {n}")).collect();
    let counts = format!("{} run, {} wait", queue.active, queue.waiting.len());
    [vec![state, counts], limits, weights].concat().join("; ")
}

fn running_words(queue: &Shown) -> String {
    let each = queue.running.iter().filter(|run| run.ends_in_s.is_some());
    each.map(|run| format!("run {} ({}, {})", run.number, run.target, run.doing))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use assay_api::queue::Stopped;
    use assay_model::Micros;

    use super::*;

    #[test]
    fn the_headline_says_whether_runs_start_and_whether_assay_may_be_replaced() {
        let mut queue = Shown {
            state: "open".to_owned(),
            stopped: None,
            limits: [(Pipeline::Recipe, 4)].into(),
            weights: [("mara".to_owned(), 3)].into(),
            active: 2,
            runners: Vec::new(),
            running: Vec::new(),
            waiting: Vec::new(),
        };
        let said = "the queue is open; 2 run, 0 wait; at most 4 recipe at once; mara counts for 3";
        assert_eq!(headline(&queue), said);
        queue.limits.clear();
        queue.weights.clear();
        let stopped = Stopped { by: "mara".into(), why: "0.9".into(), since: Micros::seconds(0) };
        (queue.state, queue.stopped) = ("draining".to_owned(), Some(stopped));
        let since = "by mara since 1970-01-01T00:00:00.000Z (0.9)";
        assert_eq!(headline(&queue), format!("the queue is being drained, {since}; 2 run, 0 wait"));
        queue.active = 0;
        assert_eq!(headline(&queue), format!("the queue is drained, {since}; 0 run, 0 wait"));
        assert_eq!(number_or_none("none"), Ok(Count(None)));
        assert_eq!(number_or_none("4"), Ok(Count(Some(4))));
        assert!(number_or_none("0").is_err() && number_or_none("few").is_err());
    }
}
