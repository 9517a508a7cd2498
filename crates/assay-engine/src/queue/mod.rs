//! Whose turn it is: runs wait for slots in the pools that runners declare, and each one says why, where it stands and
//! about how long it has to wait.
//!
//! Pure: [`decide`] sees what runners offer, what runs hold, who waits, what was used lately and what operators have
//! ruled; out come the runs in their order, each with its place. Nothing is remembered between two looks, so a restart
//! changes nobody's turn.
//!
//! Reading order: [`waiting`] (what waits and what holds), [`limits`] (what operators have ruled), [`order`] (who comes
//! first: classes, fair shares, aging), [`admission`] (who starts now, and who may overtake), [`reasons`] (what a
//! waiting run is told), [`history`] (how long a run will take, and who used how much), [`supersede`]. [`fleet`] holds
//! the runners with pools as numbers, because ten thousand runs are looked at in one go.
//!
//! The rules, in short; `docs/reference/scheduler.md` has them for operators, with figures:
//! - A run starts only where every pool that it needs has room, one run per target at a time.
//! - More urgent classes go first. Inside a class, a run is *due* when it was asked for, plus what its requester and
//!   its target have used lately and have before it in the queue, stretched by how many share.
//! - A run that is long past its due time rises through the classes, and then nobody that is due later goes before it.
//! - The first run that waits for a runner's slots has them reserved for when they are expected back. A later one may
//!   overtake it only where that does not delay it.

mod admission;
mod fleet;
pub mod history;
pub mod limits;
mod order;
mod reasons;
pub mod supersede;
pub mod waiting;

use std::collections::BTreeMap;

use assay_model::{Micros, RunId};

pub use history::Used;
pub use limits::{Mode, Policy, Stop};
pub use order::{LATE_AFTER, MOST_DEBT};
pub use waiting::{Holding, Waiting};

use crate::live::Offer;

/// The pool that every machine under test needs one of: addresses, boot downloads, one agent's traffic.
pub const NETBOOT: &str = "netboot";

/// Slots by pool.
pub type Slots = BTreeMap<String, u64>;

/// All that deciding needs.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// What the connected runners offer, by their names.
    pub offers: &'a BTreeMap<String, Offer>,
    /// The runs that have begun.
    pub holding: &'a [Holding],
    /// The runs that wait, in any order.
    pub waiting: &'a [Waiting],
    /// What requesters and targets used lately.
    pub used: &'a Used,
    /// What operators have ruled.
    pub policy: &'a Policy,
}

/// What becomes of a waiting run now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its turn has come.
    Admit {
        /// On which runner.
        runner: String,
    },
    /// It waits.
    Wait(Wait),
}

/// What a waiting run is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What it waits for.
    pub cause: Cause,
    /// The whole of it, for people: `3rd in line; needs 4096 MiB of mem, 1024 free; behind run 41 (plausible, Upgrade,
    /// 2 m 10 s); about 3 min`.
    pub reason: String,
    /// Its place in the line, from 1; none for one that does not stand in it.
    pub position: Option<u32>,
    /// In about how long it starts; none where nobody can tell.
    pub starts_in: Option<Micros>,
}

/// What a run waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Slots of a runner.
    Slots,
    /// Another run of the same target.
    Target,
    /// As many runs of its pipeline as may run at once do.
    Limit,
    /// Operators to let runs start again.
    Paused,
    /// A runner that can do it.
    Runner,
}

impl Cause {
    /// The spelling in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slots => "slots",
            Self::Target => "target",
            Self::Limit => "limit",
            Self::Paused => "paused",
            Self::Runner => "runner",
        }
    }
}

/// What becomes of every waiting run, in their order. Close to linear in their number.
pub fn decide(snapshot: &Snapshot<'_>, now: Micros) -> Vec<(RunId, Place)> {
    let fleet = fleet::Fleet::of(snapshot, now);
    let turns = order::turns(snapshot, &fleet, now);
    admission::admit(snapshot, fleet, &turns, now)
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
