//! How often processors slowed themselves down for heat, each processor and core by itself.
//!
//! The kernel counts since boot (`thermal_throttle` of each logical processor); only differences mean something. The
//! count of a package shows at each of its cores, and that of a core at each of its threads: the highest is taken,
//! and none is added up twice.

use std::collections::BTreeMap;

use assay_model::host::cpu_stress::Throttled;

use crate::Machine;
use crate::files::{entries, number};

/// More logical processors than any machine has.
const MAX_PROCESSORS: usize = 8192;

/// One reading of all counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThrottleCounts(BTreeMap<String, u64>);

impl ThrottleCounts {
    /// Reads them; `None` where processors do not tell.
    pub fn read(machine: &Machine) -> Option<Self> {
        let mut counts = BTreeMap::new();
        for (name, folder) in
            entries(&machine.path("sys/devices/system/cpu")).into_iter().take(MAX_PROCESSORS)
        {
            let Some(digits) = name.strip_prefix("cpu").filter(|rest| rest.parse::<u32>().is_ok()) else {
                continue;
            };
            let topology = |file: &str| number::<u32>(&folder.join("topology").join(file));
            let package = topology("physical_package_id").unwrap_or(0);
            let core = topology("core_id").map_or_else(|| digits.to_owned(), |core| core.to_string());
            let count = |file: &str| number::<u64>(&folder.join("thermal_throttle").join(file));
            let all = [
                (format!("processor {package}"), count("package_throttle_count")),
                (format!("processor {package}, core {core}"), count("core_throttle_count")),
            ];
            for (what, count) in all {
                if let Some(count) = count {
                    let most = counts.entry(what).or_insert(0);
                    *most = count.max(*most);
                }
            }
        }
        (!counts.is_empty()).then_some(Self(counts))
    }

    /// What was counted since an earlier reading: only those that were slowed.
    pub fn since(&self, before: &Self) -> Vec<Throttled> {
        let grown = self.0.iter().map(|(what, now)| {
            let then = before.0.get(what).copied().unwrap_or(0);
            Throttled { what: what.clone(), times: now.saturating_sub(then) }
        });
        grown.filter(|throttled| throttled.times > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn processor(root: &Path, number: u32, package: u32, core: u32, counts: (u64, u64)) {
        let folder = root.join(format!("sys/devices/system/cpu/cpu{number}"));
        for (file, value) in [
            ("topology/physical_package_id", u64::from(package)),
            ("topology/core_id", u64::from(core)),
            ("thermal_throttle/package_throttle_count", counts.0),
            ("thermal_throttle/core_throttle_count", counts.1),
        ] {
            let file = folder.join(file);
            fs::create_dir_all(file.parent().expect("has one")).expect("folder");
            fs::write(file, format!("{value}\n")).expect("written");
        }
    }

    #[test]
    fn each_processor_and_core_is_counted_once() {
        let root = tempfile::tempdir().expect("folder");
        let machine = Machine::captured(root.path(), None);
        assert_eq!(ThrottleCounts::read(&machine), None, "nothing is told");
        // Two threads of core 0, one of core 4, and a second processor.
        processor(root.path(), 0, 0, 0, (7, 2));
        processor(root.path(), 1, 0, 0, (7, 2));
        processor(root.path(), 2, 0, 4, (7, 0));
        processor(root.path(), 3, 1, 0, (0, 0));
        fs::create_dir_all(root.path().join("sys/devices/system/cpu/cpufreq")).expect("folder");
        let before = ThrottleCounts::read(&machine).expect("told");
        assert_eq!(before.since(&before), []);
        processor(root.path(), 0, 0, 0, (10, 2));
        processor(root.path(), 2, 0, 4, (10, 5));
        let told = |what: &str, times| Throttled { what: what.to_owned(), times };
        let after = ThrottleCounts::read(&machine).expect("told");
        assert_eq!(after.since(&before), [told("processor 0", 3), told("processor 0, core 4", 5)]);
    }
}
