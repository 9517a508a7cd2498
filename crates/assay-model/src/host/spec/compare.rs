//! What a spec expects against what a machine tells: field by field, purely.
//!
//! Three outcomes are kept apart for every declared field: it agrees, it differs, or the machine did not tell. The last
//! is never taken for agreement. Parts are matched by identity (a slot, a serial number, an address), never by their
//! place in a list or a kernel name, and each part of the machine stands for at most one entry of the spec.

mod devices;
mod disks;
mod memory;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FieldSeverity, HostSpec};
use crate::host::inventory::{Cpu, Inventory};
use crate::{Part, Severity};

/// The kernel may use this much less memory than is installed: a share, and a fixed part (firmware, crash kernel).
const RESERVED_SHARE: u64 = 5;
const RESERVED_MIB: u64 = 256;

/// One difference, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpecDiff {
    /// Stable code: `DimmMissing`, `DiskMismatch` …
    pub code: String,
    /// Which field: `memory.dimms[DIMM_A1].serial`.
    pub path: String,
    /// What the spec says.
    pub expected: String,
    /// What the machine says.
    pub seen: String,
    /// How bad it is, by the spec's overrides or the defaults.
    pub severity: Severity,
    /// The part to look at.
    pub part: Option<Part>,
    /// Expected and seen in one sentence.
    pub message: String,
    /// What to do, in one sentence.
    pub next_step: String,
}

/// A field that agrees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Which field.
    pub path: String,
    /// What the spec says.
    pub expected: String,
    /// What the machine says.
    pub seen: String,
}

/// A field that the spec declares and the machine does not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Which field.
    pub path: String,
    /// What the spec says.
    pub expected: String,
    /// How bad a difference would be.
    pub severity: Severity,
}

/// Every declared field once, fields that the spec ignores left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What agrees.
    pub agreed: Vec<Agreed>,
    /// What differs.
    pub diffs: Vec<SpecDiff>,
    /// What the machine does not tell.
    pub unread: Vec<Unread>,
}

/// The differences alone.
pub fn diff(spec: &HostSpec, inventory: &Inventory) -> Vec<SpecDiff> {
    compare(spec, inventory).diffs
}

/// Compares everything that the spec declares.
pub fn compare(spec: &HostSpec, inventory: &Inventory) -> Comparison {
    let mut comparer = Comparer { spec, out: Comparison::default() };
    system(&mut comparer, inventory);
    cpu(&mut comparer, inventory);
    // Modules before the total: which one is missing says more than how much.
    memory::dimms(&mut comparer, &inventory.memory.dimms);
    memory_total(&mut comparer, inventory);
    disks::disks(&mut comparer, &inventory.disks);
    devices::nics(&mut comparer, &inventory.nics);
    devices::pci(&mut comparer, inventory);
    comparer.out
}

/// Collects outcomes under the spec's severities.
struct Comparer<'a> {
    spec: &'a HostSpec,
    out: Comparison,
}

/// What stands behind a field: which code a difference has, which part it blames, what to do.
#[derive(Clone)]
struct Blame {
    code: &'static str,
    part: Option<Part>,
    next_step: String,
}

impl Comparer<'_> {
    fn severity(&self, path: &str) -> Option<Severity> {
        FieldSeverity::severity(self.spec.severity_of(path))
    }

    fn agree(&mut self, path: &str, expected: impl Into<String>, seen: impl Into<String>) {
        if self.severity(path).is_some() {
            self.out.agreed.push(Agreed {
                path: path.to_owned(),
                expected: expected.into(),
                seen: seen.into(),
            });
        }
    }

    fn differ(&mut self, path: &str, expected: &str, seen: &str, message: Option<String>, blame: Blame) {
        let Some(severity) = self.severity(path) else {
            return;
        };
        let message = message.unwrap_or_else(|| format!("{path}: expected {expected}, seen {seen}"));
        let Blame { code, part, next_step } = blame;
        let (expected, seen) = (expected.to_owned(), seen.to_owned());
        self.out.diffs.push(SpecDiff {
            code: code.to_owned(),
            path: path.to_owned(),
            expected,
            seen,
            severity,
            part,
            message,
            next_step,
        });
    }

    fn unread(&mut self, path: &str, expected: impl Into<String>) {
        if let Some(severity) = self.severity(path) {
            self.out.unread.push(Unread { path: path.to_owned(), expected: expected.into(), severity });
        }
    }

    /// A text field: compared only when declared.
    fn text(&mut self, path: &str, expected: Option<&String>, seen: Option<&String>, blame: Blame) {
        self.field(
            path,
            expected.map(String::as_str),
            seen.map(String::as_str),
            |a, b| same_text(a, b),
            blame,
        );
    }

    /// Any field: compared only when declared.
    fn field<T: ToString>(
        &mut self,
        path: &str,
        expected: Option<T>,
        seen: Option<T>,
        same: impl Fn(&T, &T) -> bool,
        blame: Blame,
    ) {
        let Some(expected) = expected else { return };
        match seen {
            None => self.unread(path, expected.to_string()),
            Some(seen) if same(&expected, &seen) => {
                self.agree(path, expected.to_string(), seen.to_string());
            }
            Some(seen) => self.differ(path, &expected.to_string(), &seen.to_string(), None, blame),
        }
    }
}

