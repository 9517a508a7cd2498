//! First in, first out, for comparison: what Assay did before it had a scheduler, and what most queues do.

use std::collections::{BTreeMap, BTreeSet};

use assay_engine::live::Offer;
use assay_engine::queue::{Cause, Holding, Place, Slots, Wait, Waiting};
use assay_model::RunId;

/// Places all that wait, oldest first. One that does not fit keeps later ones from every runner that it could use itself.
pub fn first_in_first_out(
    offers: &BTreeMap<String, Offer>,
    holding: &[Holding],
    waiting: &[Waiting],
) -> Vec<(RunId, Place)> {
    let mut free: BTreeMap<&str, Slots> =
        offers.iter().map(|(name, offer)| (name.as_str(), offer.capacity.clone())).collect();
    for run in holding {
        if let Some(free) = free.get_mut(run.runner.as_str()) {
            take(free, &run.needs);
        }
    }
    let mut targets: BTreeSet<_> = holding.iter().map(|run| run.target_id).collect();
    let mut line: Vec<&Waiting> = waiting.iter().collect();
    line.sort_by_key(|run| run.number);
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    // The methods of which every runner is waited for.
    let mut full: BTreeSet<&str> = BTreeSet::new();
    let mut out = Vec::with_capacity(line.len());
    for run in line {
        // One run of a target at a time, as everywhere; it holds up nobody.
        if full.contains(run.method.as_str()) || targets.contains(&run.target_id) {
            out.push((run.id, waits()));
            continue;
        }
        let fit = |free: &Slots| run.needs.iter().all(|(pool, n)| free.get(pool).is_some_and(|f| f >= n));
        let knowing = offers.iter().filter(|(_, offer)| offer.power.contains(&run.method));
        let all = knowing.clone().map(|(name, _)| name.as_str());
        let reach: Vec<&str> = knowing
            .clone()
            .filter(|(_, offer)| fit(&offer.capacity))
            .map(|(name, _)| name.as_str())
            .collect();
        let runner = reach.iter().find(|name| !taken.contains(**name) && fit(&free[**name]));
        if let Some(name) = runner {
            if let Some(free) = free.get_mut(*name) {
                take(free, &run.needs);
            }
            targets.insert(run.target_id);
            out.push((run.id, Place::Admit { runner: (*name).to_owned() }));
        } else {
            taken.extend(reach);
            if all.clone().all(|name| taken.contains(name)) {
                full.insert(&run.method);
            }
            out.push((run.id, waits()));
        }
    }
    out
}

fn take(free: &mut Slots, needs: &Slots) {
    for (pool, n) in needs {
        free.entry(pool.clone()).and_modify(|free| *free = free.saturating_sub(*n));
    }
}

fn waits() -> Place {
    Place::Wait(Wait { cause: Cause::Slots, reason: String::new(), position: None, starts_in: None })
}
