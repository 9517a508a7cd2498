//! Following a run from the command that asked for it, to its verdict.

use std::time::Duration;

use anyhow::{Context as _, Result};
use assay_api::operator::{Decide, RunSummary};
use assay_model::{DecisionKind, EventBody, Micros, sentence};

use crate::client::Client;
use crate::commands::run::Live;
use crate::ui;

/// Says what happens, a line each, until the verdict is sealed or the run is held for somebody to decide.
pub(crate) async fn follow(client: &Client, number: i64) -> Result<()> {
    follow_in(client, number, false).await
}

/// As [`follow`], on a control plane with others: it also says why the run waits for its turn, and for how long.
pub(crate) async fn follow_in_line(client: &Client, number: i64) -> Result<()> {
    follow_in(client, number, true).await
}

async fn follow_in(client: &Client, number: i64, in_line: bool) -> Result<()> {
    let mut live = Live::open(client, number).await?;
    let mut began: Option<Micros> = None;
    while let Some(event) = live.next().await {
        let event = event?;
        match event.kind.as_str() {
            "journal" => {
                let at: Micros = serde_json::from_value(event.data["at"].clone()).unwrap_or_default();
                let since = at.since(*began.get_or_insert(at)).as_seconds();
                let body: EventBody =
                    serde_json::from_value(event.data).context("a journal event does not read")?;
                if let EventBody::StageJudged { .. }
                | EventBody::StageStarted { .. }
                | EventBody::AttemptLost { .. }
                | EventBody::PowerRequested { .. }
                | EventBody::PowerDone { .. }
                | EventBody::MediumServed { .. }
                | EventBody::Held { .. } = body
                {
                    ui::say(&format!("{since:7.1} s  {}", sentence::of(&body)));
                }
                if matches!(body, EventBody::Sealed(_) | EventBody::Held { .. }) {
                    return Ok(());
                }
            }
            "waits" if in_line => {
                if let Some(why) = event.data["why"].as_str() {
                    ui::say(&format!("          waits: {why}"));
                }
            }
            "log" => {
                for line in serde_json::from_value::<Vec<assay_api::agent::LogLine>>(event.data)? {
                    let since = began.map_or(0.0, |began| line.at.since(began).as_seconds());
                    if line.source == "agent" && line.text.contains(": ") {
                        ui::say(&format!("{since:7.1} s    {}", line.text));
                    }
                }
            }
            _ => {}
        }
    }
    anyhow::bail!("the run's events ended before its verdict")
}

/// Cancels runs that a command left open in this store, since it was killed. Nobody would follow them to their end, and every
/// later run of their target would be refused.
pub(crate) async fn cancel_abandoned(client: &Client) -> Result<()> {
    let runs: Vec<RunSummary> = client.get("/api/v1/runs?limit=100").await?;
    for run in runs.into_iter().filter(|run| !run.state.is_terminal()) {
        ui::say(&format!(
            "run {} of {} was left open by a command that was killed: cancelled",
            run.number, run.target
        ));
        cancel(client, run.number).await;
    }
    Ok(())
}

/// Cancels a run whose runner is about to go away, and waits until that is known: it would wait for us for ever, and
/// with it every later run of its target.
pub(crate) async fn cancel(client: &Client, number: i64) {
    /// The runner hears of it with its next beat.
    const LIMIT: Duration = Duration::from_secs(30);
    let why = "the command that asked for it was stopped".to_owned();
    let decide = Decide { kind: DecisionKind::Cancel, why, serials: Vec::new() };
    let cancelled = async {
        let _: RunSummary = client.post(&format!("/api/v1/runs/{number}/decisions"), &decide).await?;
        let mut live = Live::open(client, number).await?;
        while let Some(event) = live.next().await {
            let event = event?;
            if event.kind == "journal" && event.data["kind"] == "CancelConfirmed" {
                break;
            }
        }
        anyhow::Ok(())
    };
    let done = tokio::time::timeout(LIMIT, cancelled).await;
    if !matches!(done, Ok(Ok(()))) {
        ui::say(&format!("run {number} may still be open on the server: `assay run cancel {number}`"));
    }
}
