//! The stage `Storage`: every disk that the spec names is written and read back. It destroys what is on them.
//!
//! Three defences stand before the first byte, each alone enough to stop it:
//!
//! 1. an operator started the run, and the host's cluster does not count on it (asked when the permit is made);
//! 2. the disks hold nothing, or an operator said of each that what it holds may go ([`UnexpectedData`](judge));
//! 3. only disks that the spec names, that nobody uses, under a signed permit for this run, host and try, and only the
//!    device behind the descriptor whose identity was checked.
//!
//! If anything stands in the way of one disk, none is written: who has to decide is told in minutes, not after hours.
//! What can fail a machine here: sectors, speed, stalls, a disk that goes away. What must never pass: a disk of which
//! less was written and read back than the profile asks for.

#[cfg(feature = "collect")]
pub(super) mod collect;
#[cfg(feature = "collect")]
mod drive;
mod judge;
#[cfg(feature = "collect")]
pub(super) mod permit;
mod speed;

use assay_model::host::order::Profile;
use assay_model::host::spec::{DiskClass, DiskSpec, HostSpec, LeaveOnDisks, StorageLimits};
use assay_model::host::storage::{StorageEvidence, SurfacePlan, WipeProbe};
use assay_model::text::clean;
use assay_model::{Judgement, Owner, StageName, StagePlan};

use crate::{HostStage, JudgeInput};

/// The stage's name.
pub(crate) const NAME: &str = "Storage";

const GB: u64 = 1_000_000_000;
/// Probing, opening, settling: time that does not depend on a disk's size.
const AIR_S: u64 = 1800;

/// Disks under test.
pub(crate) struct Storage;

impl HostStage for Storage {
    fn plan(&self) -> StagePlan {
        let timeout_s = limit_s(&HostSpec::default(), Profile::Standard);
        StagePlan { name: StageName::from(NAME), owner: Owner::Agent, required: true, timeout_s }
    }

    fn limit_s(&self, spec: &HostSpec, profile: Profile) -> u32 {
        limit_s(spec, profile)
    }

    fn judge(&self, input: &JudgeInput<'_>) -> Judgement {
        super::judged(NAME, input, |evidence: &StorageEvidence| judge::judge(evidence, input))
    }

    #[cfg(feature = "collect")]
    fn collect<'a>(
        &'a self,
        context: &'a crate::CollectContext<'a>,
    ) -> futures::future::BoxFuture<'a, Result<crate::Collected, crate::CollectError>> {
        Box::pin(collect::collect(context, &collect::SPENT))
    }
}

/// How much of a disk is scanned. One that was just put in is tested harder than the profile asks for.
pub(crate) const fn plan_for(profile: Profile, replaced: bool) -> SurfacePlan {
    match (profile, replaced) {
        (Profile::Quick, false) => SurfacePlan::Sampled,
        (Profile::Quick, true) | (Profile::Standard, false) => SurfacePlan::Full,
        (Profile::Standard, true) | (Profile::Burnin, _) => SurfacePlan::BurnIn,
    }
}

/// How many places of a disk are tested where it is tested in samples.
pub(crate) fn regions(limits: &StorageLimits) -> u32 {
    limits.quick_regions.max(8)
}

/// The least that the samples of a disk of this size come to, in bytes: each has 8 MiB, begins at a whole MiB and may
/// overlap the one before by as much.
fn least_sampled(size: u64, limits: &StorageLimits) -> u64 {
    size.min(u64::from(regions(limits)) * (7 << 20))
}

/// How long each direction of random access is measured, in seconds.
pub(crate) const fn random_s(profile: Profile) -> u64 {
    match profile {
        Profile::Quick => 5,
        Profile::Standard => 15,
        Profile::Burnin => 60,
    }
}

