//! Whether a run's own record is whole: what the last stage of every pipeline judges.
//!
//! A report is worth as much as what it is made from: an unbroken chain of events, every artifact there and unaltered.
//! The orchestrator holds the record and collects this evidence.

use assay_model::text::clean;
use assay_model::{Check, Coverage, Finding, Severity, Verdict};
use serde::Deserialize;
use serde_json::Value;

/// Most artifacts that are named one by one.
pub(crate) const MAX_NAMED: usize = 20;

/// The state of the run's record, as the orchestrator found it.
#[derive(Debug, Deserialize)]
pub(crate) struct Integrity {
    chain_ok: bool,
    events: u64,
    artifacts: u64,
    missing_artifacts: Vec<String>,
    altered_artifacts: Vec<String>,
}

impl Integrity {
    /// Reads the evidence.
    pub(crate) fn of(evidence: &Value) -> Result<Self, String> {
        serde_json::from_value(evidence.clone())
            .map_err(|problem| format!("the state of the run's record cannot be read: {problem}"))
    }

    /// How much of the record is as it was.
    pub(crate) fn coverage(&self) -> Coverage {
        let broken = self.missing_artifacts.len() + self.altered_artifacts.len();
        let intact = self.artifacts.saturating_sub(broken as u64);
        Coverage { what: "artifacts".to_owned(), covered: intact, total: self.artifacts }
    }

    /// What is said of a record that is whole.
    pub(crate) fn message(&self) -> String {
        format!("{} events in an unbroken chain, {} artifacts intact", self.events, self.artifacts)
    }

    /// What is demanded of it.
    pub(crate) fn checks(&self) -> (Vec<Check>, Vec<Finding>) {
        let (mut checks, mut findings) = (Vec::new(), Vec::new());
        let mut check = |name: &str, ok: bool, expected: &str, seen: String| {
            let verdict = if ok { Verdict::Pass } else { Verdict::Fail };
            checks.push(Check { name: name.to_owned(), verdict, expected: expected.to_owned(), seen });
        };
        // A run that reached its last stage has events; a chain of none is not a chain.
        let whole = self.chain_ok && self.events > 0;
        let seen = if whole { "unbroken" } else { "broken" };
        check("event chain", whole, "unbroken, with events", format!("{seen}, {} events", self.events));
        if !whole {
            findings.push(Finding::new(
                "ChainBroken",
                Severity::Critical,
                format!("the chain of the run's {} events is broken: an event was altered, removed or added", self.events),
                "Do not rely on this run; find out who can write to the store, restore it from a backup, and run again.",
            ));
        }
        let lists = [
            ("ArtifactMissing", "missing", &self.missing_artifacts),
            ("ArtifactAltered", "altered", &self.altered_artifacts),
        ];
        for (code, what, names) in lists {
            check(&format!("{what} artifacts"), names.is_empty(), "none", names.len().to_string());
            for name in names.iter().take(MAX_NAMED) {
                let message = format!(
                    "artifact {} is {what}: it was recorded with its digest and is not there as it was",
                    clean(name)
                );
                let next_step = "Look at the artifact store's disk and permissions, then run again.";
                findings.push(Finding::new(code, Severity::Critical, message, next_step));
            }
            if names.len() > MAX_NAMED {
                let message = format!("{} more artifacts are {what}", names.len() - MAX_NAMED);
                let next_step = "Look at the artifact store's disk and permissions, then run again.";
                findings.push(Finding::new(code, Severity::Critical, message, next_step));
            }
        }
        (checks, findings)
    }
}
