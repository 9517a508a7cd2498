//! From the last byte of a marker to the first byte of what is done about it, measured by the guest.
//!
//! The guest is a boot sector (`ask.s`) that asks for a byte 300 times and reads its processor's time-stamp counter around
//! it. The profile answers. In software emulation and under KVM the counter is the host's; how fast it counts is
//! worked out from the lines' times.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Result, bail, ensure};

use super::super::Figure;
use super::Bench;
use crate::{place, tool};

/// Milliseconds, of 99 in 100.
const GOAL_MS: f64 = 20.0;
/// How often the boot sector asks.
const ASKED: usize = 300;

const PROFILE: &str = r#"name = "ask"
[machine]
cpus = 1
memory = "256MiB"
[boot]
rung = "firmware"
[[phase]]
name = "asked"
stage = "boot"
marker = "ASKED ENOUGH"
timeout = "10m"
reply = [{ on = "^ASK", text = "x" }]
"#;

pub(super) fn measure(bench: &Bench) -> Result<Figure> {
    let tree = bench.folder.join("ask");
    fs::create_dir(&tree)?;
    let (object, sector) = (bench.folder.join("ask.o"), tree.join("ask.img"));
    let source = place::repository().join("xtask/src/bench/images/ask.s");
    let mut assemble = Command::new("as");
    assemble.args(["--64", "-o"]).arg(&object).arg(source);
    tool::run(assemble)?;
    let mut link = Command::new("ld");
    link.args(["-e", "0x7c00", "-Ttext", "0x7c00", "--oformat", "binary", "-o"]).arg(&sector).arg(&object);
    tool::run(link)?;
    let iso = bench.folder.join("ask.iso");
    let mut make = Command::new("xorriso");
    make.args(["-as", "mkisofs", "-quiet", "-b", "ask.img", "-no-emul-boot", "-boot-load-size", "4", "-o"]);
    make.arg(&iso).arg(&tree).stderr(Stdio::null());
    tool::run(make)?;
    let profile = bench.profile("ask", PROFILE)?;
    let tested = bench.test("asked", &iso, &profile, &["--until", "Boot"])?;
    let mut took = milliseconds(&tested.serial()?)?;
    ensure!(took.len() == ASKED, "{} of {ASKED} questions were answered", took.len());
    took.sort_by(f64::total_cmp);
    let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)];
    let note = format!("p50 {:.2} ms, worst {:.1} ms, {ASKED} samples", at(50), at(100));
    Ok(Figure::limit("marker printed to answer read by the guest, p99", at(99), "ms", GOAL_MS, note))
}

/// How long each answer took, from lines of two readings: the difference, and when it was asked.
fn milliseconds(lines: &[(f64, String)]) -> Result<Vec<f64>> {
    let reading = |word: &str| u64::from_str_radix(word, 16).ok().filter(|_| word.len() == 16);
    let read: Vec<(f64, u64, u64)> = lines
        .iter()
        .filter_map(|(at, line)| {
            let (took, asked) = line.trim().split_once(' ')?;
            Some((*at, reading(took)?, reading(asked)?))
        })
        .collect();
    let (Some(first), Some(last)) = (read.first(), read.last()) else {
        bail!("the boot sector said nothing")
    };
    let rate = last.2.saturating_sub(first.2) as f64 / (last.0 - first.0);
    ensure!(rate.is_finite() && rate > 1e6, "a counter that makes {rate} ticks a second");
    Ok(read.iter().map(|(_, took, _)| *took as f64 / rate * 1000.0).collect())
}

#[cfg(test)]
mod tests {
    use super::milliseconds;

    #[test]
    fn the_counter_s_rate_comes_from_the_lines() {
        let line = |at, took: u64, asked: u64| (at, format!("{took:016x} {asked:016x}"));
        let lines = [(0.9, "ASK".to_owned()), line(1.0, 2_000_000, 0), line(3.0, 500_000, 4_000_000_000)];
        assert_eq!(milliseconds(&lines).expect("two readings"), [1.0, 0.25]);
        assert!(milliseconds(&lines[..2]).is_err(), "one reading has no rate");
        assert!(milliseconds(&[]).is_err());
    }
}
