//! Files that no run speaks of: written by a control plane that died before it could say in a journal whose they are.

use std::collections::{BTreeMap, BTreeSet};

use assay_artifacts::StoredFile;
use assay_model::journal::StoredEvent;
use assay_model::{Micros, RunId, Sha256};

use crate::{Engine, EngineError};

/// Digits of a digest.
const DIGITS: usize = 64;

impl Engine {
    /// Removes the files older than `before` that nothing names; `dry_run` only counts them. Returns how many there
    /// were, and their bytes. `known` are digests that runs name; what else they name is read from their journals.
    pub(super) async fn sweep_orphans(
        &self,
        runs: &[RunId],
        known: &BTreeSet<Sha256>,
        before: Micros,
        dry_run: bool,
    ) -> Result<(u64, u64), EngineError> {
        let (mut named, mut unfinished) = (BTreeMap::new(), Vec::new());
        for file in self.artifacts.files(before).await? {
            match file.digest {
                Some(digest) if known.contains(&digest) => {}
                Some(digest) => drop(named.insert(digest, file)),
                None => unfinished.push(file),
            }
        }
        // Addenda first: they are short, and name every report.
        for run in runs {
            forget(&mut named, &self.store.addenda(*run).await?);
        }
        for run in runs {
            if named.is_empty() {
                break;
            }
            forget(&mut named, &self.store.journal(*run).await?);
        }
        let (mut count, mut bytes) = (0, 0);
        for file in named.into_values().chain(unfinished) {
            if dry_run || self.artifacts.discard(&file, before).await? {
                count += 1;
                bytes += file.bytes;
            }
        }
        Ok((count, bytes))
    }
}

/// Whatever an event is about: a digest that stands in it is of use.
fn forget(files: &mut BTreeMap<Sha256, StoredFile>, events: &[StoredEvent]) {
    for event in events {
        for word in event.body.split(|byte| !byte.is_ascii_hexdigit()).filter(|word| word.len() == DIGITS) {
            if let Some(digest) = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok()) {
                files.remove(&digest);
            }
        }
    }
}
