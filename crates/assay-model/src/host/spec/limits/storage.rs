//! Disks under the surface scan and under load: the limits that a spec may set.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::is_default;

/// Disks under the surface scan and under load.
///
/// The floors are what a healthy disk of its class does even when it is old, full and far from the fastest: they find
/// broken disks, not slow purchases. Who knows the model sets them higher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StorageLimits {
    /// What is left on the disks.
    pub leave: LeaveOnDisks,
    /// Whether NVMe namespaces are tested that say of themselves that several controllers may use them: only for
    /// dual-port drives to which no other machine has a way.
    pub shared_nvme: bool,
    /// Parts of 8 MiB that the profile `quick` tests of each disk, spread evenly, both ends among them.
    #[schemars(range(min = 8, max = 4096))]
    pub quick_regions: u32,
    /// A request that takes longer is a stall, in seconds.
    #[schemars(range(min = 1, max = 600))]
    pub stall_s: u32,
    /// Least speed of any part of a disk, in percent of the parts around it; 0 switches the check off.
    #[schemars(range(max = 100))]
    pub zone_percent_min: u32,
    /// Least speed of a disk, in percent of the median of its siblings (same model, at least two others); 0 switches
    /// the check off. Virtual disks have no siblings.
    #[schemars(range(max = 100))]
    pub sibling_percent_min: u32,
    /// Floors for disks attached by NVMe.
    #[serde(skip_serializing_if = "is_nvme")]
    pub nvme: DiskFloors,
    /// Floors for solid state behind SATA and SAS.
    #[serde(skip_serializing_if = "is_ssd")]
    pub ssd: DiskFloors,
    /// Floors for spinning disks.
    #[serde(skip_serializing_if = "is_hdd")]
    pub hdd: DiskFloors,
    /// Floors for disks of virtual machines, whatever class the spec gives them: their speed is their host's.
    #[serde(rename = "virtual", skip_serializing_if = "is_virtual")]
    pub virtual_disk: DiskFloors,
}

impl Default for StorageLimits {
    fn default() -> Self {
        Self {
            leave: LeaveOnDisks::default(),
            shared_nvme: false,
            quick_regions: 64,
            stall_s: 10,
            zone_percent_min: 50,
            sibling_percent_min: 70,
            nvme: DiskFloors::NVME,
            ssd: DiskFloors::SSD,
            hdd: DiskFloors::HDD,
            virtual_disk: DiskFloors::VIRTUAL,
        }
    }
}

/// What is left on disks that were tested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LeaveOnDisks {
    /// Zeros, read back in samples.
    #[default]
    Zeroed,
    /// What the last pass wrote. Saves one pass.
    Pattern,
}

/// What a disk must do at least. A floor that is not given is no floor; one that is set replaces the class's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DiskFloors {
    /// Sequential reading, mean over all that was read, in MB/s (10⁶ bytes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_mb_s: Option<u32>,
    /// Sequential writing, mean over all that was written, in MB/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_mb_s: Option<u32>,
    /// Random reads of 4 KiB per second, 32 at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_iops: Option<u32>,
    /// Random writes of 4 KiB per second, 32 at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_iops: Option<u32>,
    /// Longest that 99 of 100 random reads may take, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_p99_ms: Option<u32>,
    /// Longest that 99 of 100 random writes may take, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_p99_ms: Option<u32>,
}

impl DiskFloors {
    /// Half of what entry-level PCIe 3.0 drives read; writes as after their fast cache is full.
    const NVME: Self = Self::of(1000, 200, 50_000, 5_000, 20, 100);
    /// Below what SATA at 6 Gb/s lets through (about 550 MB/s); writes as after the fast cache is full.
    const SSD: Self = Self::of(250, 80, 10_000, 2_000, 50, 200);
    /// Half of the mean of a 7,200 rpm disk; 32 requests waiting for one arm take a third of a second on average.
    const HDD: Self = Self::of(80, 60, 60, 60, 2_000, 2_000);
    /// A disk at all: a virtual machine's disk shares its host with whatever else runs there.
    const VIRTUAL: Self = Self {
        read_mb_s: Some(1),
        write_mb_s: Some(1),
        read_iops: Some(10),
        write_iops: Some(10),
        read_p99_ms: None,
        write_p99_ms: None,
    };

    const fn of(
        read: u32,
        write: u32,
        read_iops: u32,
        write_iops: u32,
        read_p99: u32,
        write_p99: u32,
    ) -> Self {
        Self {
            read_mb_s: Some(read),
            write_mb_s: Some(write),
            read_iops: Some(read_iops),
            write_iops: Some(write_iops),
            read_p99_ms: Some(read_p99),
            write_p99_ms: Some(write_p99),
        }
    }

    /// These floors, and for what they leave open, `defaults`.
    #[must_use]
    pub fn or(self, defaults: Self) -> Self {
        Self {
            read_mb_s: self.read_mb_s.or(defaults.read_mb_s),
            write_mb_s: self.write_mb_s.or(defaults.write_mb_s),
            read_iops: self.read_iops.or(defaults.read_iops),
            write_iops: self.write_iops.or(defaults.write_iops),
            read_p99_ms: self.read_p99_ms.or(defaults.read_p99_ms),
            write_p99_ms: self.write_p99_ms.or(defaults.write_p99_ms),
        }
    }
}

impl StorageLimits {
    /// The floors for NVMe disks.
    pub fn nvme(&self) -> DiskFloors {
        self.nvme.or(DiskFloors::NVME)
    }

    /// The floors for solid state disks.
    pub fn ssd(&self) -> DiskFloors {
        self.ssd.or(DiskFloors::SSD)
    }

    /// The floors for spinning disks.
    pub fn hdd(&self) -> DiskFloors {
        self.hdd.or(DiskFloors::HDD)
    }

    /// The floors for virtual disks.
    pub fn virtual_disk(&self) -> DiskFloors {
        self.virtual_disk.or(DiskFloors::VIRTUAL)
    }
}

fn is_nvme(floors: &DiskFloors) -> bool {
    *floors == DiskFloors::NVME || is_default(floors)
}

fn is_ssd(floors: &DiskFloors) -> bool {
    *floors == DiskFloors::SSD || is_default(floors)
}

fn is_hdd(floors: &DiskFloors) -> bool {
    *floors == DiskFloors::HDD || is_default(floors)
}

fn is_virtual(floors: &DiskFloors) -> bool {
    *floors == DiskFloors::VIRTUAL || is_default(floors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_floor_that_is_set_leaves_the_others_as_they_are() {
        let limits: StorageLimits =
            serde_json::from_str(r#"{"hdd": {"read_iops": 120}, "virtual": {"read_mb_s": 50}}"#)
                .expect("reads");
        assert_eq!(limits.hdd().read_iops, Some(120));
        assert_eq!(limits.hdd().read_mb_s, DiskFloors::HDD.read_mb_s);
        assert_eq!(limits.virtual_disk().read_mb_s, Some(50));
        assert_eq!(limits.nvme(), DiskFloors::NVME);
        assert_eq!((limits.zone_percent_min, limits.leave), (50, LeaveOnDisks::Zeroed));
    }

    #[test]
    fn what_is_unknown_is_refused_and_defaults_come_back() {
        assert!(serde_json::from_str::<StorageLimits>(r#"{"hhd": {}}"#).is_err());
        assert!(serde_json::from_str::<StorageLimits>(r#"{"hdd": {"iops": 1}}"#).is_err());
        let written = serde_json::to_string(&StorageLimits::default()).expect("plain");
        assert_eq!(serde_json::from_str::<StorageLimits>(&written).expect("reads"), StorageLimits::default());
    }
}
