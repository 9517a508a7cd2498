//! `assay run`: runs and decisions about them.

use anyhow::{Context as _, Result};
use assay_api::agent::LogLine;
use assay_api::operator::{Decide, RunDetail, RunSummary};
use assay_model::host::clearance;
use assay_model::{DecisionKind, EventBody, Micros, RunResult, RunState, sentence};
use clap::{Args, Subcommand};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::Value;

use crate::client::Client;
use crate::commands::Remote;
use crate::exit::Exit;
use crate::ui;

#[derive(Subcommand)]
pub(crate) enum Run {
    /// Runs, newest first
    List(List),
    /// One run: stages, findings, what was not verified
    Show(Numbered),
    /// Follow a run to its verdict (or its hold); the exit code is the verdict
    Watch(Numbered),
    /// The machine's log
    Logs(Logs),
    /// Run the failed stage of a held run again
    Retry(Decision),
    /// Accept the failure of a held run and go on; stays on the report for ever
    Waive(Decision),
    /// Run the failed stage again and let it erase the named disks although they hold data
    Permit(Permit),
    /// Give a held run up; the machine is released
    Abandon(Decision),
    /// Stop a run
    Cancel(Decision),
    /// Keep a run's files whatever retention says
    Pin(Numbered),
    /// Let retention have a run's files again
    Unpin(Numbered),
}

