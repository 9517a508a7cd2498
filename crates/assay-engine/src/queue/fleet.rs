//! The connected runners and what is left of each, with pools as numbers.
//!
//! Thousands of waiting runs differ in a handful of shapes: what they need and where it could be had. Each shape is
//! looked at once.

use std::collections::{BTreeMap, HashMap};

use assay_model::Micros;

use super::{NETBOOT, Slots, Snapshot, Waiting, history};
use crate::live::Offer;

/// How many machines a runner that declares nothing boots at once.
const NETBOOT_SLOTS: u64 = 16;
/// Pools that limit nobody on a runner that does not declare them.
const SHARED: [&str; 2] = ["cpu", "io"];
/// As much as anybody asks for.
const UNLIMITED: u64 = u64::MAX;

/// A pool by its place in [`Fleet::pools`], and slots of it.
pub(super) type Needs = Vec<(usize, u64)>;

/// The runners, and the shapes of the runs that wait for them.
pub(super) struct Fleet<'a> {
    pub(super) pools: Vec<&'a str>,
    pub(super) runners: Vec<Station<'a>>,
    /// Slots of all runners together, by pool.
    pub(super) totals: Vec<f64>,
    pub(super) shapes: Vec<Shape>,
    /// The shape of every waiting run.
    pub(super) shape_of: Vec<usize>,
    /// What every run holds that has begun.
    pub(super) held: Vec<Needs>,
    /// The distinct sets of runners that shapes can be done by.
    pub(super) reaches: Vec<Vec<usize>>,
}

/// A runner.
pub(super) struct Station<'a> {
    pub(super) name: &'a str,
    pub(super) capacity: Vec<u64>,
    pub(super) free: Vec<u64>,
    /// What is to come back, and when.
    pub(super) held: Vec<(Micros, Needs)>,
    /// What the first one in line is promised.
    pub(super) reserved: Option<Reserved>,
}

/// A promise to the first run that waits for a runner's slots.
pub(super) struct Reserved {
    /// When enough of them are expected to be free.
    pub(super) at: Micros,
    /// What will be left over then, by pool.
    pub(super) spare: Vec<u64>,
}

/// What runs need and who can give it.
pub(super) struct Shape {
    pub(super) needs: Needs,
    /// Its set of runners, in [`Fleet::reaches`]; why there is none otherwise.
    pub(super) reach: Result<usize, String>,
}

impl<'a> Fleet<'a> {
    pub(super) fn of(snapshot: &Snapshot<'a>, now: Micros) -> Self {
        let mut pools = Pools::default();
        let mut keys: HashMap<(&str, Option<&str>, &Slots), usize> = HashMap::new();
        let mut examples: Vec<&Waiting> = Vec::new();
        let mut shape_of = Vec::with_capacity(snapshot.waiting.len());
        for run in snapshot.waiting {
            let shape = *keys.entry((&run.method, run.runner.as_deref(), &run.needs)).or_insert_with(|| {
                examples.push(run);
                examples.len() - 1
            });
            shape_of.push(shape);
        }
        let held: Vec<Needs> = snapshot.holding.iter().map(|run| pools.needs(&run.needs)).collect();
        let needs: Vec<Needs> = examples.iter().map(|run| pools.needs(&run.needs)).collect();
        for pool in snapshot.offers.values().flat_map(|offer| offer.capacity.keys()) {
            pools.number(pool);
        }
        let pools = pools.names;

        let mut runners: Vec<Station<'a>> =
            snapshot.offers.iter().map(|(name, offer)| Station::new(name, offer, &pools)).collect();
        let place: HashMap<&str, usize> = runners.iter().enumerate().map(|(n, r)| (r.name, n)).collect();
        for (run, needs) in snapshot.holding.iter().zip(&held) {
            // What a runner holds that is not there holds up nobody elsewhere.
            if let Some(runner) = place.get(run.runner.as_str()) {
                let ends = history::ends(run.started_at, run.expected, now);
                runners[*runner].take(ends, needs);
            }
        }
        let mut totals = vec![0.0; pools.len()];
        for runner in &runners {
            for (total, capacity) in totals.iter_mut().zip(&runner.capacity) {
                *total += *capacity as f64;
            }
        }
        let mut reaches: Vec<Vec<usize>> = Vec::new();
        let shapes = examples.into_iter().zip(needs).map(|(run, needs)| {
            let reach = reach(snapshot.offers, &runners, &pools, run, &needs).map(|reach| {
                reaches.iter().position(|known| *known == reach).unwrap_or_else(|| {
                    reaches.push(reach);
                    reaches.len() - 1
                })
            });
            Shape { needs, reach }
        });
        let shapes = shapes.collect();
        Self { pools, runners, totals, shapes, shape_of, held, reaches }
    }

