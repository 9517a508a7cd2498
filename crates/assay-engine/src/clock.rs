//! The real clock: the one place that asks the operating system what time it is.

use assay_model::{Clock, Micros};

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]
    fn now(&self) -> Micros {
        Micros(chrono::Utc::now().timestamp_micros())
    }
}
