//! The loop over schedules and batches: re-read, decide, act. One of it runs per control plane.
//!
//! It looks once a second. Nothing tells it that a time has come, and what its runs come to is in their rows, so there is nothing
//! to keep between two looks but when the next one is worth it.

use std::collections::HashMap;
use std::time::Duration;

use assay_model::Micros;
use assay_model::text::{clean_to, plural};
use assay_store::{BatchRow, BatchState, NewTick, Outgoing, ScheduleRow, TickKind};
use serde_json::json;
use tracing::{error, info, warn};

use super::due::{Due, Tick, due};
use super::step::{Step, step};
use super::{ASSAY, Batch, MAX_WHY, Schedule, Stand, Written};
use crate::{Engine, EngineError};

/// How often everything is looked at.
const TICK: Duration = Duration::from_secs(1);
/// The longest that a schedule is not looked at: clocks are set, and zones are changed by a new version.
const LOOK_AGAIN: Micros = Micros::seconds(3600);

/// Turns schedules into batches, and batches into runs.
pub struct Scheduler {
    engine: Engine,
    /// Until when a schedule that is done through a time needs no look.
    rests: HashMap<String, (Micros, Micros)>,
}

impl Scheduler {
    /// One that has seen nothing yet.
    pub fn new(engine: Engine) -> Self {
        Self { engine, rests: HashMap::new() }
    }

    /// Goes on until the future is dropped.
    pub async fn run(mut self) {
        loop {
            self.turn().await;
            tokio::time::sleep(TICK).await;
        }
    }

    /// One look at everything. What fails is logged, holds up nothing else, and is tried again at the next look.
    pub async fn turn(&mut self) {
        match self.engine.store.schedules().await {
            Ok(rows) => {
                for row in rows {
                    let name = row.name.clone();
                    if let Err(problem) = self.look_at(row).await {
                        warn!(schedule.name = name, error = %problem, "a schedule's time could not be dealt with; trying again");
                    }
                }
            }
            Err(problem) => error!(error = %problem, "the schedules could not be read; trying again"),
        }
        match self.engine.store.open_batches().await {
            Ok(rows) => {
                for row in rows {
                    let number = row.number;
                    if let Err(problem) = self.engine.advance(row).await {
                        warn!(batch.number = number, error = %problem, "a batch could not go on; trying again");
                    }
                }
            }
            Err(problem) => error!(error = %problem, "the batches could not be read; trying again"),
        }
    }

    async fn look_at(&mut self, row: ScheduleRow) -> Result<(), EngineError> {
        let now = self.engine.now();
        let rested = self.rests.get(&row.name);
        if row.paused.is_some()
            || rested.is_some_and(|(through, until)| *through == row.done_through && now < *until)
        {
            return Ok(());
        }
        let Schedule { row, written } = Schedule::of(row);
        let rest = |until: Micros| (row.done_through, until.min(now.plus(LOOK_AGAIN)));
        let (written, times) = match written {
            Ok(written) => written,
            Err(why) => {
                error!(schedule.name = row.name, "the schedule is left out: {why}");
                self.rests.insert(row.name.clone(), rest(Micros(i64::MAX)));
                return Ok(());
            }
        };
        match due(&row.name, &written.timing, &times, row.done_through, now) {
            Due::Wait { until } => {
                self.rests.insert(row.name.clone(), rest(until.unwrap_or(Micros(i64::MAX))));
                Ok(())
            }
            Due::Now(tick) => self.engine.take(&row, &written, tick, false).await,
            Due::TooLate(tick) => self.engine.take(&row, &written, tick, true).await,
        }
    }
}

impl Engine {
    /// Deals with a schedule's time.
    async fn take(
        &self,
        row: &ScheduleRow,
        written: &Written,
        tick: Tick,
        too_late: bool,
    ) -> Result<(), EngineError> {
        let name = &row.name;
        let (kind, batch, note) = if too_late {
            let late = plural(usize::try_from(tick.late.0 / 60_000_000).unwrap_or_default(), "minute");
            let note = format!("nobody was there; {late} later is too late for it");
            (TickKind::Missed, None, note)
        } else {
            let (batch, note) = self.scheduled(name, written).await?;
            let kind = if tick.is_caught_up() { TickKind::CaughtUp } else { TickKind::Due };
            (kind, batch, note)
        };
        let new = NewTick {
            schedule: name.clone(),
            done_through: row.done_through,
            due: tick.due,
            at: self.now(),
            kind,
            missed: tick.missed,
            note: clean_to(&note, MAX_WHY),
            batch,
        };
        let (taken, batch) = self.store.schedule_take(&new).await?;
        if taken {
            info!(
                schedule.name = name,
                schedule.due = %tick.due.rfc3339(),
                batch.number = batch,
                "schedule {name}: {} ({})",
                new.note,
                kind.as_str()
            );
        }
        Ok(())
    }