/// What a probe saw, in one line.
pub(crate) fn what_it_holds(probe: &WipeProbe) -> String {
    let mut said: Vec<String> = probe
        .signatures
        .iter()
        .map(|signature| {
            let label =
                signature.label.as_ref().map(|label| format!(" `{}`", clean(label))).unwrap_or_default();
            format!("{}{label} at byte {}", clean(&signature.what), signature.offset)
        })
        .collect();
    if let Some(data) = probe.data {
        said.push(format!("data that is not zero, first seen at byte {}", data.offset));
    }
    said.join("; ")
}

/// The slowest disk decides, as all are scanned at once; random access is measured one disk after the other. A disk
/// that was replaced is tested harder, and nobody knows here which one: the limit is that of the harder test.
fn limit_s(spec: &HostSpec, profile: Profile) -> u32 {
    let zeroing = u64::from(spec.limits.storage.leave == LeaveOnDisks::Zeroed);
    let passes = match plan_for(profile, true) {
        SurfacePlan::Sampled => 0,
        SurfacePlan::Full => 2 + zeroing,
        SurfacePlan::BurnIn => 12 + zeroing,
    };
    let of_disk = |disk: &DiskSpec| {
        let (mb_s, largest_gb) = worst(disk.class);
        let bytes = disk.size_bytes.unwrap_or_else(|| {
            // `min_size_gb` says "at least": twice as much is still the same disk.
            disk.min_size_gb.map_or(largest_gb, |gb| gb.saturating_mul(2)).saturating_mul(GB)
        });
        passes * (bytes / (mb_s * 1_000_000))
    };
    let slowest = spec.disks.iter().map(of_disk).max().unwrap_or_default();
    let random = (spec.disks.len() as u64).max(1) * (2 * random_s(profile) + 30);
    u32::try_from(slowest + random + AIR_S).unwrap_or(u32::MAX)
}

/// A rate that a disk of this class is hardly ever below, in MB/s, and a size that it is hardly ever above, in GB.
const fn worst(class: Option<DiskClass>) -> (u64, u64) {
    match class {
        Some(DiskClass::Nvme) => (200, 16_000),
        Some(DiskClass::Ssd) => (80, 8_000),
        Some(DiskClass::Hdd) | None => (60, 24_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_disk_is_tested_harder_than_the_profile_asks_for() {
        for profile in Profile::ALL {
            let (usual, harder) = (plan_for(profile, false), plan_for(profile, true));
            assert!(usual != harder || profile == Profile::Burnin, "{profile}");
        }
        assert_eq!(plan_for(Profile::Standard, false), SurfacePlan::Full);
    }

    #[test]
    fn the_limit_grows_with_the_slowest_disk_and_the_profile() {
        let spec = |disks: Vec<DiskSpec>| HostSpec { disks, ..HostSpec::default() };
        let disk = |class, gb| DiskSpec {
            class: Some(class),
            size_bytes: Some(gb * GB),
            serial: Some("S".to_owned()),
            ..DiskSpec::default()
        };
        let small = spec(vec![disk(DiskClass::Nvme, 960)]);
        let large = spec(vec![disk(DiskClass::Nvme, 960), disk(DiskClass::Hdd, 20_000)]);
        let hours = |spec: &HostSpec, profile| f64::from(limit_s(spec, profile)) / 3600.0;
        assert!(hours(&small, Profile::Quick) < hours(&small, Profile::Standard));
        assert!(hours(&small, Profile::Standard) < hours(&large, Profile::Standard));
        // Thirteen passes over 20 TB at 60 MB/s.
        assert!(
            (1200.0..1300.0).contains(&hours(&large, Profile::Standard)),
            "{}",
            hours(&large, Profile::Standard)
        );
        let unknown = spec(vec![DiskSpec { serial: Some("S".to_owned()), ..DiskSpec::default() }]);
        assert!(hours(&unknown, Profile::Standard) > hours(&large, Profile::Standard));
        let huge = spec(vec![disk(DiskClass::Hdd, 10_000_000)]);
        assert!(limit_s(&huge, Profile::Burnin) > limit_s(&large, Profile::Burnin), "no overflow");
    }
}
