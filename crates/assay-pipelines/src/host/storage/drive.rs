//! The part that writes: the surface scan of all disks at once, random access, and what is left behind.
//!
//! It is given disks that were identified and admitted, and holds their descriptors until everything is done: as long
//! as one is open, the kernel gives neither the disk's name nor its number to another disk, so the tools that open the
//! disk by name find the right one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use assay_model::RunId;
use assay_model::host::spec::{DiskClass, LeaveOnDisks, StorageLimits};
use assay_model::host::storage::{
    BadClass, BadSpot, Left, StorageDisk, Surface, SurfacePlan, SurfaceStop, ZoneRate, ZoneSpeed,
};
use assay_model::text::clean;
use assay_probes::Machine;
use assay_probes::fio::{FioOptions, measure};
use assay_probes::wipe_probe::{self, Candidate, Thoroughness};
use assay_process::Cmd;
use assay_scan::{
    Checkpoint, Class, Event, Job, Leave, Plan, Progress, ScanError, ScanResult, Scannable, Seed, Speed, Stop,
};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::collect::LINE_EVERY;
use super::{plan_for, random_s, regions};
use crate::CollectContext;

/// Bad ranges that go into the evidence; the artifact has all that the scan kept.
const MAX_SPOTS: usize = 32;
/// A disk that zeroes slower than this has other troubles, in bytes per second.
const SLOWEST_ZEROING: u64 = 30_000_000;

/// A disk that may be written.
pub(super) struct Claimed {
    pub(super) disk: StorageDisk,
    pub(super) candidate: Candidate,
    pub(super) target: Arc<Scannable>,
    pub(super) resume: Option<Checkpoint>,
}

/// What is kept for a next try, by the disks' names in the spec.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Saved {
    run: Option<RunId>,
    disks: BTreeMap<String, Value>,
}

impl Saved {
    /// Reads what an earlier try of this run saved; anything else is begun anew.
    pub(super) fn read(state: Option<&Value>, run: RunId) -> Self {
        let saved = state.and_then(|state| serde_json::from_value::<Self>(state.clone()).ok());
        saved.filter(|saved| saved.run == Some(run)).unwrap_or_default()
    }

    /// Where this disk's scan can go on from. Whether it is the same disk is still to be seen.
    pub(super) fn of(&self, wanted: &str) -> Option<Checkpoint> {
        serde_json::from_value(self.disks.get(wanted)?.clone()).ok()
    }
}

/// What a scanning thread tells.
enum Told {
    Progress(usize, Progress),
    Checkpoint(usize, Value),
    Line(String),
}

/// Tests every disk; returns them with what was found, and the raw results.
pub(super) async fn drive(
    context: &CollectContext<'_>,
    mut claimed: Vec<Claimed>,
) -> (Vec<StorageDisk>, Vec<(String, Vec<u8>)>) {
    let limits = &context.spec.limits.storage;
    let mut artifacts = Vec::new();
    let results = scan_all(context, &mut claimed).await;
    for (claimed, (plan, result)) in claimed.iter_mut().zip(results) {
        let file = format!("surface-{}.json", file_name(&claimed.disk.wanted));
        let surface = match result {
            Ok(result) => {
                artifacts.push((file.clone(), serde_json::to_vec_pretty(&result).unwrap_or_default()));
                claimed.disk.artifacts.push(file);
                surface(plan, &result)
            }
            Err(problem) => Surface { plan, impossible: Some(clean(&problem)), ..Surface::default() },
        };
        claimed.disk.surface = Some(surface);
    }
    random_access(context, &mut claimed, &mut artifacts).await;
    for claimed in &mut claimed {
        // Gone after its surface was done: only its random access would be missing, without a word why.
        let gone = !claimed.candidate.is_there(context.machine);
        if let Some(surface) = claimed.disk.surface.as_mut().filter(|surface| gone && is_whole(surface)) {
            surface.stopped = Some(SurfaceStop::Gone);
        }
    }
    join_all(claimed.iter_mut().map(|claimed| leave(context.machine, limits, claimed))).await;
    (claimed.into_iter().map(|claimed| claimed.disk).collect(), artifacts)
}

