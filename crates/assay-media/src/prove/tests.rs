use super::{BLOCK, Fingerprint, compare};
use crate::samples::{Bench, MIB, flip, poke};

#[test]
fn one_changed_byte_is_found_to_the_byte_with_a_copy_and_to_the_block_without() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 64 * MIB);
    poke(&disk, 10 * MIB, &vec![0xaa; 20_000]);
    let before = Fingerprint::of(&disk).expect("read");
    let copy = bench.path("copy");
    std::fs::copy(&disk, &copy).expect("copied");
    let same = compare(&before, &disk, None).expect("read");
    assert!(same.same && same.blocks == 0 && same.first.is_none(), "{same:?}");

    let at = 10 * MIB + 5000;
    flip(&disk, at);
    let changed = compare(&before, &disk, None).expect("read");
    assert_eq!((changed.same, changed.blocks), (false, 1));
    assert_eq!((changed.first, changed.is_exact), (Some(10 * MIB + 4096), false));
    assert_eq!(changed.ranges, [(10 * MIB + 4096, 10 * MIB + 8192)]);
    let exact = compare(&before, &disk, Some(&copy)).expect("read");
    assert_eq!((exact.first, exact.is_exact, exact.blocks), (Some(at), true, 1));
    assert!(exact.now.is_some_and(|now| now.offset == at && now.hex.starts_with("abaa")));
    flip(&disk, at);
    assert!(compare(&before, &disk, None).expect("read").same, "and back");
    assert_ne!(Fingerprint::of(&copy).expect("read").sha256, None);
}

#[test]
fn a_byte_where_nothing_was_is_exact_without_a_copy() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 64 * MIB);
    let before = Fingerprint::quick(&disk).expect("read");
    assert_eq!((before.data, &before.sha256), (0, &None));
    poke(&disk, 33 * MIB + 9, b"LABELONE");
    let changed = compare(&before, &disk, None).expect("read");
    assert_eq!((changed.first, changed.is_exact, changed.blocks), (Some(33 * MIB + 9), true, 1));
    assert_eq!(changed.now.map(|now| now.text[..8].to_owned()).as_deref(), Some("LABELONE"));
    assert!(changed.content.is_some_and(|content| !content.is_blank()));
}

#[test]
fn wiped_data_is_a_difference_and_written_zeros_are_none() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 8 * MIB);
    poke(&disk, MIB, &[1; 8192]);
    let before = Fingerprint::of(&disk).expect("read");
    poke(&disk, 4 * MIB, &vec![0; MIB as usize]);
    let after = Fingerprint::of(&disk).expect("read");
    assert!(after.is_same(&before) && after.sha256 == before.sha256, "zeros over a hole");
    poke(&disk, MIB, &[0; 8192]);
    let wiped = compare(&before, &disk, None).expect("read");
    assert_eq!((wiped.blocks, wiped.first), (2, Some(MIB)));
    assert_eq!(wiped.ranges, [(MIB, MIB + 2 * BLOCK)]);
}

#[test]
fn a_disk_that_grew_or_shrank_is_another_one() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 8 * MIB);
    poke(&disk, 0, &[1; 100]);
    let before = Fingerprint::of(&disk).expect("read");
    for bytes in [8 * MIB + 4096, 8 * MIB - 4096, 8 * MIB + 1, 0] {
        let file = std::fs::File::options().write(true).open(&disk).expect("it opens");
        file.set_len(bytes).expect("a size");
        let compared = compare(&before, &disk, None).expect("read");
        assert!(!compared.same && compared.bytes_after == bytes, "{bytes}");
        assert_eq!(compared.bytes_before, 8 * MIB);
        assert!(compared.first.is_some_and(|first| first <= 8 * MIB), "{compared:?}");
    }
}

#[test]
fn very_many_differences_are_counted_and_not_all_listed() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 8 * MIB);
    let before = Fingerprint::quick(&disk).expect("read");
    for block in 0..200 {
        poke(&disk, block * 2 * BLOCK, &[9]);
    }
    let changed = compare(&before, &disk, None).expect("read");
    assert_eq!((changed.blocks, changed.ranges.len()), (200, 64));
}
