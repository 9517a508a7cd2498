//! What a forge does with branches and pull requests, whichever forge's words it is asked in.

use crate::{
    Deleted, Deletion, Event, Outcome, Pull, PullState, Push, PushKind, StandInError, Who, state::State,
};

/// The longest title, and the longest text, that is kept of a pull request.
const MOST_TITLE: usize = 1024;
const MOST_BODY: usize = 64 * 1024;

/// A pull request that somebody wants.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) title: String,
    pub(crate) body: String,
    pub(crate) head: String,
    pub(crate) base: String,
}

/// Why a pull request is not opened.
#[derive(Debug)]
pub(crate) enum NoPull {
    /// There is one, of this number.
    Exists(u64),
    NoHead,
    NoBase,
    /// The base has all of the head's commits.
    NoCommits,
    Failed(StandInError),
}

/// Why a branch is not deleted.
#[derive(Debug)]
pub(crate) enum NoDeletion {
    NoBranch,
    Default,
    Failed(StandInError),
}

impl State {
    /// Opens a pull request. The caller does not hold the repository.
    pub(crate) async fn open_pull(&self, wanted: Wanted, by: Who, request: u64) -> Result<Pull, NoPull> {
        let _change = self.repository.change().await;
        self.open_pull_held(wanted, by, request).await
    }

    /// As [`State::open_pull`], for a caller that holds the repository.
    pub(crate) async fn open_pull_held(&self, wanted: Wanted, by: Who, request: u64) -> Result<Pull, NoPull> {
        let Wanted { title, body, head, base } = wanted;
        let mut refs = self.repository.refs().await.map_err(NoPull::Failed)?;
        let base_commit = refs.remove(&format!("refs/heads/{base}")).ok_or(NoPull::NoBase)?;
        let head_commit = if head == base {
            base_commit.clone()
        } else {
            refs.remove(&format!("refs/heads/{head}")).ok_or(NoPull::NoHead)?
        };
        let exists = self.book.with(|ledger| {
            let same = |pull: &&Pull| pull.head == head && pull.base == base && pull.state == PullState::Open;
            ledger.pulls.iter().find(same).map(|pull| pull.number)
        });
        if let Some(number) = exists {
            return Err(NoPull::Exists(number));
        }
        if self.repository.ahead(&base_commit, &head_commit).await.map_err(NoPull::Failed)? == 0 {
            return Err(NoPull::NoCommits);
        }
        if !self.book.has_room(title.len() + body.len() + 4096) {
            return Err(NoPull::Failed(StandInError::LedgerFull));
        }
        let number = self.book.with(|ledger| ledger.pulls.len() as u64) + 1;
        let mut scrub = self.tokens.scrub();
        let pull = Pull {
            number,
            at: self.now(),
            request,
            title: scrub.short(&title, MOST_TITLE),
            body: scrub.short(&body, MOST_BODY),
            head,
            head_commit,
            base,
            html_url: format!("{}/pull/{number}", self.page()),
            by,
            state: PullState::Open,
            leaks: scrub.leaks(),
        };
        self.book.record(Event::PullOpened(pull.clone()));
        Ok(pull)
    }

    /// Deletes a branch over an API.
    pub(crate) async fn delete_branch(&self, branch: &str, by: Who, request: u64) -> Result<(), NoDeletion> {
        if branch == self.repository.default_branch {
            return Err(NoDeletion::Default);
        }
        let _change = self.repository.change().await;
        let deleted = self.repository.delete_branch(branch).await.map_err(NoDeletion::Failed)?;
        let commit = deleted.ok_or(NoDeletion::NoBranch)?;
        let what = Deleted::Branch { branch: branch.to_owned(), commit };
        self.book.record(Event::Deleted(Deletion { at: self.now(), request, what, by }));
        self.close_pulls(branch);
        Ok(())
    }

    /// Records what a push did.
    pub(crate) fn pushed(&self, pushes: Vec<Push>) {
        for push in pushes {
            let gone = (push.kind == PushKind::Delete && push.outcome == Outcome::Applied)
                .then(|| push.reference.strip_prefix("refs/heads/").map(str::to_owned))
                .flatten();
            self.book.record(Event::Push(push));
            if let Some(branch) = gone {
                self.close_pulls(&branch);
            }
        }
    }

    /// The repository's page.
    pub(crate) fn page(&self) -> String {
        let config = &self.config;
        format!("https://{}/{}/{}", config.host, config.owner, config.repository)
    }

    /// Without its branch a pull request is closed, as on a forge.
    fn close_pulls(&self, branch: &str) {
        let open = self.book.with(|ledger| {
            let of_it = |pull: &&Pull| pull.head == branch && pull.state == PullState::Open;
            ledger.pulls.iter().filter(of_it).map(|pull| pull.number).collect::<Vec<_>>()
        });
        for number in open {
            self.book.record(Event::PullEnded { number, state: PullState::Closed { at: self.now() } });
        }
    }
}