/// Ends the scanning threads when the work is given up.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn scan_all(
    context: &CollectContext<'_>,
    claimed: &mut [Claimed],
) -> Vec<(SurfacePlan, Result<ScanResult, String>)> {
    let cancel = Cancel(Arc::new(AtomicBool::new(false)));
    let (tell, mut told) = unbounded_channel();
    let mut plans = Vec::new();
    let mut saved = Saved { run: Some(context.place.run), disks: BTreeMap::new() };
    let threads: Vec<_> = claimed
        .iter_mut()
        .enumerate()
        .map(|(number, claimed)| {
            let plan = plan_for(context.input.profile, claimed.disk.replaced);
            plans.push(plan);
            let job = job(plan, &context.spec.limits.storage);
            let resume =
                claimed.resume.take().filter(|saved| (saved.plan(), saved.leave()) == (job.plan, job.leave));
            // A disk that is done already tells no new checkpoint; the next try must know of it as well.
            if let Some(Ok(known)) = resume.as_ref().map(serde_json::to_value) {
                saved.disks.insert(claimed.disk.wanted.clone(), known);
            }
            let job = Job { seed: resume.as_ref().map_or(job.seed, Checkpoint::seed), ..job };
            let (target, tell, stop) = (Arc::clone(&claimed.target), tell.clone(), Arc::clone(&cancel.0));
            let label = claimed.disk.wanted.clone();
            tokio::task::spawn_blocking(move || one(number, &label, &target, &job, resume, &tell, &stop))
        })
        .collect();
    drop(tell);

    let names: Vec<String> = claimed.iter().map(|claimed| claimed.disk.wanted.clone()).collect();
    let mut newest: Vec<Option<Progress>> = vec![None; names.len()];
    let mut last_line: Option<Instant> = None;
    // Ends when the last thread has dropped its end of the channel.
    while let Some(news) = told.recv().await {
        match news {
            Told::Line(line) => (context.progress)(&line),
            Told::Checkpoint(number, checkpoint) => {
                saved.disks.insert(names[number].clone(), checkpoint);
                (context.save)(serde_json::to_value(&saved).unwrap_or_default());
            }
            Told::Progress(number, progress) => {
                newest[number] = Some(progress);
                if last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
                    last_line = Some(Instant::now());
                    (context.progress)(&progress_line(&names, &newest));
                }
            }
        }
    }
    let mut results = Vec::new();
    for (plan, thread) in plans.into_iter().zip(threads) {
        let result = thread.await.map_err(|problem| problem.to_string());
        results.push((plan, result.and_then(|result| result.map_err(|problem| problem.to_string()))));
    }
    results
}

fn job(plan: SurfacePlan, limits: &StorageLimits) -> Job {
    let scanned = match plan {
        SurfacePlan::Sampled => Plan::Sampled { regions: regions(limits) },
        SurfacePlan::Full => Plan::TwoPass,
        SurfacePlan::BurnIn => Plan::BurnIn,
    };
    // Where all is written, zeros come last, after random access has left its own traces.
    let leave = match (plan, limits.leave) {
        (SurfacePlan::Sampled, LeaveOnDisks::Zeroed) => Leave::Zeroed,
        _ => Leave::Pattern,
    };
    let mut job = Job::new(scanned, leave, Seed(rand::random()));
    job.options.stall = Duration::from_secs(u64::from(limits.stall_s.max(1)));
    job
}

fn one(
    number: usize,
    label: &str,
    target: &Scannable,
    job: &Job,
    resume: Option<Checkpoint>,
    tell: &UnboundedSender<Told>,
    stop: &AtomicBool,
) -> Result<ScanResult, ScanError> {
    let label = clean(label);
    // Nobody listening means that the work was given up; the scan ends by itself.
    let mut on_event = |event: Event<'_>| {
        let news = match event {
            Event::Progress(progress) => Told::Progress(number, progress),
            Event::Checkpoint(checkpoint) => match serde_json::to_value(checkpoint) {
                Ok(value) => Told::Checkpoint(number, value),
                Err(_) => return,
            },
            Event::Stall(stall) => Told::Line(format!(
                "disk {label}: a request at byte {} takes {:.0} s",
                stall.offset, stall.seconds
            )),
            Event::Found(bad) => {
                Told::Line(format!("disk {label}: {:?} at byte {}", bad.class, bad.offset).to_lowercase())
            }
        };
        let _ = tell.send(news);
    };
    assay_scan::scan(target, job, resume, &mut on_event, stop)
}

