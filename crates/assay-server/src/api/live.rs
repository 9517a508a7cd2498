//! `/api/v1/runs/{number}/live`: everything that happens in a run, as server-sent events.
//!
//! One stream carries the journal, the log and the sensors. The event id names the place in all
//! three (`j<seq>.l<row>.s<boot>-<seq>`), so a browser that reloads or reconnects goes on exactly
//! where it was and misses nothing. While the run waits for its turn, `waits` says why, where it stands and about how long it
//! has to; once more whenever its place or its reason is another.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use assay_api::agent::LogLine;
use assay_engine::queue::Cause;
use assay_model::{Event as JournalEvent, Micros, RunId, RunState};
use assay_store::Changed;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use axum::routing::get;
use futures::Stream;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast::Receiver;

use super::runs::detail;
use crate::auth::Operator;
use crate::error::ApiError;
use crate::state::App;
use crate::wire::wait_for_news;

/// Bulk rows do not announce themselves; they are looked for this often.
const BULK_EVERY: Duration = Duration::from_secs(1);
/// Most rows of a kind taken at once.
const PAGE: u32 = 200;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/api/v1/runs/{number}/live", get(live))
}

#[derive(Deserialize)]
struct LiveQuery {
    /// Where to go on; from the beginning without it.
    after: Option<Cursor>,
}

async fn live(
    State(app): State<App>,
    _: Operator,
    Path(number): Path<i64>,
    Query(query): Query<LiveQuery>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let run = detail(&app, number).await?.id;
    let resumed = headers.get("last-event-id").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    let cursor = resumed.or(query.after).unwrap_or_default();
    let changes = app.engine.store().subscribe();
    let follower = Follower { app, run, cursor, changes, ready: Vec::new(), told: Told::Nothing };
    Ok(Sse::new(futures::stream::unfold(follower, Follower::next)).keep_alive(KeepAlive::default()))
}

/// The place in a run's three streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cursor {
    journal: i64,
    log: i64,
    sensors: Option<(u32, i64)>,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (boot, seq) = self.sensors.unwrap_or_default();
        write!(f, "j{}.l{}.s{boot}-{seq}", self.journal, self.log)
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let read = || {
            let mut parts = s.split('.');
            let journal = parts.next()?.strip_prefix('j')?.parse().ok()?;
            let log = parts.next()?.strip_prefix('l')?.parse().ok()?;
            let (boot, seq) = parts.next()?.strip_prefix('s')?.split_once('-')?;
            let sensors = (boot.parse().ok()?, seq.parse().ok()?);
            Some(Self { journal, log, sensors: (sensors != (0, 0)).then_some(sensors) })
        };
        read().ok_or("expected j<seq>.l<row>.s<boot>-<seq>")
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

struct Follower {
    app: App,
    run: RunId,
    cursor: Cursor,
    changes: Receiver<Changed>,
    /// Events found and not yet sent, last first.
    ready: Vec<Event>,
    /// What was said last of its place in the queue.
    told: Told,
}

/// What a follower has said of a run's place in the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Nothing so far.
    Nothing,
    /// This.
    Waits(Cause, Option<u32>),
    /// It waits no more.
    Begun,
}

impl Follower {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.ready.pop() {
                return Some((Ok(event), self));
            }
            // A database that cannot be read ends the stream; the browser comes back by itself.
            self.gather().await.ok()?;
            if self.ready.is_empty() {
                let deadline = tokio::time::Instant::now() + BULK_EVERY;
                wait_for_news(&mut self.changes, self.run, deadline).await;
            }
        }
    }

    async fn gather(&mut self) -> Result<(), ApiError> {
        let store = self.app.engine.store().clone();
        let mut found = Vec::new();
        for event in store.events_after(self.run, self.cursor.journal, PAGE).await? {
            self.cursor.journal = event.seq;
            found.push(self.event("journal", &journal(&event)));
        }
        for row in store.log_after(self.run, self.cursor.log, PAGE).await? {
            self.cursor.log = row.cursor;
            let lines = row.lines.into_iter().map(|l| LogLine { at: l.at, source: l.source, text: l.text });
            found.push(self.event("log", &json!(lines.collect::<Vec<_>>())));
        }
        for row in store.sensor_batches(self.run, self.cursor.sensors, PAGE).await? {
            self.cursor.sensors = Some((row.boot, row.seq));
            found.push(self.event("sensors", &json!(row.batch)));
        }
        found.extend(self.waits().await?);
        found.reverse();
        self.ready = found;
        Ok(())
    }

    /// Why the run waits, where that is news.
    async fn waits(&mut self) -> Result<Option<Event>, ApiError> {
        if self.told == Told::Begun {
            return Ok(None);
        }
        let run = self.app.engine.view(self.run).await?;
        if run.state() != RunState::Queued {
            self.told = Told::Begun;
            return Ok(None);
        }
        // One whose turn has come waits for nothing.
        let Some(wait) = self.app.engine.place(&run) else { return Ok(None) };
        let told = Told::Waits(wait.cause, wait.position);
        let is_news = told != self.told;
        self.told = told;
        let data = json!({
            "why": wait.reason,
            "cause": wait.cause.as_str(),
            "position": wait.position,
            "starts_in_s": wait.starts_in.map(Micros::as_seconds),
        });
        Ok(is_news.then(|| self.event("waits", &data)))
    }

    fn event(&self, kind: &str, data: &serde_json::Value) -> Event {
        Event::default().id(self.cursor.to_string()).event(kind).data(data.to_string())
    }
}

fn journal(event: &JournalEvent) -> serde_json::Value {
    json!(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_reads_back() {
        let some = Cursor { journal: 12, log: 88, sensors: Some((1, 40)) };
        for cursor in [Cursor::default(), some] {
            assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
        }
        assert_eq!(some.to_string(), "j12.l88.s1-40");
        for bad in ["", "12", "j1.l2", "j1.l2.s3", "jx.l2.s3-4"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }
}
