//! Where a scan can go on from: after a crash, a power cut, or because somebody needed the machine.
//!
//! A checkpoint is taken only when no request is under way and all that was written has been flushed, so what it
//! counts is true even if the power goes at the next moment. It belongs to one device and one job; any other is refused.

use serde::{Deserialize, Serialize};

use crate::findings::BadList;
use crate::identity::Identity;
use crate::pattern::Seed;
use crate::plan::{Leave, Pass, Plan};
use crate::scan::Job;
use crate::zones::Zones;

/// Counts up when an older checkpoint can no longer be gone on with.
const VERSION: u32 = 1;

/// Where a scan can go on from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    version: u32,
    identity: Identity,
    plan: Plan,
    leave: Leave,
    seed: Seed,
    pub(crate) tally: Tally,
}

/// A checkpoint cannot be gone on with here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It was written by another version.
    #[error("the checkpoint has format {found}, this program knows {VERSION}; begin the scan anew")]
    Version {
        /// The checkpoint's format.
        found: u32,
    },
    /// It is of another device.
    #[error(
        "the checkpoint is of {before} (serial {before_serial}, {before_bytes} bytes), and {now} is another disk or has \
         another size; begin the scan anew"
    )]
    Device {
        /// The device then.
        before: String,
        /// Its serial number.
        before_serial: String,
        /// Its size.
        before_bytes: u64,
        /// The device now.
        now: String,
    },
    /// It is of another job.
    #[error("the checkpoint is of a scan with another plan, seed or end; go on with that one or begin anew")]
    Job,
    /// Its numbers cannot be true.
    #[error("the checkpoint contradicts itself (pass {pass}); begin the scan anew")]
    Contradiction {
        /// The pass whose numbers are wrong.
        pass: usize,
    },
}

impl Checkpoint {
    pub(crate) fn new(identity: &Identity, job: &Job, tally: Tally) -> Self {
        let Job { plan, leave, seed, .. } = *job;
        Self { version: VERSION, identity: identity.clone(), plan, leave, seed, tally }
    }

    /// The plan that it goes on with.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// What will be left.
    pub fn leave(&self) -> Leave {
        self.leave
    }

    /// The seed that it goes on with.
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// Of which device it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Bytes of all passes that are done.
    pub fn done(&self) -> u64 {
        self.tally.passes.iter().map(|pass| pass.done).sum()
    }

    /// What was counted so far, if this device and job may go on with it.
    pub(crate) fn resume(
        self,
        identity: &Identity,
        job: &Job,
        passes: &[Pass],
    ) -> Result<Tally, CheckpointError> {
        if self.version != VERSION {
            return Err(CheckpointError::Version { found: self.version });
        }
        if !identity.is_same(&self.identity) {
            let Identity { name, serial, bytes, .. } = self.identity;
            return Err(CheckpointError::Device {
                before: name,
                before_serial: serial.unwrap_or_else(|| "none".into()),
                before_bytes: bytes,
                now: identity.name.clone(),
            });
        }
        if (self.plan, self.leave, self.seed) != (job.plan, job.leave, job.seed) {
            return Err(CheckpointError::Job);
        }
        let mut tally = self.tally;
        let mut may_have_begun = true;
        for (number, pass) in passes.iter().enumerate() {
            let contradiction = CheckpointError::Contradiction { pass: number };
            let Some(counted) = tally.passes.get(number) else {
                return Err(contradiction);
            };
            let total = pass.extents.total();
            let whole_blocks =
                counted.done == total || counted.done.is_multiple_of(u64::from(identity.logical_block));
            let possible = counted.good <= counted.done && counted.done <= total && whole_blocks;
            if !possible || (counted.done > 0 && !may_have_begun) {
                return Err(contradiction);
            }
            may_have_begun = counted.done == total;
        }
        if tally.passes.len() != passes.len() || !tally.zones.is_of(identity.bytes) {
            return Err(CheckpointError::Contradiction { pass: passes.len() });
        }
        tally.resumed += 1;
        Ok(tally)
    }
}

/// All that a scan counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) written: u64,
    pub(crate) verified: u64,
    pub(crate) zeroed: u64,
    pub(crate) bad: BadList,
    pub(crate) recovered: u64,
    pub(crate) stalls: u64,
    pub(crate) longest_us: u64,
    pub(crate) zones: Zones,
    pub(crate) passes: Vec<PassTally>,
    pub(crate) nanos: u64,
    pub(crate) cpu_nanos: u64,
    pub(crate) resumed: u32,
}

/// What one pass has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PassTally {
    /// Bytes done. Where no request is under way, this is the position that it goes on from.
    pub(crate) done: u64,
    pub(crate) good: u64,
    pub(crate) nanos: u64,
}

impl Tally {
    pub(crate) fn new(device_bytes: u64, zones: u32, passes: usize) -> Self {
        Self {
            written: 0,
            verified: 0,
            zeroed: 0,
            bad: BadList::default(),
            recovered: 0,
            stalls: 0,
            longest_us: 0,
            zones: Zones::new(device_bytes, zones),
            passes: vec![PassTally::default(); passes],
            nanos: 0,
            cpu_nanos: 0,
            resumed: 0,
        }
    }
}