fn progress_line(names: &[String], newest: &[Option<Progress>]) -> String {
    let parts = names.iter().zip(newest).filter_map(|(name, progress)| {
        let progress = progress.as_ref()?;
        let percent = u128::from(progress.done) * 100 / u128::from(progress.total.max(1));
        let left = progress.seconds_left.map(|left| format!(", {} left", duration(left))).unwrap_or_default();
        Some(format!(
            "{} {percent} % (pass {} of {}, {} MB/s{left})",
            clean(name),
            progress.pass + 1,
            progress.passes,
            progress.bytes_per_second / 1_000_000,
        ))
    });
    format!("surface scan: {}", parts.collect::<Vec<_>>().join(" · "))
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Spinning disks all at once, as no processor is a match for them; the others one after the other, as their rate may
/// be the processor's.
async fn random_access(
    context: &CollectContext<'_>,
    claimed: &mut [Claimed],
    artifacts: &mut Vec<(String, Vec<u8>)>,
) {
    let profile = context.input.profile;
    let each = Duration::from_secs(random_s(profile));
    let zeroed = context.spec.limits.storage.leave == LeaveOnDisks::Zeroed;
    let (slow, fast): (Vec<_>, Vec<_>) = claimed
        .iter_mut()
        .filter(|claimed| claimed.disk.surface.as_ref().is_some_and(is_whole))
        .partition(|claimed| claimed.disk.class == Some(DiskClass::Hdd) && !claimed.disk.is_virtual);
    let run = |claimed: &'_ mut Claimed| {
        let sampled = claimed.disk.surface.as_ref().is_some_and(|s| s.plan == SurfacePlan::Sampled);
        let options = FioOptions { each, zeros: sampled && zeroed };
        let (node, wanted) = (claimed.candidate.node.clone(), claimed.disk.wanted.clone());
        async move {
            let outcome = measure(context.machine, &node, options).await;
            (format!("fio-{}.json", file_name(&wanted)), outcome)
        }
    };
    let mut keep = |claimed: &mut Claimed, (file, outcome): (String, assay_probes::fio::FioOutcome)| {
        claimed.disk.artifacts.push(file.clone());
        claimed.disk.speed = Some(outcome.speed);
        artifacts.push((file, outcome.raw));
    };
    let mut slow = slow;
    if !slow.is_empty() {
        (context.progress)("random access: all spinning disks");
        let outcomes = join_all(slow.iter_mut().map(|claimed| run(claimed))).await;
        for (claimed, outcome) in slow.into_iter().zip(outcomes) {
            keep(claimed, outcome);
        }
    }
    for claimed in fast {
        (context.progress)(&format!("random access: disk {}", clean(&claimed.disk.wanted)));
        let outcome = run(claimed).await;
        keep(claimed, outcome);
    }
}

fn is_whole(surface: &Surface) -> bool {
    surface.stopped.is_none() && surface.impossible.is_none()
}

/// Leaves zeros where that is wanted, and looks whether it worked.
async fn leave(machine: &Machine, limits: &StorageLimits, claimed: &mut Claimed) {
    let Some(surface) = &claimed.disk.surface else { return };
    let gone =
        matches!(surface.stopped, Some(SurfaceStop::Gone | SurfaceStop::Hung | SurfaceStop::Cancelled));
    let left = match (limits.leave, surface.plan) {
        _ if gone || surface.impossible.is_some() => Left::Unknown,
        (LeaveOnDisks::Pattern, _) => Left::Pattern,
        (LeaveOnDisks::Zeroed, SurfacePlan::Sampled) if surface.stopped.is_none() => Left::ZeroedWhereTested,
        (LeaveOnDisks::Zeroed, SurfacePlan::Sampled) => Left::Unknown,
        (LeaveOnDisks::Zeroed, _) => match zero(machine, claimed).await {
            Ok(()) => Left::Zeroed,
            Err(problem) => {
                claimed.disk.problems.push(clean(&format!("zeroing did not work: {problem}")));
                Left::Unknown
            }
        },
    };
    claimed.disk.left = Some(left);
}

