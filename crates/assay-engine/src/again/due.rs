//! Whether a schedule's time has come: one pure function.
//!
//! After a while in which nobody was there, at most one time is dealt with, the latest: what is tested is as it is now, and
//! testing it once for each time that was missed would show nothing more. What came too long ago is left out and said to be.

use assay_model::Micros;
use assay_model::schedule::Timing;

use super::times::Times;

/// So much later than its time, a schedule is still in time: what a restart takes.
const IN_TIME: Micros = Micros::seconds(120);
/// Times that are counted as missed, at most.
pub const MOST_MISSED: u32 = 999;

/// What is to be done about a schedule now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing before this time; never with none.
    Wait {
        /// When to look again.
        until: Option<Micros>,
    },
    /// Its time has come.
    Now(Tick),
    /// Its time came too long ago: it is left out.
    TooLate(Tick),
}

/// One of a schedule's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Which.
    pub due: Micros,
    /// How long ago it should have begun.
    pub late: Micros,
    /// How many times before it were missed, [`MOST_MISSED`] at most.
    pub missed: u32,
}

impl Tick {
    /// Whether nobody was there when its time came.
    pub fn is_caught_up(&self) -> bool {
        self.late > IN_TIME || self.missed > 0
    }
}

/// What is to be done about a schedule that is done through a time.
pub fn due(name: &str, timing: &Timing, times: &Times, done_through: Micros, now: Micros) -> Due {
    let Some(latest) = times.latest(now).filter(|latest| *latest > done_through) else {
        let next = times.after(now.max(done_through));
        return Due::Wait { until: next.map(|next| next.plus(times.offset(name, next))) };
    };
    let begins = latest.plus(times.offset(name, latest));
    if now < begins {
        return Due::Wait { until: Some(begins) };
    }
    let tick = Tick {
        due: latest,
        late: now.since(begins),
        missed: times.between(done_through, latest, MOST_MISSED),
    };
    let window = Micros::seconds(i64::from(timing.catch_up_s)).max(IN_TIME);
    if tick.late > window { Due::TooLate(tick) } else { Due::Now(tick) }
}

#[cfg(test)]
#[path = "due_tests.rs"]
mod tests;
