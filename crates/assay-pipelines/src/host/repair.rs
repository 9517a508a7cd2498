//! After a repair: the new part is there, the old one is gone, and nothing else has changed hands.
//!
//! What "nothing else" is compared with is the inventory of the last run that the machine passed. Parts come and go
//! unnoticed in workshops: a memory module borrowed for another machine is found here, not a year later.

use assay_model::host::inventory::Inventory;
use assay_model::host::order::{PartKind, Replacement};
use assay_model::host::parts::{PartId, missing, parts};
use assay_model::{Check, Finding, Severity, Verdict};
use serde_json::Value;

/// What was found about a repair.
#[derive(Default)]
pub(super) struct Repair {
    pub(super) checks: Vec<Check>,
    pub(super) findings: Vec<Finding>,
    pub(super) unverified: Vec<String>,
    /// Whether a part that was said to be replaced could not be looked for at all.
    pub(super) untold: bool,
}

/// Looks for every part that was replaced, and at all the others.
pub(super) fn examine(now: &Inventory, replaced: &[Replacement], before: Option<(i64, &Value)>) -> Repair {
    let mut repair = Repair::default();
    if replaced.is_empty() {
        return repair;
    }
    let here = parts(now);
    for part in replaced {
        repair.part(part, &here);
    }
    match before.map(|(run, evidence)| (run, Inventory::from_evidence(evidence))) {
        Some((run, Ok(inventory))) => repair.the_rest(&here, &parts(&inventory), run, replaced),
        Some((run, Err(problem))) => repair.unverified.push(format!(
            "that no other part has changed: the inventory of run {run} does not read ({problem})"
        )),
        None => repair.unverified.push(
            "that no other part has changed: this machine has passed no run before, so there is nothing to compare with"
                .to_owned(),
        ),
    }
    repair
}

impl Repair {
    fn part(&mut self, part: &Replacement, here: &[PartId]) {
        let kind = part.kind.as_str();
        let of_kind: Vec<&PartId> = here.iter().filter(|p| p.kind == part.kind).collect();
        if of_kind.is_empty() {
            let why = format!("the machine tells no serial number of any {kind}");
            self.check(
                Verdict::Unverified,
                format!("{kind} {} replaced by {}", part.old, part.new),
                &why,
                "told",
            );
            self.unverified.push(format!(
                "that {kind} {} was replaced by {}: {why}; compare the label by eye",
                part.old, part.new
            ));
            self.untold = true;
            return;
        }
        let there = of_kind.iter().find(|p| p.is(&part.new));
        let old = of_kind.iter().find(|p| p.is(&part.old));
        let (seen_new, seen_old) =
            (there.map_or("not there", |_| "there"), old.map_or("gone", |_| "still there"));
        self.check(verdict(there.is_some()), format!("new {kind} {}", part.new), seen_new, "there");
        self.check(verdict(old.is_none()), format!("old {kind} {}", part.old), seen_old, "gone");
        if there.is_none() {
            let listed: Vec<&str> = of_kind.iter().map(|p| p.name()).take(16).collect();
            self.findings.push(
                Finding::new(
                    "ReplacedPartMissing",
                    Severity::Critical,
                    format!("the new {kind} {} is not there; the machine has {}", part.new, listed.join(", ")),
                    format!("Check that the new {kind} is seated and connected, and that {} is its serial number.", part.new),
                )
                .part(kind, None, Some(&part.new)),
            );
        }
        if let Some(old) = old {
            self.findings.push(
                Finding::new(
                    "OldPartPresent",
                    Severity::Critical,
                    format!("the old {kind} {} is still there{}", part.old, at(old)),
                    format!(
                        "Take out {kind} {}, or say the right serial number of the part that was replaced.",
                        part.old
                    ),
                )
                .part(kind, old.place.as_deref(), Some(&part.old)),
            );
        }
    }

    fn the_rest(&mut self, here: &[PartId], then: &[PartId], run: i64, replaced: &[Replacement]) {
        let of_repair =
            |p: &PartId| replaced.iter().any(|r| r.kind == p.kind && (p.is(&r.old) || p.is(&r.new)));
        let gone: Vec<_> = missing(then, here).into_iter().filter(|p| !of_repair(p)).collect();
        let come: Vec<_> = missing(here, then).into_iter().filter(|p| !of_repair(p)).collect();
        let seen = match gone.len() + come.len() {
            0 => "as they were".to_owned(),
            n => format!("{n} differ"),
        };
        let same = gone.is_empty() && come.is_empty();
        self.check(verdict(same), format!("all other parts, against run {run}"), &seen, "as they were");
        for (part, what) in
            gone.into_iter().map(|p| (p, "is gone")).chain(come.into_iter().map(|p| (p, "is new")))
        {
            let kind = part.kind.as_str();
            self.findings.push(
                Finding::new(
                    "PartChanged",
                    Severity::Critical,
                    format!("{kind} {}{} {what} since run {run}, and nobody said that it was replaced", part.name(), at(part)),
                    format!(
                        "If it was meant to change, vet again and name it too (`--replaced {kind}:OLD=NEW`); otherwise \
                         find out who changed it."
                    ),
                )
                .part(kind, part.place.as_deref(), Some(part.name())),
            );
        }
    }

    fn check(&mut self, verdict: Verdict, name: String, seen: &str, expected: &str) {
        self.checks.push(Check { name, verdict, expected: expected.to_owned(), seen: seen.to_owned() });
    }
}

const fn verdict(good: bool) -> Verdict {
    if good { Verdict::Pass } else { Verdict::Fail }
}

/// Where a part is; a kernel name says nothing about a network port that people do not know better.
fn at(part: &PartId) -> String {
    match (part.kind, part.place.as_deref()) {
        (PartKind::Board | PartKind::Psu, _) | (_, None) => String::new(),
        (_, Some(place)) => format!(" ({place})"),
    }
}
