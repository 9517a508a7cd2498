//! When a delivery is tried again, and when it is given up. Pure.

use std::time::Duration;

use assay_model::Micros;

/// The pause after the first failure; it doubles with each further one.
pub const FIRST: Micros = Micros::seconds(30);
/// The longest pause.
pub const LONGEST: Micros = Micros::seconds(3600);
/// How long a notification is kept for a sink that does not take it.
pub const KEEP: Micros = Micros::seconds(3 * 24 * 3600);

/// When to try again after `attempts` failures; `None` when the notification is too old by then.
/// `asked` is how long the receiver asked to be left alone.
pub fn next_try(attempts: u32, created_at: Micros, now: Micros, asked: Option<Duration>) -> Option<Micros> {
    let doubled = FIRST.0.saturating_mul(1 << attempts.saturating_sub(1).min(20));
    let asked = asked.map_or(0, |span| i64::try_from(span.as_micros()).unwrap_or(i64::MAX));
    let at = now.plus(Micros(doubled.max(asked).min(LONGEST.0)));
    (at.since(created_at).0 <= KEEP.0).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour() {
        let now = Micros::seconds(1_000_000);
        let pause = |attempts| next_try(attempts, now, now, None).map(|at| at.since(now).as_seconds());
        let pauses: Vec<_> = (1..=9).map_while(pause).collect();
        assert_eq!(pauses, [30.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0, 3600.0]);
        assert_eq!(pause(u32::MAX), Some(3600.0));
    }

    #[test]
    fn a_receiver_may_ask_for_more_time_but_not_for_ever() {
        let now = Micros::seconds(0);
        let at = |seconds| next_try(1, now, now, Some(Duration::from_secs(seconds)));
        assert_eq!(at(5), Some(Micros::seconds(30)));
        assert_eq!(at(600), Some(Micros::seconds(600)));
        assert_eq!(at(u64::MAX), Some(Micros::seconds(3600)));
    }

    #[test]
    fn after_three_days_it_is_given_up() {
        let created = Micros::seconds(0);
        let late = KEEP.plus(Micros::seconds(-3600));
        assert!(next_try(80, created, late, None).is_some());
        assert_eq!(next_try(80, created, late.plus(Micros(1)), None), None);
    }

    #[test]
    fn an_hour_of_absence_costs_few_tries() {
        let created = Micros::seconds(0);
        let (mut now, mut attempts) = (created, 0);
        while now < Micros::seconds(3600) {
            attempts += 1;
            now = next_try(attempts, created, now, None).expect("kept");
        }
        assert_eq!(attempts, 7);
        assert!(now < Micros::seconds(2 * 3600), "told within an hour of the sink's return");
    }
}
