//! On whose behalf a run was asked for: what its place in the queue depends on, beside what it needs.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How urgent a run is: the class that it waits in.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// A person asked for it and waits.
    #[default]
    Operator,
    /// A comment on a pull request asked for it.
    PullRequest,
    /// A schedule or a sweep asked for it; nobody waits.
    Schedule,
}

impl Priority {
    /// Every class, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Operator, Self::PullRequest, Self::Schedule];

    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::PullRequest => "pull_request",
            Self::Schedule => "schedule",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Not one of the classes.
#[derive(Debug, thiserror::Error)]
#[error("there is no priority `{0}`; choose operator, pull_request or schedule")]
pub struct UnknownPriority(String);

impl FromStr for Priority {
    type Err = UnknownPriority;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|priority| priority.as_str() == s);
        found.ok_or_else(|| UnknownPriority(crate::text::clean_to(s, 40)))
    }
}

/// On whose behalf a run was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Asked {
    /// The class that it waits in.
    #[serde(skip_serializing_if = "is_usual")]
    pub priority: Priority,
    /// Names the pull request whose newest commit it tests, such as `git.example.org/apps/wiki#12`. A later run of the same
    /// name takes its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<String>,
}

impl Asked {
    /// Whether a person asked, and for no pull request.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_usual(priority: &Priority) -> bool {
    *priority == Priority::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_fixed_and_the_usual_is_not_written() {
        for priority in Priority::ALL {
            assert_eq!(priority.as_str().parse::<Priority>().expect("known"), priority);
            assert_eq!(serde_json::to_value(priority).expect("plain"), priority.as_str());
        }
        assert!("urgent".parse::<Priority>().is_err());
        assert_eq!(serde_json::to_string(&Asked::default()).expect("plain"), "{}");
        assert!(Priority::Operator < Priority::PullRequest && Priority::PullRequest < Priority::Schedule);
    }
}
