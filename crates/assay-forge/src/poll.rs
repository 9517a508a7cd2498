//! When a forge is asked, and what follows from its answer: a state machine without a clock, a store or a network.
//!
//! [`PollState::next`] says whom to ask now; the caller asks, and gives the answer to [`PollState::heard`] or
//! [`PollState::failed`]. Everything that has to survive a restart is in the state, and it is a serialisable value. The
//! caller stores the state *in the same transaction* as what it makes of the news: then a restart in any moment costs a
//! question at most, and a comment is neither missed nor taken twice. It can be stored in parts, one per repository
//! ([`PollState::part`]), and only when an answer says so ([`News::must_keep`]).
//!
//! Times of comments are the forge's own, from its `Date` header; our clock only measures pauses. So it does not matter by
//! how much the two differ.

mod budget;
#[cfg(test)]
mod poll_tests;

pub use budget::{Budget, Plan};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use assay_model::Micros;
use serde::{Deserialize, Serialize};

use crate::client::Rate;
use crate::error::ForgeError;
use crate::name::RepoName;
use crate::seen::{Novelty, Seen};
use crate::what::{Comment, Heard, Resume, Since};

/// The `Date` header may come from a proxy whose clock is not the forge's. So much of what was said before the first answer
/// counts as well.
const GRACE: Micros = Micros::seconds(60);
/// A forge writes a comment's time before everybody can see the comment. So far back is asked again.
const OVERLAP: Micros = Micros::seconds(120);
/// After so long without anything new, nothing late can come any more, and the question gets narrower.
const SETTLED: Micros = Micros::seconds(600);
/// A repository in which something was said lately is asked more often.
const HOT: Micros = Micros::seconds(1800);
/// Pauses after a failure double from the first to the last.
const FIRST_PAUSE: Micros = Micros::seconds(10);
const LAST_PAUSE_FORGE: Micros = Micros::seconds(600);
const LAST_PAUSE_REPO: Micros = Micros::seconds(3600);
/// So many questions may be asked in a row after a pause before the pace counts.
const BURST: i64 = 10;

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask for this repository's comments.
    Ask {
        /// Which.
        repo: RepoName,
        /// From where on.
        since: Since,
    },
    /// Nothing before this time, by our clock.
    Wait {
        /// When to come back.
        until: Micros,
    },
    /// Nothing at all: there is no repository.
    Nothing,
}

/// What an answer brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Comments that were never met, oldest first.
    pub fresh: Vec<Comment>,
    /// Comments with another text than before.
    pub edited: Vec<u64>,
    /// Comments that were too large to be read.
    pub too_large: u32,
    /// Whether the repository's memory has changed and has to be stored with what is made of this. Most answers change
    /// only when the next question is due, and that may be lost.
    pub must_keep: bool,
}

/// A trouble that has not been told yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The repository, or `None` for the whole forge.
    pub repo: Option<RepoName>,
    /// In words, with what to do.
    pub message: String,
    /// When it is tried again, by our clock.
    pub again_at: Micros,
}

/// All that is known of one forge's repositories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollState {
    budget: Budget,
    repos: BTreeMap<RepoName, RepoState>,
    /// Nobody is asked before this, by our clock.
    pause_until: Option<Micros>,
    /// Failures of the forge in a row.
    failures: u32,
    /// The trouble that was told last, so that it is told once.
    told: Option<String>,
    /// The next question's time by the pace.
    pace_at: Micros,
    hour: Hour,
}

/// All that is known of one repository: what a row holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepoState {
    seen: Seen,
    /// What changed before this has been heard, by the forge's clock. `None` before the first answer.
    heard_up_to: Option<Micros>,
    /// The latest change that was met.
    latest: Option<Micros>,
    /// In the middle of a reading: from which page on.
    page: u32,
    /// The tag, and the time that was asked for with it.
    etag: Option<(Micros, String)>,
    /// When it is asked next, by our clock.
    due_at: Micros,
    /// When something new was heard last, by our clock.
    news_at: Option<Micros>,
    /// Failures in a row.
    failures: u32,
    told: Option<String>,
}