    /// The share of the whole fleet that slots are: the largest of any pool.
    pub(super) fn share(&self, seconds: &[f64]) -> f64 {
        let each = seconds.iter().zip(&self.totals).filter(|(_, total)| **total > 0.0);
        each.map(|(seconds, total)| seconds / total).fold(0.0, f64::max)
    }

    /// The number of a pool, if any run or runner names it.
    pub(super) fn pool(&self, name: &str) -> Option<usize> {
        self.pools.iter().position(|pool| *pool == name)
    }
}

impl<'a> Station<'a> {
    fn new(name: &'a str, offer: &Offer, pools: &[&str]) -> Self {
        let usual = |pool: &str| match pool {
            NETBOOT => NETBOOT_SLOTS,
            _ if SHARED.contains(&pool) => UNLIMITED,
            _ => 0,
        };
        let slots = |pool: &&str| offer.capacity.get(*pool).copied().unwrap_or_else(|| usual(pool));
        let capacity: Vec<u64> = pools.iter().map(slots).collect();
        Self { name, free: capacity.clone(), capacity, held: Vec::new(), reserved: None }
    }

    /// Whether there is room now.
    pub(super) fn fits(&self, needs: &Needs) -> bool {
        needs.iter().all(|(pool, n)| self.free[*pool] >= *n)
    }

    /// Slots go to a run until `ends`. A decision lets a held run go on without asking for them, so there may be less
    /// than nothing left.
    pub(super) fn take(&mut self, ends: Micros, needs: &Needs) {
        for (pool, n) in needs {
            self.free[*pool] = self.free[*pool].saturating_sub(*n);
        }
        self.held.push((ends, needs.clone()));
    }

    /// How much of the scarcest pool would be left, of 1.
    pub(super) fn room(&self, needs: &Needs) -> f64 {
        let left = |(pool, n): &(usize, u64)| {
            self.free[*pool].saturating_sub(*n) as f64 / self.capacity[*pool].max(1) as f64
        };
        needs.iter().map(left).fold(1.0, f64::min)
    }

    /// When a run will have room if everything ends as expected, and what is left over then.
    pub(super) fn expects(&self, needs: &Needs, now: Micros) -> Option<Reserved> {
        let mut back: Vec<&(Micros, Needs)> = self.held.iter().collect();
        back.sort_by_key(|(ends, _)| *ends);
        let mut in_use: Vec<u64> = vec![0; self.capacity.len()];
        for (_, needs) in &self.held {
            for (pool, n) in needs {
                in_use[*pool] += n;
            }
        }
        let mut at = now;
        let mut returning = back.into_iter().peekable();
        loop {
            let free = |pool: usize| self.capacity[pool].saturating_sub(in_use[pool]);
            if needs.iter().all(|(pool, n)| free(*pool) >= *n) {
                break;
            }
            let (ends, needs) = returning.next()?;
            at = *ends;
            for (pool, n) in needs {
                in_use[*pool] -= n;
            }
        }
        // Those that end at the same moment free their slots, too.
        while let Some((_, needs)) = returning.next_if(|(ends, _)| *ends <= at) {
            for (pool, n) in needs {
                in_use[*pool] -= n;
            }
        }
        let mut spare: Vec<u64> =
            self.capacity.iter().zip(&in_use).map(|(all, used)| all.saturating_sub(*used)).collect();
        for (pool, n) in needs {
            spare[*pool] -= n;
        }
        Some(Reserved { at, spare })
    }

