//! What is tested again: `/api/v1/schedules` and `/api/v1/batches`.

use assay_model::schedule::{Again, Limits};
use assay_model::{Micros, RunState};
use serde::{Deserialize, Serialize};

/// `POST /api/v1/schedules`, and `PUT /api/v1/schedules/{name}`: writes a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSchedule {
    /// Its name.
    pub name: String,
    /// Five fields of cron: `0 3 * * 1-5`.
    pub cron: String,
    /// The time zone that they are read in (default `UTC`).
    #[serde(default)]
    pub zone: Option<String>,
    /// How long after its time it is caught up with, in seconds (default twelve hours).
    #[serde(default)]
    pub catch_up_s: Option<u32>,
    /// Over how long schedules of one time are spread, in seconds (default five minutes).
    #[serde(default)]
    pub spread_s: Option<u32>,
    /// What is tested.
    pub again: Again,
    /// What holds its batches back; where hosts are vetted one at once, and until two have failed, unless it says otherwise.
    #[serde(default)]
    pub limits: Option<Limits>,
}

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// Why it cannot be read, where it cannot; then it does nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Five fields of cron.
    pub cron: String,
    /// The time zone that they are read in.
    pub zone: String,
    /// How long after its time it is caught up with, in seconds.
    pub catch_up_s: u32,
    /// Over how long schedules of one time are spread, in seconds.
    pub spread_s: u32,
    /// What is tested, in words.
    pub does: String,
    /// What is tested; none where it does not read.
    pub again: Option<Again>,
    /// What holds its batches back.
    pub limits: Limits,
    /// Who let it rest, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// Who wrote it first.
    pub created_by: String,
    /// When.
    pub created_at: Micros,
    /// When it begins next, its own place among schedules of the same time included: five times.
    pub next: Vec<At>,
    /// What became of its latest times, the latest first.
    pub times: Vec<Time>,
}

/// An instant, and as the clocks of the schedule's time zone show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// Which.
    pub at: Micros,
    /// `Sun 29 Mar 03:00:12 CEST`.
    pub shown: String,
}

/// Who let a schedule rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// An operator's name.
    pub by: String,
    /// Since when.
    pub since: Micros,
}

/// What became of a schedule's time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time {
    /// Which.
    pub due: Micros,
    /// When it was dealt with.
    pub at: Micros,
    /// `due`, `caught_up`, `missed` or `asked`.
    pub kind: String,
    /// How many times before it were missed.
    pub missed: u32,
    /// The batch that it became.
    pub batch: Option<i64>,
    /// How that stands: `12 of 40, 2 under way`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// What is to be said of it.
    pub note: String,
}

/// `POST /api/v1/schedules/{name}`: `{"rule": "pause"}`. Answers with the schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleRule {
    /// It rests.
    Pause,
    /// It goes on; what its rest left out stays left out.
    Resume,
    /// It does now what it does, out of turn.
    Run,
}

/// `POST /api/v1/batches`, and `POST /api/v1/batches/plan`, which begins nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewBatch {
    /// What is tested.
    pub again: Again,
    /// What holds it back; where hosts are vetted one at once, and until two have failed, unless it says otherwise.
    #[serde(default)]
    pub limits: Option<Limits>,
}

/// What a batch would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What is tested, in words.
    pub does: String,
    /// What holds it back.
    pub limits: Limits,
    /// Its targets, the first one first, those that would be left out.
    pub targets: Vec<Planned>,
}

/// A target of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// When it was last tested to a verdict; none for never.
    pub last: Option<Micros>,
    /// Why it would be left out, if so.
    pub against: Option<String>,
}

/// A batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Its number.
    pub number: i64,
    /// What is tested, in words.
    pub does: String,
    /// What is tested.
    pub again: Again,
    /// What holds it back.
    pub limits: Limits,
    /// Who asked: an operator, or `schedule NAME`.
    pub asked_by: String,
    /// The schedule that it came of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// When it was asked for.
    pub created_at: Micros,
    /// `running`, `stopped` or `ended`.
    pub state: String,
    /// Who stopped it, where somebody did; `assay` where it was too many failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when it has been in this state.
    pub since: Micros,
    /// How it stands: `12 of 40, 2 under way, 1 held`.
    pub progress: String,
    /// The same as numbers.
    pub counts: Counts,
    /// Its targets in their order; empty in a list of batches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Target>,
}

/// How many of a batch's targets stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All that are tested: those left out are not among them.
    pub all: usize,
    /// Not begun.
    pub waiting: usize,
    /// Queued or under test.
    pub under_way: usize,
    /// Held until somebody decides.
    pub held: usize,
    /// Passed.
    pub passed: usize,
    /// Failed, and not held any more.
    pub failed: usize,
    /// Without a verdict: the runner failed.
    pub no_verdict: usize,
    /// Cancelled.
    pub cancelled: usize,
    /// Not tested at all.
    pub left_out: usize,
}

/// One of a batch's targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// `waits`, `left_out`, `under_way`, `held`, `passed`, `failed`, `no_verdict` or `cancelled`.
    pub stand: String,
    /// Its run's number, once it has begun.
    pub run: Option<i64>,
    /// Its run's state.
    pub state: Option<RunState>,
    /// The stage that its run is in, while it runs.
    pub stage: Option<String>,
    /// Why it is left out, or waits.
    pub note: Option<String>,
}

/// `POST /api/v1/batches/{number}`: `{"rule": "stop", "why": "the power is going"}`. Answers with the batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub enum BatchRule {
    /// Nothing more is begun; what was begun goes on.
    Stop {
        /// Why.
        #[serde(default)]
        why: String,
    },
    /// It goes on; what has failed so far does not stop it again.
    Resume,
}

/// `PUT /api/v1/hosts/{name}/labels`: a host's labels, all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// Letters, digits, `.`, `_` and `-`; none takes all away.
    pub labels: Vec<String>,
}