/// What was asked in this hour and in the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Hour {
    began_at: Micros,
    asked: u64,
    counted: u64,
    asked_before: u64,
    counted_before: u64,
}

impl PollState {
    /// Nobody to ask yet.
    pub fn new(budget: Budget) -> Self {
        Self {
            budget,
            repos: BTreeMap::new(),
            pause_until: None,
            failures: 0,
            told: None,
            pace_at: Micros(0),
            hour: Hour::default(),
        }
    }

    /// Another budget from now on.
    pub fn set_budget(&mut self, budget: Budget) {
        self.budget = budget;
    }

    /// These repositories from now on. One that is new is listened to from its first answer on; one that is left out is
    /// forgotten.
    pub fn watch(&mut self, repos: &BTreeSet<RepoName>, now: Micros) {
        self.repos.retain(|name, _| repos.contains(name));
        for name in repos {
            self.repos.entry(name.clone()).or_insert_with(|| RepoState::new(now));
        }
    }

    /// What to do now. `busy` are the repositories that are being asked already.
    pub fn next(&self, now: Micros, busy: &BTreeSet<RepoName>) -> Action {
        let free = self.repos.iter().filter(|(name, _)| !busy.contains(*name));
        let Some((name, repo)) = free.min_by_key(|(name, repo)| (repo.due_at, *name)) else {
            if self.repos.is_empty() {
                return Action::Nothing;
            }
            return Action::Wait { until: now.plus(self.budget.shortest) };
        };
        let ahead = Micros(self.budget.gap().0.saturating_mul(busy.len() as i64));
        let paced = self.pace_at.plus(ahead);
        let until = repo.due_at.max(paced).max(self.pause_until.unwrap_or(Micros(i64::MIN)));
        if until > now {
            return Action::Wait { until };
        }
        Action::Ask { repo: name.clone(), since: repo.since(now) }
    }

    /// Takes an answer. `asked` is what [`Self::next`] gave. Answers for repositories that are not watched any more bring
    /// nothing.
    pub fn heard(
        &mut self,
        name: &RepoName,
        asked: &Since,
        heard: Heard,
        rate: Option<Rate>,
        now: Micros,
    ) -> News {
        self.charge(u64::from(heard.calls), u64::from(heard.counted), now);
        // A pause that another question brought about meanwhile goes on.
        (self.failures, self.told) = (0, None);
        if let Some(pause) = rate.and_then(|rate| self.budget.spared(rate)) {
            self.pause(now.plus(pause));
        }
        let Some(repo) = self.repos.get_mut(name) else { return News::default() };
        (repo.failures, repo.told) = (0, None);
        let before = repo.mark();
        let mut news = repo.take(asked, heard, now);
        news.must_keep = repo.mark() != before || !news.fresh.is_empty() || !news.edited.is_empty();
        let has_more = repo.page > 1;
        if !news.fresh.is_empty() {
            repo.news_at = Some(now);
        }
        let interval = self.interval(name, now);
        if let Some(repo) = self.repos.get_mut(name) {
            repo.due_at = if has_more { now } else { now.plus(interval) };
        }
        news
    }

