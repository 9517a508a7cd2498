//! Folded runs, kept so that appending one event does not read a whole journal.
//!
//! An entry names the head hash that it was folded from. It is used only while the run's row still
//! has that head, so a stale entry costs time and can never be wrong.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use assay_model::{RunId, RunView, Sha256};

/// More runs than are ever live at once on one control plane; a view takes tens of kilobytes.
const CAPACITY: usize = 512;

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

    /// Remembers a fold, unless a later one is there already.
    pub(crate) fn put(&self, head: Sha256, view: Arc<RunView>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.uses += 1;
        let used = inner.uses;
        let run = view.id;
        if inner.entries.get(&run).is_some_and(|entry| entry.view.seq > view.seq) {
            return;
        }
        inner.entries.insert(run, Entry { head, view, used });
        if inner.entries.len() > CAPACITY
            && let Some(oldest) =
                inner.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(run, _)| *run)
        {
            inner.entries.remove(&oldest);
        }
    }
}
