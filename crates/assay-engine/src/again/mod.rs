//! What is tested again: schedules, and batches over many targets.
//!
//! A schedule's time becomes a batch, and a batch becomes runs; operators ask for batches, too ("vet the fleet"). Reading order:
//! [`times`] (when a schedule's time comes), [`due`] (what is to be done about it now), [`step`] (what a batch does next): pure,
//! all three. `choose` says which targets, `begin` makes a run of one, `scheduler` is the loop that alternates the two.
//!
//! Each thing happens once, also over a kill. A time is taken in one transaction with its batch, and its row's key is the schedule
//! and the time. Each target of a batch has the id of its run from the beginning, so whether it has begun is whether there is
//! such a run.
//!
//! What it is not: it admits nothing. Its runs wait in the queue as any other, in the class `schedule`.

mod begin;
mod choose;
pub mod due;
pub mod scheduler;
pub mod step;
pub mod times;

use assay_model::schedule::{Again, Limits, Timing, is_name};
use assay_model::{Micros, text};
use assay_store::{BatchItemRow, BatchRow, BatchState, NewBatch, NewItem, NewTick, ScheduleRow, TickKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::requests::new_run;
use crate::{Engine, EngineError};

pub use choose::{Choice, Chosen};
pub use scheduler::Scheduler;
pub use step::{Progress, Stand};
pub use times::Times;

/// Who stops a batch that nobody has stopped.
const ASSAY: &str = "assay";
/// Most that a limit may be, and most names in one list.
const MOST: usize = 10_000;
/// Longest reason that operators may give, and longest note that is kept of a schedule's time.
const MAX_WHY: usize = 300;

/// What a schedule was written to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// When.
    pub timing: Timing,
    /// What is tested.
    pub again: Again,
    /// What holds its batches back.
    #[serde(default)]
    pub limits: Limits,
}

/// A schedule.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Its row.
    pub row: ScheduleRow,
    /// What it was written to do; why that does not read otherwise.
    pub written: Result<(Written, Times), String>,
}

/// A batch with its targets.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its row.
    pub row: BatchRow,
    /// What is tested.
    pub again: Again,
    /// What holds it back.
    pub limits: Limits,
    /// Its targets in their order, and where each stands.
    pub items: Vec<(BatchItemRow, Stand)>,
}

/// What a batch was asked for, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    again: Again,
    #[serde(default)]
    limits: Limits,
}

impl Schedule {
    fn of(row: ScheduleRow) -> Self {
        let written = serde_json::from_value(row.body.clone())
            .map_err(|e| format!("it does not read ({e}); has a newer version of Assay written it?"))
            .and_then(|written: Written| {
                let times = Times::of(&written.timing).map_err(|e| e.to_string())?;
                Ok((written, times))
            });
        Self { row, written }
    }

    /// When it begins next, so many times; never while it rests.
    pub fn next(&self, now: Micros, count: usize) -> Vec<Micros> {
        match &self.written {
            Ok((_, times)) if self.row.paused.is_none() => {
                times.next(&self.row.name, self.row.done_through, now, count)
            }
            _ => Vec::new(),
        }
    }
}

impl Batch {
    /// How many stand where.
    pub fn progress(&self) -> Progress {
        Progress::of(self.items.iter().map(|(_, stand)| *stand))
    }
}

impl Engine {
    /// Every schedule, by name.
    pub async fn schedules(&self) -> Result<Vec<Schedule>, EngineError> {
        Ok(self.store.schedules().await?.into_iter().map(Schedule::of).collect())
    }

    /// The schedule of this name.
    pub async fn schedule(&self, name: &str) -> Result<Schedule, EngineError> {
        let row = self.store.schedule(name).await?;
        row.map(Schedule::of).ok_or_else(|| no_schedule(name))
    }

    /// Writes a schedule; `replace` changes one that is there. From now on: what it was written to do before is not caught up with.
    pub async fn put_schedule(
        &self,
        name: &str,
        written: &Written,
        by: &str,
        replace: bool,
    ) -> Result<Schedule, EngineError> {
        let invalid = EngineError::Invalid;
        if !is_name(name) {
            let why = "a schedule's name has letters, digits, `.`, `_` and `-`, at most 64";
            return Err(invalid(why.to_owned()));
        }
        let now = self.now();
        let times = Times::of(&written.timing).map_err(|e| invalid(e.to_string()))?;
        times.comes_after(now).map_err(|e| invalid(e.to_string()))?;
        self.check_again(&written.again, written.limits).await?;
        let known = self.store.schedule(name).await?;
        if known.is_some() && !replace {
            let why =
                format!("there is a schedule {name} already; `assay schedule add --replace` changes it");
            return Err(EngineError::Refused(why));
        }
        let row = ScheduleRow {
            name: name.to_owned(),
            body: serde_json::to_value(written)
                .map_err(|e| invalid(format!("the schedule does not serialise: {e}")))?,
            created_by: by.to_owned(),
            created_at: now,
            changed_at: now,
            paused: None,
            done_through: now,
        };
        self.store.schedule_put(&row).await?;
        self.schedule(name).await
    }

