//! The memory test finds exactly what was done to the memory between writing and reading, and counts what it did.

use std::collections::HashSet;

use super::*;

const MIB: u64 = 1 << 20;

fn plan(bytes: u64) -> MemoryPlan {
    MemoryPlan {
        bytes,
        reserve: 0,
        threads: 2,
        patterns: MemoryPattern::ALL.to_vec(),
        rounds: 1,
        at_most: None,
        until_wrong: false,
    }
}

fn quietly(plan: &MemoryPlan, between: &dyn Fn(&mut Region)) -> MemoryReport {
    run(plan, &|_| (), &AtomicBool::new(false), between).expect("there is memory")
}

/// The place of a byte of the region.
fn byte(region: &mut Region, offset: u64) -> &mut u8 {
    let chunks = region.chunks().iter_mut();
    let mut chunk = chunks.rev().find(|chunk| chunk.offset <= offset).into_iter();
    let chunk = chunk.next().expect("within the region");
    let at = (offset - chunk.offset) as usize;
    &mut chunk.content_mut()[at]
}

#[test]
fn good_memory_is_written_and_verified_as_a_whole_in_every_pass() {
    let asked = 67 * MIB + 4096;
    let told = Mutex::new(Vec::new());
    let report = run(
        &MemoryPlan { rounds: 2, ..plan(asked) },
        &|progress| told.lock().expect("alive").push(progress),
        &AtomicBool::new(false),
        &|_| (),
    )
    .expect("there is memory");
    assert_eq!(report.region, 67 * MIB, "in whole pieces, with small ones at the end");
    assert_eq!((report.passes, report.written, report.verified), (10, 670 * MIB, 670 * MIB));
    assert_eq!((report.mismatches, report.flips.len(), report.stopped), (0, 0, false));
    assert!(report.seconds > 0.0 && report.rate() > 0.0);
    let last = told.into_inner().expect("alive").pop().expect("told at the end");
    assert_eq!((last.done, last.total, last.mismatches), (1340 * MIB, 1340 * MIB, 0));
}

#[test]
fn a_flipped_bit_is_reported_exactly_in_every_pattern() {
    let pass = std::cell::Cell::new(0_u64);
    let report = quietly(&plan(4 * MIB), &|region| {
        let at = pass.get() * 8192 + 3;
        *byte(region, at) ^= 0b0100_0000;
        pass.set(pass.get() + 1);
    });
    assert_eq!((report.mismatches, report.passes), (5, 5));
    let seen: Vec<_> = report.flips.iter().map(|flip| (flip.pass, flip.offset)).collect();
    assert_eq!(seen, [(1, 0), (2, 8192), (3, 16384), (4, 24576), (5, 32768)]);
    for flip in &report.flips {
        let bit = u64::from_ne_bytes([0, 0, 0, 0b0100_0000, 0, 0, 0, 0]);
        assert_eq!(flip.expected ^ flip.seen, bit, "{flip:?}");
        assert_eq!(flip.again, flip.seen, "it stays wrong");
    }
    // Root sees where it is; the places of different pages differ.
    let places: HashSet<_> = report.flips.iter().filter_map(|flip| flip.physical).collect();
    if rustix_is_root() {
        assert_eq!(places.len(), 5, "{:?}", report.flips);
        assert!(report.flips.iter().all(|flip| flip.physical.is_some_and(|at| at % 8 == 0)));
    } else {
        assert!(places.is_empty());
    }
}

fn rustix_is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_line_that_landed_at_another_address_is_found_at_both_ends() {
    let report =
        quietly(&MemoryPlan { patterns: vec![MemoryPattern::Address], ..plan(2 * MIB) }, &|region| {
            for at in 0..64 {
                let moved = *byte(region, 4096 + at);
                *byte(region, 65536 + at) = moved;
            }
        });
    assert_eq!(report.mismatches, 8, "one line of eight words holds another's");
    assert!(report.flips.iter().all(|flip| (65536..65600).contains(&flip.offset)));
}

