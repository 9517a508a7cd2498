//! `assay batch`: many targets that are tested again, some at a time.

use anyhow::Result;
use assay_api::again::{Batch as Shown, BatchRule, Target};
use clap::{Args, Subcommand};

use crate::commands::Remote;
use crate::exit::Exit;
use crate::ui;

#[derive(Subcommand)]
pub(crate) enum Batch {
    /// The latest batches
    List(List),
    /// One batch: how it stands, and each of its targets
    Show(Numbered),
    /// Begin nothing more of it; what was begun goes on
    Stop(Stop),
    /// Let a stopped one go on; what has failed so far does not stop it again
    Resume(Numbered),
}

#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct Numbered {
    /// Its number.
    number: i64,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct Stop {
    /// Its number.
    number: i64,
    /// Why; the batch says so.
    #[arg(long, default_value = "")]
    why: String,
    #[command(flatten)]
    remote: Remote,
}

impl Batch {
    pub(crate) async fn run(self) -> Result<Exit> {
        match self {
            Self::List(List { remote }) => {
                let batches: Vec<Shown> = remote.client()?.get("/api/v1/batches").await?;
                if remote.json {
                    ui::json(&batches)?;
                    return Ok(Exit::Ok);
                }
                if batches.is_empty() {
                    ui::say("there is no batch; `assay host vet --all --dry-run` shows what one would be");
                }
                let row = |batch: &Shown| {
                    vec![
                        batch.number.to_string(),
                        batch.state.clone(),
                        batch.progress.clone(),
                        batch.does.clone(),
                        batch.asked_by.clone(),
                    ]
                };
                let rows: Vec<_> = batches.iter().map(row).collect();
                if !rows.is_empty() {
                    ui::table(&["BATCH", "STATE", "PROGRESS", "WHAT", "FOR"], &rows);
                }
                Ok(Exit::Ok)
            }
            Self::Show(Numbered { number, remote }) => {
                let batch: Shown = remote.client()?.get(&format!("/api/v1/batches/{number}")).await?;
                print(&batch, remote.json)
            }
            Self::Stop(Stop { number, why, remote }) => rule(&remote, number, &BatchRule::Stop { why }).await,
            Self::Resume(Numbered { number, remote }) => rule(&remote, number, &BatchRule::Resume).await,
        }
    }
}

async fn rule(remote: &Remote, number: i64, rule: &BatchRule) -> Result<Exit> {
    let batch: Shown = remote.client()?.post(&format!("/api/v1/batches/{number}"), rule).await?;
    print(&batch, remote.json)
}

fn print(batch: &Shown, json: bool) -> Result<Exit> {
    if json {
        ui::json(batch)?;
        return Ok(Exit::Ok);
    }
    for line in lines(batch) {
        ui::line(&line);
    }
    let rows: Vec<_> = batch.targets.iter().map(row).collect();
    ui::table(&["TARGET", "STANDS", "RUN", "WHY"], &rows);
    Ok(Exit::Ok)
}

fn lines(batch: &Shown) -> Vec<String> {
    let limits = batch.limits.told();
    let limits = if limits.is_empty() { String::new() } else { format!("; {limits}") };
    let mut lines = vec![format!("batch {}: {}, for {}{limits}", batch.number, batch.does, batch.asked_by)];
    let why = batch.why.as_deref().filter(|why| !why.is_empty());
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    let by = batch.stopped_by.as_ref().map(|by| format!(" by {by}{why}")).unwrap_or_default();
    lines.push(format!("{}{by}: {}", batch.state, batch.progress));
    if batch.stopped_by.is_some() {
        lines.push(format!("nothing more is begun; `assay batch resume {}` goes on", batch.number));
    }
    lines
}

fn row(target: &Target) -> Vec<String> {
    let stand = target.stand.replace('_', " ");
    let stand = match (&target.stage, target.state) {
        (Some(stage), _) => format!("{stand}, {stage}"),
        (None, Some(state)) if !state.is_terminal() => format!("{stand}, {state}"),
        _ => stand,
    };
    let run = target.run.map(|run| run.to_string()).unwrap_or_default();
    vec![target.name.clone(), stand, run, target.note.clone().unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use assay_api::again::Counts;
    use assay_model::Micros;
    use assay_model::schedule::{Again, Limits};

    use super::*;

    #[test]
    fn a_stopped_batch_says_who_and_why_and_how_it_goes_on() {
        let mut batch = Shown {
            number: 3,
            does: "vet all hosts (standard)".to_owned(),
            again: Again::Image { name: "x".to_owned() },
            limits: Limits { at_most: Some(2), stop_after: Some(2) },
            asked_by: "mara".to_owned(),
            schedule: None,
            created_at: Micros::seconds(0),
            state: "stopped".to_owned(),
            stopped_by: Some("assay".to_owned()),
            why: Some("2 failed: db-1 (run 4), db-2 (run 5)".to_owned()),
            since: Micros::seconds(0),
            progress: "3 of 40, 1 under way, 1 held".to_owned(),
            counts: Counts::default(),
            targets: Vec::new(),
        };
        insta::assert_snapshot!(lines(&batch).join("\n"), @"
        batch 3: vet all hosts (standard), for mara; 2 at once, stops after 2 failures
        stopped by assay (2 failed: db-1 (run 4), db-2 (run 5)): 3 of 40, 1 under way, 1 held
        nothing more is begun; `assay batch resume 3` goes on
        ");
        (batch.state, batch.stopped_by, batch.why) = ("running".to_owned(), None, None);
        assert_eq!(lines(&batch)[1], "running: 3 of 40, 1 under way, 1 held");
    }
}
