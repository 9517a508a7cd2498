//! `assay notify`: who is told what happens, whether they heard it, and a test.

use std::path::PathBuf;

use anyhow::Result;
use assay_api::notify::{Notifications, NotifyTest, NotifyTested, SinkStatus};
use assay_model::Micros;
use assay_notify::Settings;
use clap::Subcommand;

use crate::commands::Remote;
use crate::exit::Exit;
use crate::{place, ui};

#[derive(Subcommand)]
pub(crate) enum Notify {
    /// Show the sinks: last success, last error, what waits
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Send a test and say what each sink answered
    Test {
        /// To this sink alone.
        sink: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Check a settings file without a server; sends nothing
    Check {
        /// The file [default: `notify.toml` in the data folder].
        file: Option<PathBuf>,
        /// The data folder of a server on this machine.
        #[arg(long, env = "ASSAY_DATA", default_value_os_t = place::default_data())]
        data: PathBuf,
    },
    /// List the events that a sink's `events` may name
    Events,
}

impl Notify {
    pub(crate) async fn run(self) -> Result<Exit> {
        match self {
            Self::List { remote } => list(&remote).await,
            Self::Test { sink, remote } => test(sink, &remote).await,
            Self::Check { file, data } => Ok(check(&file.unwrap_or_else(|| data.join("notify.toml")))),
            Self::Events => {
                let rows: Vec<_> = assay_notify::EVENTS
                    .iter()
                    .map(|e| vec![e.name.to_owned(), e.about.to_owned()])
                    .collect();
                ui::table(&["EVENT", "WHEN"], &rows);
                Ok(Exit::Ok)
            }
        }
    }
}

async fn list(remote: &Remote) -> Result<Exit> {
    let status: Notifications = remote.client()?.get("/api/v1/notify").await?;
    if remote.json {
        ui::json(&status)?;
        return Ok(Exit::Ok);
    }
    if status.sinks.is_empty() {
        ui::say(&format!("nobody is told anything; write {} and start the server again", status.file));
        return Ok(Exit::Ok);
    }
    let header = ["SINK", "KIND", "TO", "EVENTS", "PENDING", "LAST SUCCESS", "LAST ERROR"];
    ui::table(&header, &status.sinks.iter().map(row).collect::<Vec<_>>());
    for trouble in &status.troubles {
        let next = trouble.next_try.map_or_else(String::new, |at| format!(", next try {}", at.rfc3339()));
        let said = trouble.message.as_deref().unwrap_or("nothing was said");
        ui::say(&format!(
            "{}: {} of run {} is {} (tried {} times{next}): {said}",
            trouble.sink, trouble.event, trouble.run, trouble.state, trouble.attempts
        ));
    }
    Ok(Exit::Ok)
}

fn row(sink: &SinkStatus) -> Vec<String> {
    let counted = |n: u64, what: &str| if n > 0 { format!(", {n} {what}") } else { String::new() };
    let (failed, unknown) = (counted(sink.failed, "failed"), counted(sink.unknown, "unknown"));
    vec![
        sink.name.clone(),
        sink.kind.clone(),
        sink.place.clone(),
        sink.events.as_ref().map_or_else(|| "all".to_owned(), |events| events.join(",")),
        format!("{}{failed}{unknown}", sink.pending),
        sink.last_success.map_or_else(|| "never".to_owned(), Micros::rfc3339),
        sink.last_error
            .as_ref()
            .map_or_else(|| "none".to_owned(), |e| format!("{} {}", e.at.rfc3339(), e.message)),
    ]
}

async fn test(sink: Option<String>, remote: &Remote) -> Result<Exit> {
    let tested: Vec<NotifyTested> =
        remote.client()?.post("/api/v1/notify/test", &NotifyTest { sink }).await?;
    if remote.json {
        ui::json(&tested)?;
    } else {
        for test in &tested {
            ui::line(&format!("{} {}: {}", if test.ok { "ok  " } else { "FAIL" }, test.sink, test.message));
        }
    }
    Ok(if tested.iter().all(|test| test.ok) { Exit::Ok } else { Exit::Fail })
}

fn check(file: &std::path::Path) -> Exit {
    let settings = match Settings::load(file) {
        Ok(settings) => settings,
        Err(problem) => {
            ui::say(&format!("error: {problem}"));
            return Exit::Usage;
        }
    };
    for sink in &settings.sinks {
        let events = sink.events().map_or_else(|| "everything".to_owned(), |events| events.join(", "));
        ui::line(&format!("{} ({}, {}): {events}", sink.name(), sink.kind(), sink.place()));
    }
    if settings.base_url.is_none() {
        ui::say("note: without base_url messages have no links");
    }
    ui::say(&format!("{} is right: {} sinks", file.display(), settings.sinks.len()));
    Exit::Ok
}
