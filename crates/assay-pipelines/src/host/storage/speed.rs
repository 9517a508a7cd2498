//! Whether a disk, or a part of it, is slower than it must be. Pure.
//!
//! A slow zone is told from a busy machine by what a busy machine cannot do twice: it must have been slow when it was
//! read back *and* when it was written, which on any disk of size lies hours apart; or, reading alone, slow by so many
//! seconds in all that no hiccup explains it. In either case half of its requests must have been slow, not one. Writing
//! alone says nothing: solid state slows down by half when its fast cache is full, at a place of its own choice.

use assay_model::host::spec::{DiskClass, DiskFloors, StorageLimits};
use assay_model::host::storage::{StorageDisk, Surface, ZoneRate};

/// Fewer requests in a zone say nothing of it; zones are put together until they have as many.
const REQUESTS: u64 = 32;
/// Fewer zones have no neighbours to speak of.
const ZONES: usize = 8;
/// As many neighbours on each side are looked at.
const SPAN: usize = 4;
/// Reading alone: a zone must have taken so much longer than its neighbours, in seconds.
const ALONE_S: f64 = 10.0;
/// Reading and writing together.
const BOTH_S: f64 = 0.5;
/// Siblings beside the disk itself without which a median says nothing.
const SIBLINGS: usize = 2;

/// What one speed was held to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held {
    pub(crate) what: &'static str,
    pub(crate) expected: String,
    pub(crate) seen: String,
    pub(crate) holds: bool,
}

/// A part of a disk that is slower than the parts around it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SlowZone {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) mb_s: f64,
    pub(crate) neighbours_mb_s: f64,
}

/// The floors that count for a disk: a virtual one's are its own, whatever class the spec gives it.
pub(crate) fn floors(limits: &StorageLimits, disk: &StorageDisk) -> DiskFloors {
    match disk.class {
        _ if disk.is_virtual => limits.virtual_disk(),
        Some(DiskClass::Nvme) => limits.nvme(),
        Some(DiskClass::Ssd) => limits.ssd(),
        // What is not known to be solid state is not held to its speed.
        Some(DiskClass::Hdd) | None => limits.hdd(),
    }
}

/// Every floor that there is a measurement for.
pub(crate) fn against_floors(floors: DiskFloors, disk: &StorageDisk) -> Vec<Held> {
    let mut held = Vec::new();
    let mut at_least = |what, floor: Option<u32>, seen: Option<f64>, unit: &str| {
        if let (Some(floor), Some(seen)) = (floor, seen) {
            held.push(Held {
                what,
                expected: format!("at least {floor} {unit}"),
                seen: format!("{seen:.1} {unit}"),
                holds: seen >= f64::from(floor),
            });
        }
    };
    let surface = disk.surface.as_ref();
    let mean = |side: fn(&Surface) -> Option<f64>| surface.and_then(side);
    at_least("sequential reads", floors.read_mb_s, mean(read_mb_s), "MB/s");
    at_least("sequential writes", floors.write_mb_s, mean(write_mb_s), "MB/s");
    let speed = disk.speed.as_ref();
    let read = speed.and_then(|speed| speed.read);
    let write = speed.and_then(|speed| speed.write);
    at_least("random reads", floors.read_iops, read.map(|rate| rate.iops), "per second");
    at_least("random writes", floors.write_iops, write.map(|rate| rate.iops), "per second");
    let mut at_most = |what, limit: Option<u32>, seen: Option<u64>| {
        if let (Some(limit), Some(seen)) = (limit, seen) {
            let seen = seen as f64 / 1000.0;
            held.push(Held {
                what,
                expected: format!("at most {limit} ms"),
                seen: format!("{seen:.1} ms"),
                holds: seen <= f64::from(limit),
            });
        }
    };
    at_most("random reads, 99 of 100", floors.read_p99_ms, read.map(|rate| rate.p99_us));
    at_most("random writes, 99 of 100", floors.write_p99_ms, write.map(|rate| rate.p99_us));
    held
}

/// One of a disk's measurements.
type Of = fn(&StorageDisk) -> Option<f64>;