    /// Whether a run that begins now and ends by `ends` would leave the promise as it is.
    pub(super) fn lets_by(&self, needs: &Needs, ends: Micros) -> bool {
        self.reserved.as_ref().is_none_or(|promise| {
            ends <= promise.at || needs.iter().all(|(pool, n)| promise.spare[*pool] >= *n)
        })
    }

    /// A run was let by: what it still holds when the promise falls due is no longer spare.
    pub(super) fn let_by(&mut self, needs: &Needs, ends: Micros) {
        if let Some(promise) = self.reserved.as_mut().filter(|promise| ends > promise.at) {
            for (pool, n) in needs {
                promise.spare[*pool] = promise.spare[*pool].saturating_sub(*n);
            }
        }
    }
}

/// The pools that do not have what a run needs: which, what is needed, and what there is.
pub(super) fn short(slots: &[u64], needs: &Needs) -> Vec<(usize, u64, u64)> {
    let each = needs.iter().map(|(pool, n)| (*pool, *n, slots[*pool]));
    each.filter(|(_, needed, there)| needed > there).collect()
}

/// The runners that can do a run at all, or why there is none.
fn reach(
    offers: &BTreeMap<String, Offer>,
    runners: &[Station<'_>],
    pools: &[&str],
    run: &Waiting,
    needs: &Needs,
) -> Result<Vec<usize>, String> {
    if offers.is_empty() {
        return Err("no runner is connected; start one with `assay runner`".to_owned());
    }
    if let Some(runner) = run.runner.as_ref().filter(|runner| !offers.contains_key(*runner)) {
        return Err(format!("runner {runner}, which has what is tested, is not connected"));
    }
    let wanted = |name: &str| run.runner.as_ref().is_none_or(|runner| runner == name);
    let knowing: Vec<usize> = (0..runners.len())
        .filter(|n| wanted(runners[*n].name) && offers[runners[*n].name].power.contains(&run.method))
        .collect();
    let Some(first) = knowing.first() else {
        return Err(match run.method.as_str() {
            crate::images::VM => {
                "no connected runner has virtual machines; start one with `assay runner --vm`".to_owned()
            }
            crate::recipes::SWARM => {
                "no connected runner tests recipes; start one with `assay runner --swarm`".to_owned()
            }
            crate::recipes::MACHINE => {
                "no connected runner tests what strangers send, each in a virtual machine; start one with `assay runner --swarm` where \
                 `assay doctor` finds a guest image"
                    .to_owned()
            }
            method => format!("no connected runner can switch power by `{method}`"),
        });
    };
    let large: Vec<usize> =
        knowing.iter().copied().filter(|n| short(&runners[*n].capacity, needs).is_empty()).collect();
    if large.is_empty() {
        let runner = &runners[*first];
        let lacks = super::reasons::lacking(&short(&runner.capacity, needs), pools, "in all");
        return Err(format!(
            "it can never start: needs {lacks} (runner {}); declare more there, or need less",
            runner.name
        ));
    }
    Ok(large)
}

/// Pools as they are met.
#[derive(Default)]
struct Pools<'a> {
    names: Vec<&'a str>,
    numbers: HashMap<&'a str, usize>,
}

impl<'a> Pools<'a> {
    fn number(&mut self, pool: &'a str) -> usize {
        *self.numbers.entry(pool).or_insert_with(|| {
            self.names.push(pool);
            self.names.len() - 1
        })
    }

    fn needs(&mut self, slots: &'a Slots) -> Needs {
        slots.iter().map(|(pool, n)| (self.number(pool), *n)).collect()
    }
}
