//! Gathers the evidence of `Storage`: looks at everything first, and writes only if nothing at all stands in the way.
//!
//! The order is what makes it safe. The permit is checked; every disk is found by what it says of itself, claimed
//! exclusively, and identified through the open descriptor; only then is it looked at, while nobody else can take it.
//! The descriptors stay open to the end, and what is written is written through them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use assay_model::host::inventory::{Disk, Transport};
use assay_model::host::order::PartKind;
use assay_model::host::permit::{ErasePermit, GuardAnswer};
use assay_model::host::smart::same_identity;
use assay_model::host::spec::{DiskClass, DiskSpec};
use assay_model::host::storage::{
    FORMAT, PermitOutcome, Refusal, RefusalKind, StorageDisk, StorageEvidence, name_of, wanted_disks,
};
use assay_model::text::clean;
use assay_model::{Micros, StageName};
use assay_probes::wipe_probe::{self, Candidate, Thoroughness, matching, survey};
use assay_scan::{Checkpoint, ExpectedIdentity, Identity, OpenError, Opened, Scannable, Target};
use futures::future::join_all;

use super::drive::{Claimed, Saved, drive};
use super::permit::{self, Spent};
use super::{NAME, Profile, what_it_holds};
use crate::{CollectContext, CollectError, Collected};

/// The permits that were used in this agent's life.
pub(crate) static SPENT: Spent = Spent::new();

/// A disk that the spec names, on its way to being written.
struct Meant {
    wanted: DiskSpec,
    disk: StorageDisk,
    candidate: Option<Candidate>,
    opened: Option<Opened>,
    resume: Option<Checkpoint>,
}

pub(crate) async fn collect(context: &CollectContext<'_>, spent: &Spent) -> Result<Collected, CollectError> {
    let began = Instant::now();
    let now =
        || context.place.now.plus(Micros(i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX)));
    let input = context.input;
    let mut evidence =
        StorageEvidence { format: FORMAT, profile: input.profile, ..StorageEvidence::default() };
    let wanted = wanted_disks(context.spec, &input.replaced);
    let permit = if wanted.is_empty() { None } else { held(context, now(), spent, &mut evidence) };
    let Some(permit) = permit else {
        return finish(&evidence, Vec::new());
    };

    let mut meant = find(context, wanted).await;
    claim(context, &mut meant).await;
    look(context, &mut meant, &permit).await;
    for disk in &mut meant {
        may_it_be_written(disk, &permit);
    }
    let in_the_way =
        |disk: &Meant| disk.disk.refusals.iter().any(|refusal| refusal.why != RefusalKind::Absent);
    if let Err(problem) = permit::is_in_time(&permit, now()) {
        evidence.permit = PermitOutcome::Invalid { why: problem.to_string() };
    } else if !meant.iter().any(in_the_way) {
        let claimed = admit(context, &mut meant);
        // Between all of them being looked at and the last being admitted, one may have gone.
        if !meant.iter().any(in_the_way) && !claimed.is_empty() {
            evidence.written = true;
            let (disks, artifacts) = drive(context, claimed).await;
            let rest = meant.into_iter().map(|meant| meant.disk).filter(|disk| !disk.refusals.is_empty());
            evidence.disks = disks.into_iter().chain(rest).collect();
            return finish(&evidence, artifacts);
        }
    }
    // What is open is closed again here, unwritten.
    evidence.disks = meant.into_iter().map(|meant| meant.disk).collect();
    (context.progress)("nothing was written");
    finish(&evidence, Vec::new())
}

fn finish(evidence: &StorageEvidence, artifacts: Vec<(String, Vec<u8>)>) -> Result<Collected, CollectError> {
    let evidence = serde_json::to_value(evidence)
        .map_err(|problem| CollectError { stage: StageName::from(NAME), problem: problem.to_string() })?;
    Ok(Collected { evidence, artifacts })
}

