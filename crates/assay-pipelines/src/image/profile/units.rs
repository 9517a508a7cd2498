//! Sizes and times as people write them: `"8GiB"`, `"90s"`, `"2m 30s"`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes: `"512MiB"`, `"8GiB"`. Units are `B`, `KiB`, `MiB`, `GiB`, `TiB` (powers of 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// A length of time: `"90s"`, `"2m"`, `"1h 30m"`. Units are `s`, `m`, `h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// What is not a size or a time, and what one looks like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {wanted}")]
pub struct BadUnit {
    given: String,
    wanted: &'static str,
}

const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Size {
    /// In MiB, rounded down.
    pub const fn mib(self) -> u64 {
        self.0 >> 20
    }
}

impl FromStr for Size {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let bad = || BadUnit { given: clean(text), wanted: "a size such as \"512MiB\" or \"8GiB\"" };
        let (number, unit) = split(text).ok_or_else(bad)?;
        let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        number.checked_mul(factor).map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.into_iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        let (unit, factor) = whole.unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl Span {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl FromStr for Span {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let bad = || BadUnit { given: clean(text), wanted: "a time such as \"90s\", \"2m\" or \"1h 30m\"" };
        let mut seconds = 0_u64;
        for part in text.split_whitespace() {
            let (number, unit) = split(part).ok_or_else(bad)?;
            let factor = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                _ => return Err(bad()),
            };
            seconds = number.checked_mul(factor).and_then(|n| seconds.checked_add(n)).ok_or_else(bad)?;
        }
        if text.trim().is_empty() { Err(bad()) } else { Ok(Self::seconds(seconds)) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match (seconds / 3600, seconds % 3600 / 60, seconds % 60) {
            (0, 0, s) => write!(f, "{s}s"),
            (0, m, 0) => write!(f, "{m}m"),
            (0, m, s) => write!(f, "{m}m {s}s"),
            (h, 0, 0) => write!(f, "{h}h"),
            (h, m, 0) => write!(f, "{h}h {m}m"),
            (h, m, s) => write!(f, "{h}h {m}m {s}s"),
        }
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    Some((text[..digits].parse().ok()?, text[digits..].trim_start()))
}

fn clean(text: &str) -> String {
    assay_model::text::clean_to(text, 40)
}

macro_rules! as_text {
    ($type:ident, $pattern:literal, $example:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": $pattern, "examples": [$example]})
            }
        }
    };
}
as_text!(Size, "^[0-9]+ ?(B|KiB|MiB|GiB|TiB)$", "8GiB");
as_text!(Span, "^[0-9]+[smh]( [0-9]+[smh])*$", "90s");

#[cfg(test)]
mod tests {
    use super::{Size, Span};

    #[test]
    fn what_people_write_reads_and_is_written_the_same() {
        for text in ["512MiB", "8GiB", "1000B", "0B", "3KiB", "1TiB"] {
            assert_eq!(text.parse::<Size>().expect("a size").to_string(), text);
        }
        for text in ["0s", "90s".replace("90s", "1m 30s").as_str(), "2m", "1h", "1h 30m", "1h 1m 1s"] {
            assert_eq!(text.parse::<Span>().expect("a time").to_string(), text);
        }
        assert_eq!("2 GiB".parse(), Ok(Size(2 << 30)));
    }

    #[test]
    fn what_is_neither_is_named() {
        for text in ["", "8", "8G", "8GB", "-1GiB", "GiB", "99999999999TiB"] {
            let error = text.parse::<Size>().expect_err(text).to_string();
            assert!(error.contains("a size such as"), "{error}");
        }
        for text in ["", "90", "90sec", "-1s", "1.5m", "99999999999999999999h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
