//! What is remembered of a forge beside its repositories; lost, it costs a few more questions.
//!
//! Each part has a lock of its own that cannot be held while anything is awaited, least of all a forge: its guard does not go
//! from thread to thread, and the compiler refuses a task that would take it along. So a forge that takes its time holds up
//! nobody but who asked it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use assay_forge::authors::Authors;
use assay_forge::hook::Deliveries;
use assay_forge::status::Permission;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::warn;

use crate::state::App;

/// Who belongs to what and who was told, where statuses may be set, and which deliveries came.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    /// For [`assay_forge::authors::may_ask`], which locks it for moments.
    pub(super) authors: Mutex<Authors>,
    permission: Mutex<Permission>,
    deliveries: Mutex<Deliveries>,
    /// Held while it is stored, so that what is stored is never older than what was stored before.
    #[serde(skip)]
    keeping: tokio::sync::Mutex<()>,
}

impl Memory {
    /// Who may ask, and which strangers were told.
    pub(super) fn authors(&self) -> MutexGuard<'_, Authors> {
        lock(&self.authors)
    }

    /// Where statuses may be set.
    pub(super) fn permission(&self) -> MutexGuard<'_, Permission> {
        lock(&self.permission)
    }

    /// Which deliveries came.
    pub(super) fn deliveries(&self) -> MutexGuard<'_, Deliveries> {
        lock(&self.deliveries)
    }

    /// Takes what was stored. What does not read is asked for again.
    pub(super) fn recall(&self, stored: Value) {
        let Ok(stored) = serde_json::from_value::<Self>(stored) else { return };
        *self.authors() = stored.authors.into_inner().unwrap_or_else(PoisonError::into_inner);
        *self.permission() = stored.permission.into_inner().unwrap_or_else(PoisonError::into_inner);
        *self.deliveries() = stored.deliveries.into_inner().unwrap_or_else(PoisonError::into_inner);
    }

    /// Stores it as it is now.
    pub(super) async fn keep(&self, app: &App, forge: &str) {
        let keeping = self.keeping.lock().await;
        let Ok(value) = serde_json::to_value(self) else { return };
        if let Err(problem) = app.engine.store().set_setting(&key(forge), &value).await {
            warn!(forge, error = %problem, "what is known of authors was not stored; it is asked again");
        }
        drop(keeping);
    }
}

/// Its setting's name.
pub(super) fn key(forge: &str) -> String {
    format!("forge.{forge}")
}

fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use assay_model::Micros;

    use super::*;

    #[test]
    fn what_was_stored_before_the_parts_had_their_own_locks_reads() {
        let stored = serde_json::json!({
            "authors": { "answers": [], "told": { "apps/wiki#7": { "who": ["mallory"], "at": 1_000_000 } } },
            "permission": { "refused_at": { "apps/wiki": 5_000_000 } },
            "deliveries": { "met": { "one": 7 } },
        });
        let memory = Memory::default();
        memory.recall(stored.clone());
        let now = Micros::seconds(9);
        let repo = "apps/wiki".parse().expect("a name");
        assert!(!memory.authors().tell(&repo, 7, &"mallory".parse().expect("a login"), now), "told already");
        assert!(memory.permission().note(&repo).is_some());
        assert!(memory.deliveries().meet("one", now));
        memory.recall(serde_json::json!({ "authors": 7 }));
        assert!(memory.deliveries().meet("one", now), "what does not read changes nothing");
    }
}