fn system(comparer: &mut Comparer<'_>, inventory: &Inventory) {
    let (want, have) = (&comparer.spec.system, &inventory.system);
    let part = Some(part("system", have.product.as_deref(), have.serial.as_deref()));
    let identity = Blame {
        code: "SystemMismatch",
        part: part.clone(),
        next_step: "Make sure that this is the machine that the spec describes; after a board swap have the vendor data rewritten or capture the spec again.".into(),
    };
    comparer.text(
        "system.manufacturer",
        want.manufacturer.as_ref(),
        have.manufacturer.as_ref(),
        identity.clone(),
    );
    comparer.text("system.product", want.product.as_ref(), have.product.as_ref(), identity.clone());
    comparer.text("system.serial", want.serial.as_ref(), have.serial.as_ref(), identity.clone());
    comparer.text("system.uuid", want.uuid.as_ref(), have.uuid.as_ref(), identity.clone());
    let label =
        Blame { next_step: "Correct the asset tag in the firmware setup or in the spec.".into(), ..identity };
    comparer.text("system.asset_tag", want.asset_tag.as_ref(), have.asset_tag.as_ref(), label);
    let firmware = Blame {
        code: "FirmwareDiffers",
        part,
        next_step: "Flash the firmware version that the spec names, or put the new version into the spec once it is accepted.".into(),
    };
    comparer.text(
        "system.bios_version",
        want.bios_version.as_ref(),
        inventory.bios.version.as_ref(),
        firmware,
    );
}

fn cpu(comparer: &mut Comparer<'_>, inventory: &Inventory) {
    let (want, cpus) = (&comparer.spec.cpu, &inventory.cpus);
    let wrong = Blame {
        code: "CpuMismatch",
        part: Some(part("cpu", None, None)),
        next_step: "Look for a processor that is missing, unseated or of another model, and for cores or threads switched off in the firmware setup.".into(),
    };
    let sockets = u32::try_from(cpus.len()).ok().filter(|&n| n > 0);
    comparer.text(
        "cpu.model",
        want.model.as_ref(),
        all_of(cpus, |cpu| cpu.model.as_ref()).as_ref(),
        wrong.clone(),
    );
    comparer.field("cpu.sockets", want.sockets, sockets, |a, b| a == b, wrong.clone());
    comparer.field("cpu.cores", want.cores, inventory.cores(), |a, b| a == b, wrong.clone());
    comparer.field("cpu.threads", want.threads, inventory.threads(), |a, b| a == b, wrong.clone());
    let microcode = Blame {
        code: "FirmwareDiffers",
        next_step: "Expected after a firmware or live-image update: put the new microcode revision into the spec; otherwise update the firmware.".into(),
        ..wrong
    };
    comparer.text(
        "cpu.microcode",
        want.microcode.as_ref(),
        all_of(cpus, |cpu| cpu.microcode.as_ref()).as_ref(),
        microcode,
    );
}

/// What all sockets say, joined where they disagree; `None` when one does not tell.
fn all_of(cpus: &[Cpu], field: fn(&Cpu) -> Option<&String>) -> Option<String> {
    let mut values = cpus.iter().map(field).collect::<Option<Vec<_>>>()?;
    values.dedup();
    (!values.is_empty()).then(|| values.into_iter().cloned().collect::<Vec<_>>().join(" + "))
}

/// Installed memory where the firmware lists modules; and in any case what the kernel can use, as a module can be listed
/// and yet be switched off.
fn memory_total(comparer: &mut Comparer<'_>, inventory: &Inventory) {
    const PATH: &str = "memory.total_mib";
    let Some(want) = comparer.spec.memory.total_mib else {
        return;
    };
    let blame = Blame {
        code: "MemoryTotal",
        part: Some(part("memory", None, None)),
        next_step: "Reseat the modules, look in the firmware setup and event log for a module that was switched off, then run again.".into(),
    };
    let expected = format!("{want} MiB");
    let installed = inventory.memory.installed_mib();
    let Some(usable) = inventory.memory.total_mib else {
        return comparer.unread(PATH, expected);
    };
    let seen = match installed {
        Some(installed) => format!("{installed} MiB installed, {usable} MiB usable"),
        None => format!("{usable} MiB usable"),
    };
    let least = (want - want / 100 * RESERVED_SHARE).saturating_sub(RESERVED_MIB);
    // A spec without SMBIOS behind it was captured from usable memory, which differs a little from kernel to kernel.
    let most = installed.map_or(want.saturating_add(want / 100), |_| want);
    if installed.is_none_or(|installed| installed == want) && (least..=most).contains(&usable) {
        comparer.agree(PATH, expected, seen);
    } else {
        comparer.differ(PATH, &expected, &seen, None, blame);
    }
}

fn part(kind: &str, location: Option<&str>, serial: Option<&str>) -> Part {
    Part { kind: kind.to_owned(), location: location.map(str::to_owned), serial: serial.map(str::to_owned) }
}

/// `disks` and `AB12` as `disks[AB12]`; brackets within a name would end it early.
fn path(section: &str, key: &str) -> String {
    format!("{section}[{}]", key.replace(['[', ']'], "_"))
}

/// Equal but for case and spacing, which firmware pads as it likes.
fn same_text(a: &str, b: &str) -> bool {
    a.split_whitespace().map(str::to_lowercase).eq(b.split_whitespace().map(str::to_lowercase))
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