    /// Takes a failure. Returns it when nobody was told of it yet.
    pub fn failed(&mut self, name: &RepoName, error: &ForgeError, now: Micros) -> Option<Trouble> {
        self.charge(1, 1, now);
        let message = error.to_string();
        if error.is_of_the_forge() {
            self.failures = self.failures.saturating_add(1);
            let pause = match error {
                ForgeError::RateLimited { after, .. } => micros(*after),
                ForgeError::Unwell { after: Some(after), .. } => {
                    micros(*after).max(pause_of(self.failures, LAST_PAUSE_FORGE))
                }
                ForgeError::Unauthorised { .. } => LAST_PAUSE_FORGE,
                _ => pause_of(self.failures, LAST_PAUSE_FORGE),
            };
            let again_at = now.plus(pause);
            self.pause(again_at);
            // It may be this repository alone that the forge cannot cope with: the others come first now.
            if let Some(repo) = self.repos.get_mut(name) {
                repo.failures = repo.failures.saturating_add(1);
                repo.due_at = again_at.max(now.plus(pause_of(repo.failures, LAST_PAUSE_REPO)));
            }
            return once(&mut self.told, None, message, again_at);
        }
        let repo = self.repos.get_mut(name)?;
        repo.failures = repo.failures.saturating_add(1);
        // Another page, or another time, is no better.
        (repo.page, repo.etag) = (1, None);
        let again_at = now.plus(pause_of(repo.failures, LAST_PAUSE_REPO));
        repo.due_at = again_at;
        once(&mut repo.told, Some(name), message, again_at)
    }

    /// Takes a comment that a webhook brought. `None` when its repository is not watched.
    pub fn hooked(&mut self, name: &RepoName, comment: &Comment, now: Micros) -> Option<Novelty> {
        let repo = self.repos.get_mut(name)?;
        let novelty = repo.seen.meet(comment);
        if novelty == Novelty::Fresh {
            repo.news_at = Some(now);
        }
        Some(novelty)
    }

    /// One repository's part, to be stored.
    pub fn part(&self, name: &RepoName) -> Option<&RepoState> {
        self.repos.get(name)
    }

    /// Puts a stored part back.
    pub fn put(&mut self, name: RepoName, part: RepoState) {
        self.repos.insert(name, part);
    }

    /// The memory of one repository.
    pub fn seen(&self, name: &RepoName) -> Option<&Seen> {
        self.repos.get(name).map(|repo| &repo.seen)
    }

    /// The pauses, and what they cost.
    pub fn plan(&self, now: Micros) -> Plan {
        let hot = self.repos.values().filter(|repo| repo.is_hot(now)).count();
        let mut plan = self.budget.plan(hot, self.repos.len() - hot);
        (plan.asked_last_hour, plan.counted_last_hour) = self.hour.last(now);
        plan
    }

    fn pause(&mut self, until: Micros) {
        self.pause_until = Some(self.pause_until.map_or(until, |before| before.max(until)));
    }

    fn interval(&self, name: &RepoName, now: Micros) -> Micros {
        let plan = self.plan(now);
        let is_hot = self.repos.get(name).is_some_and(|repo| repo.is_hot(now));
        Micros::seconds(i64::from(if is_hot { plan.hot_every_s } else { plan.quiet_every_s }))
    }

    fn charge(&mut self, asked: u64, counted: u64, now: Micros) {
        self.hour.charge(asked, counted, now);
        let gap = self.budget.gap();
        let earliest = Micros(now.0.saturating_sub(gap.0.saturating_mul(BURST)));
        self.pace_at = self.pace_at.max(earliest).plus(Micros(gap.0.saturating_mul(asked as i64)));
    }
}

impl RepoState {
    fn new(now: Micros) -> Self {
        Self {
            seen: Seen::default(),
            heard_up_to: None,
            latest: None,
            page: 1,
            etag: None,
            due_at: now,
            news_at: None,
            failures: 0,
            told: None,
        }
    }

    fn is_hot(&self, now: Micros) -> bool {
        self.news_at.is_some_and(|at| now.since(at) < HOT)
    }

    fn since(&self, now: Micros) -> Since {
        // The first question is for the forge's time only; whatever is said before its answer does not count.
        let at = self.heard_up_to.unwrap_or(now);
        let etag = self.etag.as_ref().filter(|(of, _)| *of == at && self.page == 1);
        Since { at, page: self.page, etag: etag.map(|(_, tag)| tag.clone()) }
    }

