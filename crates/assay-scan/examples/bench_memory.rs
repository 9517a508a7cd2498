//! Tests memory and copies memory, in turns, with the same threads and as many bytes, and prints the rates as JSON:
//! what `cargo xtask bench` measures.
//!
//! `bench_memory MIB THREADS ROUNDS`. A rate is bytes moved a second: for the test, bytes written and bytes read back;
//! for the copy (`memcpy` of the C library), bytes read and bytes written. Getting the memory from the kernel is in
//! neither.

use std::error::Error;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use assay_scan::memory::{MemoryPattern, MemoryPlan, test_memory};
use serde_json::json;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let words: Vec<usize> =
        std::env::args().skip(1).map(|word| word.parse()).collect::<std::result::Result<_, _>>()?;
    let [mib, threads, rounds] = words[..] else {
        return Err("usage: bench_memory MIB THREADS ROUNDS".into());
    };
    let bytes = mib << 20;
    let threads = threads.max(1);
    let mut ratios = Vec::new();
    for _ in 0..rounds.max(1) {
        let copied = copy(bytes, threads);
        let tested = test(bytes as u64, threads)?;
        ratios.push((tested / copied, tested, copied));
    }
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, value, peer_value) = ratios[ratios.len() / 2];
    println!("{}", json!({ "value": value, "peer_value": peer_value, "ratio": ratio, "rounds": rounds }));
    Ok(())
}

/// GB/s of the memory test.
fn test(bytes: u64, threads: usize) -> Result<f64> {
    let plan = MemoryPlan {
        bytes,
        reserve: 256 << 20,
        threads,
        patterns: MemoryPattern::BASIC.to_vec(),
        rounds: 1,
        at_most: None,
        until_wrong: false,
    };
    let report = test_memory(&plan, &|_| (), &AtomicBool::new(false))?;
    if report.region != bytes || report.mismatches > 0 {
        return Err(format!(
            "{} of {bytes} bytes were tested, {} words wrong",
            report.region, report.mismatches
        )
        .into());
    }
    Ok(report.rate() / 1e9)
}

/// GB/s of copying one half of as much memory to the other half and back, with as many threads.
fn copy(bytes: usize, threads: usize) -> f64 {
    let half = bytes / 2 / threads;
    // Not zero: zeroes that were never written to are one page of the kernel's.
    let mut pairs: Vec<_> = (0..threads).map(|_| (vec![1_u8; half], vec![2_u8; half])).collect();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (one, other) in &mut pairs {
            scope.spawn(|| {
                // As many bytes as the test moves: twice there and back.
                for _ in 0..2 {
                    other.copy_from_slice(std::hint::black_box(one));
                    one.copy_from_slice(std::hint::black_box(other));
                }
                std::hint::black_box((one, other));
            });
        }
    });
    let moved = half as f64 * threads as f64 * 2.0 * 4.0;
    moved / begun.elapsed().as_secs_f64() / 1e9
}
