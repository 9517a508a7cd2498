//! The kinds of news there are: what a sink's `events` may name, and how loud each is.

use std::fmt;

use assay_model::RunResult;
use serde::Serialize;

use crate::news::About;

/// How loud a notification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing later.
    Quiet,
    /// Worth knowing now.
    Normal,
    /// Somebody has to do something.
    Urgent,
}

impl Level {
    /// The spelling on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Normal => "normal",
            Self::Urgent => "urgent",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A kind of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventKind {
    /// What `events` names.
    pub name: &'static str,
    /// When it is told.
    pub about: &'static str,
    /// How loud it is.
    pub level: Level,
}

const fn kind(name: &'static str, level: Level, about: &'static str) -> EventKind {
    EventKind { name, about, level }
}

/// All of them. A control plane that is newer than this list is still understood: what it tells
/// beyond it goes to the sinks that want everything.
pub const EVENTS: [EventKind; 13] = [
    kind("RunStarted", Level::Quiet, "a run left the queue"),
    kind("RunCompleted", Level::Normal, "a run has its verdict"),
    kind("RunHeld", Level::Urgent, "a run failed and keeps its machine until somebody decides"),
    kind("HoldExpiring", Level::Urgent, "a hold runs out soon"),
    kind("RunReleased", Level::Normal, "a failed machine was let go"),
    kind("Decided", Level::Quiet, "somebody decided about a run"),
    kind("BootFailed", Level::Urgent, "a machine did not come up"),
    kind("StageFailed", Level::Normal, "a stage failed, or could not be judged"),
    kind("SpecMismatch", Level::Urgent, "a machine is not what its spec says"),
    kind("UnexpectedData", Level::Urgent, "a disk that was to be erased holds data"),
    kind("MachineSuspect", Level::Urgent, "a machine has fallen silent"),
    kind("RunStale", Level::Urgent, "a run makes no progress"),
    kind("BatchStopped", Level::Urgent, "a batch has stopped itself: too many of its runs have failed"),
];

/// How loud this news is: a verdict that is no pass is louder than one that is.
pub(crate) fn level(event: &str, about: &About) -> Level {
    let usual = EVENTS.iter().find(|kind| kind.name == event).map_or(Level::Normal, |kind| kind.level);
    if event == "RunCompleted" && about.result == Some(RunResult::Fail) { Level::Urgent } else { usual }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_verdict_is_urgent_and_the_unknown_is_normal() {
        let failed = About { result: Some(RunResult::Fail), ..About::default() };
        assert_eq!(level("RunCompleted", &failed), Level::Urgent);
        assert_eq!(level("RunCompleted", &About::default()), Level::Normal);
        assert_eq!(level("RunStarted", &failed), Level::Quiet);
        assert_eq!(level("FromTheFuture", &About::default()), Level::Normal);
    }
}
