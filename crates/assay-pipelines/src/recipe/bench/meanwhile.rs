//! What stands beside the evidence of every stage: how short of everything the runner was meanwhile, and who it is.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::recipe::evidence::{Ground, RunnerSeen};
use crate::recipe::harness::Harness;
use crate::recipe::pressure::{Counters, Pressure};

/// The kernel's counters of pressure.
const FOLDER: &str = "/proc/pressure";

/// A stage that is under way.
pub(crate) struct Meanwhile {
    began: Instant,
    before: Counters,
}

impl Meanwhile {
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), before: counters() }
    }

    /// How short of everything the runner has been since; none where its kernel does not tell.
    pub(crate) fn pressure(&self) -> Option<Pressure> {
        Pressure::between(&self.before, &counters(), self.began.elapsed().as_secs_f64())
    }

    /// Puts it beside the stage's evidence.
    pub(super) async fn beside(self, mut evidence: Value, ipvs: Option<bool>, ground: Ground) -> Value {
        let pressure = self.pressure();
        // The first time the whole program is read.
        let harness = tokio::task::spawn_blocking(Harness::running).await.unwrap_or_default();
        if let Some(beside) = evidence.as_object_mut() {
            if let Some(pressure) = pressure {
                beside.insert("pressure".to_owned(), super::json(&pressure));
            }
            beside.insert("runner".to_owned(), super::json(&RunnerSeen { harness, ipvs, ground }));
        }
        evidence
    }
}

/// Not every kernel tells; one that does not is no reason to test nothing.
fn counters() -> Counters {
    let read = |name: &str| std::fs::read_to_string(Path::new(FOLDER).join(name)).ok();
    Counters { cpu: read("cpu"), memory: read("memory"), io: read("io") }
}