    /// Lets a schedule rest, or go on. What its rest left out stays left out.
    pub async fn pause_schedule(&self, name: &str, by: Option<&str>) -> Result<Schedule, EngineError> {
        if !self.store.schedule_pause(name, by, self.now()).await? {
            return Err(no_schedule(name));
        }
        self.schedule(name).await
    }

    /// Forgets a schedule. Its batches and runs stay, and go on.
    pub async fn remove_schedule(&self, name: &str) -> Result<(), EngineError> {
        if self.store.schedule_remove(name).await? { Ok(()) } else { Err(no_schedule(name)) }
    }

    /// Does what a schedule does now, out of turn; the number of the batch, and what is to be said of it.
    pub async fn run_schedule(&self, name: &str, by: &str) -> Result<(Option<i64>, String), EngineError> {
        let schedule = self.schedule(name).await?;
        let written = match &schedule.written {
            Ok((written, _)) => written,
            Err(why) => return Err(EngineError::Invalid(format!("schedule {name}: {why}"))),
        };
        let now = self.now();
        let (batch, note) = self.scheduled(name, written).await?;
        let note = text::clean_to(&format!("asked for by {by}; {note}"), MAX_WHY);
        let tick = NewTick {
            schedule: name.to_owned(),
            done_through: schedule.row.done_through,
            // Odd microseconds: times of their own are whole minutes, and each is in the table once.
            due: Micros(now.0 | 1),
            at: now,
            kind: TickKind::Asked,
            missed: 0,
            note: note.clone(),
            batch,
        };
        match self.store.schedule_take(&tick).await? {
            (true, number) => Ok((number, note)),
            (false, _) => Err(EngineError::Refused(format!(
                "schedule {name} has just begun by itself; look at it again"
            ))),
        }
    }

    /// The batches with a smaller number than this one, the newest first.
    pub async fn batches(&self, before: Option<i64>, limit: u32) -> Result<Vec<Batch>, EngineError> {
        let mut out = Vec::new();
        for row in self.store.batches(before, limit).await? {
            out.push(self.batch_of(row).await?);
        }
        Ok(out)
    }

    /// The batch of this number.
    pub async fn batch(&self, number: i64) -> Result<Batch, EngineError> {
        let row = self.store.batch(number).await?;
        self.batch_of(row.ok_or_else(|| EngineError::NotFound(format!("batch {number}")))?).await
    }

    /// What a batch would be: its targets in their order, and those that would be left out. Clusters are asked about their members.
    pub async fn plan_batch(&self, again: &Again, limits: Limits) -> Result<Vec<Chosen>, EngineError> {
        self.check_again(again, limits).await?;
        Ok(self.choose(again, true).await?.chosen)
    }

    /// Begins a batch. Those that stand against it are kept in it with the reason.
    pub async fn begin_batch(&self, again: &Again, limits: Limits, by: &str) -> Result<Batch, EngineError> {
        let chosen = self.plan_batch(again, limits).await?;
        if chosen.iter().all(|one| one.against.is_some()) {
            let one = chosen.first().and_then(|one| Some(format!("{}: {}", one.name, one.against.as_ref()?)));
            let why = one
                .map_or_else(|| "there is none".to_owned(), |one| format!("none may be tested now; {one}"));
            return Err(EngineError::Refused(format!("nothing to test: {why}")));
        }
        let batch = new_batch(again, limits, by, chosen);
        let number = self.store.batch_create(&batch, self.now()).await?;
        self.batch(number).await
    }

    /// Begins nothing more of a batch; what was begun goes on.
    pub async fn stop_batch(&self, number: i64, by: &str, why: &str) -> Result<Batch, EngineError> {
        let to = BatchState::Stopped { by: by.to_owned(), why: text::clean_to(why, MAX_WHY) };
        if !self.store.batch_move(number, &BatchState::Running, &to, self.now()).await? {
            let batch = self.batch(number).await?;
            let state = batch.row.state.as_str();
            return Err(EngineError::Refused(format!(
                "batch {number} is {state}; only one that is running can be stopped"
            )));
        }
        self.batch(number).await
    }

    /// Lets a stopped batch go on. What has failed so far does not stop it again.
    pub async fn resume_batch(&self, number: i64) -> Result<Batch, EngineError> {
        let batch = self.batch(number).await?;
        let failed: Vec<i64> = batch
            .items
            .iter()
            .filter(|(_, stand)| stand.is_failure())
            .map(|(item, _)| item.ordinal)
            .collect();
        if !self.store.batch_resume(number, &failed, self.now()).await? {
            let state = batch.row.state.as_str();
            return Err(EngineError::Refused(format!(
                "batch {number} is {state}; only one that is stopped can go on"
            )));
        }
        self.batch(number).await
    }

