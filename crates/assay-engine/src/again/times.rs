//! A schedule's times: five fields of cron, read in a time zone.
//!
//! On a day whose clocks go forward, a time of the day that does not exist comes right after the gap; on one whose clocks go
//! back, a time of the day that exists twice comes once, the first time. What comes every so often (`*/15 * * * *`) has no times
//! in the gap, and comes in both halves of the hour that is repeated.

use assay_model::schedule::Timing;
use assay_model::text::{clean_to, did_you_mean};
use assay_model::{Micros, Sha256};
use chrono::{DateTime, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// Longest pattern.
const MAX_CRON: usize = 100;
/// Longest catching up, and longest spread.
const MAX_SPAN_S: u32 = 7 * 24 * 3600;
/// Schedules are spread over this part of what lies between two of their times, however long they may be spread.
const PART: i64 = 10;

/// A schedule's times.
#[derive(Clone, Debug)]
pub struct Times {
    cron: Cron,
    zone: Tz,
    spread: Micros,
}

/// A schedule whose times cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTiming {
    /// It is no cron pattern.
    #[error(
        "`{cron}` does not read ({why}); write five fields, minute hour day-of-month month day-of-week: `0 3 * * 1-5` is every \
         weekday at three"
    )]
    Cron {
        /// What was written.
        cron: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is no time zone.
    #[error("there is no time zone `{zone}`{then}")]
    Zone {
        /// What was written.
        zone: String,
        /// What may have been meant, or how one is written.
        then: String,
    },
    /// It never comes.
    #[error("`{0}` never comes")]
    Never(String),
    /// It is too long.
    #[error("{what} of {seconds} s is too long; at most a week")]
    TooLong {
        /// What.
        what: &'static str,
        /// How long.
        seconds: u32,
    },
}

impl Times {
    /// Reads a schedule's times.
    ///
    /// # Errors
    /// What is wrong with them, and how they are written.
    pub fn of(timing: &Timing) -> Result<Self, BadTiming> {
        let told = clean_to(&timing.cron, MAX_CRON);
        let bad = |why: String| BadTiming::Cron { cron: told.clone(), why };
        if timing.cron.len() > MAX_CRON {
            return Err(bad(format!("it is longer than {MAX_CRON} characters")));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron =
            parser.parse(&timing.cron).map_err(|e| bad(e.to_string().trim_end_matches('.').to_owned()))?;
        let zone: Tz = timing.zone.parse().map_err(|_| {
            let zone = clean_to(&timing.zone, 60);
            let known: Vec<&str> = TZ_VARIANTS.iter().map(|zone| zone.name()).collect();
            let meant = did_you_mean(&zone, &known);
            let then =
                if meant.is_empty() { "; write one as `Europe/Berlin`, or `UTC`".to_owned() } else { meant };
            BadTiming::Zone { zone, then }
        })?;
        let spans = [("catching up", timing.catch_up_s), ("a spread", timing.spread_s)];
        if let Some((what, seconds)) = spans.into_iter().find(|(_, seconds)| *seconds > MAX_SPAN_S) {
            return Err(BadTiming::TooLong { what, seconds });
        }
        Ok(Self { cron, zone, spread: Micros::seconds(i64::from(timing.spread_s)) })
    }

    /// That it comes at all after a time.
    ///
    /// # Errors
    /// It does not.
    pub fn comes_after(&self, time: Micros) -> Result<Micros, BadTiming> {
        self.after(time).ok_or_else(|| BadTiming::Never(self.cron.as_str().to_owned()))
    }

    /// The first of its times after another.
    pub fn after(&self, time: Micros) -> Option<Micros> {
        // Its times are whole minutes, and croner sees whole seconds.
        let from = self.at(Micros(time.0.div_euclid(1_000_000) * 1_000_000))?;
        let found = self.cron.find_next_occurrence(&from, false).ok()?;
        Some(Micros(found.timestamp_micros())).filter(|found| *found > time)
    }

    /// The last of its times up to and with another.
    pub fn latest(&self, time: Micros) -> Option<Micros> {
        let from = self.at(Micros(time.0.div_euclid(1_000_000) * 1_000_000))?;
        let found = self.cron.find_previous_occurrence(&from, true).ok()?;
        Some(Micros(found.timestamp_micros())).filter(|found| *found <= time)
    }

    /// How many of its times lie after one and before another, as far as they are counted.
    pub fn between(&self, after: Micros, before: Micros, most: u32) -> u32 {
        let mut from = after;
        let mut count = 0;
        while count < most {
            match self.after(from) {
                Some(next) if next < before => {
                    from = next;
                    count += 1;
                }
                _ => break,
            }
        }
        count
    }

    /// How long after its time a schedule of this name begins: each has a place of its own, so that fifty of one time do not all
    /// begin in one second. At most a tenth of what lies between two times.
    pub fn offset(&self, name: &str, due: Micros) -> Micros {
        let gap = self.after(due).map_or(self.spread, |next| Micros(next.since(due).0 / PART));
        let seconds = self.spread.0.min(gap.0) / 1_000_000;
        let Some(digest) = Sha256::of(name.as_bytes()).0.first_chunk::<8>().copied() else {
            return Micros::default();
        };
        let place = u64::from_be_bytes(digest) % (seconds.max(0).unsigned_abs() + 1);
        Micros::seconds(i64::try_from(place).unwrap_or_default())
    }

    /// When a schedule of this name that is done through a time begins next, so many times.
    pub fn next(&self, name: &str, done_through: Micros, now: Micros, count: usize) -> Vec<Micros> {
        let mut out = Vec::with_capacity(count);
        // One whose time has come and whose place has not is still to begin.
        let pending = |due: &Micros| *due > done_through && due.plus(self.offset(name, *due)) > now;
        let mut from =
            self.latest(now).filter(pending).map_or(now.max(done_through), |due| Micros(due.0 - 1));
        while out.len() < count {
            let Some(due) = self.after(from) else { break };
            out.push(due.plus(self.offset(name, due)));
            from = due;
        }
        out
    }

    /// A time as the clocks of the schedule's zone show it: `Sun 29 Mar 03:00:12 CEST`.
    pub fn shown(&self, time: Micros) -> String {
        self.at(time).map_or_else(|| time.rfc3339(), |time| time.format("%a %-d %b %H:%M:%S %Z").to_string())
    }

    fn at(&self, time: Micros) -> Option<DateTime<Tz>> {
        DateTime::<Utc>::from_timestamp_micros(time.0).map(|time| time.with_timezone(&self.zone))
    }
}

#[cfg(test)]
#[path = "times_tests.rs"]
mod tests;
