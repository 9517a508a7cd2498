//! Memory modules, matched by their slot or, without one, by their serial number.

use super::{Blame, Comparer, part, path, same_text};
use crate::host::inventory::Dimm;
use crate::host::spec::DimmSpec;

pub(super) fn dimms(comparer: &mut Comparer<'_>, dimms: &[Dimm]) {
    let spec = comparer.spec;
    let mut free: Vec<&Dimm> = dimms.iter().collect();
    for want in &spec.memory.dimms {
        let key = want.locator.as_deref().or(want.serial.as_deref()).unwrap_or("any");
        let path = path("memory.dimms", key);
        let expected = describe_dimm_spec(want);
        let found = free.iter().position(|dimm| fits_slot(want, dimm)).map(|index| free.remove(index));
        if dimms.is_empty() {
            // The firmware lists no slots at all: nothing is known, neither good nor bad.
            comparer.unread(&path, expected);
        } else if want.size_mib == Some(0) {
            slot_left_empty(comparer, &path, want, found);
        } else if let Some(dimm) = found.filter(|dimm| dimm.size_mib != Some(0)) {
            comparer.agree(&path, expected, describe_dimm(dimm));
            module(comparer, &path, want, dimm);
        } else {
            let elsewhere = want.serial.as_ref().and_then(|serial| {
                dimms.iter().find(|dimm| {
                    dimm.size_mib != Some(0)
                        && dimm.serial.as_ref().is_some_and(|seen| same_text(serial, seen))
                })
            });
            let slot = want.locator.as_deref().map_or(String::new(), |slot| format!(" in slot {slot}"));
            let (message, next_step) = match elsewhere.and_then(|dimm| dimm.locator.as_ref()) {
                Some(other) => (
                    format!("memory module {expected} is missing{slot}; it sits in slot {other}"),
                    format!("Move the module from slot {other} back to its slot, or correct the spec."),
                ),
                None => (
                    format!("memory module {expected} is missing{slot}"),
                    format!("Power off and reseat or replace the module{slot}, then retry this stage."),
                ),
            };
            let blame = Blame {
                code: "DimmMissing",
                part: Some(part("dimm", want.locator.as_deref(), want.serial.as_deref())),
                next_step,
            };
            comparer.differ(&path, &expected, "no module", Some(message), blame);
        }
    }
    if spec.memory.dimms.is_empty() || dimms.is_empty() {
        return;
    }
    let extra: Vec<&Dimm> = free.into_iter().filter(|dimm| dimm.size_mib != Some(0)).collect();
    if extra.is_empty() {
        comparer.agree("memory.dimms.unexpected", "no other module", "none");
    }
    for dimm in extra {
        let key = dimm.locator.as_deref().or(dimm.serial.as_deref()).unwrap_or("without a slot");
        unexpected_module(comparer, &path("memory.dimms.unexpected", key), dimm);
    }
}

fn fits_slot(want: &DimmSpec, dimm: &Dimm) -> bool {
    let fits = |want: Option<&String>, have: Option<&String>| {
        want.is_none_or(|want| have.is_some_and(|have| same_text(want, have)))
    };
    match &want.locator {
        Some(_) => {
            fits(want.locator.as_ref(), dimm.locator.as_ref()) && fits(want.bank.as_ref(), dimm.bank.as_ref())
        }
        None => dimm.size_mib != Some(0) && fits(want.serial.as_ref(), dimm.serial.as_ref()),
    }
}

fn slot_left_empty(comparer: &mut Comparer<'_>, path: &str, want: &DimmSpec, found: Option<&Dimm>) {
    match found {
        Some(dimm) if dimm.size_mib != Some(0) => unexpected_module(comparer, path, dimm),
        // A slot that is not listed holds nothing either.
        _ => comparer.agree(path, describe_dimm_spec(want), "empty"),
    }
}

fn unexpected_module(comparer: &mut Comparer<'_>, path: &str, dimm: &Dimm) {
    let seen = describe_dimm(dimm);
    let message = format!("memory module {seen} is there and the spec does not list it");
    let blame = Blame {
        code: "DimmUnexpected",
        part: Some(part("dimm", dimm.locator.as_deref(), dimm.serial.as_deref())),
        next_step: "Add the module to the spec if it is meant to stay, otherwise take it out.".into(),
    };
    comparer.differ(path, "no module", &seen, Some(message), blame);
}

fn module(comparer: &mut Comparer<'_>, path: &str, want: &DimmSpec, have: &Dimm) {
    let blame = Blame {
        code: "DimmMismatch",
        part: Some(part("dimm", have.locator.as_deref(), have.serial.as_deref())),
        next_step: "If the module was replaced on purpose, put the new one into the spec; otherwise put the right one back.".into(),
    };
    comparer.field(&format!("{path}.size_mib"), want.size_mib, have.size_mib, |a, b| a == b, blame.clone());
    comparer.text(&format!("{path}.serial"), want.serial.as_ref(), have.serial.as_ref(), blame.clone());
    comparer.text(&format!("{path}.part"), want.part.as_ref(), have.part.as_ref(), blame.clone());
    comparer.text(
        &format!("{path}.manufacturer"),
        want.manufacturer.as_ref(),
        have.manufacturer.as_ref(),
        blame,
    );
}

fn describe_dimm_spec(want: &DimmSpec) -> String {
    if want.size_mib == Some(0) {
        return "empty slot".into();
    }
    let mut facts = Vec::new();
    facts.extend(want.size_mib.map(|mib| format!("{mib} MiB")));
    facts.extend(want.part.clone());
    facts.extend(want.serial.as_ref().map(|serial| format!("serial {serial}")));
    if facts.is_empty() { "of any kind".into() } else { facts.join(", ") }
}

fn describe_dimm(have: &Dimm) -> String {
    let mut facts = Vec::new();
    facts.extend(have.size_mib.map(|mib| format!("{mib} MiB")));
    facts.extend(have.part.clone());
    facts.extend(have.serial.as_ref().map(|serial| format!("serial {serial}")));
    facts.extend(have.locator.as_ref().map(|slot| format!("slot {slot}")));
    if facts.is_empty() { "of unknown kind".into() } else { facts.join(", ") }
}
