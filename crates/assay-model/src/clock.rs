//! Time as the product sees it: integer microseconds, read only through a [`Clock`].
//!
//! Only the trait lives here. The real clock is in `assay-engine`, the simulated one in
//! `assay-testkit`; nothing else may ask the operating system what time it is.

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Microseconds since the Unix epoch (UTC).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Micros(pub i64);

impl Micros {
    /// A number of whole seconds as a time span.
    pub const fn seconds(n: i64) -> Self {
        Self(n * 1_000_000)
    }

    /// This instant, `span` later. Saturates.
    #[must_use]
    pub const fn plus(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// How long after `earlier` this is; negative when before it. Saturates.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// As seconds with a fraction.
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// RFC 3339 in UTC with milliseconds, for people and reports.
    pub fn rfc3339(self) -> String {
        DateTime::<Utc>::from_timestamp_micros(self.0)
            .map_or_else(|| self.0.to_string(), |t| t.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// The current time.
    fn now(&self) -> Micros;
}
