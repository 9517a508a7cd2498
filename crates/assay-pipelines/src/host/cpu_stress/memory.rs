//! What the memory test shows: words that changed, and how much of the memory that speaks for.

use assay_model::host::cpu_stress::{BitError, Ended, MemoryTest};
use assay_model::text::clean;
use assay_model::{Coverage, Finding, Severity, Verdict};

use super::{Amount, Modules, Said};

/// Below this part of all memory, in percent, a test says little, whatever the kernel could give.
const LEAST_OF_ALL: u64 = 40;
/// More than this in percent and bytes is not left to everybody else on any machine: somebody tells tales.
const MOST_RESERVED: (u64, u64) = (2, 256 << 20);
/// Words that are described one by one.
const MAX_DESCRIBED: usize = 3;

pub(super) fn judge(test: &MemoryTest, amount: Amount, modules: &Modules, said: &mut Said) {
    let wrong = test.mismatches.max(test.flips.len() as u64);
    let covered = test.covered();
    if covered > 0 || wrong > 0 {
        said.check(
            "memory holds what is written to it",
            if wrong > 0 { Verdict::Fail } else { Verdict::Pass },
            "no word differs".to_owned(),
            format!("{wrong} words differ in {} written and verified", size(test.verified)),
        );
    }
    said.coverage.push(Coverage {
        what: "bytes of memory written and verified".to_owned(),
        covered,
        total: test.total.max(covered),
    });
    if wrong > 0 {
        said.findings.push(bit_error(test, wrong, modules));
    }
    match test.ended {
        Ended::NotStarted | Ended::Stopped => said.lacks("memory was not tested to the end".to_owned()),
        Ended::Missing | Ended::Hung | Ended::Broken => {
            said.incomplete = true;
            said.errors.push(format!("the memory test did not come to its end: {}", clean(&test.detail)));
        }
        Ended::Finished => finished(test, amount, wrong, said),
    }
}

fn finished(test: &MemoryTest, amount: Amount, wrong: u64, said: &mut Said) {
    let covered = test.covered();
    let (percent, bytes) = MOST_RESERVED;
    let reserve_is_fair = test.reserve <= (test.total / 100).saturating_mul(percent).saturating_add(bytes);
    let floor = part_of(test.usable(), u64::from(amount.floor_percent));
    let least = part_of(test.total, LEAST_OF_ALL.min(u64::from(amount.floor_percent)));
    let enough = covered > 0 && test.total > 0 && reserve_is_fair && covered >= floor && covered >= least;
    let seen = format!(
        "{}, {} of that; {} of all memory",
        size(covered),
        percent_of(covered, test.usable()),
        percent_of(covered, test.total)
    );
    let expected = format!(
        "at least {} % of the {} that the kernel could give",
        amount.floor_percent,
        size(test.usable())
    );
    let verdict = if enough { Verdict::Pass } else { Verdict::Unverified };
    said.check("memory written and verified", verdict, expected.clone(), seen.clone());
    // A test that stopped at broken memory was not to go on.
    if !enough && wrong == 0 {
        said.findings.push(
            Finding::new(
                "MemoryCoverageLow",
                Severity::Warning,
                format!("too little memory was tested: {seen}; needed: {expected}"),
                "Look in the run's log for what else took memory on this machine, then retry the stage.",
            )
            .part("memory", None, None),
        );
        said.lacks(format!("most of the memory was not verified: {seen}"));
    }
    let planned = test.patterns.len() as u64;
    if wrong == 0 && u64::from(test.passes) < planned {
        said.unverified.push(format!(
            "{} of {planned} passes over memory fitted into their time: not every bit was seen in both states",
            test.passes
        ));
    }
    if !test.locked && covered > 0 {
        said.unverified.push(
            "memory under test could not be locked: what was verified may have been pages in a swap file"
                .to_owned(),
        );
    }
}

fn bit_error(test: &MemoryTest, wrong: u64, modules: &Modules) -> Finding {
    let described: Vec<String> = test.flips.iter().take(MAX_DESCRIBED).map(describe).collect();
    let described = match described.as_slice() {
        [] => "where is not known, as the test did not come to its end".to_owned(),
        some => some.join("; "),
    };
    let first = test.flips.iter().find_map(|flip| flip.physical).map(|at| format!("{at:#x}"));
    let message = format!("{wrong} words of memory do not hold what is written to them: {described}");
    if let [(slot, serial)] = modules.present.as_slice() {
        let next = "Replace the only memory module, and clean its slot before the new one goes in.";
        let (slot, serial) = (slot.as_deref().map(clean), serial.as_deref().map(clean));
        return Finding::new("MemoryBitError", Severity::Critical, message, next).part(
            "dimm",
            slot.as_deref(),
            serial.as_deref(),
        );
    }
    let message = format!("{message}; neither board nor kernel says which module that is");
    let next = match modules.replaced.first() {
        Some(serial) => format!(
            "Reseat the module that was just replaced (serial {serial}) and retry; if it goes on, test the modules in halves to find the broken one."
        ),
        None => "Take out half of the modules and retry; go on with the half that fails until one is left, and replace that."
            .to_owned(),
    };
    Finding::new("MemoryBitError", Severity::Critical, message, next).part("memory", first.as_deref(), None)
}

fn describe(flip: &BitError) -> String {
    let place = flip.physical.map_or_else(
        || format!("offset {:#x} of the test (the kernel does not tell the physical address)", flip.offset),
        |at| format!("physical address {at:#x}"),
    );
    let wrong = flip.expected ^ flip.seen;
    let bits: Vec<String> =
        (0..64).filter(|bit| wrong >> bit & 1 == 1).map(|bit: u32| bit.to_string()).collect();
    let bits = match bits.len() {
        0 => "no bit".to_owned(),
        1 => format!("bit {}", bits[0]),
        2..=8 => format!("bits {}", bits.join(", ")),
        many => format!("{many} bits"),
    };
    let again = if flip.again == flip.expected { ", right when read again" } else { "" };
    format!(
        "{place} (wrote {:#018x}, read {:#018x}, {bits}, pass {}{again})",
        flip.expected, flip.seen, flip.pass
    )
}

fn part_of(all: u64, percent: u64) -> u64 {
    (u128::from(all) * u128::from(percent) / 100) as u64
}

fn percent_of(some: u64, all: u64) -> String {
    if all == 0 {
        return "an unknown part".to_owned();
    }
    format!("{:.1} %", some as f64 * 100.0 / all as f64)
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 10_240.0 { format!("{mib:.0} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}
