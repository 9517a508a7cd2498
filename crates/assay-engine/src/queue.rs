//! Whose turn it is: runs wait for slots in the pools that runners declare, in order, and each one says why.
//!
//! Pure: what runners offer, what runs hold, who waits. A run that does not fit keeps its place: no later one
//! overtakes it on a runner that could do it. A held run keeps its machine, but no slot: nothing runs there.

use std::collections::{BTreeMap, BTreeSet};

use assay_model::event::RunCreated;
use assay_model::{RunId, RunState, RunView};

use crate::live::Offer;

/// The pool that every machine under test needs one of: addresses, boot downloads, one agent's traffic.
pub const NETBOOT: &str = "netboot";
/// How many machines a runner that declares nothing boots at once.
const NETBOOT_SLOTS: u64 = 16;

/// Slots by pool.
pub type Slots = BTreeMap<String, u64>;

/// A run that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which run.
    pub id: RunId,
    /// Its number.
    pub number: i64,
    /// The machine.
    pub target: String,
    /// The power method that its runner must know.
    pub method: String,
    /// The one runner that can do it: it has what is tested.
    pub runner: Option<String>,
    /// What it needs while it runs.
    pub needs: Slots,
}

/// A run that holds slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Using {
    /// Its number.
    pub number: i64,
    /// The machine.
    pub target: String,
    /// Where it is.
    pub runner: String,
    /// What it is doing, in a word.
    pub doing: String,
    /// What it holds.
    pub needs: Slots,
}

/// What becomes of a waiting run now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its turn has come.
    Admit {
        /// On which runner.
        runner: String,
    },
    /// It waits.
    Wait {
        /// Why, for people.
        reason: String,
    },
}

impl Waiting {
    /// A queued run.
    pub fn of(run: &RunView) -> Self {
        Self {
            id: run.id,
            number: run.created.number,
            target: run.created.target.name.clone(),
            method: method(&run.created).to_owned(),
            runner: run.created.power.get("runner").and_then(|r| r.as_str()).map(str::to_owned),
            needs: needs(&run.created),
        }
    }
}

impl Using {
    /// A run that holds slots, if it does.
    pub fn of(run: &RunView) -> Option<Self> {
        use RunState as S;
        if !matches!(run.state(), S::Booting | S::Running | S::Failed | S::Cancelling) {
            return None;
        }
        let stage =
            run.current_stage().filter(|_| run.state() == S::Running).map(|s| s.plan.name.to_string());
        Some(Self {
            number: run.created.number,
            target: run.created.target.name.clone(),
            runner: run.runner.clone()?,
            doing: stage.unwrap_or_else(|| run.state().to_string()),
            needs: needs(&run.created),
        })
    }
}

/// The power method that a run's runner must know.
pub(crate) fn method(created: &RunCreated) -> &str {
    created.power.get("method").and_then(|m| m.as_str()).unwrap_or("manual")
}

/// What the power settings declare, `{"needs": {"mem_mib": 4096}}`; and for a machine that boots one netboot slot.
fn needs(created: &RunCreated) -> Slots {
    let declared = created.power.get("needs").and_then(|needs| needs.as_object());
    let declared = declared.into_iter().flatten().filter_map(|(pool, n)| Some((pool.clone(), n.as_u64()?)));
    let mut needs: Slots = declared.filter(|(_, n)| *n > 0).collect();
    if created.has_machine() {
        needs.entry(NETBOOT.to_owned()).or_insert(1);
    }
    needs
}

/// What becomes of every waiting run, in their order.
pub fn place(offers: &BTreeMap<String, Offer>, using: &[Using], queue: &[Waiting]) -> Vec<(RunId, Place)> {
    let mut free: BTreeMap<&str, Slots> =
        offers.iter().map(|(name, offer)| (name.as_str(), left(name, offer, using))).collect();
    // Those that wait for slots: who comes later waits behind them where they could run, too.
    let mut line: Vec<(&Waiting, BTreeSet<&str>)> = Vec::new();
    let mut out = Vec::new();
    for run in queue {
        let place = match reachable(offers, run) {
            Err(reason) => Place::Wait { reason },
            Ok(runners) => {
                let ahead: Vec<_> = line.iter().filter(|(_, theirs)| !theirs.is_disjoint(&runners)).collect();
                let taken: BTreeSet<&str> = ahead.iter().flat_map(|(_, theirs)| theirs).copied().collect();
                let fits = runners
                    .iter()
                    .find(|name| !taken.contains(**name) && short(&free[**name], run).is_empty());
                if let Some(name) = fits {
                    let slots = free.entry(name).or_default();
                    for (pool, n) in &run.needs {
                        slots.entry(pool.clone()).and_modify(|free| *free -= n);
                    }
                    Place::Admit { runner: (*name).to_owned() }
                } else {
                    let before = ahead.last().map(|(before, _)| *before);
                    let reason = in_line(run, ahead.len() + 1, before, &runners, &free, using);
                    line.push((run, runners));
                    Place::Wait { reason }
                }
            }
        };
        out.push((run.id, place));
    }
    out
}

