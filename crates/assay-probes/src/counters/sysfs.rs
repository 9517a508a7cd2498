//! Counters that are files: EDAC, machine checks, AER, throttling, network ports.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use assay_model::host::counters::{Counters, MemoryErrors, NicCounters, PcieErrors};
use assay_model::text::clean;

use crate::Machine;
use crate::files::{attribute, entries, number, text};

/// More of one kind than any machine has.
const MAX_ITEMS: usize = 2048;
/// How often corrected machine checks are to be collected, in seconds.
const CHECK_INTERVAL_S: u64 = 5;

/// What only a fault makes grow.
const ERRORS: [&str; 9] = [
    "rx_errors",
    "tx_errors",
    "rx_crc_errors",
    "rx_frame_errors",
    "rx_length_errors",
    "tx_carrier_errors",
    "tx_aborted_errors",
    "tx_window_errors",
    "collisions",
];
/// What also grows when the machine is too busy.
const DROPS: [&str; 5] = ["rx_dropped", "tx_dropped", "rx_fifo_errors", "rx_missed_errors", "rx_over_errors"];

pub(super) fn read(machine: &Machine) -> Counters {
    Counters {
        memory: memory(machine),
        machine_checks: machine_checks(machine),
        pcie: pcie(machine),
        throttled: throttled(machine),
        nics: nics(machine),
        ..Counters::default()
    }
}

pub(super) fn watch_machine_checks(machine: &Machine) {
    let file = machine.path("sys/devices/system/machinecheck/machinecheck0/check_interval");
    // The kernel writes the number in hexadecimal and reads any base.
    let now = text(&file).and_then(|told| u64::from_str_radix(told.trim(), 16).ok());
    if now.is_some_and(|seconds| seconds == 0 || seconds > CHECK_INTERVAL_S)
        && let Err(error) = fs::write(&file, CHECK_INTERVAL_S.to_string())
    {
        tracing::warn!(%error, "corrected machine checks are collected as seldom as the kernel does it by itself");
    }
}

/// `None` when no driver registered a memory controller: the folder is there all the same.
fn memory(machine: &Machine) -> Option<Vec<MemoryErrors>> {
    let folder = machine.path("sys/devices/system/edac/mc");
    let controllers: Vec<_> =
        entries(&folder).into_iter().filter(|(name, _)| numbered(name, "mc")).take(MAX_ITEMS).collect();
    if controllers.is_empty() {
        return None;
    }
    let mut found = Vec::new();
    for (controller, folder) in controllers {
        let count = |folder: &Path, kind: &str| number::<u64>(&folder.join(kind));
        let mut of_modules = (0_u64, 0_u64);
        for (module, folder) in entries(&folder) {
            if !(numbered(&module, "dimm") || numbered(&module, "rank")) {
                continue;
            }
            let counts = (count(&folder, "dimm_ce_count"), count(&folder, "dimm_ue_count"));
            let (Some(corrected), Some(uncorrected)) = counts else { continue };
            of_modules = (of_modules.0.saturating_add(corrected), of_modules.1.saturating_add(uncorrected));
            found.push(MemoryErrors {
                id: format!("{controller}/{module}"),
                label: attribute(&folder.join("dimm_label")),
                corrected,
                uncorrected,
            });
        }
        // What the controller could not place counts as well, and all of it where it knows no modules.
        let corrected = count(&folder, "ce_count").unwrap_or(0).saturating_sub(of_modules.0);
        let uncorrected = count(&folder, "ue_count").unwrap_or(0).saturating_sub(of_modules.1);
        found.push(MemoryErrors {
            label: attribute(&folder.join("mc_name")),
            id: controller,
            corrected,
            uncorrected,
        });
    }
    found.truncate(MAX_ITEMS);
    Some(found)
}

/// The line `MCE:` of `/proc/interrupts`, over all processors.
fn machine_checks(machine: &Machine) -> Option<u64> {
    let table = text(&machine.path("proc/interrupts"))?;
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix("MCE:"))?;
    Some(line.split_whitespace().map_while(|word| word.parse::<u64>().ok()).fold(0, u64::saturating_add))
}

fn pcie(machine: &Machine) -> Vec<PcieErrors> {
    let mut found = Vec::new();
    for (address, folder) in entries(&machine.path("sys/bus/pci/devices")) {
        let total = |kind: &str| {
            let table = text(&folder.join(kind))?;
            let line = table.lines().rev().find(|line| line.starts_with("TOTAL_ERR"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        let all = (total("aer_dev_correctable"), total("aer_dev_nonfatal"), total("aer_dev_fatal"));
        if let (Some(correctable), Some(nonfatal), Some(fatal)) = all {
            found.push(PcieErrors { address, correctable, nonfatal, fatal });
        }
    }
    found.truncate(MAX_ITEMS);
    found
}

fn throttled(machine: &Machine) -> Option<u64> {
    let mut sum = None;
    for (name, folder) in entries(&machine.path("sys/devices/system/cpu")) {
        if !numbered(&name, "cpu") {
            continue;
        }
        for kind in ["core_throttle_count", "package_throttle_count"] {
            if let Some(count) = number::<u64>(&folder.join("thermal_throttle").join(kind)) {
                sum = Some(sum.unwrap_or(0_u64).saturating_add(count));
            }
        }
    }
    sum
}

fn nics(machine: &Machine) -> Vec<NicCounters> {
    let ports = entries(&machine.path("sys/class/net"));
    let hardware = ports.into_iter().filter(|(_, folder)| folder.join("device").exists());
    hardware.take(MAX_ITEMS).map(|(name, folder)| nic(name, &folder)).collect()
}

/// One port's counters.
pub(crate) fn nic(name: String, folder: &Path) -> NicCounters {
    let of = |names: &[&str]| -> BTreeMap<String, u64> {
        let read = |name: &&str| Some(((*name).to_owned(), number(&folder.join("statistics").join(name))?));
        names.iter().filter_map(read).collect()
    };
    // IFF_UP is the lowest bit.
    let flags = text(&folder.join("flags"))
        .and_then(|told| u32::from_str_radix(told.trim().trim_start_matches("0x"), 16).ok());
    NicCounters {
        mac: attribute(&folder.join("address")).map(|mac| clean(&mac.to_lowercase())),
        up: flags.is_some_and(|flags| flags & 1 == 1),
        carrier: number::<u8>(&folder.join("carrier")).map(|flag| flag == 1),
        carrier_changes: number(&folder.join("carrier_changes")),
        errors: of(&ERRORS),
        drops: of(&DROPS),
        name,
    }
}

fn numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}