    /// The labels of a host, replaced by these.
    pub async fn label_host(&self, host: assay_model::HostId, labels: &[String]) -> Result<(), EngineError> {
        if let Some(bad) = labels.iter().find(|label| !is_name(label)) {
            return Err(EngineError::Invalid(format!(
                "`{}` is no label: letters, digits, `.`, `_` and `-`, at most 64",
                text::clean_to(bad, 64)
            )));
        }
        Ok(self.store.host_label(host, &labels.iter().cloned().collect()).await?)
    }

    /// What may be asked for at all.
    async fn check_again(&self, again: &Again, limits: Limits) -> Result<(), EngineError> {
        let invalid = |why: &str| Err(EngineError::Invalid(why.to_owned()));
        for limit in [limits.at_most, limits.stop_after].into_iter().flatten() {
            if limit == 0 || limit as usize > MOST {
                return invalid("a limit is a number from 1 to 10000");
            }
        }
        let lists: Vec<&Vec<String>> = match again {
            Again::Hosts { names, labels, kinds, .. } => vec![names, labels, kinds],
            Again::Recipes { names, .. } => vec![names],
            Again::Image { .. } => Vec::new(),
        };
        if lists.iter().any(|list| list.len() > MOST || list.iter().any(|word| word.trim().is_empty())) {
            return invalid("a name, a label or a kind is empty, or there are more than 10000 of them");
        }
        let unknown = self.choose(again, false).await?.unknown;
        if unknown.is_empty() { Ok(()) } else { invalid(&unknown.join("; ")) }
    }

    /// What a schedule's time becomes: a batch, where anything is to be tested, and what is to be said of it.
    async fn scheduled(
        &self,
        name: &str,
        written: &Written,
    ) -> Result<(Option<NewBatch>, String), EngineError> {
        let Choice { mut chosen, unknown } = self.choose(&written.again, false).await?;
        let unfinished = self.unfinished(name).await?;
        for one in &mut chosen {
            if let Some((_, why)) = unfinished.iter().find(|(target, _)| *target == one.id) {
                one.against = Some(why.clone());
            }
        }
        let left_out = chosen.iter().filter(|one| one.against.is_some()).count();
        let mut note = vec![text::plural(chosen.len() - left_out, "target")];
        if left_out > 0 {
            note.push(format!("{left_out} left out"));
        }
        note.extend(unknown);
        let asked_by = format!("schedule {name}");
        let batch =
            (!chosen.is_empty()).then(|| new_batch(&written.again, written.limits, &asked_by, chosen));
        Ok((batch, text::clean_to(&note.join("; "), MAX_WHY)))
    }

    /// The targets that a schedule has asked for already and that are not over, each with the reason why it is not asked for again.
    async fn unfinished(&self, schedule: &str) -> Result<Vec<(assay_model::TargetId, String)>, EngineError> {
        let mut out = Vec::new();
        let open = self.store.open_batches().await?;
        for row in open.into_iter().filter(|row| row.schedule.as_deref() == Some(schedule)) {
            let batch = row.number;
            for item in self.store.batch_items(batch).await? {
                let why = match (Stand::of(&item), &item.run) {
                    (Stand::Waits, _) => format!("it still waits in batch {batch} of the same schedule"),
                    (Stand::UnderWay | Stand::Held, Some(run)) => {
                        format!("run {} of the same schedule has not ended ({})", run.number, run.state)
                    }
                    _ => continue,
                };
                out.push((item.target_id, why));
            }
        }
        Ok(out)
    }

    pub(crate) async fn batch_of(&self, row: BatchRow) -> Result<Batch, EngineError> {
        let asked: Asked = serde_json::from_value(row.body.clone()).map_err(|e| {
            let number = row.number;
            EngineError::Invalid(format!(
                "batch {number} does not read ({e}); has a newer version of Assay written it?"
            ))
        })?;
        let items = self.store.batch_items(row.number).await?;
        let items = items.into_iter().map(|item| (Stand::of(&item), item)).map(|(stand, item)| (item, stand));
        Ok(Batch { again: asked.again, limits: asked.limits, items: items.collect(), row })
    }
}

fn new_batch(again: &Again, limits: Limits, by: &str, chosen: Vec<Chosen>) -> NewBatch {
    let item =
        |one: Chosen| NewItem { target_id: one.id, target: one.name, run: new_run(), left_out: one.against };
    let body: Value = json!({ "again": again, "limits": limits });
    NewBatch { body, asked_by: by.to_owned(), items: chosen.into_iter().map(item).collect() }
}

fn no_schedule(name: &str) -> EngineError {
    EngineError::NotFound(format!("schedule `{}`", text::clean_to(name, 64)))
}