    /// How far it has come.
    fn mark(&self) -> (Option<Micros>, Option<Micros>, u32) {
        (self.heard_up_to, self.latest, self.page)
    }

    fn take(&mut self, asked: &Since, heard: Heard, now: Micros) -> News {
        // A proxy that drops the header leaves us our own clock.
        let server_time = heard.server_time.unwrap_or(now);
        let Some(up_to) = self.heard_up_to else {
            let from = Micros(server_time.0.saturating_sub(GRACE.0));
            self.seen.begin(from);
            self.heard_up_to = Some(from);
            return News { too_large: heard.too_large, ..News::default() };
        };
        let mut news = News { too_large: heard.too_large, ..News::default() };
        if let Some(comments) = heard.comments {
            self.etag = heard.etag.map(|tag| (asked.at, tag));
            for comment in comments {
                self.latest = Some(self.latest.map_or(comment.updated_at, |at| at.max(comment.updated_at)));
                match self.seen.meet(&comment) {
                    Novelty::Fresh => news.fresh.push(comment),
                    Novelty::Edited => news.edited.push(comment.id),
                    Novelty::Again | Novelty::Old => {}
                }
            }
            news.fresh.sort_by_key(|comment| (comment.created_at, comment.id));
        }
        match heard.more {
            Some(Resume::Page(page)) => self.page = page,
            Some(Resume::Since(at)) => {
                // What has been read up to here is behind us, but for the overlap.
                self.page = 1;
                self.heard_up_to = Some(up_to.max(at));
            }
            None => {
                self.page = 1;
                self.heard_up_to = Some(up_to.max(self.narrowed(up_to, server_time)));
            }
        }
        if let Some(up_to) = self.heard_up_to {
            self.seen.forget(up_to);
        }
        news
    }

    /// From where on to ask next. It stays as it is while nothing is said, so that the question stays the same.
    fn narrowed(&self, up_to: Micros, server_time: Micros) -> Micros {
        let Some(latest) = self.latest else { return up_to };
        if server_time.since(latest) >= SETTLED {
            // Just after the latest: its own second is heard.
            return latest.plus(Micros::seconds(1));
        }
        Micros(latest.0.saturating_sub(OVERLAP.0))
    }
}

impl Hour {
    const LENGTH: Micros = Micros::seconds(3600);

    fn charge(&mut self, asked: u64, counted: u64, now: Micros) {
        let age = now.since(self.began_at);
        if age >= Self::LENGTH || age.0 < 0 {
            let is_next = age < Micros(2 * Self::LENGTH.0) && age.0 >= 0;
            (self.asked_before, self.counted_before) =
                if is_next { (self.asked, self.counted) } else { (0, 0) };
            (self.asked, self.counted, self.began_at) = (0, 0, now);
        }
        self.asked += asked;
        self.counted += counted;
    }

    /// The hour that is complete, or the one that is not when there is none.
    fn last(&self, now: Micros) -> (u64, u64) {
        match now.since(self.began_at) {
            age if age >= Self::LENGTH => (self.asked, self.counted),
            _ if self.asked_before > 0 => (self.asked_before, self.counted_before),
            _ => (self.asked, self.counted),
        }
    }
}

fn once(
    told: &mut Option<String>,
    repo: Option<&RepoName>,
    message: String,
    again_at: Micros,
) -> Option<Trouble> {
    // The same with another number of seconds in it is the same.
    let gist = message.replace(|c: char| c.is_ascii_digit(), "");
    if told.as_ref() == Some(&gist) {
        return None;
    }
    *told = Some(gist);
    Some(Trouble { repo: repo.cloned(), message, again_at })
}

/// Doubles with every failure.
fn pause_of(failures: u32, last: Micros) -> Micros {
    let doublings = failures.saturating_sub(1).min(20);
    Micros(FIRST_PAUSE.0.saturating_mul(1 << doublings)).min(last)
}

fn micros(span: Duration) -> Micros {
    Micros(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))
}