/// Zeroes the whole disk by its own command where it has one, and reads samples back.
async fn zero(machine: &Machine, claimed: &Claimed) -> Result<(), String> {
    let bytes = claimed.target.identity().bytes;
    let limit = Duration::from_secs(600 + bytes / SLOWEST_ZEROING);
    Cmd::new(machine.tool("blkdiscard"))
        // Forced, as our own descriptor holds the disk exclusively.
        .args(["--zeroout", "--force", "--step", "1GiB"])
        .arg(claimed.candidate.node.as_os_str())
        .timeout(limit)
        .run_ok()
        .await
        .map_err(|problem| problem.to_string())?;
    let after = wipe_probe::probe(&claimed.candidate, Thoroughness::Quick, false, rand::random())
        .await
        .map_err(|problem| problem.to_string())?;
    if after.holds_data() || after.own_bytes > 0 {
        return Err("samples that were read back are not zero".to_owned());
    }
    Ok(())
}

fn surface(plan: SurfacePlan, result: &ScanResult) -> Surface {
    let planned = result.passes.iter().filter(|pass| pass.kind == assay_scan::PassKind::Verify);
    Surface {
        plan,
        device_bytes: result.device_bytes,
        planned_bytes: planned.map(|pass| pass.planned).min().unwrap_or_default(),
        covered_bytes: result.covered_bytes(),
        written_bytes: result.bytes_written,
        verified_bytes: result.bytes_verified,
        unreadable_bytes: result.counts.unreadable,
        unwritable_bytes: result.counts.unwritable,
        corrupt_bytes: result.counts.corrupt,
        aliased_bytes: result.counts.aliased,
        stale_bytes: result.counts.stale,
        bad: result.bad.iter().take(MAX_SPOTS).map(spot).collect(),
        capacity_hint: result.capacity_hint,
        recovered: result.recovered,
        stalls: result.stalls,
        longest_request_s: result.longest_request_seconds,
        zones: result
            .zones
            .iter()
            .map(|zone| ZoneSpeed {
                offset: zone.offset,
                length: zone.length,
                write: zone.write.map(rate),
                read: zone.verify.map(rate),
            })
            .collect(),
        seconds: result.seconds,
        cpu_seconds: result.cpu_seconds,
        resumed: result.resumed,
        stopped: result.stopped.map(stop),
        impossible: None,
    }
}

fn spot(bad: &assay_scan::BadRange) -> BadSpot {
    let class = match bad.class {
        Class::Unreadable => BadClass::Unreadable,
        Class::Unwritable => BadClass::Unwritable,
        Class::Corrupt => BadClass::Corrupt,
        Class::Aliased => BadClass::Aliased,
        Class::Stale => BadClass::Stale,
    };
    BadSpot { offset: bad.offset, length: bad.length, class, other: bad.other }
}

fn rate(speed: Speed) -> ZoneRate {
    ZoneRate {
        bytes: speed.bytes,
        bytes_per_second: speed.bytes_per_second,
        p50_us: speed.p50_us,
        max_us: speed.max_us,
        requests: speed.requests,
    }
}

fn stop(stop: Stop) -> SurfaceStop {
    match stop {
        Stop::Cancelled => SurfaceStop::Cancelled,
        Stop::Gone { .. } => SurfaceStop::Gone,
        Stop::Hung(_) => SurfaceStop::Hung,
        Stop::TooManyErrors => SurfaceStop::TooManyErrors,
        Stop::TooMuchWrong => SurfaceStop::TooMuchWrong,
        Stop::FlushFailed { .. } => SurfaceStop::FlushFailed,
    }
}

/// A name that is safe as a part of a file's.
fn file_name(raw: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let name: String = raw.chars().take(64).map(safe).collect();
    if name.trim_matches('.').is_empty() { "unnamed".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::storage::least_sampled;

    /// The judge knows the scan's samples by numbers of its own: were they too high, no quick run would ever pass.
    #[test]
    fn the_scan_takes_no_fewer_samples_than_the_judge_asks_for() {
        const MIB: u64 = 1 << 20;
        for quick_regions in [0, 8, 64, 1000] {
            let limits = StorageLimits { quick_regions, ..StorageLimits::default() };
            let scanned = job(SurfacePlan::Sampled, &limits).plan;
            for size in [64 * MIB, 448 * MIB, 500 * MIB + 4096, 512 * MIB, 10_000 * MIB, 20 << 40] {
                let (planned, least) = (scanned.bytes(size), least_sampled(size, &limits));
                assert!(least > 0 && planned >= least, "{size}, {quick_regions}: {planned} of {least}");
                assert!(least >= planned / 2, "{size}, {quick_regions}: {least} is no floor for {planned}");
            }
        }
    }
}
