//! How often a forge may be asked, and what follows for each repository: simple arithmetic, shown to operators.

use std::time::Duration;

use assay_model::Micros;
use serde::{Deserialize, Serialize};

use crate::client::Rate;
use crate::forge::ForgeKind;

/// How much may be asked of one forge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Questions per hour, answers of "unchanged" among them.
    pub asked_per_hour: u32,
    /// No repository is asked more often than this.
    pub shortest: Micros,
    /// Of the requests that a forge grants in a window, so many hundredths are left for comments and statuses.
    pub kept_back_percent: u8,
}

/// How often each repository is asked, and what that costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Repositories in which something was said lately.
    pub hot: usize,
    /// The others.
    pub quiet: usize,
    /// The pause between two questions to a hot one, in seconds. Longer while it is being paced.
    pub hot_every_s: u32,
    /// The same for a quiet one: the longest that a comment waits for being heard.
    pub quiet_every_s: u32,
    /// Questions per hour that this comes to.
    pub calls_per_hour: u32,
    /// What the budget allows.
    pub budget_per_hour: u32,
    /// What was asked in the last full hour, or since the start.
    pub asked_last_hour: u64,
    /// What of it the forge counted.
    pub counted_last_hour: u64,
}

impl Budget {
    /// What is usual. github.com grants 5000 counted requests per hour and some 900 of any kind per minute; what is
    /// unchanged is not counted, so the second limit is the one that polling meets, and it takes less than half of it.
    /// Forgejo has no limit of its own; what stands before it often allows a few requests per second, and gets two.
    pub const fn usual(kind: ForgeKind) -> Self {
        let asked_per_hour = match kind {
            ForgeKind::Forgejo => 7200,
            ForgeKind::GitHub => 24_000,
        };
        Self { asked_per_hour, shortest: Micros::seconds(30), kept_back_percent: 20 }
    }

    /// The time between two questions that keeps to it.
    pub(super) fn gap(&self) -> Micros {
        Micros(3_600_000_000 / i64::from(self.asked_per_hour.max(1)))
    }

    /// How long to be quiet, where a forge grants so little more that it is kept for answers.
    pub(super) fn spared(&self, rate: Rate) -> Option<Micros> {
        let kept = rate.limit.saturating_mul(u64::from(self.kept_back_percent)) / 100;
        let pause = rate.resets_in.max(Duration::from_secs(1));
        (rate.remaining <= kept).then(|| Micros(i64::try_from(pause.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Hot repositories get up to half of the budget, the others share the rest.
    pub fn plan(&self, hot: usize, quiet: usize) -> Plan {
        let (shortest, all) =
            ((self.shortest.0 / 1_000_000).max(1) as u64, u64::from(self.asked_per_hour.max(1)));
        let every = |repos: usize, calls: u64| (repos as u64 * 3600).div_ceil(calls.max(1)).max(shortest);
        let per_hour = |repos: usize, every: u64| (repos as u64 * 3600).div_ceil(every);
        let hot_share = if quiet == 0 { all } else { (all / 2).max(1) };
        let hot_every = every(hot, hot_share);
        let left = all.saturating_sub(per_hour(hot, hot_every));
        let quiet_every = every(quiet, left);
        let calls = per_hour(hot, hot_every) + per_hour(quiet, quiet_every);
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Plan {
            hot,
            quiet,
            hot_every_s: small(hot_every),
            quiet_every_s: small(quiet_every),
            calls_per_hour: small(calls),
            budget_per_hour: self.asked_per_hour,
            asked_last_hour: 0,
            counted_last_hour: 0,
        }
    }
}
