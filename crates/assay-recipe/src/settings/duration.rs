//! Times as people write them: `"90s"`, `"10m"`, `"1h 30m"`. A bare number is seconds.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

const UNITS: [(&str, u64); 3] = [("h", 3600), ("m", 60), ("s", 1)];

/// What is not a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time; write one such as \"90s\", \"10m\" or \"1h 30m\"")]
pub struct BadDuration(String);

/// Reads a time: numbers with `h`, `m` or `s`, largest first, with or without spaces between.
///
/// # Errors
/// [`BadDuration`].
pub fn parse(text: &str) -> Result<Duration, BadDuration> {
    let bad = || BadDuration(crate::problem::shown(text));
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad());
    }
    let (mut seconds, mut units) = (0_u64, UNITS.iter());
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
        // Each unit once, and never a larger one after a smaller one.
        let (_, factor) = units.find(|(name, _)| rest[digits..].starts_with(name)).ok_or_else(bad)?;
        seconds = number.checked_mul(*factor).and_then(|part| seconds.checked_add(part)).ok_or_else(bad)?;
        // Units are one byte each.
        rest = rest[digits + 1..].trim_start();
    }
    Ok(Duration::from_secs(seconds))
}

/// Writes a time as [`parse`] reads it; parts of a second are left out.
pub fn format(duration: Duration) -> String {
    let mut seconds = duration.as_secs();
    let mut parts = Vec::new();
    for (unit, factor) in UNITS {
        if seconds >= factor {
            parts.push(format!("{}{unit}", seconds / factor));
            seconds %= factor;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// For `#[serde(with)]`.
pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// For `#[serde(with)]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_they_are_written() {
        for (text, seconds) in
            [("0s", 0), ("90s", 90), ("10m", 600), ("1h 30m", 5400), ("2h5m1s", 7501), (" 5m ", 300)]
        {
            assert_eq!(parse(text).unwrap(), Duration::from_secs(seconds), "{text}");
            assert_eq!(parse(&format(Duration::from_secs(seconds))).unwrap(), Duration::from_secs(seconds));
        }
        assert_eq!(format(Duration::from_mins(90)), "1h 30m");
        for text in [
            "",
            "10",
            "m",
            "5 min",
            "5x",
            "-5s",
            "1s 1m",
            "1m 1m",
            "1.5h",
            "99999999999999999999s",
            "18446744073709551615h",
            "5é",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.ends_with("write one such as \"90s\", \"10m\" or \"1h 30m\""), "{text}: {error}");
        }
    }
}