/// The permit, if there is one, it holds, and it lets anything be written.
fn held(
    context: &CollectContext<'_>,
    now: Micros,
    spent: &Spent,
    evidence: &mut StorageEvidence,
) -> Option<ErasePermit> {
    let signed = context.input.permit.as_ref()?;
    match permit::check(signed, context.place, now, spent) {
        // The control plane asks the cluster that the spec declares; here the spec is asked once more.
        Ok(permit) if context.spec.cluster.is_none() => {
            evidence.permit = PermitOutcome::Valid { guard: GuardAnswer::Undeclared };
            drop(permit);
            None
        }
        Ok(permit) => {
            evidence.permit = PermitOutcome::Valid { guard: permit.guard.clone() };
            permit.guard.allows().then_some(permit)
        }
        Err(problem) => {
            evidence.permit = PermitOutcome::Invalid { why: problem.to_string() };
            None
        }
    }
}

/// Finds each disk by what it says of itself.
async fn find(context: &CollectContext<'_>, wanted: Vec<DiskSpec>) -> Vec<Meant> {
    let candidates = survey(context.machine, context.spec.limits.storage.shared_nvme).await;
    let saved = Saved::read(context.input.checkpoint.as_ref(), context.place.run);
    let mut taken: Vec<String> = Vec::new();
    let mut meant = Vec::new();
    for wanted in wanted {
        let found = matching(&candidates, wanted.serial.as_deref(), wanted.wwn.as_deref());
        let mut disk = StorageDisk { wanted: name_of(&wanted).to_owned(), ..StorageDisk::default() };
        let mut refuse = |why, detail: String| disk.refusals.push(Refusal { why, detail: clean(&detail) });
        let candidate = match found.as_slice() {
            [] => {
                refuse(RefusalKind::Absent, "no disk of this machine says that it is this one".to_owned());
                None
            }
            [only] if taken.contains(&only.disk.name) => {
                refuse(RefusalKind::Shared, format!("the spec names {} more than once", only.disk.name));
                None
            }
            [only] => Some((*only).clone()),
            several => {
                let names: Vec<_> = several.iter().map(|candidate| candidate.disk.name.as_str()).collect();
                refuse(
                    RefusalKind::Shared,
                    format!("several disks say that they are this one: {}", names.join(", ")),
                );
                None
            }
        };
        if let Some(candidate) = &candidate {
            taken.push(candidate.disk.name.clone());
            describe(&mut disk, candidate, &wanted);
            let new_part = |part: &&assay_model::host::order::Replacement| {
                part.kind == PartKind::Disk && same_identity(&part.new, &disk.wanted)
            };
            disk.replaced = context.input.replaced.iter().find(new_part).is_some();
        }
        let resume = saved.of(&disk.wanted);
        meant.push(Meant { wanted, disk, candidate, opened: None, resume });
    }
    meant
}

fn describe(disk: &mut StorageDisk, candidate: &Candidate, wanted: &DiskSpec) {
    let told = &candidate.disk;
    disk.name.clone_from(&told.name);
    disk.serial.clone_from(&told.serial);
    disk.wwn.clone_from(&told.wwn);
    disk.model.clone_from(&told.model);
    disk.size_bytes = told.size_bytes;
    disk.class = wanted.class.or_else(|| class_of(told));
    disk.is_virtual = candidate.is_virtual;
    disk.refusals.extend(candidate.refusals.iter().cloned());
    disk.problems.extend(candidate.problems.iter().cloned());
}

fn class_of(disk: &Disk) -> Option<DiskClass> {
    match (disk.transport, disk.rotational) {
        (Transport::Nvme, _) => Some(DiskClass::Nvme),
        (_, Some(true)) => Some(DiskClass::Hdd),
        (_, Some(false)) => Some(DiskClass::Ssd),
        (_, None) => None,
    }
}

