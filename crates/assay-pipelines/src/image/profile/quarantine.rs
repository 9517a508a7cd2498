//! Failures that are known and looked after: for a while, and by somebody.
//!
//! A quarantine does not make a failure a pass. It takes it out of the exit code until a day, and says so each time, with
//! whoever answers for it; after that day it counts again.

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::matrix::Selection;
use super::{Profile, ProfileError};

/// The most entries.
const MAX_ENTRIES: usize = 256;

/// A failure that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Quarantine {
    /// The cases: `firmware=uefi,disks=three`. All of them without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<Selection>,
    /// The code of the finding that is known. Any without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<String>,
    /// Who looks after it.
    pub owner: String,
    /// The last day on which it holds, in UTC: `2026-12-31`.
    pub until: String,
    /// Why it is not mended yet.
    pub reason: String,
}

impl Quarantine {
    /// Whether it speaks of a case with these values.
    pub fn takes(&self, values: &[(String, String)]) -> bool {
        self.case.as_ref().is_none_or(|case| case.takes(values))
    }

    /// Whether it speaks of a finding with this code.
    pub fn knows(&self, code: &str) -> bool {
        self.finding.as_deref().is_none_or(|known| known == code)
    }

    /// Whether it is over on this day (`2026-12-31`, UTC).
    pub fn is_over(&self, today: &str) -> bool {
        // Both are dates of one shape, which is what makes their letters comparable; a bad one is refused when it is read.
        today > self.until.as_str()
    }

    /// What it speaks of, for people.
    pub fn what(&self) -> String {
        match (&self.case, &self.finding) {
            (Some(case), Some(code)) => format!("{code} of {case}"),
            (Some(case), None) => case.to_string(),
            (None, Some(code)) => code.clone(),
            (None, None) => "everything".to_owned(),
        }
    }
}

impl Profile {
    pub(super) fn check_quarantine(&self) -> Result<(), ProfileError> {
        let problem = |what: String| Err(ProfileError(what));
        if self.quarantine.len() > MAX_ENTRIES {
            return problem(format!(
                "{} entries of [[quarantine]]; at most {MAX_ENTRIES}",
                self.quarantine.len()
            ));
        }
        for entry in &self.quarantine {
            let at = format!("quarantine of {}", entry.what());
            if entry.case.is_none() && entry.finding.is_none() {
                return problem(
                    "quarantine: name a `case`, a `finding` or both; nothing is in quarantine as a whole"
                        .to_owned(),
                );
            }
            let date = NaiveDate::parse_from_str(&entry.until, "%Y-%m-%d");
            if date.is_err() || entry.until.len() != 10 {
                return problem(format!("{at}: until = {:?}: a day such as 2026-12-31", entry.until));
            }
            for (key, value) in [("owner", &entry.owner), ("reason", &entry.reason)] {
                if value.trim().is_empty() {
                    return problem(format!(
                        "{at}: {key} = \"\": somebody has to answer for it, and say why"
                    ));
                }
            }
        }
        Ok(())
    }
}
