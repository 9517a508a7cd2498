//! A clock that stands still until a test moves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use assay_model::{Clock, Micros};

/// Simulated time. Clones show the same time.
#[derive(Clone, Debug)]
pub struct SimClock(Arc<AtomicI64>);

impl SimClock {
    /// Half past nine on 21 November 2026, UTC.
    pub const START: Micros = Micros::seconds(1_795_253_400);

    /// A clock that shows `at`.
    pub fn at(at: Micros) -> Self {
        Self(Arc::new(AtomicI64::new(at.0)))
    }

    /// Moves it forward.
    pub fn advance(&self, span: Micros) {
        assert!(span.0 >= 0, "time does not run backwards");
        self.0.fetch_add(span.0, Ordering::SeqCst);
    }
}

impl Default for SimClock {
    fn default() -> Self {
        Self::at(Self::START)
    }
}

impl Clock for SimClock {
    fn now(&self) -> Micros {
        Micros(self.0.load(Ordering::SeqCst))
    }
}