/// Claims every disk against which nothing speaks, and compares who is behind the open descriptor with who was found.
async fn claim(context: &CollectContext<'_>, meant: &mut [Meant]) {
    let sysroot = context.machine.path("sys");
    for disk in meant.iter_mut().filter(|disk| disk.disk.refusals.is_empty()) {
        let Some(candidate) = &disk.candidate else { continue };
        let opened = open(&candidate.node, &sysroot).await;
        let refusal = match opened {
            Ok(opened) => match is_meant(&opened, candidate, &disk.wanted) {
                Ok(()) => {
                    disk.opened = Some(opened);
                    None
                }
                Err(detail) => Some((RefusalKind::Swapped, detail)),
            },
            Err(refusal) => Some(refusal),
        };
        let refusal = refusal.map(|refusal| or_gone(context, candidate, refusal));
        let refusal = refusal.map(|(why, detail)| Refusal { why, detail: clean(&detail) });
        disk.disk.refusals.extend(refusal);
    }
}

/// What went wrong with a disk that is not there any more is that it went away, whatever else was seen of it.
pub(in crate::host) fn or_gone(
    context: &CollectContext<'_>,
    candidate: &Candidate,
    (why, detail): (RefusalKind, String),
) -> (RefusalKind, String) {
    let why = if candidate.is_there(context.machine) { why } else { RefusalKind::Vanished };
    (why, detail)
}

/// Claims a disk for ourselves, as long as what comes back lives.
pub(in crate::host) async fn open(node: &Path, sysroot: &Path) -> Result<Opened, (RefusalKind, String)> {
    let (node, sysroot) = (node.to_owned(), sysroot.to_owned());
    let opened = tokio::task::spawn_blocking(move || Target::open(&node, &sysroot)).await;
    let problem = match opened {
        Ok(Ok(opened)) => return Ok(opened),
        Ok(Err(problem)) => problem,
        Err(problem) => return Err((RefusalKind::Unreadable, problem.to_string())),
    };
    let why = match &problem {
        OpenError::Busy { .. } => RefusalKind::InUse,
        OpenError::ReadOnly { .. } => RefusalKind::ReadOnly,
        OpenError::Exchanged { .. } | OpenError::Partition { .. } => RefusalKind::Swapped,
        _ => RefusalKind::Unreadable,
    };
    Err((why, problem.to_string()))
}

/// Whether the open device is the one that was found, and so the one that the spec names.
pub(in crate::host) fn is_meant(
    opened: &Opened,
    candidate: &Candidate,
    wanted: &DiskSpec,
) -> Result<(), String> {
    let identity = opened.identity();
    let same = |wanted: Option<&String>, told: Option<&String>| {
        wanted.is_none_or(|wanted| told.is_some_and(|told| same_identity(wanted, told)))
    };
    let told = |identity: &Identity| {
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
        format!(
            "serial number {}, WWN {}, {} bytes",
            name(&identity.serial),
            name(&identity.wwn),
            identity.bytes
        )
    };
    let named = same(wanted.serial.as_ref(), identity.serial.as_ref())
        && same(wanted.wwn.as_ref(), identity.wwn.as_ref());
    // What the open device tells must be what was found before; what it does not tell was not asked for.
    let found =
        identity.serial.as_ref().is_none_or(|serial| same(Some(serial), candidate.disk.serial.as_ref()))
            && identity.wwn.as_ref().is_none_or(|wwn| same(Some(wwn), candidate.disk.wwn.as_ref()))
            && candidate.disk.size_bytes == Some(identity.bytes);
    if named && found && (identity.serial.is_some() || identity.wwn.is_some()) {
        return Ok(());
    }
    Err(format!(
        "the device behind {} is another disk than the one that was found: {}",
        identity.name,
        told(identity)
    ))
}