/// What a runner has left.
fn left(name: &str, offer: &Offer, using: &[Using]) -> Slots {
    let mut slots = capacity(offer);
    for run in using.iter().filter(|run| run.runner == name) {
        for (pool, n) in &run.needs {
            // A decision lets a held run go on without asking for a slot, so there may be less than nothing.
            slots.entry(pool.clone()).and_modify(|free| *free = free.saturating_sub(*n));
        }
    }
    slots
}

fn capacity(offer: &Offer) -> Slots {
    let mut slots = offer.capacity.clone();
    slots.entry(NETBOOT.to_owned()).or_insert(NETBOOT_SLOTS);
    slots
}

/// The runners that can do a run at all, or why there is none.
fn reachable<'a>(offers: &'a BTreeMap<String, Offer>, run: &Waiting) -> Result<BTreeSet<&'a str>, String> {
    if offers.is_empty() {
        return Err("no runner is connected; start one with `assay runner`".to_owned());
    }
    let wanted = |name: &String| run.runner.as_ref().is_none_or(|runner| runner == name);
    if let Some(runner) = run.runner.as_ref().filter(|runner| !offers.contains_key(*runner)) {
        return Err(format!("runner {runner}, which has what is tested, is not connected"));
    }
    let knowing: Vec<_> =
        offers.iter().filter(|(name, offer)| wanted(name) && offer.power.contains(&run.method)).collect();
    if knowing.is_empty() && run.method == crate::images::VM {
        return Err("no connected runner has virtual machines; start one with `assay runner --vm`".to_owned());
    }
    if knowing.is_empty() {
        return Err(format!("no connected runner can switch power by `{}`", run.method));
    }
    let large = |offer: &Offer| short(&capacity(offer), run).is_empty();
    let runners: BTreeSet<&str> =
        knowing.iter().filter(|(_, offer)| large(offer)).map(|(name, _)| name.as_str()).collect();
    if runners.is_empty() {
        let (name, offer) = knowing[0];
        let lacks = said(&short(&capacity(offer), run), "in all");
        return Err(format!(
            "it can never start: needs {lacks} (runner {name}); declare more there, or need less"
        ));
    }
    Ok(runners)
}

/// The pools that do not have what a run needs: what is needed, and what there is.
fn short<'a>(slots: &Slots, run: &'a Waiting) -> Vec<(&'a str, u64, u64)> {
    let lacking =
        run.needs.iter().map(|(pool, n)| (pool.as_str(), *n, slots.get(pool).copied().unwrap_or(0)));
    lacking.filter(|(_, needed, there)| needed > there).collect()
}

fn said(short: &[(&str, u64, u64)], word: &str) -> String {
    let each: Vec<_> =
        short.iter().map(|(pool, needed, there)| format!("{needed} {pool}, {there} {word}")).collect();
    each.join("; ")
}

/// `3rd in line; needs 1 netboot, 0 free; behind run 41 (web-2, SMART)`.
fn in_line(
    run: &Waiting,
    place: usize,
    before: Option<&Waiting>,
    runners: &BTreeSet<&str>,
    free: &BTreeMap<&str, Slots>,
    using: &[Using],
) -> String {
    let lacks = runners.iter().map(|name| short(&free[*name], run)).min_by_key(Vec::len).unwrap_or_default();
    let mut out = format!("{} in line", ordinal(place));
    if !lacks.is_empty() {
        out = format!("{out}; needs {}", said(&lacks, "free"));
    }
    let behind = match before {
        Some(run) => Some(format!("run {} ({}, waits, too)", run.number, run.target)),
        None => using
            .iter()
            .filter(|other| runners.contains(other.runner.as_str()))
            .min_by_key(|other| other.number)
            .map(|other| format!("run {} ({}, {})", other.number, other.target, other.doing)),
    };
    behind.map_or(out.clone(), |behind| format!("{out}; behind {behind}"))
}

