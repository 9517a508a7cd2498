//! What is to be tested again, on which host, and why.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CellState, Fingerprint, Image, Trial, cell, current_images, known_images};
use crate::{Micros, Sha256, TargetId};

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DueReason {
    /// The host is another kind of machine than in its last trial of the image, and this kind has not seen it.
    MachineChanged,
    /// The image has changed: this kind of machine has tried an earlier one, and not this.
    ImageChanged,
    /// What is known of it is older than evidence counts.
    Stale,
}

impl DueReason {
    /// The spelling for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MachineChanged => "machine_changed",
            Self::ImageChanged => "image_changed",
            Self::Stale => "stale",
        }
    }
}

/// A registered host and what it was last seen to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which host.
    pub host: TargetId,
    /// Its name.
    pub name: String,
    /// What kind of machine it is.
    pub fingerprint: Fingerprint,
}

/// A test that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Why.
    pub reason: DueReason,
    /// The image: the newest that its name stands for.
    pub image: Image,
    /// What kind of machine: the fingerprint's digest.
    pub machine: Sha256,
    /// Hosts that are of that kind and that it is due for; a test on one of them is enough.
    pub hosts: Vec<String>,
    /// The newest trial that it follows from.
    pub after: i64,
    /// When that came to its end.
    pub after_at: Micros,
    /// The kind of machine in that trial.
    pub after_machine: Sha256,
}

/// What is due, by image and machine. Only for images that the host, or another of its kind, has tried: nobody is told to
/// try an image where it was never meant to run.
pub fn due(
    hosts: &[Standing],
    trials: &[Trial],
    virtually: &[Image],
    (now, max_age): (Micros, Micros),
) -> Vec<Due> {
    let known = known_images(trials, virtually);
    let current = current_images(&known);
    let mut all: BTreeMap<(String, Sha256, DueReason), Due> = BTreeMap::new();
    for host in hosts {
        let machine = host.fingerprint.digest();
        for image in current.values().copied() {
            let Some((reason, after)) = why(host.host, machine, image, trials, (now, max_age)) else {
                continue;
            };
            let due = all.entry((image.name.clone(), machine, reason)).or_insert_with(|| Due {
                reason,
                image: image.clone(),
                machine,
                hosts: Vec::new(),
                after: after.number,
                after_at: after.outcome.at,
                after_machine: after.machine,
            });
            due.hosts.push(host.name.clone());
            due.hosts.sort();
        }
    }
    all.into_values().collect()
}

/// Why the image is due on this host, and the newest trial that says so.
fn why<'a>(
    host: TargetId,
    machine: Sha256,
    image: &Image,
    trials: &'a [Trial],
    (now, max_age): (Micros, Micros),
) -> Option<(DueReason, &'a Trial)> {
    let newest = |trials: &mut dyn Iterator<Item = &'a Trial>| {
        trials.max_by_key(|trial| (trial.outcome.at, trial.number, trial.run))
    };
    // The same bytes under another name are the same image.
    let here = cell(
        trials.iter().filter(|trial| trial.machine == machine && trial.digest == image.digest),
        now,
        max_age,
    );
    if here.state != CellState::Unknown {
        // What fails, or is not clear, is known to be so; it is not news that it grows old.
        let stale = here.stale && here.state == CellState::Works;
        return here.newest().filter(|_| stale).map(|trial| (DueReason::Stale, trial));
    }
    let of_image = || trials.iter().filter(|trial| trial.outcome.image == image.name);
    let last = newest(&mut of_image().filter(|trial| trial.host == host));
    match last {
        Some(last) if last.machine != machine => Some((DueReason::MachineChanged, last)),
        _ => newest(&mut of_image().filter(|trial| trial.machine == machine))
            .map(|trial| (DueReason::ImageChanged, trial)),
    }
}

#[cfg(test)]
#[path = "due_tests.rs"]
mod tests;