/// Against the median of the other disks of the same model.
pub(crate) fn against_siblings(disk: &StorageDisk, all: &[StorageDisk], percent: u32) -> Vec<Held> {
    let (Some(model), false, true) = (&disk.model, disk.is_virtual, percent > 0) else { return Vec::new() };
    let siblings: Vec<&StorageDisk> = all
        .iter()
        .filter(|other| other.wanted != disk.wanted && other.model.as_ref() == Some(model))
        .filter(|other| other.size_bytes == disk.size_bytes)
        .collect();
    let measured: [(&'static str, Of, &str); 3] = [
        ("sequential reads beside its siblings", |disk| disk.surface.as_ref().and_then(read_mb_s), "MB/s"),
        ("sequential writes beside its siblings", |disk| disk.surface.as_ref().and_then(write_mb_s), "MB/s"),
        ("random reads beside its siblings", |disk| Some(disk.speed.as_ref()?.read?.iops), "per second"),
    ];
    measured
        .into_iter()
        .filter_map(|(what, of, unit)| {
            let mut theirs: Vec<f64> = siblings.iter().filter_map(|sibling| of(sibling)).collect();
            let own = of(disk)?;
            if theirs.len() < SIBLINGS {
                return None;
            }
            theirs.sort_by(f64::total_cmp);
            let median = theirs[(theirs.len() - 1) / 2];
            let floor = median * f64::from(percent) / 100.0;
            Some(Held {
                what,
                expected: format!(
                    "at least {floor:.1} {unit} ({percent} % of the median of {})",
                    theirs.len()
                ),
                seen: format!("{own:.1} {unit}"),
                holds: own >= floor,
            })
        })
        .collect()
}

/// The slowest zone that is too slow, if there is one; `Err` when there are too few zones to say.
pub(crate) fn slow_zone(surface: &Surface, percent: u32) -> Result<Option<SlowZone>, usize> {
    let zones = zones(surface);
    if zones.len() < ZONES {
        return Err(zones.len());
    }
    let share = f64::from(percent) / 100.0;
    let mut worst: Option<(f64, SlowZone)> = None;
    for (number, zone) in zones.iter().enumerate() {
        let around: Vec<&Zone> = (number.saturating_sub(SPAN)..=number + SPAN)
            .filter(|other| *other != number)
            .filter_map(|other| zones.get(other))
            .collect();
        let Some(read) = zone.read.and_then(|rate| lag(rate, &around, |zone| zone.read, share)) else {
            continue;
        };
        let write = zone.write.and_then(|rate| lag(rate, &around, |zone| zone.write, share));
        let both = write.as_ref().is_some_and(|write| read.excess_s + write.excess_s >= BOTH_S);
        if !both && read.excess_s < ALONE_S {
            continue;
        }
        let ratio = read.own / read.around.max(f64::MIN_POSITIVE);
        if worst.as_ref().is_none_or(|(known, _)| ratio < *known) {
            let slow = SlowZone {
                offset: zone.offset,
                length: zone.length,
                mb_s: read.own / 1e6,
                neighbours_mb_s: read.around / 1e6,
            };
            worst = Some((ratio, slow));
        }
    }
    Ok(worst.map(|(_, slow)| slow))
}

/// Mean over all that was read back, in MB/s.
fn read_mb_s(surface: &Surface) -> Option<f64> {
    mean(surface.zones.iter().filter_map(|zone| zone.read))
}

/// Mean over all that was written, in MB/s.
fn write_mb_s(surface: &Surface) -> Option<f64> {
    mean(surface.zones.iter().filter_map(|zone| zone.write))
}

fn mean(rates: impl Iterator<Item = ZoneRate>) -> Option<f64> {
    let (bytes, seconds) = rates
        .filter(|rate| rate.bytes_per_second > 0)
        .fold((0.0, 0.0), |(bytes, seconds), rate| (bytes + rate.bytes as f64, seconds + rate.seconds()));
    (seconds > 0.0).then(|| bytes / seconds / 1e6)
}

/// A zone large enough to speak of.
#[derive(Clone, Copy, Debug, Default)]
struct Zone {
    offset: u64,
    length: u64,
    read: Option<Rate>,
    write: Option<Rate>,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    bytes: f64,
    seconds: f64,
    /// Of half of its requests, weighted where zones were put together.
    p50_us: f64,
    requests: u64,
}

struct Lag {
    own: f64,
    around: f64,
    excess_s: f64,
}

/// How far a zone lags behind those around it, if it does in rate and in half of its requests.
fn lag(own: Rate, around: &[&Zone], side: fn(&Zone) -> Option<Rate>, share: f64) -> Option<Lag> {
    let rates: Vec<Rate> = around.iter().filter_map(|zone| side(zone)).collect();
    let usual = lower_median(rates.iter().map(|rate| rate.bytes / rate.seconds).collect())?;
    let usual_p50 = lower_median(rates.iter().map(|rate| -rate.p50_us).collect()).map(|p50| -p50)?;
    let rate = own.bytes / own.seconds;
    let slow = rate < usual * share && own.p50_us * share > usual_p50;
    slow.then(|| Lag { own: rate, around: usual, excess_s: own.seconds - own.bytes / usual })
}

/// Where half of the neighbours are slow themselves, slow is usual there.
fn lower_median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// Zones put together until each has enough requests to speak of.
fn zones(surface: &Surface) -> Vec<Zone> {
    let mut zones: Vec<Zone> = Vec::new();
    for told in &surface.zones {
        let (read, write) = (told.read.and_then(Rate::of), told.write.and_then(Rate::of));
        if read.is_none() && write.is_none() {
            continue;
        }
        let small = |zone: &Zone| zone.read.or(zone.write).is_none_or(|rate| rate.requests < REQUESTS);
        match zones.last_mut().filter(|last| small(last)) {
            Some(last) => {
                last.length = told.offset.saturating_add(told.length).saturating_sub(last.offset);
                last.read = Rate::sum(last.read, read);
                last.write = Rate::sum(last.write, write);
            }
            None => zones.push(Zone { offset: told.offset, length: told.length, read, write }),
        }
    }
    // What is left over at the end.
    if zones.last().is_some_and(|last| last.read.or(last.write).is_none_or(|rate| rate.requests < REQUESTS)) {
        zones.pop();
    }
    zones
}

impl Rate {
    fn of(told: ZoneRate) -> Option<Self> {
        let usable = told.bytes > 0 && told.bytes_per_second > 0 && told.requests > 0;
        usable.then(|| Self {
            bytes: told.bytes as f64,
            seconds: told.seconds(),
            p50_us: told.p50_us as f64,
            requests: told.requests,
        })
    }

    fn sum(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let (Some(one), Some(other)) = (one, other) else { return one.or(other) };
        let requests = one.requests.saturating_add(other.requests);
        let weighted = one.p50_us * one.requests as f64 + other.p50_us * other.requests as f64;
        Some(Self {
            bytes: one.bytes + other.bytes,
            seconds: one.seconds + other.seconds,
            p50_us: weighted / requests.max(1) as f64,
            requests,
        })
    }
}

trait Seconds {
    fn seconds(&self) -> f64;
}

impl Seconds for ZoneRate {
    fn seconds(&self) -> f64 {
        self.bytes as f64 / self.bytes_per_second.max(1) as f64
    }
}

#[cfg(test)]
#[path = "speed_tests.rs"]
mod tests;
