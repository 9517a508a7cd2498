//! The agent's time: what the server said at `/hello`, plus the machine's monotonic clock.
//!
//! The machine's own date is not used for anything. The monotonic clock counts since the machine booted, so it
//! means the same after the agent was restarted.

use std::time::Duration;

use assay_model::Micros;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// How long ago the machine booted.
pub(crate) fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// Turns time since boot into server time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerClock {
    /// The server's time when the machine booted.
    pub(crate) booted_at: Micros,
}

impl ServerClock {
    /// The server said that it is `server_time`, and `heard` after boot that was heard.
    pub(crate) fn set(server_time: Micros, heard: Duration) -> Self {
        Self { booted_at: server_time.since(micros(heard)) }
    }

    pub(crate) fn at(self, since_boot: Duration) -> Micros {
        self.booted_at.plus(micros(since_boot))
    }
}

fn micros(span: Duration) -> Micros {
    Micros(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use assay_model::Micros;

    use super::{ServerClock, since_boot};

    #[test]
    fn times_before_and_after_the_enrolment_fall_around_the_servers_time() {
        let clock = ServerClock::set(Micros::seconds(1_000_000), Duration::from_secs(30));
        assert_eq!(clock.at(Duration::from_secs(30)), Micros::seconds(1_000_000));
        assert_eq!(clock.at(Duration::from_secs(10)), Micros::seconds(999_980));
        assert_eq!(clock.at(Duration::from_millis(31_500)), Micros(1_000_001_500_000));
    }

    #[test]
    fn the_machine_has_been_up_for_a_while() {
        let first = since_boot();
        assert!(first > Duration::ZERO && since_boot() >= first);
    }
}
