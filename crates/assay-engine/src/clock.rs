//! The real clock: the one place that asks the operating system what time it is.

use std::sync::atomic::{AtomicI64, Ordering};

use assay_model::{Clock, Micros};

/// The system's clock, except that it never goes back: a journal's times must be in order even when
/// NTP steps the clock or, on some virtual machines, two processors disagree by seconds.
#[derive(Debug, Default)]
pub struct SystemClock {
    latest: AtomicI64,
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]
    fn now(&self) -> Micros {
        let told = chrono::Utc::now().timestamp_micros();
        Micros(self.latest.fetch_max(told, Ordering::Relaxed).max(told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_back() {
        let clock = SystemClock::default();
        let future = clock.now().0 + 60_000_000;
        clock.latest.store(future, Ordering::Relaxed);
        assert_eq!(clock.now(), Micros(future));
    }
}
