//! Gathers the evidence of `Clearance`: claims every disk of the machine, looks at it, and lets it go again.
//!
//! A disk is claimed as a surface scan claims it, exclusively: a member of a pool that no table names shows itself that
//! way, and nobody else can take it while it is looked at. No descriptor is ever written through.

use std::fs;
use std::time::Instant;

use assay_model::host::clearance::{ClearanceDisk, ClearanceEvidence, FORMAT, HiddenDisks};
use assay_model::host::permit::ErasePermit;
use assay_model::host::spec::DiskSpec;
use assay_model::host::storage::{PermitOutcome, Refusal, RefusalKind, WipeProbe};
use assay_model::text::clean;
use assay_model::{Micros, StageName};
use assay_probes::Machine;
use assay_probes::wipe_probe::{self, Candidate, ProbeError, Thoroughness, survey};
use futures::future::join_all;

use super::NAME;
use crate::host::storage::{collect as storage, permit};
use crate::{CollectContext, CollectError, Collected};

pub(super) async fn collect(context: &CollectContext<'_>) -> Result<Collected, CollectError> {
    let began = Instant::now();
    let mut evidence = ClearanceEvidence { format: FORMAT, ..ClearanceEvidence::default() };
    (evidence.permit, evidence.disks) = match held(context, began) {
        Err(outcome) => (outcome, Vec::new()),
        Ok(permit) => {
            (context.progress)("waiting for drivers and disks");
            assay_probes::settle(context.machine, context.spec.disks.len()).await;
            evidence.hidden = hidden(context.machine);
            // A namespace that other machines may reach is one whoever owns it has to let go first.
            let candidates = survey(context.machine, false).await;
            (context.progress)(&format!("looking at what {} disks hold", candidates.len()));
            let looks = candidates.iter().map(|candidate| look(context, candidate, &permit));
            let disks = join_all(looks).await;
            (PermitOutcome::Valid { guard: permit.guard }, disks)
        }
    };
    let evidence = serde_json::to_value(&evidence)
        .map_err(|problem| CollectError { stage: StageName::from(NAME), problem: problem.to_string() })?;
    Ok(Collected { evidence, artifacts: Vec::new() })
}

/// The permit; or what came of it, if nothing may be written under it.
fn held(context: &CollectContext<'_>, began: Instant) -> Result<ErasePermit, PermitOutcome> {
    let signed = context.input.permit.as_ref().ok_or(PermitOutcome::Missing)?;
    let passed = Micros(i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX));
    let now = context.place.now.plus(passed);
    let permit = permit::check(signed, context.place, now, &storage::SPENT)
        .map_err(|problem| PermitOutcome::Invalid { why: problem.to_string() })?;
    if permit.guard.allows() { Ok(permit) } else { Err(PermitOutcome::Valid { guard: permit.guard }) }
}

/// One disk: claimed, identified through the open descriptor, looked at, and let go.
async fn look(context: &CollectContext<'_>, candidate: &Candidate, permit: &ErasePermit) -> ClearanceDisk {
    let told = &candidate.disk;
    let (serial, wwn) = (told.serial.as_deref(), told.wwn.as_deref());
    let mut disk = ClearanceDisk {
        name: told.name.clone(),
        serial: told.serial.clone(),
        wwn: told.wwn.clone(),
        model: told.model.clone(),
        size_bytes: told.size_bytes,
        refusals: candidate.refusals.clone(),
        probe: None,
        named: permit.names(serial, wwn),
        data_permitted: permit.names_with_data(serial, wwn),
        problems: candidate.problems.clone(),
    };
    if !disk.refusals.is_empty() || disk.size_bytes == Some(0) {
        return disk;
    }
    let refusal = match claimed_and_read(context, candidate).await {
        Ok(probe) => {
            disk.probe = Some(probe);
            None
        }
        Err(refusal) => Some(refusal),
    };
    let refusal = refusal.map(|refusal| storage::or_gone(context, candidate, refusal));
    disk.refusals.extend(refusal.map(|(why, detail)| Refusal { why, detail: clean(&detail) }));
    disk
}

async fn claimed_and_read(
    context: &CollectContext<'_>,
    candidate: &Candidate,
) -> Result<WipeProbe, (RefusalKind, String)> {
    let opened = storage::open(&candidate.node, &context.machine.path("sys")).await?;
    is_found(&opened, candidate).map_err(|detail| (RefusalKind::Swapped, detail))?;
    let probed = wipe_probe::probe(candidate, Thoroughness::Standard, false, rand::random()).await;
    // Until here nobody else could take it.
    drop(opened);
    probed.map_err(|problem| (unlooked(&problem), problem.to_string()))
}

/// Whether the claimed device is the one that was found. One that tells no name at all is for the judge to refuse.
fn is_found(opened: &assay_scan::Opened, candidate: &Candidate) -> Result<(), String> {
    if candidate.disk.serial.is_none() && candidate.disk.wwn.is_none() {
        return Ok(());
    }
    storage::is_meant(opened, candidate, &DiskSpec::default())
}

const fn unlooked(problem: &ProbeError) -> RefusalKind {
    match problem {
        ProbeError::Another { .. } => RefusalKind::Swapped,
        ProbeError::Gone { .. } => RefusalKind::Vanished,
        _ => RefusalKind::Unreadable,
    }
}

/// Controllers in a mode in which they keep `NVMe` disks to themselves (`remapped_nvme` of the kernel's AHCI driver):
/// a system with the vendor's driver would see what is not seen here.
fn hidden(machine: &Machine) -> Vec<HiddenDisks> {
    let Ok(devices) = fs::read_dir(machine.path("sys/bus/pci/devices")) else { return Vec::new() };
    let mut found: Vec<HiddenDisks> = devices
        .flatten()
        .filter_map(|device| {
            let told = fs::read_to_string(device.path().join("remapped_nvme")).ok()?;
            let disks = told.trim().parse().ok().filter(|&disks: &u32| disks > 0)?;
            Some(HiddenDisks { address: clean(&device.file_name().to_string_lossy()), disks })
        })
        .collect();
    found.sort_by(|one, other| one.address.cmp(&other.address));
    found
}
