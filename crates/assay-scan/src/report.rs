//! What a scan says while it runs and when it has ended.

use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::findings::{BadRange, Counts};
use crate::identity::Identity;
use crate::pattern::{Pattern, Seed};
use crate::plan::{Leave, PassKind, Plan};
use crate::zones::Zone;

/// What is told while a scan runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// How far it is; about once a second.
    Progress(Progress),
    /// Where it can go on from. All that it counts as written is on the medium.
    Checkpoint(&'a Checkpoint),
    /// A request takes long. It is told once, and the scan waits on.
    Stall(Stall),
    /// Something bad that is not next to what was told before.
    Found(&'a BadRange),
}

/// How far a scan is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes of all passes that are done.
    pub done: u64,
    /// Bytes of all passes.
    pub total: u64,
    /// The pass that runs, counted from 0.
    pub pass: u32,
    /// How many passes there are.
    pub passes: u32,
    /// What it does.
    pub kind: PassKind,
    /// With which pattern.
    pub pattern: Pattern,
    /// Bytes per second in this pass since the scan began or was resumed.
    pub bytes_per_second: u64,
    /// Seconds until the end at that rate; none before there is one. A disk gets slower towards its end.
    pub seconds_left: Option<u64>,
    /// Bad bytes so far.
    pub bad_bytes: u64,
}

/// A request that takes long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stall {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it has been under way, in seconds.
    pub seconds: f64,
}

/// Why a scan ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The caller wanted it.
    Cancelled,
    /// The device is no longer there, or has another size.
    Gone {
        /// The system's error number at that moment.
        errno: i32,
    },
    /// A request did not come back.
    Hung(Stall),
    /// More bad sectors than a disk in use may have; the rest was not looked at.
    TooManyErrors,
    /// So much came back wrong that the rest says nothing more.
    TooMuchWrong,
    /// The device took writes and then could not put them on the medium.
    FlushFailed {
        /// The system's error number.
        errno: i32,
    },
}

/// One pass, planned and done.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PassReport {
    /// What it does.
    pub kind: PassKind,
    /// With which pattern.
    pub pattern: Pattern,
    /// Bytes that it was to cover.
    pub planned: u64,
    /// Bytes that it covered, well or badly.
    pub done: u64,
    /// Bytes without anything wrong.
    pub good: u64,
    /// How long it took.
    pub seconds: f64,
}

/// A scan that has ended. What it counts was done in this scan and the ones that it resumes, and nowhere else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScanResult {
    /// Who was scanned.
    pub identity: Identity,
    /// Its size.
    pub device_bytes: u64,
    /// How much was to be scanned.
    pub plan: Plan,
    /// What was to be left.
    pub leave: Leave,
    /// What the pseudo-random data were made from.
    pub seed: Seed,
    /// All planned passes, those that were not reached among them.
    pub passes: Vec<PassReport>,
    /// Bytes written with patterns, over all passes.
    pub bytes_written: u64,
    /// Bytes that read back right, over all verify passes.
    pub bytes_verified: u64,
    /// Bytes zeroed.
    pub bytes_zeroed: u64,
    /// The first bad ranges.
    pub bad: Vec<BadRange>,
    /// How many more ranges there are.
    pub bad_dropped: u64,
    /// Bytes per class.
    pub counts: Counts,
    /// Where addresses repeat: the room that a counterfeit device really has, or a divisor of it.
    pub capacity_hint: Option<u64>,
    /// Requests that failed and went well in smaller pieces.
    pub recovered: u64,
    /// Requests that took longer than the limit for stalls.
    pub stalls: u64,
    /// The longest request, in seconds.
    pub longest_request_seconds: f64,
    /// Speed by place.
    pub zones: Vec<Zone>,
    /// How long it took, without the time between being stopped and being resumed.
    pub seconds: f64,
    /// Processor time of the scanning thread.
    pub cpu_seconds: f64,
    /// How often it was resumed.
    pub resumed: u32,
    /// Why it ended early; none when every pass came to its end.
    pub stopped: Option<Stop>,
}

impl ScanResult {
    /// Bytes that were written and read back right in every pattern of the plan: what the scan speaks for. At most
    /// this much is proven, and nothing before the last verify pass has begun.
    pub fn covered_bytes(&self) -> u64 {
        self.passes
            .iter()
            .filter(|pass| pass.kind == PassKind::Verify)
            .map(|pass| pass.good)
            .min()
            .unwrap_or_default()
    }

    /// Whether every pass came to its end without anything bad.
    pub fn is_clean(&self) -> bool {
        self.stopped.is_none()
            && self.counts.total() == 0
            && !self.passes.is_empty()
            && self.passes.iter().all(|pass| pass.good == pass.planned)
    }
}
