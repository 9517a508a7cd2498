//! Times as forges write them: RFC 3339 in bodies and queries, the HTTP form in the `Date` header.

use assay_model::Micros;
use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use serde::{Deserialize as _, Deserializer};

/// `2026-11-22T16:00:00Z`, in any offset.
pub(crate) fn read(text: &str) -> Option<Micros> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| Micros(time.timestamp_micros()))
}

/// `Sun, 22 Nov 2026 16:00:00 GMT`.
pub(crate) fn read_http(text: &str) -> Option<Micros> {
    let time = NaiveDateTime::parse_from_str(text, "%a, %d %b %Y %H:%M:%S GMT").ok()?;
    Some(Micros(time.and_utc().timestamp_micros()))
}

/// For a query, in whole seconds, rounded down: forges compare in seconds, and too much is better than too little.
pub(crate) fn write(time: Micros) -> String {
    let seconds = time.0.div_euclid(1_000_000);
    DateTime::<Utc>::from_timestamp(seconds, 0)
        .unwrap_or(DateTime::UNIX_EPOCH)
        .to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// For `#[serde(deserialize_with)]`.
pub(crate) fn field<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Micros, D::Error> {
    let text = String::deserialize(deserializer)?;
    read(&text).ok_or_else(|| serde::de::Error::custom("this is no time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_the_same_moment() {
        let at = Micros::seconds(1_795_363_200);
        assert_eq!(read("2026-11-22T16:00:00Z"), Some(at));
        assert_eq!(read("2026-11-22T17:00:00+01:00"), Some(at));
        assert_eq!(read_http("Sun, 22 Nov 2026 16:00:00 GMT"), Some(at));
        assert_eq!(write(at.plus(Micros(999_999))), "2026-11-22T16:00:00Z");
        assert_eq!(read("yesterday"), None);
        assert_eq!(read_http("yesterday"), None);
    }
}