#[derive(Args)]
pub(crate) struct List {
    /// Only runs of this host.
    #[arg(long)]
    host: Option<String>,
    /// Only runs in this state, such as FailedHolding.
    #[arg(long)]
    state: Option<RunState>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct Numbered {
    /// The run's number.
    number: i64,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct Logs {
    /// The run's number.
    number: i64,
    /// Go on as lines come in.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct Decision {
    /// The run's number.
    number: i64,
    /// Why; needed to waive. Stands in the journal and on the report.
    #[arg(long, default_value = "")]
    why: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
pub(crate) struct Permit {
    /// The run's number.
    number: i64,
    /// Serial number of a disk that may be erased with what it holds, as it stands in the finding; may be given more
    /// than once.
    #[arg(long = "disk", value_name = "SERIAL", required = true)]
    disks: Vec<String>,
    /// Why nobody needs what is on them. Stands in the journal and on the report.
    #[arg(long, alias = "why")]
    reason: String,
    #[command(flatten)]
    remote: Remote,
}

impl Run {
    pub(crate) async fn run(self) -> Result<Exit> {
        match self {
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Watch(n) => watch(&n.remote.client()?, n.number, n.remote.json).await,
            Self::Logs(logs) => logs.run().await,
            Self::Permit(permit) => {
                let Permit { number, disks, reason, remote } = permit;
                decide(&remote, number, Decide { kind: DecisionKind::Permit, why: reason, serials: disks })
                    .await
            }
            Self::Retry(d) => d.run(DecisionKind::Retry).await,
            Self::Waive(d) => d.run(DecisionKind::Waive).await,
            Self::Abandon(d) => d.run(DecisionKind::Abandon).await,
            Self::Cancel(d) => d.run(DecisionKind::Cancel).await,
            Self::Pin(n) => {
                n.remote.client()?.put_nothing(&format!("/api/v1/runs/{}/pin", n.number)).await?;
                ui::say(&format!("run {} keeps its files", n.number));
                Ok(Exit::Ok)
            }
            Self::Unpin(n) => {
                n.remote.client()?.delete(&format!("/api/v1/runs/{}/pin", n.number)).await?;
                ui::say(&format!("run {} keeps its files as long as any other", n.number));
                Ok(Exit::Ok)
            }
        }
    }
}

impl List {
    async fn run(self) -> Result<Exit> {
        let mut path = "/api/v1/runs?limit=100".to_owned();
        if let Some(host) = &self.host {
            path = format!("{path}&host={host}");
        }
        if let Some(state) = self.state {
            path = format!("{path}&state={state}");
        }
        let runs: Vec<RunSummary> = self.remote.client()?.get(&path).await?;
        if self.remote.json {
            ui::json(&runs)?;
        } else {
            print_list(&runs);
        }
        Ok(Exit::Ok)
    }
}

impl Numbered {
    async fn run(self) -> Result<Exit> {
        let detail: RunDetail = self.remote.client()?.get(&format!("/api/v1/runs/{}", self.number)).await?;
        if self.remote.json {
            ui::json(&detail)?;
        } else {
            print_detail(&detail);
        }
        Ok(Exit::Ok)
    }
}

impl Logs {
    async fn run(self) -> Result<Exit> {
        let client = self.remote.client()?;
        let detail: RunDetail = client.get(&format!("/api/v1/runs/{}", self.number)).await?;
        let mut live = Live::open(&client, self.number).await?;
        // Without --follow: everything up to the journal's end as it was when we began. Log rows
        // come in the same round as the journal's, so the first quiet moment after it is the end.
        loop {
            let quiet = std::time::Duration::from_millis(1500);
            let next = if self.follow {
                Ok(live.next().await)
            } else {
                tokio::time::timeout(quiet, live.next()).await
            };
            match next {
                Err(_) | Ok(None) => break,
                Ok(Some(event)) => {
                    let event = event?;
                    if event.kind == "log" {
                        for line in serde_json::from_value::<Vec<LogLine>>(event.data)? {
                            ui::line(&format!("{} {:<8} {}", line.at.rfc3339(), line.source, line.text));
                        }
                    }
                }
            }
            if self.follow && detail.summary.state.is_terminal() {
                break;
            }
        }
        Ok(Exit::Ok)
    }
}

impl Decision {
    async fn run(self, kind: DecisionKind) -> Result<Exit> {
        decide(&self.remote, self.number, Decide { kind, why: self.why, serials: Vec::new() }).await
    }
}

async fn decide(remote: &Remote, number: i64, body: Decide) -> Result<Exit> {
    let path = format!("/api/v1/runs/{number}/decisions");
    let run: RunSummary = remote.client()?.post(&path, &body).await?;
    if remote.json {
        ui::json(&run)?;
    } else {
        ui::say(&format!("run {}: {} recorded; it is {}", run.number, body.kind, run.state));
    }
    Ok(Exit::Ok)
}

/// Follows a run until it ends or is held. Plain lines: they read well on a terminal and in CI.
pub(crate) async fn watch(client: &Client, number: i64, json: bool) -> Result<Exit> {
    let mut live = Live::open(client, number).await?;
    while let Some(event) = live.next().await {
        let event = event?;
        if let (false, "waits", Some(why)) = (json, event.kind.as_str(), event.data["why"].as_str()) {
            ui::line(&format!("          waits: {why}"));
        }
        if event.kind != "journal" {
            continue;
        }
        if json {
            ui::line(&event.data.to_string());
        }
        let at: Micros = serde_json::from_value(event.data["at"].clone()).unwrap_or_default();
        let body: EventBody = serde_json::from_value(event.data)
            .context("a journal event does not read; is this assay older than the server?")?;
        if !json && !sentence::is_quiet(&body) {
            ui::line(&format!("{}  {}", at.rfc3339().get(11..19).unwrap_or_default(), sentence::of(&body)));
        }
        if matches!(body, EventBody::Held { .. } | EventBody::Sealed(_)) {
            break;
        }
    }
    let detail: RunDetail = client.get(&format!("/api/v1/runs/{number}")).await?;
    if !json {
        ui::line("");
        print_detail(&detail);
    }
    Ok(exit(&detail.summary))
}

/// A run's exit code.
pub(crate) const fn exit(run: &RunSummary) -> Exit {
    match (run.state, run.result, run.overridden) {
        (RunState::FailedHolding, ..) | (_, Some(RunResult::Fail), _) => Exit::Fail,
        (_, Some(RunResult::Pass), true) => Exit::Overridden,
        (_, Some(RunResult::Pass), false) => Exit::Ok,
        (_, None, _) => Exit::NoResult,
    }
}

/// A run's verdict in words.
pub(crate) fn verdict_words(run: &RunSummary) -> String {
    let at = run.failed_stage.as_deref().map(|s| format!(" at {s}")).unwrap_or_default();
    match (run.state, run.result, run.overridden) {
        (RunState::FailedHolding, ..) => format!("fail{at}, held for you"),
        (RunState::Running, ..) => {
            let waits = run.waiting.as_deref().map(|why| format!(" (waits: {why})")).unwrap_or_default();
            format!("running {}{waits}", run.stage.as_deref().unwrap_or(""))
        }
        (RunState::Queued, ..) => format!("waits: {}", run.waiting.as_deref().unwrap_or("its turn")),
        (_, Some(RunResult::Pass), true) => "pass, overridden".to_owned(),
        (_, Some(RunResult::Pass), false) => "pass".to_owned(),
        (_, Some(RunResult::Fail), _) => format!("fail{at}"),
        (RunState::Completed, None, _) => "no verdict".to_owned(),
        (state, None, _) => state.to_string(),
    }
}

pub(crate) fn print_list(runs: &[RunSummary]) {
    let rows: Vec<_> = runs
        .iter()
        .map(|r| {
            vec![
                r.number.to_string(),
                r.target.clone(),
                r.state.to_string(),
                verdict_words(r),
                r.created_at.rfc3339(),
            ]
        })
        .collect();
    ui::table(&["RUN", "TARGET", "STATE", "VERDICT", "ASKED FOR"], &rows);
}

pub(crate) fn print_detail(detail: &RunDetail) {
    let run = &detail.summary;
    ui::line(&format!("run {} · {} · {} · {}", run.number, run.target, run.state, verdict_words(run)));
    let rows: Vec<_> = detail
        .report
        .stages
        .iter()
        .map(|s| {
            let verdict = match (s.verdict, s.waived) {
                (Some(v), true) => format!("{v} (waived)"),
                (Some(v), false) => v.to_string(),
                (None, _) => "-".to_owned(),
            };
            let seconds = s.seconds.map(|t| format!("{t:.1} s")).unwrap_or_default();
            vec![format!("  {}", s.name), verdict, seconds, s.message.clone()]
        })
        .collect();
    ui::table(&["  STAGE", "VERDICT", "TIME", ""], &rows);
    for finding in &detail.report.findings {
        let part = finding.part.as_ref().map(|p| format!(" [{p}]")).unwrap_or_default();
        ui::line(&format!("  {:<8} {}{part}: {}", finding.severity, finding.code, finding.message));
        ui::line(&format!("           → {}", finding.next_step));
    }
    for item in grouped(&detail.report.unverified) {
        ui::line(&format!("  not verified: {item}"));
    }
    for d in &detail.report.decisions {
        ui::line(&format!(
            "  {} by {}{}: {}",
            d.kind,
            d.by,
            d.stage.as_deref().map(|s| format!(" at {s}")).unwrap_or_default(),
            d.why
        ));
    }
    if let Some(until) = detail.hold_until {
        let n = run.number;
        // An installer is not let loose by a waiver.
        let clearance = run.failed_stage.as_deref() == Some(clearance::STAGE);
        let waive = if clearance { String::new() } else { format!(", `assay run waive {n} --why …`") };
        ui::line(&format!(
            "  held until {}: `assay run retry {n}`{waive} or `assay run abandon {n}`",
            until.rfc3339()
        ));
        let asks = |code: &str| detail.report.findings.iter().any(|f| f.code == code);
        if clearance && (asks("UnexpectedData") || asks("EraseNotPermitted")) {
            ui::line(&format!(
                "  if nobody needs these disks: `assay run permit {n} --disk SERIAL … --reason …` lets an installer erase \
                 them for ever; name all of them at once"
            ));
        } else if asks("UnexpectedData") {
            ui::line(&format!(
                "  if nobody needs that data: `assay run permit {n} --disk SERIAL --reason …` erases it for ever"
            ));
        }
    }
}

/// One server-sent event.
pub(crate) struct LiveEvent {
    pub(crate) kind: String,
    pub(crate) data: Value,
}

/// A run's live stream; goes on where it was when the connection breaks.
pub(crate) struct Live {
    client: Client,
    path: String,
    stream: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    buffer: Vec<u8>,
    last_id: Option<String>,
}

impl Live {
    pub(crate) async fn open(client: &Client, number: i64) -> Result<Self> {
        let path = format!("/api/v1/runs/{number}/live");
        let stream = connect(client, &path, None).await?;
        Ok(Self { client: client.clone(), path, stream, buffer: Vec::new(), last_id: None })
    }

    pub(crate) async fn next(&mut self) -> Option<Result<LiveEvent>> {
        let mut failures = 0;
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(event) = self.parse(&String::from_utf8_lossy(&block)) {
                    return Some(Ok(event));
                }
                continue;
            }
            if let Some(Ok(bytes)) = self.stream.next().await {
                failures = 0;
                self.buffer.extend_from_slice(&bytes);
                continue;
            }
            // The connection broke: go on after the last event seen.
            self.buffer.clear();
            match connect(&self.client, &self.path, self.last_id.as_deref()).await {
                Ok(stream) => self.stream = stream,
                Err(e) if failures >= 30 => return Some(Err(e)),
                Err(_) => {
                    failures += 1;
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    }

    fn parse(&mut self, block: &str) -> Option<LiveEvent> {
        let (mut kind, mut data) = (String::new(), String::new());
        for line in block.lines() {
            if let Some(id) = line.strip_prefix("id:") {
                self.last_id = Some(id.trim().to_owned());
            } else if let Some(name) = line.strip_prefix("event:") {
                name.trim().clone_into(&mut kind);
            } else if let Some(text) = line.strip_prefix("data:") {
                data.push_str(text.trim_start());
            }
        }
        let data = serde_json::from_str(&data).ok()?;
        Some(LiveEvent { kind, data })
    }
}

async fn connect(
    client: &Client,
    path: &str,
    after: Option<&str>,
) -> Result<BoxStream<'static, reqwest::Result<Vec<u8>>>> {
    let path = after.map_or_else(|| path.to_owned(), |id| format!("{path}?after={id}"));
    let answer = client.open(&path).await?;
    Ok(answer.bytes_stream().map(|chunk| chunk.map(|b| b.to_vec())).boxed())
}

/// What was not verified, with the stages that were never judged on one line of their own, the last.
fn grouped(unverified: &[String]) -> Vec<String> {
    const NEVER: &str = ": never judged";
    let names: Vec<&str> = unverified.iter().filter_map(|item| item.strip_suffix(NEVER)).collect();
    let mut lines: Vec<String> = unverified.iter().filter(|item| !item.ends_with(NEVER)).cloned().collect();
    if !names.is_empty() {
        lines.push(format!("{}{NEVER}", names.join(", ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn stages_that_were_never_judged_are_one_line() {
        let said = |items: &[&str]| grouped(&items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            said(&["Install: never judged", "clock: no server", "Join: never judged"]),
            ["clock: no server", "Install, Join: never judged"]
        );
        assert!(said(&[]).is_empty());
    }
}
