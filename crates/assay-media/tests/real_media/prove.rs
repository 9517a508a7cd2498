//! Fingerprints against `sha256sum`, and the time that they take.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use assay_media::occupy::{Occupant, occupy};
use assay_media::prove::{Fingerprint, compare};
use assay_media::{Content, Kind};

use crate::tools::{Bench, GIB, MIB, run, text};

#[test]
fn the_digest_is_that_of_sha256sum() {
    let bench = Bench::new();
    for (bytes, writes) in [
        (0, vec![]),
        (1, vec![(0, 1)]),
        (5 * MIB + 123, vec![(4095, 2), (MIB - 1, 70_000), (5 * MIB + 100, 23)]),
        (200 * MIB, vec![(0, 512), (100 * MIB + 77, 3 * MIB), (200 * MIB - 1, 1)]),
    ] {
        let disk = bench.blank("disk", bytes);
        let file = File::options().write(true).open(&disk).expect("it opens");
        for (at, length) in writes {
            file.write_all_at(&vec![0xa5; length as usize], at).expect("written");
        }
        let print = Fingerprint::of(&disk).expect("read");
        let said = run("sha256sum", &[text(&disk)]);
        assert_eq!(print.sha256.as_deref(), said.split_whitespace().next(), "{bytes}");
        assert!(print.is_same(&Fingerprint::quick(&disk).expect("read")));
        // The same bytes without holes: the same fingerprint, but for the room that they take.
        let full = bench.path("full");
        run("cp", &["--sparse=never", text(&disk), text(&full)]);
        let other = Fingerprint::of(&full).expect("read");
        assert_eq!((&other.sha256, &other.content, other.data), (&print.sha256, &print.content, print.data));
        assert!(print.allocated <= other.allocated);
    }
}

#[test]
fn eight_gigabytes_with_a_hundred_megabytes_of_data_take_seconds() {
    let bench = Bench::new();
    let disk = bench.blank("disk", 8 * GIB);
    occupy(&disk, Occupant::PriorInstall).expect("occupied");
    let file = File::options().write(true).open(&disk).expect("it opens");
    let noise: Vec<u8> =
        (0..MIB as u32 / 4).flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    for place in 0..100 {
        file.write_all_at(&noise, 2 * GIB + place * 40 * MIB).expect("written");
    }
    let started = Instant::now();
    let quick = Fingerprint::quick(&disk).expect("read");
    let quick_took = started.elapsed();
    let started = Instant::now();
    let whole = Fingerprint::of(&disk).expect("read");
    let whole_took = started.elapsed();
    println!("quick: {quick_took:?}, with sha256: {whole_took:?}, data: {} MiB", quick.data / MIB);
    assert!(quick.is_same(&whole) && quick.data > 99 * MIB);
    // Measured at 0.1 s, and 6 s with the whole digest; the limit is for a debug build on a busy machine.
    assert!(quick_took < Duration::from_secs(20), "{quick_took:?}");
    assert!(compare(&quick, &disk, None).expect("read").same);

    // An installer that should have left it alone.
    file.write_all_at(b"XFSB", 0).expect("written");
    file.write_all_at(&[1], 7 * GIB + 5000).expect("written");
    let changed = compare(&quick, &disk, None).expect("read");
    assert!(!changed.same);
    assert_eq!((changed.blocks, changed.first, changed.is_exact), (2, Some(0), false), "{changed:?}");
    assert_eq!(changed.ranges, [(0, 4096), (7 * GIB + 4096, 7 * GIB + 8192)]);
    assert!(changed.now.as_ref().is_some_and(|now| now.text.starts_with("XFSB")), "{changed:?}");
    assert!(
        matches!(&changed.content, Some(Content::Known { found }) if found.iter().any(|one| one.kind == Kind::Gpt))
    );
}
