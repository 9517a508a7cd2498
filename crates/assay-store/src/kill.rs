//! A test aid: dies at a chosen journal commit, to prove that a crash there loses and repeats nothing.
//!
//! With `ASSAY_KILL_AT=before:3` in its environment the process kills itself with SIGKILL just
//! before its third journal commit; with `after:3`, just after it and before anyone is told. No
//! other code runs: no destructor, no rollback, no flush. Unset in production, where this costs
//! one comparison per commit.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{StoreError, StoreErrorKind};

/// The environment variable's name.
const VARIABLE: &str = "ASSAY_KILL_AT";

/// Counts journal commits and dies at the chosen one.
#[derive(Debug, Default)]
pub(crate) struct KillPoint {
    at: Option<(Moment, u64)>,
    commits: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Before,
    After,
}

impl KillPoint {
    /// Reads the environment. A value that does not parse is an error: a crash test that never
    /// crashes would prove nothing.
    pub(crate) fn from_env() -> Result<Self, StoreError> {
        let Some(value) = std::env::var_os(VARIABLE) else { return Ok(Self::default()) };
        let value = value.to_string_lossy();
        let at = parse(&value).ok_or_else(|| {
            let message =
                format!("{VARIABLE} is `{value}`; write before:N or after:N with N from 1, or unset it");
            StoreError::new("set the kill point", StoreErrorKind::Invalid(message))
        })?;
        Ok(Self { at: Some(at), commits: AtomicU64::new(0) })
    }

    /// Counts one more commit; returns its number for [`Self::pass`].
    pub(crate) fn next(&self) -> u64 {
        self.commits.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Dies if this is the moment.
    pub(crate) fn pass(&self, moment: Moment, commit: u64) {
        if self.at == Some((moment, commit)) {
            // Cannot fail for a process's own id; if it did, the test that waits for the death says so.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}

fn parse(value: &str) -> Option<(Moment, u64)> {
    let (moment, number) = value.split_once(':')?;
    let moment = match moment {
        "before" => Moment::Before,
        "after" => Moment::After,
        _ => return None,
    };
    number.parse().ok().filter(|n| *n > 0).map(|n| (moment, n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_documented_spellings_parse() {
        assert_eq!(parse("before:3"), Some((Moment::Before, 3)));
        assert_eq!(parse("after:1"), Some((Moment::After, 1)));
        for bad in ["", "3", "before", "before:", "before:0", "between:1", "after:-1"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
