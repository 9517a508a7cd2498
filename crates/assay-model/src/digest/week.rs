//! A week as people name it: `2026-W47`. ISO 8601, from Monday on, in UTC.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, Utc, Weekday};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{Micros, text};

/// A week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Week {
    /// Its Monday.
    monday: NaiveDate,
}

impl Week {
    /// The week that an instant is in.
    pub fn of(at: Micros) -> Self {
        let day = DateTime::<Utc>::from_timestamp_micros(at.0).unwrap_or_default().date_naive();
        Self { monday: day.week(Weekday::Mon).first_day() }
    }

    /// Its first instant.
    pub fn start(self) -> Micros {
        Micros(self.monday.and_time(NaiveTime::MIN).and_utc().timestamp_micros())
    }

    /// The first instant after it.
    pub fn end(self) -> Micros {
        self.after().start()
    }

    /// The week before.
    #[must_use]
    pub fn before(self) -> Self {
        Self { monday: self.monday.checked_sub_days(Days::new(7)).unwrap_or(self.monday) }
    }

    /// The week after.
    #[must_use]
    pub fn after(self) -> Self {
        Self { monday: self.monday.checked_add_days(Days::new(7)).unwrap_or(self.monday) }
    }

    /// `16 to 22 November 2026`, and whole dates where it goes over the end of a month.
    pub fn days(self) -> String {
        let sunday = self.monday.week(Weekday::Mon).last_day();
        let same = (self.monday.month(), self.monday.year()) == (sunday.month(), sunday.year());
        let first = if same { "%-d" } else { "%-d %B %Y" };
        format!("{} to {}", self.monday.format(first), sunday.format("%-d %B %Y"))
    }
}

impl fmt::Display for Week {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let week = self.monday.iso_week();
        write!(f, "{:04}-W{:02}", week.year(), week.week())
    }
}

/// Not a week.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a week; write it as in 2026-W47 (ISO 8601)")]
pub struct UnknownWeek(String);

impl FromStr for Week {
    type Err = UnknownWeek;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (year, week) = s.trim().split_once("-W")?;
            let digits = |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
            if !digits(year, 4) || !digits(week, 2) {
                return None;
            }
            NaiveDate::from_isoywd_opt(year.parse().ok()?, week.parse().ok()?, Weekday::Mon)
        };
        let monday = read().ok_or_else(|| UnknownWeek(text::clean_to(s, 40)))?;
        Ok(Self { monday })
    }
}

impl TryFrom<String> for Week {
    type Error = UnknownWeek;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<Week> for String {
    fn from(week: Week) -> Self {
        week.to_string()
    }
}

impl JsonSchema for Week {
    fn schema_name() -> Cow<'static, str> {
        "Week".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]{4}-W[0-9]{2}$",
            "description": "A week, from Monday on, in UTC (ISO 8601)",
            "examples": ["2026-W47"]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_begins_on_monday_and_the_year_of_its_thursday_names_it() {
        let week: Week = "2026-W47".parse().expect("a week");
        assert_eq!(week.start().rfc3339(), "2026-11-16T00:00:00.000Z");
        assert_eq!(week.end().rfc3339(), "2026-11-23T00:00:00.000Z");
        assert_eq!((Week::of(week.start()), Week::of(Micros(week.end().0 - 1))), (week, week));
        assert_eq!(Week::of(week.end()), week.after());
        assert_eq!(week.days(), "16 to 22 November 2026");
        let turn: Week = "2026-W53".parse().expect("2026 has 53");
        assert_eq!(turn.days(), "28 December 2026 to 3 January 2027");
        assert_eq!((turn.after().to_string(), turn.after().before()), ("2027-W01".to_owned(), turn));
    }

    #[test]
    fn what_is_no_week_is_refused() {
        for wrong in ["", "2026", "2025-W53", "2026-W00", "2026-W7", "26-W07", "2026-W+7", "２０２６-W01"]
        {
            assert!(wrong.parse::<Week>().is_err(), "{wrong}");
        }
        let json = serde_json::to_string(&"2026-W07".parse::<Week>().expect("a week")).expect("plain");
        assert_eq!(json, "\"2026-W07\"");
        assert!(serde_json::from_str::<Week>("\"x\"").is_err());
    }
}
