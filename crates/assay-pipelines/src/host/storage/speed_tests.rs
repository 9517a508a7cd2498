//! Slow disks and slow zones, and what only looks like one.

use assay_model::host::storage::{RandomRate, RandomSpeed, ZoneSpeed};

use super::*;

const GIB: u64 = 1 << 30;

/// A disk of 64 zones of 1 GiB, each with 1,024 requests.
fn surface(read: impl Fn(usize) -> u64, write: impl Fn(usize) -> u64) -> Surface {
    let rate = |mb_s: u64| ZoneRate {
        bytes: GIB,
        bytes_per_second: mb_s * 1_000_000,
        p50_us: 16 * 1_048_576 / mb_s.max(1),
        max_us: 900_000,
        requests: 1024,
    };
    let zone = |number: usize| ZoneSpeed {
        offset: number as u64 * GIB,
        length: GIB,
        read: Some(rate(read(number))),
        write: Some(rate(write(number))),
    };
    Surface { zones: (0..64).map(zone).collect(), ..Surface::default() }
}

fn slow_at(surface: &Surface) -> Option<u64> {
    slow_zone(surface, 50).expect("there are enough zones").map(|slow| slow.offset / GIB)
}

#[test]
fn a_zone_that_is_slow_both_ways_is_found() {
    let dip = |number: usize| if number == 40 { 90 } else { 200 };
    assert_eq!(slow_at(&surface(dip, dip)), Some(40));
    let slow = slow_zone(&surface(dip, dip), 50).expect("enough").expect("found");
    assert_eq!((slow.mb_s.round(), slow.neighbours_mb_s.round(), slow.length), (90.0, 200.0, GIB));
    let ends = |number: usize| if number == 0 || number == 63 { 90 } else { 200 };
    assert_eq!(slow_at(&surface(ends, ends)), Some(0));
    assert_eq!(slow_zone(&surface(dip, dip), 40), Ok(None), "the limit counts");
}

#[test]
fn a_disk_that_gets_slower_inwards_is_healthy() {
    let hdd = |number: usize| 260 - 2 * number as u64;
    assert_eq!(slow_at(&surface(hdd, hdd)), None);
}

#[test]
fn reading_alone_must_be_slow_for_long() {
    let even = |_| 200;
    // 1 GiB at 90 instead of 200 MB/s: 6.5 s lost, once. A busy host can do that.
    assert_eq!(slow_at(&surface(|n| if n == 9 { 90 } else { 200 }, even)), None);
    // At 20 MB/s: 48 s lost.
    assert_eq!(slow_at(&surface(|n| if n == 9 { 20 } else { 200 }, even)), Some(9));
}

#[test]
fn writing_alone_never_condemns_a_zone() {
    // A cache of solid state that is full after two thirds, and right before the end.
    for edge in [42, 61, 62, 63] {
        let cliff = move |number: usize| if number < edge { 450 } else { 80 };
        assert_eq!(slow_at(&surface(|_| 500, cliff)), None, "{edge}");
    }
}

#[test]
fn one_long_request_is_not_a_slow_zone() {
    let mut surface = surface(|_| 200, |_| 200);
    for side in [0, 1] {
        let zone = &mut surface.zones[20];
        let rate = if side == 0 { zone.read.as_mut() } else { zone.write.as_mut() }.expect("there");
        // The rate is down, but half of the requests are as fast as anywhere.
        rate.bytes_per_second /= 4;
    }
    assert_eq!(slow_at(&surface), None);
}

#[test]
fn a_small_disk_has_its_zones_put_together_or_none() {
    let shrink = |requests: u64, surface: &mut Surface| {
        for rate in
            surface.zones.iter_mut().flat_map(|zone| [zone.read.as_mut(), zone.write.as_mut()]).flatten()
        {
            rate.requests = requests;
            rate.bytes = requests << 20;
        }
    };
    // 256 MiB: four requests a zone, eight zones a group.
    let dip = |number: usize| if (24..32).contains(&number) { 4 } else { 200 };
    let mut small = surface(dip, dip);
    shrink(4, &mut small);
    assert_eq!(slow_at(&small), Some(24));
    let mut tiny = surface(dip, dip);
    shrink(1, &mut tiny);
    assert_eq!(slow_zone(&tiny, 50), Err(2));
    assert_eq!(slow_zone(&Surface::default(), 50), Err(0));
}

fn disk(name: &str, read: u64, iops: f64) -> StorageDisk {
    let random = RandomRate { iops, p99_us: 5_000, requests: 1000, seconds: 5.0 };
    StorageDisk {
        wanted: name.to_owned(),
        model: Some("M".to_owned()),
        size_bytes: Some(1),
        class: Some(DiskClass::Hdd),
        surface: Some(surface(move |_| read, |_| 150)),
        speed: Some(RandomSpeed { read: Some(random), write: Some(random), errors: Vec::new() }),
        ..StorageDisk::default()
    }
}

fn failing(held: &[Held]) -> Vec<&'static str> {
    held.iter().filter(|held| !held.holds).map(|held| held.what).collect()
}

#[test]
fn floors_are_those_of_the_class_and_a_virtual_disk_has_its_own() {
    let limits = StorageLimits::default();
    let healthy = disk("a", 150, 200.0);
    let of = |disk: &StorageDisk| against_floors(floors(&limits, disk), disk);
    assert_eq!((failing(&of(&healthy)).len(), of(&healthy).len()), (0, 6));
    assert_eq!(failing(&of(&disk("a", 40, 200.0))), ["sequential reads"]);
    assert_eq!(failing(&of(&disk("a", 150, 20.0))), ["random reads", "random writes"]);
    let ssd = StorageDisk { class: Some(DiskClass::Ssd), ..healthy.clone() };
    assert_eq!(failing(&of(&ssd)), ["sequential reads", "random reads", "random writes"]);
    let guest = StorageDisk { is_virtual: true, ..ssd };
    assert!(failing(&of(&guest)).is_empty());
    let nothing = StorageDisk { surface: None, speed: None, ..healthy };
    assert!(of(&nothing).is_empty(), "what was not measured is not judged");
}

#[test]
fn a_tail_latency_over_the_limit_fails() {
    let mut slow = disk("a", 150, 200.0);
    if let Some(read) = slow.speed.as_mut().and_then(|speed| speed.read.as_mut()) {
        read.p99_us = 2_500_000;
    }
    let held = against_floors(floors(&StorageLimits::default(), &slow), &slow);
    assert_eq!(failing(&held), ["random reads, 99 of 100"]);
}

#[test]
fn siblings_are_compared_where_there_are_enough() {
    let all = [disk("a", 60, 90.0), disk("b", 150, 200.0), disk("c", 160, 210.0)];
    let of = |disk: &StorageDisk, all: &[StorageDisk]| against_siblings(disk, all, 70);
    assert_eq!(
        failing(&of(&all[0], &all)),
        ["sequential reads beside its siblings", "random reads beside its siblings"]
    );
    assert!(failing(&of(&all[1], &all)).is_empty());
    assert!(of(&all[0], &all[..2]).is_empty(), "one sibling is no median");
    let guest = StorageDisk { is_virtual: true, ..all[0].clone() };
    assert!(of(&guest, &all).is_empty());
    assert!(against_siblings(&all[0], &all, 0).is_empty());
    let other = StorageDisk { model: Some("N".to_owned()), ..all[0].clone() };
    assert!(of(&other, &all).is_empty());
}