/// Looks at what the claimed disks hold, all at once.
async fn look(context: &CollectContext<'_>, meant: &mut [Meant], permit: &ErasePermit) {
    let how =
        if context.input.profile == Profile::Quick { Thoroughness::Quick } else { Thoroughness::Standard };
    (context.progress)("looking at what the disks hold");
    let looks = meant.iter_mut().filter(|meant| meant.opened.is_some()).map(|meant| async move {
        let Some(candidate) = &meant.candidate else { return };
        let identity = meant.opened.as_ref().map(Opened::identity);
        let resumed =
            meant.resume.take().filter(|saved| identity.is_some_and(|now| is_same(now, saved.identity())));
        let probed = wipe_probe::probe(candidate, how, resumed.is_some(), rand::random()).await;
        meant.resume = resumed;
        let (serial, wwn) = (meant.disk.serial.as_deref(), meant.disk.wwn.as_deref());
        meant.disk.data_permitted = permit.names_with_data(serial, wwn);
        match probed {
            Ok(probe) => {
                if probe.holds_data() && !meant.disk.data_permitted {
                    let refusal = Refusal { why: RefusalKind::HoldsData, detail: what_it_holds(&probe) };
                    meant.disk.refusals.push(refusal);
                }
                meant.disk.probe = Some(probe);
            }
            Err(problem) => {
                let why = match problem {
                    wipe_probe::ProbeError::Another { .. } => RefusalKind::Swapped,
                    wipe_probe::ProbeError::Gone { .. } => RefusalKind::Vanished,
                    _ => RefusalKind::Unreadable,
                };
                let (why, detail) = or_gone(context, candidate, (why, problem.to_string()));
                meant.disk.refusals.push(Refusal { why, detail: clean(&detail) });
            }
        }
    });
    join_all(looks).await;
}

fn is_same(one: &Identity, other: &Identity) -> bool {
    (&one.serial, &one.wwn, one.bytes) == (&other.serial, &other.wwn, other.bytes)
}

/// The permit is asked about the device behind the descriptor.
fn may_it_be_written(meant: &mut Meant, permit: &ErasePermit) {
    let Some(opened) = &meant.opened else { return };
    let identity = opened.identity();
    if !permit.names(identity.serial.as_deref(), identity.wwn.as_deref()) {
        let detail = "the permit of the control plane does not name it".to_owned();
        meant.disk.refusals.push(Refusal { why: RefusalKind::NotPermitted, detail });
    }
}

/// Turns every claimed disk into one that can be written. Whatever is off stands in its refusals afterwards.
fn admit(context: &CollectContext<'_>, meant: &mut [Meant]) -> Vec<Claimed> {
    let mut claimed = Vec::new();
    for disk in meant.iter_mut() {
        let (Some(opened), Some(candidate)) = (disk.opened.take(), disk.candidate.take()) else { continue };
        match admitted(opened, &candidate) {
            Ok(target) => claimed.push(Claimed {
                disk: std::mem::take(&mut disk.disk),
                candidate,
                target: Arc::new(target),
                resume: disk.resume.take(),
            }),
            Err(detail) => {
                let (why, detail) = or_gone(context, &candidate, (RefusalKind::Swapped, detail));
                disk.disk.refusals.push(Refusal { why, detail: clean(&detail) });
            }
        }
    }
    claimed
}

/// Demands what was found, spelt as the device spells it.
fn admitted(opened: Opened, candidate: &Candidate) -> Result<Scannable, String> {
    let identity = opened.identity();
    let spelt = |found: &Option<String>, told: &Option<String>| match (found, told) {
        (Some(found), Some(told)) if same_identity(found, told) => Some(told.clone()),
        // What the device does not tell cannot be demanded of it; `is_meant` has seen to what the spec names.
        (_, None) => None,
        (found, Some(_)) => found.clone(),
    };
    let expected = ExpectedIdentity {
        serial: spelt(&candidate.disk.serial, &identity.serial),
        wwn: spelt(&candidate.disk.wwn, &identity.wwn),
        bytes: candidate.disk.size_bytes.unwrap_or_default(),
    };
    opened.admit(&expected).map_err(|problem| problem.to_string())
}

/// How long to wait between two lines of progress.
pub(crate) const LINE_EVERY: Duration = Duration::from_secs(5);