#[test]
fn a_word_that_missed_its_write_is_found() {
    let old = Mutex::new(Vec::new());
    let report = quietly(&MemoryPlan { rounds: 2, ..plan(MIB) }, &|region| {
        let mut old = old.lock().expect("alive");
        let now: Vec<u8> = (0..8).map(|at| *byte(region, 4096 + at)).collect();
        // The word of the pass before is put back.
        for (at, before) in (0..).zip(old.iter()) {
            *byte(region, 4096 + at) = *before;
        }
        *old = now;
    });
    assert_eq!(report.mismatches, 9, "every pass but the first");
}

#[test]
fn every_bit_is_in_both_states_after_two_passes_and_no_two_words_are_alike() {
    let (mut first, mut second) = (vec![0; 65536], vec![0; 65536]);
    MemoryPattern::Address.fill(1 << 30, 1, &mut first);
    MemoryPattern::Inverse.fill(1 << 30, 2, &mut second);
    assert!(first.iter().zip(&second).all(|(a, b)| *a == !*b));
    let words: HashSet<_> = first.as_chunks::<8>().0.iter().collect();
    assert_eq!(words.len(), 65536 / 8);
    let mut elsewhere = vec![0; 65536];
    MemoryPattern::Address.fill((1 << 30) + 65536, 1, &mut elsewhere);
    assert!(elsewhere.as_chunks::<8>().0.iter().all(|word| !words.contains(word)));
    let mut walking = vec![0; 1024];
    MemoryPattern::WalkingOne.fill(0, 3, &mut walking);
    let bits: HashSet<_> = walking.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    assert!(bits.len() == 64 && bits.iter().all(|word| word.is_power_of_two()));
}

#[test]
fn memory_that_is_wrong_all_over_is_counted_and_not_listed() {
    let one = MemoryPlan { patterns: vec![MemoryPattern::Random], ..plan(2 * MIB) };
    let report = quietly(&one, &|region| {
        for chunk in region.chunks() {
            chunk.content_mut().fill(0);
        }
    });
    assert_eq!(report.mismatches, 2 * MIB / 8);
    assert_eq!(report.flips.len() as u64, KEPT);
}

#[test]
fn it_ends_when_it_is_told_to_and_says_so() {
    let stop = AtomicBool::new(false);
    let report =
        run(&plan(4 * MIB), &|_| (), &stop, &|_| stop.store(true, Ordering::Relaxed)).expect("memory");
    assert!(report.stopped);
    assert_eq!((report.passes, report.written, report.verified), (0, 4 * MIB, 0));

    let wrong = MemoryPlan { until_wrong: true, ..plan(4 * MIB) };
    let report = quietly(&wrong, &|region| *byte(region, 0) ^= 1);
    assert_eq!((report.passes, report.mismatches, report.stopped), (1, 1, false));

    let late = MemoryPlan { at_most: Some(Duration::ZERO), ..plan(4 * MIB) };
    assert_eq!(quietly(&late, &|_| ()).passes, 1, "the first pass is always done");
}

#[test]
fn what_stays_free_is_not_taken() {
    let total = Meminfo::read().expect("it tells").total;
    let none = MemoryPlan { reserve: total, ..plan(MIB) };
    let refused = run(&none, &|_| (), &AtomicBool::new(false), &|_| ()).expect_err("nothing is left");
    assert!(matches!(refused, MemoryError::Nothing { .. }), "{refused}");
    let empty = MemoryPlan { patterns: Vec::new(), ..plan(MIB) };
    let refused = run(&empty, &|_| (), &AtomicBool::new(false), &|_| ()).expect_err("nothing to do");
    assert!(matches!(refused, MemoryError::Empty), "{refused}");
}

#[test]
fn what_the_kernel_says_is_read_in_bytes() {
    let told = Meminfo::parse("MemTotal:        1000 kB\nMemFree: 1 kB\nMemAvailable:     800 kB\n");
    assert_eq!(told, Some(Meminfo { total: 1_024_000, available: 819_200 }));
    assert_eq!(Meminfo::parse("MemTotal: 1000 kB\n"), None);
    assert_eq!(Meminfo::parse("MemTotal: many kB\nMemAvailable: 800 kB\n"), None);
}