    /// Does what there is to be done about a batch now.
    async fn advance(&self, row: BatchRow) -> Result<(), EngineError> {
        let mut batch = self.batch_of(row).await?;
        // Each look either rests or brings at least one of its targets further.
        for _ in 0..=batch.items.len() {
            let stands: Vec<(Stand, bool)> =
                batch.items.iter().map(|(item, stand)| (*stand, item.forgiven)).collect();
            match step(&batch.row.state, batch.limits, &stands) {
                Step::Rest => return Ok(()),
                Step::End => return self.end(&batch).await,
                Step::Stop { failed } => return self.stop(&batch, &failed).await,
                Step::Begin(places) => {
                    for place in places {
                        self.begin_or_leave_out(&batch, place).await?;
                    }
                }
            }
            batch = self.batch(batch.row.number).await?;
        }
        Ok(())
    }

    async fn begin_or_leave_out(&self, batch: &Batch, place: usize) -> Result<(), EngineError> {
        let (item, _) = &batch.items[place];
        match self.begin(&batch.row, &batch.again, item).await {
            Ok(()) => Ok(()),
            // It will not do later either, or somebody has to see to it first.
            Err(
                refused @ (EngineError::Refused(_)
                | EngineError::Invalid(_)
                | EngineError::NotFound(_)
                | EngineError::Illegal(_)),
            ) => {
                let why = clean_to(&refused.to_string(), MAX_WHY);
                info!(batch.number = batch.row.number, target = item.target, "left out: {why}");
                Ok(self.store.batch_leave_out(item.batch, item.ordinal, &why).await?)
            }
            Err(other) => Err(other),
        }
    }

    async fn stop(&self, batch: &Batch, failed: &[usize]) -> Result<(), EngineError> {
        let number = batch.row.number;
        let named = failed.iter().map(|place| {
            let (item, _) = &batch.items[*place];
            let run = item.run.as_ref().map(|run| format!(" (run {})", run.number));
            format!("{}{}", item.target, run.unwrap_or_default())
        });
        let named = named.collect::<Vec<_>>().join(", ");
        let why = clean_to(&format!("{} failed: {named}", failed.len()), MAX_WHY);
        let news = news_of(batch, failed, &why);
        if self.store.batch_stop(number, (ASSAY, &why), news.as_ref(), self.now()).await? {
            warn!(batch.number = number, "batch {number} is stopped: {why}");
            let detail = json!({ "batch": number, "why": why });
            self.store.audit(self.now(), ASSAY, "batch stopped", &detail).await?;
        }
        Ok(())
    }

    async fn end(&self, batch: &Batch) -> Result<(), EngineError> {
        let number = batch.row.number;
        if self.store.batch_move(number, &batch.row.state, &BatchState::Ended, self.now()).await? {
            info!(batch.number = number, "batch {number} has ended: {}", batch.progress().told());
        }
        Ok(())
    }
}

/// What people are told of a batch that stops itself. It is about the last run that failed: news is about runs. None where the store
/// has forgotten all of them.
fn news_of(batch: &Batch, failed: &[usize], why: &str) -> Option<Outgoing> {
    let number = batch.row.number;
    let runs = failed.iter().filter_map(|place| {
        let (item, _) = &batch.items[*place];
        Some((item.run.as_ref()?, item.target.as_str()))
    });
    let (run, target) = runs.max_by_key(|(run, _)| run.number)?;
    let payload = json!({
        "run": run.number,
        "host": target,
        "batch": number,
        "what": batch.again.told(),
        "asked_by": batch.row.asked_by,
        "why": why,
        "waiting": batch.progress().waiting,
    });
    // Resumed, it may stop itself once more, and then by another run.
    let id = format!("batch:{number}:{}", run.number);
    Some(Outgoing { id, event: "BatchStopped".to_owned(), payload, run: run.id })
}
