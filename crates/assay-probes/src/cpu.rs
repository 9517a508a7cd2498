//! Processors, usable memory and the kernel: from `proc` and the topology in `sys`.

use std::collections::{BTreeMap, BTreeSet};

use assay_model::host::inventory::Cpu;

use crate::Machine;
use crate::files::{attribute, entries, number, text, told};

/// One entry per socket.
pub(crate) fn cpus(machine: &Machine, problems: &mut Vec<String>) -> Vec<Cpu> {
    let described = cpuinfo(&text(&machine.path("proc/cpuinfo")).unwrap_or_default());
    let mut sockets: BTreeMap<u32, Socket> = BTreeMap::new();
    for (name, folder) in entries(&machine.path("sys/devices/system/cpu")) {
        let Some(index) = name.strip_prefix("cpu").and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        let topology = folder.join("topology");
        // Only processors that are online have a topology.
        let Some(core) = number::<i64>(&topology.join("core_id")) else {
            continue;
        };
        // -1 where the firmware does not tell.
        let socket = number::<i64>(&topology.join("physical_package_id"))
            .and_then(|id| u32::try_from(id).ok())
            .unwrap_or(0);
        let die = number::<i64>(&topology.join("die_id")).unwrap_or(0);
        let khz: Option<u32> = number(&folder.join("cpufreq/cpuinfo_max_freq"));
        let socket = sockets.entry(socket).or_default();
        socket.add(described.get(&index), (die, core), khz.map(|khz| khz / 1000));
    }
    if sockets.is_empty() {
        // A kernel or container without topology: what /proc/cpuinfo says by itself.
        for (index, processor) in &described {
            let core = processor.core.unwrap_or_else(|| i64::from(*index));
            sockets.entry(processor.socket.unwrap_or(0)).or_default().add(Some(processor), (0, core), None);
        }
    }
    if sockets.is_empty() {
        problems.push("no processor could be read from proc/cpuinfo and sys/devices/system/cpu".to_owned());
    }
    sockets.into_iter().map(|(number, socket)| socket.finish(number)).collect()
}

/// Memory that the kernel can use, in MiB.
pub(crate) fn usable_memory_mib(machine: &Machine, problems: &mut Vec<String>) -> Option<u64> {
    let info = text(&machine.path("proc/meminfo")).unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> = total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok());
    if kib.is_none() {
        problems.push("proc/meminfo does not tell the total of memory".to_owned());
    }
    kib.map(|kib| kib / 1024)
}

/// Release of the running kernel.
pub(crate) fn kernel(machine: &Machine) -> Option<String> {
    attribute(&machine.path("proc/sys/kernel/osrelease"))
}

#[derive(Default)]
struct Socket {
    model: Option<String>,
    microcode: Option<String>,
    cores: BTreeSet<(i64, i64)>,
    threads: u32,
    max_mhz: Option<u32>,
}

impl Socket {
    fn add(&mut self, processor: Option<&Processor>, core: (i64, i64), mhz: Option<u32>) {
        if let Some(processor) = processor {
            self.model = self.model.take().or_else(|| processor.model.clone());
            self.microcode = self.microcode.take().or_else(|| processor.microcode.clone());
        }
        self.cores.insert(core);
        self.threads += 1;
        self.max_mhz = self.max_mhz.max(mhz);
    }

    fn finish(self, socket: u32) -> Cpu {
        Cpu {
            socket,
            model: self.model,
            cores: u32::try_from(self.cores.len()).ok(),
            threads: Some(self.threads),
            microcode: self.microcode,
            max_mhz: self.max_mhz,
        }
    }
}

#[derive(Default)]
struct Processor {
    model: Option<String>,
    microcode: Option<String>,
    socket: Option<u32>,
    core: Option<i64>,
}

/// The blocks of `/proc/cpuinfo`, by processor number.
fn cpuinfo(text: &str) -> BTreeMap<u32, Processor> {
    let mut processors: BTreeMap<u32, Processor> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        if key.trim() == "processor" {
            current = value.parse().ok();
            if let Some(index) = current {
                processors.entry(index).or_default();
            }
        }
        let Some(processor) = current.and_then(|index| processors.get_mut(&index)) else {
            continue;
        };
        match key.trim() {
            "model name" => processor.model = told(value),
            "microcode" => processor.microcode = told(value),
            "physical id" => processor.socket = value.parse().ok(),
            "core id" => processor.core = value.parse().ok(),
            _ => {}
        }
    }
    processors
}