fn ordinal(n: usize) -> String {
    let end = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{n}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(of: &[(&str, u64)]) -> Slots {
        of.iter().map(|(pool, n)| ((*pool).to_owned(), *n)).collect()
    }

    fn offer(methods: &[&str], capacity: &[(&str, u64)]) -> Offer {
        Offer { power: methods.iter().map(|m| (*m).to_owned()).collect(), capacity: slots(capacity) }
    }

    fn offers(of: &[(&str, Offer)]) -> BTreeMap<String, Offer> {
        of.iter().map(|(name, offer)| ((*name).to_owned(), offer.clone())).collect()
    }

    fn waiting(number: i64, method: &str, needs: &[(&str, u64)]) -> Waiting {
        Waiting {
            id: RunId(uuid::Uuid::from_u128(number as u128)),
            number,
            target: format!("web-{number}"),
            method: method.to_owned(),
            runner: None,
            needs: slots(needs),
        }
    }

    fn using(number: i64, runner: &str, needs: &[(&str, u64)]) -> Using {
        Using {
            number,
            target: format!("web-{number}"),
            runner: runner.to_owned(),
            doing: "SMART".to_owned(),
            needs: slots(needs),
        }
    }

    fn told(offers: &BTreeMap<String, Offer>, held: &[Using], queue: &[Waiting]) -> Vec<String> {
        let said = |place: Place| match place {
            Place::Admit { runner } => format!("admit to {runner}"),
            Place::Wait { reason } => reason,
        };
        place(offers, held, queue).into_iter().map(|(_, place)| said(place)).collect()
    }

    const ONE: &[(&str, u64)] = &[(NETBOOT, 1)];

    #[test]
    fn a_runner_that_declares_nothing_boots_sixteen() {
        let offers = offers(&[("r1", offer(&["manual"], &[]))]);
        let held: Vec<_> = (1..=15).map(|n| using(n, "r1", ONE)).collect();
        let queue = [waiting(16, "manual", ONE), waiting(17, "manual", ONE), waiting(18, "manual", ONE)];
        assert_eq!(
            told(&offers, &held, &queue),
            [
                "admit to r1",
                "1st in line; needs 1 netboot, 0 free; behind run 1 (web-1, SMART)",
                "2nd in line; needs 1 netboot, 0 free; behind run 17 (web-17, waits, too)",
            ]
        );
    }

    #[test]
    fn nobody_overtakes_but_another_runner_may_be_free() {
        let two = offers(&[("a", offer(&["lab"], &[("mem_mib", 4096)])), ("b", offer(&["manual"], &[]))]);
        let held = [using(1, "a", &[(NETBOOT, 1), ("mem_mib", 3072)])];
        let large = &[(NETBOOT, 1), ("mem_mib", 2048)];
        let small = &[(NETBOOT, 1), ("mem_mib", 1024)];
        let queue = [waiting(2, "lab", large), waiting(3, "lab", small), waiting(4, "manual", ONE)];
        assert_eq!(
            told(&two, &held, &queue),
            [
                "1st in line; needs 2048 mem_mib, 1024 free; behind run 1 (web-1, SMART)",
                "2nd in line; behind run 2 (web-2, waits, too)",
                "admit to b",
            ]
        );
        assert_eq!(told(&two, &[], &queue), ["admit to a", "admit to a", "admit to b"]);
    }

    #[test]
    fn what_can_never_start_says_so_and_holds_up_nobody() {
        let small = offers(&[("a", offer(&["manual"], &[("kvm", 1)]))]);
        let queue = [
            waiting(1, "manual", &[(NETBOOT, 1), ("kvm", 2)]),
            waiting(2, "redfish", ONE),
            waiting(3, "manual", ONE),
        ];
        assert_eq!(
            told(&small, &[], &queue),
            [
                "it can never start: needs 2 kvm, 1 in all (runner a); declare more there, or need less",
                "no connected runner can switch power by `redfish`",
                "admit to a",
            ]
        );
        assert_eq!(
            told(&BTreeMap::new(), &[], &queue[2..]),
            ["no runner is connected; start one with `assay runner`"]
        );
    }

    #[test]
    fn more_in_use_than_there_is_means_none_is_free() {
        let one = offers(&[("a", offer(&["manual"], &[(NETBOOT, 1)]))]);
        let held = [using(1, "a", ONE), using(2, "a", ONE)];
        assert_eq!(
            told(&one, &held, &[waiting(3, "manual", ONE)]),
            ["1st in line; needs 1 netboot, 0 free; behind run 1 (web-1, SMART)"]
        );
    }

    #[test]
    fn ordinals() {
        let words: Vec<_> = [1, 2, 3, 4, 11, 12, 13, 21, 102, 111].into_iter().map(ordinal).collect();
        assert_eq!(words, ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th"]);
    }
}
