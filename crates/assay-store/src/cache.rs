//! Folded runs, kept so that appending one event does not read a whole journal.
//!
//! An entry names the head hash that it was folded from. It is used only while the run's row still
//! has that head, so a stale entry costs time and can never be wrong.
//!
//! Readers share a fold, so an append cannot change it in place; and copying a run with all its
//! judgements costs more than writing the event does. Therefore each entry keeps the fold before the
//! current one, too: as soon as nobody reads that any more, the next append brings it up to date and
//! goes on from there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use assay_model::{Event, RunId, RunView, Sha256};

/// More runs than are ever live at once on one control plane; a view takes tens of kilobytes. With fewer than are
/// live, every look at all of them folds all their journals anew: a thousand machines kept a server from everything.
const CAPACITY: usize = 4096;

/// The folded runs.
#[derive(Debug, Default)]
pub(crate) struct Views {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    uses: u64,
    entries: HashMap<RunId, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    head: Sha256,
    view: Arc<RunView>,
    used: u64,
    older: Option<Older>,
}

/// The fold before the current one, and what has happened since.
#[derive(Clone, Debug)]
struct Older {
    view: Arc<RunView>,
    since: Vec<Event>,
}

impl Views {
    /// The run as last folded, with the head it was folded from.
    pub(crate) fn get(&self, run: RunId) -> Option<(Sha256, Arc<RunView>)> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.uses += 1;
        let used = inner.uses;
        let entry = inner.entries.get_mut(&run)?;
        entry.used = used;
        Some((entry.head, Arc::clone(&entry.view)))
    }

    /// A fold of one's own that equals `current`, to append to: the older one brought up to date
    /// where nobody reads it, a copy otherwise.
    pub(crate) fn own(&self, current: &Arc<RunView>) -> RunView {
        let older = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = inner.entries.get_mut(&current.id);
            entry.filter(|entry| Arc::ptr_eq(&entry.view, current)).and_then(|entry| entry.older.take())
        };
        older.and_then(|older| older.catch_up(current)).unwrap_or_else(|| RunView::clone(current))
    }

    /// Remembers the fold that `events` made of `before`.
    pub(crate) fn advance(&self, head: Sha256, view: &Arc<RunView>, before: &Arc<RunView>, events: &[Event]) {
        let run = view.id;
        self.put(head, Arc::clone(view));
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = inner.entries.get_mut(&run)
            && Arc::ptr_eq(&entry.view, view)
        {
            entry.older = Some(Older { view: Arc::clone(before), since: events.to_vec() });
        }
    }

    /// Remembers a fold, unless a later one is there already.
    pub(crate) fn put(&self, head: Sha256, view: Arc<RunView>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.uses += 1;
        let used = inner.uses;
        let run = view.id;
        if inner.entries.get(&run).is_some_and(|entry| entry.view.seq > view.seq) {
            return;
        }
        inner.entries.insert(run, Entry { head, view, used, older: None });
        if inner.entries.len() > CAPACITY
            && let Some(oldest) =
                inner.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(run, _)| *run)
        {
            inner.entries.remove(&oldest);
        }
    }
}

impl Older {
    /// What it becomes with all that has happened since; `None` while someone reads it.
    fn catch_up(self, current: &RunView) -> Option<RunView> {
        let mut view = Arc::into_inner(self.view)?;
        for event in &self.since {
            view.apply(event).ok()?;
        }
        (view.seq == current.seq).then_some(view)
    }
}
