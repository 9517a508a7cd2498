//! Which comments were taken already: one memory for polling and webhooks, so that it does not matter who comes first.
//!
//! A comment is taken once in its life, by its number. Its text's digest is kept beside it: the same number with another
//! text is an edit, which is told apart from a repeat and asks for nothing. What is older than the floor was said before we
//! listened, or so long ago that it is not remembered any more; it asks for nothing either, however it was edited.

use std::collections::BTreeMap;

use assay_model::{Micros, Sha256};
use serde::{Deserialize, Serialize};

use crate::what::Comment;

/// A comment is remembered for so long after its making, at least.
pub(crate) const REMEMBERED: Micros = Micros::seconds(7 * 24 * 3600);
/// More than this in one repository are not remembered; the oldest go first, and the floor rises above them.
const MOST: usize = 5000;

/// What a comment is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Novelty {
    /// Never met: it counts.
    Fresh,
    /// Met before, the same text.
    Again,
    /// Met before, with another text.
    Edited,
    /// Made before we listened.
    Old,
}

/// The comments of one repository that were met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Comments made before this, by the forge's clock, do not count.
    floor: Option<Micros>,
    met: BTreeMap<u64, Met>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Met {
    made: Micros,
    digest: Sha256,
}

impl Seen {
    /// Where it begins, once that is known.
    pub fn floor(&self) -> Option<Micros> {
        self.floor
    }

    /// How many comments it remembers.
    pub fn len(&self) -> usize {
        self.met.len()
    }

    /// Whether it remembers none.
    pub fn is_empty(&self) -> bool {
        self.met.is_empty()
    }

    /// From now on, what was made before this does not count.
    pub(crate) fn begin(&mut self, floor: Micros) {
        self.floor = Some(self.floor.map_or(floor, |before| before.max(floor)));
    }

    /// Meets a comment, and remembers it.
    pub(crate) fn meet(&mut self, comment: &Comment) -> Novelty {
        if let Some(met) = self.met.get_mut(&comment.id) {
            if met.digest == comment.digest {
                return Novelty::Again;
            }
            met.digest = comment.digest;
            return Novelty::Edited;
        }
        if self.floor.is_some_and(|floor| comment.created_at < floor) {
            return Novelty::Old;
        }
        self.met.insert(comment.id, Met { made: comment.created_at, digest: comment.digest });
        Novelty::Fresh
    }

    /// Forgets what is older than [`REMEMBERED`] before `heard_up_to`, the time up to which nothing can come any more.
    pub(crate) fn forget(&mut self, heard_up_to: Micros) {
        let Some(floor) = self.floor else { return };
        let mut rises = floor.max(Micros(heard_up_to.0.saturating_sub(REMEMBERED.0)));
        if self.met.len() > MOST {
            let mut times: Vec<Micros> = self.met.values().map(|met| met.made).collect();
            times.sort_unstable();
            // Never above what may still come.
            let beyond = times[times.len() - MOST].min(heard_up_to);
            rises = rises.max(beyond);
        }
        if rises > floor {
            self.met.retain(|_, met| met.made >= rises);
            self.floor = Some(rises);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comment(id: u64, at: i64, body: &str) -> Comment {
        let (body, digest) = Comment::text(body);
        let created_at = Micros::seconds(at);
        Comment {
            id,
            number: 1,
            on_pull: true,
            author: None,
            body,
            digest,
            created_at,
            updated_at: created_at,
        }
    }

    #[test]
    fn a_comment_counts_once_and_its_edits_never() {
        let mut seen = Seen::default();
        seen.begin(Micros::seconds(100));
        assert_eq!(seen.meet(&comment(1, 99, "!testme")), Novelty::Old);
        assert_eq!(seen.meet(&comment(2, 100, "!testme")), Novelty::Fresh);
        assert_eq!(seen.meet(&comment(2, 100, "!testme")), Novelty::Again);
        assert_eq!(seen.meet(&comment(2, 100, "!testme --quick")), Novelty::Edited);
        assert_eq!(seen.meet(&comment(2, 100, "!testme --quick")), Novelty::Again);
        assert_eq!(seen.meet(&comment(1, 99, "!testme, edited")), Novelty::Old);
    }

    #[test]
    fn what_is_forgotten_cannot_come_back() {
        let mut seen = Seen::default();
        seen.begin(Micros::seconds(0));
        let first = comment(1, 10, "!testme");
        assert_eq!(seen.meet(&first), Novelty::Fresh);
        seen.forget(Micros::seconds(11).plus(REMEMBERED));
        assert!(seen.is_empty());
        assert_eq!(seen.meet(&first), Novelty::Old);
    }

    #[test]
    fn a_flood_is_bounded_and_nothing_that_may_come_is_lost() {
        let mut seen = Seen::default();
        seen.begin(Micros::seconds(0));
        for id in 0..(MOST as u64 + 100) {
            assert_eq!(seen.meet(&comment(id, 1000 + id as i64, "x")), Novelty::Fresh);
        }
        seen.forget(Micros::seconds(900));
        assert_eq!(seen.len(), MOST + 100, "all of them may still be edited before they are heard again");
        seen.forget(Micros::seconds(9000));
        assert_eq!(seen.len(), MOST);
        assert_eq!(seen.meet(&comment(3, 1003, "x")), Novelty::Old);
    }
}
