//! What is kept of a run's results beside its journal, so that many runs can be compared without reading their evidence again:
//! enough for the flake ledger and for drift, and none of the sentences.

use std::collections::BTreeMap;

use serde_json::Value;

use super::results::Results;

/// What is kept of a run's results.
pub fn kept(results: &Results) -> Option<Value> {
    let mut kept = results.clone();
    kept.invocation.clear();
    // What changed since green stands in the report; here runs are compared anew.
    kept.since_green = None;
    // The digest over the configuration is what runs are compared by.
    kept.configuration.settings = BTreeMap::new();
    kept.configuration.files = BTreeMap::new();
    kept.configuration.asked = BTreeMap::new();
    for rung in &mut kept.ladder.rungs {
        rung.message.clear();
    }
    for stage in &mut kept.stages {
        stage.message.clear();
        stage.phases.clear();
        stage.pressure = None;
    }
    for image in &mut kept.images {
        image.digests.clear();
        image.fetched = None;
    }
    serde_json::to_value(kept).ok()
}

/// Reads it back; none where another version has written it otherwise.
pub fn read(kept: &Value) -> Option<Results> {
    serde_json::from_value(kept.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::super::flakes;
    use super::super::sample::{green, red};
    use super::*;

    #[test]
    fn what_is_kept_is_enough_for_the_flake_ledger_and_says_nothing_else() {
        let runs = [green(1), red(2, "Custom", "TestFailed")];
        let values: Vec<Value> = runs.iter().map(|run| kept(run).expect("plain data")).collect();
        let again: Vec<Results> = values.iter().map(|value| read(value).expect("it reads")).collect();
        assert_eq!(flakes(&again), flakes(&runs));
        assert_eq!(again[0].images[0].id, runs[0].images[0].id);
        let text = values[0].to_string();
        assert!(!text.contains("is good") && !text.contains("recipe\",\"test\""), "{text}");
        assert!(text.len() < 3000, "{} bytes", text.len());
    }

    #[test]
    fn what_another_version_has_written_is_not_read() {
        assert!(read(&serde_json::json!({ "schema": 9 })).is_none());
    }
}
