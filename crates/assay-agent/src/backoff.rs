//! The pause between two tries: short at first, doubling, bounded.

use std::time::Duration;

use crate::Pacing;

#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    last: Duration,
    next: Duration,
}

impl Backoff {
    /// Between tries of what failed.
    pub(crate) fn new(pacing: Pacing) -> Self {
        Self { first: pacing.first_retry, last: pacing.last_retry, next: pacing.first_retry }
    }

    /// Between questions whose answer has not changed.
    pub(crate) fn again(pacing: Pacing) -> Self {
        Self { first: pacing.again, last: pacing.again.max(pacing.last_retry), next: pacing.again }
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.step()).await;
    }

    fn step(&mut self) -> Duration {
        let now = self.next;
        self.next = self.next.saturating_mul(2).min(self.last);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;
    use crate::Pacing;

    #[test]
    fn pauses_double_to_their_bound_and_start_anew_after_a_success() {
        let mut backoff = Backoff::new(Pacing::default());
        let millis: Vec<u128> = (0..7).map(|_| backoff.step().as_millis()).collect();
        assert_eq!(millis, [200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.step().as_millis(), 200);
    }
}
