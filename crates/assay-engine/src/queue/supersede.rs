//! Runs whose pull request has a newer commit under test: nobody wants their verdict any more.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use assay_model::{RunId, RunView, TargetId};

/// The open runs that a later one of the same pull request and target has overtaken, with that one's number.
pub fn superseded(open: &[Arc<RunView>]) -> BTreeMap<RunId, i64> {
    let mut newest: HashMap<(TargetId, &str), i64> = HashMap::new();
    for run in open {
        if let Some(key) = key(run) {
            let number = newest.entry(key).or_insert(run.created.number);
            *number = run.created.number.max(*number);
        }
    }
    let overtaken = |run: &Arc<RunView>| {
        let by = newest[&key(run)?];
        let old = by > run.created.number && !run.state().is_terminal();
        old.then_some((run.id, by))
    };
    open.iter().filter_map(overtaken).collect()
}

fn key(run: &RunView) -> Option<(TargetId, &str)> {
    let name = run.created.options.asked.pull_request.as_deref()?;
    Some((run.created.target.id, name))
}
